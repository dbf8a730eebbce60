/* What the files of installing share. */
#ifndef SERVICES_SESSION_SVC_INSTALL_INTERNAL_H_
#define SERVICES_SESSION_SVC_INSTALL_INTERNAL_H_

#include "services/session-svc/install.h"

struct watcher;

struct install {
    struct install *next; /* in the order in which they were asked for */
    struct sessions *all;
    const struct agent *agent; /* built in: lives for ever */
    char id[SA_ID_TEXT + 1];
    InstallState state;
    bool removal, private_node;
    char *adapter; /* from the registry, instead of the first package; NULL: that one */
    int64_t start_time_us, end_time_us;
    char *reason, *message;
    /* of this run */
    struct job *job, *last_job; /* last_job: its result is being committed */
    bool saving;
    struct sa_timer *retry;
    struct sa_buf tail;
    struct sa_buf answer; /* of the agent to initialize */
    struct watcher *watchers;
    AgentCapabilities *report;
    struct sa_arena *arena;
};

/* ---- install_watch.c: what callers see ---- */

Installation *install_fill(const struct install *i, struct sa_arena *arena);
/* To all who watch: a line of output (masked by the caller), how far it has come, the end (err NULL: its
 * own). */
void install_tell_line(struct install *i, const char *p, size_t n);
void install_tell_state(struct install *i);
void install_end_watchers(struct install *i, const sa_error *err);
/* Of one that has failed; for the caller to free. */
sa_error *install_error(const struct install *i);

#endif
