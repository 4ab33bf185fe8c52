// What only a QUIC link does: sessions resumed, a restarted relay noticed at once.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { serve, startAgent, startRelay, visitor } from './lib/setup.mjs';
import { setUpAcross } from './lib/box.mjs';
import { tempDir } from './lib/run.mjs';

delete process.env.BEAM_TEST_TRANSPORT;

const agentArgs = ['--transport', 'quic', '--log-level', 'debug'];

async function world(t) {
  const dir = tempDir(t);
  const origin = await serve(t, (_, response) => response.end('hello'));
  const relay = await startRelay(t, dir);
  return { dir, origin, relay };
}

/** The last thing the agent's log says of its QUIC connections, once there are `n` of them. */
const connection = async (agent, n = 1) => {
  const lines = () => agent.stderr.match(/quic relay=\S+ resumed=\d early=\d/g) ?? [];
  await agent.wait(() => lines().length >= n, `connection ${n}`);
  return lines().at(-1);
};

test('an agent that comes again resumes its session, with the CA it knew', async (t) => {
  const w = await world(t);
  const sessions = path.join(w.dir, 'agent', 'sessions');
  const again = async () => {
    const agent = await startAgent(t, w.dir, w.relay, w.origin.port, agentArgs);
    const said = await connection(agent);
    assert.equal((await visitor(w.relay, agent).visit('/')).text, 'hello');
    await agent.stop();
    return said;
  };
  assert.match(await again(), /resumed=0 early=0/);
  assert.equal(fs.statSync(sessions).mode & 0o777, 0o600);
  assert.match(await again(), /resumed=1 early=1/);
  const first = fs.readFileSync(sessions, 'utf8');
  assert.match(await again(), /resumed=1 early=1/);
  assert.notEqual(fs.readFileSync(sessions, 'utf8'), first, 'a session is for one connection');

  await t.test('tickets outlive the relay, early data does not', async () => {
    await w.relay.stop();
    w.relay = await startRelay(t, w.dir, [], { listen: `127.0.0.1:${w.relay.port}` });
    assert.match(await again(), /resumed=1 early=0/);
    assert.match(await again(), /resumed=1 early=1/);
  });

  await t.test('another CA: the old session is not tried, and leads nowhere', async () => {
    await w.relay.stop();
    w.relay = await startRelay(t, w.dir, [], { listen: `127.0.0.1:${w.relay.port}`, data: path.join(w.dir, 'other') });
    assert.match(await again(), /resumed=0/);
    await w.relay.stop();
    w.relay = await startRelay(t, w.dir, [], { listen: `127.0.0.1:${w.relay.port}` });
    assert.match(await again(), /resumed=0/); // the other relay's session took its place
  });

  await t.test('a damaged file is no session', async () => {
    for (const spoil of [(s) => s.slice(0, s.length / 2), (s) => s.replace(/..\n/, '00\n'), () => 'nonsense']) {
      fs.writeFileSync(sessions, spoil(fs.readFileSync(sessions, 'utf8')), { mode: 0o600 });
      assert.match(await again(), /resumed=0/);
    }
    assert.match(await again(), /resumed=1/);
  });
  await w.relay.stop();
});

test('a relay that was killed and is there again is noticed by the next packet', async (t) => {
  const w = await world(t);
  const agent = await startAgent(t, w.dir, w.relay, w.origin.port, agentArgs);
  const seen = agent.events.length;
  await w.relay.kill();
  w.relay = await startRelay(t, w.dir, [], { listen: `127.0.0.1:${w.relay.port}` });
  // The agent says something at the latest with its next PING, 10 s after the last; silence alone would take 8 s more.
  const lost = await agent.wait(() => agent.events.slice(seen).find((e) => e.event === 'state' && e.state === 'reconnecting'), 'reconnecting');
  assert.equal(lost.code, 'BEAM-1006', lost.what); // a stateless reset; silence would be 1009
  await agent.wait(() => agent.events.slice(seen).find((e) => e.event === 'state' && e.state === 'active'), 'back');
  assert.match(await connection(agent, 2), /resumed=1/);
  assert.equal((await visitor(w.relay, agent).visit('/')).text, 'hello');
  await agent.stop();
  await w.relay.stop();
});

test('packets know ECN, whichever congestion control was asked for', async (t) => {
  for (const congestion of ['bbr', 'cubic']) {
    // So narrow a wire marks what waits behind one packet; nothing but the link crosses it.
    const s = await setUpAcross(t, {
      wire: { delay: 5, rate: 1, queue: 500, ecn: 1 },
      relayArgs: ['--congestion', congestion],
      agentArgs: [...agentArgs, '--congestion', congestion],
    });
    if (!s) return;
    for (let i = 0; i < 5; i++) assert.equal((await s.visit()).status, 200);
    const { ab, ba } = await s.box.stats();
    assert.ok(ab.marked + ba.marked > 0, `${congestion}: ${ab.packets + ba.packets} packets, none marked`);
    await s.agent.stop();
    await s.relay.stop();
  }
});
