import beam, { open } from 'beam-tunnel';

// @ts-expect-error: a misspelt option
await open({ prot: 3000 });
// @ts-expect-error: no options at all
await open();
// @ts-expect-error: a port is a number
await open({ port: '3000' });
// @ts-expect-error: no such kind
await open({ port: 1, kind: 'ftp' });
const tunnel = await open({ port: 1 });
// @ts-expect-error: no such event
tunnel.on('requests', () => {});
// @ts-expect-error: it is read-only
tunnel.url = 'x';
// @ts-expect-error: the server gives the port
await beam.listen(null!, { port: 1 });
