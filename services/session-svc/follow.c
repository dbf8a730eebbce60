#include "services/session-svc/follow.h"

#include <stdlib.h>
#include <string.h>

#include "services/session-svc/sessions.h"

struct follower {
    struct session *session;
    struct follower *prev, *next;         /* of the session */
    struct follower *all_prev, *all_next; /* of all sessions */
    struct rpc_call *call;
    uint64_t cursor; /* last event that was sent */
    uint64_t until;  /* the stream ends after it; 0: open end */
    uint64_t turn;   /* RunPrompt; 0: StreamEvents */
    SlowReaderPolicy policy;
    bool no_room, live; /* live: it has once been at the head */
    uint64_t skipped;   /* events to be told as lagging */
    uint64_t last_ms;
};

static void pump(struct follower *f);

static void unlink_follower(struct follower *f)
{
    if (f->prev)
        f->prev->next = f->next;
    else
        f->session->followers = f->next;
    if (f->next)
        f->next->prev = f->prev;
    if (f->all_prev)
        f->all_prev->all_next = f->all_next;
    else
        f->session->all->followers = f->all_next;
    if (f->all_next)
        f->all_next->all_prev = f->all_prev;
    if (!f->session->followers)
        window_clear(&f->session->window);
    rpc_call_unref(f->call);
    free(f);
}

static void on_writable(void *user, struct rpc_call *call)
{
    (void)call;
    struct follower *f = user;
    f->no_room = false;
    pump(f);
}

static void on_cancel(void *user, struct rpc_call *call)
{
    (void)call;
    unlink_follower(user);
}

static struct follower *follower_new(struct session *s, struct rpc_call *call)
{
    struct follower *f = sa_calloc(1, sizeof *f);
    f->session = s;
    f->call = rpc_call_ref(call);
    f->last_ms = sa_now_ms();
    f->next = s->followers;
    if (f->next)
        f->next->prev = f;
    s->followers = f;
    f->all_next = s->all->followers;
    if (f->all_next)
        f->all_next->all_prev = f;
    s->all->followers = f;
    return f;
}

static void send(struct follower *f, const StreamEventsResponse *m)
{
    f->last_ms = sa_now_ms();
    f->no_room = !stream_events_send(f->call, m);
}

static void end_ok(struct follower *f, const char *reason)
{
    if (!f->turn) {
        StreamClosed closed = STREAM_CLOSED__INIT;
        StreamEventsResponse m = STREAM_EVENTS_RESPONSE__INIT;
        closed.reason = (char *)(uintptr_t)reason;
        m.kind_case = STREAM_EVENTS_RESPONSE__KIND_CLOSED;
        m.closed = &closed;
        send(f, &m);
    }
    rpc_end(f->call);
    unlink_follower(f);
}

static void end_with(struct follower *f, enum sa_reason reason, const char *message)
{
    sa_error *err = NULL;
    sa_fail(&err, reason, "%s", message);
    rpc_fail(f->call, err);
    unlink_follower(f);
}

/* ---- batches ---- */

struct loaded {
    struct packed_event *events[FOLLOW_BATCH_EVENTS];
    size_t n;
    bool owned;
};

static bool load_row(void *user, const struct store_row *row)
{
    struct loaded *l = user;
    l->events[l->n++] = packed_event_of(db_key_number(row), row->value, row->value_len);
    return l->n < FOLLOW_BATCH_EVENTS;
}

/* The next committed events after the cursor, up to `last`. -1: the store cannot be read. */
static int load(struct follower *f, uint64_t last, struct loaded *l, sa_error **err)
{
    struct session *s = f->session;
    size_t max = last - f->cursor < FOLLOW_BATCH_EVENTS ? last - f->cursor : FOLLOW_BATCH_EVENTS;
    l->n = window_read(&s->window, f->cursor, l->events, max, FOLLOW_BATCH_BYTES);
    l->owned = !l->n;
    if (l->n)
        return 0;
    struct store_key prefix = db_key(s->id), from = db_numbered_key(s->id, f->cursor + 1);
    struct store_range range = {.table = DB_EVENTS,
                                .prefix = &prefix,
                                .from = &from,
                                .limit = (uint32_t)max,
                                .limit_bytes = FOLLOW_BATCH_BYTES};
    return store_scan(s->all->store, &range, load_row, l, err) < 0 ? -1 : 0;
}

