// What the owner of a tunnel lets in, and what becomes of it.
import assert from 'node:assert/strict';
import dgram from 'node:dgram';
import fs from 'node:fs';
import http2 from 'node:http2';
import net from 'node:net';
import path from 'node:path';
import { test } from 'node:test';
import WebSocket, { WebSocketServer } from 'ws';
import { Program, beam, cleanEnv, run, tempDir } from './lib/run.mjs';
import { freeRange, listen, serve, setUp, startAgent, startRelay, visitor } from './lib/setup.mjs';

const basic = (pair) => `Basic ${Buffer.from(pair).toString('base64')}`;

/** The least that a TLS client can begin with: its name and nothing behind it. */
function clientHello(name) {
  const u16 = (n) => Buffer.from([n >> 8, n & 255]);
  const sized = (b) => Buffer.concat([u16(b.length), b]);
  const sni = Buffer.concat([u16(0), sized(sized(Buffer.concat([Buffer.from([0]), sized(Buffer.from(name))])))]);
  const body = Buffer.concat([Buffer.from([3, 3]), Buffer.alloc(32, 7), Buffer.from([0]), sized(Buffer.from([0x13, 1])), Buffer.from([1, 0]), sized(sni)]);
  const message = Buffer.concat([Buffer.from([1, 0]), u16(body.length), body]);
  return Buffer.concat([Buffer.from([22, 3, 1]), sized(message)]);
}

function what(request, response) {
  response.setHeader('Content-Type', 'application/json');
  response.end(JSON.stringify({ method: request.method, url: request.url, headers: request.headers }));
}

test('--auth', async (t) => {
  const s = await setUp(t, what, { agentArgs: ['--auth', 'ada:correct, horse', '--auth', 'bob:ü:b'] });
  s.origin.server.on('upgrade', (request, socket, head) =>
    new WebSocketServer({ noServer: true }).handleUpgrade(request, socket, head, (ws) => ws.send(`for ada: ${request.headers.authorization ?? 'nothing'}`)),
  );

  await t.test('nothing, or something wrong, is asked for the password', async () => {
    for (const authorization of [undefined, basic('ada:wrong'), basic('bob:correct, horse'), 'Bearer abc', 'Basic !!']) {
      const r = await s.visit('/a', { headers: { accept: 'application/json', ...(authorization && { authorization }) } });
      assert.equal(r.status, 401);
      assert.equal(r.headers['www-authenticate'], 'Basic realm="Beam", charset="UTF-8"');
      assert.equal(r.headers['beam-error'], 'BEAM-4011');
      assert.equal(JSON.parse(r.text).error.code, 'BEAM-4011');
    }
  });

  await t.test('the agent tells of it', async () => {
    const e = await s.agent.event('request', (r) => r.path === '/a');
    assert.equal(e.status, 401);
    assert.equal(e.error, 'BEAM-4011');
  });

  await t.test('the right one passes, and the service does not see it', async () => {
    for (const pair of ['ada:correct, horse', 'bob:ü:b']) {
      const r = await s.visit('/b', { headers: { authorization: basic(pair), 'x-mine': 'kept' } });
      assert.equal(r.status, 200);
      const seen = JSON.parse(r.text);
      assert.equal(seen.headers.authorization, undefined);
      assert.equal(seen.headers['x-mine'], 'kept');
    }
    const e = await s.agent.event('request', (r) => r.path === '/b');
    assert.equal(e.error, null);
  });

  await t.test('curl asks and answers', async () => {
    const r = await run(t, 'curl', [...s.curl, '--http2', '-i', '--anyauth', '-u', 'ada:correct, horse', `${s.url}/`]);
    assert.match(r.stdout, /HTTP\/2 401 [\s\S]*HTTP\/2 200 /);
  });

  await t.test('an upload that is refused', async () => {
    const r = await run(t, 'curl', [...s.curl, '-i', '--data-binary', '@-', '-H', 'Expect:', `${s.url}/`], { stdin: 'pipe', input: 'x'.repeat(300_000) });
    assert.match(r.stdout, /^HTTP\/1\.1 401 /);
  });

  await t.test('gRPC, as its clients read it', async () => {
    const session = http2.connect(s.url, { ca: s.base.ca, servername: s.name, lookup: (_, o, done) => (o.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4)) });
    const call = session.request({ ':method': 'POST', ':path': '/pkg.Service/Call', 'content-type': 'application/grpc', te: 'trailers' });
    call.end(Buffer.from([0, 0, 0, 0, 0]));
    const headers = await new Promise((resolve, reject) => call.on('response', resolve).on('error', reject));
    session.close();
    assert.equal(headers['grpc-status'], '16'); // UNAUTHENTICATED
    assert.match(headers['grpc-message'], /BEAM-4011/);
  });

  await t.test('WebSocket', async () => {
    const options = { ca: s.base.ca, servername: s.name, headers: { host: s.name } };
    const dial = (more) => new WebSocket(`wss://127.0.0.1:${s.relay.port}/ws`, { ...options, ...more });
    const refused = await new Promise((resolve) => dial().on('error', resolve));
    assert.match(refused.message, /401/);
    const ws = dial({ headers: { ...options.headers, authorization: basic('ada:correct, horse') } });
    assert.equal(String(await new Promise((resolve, reject) => ws.on('message', resolve).on('error', reject))), 'for ada: nothing');
    ws.terminate();
  });
});

