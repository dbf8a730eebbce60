/* All agents that sessions may have: the built-in ones, those of the server's file, and those that callers
 * have registered. Under the service lock. */
#ifndef SERVICES_SESSION_SVC_REGISTRY_H_
#define SERVICES_SESSION_SVC_REGISTRY_H_

#include "sandboxagent/session/v1/agent_service.rpc.h"
#include "services/session-svc/sessions.h"

enum {
    REGISTRY_MAX = 100, /* agents that are not built in */
    REGISTRY_FILE_BYTES_MAX = 1 << 20,
};

/* Reads the file (NULL: none), then what was registered. INVALID_CONFIG names the file and what is wrong. */
int registry_load(struct sessions *all, const char *file, sa_error **err);
void registry_free(struct sessions *all);

/* NULL: UNKNOWN_AGENT names it and those there are. Lives until it is put again or removed; sessions are
 * given the new one then. */
const struct agent *registry_find(const struct sessions *all, const char *name, sa_error **err);
/* The i-th of them, built-in ones first; NULL: there are no more. */
const struct agent *registry_at(const struct sessions *all, size_t i);
/* Is it one that callers may replace? INVALID_REQUEST: it is built in, or from the file. */
bool registry_is_registered(const struct sessions *all, const char *name);
bool registry_is_custom(const struct sessions *all, const struct agent *a);

/* INVALID_REQUEST names the field; ALREADY_EXISTS, TOO_MANY. */
int registry_check(const struct sessions *all, const CustomAgent *c, sa_error **err);
/* Once it is committed: it can be used. Copies. */
void registry_put(struct sessions *all, const CustomAgent *c);
void registry_remove(struct sessions *all, const char *name);

#endif
