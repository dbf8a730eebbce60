#include "services/session-svc/retention.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/os/fault.h"
#include "adapters/os/log.h"
#include "services/session-svc/api.h"

enum {
    STEP_MS = 1, /* between steps: a log of any length never keeps others waiting */
    STEP_EVENTS = 500,
    STEP_BYTES = 1 << 20,
    SWEEP_MS = 10000,
    SWEEP_ROWS = 200, /* sessions looked at in a sweep, and at most so many of them are loaded: */
    SWEEP_FOUND = 20,
};

/* ---- limits ---- */

static struct log_limits limits_of(const Retention *r)
{
    return (struct log_limits){r->max_events, r->max_bytes, r->max_age_s};
}

static Retention *to_proto(const struct log_limits *l, struct sa_arena *arena)
{
    Retention *r = sa_arena_alloc(arena, sizeof *r);
    *r = (Retention)RETENTION__INIT;
    r->max_events = l->events;
    r->max_bytes = l->bytes;
    r->max_age_s = l->age_s;
    return r;
}

void retention_take_row(struct session *s, const StoredSession *row)
{
    s->log.bytes = row->log_bytes;
    s->log.first_time_us = row->first_time_us;
    retention_set(s, row->retention);
}

void retention_fill_row(const struct session *s, StoredSession *row, struct sa_arena *arena)
{
    row->log_bytes = s->log.bytes;
    row->first_time_us = s->log.first_time_us;
    row->retention = s->log.own ? to_proto(&s->log.limits, arena) : NULL;
}

Retention *retention_describe(const struct sessions *all, const StoredSession *row, struct sa_arena *arena)
{
    struct log_limits l = row->retention ? limits_of(row->retention) : all->config.retention;
    return to_proto(&l, arena);
}

void retention_set(struct session *s, const Retention *own)
{
    s->log.own = own != NULL;
    s->log.limits = own ? limits_of(own) : s->all->config.retention;
}

void retention_count(struct session *s, size_t n, int64_t time_us)
{
    s->log.bytes += n;
    if (s->head_seq == s->first_seq)
        s->log.first_time_us = time_us;
}

/* ---- too much? ---- */

static int64_t oldest_allowed(const struct log_limits *l)
{
    int64_t now = sa_wall_us();
    return l->age_s && l->age_s < (uint64_t)now / 1000000 ? now - (int64_t)l->age_s * 1000000 : INT64_MIN;
}

static bool passed(uint64_t value, uint64_t limit)
{
    return limit && value > limit && value - limit > limit / 10;
}

static bool too_much(const struct log_limits *l, uint64_t first, uint64_t head, uint64_t bytes,
                     int64_t time_us)
{
    return first < head &&
           (passed(head - first + 1, l->events) || passed(bytes, l->bytes) || time_us < oldest_allowed(l));
}

/* Events from here on are needed: by turns that have not ended, by questions that wait, by whoever asks what
 * the newest event is. */
static uint64_t first_needed(const struct session *s)
{
    uint64_t seq = s->committed_seq;
    for (const struct turn *t = s->turns; t; t = t->next)
        if (!(t->ended_batch && t->ended_batch <= s->committed_batch) && t->accept_seq < seq)
            seq = t->accept_seq;
    for (const struct permission *p = s->permissions; p; p = p->next)
        if (!(p->resolution && p->changed_batch <= s->committed_batch) && p->row->seq < seq)
            seq = p->row->seq;
    return seq;
}

/* ---- a step ---- */

struct step {
    const struct log_limits *limits;
    uint64_t needed, head, next, bytes, removed_bytes; /* next: the first event that stays */
    int64_t oldest, time_us;                           /* of that one */
};

static int64_t time_of(const struct store_row *row)
{
    Event *e = rpc_unpack(&event__descriptor, row->value, row->value_len, NULL);
    int64_t us = e && e->time ? e->time->seconds * 1000000 + e->time->nanos / 1000 : 0;
    if (e)
        event__free_unpacked(e, NULL);
    return us;
}

/* Is this event to go? The first one that stays ends the step. */
static bool look(void *user, const struct store_row *row)
{
    struct step *t = user;
    const struct log_limits *l = t->limits;
    uint64_t seq = db_key_number(row);
    bool more =
        (l->events && t->head - seq + 1 > l->events) || (l->bytes && t->bytes - t->removed_bytes > l->bytes);
    if (seq < t->needed && !more && l->age_s)
        more = time_of(row) < t->oldest;
    t->next = seq;
    if (seq >= t->needed || !more)
        return false;
    t->next = seq + 1;
    t->removed_bytes +=
        row->value_len < t->bytes - t->removed_bytes ? row->value_len : t->bytes - t->removed_bytes;
    return true;
}

static bool note_time(void *user, const struct store_row *row)
{
    ((struct step *)user)->time_us = time_of(row);
    return false;
}

static int find_front(struct session *s, struct step *t, sa_error **err)
{
    struct store_key prefix = db_key(s->id), from = db_numbered_key(s->id, s->first_seq);
    struct store_range range = {.table = DB_EVENTS,
                                .prefix = &prefix,
                                .from = &from,
                                .limit = STEP_EVENTS,
                                .limit_bytes = STEP_BYTES};
    if (store_scan(s->all->store, &range, look, t, err) < 0)
        return -1;
    from = db_numbered_key(s->id, t->next);
    return store_scan(s->all->store, &range, note_time, t, err) < 0 ? -1 : 0;
}

