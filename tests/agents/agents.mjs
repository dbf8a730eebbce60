// What a real agent needs in a test: where `install` put it, an environment without the machine's credentials, and
// the configuration that points it at the scripted model endpoint (tests/model).
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { dirname, join } from 'node:path';

export const agentsDir =
  process.env.SANDBOX_AGENT_TEST_AGENTS ??
  join(userInfo().homedir, '.cache', 'sandbox-agent', 'test-agents'); // HOME is the test's own

export const isInstalled = (agent) => existsSync(join(agentsDir, agent, '.installed'));

// Makes the agent's configuration below `home`. Returns {argv, env, mode}: the command that speaks ACP, its whole
// environment, and the mode in which it asks before it changes anything (undefined: its default does).
export function prepareAgent(agent, { home, modelUrl }) {
  const bin = join(agentsDir, agent, 'node_modules', '.bin');
  const settings = agents[agent](home, modelUrl);
  for (const [path, content] of Object.entries(settings.files ?? {})) {
    const file = join(home, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content, null, 2));
  }
  return {
    argv: [join(bin, settings.command[0]), ...settings.command.slice(1)],
    env: {
      HOME: home,
      PATH: [bin, dirname(process.execPath), '/usr/local/bin', '/usr/bin', '/bin'].join(':'),
      LANG: 'C.UTF-8',
      NO_COLOR: '1',
      ...settings.env,
    },
    mode: settings.mode,
  };
}

const MODEL = 'scripted';

const agents = {
  claude: (home, url) => ({
    command: ['claude-agent-acp'],
    mode: 'default',
    env: {
      ANTHROPIC_BASE_URL: url,
      ANTHROPIC_API_KEY: 'no-key',
      IS_SANDBOX: '1', // it refuses some modes to root elsewhere
      CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
      DISABLE_TELEMETRY: '1',
      DISABLE_ERROR_REPORTING: '1',
      DISABLE_AUTOUPDATER: '1',
    },
  }),

  opencode: (home, url) => ({
    command: ['opencode', 'acp'],
    files: {
      '.config/opencode/opencode.json': {
        model: `test/${MODEL}`,
        small_model: `test/${MODEL}`,
        permission: { edit: 'ask', bash: 'ask' },
        autoupdate: false,
        share: 'disabled',
        provider: {
          test: {
            npm: '@ai-sdk/openai-compatible',
            name: 'test',
            options: { baseURL: `${url}/v1`, apiKey: 'no-key' },
            models: { [MODEL]: { name: MODEL, limit: { context: 100000, output: 10000 }, tool_call: true } },
          },
        },
      },
    },
    env: {
      OPENCODE_DISABLE_AUTOUPDATE: '1',
      OPENCODE_DISABLE_MODELS_FETCH: '1',
      OPENCODE_DISABLE_DEFAULT_PLUGINS: '1',
      OPENCODE_DISABLE_LSP_DOWNLOAD: '1',
    },
  }),

  codex: (home, url) => ({
    command: ['codex-acp'],
    mode: 'read-only',
    files: {
      '.codex/config.toml': `model_provider = "test"
check_for_update_on_startup = false
[analytics]
enabled = false
[model_providers.test]
name = "test"
base_url = "${url}/v1"
wire_api = "responses"
env_key = "OPENAI_API_KEY"
supports_websockets = false
`,
    },
    env: { CODEX_HOME: join(home, '.codex'), OPENAI_API_KEY: 'no-key', NO_BROWSER: '1' },
  }),

  pi: (home, url) => ({
    command: ['pi-acp'],
    files: {
      '.pi/agent/models.json': {
        providers: {
          test: {
            baseUrl: `${url}/v1`,
            api: 'openai-completions',
            apiKey: 'no-key',
            models: [
              {
                id: MODEL, name: MODEL, reasoning: false, input: ['text'], contextWindow: 100000, maxTokens: 10000,
                cost: { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 },
              },
            ],
          },
        },
      },
      '.pi/agent/settings.json': { defaultProvider: 'test', defaultModel: MODEL, quietStartup: true },
    },
    env: { PI_OFFLINE: '1', PI_SKIP_VERSION_CHECK: '1' },
  }),
};
