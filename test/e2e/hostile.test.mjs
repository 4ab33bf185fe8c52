// Peers that break the protocol, by hand-written frames: an agent against a real relay, a relay against a real agent. Each is closed with a reason, holds little
// memory, and nobody else notices. What a link of any transport does with them stream by stream is in unit/link and sim.
import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import test from 'node:test';
import * as raw from './lib/rawlink.mjs';
import { Program, build, cleanEnv, mib, sanitized, tempDir, until } from './lib/run.mjs';
import { listen, serve, setUp, startAgent, visit } from './lib/setup.mjs';

const { control, frame, u32 } = raw;
const PROTOCOL = 'BEAM-1010';
const UNTRUSTED = 'BEAM-1012';
const LIMIT = 'BEAM-1017';
const TRUNCATED = 'BEAM-1021';
const TOO_LARGE = 'BEAM-1022';
const UNSUPPORTED = 'BEAM-1023';

/** The relay's events say it in words. */
const words = {
  [PROTOCOL]: /broke the protocol|malformed/,
  [UNTRUSTED]: /not made for this connection/,
  [LIMIT]: /a limit was reached/,
  [TRUNCATED]: /ended too early|aborted the connection/, // WebSocket tells nobody
  [TOO_LARGE]: /too large/,
  [UNSUPPORTED]: /not supported|speaks beam/,
  'BEAM-1005': /^closed$/,
  'BEAM-1006': /aborted/,
  'BEAM-1009': /no HELLO in time/,
};

/** What a whole process may have grown to in the end: 15 MiB of its own, and the pool of 32 MiB a third larger as it lies in chains. */
const ceiling = 72 * 1048576;

const many = (n, bytes) => Buffer.concat(Array.from({ length: n }, () => bytes));
const byte = (n) => Buffer.from([n]);

/** As fast as the kernel takes it, until it is all there or the other side has had enough. */
async function pour(peer, bytes, times) {
  for (let i = 0; i < times && !peer.over; i++) await peer.write(bytes);
}

/* --- an agent that misbehaves --- */

// Before HELLO.
const strangers = [
  ['settings without extended CONNECT', UNSUPPORTED, { own: { 4: 65536 } }],
  ['BIND before HELLO', PROTOCOL, (p) => p.say(control('bind', { 1: 1 }))],
  ['WELCOME, which is the relay\'s to say', PROTOCOL, (p) => p.say(control('welcome', { 1: 1 }))],
  ['HELLO with a key that is too short', PROTOCOL, (p) => p.say(control('hello', { ...raw.hello(p), 3: p.key.public.subarray(1) }))],
  ['HELLO whose fields are longer than they may be', PROTOCOL, (p) => p.say(control('hello', { ...raw.hello(p), 6: 'x'.repeat(2000) }))],
  ['HELLO made for another connection', UNTRUSTED, async (p, s) => {
    const other = await raw.hostileAgent(s.relay, { greet: false });
    await p.say(control('hello', raw.hello(p, { key: p.key, exporter: other.exporter })));
    p.closed.then(() => other.socket.destroy());
  }],
  ['HELLO of a version that nobody speaks', UNSUPPORTED, (p) => p.say(control('hello', { ...hello9(p) }))],
];

function hello9(p) {
  const parts = { 1: 9, 2: 9, 3: p.key.public };
  const piece = (bytes) => [u32(bytes.length), bytes];
  const text = Buffer.concat([Buffer.from('beam/1 agent hello'), Buffer.from('agent'), p.exporter, p.relayId, p.key.public, u32(9), u32(9), Buffer.alloc(16)].flatMap(piece));
  return { ...parts, 4: crypto.sign(null, text, p.key.secret) };
}

