// The command of the package: the C program's, in a node process. What the options do is tested with the C program; here is what the process makes of it.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { beam as program, bin, cleanEnv, get, modules, node, run, sanitized, serve, tempDir } from './lib.mjs';

const command = (t, dir, args, options) => node(t, dir, [bin, ...args], options);
const both = async (t, dir, args) => {
  const js = command(t, dir, args);
  await js.exit();
  const c = await run(t, program, args, { env: cleanEnv(dir) });
  assert.deepEqual([js.code, js.stdout, js.stderr], [c.code, c.stdout, c.stderr], args.join(' '));
  return c;
};

test('the same output and exit status as the C program', async (t) => {
  const dir = tempDir(t);
  assert.equal((await both(t, dir, ['--version'])).code, 0);
  assert.match((await both(t, dir, ['help'])).stdout, /--relay HOST/);
  assert.equal((await both(t, dir, ['http'])).code, 2);
  assert.equal((await both(t, dir, ['3000', '--nope', '--json'])).code, 2);
  assert.equal((await both(t, dir, ['stop', 'nothing'])).code, 1);
  assert.equal((await both(t, dir, ['3000', '--config', dir])).code, 5);
  assert.equal((await both(t, dir, ['config', 'set', 'relay', 'relay.example'])).code, 0);
  assert.equal((await both(t, dir, ['config', 'get', 'relay'])).stdout, 'relay.example\n');
});

test('beam PORT: a page, a line for the request, Ctrl-C', async (t) => {
  const dir = tempDir(t);
  const origin = await serve(t, (request, response) => response.end(`page ${request.url}`));
  const p = command(t, dir, [String(origin.port)]);
  await p.wait(() => p.stdout.includes('To share:'), 'the banner');
  const plainUrl = /plain http: (\S+)/.exec(p.stdout)[1];
  assert.equal((await get({ plainUrl }, '/one')).text, 'page /one');
  await p.wait(() => /^GET \/one 200 \d+ ms$/m.test(p.stdout), 'the line of the request');

  // Started by one program, seen and ended by the other.
  const seen = await run(t, program, ['status', '--json'], { env: cleanEnv(dir) });
  assert.equal(JSON.parse(seen.stdout).pid, p.pid);
  await p.stop('SIGINT');
  assert.match(p.stdout, /Tunnel closed: \S+\n$/);
  assert.equal(p.stderr, '');
});

test('the environment is the process\'s, and beam stop ends it', async (t) => {
  const dir = tempDir(t);
  const origin = await serve(t, (request, response) => response.end());
  const p = command(t, dir, ['start'], { env: { BEAM_PORT: String(origin.port), BEAM_JSON: '1', BEAM_NAME: 'fromenv' } });
  assert.equal((await p.event('tunnel')).name, 'fromenv.localhost');
  assert.equal((await run(t, program, ['stop', 'fromenv'], { env: cleanEnv(dir) })).code, 0);
  assert.equal((await p.exit()).code, 0);
});

test('signals', async (t) => {
  const dir = tempDir(t);
  const origin = await serve(t, (request, response) => response.end());

  await t.test('SIGTERM ends it in order', async () => {
    const p = command(t, dir, [String(origin.port), '--json']);
    await p.event('tunnel');
    await p.stop('SIGTERM');
  });

  await t.test('a second SIGINT ends it at once, with 130', async () => {
    const p = command(t, dir, [String(origin.port), '--json']);
    await p.event('tunnel');
    // Both wait when it goes on, so the second comes before the first is done with.
    p.process.kill('SIGSTOP');
    p.process.kill('SIGINT');
    p.process.kill('SIGTERM');
    p.process.kill('SIGCONT');
    assert.equal((await p.exit()).code, 130);
  });

  await t.test('a relay: SIGHUP reads its files again, SIGTERM drains', async () => {
    const p = command(t, dir, ['relay', '--domain', 'tunnel.test', '--listen', '127.0.0.1:0', '--data', path.join(dir, 'relay'), '--json']);
    await p.event('relay');
    p.process.kill('SIGHUP');
    await p.event('reloaded');
    await p.stop('SIGTERM');
    assert.ok(p.events.some((e) => e.event === 'drained'));
  });
});

test('a reader that goes away ends it; one that is slow gets all', async (t) => {
  const dir = tempDir(t);
  // Standard output made non-blocking by whoever shares it, as node does with pipes.
  const file = path.join(dir, 'slow.mjs');
  fs.writeFileSync(
    file,
    `import { spawn } from 'node:child_process';
     const child = spawn(process.execPath, [${JSON.stringify(bin)}, 'help', 'relay'], { stdio: ['ignore', 'pipe', 'inherit'] });
     let text = '';
     child.stdout.on('data', (part) => (text += part));
     child.on('close', (code) => console.log(JSON.stringify({ event: 'done', code, length: text.length })));`,
  );
  const p = node(t, dir, [file]);
  const done = await p.event('done');
  const c = await run(t, program, ['help', 'relay'], { env: cleanEnv(dir) });
  assert.deepEqual([done.code, done.length], [0, c.stdout.length]);
});

test('from start to the printed URL', { skip: sanitized && 'a sanitizer is slow' }, async (t) => {
  const dir = tempDir(t);
  const origin = await serve(t, (request, response) => response.end());
  const bare = [];
  const whole = [];
  for (let i = 0; i < 5; i++) {
    let begun = performance.now();
    await node(t, dir, ['-e', '0']).exit();
    bare.push(performance.now() - begun);
    begun = performance.now();
    const p = command(t, dir, [String(origin.port)]);
    await p.wait(() => p.stdout.includes('Tunnel active'), 'the URL');
    whole.push(performance.now() - begun);
    await p.stop();
  }
  const median = (list) => list.sort((a, b) => a - b)[2];
  t.diagnostic(`node -e 0: ${median(bare).toFixed(0)} ms; beam PORT until its URL: ${median(whole).toFixed(0)} ms (bar: 150 ms more)`);
});

test('no binary for this platform: what to do', async (t) => {
  const dir = tempDir(t);
  fs.cpSync(path.join(modules, 'beam-tunnel'), path.join(dir, 'node_modules/beam-tunnel'), { recursive: true });
  const p = node(t, dir, [path.join(dir, 'node_modules/beam-tunnel/bin/beam.js'), '3000']);
  assert.equal((await p.exit()).code, 1);
  assert.match(p.stderr, /^beam: beam-tunnel has no binary for \S+ here \(BEAM-1023\)\n {2}next: .*npm install beam-tunnel.*node \S+build\.js/);

  // One that does not load says why, and keeps the loader's words as the cause.
  const broken = fs.readdirSync(modules).find((name) => name.startsWith('beam-tunnel-'));
  fs.mkdirSync(path.join(dir, 'node_modules', broken));
  fs.copyFileSync(path.join(modules, broken, 'package.json'), path.join(dir, 'node_modules', broken, 'package.json'));
  fs.writeFileSync(path.join(dir, 'node_modules', broken, 'beam.node'), 'nothing');
  const q = node(t, dir, ['-e', 'try { require("beam-tunnel") } catch (e) { console.log(e.code, e.cause?.code, e.message) }'], { cwd: dir });
  assert.equal((await q.exit()).code, 0);
  assert.match(q.stdout, /^BEAM-1023 ERR_DLOPEN_FAILED beam-tunnel's binary does not load: .*Next: build it/);
});
