// Local services that are no plain port: TLS with and without verification, HTTP/2, unix sockets, folders.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import net from 'node:net';
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

/** What a service over HTTP/2 does with each path. */
function overHttp2(seen) {
  return (stream, headers) => {
    const path = headers[':path'];
    stream.on('error', () => {});
    seen.push(headers);
    if (path === '/echo') {
      stream.respond({ ':status': 200, 'x-length': headers['content-length'] ?? 'none' }, { waitForTrailers: true });
      let trailers = {};
      stream.on('trailers', (t) => (trailers = t));
      stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': trailers['x-mine'] ?? 'no trailers came' }));
      stream.pipe(stream);
    } else if (path === '/hints') {
      stream.additionalHeaders({ ':status': 103, link: '</a.css>; rel=preload' });
      stream.respond({ ':status': 200 });
      stream.end('hinted');
    } else if (path === '/refuse' && !seen.some((h) => h.refused)) {
      headers.refused = true;
      stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
    } else if (path === '/goaway' && !seen.some((h) => h.goaway)) {
      headers.goaway = true;
      stream.session.goaway(0, stream.id - 2);
      stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
    } else if (path === '/reset') {
      stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
    } else if (path === '/cut') {
      stream.respond({ ':status': 200 });
      stream.write('begun', () => stream.destroy(new Error('cut')));
    } else if (path === '/early') {
      stream.respond({ ':status': 413 });
      stream.end('enough');
    } else if (path === '/none') {
      stream.respond({ ':status': 204 }, { endStream: true });
    } else {
      stream.respond({ ':status': 200, 'content-type': 'application/json', 'set-cookie': ['a=1', 'b=2'] });
      stream.end(JSON.stringify({ headers, encrypted: !!stream.session.encrypted }));
    }
  };
}

async function http2Cases(t, s, seen, scheme, authority) {
  await t.test('requests and responses', async () => {
    const { status, headers, text } = await s.visit('/a?b=c', { headers: { cookie: 'x=1', te: 'trailers' } });
    assert.equal(status, 200);
    assert.deepEqual(headers['set-cookie'], ['a=1', 'b=2']);
    const h = JSON.parse(text).headers;
    assert.equal(h[':method'], 'GET');
    assert.equal(h[':path'], '/a?b=c');
    assert.equal(h[':scheme'], scheme);
    assert.equal(h[':authority'], authority);
    assert.equal(h.host, undefined);
    assert.equal(h.cookie, 'x=1');
    assert.equal(h['x-forwarded-host'], s.name);
    const head = await s.visit('/', { method: 'HEAD' });
    assert.deepEqual([head.status, head.body.length], [200, 0]);
    assert.equal((await s.visit('/none')).status, 204);
  });

  await t.test('bodies both ways, with and without a length, and trailers', async () => {
    const body = Buffer.alloc(3_000_000, 'abcdefg');
    const known = await s.visit('/echo', { method: 'POST', body, headers: { 'content-length': body.length } });
    assert.ok(known.body.equals(body));
    assert.equal(known.headers['x-length'], String(body.length));
    const answer = await new Promise((done, failed) => {
      const request = s.request('/echo', { method: 'POST', headers: { 'transfer-encoding': 'chunked', trailer: 'x-mine' } });
      request.on('error', failed).on('response', (response) => {
        const parts = [];
        response.on('data', (p) => parts.push(p)).on('end', () => done({ body: Buffer.concat(parts), trailers: response.trailers, headers: response.headers }));
      });
      request.addTrailers({ 'x-mine': 'seven' });
      request.end(body);
    });
    assert.ok(answer.body.equals(body));
    assert.equal(answer.headers['x-length'], 'none');
    assert.equal(answer.trailers['x-sum'], 'seven');
  });

  await t.test('early hints', async () => {
    const hints = [];
    await new Promise((done, failed) => {
      const request = s.request('/hints');
      request.on('information', (i) => hints.push([i.statusCode, i.headers.link])).on('error', failed).on('response', (r) => r.resume().on('end', done));
      request.end();
    });
    assert.deepEqual(hints, [[103, '</a.css>; rel=preload']]);
  });

  await t.test('what the service did not process goes out again; what it reset does not', async () => {
    assert.equal((await s.visit('/refuse')).status, 200);
    assert.equal(seen.filter((h) => h[':path'] === '/refuse').length, 2);
    assert.equal((await s.visit('/goaway')).status, 200);
    assert.equal((await s.visit('/goaway')).status, 200);
    const reset = await s.visit('/reset');
    assert.deepEqual([reset.status, reset.headers['beam-error']], [502, 'BEAM-5022']);
    assert.equal(seen.filter((h) => h[':path'] === '/reset').length, 1);
    await assert.rejects(s.visit('/cut'));
  });

  await t.test('an answer before the body was read', async () => {
    const { status, text } = await s.visit('/early', { method: 'POST', body: Buffer.alloc(2_000_000) }).catch((e) => (e.code === 'EPIPE' || e.code === 'ECONNRESET' ? { status: 413, text: 'enough' } : Promise.reject(e)));
    assert.deepEqual([status, text], [413, 'enough']);
  });

  await t.test('a hundred and fifty at once', async () => {
    const all = await Promise.all(Array.from({ length: 150 }, (_, i) => s.visit(`/many${i}`)));
    all.forEach((one, i) => assert.equal(JSON.parse(one.text).headers[':path'], `/many${i}`));
  });
}

