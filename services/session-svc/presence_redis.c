/* Presence in Redis, shared by any number of session-svc. Redis holds the members, each with its own expiry,
 * and a short stream of changes; this process holds nothing but a mirror for its watchers: a snapshot, then
 * the changes after it by their ids.
 *
 * Keys of a session, one hash tag: sa:{id}:members, sa:{id}:members:data, sa:{id}:changes, sa:{id}:fence. A
 * member's data is a packed PresenceRecord.
 *
 * A member that falls silent leaves because whoever knows the room lists it when the next one is due
 * (room->expiry). The mirror is only fed by snapshot and changes, never by the answers to our own requests,
 * so that every watcher sees one order. */
#include <stdlib.h>
#include <string.h>

#include "adapters/os/log.h"
#include "adapters/redis/lease.h"
#include "services/session-svc/presence_internal.h"
#include "services/session-svc/presence_store.rpc.h"

enum {
    RETRY_MS = 1000,      /* before a failed listing is tried again while Redis is there */
    EXPIRY_SLACK_MS = 20, /* after the moment Redis named, so that the time has come there too */
};

struct redis_presence {
    struct presence base;
    struct redis_client *redis;
    struct op *ops;
    bool closing; /* what is under way comes back, and is told to nobody */
};

/* Of a room. */
struct mirror {
    char *members_key, *changes_key, *fence_key;
    struct redis_follow *follow; /* while there are watchers */
    size_t n_there;              /* members by the last answer */
    size_t n_ops;
    bool listing; /* a snapshot for the watchers is on its way */
};

enum op_kind { OP_JOIN, OP_KEEP, OP_LEAVE, OP_LIST, OP_SNAPSHOT, OP_EXPIRE, OP_RAISE };

/* A request under way. */
struct op {
    struct op *next;
    struct redis_presence *p; /* NULL: presence was freed */
    struct presence_room *room;
    enum op_kind kind;
    presence_done_fn *done;
    void *user;
    Member *member;
    uint64_t fencing;
    char *member_id, *principal, *activity;
    uint64_t seen;
    bool has_seen;
};

static struct mirror *mirror_of(struct presence_room *room)
{
    if (!room->state) {
        struct mirror *m = room->state = sa_calloc(1, sizeof *m);
        m->members_key = sa_format("sa:{%s}:members", room->session_id);
        m->changes_key = sa_format("sa:{%s}:changes", room->session_id);
        m->fence_key = sa_format("sa:{%s}:fence", room->session_id);
    }
    return room->state;
}

/* ---- requests under way ---- */

static void op_free(struct op *op)
{
    for (struct op **at = op->p ? &op->p->ops : NULL; at && *at; at = &(*at)->next)
        if (*at == op) {
            *at = op->next;
            break;
        }
    presence_member_free(op->member);
    free(op->member_id);
    free(op->principal);
    free(op->activity);
    free(op);
}

static struct op *op_new(struct presence_room *room, enum op_kind kind, presence_done_fn *done, void *user)
{
    struct redis_presence *p = (struct redis_presence *)room->presence;
    struct op *op = sa_calloc(1, sizeof *op);
    *op = (struct op){.next = p->ops, .p = p, .room = room, .kind = kind, .done = done, .user = user};
    p->ops = op;
    mirror_of(room)->n_ops++;
    return op;
}

static void op_end(struct op *op, const struct presence_answer *answer, const sa_error *err)
{
    struct presence_room *room = op->room;
    if (op->p->closing) {
        op_free(op);
        return;
    }
    if (op->done)
        op->done(op->user, err ? NULL : answer, err);
    mirror_of(room)->n_ops--;
    op_free(op);
    presence_room_release(room);
}

static void op_fail(struct op *op, enum sa_reason reason, const char *text)
{
    cleanup_error sa_error *err = NULL;
    sa_fail(&err, reason, "%s", text);
    op_end(op, NULL, err);
}

static void op_done_one(struct op *op)
{
    struct presence_answer answer = {.members = &op->member, .n = op->member != NULL, .fencing = op->fencing};
    op_end(op, &answer, NULL);
}

/* ---- members in Redis ---- */

struct list {
    Member **members;
    size_t n;
    uint64_t highest; /* fencing number */
};

/* NULL: not ours to read (damaged, or of a newer version). *ret_fencing may be NULL. */
static Member *unpack(const void *data, size_t n, uint64_t *ret_fencing)
{
    PresenceRecord *r = rpc_unpack(&presence_record__descriptor, data, n, NULL);
    Member *m =
        r && r->member.len ? rpc_unpack(&member__descriptor, r->member.data, r->member.len, NULL) : NULL;
    if (m && ret_fencing)
        *ret_fencing = r->fencing;
    if (r)
        presence_record__free_unpacked(r, NULL);
    return m;
}

