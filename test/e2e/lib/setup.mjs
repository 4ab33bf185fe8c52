// The set-up of two programs, as a self-hoster has it: a relay for tunnel.test, an agent beside a local service, and visitors.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import path from 'node:path';
import tls from 'node:tls';
import { Program, beam, cleanEnv, cleanUp, tempDir } from './run.mjs';

export async function startRelay(t, dir, args = [], options = {}) {
  const data = options.data ?? path.join(dir, 'relay');
  const relay = new Program(
    t,
    beam,
    ['relay', '--domain', options.domain ?? 'tunnel.test', '--listen', options.listen ?? '127.0.0.1:0', '--data', data, '--json', ...args],
    { env: cleanEnv(dir, options.env) },
  );
  relay.info = await relay.event('relay');
  relay.port = Number(relay.info.https.split(':').pop());
  relay.data = data;
  return relay;
}

/** An agent; waits until its name answers unless options.wait is false. */
export async function startAgent(t, dir, relay, localPort, args = [], options = {}) {
  const env = cleanEnv(dir, options.env);
  // Given twice they would be two relays: what the test says goes.
  const where = [];
  if (!args.includes('--relay')) where.push('--relay', `127.0.0.1:${options.port ?? relay.port}`);
  if (!args.includes('--relay-ca')) where.push('--relay-ca', options.ca ?? relay.info.ca);
  const agent = new Program(
    t,
    beam,
    [...(options.command ? [options.command] : []), String(localPort), ...where, '--data', options.data ?? path.join(dir, 'agent'), '--json', ...args],
    { env, cwd: options.cwd },
  );
  if (options.wait !== false) {
    agent.info = await agent.event('tunnel');
    agent.name = agent.info.name;
    if (env.BEAM_TRANSPORT && env.BEAM_TRANSPORT !== 'auto' && !args.includes('--transport')) assert.equal(agent.info.transport, env.BEAM_TRANSPORT);
  }
  return agent;
}

/** Relay, agent and a visitor's tools around a local service (a port, or a request listener of node:http). */
export async function setUp(t, local, { relayArgs = [], agentArgs = [] } = {}) {
  const dir = tempDir(t);
  const origin = typeof local === 'number' ? { port: local } : await serve(t, local);
  const relay = await startRelay(t, dir, relayArgs);
  const agent = await startAgent(t, dir, relay, origin.port, agentArgs);
  return { dir, relay, agent, origin, ...visitor(relay, agent) };
}

/** What a visitor of this tunnel needs. */
export function visitor(relay, agent) {
  const ca = fs.readFileSync(relay.info.ca);
  const name = agent.name;
  const base = { host: '127.0.0.1', port: relay.port, servername: name, ca };
  return {
    name,
    base,
    url: `https://${name}:${relay.port}`,
    curl: ['-sS', '--http1.1', '--noproxy', '*', '--cacert', relay.info.ca, '--resolve', `${name}:${relay.port}:127.0.0.1`],
    visit: (target, options) => visit(base, target, options),
    request: (target, options = {}) => https.request({ ...base, path: target, agent: false, ...options, headers: { host: name, ...options.headers } }),
    connect: (options) => connect({ ...base, ...options }),
  };
}

/** One request: { status, headers, body } once it is whole; rejects when it is cut. */
export function visit(base, target, { body, headers, ...options } = {}) {
  return new Promise((resolve, reject) => {
    const request = https.request({ ...base, path: target, agent: false, ...options, headers: { host: base.servername, ...headers } });
    request.on('error', (error) => reject(Object.assign(error, { reused: request.reusedSocket })));
    request.on('response', (response) => {
      const parts = [];
      response.on('data', (part) => parts.push(part));
      response.on('error', reject);
      response.on('end', () => {
        if (!response.complete) return reject(new Error('the response was cut'));
        resolve({ status: response.statusCode, headers: response.headers, trailers: response.trailers, body: Buffer.concat(parts), text: Buffer.concat(parts).toString() });
      });
    });
    request.end(body);
  });
}

/** A bare TLS connection, for what an HTTP client would not send; resolves after the handshake. */
export function connect(options) {
  return new Promise((resolve, reject) => {
    const socket = tls.connect({ ALPNProtocols: ['http/1.1'], ...options });
    socket.once('error', reject);
    socket.once('secureConnect', () => {
      socket.off('error', reject);
      socket.on('error', () => {});
      resolve(socket);
    });
  });
}

/** Everything a socket gives until its end; `cut` tells whether that end was a reset or error. */
export function drain(socket) {
  return new Promise((resolve) => {
    const parts = [];
    let cut = false;
    socket.on('data', (part) => parts.push(part));
    socket.on('error', () => (cut = true));
    socket.on('close', () => resolve({ text: Buffer.concat(parts).toString('latin1'), bytes: Buffer.concat(parts), cut }));
  });
}

/** A local service in this process. */
export async function serve(t, listener) {
  const server = http.createServer({ keepAliveTimeout: 5000 }, listener);
  await listen(t, server);
  return { server, port: server.address().port };
}

export async function listen(t, server, port = 0, host = '127.0.0.1') {
  const sockets = new Set();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise((resolve, reject) => server.once('error', reject).listen(port, host, resolve));
  cleanUp(
    t,
    () =>
      new Promise((done) => {
        server.close(done);
        for (const socket of sockets) socket.destroy();
      }),
  );
  server.sockets = sockets;
  return server.address().port;
}

/**
 * `count` ports in a row of which the first and the last are free, as "first-last". They lie below those that the kernel gives to whoever
 * asks for any (32768 and up), so that no connection of another test sits on one by chance.
 */
export async function freeRange(count) {
  for (;;) {
    const first = 21_000 + Math.floor((Math.random() * 10_000) / count) * count;
    const last = first + count - 1;
    if ((await isFree(first)) && (await isFree(last))) return `${first}-${last}`;
  }
}

function isFree(port) {
  const server = net.createServer();
  return new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

/** A port on which nothing listens (any more). */
export async function freePort() {
  const server = http.createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}
