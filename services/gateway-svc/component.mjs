// The gateway with a session-svc behind it: one whose logs the test shapes (fake_session.c), or the real services.
// And clients for it: fetch for calls, raw sockets for what fetch would never send.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { EventParser } from './ui/api.js';

const PATIENCE_MS = 30_000;
export const TOKEN = 'sesame';
const runfiles = join(process.env.TEST_SRCDIR, process.env.TEST_WORKSPACE);
const programs = (real) => join(runfiles, real ? 'deploy/bin' : 'services/gateway-svc');

export function within(promise, what, ms = PATIENCE_MS) {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`not within ${ms} ms: ${what()}`)), ms)));
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

class Service {
  constructor(dir, program, args, place = '') {
    this.output = '';
    this.child = spawn(program, ['--data-dir', join(dir, `data${place}`), '--run-dir', join(dir, `run${place}`),
      '--secret-file', join(dir, 'secret'), ...args], { env: { ...process.env, HOME: dir }, stdio: ['ignore', 'pipe', 'pipe'] });
    this.exited = new Promise((resolve) => this.child.on('close', (code, signal) => resolve(signal ?? code)));
    this.heard = new Set();
    for (const stream of [this.child.stdout, this.child.stderr])
      stream.on('data', (data) => {
        this.output += data;
        for (const look of [...this.heard]) look();
      });
  }

  says(pattern) {
    return within(new Promise((resolve, reject) => {
      const look = () => {
        const match = this.output.match(pattern);
        if (match) {
          this.heard.delete(look);
          resolve(match);
        }
      };
      this.heard.add(look);
      this.exited.then((end) => reject(new Error(`it ended with ${end}: ${this.output}`)));
      look();
    }), () => `${pattern} in: ${this.output}`);
  }

  async end(signal = 'SIGTERM') {
    this.child.kill(signal);
    const end = await within(this.exited, () => `the end after ${signal}: ${this.output}`);
    if (signal === 'SIGTERM') assert.equal(end, 0, this.output);
    return end;
  }
}

// A run directory with a session service, and gateways in front of it. real: all services but the provider's, as they
// are; `args` are the options of one of them by its name.
export class Component {
  static async start({ real = false, session = [], gateway = [], args = {} } = {}) {
    const c = new Component();
    c.real = real;
    c.dir = mkdtempSync('/tmp/sa-gw-');
    c.args = args;
    writeFileSync(join(c.dir, 'secret'), 'secret-of-the-services', { mode: 0o600 });
    writeFileSync(join(c.dir, 'token'), `${TOKEN}\n`, { mode: 0o600 });
    c.all = new Set();
    if (real) for (const name of ['process-svc', 'fs-svc']) await c.startService(name);
    await c.startSession(session);
    c.http = await c.startGateway(gateway);
    return c;
  }

  async startService(name, args = []) {
    const service = new Service(this.dir, join(programs(this.real), name), ['--token-file', join(this.dir, 'token'), ...args]);
    this.all.add(service);
    await service.says(/service\.ready/);
    return service;
  }

  async startSession(args = []) {
    this.session = await this.startService(this.real ? 'session-svc' : 'fake-session', args);
  }

  // place: a second gateway has directories of its own, and finds the session service by links.
  async startGateway(args = [], { port = 0, place = '' } = {}) {
    const token = args.includes('--no-token') ? [] : ['--token-file', join(this.dir, 'token')];
    if (place) {
      const run = join(this.dir, `run${place}`);
      if (!existsSync(run)) {
        mkdirSync(run, { mode: 0o700 });
        for (const name of ['session.sock', 'session.bus']) symlinkSync(join(this.dir, 'run', name), join(run, name));
      }
    }
    const service = new Service(this.dir, join(programs(this.real), 'gateway-svc'), ['--port', String(port), ...token, ...args], place);
    this.all.add(service);
    const [, bound] = await service.says(/http\.listening .*port=(\d+)/);
    return { service, port: Number(bound), url: `http://127.0.0.1:${bound}` };
  }

  async stop() {
    for (const service of [...this.all].reverse()) if (service.child.exitCode === null && !service.child.signalCode) await service.end();
    rmSync(this.dir, { recursive: true, force: true });
  }

