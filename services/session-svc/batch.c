/* Batches: see session.h. At most one is being written and one is being built; the next one is submitted when
 * the one before is committed, so under load batches grow by themselves. */
#include <stdlib.h>
#include <string.h>

#include "adapters/os/fault.h"
#include "adapters/os/log.h"
#include "services/session-svc/follow.h"
#include "services/session-svc/mask.h"
#include "services/session-svc/permissions.h"
#include "services/session-svc/requests.h"
#include "services/session-svc/session.h"
#include "services/session-svc/sessions.h"
#include "services/session-svc/terminals.h"
#include "services/session-svc/turns.h"

enum { RETRY_FIRST_MS = 100, RETRY_MAX_MS = 5000 };

struct waiter {
    session_after_fn *fn;
    void *user;
};

struct batch {
    uint64_t number;
    struct store_set *set;
    bool row;
    struct packed_event **events;
    size_t n_events, events_cap;
    struct waiter *waiters;
    size_t n_waiters, waiters_cap;
    size_t bytes;
    /* as of submission */
    uint64_t head_seq, first_seq, incarnation, stdout_offset;
    SessionState state;
};

static struct batch *building(struct session *s)
{
    if (!s->building) {
        s->building = sa_calloc(1, sizeof *s->building);
        s->building->number = s->batch;
        s->building->set = store_set_new();
    }
    return s->building;
}

static void batch_free(struct batch *b)
{
    if (!b)
        return;
    store_set_free(b->set);
    for (size_t i = 0; i < b->n_events; i++)
        packed_event_unref(b->events[i]);
    free(b->events);
    free(b->waiters);
    free(b);
}

struct store_set *session_set(struct session *s)
{
    return building(s)->set;
}

void session_changed(struct session *s)
{
    building(s)->row = true;
}

bool session_is_full(const struct session *s)
{
    return s->building && s->building->bytes > SESSION_BATCH_BYTES;
}

uint64_t session_event(struct session *s, Event *e)
{
    struct batch *b = building(s);
    int64_t now = sa_wall_us();
    Google__Protobuf__Timestamp time = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    time.seconds = now / 1000000;
    time.nanos = (int32_t)(now % 1000000) * 1000;
    e->time = &time;
    e->seq = ++s->head_seq;
    if (!s->first_seq)
        s->first_seq = e->seq;
    if (!e->turn)
        e->turn = s->current_turn;
    s->change_time_us = now;
    if (b->n_events == b->events_cap) {
        b->events_cap = b->events_cap ? 2 * b->events_cap : 8;
        b->events = sa_realloc(b->events, b->events_cap * sizeof *b->events);
    }
    struct packed_event *p = mask_event(s, packed_event_new(e), e);
    b->events[b->n_events++] = p;
    struct store_key key = db_numbered_key(s->id, e->seq);
    store_put_bytes(b->set, DB_EVENTS, &key, p->data + p->prefix, p->size - p->prefix);
    b->bytes += p->size;
    retention_count(s, p->size - p->prefix, now);
    b->row = true;
    e->time = NULL;
    return e->seq;
}

static void add_waiter(struct batch *b, session_after_fn *fn, void *user)
{
    if (b->n_waiters == b->waiters_cap) {
        b->waiters_cap = b->waiters_cap ? 2 * b->waiters_cap : 4;
        b->waiters = sa_realloc(b->waiters, b->waiters_cap * sizeof *b->waiters);
    }
    b->waiters[b->n_waiters++] = (struct waiter){fn, user};
}

void session_after(struct session *s, session_after_fn *fn, void *user)
{
    struct batch *b = s->building ? s->building : s->writing;
    if (b)
        add_waiter(b, fn, user);
    else
        fn(user, NULL);
}

static void run_waiters(struct batch *b, const sa_error *err)
{
    for (size_t i = 0; i < b->n_waiters; i++)
        b->waiters[i].fn(b->waiters[i].user, err);
    b->n_waiters = 0;
}

void batch_drop_all(struct session *s, const sa_error *err)
{
    struct batch *dropped[] = {s->writing, s->building};
    s->writing = s->building = NULL;
    for (int i = 0; i < 2; i++)
        if (dropped[i]) {
            run_waiters(dropped[i], err);
            batch_free(dropped[i]);
        }
}

/* ---- committed ---- */

