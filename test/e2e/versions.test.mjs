// The same things over every version a visitor may speak: HEAD, ranges, early hints, trailers, and an upload of any size at flat memory.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { beam, long, mib, run, sanitized, tempDir } from './lib/run.mjs';
import { serve, startAgent, startRelay, visitor } from './lib/setup.mjs';

const installed = (program) => {
  try {
    execFileSync('which', [program], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
};
const file = randomBytes(300_000);
const size = (long ? 10_240 : 64) * 1048576;

async function origin(request, response) {
  switch (request.url) {
    case '/file': {
      const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
      const [from, to] = range ? [Number(range[1]), range[2] ? Number(range[2]) : file.length - 1] : [0, file.length - 1];
      if (from >= file.length) return response.writeHead(416, { 'Content-Range': `bytes */${file.length}` }).end();
      const head = { 'Content-Length': to - from + 1, 'Accept-Ranges': 'bytes', ETag: '"f"' };
      response.writeHead(range ? 206 : 200, range ? { ...head, 'Content-Range': `bytes ${from}-${to}/${file.length}` } : head);
      return response.end(request.method === 'HEAD' ? undefined : file.subarray(from, to + 1));
    }
    case '/page':
      response.setHeader('Content-Type', 'text/html');
      return response.end('<!doctype html><link rel=stylesheet href=/a.css><script src=/b.js></script><img src=/c.png>');
    case '/hints':
      response.writeEarlyHints({ link: '</a.css>; rel=preload; as=style' });
      return response.end('hinted');
    case '/trailers': {
      for await (const part of request) void part;
      response.writeHead(200, { Trailer: 'X-Sum' });
      response.write('body');
      response.addTrailers({ 'X-Sum': 'forty-two' });
      return response.end();
    }
    case '/upload': {
      let bytes = 0;
      let wrong = 0;
      for await (const part of request) {
        bytes += part.length;
        if (part[0] || part[part.length - 1]) wrong++;
      }
      return response.end(`${bytes} bytes, ${wrong} wrong`);
    }
    default:
      return response.end('asset');
  }
}

/** A certificate for all names, because some clients are told an address and say so. */
async function setUpWildcard(t) {
  const dir = tempDir(t);
  const [key, cert] = ['key.pem', 'cert.pem'].map((name) => path.join(dir, name));
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key, '-out', cert, '-days', '2', '-subj', '/CN=*.tunnel.test', '-addext', 'subjectAltName=DNS:*.tunnel.test,DNS:tunnel.test'], { stdio: 'ignore' });
  const service = await serve(t, origin);
  const relay = await startRelay(t, dir, ['--tls-cert', cert, '--tls-key', key]);
  const agent = await startAgent(t, dir, relay, service.port, ['--name', 'shop']);
  return { dir, relay, agent, ...visitor(relay, agent) };
}


