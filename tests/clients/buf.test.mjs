// An ordinary tool that knows nothing of our protos: `buf curl` lists, describes and calls through reflection.
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { root } from './grpc.mjs';
import { makeCertificates, startServer } from './server.mjs';

const packageJson = createRequire(import.meta.url).resolve('@bufbuild/buf/package.json');
const buf = join(dirname(packageJson), '..', '..', '.bin', 'buf');
const TIMEOUT_MS = 60_000;

test('buf lint finds nothing to say about the protos', () => {
  execFileSync(buf, ['lint'], { cwd: join(root, 'proto'), env: { ...process.env, BUF_CACHE_DIR: process.env.TEST_TMPDIR }, encoding: 'utf8' });
});

const transports = {
  TCP: () => startServer(),
  TLS: async () => {
    const pem = makeCertificates();
    const server = await startServer({
      tls: { cert: pem.path('server.crt'), key: pem.path('server.key') }, clientTls: { ca: pem.read('ca.crt') },
    });
    return { ...server, cacert: pem.path('ca.crt') };
  },
};

for (const [name, start] of Object.entries(transports)) {
  describe(name, () => {
    let server;
    before(async () => (server = await start()));
    after(() => server.stop());

    // Runs buf curl; answers its exit code, what it printed, and the JSON documents in that.
    function curl(service, args, path = '') {
      const base = `${server.cacert ? 'https' : 'http'}://${server.targets[service]}`;
      const transport = server.cacert ? ['--cacert', server.cacert] : ['--http2-prior-knowledge'];
      const command = ['curl', '--protocol', 'grpc', ...transport, '-H', `authorization: Bearer ${server.token}`, '--reflect-header', '*', ...args, base + path];
      return new Promise((resolve) => {
        execFile(buf, command, { timeout: TIMEOUT_MS, env: { ...process.env, HOME: server.home } }, (error, stdout, stderr) => {
          resolve({ code: error ? (error.code ?? 'killed') : 0, stdout, stderr });
        });
      });
    }
    const call = async (service, method, request) => {
      const answer = await curl(service, ['-d', JSON.stringify(request)], `/${method}`);
      assert.equal(answer.code, 0, answer.stderr);
      // A stream prints one document after the other, each from a "{" to a "}" at the start of a line.
      return answer.stdout.split(/(?<=^})\n/m).filter((t) => t.trim()).map((t) => JSON.parse(t));
    };
    const SESSIONS = 'sandboxagent.session.v1.SessionService';

    test('every service lists what it offers', async () => {
      const wanted = {
        sessions: [SESSIONS, 'sandboxagent.session.v1.PermissionService', 'sandboxagent.session.v1.AgentService', 'sandboxagent.presence.v1.PresenceService'],
        processes: ['sandboxagent.process.v1.ProcessService'],
        files: ['sandboxagent.fs.v1.FileService'],
        sandboxes: ['sandboxagent.provider.v1.SandboxService'],
      };
      for (const [service, names] of Object.entries(wanted)) {
        if (name === 'TLS' && service !== 'sessions') continue; // one is enough to see that it works over TLS
        const { stdout, stderr, code } = await curl(service, ['--list-services']);
        assert.equal(code, 0, stderr);
        const listed = stdout.trim().split('\n');
        for (const one of [...names, 'grpc.health.v1.Health']) assert.ok(listed.includes(one), `${service}: ${one} in ${listed}`);
      }
    });

    test('methods are described', async () => {
      const { stdout, code, stderr } = await curl('sessions', ['--list-methods']);
      assert.equal(code, 0, stderr);
      for (const method of ['CreateSession', 'RunPrompt', 'StreamEvents']) assert.match(stdout, new RegExp(`${SESSIONS}/${method}`));
    });

    test('health is asked', async () => {
      assert.deepEqual(await call('processes', 'grpc.health.v1.Health/Check', {}), [{ status: 'SERVING' }]);
    });

    test('the main job is done: a session, a prompt, its events, a page of them', async () => {
      const [{ session }] = await call('sessions', `${SESSIONS}/CreateSession`, { agent: 'mock', labels: { via: 'curl' } });
      const messages = await call('sessions', `${SESSIONS}/RunPrompt`, { sessionId: session.sessionId, content: [{ text: 'hello from a tool' }] });
      const events = messages.flatMap((m) => m.events);
      assert.equal(events.at(-1).turnEnded.stopReason, 'STOP_REASON_END_TURN');
      assert.match(events.map((e) => e.agentMessageChunk?.content.text ?? '').join(''), /hello from a tool/);
      const [page] = await call('sessions', `${SESSIONS}/ListEvents`, { sessionId: session.sessionId, pageSize: 2 });
      assert.equal(page.events.length, 2);
      const [list] = await call('sessions', `${SESSIONS}/ListSessions`, { labelKey: 'via', labelValue: 'curl' });
      assert.deepEqual(list.sessions.map((s) => s.sessionId), [session.sessionId]);
    });

    test('an error arrives with its code, its sentence and its details', async () => {
      const answer = await curl('sessions', ['-d', '{"agent":"nobody"}'], `/${SESSIONS}/CreateSession`);
      assert.equal(answer.code % 8, 0, answer.stderr);
      const error = JSON.parse(answer.stderr);
      assert.match(error.message, /nobody/);
      const info = error.details.find((d) => d.type === 'google.rpc.ErrorInfo');
      assert.match(Buffer.from(info.value, 'base64').toString(), /UNKNOWN_AGENT/);
    });
  });
}
