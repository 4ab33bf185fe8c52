'use strict';
const https = require('node:https');
const path = require('node:path');
const { BeamError } = require('./errors.js');
const { native } = require('./native.js');
const { localRelay } = require('./relay.js');
const { Thing } = require('./thing.js');

// An iterator whose reader is slow keeps as many; older ones are counted as lost.
const KEPT = 1000;

/** Lists as the library has them: one a line, or with commas between. */
function rules(policy) {
  const joined = { ...policy };
  for (const [name, between] of [['auth', '\n'], ['requestHeaders', '\n'], ['responseHeaders', '\n'], ['allow', ','], ['deny', ','], ['cors', ',']])
    if (Array.isArray(joined[name])) joined[name] = joined[name].join(between);
  return joined;
}

class Tunnel extends Thing {
  #info = { state: 'connecting', name: null, url: null };
  #opened; // the addon's promise
  #active; // { promise, resolve, reject }
  #local; // the relay of this machine, when no other was named
  #error = null; // the last reason why it does not connect
  #readers = new Set();
  lostRequests = 0;

  constructor() {
    super();
    this.#active = {};
    this.#active.promise = new Promise((resolve, reject) => Object.assign(this.#active, { resolve, reject }));
    this.#active.promise.catch(() => {});
    const count = (name) => name === 'request' && queueMicrotask(() => this.#listen());
    this.on('newListener', count);
    this.on('removeListener', count);
  }

  #listen() {
    if (!this.closed) native.tunnelListen(this.id, this.listenerCount('request') + this.#readers.size > 0);
  }

  async start({ signal, ...options }) {
    const abort = () => this.#abort(signal);
    try {
      signal?.throwIfAborted();
      this.#opened = this.#open(options);
      signal?.addEventListener('abort', abort, { once: true });
      await Promise.race([this.#opened.then(() => this.#active.promise), this.#active.promise]);
    } catch (error) {
      signal?.removeEventListener('abort', abort);
      await this.close();
      throw error;
    }
    this.once('closed', () => signal?.removeEventListener('abort', abort));
    return this;
  }

  async #open({ policy, ...options }) {
    const config = { ...options };
    config.relay ??= process.env.BEAM_RELAY || undefined;
    if (config.relay === undefined) {
      this.#local = await localRelay(config.dataDir === undefined ? undefined : path.join(config.dataDir, 'embedded'));
      Object.assign(config, { relay: this.#local.relay.https, relayCa: this.#local.relay.caFile, token: undefined, proxy: 'none' });
    } else {
      config.relayCa ??= process.env.BEAM_RELAY_CA || undefined;
      config.token ??= process.env.BEAM_TOKEN || undefined;
    }
    // The relay took a while to start: somebody may have lost interest.
    if (this.closed) return;
    await native.tunnelOpen(this.id, config, policy && rules(policy));
    this.#listen();
  }

  #abort(signal) {
    const why = this.#error;
    const text = why ? `${why.what}. Next: ${why.hint}` : 'the relay has not answered yet. Next: give it more time';
    const aborted = new Error(`beam.open() was aborted: ${text}`, { cause: why ?? signal.reason });
    this.#active.reject(Object.assign(aborted, { name: 'AbortError', code: 'ABORT_ERR' }));
    this.close();
  }

  hear(kind, a, b) {
    if (kind === 'request') this.#request(a, b);
    else this.#state(a, b);
  }

  #request(request, lost) {
    this.lostRequests += lost;
    for (const reader of this.#readers) reader.put(request);
    this.emit('request', request);
  }

  #state(info, error) {
    this.#info = info;
    this.#error = error ?? null;
    if (info.state === 'active') this.#active.resolve();
    if (info.state === 'closed') {
      this.#active.reject(error);
      this.#finish(error);
    }
    this.emit('state', info.state, info, error ?? null);
  }

  get url() {
    return this.#info.url;
  }
  get plainUrl() {
    return this.#info.plainUrl ?? null;
  }
  get name() {
    return this.#info.name;
  }
  get state() {
    return this.closed ? 'closed' : this.#info.state;
  }
  get transport() {
    return this.#info.transport ?? null;
  }
  get publicPort() {
    return this.#info.publicPort || null;
  }

  info() {
    return native.tunnelInfo(this.id);
  }

  links() {
    return native.tunnelLinks(this.id);
  }

  cacheInfo() {
    return native.tunnelCache(this.id);
  }

  purge(path) {
    return native.tunnelPurge(this.id, path);
  }

  close() {
    return this.#finish(null);
  }

  #finish(error) {
    return this.finish(async () => {
      const open = await this.#opened?.then(
        () => true,
        () => false,
      );
      if (open) await native.tunnelClose(this.id).catch((e) => this.#ignoreUnopened(e));
      await this.#local?.release();
      for (const reader of this.#readers) reader.end(error);
    }, error);
  }

  // Closed while its relay was still starting: the addon never heard of it.
  #ignoreUnopened(error) {
    if (error.code !== 'BEAM-1005') throw error;
  }

  /** Finished requests, as they come, until the tunnel is closed. */
  requests() {
    return new Reader(this.#readers, (tunnel) => tunnel.#listen(), this);
  }

  [Symbol.asyncIterator]() {
    return this.requests();
  }
}

class Reader {
  #waiting = [];
  #asked = [];
  #over;
  #leave;
  #tunnel;

  constructor(readers, changed, tunnel) {
    this.#tunnel = tunnel;
    this.#leave = () => {
      readers.delete(this);
      changed(tunnel);
    };
    if (tunnel.closed) this.end(null);
    else {
      readers.add(this);
      changed(tunnel);
    }
  }

  put(request) {
    const asked = this.#asked.shift();
    if (asked) return asked.resolve({ value: request, done: false });
    if (this.#waiting.length === KEPT) {
      this.#waiting.shift();
      this.#tunnel.lostRequests++;
    }
    this.#waiting.push(request);
  }

  end(error) {
    this.#over ??= { error };
    this.#leave();
    for (const asked of this.#asked.splice(0)) this.#last(asked);
  }

  // The reason once, then only the end.
  #last({ resolve, reject }) {
    const { error } = this.#over;
    this.#over.error = null;
    if (error) reject(error);
    else resolve({ value: undefined, done: true });
  }

  next() {
    return new Promise((resolve, reject) => {
      if (this.#waiting.length) resolve({ value: this.#waiting.shift(), done: false });
      else if (this.#over) this.#last({ resolve, reject });
      else this.#asked.push({ resolve, reject });
    });
  }

  async return() {
    this.#waiting = [];
    this.end(null);
    return { value: undefined, done: true };
  }

  [Symbol.asyncIterator]() {
    return this;
  }
}

const open = async (options) => new Tunnel().start({ ...options });

/** The caller may have asked it to listen a moment ago: an address needs a turn for that, and a second listen() would be one too many. */
function startListening(server) {
  return new Promise((resolve, reject) => {
    const failed = (error) => {
      server.off('listening', ready);
      reject(error);
    };
    const ready = () => {
      server.off('error', failed);
      resolve();
    };
    server.once('error', failed);
    server.once('listening', ready);
    setImmediate(() => {
      if (!server.listening && server.listenerCount('listening', ready)) server.listen(0, '127.0.0.1');
    });
  });
}

/** A server of node:http: its port, and its end. */
async function listen(server, options = {}) {
  if (server instanceof https.Server)
    throw new BeamError('BEAM-1023', 'the server speaks HTTPS, and a tunnel to it would speak HTTP', 'give an http.Server (visitors get HTTPS from the tunnel), or use beam.open({ kind: "tls", port })');
  if (!server.listening) await startListening(server);
  const address = server.address();
  if (address === null || typeof address === 'string')
    throw new BeamError('BEAM-1003', 'the server does not listen on a TCP port', 'call server.listen(0, "127.0.0.1"), or let beam.listen() do it');
  const everywhere = address.address === '::' || address.address === '0.0.0.0';
  const tunnel = await open({ ...(everywhere ? {} : { host: address.address }), ...options, port: address.port });
  const close = () => void tunnel.close();
  server.once('close', close);
  tunnel.once('closed', () => server.off('close', close));
  return tunnel;
}

module.exports = { open, listen, Tunnel };
