// Peers that break beam/1 over QUIC, through test/bench/quic_talk.c: what QUIC itself forbids its library refuses (fuzz_quic.c); this is what beam/1 forbids on top.
import assert from 'node:assert/strict';
import test from 'node:test';
import * as raw from './lib/rawlink.mjs';
import * as quic from './lib/rawquic.mjs';
import { mib, sanitized, tempDir, until } from './lib/run.mjs';
import { serve, setUp, startAgent, visit } from './lib/setup.mjs';

const { control, u32 } = raw;
const skip = quic.available ? false : 'this build has no QUIC';
const ceiling = 72 * 1048576; // as in hostile.test.mjs
const many = (n, bytes) => Buffer.concat(Array.from({ length: n }, () => bytes));
const byte = (n) => Buffer.from([n]);

const agents = [
  ['BIND before HELLO', /broke the protocol/, (p) => p.say(control('bind', { 1: 1 })), true],
  ['HELLO made for another connection', /not made for this connection/, (p) => p.say(control('hello', raw.hello(p, { key: p.key, exporter: Buffer.alloc(32) }))), true],
  ['half a HELLO, and its end', /no HELLO in time/, (p) => (p.say(control('hello', raw.hello(p)).subarray(0, 20)), p.command('fin', p.controlId)), true],
  ['HELLO a second time', /broke the protocol/, (p) => p.say(control('hello', raw.hello(p)))],
  ['a control message of an unknown kind, critical', /not supported/, (p) => p.say(control(99, {}, { critical: true }))],
  ['a control message of an unknown kind', null, (p) => p.say(control(99, { 1: 'from later' }))],
  ['a control message that is no protocol buffer', /malformed|broke the protocol/, (p) => p.say(raw.delimited(Buffer.alloc(20, 0xff)))],
  ['a length of four bytes', /too large/, (p) => p.say(Buffer.from([0xff, 0xff, 0xff, 0x01]))],
  ['a message larger than control messages may be', /too large/, (p) => p.say(raw.delimited(Buffer.alloc(100), 16_385))],
  ['control messages faster than a hundred a second', /a limit was reached/, (p) => p.say(many(250, control('ping', { 1: 1 })))],
  ['"I drain", 100,000 times', null, (p) => p.write(p.controlId, Buffer.alloc(100), 1000)],
  ['PINGs whose answers nobody reads', /a limit was reached|no answer/, (p) => (p.command('pause', p.controlId), p.write(p.controlId, control('ping', { 1: 1 }), 20_000))],
  ['datagrams of streams that never were, 50,000', null, (p) => { for (const id of ['00', '3f', '7fff', 'ffffffffffffffff']) p.command('datagram', `${id}${'ab'.repeat(100)}`, 12_500); }],
  ['empty datagrams', null, (p) => p.command('datagram', 'c0', 1000)],
  ['the end of the control stream', /^closed$/, (p) => p.command('fin', p.controlId)],
  ['a reset of the control stream', /^closed$|aborted/, (p) => p.command('reset', p.controlId, 6)],
];

test('over QUIC, an agent that breaks the protocol', { skip }, async (t) => {
  const s = await setUp(t, (_, response) => response.end('fine'), { relayArgs: ['--open', '--log-level', 'debug'] });
  const fine = async () => assert.equal((await s.visit('/')).text, 'fine');
  await fine();
  s.relay.resetPeak();
  for (const [what, reason, how, stranger] of agents)
    await t.test(`${what}: ${reason ? 'closed' : 'ignored'}`, async (t) => {
      const seen = s.relay.events.length;
      const peer = await quic.hostileAgent(t, s.relay, { greet: !stranger });
      how(peer);
      if (!reason) return assert.ok(await peer.lives(), s.relay.stderr);
      const why = await s.relay.wait(() => s.relay.events.slice(seen).find((e) => e.event === 'refused' || e.event === 'session_down'), 'its end');
      assert.match(why.reason, reason);
      await peer.wait(() => false, 'its end');
    });
  await t.test('a dozen connections that say nothing: closed after five seconds', async (t) => {
    const peers = await Promise.all(Array.from({ length: 12 }, () => quic.hostileAgent(t, s.relay, { greet: false })));
    await Promise.all(peers.map((peer) => peer.wait(() => false, 'its end')));
  });
  await fine();
  assert.equal(s.agent.events.filter((e) => e.event === 'state').length, 0, 'the honest agent noticed');
  t.diagnostic(`the relay's peak: ${mib(s.relay.peakRss())}`);
  if (!sanitized) assert.ok(s.relay.peakRss() < ceiling);
  await s.agent.stop();
  await s.relay.stop();
});

