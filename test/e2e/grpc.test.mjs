// gRPC through a tunnel, as a real client and server speak it: HTTP/2 on the whole way, nothing buffered, trailers and statuses at the end.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import grpc from '@grpc/grpc-js';
import { cleanUp, tempDir, until } from './lib/run.mjs';
import { freePort, serve, startAgent, startRelay, visitor } from './lib/setup.mjs';
import { overTransports } from './lib/transports.mjs';

const bytes = { requestSerialize: (b) => b, requestDeserialize: (b) => b, responseSerialize: (b) => b, responseDeserialize: (b) => b };
const method = (name, requestStream, responseStream) => ({ path: `/test.Service/${name}`, requestStream, responseStream, ...bytes });
const definition = { unary: method('Unary', false, false), list: method('List', false, true), collect: method('Collect', true, false), chat: method('Chat', true, true), hang: method('Hang', false, false) };

/** A server that tells what it saw; its port, or with an own `credentials` that. */
async function grpcServer(t, credentials = grpc.ServerCredentials.createInsecure()) {
  const seen = { cancelled: 0, hanging: 0, metadata: undefined, calls: 0 };
  const big = { 'grpc.max_receive_message_length': 64 << 20, 'grpc.max_send_message_length': 64 << 20 };
  const server = new grpc.Server(big);
  server.addService(definition, {
    unary(call, done) {
      seen.calls++;
      seen.metadata = call.metadata;
      const what = call.request.toString('latin1', 0, 20);
      const trailers = new grpc.Metadata();
      trailers.set('x-end', 'late');
      trailers.set('data-bin', Buffer.from([0, 255, 10, 13]));
      if (what === 'fail') return done({ code: grpc.status.FAILED_PRECONDITION, details: 'not today: 100% 🙂', metadata: trailers });
      const early = new grpc.Metadata();
      early.set('x-begin', 'early');
      call.sendMetadata(early);
      done(null, call.request, trailers);
    },
    list(call) {
      for (let i = 0; i < 50; i++) call.write(Buffer.from(`row ${i}`));
      call.end();
    },
    collect(call, done) {
      let sum = 0;
      call.on('data', (b) => (sum += b.length));
      call.on('end', () => done(null, Buffer.from(String(sum))));
    },
    chat(call) {
      call.on('data', (b) => call.write(Buffer.from(`echo ${b}`)));
      call.on('end', () => call.end());
    },
    hang(call) {
      seen.hanging++;
      call.on('cancelled', () => seen.cancelled++);
    },
  });
  const port = await new Promise((done, failed) => server.bindAsync('127.0.0.1:0', credentials, (error, p) => (error ? failed(error) : done(p))));
  cleanUp(t, () => server.forceShutdown());
  return { server, port, seen };
}

let agents = 0;
async function through(t, r, target, args = []) {
  const agent = await startAgent(t, r.dir, r.relay, target, args, { data: path.join(r.dir, `agent${agents++}`) });
  const v = visitor(r.relay, agent);
  const client = (own = {}) => {
    const Client = grpc.makeGenericClientConstructor(definition);
    const options = { 'grpc.ssl_target_name_override': v.name, 'grpc.default_authority': v.name, 'grpc.max_receive_message_length': 64 << 20, 'grpc.max_send_message_length': 64 << 20, 'grpc.use_local_subchannel_pool': 1, ...own };
    const c = new Client(`127.0.0.1:${r.relay.port}`, grpc.credentials.createSsl(v.base.ca), options);
    cleanUp(t, () => c.close());
    return c;
  };
  return { agent, client, ...v };
}

/** { error, answer, metadata, trailers } */
function unary(client, name, request, options = {}, metadata = new grpc.Metadata()) {
  return new Promise((resolve) => {
    const out = {};
    const call = client[name](Buffer.from(request), metadata, options, (error, answer) => {
      out.error = error;
      out.answer = answer;
    });
    call.on('metadata', (m) => (out.metadata = m));
    call.on('status', (s) => {
      out.status = s;
      setImmediate(() => resolve(out));
    });
  });
}

async function rig(t) {
  const dir = tempDir(t);
  return { dir, relay: await startRelay(t, dir, ['--open']) };
}