test('wrong passwords', async (t) => {
  const s = await setUp(t, what, { agentArgs: ['--auth', 'ada:right'] });
  const from = async (address, pair, path = '/') => {
    const format = '%{http_code} %header{beam-error} %header{retry-after}';
    const auth = pair ? ['-u', pair] : [];
    return (await run(t, 'curl', [...s.curl, '-so', '/dev/null', '-w', format, '--interface', address, ...auth, s.url + path])).stdout.trim();
  };
  const began = performance.now();
  for (let i = 0; i < 10; i++) assert.equal(await from('127.0.0.2', `ada:wrong${i}`), '401 BEAM-4011');
  let n = 10; // a slow machine: one more each six seconds
  for (const most = 100; n < most && /^401/.test(await from('127.0.0.2', 'ada:wrong')); n++);
  assert.ok(n <= 10 + (performance.now() - began) / 6000, `${n} passwords`);
  // Nor is the right one looked at, unless the six seconds just went by: then a wrong one uses them up.
  let right;
  for (let i = 0; i < 5 && (right = await from('127.0.0.2', 'ada:right', '/locked')) === '200'; i++) await from('127.0.0.2', 'ada:wrong');
  assert.match(right, /^429 BEAM-4294 [1-6]$/);
  assert.equal(await from('127.0.0.2'), '401 BEAM-4011');
  assert.equal(await from('127.0.0.3', 'ada:right'), '200');
  const e = await s.agent.event('request', (r) => r.path === '/locked' && r.status === 429);
  assert.equal(e.error, 'BEAM-4294');
});

test('passwords from the environment and a file', async (t) => {
  const dir = tempDir(t);
  const origin = await serve(t, what);
  const relay = await startRelay(t, dir);
  const file = path.join(dir, 'users');
  fs.writeFileSync(file, 'eve:from file\r\n\nfay:too\n', { mode: 0o600 });
  const agent = await startAgent(t, dir, relay, origin.port, ['--auth-file', file], { env: { BEAM_AUTH: 'ada:one\nbob:two' } });
  const v = visitor(relay, agent);
  for (const pair of ['ada:one', 'bob:two', 'eve:from file', 'fay:too']) assert.equal((await v.visit('/', { headers: { authorization: basic(pair) } })).status, 200, pair);
  assert.equal((await v.visit('/', { headers: { authorization: basic('ada:two') } })).status, 401);
});

test('the service keeps its own Authorization without --auth', async (t) => {
  const s = await setUp(t, what);
  assert.equal(JSON.parse((await s.visit('/', { headers: { authorization: basic('a:b') } })).text).headers.authorization, basic('a:b'));
});