// Of one that was let in. Without a reason the link must live on.
const insiders = [
  ['HELLO a second time', PROTOCOL, (p) => p.say(control('hello', raw.hello(p)))],
  ['a control message of an unknown kind, critical', UNSUPPORTED, (p) => p.say(control(99, {}, { critical: true }))],
  ['a control message of an unknown kind', undefined, (p) => p.say(control(99, { 1: 'from later' }))],
  ['a control message that is no protocol buffer', PROTOCOL, (p) => p.say(raw.delimited(Buffer.alloc(20, 0xff)))],
  ['a length of four bytes', TOO_LARGE, (p) => p.say(Buffer.from([0xff, 0xff, 0xff, 0x01]))],
  ['a length with needless bytes', PROTOCOL, (p) => p.say(Buffer.from([0x82, 0x80, 0x00, 0x48, 0x00]))],
  ['a message larger than control messages may be', TOO_LARGE, (p) => p.say(raw.delimited(Buffer.alloc(100), 16_385))],
  ['control messages faster than a hundred a second', LIMIT, (p) => p.say(many(250, control('ping', { 1: 1 })))],
  ['more control bytes than the window', PROTOCOL, (p) => p.write(many(5, frame(raw.DATA, 0, 1, Buffer.concat([raw.varint(16_000), Buffer.alloc(16_000)]))))],
  ['unknown frames, ten thousand', undefined, (p) => p.write(many(10_000, frame(0xbe, 0xff, 1, byte(7))))],
  ['a frame larger than the relay takes', PROTOCOL, (p) => p.write(frame(0xbe, 0, 0, Buffer.alloc(100), 0xffffff))],
  ['a PING whose length lies', PROTOCOL, (p) => p.write(frame(raw.PING, 0, 0, Buffer.alloc(9)))],
  ['a SETTINGS whose length lies', PROTOCOL, (p) => p.write(frame(raw.SETTINGS, 0, 0, Buffer.alloc(5)))],
  ['opening a stream', PROTOCOL, (p) => p.write(frame(raw.HEADERS, raw.END_HEADERS, 2, raw.connectTo('beam-stream')))],
  ['pushing a stream', PROTOCOL, (p) => p.write(frame(raw.PUSH_PROMISE, raw.END_HEADERS, 1, Buffer.concat([u32(2), raw.connectTo('beam-stream')])))],
  ['DATA on a stream that was never opened', PROTOCOL, (p) => p.write(frame(raw.DATA, 0, 4001, byte(0)))],
  ['a reset of a stream that was never opened', PROTOCOL, (p) => p.write(frame(raw.RST_STREAM, 0, 4001, u32(8)))],
  ['more credit than there is', PROTOCOL, (p) => p.write(many(2, frame(raw.WINDOW_UPDATE, 0, 0, u32(0x7fffffff))))],
  ['a header block of 10,000 pieces', undefined, (p) => flood(p, frame(raw.HEADERS, 0, 1, byte(0x88)), many(100, frame(raw.CONTINUATION, 0, 1, Buffer.alloc(100, 0x88))), 100), true],
  ['a header block that another frame interrupts', PROTOCOL, (p) => p.write(Buffer.concat([frame(raw.HEADERS, 0, 1, byte(0x88)), frame(raw.PING, 0, 0, Buffer.alloc(8))]))],
  ['a header table that grows without end', PROTOCOL, (p) => p.write(frame(raw.HEADERS, raw.END_HEADERS, 1, Buffer.from([0x3f, 0xe1, 0xff, 0xff, 0xff, 0x0f])))],
  ['PINGs whose answers nobody reads, 100,000', LIMIT, (p) => deaf(p, frame(raw.PING, 0, 0, Buffer.alloc(8)))],
  ['SETTINGS whose answers nobody reads, 100,000', LIMIT, (p) => deaf(p, raw.settings({ 4: 65536 }))],
  ['empty DATA, 100,000', undefined, (p) => pour(p, many(1000, frame(raw.DATA, 0, 1)), 100)],
  ['a reset of the control stream', 'BEAM-1006', (p) => p.write(frame(raw.RST_STREAM, 0, 1, u32(8)))],
  ['the end of the control stream', 'BEAM-1005', (p) => p.write(frame(raw.DATA, raw.END_STREAM, 1))],
  ['a connection that ends in the middle', TRUNCATED, (p) => p.cut()],
];

async function flood(p, first, more, times) {
  await p.write(first);
  await pour(p, more, times);
}

/** Says it so often, and hears nothing of the answers. */
async function deaf(p, one) {
  p.socket.pause();
  p.answers = false;
  await pour(p, many(1000, one), 100);
  p.socket.resume();
}

