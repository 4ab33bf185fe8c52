// Chromium as a visitor of a tunnel, and what it complains about. Nothing of the machine's resolver, trust store or proxy takes part.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { cleanEnv, cleanUp, patience, root } from '../../e2e/lib/run.mjs';

/** Where .ci/tests puts the npm packages: beside what is built, because a dev server treats whatever lies under its node_modules as somebody else's. */
export const packages = path.join(root, 'build/browser');
export const wants = createRequire(path.join(packages, 'package.json'));

const chromium = ['/usr/bin/chromium', '/usr/bin/chromium-browser'].find((file) => fs.existsSync(file));
const certutil = fs.existsSync('/usr/bin/certutil');
const [major, minor] = process.versions.node.split('.').map(Number);

/** Why the tests of this folder cannot run here; false: they can. */
export const lacks =
  ((major < 20 || (major === 20 && minor < 19)) && `needs Node.js 20.19 or later (this is ${process.versions.node}): the dev servers do`) ||
  (!chromium && 'chromium is not installed') ||
  (!certutil && 'certutil is not installed (libnss3-tools)') ||
  (!fs.existsSync(path.join(packages, 'node_modules/playwright-core')) && 'the npm packages are not installed: make browser') ||
  false;

export const version = (name) => wants(path.join(packages, 'node_modules', name, 'package.json')).version;

/** A certificate store of its own, in which the relay's CA is a root: certificates are checked as those of any site are. */
function trust(home, ca) {
  const store = path.join(home, '.pki/nssdb');
  fs.mkdirSync(store, { recursive: true });
  execFileSync('certutil', ['-d', `sql:${store}`, '-N', '--empty-password']);
  execFileSync('certutil', ['-d', `sql:${store}`, '-A', '-t', 'C,,', '-n', 'relay', '-i', ca]);
}

/**
 * A browser that finds every name of tunnel.test at the relay.
 * protocol: 'h2' (what ALPN gives), 'h1' or 'h3' (QUIC from the first packet on).
 */
export async function browser(t, dir, relay, { protocol = 'h2', names = [] } = {}) {
  const home = fs.mkdtempSync(path.join(dir, 'chromium-'));
  trust(home, relay.info.ca);
  const args = ['--no-sandbox', '--no-proxy-server', '--host-resolver-rules=MAP *.tunnel.test 127.0.0.1, EXCLUDE localhost, EXCLUDE 127.0.0.1'];
  if (protocol === 'h1') args.push('--disable-http2', '--disable-quic');
  if (protocol === 'h2') args.push('--disable-quic');
  if (protocol === 'h3') args.push('--enable-quic', `--origin-to-force-quic-on=${names.map((name) => `${name}:${relay.port}`).join(',')}`);
  const it = await wants('playwright-core').chromium.launch({ executablePath: chromium, args, env: cleanEnv(home), timeout: patience });
  cleanUp(t, () => it.close());
  return it;
}

/** A page, and everything in it that a developer would see red in the console: `problems` must stay empty. */
export async function openPage(it, url, { wait = 'load' } = {}) {
  const context = await it.newContext();
  const page = await context.newPage();
  page.setDefaultTimeout(patience * 6);
  const problems = [];
  // A browser asks for an icon by itself; that a template has none is not the tunnel's doing.
  const icon = (address) => new URL(address, 'https://x').pathname === '/favicon.ico';
  page.on('console', (message) => message.type() === 'error' && !icon(message.location().url) && problems.push(`console: ${message.text()} ${message.location().url}`));
  page.on('pageerror', (error) => problems.push(`exception: ${error.message}`));
  // Aborted: the page itself gave the request up (a navigation, an AbortController).
  page.on('requestfailed', (request) => request.failure()?.errorText !== 'net::ERR_ABORTED' && problems.push(`failed: ${request.url()} ${request.failure()?.errorText}`));
  page.on('response', (response) => response.status() >= 400 && !icon(response.url()) && problems.push(`${response.status()}: ${response.url()}`));
  page.on('request', (request) => request.url().startsWith('http:') && problems.push(`mixed content: ${request.url()}`));
  const sockets = await watchSockets(context, page);
  if (url) await page.goto(url, { waitUntil: wait });
  return { context, page, problems, sockets, protocol: () => page.evaluate(() => performance.getEntriesByType('navigation')[0].nextHopProtocol) };
}

/** The WebSockets of a page as { url, status }: 101 is HTTP/1.1's answer to an upgrade, 200 is HTTP/2's to an extended CONNECT (RFC 8441). */
async function watchSockets(context, page) {
  const sockets = [];
  const byId = new Map();
  const devtools = await context.newCDPSession(page);
  devtools.on('Network.webSocketCreated', ({ requestId, url }) => {
    byId.set(requestId, { url });
    sockets.push(byId.get(requestId));
  });
  devtools.on('Network.webSocketHandshakeResponseReceived', ({ requestId, response }) => (byId.get(requestId).status = response.status));
  devtools.on('Network.webSocketFrameError', ({ requestId, errorMessage }) => (byId.get(requestId).error = errorMessage));
  await devtools.send('Network.enable');
  return sockets;
}

/** Changes a source file as an editor does: what was there must be in it. */
export function edit(file, from, to) {
  const text = fs.readFileSync(file, 'utf8');
  assert.ok(text.includes(from), `${from} is not in ${file}`);
  fs.writeFileSync(file, text.replaceAll(from, to));
}

/** A project of its own: { "src/main.jsx": text, ... }. It lies beside node_modules, where npm would have put it in the project. */
export function project(t, files) {
  const dir = fs.mkdtempSync(path.join(packages, 'project-'));
  cleanUp(t, () => fs.rmSync(dir, { recursive: true, force: true, maxRetries: 5 }));
  for (const [name, text] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(dir, name)), { recursive: true });
    fs.writeFileSync(path.join(dir, name), text);
  }
  return dir;
}
