// What strangers send: each gets a clear answer or a close, and the relay goes on.
import assert from 'node:assert/strict';
import net from 'node:net';
import test from 'node:test';
import { run, until } from './lib/run.mjs';
import { connect, drain, setUp, visit } from './lib/setup.mjs';

function raw(port, bytes, { end = false } = {}) {
  const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const all = drain(socket);
  if (end) socket.end(bytes);
  else socket.write(bytes);
  return { socket, all };
}

/** A real ClientHello for `name`, as OpenSSL writes it. */
function clientHello(name) {
  return new Promise((resolve, reject) => {
    const server = net.createServer((socket) => {
      socket.once('data', (bytes) => {
        socket.destroy();
        server.close();
        resolve(bytes);
      });
      socket.on('error', () => {});
    });
    server.listen(0, '127.0.0.1', () => {
      connect({ host: '127.0.0.1', port: server.address().port, servername: name, rejectUnauthorized: false }).catch(() => {});
    });
    server.on('error', reject);
  });
}

test('bad input', async (t) => {
  const s = await setUp(t, (_, response) => response.end('ok'));
  const fine = async () => assert.equal((await s.visit('/')).text, 'ok');
  const heads = async (text) => {
    const socket = await s.connect();
    const all = drain(socket);
    socket.write(text);
    return (await all).text;
  };
  const idle = s.relay.fds();

  await t.test('an oversize head: 431', async () => {
    assert.match(await heads(`GET / HTTP/1.1\r\nHost: ${s.name}\r\nX-Big: ${'x'.repeat(70_000)}\r\n\r\n`), /^HTTP\/1\.1 431 /);
    assert.match(await heads(`GET / HTTP/1.1\r\nHost: ${s.name}\r\n${'X: y\r\n'.repeat(200)}\r\n`), /^HTTP\/1\.1 431 /);
    await fine();
  });

  await t.test('a head that is no head: 400', async () => {
    for (const text of [
      'nonsense\r\n\r\n',
      'GET /\r\n\r\n',
      `GET / HTTP/1.1\r\nHost: ${s.name}\r\nNo colon\r\n\r\n`,
      `GET / HTTP/1.1\r\nHost: ${s.name}\r\nHost: ${s.name}\r\n\r\n`,
      'GET / HTTP/1.1\r\n\r\n',
      `GET / HTTP/1.1\r\nHost: ${s.name}\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      `GET / HTTP/1.1\r\nHost: ${s.name}\r\nContent-Length: 1, 2\r\n\r\n`,
      `GET / HTTP/1.1\r\nHost: ${s.name}\r\nBad Name: x\r\n\r\n`,
      `GET / HTTP/1.1\r\nHost: ${s.name}\r\nX: a\0b\r\n\r\n`,
    ])
      assert.match(await heads(text), /^HTTP\/1\.1 (400|501) /, JSON.stringify(text));
    await fine();
  });

  await t.test('an unknown name: 404, and never another\'s tunnel', async () => {
    const r = await visit({ ...s.base, servername: 'nobody-here-1.tunnel.test', rejectUnauthorized: false }, '/');
    assert.equal(r.status, 404);
    assert.match(r.text, /BEAM-4041/);
    await fine();
  });

  await t.test('a Host that the certificate does not cover: 421', async () => {
    assert.match(await heads('GET / HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n'), /^HTTP\/1\.1 (421|404) /);
    await fine();
  });

  await t.test('garbage before TLS: closed', async () => {
    for (const bytes of [Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'), Buffer.alloc(1000, 0xff), Buffer.from('SSH-2.0-x\r\n'), Buffer.from([22, 3, 1, 0xff, 0xff, ...Buffer.alloc(200)]), Buffer.from([22, 3, 1, 0, 0])]) {
      const { all } = raw(s.relay.port, bytes, { end: true });
      const { text } = await all;
      assert.doesNotMatch(text, /200 OK/);
    }
    await fine();
  });

  await t.test('a ClientHello cut at every byte: closed each time', async () => {
    const hello = await clientHello(s.name);
    for (let from = 0; from < hello.length; from += 100)
      await Promise.all(
        Array.from({ length: Math.min(100, hello.length - from) }, async (_, i) => {
          const { all } = raw(s.relay.port, hello.subarray(0, from + i), { end: true });
          await all;
        }),
      );
    await fine();
    t.diagnostic(`${hello.length} cuts`);
  });

  await t.test('a ClientHello in pieces of one byte is understood', async () => {
    const hello = await clientHello(s.name);
    const { socket, all } = raw(s.relay.port, Buffer.alloc(0));
    socket.setNoDelay(true);
    let answer = Buffer.alloc(0);
    socket.on('data', (part) => (answer = Buffer.concat([answer, part])));
    for (const byte of hello) await new Promise((go) => socket.write(Buffer.from([byte]), go));
    await until(() => answer.length > 5, 'a ServerHello');
    assert.equal(answer[0], 22);
    socket.destroy();
    await all;
  });

  await t.test('noise after a good handshake', async () => {
    const socket = await s.connect();
    const all = drain(socket);
    socket.write(Buffer.concat([Buffer.alloc(5000, 0x80), Buffer.from('\r\n\r\n')]));
    assert.match((await all).text, /^HTTP\/1\.1 400 /);
    await fine();
  });

  await t.test('a stranger that speaks beam/1 without a certificate or HELLO gets nothing', async () => {
    const socket = await connect({ ...s.base, ALPNProtocols: ['beam/1'], rejectUnauthorized: false }).catch(() => null);
    if (socket) {
      const all = drain(socket);
      socket.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), Buffer.alloc(9)]));
      await all;
    }
    await fine();
  });

  await t.test('a chunked body that breaks the coding: 400 or a close, and not a second request', async () => {
    const text = await heads(`POST / HTTP/1.1\r\nHost: ${s.name}\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nGET /smuggled HTTP/1.1\r\nHost: ${s.name}\r\n\r\n`);
    assert.ok((text.match(/^HTTP\/1\.1 /gm) ?? []).length <= 1, text);
    await fine();
  });

  await t.test('all of them are gone', async () => {
    await until(() => s.relay.fds() <= idle + 4, 'descriptors back');
  });

  await s.agent.stop();
  await s.relay.stop();
});

test('ports and files that do not work', async (t) => {
  const { beam, cleanEnv, tempDir } = await import('./lib/run.mjs');
  const fs = await import('node:fs');
  const { listen } = await import('./lib/setup.mjs');
  const dir = tempDir(t);
  const env = cleanEnv(dir);
  const relay = (...args) => run(t, beam, ['relay', '--domain', 'tunnel.test', '--data', `${dir}/r`, ...args], { env });

  await t.test('the port is in use: exit 3', async () => {
    const port = await listen(t, net.createServer());
    const r = await relay('--listen', `127.0.0.1:${port}`);
    assert.equal(r.code, 3, r.stderr);
    assert.match(r.stderr, /BEAM-1018/);
    assert.match(r.stderr, new RegExp(String(port)));
    assert.match(r.stderr, /next: /);
    const j = await relay('--listen', `127.0.0.1:${port}`, '--json');
    assert.equal(j.code, 3);
    assert.equal(j.events[0].event, 'error');
    assert.equal(j.events[0].code, 'BEAM-1018');
  });

  await t.test('open to the world without a word about it: exit 2', async () => {
    const r = await relay('--listen', '0.0.0.0:0');
    assert.equal(r.code, 2, r.stderr);
    assert.match(r.stderr, /--open|agent-token-file/);
  });

  await t.test('a certificate that is none', async () => {
    fs.writeFileSync(`${dir}/bad.pem`, 'no certificate');
    const r = await relay('--listen', '127.0.0.1:0', '--tls-cert', `${dir}/bad.pem`, '--tls-key', `${dir}/bad.pem`);
    assert.notEqual(r.code, 0);
    assert.match(r.stderr, /bad\.pem/);
  });

  await t.test('a data directory that is a file', async () => {
    fs.writeFileSync(`${dir}/file`, '');
    const r = await run(t, beam, ['relay', '--domain', 'tunnel.test', '--data', `${dir}/file`, '--listen', '127.0.0.1:0'], { env });
    assert.notEqual(r.code, 0);
    assert.match(r.stderr, /file/);
  });

  await t.test('a configuration that cannot be read', async () => {
    fs.mkdirSync(`${dir}/config.d`);
    const r = await run(t, beam, ['3000', '--config', `${dir}/config.d`], { env });
    assert.equal(r.code, 5, r.stderr);
    fs.writeFileSync(`${dir}/wrong.yml`, 'relay: [a, b]\n');
    const w = await run(t, beam, ['3000', '--config', `${dir}/wrong.yml`], { env });
    assert.equal(w.code, 2, w.stderr);
    assert.match(w.stderr, /line 1/);
    fs.writeFileSync(`${dir}/unknown.yml`, '# mine\nreley: x\n');
    const u = await run(t, beam, ['3000', '--config', `${dir}/unknown.yml`], { env });
    assert.equal(u.code, 2);
    assert.match(u.stderr, /line 2/);
    if (process.getuid() !== 0) {
      fs.writeFileSync(`${dir}/closed.yml`, 'relay: x\n', { mode: 0 });
      const c = await run(t, beam, ['3000', '--config', `${dir}/closed.yml`], { env });
      assert.equal(c.code, 5);
    }
  });
});
