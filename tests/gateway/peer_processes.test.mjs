// /v1/processes of the npm package: the same SDK calls against both servers, and what the package does badly.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { TOKEN, within } from '../../services/gateway-svc/component.mjs';
import { Both } from './both.mjs';

const sh = (script, more) => ({ command: 'sh', args: ['-c', script], ...more });
const output = (entries, stream) => Buffer.concat(entries.filter((e) => !stream || e.stream === stream).map((e) => Buffer.from(e.data, 'base64'))).toString();
const b64 = (text) => Buffer.from(text).toString('base64');

// Looks until it has ended: the peer tells in no other way.
async function ended(s, id) {
  for (;;) {
    const p = await s.getProcess(id);
    if (p.status === 'exited') return p;
    await new Promise((resolve) => setImmediate(resolve));
  }
}
// Its log has this.
async function logged(s, id, wanted) {
  for (;;) {
    const { entries } = await s.getProcessLogs(id);
    if (output(entries).includes(wanted)) return entries;
  }
}
const alive = (pid) => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

describe('processes as the SDK knows them', () => {
  let b;
  before(async () => (b = await Both.start()));
  after(() => b.stop());

  test('run to their end as before', async () => {
    await b.same('run', (s) => s.runProcess(sh('echo out; echo err >&2; exit 3')));
    await b.same('run without a command', (s) => s.runProcess({ command: '' }));
    await b.same('run, ended by a signal', (s) => s.runProcess(sh('kill -9 $$')));
    await b.same('run too long', (s) => s.runProcess({ command: 'sleep', args: ['5'], timeoutMs: 200 }));
    await b.same('run longer than allowed', (s) => s.runProcess({ command: 'true', timeoutMs: 1e12 }));
    await b.same('run in a directory', (s) => s.runProcess({ command: 'pwd', cwd: '/usr' }));
    await b.same('run at home', (s) => s.runProcess({ command: 'pwd' }));
    await b.same('run with a variable', (s) => s.runProcess(sh('echo $COLOUR', { env: { COLOUR: 'green' } })));
    await b.same('run, 3 bytes wanted', (s) => s.runProcess(sh('echo abcdef; echo 123456 >&2', { maxOutputBytes: 3 })));
    await b.same('run, nothing wanted', (s) => s.runProcess(sh('echo abcdef', { maxOutputBytes: 0 })));
    await b.same('run, badly asked', (s) => s.runProcess({ command: 5 }));
    await b.same('run, without time', (s) => s.runProcess({ command: 'true', timeoutMs: -1 }));
    await b.better('run what is not there', (s) => s.runProcess({ command: '/none' }), (ours, peer) => {
      assert.deepEqual([ours.status, ours.type, ours.title], [peer.status, peer.type, peer.title]);
      assert.match(ours.detail, /^stream error: failed to spawn process: .*\/none.* does not exist/);
    });
  });

  test('are started, told about, listed and deleted as before', async () => {
    await b.same('create', (s) => s.createProcess(sh('exit 3')));
    await b.same('get', async (s) => {
      const { id } = await s.createProcess(sh('exit 7', { interactive: true }));
      return ended(s, id);
    });
    await b.same('list', async (s) => {
      const all = (await s.listProcesses()).processes;
      await Promise.all(all.map((p) => ended(s, p.id)));
      return (await s.listProcesses({ owner: 'user' })).processes.sort((x, y) => x.createdAtMs - y.createdAtMs);
    });
    await b.same('list of nobody', (s) => s.listProcesses({ owner: 'desktop' }));
    await b.same('list, badly asked', (s) => s.listProcesses({ owner: 'me' }));
    await b.same('delete', async (s) => {
      for (const p of (await s.listProcesses()).processes) await s.deleteProcess(p.id);
      return s.listProcesses();
    });
    await b.same('get what is not there', (s) => s.getProcess('none'));
    await b.same('delete what is not there', (s) => s.deleteProcess('none'));
    await b.same('stop what is not there', (s) => s.stopProcess('none'));
    await b.same('create without a command', (s) => s.createProcess({ command: '' }));
    await b.same('create, badly asked', (s) => s.createProcess({ args: [] }));
    await b.same('delete what runs', async (s) => {
      const { id } = await s.createProcess({ command: 'sleep', args: ['100'] });
      return s.deleteProcess(id);
    });
    await b.same('stop', async (s) => s.stopProcess((await s.listProcesses()).processes[0].id));
    await b.same('stop again', async (s) => s.stopProcess((await s.listProcesses()).processes[0].id));
    await b.same('kill', async (s) => {
      const { id } = await s.createProcess(sh('trap "" TERM; echo ready; while :; do sleep 1; done'));
      await logged(s, id, 'ready');
      assert.equal((await s.stopProcess(id, { waitMs: 0 })).status, 'running');
      return s.killProcess(id);
    });
  });

  test('read what is written to them', async () => {
    await b.same('input', async (s) => {
      const { id } = await s.createProcess({ command: 'cat' });
      const answers = [await s.sendProcessInput(id, { data: b64('one\n') }), await s.sendProcessInput(id, { data: 'two\n', encoding: 'utf8' })];
      const entries = await logged(s, id, 'two');
      await s.killProcess(id);
      return { answers, output: output(entries), late: await s.sendProcessInput(id, { data: '' }).catch((e) => e.problem.detail) };
    });
    await b.same('input in no known encoding', async (s) => s.sendProcessInput((await s.createProcess({ command: 'cat' })).id, { data: '', encoding: 'rot13' }));
    await b.better('input that is not base64', async (s) => s.sendProcessInput((await s.createProcess({ command: 'cat' })).id, { data: '%%%' }),
      (ours, peer) => assert.deepEqual([ours.status, ours.type], [peer.status, peer.type]));
    await b.better('50 inputs at once', async (s) => {
      const { id } = await s.createProcess({ command: 'cat' });
      await Promise.all(Array.from({ length: 50 }, (_, i) => s.sendProcessInput(id, { data: `line ${i}\n`, encoding: 'utf8' })));
      const lines = output(await logged(s, id, 'line 49')).trim().split('\n').length;
      await s.killProcess(id);
      return lines;
    }, async (ours) => assert.equal(ours, 50));
  });

  test('have logs', async () => {
    await b.same('logs', async (s) => {
      const { id } = await s.createProcess(sh('echo out'));
      await ended(s, id);
      return s.getProcessLogs(id);
    });
    await b.same('logs of one stream', async (s) => {
      const { id } = await s.createProcess(sh('echo out; echo err >&2'));
      await ended(s, id);
      const logs = await s.getProcessLogs(id, { stream: 'stderr' });
      return { ...logs, all: output((await s.getProcessLogs(id)).entries, 'stdout') };
    });
    await b.same('the last of the logs', async (s) => {
      const { id } = await s.createProcess(sh('echo one; read x; echo two'));
      await logged(s, id, 'one');
      await s.sendProcessInput(id, { data: '\n', encoding: 'utf8' });
      await ended(s, id);
      const { entries } = await s.getProcessLogs(id);
      return { tail: output((await s.getProcessLogs(id, { tail: 1 })).entries), since: output((await s.getProcessLogs(id, { since: entries[0].sequence })).entries) };
    });
    await b.same('logs of what is not there', (s) => s.getProcessLogs('none'));
    await b.same('logs, badly asked', async (s) => s.getProcessLogs((await s.createProcess({ command: 'true' })).id, { tail: 'x' }));
  });

  test('have terminals', async () => {
    await b.same('resize', async (s) => {
      const { id } = await s.createProcess(sh('stty -echo; echo ready; read x; stty size', { tty: true, interactive: true }));
      await logged(s, id, 'ready');
      const size = await s.resizeProcessTerminal(id, { cols: 100, rows: 30 });
      await s.sendProcessInput(id, { data: '\n', encoding: 'utf8' });
      const entries = await logged(s, id, '30 100');
      await ended(s, id);
      return { size, stream: entries[0].stream };
    });
    await b.same('resize without a terminal', async (s) => s.resizeProcessTerminal((await s.createProcess({ command: 'cat' })).id, { cols: 80, rows: 24 }));
    await b.same('resize, badly asked', async (s) => s.resizeProcessTerminal((await s.createProcess({ command: 'cat' })).id, { cols: 80 }));
    // An error of the server was written into every terminal at its end, and TERM was not set.
    await b.better('the end of a terminal', async (s) => {
      const { id } = await s.createProcess(sh('echo $TERM', { tty: true }));
      await ended(s, id);
      return output((await s.getProcessLogs(id)).entries);
    }, (ours) => assert.equal(ours, 'xterm-256color\r\n'));
  });

  test('have limits', async () => {
    const settings = { maxConcurrentProcesses: 100, defaultRunTimeoutMs: 20000, maxRunTimeoutMs: 10000, maxOutputBytes: 65536, maxLogBytesPerProcess: 1048576, maxInputBytesPerRequest: 4096 };
    await b.same('set limits', (s) => s.setProcessConfig(settings));
    await b.same('get limits', (s) => s.getProcessConfig());
    await b.same('set no limit', (s) => s.setProcessConfig({ ...settings, maxConcurrentProcesses: 0 }));
    await b.same('set some limits', (s) => s.setProcessConfig({ maxOutputBytes: 1 }));
    await b.better('input over the limit', async (s) => s.sendProcessInput((await s.createProcess({ command: 'cat' })).id, { data: b64('x'.repeat(5000)) }),
      (ours, peer) => assert.deepEqual([ours.status, ours.type, ours.title], [peer.status, peer.type, peer.title]));
    await b.better('processes over the limit', async (s) => {
      const n = (await s.listProcesses()).processes.filter((p) => p.status === 'running').length;
      await s.setProcessConfig({ ...settings, maxConcurrentProcesses: n });
      return s.createProcess({ command: 'true' }).finally(() => s.setProcessConfig(settings));
    }, (ours, peer) => assert.deepEqual([ours.status, ours.type], [peer.status, peer.type]));
  });

  // What a reader of 200 MB got, even one that kept up, was less than half of it; and the stream never ended.
  test('are followed to their end, and nothing is missing', async () => {
    const s = b.ours.sdk;
    await s.setProcessConfig({ ...(await s.getProcessConfig()), maxLogBytesPerProcess: 256 << 20 });
    const { id } = await s.createProcess(sh('head -c 50000000 /dev/zero | tr "\\0" x; echo end >&2'));
    let bytes = 0;
    const { closed } = await s.followProcessLogs(id, (e) => (bytes += Buffer.from(e.data, 'base64').length));
    await within(closed, () => `the end of the stream; so far ${bytes} bytes`);
    assert.equal(bytes, 50_000_004);
    const response = await fetch(`${b.ours.url}/v1/processes/${id}/logs?follow=true&since=50000000`, { headers: { Authorization: `Bearer ${TOKEN}` } });
    assert.match(await response.text(), /^event: log\nid: 50000004\ndata: .*\n\nevent: exit\ndata: {"exitCode":0}\n\n$/);
  });

  // Only the direct child was signalled: what it had started lived on, and a run waited for it.
  test('end with all that descends from them', async () => {
    const s = b.ours.sdk;
    const run = await s.runProcess(sh('sleep 100 & echo $!'));
    assert.equal(alive(Number(run.stdout)), false);
    const late = await s.runProcess(sh('sleep 100 & echo $!; sleep 100', { timeoutMs: 300 }));
    assert.ok(late.timedOut && late.durationMs < 5000);
    assert.equal(alive(Number(late.stdout)), false);
    const { id } = await s.createProcess(sh('sleep 100 & echo $!; wait'));
    const pid = Number(output(await logged(s, id, '\n')));
    assert.equal((await s.killProcess(id)).status, 'exited');
    assert.equal(alive(pid), false);
  });

  // The end of standard input could not be told, and bytes that are no text were lost.
  test('are given the end of their input, and give bytes that are no text', async () => {
    const s = b.ours.sdk;
    const { id } = await s.createProcess({ command: 'wc', args: ['-c'] });
    await s.sendProcessInput(id, { data: b64('12345'), eof: true });
    await ended(s, id);
    assert.equal(output((await s.getProcessLogs(id)).entries).trim(), '5');
    const { stdoutBase64 } = await s.runProcess({ command: 'printf', args: ['\\377\\000'] });
    assert.equal(stdoutBase64, '/wA=');
  });

  // Nothing survived the server.
  test('survive the gateway', async () => {
    const s = b.ours.sdk;
    const { id } = await s.createProcess(sh('echo before; read x; echo after'));
    await logged(s, id, 'before');
    await b.component.http.service.end('SIGKILL');
    b.component.http = await b.component.startGateway([], { port: b.component.http.port });
    await s.sendProcessInput(id, { data: '\n', encoding: 'utf8' });
    assert.equal((await ended(s, id)).exitCode, 0);
    assert.equal(output((await s.getProcessLogs(id)).entries), 'before\nafter\n');
  });

  // Everything that the server was started with went to every command.
  test('know nothing of the environment of services', async () => {
    const { stdout } = await b.ours.sdk.runProcess({ command: 'env' });
    assert.deepEqual(stdout.trim().split('\n').map((l) => l.split('=')[0]).filter((n) => !['PATH', 'HOME', 'USER', 'LOGNAME', 'SHELL', 'LANG', 'TZ'].includes(n)), []);
  });
});
