'use strict';
const { native } = require('./native.js');
const { Thing } = require('./thing.js');

class Relay extends Thing {
  #given;
  #local;
  #started;
  #first;
  #drained;
  lostEvents = 0;

  constructor(options) {
    super();
    this.#given = options;
    this.#local = options.domain === undefined;
  }

  async start() {
    try {
      this.#started = native.relayStart(this.id, this.#given, this.#local);
      await this.#started;
      this.#first = await native.relayInfo(this.id);
    } catch (error) {
      this.forget();
      throw error;
    }
    return this;
  }

  hear(kind, event, lost) {
    this.lostEvents += lost;
    if (event.kind === 'drained') this.#drained?.resolve();
    this.emit('event', event);
  }

  get domain() {
    return this.#first.domain;
  }
  get https() {
    return this.#first.https;
  }
  get http() {
    return this.#first.http;
  }
  get httpsPort() {
    return this.#first.httpsPort;
  }
  get httpPort() {
    return this.#first.httpPort;
  }
  get caFile() {
    return this.#first.caFile;
  }
  get caFingerprint() {
    return this.#first.caFingerprint;
  }

  info() {
    return native.relayInfo(this.id);
  }

  metrics() {
    return native.relayMetrics(this.id);
  }

  async drain(ms = 30_000) {
    if (!this.#drained) {
      this.#drained = {};
      this.#drained.promise = new Promise((resolve) => (this.#drained.resolve = resolve));
    }
    await native.relayDrain(this.id, ms);
    await this.#drained.promise;
  }

  reload() {
    return native.relayReload(this.id);
  }

  async reconfigure(options) {
    const whole = { ...this.#given, ...options };
    await native.relayReconfigure(this.id, whole, this.#local);
    this.#given = whole;
  }

  close() {
    return this.finish(async () => {
      await native.relayStop(this.id);
      this.#drained?.resolve();
    });
  }
}

const relay = async (options = {}) => new Relay({ ...options }).start();

// ---- the relay of this machine alone, for tunnels that name none: one for all of them that use the same directory -------------------------------

const locals = new Map();

/** { relay, release }: shared until the last one releases it. */
async function localRelay(dataDir) {
  const key = dataDir ?? '';
  let local = locals.get(key);
  if (!local) {
    local = { users: 0, relay: relay(dataDir === undefined ? {} : { dataDir }) };
    locals.set(key, local);
    // Tunnels keep the process alive, each for itself.
    local.relay.then((r) => r.unref(), () => locals.delete(key));
  }
  local.users++;
  const found = await local.relay;
  return {
    relay: found,
    async release() {
      if (--local.users > 0) return;
      locals.delete(key);
      await found.close();
    },
  };
}

module.exports = { relay, localRelay, Relay };
