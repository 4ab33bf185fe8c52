// The tables of malformed requests and responses, against the real programs over TLS. Splitting them at every byte is for test/unit/http/test_malformed.c.
import assert from 'node:assert/strict';
import net from 'node:net';
import test from 'node:test';
import { until } from './lib/run.mjs';
import { listen, setUp } from './lib/setup.mjs';
import { frame, framesOf, readFrames, readTexts } from './lib/tables.mjs';

const SMUGGLED = (name) => `GET /smuggled HTTP/1.1\r\nHost: ${name}\r\n\r\n`;

/** All rows, a few at a time; every one that fails is named. */
async function each(rows, check) {
  const failed = [];
  const queue = [...rows];
  const worker = async () => {
    for (let row; (row = queue.shift()); )
      await check(row).catch((error) => failed.push(`line ${row.line} (${row.want}): ${error.message}`));
  };
  await Promise.all(Array.from({ length: 16 }, worker));
  assert.equal(failed.join('\n'), '');
}

/** Everything a connection gives until its end, or until `enough` says so. */
async function talk(socket, bytes, { end = false, enough = () => false } = {}) {
  let got = Buffer.alloc(0);
  let closed = false;
  socket.on('data', (part) => (got = Buffer.concat([got, part])));
  socket.on('close', () => (closed = true));
  socket.on('end', () => (closed = true));
  if (end) socket.end(bytes);
  else socket.write(bytes);
  await until(() => closed || enough(got), 'an answer', 10_000).catch((error) => {
    throw new Error(`${error.message}; so far ${JSON.stringify(got.toString('latin1').slice(0, 200))}`);
  });
  socket.destroy();
  return { got, text: got.toString('latin1'), closed };
}

test('malformed requests', async (t) => {
  const seen = [];
  const s = await setUp(t, (request, response) => {
    seen.push(request.url);
    request.on('error', () => {});
    request.resume();
    request.on('end', () => response.end('fine'));
  });

  const h1 = readTexts('malformed_h1.txt');
  await t.test(`HTTP/1, ${h1.length} of them`, () =>
    each(h1, async (row) => {
      const text = row.text.replace(/t\.test/gi, s.name);
      const socket = await s.connect();
      if (row.want === 'ok') {
        // Node has opinions of its own about some of them: what counts is that it was asked.
        const { text: got } = await talk(socket, Buffer.from(text, 'latin1'), { enough: (b) => b.includes('\r\n\r\n') });
        return assert.doesNotMatch(got, /Beam-Error|^$/);
      }
      const bytes = Buffer.from(row.end ? text : text + SMUGGLED(s.name), 'latin1');
      const { text: got, closed } = await talk(socket, bytes, { end: row.end });
      assert.ok(closed);
      assert.ok(got.startsWith(`HTTP/1.1 ${row.want.slice(0, 3)} `) && got.includes(`\r\nBeam-Error: BEAM-${row.want}\r\n`), got.slice(0, 200));
      assert.match(got, /\r\nConnection: close\r\n/);
      assert.equal(got.match(/^HTTP\/1\.1 \d/gm).length, 1);
      assert.doesNotMatch(got, /evil|smuggled/);
      assert.ok(!got.includes(s.name));
    }),
  );

  const h2 = readFrames('malformed_h2.txt', s.name);
  await t.test(`HTTP/2, ${h2.length} of them`, () =>
    each(h2, async (row) => {
      const socket = await s.connect({ ALPNProtocols: ['h2'] });
      const mine = Buffer.from('are you?');
      const said = (bytes) => {
        const frames = framesOf(bytes);
        const first = (type, id) => frames.find((f) => f.type === type && f.id === id);
        const reset = first(3, 1);
        const goaway = first(7, 0);
        return {
          reset: reset && reset.payload.readUInt32BE(0),
          goaway: goaway && goaway.payload.readUInt32BE(4),
          answer: !!first(1, 1),
          ended: frames.some((f) => f.id === 1 && f.type < 2 && f.flags & 1),
          pong: frames.some((f) => f.type === 6 && f.flags & 1 && f.payload.equals(mine)),
        };
      };
      const enough = (bytes) => {
        const { reset, goaway, ended, pong } = said(bytes);
        if (row.want === 'quiet') return pong;
        return row.want !== 'goaway' && (reset !== undefined || goaway !== undefined || ended);
      };
      // A frame after the one that ends a header block too early is part of the row; a PING would be.
      const ping = row.want === 'goaway' ? Buffer.alloc(0) : frame(6, 0, 0, mine);
      const { got, text, closed } = await talk(socket, Buffer.concat([row.bytes, ping]), { enough });
      const what = said(got);
      if (row.want === 'reset' || row.want === 'late') assert.equal(what.reset, row.code, JSON.stringify(what));
      if (row.want === 'reset') assert.ok(!what.answer);
      if (row.want === 'goaway') assert.ok(closed && what.goaway === row.code, JSON.stringify(what));
      if (row.want === 'page') assert.ok(text.includes(`BEAM-${row.code}`), text);
      if (row.want === 'ok') assert.ok(text.includes('fine'), text);
      if (row.want === 'quiet') assert.ok(what.pong && what.reset === undefined && what.goaway === undefined, JSON.stringify(what));
      assert.ok(!text.includes('evil'), text);
    }),
  );

  assert.deepEqual(seen.filter((url) => /evil|smuggled/.test(url)), []);
  assert.equal((await s.visit('/')).text, 'fine');
});

test('malformed responses of the local service', async (t) => {
  const rows = readTexts('malformed_responses.txt');
  const asked = new Map(); // connections of a bad row, and how often they were asked
  const server = net.createServer((socket) => {
    let count = 0;
    socket.on('data', (bytes) => {
      const target = /^GET \/(\d+) /.exec(bytes.toString('latin1'));
      if (!target) return;
      const row = rows[target[1]];
      asked.set(row, Math.max(asked.get(row) ?? 0, ++count));
      const answer = Buffer.from(row.text, 'latin1');
      if (row.end) return socket.end(answer);
      const next = row.want === 'ok' ? '' : 'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled';
      socket.write(Buffer.concat([answer, Buffer.from(next)]));
      if (row.want !== 'ok') count = 100; // it must not be asked again
    });
  });
  const s = await setUp(t, await listen(t, server));
  await each(
    rows.map((row, i) => ({ ...row, i })),
    async (row) => {
      const answer = await s.visit(`/${row.i}`).catch((error) => ({ cut: error.message, text: '' }));
      if (row.want === 'cut') return assert.ok(answer.cut, `got ${answer.status} ${answer.text}`);
      if (row.want === 'ok') return assert.equal(answer.text, 'fine');
      assert.equal(answer.status, 502, answer.cut);
      assert.equal(answer.headers['beam-error'], `BEAM-${row.want}`);
      assert.doesNotMatch(answer.text, /evil|smuggled/);
    },
  );
  for (const [row, count] of asked) assert.ok(count < 100, `line ${row.line}: its connection was used again`);
  t.diagnostic(`${rows.length} responses`);
});
