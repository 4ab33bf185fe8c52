// Who may speak with whom: pins, tokens, names that have an owner, and a relay in the middle.
import assert from 'node:assert/strict';
import dgram from 'node:dgram';
import fs from 'node:fs';
import net from 'node:net';
import test from 'node:test';
import tls from 'node:tls';
import { Program, beam, cleanEnv, cleanUp, run, tempDir } from './lib/run.mjs';
import { listen, serve, setUp, startAgent, startRelay, visitor } from './lib/setup.mjs';
import { overTransports } from './lib/transports.mjs';

const ended = async (agent) => {
  const { code } = await agent.exit();
  return { code, error: agent.events.findLast?.((e) => e.event === 'error') ?? agent.events.filter((e) => e.event === 'error').pop() };
};

overTransports('the wrong CA', async (t) => {
  const dir = tempDir(t);
  const one = await startRelay(t, dir, [], { data: `${dir}/one` });
  const two = await startRelay(t, dir, [], { data: `${dir}/two` });
  const origin = await serve(t, (_, response) => response.end('ok'));

  await t.test('a file of another relay: refused, exit 4', async () => {
    const agent = await startAgent(t, dir, one, origin.port, [], { ca: two.info.ca, wait: false });
    const { code, error } = await ended(agent);
    assert.equal(code, 4, agent.stderr);
    assert.equal(error.code, 'BEAM-1012');
    assert.ok(error.hint);
  });

  await t.test('a wrong fingerprint: refused; the right one: accepted', async () => {
    const agent = await startAgent(t, dir, one, origin.port, [], { ca: `sha256:${'ab'.repeat(32)}`, wait: false });
    assert.equal((await ended(agent)).code, 4);
    const good = await startAgent(t, dir, one, origin.port, [], { ca: one.info.ca_fingerprint });
    await good.stop();
  });

  await t.test('the first relay met is remembered; another one at its address is refused', async () => {
    const args = (relay) => [String(origin.port), '--relay', `127.0.0.1:${relay.port}`, '--data', `${dir}/tofu`, '--json'];
    const first = new Program(t, beam, args(one), { env: cleanEnv(dir) });
    const { relay_id } = await first.event('tunnel');
    assert.equal(relay_id, one.info.ca_fingerprint);
    await first.stop();
    await one.stop();
    const impostor = await startRelay(t, dir, [], { data: `${dir}/two-again`, listen: `127.0.0.1:${one.port}` });
    const second = new Program(t, beam, args(impostor), { env: cleanEnv(dir) });
    const { code, error } = await ended(second);
    assert.equal(code, 4);
    assert.equal(error.code, 'BEAM-1012');
    await impostor.stop();
  });

  await t.test('a CA file that is not there', async () => {
    const r = await run(t, beam, [String(origin.port), '--relay', `127.0.0.1:${two.port}`, '--relay-ca', `${dir}/none.pem`, '--data', `${dir}/x`], { env: cleanEnv(dir) });
    assert.notEqual(r.code, 0);
    assert.match(r.stderr, /none\.pem/);
  });
  await two.stop();
});

overTransports('a relay in the middle', async (t, transport) => {
  const s = await setUp(t, (_, response) => response.end('ok'));
  const secrets = [];

  const other = {
    quic: 'node has no QUIC server; what the agent checks of the certificate is in unit/quic/test_conn.c',
    ws: 'it ends only the outer TLS, which proves nothing, and passes on what it cannot read',
  };
  await t.test('one that ends TLS with a certificate of its own learns nothing', { skip: other[transport] }, async () => {
    const key = `${s.dir}/mitm.key`;
    const cert = `${s.dir}/mitm.pem`;
    const made = await run(t, 'openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', key, '-out', cert, '-days', '1', '-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1,DNS:tunnel.test,DNS:*.tunnel.test'], { env: process.env });
    assert.equal(made.code, 0, made.stderr);
    const middle = tls.createServer({ key: fs.readFileSync(key), cert: fs.readFileSync(cert), ALPNProtocols: ['beam/1'] }, (socket) => {
      socket.on('error', () => {});
      socket.on('data', (bytes) => secrets.push(bytes));
      const onward = tls.connect({ host: '127.0.0.1', port: s.relay.port, ALPNProtocols: ['beam/1'], rejectUnauthorized: false });
      onward.on('error', () => socket.destroy());
      socket.pipe(onward).pipe(socket);
    });
    middle.on('tlsClientError', () => {});
    const port = await listen(t, middle);
    const agent = await startAgent(t, s.dir, s.relay, s.origin.port, [], { port, data: `${s.dir}/agent2`, wait: false });
    const { code, error } = await ended(agent);
    assert.equal(code, 4, agent.stdout);
    assert.equal(error.code, 'BEAM-1012');
    assert.equal(Buffer.concat(secrets).length, 0);
  });

  await t.test('one that only forwards bytes is a wire: the tunnel works', async () => {
    const port = await (transport === 'quic' ? udpWire : tcpWire)(t, s.relay.port);
    const agent = await startAgent(t, s.dir, s.relay, s.origin.port, ['--name', 'wired'], { port, data: `${s.dir}/agent3` });
    assert.equal((await visitor(s.relay, agent).visit('/')).text, 'ok');
    await agent.stop();
  });

  await s.agent.stop();
  await s.relay.stop();
});

