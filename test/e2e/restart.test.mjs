// What happens when one of the two programs dies.
import assert from 'node:assert/strict';
import { until } from './lib/run.mjs';
import { setUp, startAgent, startRelay, visitor } from './lib/setup.mjs';
import { overTransports } from './lib/transports.mjs';

overTransports('the relay is killed and comes back: the agent is there under the same name by itself', { atOnce: true }, async (t) => {
  const s = await setUp(t, (_, response) => response.end('still me'));
  for (const signal of ['SIGKILL', 'SIGTERM']) {
    const seen = s.agent.events.length;
    if (signal === 'SIGKILL') await s.relay.kill();
    else await s.relay.stop(signal);
    const lost = await s.agent.wait(() => s.agent.events.slice(seen).find((e) => e.event === 'state' && e.state === 'reconnecting'), 'reconnecting');
    assert.match(lost.code, /^BEAM-1\d\d\d$/);
    assert.ok(lost.what);
    const begun = performance.now();
    s.relay = await startRelay(t, s.dir, [], { listen: `127.0.0.1:${s.relay.port}` });
    const back = await s.agent.wait(() => s.agent.events.slice(seen).find((e) => e.event === 'state' && e.state === 'active'), 'back');
    t.diagnostic(`after ${signal}: back ${(performance.now() - begun).toFixed(0)} ms after the relay's start was asked for`);
    assert.equal(back.name, s.name);
    assert.equal((await s.visit('/')).text, 'still me');
  }
  await s.agent.stop();
  await s.relay.stop();
});

overTransports('the agent is killed', { atOnce: true }, async (t) => {
  let reached;
  const s = await setUp(t, (request, response) => {
    if (request.url === '/begun') {
      response.writeHead(200, { 'Content-Length': 1000 });
      response.write('x');
    } else if (request.url !== '/waiting') {
      return response.end('ok');
    }
    return reached?.(request.url);
  });
  const arrival = (path) =>
    new Promise((resolve) => {
      const old = reached;
      reached = (url) => (url === path ? resolve() : old?.(url));
    });
  const waitingThere = arrival('/waiting');
  const waiting = s.visit('/waiting');
  await waitingThere;
  // Begun means: the visitor has the head and the first byte.
  const begun = await new Promise((resolve, reject) => {
    const request = s.request('/begun');
    request.on('error', reject);
    request.on('response', (response) => {
      const end = new Promise((done) => response.on('error', (error) => done(error.message)).on('end', () => done('whole')).on('close', () => done('closed')));
      response.once('data', () => resolve({ response, end }));
    });
    request.end();
  });

  const killed = performance.now();
  await s.agent.kill();
  const r = await waiting;
  t.diagnostic(`a request without an answer yet: ${r.status} after ${(performance.now() - killed).toFixed(0)} ms`);
  assert.equal(r.status, 502);
  assert.match(r.text, /BEAM-5024/);
  assert.match(await begun.end, /aborted|reset|hang up/i);
  assert.equal(begun.response.complete, false);

  const asked = performance.now();
  const later = await s.visit('/');
  const waited = performance.now() - asked;
  t.diagnostic(`a new request: ${later.status} after ${waited.toFixed(0)} ms`);
  assert.equal(later.status, 503);
  assert.match(later.text, /BEAM-5031/);
  assert.ok(Number(later.headers['retry-after']) > 0);
  assert.ok(waited > 1000 && waited < 6000, `${waited} ms`);

  // A request that waits is answered by the next link.
  const patient = s.visit('/');
  const agent = await startAgent(t, s.dir, s.relay, s.origin.port);
  assert.equal(agent.name, s.name);
  const answered = await patient;
  t.diagnostic(`a request made before the agent's restart: ${answered.status} ${answered.text.match(/BEAM-\d+/) ?? ''}`);
  assert.equal(answered.status, 200);
  assert.equal((await s.visit('/')).text, 'ok');

  await agent.stop();
  const gone = performance.now();
  const after = await s.visit('/');
  t.diagnostic(`after an orderly end: ${after.status} in ${(performance.now() - gone).toFixed(0)} ms`);
  assert.equal(after.status, 503);
  assert.ok(performance.now() - gone < 1000);
  await s.relay.stop();
});

overTransports('the same device starts again while its older session still runs', async (t) => {
  const s = await setUp(t, (_, response) => response.end('one'), { agentArgs: ['--name', 'shop'] });
  const newer = await startAgent(t, s.dir, s.relay, s.origin.port, ['--name', 'shop']);
  assert.equal(newer.name, s.name);
  const { code } = await s.agent.exit();
  assert.equal(code, 4);
  assert.equal(s.agent.events.at(-1).code, 'BEAM-1025');
  assert.equal((await s.visit('/')).text, 'one');
  await newer.stop();
  await s.relay.stop();
});

overTransports('two tunnels of one relay do not mix', async (t) => {
  const s = await setUp(t, (_, response) => response.end('first'));
  const { serve } = await import('./lib/setup.mjs');
  const second = await serve(t, (_, response) => response.end('second'));
  const agent = await startAgent(t, s.dir, s.relay, second.port, [], { data: `${s.dir}/second` });
  assert.notEqual(agent.name, s.name);
  const v = visitor(s.relay, agent);
  for (let i = 0; i < 10; i++) {
    assert.equal((await s.visit('/')).text, 'first');
    assert.equal((await v.visit('/')).text, 'second');
  }
  await until(() => s.relay.events.some((e) => e.event === 'tunnel_up'), 'the relay tells');
  await agent.stop();
  await s.agent.stop();
  await s.relay.stop();
});

overTransports('an EventSource waits for an agent that is started again, other requests are told at once', async (t) => {
  const s = await setUp(t, (request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    response.end(`data: ${request.headers['last-event-id']}\n\n`);
  });
  await s.agent.stop();
  assert.equal((await s.visit('/')).status, 503);
  const events = s.visit('/', { headers: { accept: 'text/event-stream', 'last-event-id': '41' } });
  events.catch(() => {});
  assert.equal((await s.visit('/')).status, 503); // the event source was asked before it, and has no answer
  const agent = await startAgent(t, s.dir, s.relay, s.origin.port);
  const got = await events;
  assert.equal(got.status, 200);
  assert.equal(got.text, 'data: 41\n\n');
  await agent.stop();
  await s.relay.stop();
});
