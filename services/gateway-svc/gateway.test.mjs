import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { Component, TOKEN, range, raw } from './component.mjs';

const EPOCH = '0000000000000007';

const problem = async (response) => {
  assert.equal(response.headers.get('content-type'), 'application/problem+json');
  const body = await response.json();
  assert.equal(body.status, response.status);
  return body;
};

describe('calls', () => {
  let c;
  before(async () => (c = await Component.start()));
  after(() => c.stop());

  test('health needs no token', async () => {
    const response = await c.call('GET', '/v1/health', { token: '' });
    assert.equal(response.status, 200);
    assert.deepEqual(await response.json(), { status: 'ok' });
  });

  test('sessions come as JSON', async () => {
    const { sessions, nextPageToken } = await (await c.call('GET', '/v1/sessions')).json();
    assert.equal(nextPageToken, '');
    assert.equal(sessions.length, 1);
    const { sessionId, state, cwd, headSeq, epoch, labels, pendingPermissions } = sessions[0];
    assert.deepEqual({ sessionId, state, cwd, headSeq, epoch, labels, pendingPermissions }, {
      sessionId: 'fake', state: 'SESSION_STATE_IDLE', cwd: '/work', headSeq: '1', epoch: EPOCH, labels: {}, pendingPermissions: 0,
    });
    assert.deepEqual((await (await c.call('GET', '/v1/sessions?pageSize=1')).json()).sessions, []);
    const { session } = await (await c.call('GET', '/v1/sessions/fake')).json();
    assert.deepEqual(session, sessions[0]);
  });

  test('a session is created from JSON', async () => {
    const response = await c.call('POST', '/v1/sessions', { body: { agent: 'mock', cwd: '/work', labels: { a: 'b' } } });
    assert.equal(response.status, 201);
    assert.equal((await response.json()).session.agent, 'mock');
  });

  test('errors of the services are problems with their reason', async () => {
    const missing = await problem(await c.call('GET', '/v1/sessions/nobody'));
    assert.deepEqual(missing, {
      type: 'urn:sandbox-agent:error:session_not_found', title: 'Session Not Found', status: 404,
      detail: 'session nobody does not exist',
    });
    const unknown = await problem(await c.call('POST', '/v1/sessions', { body: { agent: 'x' } }));
    assert.equal(unknown.type, 'urn:sandbox-agent:error:unknown_agent');
    assert.equal(unknown.status, 400);
  });

  test('bad requests say what is wrong', async () => {
    const cases = [
      ['{', /./], ['[]', /object/], ['{"agent":"mock","agent":"mock"}', /field agent/], ['{"agent":5}', /field agent/],
      ['{"nope":1}', /field nope/], ['{"env":[{"name":"A"},{"name":{}}]}', /field env\[1\]\.name/],
      [`{"agent":${'['.repeat(100_000)}`, /./],
    ];
    for (const [body, detail] of cases) {
      const p = await problem(await c.call('POST', '/v1/sessions', { body }));
      assert.equal(p.status, 400, body.slice(0, 50));
      assert.match(p.detail, detail);
    }
    assert.match((await problem(await c.call('GET', '/v1/sessions?pageSize=x'))).detail, /pageSize/);
    assert.match((await problem(await c.call('GET', '/v1/sessions?nope=1'))).detail, /nope/);
    assert.equal((await problem(await c.call('GET', '/v1/sessions/%ff'))).status, 400);
    assert.equal((await problem(await c.call('GET', '/v1/sessions/fake/events?afterSeq=-1'))).status, 400);
  });

  test('a body of another type is refused', async () => {
    const response = await c.call('POST', '/v1/sessions', { body: '{"agent":"mock"}', headers: { 'Content-Type': 'text/plain' } });
    assert.equal((await problem(response)).status, 415);
  });

  test('unknown paths, methods and tokens are told apart', async () => {
    for (const path of ['/nope', '/v1', '/v1/nope', '/v1/sessions/', '/ui/nope.js', '/v1//sessions'])
      assert.equal((await problem(await c.call('GET', path))).status, 404, path);
    const method = await c.call('PUT', '/v1/sessions');
    assert.equal(method.headers.get('allow'), 'GET, HEAD, POST');
    assert.equal((await problem(method)).status, 405);
    for (const token of ['', 'wrong', `${TOKEN}x`]) {
      const response = await c.call('GET', '/v1/sessions', { token });
      assert.match(response.headers.get('www-authenticate'), /^Bearer/);
      assert.deepEqual(await problem(response), {
        type: 'urn:sandbox-agent:error:token_invalid', title: 'Token Invalid', status: 401, detail: 'token invalid',
        details: { message: 'missing or invalid bearer token' },
      });
    }
    assert.equal((await c.call('GET', `/v1/sessions?access_token=${TOKEN}`, { token: '' })).status, 401);
  });

  test('a body over the limit is 413, and the connection goes on', async () => {
    const body = JSON.stringify({ agent: 'x'.repeat(5000) });
    const response = await c.call('POST', '/v1/sessions/fake/cancel', { body });
    assert.equal((await problem(response)).status, 413);
    const get = await c.call('GET', '/v1/health');
    assert.equal(get.status, 200);
    const huge = await raw(c.http, `POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${TOKEN}\r\n` +
      'Content-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n');
    assert.match(huge, /^HTTP\/1.1 413 /);
  });

  test('headers over the limit are refused', async () => {
    const text = await raw(c.http, `GET /v1/health HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(40_000)}\r\n\r\n`);
    assert.match(text, /^HTTP\/1.1 431 /);
  });

  test('pipelined requests are answered in order', async () => {
    const get = (path) => `GET ${path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${TOKEN}\r\n\r\n`;
    const text = await raw(c.http, get('/v1/sessions/a') + get('/v1/health') + get('/v1/sessions/fake') + get('/nope'), 'endpoint not found');
    const order = ['session a does not exist', '{"status":"ok"}', '"sessionId":"fake"', 'endpoint not found'].map((s) => text.indexOf(s));
    assert.ok(order.every((at, i) => at > (i ? order[i - 1] : 0)), text);
  });

  test('HEAD has no body', async () => {
    const text = await raw(c.http, `HEAD /v1/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`);
    assert.match(text, /^HTTP\/1.1 200 .*Content-Length: 15/s);
    assert.ok(text.endsWith('\r\n\r\n'));
  });

  test('a port in use is told by its name', async () => {
    const other = await Component.start();
    await other.http.service.end();
    await assert.rejects(other.startGateway([], { port: c.http.port }), /port \d+ of 127\.0\.0\.1 is in use/);
    await other.stop();
  });
});

