#!/usr/bin/env node
'use strict';
// The command of the C program, in this process: its own options, output and exit statuses. Only the signals come from Node.
const os = require('node:os');

function main() {
  const { native } = require('../lib/native.js');
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'])
    process.on(name, () => {
      if (native.commandSignal(os.constants.signals[name])) native.exitNow(130);
    });
  const environment = Object.entries(process.env).map(([name, value]) => `${name}=${value}`);
  native.command(['beam', ...process.argv.slice(2)], environment).then((status) => process.exit(status), fail);
}

function fail(error) {
  process.stderr.write(`beam: ${error.what ?? error.message} (${error.code})\n  next: ${error.hint}\n`);
  process.exitCode = 1;
}

try {
  main();
} catch (error) {
  fail(error);
}
