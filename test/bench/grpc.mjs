// gRPC calls directly to a server, and through relay and agent beside it, taking turns: node test/bench/grpc.mjs. Client and server are one process of Node's,
// which is what limits calls made at once; what Beam adds is seen in the time of one call alone.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import readline from 'node:readline';

const grpc = createRequire(new URL('../e2e/', import.meta.url))('@grpc/grpc-js');
const beam = path.join(process.env.BEAM_BUILD ?? new URL('../../build', import.meta.url).pathname, 'beam');
const bytes = { requestSerialize: (b) => b, requestDeserialize: (b) => b, responseSerialize: (b) => b, responseDeserialize: (b) => b };
const definition = { echo: { path: '/bench.Bench/Echo', requestStream: false, responseStream: false, ...bytes } };
const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'beam-bench-'));
const env = { PATH: process.env.PATH, HOME: dir, XDG_RUNTIME_DIR: dir };

async function start(args, event) {
  const program = spawn(beam, [...args, '--json'], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  for await (const line of readline.createInterface({ input: program.stdout })) {
    const e = JSON.parse(line);
    if (e.event === event) return [program, e];
  }
  throw new Error(`beam ${args[0]} ended`);
}

/** `n` calls, `at` at once: calls a second, and the median of one's milliseconds. */
async function measure(client, n, at) {
  const took = [];
  const begun = performance.now();
  let left = n;
  const one = () => new Promise((done, failed) => client.echo(Buffer.from('hello'), (error) => (error ? failed(error) : done())));
  await Promise.all(Array.from({ length: at }, async () => {
    while (left-- > 0) {
      const from = performance.now();
      await one();
      took.push(performance.now() - from);
    }
  }));
  return { rate: (n * 1000) / (performance.now() - begun), ms: took.sort((a, b) => a - b)[took.length >> 1] };
}

const median = (list) => list.sort((a, b) => a - b)[list.length >> 1];
const server = new grpc.Server();
server.addService(definition, { echo: (call, done) => done(null, call.request) });
const port = await new Promise((done, failed) => server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, p) => (error ? failed(error) : done(p))));
const [relay, info] = await start(['relay', '--domain', 'tunnel.test', '--listen', '127.0.0.1:0', '--data', path.join(dir, 'relay')], 'relay');
const address = `127.0.0.1:${info.https.split(':').pop()}`;
const [agent, { name }] = await start([String(port), '--relay', address, '--relay-ca', info.ca, '--data', path.join(dir, 'agent'), '--quiet'], 'tunnel');
const Client = grpc.makeGenericClientConstructor(definition);
const direct = new Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
const through = new Client(address, grpc.credentials.createSsl(fs.readFileSync(info.ca)), { 'grpc.ssl_target_name_override': name, 'grpc.default_authority': name });
for (const client of [direct, through]) await measure(client, 500, 8);
for (const [at, n] of [[1, 500], [32, 2000]]) {
  const rows = [];
  for (let i = 0; i < 5; i++) rows.push([await measure(direct, n, at), await measure(through, n, at)]);
  const ratio = median(rows.map(([a, b]) => b.rate / a.rate));
  console.log(`${at} at once: direct ${median(rows.map(([a]) => a.ms)).toFixed(2)} ms, through ${median(rows.map(([, b]) => b.ms)).toFixed(2)} ms; calls a second, through to direct: ${ratio.toFixed(2)}`);
}
for (const client of [direct, through]) client.close();
server.forceShutdown();
const ended = [relay, agent].map((program) => new Promise((done) => program.on('close', done)));
agent.kill('SIGINT');
relay.kill('SIGINT');
await Promise.all(ended);
fs.rmSync(dir, { recursive: true, force: true });
