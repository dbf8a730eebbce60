#include "adapters/agents/entries.h"

/* The adapter looks for `cursor-agent` with growing pauses and takes 21 s to answer `initialize` without it.
 */
const struct agent agent_cursor = {
    .name = "cursor",
    .title = "Cursor",
    .npm_packages = LIST("@blowmage/cursor-agent-acp@0.7.1", NULL),
    .command = "cursor-agent-acp",
    .arguments = LIST(NULL),
    .environment = LIST(NULL),
    .credentials = LIST("CURSOR_API_KEY", NULL),
    .initialize_ms = 120000,
    .open_ms = OPEN_MS,
    .registry_id = "cursor-agent-acp",
    .skill_dirs = LIST(".cursor/skills", NULL),
};
