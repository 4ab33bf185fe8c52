// beam tcp and beam tls: bytes as they are, from a public port or by server name.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import test from 'node:test';
import tls from 'node:tls';
import { Program, cleanUp, run, sanitized, tempDir, until } from './lib/run.mjs';
import { drain, freePort, freeRange, listen, serve, startAgent, startRelay, visitor } from './lib/setup.mjs';
import { overTransports } from './lib/transports.mjs';

const tcp = (t, s, port, args = [], options = {}) => startAgent(t, s.dir, s.relay, port, args, { command: 'tcp', ...options });

async function relayWithPorts(t, args = []) {
  const dir = tempDir(t);
  const ports = await freeRange(20);
  return { dir, ports, relay: await startRelay(t, dir, ['--tcp-ports', ports, ...args]) };
}

/** A local service that sends back what it gets, and ends when its visitor does. */
async function echo(t) {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket));
  return listen(t, server);
}

const dial = (port, options = {}) => net.connect({ port, host: '127.0.0.1', ...options });

/** Sends, ends, and gives all that comes back until the other end. */
async function exchange(port, bytes) {
  const socket = dial(port, { allowHalfOpen: true });
  const answer = drain(socket);
  socket.end(bytes);
  const got = await answer;
  assert.equal(got.cut, false);
  return got.bytes;
}

overTransports('beam tcp: a public port, half-close, and the same port again after either program restarted', { atOnce: true }, async (t) => {
  const s = await relayWithPorts(t);
  const local = await echo(t);
  let agent = await tcp(t, s, local);
  const { port } = agent.info;
  const [first, last] = s.ports.split('-').map(Number);
  assert.equal(agent.info.kind, 'tcp');
  assert.equal(agent.info.url, `tcp://tunnel.test:${port}`);
  assert.equal(agent.info.target, `tcp://localhost:${local}`);
  assert.ok(port >= first && port <= last);

  const bytes = randomBytes(300_000);
  assert.ok((await exchange(port, bytes)).equals(bytes));
  const line = await agent.event('connection');
  assert.equal(line.bytes_in, bytes.length);
  assert.equal(line.bytes_out, bytes.length);
  assert.equal(line.error ?? null, null);

  await agent.stop();
  await assert.rejects(new Promise((resolve, reject) => dial(port).on('error', reject).on('connect', resolve)), /ECONNREFUSED/);
  agent = await tcp(t, s, local);
  assert.equal(agent.info.port, port);

  const seen = agent.events.length;
  await s.relay.kill();
  s.relay = await startRelay(t, s.dir, ['--tcp-ports', s.ports], { listen: `127.0.0.1:${s.relay.port}` });
  await agent.wait(() => agent.events.slice(seen).find((e) => e.event === 'state' && e.state === 'active'), 'back');
  assert.ok((await exchange(port, bytes)).equals(bytes));
  await agent.stop();
  await s.relay.stop();
});

overTransports('a visitor of a TCP tunnel waits for the agent that is just restarting', { atOnce: true }, async (t) => {
  const s = await relayWithPorts(t, ['--workers', '2']);
  const local = await echo(t);
  const agent = await tcp(t, s, local);
  await agent.kill();
  await s.relay.event('session_down');
  const waiting = exchange(agent.info.port, Buffer.from('patience'));
  const next = await tcp(t, s, local);
  assert.equal(next.info.port, agent.info.port);
  assert.equal(String(await waiting), 'patience');
  await next.stop();
  await s.relay.stop();
});

overTransports('ports that cannot be had', async (t) => {
  const s = await relayWithPorts(t);
  const [first, last] = s.ports.split('-').map(Number);
  const local = await echo(t);
  const agent = await tcp(t, s, local, ['--remote-port', String(last)]);
  assert.equal(agent.info.port, last);
  const cases = [
    { args: ['--remote-port', String(last)], code: 'BEAM-1014', device: 'other' },
    { args: ['--remote-port', String(first - 1)], code: 'BEAM-1015', device: 'other' },
  ];
  for (const c of cases) {
    const other = await tcp(t, s, local, c.args, { wait: false, data: path.join(s.dir, c.device) });
    assert.equal((await other.exit()).code, 4);
    assert.equal(other.events.find((e) => e.event === 'error').code, c.code);
  }
  const none = await startRelay(t, s.dir, [], { data: path.join(s.dir, 'second') });
  const refused = await startAgent(t, s.dir, none, local, [], { command: 'tcp', wait: false, data: path.join(s.dir, 'other') });
  assert.equal((await refused.exit()).code, 4);
  const error = refused.events.find((e) => e.event === 'error');
  assert.equal(error.code, 'BEAM-1023');
  assert.match(error.what, /no public ports/);

  // A port of the range that another program has is not drawn for good.
  const two = await freeRange(2);
  const taken = await listen(t, net.createServer(), Number(two.split('-')[0]));
  const tight = await startRelay(t, s.dir, ['--tcp-ports', two], { data: path.join(s.dir, 'third') });
  const lucky = await startAgent(t, s.dir, tight, local, [], { command: 'tcp', data: path.join(s.dir, 'other') });
  assert.notEqual(lucky.info.port, taken);
  for (const p of [agent, lucky, none, tight, s.relay]) await p.stop();
});

