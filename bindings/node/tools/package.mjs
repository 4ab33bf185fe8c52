// package.mjs BUILD: from BUILD/beam.node to BUILD/node_modules: `beam-tunnel`, and the package that carries the binary of this platform.
//
// Node's own executable shows nghttp2, OpenSSL, zlib, Brotli and, by version, ngtcp2, nghttp3 and SQLite to every library in the process, and the
// executable comes first: a libbeam linked to libnghttp2 would call Node's, of another version and with other switches. And a libnghttp2.so.14 that
// another addon brought would be taken for ours, because the loader goes by that name. So the libraries beside the addon get names of our own:
//  - files and sonames: libnghttp2.so.14 becomes bm-nghttp2.so.14;
//  - symbols that Node shows, or may some day: nghttp2_x becomes oFhttp2_x. As long as before, and with the same hash (33 * 'o' + 'F' is 33 * 'n' + 'g'),
//    so that the loader's hash tables stay right and nothing but the string table changes.
// No flag of dlopen is needed (RTLD_DEEPBIND breaks allocators and sanitizers that are preloaded), and whoever looks sees which library is called.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { Elf } from './elf.mjs';

const here = path.resolve(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), '..');
const root = path.resolve(here, '../..');
const build = path.resolve(process.argv[2] ?? path.join(root, 'build/node'));
const addon = path.join(build, 'beam.node');
const modules = path.join(build, 'node_modules');
const manifest = JSON.parse(fs.readFileSync(path.join(here, 'package.json'), 'utf8'));

// Part of every system with this C library, and of a sanitizer's build: not carried.
const OF_THE_SYSTEM = /^(ld-linux|lib(c|m|dl|pthread|rt|resolv|gcc_s|asan|ubsan|tsan|stdc\+\+)\.so)/;
// What some Node shows, whatever the one that runs here does.
const SHOWN_BY_NODE = /^(nghttp2_|nghttp3_|ngtcp2_|sqlite3_|Brotli|ZSTD_|gz|inflate|deflate|crc32|adler32)/;

// The linker's own.
const OF_EVERY_FILE = /^(__|_ITM_|_init$|_fini$|_edata$|_end$|_start$)/;

const libraryName = (name) => (OF_THE_SYSTEM.test(name) ? undefined : name.replace(/^lib/, 'bm-'));

/** The first two characters change; and those of an end that is a name itself, because the two may share their bytes. */
function symbolName(name, change) {
  const bytes = Buffer.from(name, 'latin1');
  for (let at = 0; at < name.length - 1; at++) {
    if (!change.has(name.slice(at))) continue;
    bytes[at] += 1;
    bytes[at + 1] -= 33;
  }
  if (bytes.some((b) => b === 0 || b > 127)) throw new Error(`${name}: no other name with the same hash`);
  return bytes.toString('latin1');
}

