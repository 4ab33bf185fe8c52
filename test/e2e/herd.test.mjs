// Many agents lose one relay at once, because it was killed: all of them come back, each under its name, and the relay stays on its feet.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { Program, build, cleanEnv, long, run, sanitized, tempDir } from './lib/run.mjs';
import { startRelay } from './lib/setup.mjs';

// The agents of one process share one thread, which a relay's agents do not: a few processes.
const [count, processes] = long && !sanitized ? [1000, 5] : [60, 1];

function bySecond(herds) {
  const sum = [];
  for (const { seconds } of herds) seconds.forEach((n, i) => (sum[i] = (sum[i] ?? 0) + n));
  return sum;
}

function cpu(pid) {
  const [utime, stime] = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ').slice(11, 13).map(Number);
  return (utime + stime) / 100;
}

for (const transport of ['h2', 'quic']) {
  test(`${count} agents over ${transport}: the relay is killed and started again`, async (t) => {
    const dir = tempDir(t);
    const relay = await startRelay(t, dir);
    const herds = Array.from({ length: processes }, (_, i) =>
      new Program(t, path.join(build, 'test/bench/herd'), [relay.info.https, relay.info.ca, dir, String(count / processes), transport, String((i * count) / processes)], { env: cleanEnv(dir), stdin: 'pipe' }),
    );
    const all = (n, what) => Promise.all(herds.map((herd) => herd.wait(() => herd.events.filter((e) => e.event === 'all')[n], what, 300_000)));
    const first = Math.max(...(await all(0, 'all up')).map((e) => e.ms));
    const before = await names(t, dir, relay.data);
    assert.equal(before.length, count);
    process.kill(relay.pid, 'SIGKILL');
    await relay.exit();
    const begun = performance.now();
    const again = await startRelay(t, dir, [], { listen: relay.info.https, data: relay.data });
    const listens = performance.now();
    const back = await all(1, 'all back');
    const took = performance.now() - listens;
    t.diagnostic(
      `up in ${(first / 1000).toFixed(1)} s; the relay listened again after ${((listens - begun) / 1000).toFixed(1)} s, all back ${(took / 1000).toFixed(1)} s later, which took it ${cpu(again.pid).toFixed(1)} s of CPU; by second: ${bySecond(back).join(' ')}`,
    );
    assert.deepEqual(await names(t, dir, relay.data), before, 'the same names');
    assert.ok(took < 120_000, `${took} ms`);
    for (const herd of herds) {
      herd.process.stdin.end();
      const { code } = await herd.exit(60_000);
      assert.equal(code, 0, herd.stderr);
    }
    await again.stop();
  });
}

/** What the relay's store holds. */
async function names(t, dir, data) {
  const { stdout, stderr } = await run(t, 'sqlite3', ['-readonly', path.join(data, 'beam.db'), 'select name from names order by name'], { env: cleanEnv(dir) });
  assert.equal(stderr, '');
  return stdout.trim().split('\n');
}
