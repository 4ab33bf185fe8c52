// Two workers: whichever accepts a connection, the tunnel is reached, with and without giving the descriptor.
import assert from 'node:assert/strict';
import https from 'node:https';
import { setUp, startAgent, visitor } from './lib/setup.mjs';
import { overTransports } from './lib/transports.mjs';

for (const give of ['on', 'off'])
  overTransports(`two workers, giving descriptors ${give}`, async (t) => {
    const s = await setUp(t, (request, response) => {
      if (request.method === 'POST') return request.pipe(response);
      return response.end(`ok ${request.url}`);
    }, { relayArgs: ['--workers', '2', '--give-descriptors', give] });
    assert.equal(s.relay.info.workers, 2);
    const agents = [s.agent];
    for (const name of ['b', 'c', 'd']) agents.push(await startAgent(t, s.dir, s.relay, s.origin.port, ['--name', `name-${name}`], { data: `${s.dir}/agent-${name}` }));
    const visitors = agents.map((agent) => visitor(s.relay, agent));

    await t.test('every connection reaches its name, whoever accepted it', async () => {
      const acceptedBy = [new Set(), new Set()];
      for (let round = 0; round < 20; round++)
        await Promise.all(
          visitors.map(async (v) => {
            const state = JSON.parse((await v.visit('/_beam')).text);
            assert.equal(state.name, v.name);
            acceptedBy[state.worker].add(state.accepted_by);
            assert.equal((await v.visit(`/${round}`)).text, `ok /${round}`);
          }),
        );
      const hops = acceptedBy.map((set, i) => `worker ${i} had names reached by ${[...set].sort().join(' and ') || 'none'}`);
      t.diagnostic(hops.join('; '));
      if (give === 'off') assert.ok(acceptedBy.some((set) => set.size === 2), 'no connection came in at the other worker in eighty');
      else acceptedBy.forEach((set, i) => assert.ok(set.size === 0 || (set.size === 1 && set.has(i)), hops.join('; ')));
    });

    await t.test('one connection, several names: each request goes where its own Host says', async () => {
      // A certificate covers one name, so another name on the connection is misdirected, never answered by the wrong tunnel.
      const agent = new https.Agent({ keepAlive: true, maxSockets: 1 });
      for (const v of [visitors[0], visitors[1], visitors[0]]) {
        const text = await new Promise((resolve, reject) => {
          https
            .get({ ...visitors[0].base, agent, path: '/x', headers: { host: v.name } }, (response) => {
              let body = '';
              response.setEncoding('utf8').on('data', (part) => (body += part)).on('end', () => resolve(`${response.statusCode} ${body}`));
            })
            .on('error', reject);
        });
        if (v === visitors[0]) assert.equal(text, '200 ok /x');
        else assert.match(text, /^421 /);
      }
      agent.destroy();
    });

    await t.test('bodies across workers', async () => {
      const body = Buffer.alloc(3 * 1048576, 'across ');
      await Promise.all(
        Array.from({ length: 16 }, async (_, i) => {
          const r = await visitors[i % visitors.length].visit('/', { method: 'POST', body });
          assert.ok(r.body.equals(body));
        }),
      );
    });

    await t.test('an abort across workers lets go of everything', async () => {
      await Promise.all(
        Array.from({ length: 40 }, (_, i) =>
          new Promise((resolve) => {
            const request = visitors[i % visitors.length].request('/', { method: 'POST' });
            request.on('error', resolve);
            request.on('response', (response) => response.on('error', resolve).once('data', () => request.destroy()).on('close', resolve));
            request.write(Buffer.alloc(100_000, 'x'));
          }),
        ),
      );
      assert.equal((await visitors[3].visit('/still')).text, 'ok /still');
    });

    for (const agent of agents) await agent.stop();
    await s.relay.stop();
  });
