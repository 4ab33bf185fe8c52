// A relay that ends, restarts or reads its files again, with visitors and agents on it.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import path from 'node:path';
import test from 'node:test';
import { tempDir, until } from './lib/run.mjs';
import { connect, drain, freeRange, serve, setUp, startAgent, startRelay, visitor } from './lib/setup.mjs';
import { overTransports } from './lib/transports.mjs';

/** A local service: /live sends until `release` is called, anything else is answered at once. */
function service() {
  const live = { open: 0 };
  let letGo;
  live.released = new Promise((resolve) => (letGo = resolve));
  live.release = letGo;
  live.listener = async (request, response) => {
    if (request.url !== '/live') return response.end(`you asked for ${request.url}`);
    live.open++;
    response.write('begun ');
    await live.released;
    response.end('whole');
  };
  return live;
}

overTransports('SIGTERM: what is under way ends, visitors are served on until then, the agent finds the next relay', async (t) => {
  const live = service();
  const s = await setUp(t, live.listener, { relayArgs: ['--workers', '2'] });
  const keep = new https.Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => keep.destroy());
  assert.equal((await s.visit('/before', { agent: keep })).headers.connection ?? 'keep-alive', 'keep-alive');
  const slow = s.visit('/live');
  while (!live.open) await new Promise((go) => setImmediate(go));

  s.relay.process.kill('SIGTERM');
  await s.relay.event('draining');
  const kept = await s.visit('/kept', { agent: keep });
  assert.equal(kept.text, 'you asked for /kept');
  assert.equal(kept.headers.connection, 'close');
  const fresh = await s.visit('/fresh');
  assert.equal(fresh.text, 'you asked for /fresh');
  assert.equal(fresh.headers.connection, 'close');
  // Nobody new is let in.
  const late = await startAgent(t, s.dir, s.relay, s.origin.port, [], { wait: false, data: path.join(s.dir, 'late') });
  const why = await late.event('state');
  assert.equal(why.code, 'BEAM-1024');

  live.release();
  assert.equal((await slow).text, 'begun whole');
  const begun = performance.now();
  assert.equal((await s.relay.exit()).code, 0);
  t.diagnostic(`the relay ended ${(performance.now() - begun).toFixed(0)} ms after its last stream`);
  assert.ok(performance.now() - begun < 6000);

  const seen = s.agent.events.length;
  const relay = await startRelay(t, s.dir, [], { listen: `127.0.0.1:${s.relay.port}` });
  const up = performance.now();
  await s.agent.wait(() => s.agent.events.find((e, i) => e.event === 'state' && e.state === 'active' && i >= seen - 1), 'back');
  t.diagnostic(`the agent was back ${(performance.now() - up).toFixed(0)} ms after the next relay`);
  assert.equal((await s.visit('/after')).text, 'you asked for /after');
  for (const p of [late, s.agent, relay]) await p.stop();
});

overTransports('SIGTERM to a relay with nothing under way, and a second one to a relay that waits', async (t) => {
  const live = service();
  const s = await setUp(t, live.listener);
  s.relay.process.kill('SIGTERM');
  const begun = performance.now();
  assert.equal((await s.relay.exit()).code, 0);
  t.diagnostic(`idle: ended after ${(performance.now() - begun).toFixed(0)} ms`);
  assert.ok(performance.now() - begun < 3000);
  await s.agent.stop();

  const u = await setUp(t, live.listener);
  const cut = u.visit('/live');
  cut.catch(() => {});
  while (!live.open) await new Promise((go) => setImmediate(go));
  u.relay.process.kill('SIGTERM');
  await u.relay.event('draining');
  u.relay.process.kill('SIGTERM');
  const second = performance.now();
  assert.equal((await u.relay.exit()).code, 0);
  t.diagnostic(`second signal: ended after ${(performance.now() - second).toFixed(0)} ms`);
  assert.ok(performance.now() - second < 2000);
  await assert.rejects(cut);
  live.release();
  await u.agent.stop();
});

function certificate(dir, file, serial) {
  const cert = path.join(dir, `${file}.pem`);
  const key = path.join(dir, `${file}.key`);
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key, '-out', cert, '-days', '2', '-set_serial', serial, '-subj', '/CN=*.tunnel.test', '-addext', 'subjectAltName=DNS:*.tunnel.test,DNS:tunnel.test'], { stdio: 'ignore' });
  return { cert, key };
}

