// What every real agent must do through session-svc, with the scripted model endpoint behind it.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { environment, text } from '../clients/grpc.mjs';
import { eventually, startServer } from '../clients/server.mjs';
import { startModel } from '../model/model.mjs';
import { FILE_TEXT } from '../model/script.mjs';
import { agentsDir, isInstalled, prepareAgent } from './agents.mjs';

const PATIENCE_MS = 120_000; // agents are slow to start on a busy machine

// options: asks (it asks for permission before it writes), resumes (a new process takes up the conversation).
export function testAgent(agent, { asks = true, resumes = true } = {}) {
  let model, server, c, cwd, sessionId, first, second;

  before(async () => {
    assert.ok(isInstalled(agent), `agent ${agent} is not in ${agentsDir}: run tests/agents/install`);
    model = await startModel();
    server = await startServer({ args: ['--agents-dir', join(agentsDir, agent)] });
    c = server.connect();
    const home = join(server.dir, 'agent-home');
    mkdirSync(home);
    const prepared = prepareAgent(agent, { home, modelUrl: model.url });
    // One session for all: agents take seconds to start.
    cwd = join(server.dir, 'work');
    mkdirSync(cwd);
    ({ sessionId } = (
      await c.sessions.createSession({ agent, cwd: Buffer.from(cwd), env: environment(prepared.env), modeId: prepared.mode })
    ).session);
    first = server.viewer(sessionId);
    second = server.viewer(sessionId);
  });
  after(async () => {
    await server?.stop();
    await model?.close();
  });

  const prompt = (words) => c.sessions.sendPrompt({ sessionId, content: text(words) });
  const answer = ({ permissionRequested: p }, kind) =>
    c.permissions.answerPermission({
      sessionId, permissionId: p.permissionId, optionId: p.options.find((o) => o.kind === kind).optionId,
    });
  const asked = (viewer, turn) =>
    viewer.waitFor((e) => e.kind === 'permissionRequested' && e.turn === turn, `a permission request of turn ${turn}`, PATIENCE_MS);
  const stopReason = async (viewer, turn) => (await viewer.turnEnded(turn, PATIENCE_MS)).turnEnded.stopReason;
  const sameForBoth = async () => {
    const head = first.events.at(-1).seq;
    await second.until(() => second.events.at(-1)?.seq >= head, `event ${head} at the second viewer`, PATIENCE_MS);
    assert.deepEqual(first.events.slice(0, head).map((e) => e.seq), Array.from({ length: head }, (_, i) => i + 1));
    assert.ok(Buffer.concat(first.raw.slice(0, head)).equals(Buffer.concat(second.raw.slice(0, head))), 'both viewers have the same bytes');
  };

  test(`${agent} writes a file${asks ? ' once a second viewer allows it' : ''}, thinks, and both viewers see the same`, async () => {
    const file = join(cwd, 'hello.txt');
    const { turn } = await prompt(`WRITE ${file}`);
    if (asks) {
      const request = await asked(second, turn);
      assert.ok(!existsSync(file), 'nothing is written before the answer');
      await answer(request, 'PERMISSION_OPTION_KIND_ALLOW_ONCE');
    }
    assert.equal(await stopReason(first, turn), 'STOP_REASON_END_TURN');
    assert.equal(readFileSync(file, 'utf8'), FILE_TEXT);
    assert.match(first.text(turn), /Done: wrote/);
    const calls = first.events.filter((e) => e.kind === 'toolCall' || e.kind === 'toolCallUpdate').map((e) => e[e.kind]);
    assert.ok(calls.some((t) => t.status === 'TOOL_CALL_STATUS_COMPLETED'), 'the tool call is completed');

    const next = await prompt('THINK');
    assert.equal(await stopReason(first, next.turn), 'STOP_REASON_END_TURN');
    const thought = first.events.filter((e) => e.kind === 'agentThoughtChunk').map((e) => e.agentThoughtChunk.content.text).join('');
    assert.match(thought, /Let me think about that\./);
    await sameForBoth();
  });

  if (asks) {
    test(`${agent} does not write what a viewer rejects`, async () => {
      const file = join(cwd, 'no.txt');
      const { turn } = await prompt(`WRITE ${file}`);
      await answer(await asked(first, turn), 'PERMISSION_OPTION_KIND_REJECT_ONCE');
      await stopReason(first, turn);
      assert.ok(!existsSync(file));
      await sameForBoth();
    });
  }

  test(`${agent} stops in the middle of an answer when it is cancelled, and goes on afterwards`, async () => {
    const { turn } = await prompt('SLOW 100000');
    await first.waitFor((e) => e.kind === 'agentMessageChunk' && e.turn === turn, 'the first piece of the answer', PATIENCE_MS);
    await c.sessions.cancelTurn({ sessionId });
    assert.equal(await stopReason(first, turn), 'STOP_REASON_CANCELLED');
    await eventually(() => model.requests.some((r) => r.prompt.includes('SLOW') && r.closed === 'aborted'), 'the agent hangs up on the model');
    const next = await prompt('SAY still here');
    assert.equal(await stopReason(first, next.turn), 'STOP_REASON_END_TURN');
    assert.match(first.text(next.turn), /still here/);
    await sameForBoth();
  });

  test(`${agent} finishes its answer while session-svc and process-svc are killed under it`, async () => {
    const { turn } = await prompt('SLOW 150');
    await first.waitFor((e) => e.kind === 'agentMessageChunk' && e.turn === turn, 'the first piece of the answer', PATIENCE_MS);
    const { processId } = (await c.sessions.getSession({ sessionId })).session;
    for (const service of ['session', 'process']) process.kill(server.pidOf(service), 'SIGKILL');
    await first.until(() => first.error, 'the end of the stream').catch(() => {});
    const back = async () => (await c.sessions.getSession({ sessionId }).catch(() => null))?.session;
    assert.equal((await eventually(back, 'session-svc is back')).processId, processId, 'the agent lives on');
    // A viewer goes on after what it has; another one reads it all again.
    const seen = first.events.length;
    const rest = server.viewer(sessionId, { afterSeq: first.events.at(-1).seq });
    const whole = server.viewer(sessionId);
    assert.equal(await stopReason(rest, turn), 'STOP_REASON_END_TURN');
    assert.equal(await stopReason(whole, turn), 'STOP_REASON_END_TURN');
    const pieces = Array.from({ length: 150 }, (_, i) => `piece ${i}.`).join(' ');
    assert.equal(whole.text(turn).trim(), pieces, 'nothing is lost or doubled');
    const joined = [...first.raw.slice(0, seen), ...rest.raw];
    assert.ok(Buffer.concat(joined.slice(0, whole.raw.length)).equals(Buffer.concat(whole.raw.slice(0, joined.length))));
    [first, second] = [whole, server.viewer(sessionId)];
    await sameForBoth();
  });

  test(`${agent} is killed, and a new process goes on with the conversation`, async () => {
    const told = await prompt('SAY the first answer');
    assert.equal(await stopReason(first, told.turn), 'STOP_REASON_END_TURN');
    const before = (await c.sessions.getSession({ sessionId })).session;
    await c.processes.signalProcess({ processId: before.processId, signal: 9, scope: 'SIGNAL_SCOPE_TREE' });
    await first.waitFor((e) => e.stateChanged?.state === 'SESSION_STATE_SUSPENDED', 'the end of the agent', PATIENCE_MS);
    const next = await prompt('SAY the second answer');
    assert.equal(await stopReason(first, next.turn), 'STOP_REASON_END_TURN');
    assert.match(first.text(next.turn), /the second answer/);
    assert.equal(first.events.filter((e) => e.kind === 'agentMessageChunk').map((e) => e.agentMessageChunk.content.text).join('').split('the first answer').length, 2, 'history is not told twice');
    const restored = first.events.find((e) => e.kind === 'restored').restored.method;
    if (resumes) {
      assert.ok(['RESTORE_METHOD_RESUME', 'RESTORE_METHOD_LOAD'].includes(restored), restored);
      const now = (await c.sessions.getSession({ sessionId })).session;
      assert.equal(now.agentSessionId, before.agentSessionId);
      assert.notEqual(now.processId, before.processId);
      const request = model.requests.findLast((r) => r.prompt.includes('the second answer') && r.tools.length);
      assert.ok(request.prompts > 1, 'the model is told the conversation so far');
    }
    await sameForBoth();
  });
}
