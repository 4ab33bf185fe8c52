// The package inside a program: open, listen, relay, domains, and what they say when something is wrong.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import path from 'node:path';
import test from 'node:test';
import { at, get, load, modules, serve, startRelay, tempDir, visit } from './lib.mjs';

const beam = load();
const code = (wanted, text = /Next: \S/) => (error) => {
  assert.equal(error.code, wanted, error.stack);
  assert.match(error.message, text);
  assert.match(error.message, /Next: \S/);
  return true;
};

test('ESM and CJS give the same', async () => {
  const esm = await import(path.join(modules, 'beam-tunnel/index.mjs'));
  assert.equal(esm.open, beam.open);
  assert.equal(esm.default.domains, beam.domains);
});

test('a tunnel: url, requests, events, close', async (t) => {
  const dir = tempDir(t);
  const relay = await startRelay(t, beam);
  const origin = await serve(t, (request, response) => response.end(`here is ${request.url}`));
  const seen = [];
  const tunnel = await beam.open(at(relay, dir, { port: origin.port, name: 'shop' }));
  tunnel.on('state', (state) => seen.push(state));
  tunnel.on('closed', (error) => seen.push(error));

  await t.test('it answers on https and on http', async () => {
    assert.equal(tunnel.state, 'active');
    assert.equal(tunnel.name, 'shop.tunnel.test');
    assert.equal(tunnel.url, `https://shop.tunnel.test:${relay.httpsPort}`);
    const base = { host: '127.0.0.1', port: relay.httpsPort, servername: tunnel.name, ca: fs.readFileSync(relay.caFile) };
    assert.equal((await visit(base, '/a')).text, 'here is /a');
    assert.deepEqual(await get(tunnel, '/b'), { status: 200, text: 'here is /b' });
  });

  await t.test('each request is an event, and comes to each iterator', async () => {
    const first = tunnel.requests();
    const second = tunnel[Symbol.asyncIterator]();
    const heard = once(tunnel, 'request');
    // The addon hears of the listener before the request comes: both go through the tunnel's thread.
    await tunnel.info();
    await get(tunnel, '/c?secret=1');
    const [request] = await heard;
    assert.deepEqual([request.method, request.path, request.status, request.bytesOut, request.error], ['GET', '/c', 200, 'here is /c?secret=1'.length, null]);
    assert.ok(request.ms >= request.ttfbMs && request.ttfbMs >= 0);
    for (const reader of [first, second]) assert.deepEqual((await reader.next()).value, request);
    await first.return();
    const rest = (async () => {
      const all = [];
      for await (const r of second) {
        all.push(r.path);
        if (all.length === 2) break;
      }
      return all;
    })();
    await get(tunnel, '/d');
    await get(tunnel, '/e');
    assert.deepEqual(await rest, ['/d', '/e']);
    assert.equal(tunnel.lostRequests, 0);
  });

  await t.test('info and links', async () => {
    const info = await tunnel.info();
    assert.equal(info.kind, 'http');
    assert.equal(info.requests, 5);
    assert.equal(info.relay, relay.https);
    const [link] = await tunnel.links();
    assert.equal(link.state, 'active');
    assert.equal(link.transport, tunnel.transport);
    assert.equal(link.draining, false);
  });

  await t.test('closed once, and everything says so', async () => {
    const reader = tunnel.requests();
    const waiting = reader.next();
    const over = once(tunnel, 'closed');
    assert.equal(tunnel.close(), tunnel.close());
    await tunnel.close();
    await over;
    assert.deepEqual(await waiting, { value: undefined, done: true });
    assert.deepEqual(await tunnel.requests().next(), { value: undefined, done: true });
    assert.deepEqual(seen, [null]);
    assert.equal(tunnel.state, 'closed');
    await assert.rejects(tunnel.info(), code('BEAM-1005', /closed/));
    assert.equal((await get(tunnel)).status, 503);
  });
});

