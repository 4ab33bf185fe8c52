// --cache: what the service says is public is answered without it, for as long as it said.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import zlib from 'node:zlib';
import { cleanEnv, run, runBeam, until } from './lib/run.mjs';
import { setUp } from './lib/setup.mjs';

const PUBLIC = 'public, max-age=600';
const big = 'x'.repeat(200_000);

/** A service that counts what it is asked, and says what the path tells it to. */
function service() {
  const asked = [];
  const holds = {};
  const listener = (request, response) => {
    const url = new URL(request.url, 'http://origin');
    asked.push({ path: request.url, method: request.method, headers: request.headers });
    const headers = Object.fromEntries(url.searchParams);
    const body = headers.body === 'big' ? big : `${request.method} ${url.pathname} ${asked.length}`;
    delete headers.body;
    if (headers.ETag && request.headers['if-none-match'] === headers.ETag) {
      response.writeHead(304, headers);
      return response.end();
    }
    response.writeHead(url.pathname === '/404' ? 404 : url.pathname === '/206' ? 206 : 200, headers);
    if (url.pathname === '/cut') return response.write(big, () => response.destroy());
    if (url.pathname === '/held') return (holds[request.url] = () => response.end(body));
    response.end(request.method === 'HEAD' ? undefined : body);
  };
  return { asked, holds, listener, times: (path) => asked.filter((a) => a.path === path).length };
}

const target = (path, headers = { 'Cache-Control': PUBLIC }) => `${path}?${new URLSearchParams(headers)}`;

