// People who share a session through different gateway processes and Redis, with most of the bus lost and Redis going
// away in between, end with the same bytes.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { text } from '../clients/grpc.mjs';
import { callJson, SseViewer } from '../clients/http.mjs';
import { eventually, startRedis, startServices } from '../clients/server.mjs';

let redis, s, c, second;

before(async () => {
  redis = await startRedis();
  s = await startServices({
    process: [], fs: [], session: ['--redis', redis.url, '--bus-drop-percent', '75'], gateway: [],
  });
  second = await s.startSecondGateway();
  c = s.connect();
});
after(async () => {
  await s?.stop();
  await redis?.stop();
});

const create = async () => (await c.sessions.createSession({ agent: 'mock' })).session.sessionId;
const prompt = (sessionId, words) => c.sessions.sendPrompt({ sessionId, content: text(words) });
const members = async (base, id) => (await callJson(base, s.token, 'GET', `/v1/sessions/${id}/members`)).members.map((m) => m.displayName);
const join = (base, id, displayName) => callJson(base, s.token, 'POST', `/v1/sessions/${id}/members`, { displayName });
const endOf = (turn) => (event) => event.turnEnded && Number(event.turn) === turn;

// Every viewer has the whole history, each event once, and all have the same bytes.
async function assertSame(sse, grpc, turn) {
  for (const v of sse) await v.waitFor(endOf(turn), `the end of turn ${turn} over SSE`);
  for (const v of grpc) await v.turnEnded(turn);
  const wanted = sse[0].events.map((e) => e.data);
  for (const v of sse) {
    assert.deepEqual(v.events.map((e) => Number(e.id.split('-')[1])), v.events.map((_, i) => i + 1));
    assert.deepEqual(v.events.map((e) => e.data).slice(0, wanted.length), wanted);
  }
  for (const v of grpc) {
    assert.deepEqual(v.events.map((e) => e.seq), v.events.map((_, i) => i + 1));
    const head = Math.min(v.raw.length, grpc[0].raw.length);
    assert.ok(Buffer.concat(v.raw.slice(0, head)).equals(Buffer.concat(grpc[0].raw.slice(0, head))));
    assert.ok(head >= wanted.length - 1);
  }
}

test('who joins late on another gateway sees who is there and ends with the same events, with 75 % of the bus lost', async () => {
  const id = await create();
  await join(s.http, id, 'Ada');
  const sse = [new SseViewer(s.http, s.token, id), new SseViewer(s.http, s.token, id)];
  const grpc = [s.viewer(id)];
  const { turn } = await prompt(id, 'TICK 1000 1');
  await sse[0].waitFor((e) => e.agentMessageChunk?.content.text === 'tick 300\n', 'tick 300');

  await join(second, id, 'Bert');
  for (const base of [s.http, second]) assert.deepEqual(await members(base, id), ['Ada', 'Bert']);
  sse.push(new SseViewer(second, s.token, id), new SseViewer(second, s.token, id));
  grpc.push(s.viewer(id));
  await assertSame(sse, grpc, turn);
  const ticks = sse[2].events.map((e) => JSON.parse(e.data).agentMessageChunk?.content.text).filter(Boolean);
  assert.deepEqual(ticks, Array.from({ length: 1000 }, (_, i) => `tick ${i + 1}\n`));
  for (const v of sse) await v.close();
});

test('Redis going away makes presence unknown and nothing else, and an empty Redis that comes back is no older', async () => {
  const id = await create();
  const { fencingToken: before } = await join(s.http, id, 'Ada');
  const viewers = [new SseViewer(s.http, s.token, id), new SseViewer(second, s.token, id)];
  const { turn } = await prompt(id, 'TICK 600 2');
  await viewers[0].waitFor((e) => e.agentMessageChunk?.content.text === 'tick 50\n', 'tick 50');
  const port = redis.port;
  await redis.stop();
  const refused = await members(s.http, id).catch((e) => e);
  assert.equal(refused.status, 503, String(refused));
  assert.match(refused.problem.type, /redis_unavailable/);
  assert.match(refused.message, /Redis/);
  const other = await create();
  await prompt(other, 'hello');
  await s.viewer(other).turnEnded(1);
  await assertSame(viewers, [s.viewer(id)], turn);

  redis = await startRedis({ port });
  const again = await eventually(() => join(second, id, 'Bert').catch(() => null), 'presence is known again');
  assert.ok(Number(again.fencingToken) > Number(before), 'numbers go on growing');
  assert.ok((await members(s.http, id)).includes('Bert'));
  for (const v of viewers) await v.close();
});
