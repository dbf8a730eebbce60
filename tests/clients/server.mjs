// The system under test: `sandbox-agent server` with directories of its own, on free ports of loopback.
//
//   const s = await startServer({ args: ['--redis', url], env });
//   s.dir, s.home, s.dataDir, s.token, s.http, s.targets.sessions, s.connect(), s.viewer(id)
//   await s.stop();              // TERM; it must end with 0 and leave no process behind
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { connect, Viewer } from './grpc.mjs';

const START_MS = 60_000;
const STOP_MS = 60_000;

// The directory of our programs.
export const bin =
  process.env.SANDBOX_AGENT_BIN ?? join(process.env.TEST_SRCDIR, process.env.TEST_WORKSPACE, 'deploy/bin');

// What a failed test left running is ended with this process.
const running = new Set();
process.setMaxListeners(0);
process.on('exit', () => running.forEach((child) => child.kill('SIGTERM')));

// A child process whose output is kept and can be waited for.
export class Program {
  constructor(argv, { env = {}, cwd, stdio = ['ignore', 'pipe', 'pipe'], ...rest } = {}) {
    this.output = '';
    this.waiting = new Set();
    this.child = spawn(argv[0], argv.slice(1), { env, cwd, stdio, ...rest });
    running.add(this.child);
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.on('data', (data) => {
        this.output = (this.output + data).slice(-(4 << 20));
        for (const check of [...this.waiting]) check();
      });
    }
    this.exited = new Promise((resolve) => {
      this.child.on('error', (error) => {
        this.output += error.message;
        resolve({ code: 127 });
      });
      this.child.on('close', (code, signal) => resolve({ code, signal }));
    }).then((end) => {
      running.delete(this.child);
      this.end = end;
      for (const check of [...this.waiting]) check();
      return end;
    });
  }

  waitFor(words, ms = START_MS) {
    return new Promise((resolve, reject) => {
      const finish = (settle, value) => {
        clearTimeout(timer);
        this.waiting.delete(check);
        settle(value);
      };
      const check = () => {
        if (this.output.includes(words)) finish(resolve, this.output);
        else if (this.end) finish(reject, new Error(`it ended (${JSON.stringify(this.end)}) before "${words}":\n${this.output}`));
      };
      const timer = setTimeout(() => finish(reject, new Error(`no "${words}" within ${ms} ms:\n${this.output}`)), ms);
      this.waiting.add(check);
      check();
    });
  }

  async ends(ms = STOP_MS) {
    return within(this.exited, ms, () => `it did not end within ${ms} ms:\n${this.output}`);
  }
}

export async function within(promise, ms, message) {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(message())), ms)));
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

export async function eventually(look, what, ms = 30_000) {
  const until = Date.now() + ms;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > until) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20)); // between looks at what sends no event
  }
}

// The first of n neighbouring ports that are free, below those that the kernel gives to outgoing connections.
export async function freePorts(n) {
  const free = (port) =>
    new Promise((resolve) => {
      const server = net.createServer();
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
    });
  for (;;) {
    const first = 10_000 + Math.floor(Math.random() * 20_000);
    let i = 0;
    while (i < n && (await free(first + i))) i++;
    if (i === n) return first;
  }
}

