// A wire with delay and faults between agent and relay, in namespaces: TCP and everything above it is real.
import assert from 'node:assert/strict';
import test from 'node:test';
import { long, until } from './lib/run.mjs';
import { openBox, setUpAcross } from './lib/box.mjs';

test('a request crosses a slow wire once each way', async (t) => {
  const s = await setUpAcross(t, { wire: { delay: 40 } });
  if (!s) return;
  const before = await s.box.stats();
  const { status, seconds } = await s.visit();
  const after = await s.box.stats();
  t.diagnostic(`${(seconds * 1000).toFixed(1)} ms over a round trip of 80 ms`);
  assert.equal(status, 200);
  assert.ok(seconds >= 0.08, `${seconds} s: faster than the wire`);
  assert.ok(after.ab.packets > before.ab.packets && after.ba.packets > before.ba.packets);
  await s.agent.stop();
  await s.relay.stop();
});

test('the wire refuses what it does not understand', async (t) => {
  const box = await openBox(t);
  if (!box) return;
  for (const keys of [{ loss: 101 }, { delay: -1 }, { speed: 1 }, { block: 'sctp' }, { block: 'udp:0' }, { rate: 'x' }]) await assert.rejects(box.set(keys), /bad/, JSON.stringify(keys));
  await assert.rejects(box.set({ loss: 1 }, 'up'), /bad/);
  await box.set({ delay: 1, rate: 10, queue: 100, ecn: 20, loss: 1, reorder: 1, late: 5, block: 'udp:443', hole: 0 });
});

// Liveness: a PING every 10 s, dead 8 s later; then attempts that are at most two seconds apart.
for (const way of ['ab', 'ba']) {
  test(`nothing arrives any more ${way === 'ab' ? 'from the relay' : 'from the agent'}: noticed in under 20 s, back within 2 s`, { skip: !long && 'slow: BEAM_TEST_LONG=1' }, async (t) => {
    const s = await setUpAcross(t, { wire: { delay: 10 } });
    if (!s) return;
    const state = (name) => () => s.agent.events.slice(seen).find((e) => e.event === 'state' && e.state === name);
    const seen = s.agent.events.length;
    await s.box.set({ hole: 1 }, way);
    const begun = performance.now();
    await s.agent.wait(state('reconnecting'), 'noticed', 25_000);
    const noticed = performance.now() - begun;
    t.diagnostic(`noticed after ${(noticed / 1000).toFixed(1)} s`);
    assert.ok(noticed < 20_000);
    await until(() => performance.now() - begun >= 30_000, 'the outage', 35_000);
    await s.box.set({ hole: 0 });
    const healed = performance.now();
    await s.agent.wait(state('active'), 'back', 25_000);
    const back = performance.now() - healed;
    t.diagnostic(`back ${(back / 1000).toFixed(2)} s after an outage of ${((healed - begun) / 1000).toFixed(1)} s`);
    assert.equal((await s.visit()).status, 200);
    assert.ok(back < 2000, `${back} ms`);
    await s.agent.stop();
    await s.relay.stop();
  });
}
