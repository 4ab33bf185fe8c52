// The store's disk is full: running tunnels go on, new names are refused with a reason, and nothing is corrupt afterwards.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import test from 'node:test';
import { cleanEnv, cleanUp, run, tempDir } from './lib/run.mjs';
import { serve, startAgent, startRelay, visitor } from './lib/setup.mjs';

test('a full disk', async (t) => {
  const dir = tempDir(t);
  const data = `${dir}/small`;
  fs.mkdirSync(data);
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m,mode=700', 'tmpfs', data], { stdio: 'ignore' });
  } catch {
    return t.skip('a small file system can only be mounted by root');
  }
  cleanUp(t, () => execFileSync('umount', ['-l', data]));
  const origin = await serve(t, (_, response) => response.end('ok'));
  const relay = await startRelay(t, dir, [], { data });
  const agent = await startAgent(t, dir, relay, origin.port);
  const v = visitor(relay, agent);
  assert.equal((await v.visit('/')).text, 'ok');

  const filler = fs.openSync(`${data}/filler`, 'w');
  for (const size of [65536, 4096, 1])
    try {
      for (;;) fs.writeSync(filler, Buffer.alloc(size));
    } catch (error) {
      assert.equal(error.code, 'ENOSPC');
    }

  await t.test('the running tunnel goes on', async () => {
    for (let i = 0; i < 20; i++) assert.equal((await v.visit('/')).text, 'ok');
  });

  const failing = await startAgent(t, dir, relay, origin.port, ['--name', 'second'], { data: `${dir}/agent2`, wait: false });
  await t.test('a new name is not given, and the reason is said', async () => {
    const e = await failing.wait(() => failing.events.find((x) => (x.event === 'error' || x.event === 'state') && x.code), 'a reason');
    t.diagnostic(`${e.code}: ${e.what}`);
    assert.match(e.code, /BEAM-1020/);
    assert.ok(!failing.events.some((x) => x.event === 'tunnel'));
  });
  assert.equal((await v.visit('/')).text, 'ok');

  await t.test('with room again it works, and the store is sound', async () => {
    fs.closeSync(filler);
    fs.rmSync(`${data}/filler`);
    const again = failing.code === undefined ? failing : await startAgent(t, dir, relay, origin.port, ['--name', 'second'], { data: `${dir}/agent2`, wait: false });
    assert.equal((await again.event('tunnel')).name, 'second.tunnel.test');
    await again.stop();
    await agent.stop();
    await relay.stop();
    for (const file of fs.readdirSync(data).filter((f) => f.endsWith('.db'))) {
      const r = await run(t, 'sqlite3', [`${data}/${file}`, 'pragma integrity_check'], { env: cleanEnv(dir) });
      assert.equal(r.stdout.trim(), 'ok');
    }
    const relay2 = await startRelay(t, dir, [], { data });
    const agent2 = await startAgent(t, dir, relay2, origin.port);
    assert.equal(agent2.name, v.name);
    await agent2.stop();
    await relay2.stop();
  });
});
