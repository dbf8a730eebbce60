#include "adapters/agents/entries.h"

/* The scripted agent of mock/: no key, no network. */
const struct agent agent_mock = {
    .name = "mock",
    .title = "Mock",
    .npm_packages = LIST(NULL),
    .command = "mock-agent",
    .arguments = LIST(NULL),
    .environment = LIST(NULL),
    .credentials = LIST(NULL),
    .initialize_ms = INITIALIZE_MS,
    .open_ms = OPEN_MS,
    .built_in = true,
    .features = AGENT_LOAD | AGENT_RESUME | AGENT_IMAGE | AGENT_EMBEDDED | AGENT_MCP_HTTP | AGENT_MCP_SSE,
    .modes = LIST("ask", "auto", NULL),
    .skill_dirs = LIST(".agents/skills", NULL),
};
