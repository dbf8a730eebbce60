/* Command line and environment of an agent process. Nothing is inherited but what is named here. */
#ifndef SERVICES_SESSION_SVC_ENVIRONMENT_H_
#define SERVICES_SESSION_SVC_ENVIRONMENT_H_

#include "adapters/json/json.h"
#include "sandboxagent/process/v1/process_service.rpc.h"
#include "services/session-svc/sessions.h"

/* Fills *ret from the arena. AGENT_NOT_INSTALLED. Environment, later wins: PATH, HOME, LANG; the agent's
 * defaults; credentials from our environment (with pass_credentials); the session's credentials, which are
 * only named (NOT_FOUND); the session's own. */
int environment_launch(const struct sessions *all, const struct agent *agent, const StoredSpec *spec,
                       StoredLaunch *ret, struct sa_arena *arena, sa_error **err);

/* Fills the environment of a command that an agent runs (terminal/create): PATH, HOME, LANG, the session's
 * own, then `env`, an array of {"name","value"}. Later wins; an entry without a name is left out. */
void environment_command(const struct sessions *all, const StoredSpec *spec, struct json env,
                         StoredLaunch *ret, struct sa_arena *arena);
/* The environment of a launch, with the values of its credentials; in the arena, borrowing from the launch.
 * NOT_FOUND: one was deleted. */
int environment_of_launch(const struct sessions *all, const StoredLaunch *launch, ProcessSpec *ret,
                          struct sa_arena *arena, sa_error **err);
/* The environment of tools that we run for ourselves, NAME=value, NULL-terminated, in the arena. home NULL:
 * our own. */
char **environment_tools(const struct sessions *all, const char *home, struct sa_arena *arena);

#endif