static void list_init(struct list *l, const struct redis_members *found)
{
    *l = (struct list){.members = sa_calloc(found->n, sizeof *l->members)};
    for (size_t i = 0; i < found->n; i++) {
        uint64_t fencing = 0;
        Member *m = unpack(found->members[i].data, found->members[i].data_len, &fencing);
        if (m)
            l->members[l->n++] = m;
        if (fencing > l->highest)
            l->highest = fencing;
    }
    qsort(l->members, l->n, sizeof *l->members, presence_member_by_join);
}

static void list_fini(struct list *l)
{
    for (size_t i = 0; i < l->n; i++)
        presence_member_free(l->members[i]);
    free(l->members);
}

/* Numbers that others gave count for us as well, should Redis forget them. */
static void learn(struct presence_room *room, const struct list *l)
{
    const struct presence_options *opt = &room->presence->opt;
    if (l->highest > opt->floor(opt->user, room->session_id))
        opt->raise(opt->user, room->session_id, l->highest, NULL, NULL);
}

/* What every answer about members tells. */
static void note(struct presence_room *room, const struct redis_members *found)
{
    mirror_of(room)->n_there = found->n;
    if (found->next_expiry_ms)
        sa_timer_start(room->expiry, found->next_expiry_ms + EXPIRY_SLACK_MS);
    else
        sa_timer_stop(room->expiry);
}

static void put(struct op *op, redis_members_fn *done)
{
    struct mirror *m = mirror_of(op->room);
    size_t n = member__get_packed_size(op->member);
    cleanup_free uint8_t *member = sa_malloc(n);
    member__pack(op->member, member);
    PresenceRecord r = PRESENCE_RECORD__INIT;
    r.member = (ProtobufCBinaryData){n, member};
    r.fencing = op->fencing;
    size_t len = presence_record__get_packed_size(&r);
    cleanup_free uint8_t *packed = sa_malloc(len);
    presence_record__pack(&r, packed);
    redis_members_put(op->p->redis, m->members_key, m->changes_key, op->member->member_id, packed, len,
                      op->p->base.opt.ttl_ms, PRESENCE_MEMBERS_MAX, done, op);
}

/* ---- join: a number above all before it, kept durably, then the member ---- */

/* KEYS fence; ARGV floor, how much to add, expiry in ms. The number never falls. */
static const struct redis_script fence_script = {
    .name = "presence_fence",
    .source = "local f = tonumber(redis.call('GET', KEYS[1]) or '0')\n"
              "local floor = tonumber(ARGV[1])\n"
              "if f < floor then f = floor end\n"
              "f = f + tonumber(ARGV[2])\n"
              "redis.call('SET', KEYS[1], string.format('%.0f', f), 'PX', ARGV[3])\n"
              "return string.format('%.0f', f)\n",
};

static void fence(struct op *op, int add, redis_done_fn *done)
{
    const struct presence_options *opt = &op->p->base.opt;
    uint64_t floor = opt->floor(opt->user, op->room->session_id);
    char floor_text[24], add_text[24], keep_text[24];
    struct redis_arg keys[] = {redis_arg(mirror_of(op->room)->fence_key)};
    struct redis_arg args[] = {redis_arg_int((int64_t)floor, floor_text), redis_arg_int(add, add_text),
                               redis_arg_int(REDIS_KEEP_MS, keep_text)};
    redis_eval(op->p->redis, &fence_script, keys, 1, args, 3, done, op);
}

static void changed(void *user, const struct redis_members *found, const sa_error *err)
{
    struct op *op = user;
    if (err) {
        op_end(op, NULL, err);
        return;
    }
    note(op->room, found);
    op_done_one(op);
}

static void number_kept(void *user, const sa_error *err)
{
    struct op *op = user;
    if (!op->p)
        op_free(op);
    else if (err)
        op_end(op, NULL, err);
    else
        put(op, changed);
}

static void number_given(void *user, const struct redis_reply *reply, const sa_error *err)
{
    struct op *op = user;
    if (err) {
        op_end(op, NULL, err);
        return;
    }
    const struct presence_options *opt = &op->p->base.opt;
    op->fencing = (uint64_t)redis_int(reply);
    opt->raise(opt->user, op->room->session_id, op->fencing, number_kept, op);
}

static void join(struct presence *p, struct presence_room *room, Member *m, presence_done_fn *done,
                 void *user)
{
    (void)p;
    struct op *op = op_new(room, OP_JOIN, done, user);
    op->member = m;
    fence(op, 1, number_given);
}

