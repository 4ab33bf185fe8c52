// What takes minutes or a download: the whole suite with the newest Node, and a build from the sources in the package.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { build, childEnv, here, long, modules, node, run, sanitized, tempDir } from './lib.mjs';

const only = { skip: long ? sanitized && 'a sanitizer is slow' : 'BEAM_TEST_LONG' };

test('the suite with the newest Node that npm has', only, async (t) => {
  const into = path.join(build, 'node/newest');
  fs.mkdirSync(into, { recursive: true });
  const name = `node-${process.platform}-${process.arch}`;
  const got = spawnSync('npm', ['install', '--no-save', '--no-package-lock', '--ignore-scripts', '--no-audit', '--no-fund', '--prefix', into, `${name}@latest`], { cwd: into, encoding: 'utf8' });
  if (got.status !== 0) return t.skip(`npm brings no ${name} here`);
  const newest = path.join(into, 'node_modules', name, 'bin/node');
  const { stdout } = await run(t, newest, ['--version'], { env: childEnv(into) });
  t.diagnostic(stdout.trim());
  const suite = fs.readdirSync(here).filter((f) => f.endsWith('.test.mjs') && f !== 'long.test.mjs').map((f) => path.join(here, f));
  const env = { ...process.env, BEAM_TEST_LONG: '' };
  delete env.NODE_TEST_CONTEXT; // or it would report to this runner
  const all = await run(t, newest, ['--test', '--test-concurrency=1', ...suite], { env, ms: 300_000 });
  assert.equal(all.code, 0, all.stdout.slice(-8000));

  // What only it can read.
  const file = path.join(build, 'node/.using.mjs');
  t.after(() => fs.rmSync(file, { force: true }));
  fs.writeFileSync(file, `import beam from 'beam-tunnel';
    { await using tunnel = await beam.open({ port: 1, dataDir: ${JSON.stringify(tempDir(t))} });
      console.log(tunnel.state); globalThis.seen = tunnel; }
    console.log(seen.state);`);
  const using = await run(t, newest, [file], { env: childEnv(into) });
  assert.deepEqual([using.code, using.stdout], [0, 'active\nclosed\n'], using.stderr);
});

test('no binary package: build.js makes one from the sources that came along', only, async (t) => {
  const dir = tempDir(t);
  const own = path.join(dir, 'node_modules/beam-tunnel');
  fs.cpSync(path.join(modules, 'beam-tunnel'), own, { recursive: true });
  // What the set-up found once is good for this build too; it has no other way to be quick.
  const deps = process.env.BEAM_DEPS ?? path.join(build, 'deps');
  const made = node(t, dir, [path.join(own, 'build.js')], { env: { BEAM_DEPS: deps } });
  assert.equal((await made.exit(500_000)).code, 0, made.stderr);
  const version = node(t, dir, [path.join(own, 'bin/beam.js'), '--version']);
  assert.equal((await version.exit()).code, 0, version.stderr);
  assert.match(version.stdout, /^beam \d/);
  assert.deepEqual(fs.readdirSync(path.join(own, 'native')).includes('build'), false);
});
