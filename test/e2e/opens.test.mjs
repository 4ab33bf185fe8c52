// Cold opens: a program that was never at this relay, until its first visitor has the whole answer (test/load/opens.c says what cold is). A hundred of
// each kind; with BEAM_TEST_LONG=1 ten thousand, or BEAM_OPENS of them.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { openBox, addressA } from './lib/box.mjs';
import { Program, beam, build, cleanEnv, long, mib, run, sanitized, tempDir } from './lib/run.mjs';
import { installed, tinyproxy } from './lib/proxies.mjs';

const count = Number(process.env.BEAM_OPENS) || (long ? 10_000 : 100);
const atOnce = 8;
const within = sanitized ? 20_000 : 5000;
const opens = path.join(build, 'test/load/opens');
// Each scenario is about which transport gets through: there is nothing to choose. And not each build has the visitor's TLS.
const barred = (process.env.BEAM_TEST_TRANSPORT && 'the race is what is tested') || (!fs.existsSync(opens) && 'built without GnuTLS');
// One open costs the machine about 15 ms of a processor; waiting, and other tests beside it, much more.
const ms = 60_000 + count * 300;

const nowhere = { file: 'env', args: [], address: '127.0.0.1' };

/** A relay beside the visitors and a local service beside the agents, which are on this machine, or either side of the wire. */
async function setUp(t, relaySide = nowhere, agentSide = nowhere) {
  const dir = tempDir(t);
  const start = (side, file, args) => new Program(t, side.file, [...side.args, file, ...args], { env: cleanEnv(dir) });
  const tokens = path.join(dir, 'tokens');
  // Whoever shows a token may have as many names as he likes from one address.
  fs.writeFileSync(tokens, 'a-token-for-ten-thousand\n', { mode: 0o600 });
  const site = start(agentSide, path.join(build, 'site'), ['--port', '0']);
  const local = /localhost:(\d+)/.exec(await site.wait(() => site.stdout.includes('\n') && site.stdout, 'its address'))[1];
  const relay = start(relaySide, beam, ['relay', '--domain', 'tunnel.test', '--listen', `${relaySide.address}:0`, '--agent-token-file', tokens, '--data', path.join(dir, 'relay'), '--json']);
  relay.info = await relay.event('relay');
  const pid = relay.pid; // nsenter becomes the program
  const open = async (allow, args = []) => {
    const data = path.join(dir, 'data');
    fs.mkdirSync(data);
    const all = ['--relay', relay.info.https, '--ca', relay.info.ca, '--local', local, '--dir', data, '--token', 'a-token-for-ten-thousand', '--count', count, '--at-once', atOnce, '--within', within, '--allow', allow, ...args];
    const before = relay.rss();
    const { code, signal, stdout, stderr } = await run(t, agentSide.file, [...agentSide.args, opens, ...all.map(String)], { env: cleanEnv(dir), ms });
    assert.ok(stdout.startsWith('{'), `it ended with ${code ?? signal}\n${stderr}`);
    const told = JSON.parse(stdout);
    const { served_ms: served, up_ms: up } = told;
    t.diagnostic(`${told.good} of ${told.opens} served within ${within} ms (${told.late} later, ${told.failed} not), ${(told.opens / told.seconds).toFixed(0)}/s`);
    t.diagnostic(`up p50 ${up.p50} p99 ${up.p99} max ${up.max} ms, served p50 ${served.p50} p99 ${served.p99} max ${served.max} ms; ${told.quic} quic, ${told.h2} h2, ${told.ws} ws; relay ${mib(before)} -> ${mib(relay.rss())}, ${fs.readdirSync(`/proc/${pid}/fd`).length} descriptors`);
    for (const line of stderr.split('\n').filter((l) => l.startsWith('open '))) t.diagnostic(line);
    assert.equal(code, 0, `${told.late} late, ${told.failed} failed`);
    assert.deepEqual(fs.readdirSync(data), []);
    await site.kill();
    await relay.stop();
    return told;
  };
  return { dir, relay, open };
}

// Of ten thousand, nine may fail where packets are lost; where none are, not one.
const few = Math.floor((count * 9) / 10_000);

test(`${count} cold opens`, { skip: barred, timeout: 4 * ms + 60_000 }, async (t) => {
  await t.test('nothing in the way', async (t) => {
    const s = await setUp(t);
    await s.open(0);
  });

  await t.test('one packet in a hundred is lost, each way', async (t) => {
    const box = await openBox(t);
    if (!box) return;
    const s = await setUp(t, box.a, box.b);
    await box.set({ delay: 10, loss: 1 });
    await s.open(few, ['--netns', box.a.args[0].replace('--net=', '')]);
    assert.ok((await box.stats()).ba.lost > 0);
  });

  await t.test('UDP does not arrive', async (t) => {
    const box = await openBox(t);
    if (!box) return;
    const s = await setUp(t, box.a, box.b);
    await box.set({ delay: 10, block: 'udp' });
    const told = await s.open(few, ['--netns', box.a.args[0].replace('--net=', '')]);
    assert.equal(told.quic, 0);
    assert.ok((await box.stats()).ba.blocked > 0);
  });

  await t.test('through a proxy', async (t) => {
    if (!installed('tinyproxy')) return t.skip('lacks tinyproxy');
    const s = await setUp(t);
    const proxy = await tinyproxy(t, s.dir);
    const told = await s.open(few, ['--proxy', `http://127.0.0.1:${proxy.port}`]);
    assert.equal(told.quic, 0);
  });
});
