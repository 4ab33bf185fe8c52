// A peer of beam/1 over HTTP/2 in which every frame and message is written by hand, so that it can be any wrong one. lib/link/PROTOCOL.md is what it is made from.
import { execFileSync } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import tls from 'node:tls';
import WebSocket, { createWebSocketStream } from 'ws';
import { patience } from './run.mjs';
import { listen } from './setup.mjs';

export const DATA = 0;
export const HEADERS = 1;
export const RST_STREAM = 3;
export const SETTINGS = 4;
export const PUSH_PROMISE = 5;
export const PING = 6;
export const GOAWAY = 7;
export const WINDOW_UPDATE = 8;
export const CONTINUATION = 9;
export const END_STREAM = 1;
export const ACK = 1;
export const END_HEADERS = 4;

export const u32 = (n) => {
  const b = Buffer.alloc(4);
  b.writeUInt32BE(n >>> 0);
  return b;
};

/** RFC 9113 section 4.1. `length` is what the head says, if it is to lie. */
export function frame(type, flags, id, payload = Buffer.alloc(0), length = payload.length) {
  return Buffer.concat([u32(length).subarray(1), Buffer.from([type, flags]), u32(id), payload]);
}

export const settings = (pairs) => frame(SETTINGS, 0, 0, Buffer.concat(Object.entries(pairs).map(([k, v]) => Buffer.concat([u32(Number(k)).subarray(2), u32(v)]))));
const agentSettings = { 3: 4097, 4: 65536, 5: 65536, 8: 1 };
const relaySettings = { 2: 0, 3: 0, 4: 65536, 5: 65536 };

/** HPACK (RFC 7541 section 6.2.2): fields without indexing, without Huffman. */
export const fields = (pairs) => Buffer.concat(Object.entries(pairs).flatMap(([k, v]) => [Buffer.from([0, k.length]), Buffer.from(k), Buffer.from([v.length]), Buffer.from(v)]));
export const connectTo = (protocol) => fields({ ':method': 'CONNECT', ':protocol': protocol, ':scheme': 'https', ':authority': 'beam', ':path': '/' });
const ok = Buffer.from([0x88]); // :status 200
const credit = frame(WINDOW_UPDATE, 0, 0, u32(0x3ff0000)); // of the connection, as honest peers give it: never a limit

/* --- protocol buffers --- */

export function varint(n) {
  const out = [];
  for (n = BigInt(n); n > 127n; n >>= 7n) out.push(Number(n & 127n) | 128);
  return Buffer.from([...out, Number(n)]);
}

/** { 1: 5, 2: 'text', 3: buffer } */
export function message(parts) {
  return Buffer.concat(
    Object.entries(parts).flatMap(([number, value]) => {
      if (typeof value === 'number' || typeof value === 'bigint') return [varint(number << 3), varint(value)];
      const bytes = Buffer.from(value);
      return [varint((number << 3) | 2), varint(bytes.length), bytes];
    }),
  );
}

export function parse(bytes) {
  const out = {};
  let at = 0;
  const number = () => {
    let n = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const b = bytes[at++];
      n |= BigInt(b & 127) << shift;
      if (b < 128) return n;
    }
  };
  while (at < bytes.length) {
    const key = Number(number());
    if (key & 7) {
      const n = Number(number());
      out[key >> 3] = bytes.subarray(at, (at += n));
    } else {
      out[key >> 3] = Number(number());
    }
  }
  return out;
}

export const delimited = (bytes, length = bytes.length) => Buffer.concat([varint(length), bytes]);
export const kinds = { hello: 1, welcome: 2, bind: 3, bound: 4, unbind: 5, cert: 6, quota: 7, stats: 8, ping: 9, pong: 10, drain: 11, error: 12, connect: 13 };
export const control = (kind, parts = {}, { critical = false } = {}) => delimited(Buffer.concat([message({ [kinds[kind] ?? kind]: message(parts) }), critical ? message({ 15: 1 }) : Buffer.alloc(0)]));

/* --- proofs, PROTOCOL.md section 5 --- */

export function newKey() {
  const { privateKey, publicKey } = crypto.generateKeyPairSync('ed25519');
  return { secret: privateKey, public: Buffer.from(publicKey.export({ format: 'jwk' }).x, 'base64url') };
}

const transcript = (...parts) => Buffer.concat(parts.flatMap((p) => {
  const bytes = typeof p === 'number' ? u32(p) : Buffer.from(p);
  return [u32(bytes.length), bytes];
}));
const none = Buffer.alloc(16);

export function hello(peer, { key, exporter = peer.exporter } = peer) {
  const proof = crypto.sign(null, transcript('beam/1 agent hello', 'agent', exporter, peer.relayId, key.public, 1, 1, none), key.secret);
  return { 1: 1, 2: 1, 3: key.public, 4: proof, 6: 'hostile', 9: 'nowhere' };
}

