// The terminal over WebSocket: as the SDK knows it, shared, and before hostile clients.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, symlinkSync } from 'node:fs';
import net from 'node:net';
import { after, before, describe, test } from 'node:test';
import { Component, TOKEN, raw, within } from '../../services/gateway-svc/component.mjs';
import { Both } from './both.mjs';

const shell = (script) => ({ command: 'sh', args: ['-c', script], tty: true, interactive: true });
const path = (id, query = `?access_token=${TOKEN}`) => `/v1/processes/${id}/terminal/ws${query}`;
const asks = (id, { query, more = '' } = {}) => `GET ${path(id, query)} HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\n`
  + `Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n${more}\r\n`;

// A client that may do everything wrong.
class Client {
  constructor(http, id, options) {
    this.frames = [];
    this.screen = ''; // the last of it
    this.bytes = Buffer.alloc(0);
    this.looks = new Set();
    this.socket = net.connect({ port: http.port, host: '127.0.0.1' });
    this.socket.on('error', () => {});
    this.socket.on('close', () => this.#changed((this.closed = true)));
    this.socket.on('data', (data) => {
      this.bytes = Buffer.concat([this.bytes, data]);
      this.#read();
      this.#changed();
    });
    this.socket.write(asks(id, options));
  }

  #changed() {
    for (const look of [...this.looks]) look();
  }

  #read() {
    if (!this.head) {
      const end = this.bytes.indexOf('\r\n\r\n');
      if (end < 0) return;
      this.head = this.bytes.subarray(0, end).toString();
      this.bytes = this.bytes.subarray(end + 4);
    }
    for (;;) {
      if (this.bytes.length < 2) return;
      const short = this.bytes[1];
      const at = short === 126 ? 4 : short === 127 ? 10 : 2;
      if (this.bytes.length < at) return;
      const size = short === 126 ? this.bytes.readUInt16BE(2) : short === 127 ? Number(this.bytes.readBigUInt64BE(2)) : short;
      if (this.bytes.length < at + size) return;
      const payload = this.bytes.subarray(at, at + size);
      const opcode = this.bytes[0] & 15;
      if (opcode === 2) this.screen = (this.screen + payload).slice(-(1 << 16));
      else if (opcode !== 10) this.frames.push({ opcode, text: payload.toString(), code: opcode === 8 && size ? payload.readUInt16BE(0) : undefined });
      this.bytes = this.bytes.subarray(at + size);
    }
  }

  get texts() {
    return this.frames.filter((f) => f.opcode === 1).map((f) => JSON.parse(f.text));
  }

  until(is, what) {
    return within(new Promise((resolve, reject) => {
      const look = () => {
        if (is(this)) resolve(this);
        else if (this.closed) reject(new Error(`it ended before ${what}: ${this.head} ${JSON.stringify([this.frames, this.screen]).slice(-2000)}`));
        else return;
        this.looks.delete(look);
      };
      this.looks.add(look);
      look();
    }), () => `${what}; so far ${JSON.stringify([this.frames, this.screen]).slice(-2000)}`);
  }
  shows(text) {
    return this.until(() => this.screen.includes(text), text);
  }
  ends(code) {
    return this.until(() => this.frames.some((f) => f.opcode === 8 && f.code === code), `the end with ${code}`);
  }

  frame(opcode, payload, { masked = true, fin = true } = {}) {
    const data = Buffer.from(payload);
    const mask = randomBytes(4);
    const head = Buffer.alloc(10);
    head[0] = (fin ? 128 : 0) | opcode;
    head[1] = 127;
    head.writeBigUInt64BE(BigInt(data.length), 2);
    const short = data.length < 126 ? Buffer.from([head[0], data.length]) : data.length < 65536 ? Buffer.from([head[0], 126, data.length >> 8, data.length & 255]) : head;
    if (!masked) return this.socket.write(Buffer.concat([short, data]));
    short[1] |= 128;
    for (let i = 0; i < data.length; i++) data[i] ^= mask[i & 3];
    return this.socket.write(Buffer.concat([short, mask, data]));
  }
  send(message) {
    return this.frame(1, JSON.stringify(message));
  }
  type(data) {
    return this.send({ type: 'input', data });
  }
}

