#!/usr/bin/env node
'use strict';
// For platforms that have no binary package: builds one from the sources in native/, for this system, and puts it where lib/native.js looks first.
//   node node_modules/beam-tunnel/build.js
// It needs a C compiler, make, python3 and the development files of the libraries; on Debian and its relatives native/.ci/setup installs them (as root
// or through sudo) and says so.
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const native = path.join(__dirname, 'native');
const into = path.join(__dirname, 'build');

function fail(what, next) {
  process.stderr.write(`beam-tunnel: ${what}\n  next: ${next}\n`);
  process.exit(1);
}

function run(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: native, stdio: 'inherit' });
  if (error) fail(`${command} cannot be run (${error.code})`, 'install a C compiler, make and bash, then run this again');
  if (status !== 0) fail(`${command} ${args.join(' ')} failed`, 'see above; install what it names, then run this again');
}

if (!fs.existsSync(native)) fail('there are no sources here', 'run make node in Beam\'s repository');
run('bash', ['.ci/setup', 'build']);
run('make', ['-s', `-j${os.cpus().length}`, 'node', `NODE=${process.execPath}`]);
const modules = path.join(native, 'build/node/node_modules');
const made = fs.readdirSync(modules).find((name) => name.startsWith('beam-tunnel-'));
fs.rmSync(into, { recursive: true, force: true });
fs.cpSync(path.join(modules, made), into, { recursive: true });
fs.rmSync(path.join(native, 'build'), { recursive: true, force: true });
process.stdout.write(`${made}: built, in ${into}\n`);