test('over QUIC, an agent whose tunnels misbehave', { skip }, async (t) => {
  const s = await setUp(t, (_, response) => response.end('fine'), { relayArgs: ['--open'] });
  const bound = async (t) => {
    const peer = await quic.hostileAgent(t, s.relay);
    peer.say(control('bind', { 1: 1 }));
    const { 2: name } = await peer.control('bound');
    const base = { ...s.base, servername: name.toString() };
    return { peer, visit: (target, options) => visit(base, target, options) };
  };
  const answers = [
    ['a frame of no known type', (p, id) => p.write(id, Buffer.concat([byte(0x7f), u32(1).subarray(1), byte(0)])), 500],
    ['a frame longer than frames may be', (p, id) => p.write(id, Buffer.concat([byte(1), Buffer.alloc(3, 0xff), Buffer.alloc(10)])), 500],
    ['a body before its head', (p, id) => p.write(id, Buffer.concat([byte(3), u32(4).subarray(1), Buffer.from('body')])), 500],
    ['an end without an answer', (p, id) => p.command('fin', id), 502],
    ['a reset', (p, id) => p.command('reset', id, 6), 502],
  ];
  for (const [what, how, status] of answers)
    await t.test(`${what}: the visitor is told, and the link stays`, async (t) => {
      const { peer, visit } = await bound(t);
      const asked = visit('/');
      how(peer, (await peer.stream()).id);
      const told = await asked;
      assert.ok(told.status === status || told.status === 500, `${told.status} ${told.text}`);
      assert.ok(await peer.lives());
    });
  await t.test('it never reads what visitors send: they wait, nobody else does, and little is kept', async (t) => {
    const { peer, visit } = await bound(t);
    s.relay.resetPeak();
    const visitors = Array.from({ length: 20 }, () => visit('/', { method: 'POST', body: Buffer.alloc(4 * 1048576) }).then((r) => r.status, () => 0));
    for (let n = 0; n < 20; n++) peer.command('pause', (await peer.stream(n)).id);
    for (let i = 0; i < 20; i++) assert.equal((await s.visit('/')).text, 'fine');
    assert.ok(await peer.lives());
    t.diagnostic(`the relay's peak: ${mib(s.relay.peakRss())}`);
    if (!sanitized) assert.ok(s.relay.peakRss() < ceiling);
    peer.command('close');
    for (const status of await Promise.all(visitors)) assert.ok([0, 502, 503].includes(status), String(status));
  });
  await s.agent.stop();
  await s.relay.stop();
});

const openings = [
  ['for a name that was never bound', () => raw.streamOpen('http', 'other.hostile.test')],
  ['without a name', () => raw.streamOpen('http', '')],
  ['for TCP, of an HTTP tunnel', (p) => raw.streamOpen('tcp', p.name)],
  ['for UDP, of an HTTP tunnel', (p) => raw.streamOpen('udp', p.name)],
  ['of an unknown kind', (p) => raw.streamOpen(77, p.name)],
  ['longer than it may be', () => raw.delimited(Buffer.alloc(100), 4097)],
  ['that is no protocol buffer', () => raw.delimited(Buffer.alloc(10, 0xff))],
  ['with a frame of no known type behind it', (p) => Buffer.concat([raw.streamOpen('http', p.name), Buffer.from([0x7f, 0, 0, 1, 0])])],
  ['with a head that lies about its length', (p) => Buffer.concat([raw.streamOpen('http', p.name), Buffer.from([1, 0, 0, 5, 0, 0xff, 0xff, 65, 65])])],
];

const relays = [
  ['WELCOME a second time', 'BEAM-1010', (p) => p.say(control('welcome', raw.welcome(p, p.hello)))],
  ['control messages faster than a hundred a second', 'BEAM-1017', (p) => p.say(many(250, control('quota', { 1: 1 })))],
  ['a length of four bytes', 'BEAM-1022', (p) => p.say(Buffer.from([0xff, 0xff, 0xff, 0x01]))],
  ['BOUND for what was never asked', null, (p) => p.say(control('bound', { 1: 7, 2: 'other.test', 3: 'https://other.test' }))],
  ['datagrams of streams that never were, 50,000', null, (p) => p.command('datagram', `3f${'ab'.repeat(100)}`, 50_000)],
];

test('over QUIC, a relay that breaks the protocol', { skip }, async (t) => {
  const dir = tempDir(t);
  let reached = 0;
  const origin = await serve(t, (_, response) => (reached++, response.end('reached')));
  origin.server.on('connection', () => reached++);
  const evil = await quic.hostileRelay(t, await raw.hostileRelay(t, dir));
  const agent = await startAgent(t, dir, evil, origin.port, ['--transport', 'quic', '--log-level', 'debug'], { wait: false });
  let peer = await evil.next();
  await agent.event('tunnel');
  agent.resetPeak();
  for (const [what, code, how] of relays)
    await t.test(`${what}: ${code ?? 'ignored'}`, async () => {
      const seen = agent.events.length;
      how(peer);
      if (!code) return assert.ok(await peer.lives(), agent.stderr);
      const state = await agent.wait(() => agent.events.slice(seen).find((e) => e.event === 'state' && e.state === 'reconnecting'), 'closed');
      assert.equal(state.code, code, state.what);
      peer = await evil.next();
      return agent.wait(() => agent.events.slice(seen).find((e) => e.event === 'state' && e.state === 'active'), 'back');
    });
  for (const [what, bytes] of openings)
    await t.test(`a stream ${what}: reset, and nothing is dialled`, async () => {
      const id = await peer.opened();
      peer.write(id, bytes(peer));
      await peer.wait(() => peer.streams.get(String(id)).dead, 'the reset');
      assert.ok(await peer.lives());
      assert.equal(reached, 0);
    });
  await t.test('2,000 streams and not a word on them: bounded', async (t) => {
    for (let i = 0; i < 2000; i++) peer.command('open');
    await peer.wait(() => peer.streams.size >= 2000, 'streams');
    assert.ok(await peer.lives());
    t.diagnostic(`the agent's peak: ${mib(agent.peakRss())}`);
    if (!sanitized) assert.ok(agent.peakRss() < ceiling);
  });
  await agent.stop();
});
