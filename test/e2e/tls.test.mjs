// The relay's TLS towards visitors, with OpenSSL and GnuTLS as peers.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import test from 'node:test';
import { Program, run, tempDir } from './lib/run.mjs';
import { drain, serve, setUp, startAgent, startRelay, visit, visitor } from './lib/setup.mjs';

test('peers', async (t) => {
  const s = await setUp(t, (request, response) => response.end(`ok ${request.url}`));
  const get = `GET /peer HTTP/1.1\r\nHost: ${s.name}\r\nConnection: close\r\n\r\n`;
  const openssl = (args, input = get) => run(t, 'openssl', ['s_client', '-connect', `127.0.0.1:${s.relay.port}`, '-servername', s.name, '-CAfile', s.relay.info.ca, '-verify_return_error', '-verify_hostname', s.name, '-ign_eof', ...args], { env: process.env, stdin: 'pipe', input });

  for (const version of ['-tls1_3', '-tls1_2'])
    await t.test(`openssl ${version}, twice with the same session`, async () => {
      const file = `${s.dir}/session${version}`;
      const first = await openssl([version, '-sess_out', file]);
      assert.match(first.stdout, /ok \/peer/, first.stderr);
      assert.match(first.stdout, /Verify return code: 0/);
      assert.match(first.stdout, /^New, /m);
      const again = await openssl([version, '-sess_in', file]);
      assert.match(again.stdout, /^Reused, /m);
      assert.match(again.stdout, /ok \/peer/);
    });

  await t.test('AES-256-GCM comes first', async () => {
    const r = await openssl(['-tls1_3']);
    assert.match(r.stdout, /Cipher is TLS_AES_256_GCM_SHA384/);
  });

  await t.test('TLS 1.1 is refused', async () => {
    const r = await openssl(['-tls1_1', '-cipher', 'ALL:@SECLEVEL=0']);
    assert.doesNotMatch(r.stdout, /ok \/peer/);
  });

  await t.test('KeyUpdate from the visitor, again and again, and the answer comes under the new keys', async () => {
    const p = new Program(t, 'openssl', ['s_client', '-connect', `127.0.0.1:${s.relay.port}`, '-servername', s.name, '-CAfile', s.relay.info.ca, '-tls1_3', '-no_ign_eof'], { env: process.env, stdin: 'pipe' });
    await p.wait(() => p.stdout.includes('Verify return code: 0'), 'the handshake');
    for (const [i, command] of ['K', 'k', 'K'].entries()) {
      // K asks for the relay's new keys as well. A line that begins with it is a command, so each waits for the one before.
      const begun = p.stderr.length;
      p.process.stdin.write(`${command}\n`);
      await p.wait(() => p.stderr.slice(begun).includes('KEYUPDATE'), 'KEYUPDATE');
      p.process.stdin.write(`GET /key-${i} HTTP/1.1\r\nHost: ${s.name}\r\n\r\n`);
      await p.wait(() => p.stdout.includes(`ok /key-${i}`), 'the answer');
    }
    await p.kill();
  });

  for (const priority of ['NORMAL:-VERS-ALL:+VERS-TLS1.3', 'NORMAL:-VERS-ALL:+VERS-TLS1.2'])
    await t.test(`gnutls-cli ${priority.slice(-7)}, resumed`, async () => {
      const r = await run(t, 'gnutls-cli', ['--x509cafile', s.relay.info.ca, '--sni-hostname', s.name, '--verify-hostname', s.name, '--priority', priority, '--resume', '--waitresumption', '-p', String(s.relay.port), '127.0.0.1'], { env: process.env, stdin: 'pipe', input: get });
      assert.match(r.stdout, /ok \/peer/, r.stdout + r.stderr);
      assert.match(r.stdout, /This is a resumed session/);
    });

  await t.test('tickets work after a restart of the relay', async () => {
    const file = `${s.dir}/kept`;
    const first = await openssl(['-tls1_3', '-sess_out', file]);
    assert.match(first.stdout, /^New, /m);
    const port = s.relay.port;
    await s.relay.stop();
    s.relay = await startRelay(t, s.dir, [], { listen: `127.0.0.1:${port}` });
    await s.agent.event('state', (e) => e.state === 'active');
    const again = await openssl(['-tls1_3', '-sess_in', file]);
    assert.match(again.stdout, /^Reused, /m);
    assert.match(again.stdout, /ok \/peer/);
  });

  await t.test('the certificate is for exactly this name, and not for long', async () => {
    const socket = await s.connect();
    const cert = socket.getPeerCertificate();
    assert.equal(cert.subjectaltname, `DNS:${s.name}`);
    const days = (new Date(cert.valid_to) - Date.now()) / 86_400_000;
    assert.ok(days > 0.5 && days < 90, `${days} days`);
    socket.destroy();
  });

  await t.test('the end is announced, not just cut', async () => {
    const socket = await s.connect();
    socket.write(get);
    const { cut, text } = await drain(socket);
    assert.equal(cut, false);
    assert.match(text, /ok \/peer/);
    assert.ok(socket.readableEnded);
  });

  await s.agent.stop();
  await s.relay.stop();
});