test('--allow and --deny', async (t) => {
  const dir = tempDir(t);
  const origin = await serve(t, what);
  const relay = await startRelay(t, dir, ['--tcp-ports', await freeRange(10)]);
  const status = async (...args) => {
    const agent = await startAgent(t, dir, relay, origin.port, args);
    const r = await visitor(relay, agent).visit('/', { headers: { accept: 'application/json' } });
    await agent.stop();
    return r.status === 200 ? '200' : `${r.status} ${JSON.parse(r.text).error.code}`;
  };
  assert.equal(await status('--allow', '127.0.0.0/8'), '200');
  assert.equal(await status('--allow', '192.0.2.0/24'), '403 BEAM-4031');
  assert.equal(await status('--allow', '192.0.2.0/24', '--allow', '127.0.0.1'), '200');
  assert.equal(await status('--deny', '192.0.2.0/24,::1'), '200');
  assert.equal(await status('--allow', '127.0.0.0/8', '--deny', '127.0.0.1'), '403 BEAM-4031');

  const echo = net.createServer((socket) => socket.end('hello'));
  await listen(t, echo);
  for (const [range, want] of [['127.0.0.1', 'hello'], ['192.0.2.1', '']]) {
    const agent = await startAgent(t, dir, relay, echo.address().port, ['--allow', range], { command: 'tcp', data: path.join(dir, `tcp-${range}`) });
    const socket = net.connect(Number(agent.info.url.split(':').pop()), '127.0.0.1');
    let got = '';
    socket.on('data', (part) => (got += part)).on('error', () => {});
    await new Promise((resolve) => socket.on('close', resolve));
    assert.equal(got, want);
    await agent.stop();
  }
});

test('--rate-limit', async (t) => {
  const s = await setUp(t, what, { agentArgs: ['--rate-limit', '3/h'] });
  for (let i = 0; i < 3; i++) assert.equal((await s.visit('/')).status, 200);
  const r = await s.visit('/more', { headers: { accept: 'application/json' } });
  assert.equal(r.status, 429);
  assert.equal(JSON.parse(r.text).error.code, 'BEAM-4291');
  assert.ok(Number(r.headers['retry-after']) > 1190 && Number(r.headers['retry-after']) <= 1200, r.headers['retry-after']);
  assert.equal((await s.agent.event('request', (e) => e.path === '/more')).error, 'BEAM-4291');
});

test('--rate-limit-total', async (t) => {
  const s = await setUp(t, what, { agentArgs: ['--rate-limit', '2/h', '--rate-limit-total', '3/h'] });
  const from = async (address, path = '/') => {
    const format = '%{http_code} %header{beam-error} %header{retry-after}';
    return (await run(t, 'curl', [...s.curl, '-so', '/dev/null', '-w', format, '--interface', address, s.url + path])).stdout.trim();
  };
  for (const address of ['127.0.0.2', '127.0.0.2']) assert.equal(await from(address), '200');
  for (let i = 0; i < 3; i++) assert.match(await from('127.0.0.2'), /^429 BEAM-4291 /); // takes nothing from the total
  assert.equal(await from('127.0.0.3'), '200');
  const [status, code, seconds] = (await from('127.0.0.4', '/more')).split(' ');
  assert.deepEqual([status, code], ['429', 'BEAM-4293']);
  assert.ok(Number(seconds) > 1100 && Number(seconds) <= 1200, seconds);
  const e = await s.agent.event('request', (r) => r.path === '/more');
  assert.deepEqual([e.status, e.error], [429, 'BEAM-4293']);
});

