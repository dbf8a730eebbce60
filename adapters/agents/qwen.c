#include "adapters/agents/entries.h"

/* Sends requests of its own (craft/drainMidTurnQueue) that must be answered, and needs Node 22. */
const struct agent agent_qwen = {
    .name = "qwen",
    .title = "Qwen Code",
    .npm_packages = LIST("@qwen-code/qwen-code@0.24.4", NULL),
    .command = "qwen",
    .arguments = LIST("--acp", NULL),
    .environment = LIST(NULL),
    .credentials = LIST("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL", NULL),
    .initialize_ms = INITIALIZE_MS,
    .open_ms = OPEN_MS,
    .registry_id = "qwen-code",
    .features = AGENT_LOAD | AGENT_RESUME | AGENT_LIST | AGENT_IMAGE | AGENT_AUDIO | AGENT_EMBEDDED |
                AGENT_MCP_HTTP | AGENT_MCP_SSE,
    .node_min = 22,
    .modes = LIST("auto", "plan", "default", "auto-edit", "yolo", NULL),
    .credential_files = LIST(".qwen/oauth_creds.json", NULL),
    .skill_dirs = LIST(".qwen/skills", NULL),
};
