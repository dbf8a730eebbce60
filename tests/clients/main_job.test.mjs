// A client in Node does the main job, over plain TCP, TLS and mutual TLS.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { connect, status, text } from './grpc.mjs';
import { makeCertificates, startServer } from './server.mjs';

const transports = {
  'plain TCP': () => startServer(),
  TLS: async () => {
    const pem = makeCertificates();
    return startServer({ tls: { cert: pem.path('server.crt'), key: pem.path('server.key') }, clientTls: { ca: pem.read('ca.crt') } });
  },
  'mutual TLS': async () => {
    const pem = makeCertificates();
    return startServer({
      tls: { cert: pem.path('server.crt'), key: pem.path('server.key') },
      args: ['--tls-ca', pem.path('ca.crt')],
      clientTls: { ca: pem.read('ca.crt'), cert: pem.read('client.crt'), key: pem.read('client.key') },
    });
  },
};

for (const [name, start] of Object.entries(transports)) {
  describe(name, () => {
    let server, c;
    before(async () => {
      server = await start();
      c = server.connect();
    });
    after(() => server.stop());
    const create = async () => (await c.sessions.createSession({ agent: 'mock' })).session.sessionId;

    test('a prompt is answered, event by event, to the end of the turn', async () => {
      const sessionId = await create();
      const events = [];
      for await (const { events: some, turn } of c.sessions.stream.runPrompt({ sessionId, content: text('hello there') })) {
        assert.equal(turn, 1);
        events.push(...some);
      }
      const seqs = events.map((e) => e.seq);
      assert.deepEqual(seqs, seqs.map((_, i) => seqs[0] + i), 'contiguous');
      assert.equal(events[0].kind, 'promptAccepted');
      assert.equal(events[0].promptAccepted.author, 'owner');
      assert.equal(events.at(-1).turnEnded.stopReason, 'STOP_REASON_END_TURN');
      const said = events.filter((e) => e.kind === 'agentMessageChunk').map((e) => e.agentMessageChunk.content.text).join('');
      assert.match(said, /hello there/);
      const { session } = await c.sessions.getSession({ sessionId });
      assert.equal(session.state, 'SESSION_STATE_IDLE');
      assert.equal(session.headSeq >= seqs.at(-1), true);
    });

    test('a viewer answers a permission request, and the agent acts on it', async () => {
      const sessionId = await create();
      const viewer = server.viewer(sessionId);
      const file = join(server.home, `${sessionId}.txt`);
      const { turn } = await c.sessions.sendPrompt({ sessionId, content: text(`PERMISSION ${file}`) });
      const asked = await viewer.waitFor((e) => e.kind === 'permissionRequested', 'a permission request');
      assert.ok(!existsSync(file), 'nothing is written before the answer');
      const { permissions } = await c.permissions.listPermissions({ sessionId });
      const { permissionId, options } = asked.permissionRequested;
      assert.deepEqual(permissions.map((p) => p.permissionId), [permissionId]);
      const allow = options.find((o) => o.kind === 'PERMISSION_OPTION_KIND_ALLOW_ONCE').optionId;
      await c.permissions.answerPermission({ sessionId, permissionId, optionId: allow });
      await viewer.turnEnded(turn);
      assert.ok(existsSync(file));
      const resolved = viewer.events.find((e) => e.kind === 'permissionResolved').permissionResolved;
      assert.equal(resolved.optionId, allow);
      assert.equal(resolved.author, 'owner');
      const again = await c.permissions.answerPermission({ sessionId, permissionId, optionId: allow }).catch((e) => e);
      assert.equal(again.reason, 'PERMISSION_ALREADY_ANSWERED');
    });

    test('a running turn is cancelled', async () => {
      const sessionId = await create();
      const viewer = server.viewer(sessionId);
      const { turn } = await c.sessions.sendPrompt({ sessionId, content: text('HANG') });
      await viewer.waitFor((e) => e.kind === 'turnStarted', 'the start of the turn');
      await c.sessions.cancelTurn({ sessionId });
      const { turnEnded } = await viewer.turnEnded(turn);
      assert.equal(turnEnded.stopReason, 'STOP_REASON_CANCELLED');
    });

    test('a reader that comes back goes on after the last event it has', async () => {
      const sessionId = await create();
      const first = server.viewer(sessionId);
      const { turn } = await c.sessions.sendPrompt({ sessionId, content: text('BURST 500') });
      await first.until(() => first.events.length >= 100, '100 events');
      first.close();
      const afterSeq = first.events.at(-1).seq;
      const second = server.viewer(sessionId, { afterSeq });
      await second.turnEnded(turn);
      const whole = server.viewer(sessionId);
      await whole.turnEnded(turn);
      const head = whole.events.findIndex((e) => e.kind === 'turnEnded') + 1;
      const joined = [...first.raw, ...second.raw].slice(0, head);
      assert.deepEqual(joined.map((b) => b.toString('hex')), whole.raw.slice(0, head).map((b) => b.toString('hex')));
      assert.deepEqual(whole.events.map((e) => e.seq), whole.events.map((_, i) => i + 1));
    });

    test('errors carry a status, a stable reason and a sentence', async () => {
      const unknown = await c.sessions.createSession({ agent: 'nobody' }).catch((e) => e);
      assert.equal(unknown.reason, 'UNKNOWN_AGENT');
      assert.match(unknown.details, /nobody/);
      const missing = await c.sessions.getSession({ sessionId: '0'.repeat(26) }).catch((e) => e);
      assert.equal(missing.code, status.NOT_FOUND);
      assert.equal(missing.reason, 'SESSION_NOT_FOUND');
    });

    test('without the token nobody is let in', async () => {
      for (const token of [undefined, 'wrong']) {
        const stranger = connect(server.targets.sessions, { ...server.credentials, token });
        const refused = await stranger.sessions.listSessions().catch((e) => e);
        assert.equal(refused.code, status.UNAUTHENTICATED);
        stranger.close();
      }
    });

    test('the services beside it answer on their own ports', async () => {
      const ran = await c.processes.runProcess({ spec: { argv: ['/bin/echo', 'hi'].map((w) => Buffer.from(w)) } });
      assert.equal(ran.stdout.toString(), 'hi\n');
      const path = Buffer.from(join(server.home, 'note.txt'));
      await new Promise((resolve, reject) => {
        const call = c.files.stream.writeFile((error, answer) => (error ? reject(error) : resolve(answer)));
        call.write({ open: { path } });
        call.write({ data: Buffer.from('first ') });
        call.end({ data: Buffer.from('second') });
      });
      assert.equal(readFileSync(path, 'utf8'), 'first second');
      const { providers } = await c.sandboxes.listProviders();
      assert.ok(providers.some((p) => p.provider === 'local' && p.available));
    });

    if (name !== 'plain TCP') {
      test('a client without TLS, or without trust, gets nothing', async () => {
        const plain = connect(server.targets.sessions, { token: server.token, deadlineMs: 5000 });
        await assert.rejects(plain.sessions.listSessions());
        plain.close();
        const other = makeCertificates();
        const distrustful = connect(server.targets.sessions, { ...server.credentials, tls: { ...server.credentials.tls, ca: other.read('ca.crt') }, deadlineMs: 5000 });
        await assert.rejects(distrustful.sessions.listSessions());
        distrustful.close();
      });
    }
    if (name === 'mutual TLS') {
      test('a client without a certificate is refused', async () => {
        const bare = connect(server.targets.sessions, { token: server.token, tls: { ca: server.credentials.tls.ca }, deadlineMs: 5000 });
        const refused = await bare.sessions.listSessions().catch((e) => e);
        assert.ok([status.UNAVAILABLE, status.DEADLINE_EXCEEDED].includes(refused.code), String(refused));
        bare.close();
      });
    }
  });
}
