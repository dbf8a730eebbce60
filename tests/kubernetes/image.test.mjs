// The image and the manifests fit the programs as they are built.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { bin } from '../clients/server.mjs';
import { render, root } from './render.mjs';

const run = (...command) => execFileSync(command[0], command.slice(1), { encoding: 'utf8' });
const workloads = render('deploy/kubernetes').filter((o) => o.spec?.template);
const containers = workloads.flatMap((w) => w.spec.template.spec.containers).filter((c) => c.image.startsWith('sandbox-agent:'));

test('the image has every library that the programs link', () => {
  const listed = new Set(readFileSync(join(root, 'deploy/images/packages'), 'utf8').split('\n').filter((l) => l && !l.startsWith('#')));
  const libraries = new Map();
  for (const program of readdirSync(bin)) {
    for (const [, name] of run('readelf', '-d', join(bin, program)).matchAll(/\(NEEDED\).*\[(.*)\]/g)) libraries.set(name, program);
  }
  assert.ok(libraries.has('libgrpc.so.29'));
  const places = run('/sbin/ldconfig', '-p');
  for (const [name, program] of libraries) {
    if (/^lib(c|m|stdc\+\+|gcc_s|[at]san|ubsan)\.so/.test(name)) continue; // in every Debian, or never in an image
    const file = realpathSync(places.split('\n').find((line) => line.trim().startsWith(`${name} `)).split(' => ')[1]);
    const owner = run('dpkg', '-S', file).split(':')[0];
    assert.ok(listed.has(owner), `${program} needs ${name} of package ${owner}`);
  }
});

test('every program and option that the manifests name is there', () => {
  assert.ok(containers.length >= 5);
  for (const container of containers) {
    const program = container.command.at(-1);
    const help = run(join(bin, program), '--help');
    for (const arg of container.args) {
      const option = arg.split('=')[0];
      assert.match(help, new RegExp(`^ *(-\\w, )?${option}( |$)`, 'm'), `${container.name}: ${program} has no ${option}`);
    }
    for (const kind of ['startupProbe', 'readinessProbe', 'livenessProbe']) {
      const [command, verb, ...words] = container[kind].exec.command;
      const verbHelp = run(join(bin, command), verb, '--help');
      for (const word of words.filter((w) => w.startsWith('--'))) {
        assert.match(verbHelp, new RegExp(`^ *${word.split('=')[0]}( |$)`, 'm'), `${container.name}: ${verb} has no ${word}`);
      }
    }
  }
});
