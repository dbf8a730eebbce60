#include "services/session-svc/presence.h"

#include <stdlib.h>
#include <string.h>

#include "services/session-svc/presence_internal.h"

struct presence_watch {
    struct presence_watch *next;
    struct presence_room *room;
    const struct presence_watch_events *events;
    void *user;
    bool started; /* gets changes: a snapshot or `unknown` came first */
    bool queued;  /* `begin` is deferred */
    bool closed;  /* freed by `begin` */
};

void presence_init(struct presence *p, const struct presence_ops *ops, struct sa_loop *loop,
                   const struct presence_options *opt)
{
    p->ops = ops;
    p->loop = loop;
    p->opt = *opt;
    if (!p->opt.ttl_ms)
        p->opt.ttl_ms = PRESENCE_TTL_MS;
}

uint32_t presence_ttl_ms(const struct presence *p)
{
    return p->opt.ttl_ms;
}

/* ---- members ---- */

Member *presence_member_copy(const Member *m)
{
    size_t n = member__get_packed_size(m);
    cleanup_free uint8_t *packed = sa_malloc(n);
    member__pack(m, packed);
    return rpc_unpack(&member__descriptor, packed, n, NULL);
}

void presence_member_free(Member *m)
{
    if (m)
        member__free_unpacked(m, NULL);
}

int presence_member_check(const Member *m, const char *principal, sa_error **err)
{
    if (strcmp(m->principal, principal))
        return sa_fail(err, SA_PERMISSION_DENIED, "member %s belongs to somebody else", m->member_id);
    return 0;
}

static void set_text(char **field, const char *value)
{
    if (*field != protobuf_c_empty_string)
        free(*field);
    *field = sa_strdup(value);
}

void presence_member_change(Member *m, const char *activity, const uint64_t *seen_seq)
{
    if (activity)
        set_text(&m->activity, activity);
    if (seen_seq)
        m->seen_seq = *seen_seq;
}

int presence_member_by_join(const void *a, const void *b)
{
    const Member *x = *(Member *const *)a, *y = *(Member *const *)b;
    /* Ids sort by the time of their making. */
    return strcmp(x->member_id, y->member_id);
}

/* ---- rooms ---- */

static struct presence_room *room_of(struct presence *p, const char *session_id)
{
    for (struct presence_room *r = p->rooms; r; r = r->next)
        if (!strcmp(r->session_id, session_id))
            return r;
    struct presence_room *r = sa_calloc(1, sizeof *r);
    r->presence = p;
    r->session_id = sa_strdup(session_id);
    r->expiry = sa_timer_new(p->loop, p->ops->expire, r);
    r->next = p->rooms;
    p->rooms = r;
    return r;
}

static void forget_members(struct presence_room *room)
{
    for (size_t i = 0; i < room->n; i++)
        presence_member_free(room->members[i]);
    free(room->members);
    room->members = NULL;
    room->n = 0;
}

static void room_free(struct presence_room *room)
{
    for (struct presence_room **at = &room->presence->rooms; *at; at = &(*at)->next)
        if (*at == room) {
            *at = room->next;
            break;
        }
    if (room->presence->ops->room_fini)
        room->presence->ops->room_fini(room);
    sa_timer_free(room->expiry);
    forget_members(room);
    free(room->session_id);
    free(room);
}

void presence_room_release(struct presence_room *room)
{
    if (!room->watches && room->presence->ops->idle(room))
        room_free(room);
}

Member *presence_room_find(struct presence_room *room, const char *member_id)
{
    for (size_t i = 0; i < room->n; i++)
        if (!strcmp(room->members[i]->member_id, member_id))
            return room->members[i];
    return NULL;
}

/* Watches leave the list in `begin` only, never while they are told. */
#define TELL(room, call)                                                                                     \
    do {                                                                                                     \
        for (struct presence_watch *w = (room)->watches; w; w = w->next)                                     \
            if (w->started && !w->closed)                                                                    \
                w->events->call;                                                                             \
    } while (0)

void presence_room_snapshot(struct presence_room *room, Member *const *members, size_t n)
{
    forget_members(room);
    room->members = sa_calloc(n, sizeof *room->members);
    for (size_t i = 0; i < n; i++)
        room->members[i] = presence_member_copy(members[i]);
    room->n = n;
    qsort(room->members, n, sizeof *room->members, presence_member_by_join);
    room->known = true;
    room->told_unknown = false;
    for (struct presence_watch *w = room->watches; w; w = w->next)
        w->started = !w->queued;
    TELL(room, snapshot(w->user, room->members, room->n));
}

