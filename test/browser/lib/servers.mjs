// Development servers, started as their users do.
import path from 'node:path';
import { Program, cleanEnv, patience } from '../../e2e/lib/run.mjs';
import { freePort } from '../../e2e/lib/setup.mjs';
import { packages } from './browser.mjs';

/** A dev server of an npm package on a port of its own choice; { port } once it says where it listens. */
export async function devServer(t, home, app, script, args, { env = {} } = {}) {
  const server = new Program(t, process.execPath, [path.join(packages, 'node_modules', script), ...args], { cwd: app, group: true, env: cleanEnv(home, { NO_COLOR: '1', ...env }) });
  const [, port] = await server.wait(() => /https?:\/\/(?:localhost|127\.0\.0\.1|\[::1\]):(\d+)/.exec(server.stdout + server.stderr), 'its address', patience * 3);
  server.port = Number(port);
  return server;
}

export const python = process.env.BEAM_PYTHON ?? 'python3';

/** Django's runserver, which takes no port 0: one that was free a moment ago, another one if somebody was faster. */
export async function djangoServer(t, dir, env) {
  for (;;) {
    const port = await freePort();
    const server = new Program(t, python, ['manage.py', 'runserver', String(port)], { cwd: dir, group: true, env: { ...env, PYTHONUNBUFFERED: '1' } });
    const up = await server.wait(() => /(Starting development server)|(already in use)/.exec(server.stdout + server.stderr), 'its address', patience * 3);
    if (up[2]) continue;
    server.port = port;
    return server;
  }
}
