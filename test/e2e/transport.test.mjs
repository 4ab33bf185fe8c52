// How an agent reaches its relay: WebSocket, proxies, a web server in front, a network that swallows what it does not know.
import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import http from 'node:http';
import test from 'node:test';
import { WebSocket } from 'ws';
import { dante, firewall, httpProxy, installed, nginx, socksProxy, tinyproxy } from './lib/proxies.mjs';
import { runBeam, cleanEnv, tempDir, until } from './lib/run.mjs';
import { freePort, serve, startAgent, startRelay, visitor } from './lib/setup.mjs';

const answer = (request, response) => {
  if (request.url === '/hash') {
    const hash = crypto.createHash('sha256');
    request.on('data', (part) => hash.update(part));
    request.on('end', () => response.end(hash.digest('hex')));
  } else if (request.url.startsWith('/bytes/')) {
    response.end(Buffer.alloc(Number(request.url.slice(7)), 'beam'));
  } else {
    response.end('hello');
  }
};

async function world(t, relayArgs = []) {
  const dir = tempDir(t);
  const origin = await serve(t, answer);
  const relay = await startRelay(t, dir, ['--listen-plain', '127.0.0.1:0', ...relayArgs]);
  return { dir, origin, relay, plain: Number(relay.info.http.split(':').pop()) };
}

/** An agent that dials `relay` (the text of --relay); resolves when its name answers. */
function agentOf(t, w, relay, args = [], options = {}) {
  const text = typeof relay === 'number' ? `127.0.0.1:${relay}` : relay;
  return startAgent(t, w.dir, w.relay, w.origin.port, ['--relay', text, '--log-level', 'debug', ...args], options);
}

/** It serves, over the transport it should. */
async function works(w, agent, transport) {
  assert.equal(agent.info.transport, transport);
  const v = visitor(w.relay, agent);
  assert.equal((await v.visit('/')).text, 'hello');
  const state = JSON.parse((await v.visit('/_beam')).text);
  if (state.transport) assert.equal(state.transport, transport); // another worker does not know
  return v;
}

test('WebSocket carries all that h2 does', async (t) => {
  const w = await world(t);
  const agent = await agentOf(t, w, w.relay.port, ['--transport', 'ws']);
  const v = await works(w, agent, 'ws');
  assert.match(agent.info.transport_reason, /chosen/);

  await t.test('bodies, up and down, whole', async () => {
    const body = crypto.randomBytes(8 * 1048576);
    const [up, down] = await Promise.all([v.visit('/hash', { method: 'POST', body }), v.visit('/bytes/20000000')]);
    assert.equal(up.text, crypto.createHash('sha256').update(body).digest('hex'));
    assert.equal(down.body.length, 20000000);
    assert.ok(down.body.equals(Buffer.alloc(20000000, 'beam')));
  });

  await t.test('a hundred at once', async () => {
    const all = await Promise.all(Array.from({ length: 100 }, (_, i) => v.visit(`/bytes/${i * 1000}`)));
    assert.deepEqual(all.map((r) => r.body.length), Array.from({ length: 100 }, (_, i) => i * 1000));
  });

  await t.test('a visitor that does not read stops only itself', async () => {
    const stalled = await v.connect();
    stalled.pause();
    stalled.write(`GET /bytes/50000000 HTTP/1.1\r\nHost: ${v.name}\r\n\r\n`);
    for (let i = 0; i < 20; i++) assert.equal((await v.visit('/')).text, 'hello');
    stalled.destroy();
  });

  await t.test('the other transports are not touched by the choice', async () => {
    const r = await runBeam(t, ['1', '--transport', 'pigeon'], cleanEnv(w.dir));
    assert.equal(r.code, 2);
    assert.match(r.stderr, /pigeon/);
  });
  await agent.stop();
  await w.relay.stop();
});