test('without a relay: one inside, shared, gone with the last tunnel', async (t) => {
  const dir = tempDir(t);
  const origin = await serve(t, (request, response) => response.end('hello'));
  const [one, two] = await Promise.all([beam.open({ port: origin.port, dataDir: dir }), beam.open({ port: origin.port, name: 'second', dataDir: dir })]);
  assert.match(one.url, /^https:\/\/[a-z0-9-]+\.localhost:\d+$/);
  assert.equal(new URL(one.url).port, new URL(two.url).port);
  assert.equal((await get(one)).text, 'hello');
  await one.close();
  assert.equal((await get(two)).text, 'hello');
  await two.close();
  await assert.rejects(get(two), { code: 'ECONNREFUSED' });
});

test('two tunnels and a relay in one process, and await using', async (t) => {
  const dir = tempDir(t);
  const relay = await startRelay(t, beam, { tcpPorts: '21000-30999' });
  const echo = net.createServer((socket) => socket.pipe(socket)).listen(0, '127.0.0.1');
  await once(echo, 'listening');
  t.after(() => echo.close());
  const web = await serve(t, (request, response) => response.end('web'));
  const a = await beam.open(at(relay, dir, { port: web.port, transport: 'h2' }));
  const b = await beam.open(at(relay, dir, { port: echo.address().port, kind: 'tcp' }));
  assert.equal(a.transport, 'h2');
  assert.equal((await get(a)).text, 'web');
  const socket = net.connect(b.publicPort, '127.0.0.1');
  socket.end('there and back');
  let text = '';
  for await (const part of socket) text += part;
  assert.equal(text, 'there and back');
  const info = await relay.info();
  assert.deepEqual([info.tunnels, info.domain], [2, 'tunnel.test']);
  await a[Symbol.asyncDispose]();
  await b[Symbol.asyncDispose]();
  assert.equal(a.state, 'closed');
});

test('a folder, rules and a cache', async (t) => {
  const dir = tempDir(t);
  const relay = await startRelay(t, beam);
  fs.mkdirSync(path.join(dir, 'site'));
  fs.writeFileSync(path.join(dir, 'site/index.html'), 'from a file');
  const site = await beam.open(at(relay, dir, { folder: path.join(dir, 'site'), fallback: 'index.html', policy: { auth: ['ann:one', 'bob:two'] } }));
  assert.equal((await get(site)).status, 401);
  const host = new URL(site.plainUrl).host;
  assert.deepEqual(await get(site, '/some/route', { headers: { host, authorization: `Basic ${btoa('bob:two')}` } }), { status: 200, text: 'from a file' });
  await assert.rejects(site.cacheInfo(), code('BEAM-1016'));
  await site.close();

  let asked = 0;
  const origin = await serve(t, (request, response) => response.writeHead(200, { 'cache-control': 'public, max-age=60' }).end(`${++asked}`));
  const cached = await beam.open(at(relay, dir, { upstream: `http://127.0.0.1:${origin.port}`, policy: { cache: 1 << 20 } }));
  assert.deepEqual([(await get(cached, '/a')).text, (await get(cached, '/a')).text], ['1', '1']);
  assert.equal((await cached.cacheInfo()).hits, 1);
  await cached.purge('/a');
  assert.equal((await get(cached, '/a')).text, '2');
  await assert.rejects(cached.purge(5), code('BEAM-1003'));
  await cached.close();
  await assert.rejects(beam.open(at(relay, dir, { port: 1, policy: { alow: 'x' } })), code('BEAM-1003', /alow/));
  await assert.rejects(beam.open(at(relay, dir, { port: 1, policy: { maxBody: 1e20 } })), code('BEAM-1003', /maxBody/));
});

