/* One entry per agent, each in its own file; only agents.c includes this. */
#ifndef ADAPTERS_AGENTS_ENTRIES_H_
#define ADAPTERS_AGENTS_ENTRIES_H_

#include "adapters/agents/agents.h"

/* The elements end with NULL. */
#define LIST(...) ((const char *const[]){__VA_ARGS__})

enum { INITIALIZE_MS = 60000, OPEN_MS = 60000 };

extern const struct agent agent_amp, agent_claude, agent_codex, agent_cursor, agent_gemini, agent_mock,
    agent_opencode, agent_pi, agent_qwen;

#endif
