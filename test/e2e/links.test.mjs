// One tunnel over several links: at two relays, and two to the same one.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import test from 'node:test';
import { Program, beam, cleanEnv, runBeam, tempDir, until } from './lib/run.mjs';
import { listen, serve, setUp, startAgent, startRelay, visitor } from './lib/setup.mjs';

/** An agent at all these relays; each of them answers under its name. */
async function atRelays(t, dir, relays, port, args = []) {
  const where = relays.flatMap((relay) => ['--relay', `127.0.0.1:${relay.port}`, '--relay-ca', relay.info.ca]);
  const agent = new Program(t, beam, [String(port), ...where, '--data', path.join(dir, 'agent'), '--json', ...args], { env: cleanEnv(dir) });
  agent.info = await agent.event('tunnel');
  agent.name = agent.info.name;
  return agent;
}

/** What beam status says of the tunnel of that name, or the one that runs. */
async function status(t, dir, name) {
  const { stdout } = await runBeam(t, ['status', '--json'], cleanEnv(dir));
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
    .find((one) => one.kind === 'tunnel' && (!name || one.name === name));
}

test('two relays: either serves the name; one that is killed is no outage, and is joined again', async (t) => {
  const dir = tempDir(t);
  const origin = await serve(t, (request, response) => response.end(`you asked for ${request.url}`));
  const first = await startRelay(t, dir, ['--workers', '2']);
  const second = await startRelay(t, dir, [], { data: path.join(dir, 'second') });
  // Over HTTP/2 the kernel says at once that the relay is gone; QUIC has to wait for a PONG.
  const agent = await atRelays(t, dir, [first, second], origin.port, ['--transport', 'h2']);
  const links = async () => (await status(t, dir)).links;
  const states = async () => (await links()).map((link) => link.state).join(' ');
  const visits = [first, second].map((relay) => visitor(relay, agent));
  await until(async () => (await states()) === 'active active', 'both');
  for (const v of visits) assert.equal((await v.visit('/a')).text, 'you asked for /a');
  assert.deepEqual((await links()).map((link) => [link.relay, link.url]), [first, second].map((relay) => [`127.0.0.1:${relay.port}`, `https://${agent.name}:${relay.port}`]));

  await first.kill();
  assert.equal((await visits[1].visit('/b')).text, 'you asked for /b');
  await until(async () => (await states()) === 'reconnecting active', 'the loss to be seen');
  const now = await status(t, dir);
  assert.equal(now.state, 'active');
  assert.equal(now.relay, `127.0.0.1:${second.port}`);
  assert.match(now.links[0].why, /relay/);
  assert.match((await runBeam(t, ['status'], cleanEnv(dir))).stdout, new RegExp(`127\\.0\\.0\\.1:${first.port} reconnecting: `));

  const again = await startRelay(t, dir, [], { listen: `127.0.0.1:${first.port}` });
  await until(async () => (await states()) === 'active active', 'the first to be joined again');
  assert.equal((await visitor(again, agent).visit('/c')).text, 'you asked for /c');
  assert.equal(agent.events.filter((e) => e.event === 'state' && e.state !== 'active').length, 0);
  for (const p of [agent, again, second]) await p.stop();
});

test('two relays, one unreachable from the start: the tunnel is up at the other', async (t) => {
  const dir = tempDir(t);
  const origin = await serve(t, (request, response) => response.end('here'));
  const second = await startRelay(t, dir);
  const gone = await startRelay(t, dir, [], { data: path.join(dir, 'gone') });
  await gone.stop();
  const agent = await atRelays(t, dir, [gone, second], origin.port, ['--name', 'desk']);
  assert.equal(agent.name, 'desk.tunnel.test');
  assert.equal((await visitor(second, agent).visit('/')).text, 'here');
  assert.deepEqual((await status(t, dir)).links.map((link) => link.state), ['connecting', 'active']);
  for (const p of [agent, second]) await p.stop();
});

/** A data directory for another relay of the same owner: it has the same CA. */
function sameCa(dir, relay) {
  const data = path.join(dir, 'other');
  fs.mkdirSync(data, { mode: 0o700 });
  for (const file of ['ca.key', 'ca.pem']) fs.copyFileSync(path.join(relay.data, file), path.join(data, file));
  return data;
}

