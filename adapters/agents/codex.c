#include "adapters/agents/entries.h"

/* NO_BROWSER hides the login that needs one. Rejecting a permission ends its turn as cancelled; the terminal
 * ids in its tool calls are its own. */
const struct agent agent_codex = {
    .name = "codex",
    .title = "Codex",
    .npm_packages = LIST("@agentclientprotocol/codex-acp@2.6.0", NULL),
    .command = "codex-acp",
    .arguments = LIST(NULL),
    .environment = LIST("NO_BROWSER=1", NULL),
    .credentials = LIST("OPENAI_API_KEY", "CODEX_API_KEY", "OPENAI_BASE_URL", "CODEX_HOME", NULL),
    .initialize_ms = INITIALIZE_MS,
    .open_ms = OPEN_MS,
    .registry_id = "codex-acp",
    .features = AGENT_LOAD | AGENT_RESUME | AGENT_LIST | AGENT_FORK | AGENT_CLOSE | AGENT_IMAGE |
                AGENT_EMBEDDED | AGENT_MCP_HTTP,
    .modes = LIST("agent", "read-only", "workspace-write", "agent-full-access", NULL),
    .credential_files = LIST(".codex/auth.json", NULL),
    .skill_dirs = LIST(".agents/skills", NULL),
};
