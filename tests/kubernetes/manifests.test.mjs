import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { test } from 'node:test';
import * as models from 'kubernetes-models';
import { makeSecrets, render, root } from './render.mjs';

const objects = render('deploy/kubernetes');
const secrets = makeSecrets('--host', 'sandboxes.example.org');
const named = (kind, name) => objects.find((o) => o.kind === kind && o.metadata.name === name);
const workloads = objects.filter((o) => o.spec?.template);
const podOf = (workload) => workload.spec.template.spec;
const everyContainer = workloads.flatMap((w) =>
  [...podOf(w).containers, ...(podOf(w).initContainers ?? [])].map((c) => [`${w.metadata.name}/${c.name}`, c, w]),
);
const ours = (container) => container.image.split(':')[0] === 'sandbox-agent';

const groups = {
  v1: models.v1, 'apps/v1': models.apps.v1, 'networking.k8s.io/v1': models.networkingK8sIo.v1,
};
const problemOf = (object) => {
  try {
    const Model = groups[object.apiVersion]?.[object.kind];
    assert.ok(Model, `no schema for ${object.apiVersion} ${object.kind}`);
    new Model(object).validate();
    return null;
  } catch (error) {
    return `${object.kind} ${object.metadata.name}: ${error.message}`;
  }
};

test('every object fits the schema of its kind', () => {
  for (const object of [...objects, ...secrets]) assert.equal(problemOf(object), null);
});

test('the schema check notices what the API server would refuse', () => {
  const broken = structuredClone(named('StatefulSet', 'sandbox'));
  broken.spec.replicas = 'one';
  assert.match(problemOf(broken), /replicas/);
  const unknown = structuredClone(named('StatefulSet', 'sandbox'));
  unknown.spec.template.spec.containers[0].livenessProbe.exec.command = 'true';
  assert.match(problemOf(unknown), /command/);
});

test('a sandbox is one pod with a container per service', () => {
  const pod = podOf(named('StatefulSet', 'sandbox'));
  assert.deepEqual(pod.containers.map((c) => c.name), ['session', 'process', 'fs', 'gateway']);
  const process = pod.containers.find((c) => c.name === 'process');
  assert.deepEqual(process.command, ['sandbox-agent', 'supervise', '--', 'process-svc']);
  assert.notEqual(pod.shareProcessNamespace, true, 'an agent would see the other services');
});

test('what containers share lies at the same path in each, and every mount has its volume', () => {
  for (const workload of workloads) {
    const pod = podOf(workload);
    const volumes = new Set([
      ...(pod.volumes ?? []).map((v) => v.name),
      ...(workload.spec.volumeClaimTemplates ?? []).map((v) => v.metadata.name),
    ]);
    const paths = new Map();
    for (const container of [...pod.containers, ...(pod.initContainers ?? [])]) {
      for (const mount of container.volumeMounts) {
        assert.ok(volumes.has(mount.name), `${container.name}: no volume ${mount.name}`);
        const key = `${mount.name}/${mount.subPath ?? ''}`;
        assert.equal(paths.get(key) ?? mount.mountPath, mount.mountPath, `${container.name}: ${key}`);
        paths.set(key, mount.mountPath);
      }
    }
  }
  const mounts = (name) =>
    podOf(named('StatefulSet', 'sandbox')).containers.find((c) => c.name === name).volumeMounts.map((m) => m.mountPath);
  for (const path of ['/run/sandbox-agent', '/workspace', '/home/agent', '/opt/sandbox-agent/agents']) {
    for (const name of ['session', 'process']) assert.ok(mounts(name).includes(path), `${name}: ${path}`);
  }
});

test('only preparing a pod may write the secret of its start', () => {
  for (const [name, container] of everyContainer) {
    const mount = container.volumeMounts.find((m) => m.mountPath === '/run/sandbox-agent-secret');
    if (mount) assert.equal(mount.readOnly === true, !name.endsWith('/prepare'), name);
  }
});

test('only root may read the secrets of the services', () => {
  for (const workload of workloads) {
    for (const { secret } of podOf(workload).volumes.filter((v) => v.secret)) {
      // Redis is another user, in the volume's group.
      assert.equal(secret.defaultMode, workload.metadata.name === 'redis' ? 0o440 : 0o400, secret.secretName);
    }
  }
});

