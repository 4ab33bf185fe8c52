// beam udp: datagrams as they are, from a public port, over every transport.
import assert from 'node:assert/strict';
import dgram from 'node:dgram';
import fs from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { Program, beam, cleanEnv, cleanUp, run, runBeam, tempDir, until } from './lib/run.mjs';
import { installed } from './lib/proxies.mjs';
import { startAgent, startRelay } from './lib/setup.mjs';

const features = JSON.parse((await runBeam({ after: () => {} }, ['--version', '--json'], cleanEnv('/nonexistent'))).stdout).features.split(',');
const transports = ['quic', 'h2', 'ws'].filter((name) => features.includes(name));
// The clear port has WebSocket links too; only the choice of the transport matters here.
const forced = process.env.BEAM_TEST_TRANSPORT;

/** A UDP socket of this process: bound to a port of its own, closed with the test. */
async function socket(t, { host = '127.0.0.1', port = 0 } = {}) {
  const s = dgram.createSocket(host.includes(':') ? 'udp6' : 'udp4');
  await new Promise((resolve, reject) => s.once('error', reject).bind(port, host, resolve));
  s.on('error', () => {});
  s.setRecvBufferSize(4 << 20);
  const closed = new Promise((done) => s.once('close', done));
  let open = true;
  s.end = async () => {
    if (open) s.close();
    open = false;
    await closed;
  };
  cleanUp(t, s.end);
  s.heard = [];
  s.on('message', (bytes, from) => s.heard.push({ bytes, from }));
  s.port = s.address().port;
  return s;
}

async function freeUdpPort(t) {
  const s = await socket(t);
  await s.end();
  return s.port;
}

/** A local service that sends back what it gets; `seen` has the ports its visitors come from. */
async function echo(t, options) {
  const s = await socket(t, options);
  s.seen = new Set();
  s.on('message', (bytes, from) => {
    s.seen.add(from.port);
    s.send(bytes, from.port, from.address);
  });
  return s;
}

/** A range of ports that begins with a free one; the relay draws again where another program sits. */
async function relayWithPorts(t, args = [], options = {}) {
  const dir = tempDir(t);
  const first = Math.min(await freeUdpPort(t), 65000);
  const ports = `${first}-${first + 19}`;
  return { dir, ports, relay: await startRelay(t, dir, ['--udp-ports', ports, ...args], options) };
}

const udp = (t, s, port, args = [], options = {}) => startAgent(t, s.dir, s.relay, port, args, { command: 'udp', ...options });

/** One datagram there and back. Loopback loses none, but a tunnel may: it is asked again, as any program that uses UDP does. */
async function ask(t, s, port, bytes, what = 'an answer') {
  const before = s.heard.length;
  let tries = 0;
  let timer;
  const send = () => {
    tries++;
    s.send(bytes, port, '127.0.0.1');
    timer = setTimeout(send, 500);
  };
  send();
  try {
    const got = await until(() => s.heard.slice(before).find((h) => h.bytes.equals(bytes)), what);
    return { from: got.from, tries };
  } finally {
    clearTimeout(timer);
  }
}

for (const transport of transports) {
  test(`beam udp over ${transport}: every size comes back, and each visitor has a port of its own`, { skip: forced && forced !== transport && 'another transport was asked for' }, async (t) => {
    const s = await relayWithPorts(t, ['--workers', '2']);
    const local = await echo(t);
    const agent = await udp(t, s, local.port, ['--transport', transport]);
    const { port } = agent.info;
    const [first, last] = s.ports.split('-').map(Number);
    assert.equal(agent.info.kind, 'udp');
    assert.equal(agent.info.url, `udp://tunnel.test:${port}`);
    assert.equal(agent.info.target, `udp://localhost:${local.port}`);
    assert.equal(agent.info.transport, transport);
    assert.ok(port >= first && port <= last);

    const one = await socket(t);
    let again = 0;
    for (const size of [1, 0, 2, 100, 1200, 1472, 1473, 4096, 9000, 16_383, 16_384, 40_000, 65_507]) {
      const bytes = Buffer.alloc(size, size % 251);
      const { from, tries } = await ask(t, one, port, bytes, `${size} bytes back`);
      assert.equal(from.port, port);
      again += tries - 1;
    }
    const two = await socket(t);
    await ask(t, two, port, Buffer.from('another visitor'));
    assert.equal(local.seen.size, 2);
    t.diagnostic(`asked again: ${again} times`);

    // A thousand datagrams, 16 under way: what is lost on loopback is counted, and is little.
    const sent = 1000;
    let back = 0;
    for (let i = 0; i < sent; i += 16) {
      const before = one.heard.length;
      const batch = Math.min(16, sent - i);
      for (let k = 0; k < batch; k++) one.send(Buffer.alloc(1000, k), port, '127.0.0.1');
      await until(() => one.heard.length >= before + batch, 'a batch', 2000).catch(() => {});
      back += Math.min(batch, one.heard.length - before);
    }
    t.diagnostic(`${sent - back} of ${sent} datagrams lost`);
    assert.ok(back >= sent * 0.98, `${back} of ${sent} came back`);

    await agent.stop();
    const flows = agent.events.filter((e) => e.event === 'flow');
    assert.equal(flows.length, 0); // an end by Ctrl-C is no flow's end
    await s.relay.stop();
  });
}

