// One tunnel over several links: at two relays, and two to the same one.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { Program, beam, cleanEnv, runBeam, tempDir, until } from './lib/run.mjs';
import { serve, startAgent, startRelay, visitor } from './lib/setup.mjs';

/** An agent at all these relays; each of them answers under its name. */
async function atRelays(t, dir, relays, port, args = []) {
  const where = relays.flatMap((relay) => ['--relay', `127.0.0.1:${relay.port}`, '--relay-ca', relay.info.ca]);
  const agent = new Program(t, beam, [String(port), ...where, '--data', path.join(dir, 'agent'), '--json', ...args], { env: cleanEnv(dir) });
  agent.info = await agent.event('tunnel');
  agent.name = agent.info.name;
  return agent;
}

/** What beam status says of the one tunnel that runs. */
async function status(t, dir) {
  const { stdout } = await runBeam(t, ['status', '--json'], cleanEnv(dir));
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
    .find((one) => one.kind === 'tunnel');
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
