/* Presence of one machine: members and their leases live in this process. The room's members are the truth.
 */
#include <stdlib.h>
#include <string.h>

#include "adapters/os/clock.h"
#include "services/session-svc/presence_internal.h"

/* Beside room->members, found by id. */
struct lease {
    char *member_id;
    uint64_t until_ms, fencing;
};

struct house {
    struct lease leases[PRESENCE_MEMBERS_MAX];
    size_t n;
    uint64_t fencing; /* the highest one given */
    size_t answering; /* answers on their way: the room stays */
};

/* An answer on its way: never from inside the request. */
struct answer {
    struct presence_room *room;
    presence_done_fn *done;
    void *user;
    Member *member; /* the answer, or the one that joins */
    uint64_t fencing;
    bool all;
    sa_error *err;
    struct answer **slot; /* of the list that presence_free ends */
    struct answer *next;
};

struct memory {
    struct presence base;
    struct answer *answers;
};

static struct house *house_of(struct presence_room *room)
{
    if (!room->state) {
        room->state = sa_calloc(1, sizeof(struct house));
        room->known = true;
    }
    return room->state;
}

/* ---- answers ---- */

static void unlink_answer(struct answer *a)
{
    if (!a->slot)
        return;
    *a->slot = a->next;
    if (a->next)
        a->next->slot = a->slot;
    a->slot = NULL;
}

static void answer_free(struct answer *a)
{
    unlink_answer(a);
    presence_member_free(a->member);
    sa_error_free(a->err);
    free(a);
}

static struct answer *answer_new(struct presence_room *room, presence_done_fn *done, void *user)
{
    struct memory *m = (struct memory *)room->presence;
    struct answer *a = sa_calloc(1, sizeof *a);
    *a = (struct answer){.room = room, .done = done, .user = user, .slot = &m->answers, .next = m->answers};
    if (a->next)
        a->next->slot = &a->next;
    m->answers = a;
    return a;
}

static void give(void *user)
{
    struct answer *a = user;
    if (a->slot) { /* else presence was freed meanwhile */
        struct presence_answer out = {.members = a->member ? &a->member : NULL, .n = a->member != NULL};
        out.fencing = a->fencing;
        if (a->all) {
            out.members = a->room->members;
            out.n = a->room->n;
        }
        a->done(a->user, a->err ? NULL : &out, a->err);
        house_of(a->room)->answering--;
        presence_room_release(a->room);
    }
    answer_free(a);
}

static void send(struct answer *a)
{
    sa_defer(a->room->presence->loop, give, a);
}

/* ---- leases ---- */

static struct lease *find(struct house *h, const char *member_id)
{
    for (size_t i = 0; i < h->n; i++)
        if (!strcmp(h->leases[i].member_id, member_id))
            return &h->leases[i];
    return NULL;
}

static void arm(struct presence_room *room)
{
    struct house *h = room->state;
    uint64_t next = UINT64_MAX, now = sa_now_ms();
    for (size_t i = 0; i < h->n; i++)
        next = h->leases[i].until_ms < next ? h->leases[i].until_ms : next;
    if (next == UINT64_MAX)
        sa_timer_stop(room->expiry);
    else
        sa_timer_start(room->expiry, next > now ? next - now : 0);
}

static void end_lease(struct presence_room *room, struct lease *l)
{
    struct house *h = room->state;
    cleanup_free char *id = l->member_id;
    *l = h->leases[--h->n];
    presence_room_left(room, id);
}

static void expire(void *user)
{
    struct presence_room *room = user;
    struct house *h = room->state;
    uint64_t now = sa_now_ms();
    for (size_t i = 0; i < h->n;)
        if (h->leases[i].until_ms <= now)
            end_lease(room, &h->leases[i]);
        else
            i++;
    arm(room);
    presence_room_release(room);
}

/* ---- requests ---- */