test('the relay as a WebSocket server', async (t) => {
  const w = await world(t);
  const url = `ws://127.0.0.1:${w.plain}/_beam/link`;
  const closed = (socket) => new Promise((resolve) => socket.on('error', () => {}).once('close', (code) => resolve(code)));
  const opened = (socket) => new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));

  await t.test('takes the subprotocol, answers pings, and hangs up on who leaves without a word', async () => {
    const socket = new WebSocket(url, ['other', 'beam.1']);
    await opened(socket);
    assert.equal(socket.protocol, 'beam.1');
    const pong = new Promise((resolve) => socket.once('pong', (data) => resolve(data.toString())));
    socket.ping('there?');
    assert.equal(await pong, 'there?');
    socket.close(1000);
    assert.equal(await closed(socket), 1006);
  });

  await t.test('text is refused with 1003, too large a message with 1009', async () => {
    const a = new WebSocket(url, 'beam.1');
    await opened(a);
    a.send('text');
    assert.equal(await closed(a), 1003);
    const b = new WebSocket(url, 'beam.1');
    await opened(b);
    b.send(Buffer.alloc(1048577));
    assert.equal(await closed(b), 1009);
  });

  await t.test('what is none of an agent is closed', async () => {
    for (const bytes of ['GET / HTTP/1.1\r\nHost: x\r\n\r\n', '\x05\x01\x00']) {
      const socket = new WebSocket(url, 'beam.1');
      await opened(socket);
      socket.send(Buffer.from(bytes, 'latin1'));
      assert.equal(await closed(socket), 1006);
    }
  });

  await t.test('other requests learn what the address is for', async () => {
    const ask = (headers, method = 'GET') =>
      new Promise((resolve, reject) => http.request({ host: '127.0.0.1', port: w.plain, path: '/_beam/link', method, headers, agent: false }, (r) => resolve(r.resume())).on('error', reject).end());
    const upgrade = { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13', 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==', 'sec-websocket-protocol': 'beam.1' };
    for (const [headers, method] of [[{}], [{}, 'POST'], [{ ...upgrade, 'sec-websocket-version': '8' }], [{ ...upgrade, 'sec-websocket-protocol': 'chat' }], [{ ...upgrade, 'sec-websocket-key': 'short' }]]) {
      const r = await ask(headers, method);
      assert.equal(r.statusCode, 400);
      assert.equal(r.headers['sec-websocket-version'], '13');
    }
  });

  await t.test('silence is closed in time, and leaves nothing', async () => {
    const before = w.relay.fds();
    const sockets = await Promise.all(Array.from({ length: 20 }, async () => { const s = new WebSocket(url, 'beam.1'); await opened(s); return s; }));
    assert.ok(w.relay.fds() >= before + 20);
    await Promise.all(sockets.map(closed));
    await until(() => w.relay.fds() <= before, 'the relay lets go');
  });
  await w.relay.stop();
});

test('a network that swallows what it does not know', async (t) => {
  const w = await world(t);
  const box = await firewall(t, w.relay.port);
  const begun = Date.now();
  const agent = await agentOf(t, w, box.port);
  const took = Date.now() - begun;
  await works(w, agent, 'ws');
  assert.equal(box.swallowed, 1);
  assert.match(agent.info.transport_reason, /h2: no answer in 1\d\d\d ms/);
  t.diagnostic(`up after ${took} ms`);
  const status = JSON.parse((await runBeam(t, ['status', '--json'], cleanEnv(w.dir))).stdout.split('\n').find((l) => l.includes('"tunnel"')));
  assert.equal(status.transport, 'ws');
  assert.match(status.transport_reason, /h2: no answer/);
  assert.equal(typeof status.transport_s, 'number');
  assert.match((await runBeam(t, ['status'], cleanEnv(w.dir))).stdout, /ws \d+ s .*\n +link over ws: .*h2: no answer/);
  await agent.stop();

  await t.test('and is remembered: the next start does not wait', async () => {
    const again = await agentOf(t, w, box.port);
    await works(w, again, 'ws');
    assert.equal(box.swallowed, 1);
    await again.stop();
  });
  await w.relay.stop();
});