static void send_batch(struct follower *f, const struct loaded *l)
{
    ProtobufCMessageUnknownField fields[FOLLOW_BATCH_EVENTS];
    if (f->turn) {
        RunPromptResponse m = RUN_PROMPT_RESPONSE__INIT;
        m.turn = f->turn;
        packed_events_attach(&m.base, 2, l->events, l->n, fields);
        f->last_ms = sa_now_ms();
        f->no_room = !run_prompt_send(f->call, &m);
    } else {
        EventBatch batch = EVENT_BATCH__INIT;
        batch.prev_seq = f->cursor;
        packed_events_attach(&batch.base, 2, l->events, l->n, fields);
        StreamEventsResponse m = STREAM_EVENTS_RESPONSE__INIT;
        m.kind_case = STREAM_EVENTS_RESPONSE__KIND_BATCH;
        m.batch = &batch;
        send(f, &m);
    }
    f->cursor = l->events[l->n - 1]->seq;
}

static void tell_gap(struct follower *f, uint64_t first);

/* Events that are no longer kept: a reader of the log goes on behind them, one that wants a turn cannot.
 * False: the follower is gone. */
static bool skip_removed(struct follower *f, uint64_t first)
{
    if (!f->turn) {
        tell_gap(f, first);
        return true;
    }
    end_with(f, SA_EVENTS_REMOVED, "events of this turn are no longer kept");
    return false;
}

/* False: the follower is gone. */
static bool send_next(struct follower *f, uint64_t last)
{
    struct loaded l = {.n = 0};
    cleanup_error sa_error *err = NULL;
    int r = load(f, last, &l, &err);
    if (r || !l.n) {
        end_with(f, SA_STORE_ERROR, err ? err->message : "events are missing in the store");
        return false;
    }
    /* A commit that removes events is in the store a moment before it is told to us. */
    bool removed = l.events[0]->seq > f->cursor + 1, there = true;
    if (removed)
        there = skip_removed(f, l.events[0]->seq);
    else
        send_batch(f, &l);
    for (size_t i = 0; l.owned && i < l.n; i++)
        packed_event_unref(l.events[i]);
    return there;
}

/* ---- gaps and slow readers ---- */

static void tell_gap(struct follower *f, uint64_t first)
{
    StreamGap gap = STREAM_GAP__INIT;
    gap.first_available_seq = first;
    StreamEventsResponse m = STREAM_EVENTS_RESPONSE__INIT;
    m.kind_case = STREAM_EVENTS_RESPONSE__KIND_GAP;
    m.gap = &gap;
    send(f, &m);
    f->cursor = first - 1;
}

static void tell_lagging(struct follower *f)
{
    StreamLagging lagging = STREAM_LAGGING__INIT;
    lagging.skipped = f->skipped;
    lagging.next_seq = f->cursor + 1;
    StreamEventsResponse m = STREAM_EVENTS_RESPONSE__INIT;
    m.kind_case = STREAM_EVENTS_RESPONSE__KIND_LAGGING;
    m.lagging = &lagging;
    f->skipped = 0;
    send(f, &m);
}

/* A reader that takes nothing while the log grows. False: it is gone. */
static bool judge(struct follower *f)
{
    uint64_t head = f->session->committed_seq;
    if (f->turn || !f->live || head - f->cursor <= FOLLOW_BEHIND_MAX)
        return true;
    if (f->policy == SLOW_READER_POLICY_DISCONNECT) {
        end_with(f, SA_SLOW_READER, "the reader is more than 10000 events behind");
        return false;
    }
    if (f->policy == SLOW_READER_POLICY_SKIP) {
        f->skipped += head - f->cursor;
        f->cursor = head;
    }
    return true;
}