overTransports('SIGHUP: new certificate and tokens, and no connection is lost', async (t) => {
  const dir = tempDir(t);
  const live = service();
  const one = certificate(dir, 'one', '0x1001');
  const tokens = path.join(dir, 'tokens');
  fs.writeFileSync(tokens, 'the-first-token-of-all\n', { mode: 0o600 });
  const relay = await startRelay(t, dir, ['--tls-cert', one.cert, '--tls-key', one.key, '--agent-token-file', tokens]);
  const origin = await serve(t, live.listener);
  const agent = await startAgent(t, dir, relay, origin.port, [], { env: { BEAM_TOKEN: 'the-first-token-of-all' } });
  const v = visitor(relay, agent);
  const base = { ...v.base, ca: fs.readFileSync(one.cert) };
  const socket = await connect(base);
  assert.equal(socket.getPeerCertificate().serialNumber, '1001');
  const received = drain(socket);
  socket.write(`GET /live HTTP/1.1\r\nHost: ${v.name}\r\n\r\n`);
  while (!live.open) await new Promise((go) => setImmediate(go));

  const two = certificate(dir, 'two', '0x2002');
  fs.renameSync(two.key, one.key);
  fs.renameSync(two.cert, one.cert);
  fs.writeFileSync(tokens, 'the-second-token-of-all\n', { mode: 0o600 });
  relay.process.kill('SIGHUP');
  await relay.event('reloaded');

  const next = await connect({ ...base, ca: fs.readFileSync(one.cert) });
  assert.equal(next.getPeerCertificate().serialNumber, '2002');
  next.destroy();
  live.release();
  socket.write(`GET /more HTTP/1.1\r\nHost: ${v.name}\r\nConnection: close\r\n\r\n`);
  const got = await received;
  assert.equal(got.cut, false);
  assert.match(got.text, /begun/);
  assert.match(got.text, /whole/);
  assert.match(got.text, /you asked for \/more/);
  assert.equal(agent.events.filter((e) => e.event === 'state').length, 0);

  const old = await startAgent(t, dir, relay, origin.port, [], { wait: false, data: path.join(dir, 'b'), env: { BEAM_TOKEN: 'the-first-token-of-all' } });
  assert.equal((await old.exit()).code, 4);
  const fresh = await startAgent(t, dir, relay, origin.port, [], { data: path.join(dir, 'b'), env: { BEAM_TOKEN: 'the-second-token-of-all' } });

  // A file that is wrong changes nothing, and it says so.
  fs.writeFileSync(one.cert, 'nonsense');
  relay.process.kill('SIGHUP');
  const error = await relay.event('error');
  assert.match(error.what, /one\.pem/);
  const still = await connect({ ...base, rejectUnauthorized: false });
  assert.equal(still.getPeerCertificate().serialNumber, '2002');
  still.destroy();
  for (const p of [fresh, agent, relay]) await p.stop();
});

test('SIGHUP: the configuration file is another one now, taken as a whole or not at all', async (t) => {
  const dir = tempDir(t);
  const live = service();
  const file = path.join(dir, 'relay.yml');
  const ports = await freeRange(20);
  fs.writeFileSync(file, 'workers: 2\n');
  const relay = await startRelay(t, dir, ['--config', file]);
  const origin = await serve(t, live.listener);
  const agent = await startAgent(t, dir, relay, origin.port);
  const v = visitor(relay, agent);
  const socket = await connect(v.base);
  const received = drain(socket);
  socket.write(`GET /live HTTP/1.1\r\nHost: ${v.name}\r\nConnection: close\r\n\r\n`);
  while (!live.open) await new Promise((go) => setImmediate(go));

  const refused = await startAgent(t, dir, relay, origin.port, [], { command: 'tcp', data: path.join(dir, 'b'), wait: false });
  assert.match((await refused.event('error')).what, /no public ports/);
  assert.equal((await refused.exit()).code, 4);
  fs.writeFileSync(file, `workers: 2\ntcp-ports: ${ports}\n`);
  relay.process.kill('SIGHUP');
  await relay.event('reloaded');
  const tcp = await startAgent(t, dir, relay, origin.port, [], { command: 'tcp', data: path.join(dir, 'b') });
  const [first, last] = ports.split('-').map(Number);
  assert.ok(tcp.info.port >= first && tcp.info.port <= last);

  // What is wrong or cannot be changed so: nothing of the file is taken, and the error says what.
  const bad = [
    ['workers: 3\n', /'workers' cannot change/],
    ['workers: 2\ncontrol-host: relay.example.org\n', /'control-host' cannot change/],
    ['workers: 2\ntcp-ports: 9-8\n', /'9-8' is not a range/],
    ['workers: 2\nagent-token-file: /nowhere\n', /\/nowhere/],
    ['workers: [\n', /relay\.yml/],
    ['worker: 2\n', /worker/],
  ];
  const errors = () => relay.events.filter((e) => e.event === 'error');
  for (const [i, [text, what]] of bad.entries()) {
    fs.writeFileSync(file, text);
    relay.process.kill('SIGHUP');
    await until(() => errors().length > i);
    assert.match(errors()[i].what, what);
  }
  const still = await startAgent(t, dir, relay, origin.port, [], { command: 'tcp', data: path.join(dir, 'c') });
  assert.ok(still.info.port >= first && still.info.port <= last);
  await still.stop();

  live.release();
  const got = await received;
  assert.equal(got.cut, false);
  assert.match(got.text, /whole/);
  for (const p of [tcp, agent, relay]) await p.stop();
});
