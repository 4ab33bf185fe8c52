'use strict';

/**
 * What went wrong, and what to do about it. `code` is stable ("BEAM-1014"); `what` and `hint` are the two halves of the message.
 * `cause` is the error below it, where there is one.
 */
class BeamError extends Error {
  constructor(code, what, hint, cause) {
    super(hint ? `${what}. Next: ${hint}` : what, cause === undefined ? undefined : { cause });
    this.code = code;
    this.what = what;
    this.hint = hint;
  }
}
Object.defineProperty(BeamError.prototype, 'name', { value: 'BeamError', configurable: true, writable: true });

module.exports = { BeamError };
