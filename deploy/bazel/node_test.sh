#!/bin/sh
# Runs one test file with Node's own test runner. HOME is the test's; npm packages are those of tests/node_modules
# (Node follows the link from the test's run files to the source tree, and finds them there).
set -eu
export HOME="${TEST_TMPDIR:?}"
exec node --test --test-reporter=spec "$1"