static void joined(void *user, const sa_error *err)
{
    struct answer *a = user;
    if (!a->slot) {
        answer_free(a);
        return;
    }
    struct presence_room *room = a->room;
    struct house *h = house_of(room);
    if (err) {
        a->err = sa_error_copy(err);
    } else if (h->n == PRESENCE_MEMBERS_MAX) {
        sa_fail(&a->err, SA_TOO_MANY, "%d members are in session %s, that is the limit", PRESENCE_MEMBERS_MAX,
                room->session_id);
    } else {
        h->leases[h->n++] = (struct lease){.member_id = sa_strdup(a->member->member_id),
                                           .until_ms = sa_now_ms() + room->presence->opt.ttl_ms,
                                           .fencing = a->fencing};
        arm(room);
        presence_room_updated(room, a->member);
    }
    send(a);
}

static void join(struct presence *p, struct presence_room *room, Member *m, presence_done_fn *done,
                 void *user)
{
    struct house *h = house_of(room);
    struct answer *a = answer_new(room, done, user);
    uint64_t floor = p->opt.floor(p->opt.user, room->session_id);
    h->fencing = (h->fencing > floor ? h->fencing : floor) + 1;
    h->answering++;
    a->member = m;
    a->fencing = h->fencing;
    p->opt.raise(p->opt.user, room->session_id, a->fencing, joined, a);
}

static void keep(struct presence *p, struct presence_room *room, const char *member_id, const char *principal,
                 const char *activity, const uint64_t *seen_seq, presence_done_fn *done, void *user)
{
    struct house *h = house_of(room);
    struct answer *a = answer_new(room, done, user);
    struct lease *l = find(h, member_id);
    Member *known = presence_room_find(room, member_id);
    h->answering++;
    if (!l || !known) {
        sa_fail(&a->err, SA_MEMBER_NOT_FOUND, "member %s is not here any more; join again", member_id);
    } else if (presence_member_check(known, principal, &a->err) == 0) {
        l->until_ms = sa_now_ms() + p->opt.ttl_ms;
        arm(room);
        a->member = presence_member_copy(known);
        a->fencing = l->fencing;
        presence_member_change(a->member, activity, seen_seq);
        if (strcmp(a->member->activity, known->activity) || a->member->seen_seq != known->seen_seq)
            presence_room_updated(room, a->member);
    }
    send(a);
}

static void leave(struct presence *p, struct presence_room *room, const char *member_id,
                  const char *principal, presence_done_fn *done, void *user)
{
    (void)p;
    struct house *h = house_of(room);
    struct answer *a = answer_new(room, done, user);
    struct lease *l = find(h, member_id);
    Member *known = presence_room_find(room, member_id);
    h->answering++;
    if (l && known && presence_member_check(known, principal, &a->err) == 0) {
        end_lease(room, l);
        arm(room);
    }
    send(a);
}

static void list(struct presence *p, struct presence_room *room, presence_done_fn *done, void *user)
{
    (void)p;
    struct answer *a = answer_new(room, done, user);
    house_of(room)->answering++;
    a->all = true;
    send(a);
}

static void watched(struct presence_room *room)
{
    house_of(room);
}

static bool idle(struct presence_room *room)
{
    struct house *h = room->state;
    return !h || (h->n == 0 && h->answering == 0);
}

static void room_fini(struct presence_room *room)
{
    struct house *h = room->state;
    for (size_t i = 0; h && i < h->n; i++)
        free(h->leases[i].member_id);
    free(h);
}

/* Answers on their way are left to their deferred call, without a room. */
static void fini(struct presence *p)
{
    struct memory *m = (struct memory *)p;
    while (m->answers)
        unlink_answer(m->answers);
}

struct presence *presence_memory_new(struct sa_loop *loop, const struct presence_options *opt)
{
    static const struct presence_ops ops = {
        .join = join,
        .keep = keep,
        .leave = leave,
        .list = list,
        .expire = expire,
        .watched = watched,
        .idle = idle,
        .room_fini = room_fini,
        .fini = fini,
    };
    struct memory *m = sa_calloc(1, sizeof *m);
    presence_init(&m->base, &ops, loop, opt);
    return &m->base;
}