describe('a terminal as the SDK knows it', () => {
  let b;
  before(async () => (b = await Both.start()));
  after(() => b.stop());

  test('is shown, typed into, resized and left as before', async () => {
    await b.same('a terminal', async (s) => {
      const { id } = await s.createProcess(shell('stty -echo; echo ready; read a; echo "<$a>"; read b; stty size; exit 3'));
      const seen = { data: '', ready: 0, exit: undefined, errors: [] };
      const terminal = s.connectProcessTerminal(id);
      const shows = (text) => within(new Promise((resolve) => {
        const look = () => seen.data.includes(text) && resolve();
        terminal.onData(look);
        look();
      }), () => `${text} in ${seen.data}`);
      terminal.onReady(() => seen.ready++);
      terminal.onData((data) => (seen.data += Buffer.from(data).toString()));
      terminal.onExit(({ exitCode }) => (seen.exit = exitCode));
      terminal.onError((e) => seen.errors.push(e.message));
      await within(new Promise((resolve) => terminal.onReady(resolve)), () => 'ready');
      terminal.sendInput('first\n');
      await shows('<first>');
      terminal.resize({ cols: 111, rows: 33 });
      terminal.sendInput(Buffer.from('second\n'));
      await shows('33 111');
      await within(terminal.closed, () => 'the end');
      // Ours begins with the screen; the peer ends with an error.
      return { ...seen, data: seen.data.match(/<first>|33 111/g) };
    });
    await b.same('a terminal that has ended', async (s) => {
      const { id } = await s.createProcess(shell('exit 5'));
      while ((await s.getProcess(id)).status !== 'exited');
      const terminal = s.connectProcessTerminal(id);
      const exit = new Promise((resolve) => terminal.onExit(resolve));
      await within(terminal.closed, () => 'the end');
      return exit;
    });
    await b.same('a view that is left', async (s) => {
      const { id } = await s.createProcess(shell('sleep 100'));
      const terminal = s.connectProcessTerminal(id);
      await within(new Promise((resolve) => terminal.onReady(resolve)), () => 'ready');
      terminal.close();
      await within(terminal.closed, () => 'the end');
      return (await s.getProcess(id)).status;
    });
  });

  test('refuses as before what is none', async () => {
    const status = async (url, id, more) => (await raw({ port: Number(new URL(url).port) }, asks(id, { more: `Connection: close\r\n${more ?? ''}` }), '\r\n\r\n')).split(' ')[1];
    await b.same('a terminal that is not there', (s, { url }) => status(url, 'none'));
    await b.same('a process without a terminal', async (s, { url }) => status(url, (await s.createProcess({ command: 'cat' })).id));
    await b.same('no WebSocket', async (s, { url }) => {
      const { id } = await s.createProcess(shell('cat'));
      return (await fetch(url + path(id), { headers: { Authorization: `Bearer ${TOKEN}` } })).status;
    });
    await b.same('a wrong token', async (s, { url }) => (await raw({ port: Number(new URL(url).port) }, asks('x', { query: '?access_token=wrong' }), '\r\n\r\n')).split(' ')[1]);
    await b.same('the token in another address', async (s, { url }) => (await fetch(`${url}/v1/processes?access_token=${TOKEN}`)).status);
    await b.same('bad frames', async (s, { url }) => {
      const { id } = await s.createProcess(shell('cat'));
      const client = new Client({ port: Number(new URL(url).port) }, id);
      client.frame(2, 'binary');
      client.frame(1, '{');
      client.type('still here\n');
      await client.shows('still here');
      client.socket.destroy();
      return client.texts.filter((m) => m.type === 'error').map((m) => m.message.split(':')[0]);
    });
  });
});

