// What strangers may have at once: requests and connections of one tunnel and of one address.
import assert from 'node:assert/strict';
import net from 'node:net';
import path from 'node:path';
import test from 'node:test';
import { addressA, openBox } from './lib/box.mjs';
import { Program, beam, cleanEnv, run, runBeam, tempDir, until } from './lib/run.mjs';
import { freeRange, listen, setUp, startAgent, startRelay } from './lib/setup.mjs';

test('requests at once to one tunnel', async (t) => {
  const held = [];
  const s = await setUp(t, (request, response) => (request.url === '/hold' ? held.push(response) : response.end('fine')), { relayArgs: ['--tunnel-requests', '3'] });
  const holding = Array.from({ length: 3 }, () => s.visit('/hold'));
  await until(() => held.length === 3, 'three at the local service');
  const fourth = await s.visit('/', { headers: { accept: 'application/json' } });
  assert.equal(fourth.status, 503);
  assert.equal(JSON.parse(fourth.text).error.code, 'BEAM-5033');
  assert.ok(Number(fourth.headers['retry-after']) > 0);
  held.pop().end('held');
  await until(async () => (await s.visit('/')).status === 200, 'a place for another');
  for (const response of held) response.end('held');
  for (const { text } of await Promise.all(holding)) assert.equal(text, 'held');
  // All places are free again: three at once, as before.
  held.length = 0;
  const again = Array.from({ length: 3 }, () => s.visit('/hold'));
  await until(() => held.length === 3, 'three at the local service');
  for (const response of held) response.end('held');
  await Promise.all(again);
});

test('connections at once to one TCP tunnel', async (t) => {
  const dir = tempDir(t);
  const echo = net.createServer((socket) => socket.pipe(socket));
  const port = await listen(t, echo);
  const relay = await startRelay(t, dir, ['--tcp-ports', await freeRange(4), '--tunnel-connections', '2']);
  const agent = await startAgent(t, dir, relay, port, [], { command: 'tcp' });
  const open = () =>
    new Promise((resolve) => {
      const socket = net.connect(Number(agent.info.url.split(':').pop()), '127.0.0.1');
      socket.on('error', () => {});
      socket.on('data', () => resolve(socket));
      socket.on('close', () => resolve(null));
      socket.write('hello');
    });
  const [a, b] = [await open(), await open()];
  assert.ok(a && b);
  assert.equal(await open(), null);
  a.destroy();
  const c = await until(open, 'a place for another');
  b.destroy();
  c.destroy();
});

test('values that are none', async (t) => {
  const dir = tempDir(t);
  for (const [flag, value] of [['--tunnel-requests', '0'], ['--visitor-connections', 'many'], ['--min-body-rate', '-1'], ['--visitor-requests', '100000']]) {
    const r = await runBeam(t, ['relay', '--domain', 'tunnel.test', '--data', `${dir}/r`, flag, value], cleanEnv(dir));
    assert.equal(r.code, 2, r.stderr);
    assert.match(r.stderr, new RegExp(flag));
    assert.match(r.stderr, /1 to 99999/);
  }
});

// Opens connections one after the other and says which of them got an answer; then asks on one HTTP/2 connection for so many things at once.
const visitor = `
const [host, port, name, connections, requests] = process.argv.slice(1);
const tls = require('tls'), http2 = require('http2');
const options = { host, port, servername: name, rejectUnauthorized: false };
const one = () => new Promise((done) => {
  const s = tls.connect({ ...options, ALPNProtocols: ['http/1.1'] }, () => s.write('GET /hold HTTP/1.1\\r\\nHost: ' + name + '\\r\\n\\r\\n'));
  s.once('secureConnect', () => done(s)); s.on('error', () => done(null)); s.on('close', () => done(null));
});
(async () => {
  const sockets = [];
  for (let i = 0; i < connections; i++) sockets.push(await one());
  console.log('open ' + sockets.filter(Boolean).length);
  for (const s of sockets) s?.destroy();
  const session = await new Promise((done) => {
    const again = () => { const c = http2.connect('https://' + name + ':' + port, { ...options, lookup: (_, o, f) => (o.all ? f(null, [{ address: host, family: 4 }]) : f(null, host, 4)) });
      c.on('error', () => setTimeout(again, 20)); c.once('connect', () => done(c)); };
    again();
  });
  const seen = {};
  for (let i = 0; i < requests; i++) {
    const r = session.request({ ':path': '/hold' });
    r.on('error', () => {});
    r.on('response', (h) => { seen[h['beam-error']] = (seen[h['beam-error']] ?? 0) + 1; console.log('refused ' + JSON.stringify(seen)); });
  }
})();
`;

test('connections and requests at once of one address', async (t) => {
  const box = await openBox(t);
  if (!box) return;
  const dir = tempDir(t);
  const inside = (file, ...args) => new Program(t, box.a.file, [...box.a.args, file, ...args], { env: cleanEnv(dir) });
  const holder = inside(process.execPath, '-e', "const s = require('http').createServer(() => {}); s.listen(0, '127.0.0.1', () => console.log('at ' + s.address().port))");
  const local = (await holder.wait(() => /at (\d+)\n/.exec(holder.stdout), 'its port'))[1];
  const relay = inside(beam, 'relay', '--domain', 'tunnel.test', '--listen', `127.0.0.1:0,${addressA}:0`, '--open', '--data', path.join(dir, 'relay'), '--json', '--visitor-connections', '5', '--visitor-requests', '7');
  const info = await relay.event('relay');
  // The agent comes over loopback, which is not counted; the visitor from the address.
  const agent = inside(beam, local, '--relay', info.https, '--relay-ca', info.ca, '--data', path.join(dir, 'agent'), '--json');
  const { name } = await agent.event('tunnel');
  const ports = (await run(t, box.a.file, [...box.a.args, 'ss', '-Htln', 'src', addressA])).stdout;
  const port = new RegExp(`${addressA}:(\\d+)`).exec(ports)[1];
  const guest = inside(process.execPath, '-e', visitor, addressA, port, name, '9', '10');
  await guest.wait(() => guest.stdout.includes('open 5\n'), 'five of nine connections');
  await guest.wait(() => guest.stdout.includes('refused {"BEAM-4292":3}'), 'three of ten requests refused');
});
