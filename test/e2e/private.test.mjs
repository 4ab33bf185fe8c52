// Private tunnels: no public port; only the same device key gets in, from anywhere.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { Program, beam, cleanEnv, tempDir } from './lib/run.mjs';
import { drain, freePort, listen, startAgent, startRelay } from './lib/setup.mjs';
import { overTransports } from './lib/transports.mjs';

const digest = (bytes) => createHash('sha256').update(bytes).digest('hex');
const dial = (port) => net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });

async function exchange(port, bytes) {
  const socket = dial(port);
  const answer = drain(socket);
  socket.end(bytes);
  const got = await answer;
  assert.equal(got.cut, false);
  return got.bytes;
}

async function echo(t) {
  return listen(t, net.createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket)));
}

/** The device's key on another machine. */
function copyKey(from, to) {
  fs.mkdirSync(to, { mode: 0o700 });
  fs.copyFileSync(path.join(from, 'device.key'), path.join(to, 'device.key'));
  fs.chmodSync(path.join(to, 'device.key'), 0o600);
  return to;
}

async function connectTo(t, dir, relay, name, port, { data, wait = true, args = [] } = {}) {
  const entry = new Program(t, beam, ['connect', name, String(port), '--relay', `127.0.0.1:${relay.port}`, '--relay-ca', relay.info.ca, '--data', data, '--json', ...args], { env: cleanEnv(dir) });
  if (wait) entry.info = await entry.event('tunnel');
  return entry;
}

for (const workers of ['1', '2'])
  overTransports(`beam connect reaches a private tunnel (${workers} worker${workers > 1 ? 's' : ''})`, { atOnce: true }, async (t, transport) => {
    const dir = tempDir(t);
    const relay = await startRelay(t, dir, ['--workers', workers]);
    const local = await echo(t);
    const agent = await startAgent(t, dir, relay, local, ['--private', '--name', 'db'], { command: 'tcp' });
    assert.equal(agent.info.kind, 'private');
    assert.equal(agent.info.url, 'private://db.tunnel.test');
    const data = copyKey(path.join(dir, 'agent'), path.join(dir, 'laptop'));
    const port = await freePort();
    // Enough entries that with two workers some are on the other one; one whose transport is another.
    const entries = [await connectTo(t, dir, relay, 'db', port, { data })];
    assert.equal(entries[0].info.kind, 'entry');
    assert.equal(entries[0].info.url, `tcp://localhost:${port}`);
    const ports = [port];
    for (let i = 0; i < 3; i++) {
      ports.push(await freePort());
      entries.push(await connectTo(t, dir, relay, 'db.tunnel.test', ports.at(-1), { data, args: i ? [] : ['--transport', transport === 'h2' ? 'ws' : 'h2'] }));
    }
    const bytes = randomBytes(400_000);
    for (const p of ports) assert.equal(digest(await exchange(p, bytes)), digest(bytes));
    const line = await entries[0].event('connection');
    assert.equal(line.bytes_in, bytes.length);
    assert.equal(line.bytes_out, bytes.length);

    // More at once than one message asks for.
    const begun = performance.now();
    await Promise.all(Array.from({ length: 200 }, async (_, i) => assert.equal(String(await exchange(port, Buffer.from(`number ${i}`))), `number ${i}`)));
    t.diagnostic(`200 connections at once: ${(performance.now() - begun).toFixed(0)} ms`);

    // The tunnel's agent restarts: who connects in between waits.
    await agent.kill();
    await relay.event('session_down');
    const waiting = exchange(port, Buffer.from('patience'));
    const next = await startAgent(t, dir, relay, local, ['--private', '--name', 'db'], { command: 'tcp' });
    assert.equal(String(await waiting), 'patience');

    // It ends: connections are refused, the entry stays.
    await next.stop();
    const refused = await drain(dial(port));
    assert.equal(refused.bytes.length, 0);
    assert.ok(refused.cut);
    for (const p of [...entries, relay]) await p.stop();
  });

overTransports('who may not: another device, a name that is not running, a public tunnel, a port that is taken', async (t) => {
  const dir = tempDir(t);
  const relay = await startRelay(t, dir);
  const local = await echo(t);
  const agent = await startAgent(t, dir, relay, local, ['--private', '--name', 'db'], { command: 'tcp' });
  const web = await startAgent(t, dir, relay, local, ['--name', 'web']);
  const data = path.join(dir, 'agent');

  const stranger = await connectTo(t, dir, relay, 'db', await freePort(), { data: path.join(dir, 'stranger'), wait: false });
  assert.equal((await stranger.exit()).code, 4);
  const denied = stranger.events.find((e) => e.event === 'error');
  assert.equal(denied.code, 'BEAM-1013');
  assert.match(denied.what, /belongs to another device/);

  const visitor = await connectTo(t, dir, relay, 'web', await freePort(), { data, wait: false });
  assert.equal((await visitor.exit()).code, 4);
  assert.match(visitor.events.find((e) => e.event === 'error').what, /public/);

  // Not running yet: it says so, and is there once it is.
  const port = await freePort();
  const early = await connectTo(t, dir, relay, 'later', port, { data, wait: false });
  const state = await early.event('state');
  assert.equal(state.code, 'BEAM-1016');
  assert.match(state.what, /no tunnel of that name is running/);
  const later = await startAgent(t, dir, relay, local, ['--private', '--name', 'later'], { command: 'tcp' });
  await early.event('tunnel');
  assert.equal(String(await exchange(port, Buffer.from('there'))), 'there');

  const taken = await connectTo(t, dir, relay, 'db', local, { data, wait: false });
  assert.equal((await taken.exit()).code, 3);
  assert.match(taken.events.find((e) => e.event === 'error').what, /cannot listen/);
  // And it is no web page.
  const { visit } = await import('./lib/setup.mjs');
  const page = await visit({ host: '127.0.0.1', port: relay.port, servername: 'db.tunnel.test', rejectUnauthorized: false }, '/');
  assert.equal(page.status, 404);
  for (const p of [early, later, web, agent, relay]) await p.stop();
});