for (const ws of [false, true]) test(`an agent that breaks the protocol over ${ws ? 'WebSocket' : 'HTTP/2'}`, async (t) => {
  const s = await setUp(t, (_, response) => response.end('fine'), { relayArgs: ['--open', '--log-level', 'debug'] });
  const fine = async () => assert.equal((await s.visit('/')).text, 'fine');
  await fine();
  s.relay.resetPeak();
  const idle = s.relay.fds();

  async function closes(peer, reason, seen) {
    await peer.wait(() => false, 'its end');
    await s.relay.wait(() => s.relay.events.slice(seen).find((e) => (e.event === 'refused' || e.event === 'session_down') && words[reason].test(e.reason)), `the reason ${reason}`);
  }

  for (const [what, reason, how] of strangers)
    await t.test(`${what}: ${reason}`, async () => {
      const seen = s.relay.events.length;
      if (typeof how === 'object') {
        await assert.rejects(raw.hostileAgent(s.relay, { ...how, ws }), /not let in/);
        await s.relay.wait(() => s.relay.events.slice(seen).find((e) => e.event === 'refused' && words[reason].test(e.reason)), 'the reason');
      } else {
        const peer = await raw.hostileAgent(s.relay, { greet: false, ws });
        await how(peer, s);
        await closes(peer, reason, seen);
      }
    });

  await t.test('silence instead of HELLO: closed after five seconds', async () => {
    const seen = s.relay.events.length;
    const peers = await Promise.all([1, 2, 3].map(() => raw.hostileAgent(s.relay, { greet: false, ws })));
    await Promise.all(peers.map((peer) => closes(peer, 'BEAM-1009', seen)));
  });

  for (const [what, reason, how, either] of insiders)
    await t.test(`${what}: ${reason ?? (either ? 'closed' : 'ignored')}`, async (t) => {
      const seen = s.relay.events.length;
      const peer = await raw.hostileAgent(s.relay, { ws });
      await how(peer);
      if (reason) await closes(peer, reason, seen);
      else if (!either) assert.ok(await peer.lives(), s.relay.stderr);
      else t.diagnostic((await peer.wait(() => false, 'its end'), (await s.relay.event('session_down')).reason));
      peer.cut();
      await s.relay.wait(() => s.relay.events.filter((e) => e.event === 'session_up').length - s.relay.events.filter((e) => e.event === 'session_down').length === 1, 'nobody but the honest agent');
    });

  await fine();
  assert.equal(s.agent.events.filter((e) => e.event === 'state').length, 0, 'the honest agent noticed');
  await until(() => s.relay.fds() <= idle + 2, 'descriptors back');
  t.diagnostic(`the relay's peak: ${mib(s.relay.peakRss())}`);
  if (!sanitized) assert.ok(s.relay.peakRss() < ceiling);
  await s.agent.stop();
  await s.relay.stop();
});

/** A tunnel of a hostile agent's own. */
async function bound(s, parts) {
  const peer = await raw.hostileAgent(s.relay);
  await peer.say(control('bind', { 1: 1, ...parts }));
  const { 2: name } = await peer.control('bound');
  const base = { ...s.base, servername: name.toString() };
  return { peer, visit: (target, options) => visit(base, target, options) };
}

