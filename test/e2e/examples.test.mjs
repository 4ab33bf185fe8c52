// The examples are programs people copy: they run.
import assert from 'node:assert/strict';
import http from 'node:http';
import path from 'node:path';
import test from 'node:test';
import { Program, build, cleanEnv, tempDir } from './lib/run.mjs';
import { visit } from './lib/setup.mjs';
import fs from 'node:fs';

test('a relay and a tunnel inside programs, and the site between them', async (t) => {
  const dir = tempDir(t);
  const env = cleanEnv(dir);
  const site = new Program(t, path.join(build, 'site'), ['--port', '0'], { env });
  const port = Number(/localhost:(\d+)/.exec(await site.wait(() => site.stdout.includes('\n') && site.stdout, 'its address'))[1]);

  const relay = new Program(t, path.join(build, 'examples/embed_relay'), ['tunnel.test', '127.0.0.1:0', `${dir}/relay`], { env, stdin: 'pipe' });
  await relay.wait(() => relay.stdout.includes('\n'), 'its address');
  const [address, ca] = relay.stdout.trim().split(' ');

  const tunnel = new Program(t, path.join(build, 'examples/embed_tunnel'), [address, ca, String(port), `${dir}/tunnel`], { env });
  await tunnel.wait(() => tunnel.stdout.includes('\n'), 'its URL');
  const url = new URL(tunnel.stdout.trim());
  const base = { host: '127.0.0.1', port: Number(url.port), servername: url.hostname, ca: fs.readFileSync(ca) };
  const r = await visit(base, '/');
  assert.equal(r.status, 200);
  assert.match(r.text, /It works/);
  assert.match(r.text, new RegExp(url.hostname));
  await tunnel.wait(() => tunnel.stdout.includes('GET / 200'), 'the line of the request');

  tunnel.process.kill('SIGTERM');
  await tunnel.exit();
  relay.process.stdin.end();
  assert.equal((await relay.exit()).code, 0);
  assert.match(relay.stdout, /^beam_\w+(\{[^}]*\})? \d+/m);
  await site.stop();
});

test('the site by itself', async (t) => {
  const site = new Program(t, path.join(build, 'site'), ['--port', '0'], { env: cleanEnv(tempDir(t)) });
  await site.wait(() => site.stdout.includes('\n'), 'its address');
  const port = Number(/localhost:(\d+)/.exec(site.stdout)[1]);
  const get = (target, headers = {}) =>
    new Promise((resolve, reject) =>
      http.get({ host: '127.0.0.1', port, path: target, agent: false, headers }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (part) => (text += part)).on('end', () => resolve({ status: response.statusCode, text }));
      }).on('error', reject),
    );
  const page = await get('/', { 'X-Probe': '<script>"&' });
  assert.match(page.text, /&lt;script&gt;&quot;&amp;/);
  assert.equal((await get('/nothing')).status, 404);

  const clock = await new Promise((resolve, reject) => http.get({ host: '127.0.0.1', port, path: '/events', agent: false }, resolve).on('error', reject));
  let ticks = '';
  clock.setEncoding('utf8');
  for await (const part of clock) {
    ticks += part;
    if (ticks.split('\n\n').length > 2) break;
  }
  assert.match(ticks, /^data: \d\d:\d\d:\d\d\n\ndata: \d\d:\d\d:\d\d\n\n/);
  await site.stop();
});