// Removed when this process ends.
export function newDir() {
  const dir = mkdtempSync('/tmp/sa-'); // short: the addresses of unix sockets are
  process.on('exit', () => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

export async function startServer({ args = [], env = {}, dir = newDir(), binDir = bin, tls, clientTls, ports, owner } = {}) {
  const home = join(dir, 'home');
  const dataDir = join(dir, 'data');
  mkdirSync(home, { recursive: true });
  const first = ports ?? (await freePorts(6));
  const command = [
    join(binDir, 'sandbox-agent'), 'server', '--port', String(first), '--grpc-port', String(first + 1), '--data-dir', dataDir,
    ...(tls ? ['--tls-cert', tls.cert, '--tls-key', tls.key] : []), ...args,
  ];
  const program = new Program(command, {
    env: { HOME: home, PATH: process.env.PATH, LANG: 'C.UTF-8', ...sanitizers(), ...env }, ...owner,
  });
  await program.waitFor('sandbox-agent is ready');
  const token = args.includes('--no-token') ? undefined : readFileSync(join(dataDir, 'token'), 'utf8').trim();
  const target = (offset) => `127.0.0.1:${first + 1 + offset}`;
  const targets = {
    sessions: target(1), permissions: target(1), agents: target(1), config: target(1), credentials: target(1), presence: target(1), processes: target(2),
    files: target(3), sandboxes: target(4),
  };
  const handle = handleOf({ dir, home, dataDir, token, targets, credentials: { token, tls: clientTls } });
  return {
    ...handle, program, ports: first, http: `http://127.0.0.1:${first}`,
    async stop({ keep = false } = {}) {
      handle.hangUp();
      program.child.kill('SIGTERM');
      const end = await program.ends();
      assert.equal(end.code, 0, `the server ended with ${JSON.stringify(end)}:\n${program.output}`);
      assertSane(program);
      assert.deepEqual(processesNaming(dir), [], 'the server left processes behind');
      if (!keep) rmSync(dir, { recursive: true, force: true });
    },
  };
}

function handleOf(system) {
  const { dataDir, targets, credentials } = system;
  const connections = [];
  return {
    ...system,
    // A client of each service, with the owner's token.
    connect(options = {}) {
      const all = {};
      for (const name of Object.keys(targets)) {
        const connection = connect(targets[name], { ...credentials, ...options });
        connections.push(connection);
        all[name] = connection[name];
      }
      return all;
    },
    viewer(sessionId, request) {
      const viewer = new Viewer(targets.sessions, credentials, sessionId, request);
      connections.push(viewer);
      return viewer;
    },
    hangUp: () => connections.splice(0).forEach((connection) => connection.close()),
    // Pid of a service's process.
    pidOf: (service) => Number(readFileSync(join(dataDir, service, 'lock'), 'utf8').trim().split(/\s/)[0]),
  };
}

// A service's report does not change the exit code of who started it.
function assertSane({ output }) {
  assert.doesNotMatch(output, /(Address|Leak|Thread)Sanitizer|runtime error:/);
}

function sanitizers() {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => /^[A-Z]+SAN_OPTIONS$/.test(name)));
}

// Processes whose arguments name a directory.
export function processesNaming(dir) {
  const found = [];
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
      if (words.includes(dir) && Number(pid) !== process.pid) found.push(`${pid}: ${words}`);
    } catch {
      // it has ended meanwhile
    }
  }
  return found;
}

// An authority, and a certificate each for a server on loopback and a client, as files.
export function makeCertificates() {
  const dir = newDir();
  const openssl = (...args) => execFileSync('openssl', args, { cwd: dir, stdio: ['ignore', 'ignore', 'pipe'] });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  openssl('req', '-x509', ...key, '-days', '2', '-subj', '/CN=ca', '-keyout', 'ca.key', '-out', 'ca.crt');
  for (const name of ['server', 'client']) {
    openssl('req', ...key, '-subj', `/CN=${name}`, '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1', '-keyout', `${name}.key`, '-out', `${name}.csr`);
    openssl('x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2', '-copy_extensions', 'copy', '-out', `${name}.crt`);
  }
  return { path: (name) => join(dir, name), read: (name) => readFileSync(join(dir, name)) };
}

