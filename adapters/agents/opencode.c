#include "adapters/agents/entries.h"

/* Calls fs/write_text_file after an allowed edit whether or not the client offers it. */
const struct agent agent_opencode = {
    .name = "opencode",
    .title = "OpenCode",
    .npm_packages = LIST("opencode-ai@1.18.33", NULL),
    .command = "opencode",
    .arguments = LIST("acp", NULL),
    .environment = LIST("OPENCODE_DISABLE_AUTOUPDATE=1", NULL),
    .credentials = LIST("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENROUTER_API_KEY", "GEMINI_API_KEY",
                        "OPENCODE_API_KEY", "OPENCODE_CONFIG_CONTENT", NULL),
    .initialize_ms = INITIALIZE_MS,
    .open_ms = OPEN_MS,
    .registry_id = "opencode",
    .features = AGENT_LOAD | AGENT_RESUME | AGENT_LIST | AGENT_FORK | AGENT_CLOSE | AGENT_IMAGE |
                AGENT_EMBEDDED | AGENT_MCP_HTTP | AGENT_MCP_SSE,
    .modes = LIST("build", "plan", NULL),
    .credential_files = LIST(".local/share/opencode/auth.json", NULL),
    .skill_dirs = LIST(".opencode/skill", NULL),
};
