// Visitors that speak HTTP/2: browsers, curl, and tools made to load servers.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import http2 from 'node:http2';
import test from 'node:test';
import { WebSocketServer } from 'ws';
import { cleanUp, long, run, sanitized, until } from './lib/run.mjs';
import { drain, setUp } from './lib/setup.mjs';

const installed = (program) => {
  try {
    execFileSync('which', [program], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
};

const big = randomBytes(3_000_000);
const sha = (bytes) => createHash('sha256').update(bytes).digest('hex');

function origin(held) {
  return async (request, response) => {
    switch (new URL(request.url, 'http://origin').pathname) {
      case '/what':
        return response.end(JSON.stringify({ method: request.method, url: request.url, version: request.httpVersion, headers: request.headers }));
      case '/big':
        return response.end(big);
      case '/hold':
        return held.push(response);
      case '/hints':
        response.writeEarlyHints({ link: '</a.css>; rel=preload; as=style' });
        return response.end('hinted');
      case '/echo': {
        const hash = createHash('sha256');
        for await (const part of request) hash.update(part);
        response.writeHead(200, { Trailer: 'X-Sum' });
        response.write(JSON.stringify({ hash: hash.digest('hex'), trailers: request.trailers }));
        response.addTrailers({ 'X-Sum': 'end' });
        return response.end();
      }
      case '/late':
        response.write('begun');
        return held.push(response);
      default:
        response.statusCode = 404;
        return response.end();
    }
  };
}

/** A visitor's connection, and requests on it. */
function visitor(t, s) {
  const session = http2.connect(s.url, { ca: s.base.ca, servername: s.name, createConnection: undefined, lookup: (_, options, done) => (options.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4)) });
  session.on('error', () => {});
  cleanUp(t, () => session.destroy());
  return session;
}

function ask(session, path, { headers = {}, body, trailers } = {}) {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ':path': path, ...headers }, { endStream: body === undefined, waitForTrailers: !!trailers });
    const out = { hints: [], parts: [], trailers: {} };
    stream.on('wantTrailers', () => stream.sendTrailers(trailers));
    stream.on('headers', (h) => out.hints.push(h));
    stream.on('response', (h) => (out.headers = h));
    stream.on('trailers', (h) => (out.trailers = h));
    stream.on('data', (part) => out.parts.push(part));
    stream.on('error', reject);
    stream.on('end', () => resolve({ ...out, status: out.headers[':status'], body: Buffer.concat(out.parts) }));
    if (body !== undefined) stream.end(body);
  });
}

test('HTTP/2 visitors', async (t) => {
  const held = [];
  const s = await setUp(t, origin(held));
  const session = visitor(t, s);

  await t.test('a request arrives at the local service as HTTP/1.1, with the fields of a proxy', async () => {
    const { status, body } = await ask(session, '/what?a=b', { headers: { 'x-a': '1', cookie: ['a=1', 'b=2'] } });
    const what = JSON.parse(body);
    assert.equal(status, 200);
    assert.equal(session.alpnProtocol, 'h2');
    assert.equal(what.version, '1.1');
    assert.equal(what.url, '/what?a=b');
    assert.equal(what.headers['x-a'], '1');
    assert.equal(what.headers.cookie, 'a=1; b=2');
    assert.equal(what.headers['x-forwarded-proto'], 'https');
    assert.equal(what.headers['x-forwarded-host'], `${s.name}:${s.relay.port}`);
    assert.equal(what.headers.host, `localhost:${s.origin.port}`);
  });

  await t.test('sixty at once on one connection, answered in whatever order they are ready', async () => {
    const asked = Array.from({ length: 60 }, (_, i) => ask(session, `/hold?${i}`));
    await until(() => held.length === 60, 'all of them at the local service');
    const order = held.splice(0).reverse();
    for (const response of order) response.end(response.req.url);
    const answers = await Promise.all(asked);
    answers.forEach(({ body }, i) => assert.equal(body.toString(), `/hold?${i}`));
  });

  await t.test('bodies, whole, both ways, and trailers', async () => {
    assert.equal(sha((await ask(session, '/big')).body), sha(big));
    const { body, trailers } = await ask(session, '/echo', { headers: { ':method': 'POST' }, body: big, trailers: { 'x-after': 'all' } });
    assert.deepEqual(JSON.parse(body), { hash: sha(big), trailers: { 'x-after': 'all' } });
    assert.equal(trailers['x-sum'], 'end');
  });

  await t.test('early hints', async () => {
    const { hints, body } = await ask(session, '/hints');
    assert.equal(hints[0][':status'], 103);
    assert.equal(hints[0].link, '</a.css>; rel=preload; as=style');
    assert.equal(body.toString(), 'hinted');
  });

  await t.test('bytes come as the service writes them', async () => {
    const stream = session.request({ ':path': '/late' });
    const first = await new Promise((resolve) => stream.once('data', resolve));
    assert.equal(first.toString(), 'begun');
    held.pop().end();
    stream.resume();
    await new Promise((resolve) => stream.once('end', resolve));
  });

  await t.test('a request that is given up is given up at the local service', async () => {
    const stream = session.request({ ':path': '/hold' });
    stream.on('error', () => {});
    await until(() => held.length === 1, 'it is there');
    const gone = new Promise((resolve) => held[0].once('close', resolve));
    stream.close(http2.constants.NGHTTP2_CANCEL);
    await gone;
    held.splice(0);
    assert.equal((await ask(session, '/what')).status, 200);
  });

  await t.test('one connection, another name: each request goes where its own authority says', async () => {
    const { status } = await ask(session, '/what', { headers: { ':authority': `other.tunnel.test:${s.relay.port}` } });
    assert.ok([404, 421].includes(status), `${status}`);
  });

  await t.test('curl', async () => {
    const curl = s.curl.filter((arg) => arg !== '--http1.1');
    const { stdout } = await run(t, 'curl', [...curl, '--http2', '-o', '/dev/null', '-w', '%{http_version} %{http_code} %{size_download}', `${s.url}/big`]);
    assert.equal(stdout, `2 200 ${big.length}`);
  });

  await t.test('h2load: ten connections with a hundred streams each', { skip: !installed('h2load') && 'h2load is not installed' }, async () => {
    const { stdout } = await run(t, 'h2load', ['-n', '2000', '-c', '10', '-m', '100', `--connect-to=127.0.0.1:${s.relay.port}`, `${s.url}/what`]);
    assert.match(stdout, /2000 succeeded, 0 failed, 0 errored/);
  });
});