test('beam.listen: a server and its tunnel', async (t) => {
  const dir = tempDir(t);
  const relay = await startRelay(t, beam);

  await t.test('a server that does not listen yet', async () => {
    const server = http.createServer((request, response) => response.end('listening'));
    const tunnel = await beam.listen(server, at(relay, dir));
    assert.equal(server.address().address, '127.0.0.1');
    assert.equal((await get(tunnel)).text, 'listening');
    const over = once(tunnel, 'closed');
    server.close();
    server.closeAllConnections();
    assert.deepEqual(await over, [null]);
  });

  await t.test('one that does stays when the tunnel goes', async () => {
    const server = http.createServer((request, response) => response.end('before')).listen(0);
    const tunnel = await beam.listen(server, at(relay, dir));
    assert.equal((await get(tunnel)).text, 'before');
    await tunnel.close();
    assert.ok(server.listening);
    server.close();
    server.closeAllConnections();
  });

  await t.test('what cannot be shared', async () => {
    await assert.rejects(beam.listen(https.createServer(), at(relay, dir)), code('BEAM-1023', /HTTPS/));
    const server = http.createServer().listen(path.join(dir, 'sock'));
    await once(server, 'listening');
    await assert.rejects(beam.listen(server, at(relay, dir)), code('BEAM-1003', /TCP port/));
    server.close();
    const taken = http.createServer();
    await assert.rejects(beam.listen(taken.listen(1, '203.0.113.1'), at(relay, dir)), /EADDRNOTAVAIL|EACCES|EADDRINUSE/);
  });
});

test('errors: code, cause, what to do', async (t) => {
  const dir = tempDir(t);
  const relay = await startRelay(t, beam);
  const { port } = await serve(t, (request, response) => response.end());

  await t.test('wrong options, at once', async () => {
    await assert.rejects(beam.open({ prot: 3000 }), code('BEAM-1003', /no option "prot"/));
    await assert.rejects(beam.open(at(relay, dir)), code('BEAM-1003', /port/));
    await assert.rejects(beam.open(at(relay, dir, { port: 65536 })), code('BEAM-1003', /65535/));
    await assert.rejects(beam.open(at(relay, dir, { port: '3000' })), code('BEAM-1003', /not a number/));
    await assert.rejects(beam.open(at(relay, dir, { port, name: 5 })), code('BEAM-1003', /not a string/));
    await assert.rejects(beam.open(at(relay, dir, { port, name: 'a\0b' })), code('BEAM-1003', /zero byte/));
    await assert.rejects(beam.open(at(relay, dir, { port, kind: 'ftp' })), code('BEAM-1003', /one of http, tcp/));
    await assert.rejects(beam.open(at(relay, dir, { port, takeover: 'yes' })), code('BEAM-1003', /boolean/));
    await assert.rejects(beam.open(at(relay, dir, { port, name: '-x' })), code('BEAM-1015'));
    await assert.rejects(beam.relay({ domain: 'x.test', dataDir: dir, listen: '0.0.0.0:0' }), code('BEAM-1013'));
    await assert.rejects(beam.relay({ domain: 'x.test', dataDir: dir, workers: -1 }), code('BEAM-1003', /workers/));
    await assert.rejects(beam.relay({ domain: 'x.test', dataDir: dir, listen: relay.https }), code('BEAM-1018'));
  });

  await t.test('the relay refuses: open() rejects, nothing is tried again', async () => {
    const mine = await beam.open(at(relay, dir, { port, name: 'mine' }));
    await assert.rejects(beam.open(at(relay, tempDir(t), { port, name: 'mine' })), code('BEAM-1014', /mine/));
    await assert.rejects(beam.open(at(relay, dir, { port, relayCa: `sha256:${'0'.repeat(64)}` })), code('BEAM-1012'));
    await mine.close();
  });

  await t.test('an open tunnel is closed by the relay: "closed" and the iterator say why', async () => {
    const old = await beam.open(at(relay, dir, { port, name: 'moving' }));
    const over = once(old, 'closed');
    const ended = assert.rejects(old.requests().next(), { code: 'BEAM-1025' });
    const fresh = await beam.open(at(relay, dir, { port, name: 'moving', takeover: true }));
    const [error] = await over;
    assert.equal(error.code, 'BEAM-1025');
    await ended;
    await fresh.close();
  });

  await t.test('an AbortSignal: before, while it connects, and after', async () => {
    await assert.rejects(beam.open(at(relay, dir, { port, signal: AbortSignal.abort() })), { name: 'AbortError' });
    const control = new AbortController();
    // A relay that hangs up. When it is asked again, the first refusal is known.
    let calls = 0;
    const rude = net.createServer((socket) => {
      socket.destroy();
      if (++calls === 2) control.abort();
    });
    await new Promise((resolve) => rude.listen(0, '127.0.0.1', resolve));
    t.after(() => rude.close());
    const opening = beam.open({ relay: `127.0.0.1:${rude.address().port}`, port, dataDir: dir, transport: 'h2', proxy: 'none', signal: control.signal });
    await assert.rejects(opening, (error) => {
      assert.equal(error.name, 'AbortError');
      assert.equal(error.code, 'ABORT_ERR');
      assert.match(error.cause.code, /^BEAM-10/);
      assert.match(error.message, /Next: /);
      return true;
    });
    const later = new AbortController();
    const tunnel = await beam.open(at(relay, dir, { port, signal: later.signal }));
    const over = once(tunnel, 'closed');
    later.abort();
    assert.deepEqual(await over, [null]);
  });
});

