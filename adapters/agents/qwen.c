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
};
