// The process around the addon: what keeps it alive, how it ends, what it leaves; workers; exceptions in listeners.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import fs from 'node:fs';
import test from 'node:test';
import { Worker } from 'node:worker_threads';
import { at, get, load, modules, sanitized, script, serve, startRelay, tempDir } from './lib.mjs';

const beam = load();
const OPEN = `
  const server = http.createServer((q, r) => r.end('x'.repeat(1000)));
  const tunnel = await beam.listen(server, { dataDir: process.argv[2] ?? process.env.HOME });
  const { port, host } = new URL(tunnel.plainUrl);
  const visit = () => new Promise((done, failed) => http.get({ host: '127.0.0.1', port, agent: false, headers: { host } }, (r) => r.resume().on('end', done)).on('error', failed));
`;
const clean = (p) => assert.equal(p.stderr, '', p.stderr);

test('a tunnel keeps the process alive until it is closed; unref() lets it go', async (t) => {
  const dir = tempDir(t);
  const p = script(t, dir, `${OPEN}
    server.close(); server.closeAllConnections(); server.unref();
    const again = await beam.open({ port: 1, dataDir: process.env.HOME });
    process.once('SIGUSR2', () => { tunnel.close(); again.close(); });
    console.log(JSON.stringify({ event: 'open' }));`);
  await p.event('open');
  // Still there after whole turns of its event loop: it answers the signal.
  p.process.kill('SIGUSR2');
  assert.equal((await p.exit()).code, 0);
  clean(p);

  const q = script(t, dir, `${OPEN} tunnel.unref(); server.unref(); console.log(tunnel.hasRef());`);
  assert.equal((await q.exit()).code, 0);
  assert.equal(q.stdout, 'false\n');
  clean(q);
});

test('process.exit() in the middle of traffic', async (t) => {
  const dir = tempDir(t);
  for (const how of ['process.exit(7)', 'process.reallyExit(7)', 'process.exitCode = 7, tunnel.unref(), server.unref(), server.closeAllConnections()']) {
    const p = script(t, dir, `${OPEN}
      let n = 0;
      tunnel.on('request', () => { if (++n === 40) { stop = true; ${how}; } });
      let stop = false;
      const again = () => stop || visit().then(again, () => {});
      for (let i = 0; i < 8; i++) again();`);
    const { code, signal } = await p.exit();
    assert.deepEqual([code, signal ?? null], [7, null], `${how}: ${p.stderr}`);
    clean(p);
  }
});

test('process.exit() gives the name up: the relay hears it at once, not when nobody answers', async (t) => {
  const relay = await startRelay(t, beam);
  const gone = new Promise((resolve) => relay.on('event', (event) => event.kind === 'tunnel_down' && resolve(event)));
  const dir = tempDir(t);
  const p = script(t, dir, `await beam.open(${JSON.stringify(at(relay, dir, { port: 1 }))}); process.exit(7);`);
  assert.equal((await p.exit()).code, 7, p.stderr);
  assert.equal((await gone).reason, 'unbound');
});

test('an exception in a listener is an uncaught exception', async (t) => {
  const dir = tempDir(t);
  const p = script(t, dir, `${OPEN} tunnel.on('request', () => { throw new Error('boom'); }); await visit();`);
  assert.equal((await p.exit()).code, 1);
  assert.match(p.stderr, /Error: boom/);
  const q = script(t, dir, `${OPEN}
    process.on('uncaughtException', (error) => console.log(JSON.stringify({ event: 'uncaught', text: error.message })));
    tunnel.on('request', (r) => { throw new Error(r.path); });
    await visit(); await visit();
    tunnel.once('closed', () => { throw new Error('closed'); });
    server.close(); server.closeAllConnections();`);
  assert.equal((await q.exit()).code, 0);
  assert.deepEqual(q.events.map((e) => e.text), ['/', '/', 'closed']);
  clean(q);
});

test('an unhandled error in the middle ends the process as usual', async (t) => {
  const p = script(t, tempDir(t), `${OPEN} await visit(); setImmediate(() => { throw new Error('somewhere else'); });`);
  const { code, signal } = await p.exit();
  assert.deepEqual([code, signal ?? null], [1, null]);
  assert.match(p.stderr, /somewhere else/);
});

