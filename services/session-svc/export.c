#include "services/session-svc/export.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/json/message.h"
#include "adapters/transcript/transcript.h"
#include "services/session-svc/api.h"
#include "services/session-svc/walk.h"

enum { PIECE = 256 << 10 };

static const struct json_mapping mapping = {.bytes = json_bytes_by_name};

/* Writes a transcript; verification is an export of which only the last hash is wanted. */
struct export
{
    struct walk walk;
    struct rpc_call *call;
    uint64_t first;
    struct transcript_writer writer;
    struct sa_buf content, out; /* one line's content; what is to be sent */
    uint64_t broken;            /* seq of an event that cannot be read; 0: none */
    bool verify, no_room, cancelled;
};

static void export_free(struct export *x)
{
    walk_fini(&x->walk);
    rpc_call_unref(x->call);
    sa_buf_fini(&x->content);
    sa_buf_fini(&x->out);
    free(x);
}

/* ---- lines: on a worker, or under the lock ---- */

static void write_line(struct export *x, enum transcript_kind kind, const ProtobufCMessage *m)
{
    struct json_writer w = json_writer(&x->content);
    x->content.len = 0;
    json_put_message(&w, m, &mapping);
    transcript_write(&x->writer, kind, &x->content, &x->out);
}

static void write_header(struct export *x, const char *session_id, const StoredSpec *spec)
{
    TranscriptHeader h = TRANSCRIPT_HEADER__INIT;
    struct sa_arena *arena = sa_arena_new();
    h.version = TRANSCRIPT_VERSION;
    h.session_id = (char *)(uintptr_t)session_id;
    h.agent = spec->agent;
    h.cwd = spec->cwd;
    h.creator = spec->creator;
    h.create_time = api_timestamp(arena, spec->create_time_us);
    h.first_seq = x->walk.next;
    write_line(x, TRANSCRIPT_HEADER, &h.base);
    sa_arena_free(arena);
}

static void write_end(struct export *x)
{
    TranscriptEnd end = TRANSCRIPT_END__INIT;
    end.head_seq = x->walk.last;
    end.events = x->walk.last ? x->walk.last - x->first + 1 : 0;
    write_line(x, TRANSCRIPT_END, &end.base);
}

static void write_event(struct export *x, const struct store_row *row, sa_error **err)
{
    uint64_t seq = walk_seq(row);
    Event *e = rpc_unpack(&event__descriptor, row->value, row->value_len, err);
    if (e && e->seq != seq)
        sa_fail(err, SA_STORE_CORRUPT, "it says that it is event %llu", (unsigned long long)e->seq);
    else if (e)
        write_line(x, TRANSCRIPT_EVENT, &e->base);
    if (*err) {
        x->broken = seq;
        sa_wrap(err, "event %llu", (unsigned long long)seq);
    }
    if (e)
        event__free_unpacked(e, NULL);
}

static void work(struct walk *w)
{
    struct export *x = (struct export *)w;
    for (size_t i = 0; i < w->page.n && !w->err; i++) {
        if (x->verify)
            x->out.len = 0;
        write_event(x, &w->page.rows[i], &w->err);
    }
}

/* ---- under the lock ---- */

static struct export *export_new(struct sessions *all, struct rpc_call *call, const char *session_id,
                                 void (*done)(struct walk *w), sa_error **err)
{
    struct export *x = sa_calloc(1, sizeof *x);
    cleanup_message StoredSpec *spec = NULL;
    x->call = rpc_call_ref(call);
    transcript_writer_init(&x->writer);
    int found = walk_init(&x->walk, all, session_id, err) ? -1 : 1;
    struct store_key key = db_key(x->walk.id);
    if (found > 0)
        found = store_get(all->store, DB_SPECS, &key, &spec, err);
    if (found == 0)
        sa_fail(err, SA_STORE_CORRUPT, "session %s has no specification", session_id);
    if (found <= 0) {
        export_free(x);
        return NULL;
    }
    x->walk.work = work;
    x->walk.done = done;
    x->first = x->walk.next;
    write_header(x, session_id, spec);
    return x;
}

static void on_cancel(void *user, struct rpc_call *call)
{
    (void)call;
    struct export *x = user;
    x->cancelled = true;
    if (!x->walk.busy)
        export_free(x);
}

/* ---- export ---- */

/* A page is at most one event over its size, so that this stays well below the backlog of a call. */
static void send_out(struct export *x)
{
    for (size_t at = 0; at < x->out.len; at += PIECE) {
        ExportSessionResponse m = EXPORT_SESSION_RESPONSE__INIT;
        m.data = (ProtobufCBinaryData){x->out.len - at < PIECE ? x->out.len - at : PIECE, x->out.data + at};
        x->no_room = !export_session_send(x->call, &m);
    }
    x->out.len = 0;
}

static void exported(struct walk *w)
{
    struct export *x = (struct export *)w;
    if (x->cancelled) {
        export_free(x);
        return;
    }
    if (w->err) {
        rpc_fail(x->call, steal_pointer(&w->err));
        export_free(x);
        return;
    }
    bool over = walk_is_over(w);
    if (over)
        write_end(x);
    send_out(x);
    if (over) {
        rpc_end(x->call);
        export_free(x);
    } else if (!x->no_room) {
        walk_next(w);
    }
}

static void on_writable(void *user, struct rpc_call *call)
{
    (void)call;
    struct export *x = user;
    x->no_room = false;
    if (!x->walk.busy)
        walk_next(&x->walk);
}

void api_export_session(void *api, struct rpc_call *call, const ExportSessionRequest *req)
{
    static const struct rpc_call_events events = {on_writable, on_cancel};
    sa_error *err = NULL;
    struct export *x = export_new(api, call, req->session_id, exported, &err);
    if (!x) {
        rpc_fail(call, err);
        return;
    }
    export_session_on(call, &events, x);
    if (walk_is_over(&x->walk))
        exported(&x->walk);
    else
        walk_next(&x->walk);
}

/* ---- verify ---- */

static void answer(struct export *x)
{
    struct walk *w = &x->walk;
    VerifySessionResponse res = VERIFY_SESSION_RESPONSE__INIT;
    if (w->err && (x->broken || sa_error_is(w->err, SA_STORE_CORRUPT))) {
        res.broken_seq = x->broken ? x->broken : w->next;
        res.problem = w->err->message;
    } else if (w->err) {
        rpc_fail(x->call, steal_pointer(&w->err));
        return;
    } else {
        write_end(x);
        res.hash = x->writer.hash;
    }
    res.first_seq = w->last ? x->first : 0;
    res.head_seq = w->last;
    verify_session_reply(x->call, &res);
}

static void verified(struct walk *w)
{
    struct export *x = (struct export *)w;
    if (!x->cancelled && !walk_is_over(w)) {
        walk_next(w);
        return;
    }
    if (!x->cancelled)
        answer(x);
    export_free(x);
}

void api_verify_session(void *api, struct rpc_call *call, const VerifySessionRequest *req)
{
    sa_error *err = NULL;
    struct export *x = export_new(api, call, req->session_id, verified, &err);
    if (!x) {
        rpc_fail(call, err);
        return;
    }
    x->verify = true;
    rpc_no_server_deadline(call);
    rpc_on_cancel(call, on_cancel, x);
    if (walk_is_over(&x->walk))
        verified(&x->walk);
    else
        walk_next(&x->walk);
}