describe('a terminal over WebSocket', () => {
  let c;
  before(async () => (c = await Component.start({ real: true })));
  after(() => c.stop());
  const start = (script) => c.json('POST', '/v1/processes', shell(script)).then((p) => p.id);
  const resident = () => {
    const pid = c.http.service.child.pid;
    const sanitized = /lib[at]san/.test(readFileSync(`/proc/${pid}/maps`, 'utf8'));
    const peak = () => Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/VmHWM:\s+(\d+)/)[1]) / 1024;
    const before = peak();
    return () => assert.ok(peak() - before < (sanitized ? 600 : 32), `${peak() - before} MiB more`);
  };

  // Who came late saw nothing of what was there.
  test('shows who comes late what is there, and lets all type', async () => {
    const id = await start('stty -echo; echo early; cat');
    const a = new Client(c.http, id);
    assert.match((await a.shows('early')).head, /^HTTP\/1.1 101 [^]*sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK\+xOo=/i);
    a.type('from a\n');
    await a.shows('from a');
    const late = new Client(c.http, id);
    await late.shows('early');
    await late.shows('from a');
    for (let i = 0; i < 20; i++) {
      (i % 2 ? a : late).type(`line ${i}\n`);
      for (const client of [a, late]) await client.shows(`line ${i}`);
    }
    await c.json('POST', `/v1/processes/${id}/input`, { data: 'over HTTP\n', encoding: 'utf8' });
    a.type('and again\n');
    for (const client of [a, late]) await client.shows('and again');
    assert.match(a.screen, /over HTTP/);
    await c.json('POST', `/v1/processes/${id}/kill`);
    for (const client of [a, late]) {
      await client.ends(1000);
      assert.deepEqual(client.texts.at(-1), { type: 'exit', exitCode: null });
    }
  });

  test('takes a paste of any size, once', async () => {
    const id = await start('stty -echo -icanon; echo ready; head -c 1000000 | tr -d "\\n" | wc -c');
    const client = await new Client(c.http, id).shows('ready');
    for (let i = 0; i < 10; i++) client.type('0123456789'.repeat(10_000));
    await client.shows('1000000\r\n');
    await client.ends(1000);
  });

  // 4.0 of 31.5 MB reached a viewer that stalled for a while, silently.
  test('a viewer that does not read sees the end all the same, and costs little', async () => {
    const check = resident();
    const id = await start('head -c 2000000 /dev/zero | tr "\\0" "\\n"; echo the end; read x');
    const slow = new Client(c.http, id);
    await slow.until(() => slow.head, 'the answer');
    slow.socket.pause();
    const other = new Client(c.http, id);
    await other.shows('the end');
    slow.socket.resume();
    await slow.shows('the end');
    check();
    slow.type('\n');
    await slow.ends(1000);
  });

  test('a client that floods and never reads is held up, and nobody else', async () => {
    const check = resident();
    const id = await start('cat');
    const bad = Array.from({ length: 5 }, () => new Client(c.http, id));
    for (const client of bad) {
      await client.until(() => client.head, 'the answer');
      client.socket.pause();
      for (let i = 0; i < 5000; i++) client.frame(9, 'x'.repeat(100)); // each ping asks for a pong
      for (let i = 0; i < 500; i++) client.frame(1, 'x'.repeat(1000)); // and each of these for an error
    }
    const good = new Client(c.http, await start('cat'));
    good.type('hello\n');
    await good.shows('hello');
    assert.equal((await c.call('GET', '/v1/health')).status, 200);
    check();
    for (const client of [...bad, good]) client.socket.destroy();
  });

  test('frames that break the protocol end the connection, and say why', async () => {
    const id = await start('cat');
    const cases = [
      [(x) => x.frame(1, 'no mask', { masked: false }), 1002], [(x) => x.frame(3, 'no such kind'), 1002],
      [(x) => x.frame(9, 'x'.repeat(126)), undefined], [(x) => x.frame(0, 'of nothing'), 1002], [(x) => x.frame(1, Buffer.from([0xff])), 1007],
      [(x) => x.frame(1, 'x'.repeat((2 << 20) + 1)), 1009],
    ];
    for (const [send, code] of cases) {
      const client = new Client(c.http, id);
      await client.until(() => client.head, 'the answer');
      send(client);
      await client.ends(code);
    }
    const cut = new Client(c.http, id);
    await cut.until(() => cut.texts.length, 'ready');
    cut.frame(1, '{"type":"inp', { fin: false });
    cut.socket.destroy();
    const pieces = new Client(c.http, id);
    pieces.frame(1, '{"type":"input","da', { fin: false });
    pieces.frame(0, 'ta":"in pieces\\n"}');
    await pieces.shows('in pieces');
    pieces.socket.destroy();
  });

  test('a page of another origin gets no terminal without a token', async (t) => {
    const open = await Component.start({ real: true, gateway: ['--no-token'] });
    t.after(() => open.stop());
    const { id } = await open.json('POST', '/v1/processes', shell('echo mine; cat'), { token: '' });
    const status = async (origin) => (await raw(open.http, asks(id, { query: '', more: origin ? `Origin: ${origin}\r\n` : '' }), '\r\n\r\n')).split(' ')[1];
    assert.equal(await status('https://evil.example'), '403');
    assert.equal(await status('null'), '403');
    assert.equal(await status('http://localhost'), '101');
    assert.equal(await status(), '101');
  });

  test('a gateway that ends says so, and the terminal goes on', async () => {
    const id = await start('stty -echo; echo ready; cat');
    const other = await c.startGateway([], { place: '2' });
    for (const name of ['process.sock', 'fs.sock']) symlinkSync(`${c.dir}/run/${name}`, `${c.dir}/run2/${name}`);
    const client = await new Client(other, id).shows('ready');
    await other.service.end();
    await client.ends(1001);
    const again = await new Client(c.http, id).shows('ready');
    again.type('still here\n');
    await again.shows('still here');
    again.socket.destroy();
  });

  test('process-svc that is killed ends the view, and a new one goes on', async () => {
    const id = await start('stty -echo; echo ready; cat');
    const client = await new Client(c.http, id).shows('ready');
    const svc = [...c.all].find((service) => service.child.spawnfile.endsWith('process-svc'));
    await svc.end('SIGKILL');
    c.all.delete(svc);
    await client.ends(1011);
    await c.startService('process-svc');
    const again = await new Client(c.http, id).shows('ready');
    again.type('still here\n');
    await again.shows('still here');
    again.socket.destroy();
  });
});