test('what is kept, and what is not', async (t) => {
  const o = service();
  const s = await setUp(t, o.listener, { agentArgs: ['--cache', '64MiB'] });
  const get = (path, headers, method) => s.visit(path, { method, headers });

  await t.test('a public response is kept: the same body, its age, and who said so', async () => {
    const url = target('/a', { 'Cache-Control': PUBLIC, ETag: '"one"', 'X-Mine': 'y', 'Last-Modified': 'Mon, 02 Mar 2026 10:00:00 GMT' });
    const first = await get(url);
    assert.equal(first.headers['cache-status'], 'Beam; fwd=miss');
    assert.equal(first.headers.age, undefined);
    const second = await get(url);
    assert.equal(second.text, first.text);
    assert.equal(second.headers['cache-status'], 'Beam; hit');
    assert.match(second.headers.age, /^\d+$/);
    assert.equal(second.headers['x-mine'], 'y');
    assert.equal(second.headers['content-length'], String(first.text.length));
    assert.equal(o.times(url), 1);

    const head = await get(url, {}, 'HEAD');
    assert.equal(head.headers['cache-status'], 'Beam; hit');
    assert.equal(head.headers['content-length'], String(first.text.length));
    assert.equal(head.text, '');
    for (const condition of [{ 'if-none-match': '"zero", W/"one"' }, { 'if-none-match': '*' }, { 'if-modified-since': 'Mon, 02 Mar 2026 10:00:00 GMT' }]) {
      const r = await get(url, condition);
      assert.equal(r.status, 304);
      assert.equal(r.headers.etag, '"one"');
      assert.equal(r.text, '');
    }
    assert.equal((await get(url, { 'if-none-match': '"two"' })).status, 200);
    assert.equal(o.times(url), 1);
  });

  await t.test('what is not explicitly public is not', async () => {
    for (const headers of [
      {},
      { ETag: '"x"' },
      { 'Cache-Control': 'max-age=600' },
      { 'Cache-Control': 'public' },
      { 'Cache-Control': 'public, max-age=0' },
      { 'Cache-Control': 'public, max-age=nonsense' },
      { 'Cache-Control': 'public, max-age=600, private' },
      { 'Cache-Control': 'public, max-age=600, no-store' },
      { 'Cache-Control': 'public, max-age=600, no-cache' },
      { 'Cache-Control': 'public, max-age=600, private="x"' },
      { 'Cache-Control': PUBLIC, 'Set-Cookie': 'a=b' },
      { 'Cache-Control': PUBLIC, Vary: '*' },
      { 'Cache-Control': PUBLIC, Age: '600' },
    ]) {
      const url = target('/no', headers);
      await get(url);
      assert.equal((await get(url)).headers['cache-status'], 'Beam; fwd=miss', url);
      assert.equal(o.times(url), 2, url);
    }
    for (const headers of [{ 'Cache-Control': 's-maxage=600' }, { 'Cache-Control': 'PUBLIC, Max-Age="600"' }, { 'Cache-Control': PUBLIC, Age: '590' }]) {
      const url = target('/yes', headers);
      await get(url);
      const r = await get(url);
      assert.equal(r.headers['cache-status'], 'Beam; hit', url);
      if (headers.Age) assert.ok(Number(r.headers.age) >= 590);
    }
    const missing = target('/404');
    await get(missing);
    assert.equal((await get(missing)).status, 404);
    assert.equal(o.times(missing), 1);
  });

  await t.test('requests that no cache may answer', async () => {
    const url = target('/a2');
    await get(url);
    for (const headers of [{ range: 'bytes=0-3' }, { 'cache-control': 'no-store' }, { 'if-match': '"x"' }]) assert.equal((await get(url, headers)).headers['cache-status'], 'Beam; fwd=bypass');
    assert.equal((await get(target('/206'))).headers['cache-status'], 'Beam; fwd=miss');
    assert.equal((await get(target('/206'))).headers['cache-status'], 'Beam; fwd=miss');
  });

  await t.test('Vary', async () => {
    const url = target('/vary', { 'Cache-Control': PUBLIC, Vary: 'Accept-Language, X-Kind' });
    const one = (language, kind) => get(url, { 'accept-language': language, ...(kind && { 'x-kind': kind }) });
    const de = await one('de');
    const en = await one('en');
    assert.notEqual(de.text, en.text);
    assert.equal((await one('de')).text, de.text);
    assert.equal((await one('en')).text, en.text);
    assert.notEqual((await one('en', 'k')).text, en.text);
    assert.equal(o.times(url), 3);
  });

  await t.test('asked again for the visitor, and good again', async () => {
    const url = target('/again', { 'Cache-Control': PUBLIC, ETag: '"one"' });
    const first = await get(url);
    const r = await get(url, { 'cache-control': 'no-cache', 'if-none-match': '"other"' });
    assert.equal(r.status, 200);
    assert.equal(r.text, first.text);
    assert.equal(r.headers['cache-status'], 'Beam; hit; detail=revalidated');
    assert.equal(o.asked.at(-1).headers['if-none-match'], '"one"');
    assert.equal(o.times(url), 2);
  });

  await t.test('stale-while-revalidate: answered at once, asked behind it', async () => {
    const url = target('/swr', { 'Cache-Control': 'public, max-age=0, stale-while-revalidate=600' });
    const first = await get(url);
    const second = await get(url);
    assert.equal(second.text, first.text);
    assert.equal(second.headers['cache-status'], 'Beam; hit');
    await until(() => o.times(url) === 2, 'the service is asked');
    await until(async () => (await get(url)).text !== first.text, 'the new one is there');

    const held = target('/held', { 'Cache-Control': 'public, max-age=0, stale-while-revalidate=600' });
    const slow = get(held);
    await until(() => o.holds[held], 'it asks');
    o.holds[held]();
    const kept = await slow;
    for (let i = 0; i < 5; i++) assert.equal((await get(held)).text, kept.text); // nobody waits ...
    assert.equal(o.times(held), 2); // ... and one asks for all
    o.holds[held]();
    await until(async () => (await get(held)).text !== kept.text, 'the new one is there');
  });

  await t.test('a change makes it untrue', async () => {
    const url = target('/changed');
    await get(url);
    await get(url, {}, 'POST');
    assert.equal((await get(url)).headers['cache-status'], 'Beam; fwd=miss');
    assert.equal((await get(url)).headers['cache-status'], 'Beam; hit');
  });

  await t.test('one that was cut is not kept', async () => {
    const url = target('/cut');
    await assert.rejects(get(url));
    await assert.rejects(get(url));
    assert.equal(o.times(url), 2);
  });

  await t.test('out of the cache it is compressed as well', async () => {
    const url = target('/text', { 'Cache-Control': PUBLIC, 'Content-Type': 'text/plain', body: 'big' });
    for (const coding of ['br', 'identity', 'gzip']) {
      const r = await get(url, { 'accept-encoding': coding });
      const plain = coding === 'br' ? zlib.brotliDecompressSync(r.body) : coding === 'gzip' ? zlib.gunzipSync(r.body) : r.body;
      assert.equal(plain.toString(), big);
    }
    assert.equal(o.times(url), 1);
  });

  await t.test('many at once', async () => {
    const url = target('/text', { 'Cache-Control': PUBLIC, 'Content-Type': 'text/plain', body: 'big' });
    const all = await Promise.all(Array.from({ length: 40 }, () => get(url)));
    assert.ok(all.every((r) => r.text === big));
  });

  await t.test('beam status counts, beam purge empties', async () => {
    const env = cleanEnv(s.dir);
    const status = async () => JSON.parse((await runBeam(t, ['status', '--json'], env)).stdout.split('\n').find((line) => line.includes('cache_hits')));
    const before = await status();
    assert.ok(before.cache_hits > 40 && before.cache_stale >= 7 && before.cache_revalidated >= 1 && before.cache_bypassed >= 3 && before.cache_misses > 20, JSON.stringify(before));
    assert.ok(before.cache_responses > 5 && before.cache_bytes > 200_000 && before.cache_bytes < 2_000_000);
    const r = await runBeam(t, ['purge'], env);
    assert.equal(r.code, 0, r.stderr);
    assert.match(r.stdout, /^Purged /);
    const after = await until(async () => ((await status()).cache_responses === 0 ? status() : null), 'it is empty');
    assert.equal(after.cache_bytes, 0);
  });
});