/* ---- keep, leave, list: all begin with the list ---- */

static Member *take(struct list *l, const char *member_id)
{
    for (size_t i = 0; i < l->n; i++)
        if (!strcmp(l->members[i]->member_id, member_id)) {
            Member *m = l->members[i];
            l->members[i] = l->members[--l->n];
            return m;
        }
    return NULL;
}

static void go_on(struct op *op, const struct redis_members *found, struct list *l)
{
    cleanup_error sa_error *err = NULL;
    struct mirror *m = mirror_of(op->room);
    if (op->kind == OP_LIST) {
        struct presence_answer answer = {.members = l->members, .n = l->n};
        op_end(op, &answer, NULL);
        return;
    }
    for (size_t i = 0; i < found->n; i++)
        if (!strcmp(found->members[i].name, op->member_id))
            presence_member_free(unpack(found->members[i].data, found->members[i].data_len, &op->fencing));
    op->member = take(l, op->member_id);
    if (!op->member) {
        if (op->kind == OP_LEAVE)
            op_done_one(op);
        else
            op_fail(op, SA_MEMBER_NOT_FOUND, "the member is not here any more; join again");
    } else if (presence_member_check(op->member, op->principal, &err) < 0) {
        op_end(op, NULL, err);
    } else if (op->kind == OP_LEAVE) {
        redis_members_remove(op->p->redis, m->members_key, m->changes_key, op->member_id, changed, op);
    } else {
        presence_member_change(op->member, op->activity, op->has_seen ? &op->seen : NULL);
        put(op, changed);
    }
}

static void listed(void *user, const struct redis_members *found, const sa_error *err)
{
    struct op *op = user;
    if (err) {
        op_end(op, NULL, err);
        return;
    }
    struct list l;
    note(op->room, found);
    list_init(&l, found);
    learn(op->room, &l);
    go_on(op, found, &l);
    list_fini(&l);
}

static void list_for(struct op *op, redis_members_fn *done)
{
    struct mirror *m = mirror_of(op->room);
    redis_members_list(op->p->redis, m->members_key, m->changes_key, done, op);
}

static void keep(struct presence *p, struct presence_room *room, const char *member_id, const char *principal,
                 const char *activity, const uint64_t *seen_seq, presence_done_fn *done, void *user)
{
    (void)p;
    struct op *op = op_new(room, OP_KEEP, done, user);
    op->member_id = sa_strdup(member_id);
    op->principal = sa_strdup(principal);
    op->activity = sa_strdup(activity);
    op->has_seen = seen_seq != NULL;
    op->seen = seen_seq ? *seen_seq : 0;
    list_for(op, listed);
}

static void leave(struct presence *p, struct presence_room *room, const char *member_id,
                  const char *principal, presence_done_fn *done, void *user)
{
    (void)p;
    struct op *op = op_new(room, OP_LEAVE, done, user);
    op->member_id = sa_strdup(member_id);
    op->principal = sa_strdup(principal);
    list_for(op, listed);
}

static void list(struct presence *p, struct presence_room *room, presence_done_fn *done, void *user)
{
    (void)p;
    list_for(op_new(room, OP_LIST, done, user), listed);
}

/* ---- watching: a snapshot, then changes ---- */

static void take_snapshot(struct presence_room *room);

static void on_entry(void *user, const char *id, const struct redis_reply *fields)
{
    (void)id;
    struct presence_room *room = user;
    if (!room->known)
        return; /* a snapshot is on its way */
    const char *kind = "", *name = "", *data = "";
    size_t data_len = 0;
    for (size_t i = 0; i + 1 < redis_count(fields); i += 2) {
        const char *field = redis_str(redis_at(fields, i), NULL);
        if (!strcmp(field, "kind"))
            kind = redis_str(redis_at(fields, i + 1), NULL);
        else if (!strcmp(field, "name"))
            name = redis_str(redis_at(fields, i + 1), NULL);
        else if (!strcmp(field, "data"))
            data = redis_str(redis_at(fields, i + 1), &data_len);
    }
    if (!strcmp(kind, "member.left") || !strcmp(kind, "member.expired")) {
        presence_room_left(room, name);
    } else if (!strcmp(kind, "member.joined") || !strcmp(kind, "member.changed")) {
        Member *m = unpack(data, data_len, NULL);
        if (m)
            presence_room_updated(room, m);
        presence_member_free(m);
        /* Whoever joined it may die: from now on we look as well. The list tells when to look next. */
        if (!sa_timer_active(room->expiry))
            sa_timer_start(room->expiry, room->presence->opt.ttl_ms + EXPIRY_SLACK_MS);
    }
}

