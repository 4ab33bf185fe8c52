// Two relays that are drained and killed in turns, and visitors who do not notice: two minutes of what `make soak` does for an hour.
import assert from 'node:assert/strict';
import path from 'node:path';
import test from 'node:test';
import { build, cleanEnv, root, run, sanitized, tempDir } from './lib/run.mjs';

const seconds = Number(process.env.BEAM_SOAK) || 120;
const barred = (process.env.BEAM_TEST_TRANSPORT && 'over the transport that wins, once') || (sanitized && 'its bars are those of programs at full speed');

test(`${seconds} s of drains and kills`, { skip: barred, timeout: (seconds + 120) * 1000 }, async (t) => {
  const dir = tempDir(t);
  const { code, stdout, stderr } = await run(t, path.join(root, 'test/load/soak'), ['--seconds', String(seconds)], { env: { ...cleanEnv(dir), BEAM_BUILD: build }, ms: (seconds + 90) * 1000 });
  for (const line of stdout.split('\n').filter((l) => /probes in| x |PROBLEM|FAILED|descriptors/.test(l))) t.diagnostic(line.trim());
  assert.equal(code, 0, stdout + stderr);
  assert.match(stdout, /^soak: passed$/m);
});
