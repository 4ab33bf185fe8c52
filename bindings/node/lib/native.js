'use strict';
// Finds and loads the addon: the package of this platform that npm chose, or one that was built here.
const fs = require('node:fs');
const path = require('node:path');
const { BeamError } = require('./errors.js');

const platform = `${process.platform}-${process.arch}`;
// npm installs only the one whose C library fits; a copied node_modules folder may hold both.
const names = process.platform === 'linux' ? [`${platform}-glibc`, `${platform}-musl`] : [platform];
const built = path.join(__dirname, '../build/beam.node');

function load() {
  let cause;
  if (fs.existsSync(built)) return require(built);
  for (const name of names) {
    let file;
    try {
      file = require.resolve(`beam-tunnel-${name}`);
    } catch {
      continue;
    }
    try {
      return require(file);
    } catch (error) {
      cause = explain(error, file);
    }
  }
  if (cause) throw cause;
  throw new BeamError(
    'BEAM-1023',
    `beam-tunnel has no binary for ${platform} here`,
    `if npm left optional packages out (--omit=optional, or a node_modules folder from another machine), install again: npm install beam-tunnel; ` +
      `if there is none for ${platform}, build it from the sources that came along: node ${path.join(__dirname, '../build.js')}`,
  );
}

/** A binary that is there and does not load: nearly always a C library older than the one it was built with. */
function explain(error, file) {
  let needs;
  try {
    needs = JSON.parse(fs.readFileSync(path.join(path.dirname(file), 'package.json'), 'utf8')).beam?.glibc;
  } catch {
    // then the loader's own words must do
  }
  const has = process.report?.getReport().header.glibcVersionRuntime;
  const old = needs && has && has.localeCompare(needs, undefined, { numeric: true }) < 0;
  return new BeamError(
    'BEAM-1023',
    old ? `beam-tunnel's binary needs glibc ${needs}, and this system has ${has}` : `beam-tunnel's binary does not load: ${error.message}`,
    `build it on this system from the sources that came along: node ${path.join(__dirname, '../build.js')}`,
    error,
  );
}

const native = load();
/** What hears of events: number -> object with hear(kind, a, b). */
const things = new Map();
let last = 0;

native.setup(
  (code, what, hint) => new BeamError(code, what, hint),
  (id, kind, a, b) => things.get(id)?.hear(kind, a, b),
);

/** The numbers under which the addon knows a tunnel, a relay or a record. */
function register(thing) {
  things.set(++last, thing);
  return last;
}

module.exports = { native, things, register };