describe('the page', () => {
  let c;
  before(async () => (c = await Component.start()));
  after(() => c.stop());

  test('is served with a policy, and only once', async () => {
    const page = await c.call('GET', '/ui/', { token: '' });
    assert.equal(page.status, 200);
    assert.match(page.headers.get('content-security-policy'), /default-src 'none'/);
    assert.equal(page.headers.get('x-content-type-options'), 'nosniff');
    const html = await page.text();
    assert.doesNotMatch(html, /https?:\/\/(?!www\.w3\.org)/, 'nothing comes from elsewhere');
    for (const [, path] of html.matchAll(/(?:src|href)="(\/ui\/[^"]+)"/g)) {
      const file = await c.call('GET', path, { token: '' });
      assert.equal(file.status, 200, path);
      const again = await c.call('GET', path, { token: '', headers: { 'If-None-Match': file.headers.get('etag') } });
      assert.equal(again.status, 304);
      assert.equal(again.headers.get('etag'), file.headers.get('etag'));
    }
    assert.equal((await c.call('GET', '/ui/sessions/abc', { token: '' })).headers.get('content-type'), 'text/html; charset=utf-8');
    assert.equal((await c.call('GET', '/ui', { token: '' })).headers.get('location'), '/ui/');
  });
});

describe('without a token', () => {
  let c;
  before(async () => (c = await Component.start({ gateway: ['--no-token', '--allow-host', 'box.example'] })));
  after(() => c.stop());
  const ask = (method, headers, body = '{"agent":"mock"}') => raw(c.http, `${method} /v1/sessions HTTP/1.1\r\nConnection: close\r\n${
    Object.entries({ 'Content-Type': 'application/json', 'Content-Length': body.length, ...headers }).map(([k, v]) => `${k}: ${v}\r\n`).join('')}\r\n${body}`);
  const status = async (...args) => Number((await ask(...args)).split(' ')[1]);

  test('callers on this machine may do everything', async () => {
    for (const host of ['localhost', `127.0.0.1:${c.http.port}`, '[::1]:1', '10.0.0.1', 'a.localhost:80', 'box.example'])
      assert.equal(await status('POST', { Host: host }), 201, host);
  });

  test('a name that an attacker resolves to this machine may do nothing', async () => {
    for (const host of ['evil.example', 'localhost.evil.example', 'notlocalhost', '127.0.0.1.evil.example', '[evil', ''])
      for (const method of ['GET', 'POST']) assert.equal(await status(method, { Host: host }, method === 'GET' ? '' : undefined), 403, host);
  });

  test('off the loopback any name is served, and other origins still are not', async () => {
    const wide = await c.startGateway(['--no-token', '--host', '0.0.0.0'], { place: '2' });
    const post = (headers) => raw(wide, `POST /v1/sessions HTTP/1.1\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 16\r\n${headers}\r\n{"agent":"mock"}`);
    assert.match(await post('Host: box.provider.example\r\n'), /^HTTP\/1.1 201 /);
    assert.match(await post('Host: box.provider.example\r\nOrigin: http://evil.example\r\n'), /^HTTP\/1.1 403 /);
  });

  test('a page of another origin may change nothing', async () => {
    for (const origin of ['http://evil.example', 'null', 'http://localhost:1', 'localhost'])
      assert.equal(await status('POST', { Host: 'localhost', Origin: origin }), 403, origin);
    assert.equal(await status('POST', { Host: 'localhost', 'Sec-Fetch-Site': 'cross-site' }), 403);
    assert.equal(await status('POST', { Host: 'localhost:2', Origin: 'http://localhost:2' }), 201);
  });
});

