import beam = require('beam-tunnel');

async function main(): Promise<void> {
  const tunnel: beam.Tunnel = await beam.open({ port: 3000 });
  const relay: beam.Relay = await beam.relay();
  console.log(tunnel.publicPort ?? 0, relay.httpsPort);
  await tunnel.close();
}
void main();