/** `said` is the agent's HELLO. */
export function welcome(peer, said, { exporter = peer.exporter } = {}) {
  const session = crypto.randomBytes(16);
  const proof = crypto.sign(null, transcript('beam/1 relay welcome', 'relay', exporter, peer.relayId, said[3], said[1], said[2], session, peer.key.public, 1), peer.key.secret);
  return { 1: 1, 2: session, 4: peer.key.public, 5: proof, 7: 10_000, 8: 'hostile.test' };
}

/* --- a connection --- */

/** Whatever carries it: who extends this calls took(), wake() and ended(), and has say(bytes) for the control channel. */
export class Speaker {
  controls = []; // parsed Control messages
  controlBytes = Buffer.alloc(0);
  waiters = new Set();
  closed = new Promise((done) => (this.ended = () => {
    this.over = true;
    this.wake();
    done();
  }));

  wake() {
    for (const check of [...this.waiters]) check();
  }

  /** Bytes of the control channel. */
  took(bytes) {
    this.controlBytes = Buffer.concat([this.controlBytes, bytes]);
    for (;;) {
      let n = 0;
      let at = 0;
      while (at < this.controlBytes.length && this.controlBytes[at] & 128) n |= (this.controlBytes[at] & 127) << (7 * at++);
      n |= (this.controlBytes[at] ?? 0) << (7 * at++);
      if (this.controlBytes.length < at + n || !this.controlBytes.length) return;
      const m = parse(this.controlBytes.subarray(at, at + n));
      this.controlBytes = this.controlBytes.subarray(at + n);
      this.controls.push(m);
      if (m[9] && this.answers !== false) this.say(control('pong', parse(m[9])));
    }
  }

  /** Waits for what is or becomes true; undefined when the connection ended before. */
  wait(probe, what) {
    return new Promise((resolve, reject) => {
      const end = (settle, value) => {
        clearTimeout(timer);
        this.waiters.delete(check);
        settle(value);
      };
      const check = () => {
        const value = probe();
        if (value || this.over) end(resolve, value || undefined);
      };
      const timer = setTimeout(() => end(reject, new Error(`hostile peer: ${what}: not within ${patience} ms`)), patience);
      this.waiters.add(check);
      check();
    });
  }

  control(kind) {
    return this.wait(() => {
      const m = this.controls.find((c) => c[kinds[kind]] !== undefined);
      return m && parse(m[kinds[kind]]);
    }, kind);
  }

  /** Is it still served? A PING on the control channel is answered. */
  async lives() {
    const nonce = crypto.randomInt(1, 2 ** 31);
    await this.say(control('ping', { 1: nonce }));
    return !!(await this.wait(() => this.controls.find((c) => c[10] && parse(c[10])[1] === nonce), 'PONG'));
  }
}

/** Over HTTP/2 on a TLS connection. */
class Peer extends Speaker {
  constructor(socket) {
    super();
    this.socket = socket;
    this.exporter = socket.exportKeyingMaterial(32, 'EXPORTER-beam-1', Buffer.alloc(0));
    this.input = Buffer.alloc(0);
    this.frames = []; // all but DATA of the control stream, and what is answered here
    socket.on('error', () => {});
    socket.on('data', (bytes) => this.#take(bytes));
    socket.on('close', () => this.ended());
  }

  #take(bytes) {
    this.input = Buffer.concat([this.input, bytes]);
    if (this.preface) {
      if (this.input.length < this.preface) return;
      this.input = this.input.subarray(this.preface);
      this.preface = 0;
    }
    while (this.input.length >= 9) {
      const n = this.input.readUIntBE(0, 3);
      if (this.input.length < 9 + n) break;
      const f = { type: this.input[3], flags: this.input[4], id: this.input.readUInt32BE(5) & 0x7fffffff, payload: this.input.subarray(9, 9 + n) };
      this.input = this.input.subarray(9 + n);
      this.#frame(f);
    }
    this.wake();
  }

  #frame(f) {
    if (f.type === DATA && f.id === 1) return this.took(f.payload);
    if (f.type === SETTINGS && !(f.flags & ACK)) {
      this.write(frame(SETTINGS, ACK, 0));
      if (this.frames.length > 10_000) return;
    }
    this.frames.push(f);
    if (f.type === GOAWAY) this.goaway = f.payload.readUInt32BE(4);
  }

  frame(match, what) {
    return this.wait(() => this.frames.find(match), what);
  }

  /** Resolves when the bytes are with the kernel, or the connection is over. */
  write(bytes) {
    return new Promise((done) => (this.over ? done() : this.socket.write(bytes, () => done())));
  }

  /** On the control channel. */
  say(bytes) {
    return this.write(frame(DATA, 0, 1, bytes));
  }
}

/** A WebSocket to the relay, as the byte stream that the link's own TLS is spoken on. */
async function upgraded(relay) {
  const socket = new WebSocket(`wss://127.0.0.1:${relay.port}/_beam/link`, 'beam.1', { rejectUnauthorized: false, perMessageDeflate: false });
  const stream = createWebSocketStream(socket);
  stream.on('error', () => {});
  await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
  return stream;
}