test('--drain-to: the agents go to the other relay, and whoever asks it when the first refuses is always answered', async (t) => {
  const dir = tempDir(t);
  const origin = await serve(t, (request, response) => response.end(`you asked for ${request.url}`));
  const first = await startRelay(t, dir);
  await first.stop();
  const second = await startRelay(t, dir, ['--workers', '2'], { data: sameCa(dir, first) });
  const drained = await startRelay(t, dir, ['--drain-to', `127.0.0.1:${second.port}`, '--workers', '2'], { data: first.data });
  const agent = await startAgent(t, dir, drained, origin.port, ['--name', 'desk']);
  const [here, there] = [drained, second].map((relay) => visitor(relay, agent));

  const seen = { here: 0, there: 0 };
  const probe = async (i) => {
    try {
      const { status, text } = await here.visit(`/${i}`);
      assert.deepEqual([status, text], [200, `you asked for /${i}`]);
      seen.here++;
    } catch (error) {
      assert.ok(['ECONNREFUSED', 'ECONNRESET'].includes(error.code), `${error.code} ${error.message}`);
      const { status, text } = await there.visit(`/${i}`);
      assert.deepEqual([status, text], [200, `you asked for /${i}`]);
      seen.there++;
    }
  };
  for (let i = 0; i < 20; i++) await probe(i);
  drained.process.kill('SIGTERM');
  const ended = drained.exit();
  for (let i = 20; seen.there < 50; i++) await probe(i);
  assert.equal((await ended).code, 0);
  t.diagnostic(`${seen.here} answered by the first, ${seen.there} by the second, none lost`);
  const link = (await status(t, dir)).links.find((l) => !l.draining);
  assert.deepEqual([link.relay, link.state], [`127.0.0.1:${second.port}`, 'active']);
  assert.equal(agent.events.filter((e) => e.event === 'state' && e.state !== 'active').length, 0);

  // The other one goes as well: home again, where the first relay listens by now.
  const back = await startRelay(t, dir, [], { data: first.data, listen: `127.0.0.1:${drained.port}` });
  await second.stop('SIGTERM');
  await until(async () => (await status(t, dir)).links.some((l) => l.relay === `127.0.0.1:${back.port}` && l.state === 'active'), 'the agent at its own relay');
  assert.equal((await visitor(back, agent).visit('/again')).text, 'you asked for /again');
  for (const p of [agent, back]) await p.stop();
});

test('--drain-to a relay with another CA: nobody follows', async (t) => {
  const dir = tempDir(t);
  const origin = await serve(t, (request, response) => response.end('here'));
  const stranger = await startRelay(t, dir, ['--open'], { data: path.join(dir, 'stranger') });
  const relay = await startRelay(t, dir, ['--drain-to', `127.0.0.1:${stranger.port}`]);
  const agent = await startAgent(t, dir, relay, origin.port, ['--log-level', 'info']);
  relay.process.kill('SIGTERM');
  await relay.exit();
  await agent.wait(() => /not at relay=127\.0\.0\.1:\d+, where ours sent us/.test(agent.stderr), 'its refusal');
  const again = await startRelay(t, dir, [], { listen: `127.0.0.1:${relay.port}` });
  await until(async () => (await status(t, dir)).links[0].state === 'active', 'the agent at its own relay');
  assert.equal((await visitor(again, agent).visit('/')).text, 'here');
  assert.equal(stranger.events.filter((e) => e.event === 'session_up').length, 0);
  for (const p of [agent, again, stranger]) await p.stop();
});

// --- several links to one relay ---

/** A local service: /bulk never ends, at 16 MB/s (enough to be load, not enough to fill this machine's processors), /hold answers when released, anything else at once. */
async function loadable(t) {
  const chunk = Buffer.alloc(320 * 1024, 'bulk');
  const held = [];
  const origin = await serve(t, (request, response) => {
    if (request.url === '/hold') {
      response.write('begun ');
      held.push(response);
    } else if (request.url === '/bulk') {
      const timer = setInterval(() => response.writableNeedDrain || response.write(chunk), 20);
      response.on('error', () => {}).on('close', () => clearInterval(timer));
    } else {
      response.end('small');
    }
  });
  return { ...origin, release: () => held.splice(0).forEach((response) => response.end('whole')) };
}

/** A request whose bytes are counted and thrown away; `lost` once it is cut. */
function sink(v, target) {
  const state = { bytes: 0, lost: false };
  state.request = v.request(target);
  state.request.on('response', (response) => {
    response.on('data', (part) => (state.bytes += part.length));
    response.on('error', () => (state.lost = true));
    response.on('end', () => (state.ended = true));
  });
  state.request.on('error', () => (state.lost = true));
  state.request.end();
  return state;
}

