// Cases in which a link takes part run over each transport, and say so in their names. A case in which none does, or that is about choosing one, is an ordinary test.
import { AsyncLocalStorage } from 'node:async_hooks';
import { execFileSync } from 'node:child_process';
import test from 'node:test';
import { beam, withEnv } from './run.mjs';

const { features } = JSON.parse(execFileSync(beam, ['--version', '--json']));
const only = process.env.BEAM_TEST_TRANSPORT; // one of them, to look at it more closely

/** Those that this build has. */
export const transports = ['quic', 'h2', 'ws'].filter((transport) => features.split(',').includes(transport) && (only ?? transport) === transport);

const current = new AsyncLocalStorage();
withEnv(() => (current.getStore() ? { BEAM_TRANSPORT: current.getStore() } : {}));

/**
 * One test for each transport: `fn(t, transport)`. Every program it starts in cleanEnv() speaks that one alone, unless its flags say otherwise.
 * Options are node's, and: `except`, { quic: 'why not' }; `atOnce`, for cases that mostly wait: side by side.
 */
export function overTransports(name, options, fn = options) {
  const { except = {}, atOnce, ...rest } = fn === options ? {} : options;
  const one = (add, transport) => add(`${name} over ${transport}`, { ...rest, skip: rest.skip || except[transport] }, (t) => current.run(transport, () => fn(t, transport)));
  if (!atOnce) for (const transport of transports) one(test, transport);
  else test(name, { concurrency: true }, (t) => Promise.all(transports.map((transport) => one(t.test.bind(t), transport))));
}
