// Plain requests and responses, as real clients make them.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { run } from './lib/run.mjs';
import { drain, setUp } from './lib/setup.mjs';
import { overTransports } from './lib/transports.mjs';

function collect(request) {
  return new Promise((resolve, reject) => {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', () => resolve(Buffer.concat(parts)));
    request.on('error', reject);
  });
}

async function origin(request, response) {
  const url = new URL(request.url, 'http://origin');
  switch (url.pathname) {
    case '/hello':
      response.setHeader('X-Origin', 'yes');
      return response.end('hello\n');
    case '/what': // what the local service was asked
      return response.end(JSON.stringify({ method: request.method, url: request.url, headers: request.headers, body: (await collect(request)).toString() }));
    case '/echo': {
      const body = await collect(request);
      response.setHeader('X-Length', body.length);
      response.setHeader('X-Coding', request.headers['transfer-encoding'] ?? 'none');
      return response.end(createHash('sha256').update(body).digest('hex'));
    }
    case '/chunked':
      for (let i = 0; i < 5; i++) response.write(`part ${i}\n`);
      response.addTrailers({ 'X-After': 'all' });
      return response.end();
    case '/204':
      response.statusCode = 204;
      return response.end();
    case '/304':
      response.writeHead(304, { ETag: '"one"' });
      return response.end();
    case '/head':
      response.writeHead(200, { 'Content-Length': 12345 });
      return response.end(request.method === 'HEAD' ? undefined : 'x'.repeat(12345));
    case '/early': // answers before the body has come
      response.writeHead(413, { Connection: 'close' });
      return response.end('too much');
    case '/cookies':
      response.setHeader('Set-Cookie', ['a=1', 'b=2']);
      return response.end();
    default:
      response.statusCode = 404;
      return response.end('origin: no');
  }
}