const byStreams = (links) => links.map((link) => link.streams).sort((a, b) => b - a).join(' ');

/** A second link, because forty requests at once are too many for one (how fast bulk goes depends on the machine); then bulk on one of them, a held request on the other. */
async function bulkAndHold(t, s) {
  const crowd = Array.from({ length: 40 }, () => sink(s, '/hold'));
  t.after(() => crowd.forEach((one) => one.request.destroy()));
  await until(async () => (await status(t, s.dir)).links.length === 2, 'a second link');
  await until(() => crowd.every((one) => one.bytes > 0), 'all of them to be held');
  s.release();
  await until(() => crowd.every((one) => one.ended), 'the crowd to be gone');
  await until(async () => byStreams((await status(t, s.dir)).links) === '0 0', 'quiet');
  const bulk = sink(s, '/bulk');
  t.after(() => bulk.request.destroy());
  await until(() => bulk.bytes > 4e6, 'bulk'); // until then the link that the crowd was on may be the busier one
  const hold = sink(s, '/hold');
  t.after(() => hold.request.destroy());
  await until(() => hold.bytes > 0, 'the held request');
  return { bulk, hold };
}

/** Milliseconds of `n` small requests, one after the other, each on a connection of its own: median and the worst. */
async function smallOnes(s, n) {
  const ms = [];
  for (let i = 0; i < n; i++) {
    const begun = performance.now();
    assert.equal((await s.visit('/small')).text, 'small');
    ms.push(performance.now() - begun);
  }
  ms.sort((a, b) => a - b);
  return `median ${ms[n >> 1].toFixed(1)} ms, worst ${ms.at(-1).toFixed(1)} ms`;
}

async function withLinks(t, links, extra = []) {
  const origin = await loadable(t);
  const s = await setUp(t, origin.port, { relayArgs: ['--workers', '2', '--log-level', 'info'], agentArgs: ['--links', String(links), '--log-level', 'info', ...extra] });
  return { ...s, origin, release: origin.release };
}

test('bulk on HTTP/2 does not hold up small requests: they go over another link', async (t) => {
  const one = await withLinks(t, 1, ['--transport', 'h2']);
  const alone = sink(one, '/bulk');
  await until(() => alone.bytes > 8e6, 'bulk');
  t.diagnostic(`--links 1, beside bulk: ${await smallOnes(one, 40)}`);
  assert.equal((await status(t, one.dir)).links.length, 1);
  alone.request.destroy();
  await until(async () => byStreams((await status(t, one.dir)).links) === '0', 'bulk to end');
  for (const p of [one.agent, one.relay]) await p.stop();

  const two = await withLinks(t, 2, ['--transport', 'h2']);
  const { bulk, hold } = await bulkAndHold(t, two);
  assert.equal(byStreams((await status(t, two.dir)).links), '1 1'); // not both on one
  t.diagnostic(`--links 2, beside bulk: ${await smallOnes(two, 40)}`);
  assert.equal(JSON.parse((await two.visit('/_beam')).text).links, 2);
  two.release();
  await until(() => hold.ended, 'the held request to end');
  bulk.request.destroy();
  await until(async () => byStreams((await status(t, two.dir)).links) === '0 0', 'bulk to end');
  // One name, however many links.
  assert.equal(two.relay.events.filter((e) => e.event === 'tunnel_up').length, 1);
  for (const p of [two.agent, two.relay]) await p.stop();
  assert.equal(two.relay.events.filter((e) => e.event === 'tunnel_down').length, 1);
});

test('both workers of a relay get used', async (t) => {
  const s = await withLinks(t, 2);
  // A connection lands where the kernel wants: the agent tries four times, and so do we.
  for (let round = 0; ; round++) {
    const agent = await startAgent(t, s.dir, s.relay, s.origin.port, ['--links', '2', '--name', `round-${round}`], { data: path.join(s.dir, `a${round}`) });
    const v = visitor(s.relay, agent);
    const crowd = Array.from({ length: 40 }, () => sink(v, '/hold'));
    const seen = (what) => new RegExp(`${what} name=round-${round}\\S* .*worker=(\\d)`).exec(s.relay.stderr)?.[1];
    await until(() => seen('link added'), 'a second link');
    const workers = [seen('tunnel up'), seen('link added')];
    for (const one of crowd) one.request.destroy();
    await until(async () => (await status(t, s.dir, agent.name)).links.every((link) => !link.streams), 'its end');
    await agent.stop();
    t.diagnostic(`links at workers ${workers.join(' and ')}`);
    if (workers[0] !== workers[1]) break;
    assert.ok(round < 4, 'every second link is at the worker of the first');
  }
  for (const p of [s.agent, s.relay]) await p.stop();
});

