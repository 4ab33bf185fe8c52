'use strict';
const { EventEmitter } = require('node:events');
const { native, things, register } = require('./native.js');

const asyncDispose = Symbol.asyncDispose ?? Symbol.for('nodejs.asyncDispose');

/** What a tunnel and a relay have in common: a number in the addon, an end, and whether it keeps the process alive. */
class Thing extends EventEmitter {
  #held = false;
  #closing;
  #over = false;

  constructor() {
    super();
    Object.defineProperty(this, 'id', { value: register(this) });
    this.#hold(true);
  }

  #hold(on) {
    if (on === this.#held) return;
    this.#held = on;
    native.keepAlive(on);
  }

  ref() {
    if (!this.#over) this.#hold(true);
    return this;
  }

  unref() {
    this.#hold(false);
    return this;
  }

  hasRef() {
    return this.#held;
  }

  get closed() {
    return this.#closing !== undefined;
  }

  /** Ends it once: `end` waits for the addon; then "closed" comes, with `error` or null. */
  finish(end, error = null) {
    this.#closing ??= (async () => {
      try {
        await end();
      } finally {
        this.forget();
      }
      // Not from inside this promise: what a listener throws is an uncaught exception, not a rejected close().
      process.nextTick(() => this.emit('closed', error));
    })();
    return this.#closing;
  }

  forget() {
    this.#over = true;
    this.#hold(false);
    things.delete(this.id);
  }

  [asyncDispose]() {
    return this.close();
  }
}

module.exports = { Thing };