static void publish(struct session *s, struct batch *b)
{
    char stream[64], topic[64];
    snprintf(stream, sizeof stream, "session/%s", s->name);
    snprintf(topic, sizeof topic, "session/%s/event", s->name);
    for (size_t i = 0; i < b->n_events; i++) {
        struct packed_event *p = b->events[i];
        bus_publish(s->all->bus, topic, stream, p->seq, p->seq - 1, p->data + p->prefix, p->size - p->prefix);
        if (p->ended_turn)
            follow_turn_ended(s, p->ended_turn, p->seq);
        if (s->followers)
            window_push(&s->window, packed_event_ref(p));
    }
    if (!s->followers)
        window_clear(&s->window);
}

static void committed(struct session *s, struct batch *b)
{
    s->committed_batch = b->number;
    s->committed_seq = b->head_seq;
    s->committed_first = b->first_seq;
    s->committed_state = b->state;
    if (b->incarnation == s->link.incarnation)
        s->link.committed_stdout = b->stdout_offset;
    turns_sweep(s);
    permissions_sweep(s);
    SA_FAULT("batch.committed");
    publish(s, b);
    SA_FAULT("batch.published");
    run_waiters(b, NULL);
    SA_FAULT("batch.answered");
    follow_wake(s);
    SA_FAULT("batch.told");
    link_continue(s);
    retention_check(s);
}

/* ---- a commit failed: load what is true and go on from there ---- */

static void retry_later(struct session *s)
{
    s->retry_ms = s->retry_ms ? 2 * s->retry_ms : RETRY_FIRST_MS;
    if (s->retry_ms > RETRY_MAX_MS)
        s->retry_ms = RETRY_MAX_MS;
    sa_timer_start(s->retry, s->retry_ms);
}

static void resume(void *user)
{
    struct session *s = user;
    sa_error *err = NULL;
    int found = session_load(s, &err);
    if (found < 0) {
        sa_log(SA_LOG_ERROR, "session.load_failed", "session=%s error=\"%s\"", s->name, err->message);
        sa_error_free(err);
        retry_later(s);
        return;
    }
    if (found == 0) {
        sessions_forget(s); /* its creation is what failed */
        return;
    }
    session_take_up(s);
    follow_wake(s);
}

static void failed(struct session *s, const sa_error *err)
{
    sa_log(SA_LOG_ERROR, "session.commit_failed", "session=%s reason=%s error=\"%s\"", s->name, err->reason,
           err->message);
    s->all->degraded = true;
    service_degraded(s->all->svc, err->message);
    if (!s->retry)
        s->retry = sa_timer_new(s->all->loop, resume, s);
    retry_later(s); /* first, so that nobody decides upon what is void */
    link_detach(s);
    requests_abandon(s);
    terminals_abandon(s);
    batch_drop_all(s, err);
}

static void submit(struct session *s);

static void done(void *user, const sa_error *err)
{
    struct session *s = user;
    struct batch *b = s->writing;
    if (err) {
        failed(s, err);
        return;
    }
    s->writing = NULL;
    s->retry_ms = 0;
    if (s->all->degraded) {
        s->all->degraded = false;
        service_degraded(s->all->svc, NULL);
    }
    committed(s, b);
    batch_free(b);
    session_settle(s);
}

static void submit(struct session *s)
{
    struct batch *b = s->building;
    s->building = NULL;
    s->writing = b;
    s->batch++;
    struct store_key key = db_key(s->id);
    if (b->row) {
        struct sa_arena *arena = sa_arena_new();
        StoredSession row = STORED_SESSION__INIT;
        session_fill_row(s, &row, arena);
        store_put(b->set, DB_SESSIONS, &key, &row.base);
        sa_arena_free(arena);
    }
    link_clean_outbox(s, b->set);
    b->head_seq = s->head_seq;
    b->first_seq = s->first_seq;
    b->state = s->state;
    b->incarnation = s->link.incarnation;
    b->stdout_offset = s->link.stdout_offset;
    cleanup_error sa_error *err = NULL;
    struct store_set *set = b->set;
    b->set = NULL;
    SA_FAULT("batch.decided");
    if (store_commit(s->all->store, set, done, s, &err))
        failed(s, err);
}

bool session_usable(const struct session *s)
{
    return !s->retry || !sa_timer_active(s->retry);
}

/* Not recursive although `done` may run inside store_commit: the outermost call goes on. */
void session_settle(struct session *s)
{
    if (s->submitting)
        return;
    s->submitting = true;
    for (;;) {
        if (session_usable(s))
            turns_advance(s);
        if (s->writing || !s->building || !session_usable(s))
            break;
        submit(s);
    }
    s->submitting = false;
    link_let_flow(s);
}
