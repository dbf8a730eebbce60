// The same calls of the unmodified npm SDK, against the npm package's own server and against ours; what they answer is
// compared, and shown as a table.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import net from 'node:net';
import { dirname, join } from 'node:path';
import { SandboxAgent } from 'sandbox-agent';
import { Component, TOKEN, within } from '../../services/gateway-svc/component.mjs';

const require = createRequire(import.meta.url);

const freePort = () => new Promise((resolve) => {
  const server = net.createServer().listen(0, '127.0.0.1', () => {
    const { port } = server.address();
    server.close(() => resolve(port));
  });
});

class Peer {
  static async start() {
    const p = new Peer();
    p.home = mkdtempSync('/tmp/sa-peer-');
    const port = await freePort();
    const cli = require.resolve('@sandbox-agent/cli-linux-x64/package.json', { paths: [dirname(realpathSync(require.resolve('@sandbox-agent/cli/package.json')))] });
    p.url = `http://127.0.0.1:${port}`;
    p.child = spawn(join(dirname(cli), 'bin/sandbox-agent'), ['server', '--no-telemetry', '--port', String(port), '--token', TOKEN],
      { cwd: p.home, env: { ...process.env, HOME: p.home, XDG_DATA_HOME: join(p.home, '.data') }, stdio: 'ignore' });
    p.exited = new Promise((resolve) => p.child.on('close', resolve));
    p.sdk = await SandboxAgent.connect({ baseUrl: p.url, token: TOKEN });
    await within(p.sdk.listProcesses(), () => 'the peer answers');
    return p;
  }

  async stop() {
    this.child.kill('SIGKILL');
    await this.exited;
    rmSync(this.home, { recursive: true, force: true });
  }
}

// What differs by nature: ids, times, numbers of processes, directories.
function plain(value, home) {
  const text = JSON.stringify(value, (key, v) => {
    if (['pid', 'createdAtMs', 'exitedAtMs', 'timestampMs', 'durationMs', 'sequence', 'reason', 'cwd'].includes(key)) return undefined;
    if (['id', 'processId'].includes(key)) return 'ID';
    if (key === 'modified') return String(v).replace(/\d/g, '0');
    if (key === 'size' && v >= 4096) return 'SIZE';
    return v;
  });
  return text === undefined ? undefined : JSON.parse(text.replaceAll(home, '~').replace(/proc_\d+|\b[0-9a-z]{26}\b/g, 'ID'));
}

async function outcome(side, run) {
  try {
    return plain(await run(side.sdk, side), side.home);
  } catch (error) {
    if (error.message === 'fetch failed') return { status: 'cut off' };
    if (error.status === undefined) throw error;
    const { type, title, detail, details } = error.problem ?? {};
    // What its framework refuses is plain text there: only the status is the contract.
    return plain(detail === undefined ? { status: error.status } : { status: error.status, type, title, detail, details }, side.home);
  }
}

export class Both {
  static async start() {
    const b = new Both();
    b.rows = [];
    b.component = await Component.start({ real: true });
    b.home = b.component.dir;
    mkdirSync(b.home, { recursive: true });
    b.ours = { home: b.home, url: b.component.http.url, sdk: await SandboxAgent.connect({ baseUrl: b.component.http.url, token: TOKEN }) };
    b.peer = await Peer.start();
    return b;
  }

  async stop() {
    const width = Math.max(...this.rows.map(([name]) => name.length));
    for (const [name, verdict, ours, peer] of this.rows)
      console.log(`${name.padEnd(width)}  ${verdict.padEnd(9)}  ${ours}${peer ? `  instead of  ${peer}` : ''}`);
    await this.peer?.stop();
    await this.component?.stop();
  }

  #row(name, verdict, ours, peer) {
    const short = (v) => v && (JSON.stringify(v) ?? 'nothing').slice(0, 100);
    this.rows.push([name, verdict, short(ours) ?? '', short(peer)]);
  }

  // Both answer the same.
  async same(name, run) {
    const peer = await outcome(this.peer, run);
    const ours = await outcome(this.ours, run);
    const only = typeof peer?.status === 'number' && !peer.detail ? { status: ours.status } : ours; // see outcome
    let verdict = 'same';
    try {
      assert.deepEqual(only, peer);
    } catch {
      verdict = 'DIFFERENT';
      throw new Error(`${name}: ours ${JSON.stringify(ours)}`.slice(0, 1500) + ` the peer's ${JSON.stringify(peer)}`.slice(0, 1500));
    } finally {
      this.#row(name, verdict, ours, verdict === 'same' ? undefined : peer);
    }
    return ours;
  }

  // Ours is better, as `check` says; the peer's answer is shown beside it.
  async better(name, run, check) {
    const peer = await outcome(this.peer, run);
    const ours = await outcome(this.ours, run);
    this.#row(name, 'better', ours, peer);
    await check(ours, peer);
  }
}

// A tar of [name, content | {link}] in order.
export function tar(entries) {
  const blocks = [];
  for (const [name, content] of entries) {
    const h = Buffer.alloc(512);
    const link = typeof content === 'string' ? undefined : content.link;
    const data = Buffer.from(link ? '' : content);
    h.write(name, 0);
    h.write('0000644\0', 100);
    h.write('0000000\0', 108);
    h.write('0000000\0', 116);
    h.write(`${data.length.toString(8).padStart(11, '0')}\0`, 124);
    h.write('00000000000\0', 136);
    h.write('        ', 148);
    h.write(link ? '2' : name.endsWith('/') ? '5' : '0', 156);
    if (link) h.write(link, 157);
    h.write('ustar\0' + '00', 257);
    h.write(`${h.reduce((a, b) => a + b, 0).toString(8).padStart(6, '0')}\0 `, 148);
    blocks.push(h, data, Buffer.alloc((512 - (data.length % 512)) % 512));
  }
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}
