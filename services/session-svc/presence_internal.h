/* What the two forms of presence share: rooms (what this process knows of one session) and their watchers. */
#ifndef SERVICES_SESSION_SVC_PRESENCE_INTERNAL_H_
#define SERVICES_SESSION_SVC_PRESENCE_INTERNAL_H_

#include <stdbool.h>

#include "adapters/os/mem.h"
#include "services/session-svc/presence.h"

struct presence_room {
    struct presence_room *next;
    struct presence *presence;
    char *session_id;
    /* Owned copies by join time, true while `known`. */
    Member **members;
    size_t n;
    bool known;
    bool told_unknown;
    struct presence_watch *watches;
    struct sa_timer *expiry; /* calls ops->expire */
    void *state;             /* of the form */
};

struct presence_ops {
    void (*join)(struct presence *p, struct presence_room *room, Member *m, presence_done_fn *done,
                 void *user);
    void (*keep)(struct presence *p, struct presence_room *room, const char *member_id, const char *principal,
                 const char *activity, const uint64_t *seen_seq, presence_done_fn *done, void *user);
    void (*leave)(struct presence *p, struct presence_room *room, const char *member_id,
                  const char *principal, presence_done_fn *done, void *user);
    void (*list)(struct presence *p, struct presence_room *room, presence_done_fn *done, void *user);
    void (*expire)(void *room);
    void (*watched)(struct presence_room *room); /* the first watcher came */
    bool (*idle)(struct presence_room *room);    /* without watchers: may the room be forgotten? */
    void (*room_fini)(struct presence_room *room);
    void (*fini)(struct presence *p); /* first of all: nothing may be called back any more */
};

struct presence {
    const struct presence_ops *ops;
    struct sa_loop *loop;
    struct presence_options opt;
    struct presence_room *rooms;
};

void presence_init(struct presence *p, const struct presence_ops *ops, struct sa_loop *loop,
                   const struct presence_options *opt);

/* What the room now holds; tells the watchers. Members are copied. */
void presence_room_snapshot(struct presence_room *room, Member *const *members, size_t n);
void presence_room_updated(struct presence_room *room, const Member *m);
void presence_room_left(struct presence_room *room, const char *member_id);
void presence_room_unknown(struct presence_room *room, const char *why);
Member *presence_room_find(struct presence_room *room, const char *member_id);
/* Frees the room when nothing needs it. The last thing to do with it. */
void presence_room_release(struct presence_room *room);

Member *presence_member_copy(const Member *m);
void presence_member_free(Member *m); /* NULL is fine */
/* Applies what a keep brings. PERMISSION_DENIED. */
int presence_member_check(const Member *m, const char *principal, sa_error **err);
void presence_member_change(Member *m, const char *activity, const uint64_t *seen_seq);
int presence_member_by_join(const void *a, const void *b); /* for qsort of Member * */

#endif