test('a thousand visitors at once, over both workers', async (t) => {
  const s = await relayWithPorts(t, ['--workers', '2']);
  const local = await echo(t);
  const agent = await udp(t, s, local.port, ['--quiet']);
  const visitors = [];
  for (let i = 0; i < 1000; i++) visitors.push(await socket(t));
  const begun = performance.now();
  let tries = 0;
  for (let i = 0; i < visitors.length; i += 100) {
    const asked = visitors.slice(i, i + 100).map((v, k) => ask(t, v, agent.info.port, Buffer.from(`visitor ${i + k}`)));
    for (const answer of await Promise.all(asked)) tries += answer.tries;
  }
  assert.equal(local.seen.size, 1000);
  t.diagnostic(`1000 visitors, ${tries - 1000} asked again: ${(performance.now() - begun).toFixed(0)} ms`);
  // All of them are still there: the second word needs no new flow.
  for (const v of [visitors[0], visitors[499], visitors[999]]) await ask(t, v, agent.info.port, Buffer.from('again'));
  assert.equal(local.seen.size, 1000);
  await agent.stop();
  await s.relay.stop();
});

test('a relay is replaced twice under steady datagrams, and the port stays', async (t) => {
  const s = await relayWithPorts(t, ['--workers', '2']);
  const local = await echo(t);
  const agent = await udp(t, s, local.port, ['--quiet']);
  let over = false;
  let asked = 0;
  let tries = 0;
  const loops = Array.from({ length: 4 }, async (_, i) => {
    for (let n = 0; !over; n++) {
      // A new visitor now and then: old ones and new ones must get through.
      const v = await socket(t);
      for (let k = 0; k < 10 && !over; k++, asked++) {
        const answer = await ask(t, v, agent.info.port, Buffer.from(`${i} ${n} ${k}`));
        tries += answer.tries;
        await new Promise((go) => setTimeout(go, 5));
      }
      await v.end();
    }
  });
  const some = (n) => until(() => asked >= n, `${n} answers`);
  await some(100);
  for (let round = 1; round <= 2; round++) {
    const old = s.relay;
    s.relay = await startRelay(t, s.dir, ['--udp-ports', s.ports, '--workers', '2', '--replace'], { listen: `127.0.0.1:${old.port}` });
    await s.relay.event('took_over');
    assert.equal((await old.exit()).code, 0);
    await s.relay.event('alone');
    await some(asked + 100);
  }
  over = true;
  await Promise.all(loops);
  t.diagnostic(`${asked} answers, ${tries - asked} asked again`);
  assert.equal(agent.events.filter((e) => e.event === 'state' && e.state !== 'active').length, 0);
  await agent.stop();
  await s.relay.stop();
});

test('a silent visitor is forgotten', async (t) => {
  const s = await relayWithPorts(t, ['--udp-idle', '1']);
  const local = await echo(t);
  const agent = await udp(t, s, local.port);
  const v = await socket(t);
  await ask(t, v, agent.info.port, Buffer.from('hello'));
  const flow = await agent.event('flow');
  assert.equal(flow.bytes_in, 5);
  assert.equal(flow.bytes_out, 5);
  assert.equal(flow.error ?? null, null);
  assert.ok(flow.ms >= 990, `${flow.ms} ms`);
  await ask(t, v, agent.info.port, Buffer.from('me again'));
  assert.equal(local.seen.size, 2);
  await agent.stop();
  await s.relay.stop();
});

