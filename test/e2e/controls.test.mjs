// What the owner of a tunnel lets in, and what becomes of it.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { test } from 'node:test';
import WebSocket, { WebSocketServer } from 'ws';
import { Program, beam, cleanEnv, run, tempDir } from './lib/run.mjs';
import { freeRange, listen, serve, setUp, startAgent, startRelay, visitor } from './lib/setup.mjs';

const basic = (pair) => `Basic ${Buffer.from(pair).toString('base64')}`;

function what(request, response) {
  response.setHeader('Content-Type', 'application/json');
  response.end(JSON.stringify({ method: request.method, url: request.url, headers: request.headers }));
}

test('--auth', async (t) => {
  const s = await setUp(t, what, { agentArgs: ['--auth', 'ada:correct, horse', '--auth', 'bob:ü:b'] });
  s.origin.server.on('upgrade', (request, socket, head) =>
    new WebSocketServer({ noServer: true }).handleUpgrade(request, socket, head, (ws) => ws.send(`for ada: ${request.headers.authorization ?? 'nothing'}`)),
  );

  await t.test('nothing, or something wrong, is asked for the password', async () => {
    for (const authorization of [undefined, basic('ada:wrong'), basic('bob:correct, horse'), 'Bearer abc', 'Basic !!']) {
      const r = await s.visit('/a', { headers: { accept: 'application/json', ...(authorization && { authorization }) } });
      assert.equal(r.status, 401);
      assert.equal(r.headers['www-authenticate'], 'Basic realm="Beam", charset="UTF-8"');
      assert.equal(r.headers['beam-error'], 'BEAM-4011');
      assert.equal(JSON.parse(r.text).error.code, 'BEAM-4011');
    }
  });

  await t.test('the agent tells of it', async () => {
    const e = await s.agent.event('request', (r) => r.path === '/a');
    assert.equal(e.status, 401);
    assert.equal(e.error, 'BEAM-4011');
  });

  await t.test('the right one passes, and the service does not see it', async () => {
    for (const pair of ['ada:correct, horse', 'bob:ü:b']) {
      const r = await s.visit('/b', { headers: { authorization: basic(pair), 'x-mine': 'kept' } });
      assert.equal(r.status, 200);
      const seen = JSON.parse(r.text);
      assert.equal(seen.headers.authorization, undefined);
      assert.equal(seen.headers['x-mine'], 'kept');
    }
    const e = await s.agent.event('request', (r) => r.path === '/b');
    assert.equal(e.error, null);
  });

  await t.test('curl asks and answers', async () => {
    const r = await run(t, 'curl', [...s.curl, '--http2', '-i', '--anyauth', '-u', 'ada:correct, horse', `${s.url}/`]);
    assert.match(r.stdout, /HTTP\/2 401 [\s\S]*HTTP\/2 200 /);
  });

  await t.test('an upload that is refused', async () => {
    const r = await run(t, 'curl', [...s.curl, '-i', '--data-binary', '@-', '-H', 'Expect:', `${s.url}/`], { stdin: 'pipe', input: 'x'.repeat(300_000) });
    assert.match(r.stdout, /^HTTP\/1\.1 401 /);
  });

  await t.test('WebSocket', async () => {
    const options = { ca: s.base.ca, servername: s.name, headers: { host: s.name } };
    const dial = (more) => new WebSocket(`wss://127.0.0.1:${s.relay.port}/ws`, { ...options, ...more });
    const refused = await new Promise((resolve) => dial().on('error', resolve));
    assert.match(refused.message, /401/);
    const ws = dial({ headers: { ...options.headers, authorization: basic('ada:correct, horse') } });
    assert.equal(String(await new Promise((resolve, reject) => ws.on('message', resolve).on('error', reject))), 'for ada: nothing');
    ws.terminate();
  });
});

test('passwords from the environment and a file', async (t) => {
  const dir = tempDir(t);
  const origin = await serve(t, what);
  const relay = await startRelay(t, dir);
  const file = path.join(dir, 'users');
  fs.writeFileSync(file, 'eve:from file\r\n\nfay:too\n', { mode: 0o600 });
  const agent = await startAgent(t, dir, relay, origin.port, ['--auth-file', file], { env: { BEAM_AUTH: 'ada:one\nbob:two' } });
  const v = visitor(relay, agent);
  for (const pair of ['ada:one', 'bob:two', 'eve:from file', 'fay:too']) assert.equal((await v.visit('/', { headers: { authorization: basic(pair) } })).status, 200, pair);
  assert.equal((await v.visit('/', { headers: { authorization: basic('ada:two') } })).status, 401);
});

test('the service keeps its own Authorization without --auth', async (t) => {
  const s = await setUp(t, what);
  assert.equal(JSON.parse((await s.visit('/', { headers: { authorization: basic('a:b') } })).text).headers.authorization, basic('a:b'));
});

test('--allow and --deny', async (t) => {
  const dir = tempDir(t);
  const origin = await serve(t, what);
  const relay = await startRelay(t, dir, ['--tcp-ports', await freeRange(10)]);
  const status = async (...args) => {
    const agent = await startAgent(t, dir, relay, origin.port, args);
    const r = await visitor(relay, agent).visit('/', { headers: { accept: 'application/json' } });
    await agent.stop();
    return r.status === 200 ? '200' : `${r.status} ${JSON.parse(r.text).error.code}`;
  };
  assert.equal(await status('--allow', '127.0.0.0/8'), '200');
  assert.equal(await status('--allow', '192.0.2.0/24'), '403 BEAM-4031');
  assert.equal(await status('--allow', '192.0.2.0/24', '--allow', '127.0.0.1'), '200');
  assert.equal(await status('--deny', '192.0.2.0/24,::1'), '200');
  assert.equal(await status('--allow', '127.0.0.0/8', '--deny', '127.0.0.1'), '403 BEAM-4031');

  const echo = net.createServer((socket) => socket.end('hello'));
  await listen(t, echo);
  for (const [range, want] of [['127.0.0.1', 'hello'], ['192.0.2.1', '']]) {
    const agent = await startAgent(t, dir, relay, echo.address().port, ['--allow', range], { command: 'tcp', data: path.join(dir, `tcp-${range}`) });
    const socket = net.connect(Number(agent.info.url.split(':').pop()), '127.0.0.1');
    let got = '';
    socket.on('data', (part) => (got += part)).on('error', () => {});
    await new Promise((resolve) => socket.on('close', resolve));
    assert.equal(got, want);
    await agent.stop();
  }
});

test('rules that are wrong are told at the start', async (t) => {
  const dir = tempDir(t);
  for (const [args, says] of [
    [['3000', '--auth', 'nopassword'], /user 1 is not USER:PASSWORD/],
    [['3000', '--allow', '10.0.0.0/40'], /allow: "10\.0\.0\.0\/40" is neither an address nor a range/],
    [['3000', '--auth-file', path.join(dir, 'none')], /cannot read/],
    [['tcp', '5432', '--auth', 'a:b'], /--auth is not a flag of beam tcp/],
  ]) {
    const p = new Program(t, beam, [...args, '--data', path.join(dir, 'd')], { env: cleanEnv(dir) });
    assert.notEqual((await p.exit()).code, 0);
    assert.match(p.stderr, says);
  }
});