test('--max-body', async (t) => {
  const lengths = [];
  const s = await setUp(
    t,
    async (request, response) => {
      let n = 0;
      lengths.push(request.headers['content-length'] ?? 'chunked');
      try {
        for await (const part of request) n += part.length;
        response.end(String(n));
      } catch {} // cut: that is what is tested
    },
    { agentArgs: ['--max-body', '100k'] },
  );
  const post = (body, ...args) => run(t, 'curl', [...s.curl, '-i', '--data-binary', '@-', '-H', 'Accept: application/json', ...args, `${s.url}/`], { stdin: 'pipe', input: body });
  const big = 'x'.repeat(102_401);
  assert.match((await post(big.slice(1))).stdout, /^HTTP\/1\.1 200 [\s\S]*\r\n\r\n102400$/);
  assert.match((await post(big.slice(1), '-H', 'Transfer-Encoding: chunked')).stdout, /^HTTP\/1\.1 200 [\s\S]*\r\n\r\n102400$/);
  lengths.length = 0;
  for (const http of ['--http1.1', '--http2']) {
    assert.match((await post(big, http)).stdout, /^HTTP\/\S+ 413 [\s\S]*BEAM-4131/);
    assert.deepEqual(lengths, []); // nothing reached it
  }
  assert.match((await post(big.repeat(20), '-H', 'Transfer-Encoding: chunked')).stdout, /^HTTP\/1\.1 413 [\s\S]*BEAM-4131/m);
  assert.deepEqual(lengths, ['chunked']);
  await s.agent.event('request', (e) => e.error === 'BEAM-4131');
});

test('--request-header and --response-header', async (t) => {
  const s = await setUp(
    t,
    (request, response) => {
      response.setHeader('X-Powered-By', 'node');
      response.setHeader('X-Frame-Options', 'DENY');
      what(request, response);
    },
    { agentArgs: ['--request-header', 'X-Env: a, b', '--request-header', 'cookie:', '--request-header-add', 'Authorization: Bearer t', '--response-header', 'x-powered-by:', '--response-header', 'X-Frame-Options: SAMEORIGIN'] },
  );
  const r = await s.visit('/', { headers: { cookie: 'a=b', 'x-env': 'mine', 'x-other': 'kept' } });
  const seen = JSON.parse(r.text).headers;
  assert.equal(seen['x-env'], 'a, b');
  assert.equal(seen.cookie, undefined);
  assert.equal(seen.authorization, 'Bearer t');
  assert.equal(seen['x-other'], 'kept');
  assert.equal(r.headers['x-powered-by'], undefined);
  assert.equal(r.headers['x-frame-options'], 'SAMEORIGIN');
});

test('--cors', async (t) => {
  const asked = [];
  const s = await setUp(
    t,
    (request, response) => {
      asked.push(request.method);
      response.setHeader('Access-Control-Allow-Origin', 'http://elsewhere.test');
      what(request, response);
    },
    { agentArgs: ['--cors', 'https://app.test', '--cors', 'http://localhost:5173', '--auth', 'ada:one'] },
  );
  const preflight = { origin: 'http://localhost:5173', 'access-control-request-method': 'PUT', 'access-control-request-headers': 'authorization,x-a' };
  const visit = (method, headers) => s.visit('/', { method, headers });

  let r = await visit('OPTIONS', preflight);
  assert.equal(r.status, 204);
  assert.equal(r.headers['access-control-allow-origin'], 'http://localhost:5173');
  assert.equal(r.headers['access-control-allow-credentials'], 'true');
  assert.equal(r.headers['access-control-allow-methods'], 'PUT');
  assert.equal(r.headers['access-control-allow-headers'], 'authorization,x-a');
  assert.match(r.headers.vary, /Origin/);

  r = await visit('OPTIONS', { ...preflight, origin: 'https://evil.test' });
  assert.equal(r.status, 204);
  assert.equal(r.headers['access-control-allow-origin'], undefined);
  assert.equal(r.headers['access-control-allow-headers'], undefined);

  r = await visit('GET', { origin: 'https://app.test' }); // why it was refused can be read, too
  assert.equal(r.status, 401);
  assert.equal(r.headers['access-control-allow-origin'], 'https://app.test');

  const authorization = basic('ada:one');
  r = await visit('GET', { origin: 'https://app.test', authorization });
  assert.equal(r.status, 200);
  assert.equal(r.headers['access-control-allow-origin'], 'https://app.test');
  r = await visit('GET', { origin: 'https://evil.test', authorization });
  assert.equal(r.headers['access-control-allow-origin'], undefined);
  assert.equal(r.headers.vary, 'Origin');
  r = await visit('OPTIONS', { authorization }); // not a preflight: the service's to answer
  assert.equal(r.status, 200);
  assert.deepEqual(asked, ['GET', 'GET', 'OPTIONS']);
});