function libc() {
  if (process.platform !== 'linux') return '';
  return execFileSync('ldd', ['--version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).includes('musl') ? '-musl' : '-glibc';
}

/** Everything the addon needs that is not of the system: name -> file. */
function libraries(file) {
  const found = new Map();
  for (const line of execFileSync('ldd', [file], { encoding: 'utf8' }).split('\n')) {
    const [, name, where] = /^\s*(\S+) => (\S+)/.exec(line) ?? [];
    if (name === undefined || OF_THE_SYSTEM.test(name)) continue;
    if (!fs.existsSync(where)) throw new Error(`${name}, which the addon needs, is not on this machine`);
    found.set(name, where);
  }
  return found;
}

/** Names that a Node shows too, of those that the libraries define. */
function clashes(ours) {
  const shown = new Set([...new Elf(process.execPath).symbols()].filter((s) => s.defined).map((s) => s.name));
  return new Set([...ours].filter((name) => name.length > 1 && !OF_EVERY_FILE.test(name) && (shown.has(name) || SHOWN_BY_NODE.test(name))));
}

/** "2.36": the oldest C library in which all of it runs. */
function oldestLibc(elves) {
  let oldest = [0, 0];
  for (const elf of elves)
    for (const { name } of elf.versions()) {
      const [, major, minor] = /^GLIBC_(\d+)\.(\d+)/.exec(name) ?? [];
      if (major > oldest[0] || (Number(major) === oldest[0] && minor > oldest[1])) oldest = [Number(major), Number(minor)];
    }
  return oldest.join('.');
}

function carry(into) {
  const carried = libraries(addon);
  const theirs = [...carried.values()].map((file) => new Elf(fs.realpathSync(file)));
  const ours = new Set(theirs.flatMap((elf) => [...elf.symbols()].filter((s) => s.defined).map((s) => s.name)));
  const change = clashes(ours);
  const elves = new Map([...carried.keys()].map((name, i) => [libraryName(name), theirs[i]]));
  elves.set('beam.node', new Elf(addon));
  const rename = (name) => (ours.has(name) ? symbolName(name, change) : carried.has(name) ? libraryName(name) : undefined);
  for (const [name, elf] of elves) {
    elf.rename(rename);
    elf.write(path.join(into, name));
  }
  execFileSync('strip', ['--strip-debug', path.join(into, 'beam.node')]);
  return { carried, glibc: oldestLibc(elves.values()) };
}

// The libraries' own licences want to be passed on with them.
function licences(carried, into) {
  fs.mkdirSync(into);
  fs.copyFileSync(path.join(root, 'LICENSE'), path.join(into, 'beam'));
  for (const [name, file] of carried) {
    let owner;
    try {
      owner = execFileSync('dpkg-query', ['-S', fs.realpathSync(file)], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).split(':')[0];
    } catch {
      continue; // built by hand: its text is where it was built
    }
    const text = `/usr/share/doc/${owner}/copyright`;
    if (fs.existsSync(text)) fs.copyFileSync(text, path.join(into, name.replace(/\.so.*/, '')));
  }
}

function platformPackage() {
  const platform = `${process.platform}-${process.arch}${libc()}`;
  const name = `${manifest.name}-${platform}`;
  const into = path.join(modules, name);
  fs.mkdirSync(into, { recursive: true });
  const { carried, glibc } = carry(into);
  licences(carried, path.join(into, 'licenses'));
  const own = {
    name,
    version: manifest.version,
    description: `The binary of ${manifest.name} for ${platform}`,
    license: 'SEE LICENSE IN licenses',
    main: 'beam.node',
    os: [process.platform],
    cpu: [process.arch],
    ...(platform.includes('linux') ? { libc: [libc().slice(1)] } : {}),
    engines: manifest.engines,
    ...(glibc !== '0.0' ? { beam: { glibc } } : {}),
  };
  fs.writeFileSync(path.join(into, 'package.json'), `${JSON.stringify(own, null, 2)}\n`);
  fs.writeFileSync(
    path.join(into, 'README.md'),
    `The binary of ${manifest.name} for ${platform}, and the shared libraries it needs` +
      ` (${[...carried.keys()].join(', ')}), with the names inside them changed so that they meet no others in the process; licences in \`licenses/\`.\n` +
      (glibc !== '0.0' ? `Needs glibc ${glibc}.\n` : ''),
  );
}

/** What build.js builds from. A package made from these has none of its own: they hold no tests. */
function sources(into) {
  if (!fs.existsSync(path.join(root, 'test'))) return;
  const parts = ['Makefile', 'LICENSE', 'include', 'lib', 'cli', '.ci/setup', 'bindings/node/src', 'bindings/node/tools', 'bindings/node/package.json', 'bindings/node/README.md'];
  for (const part of parts) fs.cpSync(path.join(root, part), path.join(into, part), { recursive: true });
}

function ownPackage() {
  const into = path.join(modules, manifest.name);
  for (const part of ['package.json', ...manifest.files]) {
    const from = path.join(here, part);
    if (fs.existsSync(from)) fs.cpSync(from, path.join(into, part), { recursive: true });
  }
  fs.copyFileSync(path.join(root, 'LICENSE'), path.join(into, 'LICENSE'));
  sources(path.join(into, 'native'));
}

const version = /define BEAM_VERSION "(.*)"/.exec(fs.readFileSync(path.join(root, 'include/beam/beam.h'), 'utf8'))[1];
if (manifest.version !== version) throw new Error(`package.json says ${manifest.version}, include/beam/beam.h ${version}`);
fs.rmSync(modules, { recursive: true, force: true });
platformPackage();
ownPackage();
