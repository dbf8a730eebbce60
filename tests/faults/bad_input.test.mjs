// Agents and callers that misbehave, against the whole system. Each gets a clear error that names the thing within a
// bounded time; nothing is lost and nothing is left behind.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { environment, status, text } from '../clients/grpc.mjs';
import { bin, eventually, newDir, processesNaming, Program, startServer } from '../clients/server.mjs';

let s, c;
before(async () => {
  s = await startServer({ args: ['--agents-dir', makeAgents()] });
  c = s.connect();
});
after(() => s?.stop());

// Agents that are no agents, in the places of some that the catalogue knows.
function makeAgents() {
  const dir = newDir();
  const place = join(dir, 'node_modules/.bin');
  mkdirSync(place, { recursive: true });
  const scripts = {
    'claude-agent-acp': '#!/nonexistent/interpreter\n',
    'codex-acp': '#!/bin/sh\necho "this machine is too small for me" >&2\nexit 3\n',
    'pi-acp': '#!/bin/sh\nhead -c 200000 /dev/urandom\nprintf "\\n\\377\\376\\n{\\"jsonrpc\\":\\"2.0\\"}\\n[]\\nnull\\n{{{{\\n"\ncat > /dev/null\n',
  };
  for (const [name, script] of Object.entries(scripts)) {
    writeFileSync(join(place, name), script);
    chmodSync(join(place, name), 0o755);
  }
  return dir;
}

const create = async (agent, extra = {}) => (await c.sessions.createSession({ agent, ...extra })).session.sessionId;
const prompt = (sessionId, words) => c.sessions.sendPrompt({ sessionId, content: text(words) });
const refusal = (promise) => promise.then((answer) => assert.fail(`it was accepted: ${JSON.stringify(answer)}`), (error) => error);
const failure = async (viewer) => (await viewer.waitFor((e) => e.stateChanged?.state === 'SESSION_STATE_FAILED', 'the failure')).stateChanged;
const residentKiB = (pid) => Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/VmRSS:\s+(\d+)/)[1]);
const descriptors = (pid) => readdirSync(`/proc/${pid}/fd`).length;

test('an unknown agent is refused, and those that there are are named', async () => {
  const error = await refusal(create('nobody'));
  assert.equal(error.reason, 'UNKNOWN_AGENT');
  assert.match(error.details, /"nobody".*claude.*mock/);
});

test('an agent that is not installed, and one that cannot be run, are named', async () => {
  const missing = await failure(s.viewer(await create('gemini')));
  assert.equal(missing.reason, 'AGENT_NOT_INSTALLED');
  assert.match(missing.message, /gemini/i);
  const broken = await failure(s.viewer(await create('claude')));
  assert.match(`${broken.reason} ${broken.message}`, /claude-agent-acp/);
});

test('an agent that exits is quoted, and prompts to it end with the same error', async () => {
  const id = await create('codex');
  const viewer = s.viewer(id);
  const state = await failure(viewer);
  assert.match(state.message, /3/);
  assert.ok(viewer.events.some((e) => e.agentLog?.text.includes('too small for me')), 'what it said is in the log');
  const { turn } = await prompt(id, 'hello');
  const { turnEnded } = await viewer.turnEnded(turn);
  assert.ok(['STOP_REASON_ERROR', 'STOP_REASON_AGENT_EXITED'].includes(turnEnded.stopReason));
  assert.notEqual(turnEnded.message, '');
});

test('garbage from an agent ends up in the log and stops nothing', async () => {
  const id = await create('pi');
  const viewer = s.viewer(id);
  await viewer.until(() => viewer.events.filter((e) => e.agentLog).length >= 3, 'the garbage as log lines');
  await c.sessions.destroySession({ sessionId: id });
  await viewer.waitFor((e) => e.stateChanged?.state === 'SESSION_STATE_DESTROYED', 'the end');

  const mock = await create('mock');
  const other = s.viewer(mock);
  const { turn } = await prompt(mock, 'GARBAGE\nhello after it');
  await other.turnEnded(turn);
  assert.match(other.text(turn), /hello after it/);
});

test('an agent that never answers is given up in bounded time when its session is ended', async () => {
  const id = await create('mock', { env: environment({ MOCK_START: 'silent' }) });
  const viewer = s.viewer(id);
  const { turn } = await prompt(id, 'hello');
  const start = Date.now();
  await c.sessions.destroySession({ sessionId: id });
  await viewer.turnEnded(turn);
  assert.ok(Date.now() - start < 30_000);
});

