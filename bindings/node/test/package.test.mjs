// The packages as npm makes and installs them: tarballs, a registry, no compiler; and which libraries the binary calls.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { Elf } from '../tools/elf.mjs';
import { Program, build, childEnv, cleanUp, get, here, modules, node, root, run, sanitized, serve, tempDir } from './lib.mjs';

const binary = fs.readdirSync(modules).find((name) => name.startsWith('beam-tunnel-'));
const addon = path.join(modules, binary, 'beam.node');

// The packages' files are the same with a sanitizer, and npm does not run under one.
const files = { skip: sanitized && 'npm does not run under a sanitizer' };

// ---- which library is called --------------------------------------------------------------------------------------------------------------------

/** What the loader bound in a process that serves one request: [{ from, to, symbol }]. */
async function bindings(t, file, env = {}) {
  const dir = tempDir(t);
  const log = path.join(dir, 'bindings');
  const p = node(t, dir, ['-e', `require(${JSON.stringify(file)})`], { env: { LD_DEBUG: 'bindings', LD_DEBUG_OUTPUT: log, ...env } });
  assert.equal((await p.exit()).code, 0, p.stderr);
  const text = fs.readFileSync(path.join(dir, fs.readdirSync(dir).find((name) => name.startsWith('bindings'))), 'latin1');
  return [...text.matchAll(/binding file (\S+) \[\d+\] to (\S+) \[\d+\]: \S+ symbol `([^']+)'/g)].map(([, from, to, symbol]) => ({ from, to, symbol }));
}

test('the binary calls its own libraries, not those in Node\'s executable', { skip: process.platform !== 'linux' || sanitized ? 'glibc\'s loader, without a sanitizer' : false }, async (t) => {
  const folder = path.dirname(addon);
  const system = execFileSync('ldd', [path.join(build, 'node/beam.node')], { encoding: 'utf8' });
  const nghttp2 = /libnghttp2\.so\.14 => (\S+)/.exec(system)[1];

  const libc = new Set(['libc', 'libm'].flatMap((name) => [...new Elf(new RegExp(`${name}\\.so\\.6 => (\\S+)`).exec(system)[1]).symbols()].filter((s) => s.defined).map((s) => s.name)));
  for (const name of ['__gmon_start__', '_ITM_registerTMCloneTable', '_ITM_deregisterTMCloneTable']) libc.add(name);

  const check = (all) => {
    const ours = all.filter((b) => b.from.startsWith(folder));
    assert.ok(ours.length > 1000, `${ours.length} bindings`);
    const elsewhere = ours.filter((b) => !b.to.startsWith(folder) && !/\/(lib(c|m)\.so\.6|ld-linux\S*)$/.test(b.to));
    // From the executable only Node-API, and what it has of the C library (malloc, stderr: every program that uses them has them).
    assert.deepEqual(elsewhere.filter((b) => !/^(napi|node_api)_/.test(b.symbol) && !libc.has(b.symbol)), []);
    const called = new Set(ours.filter((b) => /hhttp2_session_|Fhttp2_session_|nghttp2_session_/.test(b.symbol)).map((b) => path.basename(b.to)));
    assert.deepEqual([...called], ['bm-nghttp2.so.14']);
  };
  check(await bindings(t, addon));

  // Another addon, or a preload, brought the system's library of that name already.
  check(await bindings(t, addon, { LD_PRELOAD: nghttp2 }));

  // The trap is real: the same binary before packaging calls Node's. If this ends one day, so may the renaming.
  const trapped = (await bindings(t, path.join(build, 'node/beam.node'))).filter((b) => b.from.includes('beam.node') && b.symbol === 'nghttp2_session_mem_recv');
  assert.deepEqual(trapped.map((b) => b.to), [process.execPath]);
});

// ---- tarballs, registry --------------------------------------------------------------------------------------------------------------------------

let packed;
/** The two tarballs, once for all tests: [{ name, version, file, manifest }]. */
function pack() {
  if (!packed) {
    // Of this process alone: the suite may run twice at once.
    const into = fs.mkdtempSync(path.join(os.tmpdir(), 'beam-tarballs-'));
    process.once('exit', () => fs.rmSync(into, { recursive: true, force: true }));
    packed = ['beam-tunnel', binary].map((name) => {
      const out = execFileSync('npm', ['pack', '--json', '--loglevel=error', '--pack-destination', into], { cwd: path.join(modules, name), encoding: 'utf8' });
      const [{ filename, size, unpackedSize }] = Object.values(JSON.parse(out));
      return { name, file: path.join(into, filename), size, unpackedSize, manifest: JSON.parse(fs.readFileSync(path.join(modules, name, 'package.json'), 'utf8')) };
    });
  }
  return packed;
}

/** A folder of programs in which there is no compiler, no make and no python. */
function barePath(dir) {
  const bin = path.join(dir, 'bare-bin');
  fs.mkdirSync(bin);
  const npm = fs.realpathSync(execFileSync('which', ['npm'], { encoding: 'utf8' }).trim());
  for (const [name, to] of [['node', process.execPath], ['npm', npm], ['npx', path.join(path.dirname(npm), 'npx-cli.js')], ...['sh', 'env'].map((n) => [n, `/bin/${n}`])]) fs.symlinkSync(to, path.join(bin, name));
  return bin;
}

function npmEnv(dir, extra = {}) {
  return childEnv(dir, { PATH: barePath(dir), npm_config_cache: path.join(dir, 'cache'), npm_config_update_notifier: 'false', npm_config_audit: 'false', npm_config_fund: 'false', ...extra });
}

/** `npx ARGS` until the page of port is served through the tunnel, then Ctrl-C as a terminal gives it: to all of them. */
async function servesAPage(t, cwd, env, args) {
  const origin = await serve(t, (request, response) => response.end('<title>a real page</title>'));
  const p = new Program(t, 'npx', [...args, String(origin.port)], { cwd, env });
  await p.wait(() => p.stdout.includes('To share:'), 'the banner', 60_000);
  const plainUrl = /plain http: (\S+)/.exec(p.stdout)[1];
  assert.equal((await get({ plainUrl })).text, '<title>a real page</title>');
  const ca = /the CA in (.+)$/m.exec(p.stdout)[1];
  const url = new URL(/^Dashboard: (\S+)\/_beam$/m.exec(p.stdout)[1]);
  const curl = await run(t, 'curl', ['-sS', '--noproxy', '*', '--cacert', ca, '--resolve', `${url.hostname}:${url.port}:127.0.0.1`, url.href], { env: childEnv(cwd) });
  assert.equal(curl.stdout, '<title>a real page</title>', curl.stderr);
  const stop = await run(t, 'npx', ['--no', 'beam-tunnel', 'stop'], { cwd, env, ms: 60_000 });
  assert.equal(stop.code, 0, stop.stderr);
  await p.exit();
}

test('npm pack, npm install of the tarballs, no compiler: npx beam and npx beam-tunnel serve a page', files, async (t) => {
  const dir = tempDir(t);
  const env = npmEnv(dir);
  const project = path.join(dir, 'project');
  fs.mkdirSync(project);
  fs.writeFileSync(path.join(project, 'package.json'), '{"private":true}');
  for (const p of pack()) t.diagnostic(`${path.basename(p.file)}: ${(p.size / 1e6).toFixed(1)} MB, ${(p.unpackedSize / 1e6).toFixed(1)} MB unpacked`);
  const install = await run(t, 'npm', ['install', '--offline', ...pack().map((p) => p.file)], { cwd: project, env, ms: 120_000 });
  assert.equal(install.code, 0, install.stderr);
  await servesAPage(t, project, env, ['--no', 'beam']);
  await servesAPage(t, project, env, ['--no', 'beam-tunnel']);
});

/** As much of an npm registry as an install needs. */
async function registry(t) {
  const asked = [];
  const tarballs = new Map();
  const server = http.createServer((request, response) => {
    const name = decodeURIComponent(request.url.slice(1));
    asked.push(name);
    if (tarballs.has(name)) return void fs.createReadStream(tarballs.get(name)).pipe(response);
    const found = pack().find((p) => p.name === name);
    if (!found) return void response.writeHead(404, { 'content-type': 'application/json' }).end('{"error":"not found"}');
    const { manifest, file } = found;
    const integrity = `sha512-${crypto.createHash('sha512').update(fs.readFileSync(file)).digest('base64')}`;
    const dist = { tarball: `http://127.0.0.1:${server.address().port}/${path.basename(file)}`, integrity };
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ name, 'dist-tags': { latest: manifest.version }, versions: { [manifest.version]: { ...manifest, dist } } }));
  });
  for (const { file } of pack()) tarballs.set(path.basename(file), file);
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  cleanUp(t, () => {
    server.close();
    server.closeAllConnections();
  });
  return { url: `http://127.0.0.1:${server.address().port}/`, asked };
}