for (const version of ['--http1.1', '--http2'])
  test(`curl ${version}`, async (t) => {
    const s = await setUpWildcard(t);
    const curl = async (...args) => {
      const out = path.join(s.dir, 'out');
      fs.rmSync(out, { force: true });
      const r = await run(t, 'curl', ['-sS', '-k', version, '--noproxy', '*', '--resolve', `${s.name}:${s.relay.port}:127.0.0.1`, '-D', '-', '-o', out, ...args.slice(0, -1), `${s.url}${args.at(-1)}`], { ms: 3_000_000 });
      assert.equal(r.code, 0, r.stderr);
      return { head: r.stdout, bytes: fs.existsSync(out) ? fs.readFileSync(out) : Buffer.alloc(0) };
    };

    await t.test('HEAD says what GET would bring, and brings nothing', async () => {
      const { head } = await curl('-I', '/file');
      assert.match(head, /^HTTP\/\S+ 200/);
      assert.match(head, new RegExp(`^content-length: ${file.length}\\r`, 'im'));
      assert.ok((await curl('/file')).bytes.equals(file));
    });

    await t.test('ranges', async () => {
      const some = await curl('-r', '1000-1999', '/file');
      assert.match(some.head, /^HTTP\/\S+ 206/);
      assert.match(some.head, new RegExp(`^content-range: bytes 1000-1999/${file.length}\\r`, 'im'));
      assert.ok(some.bytes.equals(file.subarray(1000, 2000)));
      const last = await curl('-r', '299000-', '/file');
      assert.ok(last.bytes.equals(file.subarray(299_000)));
      const none = await curl('-r', '300000-', '/file');
      assert.match(none.head, /^HTTP\/\S+ 416/);
    });

    await t.test('early hints come before the answer', async () => {
      const { head, bytes } = await curl('/hints');
      assert.match(head, /^HTTP\/\S+ 103.*\r\nlink: <\/a\.css>; rel=preload; as=style\r\n\r\nHTTP\/\S+ 200/i);
      assert.equal(bytes.toString(), 'hinted');
    });

    await t.test('trailers', async () => {
      const { head, bytes } = await curl('-X', 'POST', '-d', 'x', '/trailers');
      assert.equal(bytes.toString(), 'body');
      assert.match(head, /^x-sum: forty-two\r/im);
    });

    await t.test(`an upload of ${mib(size)} at flat memory`, async () => {
      const zeros = path.join(s.dir, 'zeros');
      fs.closeSync(fs.openSync(zeros, 'w'));
      fs.truncateSync(zeros, size);
      const begun = performance.now();
      const { bytes } = await curl('-T', zeros, '/upload');
      assert.equal(bytes.toString(), `${size} bytes, 0 wrong`);
      const [relay, agent] = [s.relay.peakRss(), s.agent.peakRss()];
      t.diagnostic(`${mib(size)} at ${(size / 1048.576 / (performance.now() - begun)).toFixed(0)} MiB/s; peak of the relay ${mib(relay)}, of the agent ${mib(agent)}`);
      if (!sanitized) assert.ok(relay < 64 * 1048576 && agent < 64 * 1048576, `${mib(relay)}, ${mib(agent)}`);
    });
  });

test('nghttp -nva: a page and what it links to, on one connection', { skip: !installed('nghttp') && 'nghttp is not installed' }, async (t) => {
  const s = await setUpWildcard(t);
  const { stdout, code } = await run(t, 'nghttp', ['-nva', '--no-dep', '-H', `:authority: ${s.name}`, `https://127.0.0.1:${s.relay.port}/page`]);
  assert.equal(code, 0, stdout.slice(-2000));
  assert.match(stdout, /The negotiated protocol: h2/);
  assert.equal(stdout.match(/:status: 200/g).length, 4, stdout);
  for (const asset of ['/a.css', '/b.js', '/c.png']) assert.ok(stdout.includes(asset), asset);
});

const features = JSON.parse(execFileSync(beam, ['--version', '--json'])).features.split(',');
const gtls = ['/usr/bin/gtlsclient', '/usr/local/bin/gtlsclient'].find((name) => fs.existsSync(name));
const lacks = (!features.includes('quic') && 'this build has no QUIC') || (!gtls && 'gtlsclient is not installed');

test('HTTP/3: HEAD, early hints, trailers', { skip: lacks }, async (t) => {
  const s = await setUpWildcard(t);
  const ask = async (method, target) => {
    const r = await run(t, gtls, ['--exit-on-all-streams-close', '--no-quic-dump', '-m', method, '127.0.0.1', String(s.relay.port), `${s.url}${target}`]);
    return r.stdout + r.stderr;
  };
  const head = await ask('HEAD', '/file');
  assert.match(head, /\[:status: 200\]/);
  assert.match(head, new RegExp(`\\[content-length: ${file.length}\\]`));
  assert.match(await ask('GET', '/hints'), /\[:status: 103\][^]*\[link: <\/a\.css>; rel=preload; as=style\][^]*\[:status: 200\]/);
  assert.match(await ask('GET', '/trailers'), /\[:status: 200\][^]*\[x-sum: forty-two\]/);
});