  call(method, path, { body, headers, token = TOKEN, http = this.http } = {}) {
    return fetch(http.url + path, {
      method,
      headers: {
        ...(token ? { Authorization: `Bearer ${token}` } : {}),
        ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
        ...headers,
      },
      body: body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body),
      redirect: 'manual',
    });
  }

  async json(method, path, body, options) {
    const response = await this.call(method, path, { body, ...options });
    const text = await response.text();
    assert.ok(response.ok, `${method} ${path}: ${response.status} ${text}`);
    return text && JSON.parse(text);
  }

  create() {
    return this.json('POST', '/v1/sessions', { agent: 'mock' }).then((r) => r.session.sessionId);
  }

  say(text, id = 'fake', options) {
    return this.json('POST', `/v1/sessions/${id}/prompts`, { content: [{ text }] }, options);
  }

  viewer(options = {}) {
    return new Viewer(this, options);
  }
}

// Reads a stream of events over a socket of its own, so that it can be slow and can be cut.
export class Viewer {
  constructor(component, { http = component.http, id = 'fake', path = `/v1/sessions/${id}/events`, last, slow = false, token = TOKEN } = {}) {
    this.messages = [];
    this.events = []; // those that are events, and their numbers
    this.seqs = [];
    this.text = '';
    this.head = null;
    this.changed = new Set();
    this.parser = new EventParser((m) => {
      this.messages.push(m);
      if (m.event !== 'message') return;
      this.events.push(m);
      this.seqs.push(Number(m.id.split('-')[1]));
    });
    this.ended = new Promise((resolve) => (this.markEnded = resolve));
    this.socket = net.connect({ port: http.port, host: '127.0.0.1' });
    this.socket.setEncoding('latin1'); // bytes: chunks may cut characters
    this.socket.on('error', () => {});
    this.socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nAuthorization: Bearer ${token}\r\n${
      last ? `Last-Event-ID: ${last}\r\n` : ''}\r\n`);
    if (slow) this.socket.pause();
    this.buffer = '';
    this.socket.on('data', (data) => {
      this.buffer += data;
      this.#decode();
      for (const look of [...this.changed]) look();
    });
    this.socket.on('close', () => {
      this.closed = true;
      this.markEnded();
      for (const look of [...this.changed]) look();
    });
  }

  #decode() {
    if (this.head === null) {
      const end = this.buffer.indexOf('\r\n\r\n');
      if (end < 0) return;
      this.head = this.buffer.slice(0, end);
      this.status = Number(this.head.split(' ')[1]);
      this.buffer = this.buffer.slice(end + 4);
    }
    for (;;) {
      const line = this.buffer.indexOf('\r\n');
      if (line < 0) return;
      const size = parseInt(this.buffer.slice(0, line), 16);
      if (this.buffer.length < line + 2 + size + 2) return;
      const data = Buffer.from(this.buffer.slice(line + 2, line + 2 + size), 'latin1').toString();
      this.buffer = this.buffer.slice(line + 2 + size + 2);
      if (size === 0) {
        this.complete = true; // the stream's own end
        this.socket.end();
      }
      this.text += data;
      this.parser.push(data);
    }
  }

  until(is, what) {
    return within(new Promise((resolve, reject) => {
      const look = () => {
        if (is(this)) {
          this.changed.delete(look);
          resolve(this);
        } else if (this.closed) reject(new Error(`the stream ended before ${what}: ${this.head} ${this.text.slice(-2000)}`));
      };
      this.changed.add(look);
      look();
    }), () => `${what}; so far ${this.messages.length} messages: ${this.text.slice(-2000)}`);
  }

  // Event number n is here.
  reaches(n) {
    return this.until(() => this.seqs.at(-1) >= n, `event ${n}`);
  }

  // An event of this kind is here.
  async event(kind, nth = 1) {
    const all = [];
    let looked = 0;
    const found = () => {
      for (; looked < this.events.length; looked++) {
        const event = JSON.parse(this.events[looked].data);
        if (event[kind]) all.push(event);
      }
      return all.length >= nth;
    };
    await this.until(found, `${kind} number ${nth}`);
    return all[nth - 1];
  }

  notice(name) {
    return this.until(() => this.messages.some((m) => m.event === name), name)
      .then(() => JSON.parse(this.messages.find((m) => m.event === name).data));
  }

  get lastId() {
    return this.events.at(-1).id;
  }

  close() {
    this.socket.destroy();
    return this.ended;
  }
}

export const range = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

// Bytes in, bytes out, until the server closes or `end` was seen.
export function raw(http, bytes, end) {
  const socket = net.connect({ port: http.port, host: '127.0.0.1' });
  let text = '';
  return within(new Promise((resolve, reject) => {
    const done = () => {
      socket.destroy();
      resolve(text);
    };
    socket.setEncoding('latin1');
    socket.on('data', (data) => {
      text += data;
      if (end && text.includes(end)) done();
    });
    socket.on('close', done);
    socket.on('error', (error) => (text ? done() : reject(error)));
    socket.write(bytes);
  }), () => `an answer; so far: ${text}`);
}