void presence_room_updated(struct presence_room *room, const Member *m)
{
    size_t i = 0;
    while (i < room->n && strcmp(room->members[i]->member_id, m->member_id))
        i++;
    if (i == room->n) {
        room->members = sa_realloc(room->members, (room->n + 1) * sizeof *room->members);
        room->n++;
    } else {
        presence_member_free(room->members[i]);
    }
    room->members[i] = presence_member_copy(m);
    Member *told = room->members[i];
    qsort(room->members, room->n, sizeof *room->members, presence_member_by_join);
    TELL(room, updated(w->user, told));
}

void presence_room_left(struct presence_room *room, const char *member_id)
{
    for (size_t i = 0; i < room->n; i++)
        if (!strcmp(room->members[i]->member_id, member_id)) {
            Member *gone = room->members[i];
            room->members[i] = room->members[--room->n];
            qsort(room->members, room->n, sizeof *room->members, presence_member_by_join);
            TELL(room, left(w->user, gone->member_id));
            presence_member_free(gone);
            return;
        }
}

void presence_room_unknown(struct presence_room *room, const char *why)
{
    room->known = false;
    if (room->told_unknown)
        return;
    room->told_unknown = true;
    for (struct presence_watch *w = room->watches; w; w = w->next)
        w->started = !w->queued;
    TELL(room, unknown(w->user, why));
}

/* ---- watching ---- */

static void close_watch(struct presence_watch *w)
{
    struct presence_room *room = w->room; /* NULL: presence was freed */
    for (struct presence_watch **at = room ? &room->watches : NULL; at && *at; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            break;
        }
    free(w);
    if (room)
        presence_room_release(room);
}

static void begin(void *user)
{
    struct presence_watch *w = user;
    struct presence_room *room = w->room;
    w->queued = false;
    if (w->closed) {
        close_watch(w);
        return;
    }
    w->started = room->known || room->told_unknown;
    if (room->known)
        w->events->snapshot(w->user, room->members, room->n);
    else if (room->told_unknown)
        w->events->unknown(w->user, "it is unknown for now who is here");
}

static void queue_begin(struct presence_watch *w)
{
    w->started = false;
    if (!w->queued)
        sa_defer(w->room->presence->loop, begin, w);
    w->queued = true;
}

struct presence_watch *presence_watch(struct presence *p, const char *session_id,
                                      const struct presence_watch_events *events, void *user)
{
    struct presence_room *room = room_of(p, session_id);
    bool first = !room->watches;
    struct presence_watch *w = sa_calloc(1, sizeof *w);
    *w = (struct presence_watch){.next = room->watches, .room = room, .events = events, .user = user};
    room->watches = w;
    if (first)
        p->ops->watched(room);
    queue_begin(w);
    return w;
}

void presence_watch_again(struct presence_watch *w)
{
    queue_begin(w);
}

void presence_unwatch(struct presence_watch *w)
{
    if (!w)
        return;
    w->closed = true;
    queue_begin(w);
}

/* ---- requests ---- */

void presence_join(struct presence *p, const char *session_id, const Member *m, presence_done_fn *done,
                   void *user)
{
    p->ops->join(p, room_of(p, session_id), presence_member_copy(m), done, user);
}

void presence_keep(struct presence *p, const char *session_id, const char *member_id, const char *principal,
                   const char *activity, const uint64_t *seen_seq, presence_done_fn *done, void *user)
{
    p->ops->keep(p, room_of(p, session_id), member_id, principal, activity, seen_seq, done, user);
}

void presence_leave(struct presence *p, const char *session_id, const char *member_id, const char *principal,
                    presence_done_fn *done, void *user)
{
    p->ops->leave(p, room_of(p, session_id), member_id, principal, done, user);
}

void presence_list(struct presence *p, const char *session_id, presence_done_fn *done, void *user)
{
    p->ops->list(p, room_of(p, session_id), done, user);
}

void presence_free(struct presence *p)
{
    if (!p)
        return;
    p->ops->fini(p);
    while (p->rooms) {
        struct presence_room *room = p->rooms;
        while (room->watches) {
            struct presence_watch *w = room->watches;
            room->watches = w->next;
            w->room = NULL;
            w->closed = true;
            if (!w->queued)
                free(w);
        }
        room_free(room);
    }
    free(p);
}