test('--cors *', async (t) => {
  const s = await setUp(t, what, { agentArgs: ['--cors', '*'] });
  const r = await s.visit('/', { headers: { origin: 'https://any.test' } });
  assert.equal(r.headers['access-control-allow-origin'], '*');
  assert.equal(r.headers['access-control-allow-credentials'], undefined);
  assert.equal(r.headers.vary, undefined);
});

test('--deny for beam udp and beam tls', async (t) => {
  const dir = tempDir(t);
  const relay = await startRelay(t, dir, ['--udp-ports', await freeRange(10)]);
  const heard = [];
  const local = dgram.createSocket('udp4', (message, from) => {
    heard.push(message.toString());
    local.send('answer', from.port, from.address);
  });
  await new Promise((resolve) => local.bind(0, '127.0.0.1', resolve));
  t.after(() => local.close());
  for (const [deny, lets] of [['127.0.0.0/8', false], ['192.0.2.0/24', true]]) {
    const agent = await startAgent(t, dir, relay, local.address().port, ['--deny', deny, '--log-level', 'info'], { command: 'udp', data: path.join(dir, `udp-${lets}`) });
    const socket = dgram.createSocket('udp4');
    const answer = new Promise((resolve) => socket.once('message', (m) => resolve(m.toString())));
    const say = () => socket.send(`hello ${lets}`, Number(agent.info.url.split(':').pop()), '127.0.0.1');
    say();
    if (lets) assert.equal(await answer, 'answer');
    else await agent.wait(() => agent.stderr.includes('not let in'), 'it says so');
    socket.close();
    await agent.stop();
  }
  assert.deepEqual(heard, ['hello true']);

  const tls = await startAgent(t, dir, relay, 1, ['--deny', '127.0.0.1', '--log-level', 'info', '--name', 'vault'], { command: 'tls', data: path.join(dir, 'tls') });
  const socket = net.connect(relay.port, '127.0.0.1');
  socket.on('error', () => {});
  const hello = clientHello('vault.tunnel.test');
  socket.write(hello);
  await tls.wait(() => tls.stderr.includes('not let in'), 'it says so');
  await new Promise((resolve) => socket.on('close', resolve).resume());
});

test('rules that are wrong are told at the start', async (t) => {
  const dir = tempDir(t);
  for (const [args, says] of [
    [['3000', '--auth', 'nopassword'], /user 1 is not USER:PASSWORD/],
    [['3000', '--allow', '10.0.0.0/40'], /allow: "10\.0\.0\.0\/40" is neither an address nor a range/],
    [['3000', '--auth-file', path.join(dir, 'none')], /cannot read/],
    [['3000', '--max-body', '10X'], /--max-body: "10X" is no size/],
    [['3000', '--max-body', '99999999999999999999'], /is no size/],
    [['3000', '--rate-limit', '5'], /"5" is no rate/],
    [['3000', '--rate-limit-total', '9/d'], /"9\/d" is no rate/],
    [['tcp', '5432', '--rate-limit-total', '9/s'], /--rate-limit-total is not a flag of beam tcp/],
    [['3000', '--request-header', 'Content-Length: 5'], /Content-Length says how messages are framed/],
    [['3000', '--cors', 'app.test'], /"app\.test" is no origin/],
    [['tcp', '5432', '--auth', 'a:b'], /--auth is not a flag of beam tcp/],
  ]) {
    const p = new Program(t, beam, [...args, '--data', path.join(dir, 'd')], { env: cleanEnv(dir) });
    assert.notEqual((await p.exit()).code, 0);
    assert.match(p.stderr, says);
  }
});
