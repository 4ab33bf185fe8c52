import beam, { BeamError, open, type Tunnel, type TunnelRequest } from 'beam-tunnel';
import * as all from 'beam-tunnel';
import http from 'node:http';

const control = new AbortController();
await using tunnel: Tunnel = await open({ port: 3000, name: 'shop', transport: 'quic', signal: control.signal });
const url: string = tunnel.url;
tunnel.on('request', (request) => console.log(request.method?.length, request.status + request.ms));
tunnel.once('state', (state, info, error) => console.log(state === 'active', info.bytesIn, error?.hint));
tunnel.off('closed', (error: BeamError | null) => console.log(error?.code));
for await (const request of tunnel) {
  const one: TunnelRequest = request;
  console.log(one.path);
}
const site = await open({ folder: './dist', fallback: 'index.html', policy: { auth: ['a:b', 'c:d'], cache: 1 << 20 } });
await site.purge('/a');
const hits: number = (await site.cacheInfo()).hits;
const [link] = await tunnel.links();
const draining: boolean | undefined = link?.draining;

const listening = await beam.listen(http.createServer(), { kind: 'http' });
await listening.unref().close();

await using relay = await all.relay({ domain: 'tunnel.test', listen: '127.0.0.1:0', plain: 'serve' });
relay.on('event', ({ kind, reason }) => console.log(kind, reason));
const requests: number = (await relay.info()).requests;
await relay.drain(1000);

const label: string = beam.domains.generate();
beam.domains.check(label);
await using record = await beam.domains.open({ base: 'tunnel.test', dataDir: '/tmp/x' });
const name: string = await record.allocate({ principal: 'x', port: 3000 });
const rows: number[] = (await record.list()).map((row) => row.port);
try {
  await open({ port: 1 });
} catch (error) {
  if (error instanceof BeamError) console.log(error.code, error.hint, error.cause);
}
console.log(url, hits, draining, requests, name, rows, beam.version, beam.features.includes('quic'));