describe('a stream of events', () => {
  let c;
  before(async () => (c = await Component.start({ session: ['--events', '1234'] })));
  after(() => c.stop());

  test('begins with the whole history and goes on live', async () => {
    const v = c.viewer();
    assert.deepEqual(await v.notice('opened'), { epoch: EPOCH, firstSeq: '1', headSeq: '1234' });
    await v.reaches(1234);
    assert.match(v.head, /Content-Type: text\/event-stream/);
    await c.say('say 20');
    await v.reaches(1254);
    assert.deepEqual(v.seqs, range(1, 1254));
    assert.equal(v.lastId, `${EPOCH}-1254`);
    assert.deepEqual(JSON.parse(v.events[1].data), {
      seq: '2', time: '2023-11-14T22:13:22Z', agentMessageChunk: { content: { text: '2' } },
    });
    await v.close();
  });

  test('goes on exactly where Last-Event-ID says', async () => {
    const v = c.viewer();
    await v.reaches(1254);
    await v.close();
    await c.say('say 7');
    const w = c.viewer({ last: `${EPOCH}-1250` });
    await w.reaches(1261);
    assert.deepEqual(w.seqs, range(1251, 1261));
    const x = c.viewer({ path: '/v1/sessions/fake/events?afterSeq=1260' });
    await x.reaches(1261);
    assert.deepEqual(x.seqs, [1261]);
    await w.close();
    await x.close();
  });

  test('refuses what is no position', async () => {
    const get = (last) => c.call('GET', '/v1/sessions/fake/events', { headers: { Accept: 'text/event-stream', 'Last-Event-ID': last } });
    for (const last of ['1', 'x', `${EPOCH}-`, '-5', `${EPOCH}--1`, `${EPOCH}-1x`, `${EPOCH}-${'9'.repeat(20)}`]) assert.equal((await problem(await get(last))).status, 400, last);
    assert.equal((await problem(await get(`${EPOCH}-99999`))).type, 'urn:sandbox-agent:error:seq_ahead');
    assert.equal((await problem(await c.call('GET', '/v1/sessions/fake/events?afterSeq=99999', { headers: { Accept: 'text/event-stream' } }))).status, 416);
    assert.equal((await problem(await c.call('GET', '/v1/sessions/no/events', { headers: { Accept: 'text/event-stream' } }))).status, 404);
  });

  test('another epoch begins anew, and says so', async () => {
    for (const last of ['6-3', '6-99999']) {
      const v = c.viewer({ last });
      assert.deepEqual(await v.notice('reset'), { epoch: EPOCH });
      await v.reaches(1261);
      assert.deepEqual(v.seqs, range(1, 1261), last);
      await v.close();
    }
  });

  test('the same events come as pages of JSON', async () => {
    const seqs = [];
    for (let after = 0; ;) {
      const page = await (await c.call('GET', `/v1/sessions/fake/events?afterSeq=${after}&pageSize=500`)).json();
      if (!page.events) break;
      seqs.push(...page.events.map((e) => Number(e.seq)));
      after = seqs.at(-1);
      assert.equal(page.epoch, EPOCH);
    }
    assert.deepEqual(seqs, range(1, 1261));
  });

  test('what the bus has lost is read from the log', async () => {
    const v = c.viewer();
    await v.reaches(1261);
    await c.say('hide 300');
    await v.reaches(1561);
    assert.deepEqual(v.seqs, range(1, 1561));
    await v.close();
  });

  test('events larger than any buffer come whole', async () => {
    const v = c.viewer({ last: `${EPOCH}-1561` });
    await v.notice('opened');
    await c.say('say 3 300000');
    await v.reaches(1564);
    assert.deepEqual(v.events.map((m) => JSON.parse(m.data).agentMessageChunk.content.text.length), [300000, 300000, 300000]);
    await v.close();
  });

  test('a viewer that does not read stops nobody, and gets everything when it reads again', async () => {
    const slow = c.viewer({ last: `${EPOCH}-1564`, slow: true });
    const fast = c.viewer({ last: `${EPOCH}-1564` });
    await fast.notice('opened');
    await c.say('say 300 20000');
    await fast.reaches(1864);
    assert.equal(slow.events.length, 0);
    slow.socket.resume();
    await slow.reaches(1864);
    assert.deepEqual(slow.seqs, range(1565, 1864));
    assert.deepEqual(fast.seqs, slow.seqs);
    await slow.close();
    await fast.close();
  });

  test('viewers that do not read take bounded memory', async () => {
    const head = Number((await c.json('GET', '/v1/sessions/fake')).session.headSeq);
    const memory = (name) => Number(readFileSync(`/proc/${c.http.service.child.pid}/status`, 'utf8').match(`${name}:\\s+(\\d+)`)[1]) / 1024;
    const rss = () => memory('VmRSS');
    const sanitized = memory('VmSize') > 1 << 20; // the memory of a sanitizer says nothing
    const fast = c.viewer({ last: `${EPOCH}-${head}` });
    await fast.notice('opened');
    await c.say('say 200 10000');
    await fast.reaches(head + 200);
    const before = rss();
    const slow = Array.from({ length: 50 }, () => c.viewer({ last: `${EPOCH}-${head}`, slow: true }));
    for (let i = 0; i < 10; i++) await c.say('say 200 10000');
    await fast.reaches(head + 2200);
    const grown = rss() - before;
    assert.ok(sanitized || grown < 64, `${grown} MiB for 50 viewers that are 20 MB behind`);
    for (const v of slow) await v.close();
    await fast.close();
  });

  test('events that are no longer kept are a gap', async () => {
    const live = c.viewer({ last: `${EPOCH}-4064` });
    await live.notice('opened');
    await c.say('compact 1500');
    const v = c.viewer({ last: `${EPOCH}-1000` });
    assert.deepEqual(await v.notice('gap'), { firstAvailableSeq: '1500' });
    await v.reaches(4064);
    assert.deepEqual(v.seqs, range(1500, 4064));
    assert.equal(v.messages.find((m) => m.event === 'gap').id, `${EPOCH}-1499`);
    await v.close();
    await live.close();
  });

  test('two gateway processes give byte-identical lists', async () => {
    const run = await c.startGateway([], { place: '2' });
    const a = c.viewer(), b = c.viewer({ http: run });
    await a.reaches(4064);
    await c.say('say 10');
    await a.reaches(4074);
    await b.reaches(4074);
    assert.equal(a.events.map((m) => m.data).join('\n'), b.events.map((m) => m.data).join('\n'));
    await a.close();
    await b.close();
  });

  test('the end of a session ends its streams, and stays ended', async () => {
    const v = c.viewer({ last: `${EPOCH}-4064` });
    await v.notice('opened');
    assert.equal((await c.call('DELETE', '/v1/sessions/fake')).status, 204);
    assert.deepEqual(await v.notice('closed'), { reason: 'SESSION_DESTROYED' });
    await v.until(() => v.complete, 'the end');
    const again = await c.call('GET', '/v1/sessions/fake/events', { headers: { Accept: 'text/event-stream', 'Last-Event-ID': v.lastId } });
    assert.equal(again.status, 204);
    const all = c.viewer();
    await all.until(() => all.complete, 'the end');
    assert.equal(all.messages.at(-1).event, 'closed');
  });
});