overTransports('requests', async (t) => {
  const s = await setUp(t, origin);
  const curl = (...args) => run(t, 'curl', [...s.curl, ...args]);

  await t.test('the tunnel says its name and URL', () => {
    assert.match(s.name, /^[a-z]+-[a-z]+-\d+\.tunnel\.test$/);
    assert.equal(s.agent.info.url, s.url);
    assert.equal(s.agent.events[0].event, 'tunnel');
    assert.equal(s.relay.events[0].event, 'relay');
  });

  await t.test('curl GET', async () => {
    const r = await curl('-i', `${s.url}/hello`);
    assert.equal(r.code, 0, r.stderr);
    assert.match(r.stdout, /^HTTP\/1\.1 200 OK\r\n/);
    assert.match(r.stdout, /x-origin: yes\r\n/i);
    assert.match(r.stdout, /\r\n\r\nhello\n$/);
  });

  await t.test('the agent reports each request', async () => {
    const e = await s.agent.event('request', (r) => r.path === '/hello');
    assert.equal(e.method, 'GET');
    assert.equal(e.status, 200);
    assert.equal(e.bytes_out, 6);
    assert.equal(e.error, null);
    assert.ok(e.ms >= 0 && e.ttfb_ms >= 0 && e.ms < 60_000);
  });

  await t.test('what the local service sees', async () => {
    const seen = JSON.parse((await s.visit('/what?a=1&b=%20', { headers: { 'X-Mine': 'kept' } })).text);
    assert.equal(seen.url, '/what?a=1&b=%20');
    assert.equal(seen.headers.host, `localhost:${s.origin.port}`);
    assert.equal(seen.headers['x-mine'], 'kept');
    assert.match(seen.headers['x-forwarded-host'], new RegExp(`^${s.name}(:${s.relay.port})?$`));
    assert.equal(seen.headers['x-forwarded-proto'], 'https');
    assert.match(seen.headers['x-forwarded-for'], /127\.0\.0\.1$/);
  });

  await t.test('a visitor cannot forge where it comes from', async () => {
    const seen = JSON.parse((await s.visit('/what', { headers: { 'X-Forwarded-For': '203.0.113.9', 'X-Forwarded-Proto': 'http' } })).text);
    assert.equal(seen.headers['x-forwarded-proto'], 'https');
    assert.doesNotMatch(seen.headers['x-forwarded-for'], /^203\.0\.113\.9$/);
  });

  await t.test('curl POST with a length', async () => {
    const body = 'a'.repeat(200_000);
    const r = await run(t, 'curl', [...s.curl, '-i', '--data-binary', '@-', '-H', 'Content-Type: text/plain', `${s.url}/echo`], { stdin: 'pipe', input: body });
    assert.match(r.stdout, /x-length: 200000/i);
    assert.ok(r.stdout.endsWith(createHash('sha256').update(body).digest('hex')));
  });

  await t.test('curl POST, chunked', async () => {
    const body = 'b'.repeat(150_000);
    const r = await run(t, 'curl', [...s.curl, '-i', '-T', '-', '-X', 'POST', `${s.url}/echo`], { stdin: 'pipe', input: body });
    assert.match(r.stdout, /x-length: 150000/i);
    assert.match(r.stdout, /x-coding: chunked/i);
    assert.ok(r.stdout.endsWith(createHash('sha256').update(body).digest('hex')));
  });

  await t.test('an empty POST', async () => {
    const seen = JSON.parse((await s.visit('/what', { method: 'POST', headers: { 'Content-Length': '0' } })).text);
    assert.equal(seen.method, 'POST');
    assert.equal(seen.body, '');
  });

  await t.test('chunked response with a trailer', async () => {
    const r = await s.visit('/chunked', { headers: { TE: 'trailers' } });
    assert.equal(r.status, 200);
    assert.equal(r.text, 'part 0\npart 1\npart 2\npart 3\npart 4\n');
    assert.equal(r.headers['transfer-encoding'], 'chunked');
  });

  await t.test('HEAD keeps the length and has no body', async () => {
    const r = await curl('-I', `${s.url}/head`);
    assert.equal(r.code, 0, r.stderr);
    assert.match(r.stdout, /content-length: 12345\r\n/i);
    const get = await s.visit('/head');
    assert.equal(get.body.length, 12345);
  });

  await t.test('204 and 304 have no body and no coding', async () => {
    for (const status of [204, 304]) {
      const r = await s.visit(`/${status}`);
      assert.equal(r.status, status);
      assert.equal(r.body.length, 0);
      assert.equal(r.headers['transfer-encoding'], undefined);
    }
  });

  await t.test('several Set-Cookie stay several', async () => {
    assert.deepEqual((await s.visit('/cookies')).headers['set-cookie'], ['a=1', 'b=2']);
  });

  await t.test('an answer before the body ends reaches the visitor', async () => {
    const socket = await s.connect();
    socket.write(`POST /early HTTP/1.1\r\nHost: ${s.name}\r\nContent-Length: 100000000\r\n\r\n${'x'.repeat(1000)}`);
    const { text } = await drain(socket);
    assert.match(text, /^HTTP\/1\.1 413 /);
    assert.match(text, /too much/);
  });

  await t.test('keep-alive: many requests in one connection, and pipelined ones answered in order', async () => {
    const socket = await s.connect();
    const paths = Array.from({ length: 20 }, (_, i) => `/what?n=${i}`);
    socket.write(paths.map((p, i) => `GET ${p} HTTP/1.1\r\nHost: ${s.name}\r\n${i === 19 ? 'Connection: close\r\n' : ''}\r\n`).join(''));
    const { text } = await drain(socket);
    assert.deepEqual([...text.matchAll(/"url":"([^"]+)"/g)].map((m) => m[1]), paths);
  });

  await t.test('Expect: 100-continue', async () => {
    const r = await curl('-i', '-H', 'Expect: 100-continue', '--data-binary', 'x'.repeat(5000), `${s.url}/echo`);
    assert.match(r.stdout, /x-length: 5000/i);
  });

  await t.test('HTTP/1.0', async () => {
    const socket = await s.connect();
    socket.write(`GET /chunked HTTP/1.0\r\nHost: ${s.name}\r\n\r\n`);
    const { text } = await drain(socket);
    assert.doesNotMatch(text, /transfer-encoding/i);
    assert.match(text, /\r\n\r\npart 0\npart 1\npart 2\npart 3\npart 4\n$/);
  });

  await t.test('100 at once', async () => {
    const bodies = await Promise.all(Array.from({ length: 100 }, (_, i) => s.visit('/what', { method: 'POST', body: `number ${i}` })));
    bodies.forEach((r, i) => assert.equal(JSON.parse(r.text).body, `number ${i}`));
  });

  await t.test('curl itself, 100 at once', async () => {
    const urls = Array.from({ length: 100 }, (_, i) => `${s.url}/what?n=${i}`);
    const r = await curl('--parallel', '--parallel-immediate', '--parallel-max', '100', '-w', '%{http_code}\n', '-o', '/dev/null', ...urls.flatMap((u) => [u, '-o', '/dev/null']).slice(0, -2));
    assert.equal(r.stdout.split('\n').filter((l) => l === '200').length, 100, r.stdout + r.stderr);
  });

  await t.test('/_beam tells the state of the tunnel', async () => {
    const state = JSON.parse((await s.visit('/_beam')).text);
    assert.equal(state.name, s.name);
    assert.equal(state.status, 'active');
    const stats = JSON.parse((await s.visit('/_beam/stats')).text);
    assert.ok(stats.requests > 100, stats.requests);
  });

  await t.test('--host-header keep and a value of one\'s own', async () => {
    const { startAgent, visitor } = await import('./lib/setup.mjs');
    for (const [flag, want] of [['keep', undefined], ['app.example', 'app.example']]) {
      const agent = await startAgent(t, s.dir, s.relay, s.origin.port, ['--host-header', flag, '--name', `host-${flag.slice(0, 3)}`], { data: `${s.dir}/agent-${flag}` });
      const v = visitor(s.relay, agent);
      const seen = JSON.parse((await v.visit('/what')).text);
      assert.equal(seen.headers.host, want ?? v.name);
      await agent.stop();
    }
  });

  await t.test('both end in order', async () => {
    await s.agent.stop();
    await s.relay.stop();
  });
});