test('an agent whose tunnels misbehave', async (t) => {
  const s = await setUp(t, (_, response) => response.end('fine'), { relayArgs: ['--open', '--log-level', 'debug'] });
  const fine = async () => assert.equal((await s.visit('/')).text, 'fine');
  await fine();

  const said = (type, payload, length = payload.length) => Buffer.concat([byte(type), u32(length).subarray(1), payload]);
  const responseHead = (status, extra = Buffer.alloc(0)) => Buffer.concat([byte(1), u32(status).subarray(2), u32(2).subarray(2), Buffer.from('OK'), extra]);
  const answers = [
    ['a frame of no known type', said(0x7f, byte(0))],
    ['a frame longer than frames may be', said(1, Buffer.alloc(10), 0xffffff)],
    ['a head whose text is longer than the head', said(1, responseHead(200, Buffer.from([0xff, 0xff])))],
    ['a head of a request', said(1, Buffer.concat([byte(0), Buffer.alloc(8)]))],
    ['a head with a line break in it', said(1, responseHead(200, Buffer.concat([u32(1).subarray(2), Buffer.from('x'), u32(4).subarray(2), Buffer.from('a\r\nb')])))],
    ['a body before its head', said(3, Buffer.from('body'))],
    ['an end before its head', said(5, Buffer.alloc(0))],
    ['a status that is none', said(1, responseHead(7))],
  ];
  for (const [what, bytes] of answers)
    await t.test(`${what}: the visitor is told, and the link stays`, async () => {
      const { peer, visit } = await bound(s);
      const asked = visit('/');
      const { id } = await peer.frame((f) => f.type === raw.HEADERS && f.id > 1, 'a stream');
      await peer.write(Buffer.concat([frame(raw.HEADERS, raw.END_HEADERS, id, byte(0x88)), frame(raw.DATA, 0, id, bytes)]));
      const told = await asked;
      assert.equal(told.status, 500);
      assert.match(told.text, /BEAM-5001/);
      assert.ok(await peer.lives());
      peer.socket.destroy();
    });

  await t.test('DATA beyond a stream\'s credit: that stream alone', async () => {
    const { peer, visit } = await bound(s);
    const asked = visit('/').then((r) => r.status, (error) => error.message);
    const { id } = await peer.frame((f) => f.type === raw.HEADERS && f.id > 1, 'a stream');
    await peer.write(Buffer.concat([frame(raw.HEADERS, raw.END_HEADERS, id, byte(0x88)), frame(raw.DATA, 0, id, said(1, responseHead(200))), many(300, frame(raw.DATA, 0, id, said(3, Buffer.alloc(16_000))))]));
    assert.match(await asked, /cut|aborted|hang up/);
    assert.ok(await peer.lives());
    peer.socket.destroy();
    await fine();
  });

  await t.test('DATA on a stream that is closed', async () => {
    const { peer, visit } = await bound(s);
    const asked = visit('/');
    const { id } = await peer.frame((f) => f.type === raw.HEADERS && f.id > 1, 'a stream');
    await peer.write(frame(raw.RST_STREAM, 0, id, u32(8)));
    assert.equal((await asked).status, 502);
    await peer.write(many(1000, frame(raw.DATA, 0, id, Buffer.alloc(1000))));
    peer.socket.destroy();
    await fine();
  });

  await t.test('binds without end: 32 tunnels a session, the others are told', async (t) => {
    const peer = await raw.hostileAgent(s.relay);
    await peer.say(Buffer.concat(Array.from({ length: 90 }, (_, i) => control('bind', { 1: i + 1, 7: 3000 }))));
    const count = (kind) => peer.controls.filter((m) => m[raw.kinds[kind]] !== undefined).length;
    await peer.wait(() => count('bound') + count('error') === 90, 'all answered');
    t.diagnostic(`${count('bound')} bound, ${count('error')} refused`);
    assert.ok(count('bound') <= 32);
    assert.ok(await peer.lives());
    peer.socket.destroy();
  });

  await t.test('connections without end to a tunnel of its own: as many streams as a link may have', async (t) => {
    const { peer } = await bound(s, { 2: 4, 3: 'own' });
    await peer.say(Buffer.concat(Array.from({ length: 90 }, (_, i) => control('connect', { 1: i * 4_000_000, 2: 'own', 3: 0xffffffff }))));
    assert.ok(await peer.lives());
    const opened = peer.frames.filter((f) => f.type === raw.HEADERS && f.id > 1).length;
    t.diagnostic(`${opened} streams`);
    assert.ok(opened <= 4096);
    peer.socket.destroy();
    await fine();
  });

  await fine();
  await s.agent.stop();
  await s.relay.stop();
});

test('the relay counts links by why they ended', async (t) => {
  const dir = tempDir(t);
  const program = new Program(t, path.join(build, 'examples/embed_relay'), ['tunnel.test', '127.0.0.1:0', `${dir}/relay`], { env: cleanEnv(dir), stdin: 'pipe' });
  await program.wait(() => program.stdout.includes('\n'), 'its address');
  const [address, ca] = program.stdout.trim().split(' ');
  const id = crypto.createHash('sha256').update(new crypto.X509Certificate(fs.readFileSync(ca)).raw).digest('hex');
  const relay = { port: Number(address.split(':').pop()), info: { ca_fingerprint: `sha256:${id}` } };
  for (const [what, times] of [['HELLO a second time', 3], ['control messages faster than a hundred a second', 2], ['a control message of an unknown kind, critical', 1], ['the end of the control stream', 4]])
    for (let i = 0; i < times; i++) {
      const peer = await raw.hostileAgent(relay);
      await insiders.find((c) => c[0] === what)[2](peer);
      await peer.wait(() => false, 'its end');
    }
  program.process.stdin.end();
  await program.exit();
  const count = (reason) => Number(new RegExp(`^beam_ends_total\\{kind="link",reason="${reason}"\\} (\\d+)$`, 'm').exec(program.stdout)?.[1]);
  assert.deepEqual([PROTOCOL, LIMIT, UNSUPPORTED, 'BEAM-1005'].map(count), [3, 2, 1, 4], program.stdout);
});

