// One relay process takes over from another under load: nobody's request fails.
import assert from 'node:assert/strict';
import https from 'node:https';
import net from 'node:net';
import path from 'node:path';
import test from 'node:test';
import { long, sanitized, tempDir } from './lib/run.mjs';
import { drain, freeRange, listen, serve, startAgent, startRelay, visitor } from './lib/setup.mjs';
import { overTransports } from './lib/transports.mjs';

const pause = (ms) => new Promise((go) => setTimeout(go, ms));

/** Loops that ask again and again until told to stop; each answer must be whole and right. */
class Load {
  asked = 0;
  again = 0;
  failed = [];
  longest = 0;
  loops = [];
  begin(once) {
    this.loops.push(
      (async () => {
        let answered = performance.now();
        while (!this.over) {
          const begun = performance.now();
          this.asked++;
          try {
            try {
              await once();
            } catch (error) {
              // An idle connection may end at any moment, and a client that meets it asks again (RFC 9112 section 9.3.1). The relay lets them
              // be idle for two seconds: this machine stood still for so long.
              if (!error.reused || begun - answered < 1500) throw error;
              this.again++;
              await once();
            }
            answered = performance.now();
          } catch (error) {
            this.failed.push(`${(begun - this.zero).toFixed(0)} ms: ${error.message}`);
          }
          this.longest = Math.max(this.longest, performance.now() - begun);
          await pause(5);
        }
      })(),
    );
  }
  zero = performance.now();
  async end() {
    this.over = true;
    await Promise.all(this.loops);
  }
}

/** While two relays run only the older has UDP: who has QUIC comes by TCP, who may use nothing else comes back when the older has ended. */
const mayFallBack = (transport) => ({ BEAM_TRANSPORT: transport === 'quic' ? 'auto' : transport });

overTransports('a relay is replaced twice under steady load', async (t, transport) => {
  const dir = tempDir(t);
  const args = ['--workers', '2', '--tcp-ports', await freeRange(10)];
  let relay = await startRelay(t, dir, args);
  const port = relay.port;
  const origin = await serve(t, (request, response) => {
    const parts = [];
    request.on('data', (p) => parts.push(p)).on('end', () => response.end(`${request.headers['x-forwarded-host']}${request.url} ${Buffer.concat(parts)}`));
  });
  const echo = await listen(t, net.createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket)));
  const agents = await Promise.all([0, 1, 2].map((i) => startAgent(t, dir, relay, origin.port, ['--quiet', '--name', `load${i}`], { data: path.join(dir, `agent${i}`), env: mayFallBack(transport) })));
  for (const agent of agents) assert.equal(agent.info.transport, transport);
  const tcp = await startAgent(t, dir, relay, echo, ['--quiet'], { command: 'tcp', data: path.join(dir, 'tcp'), env: mayFallBack(transport) });

  const load = new Load();
  const enough = long ? 2000 : 100;
  let n = 0;
  for (let i = 0; i < (sanitized ? 3 : 9); i++) {
    const v = visitor(relay, agents[i % 3]);
    const keep = new https.Agent({ keepAlive: true, maxSockets: 1 });
    t.after(() => keep.destroy());
    for (const agent of [undefined, keep])
      load.begin(async () => {
        const target = `/${n++}`;
        const body = 'x'.repeat(n % 3000);
        const got = await v.visit(target, { method: 'POST', body, ...(agent && { agent }) });
        assert.equal(got.status, 200, got.text.match(/BEAM-\d+/)?.[0]);
        assert.equal(got.text, `${v.name}${target} ${body}`);
      });
  }
  load.begin(async () => {
    const socket = net.connect({ port: tcp.info.port, host: '127.0.0.1', allowHalfOpen: true });
    const back = drain(socket);
    socket.end('over and over');
    assert.equal((await back).text, 'over and over');
  });
  while (load.asked < enough) await pause(5);

  for (let round = 1; round <= 2; round++) {
    const old = relay;
    const begun = performance.now();
    relay = await startRelay(t, dir, [...args, '--replace', ...(round === 2 ? ['--workers', '1'] : [])], { listen: `127.0.0.1:${port}` });
    await relay.event('took_over');
    assert.equal((await old.exit()).code, 0);
    await relay.event('alone');
    t.diagnostic(`round ${round}: the older relay ended ${(performance.now() - begun).toFixed(0)} ms after the newer was started`);
    const here = load.asked;
    while (load.asked < here + enough) await pause(5);
  }
  await load.end();
  t.diagnostic(`${load.asked} requests across two replacements: ${load.failed.length} failed, ${load.again} asked again on an idle connection that had ended; the longest took ${load.longest.toFixed(0)} ms`);
  assert.deepEqual(load.failed.slice(0, 5), []);
  for (const agent of [...agents, tcp]) {
    assert.equal(agent.events.filter((e) => e.event === 'state' && e.state !== 'active').length, 0);
    await agent.stop();
  }
  await relay.stop();
});

overTransports('a stream that is under way ends on the relay that is replaced', async (t, transport) => {
  const dir = tempDir(t);
  let letGo;
  const released = new Promise((resolve) => (letGo = resolve));
  let open = 0;
  const origin = await serve(t, async (request, response) => {
    if (request.url !== '/live') return response.end('quick');
    response.write('begun ');
    open++;
    await released;
    response.end('whole');
  });
  const old = await startRelay(t, dir);
  const agent = await startAgent(t, dir, old, origin.port, [], { env: mayFallBack(transport) });
  assert.equal(agent.info.transport, transport);
  const v = visitor(old, agent);
  const slow = v.visit('/live');
  while (!open) await pause(5);
  const next = await startRelay(t, dir, ['--replace'], { listen: `127.0.0.1:${old.port}` });
  await next.event('tunnel_up');
  assert.equal((await v.visit('/')).text, 'quick');
  assert.equal(old.code, undefined);
  letGo();
  assert.equal((await slow).text, 'begun whole');
  assert.equal((await old.exit()).code, 0);
  await agent.stop();
  await next.stop();
});

test('--replace with nobody to take over from just starts', async (t) => {
  const dir = tempDir(t);
  const relay = await startRelay(t, dir, ['--replace']);
  await relay.kill();
  const again = await startRelay(t, dir, ['--replace'], { listen: `127.0.0.1:${relay.port}` });
  assert.equal(again.events.some((e) => e.event === 'took_over'), false);
  await again.stop();
});
