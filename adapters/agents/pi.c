#include "adapters/agents/entries.h"

/* The adapter starts `pi` from PATH, so both packages go into one prefix. It never asks for permission. Node
 * 20 cannot run this release of pi. */
const struct agent agent_pi = {
    .name = "pi",
    .title = "Pi",
    .npm_packages = LIST("pi-acp@0.0.34", "@earendil-works/pi-coding-agent@0.87.1", NULL),
    .command = "pi-acp",
    .arguments = LIST(NULL),
    .environment = LIST("PI_SKIP_VERSION_CHECK=1", NULL),
    .credentials = LIST("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENROUTER_API_KEY", "GEMINI_API_KEY", NULL),
    .initialize_ms = INITIALIZE_MS,
    .open_ms = OPEN_MS,
    .registry_id = "pi-acp",
    .features = AGENT_LOAD | AGENT_LIST | AGENT_IMAGE,
    .node_min = 22,
    .credential_files = LIST(".pi/agent/auth.json", NULL),
    .skill_dirs = LIST(".pi/skills", NULL),
};