test('worker threads: tunnels in each, ended while they serve', async (t) => {
  const dir = tempDir(t);
  const relay = await startRelay(t, beam);
  const source = `
    const { workerData, parentPort } = require('node:worker_threads');
    const beam = require(workerData.package);
    const http = require('node:http');
    const server = http.createServer((q, r) => r.end('worker ' + workerData.n));
    beam.listen(server, workerData.options).then((tunnel) => {
      parentPort.postMessage({ plainUrl: tunnel.plainUrl });
      parentPort.on('message', async () => { await tunnel.close(); server.close(); server.closeAllConnections(); parentPort.close(); });
    });`;
  const start = async (n) => {
    const worker = new Worker(source, { eval: true, workerData: { n, package: `${modules}/beam-tunnel`, options: at(relay, dir, { name: `worker${n}` }) } });
    const [tunnel] = await once(worker, 'message');
    return { worker, tunnel };
  };
  const [one, two, three] = await Promise.all([1, 2, 3].map(start));
  for (const [i, w] of [one, two, three].entries()) assert.equal((await get(w.tunnel)).text, `worker ${i + 1}`);
  // Visitors who are on the way when their worker ends see an error page or an abort; the others go on.
  const traffic = Array.from({ length: 20 }, () => get(one.tunnel).catch(() => {}));
  assert.equal(await one.worker.terminate(), 1);
  await Promise.all(traffic);
  assert.equal((await get(two.tunnel)).text, 'worker 2');
  two.worker.postMessage('close');
  assert.deepEqual(await once(two.worker, 'exit'), [0]);
  assert.equal((await get(three.tunnel)).text, 'worker 3');
  await three.worker.terminate();
  const again = await start(4);
  assert.equal((await get(again.tunnel)).text, 'worker 4');
  await again.worker.terminate();
});

test('process.exit() while workers serve', async (t) => {
  const p = script(t, tempDir(t), `
    import { Worker } from 'node:worker_threads';
    ${OPEN}
    const worker = new Worker(\`import('beam-tunnel').then(async (beam) => {
        await beam.open({ port: \${server.address().port}, dataDir: process.env.HOME + '/w' });
        require('node:worker_threads').parentPort.postMessage('up');
      })\`.replace("'beam-tunnel'", JSON.stringify(import.meta.resolve('beam-tunnel'))), { eval: true });
    await new Promise((up) => worker.once('message', up));
    for (let i = 0; i < 20; i++) visit().catch(() => {});
    await visit();
    process.exit(3);`);
  const { code, signal } = await p.exit();
  assert.deepEqual([code, signal ?? null], [3, null], p.stderr);
  clean(p);
});

const CYCLES = sanitized ? 100 : 1000;
test(`${CYCLES} times open and close leave nothing`, async (t) => {
  const dir = tempDir(t);
  const relay = await startRelay(t, beam);
  const origin = await serve(t, (request, response) => response.end('x'));
  const status = (key) => Number(new RegExp(`^${key}:\\s+(\\d+)`, 'm').exec(fs.readFileSync('/proc/self/status', 'utf8'))[1]);
  const measure = async () => {
    globalThis.gc?.();
    const info = await relay.info();
    return { fds: fs.readdirSync('/proc/self/fd').length, threads: status('Threads'), rss: status('VmRSS') / 1024, tunnels: info.tunnels, handles: process.getActiveResourcesInfo().length };
  };
  const cycle = async (i) => {
    const tunnel = await beam.open(at(relay, dir, { port: origin.port, name: `cycle${i % 4}`, takeover: true }));
    if (i % 10 === 0) assert.equal((await get(tunnel)).text, 'x');
    await tunnel.close();
  };
  const warm = Math.floor(CYCLES / 5);
  for (let i = 0; i < warm; i++) await cycle(i);
  // What a relay still holds of the last link goes within its turns.
  const settled = async (before) => {
    for (;;) {
      const now = await measure();
      if (!before || (now.fds <= before.fds + 2 && now.tunnels === 0)) return now;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const before = await settled();
  for (let i = 0; i < CYCLES; i++) await cycle(i);
  const after = await settled(before);
  t.diagnostic(`before ${JSON.stringify(before)}, after ${JSON.stringify(after)}`);
  assert.ok(after.threads <= before.threads, 'threads');
  assert.ok(after.handles <= before.handles + 1, 'handles');
  if (!sanitized) assert.ok(after.rss - before.rss < 16, `${after.rss - before.rss} MiB more`);
});
