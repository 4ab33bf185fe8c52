// Two network namespaces with delaybox's wire between them (test/net/delaybox.c): A is 192.0.2.1, B is 192.0.2.2. All of it ends with the test.
import { spawn } from 'node:child_process';
import path from 'node:path';
import readline from 'node:readline';
import { Program, beam, build, cleanEnv, cleanUp, patience, run, tempDir } from './run.mjs';

export const addressA = '192.0.2.1';
export const addressB = '192.0.2.2';

/** Undefined on a machine that cannot (no root, no TUN): then the test is marked as skipped, with the reason. */
export async function openBox(t, args = []) {
  const child = spawn(path.join(build, 'test/net/delaybox'), args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise((done) => child.on('close', done));
  child.on('error', () => {});
  cleanUp(t, () => {
    child.stdin.end();
    return ended;
  });
  const lines = readline.createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const first = (await lines.next()).value ?? 'skipped: delaybox did not start';
  const ready = /^ready a=(\S+) b=(\S+)$/.exec(first);
  if (!ready) {
    t.skip(first.replace(/^skipped: /, ''));
    return undefined;
  }
  const tell = async (line) => {
    child.stdin.write(`${line}\n`);
    const { value } = await lines.next();
    if (!value || value.startsWith('bad')) throw new Error(`delaybox: ${line}: ${value}`);
    return value;
  };
  const wrapper = (net, address) => ({ file: 'nsenter', args: [`--net=${net}`, '--'], address });
  return {
    a: wrapper(ready[1], addressA),
    b: wrapper(ready[2], addressB),
    /** set({ delay: 50, loss: 1 }) both ways, set({ hole: 1 }, 'ab') one way. */
    set: (keys, way = 'both') => tell(`set ${way} ${Object.entries(keys).map(([k, v]) => `${k}=${v}`).join(' ')}`),
    stats: async () => JSON.parse(await tell('stats')),
  };
}

/** A relay in A and an agent with the example site in B (or another service, a command that says localhost:PORT), the wire and the namespaces'
 * congestion control as told, and what `before` does to them; undefined when this machine cannot, or `before` could not. */
export async function setUpAcross(t, { wire = {}, tcp, relayArgs = [], agentArgs = [], service = [path.join(build, 'site'), '--port', '0'], before } = {}) {
  const box = await openBox(t);
  if (!box) return undefined;
  const dir = tempDir(t);
  const inside = (side, file, args) => new Program(t, side.file, [...side.args, file, ...args], { env: cleanEnv(dir) });
  await box.set(wire);
  if (before && !(await before(box))) return undefined;
  for (const side of tcp ? [box.a, box.b] : []) await run(t, side.file, [...side.args, 'sh', '-c', `echo ${tcp} > /proc/sys/net/ipv4/tcp_congestion_control`]);
  const site = inside(box.b, service[0], service.slice(1));
  const local = /localhost:(\d+)/.exec(await site.wait(() => site.stdout.includes('\n') && site.stdout, 'its address'))[1];
  const relay = inside(box.a, beam, ['relay', '--domain', 'tunnel.test', '--listen', `${addressA}:0`, '--open', '--data', path.join(dir, 'relay'), '--json', ...relayArgs]);
  relay.info = await relay.event('relay');
  const begun = performance.now();
  const agent = inside(box.b, beam, [local, '--relay', relay.info.https, '--relay-ca', relay.info.ca, '--data', path.join(dir, 'agent'), '--json', ...agentArgs]);
  const { name } = await agent.event('tunnel');
  const took = performance.now() - begun;
  const port = relay.info.https.split(':').pop();
  const curl = ['-sS', '--http1.1', '--noproxy', '*', '--cacert', relay.info.ca, '--resolve', `${name}:${port}:${addressA}`, '-w', '%{http_code} %{time_total}'];
  /** A visitor in A, on a connection of its own: { status, seconds }. */
  const visit = async (target = '/', ms = patience) => {
    const { stdout } = await run(t, box.a.file, [...box.a.args, 'curl', '--max-time', String(ms / 1000), '-o', '/dev/null', ...curl, `https://${name}:${port}${target}`], { env: cleanEnv(dir), ms: ms + 5000 });
    const [status, seconds] = stdout.split(' ').map(Number);
    return { status, seconds };
  };
  /** A visitor in A whose response goes to a file; `curl.ended` tells its end. */
  const download = (target, file) => new Program(t, box.a.file, [...box.a.args, 'curl', ...curl, '-o', file, `https://${name}:${port}${target}`], { env: cleanEnv(dir) });
  const inB = async (...args) => {
    const { code, stderr } = await run(t, box.b.file, [...box.b.args, ...args]);
    if (code) throw new Error(`${args.join(' ')}: ${stderr}`);
  };
  /** B's address becomes another one, as with another network; the old one is gone. */
  const moveB = async (to) => {
    await run(t, box.a.file, [...box.a.args, 'ip', 'route', 'replace', to, 'dev', 'beam0']);
    await inB('ip', 'addr', 'del', `${box.b.address}/32`, 'peer', addressA, 'dev', 'beam0').catch(() => inB('ip', 'addr', 'flush', 'dev', 'beam0'));
    await inB('ip', 'addr', 'add', to, 'peer', addressA, 'dev', 'beam0');
    box.b.address = to;
  };
  return { box, dir, relay, agent, name, took, visit, download, inB, moveB };
}