test('from a cold npm cache and a registry: npx beam-tunnel PORT to a served page', files, async (t) => {
  const dir = tempDir(t);
  const { url, asked } = await registry(t);
  const env = npmEnv(dir, { npm_config_registry: url, npm_config_yes: 'true' });
  const project = path.join(dir, 'empty');
  fs.mkdirSync(project);
  const begun = performance.now();
  const origin = await serve(t, (request, response) => response.end('cold'));
  const p = new Program(t, 'npx', ['--yes', 'beam-tunnel', String(origin.port)], { cwd: project, env });
  await p.wait(() => p.stdout.includes('To share:'), 'the banner', 60_000);
  assert.equal((await get({ plainUrl: /plain http: (\S+)/.exec(p.stdout)[1] })).text, 'cold');
  const s = (performance.now() - begun) / 1000;
  t.diagnostic(`${s.toFixed(1)} s (bar: 30 s)`);
  assert.ok(s < 30, `${s} s`);
  // Nothing but ours was asked for: no dependency comes along.
  assert.deepEqual([...new Set(asked)].filter((name) => !name.startsWith('beam-tunnel')), asked.filter((name) => name === 'npm').slice(0, 1));
  const stop = await run(t, 'npx', ['--yes', 'beam-tunnel', 'stop'], { cwd: project, env, ms: 60_000 });
  assert.equal(stop.code, 0, stop.stderr);
  await p.exit();
});

