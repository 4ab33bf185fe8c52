// What browsers do with long connections and many small files, on a service of our own.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import test from 'node:test';
import { beam, mib, tempDir, until } from '../e2e/lib/run.mjs';
import { listen, serve, startAgent, startRelay, visitor } from '../e2e/lib/setup.mjs';
import { browser, lacks, openPage, wants } from './lib/browser.mjs';

const quic = JSON.parse(execFileSync(beam, ['--version', '--json'])).features.split(',').includes('quic');
const spoken = { h1: 'http/1.1', h2: 'h2', h3: 'h3' };
const protocols = quic ? ['h1', 'h2', 'h3'] : ['h1', 'h2'];
const html = (response, text) => response.writeHead(200, { 'Content-Type': 'text/html', 'Cache-Control': 'no-store' }).end(`<!doctype html><link rel="icon" href="data:,">${text}`);

/** Relay, agent under a fixed name, and a browser of that protocol. */
async function setUp(t, port, protocol) {
  const dir = tempDir(t);
  const relay = await startRelay(t, dir);
  const start = (...args) => startAgent(t, dir, relay, port, ['--name', 'shop', ...args]);
  const agent = await start();
  const chromium = await browser(t, dir, relay, { protocol, names: [agent.name] });
  return { dir, relay, agent, start, chromium, ...visitor(relay, agent) };
}

for (const protocol of protocols)
  test(`EventSource over ${protocol}`, { skip: lacks }, async (t) => {
    const streams = [];
    const origin = await serve(t, (request, response) => {
      if (request.url !== '/events') return html(response, 'page');
      response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' });
      response.write(': begun\n\n');
      streams.push({ last: request.headers['last-event-id'], send: (id) => response.write(`id: ${id}\ndata: event ${id}\n\n`) });
    });
    const s = await setUp(t, origin.port, protocol);
    const { page, protocol: version } = await openPage(s.chromium, s.url);
    assert.equal(await version(), spoken[protocol]);
    await page.evaluate(() => {
      window.got = [];
      window.source = new EventSource('/events');
      window.source.onmessage = (e) => window.got.push(e.data);
    });
    await until(() => streams.length === 1, 'the stream');

    await t.test('one at a time: each is there before the next is sent', async () => {
      for (let id = 1; id <= 20; id++) {
        streams[0].send(id);
        await page.waitForFunction((n) => window.got.length === n && window.got[n - 1] === `event ${n}`, id);
      }
    });

    await t.test('after another agent took over the browser asks from where it was', async () => {
      // A gap would be a race: a browser asks again after three seconds, the relay lets requests wait for two, and an EventSource never forgives a 503.
      await s.start('--takeover');
      await s.agent.kill();
      await until(() => streams.length >= 2, 'the stream once more');
      assert.equal(streams.at(-1).last, '20');
      streams.at(-1).send(21);
      await page.waitForFunction(() => window.got.at(-1) === 'event 21');
    });
  });

// Over QUIC the page is HTTP/3 and the WebSocket goes over TCP: Chromium has no RFC 9220.
for (const [protocol, status] of [['h1', [101]], ['h2', [200]], ...(quic ? [['h3', [101, 200]]] : [])])
  test(`WebSocket over ${protocol}`, { skip: lacks }, async (t) => {
    const server = http.createServer((request, response) => html(response, 'page'));
    const sockets = new (wants('ws').WebSocketServer)({ server, perMessageDeflate: true });
    sockets.on('connection', (socket, request) => {
      socket.origin = request.headers.origin;
      socket.on('message', (data, binary) => (String(data) === 'close' ? socket.close(4001, 'as asked') : socket.send(data, { binary })));
    });
    const port = await listen(t, server);
    const s = await setUp(t, port, protocol);
    const { page, problems, sockets: seen } = await openPage(s.chromium, s.url);
    const result = await page.evaluate(async () => {
      const socket = new WebSocket(`wss://${location.host}/chat`);
      socket.binaryType = 'arraybuffer';
      const next = (what) => new Promise((resolve, reject) => ((socket[`on${what}`] = resolve), (socket.onerror = () => reject(new Error('the socket failed')))));
      await next('open');
      const echo = async (data) => (socket.send(data), (await next('message')).data);
      const text = await echo('grüße');
      const bytes = new Uint8Array(1_000_000).map((_, i) => i * 7);
      const back = new Uint8Array(await echo(bytes));
      const whole = back.length === bytes.length && back.every((b, i) => b === bytes[i]);
      let many = 0;
      for (let i = 0; i < 200; i++) many += (await echo(String(i))) === String(i);
      socket.send('close');
      const { code, reason } = await next('close');
      return { text, whole, many, code, reason };
    });
    assert.deepEqual(result, { text: 'grüße', whole: true, many: 200, code: 4001, reason: 'as asked' });
    assert.ok(status.includes(seen[0].status), `answered ${seen[0].status}`);

    // A service that ends is seen; the page can dial again on the connection it has.
    const cut = page.evaluate(() => new Promise((resolve) => {
      window.socket = new WebSocket(`wss://${location.host}/again`);
      window.socket.onclose = (e) => resolve(e.code);
    }));
    const [again] = await once(sockets, 'connection');
    await page.waitForFunction(() => window.socket.readyState === WebSocket.OPEN);
    assert.equal(again.origin, `http://localhost:${port}`);
    again.terminate();
    assert.equal(await cut, 1006);
    assert.deepEqual(problems, []);
  });

for (const protocol of protocols)
  test(`a page of two hundred small files over ${protocol}`, { skip: lacks }, async (t) => {
    const count = 200;
    const body = (i) => `window.loaded = (window.loaded ?? 0) + 1; window.sum = (window.sum ?? 0) + ${i}; //${'x'.repeat(2000)}`;
    const origin = await serve(t, (request, response) => {
      const [, i] = /^\/(\d+)\.js/.exec(request.url) ?? [];
      if (i) return response.writeHead(200, { 'Content-Type': 'text/javascript', 'Cache-Control': 'no-store' }).end(body(i));
      html(response, Array.from({ length: count }, (_, n) => `<script async src="/${n}.js"></script>`).join(''));
    });
    const s = await setUp(t, origin.port, protocol);
    const direct = await load(s.chromium, `http://127.0.0.1:${origin.port}`);
    const tunnel = await load(s.chromium, s.url);
    for (const page of [direct, tunnel]) assert.deepEqual([page.loaded, page.sum], [count, (count * (count - 1)) / 2]);
    assert.deepEqual(tunnel.problems, []);
    assert.deepEqual(tunnel.versions, [spoken[protocol]]);
    t.diagnostic(`${protocol}: ${Math.round(tunnel.ms)} ms through the tunnel, ${Math.round(direct.ms)} ms direct (HTTP/1.1); relay ${mib(s.relay.rss())}`);
  });

/** The page twice, each in a profile of its own: the fastest counts. */
async function load(chromium, url) {
  let best;
  for (let i = 0; i < 2; i++) {
    const { page, problems, context } = await openPage(chromium, url);
    const seen = await page.evaluate(() => ({
      loaded: window.loaded,
      sum: window.sum,
      ms: performance.getEntriesByType('navigation')[0].loadEventStart,
      versions: [...new Set(performance.getEntries().filter((e) => e.nextHopProtocol).map((e) => e.nextHopProtocol))],
    }));
    await context.close();
    if (!best || seen.ms < best.ms || problems.length) best = { ...seen, problems };
    if (problems.length) break;
  }
  return best;
}
