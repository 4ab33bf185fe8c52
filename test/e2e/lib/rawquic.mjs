// A peer of beam/1 over QUIC that says whatever a test likes: bytes through test/bench/quic_talk.c. lib/link/PROTOCOL.md, section 2a.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { build, cleanUp, until } from './run.mjs';
import { Speaker, control, hello, newKey, welcome } from './rawlink.mjs';

const program = path.join(build, 'test/bench/quic_talk');
export const available = fs.existsSync(program);

/** One connection. Streams go by their QUIC numbers; bytes that came on them are in `streams`. */
class Peer extends Speaker {
  streams = new Map(); // number -> { bytes, ended, dead }
  constructor(talk, number, exporter) {
    super();
    Object.assign(this, { talk, number, exporter: Buffer.from(exporter, 'hex'), controlId: 0 });
  }

  command(what, ...rest) {
    if (!this.over) this.talk.stdin.write(`${what} ${this.number} ${rest.join(' ')}\n`);
  }

  say(bytes) {
    return this.write(this.controlId, bytes);
  }

  write(id, bytes, times = 1) {
    this.command('write', id, bytes.toString('hex'), times);
  }

  heard([what, id, bytes]) {
    if (what === 'closed') {
      this.reason = Number(id);
      return this.ended();
    }
    const one = this.streams.get(id) ?? { id: Number(id), bytes: Buffer.alloc(0) };
    this.streams.set(id, one);
    if (what === 'data' && Number(id) === this.controlId) this.took(Buffer.from(bytes, 'hex'));
    else if (what === 'data') one.bytes = Buffer.concat([one.bytes, Buffer.from(bytes, 'hex')]);
    else if (what === 'fin') one.ended = true;
    else if (what === 'dead') one.dead = Number(bytes);
    this.wake();
  }

  /** The n-th stream beside control that was opened, by whomever. */
  stream(n = 0) {
    return this.wait(() => [...this.streams.values()].filter((s) => s.id !== this.controlId)[n], `stream ${n}`);
  }

  async opened() {
    const before = this.streams.size;
    this.command('open');
    await this.wait(() => this.streams.size > before, 'a stream of ours');
    return [...this.streams.values()].at(-1).id;
  }
}

function start(t, args, accept) {
  const talk = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const peers = [];
  talk.stdin.on('error', () => {});
  readline.createInterface({ input: talk.stdout }).on('line', (line) => {
    const [what, number, ...rest] = line.split(' ');
    if (what === 'port') talk.port = Number(number);
    else if (what === 'ready') accept((peers[number] = new Peer(talk, number, rest[0])));
    else if (peers[number]) peers[number].heard([what, ...rest]);
    else if (what === 'closed') accept(null, Number(rest[0]));
  });
  const ended = new Promise((done) => talk.on('close', done));
  cleanUp(t, () => (talk.stdin.end(), talk.kill(), ended));
  return talk;
}

/** Up to the control stream, or with `greet` to WELCOME. */
export async function hostileAgent(t, relay, { greet = true, key = newKey() } = {}) {
  const peer = await new Promise((resolve, reject) => start(t, ['connect', '127.0.0.1', String(relay.port)], (p, reason) => (p ? resolve(p) : reject(new Error(`closed with ${reason}`)))));
  peer.key = key;
  peer.relayId = Buffer.from(relay.info.ca_fingerprint.replace('sha256:', ''), 'hex');
  peer.controlId = await peer.opened();
  if (greet) {
    peer.say(control('hello', hello(peer), { critical: true }));
    if (!(await peer.control('welcome'))) throw new Error('hostile agent: not let in');
  }
  return peer;
}

/** As rawlink's hostileRelay(), over QUIC: `evil` is that one, whose certificate and key it shows. */
export async function hostileRelay(t, evil) {
  const waiting = [];
  const asking = [];
  const relay = { ca: evil.ca, info: evil.info, connections: 0 };
  const talk = start(t, ['listen', evil.chain, evil.keyFile], (peer) => {
    relay.connections++;
    Object.assign(peer, { key: evil.key, relayId: evil.relayId });
    (asking.shift() ?? ((p) => waiting.push(p)))(peer);
  });
  await until(() => talk.port, 'the port');
  relay.port = talk.port;
  relay.next = async () => {
    const peer = waiting.shift() ?? (await new Promise((go) => asking.push(go)));
    peer.hello = await peer.control('hello');
    if (!peer.hello) return relay.next(); // it was a look at another transport
    peer.say(control('welcome', welcome(peer, peer.hello), { critical: true }));
    peer.bind = await peer.control('bind');
    peer.name = 'victim.hostile.test';
    peer.say(control('bound', { 1: peer.bind[1], 2: peer.name, 3: `https://${peer.name}:${relay.port}` }));
    return peer;
  };
  return relay;
}