// Services started one by one, as a pod does it: each a process of its own, with the secret and the token in files.
// options: {name: [more arguments]}. Answers like startServer.
export async function startServices(options, { dir = newDir(), binDir = bin, env = {} } = {}) {
  const runDir = join(dir, 'run');
  const home = join(dir, 'home');
  const dataDir = join(dir, 'data');
  for (const each of [home, dataDir, runDir]) mkdirSync(each, { recursive: true, mode: 0o700 });
  const secretFile = join(dir, 'secret');
  const tokenFile = join(dir, 'token');
  const token = randomBytes(16).toString('hex');
  writeFileSync(secretFile, randomBytes(16).toString('hex'), { mode: 0o600 });
  writeFileSync(tokenFile, token, { mode: 0o600 });
  const first = await freePorts(6);
  const offsets = { session: 1, process: 2, fs: 3, provider: 4 };
  const programs = {};
  const run = async (key, name, more, { data = dataDir, sockets = runDir, port }) => {
    const program = new Program([
      join(binDir, `${name}-svc`), '--data-dir', data, '--run-dir', sockets, '--secret-file', secretFile, '--token-file', tokenFile,
      ...(name === 'gateway' ? ['--port', String(port)] : ['--listen', `127.0.0.1:${port}`]), ...more,
    ], { env: { HOME: home, PATH: process.env.PATH, ...sanitizers(), ...env } });
    programs[key] = program;
    const asked = () => new Program([join(binDir, 'sandbox-agent'), 'health', '--run-dir', sockets, name], { env: { HOME: home } }).ends();
    await eventually(async () => {
      if (program.end) throw new Error(`${name}-svc ended with ${JSON.stringify(program.end)}:\n${program.output}`);
      return (await asked()).code === 0;
    }, `${name}-svc serves:\n${program.output}`, START_MS);
    return program;
  };
  const start = (name, more = options[name]) => run(name, name, more, { port: first + (offsets[name] ?? 0) });
  for (const name of Object.keys(options)) await start(name);
  const target = (name) => `127.0.0.1:${first + offsets[name]}`;
  const targets = {
    sessions: target('session'), permissions: target('session'), agents: target('session'), config: target('session'),
    credentials: target('session'), presence: target('session'),
    processes: target('process'), files: target('fs'), sandboxes: target('provider'),
  };
  const handle = handleOf({ dir, home, dataDir, token, targets, credentials: { token } });
  return {
    ...handle, programs, start, runDir, secretFile, tokenFile, ports: first, http: `http://127.0.0.1:${first}`,
    // Another gateway process before the same session-svc, as on another machine: with directories of its own, it
    // finds the session service by links. Answers its address.
    async startSecondGateway(more = []) {
      const sockets = join(dir, 'run2');
      mkdirSync(sockets, { mode: 0o700 });
      for (const name of ['session.sock', 'session.bus']) symlinkSync(join(runDir, name), join(sockets, name));
      await run('gateway2', 'gateway', more, { data: join(dir, 'data2'), sockets, port: first + 5 });
      return `http://127.0.0.1:${first + 5}`;
    },
    async stop({ keep = false } = {}) {
      handle.hangUp();
      for (const [name, program] of Object.entries(programs).sort(([a]) => (a === 'process' ? 1 : -1))) {
        program.child.kill('SIGTERM');
        const end = await program.ends();
        assert.equal(end.code, 0, `${name}-svc ended with ${JSON.stringify(end)}:\n${program.output}`);
        assertSane(program);
      }
      assert.deepEqual(processesNaming(dir), [], 'the services left processes behind');
      if (!keep) rmSync(dir, { recursive: true, force: true });
    },
  };
}

// redis-server on a free port, without a disk.
export async function startRedis({ port, dir = newDir() } = {}) {
  const chosen = port ?? (await freePorts(1));
  const program = new Program(
    ['redis-server', '--port', String(chosen), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', dir],
    { env: { PATH: process.env.PATH } },
  );
  await program.waitFor('Ready to accept connections');
  return {
    port: chosen, url: `redis://127.0.0.1:${chosen}`,
    async stop() {
      program.child.kill('SIGKILL');
      await program.ends();
    },
  };
}