static void on_reset(void *user)
{
    take_snapshot(user);
}

static void snapshot_taken(void *user, const struct redis_members *found, const sa_error *err)
{
    struct op *op = user;
    struct presence_room *room = op->room;
    struct mirror *m = mirror_of(room);
    m->listing = false;
    if (op->p->closing) {
        op_free(op);
        return;
    }
    if (err) {
        presence_room_unknown(room, err->message);
        /* When Redis is away it will be online again; anything else is tried again. */
        if (redis_online(op->p->redis))
            sa_timer_start(room->expiry, RETRY_MS);
    } else if (room->watches) {
        struct list l;
        note(room, found);
        list_init(&l, found);
        learn(room, &l);
        presence_room_snapshot(room, l.members, l.n);
        list_fini(&l);
        if (m->follow)
            redis_follow_from(m->follow, found->last_change);
    }
    op_end(op, NULL, NULL);
}

static void take_snapshot(struct presence_room *room)
{
    static const struct redis_follow_events events = {.entry = on_entry, .reset = on_reset};
    struct mirror *m = mirror_of(room);
    if (m->listing)
        return;
    m->listing = true;
    struct op *op = op_new(room, OP_SNAPSHOT, NULL, NULL);
    if (!m->follow)
        m->follow = redis_follow(op->p->redis, m->changes_key, NULL, &events, room);
    list_for(op, snapshot_taken);
}

static void watched(struct presence_room *room)
{
    take_snapshot(room);
}

/* ---- time passes, Redis comes and goes ---- */

static void expired(void *user, const struct redis_members *found, const sa_error *err)
{
    struct op *op = user;
    if (!err)
        note(op->room, found);
    else if (!op->p->closing && redis_online(op->p->redis))
        sa_timer_start(op->room->expiry, RETRY_MS);
    op_end(op, NULL, NULL);
}

static void expire(void *user)
{
    struct presence_room *room = user;
    if (room->watches && !room->known)
        take_snapshot(room);
    else
        list_for(op_new(room, OP_EXPIRE, NULL, NULL), expired);
}

static void raised(void *user, const struct redis_reply *reply, const sa_error *err)
{
    (void)reply, (void)err; /* the next join passes the floor as well */
    op_end(user, NULL, NULL);
}

static void on_online(void *user, bool online)
{
    struct redis_presence *p = user;
    sa_log(online ? SA_LOG_INFO : SA_LOG_WARN, online ? "presence.online" : "presence.offline",
           "redis=\"%s\"", redis_last_error(p->redis));
    for (struct presence_room *room = p->base.rooms; room; room = room->next) {
        if (!online) {
            if (room->watches)
                presence_room_unknown(room, "Redis is away: it is unknown for now who is here");
            continue;
        }
        /* It may be another one, which has forgotten the numbers that others get. */
        fence(op_new(room, OP_RAISE, NULL, NULL), 0, raised);
        if (room->watches)
            take_snapshot(room);
        else
            list_for(op_new(room, OP_EXPIRE, NULL, NULL), expired);
    }
}

/* ---- lifecycle ---- */

static bool idle(struct presence_room *room)
{
    struct mirror *m = room->state;
    if (!m)
        return true;
    redis_follow_free(steal_pointer(&m->follow));
    room->known = room->told_unknown = false;
    return m->n_there == 0 && m->n_ops == 0;
}

static void room_fini(struct presence_room *room)
{
    struct mirror *m = room->state;
    if (!m)
        return;
    redis_follow_free(m->follow);
    free(m->members_key);
    free(m->changes_key);
    free(m->fence_key);
    free(m);
}

static void fini(struct presence *base)
{
    struct redis_presence *p = (struct redis_presence *)base;
    p->closing = true;
    redis_client_free(p->redis); /* every command comes back from inside */
    /* What is left are numbers on the way into our store. */
    while (p->ops) {
        struct op *op = p->ops;
        p->ops = op->next;
        op->p = NULL;
    }
}

struct presence *presence_redis_new(struct sa_loop *loop, const struct presence_options *opt, const char *url,
                                    sa_error **err)
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
    struct redis_presence *p = sa_calloc(1, sizeof *p);
    presence_init(&p->base, &ops, loop, opt);
    struct redis_options redis = {.url = url, .online = on_online, .user = p};
    p->redis = redis_client_new(loop, &redis, err);
    if (!p->redis) {
        free(p);
        return NULL;
    }
    return &p->base;
}