/** Up to the control stream, or with `greet` to WELCOME. */
export async function hostileAgent(relay, { greet = true, key = newKey(), own = agentSettings, ws = false } = {}) {
  const below = ws ? { socket: await upgraded(relay) } : { host: '127.0.0.1', port: relay.port };
  const socket = tls.connect({ ...below, ALPNProtocols: ['beam/1'], rejectUnauthorized: false, minVersion: 'TLSv1.3' });
  await new Promise((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject));
  const peer = new Peer(socket);
  below.socket?.on('end', () => peer.ended()).on('close', () => peer.ended()); // TLS on another stream does not tell by itself
  peer.cut = () => (below.socket ?? socket).destroy();
  peer.preface = 24;
  peer.key = key;
  peer.relayId = Buffer.from(relay.info.ca_fingerprint.replace('sha256:', ''), 'hex');
  peer.write(Buffer.concat([settings(own), credit]));
  await peer.frame((f) => f.type === HEADERS && f.id === 1, 'the control stream');
  peer.write(frame(HEADERS, END_HEADERS, 1, ok));
  if (greet) {
    peer.say(control('hello', hello(peer), { critical: true }));
    if (!(await peer.control('welcome'))) throw new Error('hostile agent: not let in');
  }
  return peer;
}

/**
 * A relay that trusts nobody and whom an agent trusts. `next()` gives each connection in turn, greeted as `greet` says: 'none', 'hello' (its HELLO
 * has come), 'welcome', 'bound'.
 */
export async function hostileRelay(t, dir) {
  const file = (name) => `${dir}/${name}`;
  const openssl = (...args) => execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', ...args], { stdio: 'ignore' });
  openssl('-keyout', file('evil-ca.key'), '-out', file('evil-ca.pem'), '-subj', '/CN=a hostile CA', '-addext', 'keyUsage=critical,keyCertSign,digitalSignature');
  openssl('-CA', file('evil-ca.pem'), '-CAkey', file('evil-ca.key'), '-keyout', file('evil.key'), '-out', file('evil.pem'), '-subj', '/CN=a hostile relay', '-addext', 'basicConstraints=critical,CA:FALSE', '-addext', 'extendedKeyUsage=serverAuth');
  const ca = fs.readFileSync(file('evil-ca.pem'), 'utf8');
  const key = newKey();
  const relayId = crypto.createHash('sha256').update(new crypto.X509Certificate(ca).raw).digest();
  const waiting = [];
  const asking = [];
  const server = tls.createServer({ key: fs.readFileSync(file('evil.key')), cert: fs.readFileSync(file('evil.pem'), 'utf8') + ca, ALPNProtocols: ['beam/1'], minVersion: 'TLSv1.3' }, (socket) => {
    const peer = Object.assign(new Peer(socket), { key, relayId });
    peer.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), settings(relaySettings), credit]));
    relay.connections++;
    (asking.shift() ?? ((p) => waiting.push(p)))(peer);
  });
  fs.writeFileSync(file('evil-chain.pem'), fs.readFileSync(file('evil.pem'), 'utf8') + ca);
  const relay = { connections: 0, ca: file('evil-ca.pem'), info: { ca: file('evil-ca.pem') }, chain: file('evil-chain.pem'), keyFile: file('evil.key'), key, relayId };
  relay.port = await listen(t, server);
  relay.next = async (greet = 'bound') => {
    const peer = waiting.shift() ?? (await new Promise((go) => asking.push(go)));
    await peer.frame((f) => f.type === SETTINGS && !(f.flags & ACK), 'SETTINGS');
    if (greet === 'none') return peer;
    peer.write(frame(HEADERS, END_HEADERS, 1, connectTo('beam-control')));
    peer.hello = await peer.control('hello');
    if (greet === 'hello') return peer;
    peer.say(control('welcome', welcome(peer, peer.hello), { critical: true }));
    peer.bind = await peer.control('bind');
    if (greet === 'welcome') return peer;
    peer.name = 'victim.hostile.test';
    peer.say(control('bound', { 1: peer.bind[1], 2: peer.name, 3: `https://${peer.name}:${relay.port}` }));
    return peer;
  };
  return relay;
}

let streams = 1;
/** As a relay: a data stream that begins with these bytes; its id. */
export function open(peer, bytes, flags = 0) {
  const id = (streams += 2);
  peer.write(Buffer.concat([frame(HEADERS, END_HEADERS, id, connectTo('beam-stream')), ...(bytes ? [frame(DATA, flags, id, bytes)] : [])]));
  return id;
}
export const streamKinds = { http: 0, tcp: 1, tls: 2, udp: 3, peer: 4 };
export const streamOpen = (kind, name, more = {}) => delimited(message({ 1: streamKinds[kind] ?? kind, 2: name, 3: '127.0.0.1:1', ...more }));