test('containers have no privilege, no writable root, and limits', () => {
  const allowed = {
    'sandbox/prepare': ['CHOWN', 'FOWNER'],
    'sandbox/process': ['SETUID', 'SETGID', 'KILL', 'CHOWN'],
    'sandbox/fs': ['SETUID', 'SETGID'],
    'provider/provider': ['SETUID', 'SETGID', 'KILL', 'CHOWN'],
  };
  for (const [name, container, workload] of everyContainer) {
    const security = container.securityContext;
    assert.equal(security.allowPrivilegeEscalation, false, name);
    assert.equal(security.readOnlyRootFilesystem, true, name);
    assert.notEqual(security.privileged, true, name);
    assert.deepEqual(security.capabilities.drop, ['ALL'], name);
    assert.deepEqual(security.capabilities.add ?? [], allowed[name] ?? [], name);
    for (const what of ['cpu', 'memory', 'ephemeral-storage']) {
      assert.ok(container.resources.limits[what], `${name}: limit of ${what}`);
      assert.ok(container.resources.requests[what], `${name}: request of ${what}`);
    }
    const pod = podOf(workload);
    assert.equal(pod.automountServiceAccountToken, false, name);
    assert.equal(pod.securityContext.seccompProfile.type, 'RuntimeDefault', name);
    for (const volume of pod.volumes) assert.equal(volume.hostPath, undefined, name);
  }
});

test('every container that runs on is probed, ours over gRPC health', () => {
  for (const [name, container] of everyContainer.filter(([n]) => !n.endsWith('/prepare'))) {
    for (const kind of ['startupProbe', 'readinessProbe', 'livenessProbe']) {
      const probe = container[kind];
      assert.ok(probe?.exec, `${name}: ${kind}`);
      if (!ours(container)) continue;
      assert.deepEqual(probe.exec.command.slice(0, 2), ['sandbox-agent', 'health'], name);
      assert.equal(probe.exec.command.at(-1), container.name, `${name}: asks about itself`);
    }
  }
});

test('TCP listeners have a token and TLS', () => {
  for (const [name, container] of everyContainer.filter(([n, c]) => ours(c) && !n.endsWith('/prepare'))) {
    const args = container.args.map((arg) => arg.split('=')[0]);
    assert.ok(args.includes('--token-file'), name);
    assert.ok(!args.includes('--no-token'), name);
    if (args.includes('--listen')) assert.ok(args.includes('--tls-cert') && args.includes('--tls-key'), name);
  }
});

test('services find their pods and ports, and stateful sets their service', () => {
  for (const service of objects.filter((o) => o.kind === 'Service')) {
    const matching = workloads.filter((w) =>
      Object.entries(service.spec.selector).every(([k, v]) => w.spec.template.metadata.labels[k] === v),
    );
    assert.equal(matching.length, 1, service.metadata.name);
    const ports = podOf(matching[0]).containers.flatMap((c) => c.ports ?? []);
    for (const { port, targetPort } of service.spec.ports) {
      assert.equal(ports.find((p) => p.name === targetPort)?.containerPort, port, `${service.metadata.name} ${targetPort}`);
    }
  }
  for (const set of objects.filter((o) => o.kind === 'StatefulSet')) assert.ok(named('Service', set.spec.serviceName));
});

test('an overlay makes a second sandbox that is not mistaken for the first', () => {
  const dir = mkdtempSync(join(process.env.TEST_TMPDIR ?? '/tmp', 'overlay-'));
  writeFileSync(join(dir, 'kustomization.yaml'), `
resources: [${relative(realpathSync(dir), join(root, 'deploy/kubernetes/sandbox'))}]
nameSuffix: -second
labels: [{pairs: {sandbox-agent/sandbox: second}, includeSelectors: true}]
`);
  const second = render(dir);
  const set = second.find((o) => o.kind === 'StatefulSet');
  const service = second.find((o) => o.kind === 'Service');
  assert.equal(set.metadata.name, 'sandbox-second');
  assert.equal(set.spec.serviceName, service.metadata.name);
  for (const selector of [service.spec.selector, set.spec.selector.matchLabels]) {
    assert.equal(selector['sandbox-agent/sandbox'], 'second');
  }
  assert.equal(named('Service', 'sandbox').spec.selector['sandbox-agent/sandbox'], 'first');
});

