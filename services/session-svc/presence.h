/* Who is here: members of sessions, each a lease that ends by itself (mechanisms: "Presence and control in
 * Redis"). One interface, two forms: in memory for one machine, and in Redis for any number of session-svc.
 * Presence is never in the event log, and losing it never stops a session.
 *
 * All functions are called with the service lock held, all callbacks run under it, and none from inside the
 * call that started it. */
#ifndef SERVICES_SESSION_SVC_PRESENCE_H_
#define SERVICES_SESSION_SVC_PRESENCE_H_

#include <stddef.h>
#include <stdint.h>

#include "adapters/os/error.h"
#include "adapters/os/loop.h"
#include "sandboxagent/presence/v1/presence_service.rpc.h"

enum {
    PRESENCE_TTL_MS = 30000,
    PRESENCE_MEMBERS_MAX = 256, /* of one session; more: TOO_MANY */
};

typedef void presence_stored_fn(void *user, const sa_error *err);

struct presence_options {
    uint32_t ttl_ms; /* 0: PRESENCE_TTL_MS */
    /* The highest fencing number that was given for a session, as it is kept durably: new ones are above it,
     * also when Redis forgot everything. raise: keeps a higher one; `done` (may be NULL) comes later, or from
     * inside. */
    uint64_t (*floor)(void *user, const char *session_id);
    void (*raise)(void *user, const char *session_id, uint64_t fencing, presence_stored_fn *done,
                  void *done_user);
    void *user;
};

struct presence;
struct presence *presence_memory_new(struct sa_loop *loop, const struct presence_options *opt);
/* url: see redis.h. A Redis that is down is no error; it is unknown then who is here. INVALID_CONFIG. */
struct presence *presence_redis_new(struct sa_loop *loop, const struct presence_options *opt, const char *url,
                                    sa_error **err);
/* Of the session-svc that has no callers any more: nothing under way is answered. NULL is fine. */
void presence_free(struct presence *p);
uint32_t presence_ttl_ms(const struct presence *p);

/* An answer; its memory lives for the callback. err (NULL: it worked) REDIS_UNAVAILABLE and the ones below.
 */
struct presence_answer {
    Member *const *members; /* by join time */
    size_t n;
    uint64_t fencing;
};
typedef void presence_done_fn(void *user, const struct presence_answer *answer, const sa_error *err);

/* A new member; m->member_id is new. Answers with the member and its fencing number. TOO_MANY. */
void presence_join(struct presence *p, const char *session_id, const Member *m, presence_done_fn *done,
                   void *user);
/* Extends a member's lease; activity and seen_seq: new values, NULL: unchanged. MEMBER_NOT_FOUND;
 * PERMISSION_DENIED: it is another principal's. Answers with the member. */
void presence_keep(struct presence *p, const char *session_id, const char *member_id, const char *principal,
                   const char *activity, const uint64_t *seen_seq, presence_done_fn *done, void *user);
/* Ends a lease; one that is over is fine. PERMISSION_DENIED. */
void presence_leave(struct presence *p, const char *session_id, const char *member_id, const char *principal,
                    presence_done_fn *done, void *user);
void presence_list(struct presence *p, const char *session_id, presence_done_fn *done, void *user);

/* ---- watching ---- */

struct presence_watch_events {
    /* All members; replaces what was known. The first callback, and again after `unknown`. */
    void (*snapshot)(void *user, Member *const *members, size_t n);
    void (*updated)(void *user, const Member *m); /* came, or shows something else */
    void (*left)(void *user, const char *member_id);
    void (*unknown)(void *user, const char *why); /* may come first instead of a snapshot */
};
struct presence_watch;
struct presence_watch *presence_watch(struct presence *p, const char *session_id,
                                      const struct presence_watch_events *events, void *user);
/* Give the watcher a snapshot again: it has skipped something. */
void presence_watch_again(struct presence_watch *w);
void presence_unwatch(struct presence_watch *w); /* NULL is fine; from its own callbacks too */

#endif
