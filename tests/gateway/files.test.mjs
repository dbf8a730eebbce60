// Files over HTTP: of any size, in ranges, to slow readers and from clients that break off.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, existsSync, ftruncateSync, mkdirSync, openSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Component, TOKEN, raw, within } from '../../services/gateway-svc/component.mjs';
import { tar } from './both.mjs';

const MIB = 1 << 20;
const problem = async (response) => `${response.status} ${(await response.json()).type.split(':').pop()}`;
const temporary = (dir) => readdirSync(dir).filter((name) => name.startsWith('.sa-'));

describe('files over HTTP', () => {
  let c;
  before(async () => (c = await Component.start({ real: true })));
  after(() => c.stop());

  const file = (path) => `/v1/fs/file?path=${encodeURIComponent(path)}`;
  const get = (path, headers) => c.call('GET', file(path), { headers });
  const put = (path, body) => fetch(c.http.url + file(path), { method: 'PUT', headers: { Authorization: `Bearer ${TOKEN}` }, body, duplex: 'half' });
  const head = (method, path, more = '') => `${method} ${file(path)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\n${more}\r\n`;
  // Bytes of memory that the gateway has ever had more than now; a sanitizer keeps freed memory.
  const watchMemory = () => {
    const pid = c.http.service.child.pid;
    const sanitized = /lib[at]san/.test(readFileSync(`/proc/${pid}/maps`, 'utf8'));
    const peak = () => Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/VmHWM:\s+(\d+)/)[1]) * 1024;
    const start = peak();
    return () => assert.ok(peak() - start < (sanitized ? 600 : 32) * MIB, `${(peak() - start) / MIB} MiB more`);
  };

  test('a range, a part that is missing, and nothing twice', async () => {
    await put('r', '0123456789');
    const whole = await get('r');
    const etag = whole.headers.get('etag');
    assert.equal(whole.headers.get('accept-ranges'), 'bytes');
    assert.equal(await whole.text(), '0123456789');
    for (const [range, status, text, content] of [
      ['bytes=2-4', 206, '234', 'bytes 2-4/10'], ['bytes=7-', 206, '789', 'bytes 7-9/10'], ['bytes=-3', 206, '789', 'bytes 7-9/10'],
      ['bytes=8-99', 206, '89', 'bytes 8-9/10'], ['bytes=-99', 206, '0123456789', 'bytes 0-9/10'], ['bytes=10-', 416, '', 'bytes */10'],
      ['bytes=-0', 416, '', 'bytes */10'], ['bytes=4-2', 200, '0123456789', null], ['bytes=0-1,3-4', 200, '0123456789', null],
      ['lines=1-2', 200, '0123456789', null]]) {
      const response = await get('r', { Range: range });
      assert.deepEqual([response.status, await response.text(), response.headers.get('content-range')], [status, text, content], range);
    }
    assert.equal((await get('r', { 'If-None-Match': etag })).status, 304);
    assert.equal((await get('r', { 'If-None-Match': '"other"' })).status, 200);
    assert.equal((await get('r', { Range: 'bytes=1-1', 'If-Range': etag })).status, 206);
    await put('r', 'something else');
    const now = await get('r', { 'If-None-Match': etag, Range: 'bytes=1-1', 'If-Range': etag });
    assert.deepEqual([now.status, await now.text()], [200, 'something else']);
  });

  test('HEAD tells the size and sends nothing', async () => {
    await put('h', 'x'.repeat(1000));
    const answer = await raw(c.http, head('HEAD', 'h', 'Connection: close\r\n'));
    assert.match(answer, /^HTTP\/1.1 200 [^]*\r\nContent-Length: 1000\r\n/);
    assert.equal(answer.split('\r\n\r\n')[1], '');
    assert.match(await raw(c.http, head('HEAD', 'none', 'Connection: close\r\n')), /^HTTP\/1.1 400 /);
  });

  test('files of any name', async () => {
    for (const name of ['plain', 'with space & ?#%.txt', 'ünïcödé/日本', 'new\nline'])
      assert.equal((await put(name, name), await (await get(name)).text()), name);
    assert.equal(await problem(await c.call('GET', '/v1/fs/file?path=%ff')), '400 invalid_request');
    assert.equal(await problem(await get('x'.repeat(5000))), '400 invalid_request');
  });

  // Bodies over 2 MiB were refused, and a file was in memory as a whole to be sent.
  test('a large file goes through in little memory, both ways', async () => {
    const check = watchMemory();
    const chunk = Buffer.alloc(MIB);
    const sent = createHash('sha256'), got = createHash('sha256');
    async function* content() {
      for (let i = 0; i < 300; i++) {
        chunk.writeUInt32LE(i);
        sent.update(chunk);
        yield Buffer.from(chunk);
      }
    }
    const response = await put('large', content());
    assert.deepEqual(await response.json(), { path: join(c.dir, 'large'), bytesWritten: 300 * MIB });
    for await (const part of (await get('large')).body) got.update(part);
    assert.equal(got.digest('hex'), sent.digest('hex'));
    const fd = openSync(join(c.dir, 'sparse'), 'w');
    ftruncateSync(fd, 1 << 30);
    closeSync(fd);
    const end = await get('sparse', { Range: `bytes=${(1 << 30) - 10}-` });
    assert.equal((await end.arrayBuffer()).byteLength, 10);
    check();
  });

  test('a reader that does not read holds up nobody, and costs little', async () => {
    const check = watchMemory();
    writeFileSync(join(c.dir, 'wanted'), Buffer.alloc(64 * MIB, 'w'));
    const slow = Array.from({ length: 20 }, () => {
      const socket = net.connect({ port: c.http.port, host: '127.0.0.1' });
      socket.pause();
      socket.write(head('GET', 'wanted'));
      return socket;
    });
    let bytes = 0;
    for await (const part of (await get('wanted')).body) bytes += part.length;
    assert.equal(bytes, 64 * MIB);
    check();
    for (const socket of slow) {
      const first = once(socket, 'data');
      socket.resume();
      await within(first, () => 'the first bytes');
      socket.destroy();
    }
  });

  test('an upload that breaks off changes nothing and leaves nothing behind', async () => {
    mkdirSync(join(c.dir, 'cut'));
    writeFileSync(join(c.dir, 'cut/file'), 'as it was');
    const socket = net.connect({ port: c.http.port, host: '127.0.0.1' });
    socket.write(head('PUT', 'cut/file', `Content-Length: ${8 * MIB}\r\n`));
    socket.write(Buffer.alloc(4 * MIB));
    while (!temporary(join(c.dir, 'cut')).length) await new Promise((resolve) => setImmediate(resolve));
    socket.destroy();
    while (temporary(join(c.dir, 'cut')).length) await new Promise((resolve) => setImmediate(resolve));
    assert.equal(readFileSync(join(c.dir, 'cut/file'), 'utf8'), 'as it was');
  });

  test('an upload that cannot be kept is told so, also when it is large', async () => {
    mkdirSync(join(c.dir, 'full/x'), { recursive: true });
    async function* content() {
      for (let i = 0; i < 64; i++) yield Buffer.alloc(MIB);
    }
    assert.equal(await problem(await put('full', content())), '502 stream_error');
    const refused = await fetch(c.http.url + file('x'), { method: 'PUT', body: 'x' });
    assert.equal(await problem(refused), '401 token_invalid');
    assert.equal(existsSync(join(c.dir, 'x')), false);
  });

  test('a file that is cut while it is read is no whole one', async () => {
    writeFileSync(join(c.dir, 'shrinking'), Buffer.alloc(64 * MIB));
    const { body } = await get('shrinking');
    const reader = body.getReader();
    await reader.read();
    const fd = openSync(join(c.dir, 'shrinking'), 'r+');
    ftruncateSync(fd, MIB);
    closeSync(fd);
    await assert.rejects(async () => {
      while (!(await reader.read()).done);
    });
  });

  test('fs-svc that is killed in the middle of an upload is an answer, not a hang', async () => {
    let on;
    const begun = new Promise((resolve) => (on = resolve));
    async function* content() {
      yield Buffer.alloc(4 * MIB);
      on();
      await killed;
      for (let i = 0; i < 8; i++) yield Buffer.alloc(MIB);
    }
    const fs = [...c.all].find((service) => service.child.spawnfile.endsWith('fs-svc'));
    const killed = begun.then(() => fs.end('SIGKILL'));
    const response = await within(put('killed', content()), () => 'an answer');
    assert.equal(response.status, 503);
    c.all.delete(fs);
    await c.startService('fs-svc');
    assert.equal(existsSync(join(c.dir, 'killed')), false);
    assert.equal((await put('killed', 'again')).status, 200);
  });

  test('an archive of any size is unpacked as it comes', async () => {
    const check = watchMemory();
    const one = tar([['big/0', 'x'.repeat(40 * MIB)]]).subarray(0, -1024);
    async function* archive() {
      for (let i = 0; i < 5; i++) {
        const part = Buffer.from(one);
        part.write(String(i), 4);
        part.write('        ', 148);
        part.write(`${part.subarray(0, 512).reduce((a, b) => a + b, 0).toString(8).padStart(6, '0')}\0 `, 148);
        yield part;
      }
      yield Buffer.alloc(1024);
    }
    const response = await fetch(`${c.http.url}/v1/fs/upload-batch?path=unpacked`, {
      method: 'POST', headers: { Authorization: `Bearer ${TOKEN}`, 'Content-Type': 'application/x-tar' }, body: archive(), duplex: 'half' });
    assert.equal(response.status, 200);
    assert.equal((await response.json()).paths.length, 5);
    assert.equal(readFileSync(join(c.dir, 'unpacked/big/4')).length, 40 * MIB);
    check();
  });

  test('a list that would not fit into memory twice is written as it is read', async () => {
    const dir = join(c.dir, 'crowd');
    mkdirSync(dir);
    for (let i = 0; i < 12_000; i++) closeSync(openSync(join(dir, `${i}-${'n'.repeat(100)}`), 'w'));
    const entries = await c.json('GET', '/v1/fs/entries?path=crowd');
    assert.equal(new Set(entries.map((e) => e.name)).size, 12_000);
  });
});

