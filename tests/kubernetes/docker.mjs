// A Docker daemon of our own, and enough of a kubelet to run a pod of the manifests on it. Nothing of the machine's
// network is touched: no bridge, no packet filter; the pod has a network of its own with nothing but a loopback.
import { execFile, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { eventually } from '../clients/server.mjs';

const exec = promisify(execFile);
const EXEC_MS = 300_000;

export async function startDocker() {
  const dir = mkdtempSync('/var/tmp/sa-docker-');
  const socket = join(dir, 'sock');
  let output = '';
  const path = `${process.env.PATH}:/usr/sbin:/sbin`; // where Debian puts the daemon and its helpers
  const daemon = spawn('/usr/sbin/dockerd', [
    '--data-root', join(dir, 'root'), '--exec-root', join(dir, 'exec'), '--pidfile', join(dir, 'pid'), '--host', `unix://${socket}`,
    '--storage-driver', 'overlay2', '--bridge', 'none', '--iptables=false', '--ip-forward=false', '--ip-masq=false',
  ], { env: { ...process.env, PATH: path }, stdio: ['ignore', 'pipe', 'pipe'] });
  daemon.on('error', (error) => (output += error.message));
  for (const stream of [daemon.stdout, daemon.stderr]) stream.on('data', (data) => (output = (output + data).slice(-20_000)));
  const ended = new Promise((resolve) => daemon.once('exit', resolve));
  const env = { ...process.env, PATH: path, DOCKER_HOST: `unix://${socket}`, HOME: dir };
  const docker = async (...args) => (await exec('docker', args, { env, timeout: EXEC_MS, maxBuffer: 64 << 20 })).stdout.trim();
  const stop = async () => {
    daemon.kill('SIGTERM');
    if (daemon.pid) await ended;
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    await eventually(async () => {
      if (!daemon.pid || daemon.exitCode !== null) throw new Error(`dockerd ended:\n${output}`);
      return docker('version').then(() => true, () => false);
    }, 'dockerd answers', 60_000);
  } catch (error) {
    await stop();
    throw error;
  }
  return { docker, env, dir, stop };
}

// Runs the pod of a StatefulSet. secrets: name -> {key: Buffer}; hosts: names that mean the loopback; extra: pods whose
// containers share its network, as a service beside it would be reached.
export async function runPod({ docker, dir }, set, secrets, { hosts = [], name = set.metadata.name } = {}) {
  const pod = set.spec.template.spec;
  const place = join(dir, 'pods', name);
  const directory = (...words) => {
    const path = join(place, ...words);
    mkdirSync(path, { recursive: true });
    return path;
  };
  const source = (mount) => {
    const volume = (pod.volumes ?? []).find((v) => v.name === mount.name);
    if (!volume?.secret) {
      // emptyDir and claims are open to every user when they are new, directories below a claim are root's.
      const path = directory('volumes', mount.name, ...(mount.subPath ? [mount.subPath] : []));
      if (!started && !mount.subPath) chmodSync(path, 0o777);
      return path;
    }
    const path = directory('secrets', volume.secret.secretName);
    const mode = volume.secret.defaultMode ?? 0o644;
    for (const [key, value] of Object.entries(secrets[volume.secret.secretName])) {
      if (existsSync(join(path, key))) continue; // a running container reads it
      writeFileSync(join(path, key), value, { mode });
      chmodSync(join(path, key), mode);
    }
    return path;
  };
  let started = false;
  const pause = `${name}-pause`;
  await docker('run', '-d', '--name', pause, '--network', 'none', '--hostname', `${name}-0`,
    ...hosts.flatMap((host) => ['--add-host', `${host}:127.0.0.1`]), 'sandbox-agent:latest', 'sleep', 'infinity');

  const variables = (container) => {
    const values = {};
    for (const { name: variable, value, valueFrom } of container.env ?? []) {
      values[variable] = value ?? secrets[valueFrom.secretKeyRef.name][valueFrom.secretKeyRef.key].toString();
    }
    return values;
  };
  const wordsFor = (container, values) => {
    const expand = (word) => word.replace(/\$\((\w+)\)/g, (whole, variable) => values[variable] ?? whole);
    const [entry, ...rest] = container.command;
    return { entry, words: [...rest, ...(container.args ?? [])].map(expand) };
  };
  const optionsFor = (container) => {
    const security = { ...pod.securityContext, ...container.securityContext };
    const values = variables(container);
    return [
      '--network', `container:${pause}`, '--init=false',
      ...(security.runAsUser === undefined ? [] : ['--user', `${security.runAsUser}:${security.runAsGroup ?? 0}`]),
      ...(security.allowPrivilegeEscalation === false ? ['--security-opt', 'no-new-privileges'] : []),
      ...(security.readOnlyRootFilesystem ? ['--read-only'] : []),
      ...security.capabilities.drop.flatMap((c) => ['--cap-drop', c]),
      ...(security.capabilities.add ?? []).flatMap((c) => ['--cap-add', c]),
      '--memory', container.resources.limits.memory.replace('i', '').toLowerCase(),
      '--pids-limit', '4096',
      ...(container.workingDir ? ['--workdir', container.workingDir] : []),
      ...Object.entries(values).flatMap(([k, v]) => ['--env', `${k}=${v}`]),
      ...container.volumeMounts.flatMap((m) => ['--volume', `${source(m)}:${m.mountPath}${m.readOnly ? ':ro' : ''}`]),
    ];
  };

  for (const container of pod.initContainers ?? []) {
    const { entry, words } = wordsFor(container, variables(container));
    await docker('run', '--rm', ...optionsFor(container), '--entrypoint', entry, container.image, ...words);
  }
  started = true;
  for (const container of pod.containers) {
    const { entry, words } = wordsFor(container, variables(container));
    await docker('run', '-d', '--name', `${name}-${container.name}`, ...optionsFor(container), '--entrypoint', entry, container.image, ...words);
  }
  const of = (container) => `${name}-${container}`;
  return {
    volume: (...words) => join(place, 'volumes', ...words),
    exec: (container, ...command) => docker('exec', of(container), ...command),
    logs: (container) => exec('sh', ['-c', `docker logs ${of(container)} 2>&1`], { env: { ...process.env, DOCKER_HOST: `unix://${join(dir, 'sock')}` } }).then((r) => r.stdout),
    // As the kubelet asks: the probe's command in its container.
    async probe(kind) {
      for (const container of pod.containers) {
        await eventually(() => docker('exec', of(container.name), ...container[kind].exec.command).then(() => true, () => false), `${kind} of ${container.name}`, 60_000);
      }
    },
    pid: async (container) => Number(await docker('inspect', '--format', '{{.State.Pid}}', of(container))),
    // TERM to every container; their exit codes.
    async stop() {
      await docker('stop', '--time', String(pod.terminationGracePeriodSeconds ?? 30), ...pod.containers.map((c) => of(c.name)));
      const codes = {};
      for (const { name: container } of pod.containers) codes[container] = Number(await docker('inspect', '--format', '{{.State.ExitCode}}', of(container)));
      return codes;
    },
    remove: () => docker('rm', '-f', '-v', ...pod.containers.map((c) => of(c.name)), pause),
  };
}