/* --- a relay that misbehaves --- */

// Each on a connection of its own; the agent comes back after each that it closes.
const relays = [
  ['WELCOME a second time', PROTOCOL, (p) => p.say(control('welcome', raw.welcome(p, p.hello)))],
  ['HELLO, which is the agent\'s to say', PROTOCOL, (p) => p.say(control('hello', { 1: 1, 2: 1, 3: p.key.public, 4: Buffer.alloc(64) }))],
  ['control messages faster than a hundred a second', LIMIT, (p) => p.say(many(250, control('quota', { 1: 1 })))],
  ['a control message that is no protocol buffer', PROTOCOL, (p) => p.say(raw.delimited(Buffer.alloc(20, 0xff)))],
  ['a length of four bytes', TOO_LARGE, (p) => p.say(Buffer.from([0xff, 0xff, 0xff, 0x01]))],
  ['BOUND for what was never asked', undefined, (p) => p.say(Buffer.concat([7, 0, 0xffffffff].map((id) => control('bound', { 1: id, 2: 'other.test', 3: 'https://other.test' }))))],
  ['UNBIND of what was never bound', undefined, (p) => p.say(control('unbind', { 1: 77, 2: 'go away' }))],
  ['an ERROR for what was never asked', undefined, (p) => p.say(control('error', { 1: 99, 2: 5, 3: 'no\x1b[2J' }))],
  ['certificates and quotas that mean nothing', undefined, (p) => p.say(Buffer.concat([control('cert', { 2: Buffer.alloc(6000, 1) }), control('quota', { 1: 0xffffffff, 2: 2n ** 64n - 1n })]))],
  ['a second control stream', PROTOCOL, (p) => p.write(frame(raw.HEADERS, raw.END_HEADERS, 3, raw.connectTo('beam-control')))],
  ['DATA on a stream that was never opened', PROTOCOL, (p) => p.write(frame(raw.DATA, 0, 4001, byte(0)))],
  ['unknown frames, ten thousand', undefined, (p) => p.write(many(10_000, frame(0xbe, 0xff, 1, byte(7))))],
  ['a frame larger than the agent takes', PROTOCOL, (p) => p.write(frame(0xbe, 0, 0, Buffer.alloc(100), 0xffffff))],
  ['more credit than there is', PROTOCOL, (p) => p.write(many(2, frame(raw.WINDOW_UPDATE, 0, 0, u32(0x7fffffff))))],
  ['PINGs whose answers nobody reads, 100,000', LIMIT, (p) => deaf(p, frame(raw.PING, 0, 0, Buffer.alloc(8)))],
  ['streams that are reset at once, 60,000', LIMIT, (p) => p.write(rapidResets())],
  ['5,000 streams and not a word on them', undefined, async (p, s) => {
    for (let i = 0; i < 5000; i++) raw.open(p);
    const over = await p.wait(() => p.frames.filter((f) => f.type === raw.RST_STREAM).length >= 904 || p.over, 'those beyond 4,096 are refused');
    assert.ok(over);
  }, true],
  ['a plain request', undefined, async (p) => {
    await p.write(frame(raw.HEADERS, raw.END_HEADERS | raw.END_STREAM, 3, raw.fields({ ':method': 'GET', ':scheme': 'https', ':authority': 'x', ':path': '/' })));
    assert.equal((await p.frame((f) => f.type === raw.RST_STREAM && f.id === 3, 'refused')).payload.readUInt32BE(0), 1);
  }],
];

/** Made before it is sent: the limit is 10,000 within a second. */
function rapidResets() {
  const opening = raw.connectTo('beam-stream');
  return Buffer.concat(Array.from({ length: 60_000 }, (_, i) => [frame(raw.HEADERS, raw.END_HEADERS, 3 + 2 * i, opening), frame(raw.RST_STREAM, 0, 3 + 2 * i, u32(8))]).flat());
}

