// The command around the tunnel: help, usage, configuration, status, stop, exit statuses.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import test from 'node:test';
import { Program, beam, cleanEnv, runBeam, tempDir, until } from './lib/run.mjs';
import { serve, setUp, startAgent } from './lib/setup.mjs';

test('help and version', async (t) => {
  const env = cleanEnv(tempDir(t));
  for (const args of [[], ['--help'], ['help'], ['-h']]) {
    const r = await runBeam(t, args, env);
    assert.equal(r.code, 0);
    assert.match(r.stdout, /beam 3000/);
    assert.match(r.stdout, /--relay HOST/);
    assert.equal(r.stderr, '');
  }
  for (const command of ['http', 'start', 'relay', 'config', 'status', 'stop']) {
    const r = await runBeam(t, ['help', command], env);
    assert.equal(r.code, 0);
    assert.equal((await runBeam(t, [command, '--help'], env)).stdout, r.stdout);
  }
  const v = await runBeam(t, ['--version'], env);
  assert.match(v.stdout, /^beam \d+\.\d+\.\d+ \(.+\)\n$/);
  assert.match(JSON.parse((await runBeam(t, ['--version', '--json'], env)).stdout).version, /^\d+\.\d+\.\d+$/);
});

test('wrong usage: exit 2, what and next on standard error', async (t) => {
  const env = cleanEnv(tempDir(t));
  for (const [args, wanted] of [
    [['nonsense'], /neither a command nor a port/],
    [['0'], /port/],
    [['65536'], /port/],
    [['-1'], /unknown flag/],
    [['3000x'], /port/],
    [['start'], /which port/],
    [['http'], /which port/],
    [['3000', '4000'], /more than one/],
    [['3000', '--nope'], /--nope/],
    [['3000', '--relay'], /needs a value/],
    [['3000', '--domain', 'x'], /not a flag of beam http/],
    [['3000', '--plain', 'maybe'], /serve,redirect/],
    [['3000', '--port', 'abc'], /abc/],
    [['3000', '--relay', 'r.example', '--https'], /embedded/],
    [['relay'], /--domain/],
    [['relay', '--domain', 'x.test', 'more'], /only flags/],
    [['relay', '--domain', 'x.test', '--workers', '65'], /65/],
    [['relay', '--domain', 'x.test', '--give-descriptors', 'perhaps'], /on,off/],
    [['help', 'nonsense'], /no command/],
    [['config', 'set', 'relay'], /key and a value/],
    [['config', 'set', 'reley', 'x'], /not a key/],
    [['config', 'set', 'port', '99999'], /99999/],
    [['config', 'frobnicate'], /cannot/],
    [['login'], /not in this version/],
    [['./nosuch', '--relay', 'r.example', '--fallback', 'x'], /nosuch/],
    [['3000', '--fallback', 'index.html', '--relay', 'r.example'], /for a folder/],
    [['tcp', './', '--relay', 'r.example'], /no port/],
    [['https://localhost:3000/path', '--relay', 'r.example'], /path/],
    [['https://me@localhost:3000', '--relay', 'r.example'], /names no host/],
    [['unix:', '--relay', 'r.example'], /names no socket/],
    [[`unix:/${'x'.repeat(120)}`, '--relay', 'r.example'], /at most 107/],
    [['3000', '--upstream-insecure', '--relay', 'r.example'], /speaks https/],
    [['https://localhost:3000', '--upstream-insecure', '--upstream-ca', 'x', '--relay', 'r.example'], /says anybody/],
    [['https://localhost:3000', '--local-host', 'x', '--relay', 'r.example'], /--local-host/],
    [['3000', '--upstream', 'https://localhost:3000', '--relay', 'r.example'], /both/],
    [['3000', '--upstream-protocol', 'h3', '--relay', 'r.example'], /auto,http1,h2c,https/],
    [['https://localhost:3000', '--upstream-protocol', 'h2c', '--relay', 'r.example'], /contradict/],
    [['unix:/x', '--upstream-protocol', 'https', '--relay', 'r.example'], /contradict/],
    [['tcp', 'https://localhost:3000', '--relay', 'r.example'], /does not lead/],
    [['http://localhost:3000/path'], /path/],
    [['status', 'x'], /no arguments/],
  ]) {
    const r = await runBeam(t, args, env);
    assert.equal(r.code, 2, `${args.join(' ')}: ${r.code} ${r.stdout}${r.stderr}`);
    assert.match(r.stderr, wanted, args.join(' '));
    assert.match(r.stderr, /\(BEAM-1\d\d\d\)\n {2}next: \S/, args.join(' '));
    assert.equal(r.stdout, '');
    const j = await runBeam(t, [...args.slice(0, 1), '--json', ...args.slice(1)], env);
    assert.equal(j.code, 2);
    const [e] = j.events;
    assert.deepEqual([e.event, typeof e.code, typeof e.what, typeof e.hint], ['error', 'string', 'string', 'string']);
  }
});