test('a certificate of one\'s own', async (t) => {
  const dir = tempDir(t);
  const openssl = async (...args) => {
    const r = await run(t, 'openssl', args, { env: process.env });
    assert.equal(r.code, 0, r.stderr);
  };
  const make = (name, san) => openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', `${dir}/${name}.key`, '-out', `${dir}/${name}.pem`, '-days', '2', '-subj', `/CN=${san}`, '-addext', `subjectAltName=DNS:${san}`);
  await make('wild', '*.tunnel.test');
  await make('other', '*.example.test');
  const origin = await serve(t, (_, response) => response.end('ok'));

  await t.test('visitors see it, agents still pin the relay\'s CA', async () => {
    const relay = await startRelay(t, dir, ['--tls-cert', `${dir}/wild.pem`, '--tls-key', `${dir}/wild.key`]);
    const agent = await startAgent(t, dir, relay, origin.port);
    const v = visitor(relay, agent);
    const ca = fs.readFileSync(`${dir}/wild.pem`);
    assert.equal((await visit({ ...v.base, ca }, '/')).text, 'ok');
    await assert.rejects(v.visit('/'), /certificate|self-signed|self signed/i);
    await agent.stop();
    await relay.stop();
  });

  await t.test('an RSA key, too', async () => {
    await openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', `${dir}/rsa.key`, '-out', `${dir}/rsa.pem`, '-days', '2', '-subj', '/CN=tunnel.test', '-addext', 'subjectAltName=DNS:*.tunnel.test');
    const relay = await startRelay(t, dir, ['--tls-cert', `${dir}/rsa.pem`, '--tls-key', `${dir}/rsa.key`]);
    const agent = await startAgent(t, dir, relay, origin.port);
    for (const maxVersion of ['TLSv1.3', 'TLSv1.2']) assert.equal((await visit({ ...visitor(relay, agent).base, ca: fs.readFileSync(`${dir}/rsa.pem`), maxVersion }, '/')).text, 'ok');
    await agent.stop();
    await relay.stop();
  });

  await t.test('one that does not cover the names, or whose key is another\'s, is refused at the start', async () => {
    const { beam, cleanEnv } = await import('./lib/run.mjs');
    for (const [cert, key] of [['other', 'other'], ['wild', 'other']]) {
      const r = await run(t, beam, ['relay', '--domain', 'tunnel.test', '--listen', '127.0.0.1:0', '--data', `${dir}/r2`, '--tls-cert', `${dir}/${cert}.pem`, '--tls-key', `${dir}/${key}.key`], { env: cleanEnv(dir) });
      assert.notEqual(r.code, 0);
      assert.match(r.stderr, /BEAM-1\d\d\d/);
    }
  });
});