/* ---- pump ---- */

static void pump(struct follower *f)
{
    struct session *s = f->session;
    while (rpc_alive(f->call) && !f->no_room) {
        uint64_t last = f->until && f->until < s->committed_seq ? f->until : s->committed_seq;
        if (f->skipped) {
            tell_lagging(f);
        } else if (f->cursor >= last) {
            break;
        } else if (f->cursor + 1 < s->committed_first) {
            if (!skip_removed(f, s->committed_first))
                return;
        } else if (!send_next(f, last)) {
            return;
        }
    }
    if (!rpc_alive(f->call))
        return; /* on_cancel comes */
    if (f->until && f->cursor >= f->until)
        end_ok(f, "HEAD_REACHED");
    else if (f->cursor >= s->committed_seq && s->committed_state == SESSION_STATE_DESTROYED)
        end_ok(f, "SESSION_DESTROYED");
    else if (f->cursor >= s->committed_seq)
        f->live = true;
}

void follow_wake(struct session *s)
{
    for (struct follower *f = s->followers, *next; f; f = next) {
        next = f->next;
        if (f->no_room ? judge(f) : true)
            pump(f);
    }
}

void follow_turn_ended(struct session *s, uint64_t turn, uint64_t seq)
{
    for (struct follower *f = s->followers; f; f = f->next)
        if (f->turn == turn)
            f->until = seq;
}

void follow_progress(struct sessions *all)
{
    uint64_t now = sa_now_ms();
    for (struct follower *f = all->followers, *next; f; f = next) {
        next = f->all_next;
        if (f->turn || f->no_room || now - f->last_ms < FOLLOW_PROGRESS_MS)
            continue;
        StreamProgress progress = STREAM_PROGRESS__INIT;
        progress.head_seq = f->cursor;
        StreamEventsResponse m = STREAM_EVENTS_RESPONSE__INIT;
        m.kind_case = STREAM_EVENTS_RESPONSE__KIND_PROGRESS;
        m.progress = &progress;
        send(f, &m);
    }
}

void follow_drain(struct sessions *all)
{
    for (struct follower *f; (f = all->followers);) {
        if (f->turn)
            end_with(f, SA_DRAINING, "the service stops; call again with the same request_id");
        else
            end_ok(f, "DRAINING");
    }
}

/* ---- begin ---- */

void follow_stream(struct session *s, struct rpc_call *call, const StreamEventsRequest *req)
{
    static const struct rpc_call_events callbacks = {on_writable, on_cancel};
    uint64_t head = s->committed_seq;
    if (!req->live_only && req->after_seq > head) {
        sa_error *err = NULL;
        sa_fail(&err, SA_SEQ_AHEAD, "after_seq %llu is beyond the head %llu of session %s",
                (unsigned long long)req->after_seq, (unsigned long long)head, s->name);
        rpc_fail(call, err);
        return;
    }
    struct follower *f = follower_new(s, call);
    f->cursor = req->live_only ? head : req->after_seq;
    f->policy = req->slow_reader_policy;
    f->until = req->until_head ? head : 0;
    stream_events_on(call, &callbacks, f);
    StreamOpened opened = STREAM_OPENED__INIT;
    opened.epoch = s->all->epoch_text;
    opened.first_seq = head ? s->committed_first : 0;
    opened.head_seq = head;
    StreamEventsResponse m = STREAM_EVENTS_RESPONSE__INIT;
    m.kind_case = STREAM_EVENTS_RESPONSE__KIND_OPENED;
    m.opened = &opened;
    send(f, &m);
    pump(f);
}

void follow_run(struct session *s, struct rpc_call *call, uint64_t turn, uint64_t accept_seq,
                uint64_t end_seq)
{
    static const struct rpc_call_events callbacks = {on_writable, on_cancel};
    struct follower *f = follower_new(s, call);
    f->turn = turn;
    f->cursor = accept_seq - 1;
    f->until = end_seq;
    run_prompt_on(call, &callbacks, f);
    pump(f);
}
