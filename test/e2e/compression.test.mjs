// Text goes in Brotli or gzip, as far as the visitor, the service and the kind of response allow it.
import assert from 'node:assert/strict';
import http2 from 'node:http2';
import { test } from 'node:test';
import zlib from 'node:zlib';
import { run, until } from './lib/run.mjs';
import { setUp } from './lib/setup.mjs';
import { overTransports } from './lib/transports.mjs';

const text = Array.from({ length: 4000 }, (_, i) => `export const value${i} = compute(${i * 7919});\n`).join('');
const paths = {
  '/js': { 'Content-Type': 'text/javascript', ETag: '"one"', 'Accept-Ranges': 'bytes', 'Content-Length': text.length },
  '/chunked': { 'Content-Type': 'text/html; charset=utf-8' },
  '/png': { 'Content-Type': 'image/png' },
  '/encoded': { 'Content-Type': 'text/plain', 'Content-Encoding': 'gzip' },
  '/no-transform': { 'Content-Type': 'text/plain', 'Cache-Control': 'no-transform' },
  '/small': { 'Content-Type': 'text/plain', 'Content-Length': 1023 },
  '/sse': { 'Content-Type': 'text/event-stream' },
  '/range': { 'Content-Type': 'text/plain', 'Content-Range': `bytes 0-${text.length - 1}/${text.length}` },
};

const waiting = {}; // what a test lets the service say, piece by piece
function origin(request, response) {
  const path = request.url;
  if (path.startsWith('/pieces')) {
    response.writeHead(200, { 'Content-Type': 'application/x-ndjson' });
    response.flushHeaders();
    waiting[path] = response;
    return;
  }
  if (path === '/trailers') {
    response.writeHead(200, { 'Content-Type': 'text/plain', Trailer: 'X-After' });
    response.write(text);
    response.addTrailers({ 'X-After': 'all' });
    return response.end();
  }
  if (path === '/cut') {
    response.writeHead(200, { 'Content-Type': 'text/plain' });
    response.write(text, () => response.destroy());
    return;
  }
  response.writeHead(path === '/range' ? 206 : 200, paths[path]);
  if (request.method === 'HEAD') return response.end();
  response.end(path === '/encoded' ? zlib.gzipSync(text) : path === '/small' ? text.slice(0, 1023) : text);
}

const decoders = { br: () => zlib.createBrotliDecompress(), gzip: () => zlib.createGunzip() };
const decode = { br: zlib.brotliDecompressSync, gzip: zlib.gunzipSync };

