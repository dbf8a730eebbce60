// Processes, terminals, files and sandboxes as the services have them, as JSON.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Component } from '../../services/gateway-svc/component.mjs';

describe('the services as JSON', () => {
  let c;
  before(async () => {
    c = await Component.start({ real: true });
    await c.startService('provider-svc');
  });
  after(() => c.stop());
  const refused = async (...call) => `${(await c.call(...call)).status}`;

  test('a process is started with all there is to say, looked at, signalled and ended', async () => {
    const spec = { argv: ['/bin/sh', '-c', 'echo hi; sleep 100 & wait'], env: ['PATH=/usr/bin:/bin'], labels: { a: 'b' }, terminal: { rows: 10, columns: 40 } };
    const { process } = await c.json('POST', '/v1/processes/start', { spec, requestId: 'once' });
    const again = await c.json('POST', '/v1/processes/start', { spec, requestId: 'once' });
    assert.equal(again.process.processId, process.processId);
    const at = `/v1/processes/${process.processId}`;
    assert.deepEqual((await c.json('GET', `${at}/details`)).process.spec.argv, spec.argv);
    assert.deepEqual((await c.json('GET', '/v1/processes/details?labelKey=a&labelValue=b')).processes.map((p) => p.processId), [process.processId]);
    let output = '';
    while (!output.includes('hi')) output = Buffer.from((await c.json('GET', `${at}/output?stream=OUTPUT_STREAM_STDOUT`)).data, 'base64').toString();
    assert.match((await c.json('GET', `${at}/terminal/screen`)).text, /hi/);
    await c.json('PUT', `${at}/terminal/size`, { size: { rows: 20, columns: 50 } });
    assert.deepEqual((await c.json('GET', `${at}/details`)).process.terminalSize, { rows: 20, columns: 50 });
    assert.match((await c.json('GET', `${at}/tree`)).processes[0].command, /^\/bin\/sh -c/);
    const exit = c.json('GET', `${at}/exit`);
    await c.json('POST', `${at}/signal`, { signal: 9, scope: 'SIGNAL_SCOPE_TREE' });
    assert.equal((await exit).exit.signal, 9);
    assert.equal((await c.json('POST', `${at}/end`, { graceMs: 0 })).exit.signal, 9);
    assert.equal(await refused('GET', '/v1/processes/none/tree'), '404');
  });

  test('a command runs, with its input, and limits are told and set', async () => {
    const { exit, stdout } = await c.json('POST', '/v1/processes/exec', { spec: { argv: ['/bin/cat'] }, stdin: Buffer.from('in').toString('base64') });
    assert.deepEqual([exit.exitCode, Buffer.from(stdout, 'base64').toString()], [0, 'in']);
    await c.json('PATCH', '/v1/processes/settings', { config: { maxRuns: 7 } });
    assert.equal((await c.json('GET', '/v1/processes/settings')).config.maxRuns, 7);
    assert.equal((await c.json('GET', '/v1/processes/census')).strayCount, 0);
    assert.equal((await c.json('POST', '/v1/processes/census/clear', {})).cleared, 0);
  });

  test('files are looked at and changed', async () => {
    writeFileSync(join(c.dir, 'one'), 'content');
    assert.equal((await c.json('GET', '/v1/files/stat?path=one')).file.size, '7');
    await c.json('POST', '/v1/files/directory', { path: 'd/e', parents: true });
    await c.json('POST', '/v1/files/copy', { path: 'one', toPath: 'd/two' });
    await c.json('POST', '/v1/files/link', { path: 'd/l', target: 'two' });
    await c.json('POST', '/v1/files/move', { path: 'd/two', toPath: 'd/three' });
    assert.equal((await c.json('POST', '/v1/files/change', { path: 'd/three', mode: 384 })).file.mode, 384);
    const { entries } = await c.json('GET', '/v1/files/entries?path=d&order=LIST_ORDER_NAME');
    assert.deepEqual(entries.map((f) => [f.name, f.linkTarget]), [['e', ''], ['l', 'two'], ['three', '']]);
    assert.equal((await c.json('GET', '/v1/files/usage?path=d')).files, '2');
    assert.equal((await c.json('GET', '/v1/files/roots')).roots[0].home, c.dir);
    assert.equal((await c.json('POST', '/v1/files/delete', { path: 'd', recursive: true })).deleted, '4');
    assert.equal(await refused('GET', '/v1/files/stat?path=d'), '404');
  });

  test('sandboxes and their providers are listed', async () => {
    const { providers } = await c.json('GET', '/v1/providers');
    assert.ok(providers.some((p) => (p.name ?? p.provider) === 'local'), JSON.stringify(providers));
    assert.deepEqual((await c.json('GET', '/v1/sandboxes')).sandboxes, []);
    for (const path of ['', '/endpoint', '/check']) assert.equal(await refused('GET', `/v1/sandboxes/none${path}`), '404');
    assert.equal(await refused('POST', '/v1/sandboxes', { body: { provider: 'nobody' } }), '400');
  });
});