test('a local service that speaks HTTP/2 without TLS', async (t) => {
  const r = await rig(t);
  const seen = [];
  const server = http2.createServer({ settings: { maxConcurrentStreams: 20 } });
  server.on('stream', overHttp2(seen));
  const port = await listen(t, server);
  const s = await agentFor(t, r, port, ['--upstream-protocol', 'h2c']);
  await http2Cases(t, s, seen, 'http', `localhost:${port}`);

  await t.test('WebSocket as extended CONNECT, where the service takes that', async (t) => {
    const server = http2.createServer({ settings: { enableConnectProtocol: true } });
    const methods = [];
    server.on('stream', (stream, headers) => {
      stream.on('error', () => {});
      methods.push([headers[':method'], headers[':protocol']]);
      stream.respond({ ':status': 200 });
      if (headers[':protocol']) stream.pipe(stream);
      else stream.end('page');
    });
    const s = await agentFor(t, r, await listen(t, server), ['--upstream-protocol', 'h2c']);
    assert.equal((await s.visit('/')).text, 'page');
    const socket = await s.connect();
    socket.write(`GET /ws HTTP/1.1\r\nHost: ${s.name}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`);
    let got = '';
    socket.on('data', (bytes) => (got += bytes));
    await until(() => got.includes('\r\n\r\n'), 'the upgrade');
    assert.match(got, /^HTTP\/1\.1 101 /);
    assert.match(got, /sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK\+xOo=\r\n/i);
    socket.write('and back');
    await until(() => got.endsWith('\r\n\r\nand back'), 'the echo');
    socket.end();
    await new Promise((done) => socket.on('close', done));
    assert.deepEqual(methods, [['GET', undefined], ['CONNECT', 'websocket']]);
  });
  const plain = await serve(t, what);
  const b = await agentFor(t, r, plain.port, ['--upstream-protocol', 'h2c']);
  assert.equal((await b.visit('/')).headers['beam-error'], 'BEAM-5027');
});

