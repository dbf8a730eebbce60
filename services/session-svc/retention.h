/* How much of a log is kept: the oldest events are removed in the background, a few hundred in a commit. What
 * a log has lost at its front shows in first_seq; readers are told of the gap. */
#ifndef SERVICES_SESSION_SVC_RETENTION_H_
#define SERVICES_SESSION_SVC_RETENTION_H_

#include <stdbool.h>

#include "adapters/os/loop.h"
#include "sandboxagent/session/v1/session_service.rpc.h"
#include "services/session-svc/session_store.rpc.h"

struct session;
struct sessions;
struct rpc_call;

/* 0: no limit. */
struct log_limits {
    uint64_t events, bytes, age_s;
};

/* Of a session; part of what is decided, but for the timer. */
struct log_state {
    uint64_t bytes;        /* of all events that are kept */
    int64_t first_time_us; /* of the first one */
    bool own;              /* the session has its own limits */
    struct log_limits limits;
    struct sa_timer *timer; /* of the next step; NULL until there is one */
};

void retention_take_row(struct session *s, const StoredSession *row);
void retention_fill_row(const struct session *s, StoredSession *row, struct sa_arena *arena);
Retention *retention_describe(const struct sessions *all, const StoredSession *row, struct sa_arena *arena);
/* An event of n bytes was added. */
void retention_count(struct session *s, size_t n, int64_t time_us);
/* The session's own limits, from CreateSession; NULL: it has none. */
void retention_set(struct session *s, const Retention *own);
/* After a commit: when too much is kept, a step comes soon. */
void retention_check(struct session *s);
/* Starts to look, on and on, for logs that have grown too old. */
void retention_start(struct sessions *all);

void api_set_retention(void *api, struct rpc_call *call, const SetRetentionRequest *req);

#endif
