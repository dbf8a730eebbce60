// The sandbox's pod as the manifests describe it, run on a Docker daemon of our own to a prompt's end: same image, users,
// capabilities, read-only roots, volumes, secrets and probes. Heavy: it needs root, dockerd and the file that
// `deploy/images/base` makes.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { userInfo } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { bin } from '../clients/server.mjs';
import { runPod, startDocker } from './docker.mjs';
import { makeSecrets, render, root } from './render.mjs';

const exec = promisify(execFile);
const here = dirname(fileURLToPath(import.meta.url));
const base = process.env.SANDBOX_AGENT_BASE_IMAGE ?? join(userInfo().homedir, '.cache/sandbox-agent/debian-12-base.tar');
const AGENT_UID = 10001;

let daemon, pod, redis;
const objects = render('deploy/kubernetes');
const secrets = Object.fromEntries(
  makeSecrets().map((s) => [s.metadata.name, Object.fromEntries(Object.entries(s.data).map(([k, v]) => [k, Buffer.from(v, 'base64')]))]),
);
const find = (kind, name) => objects.find((o) => o.kind === kind && o.metadata.name === name);

before(async () => {
  assert.ok(existsSync(base), `${base} is missing: deploy/images/base makes it`);
  daemon = await startDocker();
  await daemon.docker('import', base, 'debian:12-slim');
  await exec(join(root, 'deploy/images/build'), ['--no-network', '--bin', bin], { env: daemon.env, maxBuffer: 64 << 20 });
  await daemon.docker('tag', 'debian:12-slim', 'redis:7.0.15-bookworm'); // the base has Redis in it
  pod = await runPod(daemon, find('StatefulSet', 'sandbox'), secrets, { hosts: ['redis'] });
  const set = find('Deployment', 'redis');
  const [container] = set.spec.template.spec.containers;
  redis = 'redis';
  await daemon.docker('run', '-d', '--name', redis, '--network', 'container:sandbox-pause', '--read-only', '--entrypoint', container.command[0],
    container.image, '--requirepass', secrets['sandbox-agent-redis'].password.toString(), '--save', '');
});
after(async () => {
  await daemon?.docker('rm', '-f', redis).catch(() => {});
  await pod?.remove().catch(() => {});
  await daemon?.stop();
});

test('every probe of the pod answers', async () => {
  for (const kind of ['startupProbe', 'readinessProbe', 'livenessProbe']) await pod.probe(kind);
});

test('process 1 of the process container supervises', async () => {
  assert.match(await pod.exec('process', 'cat', '/proc/1/cmdline'), /sandbox-agent\0supervise/);
});

test('a prompt runs to its end over TLS, a permission is answered, a killed process-svc costs nothing', async () => {
  const kept = ['/run/sandbox-agent', '/run/sandbox-agent-secret/secret', '/etc/sandbox-agent/token/token', '/etc/sandbox-agent/tls/tls.key', '/var/lib/sandbox-agent'];
  const client = spawn('nsenter', ['-t', String(await pod.pid('pause')), '-n', process.execPath, join(here, 'pod_client.mjs')], { stdio: ['pipe', 'pipe', 'pipe'] });
  client.stdin.end(JSON.stringify({
    ca: secrets['sandbox-agent-tls']['ca.crt'].toString(), token: secrets['sandbox-agent-token'].token.toString(), file: '/workspace/allowed.txt', secrets: kept,
  }));
  let output = '';
  let errors = '';
  client.stderr.on('data', (data) => (errors += data));
  const killed = new Promise((resolve, reject) => {
    let asked = false;
    client.stdout.on('data', (data) => {
      output += data;
      if (asked || !output.includes('"running"')) return;
      asked = true;
      resolve(pod.exec('process', 'sh', '-c', 'kill -9 $(cat /var/lib/sandbox-agent/process/lock)'));
    });
    client.on('exit', (code) => reject(new Error(`the client ended with ${code}: ${errors}`)));
  });
  const ended = new Promise((resolve) => client.on('close', resolve));
  try {
    await killed;
  } catch (error) {
    const logs = await Promise.all(['session', 'process', 'fs', 'gateway'].map(async (n) => `${n}: ${await pod.logs(n)}`));
    throw new Error(`${error.message}\n${logs.join('\n')}`);
  }
  assert.equal(await ended, 0, errors);
  const saw = JSON.parse(output.trim().split('\n').at(-1));
  assert.equal(saw.stopReason, 'STOP_REASON_END_TURN');
  assert.match(saw.said, /\/workspace/, 'the agent works in the workspace');
  assert.equal(saw.user, 'agent');
  assert.deepEqual(saw.readable, [], 'what the services keep is closed to the agent');
  assert.doesNotMatch(saw.seen, /session-svc|gateway-svc|fs-svc/, 'the other containers cannot be seen');
  assert.equal(saw.stranger, 16);
  assert.equal(saw.health, 200);
  assert.equal(saw.member, 'Ada', 'presence through Redis with its password');
  assert.equal(saw.ticks, 300);
  assert.ok(saw.contiguous);
  assert.equal(statSync(pod.volume('disk', 'workspace', 'allowed.txt')).uid, AGENT_UID);
  assert.equal(statSync(pod.volume('disk', 'workspace', 'allowed.txt')).size, saw.size);
});

test('the pod stops when it is told to', async () => {
  assert.deepEqual(await pod.stop(), { session: 0, process: 0, fs: 0, gateway: 0 });
});