test('a relay: events, metrics, drain, reconfigure', async (t) => {
  const dir = tempDir(t);
  const relay = await startRelay(t, beam);
  const { port } = await serve(t, (request, response) => response.end('x'));
  const kinds = [];
  const down = new Promise((resolve) =>
    relay.on('event', (event) => {
      kinds.push(event.kind);
      if (event.kind === 'tunnel_down') resolve(event);
    }),
  );
  const tunnel = await beam.open(at(relay, dir, { port, name: 'watched' }));
  assert.match(await relay.metrics(), /^# (HELP|TYPE) beam_/m);
  await relay.reload();
  await relay.reconfigure({ plain: 'redirect' });
  assert.equal((await get(tunnel)).status, 308);
  await assert.rejects(relay.reconfigure({ domain: 'other.test' }), code('BEAM-1023'));
  await tunnel.close();
  assert.equal((await down).name, 'watched.tunnel.test');
  assert.deepEqual(kinds.slice(0, 2), ['session_up', 'tunnel_up']);
  await relay.drain(1000);
  await relay.close();
  await assert.rejects(relay.info(), code('BEAM-1005', /relay is closed/));
});

test('domains: what the relay keeps', async (t) => {
  const dir = tempDir(t);
  assert.match(beam.domains.generate(), /^[a-z]+-[a-z]+-\d+$/);
  assert.equal(beam.domains.check('shop'), undefined);
  assert.throws(() => beam.domains.check('no_good'), code('BEAM-1015'));
  assert.throws(() => beam.domains.check(7), code('BEAM-1003'));
  await assert.rejects(beam.domains.open({ base: 'tunnel.test' }), code('BEAM-1003', /data_dir|dataDir/));
  const record = await beam.domains.open({ base: 'tunnel.test', dataDir: dir });
  const principal = 'abcdefghijklmnopqrst';
  const name = await record.allocate({ principal, port: 3000 });
  assert.match(name, /\.tunnel\.test$/);
  assert.equal(await record.allocate({ principal, port: 3000 }), name);
  assert.equal(await record.allocate({ principal, name: 'shop' }), 'shop.tunnel.test');
  await assert.rejects(record.allocate({ principal: 'zzzzzzzzzzzzzzzzzzzz', name: 'shop' }), code('BEAM-1014'));
  const rows = await record.list();
  assert.deepEqual(rows.map((r) => r.name).sort(), [name, 'shop.tunnel.test'].sort());
  assert.ok(Math.abs(rows[0].createdAt - Date.now() / 1000) < 60);
  await record.release({ principal, name });
  await assert.rejects(record.release({ principal, name }), code('BEAM-1016'));
  assert.equal((await record.list(principal)).length, 1);
  assert.equal(typeof (await record.verify()), 'number');
  await record[Symbol.asyncDispose]();
  await assert.rejects(record.list(), code('BEAM-1005'));
});
