#include "adapters/agents/entries.h"

/* The adapter is not on every npm registry; then it is found on PATH or not at all. */
const struct agent agent_amp = {
    .name = "amp",
    .title = "Amp",
    .npm_packages = LIST("amp-acp@0.7.0", NULL),
    .command = "amp-acp",
    .arguments = LIST(NULL),
    .environment = LIST(NULL),
    .credentials = LIST("AMP_API_KEY", NULL),
    .initialize_ms = INITIALIZE_MS,
    .open_ms = OPEN_MS,
    .registry_id = "amp-acp",
    .skill_dirs = LIST(".agents/skills", NULL),
};
