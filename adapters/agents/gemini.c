#include "adapters/agents/entries.h"

/* Where the client offers fs methods, it reads a file before it first writes it and fails because it is not
 * there.
 */
const struct agent agent_gemini = {
    .name = "gemini",
    .title = "Gemini CLI",
    .npm_packages = LIST("@google/gemini-cli@0.61.0", NULL),
    .command = "gemini",
    .arguments = LIST("--experimental-acp", NULL),
    .environment = LIST(NULL),
    .credentials = LIST("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL", "GEMINI_MODEL", NULL),
    .initialize_ms = INITIALIZE_MS,
    .open_ms = OPEN_MS,
    .no_files = true,
    .registry_id = "gemini",
    .features = AGENT_LOAD | AGENT_IMAGE | AGENT_AUDIO | AGENT_EMBEDDED | AGENT_MCP_HTTP | AGENT_MCP_SSE,
    .modes = LIST("default", "autoEdit", "yolo", "plan", NULL),
    .credential_files = LIST(".gemini/oauth_creds.json", NULL),
    .skill_dirs = LIST(".gemini/skills", NULL),
};