// ---- types -----------------------------------------------------------------------------------------------------------------------------------------

test('the types: what is right compiles, what is wrong does not', files, async (t) => {
  const dir = tempDir(t);
  const tools = path.join(root, 'test/e2e/node_modules');
  fs.mkdirSync(path.join(dir, 'node_modules/@types'), { recursive: true });
  fs.symlinkSync(path.join(modules, 'beam-tunnel'), path.join(dir, 'node_modules/beam-tunnel'));
  fs.symlinkSync(path.join(tools, '@types/node'), path.join(dir, 'node_modules/@types/node'));
  fs.symlinkSync(path.join(tools, 'undici-types'), path.join(dir, 'node_modules/undici-types'));
  for (const name of ['right.mts', 'right.cts', 'wrong.mts']) fs.copyFileSync(path.join(here, 'types', name), path.join(dir, name));
  const tsc = (...files) => run(t, process.execPath, [path.join(tools, 'typescript/bin/tsc'), '--noEmit', '--strict', '--exactOptionalPropertyTypes', '--target', 'es2022', '--lib', 'es2023,esnext.disposable', '--module', 'nodenext', ...files], { cwd: dir, env: childEnv(dir), ms: 60_000 });
  // In the wrong one each line with an error expected says so; an expected error that does not come is one.
  const { code, stdout } = await tsc('right.mts', 'right.cts', 'wrong.mts');
  assert.equal(code, 0, stdout);
});