test('a local service that chooses HTTP/2 over TLS', async (t) => {
  const r = await rig(t);
  const seen = [];
  const cert = certificate(r.dir, 'localhost', 'DNS:localhost');
  const server = http2.createSecureServer({ key: cert.key, cert: cert.cert, allowHTTP1: true });
  server.on('stream', overHttp2(seen));
  const sockets = new WebSocketServer({ server });
  sockets.on('connection', (socket) => socket.on('message', (m) => socket.send(`echo ${m}`)));
  const port = await listen(t, server);
  const s = await agentFor(t, r, `https://localhost:${port}`, ['--upstream-ca', cert.file]);
  await http2Cases(t, s, seen, 'https', `localhost:${port}`);

  await t.test('WebSocket goes over HTTP/1.1', async () => {
    const socket = new WebSocket(s.url.replace('https', 'wss'), { ca: s.base.ca, servername: s.name, lookup: (_, o, done) => (o.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4)) });
    const answer = await new Promise((done, failed) => {
      socket.on('error', failed).on('open', () => socket.send('hi')).on('message', (m) => done(String(m)));
    });
    socket.terminate();
    assert.equal(answer, 'echo hi');
  });

  await t.test('HTTP/1.1 alone, if that is said', async (t) => {
    server.on('request', (request, response) => request.httpVersion === '1.1' && response.end(request.httpVersion));
    const one = await agentFor(t, r, port, ['--upstream-protocol', 'https', '--upstream-insecure']);
    assert.equal(one.agent.info.target, `https://localhost:${port}`);
    assert.equal(JSON.parse((await one.visit('/')).text).headers[':scheme'], 'https');
    const other = await agentFor(t, r, `https://localhost:${port}`, ['--upstream-protocol', 'http1', '--upstream-insecure']);
    assert.equal((await other.visit('/')).text, '1.1');
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
  const over2 = http2.createServer();
  over2.on('stream', overHttp2([]));
  const file2 = path.join(r.dir, 'h2.sock');
  await new Promise((done) => over2.listen(file2, done));
  t.after(() => over2.close());
  const two = await agentFor(t, r, `unix:${file2}`, ['--upstream-protocol', 'h2c']);
  assert.equal(JSON.parse((await two.visit('/')).text).headers[':authority'], 'localhost');
  await two.agent.stop(); // its connection goes with it, so that the server can close
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

test('a folder', async (t) => {
  const r = await rig(t);
  const root = path.join(r.dir, 'dist');
  const big = randomBytes(5_000_000);
  fs.mkdirSync(path.join(root, 'sub dir'), { recursive: true });
  fs.mkdirSync(path.join(root, 'empty'));
  fs.mkdirSync(path.join(root, '.git'));
  fs.mkdirSync(path.join(root, '.well-known'));
  const files = { 'index.html': '<h1>home</h1>', 'app.js': 'let a', 'sub dir/index.html': 'sub', 'sub dir/ä.txt': 'umlaut', 'none.bin': '', '.env': 'secret', '.git/config': 'secret', '.well-known/x': 'known', 'big.bin': big };
  for (const [name, text] of Object.entries(files)) fs.writeFileSync(path.join(root, name), text);
  fs.writeFileSync(path.join(r.dir, 'outside'), 'secret');
  const old = new Date('2024-05-06T07:08:09Z');
  for (const name of ['app.js', 'big.bin', 'none.bin']) fs.utimesSync(path.join(root, name), old, old);
  fs.symlinkSync('app.js', path.join(root, 'link.js'));
  fs.symlinkSync('../outside', path.join(root, 'out'));
  fs.symlinkSync('..', path.join(root, 'up'));
  fs.symlinkSync('/etc', path.join(root, 'etc'));
  execFileSync('mkfifo', [path.join(root, 'pipe')]);
  const socket = net.createServer().listen(path.join(root, 'sock'));
  t.after(() => socket.close());
  const s = await agentFor(t, r, root);
  assert.equal(s.agent.info.target, root);
  const get = (target, headers, method = 'GET') => s.visit(target, { headers, method });

  await t.test('files, indexes, types', async () => {
    const home = await get('/');
    assert.deepEqual([home.status, home.text, home.headers['content-type']], [200, '<h1>home</h1>', 'text/html; charset=utf-8']);
    assert.equal(home.headers['x-content-type-options'], 'nosniff');
    assert.equal(home.headers['cache-control'], 'no-cache');
    const app = await get('/app.js?v=1');
    assert.deepEqual([app.text, app.headers['content-type'], app.headers['content-length'], app.headers['last-modified']], ['let a', 'text/javascript; charset=utf-8', '5', 'Mon, 06 May 2024 07:08:09 GMT']);
    assert.equal((await get('/sub%20dir/%C3%A4.txt')).text, 'umlaut');
    assert.equal((await get('/sub%20dir/')).text, 'sub');
    assert.equal((await get('/.well-known/x')).text, 'known');
    assert.equal((await get('/link.js')).text, 'let a');
    assert.ok((await get('/big.bin')).body.equals(big));
    const none = await get('/none.bin');
    assert.deepEqual([none.status, none.headers['content-length'], none.body.length], [200, '0', 0]);
    const head = await get('/app.js', {}, 'HEAD');
    assert.deepEqual([head.status, head.headers['content-length'], head.headers.etag, head.body.length], [200, '5', app.headers.etag, 0]);
    const away = await get('/sub%20dir?a=b');
    assert.deepEqual([away.status, away.headers.location], [301, '/sub%20dir/?a=b']);
  });

  await t.test('nothing else', async () => {
    for (const target of ['/.env', '/.git/config', '/.git/', '/%2eenv', '/out', '/up/outside', '/up/', '/etc/passwd', '/pipe', '/sock', '/empty/', '/nothing', '/app.js/', '/app.js/x', '/../outside', '/%2e%2e/outside', '/sub%20dir/../../outside', '/..%2foutside', '//etc/passwd', '/x%00', `/${'x'.repeat(5000)}`]) {
      const { status, headers, text } = await get(target);
      assert.deepEqual([status, headers['beam-error']], [404, 'BEAM-4043'], target);
      assert.doesNotMatch(text, /secret|root:/);
    }
    const post = await s.visit('/app.js', { method: 'POST', body: Buffer.alloc(500_000) }).catch((e) => ({ status: e.code }));
    assert.ok([405, 'EPIPE', 'ECONNRESET'].includes(post.status), String(post.status));
    const put = await get('/app.js', {}, 'DELETE');
    assert.deepEqual([put.status, put.headers.allow, put.headers['beam-error']], [405, 'GET, HEAD, OPTIONS', 'BEAM-4051']);
    assert.deepEqual([(await get('/', {}, 'OPTIONS')).status], [204]);
  });

  await t.test('parts', async () => {
    for (const [range, status, first, end] of [['bytes=0-0', 206, 0, 1], ['bytes=1000000-3999999', 206, 1_000_000, 4_000_000], ['bytes=4999999-', 206, 4_999_999, 5_000_000], ['bytes=-5', 206, 4_999_995, 5_000_000], ['bytes=0-1,5-6', 200, 0, 5_000_000], ['rows=0-1', 200, 0, 5_000_000]]) {
      const one = await get('/big.bin', { range });
      assert.equal(one.status, status, range);
      assert.ok(one.body.equals(big.subarray(first, end)), range);
      assert.equal(one.headers['content-range'], status === 206 ? `bytes ${first}-${end - 1}/5000000` : undefined);
    }
    const beyond = await get('/big.bin', { range: 'bytes=5000000-' });
    assert.deepEqual([beyond.status, beyond.headers['content-range'], beyond.body.length], [416, 'bytes */5000000', 0]);
    assert.equal((await get('/big.bin', { range: 'bytes=0-0' }, 'HEAD')).status, 200);
    // curl goes on where it stopped
    const out = path.join(r.dir, 'resumed');
    fs.writeFileSync(out, big.subarray(0, 1_234_567));
    const { code, stderr } = await run(t, 'curl', [...s.curl, '-C', '-', '-o', out, `${s.url}/big.bin`]);
    assert.equal(code, 0, stderr);
    assert.ok(fs.readFileSync(out).equals(big));
  });

  await t.test('validators', async () => {
    const { headers } = await get('/app.js');
    const { etag } = headers;
    const modified = headers['last-modified'];
    assert.match(etag, /^"/);
    const later = 'Tue, 07 May 2024 07:08:09 GMT';
    const earlier = 'Sun, 05 May 2024 07:08:09 GMT';
    for (const [given, status] of [
      [{ 'if-none-match': etag }, 304],
      [{ 'if-none-match': `W/${etag}` }, 304],
      [{ 'if-none-match': '"x", *' }, 200],
      [{ 'if-none-match': '*' }, 304],
      [{ 'if-none-match': '"x"', 'if-modified-since': later }, 200],
      [{ 'if-modified-since': modified }, 304],
      [{ 'if-modified-since': later }, 304],
      [{ 'if-modified-since': earlier }, 200],
      [{ 'if-modified-since': 'yesterday' }, 200],
      [{ 'if-match': etag }, 200],
      [{ 'if-match': '"x"' }, 412],
      [{ 'if-match': `W/${etag}` }, 412],
      [{ 'if-unmodified-since': modified }, 200],
      [{ 'if-unmodified-since': earlier }, 412],
      [{ range: 'bytes=0-1', 'if-range': etag }, 206],
      [{ range: 'bytes=0-1', 'if-range': '"x"' }, 200],
      [{ range: 'bytes=0-1', 'if-range': modified }, 206],
      [{ range: 'bytes=0-1', 'if-range': later }, 200],
      [{ range: 'bytes=0-1', 'if-none-match': etag }, 304],
    ]) {
      const one = await get('/app.js', given);
      assert.equal(one.status, status, JSON.stringify(given));
      if (status === 304) assert.deepEqual([one.headers.etag, one.headers['content-length'], one.body.length], [etag, undefined, 0]);
    }
    fs.writeFileSync(path.join(root, 'app.js'), 'let b');
    const changed = await get('/app.js', { 'if-none-match': etag });
    assert.deepEqual([changed.status, changed.text], [200, 'let b']);
  });

  await t.test('built anew while it is shared', async () => {
    fs.renameSync(root, `${root}-before`);
    assert.equal((await get('/')).status, 404);
    fs.mkdirSync(root);
    fs.writeFileSync(path.join(root, 'index.html'), 'new');
    fs.writeFileSync(path.join(root, '404.html'), 'not here');
    assert.equal((await get('/')).text, 'new');
    const none = await get('/none');
    assert.deepEqual([none.status, none.text], [404, 'not here']);
  });

  await t.test('an app with routes of its own', async (t) => {
    const app = await agentFor(t, r, './dist', ['--fallback', 'index.html'], { cwd: r.dir });
    for (const target of ['/', '/users/7', '/users/']) assert.deepEqual([(await app.visit(target)).status, (await app.visit(target)).text], [200, 'new'], target);
    assert.equal((await app.visit('/missing.js')).status, 404);
  });

  await t.test('many at once, and a visitor who leaves: no descriptor stays', async () => {
    fs.writeFileSync(path.join(root, 'big.bin'), big);
    await get('/');
    const before = s.agent.fds();
    const all = await Promise.all(Array.from({ length: 12 }, () => get('/big.bin')));
    for (const one of all) assert.ok(one.body.equals(big));
    await new Promise((done) => {
      const request = s.request('/big.bin');
      request.on('error', () => {}).on('response', (response) => {
        response.once('data', () => {
          response.destroy();
          done();
        });
      });
      request.end();
    });
    await until(() => s.agent.fds() <= before, 'as many descriptors as before');
  });
});
