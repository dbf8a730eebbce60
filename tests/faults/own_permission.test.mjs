// An agent cannot answer its own permission request, whichever way it tries, when it runs as another user. Needs root:
// without it an agent is the services' own user, and the last test shows that it can then.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, realpathSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { environment, text } from '../clients/grpc.mjs';
import { bin, eventually, newDir, startRedis, startServer } from '../clients/server.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const USER = 'nobody';
const idOf = (flag) => Number(execFileSync('id', [flag, USER], { encoding: 'utf8' }));

// The programs and the intruder where the other user can run them.
function install(dir) {
  chmodSync(dir, 0o755);
  cpSync(bin, join(dir, 'bin'), { recursive: true, dereference: true });
  execFileSync('chmod', ['-R', 'a+rX', join(dir, 'bin')]);
  const place = join(dir, 'agents/node_modules/.bin');
  mkdirSync(place, { recursive: true });
  copyFileSync(join(here, 'intruder.mjs'), join(dir, 'agents/intruder.mjs'));
  // The catalogue knows no agent of this name: it takes the place of one that it knows.
  writeFileSync(join(place, 'claude-agent-acp'), `#!/bin/sh\nexec '${process.execPath}' '${join(dir, 'agents/intruder.mjs')}'\n`);
  chmodSync(join(place, 'claude-agent-acp'), 0o755);
}

async function letIntrude({ agentUser }) {
  const dir = newDir();
  install(dir);
  const redis = await startRedis();
  const server = await startServer({
    dir, binDir: join(dir, 'bin'),
    args: ['--agents-dir', join(dir, 'agents'), '--redis', redis.url, ...(agentUser ? ['--agent-user', agentUser] : [])],
  });
  const c = server.connect();
  const cwd = join(dir, 'work');
  mkdirSync(cwd);
  chownSync(cwd, idOf('-u'), idOf('-g'));
  const { session } = await c.sessions.createSession({ agent: 'claude', cwd: Buffer.from(cwd), env: environment({ HOME: cwd }) });
  const { sessionId } = session;
  const viewer = server.viewer(sessionId);
  const { turn } = await c.sessions.sendPrompt({ sessionId, content: text('break in') });
  const { permissionRequested } = await viewer.waitFor((e) => e.kind === 'permissionRequested', 'a permission request');
  const target = {
    sessionId, permissionId: permissionRequested.permissionId, optionId: 'yes',
    tcp: ['127.0.0.1', '[::1]'].flatMap((host) => [0, 1, 2, 3, 4, 5].map((i) => ({ host, port: server.ports + i }))),
    runDir: join(server.dataDir, 'run'), dataDir: server.dataDir, redis: { port: redis.port }, spare: !agentUser,
    servicePids: ['session', 'process', 'fs', 'gateway', 'provider'].map(server.pidOf),
  };
  writeFileSync(join(cwd, 'target.tmp'), JSON.stringify(target));
  renameSync(join(cwd, 'target.tmp'), join(cwd, 'target.json'));
  await eventually(() => existsSync(join(cwd, 'attempts.json')), 'the intruder tells what it tried', 120_000);
  const { uid, attempts, words } = JSON.parse(readFileSync(join(cwd, 'attempts.json'), 'utf8'));
  const { permissions } = await c.permissions.listPermissions({ sessionId });
  const finish = async () => {
    await server.stop();
    await redis.stop();
  };
  return { server, c, viewer, turn, sessionId, permissionId: permissionRequested.permissionId, uid, attempts, words, permissions, finish };
}

describe('an agent and its own permission request', { skip: process.getuid() !== 0 && 'needs root' }, () => {
  test('as another user it cannot answer it, over TCP, unix sockets or Redis, nor reach any secret', async () => {
    const r = await letIntrude({ agentUser: USER });
    assert.equal(r.uid, idOf('-u'), 'the agent runs as the other user');
    const got = r.attempts.filter((a) => a.got !== undefined && a.what !== 'write to Redis');
    assert.deepEqual(got, [], 'nothing that it tried worked');
    for (const what of ['answer at 127.0.0.1', 'answer at /', 'read ', 'environment of', 'end ']) {
      assert.ok(r.attempts.some((a) => a.what.startsWith(what)), `it tried: ${what}`);
    }
    const overTcp = r.attempts.filter((a) => a.what.startsWith(`answer at ${r.server.targets.sessions}`));
    assert.deepEqual(overTcp.map((a) => a.refused), ['gRPC status 16'], 'the session service refuses it as unauthenticated');
    assert.ok(r.attempts.some((a) => a.what === 'write to Redis' && a.got.includes('+OK')), 'Redis let it write');

    assert.deepEqual(r.permissions.map((p) => p.permissionId), [r.permissionId], 'the request still waits');
    await r.c.permissions.answerPermission({ sessionId: r.sessionId, permissionId: r.permissionId, optionId: 'no' });
    await r.viewer.turnEnded(r.turn);
    assert.match(r.viewer.text(r.turn), /outcome: .*"no"/);
    const resolved = r.viewer.events.filter((e) => e.kind === 'permissionResolved').map((e) => e.permissionResolved);
    assert.deepEqual(resolved.map((p) => [p.optionId, p.author]), [['no', 'owner']]);
    await r.finish();
  });

  test('as the services\' own user it can: the separation is what prevents it', async () => {
    const r = await letIntrude({ agentUser: null });
    assert.equal(r.uid, process.getuid());
    assert.ok(r.attempts.some((a) => a.got?.startsWith('ANSWERED')), JSON.stringify(r.attempts, null, 1));
    await r.viewer.turnEnded(r.turn);
    await r.finish();
  });
});
