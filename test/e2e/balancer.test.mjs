// PROXY protocol: taken from load balancers in front of the relay, told to local services.
import assert from 'node:assert/strict';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { test } from 'node:test';
import tls from 'node:tls';
import { Program, beam, cleanEnv, run, tempDir, until } from './lib/run.mjs';
import { drain, freeRange, listen, serve, setUp, startAgent, startRelay, visitor } from './lib/setup.mjs';

const v1 = (from, to = '192.0.2.1') => Buffer.from(`PROXY TCP${from.includes(':') ? 6 : 4} ${from} ${to} 51234 443\r\n`);
function v2(from, tlv = 0) {
  const addresses = Buffer.from([...from.split('.').map(Number), 192, 0, 2, 1, 0xc8, 0x22, 1, 0xbb]);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(addresses.length + tlv);
  return Buffer.concat([Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1'), Buffer.from([0x21, 0x11]), length, addresses, Buffer.alloc(tlv, 4)]);
}

/** A connection as a load balancer makes it: from 127.0.0.2, which the relay knows, with these pieces first. */
async function dial(port, ...pieces) {
  const socket = net.connect({ port, host: '127.0.0.1', localAddress: '127.0.0.2', noDelay: true });
  socket.on('error', () => {});
  await new Promise((resolve) => socket.once('connect', resolve));
  for (const piece of pieces) {
    await new Promise((sent) => socket.write(piece, sent));
    if (pieces.length > 1) await new Promise((go) => setImmediate(go));
  }
  return socket;
}

function secure(socket, base) {
  return new Promise((resolve, reject) => {
    const c = tls.connect({ ...base, host: undefined, port: undefined, socket, ALPNProtocols: ['http/1.1'] });
    c.once('error', reject);
    c.once('secureConnect', () => resolve(c));
  });
}

async function ask(socket, name, target = '/', close = true) {
  socket.write(`GET ${target} HTTP/1.1\r\nHost: ${name}\r\nAccept: application/json\r\n${close ? 'Connection: close\r\n' : ''}\r\n`);
  const { text } = await drain(socket);
  const at = text.indexOf('\r\n\r\n');
  const body = text.slice(at + 4);
  return { status: Number(text.slice(9, 12)), json: JSON.parse(body.slice(body.indexOf('{'), body.lastIndexOf('}') + 1)) };
}

const what = (request, response) => {
  const text = JSON.stringify(request.headers);
  response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': text.length });
  response.end(text);
};

test('--proxy-from: the visitor is who the balancer says', async (t) => {
  const s = await setUp(t, what, {
    relayArgs: ['--proxy-from', '127.0.0.2', '--proxy-from', '192.0.2.0/24', '--listen-plain', '127.0.0.1:0', '--plain', 'serve', '--workers', '2', '--log-level', 'warn'],
    agentArgs: ['--deny', '203.0.113.66', '--deny', '2001:db8:bad::/48'],
  });
  const visit = async (...pieces) => ask(await secure(await dial(s.relay.port, ...pieces), s.base), s.name);

  await t.test('both versions, whole and in pieces, on both workers', async () => {
    const long = v2('203.0.113.9', 300);
    const ways = [[v1('203.0.113.9')], [v2('203.0.113.9')], [long], [v1('203.0.113.9').subarray(0, 9), v1('203.0.113.9').subarray(9)], [...long.subarray(0, 40)].map((byte) => Buffer.from([byte])).concat(long.subarray(40))];
    for (let i = 0; i < 3; i++)
      for (const way of ways) {
        const r = await visit(...way);
        assert.equal(r.status, 200);
        assert.equal(r.json['x-forwarded-for'], '203.0.113.9');
        assert.equal(r.json['x-real-ip'], '203.0.113.9');
        assert.match(r.json.forwarded, /^for=203\.0\.113\.9;proto=https/);
      }
    assert.equal((await visit(v1('2001:db8::7', '2001:db8::1'))).json['x-forwarded-for'], '2001:db8::7');
  });

  await t.test("the owner's rules go by that address", async () => {
    for (const from of [v1('203.0.113.66'), v2('203.0.113.66'), v1('2001:db8:bad::1', '::1')]) {
      const r = await visit(from);
      assert.equal(r.status, 403);
      assert.equal(r.json.error.code, 'BEAM-4031');
    }
  });

  await t.test('a header that says nothing: it is the balancer', async () => {
    const local = Buffer.from([...v2('203.0.113.9').subarray(0, 12), 0x20, 0, 0, 0]);
    for (const header of [Buffer.from('PROXY UNKNOWN\r\n'), local]) assert.equal((await visit(header)).json['x-forwarded-for'], '127.0.0.2');
  });

  await t.test('plain http too', async () => {
    const port = Number(s.relay.info.http.split(':').pop());
    const r = await ask(await dial(port, v1('203.0.113.9')), s.name);
    assert.equal(r.json['x-forwarded-for'], '203.0.113.9');
  });

  await t.test('a balancer without it, or with nonsense, is closed; from elsewhere it is nonsense', async () => {
    for (const piece of ['GET / HTTP/1.1\r\n\r\n', 'PROXY TCP4 1.2.3.4\r\n', Buffer.from([0x16, 3, 1, 2, 0, 1])]) {
      const { text } = await drain(await dial(s.relay.port, piece));
      assert.equal(text, '');
    }
    const direct = net.connect(s.relay.port, '127.0.0.1');
    direct.on('error', () => {}).write(Buffer.concat([v1('203.0.113.9'), Buffer.from(`GET / HTTP/1.1\r\nHost: ${s.name}\r\n\r\n`)]));
    const { text } = await drain(direct);
    assert.doesNotMatch(text, / 200 /);
    assert.equal((await s.visit('/')).status, 200); // ... and who comes by itself needs none
    assert.equal(JSON.parse((await s.visit('/')).text)['x-forwarded-for'], '127.0.0.1');
    assert.match(s.relay.stderr, /load balancer that says no PROXY protocol header/);
  });

  await t.test('a look at the port is no complaint', async () => {
    const before = s.relay.stderr;
    (await dial(s.relay.port)).end();
    assert.equal((await visit(v1('203.0.113.9'))).status, 200);
    assert.equal(s.relay.stderr, before);
  });
});

test('--proxy-from: limits count the visitor, TCP tunnels know it', async (t) => {
  const dir = tempDir(t);
  const relay = await startRelay(t, dir, ['--proxy-from', '127.0.0.2', '--visitor-connections', '2', '--tcp-ports', await freeRange(5)]);
  const origin = await serve(t, what);
  const agent = await startAgent(t, dir, relay, origin.port);
  const v = visitor(relay, agent);
  const held = [];
  for (let i = 0; i < 2; i++) held.push(await secure(await dial(relay.port, v1('203.0.113.9')), v.base));
  assert.equal((await drain(await dial(relay.port, v1('203.0.113.9')))).text, ''); // the third of that address
  for (let i = 1; i < 6; i++) held.push(await secure(await dial(relay.port, v1(`203.0.113.1${i}`)), v.base));
  for (const socket of held) socket.destroy();

  const heads = [];
  const local = net.createServer((socket) => socket.on('error', () => {}).on('data', (part) => (heads.push(part.toString()), socket.end('hello'))));
  await listen(t, local);
  const tcp = await startAgent(t, dir, relay, local.address().port, ['--proxy-protocol', '1'], { command: 'tcp', data: path.join(dir, 'tcp') });
  const got = await drain(await dial(Number(tcp.info.url.split(':').pop()), v2('203.0.113.9')));
  assert.equal(got.text, 'hello');
  assert.equal(heads[0], 'PROXY TCP4 203.0.113.9 192.0.2.1 51234 443\r\n');
});

for (const version of ['1', '2'])
  test(`beam http --proxy-protocol ${version}`, async (t) => {
    const connections = [];
    const server = http.createServer((request, response) => response.end(`for ${request.url}`));
    server.on('upgrade', (request, socket) => socket.end('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nupgraded'));
    const local = net.createServer((socket) => {
      let head = Buffer.alloc(0);
      const more = (part) => {
        head = Buffer.concat([head, part]);
        const end = version === '1' ? head.indexOf('\r\n') + 2 : head.length >= 16 ? 16 + head.readUInt16BE(14) : 0;
        if (end < 3 || head.length < end) return;
        socket.off('data', more).pause();
        connections.push(head.subarray(0, end));
        socket.unshift(head.subarray(end));
        server.emit('connection', socket);
        socket.resume();
      };
      socket.on('data', more).on('error', () => {});
    });
    await listen(t, local);
    const s = await setUp(t, local.address().port, { agentArgs: ['--proxy-protocol', version] });
    const r = await run(t, 'curl', [...s.curl, '--http1.1', `${s.url}/a`, `${s.url}/b`, '--data', 'x', `${s.url}/c`]);
    assert.equal(r.stdout, 'for /afor /bfor /c');
    assert.equal(connections.length, 3); // one for each: it says whose it is
    for (const c of connections)
      if (version === '1') assert.match(c.toString(), /^PROXY TCP4 127\.0\.0\.1 127\.0\.0\.1 \d+ \d+\r\n$/);
      else assert.deepEqual([...c.subarray(12, 24)], [0x21, 0x11, 0, 12, 127, 0, 0, 1, 127, 0, 0, 1]);
    const socket = await s.connect();
    socket.write(`GET /up HTTP/1.1\r\nHost: ${s.name}\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n`);
    assert.match((await drain(socket)).text, /^HTTP\/1\.1 101 [\s\S]*upgraded$/);
    await until(() => local.sockets.size === 0, 'no connection is kept');
  });

test('what cannot be is told at the start', async (t) => {
  const dir = tempDir(t);
  for (const [args, says] of [
    [['https://localhost:3000', '--proxy-protocol', '1'], /PROXY protocol header is for a service that speaks plain HTTP\/1\.1/],
    [['3000', '--upstream-protocol', 'h2c', '--proxy-protocol', '2'], /PROXY protocol header is for a service/],
    [['relay', '--domain', 'tunnel.test', '--listen', '127.0.0.1:0', '--proxy-from', '10.0.0.0/99'], /proxy-from: "10\.0\.0\.0\/99" is neither an address nor a range/],
  ]) {
    const p = new Program(t, beam, [...args, '--data', path.join(dir, 'd')], { env: cleanEnv(dir) });
    assert.notEqual((await p.exit()).code, 0);
    assert.match(p.stderr, says);
  }
});
