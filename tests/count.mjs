// Counts the test cases of a Bazel run from its build events and the logs they name.
//   node count.mjs EVENTS_FILE BAZEL_EXIT_CODE     last line: "N passed, N failed"; exit code 1 with failures
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';

const [, , eventsFile, exitCode] = process.argv;

// Passed and failed cases that a log tells in the words of cmocka, of Node's test runner (spec and TAP), or of our
// own scripts.
const words = [
  { passed: /^\[ {2}PASSED {2}\] (\d+) test/gm, failed: /^\[ {2}FAILED {2}\] (\d+) test/gm },
  { passed: /^(?:ℹ|#) pass (\d+)/gm, failed: /^(?:ℹ|#) (?:fail|cancelled) (\d+)/gm },
  { passed: /^(\d+) passed, \d+ failed/gm, failed: /^\d+ passed, (\d+) failed/gm },
];
const sum = (text, pattern) => [...text.matchAll(pattern)].reduce((n, m) => n + Number(m[1]), 0);

function casesOf(log) {
  // cmocka colours its brackets where it thinks it has a terminal.
  const text = log.replace(/\x1b\[[0-9;]*m/g, '');
  for (const { passed, failed } of words) {
    const cases = { passed: sum(text, passed), failed: sum(text, failed) };
    if (cases.passed + cases.failed > 0) return cases;
  }
  return { passed: 0, failed: 0 };
}

function read(uri) {
  try {
    return fs.readFileSync(fileURLToPath(uri), 'utf8');
  } catch {
    return '';
  }
}

let passed = 0;
let failed = 0;
const broken = [];
const events = fs.readFileSync(eventsFile, 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line));
for (const { id, testResult, completed, aborted } of events) {
  if (testResult) {
    const output = (testResult.testActionOutput ?? []).find((o) => o.name === 'test.log');
    const cases = casesOf(output ? read(output.uri) : '');
    const good = testResult.status === 'PASSED' || testResult.status === 'FLAKY';
    // A test without cases is one; one that fails fails at least once, whatever it printed before.
    passed += good ? Math.max(cases.passed, 1) : cases.passed;
    failed += good ? cases.failed : Math.max(cases.failed, 1);
    if (!good) broken.push(`${id.testResult.label} (${testResult.status})`);
  } else if (id.targetCompleted && aborted?.reason !== 'SKIPPED' && (aborted || (completed && !completed.success))) {
    // A test target is no success either when its test has failed, which is counted already.
    const label = id.targetCompleted.label;
    if (events.some((e) => e.id.testResult?.label === label)) continue;
    failed += 1;
    broken.push(`${label} (does not build)`);
  }
}
if (Number(exitCode) !== 0 && failed === 0) {
  failed = 1;
  broken.push(`bazel (exit code ${exitCode})`);
}
for (const what of broken) console.log(`FAILED: ${what}`);
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed ? 1 : 0;