test('the same port after either program restarted, and visitors who never noticed', async (t) => {
  const s = await relayWithPorts(t, ['--workers', '2']);
  const local = await echo(t);
  const args = ['--transport', 'h2']; // a killed peer is noticed at once: that is TCP's doing, and not the matter here
  let agent = await udp(t, s, local.port, args);
  const { port } = agent.info;
  const v = await socket(t);
  await ask(t, v, port, Buffer.from('one'));

  await agent.kill();
  await s.relay.event('session_down');
  v.send('while nobody is there', port, '127.0.0.1');
  agent = await udp(t, s, local.port, args);
  assert.equal(agent.info.port, port);
  await ask(t, v, port, Buffer.from('two'));

  const seen = agent.events.length;
  await s.relay.kill();
  s.relay = await startRelay(t, s.dir, ['--udp-ports', s.ports, '--workers', '2'], { listen: `127.0.0.1:${s.relay.port}` });
  await agent.wait(() => agent.events.slice(seen).find((e) => e.event === 'state' && e.state === 'active'), 'back');
  await ask(t, v, port, Buffer.from('three'));

  await agent.stop();
  agent = await udp(t, s, local.port, ['--remote-port', String(port)]);
  assert.equal(agent.info.port, port);
  await agent.stop();
  await s.relay.stop();
});

test('the local service comes late, and on either address of localhost', async (t) => {
  const s = await relayWithPorts(t, ['--udp-idle', '2']);
  const port = await freeUdpPort(t);
  const agent = await udp(t, s, port, ['--log-level', 'warn']);
  const v = await socket(t);
  v.send('anybody?', agent.info.port, '127.0.0.1');
  await agent.wait(() => /local service localhost:\d+ \(UDP\): .*refused/.test(agent.stderr), 'the log says that nobody is there');
  const flow = await agent.event('flow'); // its end: idle
  assert.equal(flow.error, 'BEAM-5021');
  let local = await echo(t, { port });
  await ask(t, v, agent.info.port, Buffer.from('IPv4'));
  await local.end();
  try {
    local = await echo(t, { host: '::1', port });
  } catch {
    t.diagnostic('no IPv6 here: one address alone was tried');
    return;
  }
  const other = await socket(t);
  await ask(t, other, agent.info.port, Buffer.from('IPv6'));
  assert.ok(local.heard.length > 0);
  await agent.stop();
  await s.relay.stop();
});

test('two services do not answer each other through forged addresses', async (t) => {
  const s = await relayWithPorts(t, ['--workers', '2']);
  const local = await echo(t);
  const one = await udp(t, s, local.port);
  // Whoever sends from the relay's own port, here by sharing it, stands for a forged source address.
  const two = await udp(t, s, local.port, [], { data: path.join(s.dir, 'other') });
  const forged = await run(t, 'python3', ['-c', `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
s.bind(('127.0.0.1', ${two.info.port}))
s.sendto(b'round and round', ('127.0.0.1', ${one.info.port}))
`]);
  assert.equal(forged.code, 0, forged.stderr);
  const v = await socket(t);
  await ask(t, v, one.info.port, Buffer.from('after it'));
  assert.equal(local.heard.filter((h) => String(h.bytes) === 'round and round').length, 0);
  for (const p of [one, two, s.relay]) await p.stop();
});

test('nothing but a datagram: the QUIC port takes empty ones and garbage', async (t) => {
  const dir = tempDir(t);
  const relay = await startRelay(t, dir);
  const v = await socket(t);
  for (let i = 0; i < 20; i++) v.send(Buffer.alloc(i % 3 ? i : 0, i), relay.port, '127.0.0.1');
  const local = await socket(t);
  const agent = await startAgent(t, dir, relay, local.port); // after them: what was sent before has been read
  await agent.stop();
  assert.equal((await relay.stop())?.code ?? relay.code, 0);
});

test('what beam udp does not offer', async (t) => {
  const dir = tempDir(t);
  const cases = [
    { args: ['udp', '53', '--proxy-protocol', '2'], what: /--proxy-protocol is not a flag of beam udp/ },
    { args: ['udp', '53', '--name', 'dns'], what: /--name is not a flag of beam udp/ },
    { args: ['udp'], what: /which port shall be shared/ },
    { args: ['udp', '53', '--udp-idle', '0'], what: /--udp-idle/ },
    { args: ['udp', '53', '--udp-ports', '9-8', '--listen', '127.0.0.1:0'], what: /'9-8' is not a range of ports/ },
  ];
  for (const c of cases) {
    const got = await runBeam(t, c.args, cleanEnv(dir));
    assert.equal(got.code, 2, got.stderr);
    assert.match(got.stderr, c.what);
  }
  for (const args of [[], ['--tcp-ports', '20000-20009', '--udp-ports', 'none']]) {
    const none = await startRelay(t, dir, args);
    const refused = await startAgent(t, dir, none, 53, [], { command: 'udp', wait: false });
    assert.equal((await refused.exit()).code, 4);
    assert.match(refused.events.find((e) => e.event === 'error').what, /no public ports/);
    await none.stop();
  }
});