overTransports('gRPC', async (t) => {
  const r = await rig(t);
  const { port, seen } = await grpcServer(t);
  const s = await through(t, r, port);
  const client = s.client();

  await t.test('a call, metadata both ways, a status with details', async () => {
    const metadata = new grpc.Metadata();
    metadata.set('x-mine', 'one');
    metadata.set('x-bin', Buffer.from([1, 0, 254]));
    const good = await unary(client, 'unary', 'hello', {}, metadata);
    assert.equal(good.error, null);
    assert.equal(good.answer.toString(), 'hello');
    assert.deepEqual(good.metadata.get('x-begin'), ['early']);
    assert.deepEqual(good.status.metadata.get('x-end'), ['late']);
    assert.deepEqual(good.status.metadata.get('data-bin'), [Buffer.from([0, 255, 10, 13])]);
    assert.deepEqual(seen.metadata.get('x-mine'), ['one']);
    assert.deepEqual(seen.metadata.get('x-bin'), [Buffer.from([1, 0, 254])]);
    const bad = await unary(client, 'unary', 'fail');
    assert.equal(bad.error.code, grpc.status.FAILED_PRECONDITION);
    assert.equal(bad.error.details, 'not today: 100% 🙂');
    assert.deepEqual(bad.error.metadata.get('x-end'), ['late']);
  });

  await t.test('streams one way', async () => {
    const rows = [];
    for await (const row of client.list(Buffer.alloc(0))) rows.push(row.toString());
    assert.equal(rows.length, 50);
    assert.equal(rows[49], 'row 49');
    const sum = await new Promise((done, failed) => {
      const call = client.collect((error, answer) => (error ? failed(error) : done(Number(answer.toString()))));
      for (let i = 0; i < 100; i++) call.write(Buffer.alloc(1000));
      call.end();
    });
    assert.equal(sum, 100_000);
  });

  await t.test('both ways, one message for one: nothing waits for more', async () => {
    const call = client.chat();
    const said = [];
    let heard;
    call.on('data', (b) => heard(b.toString()));
    for (let i = 0; i < 20; i++) {
      const answer = new Promise((done) => (heard = done));
      call.write(Buffer.from(`m${i}`));
      said.push(await answer);
    }
    assert.deepEqual(said, Array.from({ length: 20 }, (_, i) => `echo m${i}`));
    const status = await new Promise((done) => {
      call.on('status', done);
      call.end();
    });
    assert.equal(status.code, grpc.status.OK);
  });

  await t.test('large messages', async () => {
    const request = Buffer.alloc(8 << 20, 'large');
    const { answer } = await unary(client, 'unary', request);
    assert.ok(answer.equals(request));
  });

  await t.test('a hundred calls at once', async () => {
    const before = seen.calls;
    const all = await Promise.all(Array.from({ length: 100 }, (_, i) => unary(client, 'unary', `call ${i}`)));
    all.forEach((one, i) => assert.equal(one.answer?.toString(), `call ${i}`, String(one.error)));
    assert.equal(seen.calls - before, 100);
  });

  await t.test('a deadline, and a call given up, reach the server', async () => {
    const late = await unary(client, 'hang', '', { deadline: Date.now() + 300 });
    assert.equal(late.error.code, grpc.status.DEADLINE_EXCEEDED);
    await until(() => seen.cancelled === 1, 'the server heard of the deadline');
    const call = client.hang(Buffer.alloc(0), () => {});
    call.on('error', () => {});
    await until(() => seen.hanging === 2, 'the call is there');
    call.cancel();
    await until(() => seen.cancelled === 2, 'the server heard that it was given up');
  });
});

test('gRPC where it cannot go', async (t) => {
  const r = await rig(t);

  await t.test('nobody there: UNAVAILABLE, with the code', async (t) => {
    const { client } = await through(t, r, await freePort());
    const { error } = await unary(client(), 'unary', 'x');
    assert.equal(error.code, grpc.status.UNAVAILABLE);
    assert.match(error.details, /BEAM-5021/);
  });

  await t.test('a service that speaks HTTP/1.1 only', async (t) => {
    const plain = await serve(t, (request, response) => response.end('plain'));
    const { client } = await through(t, r, plain.port);
    const { error } = await unary(client(), 'unary', 'x');
    assert.equal(error.code, grpc.status.UNAVAILABLE);
    assert.match(error.details, /BEAM-5027/);
    const told = await through(t, r, plain.port, ['--upstream-protocol', 'http1']);
    assert.match((await unary(told.client(), 'unary', 'x')).error.details, /BEAM-5027/);
  });

  await t.test('no tunnel of that name', async (t) => {
    const s = await through(t, r, await freePort());
    await s.agent.stop();
    const { error } = await unary(s.client(), 'unary', 'x');
    assert.ok([grpc.status.UNAVAILABLE, grpc.status.UNIMPLEMENTED].includes(error.code), String(error));
    assert.match(error.details, /BEAM-(404|503)\d/);
  });

  await t.test('a server that goes away in the middle', async (t) => {
    const { server, port, seen } = await grpcServer(t);
    const { client } = await through(t, r, port);
    const c = client();
    const call = unary(c, 'hang', '');
    await until(() => seen.hanging, 'the call is there');
    const chat = c.chat();
    const first = new Promise((done) => chat.on('data', (b) => done(b.toString())));
    const over = new Promise((done) => chat.on('status', done));
    chat.on('error', () => {});
    chat.write(Buffer.from('hi'));
    assert.equal(await first, 'echo hi');
    server.forceShutdown();
    assert.equal((await call).error.code, grpc.status.UNAVAILABLE);
    const status = await over;
    assert.equal(status.code, grpc.status.UNAVAILABLE);
    assert.match(status.details, /BEAM-5029/);
    assert.equal((await unary(c, 'unary', 'x')).error.code, grpc.status.UNAVAILABLE);
  });
});

test('gRPC with TLS on the last way too', async (t) => {
  const r = await rig(t);
  const [key, cert] = [path.join(r.dir, 'key.pem'), path.join(r.dir, 'cert.pem')];
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-keyout', key, '-out', cert], { stdio: 'ignore' });
  const { port } = await grpcServer(t, grpc.ServerCredentials.createSsl(null, [{ private_key: fs.readFileSync(key), cert_chain: fs.readFileSync(cert) }]));
  const { client } = await through(t, r, `https://localhost:${port}`, ['--upstream-ca', cert]);
  assert.equal((await unary(client(), 'unary', 'safe')).answer.toString(), 'safe');
});
