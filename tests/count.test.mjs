// The verdict of the whole suite hangs on this count: what it takes for a passed or failed case.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';

const program = path.join(path.dirname(fileURLToPath(import.meta.url)), 'count.mjs');

function count(events, exitCode = 0) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'count-'));
  const lines = events.map((event, i) => {
    if (event.log !== undefined) {
      const file = path.join(dir, `${i}.log`);
      fs.writeFileSync(file, event.log);
      event.testResult.testActionOutput = [{ name: 'test.log', uri: pathToFileURL(file).href }];
      delete event.log;
    }
    return JSON.stringify(event);
  });
  const file = path.join(dir, 'events');
  fs.writeFileSync(file, lines.join('\n') + '\n');
  const { stdout, status } = spawnSync(process.execPath, [program, file, String(exitCode)], { encoding: 'utf8' });
  fs.rmSync(dir, { recursive: true });
  return { last: stdout.trim().split('\n').at(-1), stdout, status };
}

const result = (label, status, log) => ({ id: { testResult: { label } }, testResult: { status }, log });
const target = (label, success) => ({ id: { targetCompleted: { label } }, completed: { success } });
const PASSED = '[==========] 3 test(s) run.\n[  PASSED  ] 3 test(s).\n';
const FAILED = '[  PASSED  ] 2 test(s).\n[  FAILED  ] 1 test(s), listed below:\n[  FAILED  ] it_works\n';

test('cases of cmocka and of Node are added up', () => {
  const node = 'ℹ tests 4\nℹ pass 4\nℹ fail 0\nℹ cancelled 0\n';
  const { last, status } = count([result('//a:c', 'PASSED', PASSED), result('//a:n', 'PASSED', node)]);
  assert.equal(last, '7 passed, 0 failed');
  assert.equal(status, 0);
});

test('a test without cases is one', () => {
  assert.equal(count([result('//a:sh', 'PASSED', 'fine\n')]).last, '1 passed, 0 failed');
  assert.equal(count([result('//a:sh', 'FAILED', 'no\n')], 3).last, '0 passed, 1 failed');
});

test('failed cases are counted and named', () => {
  const { last, stdout, status } = count([result('//a:c', 'FAILED', FAILED)], 3);
  assert.equal(last, '2 passed, 1 failed');
  assert.match(stdout, /FAILED: \/\/a:c/);
  assert.equal(status, 1);
});

test('a test that crashes after its cases passed has failed', () => {
  assert.equal(count([result('//a:c', 'FAILED', PASSED)], 3).last, '3 passed, 1 failed');
  assert.equal(count([result('//a:c', 'TIMEOUT', '')], 3).last, '0 passed, 1 failed');
});

test('what does not build has failed', () => {
  const { last, stdout } = count([result('//a:c', 'PASSED', PASSED), target('//a:d', false)], 1);
  assert.equal(last, '3 passed, 1 failed');
  assert.match(stdout, /\/\/a:d \(does not build\)/);
});

test('a Bazel that fails for another reason is a failure', () => {
  assert.equal(count([], 37).last, '0 passed, 1 failed');
});

test('a failed test target is counted once', () => {
  const events = [result('//a:c', 'FAILED', FAILED), target('//a:c', false)];
  assert.equal(count(events, 3).last, '2 passed, 1 failed');
});