/** Passes TCP on, and tells each connection's bytes. */
async function wire(t, to) {
  const all = [];
  const server = net.createServer((socket) => {
    const there = net.connect(to, '127.0.0.1');
    const one = { bytes: 0, alive: true, cut: () => (socket.resetAndDestroy(), there.resetAndDestroy()) };
    all.push(one);
    there.on('data', (part) => (one.bytes += part.length));
    socket.on('data', (part) => (one.bytes += part.length));
    socket.pipe(there).pipe(socket);
    for (const [a, b] of [[socket, there], [there, socket]]) a.on('error', () => b.destroy()).on('close', () => (one.alive = false, b.destroy()));
  });
  return { port: await listen(t, server), alive: () => all.filter((one) => one.alive).sort((a, b) => b.bytes - a.bytes) };
}

for (const which of ['bulk', 'hold'])
  test(`a link that is cut loses only its own streams: that of ${which}`, async (t) => {
    const origin = await loadable(t);
    const dir = tempDir(t);
    const relay = await startRelay(t, dir, ['--workers', '2']);
    const between = await wire(t, relay.port);
    const agent = await startAgent(t, dir, relay, origin.port, ['--links', '2', '--transport', 'h2', '--name', 'desk'], { port: between.port });
    const s = { dir, release: origin.release, ...visitor(relay, agent) };
    const { bulk, hold } = await bulkAndHold(t, s);
    await until(() => between.alive().length === 2, 'two connections');
    // More than the crowd ever moved: before that, the link that it was on looks like the busy one.
    const [busy, calm] = await until(() => {
      const [most, least] = between.alive();
      return most.bytes > 2e6 && most.bytes > 10 * least.bytes && [most, least];
    }, 'bulk to show');
    (which === 'bulk' ? busy : calm).cut();
    const [lost, other] = which === 'bulk' ? [bulk, hold] : [hold, bulk];
    await until(() => lost.lost, 'the loss to be seen');
    assert.equal((await s.visit('/small')).text, 'small');
    assert.equal(other.lost, false);
    if (which === 'hold') {
      const { bytes } = bulk;
      await until(() => bulk.bytes > bytes + 1e6, 'bulk to go on');
    } else {
      origin.release();
      await until(() => hold.ended, 'the held request to end');
    }
    await until(async () => (await status(t, dir)).links.filter((l) => l.state === 'active' && !l.draining).length === 2, 'another link in its place');
    bulk.request.destroy();
    await until(async () => (await status(t, dir)).links.every((link) => !link.streams), 'bulk to end');
    assert.equal(agent.events.filter((e) => e.event === 'state' && e.state !== 'active').length, 0);
    assert.equal(relay.events.filter((e) => e.event === 'tunnel_up').length, 1);
    for (const p of [agent, relay]) await p.stop();
  });

test('beam tcp: the public port stays while one of its links does', async (t) => {
  const dir = tempDir(t);
  const server = net.createServer((socket) => socket.on('error', () => {}).pipe(socket));
  const local = await listen(t, server);
  const relay = await startRelay(t, dir, ['--workers', '2', '--tcp-ports', '20000-29999']);
  const between = await wire(t, relay.port);
  const agent = await startAgent(t, dir, relay, local, ['--links', '2', '--transport', 'h2'], { command: 'tcp', port: between.port });
  const { port } = agent.info;
  const dial = () =>
    new Promise((resolve, reject) => {
      const socket = net.connect(port, '127.0.0.1', () => resolve(socket));
      socket.once('error', reject);
    });
  const echo = async (text) => {
    const socket = await dial();
    const answer = await new Promise((resolve, reject) => socket.on('data', (part) => resolve(part.toString())).on('close', () => reject(new Error('closed'))).write(text));
    socket.destroy();
    return answer;
  };
  const crowd = await Promise.all(Array.from({ length: 40 }, dial));
  await until(async () => (await status(t, dir)).links.length === 2, 'a second link');
  for (const socket of crowd) socket.on('error', () => {}).destroy();
  between.alive()[0].cut();
  for (let i = 0; i < 20; i++) assert.equal(await echo(`${i}`), `${i}`);
  await agent.stop();
  await until(async () => (await dial().catch((error) => error)).code === 'ECONNREFUSED', 'the port to be closed');
  await relay.stop();
});
