#include "adapters/agents/entries.h"

/* Runs without a separate CLI: the SDK brings the native program. IS_SANDBOX=1, which an
 * image that is a sandbox sets, lets it offer bypassPermissions to root; its default mode `auto` asks for no
 * permission, `default` does. */
const struct agent agent_claude = {
    .name = "claude",
    .title = "Claude Code",
    .npm_packages = LIST("@agentclientprotocol/claude-agent-acp@0.101.0", NULL),
    .command = "claude-agent-acp",
    .arguments = LIST(NULL),
    .environment = LIST("DISABLE_TELEMETRY=1", "DISABLE_AUTOUPDATER=1", "DISABLE_ERROR_REPORTING=1", NULL),
    .credentials = LIST("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "ANTHROPIC_MODEL",
                        "CLAUDE_CODE_OAUTH_TOKEN", "IS_SANDBOX", NULL),
    .initialize_ms = INITIALIZE_MS,
    .open_ms = OPEN_MS,
    .registry_id = "claude-acp",
    .features = AGENT_LOAD | AGENT_RESUME | AGENT_LIST | AGENT_FORK | AGENT_CLOSE | AGENT_IMAGE |
                AGENT_EMBEDDED | AGENT_MCP_HTTP | AGENT_MCP_SSE,
    .modes = LIST("auto", "default", "acceptEdits", "plan", "bypassPermissions", NULL),
    .credential_files = LIST(".claude/.credentials.json", NULL),
    .skill_dirs = LIST(".claude/skills", NULL),
};
