// Local services that are no plain port: TLS with and without verification, unix sockets.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import path from 'node:path';
import test from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import { run, beam, cleanEnv, tempDir, until } from './lib/run.mjs';
import { listen, serve, startAgent, startRelay, visitor } from './lib/setup.mjs';

/** A self-signed certificate as people make them: no CA, for one name. */
function certificate(dir, name, alt) {
  const [key, cert] = [path.join(dir, `${name}.key`), path.join(dir, `${name}.pem`)];
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', `/CN=${name}`, '-addext', `subjectAltName=${alt}`, '-keyout', key, '-out', cert], { stdio: 'ignore' });
  return { key: fs.readFileSync(key), cert: fs.readFileSync(cert), file: cert };
}

async function what(request, response) {
  if (request.url === '/echo') return request.pipe(response);
  if (request.url === '/away') return response.writeHead(302, { location: `https://${request.headers.host}/there` }).end();
  response.end(JSON.stringify({ headers: request.headers, encrypted: !!request.socket.encrypted, sni: request.socket.servername }));
}

async function rig(t) {
  const dir = tempDir(t);
  return { dir, relay: await startRelay(t, dir, ['--open']) };
}

/** An agent for this target; each has a data directory, so a name, of its own. */
let agents = 0;
async function agentFor(t, { dir, relay }, target, args = [], options = {}) {
  const agent = await startAgent(t, dir, relay, target, args, { data: path.join(dir, `agent${agents++}`), ...options });
  return { agent, ...visitor(relay, agent) };
}

test('a local service that speaks https', async (t) => {
  const r = await rig(t);
  const cert = certificate(r.dir, 'localhost', 'DNS:localhost,IP:127.0.0.1');
  const other = certificate(r.dir, 'other', 'DNS:other.test');
  const server = https.createServer({ key: cert.key, cert: cert.cert }, what);
  const port = await listen(t, server);
  const sockets = new WebSocketServer({ server });
  sockets.on('connection', (socket) => socket.on('message', (m) => socket.send(`echo ${m}`)));

  await t.test('verified by the certificate itself', async (t) => {
    const s = await agentFor(t, r, `https://localhost:${port}`, ['--upstream-ca', cert.file]);
    assert.equal(s.agent.info.target, `https://localhost:${port}`);
    const { status, text } = await s.visit('/');
    assert.equal(status, 200);
    const seen = JSON.parse(text);
    assert.equal(seen.encrypted, true);
    assert.equal(seen.sni, 'localhost');
    assert.equal(seen.headers.host, `localhost:${port}`);
    const origin = JSON.parse((await s.visit('/', { headers: { origin: `https://${s.name}` } })).text).headers.origin;
    assert.equal(origin, `https://localhost:${port}`);
    assert.equal((await s.visit('/away')).headers.location, `https://${s.name}/there`);
    const body = Buffer.alloc(3_000_000, 'x');
    assert.ok((await s.visit('/echo', { method: 'POST', body })).body.equals(body));
    const socket = new WebSocket(s.url.replace('https', 'wss'), { ca: s.base.ca, servername: s.name, lookup: (_, o, done) => (o.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4)) });
    const answer = await new Promise((done, failed) => {
      socket.on('error', failed).on('open', () => socket.send('hi')).on('message', (m) => done(String(m)));
    });
    socket.terminate();
    assert.equal(answer, 'echo hi');
  });

  await t.test('by address', async (t) => {
    const s = await agentFor(t, r, `https://127.0.0.1:${port}`, ['--upstream-ca', cert.file]);
    const seen = JSON.parse((await s.visit('/')).text);
    assert.equal(seen.sni, false); // addresses are not sent
  });

  await t.test('by the system, if it knows the CA', async (t) => {
    const s = await agentFor(t, r, `https://localhost:${port}`, [], { env: { SSL_CERT_FILE: cert.file } });
    assert.equal((await s.visit('/')).status, 200);
  });

  await t.test('not verified', async (t) => {
    const s = await agentFor(t, r, `https://localhost:${port}`, ['--upstream-insecure']);
    assert.equal((await s.visit('/')).status, 200);
  });

  await t.test('nobody vouches for it: the page says what to do', async (t) => {
    for (const args of [[], ['--upstream-ca', other.file]]) {
      const s = await agentFor(t, r, `https://localhost:${port}`, args);
      const { status, headers, text } = await s.visit('/');
      assert.equal(status, 502);
      assert.equal(headers['beam-error'], 'BEAM-5025');
      assert.match(text, /--upstream-insecure/);
      await s.agent.event('request', (e) => e.error === 'BEAM-5025');
    }
  });

  await t.test('the wrong name', async (t) => {
    const server = https.createServer({ key: other.key, cert: other.cert }, what);
    const port = await listen(t, server);
    const s = await agentFor(t, r, `https://localhost:${port}`, ['--upstream-ca', other.file]);
    assert.equal((await s.visit('/')).headers['beam-error'], 'BEAM-5025');
  });

  await t.test('plain http where https was said, and the other way round', async (t) => {
    const plain = await serve(t, what);
    const s = await agentFor(t, r, `https://localhost:${plain.port}`, ['--upstream-insecure']);
    assert.equal((await s.visit('/')).headers['beam-error'], 'BEAM-5026');
    const b = await agentFor(t, r, port);
    assert.match((await b.visit('/')).headers['beam-error'], /BEAM-502[23]/); // some say so in plain text, some hang up
  });

  await t.test('a CA file that is none', async (t) => {
    const file = path.join(r.dir, 'none.pem');
    const start = () => run(t, beam, [`https://localhost:${port}`, '--upstream-ca', file, '--relay', `127.0.0.1:${r.relay.port}`, '--relay-ca', r.relay.info.ca, '--data', path.join(r.dir, 'none')], { env: cleanEnv(r.dir) });
    const missing = await start();
    assert.equal(missing.code, 1, missing.stderr);
    assert.match(missing.stderr, /none\.pem/);
    fs.writeFileSync(file, 'no certificate');
    const bad = await start();
    assert.equal(bad.code, 2, bad.stderr);
    assert.match(bad.stderr, /BEGIN CERTIFICATE/);
  });
});

test('a unix socket', async (t) => {
  const r = await rig(t);
  const file = path.join(r.dir, 'app.sock');
  const server = http.createServer(what);
  await new Promise((done) => server.listen(file, done));
  t.after(() => server.close());
  const s = await agentFor(t, r, `unix:${file}`);
  assert.equal(s.agent.info.target, `unix:${file}`);
  const seen = JSON.parse((await s.visit('/')).text);
  assert.equal(seen.headers.host, 'localhost');
  const body = Buffer.alloc(1_000_000, 'y');
  assert.ok((await s.visit('/echo', { method: 'POST', body })).body.equals(body));
  await new Promise((done) => {
    server.close(done);
    server.closeAllConnections();
  });
  await until(async () => (await s.visit('/')).headers['beam-error'] === 'BEAM-5021', 'nobody is there');

  await t.test('drawn names are as sticky as those of ports', async (t) => {
    const first = await startAgent(t, r.dir, r.relay, `unix:${file}`, [], { data: path.join(r.dir, 'again') });
    await first.stop();
    const second = await startAgent(t, r.dir, r.relay, `unix:${file}`, [], { data: path.join(r.dir, 'again') });
    assert.equal(second.name, first.name);
  });
});