overTransports('PROXY protocol: the local service learns who the visitor is', async (t) => {
  const s = await relayWithPorts(t);
  const heard = [];
  const server = net.createServer({ allowHalfOpen: true }, async (socket) => {
    heard.push((await drain(socket)).bytes);
  });
  server.on('connection', (socket) => socket.on('end', () => socket.end()));
  const local = await listen(t, server);
  for (const version of ['1', '2']) {
    const agent = await tcp(t, s, local, ['--proxy-protocol', version]);
    const socket = dial(agent.info.port, { allowHalfOpen: true });
    await new Promise((resolve) => socket.once('connect', resolve));
    const from = socket.localPort;
    const done = drain(socket);
    socket.end('hello');
    await done;
    const got = await until(() => heard.shift(), 'the local service heard');
    if (version === '1') {
      assert.equal(got.toString(), `PROXY TCP4 127.0.0.1 127.0.0.1 ${from} ${agent.info.port}\r\nhello`);
    } else {
      assert.equal(got.subarray(0, 14).toString('latin1'), '\r\n\r\n\0\r\nQUIT\n\x21\x11');
      assert.equal(got.readUInt16BE(14), 12);
      assert.deepEqual([...got.subarray(16, 24)], [127, 0, 0, 1, 127, 0, 0, 1]);
      assert.equal(got.readUInt16BE(24), from);
      assert.equal(got.readUInt16BE(26), agent.info.port);
      assert.equal(got.subarray(28).toString(), 'hello');
    }
    await agent.stop();
  }
  await s.relay.stop();
});

overTransports('a hundred visitors at once, over both workers', async (t) => {
  const s = await relayWithPorts(t, ['--workers', '2']);
  const local = await echo(t);
  const agent = await tcp(t, s, local, ['--quiet']);
  const digest = (bytes) => createHash('sha256').update(bytes).digest('hex');
  const size = sanitized ? 50_000 : 500_000;
  const begun = performance.now();
  await Promise.all(
    Array.from({ length: 100 }, async (_, i) => {
      const bytes = randomBytes(size + i);
      assert.equal(digest(await exchange(agent.info.port, bytes)), digest(bytes));
    }),
  );
  t.diagnostic(`100 visitors x ${size} bytes, there and back: ${(performance.now() - begun).toFixed(0)} ms`);
  await agent.stop();
  await s.relay.stop();
});

overTransports('the local service is not there', async (t) => {
  const s = await relayWithPorts(t);
  const agent = await tcp(t, s, await freePort());
  const got = await drain(dial(agent.info.port));
  assert.equal(got.bytes.length, 0);
  assert.ok(got.cut);
  const line = await agent.event('connection');
  assert.match(line.error, /^BEAM-\d{4}$/);
  await agent.stop();
  await s.relay.stop();
});

test('beam tcp without a relay: the embedded one has ports', async (t) => {
  const dir = tempDir(t);
  const local = await echo(t);
  const { beam, cleanEnv } = await import('./lib/run.mjs');
  const agent = new Program(t, beam, ['tcp', String(local), '--listen', '127.0.0.1:0', '--listen-plain', '127.0.0.1:0', '--json'], { env: cleanEnv(dir) });
  const info = await agent.event('tunnel');
  assert.match(info.url, /^tcp:\/\/localhost:20\d{3}$/);
  assert.equal(String(await exchange(info.port, Buffer.from('near'))), 'near');
  const status = await run(t, beam, ['status', '--json'], { env: cleanEnv(dir) });
  assert.equal(JSON.parse(status.stdout).speaks, 'tcp');
  await agent.stop();
});

/** A key and certificate that only the local service has. */
function ownCertificate(dir, name) {
  const key = path.join(dir, 'own.key');
  const cert = path.join(dir, 'own.pem');
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key, '-out', cert, '-days', '2', '-subj', '/CN=the local service itself', '-addext', `subjectAltName=DNS:${name}`], { stdio: 'ignore' });
  return { key, cert };
}