overTransports('compressed responses', async (t) => {
  const s = await setUp(t, origin);
  const get = (path, accept, headers, method) => s.visit(path, { method, headers: { ...(accept && { 'accept-encoding': accept }), ...headers } });

  for (const coding of ['br', 'gzip'])
    await t.test(`${coding}: the body, and what its head says`, async () => {
      for (const path of ['/js', '/chunked']) {
        const r = await get(path, coding);
        assert.equal(r.headers['content-encoding'], coding);
        assert.equal(decode[coding](r.body).toString(), text);
        assert.ok(r.body.length < text.length / 3);
        assert.equal(r.headers.vary, 'Accept-Encoding');
        assert.equal(r.headers['content-length'], undefined);
        assert.equal(r.headers['accept-ranges'], undefined);
        if (path === '/js') assert.equal(r.headers.etag, 'W/"one"');
      }
    });

  await t.test('who takes nothing, or dislikes it, gets it plain', async () => {
    for (const accept of [undefined, 'identity', 'br;q=0', 'zstd']) {
      const r = await get('/js', accept);
      assert.equal(r.headers['content-encoding'], undefined);
      assert.equal(r.text, text);
      assert.equal(r.headers.vary, 'Accept-Encoding');
      assert.equal(r.headers.etag, '"one"');
      assert.equal(r.headers['accept-ranges'], 'bytes');
    }
    assert.equal((await get('/js', 'br;q=0.1, gzip;q=0.9')).headers['content-encoding'], 'gzip');
  });

  await t.test('HEAD says what GET would', async () => {
    const r = await get('/js', 'br', {}, 'HEAD');
    assert.equal(r.headers['content-encoding'], 'br');
    assert.equal(r.headers.etag, 'W/"one"');
    assert.equal(r.headers['content-length'], undefined);
    assert.equal(r.body.length, 0);
  });

  await t.test('what is left alone', async () => {
    for (const path of ['/png', '/no-transform', '/small', '/sse', '/range']) {
      const r = await get(path, 'br, gzip');
      assert.equal(r.headers['content-encoding'], undefined, path);
      assert.equal(r.text, path === '/small' ? text.slice(0, 1023) : text);
    }
    const r = await get('/encoded', 'br, gzip');
    assert.equal(zlib.gunzipSync(r.body).toString(), text);
    const foreign = { cookie: 'a=b', 'sec-fetch-site': 'cross-site' }; // BREACH
    assert.equal((await get('/js', 'br', foreign)).headers['content-encoding'], undefined);
    assert.equal((await get('/js', 'br', { ...foreign, 'sec-fetch-site': 'same-origin' })).headers['content-encoding'], 'br');
  });

  for (const coding of ['br', 'gzip'])
    await t.test(`${coding}: each piece arrives, and can be read, before the next`, async () => {
      const path = `/pieces-${coding}`;
      const decoder = decoders[coding]();
      let got = '';
      decoder.on('data', (part) => (got += part));
      const request = s.request(path, { headers: { 'accept-encoding': coding } });
      request.end();
      const response = await new Promise((resolve, reject) => request.on('response', resolve).on('error', reject));
      assert.equal(response.headers['content-encoding'], coding);
      response.pipe(decoder);
      let said = '';
      for (const piece of ['{"a":1}\n', '{"b":2}\n', `{"long":"${'x'.repeat(70_000)}"}\n`, '{"c":3}\n']) {
        waiting[path].write(piece);
        said += piece;
        await until(() => got.length === said.length, `piece ${piece.slice(0, 10)}`);
        assert.equal(got, said);
      }
      waiting[path].end();
      await new Promise((resolve) => decoder.on('end', resolve));
    });

  await t.test('trailers come after it, and a body that is cut is seen to be', async () => {
    const r = await get('/trailers', 'gzip');
    assert.equal(zlib.gunzipSync(r.body).toString(), text);
    assert.equal(r.trailers['x-after'], 'all');
    await assert.rejects(get('/cut', 'gzip'));
  });

  await t.test('curl --compressed, HTTP/1 and HTTP/2', async () => {
    for (const version of ['--http1.1', '--http2']) {
      const r = await run(t, 'curl', [...s.curl, version, '--compressed', '-v', `${s.url}/chunked`]);
      assert.equal(r.stdout, text);
      assert.match(r.stderr, /content-encoding: (br|gzip)/i);
    }
  });

  await t.test('many at once on one connection', async () => {
    const session = http2.connect(s.url, { ca: s.base.ca, servername: s.name, lookup: (_, o, done) => (o.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4)) });
    let coded = 0; // memory for encoders is bounded: some may come plain
    const one = (i) =>
      new Promise((resolve, reject) => {
        const stream = session.request({ ':path': '/js', 'accept-encoding': i % 2 ? 'br' : 'gzip' });
        const parts = [];
        let coding;
        stream.on('response', (headers) => (coding = headers['content-encoding']));
        stream.on('data', (part) => parts.push(part)).on('error', reject);
        stream.on('end', () => {
          const body = Buffer.concat(parts);
          if (coding) coded++;
          resolve((coding ? decode[coding](body) : body).toString() === text);
        });
      });
    const all = await Promise.all(Array.from({ length: 60 }, (_, i) => one(i)));
    session.close();
    assert.ok(all.every(Boolean));
    assert.ok(coded >= 40, `${coded} of 60`);
  });
});

test('--no-compression', async (t) => {
  const s = await setUp(t, origin, { agentArgs: ['--no-compression'] });
  const r = await s.visit('/js', { headers: { 'accept-encoding': 'br, gzip' } });
  assert.equal(r.headers['content-encoding'], undefined);
  assert.equal(r.headers.vary, undefined);
  assert.equal(r.headers['content-length'], String(text.length));
  assert.equal(r.text, text);
});
