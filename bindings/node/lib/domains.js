'use strict';
const { native, things, register } = require('./native.js');

const asyncDispose = Symbol.asyncDispose ?? Symbol.for('nodejs.asyncDispose');

/** A relay's record of who owns which name. Nothing of it keeps the process alive but a call under way. */
class Domain {
  #id = register(this);
  #closing;

  async start(options) {
    try {
      await native.domainOpen(this.#id, options);
    } catch (error) {
      things.delete(this.#id);
      throw error;
    }
    return this;
  }

  allocate({ principal, name, port = 0 }) {
    return native.domainAllocate(this.#id, { principal, name, port });
  }

  release({ principal, name }) {
    return native.domainRelease(this.#id, { principal, name });
  }

  list(principal) {
    return native.domainList(this.#id, { principal });
  }

  verify() {
    return native.domainVerify(this.#id, {});
  }

  close() {
    this.#closing ??= native.domainClose(this.#id).finally(() => things.delete(this.#id));
    return this.#closing;
  }

  [asyncDispose]() {
    return this.close();
  }
}

const domains = {
  generate: () => native.domainGenerate(),
  check: (label) => native.domainCheck(label),
  open: (options) => new Domain().start({ ...options }),
};

module.exports = { domains, Domain };
