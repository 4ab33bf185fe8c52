// Slow visitors (slowhttptest in its three modes) and floods of resets, while others are served as if they were not there.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import https from 'node:https';
import test from 'node:test';
import { Program, cleanEnv, long, mib, sanitized, until } from './lib/run.mjs';
import { drain, setUp } from './lib/setup.mjs';
import { frame } from './lib/tables.mjs';

const installed = (program) => {
  try {
    execFileSync('which', [program], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
};

/** Asks again and again on one connection, 20 ms apart, until the function it returns is called, which resolves with the times in ms. */
function measure(s) {
  let on = true;
  const times = [];
  const agent = new https.Agent({ keepAlive: true, maxSockets: 1 });
  const done = (async () => {
    while (on) {
      const begun = performance.now();
      const { status, text } = await s.visit('/', { agent });
      times.push(performance.now() - begun);
      assert.equal(status, 200);
      assert.equal(text, 'fine');
      await new Promise((go) => setTimeout(go, 20));
    }
  })();
  return async () => {
    on = false;
    await done;
    agent.destroy();
    times.sort((a, b) => a - b);
    return { count: times.length, median: times[times.length >> 1], p99: times[Math.floor(times.length * 0.99)] };
  };
}

const say = ({ count, median, p99 }) => `${count} requests beside, median ${median.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms`;

/** The same for a second in which nothing else happens here. */
async function quiet(s) {
  const stop = measure(s);
  await new Promise((go) => setTimeout(go, 1000));
  return stop();
}

// 50 ms, and what a machine that does ten other things adds; the figures are printed.
const check = (times, alone) => {
  assert.ok(times.count > 20, say(times));
  if (!sanitized) assert.ok(times.median < 50 + 2 * alone.p99, `${say(times)}; alone ${say(alone)}`);
};

const seconds = long ? 60 : 3;
const connections = long ? 2000 : 400;

test('slowhttptest', { skip: !installed('slowhttptest') && 'slowhttptest is not installed' }, async (t) => {
  const big = Buffer.alloc(2_000_000, 'x');
  const s = await setUp(t, (request, response) => {
    request.on('error', () => {});
    request.resume();
    if (request.url === '/big') return response.end(big);
    request.on('end', () => response.end('fine'));
  }, { relayArgs: ['--listen-plain', '127.0.0.1:0', '--plain', 'serve'] });
  const plain = s.relay.info.http;

  // The tool resolves names by itself; told that the relay's plain port is a proxy, it asks that one for any name.
  const modes = {
    headers: ['-H', '-u', `https://127.0.0.1:${s.relay.port}/`],
    body: ['-B', '-s', '100000', '-d', plain, '-u', `http://${s.name}/`],
    read: ['-X', '-w', '1', '-y', '8', '-n', '5', '-z', '1', '-d', plain, '-u', `http://${s.name}/big`],
  };
  for (const [mode, args] of Object.entries(modes))
    await t.test(mode, async (t) => {
      const fds = s.relay.fds();
      const alone = await quiet(s);
      const stop = measure(s);
      const tool = new Program(t, 'slowhttptest', [...args, '-c', String(connections), '-r', '200', '-i', '1', '-l', String(seconds), '-p', '5'], { env: cleanEnv(s.dir) });
      let most = 0;
      const watch = setInterval(() => (most = Math.max(most, s.relay.fds())), 200);
      await tool.exit(seconds * 1000 + 30_000);
      clearInterval(watch);
      const times = await stop();
      t.diagnostic(`${mode}: ${most - fds} connections held at most; ${say(times)}; alone p99 ${alone.p99.toFixed(1)} ms; relay ${mib(s.relay.rss())}`);
      assert.ok(most - fds > 100, `only ${most - fds} connections: ${tool.stdout.slice(-500)}`);
      check(times, alone);
      if (!sanitized) assert.ok(s.relay.rss() < 200e6, mib(s.relay.rss()));
      await until(() => s.relay.fds() < fds + 20, 'they are gone', 60_000);
    });
});

test('10,000 resets a second: memory stays, others are served', async (t) => {
  const s = await setUp(t, (request, response) => {
    response.on('error', () => {});
    if (request.url === '/') response.end('fine'); // what floods asks for is never answered
  });
  const authority = Buffer.from(s.name);
  const path = Buffer.from('/x');
  const block = Buffer.concat([Buffer.from([0x82, 0x87, 0x04, path.length]), path, Buffer.from([0x41, authority.length]), authority]);
  const rate = 10_000;
  const perConnection = 500; // below what is a flood on one connection: the connection stays, and the next takes its place
  const parts = [Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(4, 0, 0)];
  for (let i = 0; i < perConnection; i++) parts.push(frame(1, 5, 2 * i + 1, block), frame(3, 0, 2 * i + 1, Buffer.from([0, 0, 0, 8])));
  const flood = Buffer.concat(parts);
  const sockets = [];
  const one = async () => {
    const socket = await s.connect({ ALPNProtocols: ['h2'] });
    drain(socket);
    socket.write(flood);
    sockets.push(socket);
    if (sockets.length > 100) sockets.shift().destroy();
  };
  const run = async (seconds) => {
    const begun = performance.now();
    let sent = 0;
    while (performance.now() - begun < seconds * 1000) {
      await one();
      sent += perConnection;
      const early = (sent / rate) * 1000 - (performance.now() - begun);
      if (early > 0) await new Promise((go) => setTimeout(go, early));
    }
    return (sent / (performance.now() - begun)) * 1000;
  };
  const alone = await quiet(s);
  await run(1); // what a first second allocates stays
  const before = [s.relay.rss(), s.agent.rss()];
  const stop = measure(s);
  const got = await run(long ? 10 : 2);
  const times = await stop();
  const after = [s.relay.rss(), s.agent.rss()];
  t.diagnostic(`${Math.round(got)} resets a second; relay ${mib(before[0])} -> ${mib(after[0])}, agent ${mib(before[1])} -> ${mib(after[1])}; ${say(times)}`);
  check(times, alone);
  if (!sanitized) {
    assert.ok(after[0] - before[0] < 16e6, `relay ${mib(before[0])} -> ${mib(after[0])}`);
    assert.ok(after[1] - before[1] < 16e6, `agent ${mib(before[1])} -> ${mib(after[1])}`);
  }
  for (const socket of sockets) socket.destroy();
  assert.equal((await s.visit('/')).text, 'fine');
});
