import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventParser } from './api.js';
import { Log } from './log.js';

let seq = 0;
const log = (...events) => {
  const l = new Log();
  seq = 0;
  for (const e of events) l.apply({ seq: String(++seq), turn: '1', ...e });
  return l;
};
const text = (t, messageId = '') => ({ agentMessageChunk: { content: { text: t }, messageId } });

test('pieces of one message are one row, pieces of another are another', () => {
  const { rows } = log(text('a'), text('b'), text('c', 'm2'), { agentThoughtChunk: { content: { text: 'd' } } }, text('e'));
  assert.deepEqual(rows.map((r) => [r.kind, r.text]), [['agent', 'ab'], ['agent', 'c'], ['thought', 'd'], ['agent', 'e']]);
});

test('an event that was seen is ignored', () => {
  const l = log(text('a'));
  assert.equal(l.apply({ seq: '1', ...text('a') }), null);
  assert.equal(l.rows[0].text, 'a');
});

test('a prompt waits until its turn starts', () => {
  const accepted = { promptAccepted: { content: [{ text: 'hi' }], author: 'owner' } };
  assert.equal(log(accepted).rows[0].waiting, true);
  assert.equal(log(accepted, { turnStarted: {} }).rows[0].waiting, false);
  assert.equal(log(accepted, { turnEnded: { stopReason: 'STOP_REASON_CANCELLED' } }).rows[0].waiting, false);
});

test('updates of a tool call change its row', () => {
  const { rows } = log(
    { toolCall: { toolCallId: 't', title: 'Write a', toolKind: 'edit', status: 'TOOL_CALL_STATUS_PENDING', locations: [{ path: '/a', line: 3 }] } },
    { toolCallUpdate: { toolCallId: 't', status: 'TOOL_CALL_STATUS_COMPLETED', content: [{ content: { text: 'done' } }] } },
    { toolCallUpdate: { toolCallId: 'u', title: 'late' } },
  );
  assert.equal(rows.length, 2);
  assert.deepEqual([rows[0].title, rows[0].status, rows[0].where, rows[0].output.length], ['Write a', 'completed', ['/a:3'], 1]);
  assert.equal(rows[1].title, 'late');
});

test('a permission is pending until it is answered', () => {
  const asked = { permissionRequested: { permissionId: 'p', toolCall: { title: 'Write' }, options: [{ optionId: 'y', name: 'Yes' }] } };
  assert.equal(log(asked).pending.size, 1);
  const l = log(asked, { permissionResolved: { permissionId: 'p', outcome: 'PERMISSION_OUTCOME_SELECTED', optionId: 'y', author: 'owner' } });
  assert.equal(l.pending.size, 0);
  assert.deepEqual(l.rows[0].answer, { outcome: 'selected', option: 'Yes', author: 'owner' });
});

test('every kind of event of this version, and of a newer one, is taken', () => {
  const kinds = {
    stateChanged: { state: 'SESSION_STATE_FAILED', reason: 'X', message: 'why' }, userMessageChunk: {}, plan: { entries: [{ content: 'a' }] },
    usage: { usedTokens: '5' }, modeChanged: { modeId: 'plan' }, configChanged: {}, agentLog: { text: 'l' }, error: { reason: 'R', message: 'm' },
    quiet: { silentMs: '120000' }, restored: { method: 'RESTORE_METHOD_LOAD' }, unknown: { name: 'n' },
    fileAccess: { path: '/f', written: true, size: '3' }, permissionResolved: { permissionId: 'none' }, somethingNew: { a: 1 },
  };
  const l = log(...Object.entries(kinds).map(([name, body]) => ({ [name]: body })));
  assert.equal(l.state, 'failed');
  assert.deepEqual(l.tokens, { usedTokens: '5' });
  assert.ok(l.rows.some((r) => r.text === 'an event of a newer kind'));
  assert.ok(l.rows.some((r) => r.text === 'the agent wrote /f (3 bytes)'));
});

test('the same events give the same rows, however they arrive', () => {
  const events = Array.from({ length: 300 }, (_, i) => ({ seq: String(i + 1), turn: '1', ...text(`${i} `, `m${i % 7}`) }));
  const a = new Log(), b = new Log();
  for (const e of events) a.apply(e);
  for (const e of [...events.slice(0, 200), ...events.slice(50)]) b.apply(e);
  assert.deepEqual(b.rows.map((r) => r.text), a.rows.map((r) => r.text));
});

test('a stream of events is understood however it is cut', () => {
  const stream = ': heartbeat\n\nid: 7-1\ndata: {"a":1}\n\nevent: gap\r\ndata: x\r\ndata:y\r\n\r\nid: 7-2\ndata: ü\n\n';
  const expected = [{ id: '7-1', event: 'message', data: '{"a":1}' }, { id: '7-1', event: 'gap', data: 'x\ny' }, { id: '7-2', event: 'message', data: 'ü' }];
  for (let size = 1; size < stream.length; size++) {
    const got = [];
    const parser = new EventParser((m) => got.push(m));
    for (let i = 0; i < stream.length; i += size) parser.push(stream.slice(i, i + size));
    assert.deepEqual(got, expected);
  }
});
