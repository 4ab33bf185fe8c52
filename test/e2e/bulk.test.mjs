// Big bodies both ways, hashed at both ends, while neither program grows.
import assert from 'node:assert/strict';
import { createHash, createCipheriv } from 'node:crypto';
import fs from 'node:fs';
import { long, mib, run, sanitized } from './lib/run.mjs';
import { setUp } from './lib/setup.mjs';
import { overTransports } from './lib/transports.mjs';

const ceiling = 64 * 1048576;
const size = (sanitized ? 16 : long ? 1024 : 128) * 1048576;
const sizeAtOnce = long ? size : size / 2;

// A keystream is as good as random bytes, and both ends can make it.
function* stream(bytes) {
  const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16, 7), Buffer.alloc(16));
  const zeros = Buffer.alloc(1048576);
  for (let left = bytes; left > 0; left -= zeros.length) yield cipher.update(left < zeros.length ? zeros.subarray(0, left) : zeros);
}

function hashOf(bytes) {
  const hash = createHash('sha256');
  for (const part of stream(bytes)) hash.update(part);
  return hash.digest('hex');
}
const expected = hashOf(size);
const expectedAtOnce = hashOf(sizeAtOnce);

const moved = (stream) =>
  new Promise((go) => {
    const done = () => {
      stream.off('drain', done).off('close', done);
      go();
    };
    stream.on('drain', done).on('close', done);
  });

async function origin(request, response) {
  if (request.method === 'GET') {
    const bytes = request.url === '/' ? size : sizeAtOnce;
    response.writeHead(200, { 'Content-Length': bytes });
    for (const part of stream(bytes)) {
      if (response.destroyed) return;
      if (!response.write(part)) await moved(response);
    }
    return response.end();
  }
  const hash = createHash('sha256');
  request.on('data', (part) => hash.update(part));
  request.on('end', () => response.end(hash.digest('hex')));
}

overTransports('bulk', async (t) => {
  const s = await setUp(t, origin);
  const check = (what, begun, bytes) => {
    const seconds = (performance.now() - begun) / 1000;
    const [relay, agent] = [s.relay.peakRss(), s.agent.peakRss()];
    t.diagnostic(`${what}: ${mib(bytes)} at ${(bytes / 1048576 / seconds).toFixed(0)} MiB/s; peak of the relay ${mib(relay)}, of the agent ${mib(agent)}`);
    if (sanitized) return;
    assert.ok(relay < ceiling, `relay: ${mib(relay)}`);
    assert.ok(agent < ceiling, `agent: ${mib(agent)}`);
  };

  await t.test(`download of ${mib(size)}`, async () => {
    const begun = performance.now();
    const r = await run(t, 'sh', ['-c', 'curl "$@" | sha256sum', 'sh', ...s.curl, `${s.url}/`], { ms: 300_000 });
    assert.equal(r.stdout.split(' ')[0], expected, r.stderr);
    check('download', begun, size);
  });

  await t.test(`upload of ${mib(size)}, chunked`, async () => {
    const begun = performance.now();
    const hash = await new Promise((resolve, reject) => {
      const request = s.request('/', { method: 'POST' });
      request.on('error', reject);
      request.on('response', (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (part) => (text += part)).on('end', () => resolve(text)).on('error', reject);
      });
      (async () => {
        for (const part of stream(size)) if (!request.write(Buffer.from(part))) await new Promise((go) => request.once('drain', go));
        request.end();
      })();
    });
    assert.equal(hash, expected);
    check('upload', begun, size);
  });

  await t.test('both ways at once, twice each', async () => {
    const begun = performance.now();
    const file = `${s.dir}/body`;
    const part = Math.min(size, (long ? 64 : 32) * 1048576);
    fs.writeFileSync(file, Buffer.concat([...stream(part)].map((b) => Buffer.from(b))));
    const hex = hashOf(part);
    const up = () => run(t, 'curl', [...s.curl, '-T', file, '-X', 'POST', `${s.url}/`], { ms: 300_000 }).then((r) => assert.equal(r.stdout, hex, r.stderr));
    const down = () => run(t, 'sh', ['-c', 'curl "$@" | sha256sum', 'sh', ...s.curl, `${s.url}/at-once`], { ms: 300_000 }).then((r) => assert.equal(r.stdout.split(' ')[0], expectedAtOnce, r.stderr));
    await Promise.all([up(), down(), up(), down()]);
    check('both', begun, 2 * part + 2 * sizeAtOnce);
  });

  await s.agent.stop();
  await s.relay.stop();
});
