// Every byte is passed on as it comes, and each half of a connection ends by itself.
import assert from 'node:assert/strict';
import net from 'node:net';
import { until } from './lib/run.mjs';
import { drain, listen, setUp, startAgent, visitor } from './lib/setup.mjs';
import { overTransports } from './lib/transports.mjs';

overTransports('streaming', async (t) => {
  let events; // the response of /events, held by the test
  let upload;
  const s = await setUp(t, (request, response) => {
    if (request.url === '/events') {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' });
      response.flushHeaders();
      events = response;
    } else if (request.url === '/upload') {
      upload = { got: '', request, response };
      request.on('data', (part) => (upload.got += part));
      request.on('end', () => (upload.ended = true));
    } else {
      response.end('ok');
    }
  });

  await t.test('event n is there before the service sends n + 1', async () => {
    let got = '';
    const request = s.request('/events');
    const response = await new Promise((resolve, reject) => request.on('response', resolve).on('error', reject).end());
    response.setEncoding('utf8').on('data', (part) => (got += part));
    let slowest = 0;
    for (let n = 0; n < 30; n++) {
      const begun = performance.now();
      events.write(`data: ${n}\n\n`);
      await until(() => got.endsWith(`data: ${n}\n\n`), `event ${n}`);
      slowest = Math.max(slowest, performance.now() - begun);
    }
    t.diagnostic(`the slowest event took ${slowest.toFixed(1)} ms`);
    const end = new Promise((resolve) => response.on('end', resolve));
    events.end();
    await end;
  });

  await t.test('a body arrives piece by piece, too', async () => {
    const request = s.request('/upload', { method: 'POST', headers: { 'Content-Type': 'text/plain' } });
    const answer = new Promise((resolve, reject) => request.on('response', resolve).on('error', reject));
    for (let n = 0; n < 20; n++) {
      request.write(`piece ${n};`);
      await until(() => upload?.got.endsWith(`piece ${n};`), `piece ${n}`);
    }
    assert.equal(upload.ended, undefined);
    request.end();
    await until(() => upload.ended, 'the end of the body');
    upload.response.end('thanks');
    assert.equal((await answer).statusCode, 200);
  });

  await t.test('the service learns at once that a visitor has left', async () => {
    const request = s.request('/events');
    request.on('error', () => {});
    await new Promise((resolve) => request.on('response', (r) => resolve(r.on('error', () => {}))).end());
    const gone = new Promise((resolve) => events.on('close', resolve));
    request.destroy();
    await gone;
  });

  // A service that waits for the end of the request before it says anything, as old protocols do.
  const patient = net.createServer({ allowHalfOpen: true }, (socket) => {
    let head = '';
    let answered = false;
    socket.on('data', (part) => {
      head += part;
      if (answered || !head.includes('\r\n\r\n')) return;
      answered = true;
      if (/^Upgrade:/im.test(head)) {
        socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: count\r\n\r\n');
        head = '';
        socket.on('end', () => socket.end(`got ${head.length} bytes and the end`));
      } else {
        setImmediate(() => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlate\n'));
      }
    });
    socket.on('error', () => {});
  });
  const port = await listen(t, patient);
  const agent = await startAgent(t, s.dir, s.relay, port, ['--name', 'patient'], { data: `${s.dir}/agent2` });
  const v = visitor(s.relay, agent);

  await t.test('a visitor that closes its sending half still gets the reply', async () => {
    const socket = await v.connect({ allowHalfOpen: true });
    socket.end(`GET / HTTP/1.1\r\nHost: ${v.name}\r\n\r\n`);
    const { text } = await drain(socket);
    assert.match(text, /^HTTP\/1\.1 200 OK\r\n/);
    assert.ok(text.endsWith('late\n'), text);
  });

  await t.test('in an upgraded connection the half-close reaches the service, and its reply the visitor', async () => {
    const socket = await v.connect({ allowHalfOpen: true });
    const all = drain(socket);
    socket.write(`GET / HTTP/1.1\r\nHost: ${v.name}\r\nConnection: Upgrade\r\nUpgrade: count\r\n\r\n`);
    let seen = '';
    socket.on('data', (part) => (seen += part));
    await until(() => seen.includes('\r\n\r\n'), '101');
    socket.end('x'.repeat(100_000));
    const { text } = await all;
    assert.match(text, /^HTTP\/1\.1 101 /);
    assert.ok(text.endsWith('got 100000 bytes and the end'), text.slice(-200));
  });

  await agent.stop();
  await s.agent.stop();
  await s.relay.stop();
});
