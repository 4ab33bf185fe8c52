// Visitors that speak HTTP/3: ngtcp2's own client.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { beam, run, tempDir } from './lib/run.mjs';
import { serve, startAgent, startRelay } from './lib/setup.mjs';

const features = JSON.parse(execFileSync(beam, ['--version', '--json'])).features.split(',');
const client = ['/usr/bin/gtlsclient', '/usr/local/bin/gtlsclient'].find((file) => fs.existsSync(file));
const lacks = (!features.includes('quic') && 'this build has no QUIC') || (!client && 'gtlsclient is not installed');

test('HTTP/3 visitors', { skip: lacks }, async (t) => {
  const dir = tempDir(t);
  const big = randomBytes(3_000_000);
  const asked = [];
  const origin = await serve(t, async (request, response) => {
    asked.push(request);
    if (request.url === '/big') return response.end(big);
    if (request.url === '/echo') {
      const parts = [];
      for await (const part of request) parts.push(part);
      return response.end(Buffer.concat(parts));
    }
    response.setHeader('X-Origin', 'yes');
    response.setHeader('Alt-Svc', 'h3=":1"');
    response.end('hello\n');
  });
  // The client says "localhost" to an address: one certificate has to do for the names it asks for then.
  const [key, cert] = ['key.pem', 'cert.pem'].map((name) => path.join(dir, name));
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key, '-out', cert, '-days', '2', '-subj', '/CN=*.tunnel.test', '-addext', 'subjectAltName=DNS:*.tunnel.test,DNS:tunnel.test'], { stdio: 'ignore' });
  const relay = await startRelay(t, dir, ['--tls-cert', cert, '--tls-key', key]);
  const agent = await startAgent(t, dir, relay, origin.port, ['--name', 'shop']);
  const url = `https://${agent.name}:${relay.port}`;
  const h3 = (...args) => run(t, client, ['--exit-on-all-streams-close', '--no-quic-dump', ...args.slice(0, -1), '127.0.0.1', String(relay.port), ...args.at(-1)]);

  await t.test('a page', async () => {
    const { stdout, stderr } = await h3([`${url}/`]);
    const said = stdout + stderr;
    assert.match(said, /\[:status: 200\]/);
    assert.match(said, /\[x-origin: yes\]/);
    const request = asked.pop();
    assert.equal(request.headers['x-forwarded-proto'], 'https');
    assert.equal(request.headers['x-forwarded-host'], `${agent.name}:${relay.port}`);
    assert.match(request.headers['user-agent'], /nghttp3/);
  });

  // One in five of them stood still for ever when a block's last piece did not fit into the stream.
  await t.test('three megabytes, whole, and another file beside them, twenty times', async () => {
    for (let i = 0; i < 20; i++) {
      const out = path.join(dir, `out${i}`);
      fs.mkdirSync(out);
      await h3('-q', `--download=${out}`, [`${url}/big`, `${url}/index.html`]);
      assert.ok(fs.readFileSync(path.join(out, 'big')).equals(big));
      assert.equal(fs.readFileSync(path.join(out, 'index.html'), 'utf8'), 'hello\n');
      fs.rmSync(out, { recursive: true });
    }
  });

  await t.test('an upload', async () => {
    const file = path.join(dir, 'up');
    const out = path.join(dir, 'up.out');
    fs.mkdirSync(out);
    fs.writeFileSync(file, big.subarray(0, 500_000));
    await h3('-q', '-m', 'POST', `--data=${file}`, `--download=${out}`, [`${url}/echo`]);
    assert.ok(fs.readFileSync(path.join(out, 'echo')).equals(big.subarray(0, 500_000)));
  });

  await t.test('a name that is nobody\'s', async () => {
    const { stdout, stderr } = await h3([`https://none.tunnel.test:${relay.port}/`]);
    assert.match(stdout + stderr, /\[:status: 404\]/);
  });

  await t.test('responses over TCP say where HTTP/3 is, and the tunnel\'s own word about it is dropped', async () => {
    const { stdout } = await run(t, 'curl', ['-sS', '-k', '-D', '-', '-o', '/dev/null', '--resolve', `${agent.name}:${relay.port}:127.0.0.1`, `${url}/`]);
    assert.deepEqual(stdout.match(/^alt-svc: .*$/gim).map((line) => line.trim()), [`alt-svc: h3=":${relay.port}"; ma=86400`]);
  });
});
