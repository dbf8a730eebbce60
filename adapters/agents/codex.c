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
};
