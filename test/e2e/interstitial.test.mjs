// A warning before a stranger's site, on a relay that wants one.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import test from 'node:test';
import { run, tempDir } from './lib/run.mjs';
import { serve, setUp, startAgent, startRelay, visitor } from './lib/setup.mjs';

const navigation = { 'sec-fetch-dest': 'document', 'sec-fetch-mode': 'navigate', 'sec-fetch-site': 'none', 'sec-fetch-user': '?1' };

test('the warning, the click, and the site', async (t) => {
  const s = await setUp(t, (request, response) => response.end(`site ${request.url}`), { relayArgs: ['--interstitial'] });
  const first = await s.visit('/a?b=c', { headers: navigation });
  assert.equal(first.status, 200);
  assert.match(first.text, /Continue to the site/);
  assert.ok(first.text.includes(s.name));
  assert.doesNotMatch(first.text, /b=c|site \//);
  assert.equal(first.headers['cache-control'], 'no-store');
  assert.equal(first.headers['set-cookie'], undefined); // seeing it is not agreeing
  const host = `${s.name}:${s.relay.port}`;
  const click = (more) => s.visit('/_beam/continue', { headers: { ...navigation, host, 'sec-fetch-site': 'same-origin', referer: `https://${host}/a?b=c`, ...more } });
  const clicked = await click();
  assert.equal(clicked.status, 303);
  assert.equal(clicked.headers.location, '/a?b=c');
  assert.match(clicked.headers['set-cookie'][0], /^__Host-beam-visited=1; Path=\/; .*HttpOnly; SameSite=Lax; Secure$/);
  const then = await s.visit('/a?b=c', { headers: { ...navigation, cookie: clicked.headers['set-cookie'][0].split(';')[0] } });
  assert.equal(then.text, 'site /a?b=c');
  // Another site cannot click for its visitors.
  const forced = await click({ 'sec-fetch-site': 'cross-site', referer: 'https://evil.test/' });
  assert.equal(forced.headers.location, '/');
  assert.equal(forced.headers['set-cookie'], undefined);
  // Programs, and what pages ask for, never see it.
  for (const headers of [{}, { ...navigation, 'beam-skip-warning': '1' }, { 'sec-fetch-dest': 'empty', 'sec-fetch-mode': 'cors' }, { 'sec-fetch-dest': 'iframe', 'sec-fetch-mode': 'navigate' }])
    assert.equal((await s.visit('/x', { headers })).text, 'site /x');
  assert.equal((await s.visit('/x', { method: 'OPTIONS', headers: { origin: 'https://a.test', 'access-control-request-method': 'GET' } })).text, 'site /x');
  const { stdout } = await run(t, 'curl', [...s.curl.filter((arg) => arg !== '--http1.1'), '--http2', '-H', 'sec-fetch-dest: document', '-H', 'sec-fetch-mode: navigate', `${s.url}/h2`]);
  assert.match(stdout, /Continue to the site/); // over HTTP/2 too
});

test('not unless asked for, and not where agents show tokens', async (t) => {
  const dir = tempDir(t);
  const origin = await serve(t, (request, response) => response.end('site'));
  fs.writeFileSync(`${dir}/tokens`, 'a-token-of-some-length\n', { mode: 0o600 });
  const plain = await setUp(t, origin.port);
  assert.equal((await plain.visit('/', { headers: navigation })).text, 'site');
  const relay = await startRelay(t, dir, ['--interstitial', '--agent-token-file', `${dir}/tokens`]);
  const agent = await startAgent(t, dir, relay, origin.port, ['--token', 'a-token-of-some-length']);
  assert.equal((await visitor(relay, agent).visit('/', { headers: navigation })).text, 'site');
});
