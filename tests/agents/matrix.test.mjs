// Agents x scenarios, each in a session of its own. What agents are known to do otherwise stands in `differs`: the test asserts
// that, too, so that a new release that changes it is seen. Prints the table at the end.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, describe, test } from 'node:test';
import { environment, text } from '../clients/grpc.mjs';
import { eventually, startServer } from '../clients/server.mjs';
import { startModel } from '../model/model.mjs';
import { EDIT_NEW, FILE_TEXT, HELLO } from '../model/script.mjs';
import { agentsDir, isInstalled, prepareAgent } from './agents.mjs';

const PATIENCE_MS = 120_000;
const ECHO_MCP = join(dirname(fileURLToPath(import.meta.url)), 'echo_mcp.mjs');
const SCENARIOS = ['basic', 'write', 'shell', 'edit', 'reject', 'cancel', 'load', 'mcp', 'config', 'noauth', 'fail'];

// asks: it asks for permission. mcp: full name of the tool `echo`; null: it ignores MCP servers. mode: one to change to.
const AGENTS = {
  claude: { asks: true, mcp: 'mcp__echo__echo', mode: 'plan', noauth: /auth/i },
  codex: { asks: true, mcp: 'mcp__echo__echo', mode: 'agent', shell: 'ESCALATE', noauth: /auth/i, differs: { mcp: 'its model reaches MCP tools through code only' } },
  opencode: { asks: true, mcp: 'echo_echo', mode: null, noauth: null, differs: { config: 'it has no modes', noauth: 'it falls back to a model of its own' } },
  pi: { asks: false, mcp: null, mode: 'low', noauth: /auth/i, differs: { reject: 'it never asks', mcp: 'it ignores MCP servers', fail: 'it swallows errors of the model' } },
};

const chosen = (process.env.MATRIX_AGENTS ?? Object.keys(AGENTS).join(' ')).split(/[ ,]+/);
const table = {};

