// What the tests of the Node package share: the package as it is installed, and scripts that use it in a process of their own.
import fs from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';
import { Program, build, cleanEnv, tempDir } from '../../../test/e2e/lib/run.mjs';

export * from '../../../test/e2e/lib/run.mjs';
export { freePort, serve, visit } from '../../../test/e2e/lib/setup.mjs';

/** The packages as `make node` leaves them. */
export const modules = path.join(build, 'node/node_modules');
export const bin = path.join(modules, 'beam-tunnel/bin/beam.js');
export const here = path.dirname(new URL(import.meta.url).pathname);

export const load = () => createRequire(path.join(build, 'node/here.js'))('beam-tunnel');

/** The environment of a child; with the sanitizer's library where the addon was built with it. */
export function childEnv(dir, extra = {}) {
  const preload = process.env.LD_PRELOAD ? { LD_PRELOAD: process.env.LD_PRELOAD } : {};
  return cleanEnv(dir, { ...preload, ...extra });
}

/** `node` with these arguments. */
export const node = (t, dir, args, options = {}) => new Program(t, process.execPath, args, { ...options, env: childEnv(dir, options.env) });

/** A module that has the package as `beam`, and http, in a process of its own. */
export function script(t, dir, source, options) {
  const file = path.join(build, 'node', `.test-${process.pid}-${Math.random().toString(36).slice(2)}.mjs`);
  fs.writeFileSync(file, `import * as beam from 'beam-tunnel';\nimport http from 'node:http';\n${source}\n`);
  t.after(() => fs.rmSync(file, { force: true }));
  return node(t, dir, [file], options);
}

/** A relay in this process, on free ports. */
export async function startRelay(t, beam, options = {}) {
  const dir = options.dataDir ?? tempDir(t);
  const relay = await beam.relay({ domain: 'tunnel.test', listen: '127.0.0.1:0', listenPlain: '127.0.0.1:0', plain: 'serve', workers: 1, ...options, dataDir: dir });
  t.after(() => relay.close());
  return relay;
}

/** What a tunnel at that relay wants. */
export const at = (relay, dir, rest = {}) => ({ relay: relay.https, relayCa: relay.caFile, dataDir: dir, proxy: 'none', ...rest });

/** A visitor on plain http: { status, text }. */
export function get(tunnel, target = '/', options = {}) {
  const url = new URL(tunnel.plainUrl);
  return new Promise((resolve, reject) => {
    const request = http.get({ host: '127.0.0.1', port: url.port || 80, path: target, agent: false, headers: { host: url.host }, ...options }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part) => (text += part));
      response.on('error', reject);
      response.on('end', () => resolve({ status: response.statusCode, text }));
    });
    request.on('error', reject);
  });
}