test('the port that QUIC of the relay has is not given away', async (t) => {
  const dir = tempDir(t);
  const first = await startRelay(t, dir, []);
  await first.stop();
  const { port } = first;
  const relay = await startRelay(t, dir, ['--udp-ports', `${port}-${port + 1}`], { listen: `127.0.0.1:${port}` });
  const s = { dir, relay };
  const refused = await udp(t, s, 53, ['--remote-port', String(port)], { wait: false });
  await refused.wait(() => /cannot listen on its port/.test(refused.stdout), 'refused');
  await refused.stop();
  const agent = await udp(t, s, 53);
  assert.equal(agent.info.port, port + 1);
  await agent.stop();
  await relay.stop();
});

test('beam udp without a relay: the embedded one has ports', async (t) => {
  const dir = tempDir(t);
  const local = await echo(t);
  const agent = new Program(t, beam, ['udp', String(local.port), '--listen', '127.0.0.1:0', '--listen-plain', '127.0.0.1:0', '--json'], { env: cleanEnv(dir) });
  const info = await agent.event('tunnel');
  assert.match(info.url, /^udp:\/\/localhost:20\d{3}$/);
  const v = await socket(t);
  await ask(t, v, info.port, Buffer.from('near'));
  const status = await run(t, beam, ['status', '--json'], { env: cleanEnv(dir) });
  assert.equal(JSON.parse(status.stdout).speaks, 'udp');
  await agent.stop();
});

/* ---- a real DNS server ---- */

const lacking = ['nsd', 'kdig'].filter((name) => !installed(name));

/** An authoritative server for beam.test, on a port of its own, as the user who runs the test. */
async function nameServer(t) {
  const dir = tempDir(t);
  const port = await freeUdpPort(t);
  const text = Array.from({ length: 15 }, (_, i) => `big IN TXT "${String.fromCharCode(97 + i).repeat(250)}"`);
  fs.writeFileSync(path.join(dir, 'zone'), `$ORIGIN beam.test.\n$TTL 60\n@ IN SOA ns hostmaster 1 60 60 60 60\n@ IN NS ns\nns IN A 127.0.0.1\nwww IN A 192.0.2.7\nwww IN AAAA 2001:db8::7\n${text.join('\n')}\n`);
  fs.writeFileSync(
    path.join(dir, 'nsd.conf'),
    `server:
  server-count: 1
  ip-address: 127.0.0.1
  port: ${port}
  username: ""
  chroot: ""
  zonesdir: "${dir}"
  pidfile: "${dir}/pid"
  database: ""
  zonelistfile: "${dir}/zone.list"
  xfrdfile: "${dir}/xfrd"
  xfrdir: "${dir}"
  ipv4-edns-size: 4096
  rrl-ratelimit: 0
remote-control:
  control-enable: no
zone:
  name: beam.test
  zonefile: zone
`,
  );
  const server = new Program(t, installed('nsd'), ['-d', '-c', path.join(dir, 'nsd.conf')], { env: cleanEnv(dir) });
  const dig = (to, ...args) => run(t, installed('kdig'), [`@127.0.0.1`, '-p', String(to), '+retry=3', '+timeout=2', ...args], { env: cleanEnv(dir) });
  await until(async () => /192\.0\.2\.7/.test((await dig(port, '+short', 'www.beam.test', 'A')).stdout), 'nsd answers');
  return { port, dig, server };
}

for (const transport of transports) {
  test(`kdig asks a real DNS server through beam udp over ${transport}`, { skip: (lacking.length && `lacks ${lacking.join(', ')}`) || (forced && forced !== transport && 'another transport was asked for') }, async (t) => {
    const s = await relayWithPorts(t);
    const names = await nameServer(t);
    const agent = await udp(t, s, names.port, ['--transport', transport, '--quiet']);
    const { port } = agent.info;
    assert.equal((await names.dig(port, '+short', 'www.beam.test', 'A')).stdout.trim(), '192.0.2.7');
    assert.equal((await names.dig(port, '+short', 'www.beam.test', 'AAAA')).stdout.trim(), '2001:db8::7');
    assert.match((await names.dig(port, 'nobody.beam.test', 'A')).stdout, /status: NXDOMAIN/);
    const big = await names.dig(port, '+bufsize=4096', '+ignore', 'big.beam.test', 'TXT');
    assert.match(big.stdout, /status: NOERROR/);
    assert.doesNotMatch(big.stdout, /Flags:[^;]* tc/);
    assert.equal(big.stdout.match(/"([a-o])\1{249}"/g)?.length, 15);
    t.diagnostic(/Received (\d+) B/.exec(big.stdout)?.[0] ?? 'no size told');
    const many = await Promise.all(Array.from({ length: 20 }, () => names.dig(port, '+short', 'www.beam.test', 'A')));
    for (const answer of many) assert.equal(answer.stdout.trim(), '192.0.2.7');
    await agent.stop();
    await s.relay.stop();
  });
}