// Streams to what was not bound, and openings that lie: reset, with the code; the service at the agent hears of none.
const openings = [
  ['for a name that was never bound', 7, () => raw.streamOpen('http', 'other.hostile.test')],
  ['without a name', 7, () => raw.streamOpen('http', '')],
  ['for TCP, of an HTTP tunnel', 7, (p) => raw.streamOpen('tcp', p.name)],
  ['for TLS, of an HTTP tunnel', 7, (p) => raw.streamOpen('tls', p.name)],
  ['for UDP, of an HTTP tunnel', 7, (p) => raw.streamOpen('udp', p.name)],
  ['for a private tunnel nobody asked for', 7, (p) => raw.streamOpen('peer', p.name, { 9: 1 })],
  ['of an unknown kind', 7, (p) => raw.streamOpen(77, p.name)],
  ['longer than it may be', 0xbea016, () => raw.delimited(Buffer.alloc(100), 4097)],
  ['with a length of four bytes', 0xbea016, () => Buffer.from([0x80, 0x80, 0x80, 0x01])],
  ['that is no protocol buffer', 1, () => raw.delimited(Buffer.alloc(10, 0xff))],
  ['cut short by the end of the stream', undefined, (p) => raw.streamOpen('http', p.name).subarray(0, 10), raw.END_STREAM],
  ['with a frame of no known type behind it', undefined, (p) => Buffer.concat([raw.streamOpen('http', p.name), Buffer.from([0x7f, 0, 0, 1, 0])])],
  ['with a head that lies about its length', undefined, (p) => Buffer.concat([raw.streamOpen('http', p.name), Buffer.from([1, 0, 0, 5, 0, 0xff, 0xff, 65, 65])])],
];

test('a relay that breaks the protocol', async (t) => {
  const dir = tempDir(t);
  let reached = 0;
  const origin = await serve(t, (_, response) => (reached++, response.end('reached')));
  origin.server.on('connection', () => reached++);
  const evil = await raw.hostileRelay(t, dir);
  const args = ['--transport', 'h2', '--log-level', 'debug'];
  const agent = await startAgent(t, dir, evil, origin.port, args, { wait: false });
  let peer = await evil.next();
  await agent.event('tunnel');
  agent.resetPeak();
  const alive = async () => {
    if (peer.over) peer = await evil.next(); // the case before failed
  };

  for (const [what, reason, how, either] of relays)
    await t.test(`${what}: ${reason ?? (either ? 'bounded' : 'ignored')}`, async () => {
      await alive();
      const seen = agent.events.length;
      await how(peer);
      if (!reason && !either) return assert.ok(await peer.lives(), agent.stderr);
      if (reason) {
        const state = await agent.wait(() => agent.events.slice(seen).find((e) => e.event === 'state' && e.state === 'reconnecting'), 'closed');
        assert.equal(state.code, reason, state.what);
      }
      peer.socket.destroy();
      peer = await evil.next();
      return agent.wait(() => agent.events.slice(seen).find((e) => e.event === 'state' && e.state === 'active'), 'back');
    });

  for (const [what, code, bytes, flags] of openings)
    await t.test(`a stream ${what}: reset, and nothing is dialled`, async () => {
      await alive();
      const id = raw.open(peer, bytes(peer), flags);
      const reset = await peer.frame((f) => f.type === raw.RST_STREAM && f.id === id, 'the reset');
      if (code !== undefined) assert.equal(reset.payload.readUInt32BE(0), code);
      assert.ok(await peer.lives());
      assert.equal(reached, 0);
    });

  await t.test('and what was bound is served all the same', async () => {
    await alive();
    const head = Buffer.concat([byte(0), ...['GET', 'https', peer.name, '/'].flatMap((text) => [u32(text.length).subarray(2), Buffer.from(text)])]);
    const id = raw.open(peer, Buffer.concat([raw.streamOpen('http', peer.name), byte(1), u32(head.length).subarray(1), head, Buffer.from([5, 0, 0, 0])]));
    await peer.frame((f) => f.type === raw.DATA && f.id === id && f.payload.includes('reached'), 'the answer');
  });

  await t.test('DRAIN without end: one other link, not ninety', async (t) => {
    await alive();
    const before = evil.connections;
    await peer.say(many(90, control('drain', { 1: 0 })));
    const next = await evil.next();
    assert.ok(await next.lives());
    // A moment that never comes moves nobody by itself.
    await next.say(many(90, control('drain', { 1: 0xffffffff })));
    assert.ok(await next.lives());
    t.diagnostic(`${evil.connections - before} new links`);
    assert.ok(evil.connections - before <= 2);
  });

  t.diagnostic(`the agent's peak: ${mib(agent.peakRss())}`);
  if (!sanitized) assert.ok(agent.peakRss() < ceiling);
  await agent.stop();
});