test('100 MB without a newline are skipped in bounded memory, and the turn goes on', async () => {
  const size = 100_000_000;
  const id = await create('mock');
  const viewer = s.viewer(id);
  await viewer.turnEnded((await prompt(id, 'hello')).turn);
  const session = s.pidOf('session');
  const before = residentKiB(session);
  const { turn } = await prompt(id, `LINE ${size}\nhello after it`);
  let most = 0;
  const watch = setInterval(() => (most = Math.max(most, residentKiB(session))), 50);
  const { turnEnded } = await viewer.turnEnded(turn, 120_000).finally(() => clearInterval(watch));
  assert.equal(turnEnded.stopReason, 'STOP_REASON_END_TURN');
  assert.match(viewer.text(turn), /hello after it/);
  const { agentLog } = viewer.events.find((e) => Number(e.agentLog?.fullSize) === size);
  assert.equal(agentLog.sha256, createHash('sha256').update(Buffer.alloc(size, 'x')).digest('hex'));
  // A sanitizer holds on to freed memory.
  const sanitized = /lib[at]san/.test(readFileSync(`/proc/${session}/maps`, 'utf8'));
  if (!sanitized) assert.ok(most - before < 80_000, `session-svc grew by ${most - before} KiB`);
});

test('a message over the limit is refused, and the connection goes on', async () => {
  const id = await create('mock');
  const error = await refusal(c.sessions.sendPrompt({ sessionId: id, content: text('x'.repeat(5 << 20)) }));
  assert.equal(error.code, status.RESOURCE_EXHAUSTED);
  assert.match(error.details, /\d/, 'the limit is named');
  const viewer = s.viewer(id);
  await viewer.turnEnded((await prompt(id, 'hello')).turn);
});

test('fields that cannot be are named', async () => {
  const id = await create('mock');
  const cases = [
    [c.sessions.createSession({ agent: 'mock', cwd: Buffer.from('relative') }), /cwd/],
    [c.sessions.createSession({ agent: 'mock', env: environment({ 'A=B': 'c' }) }), /env/],
    [c.sessions.createSession({ agent: 'mock', requestId: 'x'.repeat(200) }), /request_id/],
    [c.sessions.sendPrompt({ sessionId: id, content: [] }), /content/],
    [c.sessions.listSessions({ pageToken: 'nonsense' }), /page/],
    [c.sessions.listEvents({ sessionId: id, afterSeq: 1_000_000 }), /1000000/],
    [c.permissions.answerPermission({ sessionId: id, permissionId: 'none', optionId: 'x' }), /none/],
  ];
  for (const [call, names] of cases) {
    const error = await refusal(call);
    assert.ok(error.reason, `a stable reason: ${error}`);
    assert.match(error.details, names);
  }
});

test('a data directory in use and a port in use are named', async () => {
  const start = (args) => new Program([join(bin, 'sandbox-agent'), 'server', ...args], { env: { HOME: newDir(), PATH: process.env.PATH } });
  const same = start(['--data-dir', s.dataDir, '--port', '1', '--grpc-port', '2']);
  assert.equal((await same.ends()).code, 1);
  assert.match(same.output, new RegExp(s.dataDir));
  assert.match(same.output, new RegExp(String(s.program.child.pid)), 'who has it');
  const port = start(['--data-dir', newDir(), '--port', String(s.ports), '--grpc-port', String(s.ports + 1)]);
  assert.equal((await port.ends()).code, 1);
  assert.match(port.output, new RegExp(String(s.ports)));
});

test('nothing is left of a hundred sessions that were made, used and ended', async () => {
  const services = ['session', 'process', 'fs', 'gateway'];
  const round = async (n) => {
    for (let i = 0; i < n; i += 10) {
      await Promise.all(Array.from({ length: 10 }, async () => {
        const id = await create('mock');
        const viewer = s.viewer(id);
        await viewer.turnEnded((await prompt(id, 'hello\nCHILD')).turn);
        await c.sessions.destroySession({ sessionId: id });
        viewer.close();
      }));
    }
  };
  await round(10);
  const quiet = () => processesNaming(s.dataDir).filter((p) => / process-shim |mock-agent/.test(p)).length;
  const baseline = Object.fromEntries(services.map((n) => [n, descriptors(s.pidOf(n))]));
  await round(100);
  await eventually(() => services.every((n) => descriptors(s.pidOf(n)) <= baseline[n] + 8), 'descriptors are given back', 60_000);
  assert.ok(quiet() <= 2, 'no process is left');
});
