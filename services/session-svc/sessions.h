/* The registry: every session that is loaded, and what all of them share. */
#ifndef SERVICES_SESSION_SVC_SESSIONS_H_
#define SERVICES_SESSION_SVC_SESSIONS_H_

#include "adapters/nng/bus.h"
#include "services/runtime/service.h"
#include "services/session-svc/blobs.h"
#include "services/session-svc/secrets.h"
#include "services/session-svc/session.h"

struct sessions_config {
    struct agents_place place;
    const char *home; /* of the agents */
    const char *default_cwd;
    uint64_t store_bytes, journal_bytes;
    size_t line_max;                 /* LINK_LINE_MAX, but at most a quarter of the journal */
    uint32_t initialize_ms, open_ms; /* 0: the agent's own */
    uint32_t cancel_ms, quiet_ms;
    uint64_t idle_suspend_ms;    /* of sessions that say nothing; 0: never */
    uint64_t blob_hours;         /* that a blob waits for a prompt to refer to it */
    bool pass_credentials;       /* from our environment to the agents */
    struct log_limits retention; /* of sessions without their own */
    const char *agents_file;     /* more agents; NULL: none */
    const char *registry_url;    /* of an ACP registry that is asked for the adapters' packages; NULL: none */
    bool require_preinstall;     /* nothing is installed */
};

struct sessions {
    struct service *svc;
    struct sa_loop *loop;
    struct store *store;
    struct bus_publisher *bus;
    struct rpc_channel *process, *files;
    struct sessions_config config;
    uint64_t epoch;
    char epoch_text[17];
    bool draining, stopped, degraded;
    struct sa_id last_id;
    struct session **buckets;
    size_t n_buckets, count;
    struct follower *followers;   /* of all sessions: follow.c */
    struct custom *custom_agents; /* registry.c */
    struct install *installs;     /* install.c: under way, in their order */
    struct job *jobs;             /* job.c */
    struct secrets *secrets;
    struct sa_timer *progress, *sweep;
    struct sa_timer *retention; /* retention.c */
    struct sa_id retention_at;
    struct blobs *blobs;
    unsigned searches;        /* under way */
    struct import *imports;   /* under way: import.c */
    PermissionPolicy *policy; /* the server's; NULL: never set. Owned, as its request_id */
    char *policy_request_id;
    struct permission_watch *watches; /* permission_watch.h */
    size_t n_watches;
};

/* A new id, above all that were made before: lists are in the order of creation. */
struct sa_id sessions_new_id(struct sessions *all);
/* Opens the store and takes up what was running. Under the lock. */
struct sessions *sessions_new(struct service *svc, const struct sessions_config *config, sa_error **err);
/* Without the lock. NULL is fine. */
void sessions_free(struct sessions *all);

/* INVALID_REQUEST, SESSION_NOT_FOUND: it cannot be the id of a session. */
int sessions_parse_id(const char *text, struct sa_id *ret_id, sa_error **err);
/* What is committed of a session, without loading it: free it with store_message_free. NULL:
 * SESSION_NOT_FOUND, ... */
StoredSession *sessions_read(struct sessions *all, const char *id, struct sa_id *ret_id, sa_error **err);
/* A session by its text id, loaded when it was not. NULL: SESSION_NOT_FOUND, INVALID_REQUEST, STORE_ERROR.
 * to_read: for what is committed; to_change: UNAVAILABLE while nothing can be decided. */
struct session *sessions_find_to_read(struct sessions *all, const char *id, sa_error **err);
struct session *sessions_find_to_change(struct sessions *all, const char *id, sa_error **err);
void sessions_insert(struct sessions *all, struct session *s);
/* Takes it out and frees it when the current callback is over. */
void sessions_forget(struct session *s);
/* Those that are loaded: for heads and for timers. Visits while fn returns true. */
void sessions_each(struct sessions *all, bool (*fn)(void *user, struct session *s), void *user);

#endif