test('through an HTTP proxy', async (t) => {
  const w = await world(t);
  const proxy = await httpProxy(t, { auth: 'joe:s3cr3t@1' });
  const url = `http://joe:s3cr3t%401@127.0.0.1:${proxy.port}`;

  for (const transport of ['h2', 'ws'])
    await t.test(`${transport}, with credentials; names are the proxy's to look up`, async () => {
      proxy.seen.length = 0;
      const agent = await agentOf(t, w, `relay.test:${w.relay.port}`, ['--transport', transport, '--proxy', url]);
      await works(w, agent, transport);
      assert.deepEqual(proxy.seen, [{ host: 'relay.test', port: w.relay.port, auth: 'joe:s3cr3t@1' }]);
      assert.ok(!`${agent.stdout}${agent.stderr}`.includes('s3cr3t'), 'credentials in the log');
      await agent.stop();
    });

  await t.test('from the environment, in either case', async () => {
    for (const name of ['HTTPS_PROXY', 'https_proxy', 'ALL_PROXY', 'all_proxy', 'BEAM_PROXY']) {
      proxy.seen.length = 0;
      const agent = await agentOf(t, w, `relay.test:${w.relay.port}`, [], { env: { [name]: url } });
      await works(w, agent, 'h2');
      assert.equal(proxy.seen.length, 1, name);
      await agent.stop();
    }
  });

  await t.test('not for what NO_PROXY names, nor for this machine', async () => {
    proxy.seen.length = 0;
    const agent = await agentOf(t, w, w.relay.port, ['--transport', 'h2'], { env: { HTTPS_PROXY: url } });
    await works(w, agent, 'h2');
    await agent.stop();
    const away = await agentOf(t, w, `relay.test:${w.relay.port}`, [], { env: { HTTPS_PROXY: url, NO_PROXY: '.test' }, wait: false });
    const state = await away.event('state', (e) => e.code);
    assert.equal(state.code, 'BEAM-1008');
    assert.deepEqual(proxy.seen, []);
    await away.stop();
  });

  await t.test('wrong credentials are said, and tried again', async () => {
    const agent = await agentOf(t, w, `relay.test:${w.relay.port}`, ['--proxy', `http://joe:wr0ng@127.0.0.1:${proxy.port}`], { wait: false });
    const state = await agent.event('state', (e) => e.what);
    assert.match(state.what, /the proxy refuses these credentials \(127\.0\.0\.1:\d+\)/);
    assert.match(state.hint, /--proxy/);
    assert.ok(!`${agent.stdout}${agent.stderr}`.includes('wr0ng'));
    await agent.stop();
  });

  await t.test('a proxy that is not there is named', async () => {
    const port = await freePort();
    const agent = await agentOf(t, w, `relay.test:${w.relay.port}`, ['--proxy', `127.0.0.1:${port}`], { wait: false });
    const state = await agent.event('state', (e) => e.what);
    assert.match(state.what, new RegExp(`the proxy cannot be reached \\(127\\.0\\.0\\.1:${port}\\)`));
    await agent.stop();
  });

  await t.test('an address that is none', async () => {
    const r = await runBeam(t, ['1', '--relay', 'relay.test', '--proxy', 'ftp://joe:s3cr3t@x', '--data', `${w.dir}/x`], cleanEnv(w.dir));
    assert.notEqual(r.code, 0);
    assert.match(r.stderr, /socks5:\/\//);
    assert.ok(!r.stderr.includes('s3cr3t'));
  });
  await w.relay.stop();
});

test('through a SOCKS5 proxy', async (t) => {
  const w = await world(t);
  for (const auth of [undefined, 'joe:s3cr3t'])
    for (const transport of ['h2', 'ws'])
      await t.test(`${transport}, ${auth ? 'with' : 'without'} credentials`, async () => {
        const proxy = await socksProxy(t, { auth });
        const agent = await agentOf(t, w, `relay.test:${w.relay.port}`, ['--transport', transport, '--proxy', `socks5://${auth ? `${auth}@` : ''}127.0.0.1:${proxy.port}`]);
        const v = await works(w, agent, transport);
        assert.equal((await v.visit('/bytes/3000000')).body.length, 3000000);
        assert.deepEqual(proxy.seen, [{ host: 'relay.test', port: w.relay.port, auth }]);
        assert.ok(!`${agent.stdout}${agent.stderr}`.includes('s3cr3t'));
        await agent.stop();
      });
  await w.relay.stop();
});

test('a proxy that hangs up takes the link, not the name', async (t) => {
  const w = await world(t);
  const proxy = await httpProxy(t);
  const agent = await agentOf(t, w, `relay.test:${w.relay.port}`, ['--proxy', `127.0.0.1:${proxy.port}`]);
  const v = await works(w, agent, 'h2');
  for (const socket of proxy.server.sockets) socket.destroy();
  await agent.event('state', (e) => e.state === 'reconnecting');
  await agent.event('state', (e) => e.state === 'active');
  assert.equal((await v.visit('/')).text, 'hello');
  assert.equal(agent.events.filter((e) => e.event === 'tunnel').length, 1);
  await agent.stop();
  await w.relay.stop();
});

test('tinyproxy', { skip: !installed('tinyproxy') && 'tinyproxy is not installed' }, async (t) => {
  const w = await world(t);
  const proxy = await tinyproxy(t, w.dir, 'joe:s3cr3t');
  for (const transport of ['h2', 'ws']) {
    const agent = await agentOf(t, w, w.relay.port, ['--transport', transport, '--proxy', `http://joe:s3cr3t@127.0.0.1:${proxy.port}`]);
    const v = await works(w, agent, transport);
    assert.equal((await v.visit('/bytes/3000000')).body.length, 3000000);
    await agent.stop();
  }
  const agent = await agentOf(t, w, w.relay.port, ['--proxy', `http://127.0.0.1:${proxy.port}`], { wait: false });
  assert.match((await agent.event('state', (e) => e.what)).what, /user name and a password/);
  await agent.stop();
  await w.relay.stop();
});

test('dante', { skip: (!installed('danted') && 'dante is not installed') || (process.getuid() !== 0 && 'dante wants root') }, async (t) => {
  const w = await world(t);
  const proxy = await dante(t, w.dir);
  for (const transport of ['h2', 'ws']) {
    const agent = await agentOf(t, w, w.relay.port, ['--transport', transport, '--proxy', `socks5://127.0.0.1:${proxy.port}`]);
    const v = await works(w, agent, transport);
    assert.equal((await v.visit('/bytes/3000000')).body.length, 3000000);
    await agent.stop();
  }
  await w.relay.stop();
});

test('the relay behind nginx', { skip: !installed('nginx') && 'nginx is not installed' }, async (t) => {
  const w = await world(t);
  const web = await nginx(t, w.dir, w.plain);

  await t.test('by wss://', async () => {
    const agent = await agentOf(t, w, `wss://127.0.0.1:${web.port}`);
    const v = await works(w, agent, 'ws');
    const body = crypto.randomBytes(4 * 1048576);
    const [up, down] = await Promise.all([v.visit('/hash', { method: 'POST', body }), v.visit('/bytes/10000000')]);
    assert.equal(up.text, crypto.createHash('sha256').update(body).digest('hex'));
    assert.equal(down.body.length, 10000000);
    await agent.stop();
  });

  await t.test('by the race: nginx does not know beam/1', async () => {
    const agent = await agentOf(t, w, web.port);
    await works(w, agent, 'ws');
    assert.match(agent.info.transport_reason, /h2: /);
    await agent.stop();
  });

  await t.test('through a proxy as well', async () => {
    const proxy = await httpProxy(t);
    const agent = await agentOf(t, w, `wss://relay.test:${web.port}`, ['--proxy', `127.0.0.1:${proxy.port}`]);
    await works(w, agent, 'ws');
    await agent.stop();
  });

  await t.test('a web server without a relay behind it is named', async () => {
    const lone = await serve(t, (request, response) => response.writeHead(404).end());
    const agent = await agentOf(t, w, `ws://127.0.0.1:${lone.port}`, [], { wait: false });
    assert.match((await agent.event('state', (e) => e.what)).what, /no relay.*404/);
    await agent.stop();
  });
  await w.relay.stop();
});