test('WebSocket over HTTP/2 (RFC 8441)', async (t) => {
  const server = new WebSocketServer({ noServer: true });
  const s = await setUp(t, (request, response) => response.end());
  s.origin.server.on('upgrade', (request, socket, head) => server.handleUpgrade(request, socket, head, (ws) => ws.on('message', (data) => ws.send(`echo ${data}`))));
  cleanUp(t, () => server.close());
  const session = visitor(t, s);
  await new Promise((resolve) => session.once('remoteSettings', resolve));
  assert.equal(session.remoteSettings.enableConnectProtocol, true);
  const stream = session.request({ ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/chat', 'sec-websocket-version': '13' });
  const headers = await new Promise((resolve) => stream.once('response', resolve));
  assert.equal(headers[':status'], 200);
  // One masked text frame, "hi".
  stream.write(Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]));
  const answer = await new Promise((resolve) => stream.once('data', resolve));
  assert.equal(answer.subarray(2).toString(), 'echo hi');
  stream.close();
});

function frame(type, flags, id, payload = Buffer.alloc(0)) {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(id, 5);
  return Buffer.concat([head, payload]);
}

test('rapid resets: the connection goes, nobody else notices', async (t) => {
  const s = await setUp(t, (request, response) => setTimeout(() => response.end('x'), 50));
  const other = visitor(t, s);
  await ask(other, '/');
  const rss = async () => Number((await run(t, 'ps', ['-o', 'rss=', '-p', String(s.relay.pid)])).stdout);
  const authority = Buffer.from(`${s.name}:${s.relay.port}`);
  const block = Buffer.concat([Buffer.from([0x82, 0x87, 0x84, 0x41, authority.length]), authority]); // GET https / and :authority
  const parts = [Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(4, 0, 0)];
  for (let i = 0; i < 10_000; i++) parts.push(frame(1, 5, 2 * i + 1, block), frame(3, 0, 2 * i + 1, Buffer.from([0, 0, 0, 8])));
  const flood = Buffer.concat(parts);
  const before = await rss();
  for (let round = 0; round < (long ? 100 : 10); round++) {
    const socket = await s.connect({ ALPNProtocols: ['h2'] });
    const told = drain(socket);
    socket.write(flood);
    const { bytes } = await told;
    assert.ok(bytes.includes(Buffer.from([7, 0, 0, 0, 0, 0])), 'GOAWAY'); // type, flags, stream 0
    assert.equal((await ask(other, '/')).status, 200);
  }
  const after = await rss();
  t.diagnostic(`relay: ${before} KiB before, ${after} KiB after`);
  if (!sanitized) assert.ok(after - before < 16_000, `${before} -> ${after} KiB`);
});

test('a relay that goes says so: GOAWAY, and what is under way is answered', async (t) => {
  const held = [];
  const s = await setUp(t, origin(held));
  const session = visitor(t, s);
  const asked = ask(session, '/hold');
  await until(() => held.length === 1, 'it is there');
  const goaway = new Promise((resolve) => session.once('goaway', resolve));
  process.kill(s.relay.pid, 'SIGTERM');
  await goaway;
  held[0].end('last');
  assert.equal((await asked).body.toString(), 'last');
});