static void step(void *user)
{
    struct session *s = user;
    struct step t = {.limits = &s->log.limits,
                     .needed = first_needed(s),
                     .head = s->head_seq,
                     .next = s->first_seq,
                     .bytes = s->log.bytes,
                     .oldest = oldest_allowed(&s->log.limits)};
    cleanup_error sa_error *err = NULL;
    if (!session_usable(s) || s->all->stopped)
        return;
    if (find_front(s, &t, &err)) {
        sa_log(SA_LOG_WARN, "retention.failed", "session=%s reason=%s", s->name, err->reason);
        return;
    }
    bool learned = t.time_us != s->log.first_time_us;
    if (t.next == s->first_seq && !learned)
        return;
    struct store_key prefix = db_key(s->id), until = db_numbered_key(s->id, t.next);
    if (t.next > s->first_seq)
        store_delete_range(session_set(s), DB_EVENTS, &prefix, NULL, &until);
    if (t.next > s->first_seq && blobs_release(s, t.next, &err)) {
        sa_log(SA_LOG_WARN, "retention.failed", "session=%s reason=%s", s->name, err->reason);
        sa_error_free(steal_pointer(&err));
    }
    s->first_seq = t.next;
    s->log.bytes -= t.removed_bytes;
    s->log.first_time_us = t.time_us;
    session_changed(s);
    SA_FAULT("retention.step");
    session_settle(s);
}

void retention_check(struct session *s)
{
    if (!too_much(&s->log.limits, s->first_seq, s->committed_seq, s->log.bytes, s->log.first_time_us) ||
        first_needed(s) <= s->first_seq)
        return;
    if (!s->log.timer)
        s->log.timer = sa_timer_new(s->all->loop, step, s);
    if (!sa_timer_active(s->log.timer))
        sa_timer_start(s->log.timer, STEP_MS);
}

/* ---- sessions that nobody touches ---- */

struct sweep {
    struct sessions *all;
    struct sa_id ids[SWEEP_FOUND];
    size_t n, rows;
};

static bool sweep_row(void *user, const struct store_row *row)
{
    struct sweep *w = user;
    cleanup_message StoredSession *m = store_row_unpack(row, NULL);
    w->all->retention_at = db_key_id(row);
    w->rows++;
    if (!m)
        return true;
    struct log_limits l = m->retention ? limits_of(m->retention) : w->all->config.retention;
    if (too_much(&l, m->first_seq, m->head_seq, m->log_bytes, m->first_time_us))
        w->ids[w->n++] = db_key_id(row);
    return w->n < SWEEP_FOUND;
}

static void sweep_due(void *user)
{
    struct sessions *all = user;
    struct sweep w = {.all = all};
    struct store_key from = db_key(all->retention_at);
    struct store_range range = {.table = DB_SESSIONS, .from = &from, .after = true, .limit = SWEEP_ROWS};
    cleanup_error sa_error *err = NULL;
    if (store_scan(all->store, &range, sweep_row, &w, &err) < 0)
        sa_log(SA_LOG_WARN, "retention.sweep_failed", "reason=%s", err->reason);
    if (w.rows < SWEEP_ROWS && w.n < SWEEP_FOUND)
        all->retention_at = (struct sa_id){0}; /* round again */
    for (size_t i = 0; i < w.n; i++) {
        char name[SA_ID_TEXT + 1];
        sa_id_format(w.ids[i], name);
        struct session *s = sessions_find_to_change(all, name, NULL);
        if (s)
            retention_check(s);
    }
}

void retention_start(struct sessions *all)
{
    all->retention = sa_timer_new(all->loop, sweep_due, all);
    sa_timer_every(all->retention, SWEEP_MS);
    sweep_due(all); /* what was left when we stopped */
}

/* ---- SetRetention ---- */

struct set_call {
    struct rpc_call *call;
    uint64_t seq;
};

static void set_committed(void *user, const sa_error *failed)
{
    struct set_call *c = user;
    SetRetentionResponse res = SET_RETENTION_RESPONSE__INIT;
    res.seq = c->seq;
    if (failed)
        api_fail_copy(c->call, failed);
    else
        set_retention_reply(c->call, &res);
    rpc_call_unref(c->call);
    free(c);
}

static uint64_t tell_changed(struct session *s, const SetRetentionRequest *req, const char *author)
{
    RetentionChanged changed = RETENTION_CHANGED__INIT;
    changed.retention = req->retention;
    changed.author = (char *)(uintptr_t)author;
    Event e = EVENT__INIT;
    e.kind_case = EVENT__KIND_RETENTION_CHANGED;
    e.retention_changed = &changed;
    return session_event(s, &e);
}

void api_set_retention(void *api, struct rpc_call *call, const SetRetentionRequest *req)
{
    sa_error *err = NULL;
    struct session *s = sessions_find_to_change(api, req->session_id, &err);
    if (!s) {
        rpc_fail(call, err);
        return;
    }
    struct set_call *c = sa_calloc(1, sizeof *c);
    c->call = rpc_call_ref(call);
    struct log_limits before = s->log.limits;
    bool own = s->log.own;
    retention_set(s, req->retention);
    if (own != s->log.own || memcmp(&before, &s->log.limits, sizeof before))
        c->seq = tell_changed(s, req, rpc_principal(call));
    session_after(s, set_committed, c);
    session_settle(s);
}