test('configuration', async (t) => {
  const dir = tempDir(t);
  const env = cleanEnv(dir);
  const file = `${dir}/.config/beam/beam.yml`;
  const config = (...args) => runBeam(t, ['config', ...args], env);

  assert.equal((await config('path')).stdout, `${file}\n`);
  assert.equal((await config('list')).stdout, '');
  assert.equal((await config('get', 'relay')).code, 1);
  assert.equal((await config('set', 'relay', 'relay.example:8443')).code, 0);
  assert.equal(fs.statSync(file).mode & 0o777, 0o600);
  assert.equal((await config('get', 'relay')).stdout, 'relay.example:8443\n');

  await t.test('a hand-written file keeps its comments', async () => {
    fs.writeFileSync(file, '# my relay\nrelay: one # the first\n\nname: \'it\'\n# end\n');
    assert.equal((await config('set', 'relay', 'two')).code, 0);
    assert.equal((await config('set', 'host-header', 'keep')).code, 0);
    assert.equal(fs.readFileSync(file, 'utf8'), '# my relay\nrelay: "two"\n\nname: \'it\'\n# end\nhost-header: "keep"\n');
    assert.equal((await config('unset', 'name')).code, 0);
    assert.equal(fs.readFileSync(file, 'utf8'), '# my relay\nrelay: "two"\n\n# end\nhost-header: "keep"\n');
  });

  await t.test('any value survives', async () => {
    for (const value of ['a"b\\c', '{x: y}', '# no comment', ' spaces ', 'ünïcode ☃', "it's", 'yes', '0', '- list', '*star', 'tab\there', '%']) {
      assert.equal((await config('set', 'name', '--', value)).code, 0, value);
      assert.equal((await config('get', 'name')).stdout, `${value}\n`);
      assert.equal(JSON.parse((await config('get', 'name', '--json')).stdout).name, value);
    }
    await config('unset', 'name');
  });

  await t.test('a token is not shown in the list', async () => {
    await config('set', 'token', 'very-secret');
    assert.doesNotMatch((await config('list')).stdout, /very-secret/);
    assert.match((await config('list')).stdout, /^token: \(set\)$/m);
    await config('unset', 'token');
  });

  await t.test('an unknown key is named with its line, and can be removed', async () => {
    fs.appendFileSync(file, 'reley: x\n');
    const line = fs.readFileSync(file, 'utf8').split('\n').length - 1;
    const r = await runBeam(t, ['3000'], env);
    assert.equal(r.code, 2);
    assert.match(r.stderr, new RegExp(`line ${line}: reley`));
    assert.equal((await config('unset', 'reley')).code, 0);
  });
});

test('flag beats environment beats file', async (t) => {
  const s = await setUp(t, (_, response) => response.end('ok'));
  const other = await serve(t, (_, response) => response.end('other'));
  fs.mkdirSync(`${s.dir}/.config/beam`, { recursive: true });
  fs.writeFileSync(`${s.dir}/.config/beam/beam.yml`, `relay: 127.0.0.1:${s.relay.port}\nrelay-ca: ${s.relay.info.ca}\nname: from-file\nport: ${other.port}\n`);
  for (const [args, env, name] of [
    [['start'], {}, 'from-file'],
    [['start'], { BEAM_NAME: 'from-env' }, 'from-env'],
    [['start', '--name', 'from-flag'], { BEAM_NAME: 'from-env' }, 'from-flag'],
  ]) {
    const p = new Program(t, beam, [...args, '--json'], { env: cleanEnv(s.dir, env) });
    const e = await p.event('tunnel');
    assert.equal(e.name, `${name}.tunnel.test`);
    assert.equal(e.target, `http://localhost:${other.port}`);
    await p.stop();
  }
  const local = new Program(t, beam, ['start', '--local', '--json'], { env: cleanEnv(s.dir) });
  assert.equal((await local.event('tunnel')).name, 'from-file.localhost');
  await local.stop();
  await s.agent.stop();
  await s.relay.stop();
});