overTransports('beam tls: the visitor sees the certificate of the local service, not the relay', { atOnce: true }, async (t) => {
  const s = await relayWithPorts(t, ['--workers', '2']);
  const own = ownCertificate(s.dir, 'shop.tunnel.test');
  const server = tls.createServer({ key: fs.readFileSync(own.key), cert: fs.readFileSync(own.cert), allowHalfOpen: true }, (socket) => socket.pipe(socket));
  const local = await listen(t, server);
  const agent = await startAgent(t, s.dir, s.relay, local, ['--name', 'shop'], { command: 'tls' });
  assert.equal(agent.info.kind, 'tls');
  assert.equal(agent.info.url, `tls://shop.tunnel.test:${s.relay.port}`);

  const seen = await run(t, 'openssl', ['s_client', '-connect', `127.0.0.1:${s.relay.port}`, '-servername', 'shop.tunnel.test', '-CAfile', own.cert, '-verify_return_error'], {
    stdin: 'pipe',
    input: '',
  });
  assert.match(seen.stdout, /subject=CN = the local service itself/);
  assert.match(seen.stdout, /Verify return code: 0 \(ok\)/);

  const socket = tls.connect({ host: '127.0.0.1', port: s.relay.port, servername: 'shop.tunnel.test', ca: fs.readFileSync(own.cert) });
  const back = drain(socket);
  socket.end('end to end');
  assert.equal((await back).text, 'end to end');

  // An HTTP tunnel beside it is served as ever.
  const web = await serve(t, (_, response) => response.end('plain web'));
  const other = await startAgent(t, s.dir, s.relay, web.port, ['--name', 'web']);
  assert.equal((await visitor(s.relay, other).visit('/')).text, 'plain web');

  // The agent restarts: a visitor in between waits for it.
  await agent.kill();
  await s.relay.event('session_down');
  const early = tls.connect({ host: '127.0.0.1', port: s.relay.port, servername: 'shop.tunnel.test', ca: fs.readFileSync(own.cert) });
  const waited = drain(early);
  early.end('patience');
  const next = await startAgent(t, s.dir, s.relay, local, ['--name', 'shop'], { command: 'tls' });
  assert.equal((await waited).text, 'patience');
  for (const p of [next, other, s.relay]) await p.stop();
});

/** The newest PostgreSQL of the system, or undefined. */
function postgres() {
  const base = '/usr/lib/postgresql';
  const versions = fs.existsSync(base) ? fs.readdirSync(base).sort((a, b) => Number(b) - Number(a)) : [];
  return versions.map((v) => path.join(base, v, 'bin')).find((dir) => fs.existsSync(path.join(dir, 'postgres')));
}

overTransports('psql speaks to a real PostgreSQL through beam tcp', { skip: !postgres() && 'PostgreSQL is not installed' }, async (t) => {
  const s = await relayWithPorts(t);
  const bin = postgres();
  // PostgreSQL does not run as root.
  const user = process.getuid() === 0 ? { uid: Number(execFileSync('id', ['-u', 'postgres'])), gid: Number(execFileSync('id', ['-g', 'postgres'])) } : {};
  const data = fs.mkdtempSync('/tmp/beam-pg-');
  cleanUp(t, () => fs.rmSync(data, { recursive: true, force: true }));
  if (user.uid) fs.chownSync(data, user.uid, user.gid);
  execFileSync(path.join(bin, 'initdb'), ['-D', path.join(data, 'db'), '-U', 'postgres', '-A', 'trust', '--no-sync'], { ...user, stdio: 'ignore', cwd: data });
  const port = await freePort();
  const { spawn } = await import('node:child_process');
  const server = spawn(path.join(bin, 'postgres'), ['-D', path.join(data, 'db'), '-h', '127.0.0.1', '-p', String(port), '-k', data], { ...user, stdio: 'ignore', cwd: data });
  const ended = new Promise((done) => server.on('exit', done));
  cleanUp(t, async () => {
    server.kill('SIGQUIT');
    await ended;
  });
  const agent = await tcp(t, s, port);
  const psql = (sql) => run(t, 'psql', ['-h', '127.0.0.1', '-p', String(agent.info.port), '-U', 'postgres', '-X', '-q', '-tA', '-c', sql], {});
  await until(async () => (await psql('select 1')).code === 0, 'PostgreSQL is up');
  assert.equal((await psql('select 6 * 7')).stdout.trim(), '42');
  const many = await psql("select repeat('x', 100) from generate_series(1, 50000)");
  assert.equal(many.code, 0);
  assert.equal(many.stdout.length, 50000 * 101);
  await agent.stop();
  await s.relay.stop();
});