test('network policies deny by default and name pods that exist', () => {
  const policies = objects.filter((o) => o.kind === 'NetworkPolicy');
  const all = policies.find((p) => p.metadata.name === 'deny-all');
  assert.deepEqual(all.spec.podSelector, {});
  assert.deepEqual(all.spec.policyTypes, ['Ingress', 'Egress']);
  assert.ok(!all.spec.ingress && !all.spec.egress);
  const names = new Set(workloads.map((w) => w.metadata.labels['app.kubernetes.io/name']));
  const mentioned = JSON.stringify(policies).matchAll(/"app\.kubernetes\.io\/name":"(\w+)"|"values":\["(\w+)","(\w+)"\]/g);
  for (const [, ...found] of mentioned) for (const name of found.filter(Boolean)) assert.ok(names.has(name), name);
  const redis = policies.find((p) => p.metadata.name === 'redis');
  assert.ok(!redis.spec.egress, 'Redis calls nobody');
});

test('make-secrets makes every secret and key that the manifests refer to', () => {
  const keys = new Map(secrets.map((s) => [s.metadata.name, Object.keys(s.data)]));
  const wanted = [];
  for (const [, container] of everyContainer) {
    for (const { valueFrom } of container.env ?? []) {
      if (valueFrom?.secretKeyRef) wanted.push([valueFrom.secretKeyRef.name, valueFrom.secretKeyRef.key]);
    }
    for (const arg of container.args ?? []) {
      const [, volume, key] = arg.match(/=\/etc\/sandbox-agent\/(token|tls)\/(.*)$/) ?? [];
      if (volume) wanted.push([`sandbox-agent-${volume}`, key]);
    }
  }
  for (const workload of workloads) {
    for (const volume of podOf(workload).volumes.filter((v) => v.secret)) {
      wanted.push([volume.secret.secretName]);
      for (const item of volume.secret.items ?? []) wanted.push([volume.secret.secretName, item.key]);
    }
  }
  assert.ok(wanted.length > 8);
  for (const [name, key] of wanted) {
    assert.ok(keys.has(name), `secret ${name}`);
    if (key) assert.ok(keys.get(name).includes(key), `secret ${name}, key ${key}`);
  }
});

test('the certificate is for the services by every name they have, and every call makes new secrets', () => {
  const data = (name, key, from = secrets) =>
    Buffer.from(from.find((s) => s.metadata.name === name).data[key], 'base64').toString();
  const leaf = new X509Certificate(data('sandbox-agent-tls', 'tls.crt'));
  const authority = new X509Certificate(data('sandbox-agent-tls', 'ca.crt'));
  assert.ok(leaf.verify(authority.publicKey) && leaf.checkIssued(authority));
  for (const host of [
    'sandbox', 'sandbox.sandbox-agent.svc', 'sandbox-0.sandbox.sandbox-agent.svc.cluster.local',
    'provider.sandbox-agent.svc.cluster.local', 'localhost', 'sandboxes.example.org',
  ]) assert.ok(leaf.checkHost(host), host);
  assert.equal(leaf.checkHost('other.example.org'), undefined);
  const again = makeSecrets();
  assert.notEqual(data('sandbox-agent-token', 'token'), data('sandbox-agent-token', 'token', again));
  assert.match(data('sandbox-agent-redis', 'redis.conf'), new RegExp(`^requirepass ${data('sandbox-agent-redis', 'password')}$`, 'm'));
});

test('the image has the user that the agents run as', () => {
  const dockerfile = readFileSync(join(root, 'deploy/images/Dockerfile'), 'utf8');
  assert.match(dockerfile, /useradd .*\bagent\b/);
  for (const [name, container] of everyContainer) {
    const user = container.args?.find((arg) => arg.startsWith('--agent-user='));
    if (user) assert.equal(user, '--agent-user=agent', name);
  }
});
