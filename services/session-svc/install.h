/* Installing agents from npm: one at a time, durably, and each one is started once before it counts. */
#ifndef SERVICES_SESSION_SVC_INSTALL_H_
#define SERVICES_SESSION_SVC_INSTALL_H_

#include "sandboxagent/session/v1/agent_service.rpc.h"
#include "services/session-svc/sessions.h"

enum {
    INSTALL_QUEUE_MAX = 32,
    INSTALL_TAIL_MAX = 2048,         /* bytes of output in the message of a failure */
    INSTALL_LINE_MAX = 4096,         /* bytes of a line of output that is told */
    INSTALL_NPM_MS = 20 * 60 * 1000, /* for npm */
};

struct install;
/* Takes up what was under way. */
int installs_load(struct sessions *all, sa_error **err);
void installs_free(struct sessions *all);
void installs_drain(struct sessions *all); /* its watchers' calls end with DRAINING */

/* Asks for an installation, or finds the one under way. NULL: AGENT_NOT_INSTALLED (cannot or must not be
 * installed), TOO_MANY. */
struct install *install_ask(struct sessions *all, const struct agent *a, bool removal, sa_error **err);
bool install_is_running(const struct sessions *all, const struct agent *a);
/* Tells this call all about it until it ends: answers it then. */
void install_watch(struct install *i, struct rpc_call *call);
/* The present or last one, in the arena; NULL: none, or *err. */
Installation *install_describe(struct sessions *all, const char *agent, struct sa_arena *arena,
                               sa_error **err);

#endif
