// The HTTP edge before the real services.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Component, range } from '../../services/gateway-svc/component.mjs';

const said = (v) => v.events.map((m) => JSON.parse(m.data).agentMessageChunk?.content.text ?? '').join('');
const contiguous = (v) => assert.deepEqual(v.seqs, range(v.seqs[0], v.seqs.at(-1)));

describe('over HTTP', () => {
  let c;
  before(async () => (c = await Component.start({ real: true })));
  after(() => c.stop());

  test('a session is created, prompted, followed and ended', async () => {
    const id = await c.create();
    const v = c.viewer({ id });
    const { turn } = await c.say('hello there', id);
    assert.equal(turn, '1');
    const ended = await v.event('turnEnded');
    assert.equal(ended.turnEnded.stopReason, 'STOP_REASON_END_TURN');
    assert.equal((await v.event('promptAccepted')).promptAccepted.author, 'owner');
    assert.match(said(v), /hello there/);
    contiguous(v);
    assert.equal(v.seqs[0], 1);
    const chunk = await v.event('agentMessageChunk');
    assert.equal(chunk.agentJson.method, 'session/update', "the agent's own message is there as it came");
    const { sessions } = await c.json('GET', '/v1/sessions');
    assert.equal(sessions.find((s) => s.sessionId === id).state, 'SESSION_STATE_IDLE');
    await c.json('DELETE', `/v1/sessions/${id}`);
    assert.deepEqual(await v.notice('closed'), { reason: 'SESSION_DESTROYED' });
    const again = c.viewer({ id, last: v.lastId });
    await again.until(() => again.status === 204, 'no content');
    await again.close();
  });

  test('a prompt that is sent twice with one id runs once', async () => {
    const id = await c.create();
    const body = { content: [{ text: 'once' }], requestId: 'r1' };
    const [a, b] = await Promise.all([1, 2].map(() => c.json('POST', `/v1/sessions/${id}/prompts`, body)));
    assert.deepEqual(a, b);
  });

  test('a permission is answered, and the second answer is told who was first', async () => {
    const id = await c.create();
    const v = c.viewer({ id });
    await c.say('PERMISSION', id);
    const { permissionRequested: asked } = await v.event('permissionRequested');
    const pending = await c.json('GET', `/v1/sessions/${id}/permissions`);
    assert.deepEqual(pending.permissions.map((p) => p.permissionId), [asked.permissionId]);
    const path = `/v1/sessions/${id}/permissions/${asked.permissionId}/answer`;
    const option = asked.options.find((o) => o.kind === 'PERMISSION_OPTION_KIND_ALLOW_ONCE');
    await c.json('POST', path, { optionId: option.optionId });
    const second = await c.call('POST', path, { body: { optionId: option.optionId } });
    assert.equal(second.status, 409);
    const problem = await second.json();
    assert.equal(problem.type, 'urn:sandbox-agent:error:permission_already_answered');
    assert.match(problem.detail, /owner/);
    assert.equal((await v.event('permissionResolved')).permissionResolved.author, 'owner');
    await v.event('turnEnded');
    await v.close();
  });

  test('a turn is cancelled', async () => {
    const id = await c.create();
    const v = c.viewer({ id });
    await c.say('HANG', id);
    await v.event('turnStarted');
    await c.json('POST', `/v1/sessions/${id}/cancel`, {});
    assert.equal((await v.event('turnEnded')).turnEnded.stopReason, 'STOP_REASON_CANCELLED');
    const nothing = await c.call('POST', `/v1/sessions/${id}/cancel`);
    assert.equal((await nothing.json()).type, 'urn:sandbox-agent:error:no_turn_running');
    await v.close();
  });

  test('who is here is known', async () => {
    const id = await c.create();
    const { member } = await c.json('POST', `/v1/sessions/${id}/members`, { displayName: 'Ada' });
    await c.json('PATCH', `/v1/sessions/${id}/members/${member.memberId}`, { activity: 'typing', seenSeq: '2' });
    const { members } = await c.json('GET', `/v1/sessions/${id}/members`);
    assert.deepEqual(members.map((m) => [m.displayName, m.activity, m.principal, m.seenSeq]), [['Ada', 'typing', 'owner', '2']]);
    await c.json('DELETE', `/v1/sessions/${id}/members/${member.memberId}`);
    assert.deepEqual((await c.json('GET', `/v1/sessions/${id}/members`)).members, []);
  });

  test('two viewers on two gateways, one of them late, end with the same bytes', async () => {
    const other = await c.startGateway([], { place: '2' });
    const id = await c.create();
    const a = c.viewer({ id });
    await c.say('BURST 500', id);
    await a.event('turnEnded');
    const b = c.viewer({ id, http: other });
    await b.event('turnEnded');
    await c.say('BURST 500', id, { http: other });
    for (const v of [a, b]) await v.event('turnEnded', 2);
    assert.equal(a.events.map((m) => m.data).join('\n'), b.events.map((m) => m.data).join('\n'));
    contiguous(a);
    await a.close();
    await b.close();
  });

  test('a gateway that is killed in the middle of a turn is replaced, and nothing is missing', async () => {
    const id = await c.create();
    const first = await c.startGateway([], { place: '3' });
    const v = c.viewer({ id, http: first });
    await c.say('TICK 400 2', id);
    await v.until(() => said(v).includes('tick 20'), 'the twentieth tick');
    await first.service.end('SIGKILL');
    await v.ended;
    const w = c.viewer({ id, last: v.lastId });
    await w.event('turnEnded');
    assert.deepEqual([...v.seqs, ...w.seqs], range(1, w.seqs.at(-1)));
    assert.match(said(v) + said(w), /tick 400/);
    await w.close();
  });
});

describe('when much is lost', () => {
  test('with 75 % of the bus dropped, every viewer has the complete history in order', async (t) => {
    const c = await Component.start({ real: true, session: ['--bus-drop-percent', '75'] });
    t.after(() => c.stop());
    const id = await c.create();
    const viewers = [c.viewer({ id }), c.viewer({ id })];
    await c.say('BURST 2000', id);
    await viewers[0].event('turnEnded');
    viewers.push(c.viewer({ id }));
    for (const v of viewers) {
      await v.event('turnEnded');
      assert.deepEqual(v.seqs, range(1, v.seqs.at(-1)));
      assert.equal(v.text.split('\n').filter((l) => l.startsWith('data: {"seq"')).join(), viewers[0].text.split('\n').filter((l) => l.startsWith('data: {"seq"')).join());
      await v.close();
    }
  });

  test('session-svc killed in the middle of a turn costs a viewer nothing', async (t) => {
    const c = await Component.start({ real: true });
    t.after(() => c.stop());
    const id = await c.create();
    const v = c.viewer({ id });
    await c.say('TICK 300 3', id);
    await v.until(() => said(v).includes('tick 30'), 'the thirtieth tick');
    await c.session.end('SIGKILL');
    await c.startSession();
    await v.event('turnEnded');
    assert.deepEqual(v.seqs, range(1, v.seqs.at(-1)));
    assert.match(said(v), /tick 300/);
    assert.equal(said(v).match(/tick 150\D/g).length, 1);
    assert.deepEqual(v.messages.filter((m) => !['message', 'opened'].includes(m.event)), []);
    await v.close();
  });
});