test('a relay in front of an agent that trusts its certificate, but not a proof made for another connection', async (t) => {
  const dir = tempDir(t);
  const evil = await raw.hostileRelay(t, dir);
  const agent = await startAgent(t, dir, evil, 1, ['--transport', 'h2'], { wait: false });
  const peer = await evil.next('hello');
  await peer.say(control('welcome', raw.welcome(peer, peer.hello, { exporter: Buffer.alloc(32) })));
  assert.equal((await agent.exit()).code, 4);
  assert.equal(agent.events.at(-1).code, UNTRUSTED);
});

/* --- peers that never read: noticed by the silence, eighteen seconds later --- */

async function deafAgent(t) {
  const s = await setUp(t, (_, response) => response.end('fine'), { relayArgs: ['--open'] });
  const fine = async () => assert.equal((await s.visit('/')).text, 'fine');
  const { peer, visit } = await bound(s);
  await fine();
  s.relay.resetPeak();
  peer.socket.pause();
  peer.answers = false;
  const paused = performance.now();
  const body = Buffer.alloc(4 * 1048576);
  const visitors = Array.from({ length: 40 }, () => visit('/', { method: 'POST', body }).then((r) => r.status, () => 0));
  const begun = performance.now();
  for (let i = 0; i < 20; i++) await fine();
  t.diagnostic(`twenty requests beside it: ${(performance.now() - begun).toFixed(0)} ms`);
  assert.deepEqual([...new Set(await Promise.all(visitors))].filter((status) => ![0, 502, 503].includes(status)), []);
  const took = performance.now() - paused;
  t.diagnostic(`given up after ${(took / 1000).toFixed(1)} s; the relay's peak: ${mib(s.relay.peakRss())}`);
  assert.ok((await s.relay.event('session_down', (e) => /no answer in time/.test(e.reason))), 'closed for its silence'); // at which millisecond: sim/test_link.c
  if (!sanitized) assert.ok(s.relay.peakRss() < ceiling);
  peer.socket.destroy();
  await fine();
  await s.agent.stop();
  await s.relay.stop();
}

async function deafRelay(t) {
  const dir = tempDir(t);
  const part = Buffer.alloc(65536);
  const origin = http.createServer((_, response) => {
    const more = () => {
      while (!response.destroyed && response.write(part));
    };
    response.on('drain', more).on('error', () => {});
    more();
  });
  const port = await listen(t, origin);
  const evil = await raw.hostileRelay(t, dir);
  const agent = await startAgent(t, dir, evil, port, ['--transport', 'h2'], { wait: false });
  const peer = await evil.next();
  await agent.event('tunnel');
  agent.resetPeak();
  peer.socket.pause();
  peer.answers = false;
  const head = Buffer.concat([byte(0), ...['GET', 'https', peer.name, '/'].flatMap((text) => [u32(text.length).subarray(2), Buffer.from(text)])]);
  // Credit without end, so that nothing but the agent's own limits holds it back.
  await peer.write(frame(raw.WINDOW_UPDATE, 0, 0, u32(0x3fff0000)));
  for (let i = 0; i < 200; i++) {
    const id = raw.open(peer, Buffer.concat([raw.streamOpen('http', peer.name), byte(1), u32(head.length).subarray(1), head, Buffer.from([5, 0, 0, 0])]));
    await peer.write(frame(raw.WINDOW_UPDATE, 0, id, u32(0x7ffe0000)));
  }
  const lost = await agent.event('state', (e) => e.state === 'reconnecting', 60_000);
  assert.equal(lost.code, 'BEAM-1009');
  t.diagnostic(`given up with "${lost.what}"; the agent's peak: ${mib(agent.peakRss())}`);
  if (!sanitized) assert.ok(agent.peakRss() < ceiling);
  await agent.stop();
}

test('peers that never read', { concurrency: true }, (t) =>
  Promise.all([
    t.test('an agent: its visitors wait, others do not, and it is dead in twenty seconds', deafAgent),
    t.test('a relay: the agent stays small, and looks for it again', deafRelay),
  ]));