describe('when things break', () => {
  test('with 75 % of the bus lost, a viewer misses nothing', async (t) => {
    const c = await Component.start({ session: ['--bus-drop-percent', '75'] });
    t.after(() => c.stop());
    const v = c.viewer();
    await v.reaches(1);
    for (let i = 0; i < 20; i++) await c.say('say 50');
    await v.reaches(1001);
    assert.deepEqual(v.seqs, range(1, 1001));
    await v.close();
  });

  test('a session service that is killed and comes back interrupts no viewer', async (t) => {
    const c = await Component.start({ session: ['--events', '50'] });
    t.after(() => c.stop());
    const v = c.viewer();
    await v.reaches(50);
    await c.session.end('SIGKILL');
    await c.startSession(['--events', '50']);
    await c.say('say 30');
    await v.reaches(80);
    assert.deepEqual(v.seqs, range(1, 80));
    assert.equal(v.messages.filter((m) => m.event !== 'message' && m.event !== 'opened').length, 0);
    await v.close();
  });

  test('a new log while a viewer watches is told as a reset', async (t) => {
    const c = await Component.start({ session: ['--events', '50'] });
    t.after(() => c.stop());
    const v = c.viewer();
    await v.reaches(50);
    await c.session.end('SIGKILL');
    await c.startSession(['--events', '10', '--epoch', '8']);
    assert.deepEqual(await v.notice('reset'), { epoch: EPOCH.replace('7', '8') });
    await c.say('say 3');
    await v.until(() => v.lastId === `${EPOCH.replace('7', '8')}-13`, 'event 13 of the new log');
    assert.deepEqual(v.seqs, [...range(1, 50), ...range(1, 13)]);
    await v.close();
  });

  test('a gateway that is killed and comes back is found by its viewers', async (t) => {
    const c = await Component.start({ session: ['--events', '50'] });
    t.after(() => c.stop());
    const v = c.viewer();
    await v.reaches(50);
    await c.http.service.end('SIGKILL');
    await v.ended;
    const again = await c.startGateway();
    await c.call('POST', '/v1/sessions/fake/prompts', { http: again, body: { content: [{ text: 'say 10' }] } });
    const w = c.viewer({ http: again, last: v.lastId });
    await w.reaches(60);
    assert.deepEqual(w.seqs, range(51, 60));
    await w.close();
  });

  test('a gateway that drains says goodbye to its viewers', async (t) => {
    const c = await Component.start();
    t.after(() => c.stop());
    const v = c.viewer();
    await v.reaches(1);
    await c.http.service.end('SIGTERM');
    assert.deepEqual(JSON.parse(v.messages.at(-1).data), { reason: 'DRAINING' });
    assert.ok(v.complete);
  });

  test('without a session service, calls fail in bounded time', async (t) => {
    const c = await Component.start();
    t.after(() => c.stop());
    await c.session.end();
    const response = await c.call('GET', '/v1/sessions');
    assert.ok([503, 504].includes((await problem(response)).status));
  });
});
