// `beam 3000` with nothing configured: a relay of its own, for this machine.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import test from 'node:test';
import { Program, beam, build, cleanEnv, root, run, sanitized, tempDir, until } from './lib/run.mjs';
import { freePort, serve, visit } from './lib/setup.mjs';

const start = (t, dir, args) => new Program(t, beam, args, { env: cleanEnv(dir) });
const plain = (port, name, target = '/') =>
  new Promise((resolve, reject) =>
    http
      .get({ host: '127.0.0.1', port, path: target, agent: false, headers: { host: name } }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (part) => (text += part)).on('end', () => resolve({ status: response.statusCode, headers: response.headers, text }));
      })
      .on('error', reject),
  );
const portOf = (url) => Number(new URL(url).port);

test('beam PORT', async (t) => {
  const dir = tempDir(t);
  const origin = await serve(t, (request, response) => response.end(`${request.headers['x-forwarded-proto']} ${request.url}`));

  await t.test('the lines of the banner, plain because nobody sits at a terminal', async () => {
    const begun = performance.now();
    const p = start(t, dir, [String(origin.port)]);
    await p.wait(() => p.stdout.includes('To share:'), 'the banner');
    const ms = performance.now() - begun;
    t.diagnostic(`the banner was there after ${ms.toFixed(0)} ms`);
    if (!sanitized) assert.ok(ms < 3000, `${ms} ms`);
    const lines = p.stdout.trimEnd().split('\n');
    const name = /^Tunnel active: ([a-z]+-[a-z]+-\d+\.localhost)$/.exec(lines[0])?.[1];
    assert.ok(name, p.stdout);
    const url = new RegExp(`^Dashboard: (https://${name}:\\d+)/_beam$`).exec(lines[1])?.[1];
    assert.ok(url, p.stdout);
    assert.equal(lines[2], `Analytics: ${url}/_beam/stats`);
    assert.equal(lines[3], 'Certificate: Automatic HTTPS enabled');
    assert.match(p.stdout, new RegExp(`^Also on plain http: http://${name}:\\d+$`, 'm'));
    assert.equal(lines.at(-1), `Only this machine can reach it. To share: beam ${origin.port} --relay HOST, or run your own: beam relay`);
    assert.doesNotMatch(p.stdout, /[^\x20-\x7e\n]/);

    const ca = fs.readFileSync(/the CA in (.+)$/m.exec(p.stdout)[1]);
    const base = { host: '127.0.0.1', port: portOf(url), servername: name, ca };
    assert.equal((await visit(base, '/here')).text, 'https /here');
    const bare = /plain http: (\S+)/.exec(p.stdout)[1];
    const r = await plain(portOf(bare), name, '/bare');
    assert.deepEqual([r.status, r.text], [200, 'http /bare']);
    await p.wait(() => /^GET \/bare 200 \d+ ms$/m.test(p.stdout), 'the line of the request');
    const state = JSON.parse((await visit(base, '/_beam')).text);
    assert.equal(state.name, name);
    await p.stop();
    assert.match(p.stdout, new RegExp(`Tunnel closed: ${name}\n$`));
    assert.equal(p.stderr, '');
  });

  await t.test('the same name again, as JSON: relay, tunnel, then requests', async () => {
    const p = start(t, dir, [String(origin.port), '--json']);
    const tunnel = await p.event('tunnel');
    assert.deepEqual(p.events.slice(0, 2).map((e) => e.event), ['relay', 'tunnel']);
    assert.equal(p.events[0].embedded, true);
    assert.match(p.events[0].https, /^127\.0\.0\.1:\d+$/);
    assert.ok(fs.existsSync(p.events[0].ca));
    const again = start(t, dir, ['http', `localhost:${origin.port}`, '--json']);
    const second = await again.event('tunnel');
    assert.notEqual(portOf(second.url), portOf(tunnel.url));
    await again.stop();
    await p.stop();
    const third = start(t, dir, ['start', '--port', String(origin.port), '--json']);
    assert.equal((await third.event('tunnel')).name, tunnel.name);
    await third.stop('SIGTERM');
  });

  await t.test('--https: plain http redirects', async () => {
    const p = start(t, dir, ['-p', String(origin.port), '-s', 'mine', '--https', '--json']);
    const tunnel = await p.event('tunnel');
    assert.equal(tunnel.name, 'mine.localhost');
    const port = Number(p.events[0].http.split(':').pop());
    const r = await plain(port, `mine.localhost:${port}`, '/a?b=c');
    assert.equal(r.status, 308);
    assert.equal(r.headers.location, `${tunnel.url}/a?b=c`);
    await p.stop();
  });

  await t.test('port 0 works, and the real one is printed', async () => {
    const p = start(t, dir, [String(origin.port), '--listen', '127.0.0.1:0', '--listen-plain', '127.0.0.1:0', '--json']);
    const tunnel = await p.event('tunnel');
    assert.ok(portOf(tunnel.url) > 0 && portOf(tunnel.plain_url) > 0);
    await p.stop();
  });

  await t.test('nothing on the port: 502 page, and the port stays free', async () => {
    const port = await freePort();
    const p = start(t, dir, [String(port), '--json']);
    const tunnel = await p.event('tunnel');
    const r = await plain(portOf(tunnel.plain_url), tunnel.name);
    assert.equal(r.status, 502);
    assert.match(r.text, /BEAM-5021/);
    await p.stop();
  });

  await t.test('a terminal gets signs and colours, NO_COLOR and dumb ones do not', async () => {
    for (const [env, wanted] of [[{ TERM: 'xterm' }, /🔗 Tunnel active: \x1b\[1m/], [{ TERM: 'xterm', NO_COLOR: '1' }, /🔗 Tunnel active: [a-z]/], [{ TERM: 'dumb' }, /(^|\n)Tunnel active: [a-z]/]]) {
      // script(1) gives the program a terminal.
      const p = new Program(t, 'script', ['-qefc', `exec ${beam} ${origin.port}`, '/dev/null'], { env: cleanEnv(dir, env) });
      await p.wait(() => p.stdout.includes('To share:'), 'the banner');
      assert.match(p.stdout.replaceAll('\r', ''), wanted);
      const r = await run(t, beam, ['stop'], { env: cleanEnv(dir) });
      assert.equal(r.code, 0, r.stderr);
      await p.exit();
    }
  });

  await t.test('a second Ctrl-C ends it at once', async () => {
    const p = start(t, dir, [String(origin.port), '--json']);
    await p.event('tunnel');
    // Both wait when it goes on, so the second comes before the first is done with.
    p.process.kill('SIGSTOP');
    p.process.kill('SIGINT');
    p.process.kill('SIGTERM');
    p.process.kill('SIGCONT');
    assert.equal((await p.exit()).code, 130);
  });

  await t.test('a pipe that nobody reads any more ends it at the next line', async () => {
    const p = new Program(t, 'sh', ['-c', `${beam} ${origin.port} --name piped --json | head -1`], { env: cleanEnv(dir) });
    const relay = await p.event('relay');
    const port = Number(relay.http.split(':').pop());
    await until(async () => p.code !== undefined || (await plain(port, 'piped.localhost')).status > 1000, 'its end');
    assert.equal(p.code, 0);
  });
});

test('the local run of the Makefile', async (t) => {
  const dir = tempDir(t);
  const p = new Program(t, path.join(root, '.ci/run-local'), [build], { env: cleanEnv(dir), cwd: root });
  await p.wait(() => p.stdout.includes('To share:'), 'the banner');
  const bare = /plain http: (\S+)/.exec(p.stdout)[1];
  const name = /Tunnel active: (\S+)/.exec(p.stdout)[1];
  const r = await plain(portOf(bare), name);
  if (/example site is there/.test(p.stdout)) {
    assert.equal(r.status, 200);
    assert.match(r.text, /It works/);
  }
  await p.stop();
  assert.match(p.stdout, /Tunnel closed/);
});
