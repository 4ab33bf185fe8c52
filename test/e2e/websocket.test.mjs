// WebSocket through the tunnel, with the client and server most people use.
import assert from 'node:assert/strict';
import http from 'node:http';
import { WebSocket, WebSocketServer } from 'ws';
import { listen, setUp } from './lib/setup.mjs';
import { overTransports } from './lib/transports.mjs';

const opened = (socket) => new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
const message = (socket) => new Promise((resolve, reject) => socket.once('message', (data, binary) => resolve({ data, binary })).once('error', reject));
const closed = (socket) => new Promise((resolve) => socket.once('close', (code, reason) => resolve({ code, reason: reason.toString() })));

overTransports('websocket', async (t) => {
  const server = http.createServer((request, response) => response.end('plain'));
  const sockets = new WebSocketServer({ server, handleProtocols: (offered) => (offered.has('chat') ? 'chat' : false), perMessageDeflate: true });
  const seen = [];
  sockets.on('connection', (socket, request) => {
    seen.push({ socket, request });
    if (request.url === '/greets') socket.send('first');
    socket.on('message', (data, binary) => {
      const text = data.toString();
      if (text === 'close 4001') socket.close(4001, 'as asked');
      else if (text === 'cut') socket.terminate();
      else socket.send(data, { binary });
    });
  });
  const port = await listen(t, server);
  const s = await setUp(t, port);
  const dial = (path = '/', options = {}) => new WebSocket(`wss://${s.name}:${s.relay.port}${path}`, options.protocols ?? [], { ca: s.base.ca, servername: s.name, lookup: (name, o, done) => (o.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4)), ...options });

  await t.test('text and binary come back as they went', async () => {
    const socket = dial();
    await opened(socket);
    socket.send('grüße');
    assert.deepEqual(await message(socket).then((m) => [m.data.toString(), m.binary]), ['grüße', false]);
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    socket.send(bytes);
    assert.deepEqual(await message(socket).then((m) => [m.data.equals(bytes), m.binary]), [true, true]);
    socket.close(1000);
    assert.equal((await closed(socket)).code, 1000);
  });

  await t.test('a message of 1 MiB, compressed and not', async () => {
    for (const perMessageDeflate of [false, true]) {
      const socket = dial('/', { perMessageDeflate });
      await opened(socket);
      const big = Buffer.alloc(1048576, 'beam ');
      socket.send(big);
      assert.ok((await message(socket)).data.equals(big));
      socket.close();
      await closed(socket);
    }
  });

  await t.test('a frame sent with the 101 is not lost', async () => {
    const socket = dial('/greets');
    assert.equal((await message(socket)).data.toString(), 'first');
    socket.terminate();
  });

  await t.test('close codes and reasons in both directions', async () => {
    const socket = dial();
    await opened(socket);
    socket.send('close 4001');
    assert.deepEqual(await closed(socket), { code: 4001, reason: 'as asked' });
    const other = dial('/ours');
    await opened(other);
    const there = closed(seen.find((c) => c.request.url === '/ours').socket);
    other.close(4002, 'enough');
    assert.deepEqual(await there, { code: 4002, reason: 'enough' });
  });

  await t.test('a cut on one side is seen on the other', async () => {
    const socket = dial();
    await opened(socket);
    socket.on('error', () => {});
    const end = closed(socket);
    socket.send('cut');
    assert.equal((await end).code, 1006);
    const other = dial('/gone');
    await opened(other);
    const there = closed(seen.find((c) => c.request.url === '/gone').socket);
    other.terminate();
    assert.equal((await there).code, 1006);
  });

  await t.test('ping, pong and the subprotocol', async () => {
    const socket = dial('/', { protocols: ['other', 'chat'] });
    await opened(socket);
    assert.equal(socket.protocol, 'chat');
    const pong = new Promise((resolve) => socket.once('pong', (data) => resolve(data.toString())));
    socket.ping('are you there');
    assert.equal(await pong, 'are you there');
    socket.close();
    await closed(socket);
  });

  await t.test('fifty at once, a hundred messages each, in order', async () => {
    await Promise.all(
      Array.from({ length: 50 }, async (_, n) => {
        const socket = dial();
        await opened(socket);
        const got = [];
        const all = new Promise((resolve) => socket.on('message', (data) => got.push(data.toString()) === 100 && resolve()));
        for (let i = 0; i < 100; i++) socket.send(`${n}:${i}`);
        await all;
        assert.deepEqual(got, Array.from({ length: 100 }, (_, i) => `${n}:${i}`));
        socket.close();
        await closed(socket);
      }),
    );
  });

  await t.test('a service that refuses the upgrade answers as a page', async () => {
    const r = await s.visit('/');
    assert.equal(r.text, 'plain');
  });

  for (const socket of sockets.clients) socket.terminate();
  await s.agent.stop();
  await s.relay.stop();
});