for (const agent of chosen) {
  describe(agent, () => {
    const traits = AGENTS[agent];
    let model, server, c;
    table[agent] = {};

    before(async () => {
      assert.ok(isInstalled(agent), `agent ${agent} is not in ${agentsDir}: run tests/agents/install`);
      model = await startModel();
      server = await startServer({ args: ['--agents-dir', join(agentsDir, agent)] });
      c = server.connect();
    });
    after(async () => {
      await server?.stop();
      await model?.close();
    });

    // A session in a directory of its own.
    async function open(name, { without = [], ...more } = {}) {
      const [home, cwd] = ['home', 'work'].map((kind) => join(server.dir, `${name}-${kind}`));
      for (const dir of [home, cwd]) mkdirSync(dir);
      const prepared = prepareAgent(agent, { home, modelUrl: model.url });
      const env = Object.fromEntries(Object.entries(prepared.env).filter(([key]) => !without.includes(key)));
      const { session } = await c.sessions.createSession({ agent, cwd: Buffer.from(cwd), env: environment(env), modeId: prepared.mode, ...more });
      const viewer = server.viewer(session.sessionId);
      const sessionId = session.sessionId;
      return {
        sessionId, cwd, home, viewer,
        get: async () => (await c.sessions.getSession({ sessionId })).session,
        async ask(words, kind = 'PERMISSION_OPTION_KIND_ALLOW_ONCE') {
          const { turn } = await c.sessions.sendPrompt({ sessionId, content: text(words) });
          let answered = 0;
          const open = () => viewer.events.filter((e) => e.kind === 'permissionRequested' && e.turn === turn).slice(answered);
          for (;;) {
            await viewer.until(() => open().length || viewer.events.some((e) => e.kind === 'turnEnded' && e.turn === turn), `turn ${turn} asks or ends`, PATIENCE_MS);
            if (!open().length) break;
            for (const { permissionRequested: p } of open()) {
              answered++;
              await c.permissions.answerPermission({ sessionId, permissionId: p.permissionId, optionId: p.options.find((o) => o.kind === kind).optionId });
            }
          }
          const ended = viewer.events.find((e) => e.kind === 'turnEnded' && e.turn === turn).turnEnded;
          return { turn, answered, ended, said: viewer.text(turn) };
        },
      };
    }

    const good = ({ ended }) => assert.equal(ended.stopReason, 'STOP_REASON_END_TURN', JSON.stringify(ended));
    const differs = (name) => traits.differs?.[name];

    const scenarios = {
      async basic() {
        const r = await (await open('basic')).ask('hello');
        good(r);
        assert.ok(r.said.includes(HELLO), r.said);
      },
      async write() {
        const s = await open('write');
        const r = await s.ask(`WRITE ${join(s.cwd, 'new.txt')}`);
        good(r);
        assert.equal(readFileSync(join(s.cwd, 'new.txt'), 'utf8'), FILE_TEXT);
        assert.equal(r.answered > 0, traits.asks);
      },
      async shell() {
        const s = await open('shell');
        const file = join(s.cwd, 'made');
        good(await s.ask(`${traits.shell ?? 'SHELL'} echo made > ${file}`));
        assert.equal(readFileSync(file, 'utf8'), 'made\n');
      },
      async edit() {
        const s = await open('edit');
        const file = join(s.cwd, 'old.txt');
        writeFileSync(file, FILE_TEXT);
        good(await s.ask(`EDIT ${file}`));
        assert.ok(readFileSync(file, 'utf8').startsWith(EDIT_NEW));
      },
      async reject() {
        const s = await open('reject');
        const r = await s.ask(`WRITE ${join(s.cwd, 'no.txt')}`, 'PERMISSION_OPTION_KIND_REJECT_ONCE');
        assert.equal(existsSync(join(s.cwd, 'no.txt')), !traits.asks);
        assert.equal(r.answered > 0, traits.asks);
      },
      async cancel() {
        const s = await open('cancel');
        const { turn } = await c.sessions.sendPrompt({ sessionId: s.sessionId, content: text('SLOW 100000') });
        await s.viewer.waitFor((e) => e.kind === 'agentMessageChunk' && e.turn === turn, 'the first piece', PATIENCE_MS);
        await c.sessions.cancelTurn({ sessionId: s.sessionId });
        assert.equal((await s.viewer.turnEnded(turn, PATIENCE_MS)).turnEnded.stopReason, 'STOP_REASON_CANCELLED');
        good(await s.ask('hello'));
      },
      async load() {
        const s = await open('load');
        good(await s.ask('SAY the first answer'));
        const first = await s.get();
        await c.processes.signalProcess({ processId: first.processId, signal: 9, scope: 'SIGNAL_SCOPE_TREE' });
        await s.viewer.waitFor((e) => e.stateChanged?.state === 'SESSION_STATE_SUSPENDED', 'the end of the agent', PATIENCE_MS);
        good(await s.ask('SAY the second answer'));
        assert.ok(['RESTORE_METHOD_RESUME', 'RESTORE_METHOD_LOAD'].includes(s.viewer.events.find((e) => e.kind === 'restored').restored.method));
        assert.equal((await s.get()).agentSessionId, first.agentSessionId);
      },
      async mcp() {
        const log = join(server.dir, `${agent}-mcp.log`);
        await c.credentials.setCredential({ name: 'echo', value: 'a-secret-of-mcp' });
        const s = await open('mcp', {
          mcpServers: [{
            name: 'echo',
            command: {
              command: process.execPath, args: [ECHO_MCP],
              env: [{ name: 'ECHO_MCP_LOG', text: log }, { name: 'ECHO_MCP_TOKEN', credential: 'echo' }],
            },
          }],
        });
        await s.ask(`MCP ${traits.mcp ?? 'mcp__echo__echo'}`);
        if (differs('mcp')) return assert.ok(!existsSync(log), 'its MCP tool was called after all');
        assert.equal(readFileSync(log, 'utf8'), 'a-secret-of-mcp ping\n');
      },
      async config() {
        const s = await open('config', traits.mode ? { modeId: traits.mode } : {});
        good(await s.ask('hello'));
        if (traits.mode) assert.equal((await s.get()).modeId, traits.mode);
        const { capabilities } = (await c.agents.getAgent({ agent })).agent;
        assert.ok(capabilities.reported && capabilities.modes.length && capabilities.models.length, JSON.stringify(capabilities));
      },
      async noauth() {
        if (differs('noauth')) return; // nothing to be seen without a network
        const s = await open('noauth', { without: ['ANTHROPIC_API_KEY', 'ANTHROPIC_BASE_URL', 'OPENAI_API_KEY', 'CODEX_HOME', 'HOME'] });
        const { ended } = await s.ask('hello');
        assert.equal(ended.stopReason, 'STOP_REASON_ERROR');
        assert.match(ended.message, traits.noauth);
      },
      async fail() {
        const s = await open('fail');
        const { ended, said } = await s.ask('FAIL 400');
        if (differs('fail')) return assert.equal(ended.stopReason, 'STOP_REASON_END_TURN');
        assert.ok(ended.stopReason === 'STOP_REASON_ERROR' || said.length, 'the failure of the model is told');
        await eventually(async () => ['SESSION_STATE_IDLE', 'SESSION_STATE_SUSPENDED'].includes((await s.get()).state), 'it can go on');
      },
    };

    for (const name of SCENARIOS) {
      test(`${agent} ${name}${differs(name) ? ` (${differs(name)})` : ''}`, async () => {
        table[agent][name] = 'FAILED';
        await scenarios[name]();
        table[agent][name] = differs(name) ? 'differs' : 'ok';
      });
    }
  });
}

after(() => {
  const row = (name, cells) => [name.padEnd(10), ...cells.map((cell) => cell.padEnd(8))].join(' ');
  console.log(row('', SCENARIOS));
  for (const agent of chosen) console.log(row(agent, SCENARIOS.map((name) => table[agent][name] ?? '-')));
});