overTransports('tokens', async (t) => {
  const dir = tempDir(t);
  fs.writeFileSync(`${dir}/tokens`, 'first-secret-token-0123456789\nsecond-secret-token-9876543210\n', { mode: 0o600 });
  const relay = await startRelay(t, dir, ['--agent-token-file', `${dir}/tokens`]);
  const origin = await serve(t, (_, response) => response.end('ok'));

  for (const [what, args, env] of [
    ['none', [], {}],
    ['a wrong one', ['--token', 'first-secret-token-0123456780'], {}],
  ])
    await t.test(`${what}: refused, exit 4`, async () => {
      const agent = await startAgent(t, dir, relay, origin.port, args, { wait: false, env });
      const { code, error } = await ended(agent);
      assert.equal(code, 4, agent.stderr);
      assert.equal(error.code, 'BEAM-1013');
      assert.match(error.what + error.hint, /token/);
    });

  await t.test('the second of the file, by flag and by environment', async () => {
    for (const options of [{ args: ['--token', 'second-secret-token-9876543210'], env: {} }, { args: [], env: { BEAM_TOKEN: 'second-secret-token-9876543210' } }]) {
      const agent = await startAgent(t, dir, relay, origin.port, options.args, { env: options.env });
      assert.equal((await visitor(relay, agent).visit('/')).text, 'ok');
      assert.ok(!(agent.stdout + agent.stderr + relay.stdout + relay.stderr).includes('second-secret'));
      await agent.stop();
    }
  });
  await relay.stop();
});

overTransports('names have an owner', async (t) => {
  const s = await setUp(t, (_, response) => response.end('ok'), { agentArgs: ['--subdomain', 'shop'] });
  assert.equal(s.name, 'shop.tunnel.test');

  await t.test('another device cannot have it, running or not', async () => {
    for (const running of [true, false]) {
      if (!running) await s.agent.stop();
      const thief = await startAgent(t, s.dir, s.relay, s.origin.port, ['--name', 'shop', '--takeover'], { data: `${s.dir}/thief`, wait: false });
      const { code, error } = await ended(thief);
      assert.equal(code, 4);
      assert.equal(error.code, 'BEAM-1014');
    }
  });

  await t.test('names that are none', async () => {
    for (const name of ['-shop', 'a b', 'sh_op', 'x'.repeat(64), 'ümlaut']) {
      const agent = await startAgent(t, s.dir, s.relay, s.origin.port, [`--name=${name}`], { wait: false });
      const { code, error } = await ended(agent);
      assert.ok([2, 4].includes(code), `${name}: ${code}`);
      assert.ok(['BEAM-1015', 'BEAM-1003'].includes(error.code), `${name}: ${error.code}`);
    }
  });

  await t.test('reserved ones are refused by the relay', async () => {
    const agent = await startAgent(t, s.dir, s.relay, s.origin.port, ['--name', 'www'], { wait: false });
    const { code, error } = await ended(agent);
    assert.equal(code, 4, JSON.stringify(agent.events));
    assert.equal(error.code, 'BEAM-1015');
  });

  await t.test('the owner has it again', async () => {
    const agent = await startAgent(t, s.dir, s.relay, s.origin.port, ['--name', 'shop']);
    assert.equal(agent.name, 'shop.tunnel.test');
    await agent.stop();
  });
  await s.relay.stop();
});

function tcpWire(t, to) {
  return listen(
    t,
    net.createServer((socket) => {
      const onward = net.connect(to, '127.0.0.1');
      socket.on('error', () => onward.destroy());
      onward.on('error', () => socket.destroy());
      socket.pipe(onward).pipe(socket);
    }),
  );
}

/** For one agent: the relay sees the wire's address. */
async function udpWire(t, to) {
  const near = dgram.createSocket('udp4');
  const far = dgram.createSocket('udp4');
  let agent;
  near.on('message', (packet, from) => {
    agent = from;
    far.send(packet, to, '127.0.0.1');
  });
  far.on('message', (packet) => near.send(packet, agent.port, agent.address));
  for (const socket of [near, far]) {
    cleanUp(t, () => new Promise((done) => socket.close(done)));
    await new Promise((done) => socket.bind(0, '127.0.0.1', done));
  }
  return near.address().port;
}

test('keys and stores are private', async (t) => {
  const s = await setUp(t, (_, response) => response.end('ok'));
  const open = [];
  const look = (folder) => {
    for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
      const path = `${folder}/${entry.name}`;
      if (entry.isDirectory()) look(path);
      else if (fs.statSync(path).mode & 0o077 && !/ca\.pem$|\.crt$/.test(path)) open.push(`${path} ${(fs.statSync(path).mode & 0o777).toString(8)}`);
    }
  };
  look(`${s.dir}/relay`);
  look(`${s.dir}/agent`);
  assert.deepEqual(open, []);
  await s.agent.stop();
  await s.relay.stop();
});