describe('of a named root only', () => {
  test('paths begin there, and nothing else is seen', async (t) => {
    const c = await Component.start({ real: true });
    t.after(() => c.stop());
    mkdirSync(join(c.dir, 'ws'));
    const fs = [...c.all].find((service) => service.child.spawnfile.endsWith('fs-svc'));
    await fs.end();
    c.all.delete(fs);
    await c.startService('fs-svc', ['--fs-root', `ws=${c.dir}/ws`]);
    const body = { from: 'a', to: 'b' };
    await fetch(`${c.http.url}/v1/fs/file?root=ws&path=a`, { method: 'PUT', headers: { Authorization: `Bearer ${TOKEN}` }, body: 'x' });
    assert.deepEqual(await c.json('POST', '/v1/fs/move?root=ws', body), body);
    assert.deepEqual((await c.json('GET', '/v1/fs/entries?root=ws')).map((e) => e.name), ['b']);
    assert.equal(readFileSync(join(c.dir, 'ws/b'), 'utf8'), 'x');
    for (const path of ['/etc/passwd', 'etc/passwd'])
      assert.equal((await c.call('GET', `/v1/fs/file?path=${path}`)).status, 404);
    assert.equal((await c.call('GET', '/v1/fs/file?root=ws&path=/etc/passwd')).status, 400);
  });
});
