// The local service is absent, refuses, hangs, breaks off, or talks nonsense: the visitor is told, and sees every truncation.
import assert from 'node:assert/strict';
import net from 'node:net';
import test from 'node:test';
import { run, until } from './lib/run.mjs';
import { freePort, listen, setUp } from './lib/setup.mjs';

test('the local service is not there', async (t) => {
  const port = await freePort();
  const s = await setUp(t, port);

  await t.test('502 as a page that says what to start', async () => {
    const r = await s.visit('/', { headers: { Accept: 'text/html' } });
    assert.equal(r.status, 502);
    assert.match(r.headers['content-type'], /text\/html/);
    assert.match(r.text, /BEAM-5021/);
    assert.match(r.text, /Start your app/);
  });

  await t.test('as JSON for a program', async () => {
    const r = await s.visit('/', { headers: { Accept: 'application/json' } });
    assert.equal(r.status, 502);
    assert.match(JSON.stringify(JSON.parse(r.text)), /BEAM-5021/);
  });

  await t.test('nothing of the request is reflected', async () => {
    const r = await s.visit('/<script>alert(1)</script>', { headers: { Accept: 'text/html', 'X-Probe': '<b>probe</b>' } });
    assert.doesNotMatch(r.text, /alert\(1\)|probe/);
  });

  await t.test('the agent reports it with the code', async () => {
    const e = await s.agent.event('request');
    assert.equal(e.error, 'BEAM-5021');
    assert.equal(e.status, 502);
  });

  await t.test('the tunnel stays: once the service is there it answers', async () => {
    const server = (await import('node:http')).createServer((_, response) => response.end('here now'));
    await listen(t, server, port);
    assert.equal((await s.visit('/')).text, 'here now');
  });

  await s.agent.stop();
  await s.relay.stop();
});

test('the local service is faulty', async (t) => {
  const held = new Set();
  const answers = {
    '/closes': (socket) => socket.end(),
    '/resets': (socket) => socket.resetAndDestroy(),
    '/nonsense': (socket) => socket.end('220 mail.example ESMTP\r\n'),
    '/nonsense-head': (socket) => socket.end('220 mail.example ESMTP\r\n\r\n'),
    '/headless': (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Le'),
    '/short': (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n' + 'x'.repeat(400)),
    '/unended': (socket) => socket.end('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n'),
    '/broken-chunk': (socket) => socket.end('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n'),
    '/reset-inside': (socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello', () => setImmediate(() => socket.resetAndDestroy())),
    '/until-close': (socket) => socket.end('HTTP/1.1 200 OK\r\n\r\nto the end'),
    '/both-lengths': (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nhello'),
    '/big-head': (socket) => socket.end(`HTTP/1.1 200 OK\r\nX-Big: ${'x'.repeat(100_000)}\r\nContent-Length: 0\r\n\r\n`),
    '/hangs': (socket) => held.add(socket),
    '/fine': (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfine'),
  };
  const server = net.createServer((socket) => {
    let head = '';
    socket.on('error', () => {});
    socket.on('data', (part) => {
      head += part;
      if (head.includes('\r\n\r\n')) answers[head.split(' ')[1]]?.(socket);
    });
  });
  const port = await listen(t, server);
  const s = await setUp(t, port);

  for (const [path, code] of [
    ['/closes', 'BEAM-5022'],
    ['/resets', 'BEAM-5022'],
    ['/nonsense', 'BEAM-5022|BEAM-5023'],
    ['/nonsense-head', 'BEAM-5023'],
    ['/headless', 'BEAM-5022|BEAM-5023'],
    ['/both-lengths', 'BEAM-5023'],
    ['/big-head', 'BEAM-5023'],
  ])
    await t.test(`${path.slice(1)}: 502 ${code}`, async () => {
      const r = await s.visit(path);
      assert.equal(r.status, 502);
      assert.match(r.text, new RegExp(code));
    });

  for (const path of ['/short', '/unended', '/broken-chunk', '/reset-inside'])
    await t.test(`${path.slice(1)}: the visitor sees that the body was cut`, async () => {
      await assert.rejects(s.visit(path), /aborted|cut|reset|hang up|closed/i);
      const r = await run(t, 'curl', [...s.curl, '-o', '/dev/null', `${s.url}${path}`]);
      assert.ok([18, 56].includes(r.code), `curl: ${r.code} ${r.stderr}`);
    });

  await t.test('a body that ends with the connection is whole', async () => {
    assert.equal((await s.visit('/until-close')).text, 'to the end');
  });

  await t.test('one that hangs holds up nobody else, and lets go when the visitor does', async () => {
    const waiting = Array.from({ length: 5 }, () => {
      const request = s.request('/hangs');
      request.on('error', () => {});
      request.end();
      return request;
    });
    await until(() => held.size === 5, 'five that wait');
    const begun = performance.now();
    assert.equal((await s.visit('/fine')).text, 'fine');
    t.diagnostic(`beside five hanging requests: ${(performance.now() - begun).toFixed(1)} ms`);
    for (const request of waiting) request.destroy();
    await until(() => [...held].every((socket) => socket.destroyed || socket.readableEnded), 'the service to be let go');
  });

  await s.agent.stop();
  await s.relay.stop();
});

test('localhost in either family', async (t) => {
  for (const host of ['127.0.0.1', '::1'])
    await t.test(`a service on ${host} only`, async (t) => {
      const server = (await import('node:http')).createServer((_, response) => response.end(host));
      let port;
      try {
        port = await listen(t, server, 0, host);
      } catch (error) {
        return t.skip(`no ${host} here: ${error.code}`);
      }
      const s = await setUp(t, port);
      assert.equal((await s.visit('/')).text, host);
      await s.agent.stop();
      await s.relay.stop();
    });
});

