// Starts the real programs and waits for what they say. Nothing here sleeps for its own sake: every wait is for a condition.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

export const root = path.resolve(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), '../../..');
export const build = process.env.BEAM_BUILD ? path.resolve(process.env.BEAM_BUILD) : path.join(root, 'build');
export const beam = path.join(build, 'beam');
export const long = process.env.BEAM_TEST_LONG === '1';
// Sanitizers cost time and memory: what is measured in either is only asserted without them.
export const sanitized = !!process.env.BEAM_SAN;
export const patience = sanitized ? 60_000 : 20_000;

// The last thing made is the first to go: programs before their directories, mounts before what they are mounted on.
const stacks = new WeakMap();
export function cleanUp(t, undo) {
  let stack = stacks.get(t);
  if (!stack) {
    stacks.set(t, (stack = []));
    t.after(async () => {
      while (stack.length) await stack.pop()();
    });
  }
  stack.push(undo);
}

export function tempDir(t) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'beam-e2e-'));
  cleanUp(t, () => fs.rmSync(dir, { recursive: true, force: true }));
  return dir;
}

// What the test that runs wants in every environment (transports.mjs).
let ofTheTest = () => ({});
export function withEnv(ask) {
  ofTheTest = ask;
}

/** An environment in which nothing of the user's is seen or touched. */
export function cleanEnv(dir, extra = {}) {
  const env = { PATH: process.env.PATH, HOME: dir, XDG_RUNTIME_DIR: dir, LANG: 'C.UTF-8', ...ofTheTest(), ...extra };
  for (const name of ['ASAN_OPTIONS', 'UBSAN_OPTIONS', 'TSAN_OPTIONS', 'LSAN_OPTIONS'])
    if (process.env[name]) env[name] = process.env[name];
  return env;
}

/** Resolves with the first true value of `probe`, which is asked again and again until the time is up. */
export async function until(probe, what, ms = patience) {
  const end = Date.now() + ms;
  let last;
  for (;;) {
    try {
      const value = await probe();
      if (value) return value;
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(`${what}: not within ${ms} ms${last ? ` (${last.message})` : ''}`);
    await new Promise((go) => setTimeout(go, 5));
  }
}

export class Program {
  constructor(t, file, args, options = {}) {
    this.name = path.basename(file);
    this.stdout = '';
    this.stderr = '';
    this.events = [];
    this.waiters = new Set();
    this.process = spawn(file, args, { cwd: options.cwd, env: options.env, stdio: [options.stdin ?? 'ignore', 'pipe', 'pipe'], detached: !!options.group });
    this.group = options.group; // a program that starts others: they end with it
    this.pid = this.process.pid;
    let rest = '';
    this.process.stdout.setEncoding('utf8').on('data', (text) => {
      this.stdout += text;
      rest += text;
      const lines = rest.split('\n');
      rest = lines.pop();
      for (const line of lines) this.#line(line);
      this.#wake();
    });
    this.process.stderr.setEncoding('utf8').on('data', (text) => {
      this.stderr += text;
      this.#wake();
    });
    this.ended = new Promise((done) => {
      this.process.on('close', (code, signal) => {
        this.code = code;
        this.signal = signal;
        this.#wake();
        done({ code, signal });
      });
      this.process.on('error', (error) => {
        this.stderr += error.message;
        this.code = 127;
        this.#wake();
        done({ code: 127 });
      });
    });
    cleanUp(t, () => this.kill());
  }

  #line(line) {
    if (!line.startsWith('{')) return;
    try {
      this.events.push(JSON.parse(line));
    } catch {
      this.events.push({ event: 'broken', line });
    }
  }

  #wake() {
    for (const check of [...this.waiters]) check();
  }

  /** Waits until `probe` gives a true value; looks again whenever the program says something or ends. */
  wait(probe, what, ms = patience) {
    return new Promise((resolve, reject) => {
      const finish = (settle, value) => {
        clearTimeout(timer);
        this.waiters.delete(check);
        settle(value);
      };
      const check = () => {
        const value = probe();
        if (value) finish(resolve, value);
        else if (this.code !== undefined || this.signal) finish(reject, this.#error(`${what}: the program ended with ${this.code ?? this.signal}`));
      };
      const timer = setTimeout(() => finish(reject, this.#error(`${what}: not within ${ms} ms`)), ms);
      this.waiters.add(check);
      check();
    });
  }

  #error(text) {
    return new Error(`${this.name}: ${text}\n--- stdout\n${this.stdout.slice(-3000)}\n--- stderr\n${this.stderr.slice(-6000)}`);
  }

  event(kind, match = () => true, ms = patience) {
    return this.wait(() => this.events.find((e) => e.event === kind && match(e)), `event "${kind}"`, ms);
  }

  async exit(ms = patience) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(this.#error(`still running after ${ms} ms`)), ms);
    });
    try {
      return await Promise.race([this.ended, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends in order, and says so: a sanitizer's report or a crash at the end is a failure of the test. */
  async stop(signal = 'SIGINT') {
    if (this.code === undefined && !this.signal) this.process.kill(signal);
    const { code, signal: by } = await this.exit();
    if (code !== 0) throw this.#error(`ended with ${code ?? by}`);
  }

  async kill() {
    if (this.code === undefined && !this.signal) {
      try {
        process.kill(this.group ? -this.pid : this.pid, 'SIGKILL');
      } catch {
        // it has just ended
      }
    }
    await this.ended;
  }

  rss() {
    return status(this.pid, 'VmRSS') * 1024;
  }

  peakRss() {
    return status(this.pid, 'VmHWM') * 1024;
  }

  resetPeak() {
    fs.writeFileSync(`/proc/${this.pid}/clear_refs`, '5');
  }

  fds() {
    return fs.readdirSync(`/proc/${this.pid}/fd`).length;
  }
}

function status(pid, key) {
  const text = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(new RegExp(`^${key}:\\s+(\\d+)`, 'm').exec(text)[1]);
}

/** Runs a program to its end; never throws for its exit status. */
export async function run(t, file, args, options = {}) {
  const program = new Program(t, file, args, options);
  if (options.input !== undefined) program.process.stdin.end(options.input);
  const { code, signal } = await program.exit(options.ms ?? patience);
  return { code, signal, stdout: program.stdout, stderr: program.stderr, events: program.events };
}

export const runBeam = (t, args, env) => run(t, beam, args, { env });

export function mib(bytes) {
  return `${(bytes / 1048576).toFixed(1)} MiB`;
}