test('beam purge of one path', async (t) => {
  const o = service();
  const s = await setUp(t, o.listener, { agentArgs: ['--cache', '1M'] });
  const env = cleanEnv(s.dir);
  const urls = ['/a', '/a/b', '/ab', '/c'].map((path) => target(path));
  const state = async (url) => (await s.visit(url)).headers['cache-status'];
  for (const url of urls) await s.visit(url);
  for (const url of urls) assert.equal(await state(url), 'Beam; hit');
  const name = new URL(s.url).hostname.split('.')[0];

  for (const [args, says] of [
    [[name, '/a', '/c'], /one path at a time/],
    [['nobody', '/a'], /nothing here runs under the name "nobody"/],
    [[`/${'a'.repeat(5000)}`], /the path is too long/],
  ]) {
    const r = await runBeam(t, ['purge', ...args], env);
    assert.notEqual(r.code, 0);
    assert.match(r.stderr, says);
  }
  for (const url of urls) assert.equal(await state(url), 'Beam; hit');

  const r = await runBeam(t, ['purge', name, '/a', '--json'], env);
  assert.equal(r.code, 0, r.stderr);
  assert.equal(JSON.parse(r.stdout).path, '/a');
  assert.deepEqual(await until(async () => ((await state(urls[0])) === 'Beam; fwd=miss' ? 'gone' : null), 'it is forgotten'), 'gone');
  assert.deepEqual([await state(urls[1]), await state(urls[2]), await state(urls[3])], ['Beam; fwd=miss', 'Beam; hit', 'Beam; hit']);
  assert.match((await runBeam(t, ['purge', '/c'], env)).stdout, /^Purged \/c of /);
});

test('it stays as small as it was told', async (t) => {
  const o = service();
  const s = await setUp(t, o.listener, { agentArgs: ['--cache', '1M', '--auth', 'ada:one'] });
  const authorization = `Basic ${Buffer.from('ada:one').toString('base64')}`;
  const get = (path, headers) => s.visit(path, { headers: { authorization, ...headers } });
  const large = target('/large', { 'Cache-Control': PUBLIC, body: 'big' }); // more than an eighth
  await get(large);
  await get(large);
  assert.equal(o.times(large), 2);
  const filler = 'f'.repeat(7000);
  for (let i = 0; i < 200; i++) await get(target(`/fill/${i}`, { 'Cache-Control': PUBLIC, 'X-Fill': filler }));
  const last = target('/fill/199', { 'Cache-Control': PUBLIC, 'X-Fill': filler });
  assert.equal((await get(last)).headers['cache-status'], 'Beam; hit');
  assert.equal((await get(target('/fill/0', { 'Cache-Control': PUBLIC, 'X-Fill': filler }))).headers['cache-status'], 'Beam; fwd=miss');
  const { stdout } = await runBeam(t, ['status', '--json'], cleanEnv(s.dir));
  const now = JSON.parse(stdout.split('\n').find((line) => line.includes('cache_bytes')));
  assert.ok(now.cache_bytes <= 1 << 20 && now.cache_evicted > 50, stdout);
  // The owner's password comes first.
  assert.equal((await s.visit(last)).status, 401);
});

test('without a cache nothing is kept, and there is nothing to purge', async (t) => {
  const o = service();
  const s = await setUp(t, o.listener);
  const url = target('/a');
  await s.visit(url);
  const r = await s.visit(url);
  assert.equal(o.times(url), 2);
  assert.equal(r.headers['cache-status'], undefined);
  const purge = await runBeam(t, ['purge'], cleanEnv(s.dir));
  assert.notEqual(purge.code, 0);
  assert.match(purge.stderr, /no cache to purge/);
});