test('status and stop', async (t) => {
  const s = await setUp(t, (_, response) => response.end('ok'), { agentArgs: ['--name', 'shop'] });
  const env = cleanEnv(s.dir);
  await s.visit('/');
  await s.agent.event('request');
  const status = async () => (await runBeam(t, ['status', '--json'], env)).events;
  const raw = async () => (await runBeam(t, ['status', '--json'], env)).stdout.trim().split('\n').filter(Boolean).map((line) => JSON.parse(line));
  assert.equal((await status()).length, 2);

  const all = await raw();
  const tunnel = all.find((e) => e.kind === 'tunnel');
  const relay = all.find((e) => e.kind === 'relay');
  assert.deepEqual([tunnel.name, tunnel.state, tunnel.pid, tunnel.requests, tunnel.embedded], ['shop.tunnel.test', 'active', s.agent.pid, 1, false]);
  assert.equal(tunnel.url, s.url);
  assert.deepEqual([relay.domain, relay.pid, relay.tunnels, relay.sessions], ['tunnel.test', s.relay.pid, 1, 1]);
  assert.ok(relay.requests >= 1);
  const text = (await runBeam(t, ['status'], env)).stdout;
  assert.match(text, /shop\.tunnel\.test/);
  assert.match(text, /^KIND/);

  await t.test('one that was killed is not listed, and its socket is removed', async () => {
    const doomed = await startAgent(t, s.dir, s.relay, s.origin.port, ['--name', 'doomed'], { data: `${s.dir}/doomed` });
    assert.equal((await raw()).length, 3);
    await doomed.kill();
    assert.ok(fs.existsSync(`${s.dir}/beam/${doomed.pid}.sock`));
    assert.equal((await raw()).length, 2);
    assert.ok(!fs.existsSync(`${s.dir}/beam/${doomed.pid}.sock`));
  });

  await t.test('the sockets are private', () => {
    assert.equal(fs.statSync(`${s.dir}/beam`).mode & 0o777, 0o700);
  });

  await t.test('stop by an unknown name', async () => {
    const r = await runBeam(t, ['stop', 'nobody'], env);
    assert.equal(r.code, 1);
    assert.match(r.stderr, /nobody/);
  });

  await t.test('stop by name ends that one, and returns when it has ended', async () => {
    const other = await startAgent(t, s.dir, s.relay, s.origin.port, ['--name', 'other'], { data: `${s.dir}/other` });
    const r = await runBeam(t, ['stop', 'shop'], env);
    assert.equal(r.code, 0, r.stderr);
    assert.equal(r.stdout, 'Stopped shop.tunnel.test\n');
    assert.equal((await s.agent.exit()).code, 0);
    assert.equal(other.code, undefined);
    assert.equal((await runBeam(t, ['stop'], env)).stdout, 'Stopped other.tunnel.test\n');
    assert.equal((await other.exit()).code, 0);
  });

  await t.test('a relay is ended by its domain, never by the bare stop', async () => {
    assert.match((await runBeam(t, ['stop'], env)).stdout, /Nothing runs/);
    assert.equal(s.relay.code, undefined);
    assert.equal((await runBeam(t, ['stop', 'tunnel.test'], env)).code, 0);
    assert.equal((await s.relay.exit()).code, 0);
    assert.deepEqual(await raw(), []);
    assert.match((await runBeam(t, ['status'], env)).stdout, /^Nothing runs\.\n$/);
  });
});

test('a relay that is not there: it tries again and says why; Ctrl-C ends it', async (t) => {
  const dir = tempDir(t);
  const p = new Program(t, beam, ['3000', '--relay', '127.0.0.1:1', '--relay-ca', `sha256:${'0'.repeat(64)}`, '--json'], { env: cleanEnv(dir) });
  const e = await p.event('state', (x) => x.state === 'connecting');
  assert.match(e.code, /BEAM-1007/);
  const state = await until(async () => {
    const line = (await runBeam(t, ['status', '--json'], cleanEnv(dir))).stdout;
    return line && JSON.parse(line);
  }, 'its status');
  assert.equal(state.state, 'connecting');
  assert.ok(state.why);
  await p.stop();
});
