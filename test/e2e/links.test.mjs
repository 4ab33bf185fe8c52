// One tunnel over several links: at two relays, and two to the same one.
import assert from 'node:assert/strict';
import path from 'node:path';
import test from 'node:test';
import { Program, beam, cleanEnv, runBeam, tempDir, until } from './lib/run.mjs';
import { serve, startRelay, visitor } from './lib/setup.mjs';

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
