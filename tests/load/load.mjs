// Figures of the whole system: events from an agent's standard output to viewers, memory per idle session.
// Started by tests/load/run, which has built the programs.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import readline from 'node:readline';
import { promisify } from 'node:util';
import { text } from '../clients/grpc.mjs';
import { bin, newDir, startServer } from '../clients/server.mjs';

const EVENTS = Number(process.env.LOAD_EVENTS ?? 100_000);
const IDLE_SESSIONS = Number(process.env.LOAD_SESSIONS ?? 100);
const events = process.env.LOAD_EVENTS_PROGRAM;
const run = promisify(execFile);
const round = (n) => Math.round(n).toLocaleString('en');
const kib = (bytes) => `${(bytes / 1024).toFixed(1)} KiB`;

// How fast the agent writes when nothing but a pipe is behind it.
async function agentAlone(n) {
  const agent = spawn(join(bin, 'mock-agent'), { env: { HOME: newDir() }, stdio: ['pipe', 'pipe', 'inherit'] });
  const send = (id, method, params) => agent.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', id, method, params })}\n`);
  const lines = readline.createInterface({ input: agent.stdout })[Symbol.asyncIterator]();
  const answer = async (id) => {
    for (;;) {
      const { value } = await lines.next();
      const message = JSON.parse(value);
      if (message.id === id && !message.method) return message.result;
    }
  };
  send(0, 'initialize', { protocolVersion: 1, clientCapabilities: {} });
  await answer(0);
  send(1, 'session/new', { cwd: '/tmp', mcpServers: [] });
  const { sessionId } = await answer(1);
  lines.return();
  agent.stdout.removeAllListeners();
  const start = process.hrtime.bigint();
  let newlines = 0;
  const done = new Promise((resolve) =>
    agent.stdout.on('data', (data) => {
      for (let at = -1; (at = data.indexOf(10, at + 1)) >= 0;) newlines++;
      if (newlines > n) resolve();
    }),
  );
  agent.stdout.resume();
  send(2, 'session/prompt', { sessionId, prompt: [{ type: 'text', text: `BURST ${n}` }] });
  await done;
  const seconds = Number(process.hrtime.bigint() - start) / 1e9;
  agent.kill();
  return n / seconds;
}

async function viewers(server, count, n) {
  const { stdout } = await run(events, [server.targets.sessions, join(server.dataDir, 'token'), String(count), String(n)]);
  return Object.fromEntries(stdout.trim().split(' ').map((word) => word.split('=')));
}

// Memory that a process would not have without its own doing, bytes: no pages of files, which the kernel can drop.
function memory(pid) {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  return Number(rollup.match(/^Anonymous: +(\d+) kB/m)[1]) * 1024;
}

async function idle(server, count) {
  const c = server.connect();
  const services = ['session', 'process', 'fs', 'gateway', 'provider'];
  const measure = () => Object.fromEntries(services.map((name) => [name, memory(server.pidOf(name))]));
  const create = async () => {
    const { session } = await c.sessions.createSession({ agent: 'mock' });
    const viewer = server.viewer(session.sessionId);
    const { turn } = await c.sessions.sendPrompt({ sessionId: session.sessionId, content: text('hello') });
    await viewer.turnEnded(turn);
    viewer.close();
    return session.sessionId;
  };
  await create(); // what the first session costs once
  const before = measure();
  const ids = [];
  for (let i = 0; i < count; i++) ids.push(await create());
  const after = measure();
  const shims = [];
  const agents = [];
  for (const sessionId of ids) {
    const { session } = await c.sessions.getSession({ sessionId });
    const { process } = await c.processes.getProcess({ processId: session.processId });
    agents.push(memory(process.pid));
    const parent = Number(readFileSync(`/proc/${process.pid}/stat`, 'utf8').split(') ')[1].split(' ')[1]);
    shims.push(memory(parent));
  }
  const mean = (list) => list.reduce((a, b) => a + b, 0) / list.length;
  const perSession = Object.fromEntries(services.map((name) => [name, (after[name] - before[name]) / count]));
  return { perSession, shim: mean(shims), agent: mean(agents), services: after };
}

const server = await startServer();
const m = await idle(server, IDLE_SESSIONS);
const own = m.perSession.session + m.perSession.process + m.shim;
console.log(
  `idle session (of ${IDLE_SESSIONS})            ${kib(own)} memory of ours: session-svc ${kib(m.perSession.session)}, ` +
    `process-svc ${kib(m.perSession.process)}, shim ${kib(m.shim)}; the mock agent beside it ${kib(m.agent)}`,
);
console.log(`services with ${IDLE_SESSIONS} sessions         ${Object.entries(m.services).map(([n, b]) => `${n} ${kib(b)}`).join(', ')}`);
const alone = await agentAlone(EVENTS);
console.log(`agent alone into a pipe           ${round(alone)} events/s`);
for (const count of [1, 100]) {
  const n = count === 1 ? EVENTS : EVENTS / 10;
  const r = await viewers(server, count, n);
  assert.equal(r.delivered, '100.000%');
  console.log(
    `agent to ${String(count).padStart(3)} viewer${count === 1 ? ' ' : 's'} over gRPC      ${round(r.events_per_second)} events/s, ` +
      `${round(r.deliveries_per_second)} deliveries/s, ${r.delivered} delivered ` +
      `(${((100 * r.events_per_second) / alone).toFixed(1)} % of the agent alone)`,
  );
}
await server.stop();
