#include "services/session-svc/permission_watch.h"

#include <stdlib.h>
#include <string.h>

#include "services/session-svc/permission_rows.h"

struct permission_watch {
    struct permission_watch *next;
    struct sessions *all;
    struct rpc_call *call;
    char *session; /* "": all */
    bool no_room;
    bool stale;          /* something changed meanwhile: a new snapshot is due */
    bool snapshot;       /* one is being sent; */
    struct sa_id cursor; /* up to here */
    uint64_t last_ms;
};

static void unlink_watch(struct permission_watch *w)
{
    for (struct permission_watch **at = &w->all->watches; *at; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            w->all->n_watches--;
            break;
        }
    rpc_call_unref(w->call);
    free(w->session);
    free(w);
}

static void send(struct permission_watch *w, const WatchPermissionsResponse *m)
{
    w->last_ms = sa_now_ms();
    w->no_room = !watch_permissions_send(w->call, m);
}

static void send_permission(struct permission_watch *w, struct sa_id id, const struct permission_row *row)
{
    WatchPermissionsResponse m = WATCH_PERMISSIONS_RESPONSE__INIT;
    m.kind_case = WATCH_PERMISSIONS_RESPONSE__KIND_PERMISSION;
    m.permission = permission_describe(id, row, rpc_send_arena(w->call));
    send(w, &m);
}

static bool wants(const struct permission_watch *w, const struct permission_row *row)
{
    return !*w->session || !strcmp(w->session, permission_row_session(row));
}

/* ---- the snapshot ---- */

static void begin(struct permission_watch *w)
{
    WatchSnapshotBegin none = WATCH_SNAPSHOT_BEGIN__INIT;
    WatchPermissionsResponse m = WATCH_PERMISSIONS_RESPONSE__INIT;
    m.kind_case = WATCH_PERMISSIONS_RESPONSE__KIND_SNAPSHOT_BEGIN;
    m.snapshot_begin = &none;
    w->stale = false;
    w->snapshot = true;
    w->cursor = (struct sa_id){0};
    send(w, &m);
}

static void end(struct permission_watch *w)
{
    WatchSnapshotEnd none = WATCH_SNAPSHOT_END__INIT;
    WatchPermissionsResponse m = WATCH_PERMISSIONS_RESPONSE__INIT;
    m.kind_case = WATCH_PERMISSIONS_RESPONSE__KIND_SNAPSHOT_END;
    m.snapshot_end = &none;
    w->snapshot = false;
    send(w, &m);
}

struct next {
    struct sa_id id;
    struct permission_row row;
    sa_error *err;
};

static bool take_row(void *user, const struct store_row *row)
{
    struct next *n = user;
    n->id = db_key_id(row);
    n->row.pending = store_row_unpack(row, &n->err);
    return false;
}

/* One request further. False: the watch has ended. */
static bool step(struct permission_watch *w)
{
    struct next n = {0};
    struct store_key from = db_key(w->cursor);
    struct store_range range = {.table = DB_PERMISSIONS, .from = &from, .after = true, .limit = 1};
    if (store_scan(w->all->store, &range, take_row, &n, &n.err) < 0 || n.err) {
        rpc_fail(w->call, n.err);
        unlink_watch(w);
        return false;
    }
    if (!n.row.pending) {
        end(w);
        return true;
    }
    w->cursor = n.id;
    if (wants(w, &n.row))
        send_permission(w, n.id, &n.row);
    permission_row_fini(&n.row);
    return true;
}

static void pump(struct permission_watch *w)
{
    while (!w->no_room && (w->stale || w->snapshot)) {
        if (w->stale)
            begin(w);
        else if (!step(w))
            return;
    }
}

/* ---- changes ---- */

/* What a snapshot has not come to yet is read then. */
static bool is_ahead(const struct permission_watch *w, struct sa_id id)
{
    return w->snapshot && memcmp(id.bytes, w->cursor.bytes, sizeof id.bytes) > 0;
}

void permission_watch_tell(struct sessions *all, struct sa_id id)
{
    struct permission_row row = {0};
    if (!all->watches || permission_read(all, id, &row, NULL) <= 0)
        return;
    for (struct permission_watch *w = all->watches; w; w = w->next) {
        if (!wants(w, &row) || w->stale || is_ahead(w, id))
            continue;
        if (w->no_room)
            w->stale = true;
        else
            send_permission(w, id, &row);
    }
    permission_row_fini(&row);
}

void permission_watch_progress(struct sessions *all)
{
    WatchIdle none = WATCH_IDLE__INIT;
    WatchPermissionsResponse m = WATCH_PERMISSIONS_RESPONSE__INIT;
    m.kind_case = WATCH_PERMISSIONS_RESPONSE__KIND_IDLE;
    m.idle = &none;
    for (struct permission_watch *w = all->watches; w; w = w->next)
        if (!w->no_room && sa_now_ms() - w->last_ms >= PERMISSION_WATCH_IDLE_MS)
            send(w, &m);
}

void permission_watch_drain(struct sessions *all)
{
    WatchClosed closed = WATCH_CLOSED__INIT;
    WatchPermissionsResponse m = WATCH_PERMISSIONS_RESPONSE__INIT;
    closed.reason = (char *)(uintptr_t)sa_reason_name(SA_DRAINING);
    m.kind_case = WATCH_PERMISSIONS_RESPONSE__KIND_CLOSED;
    m.closed = &closed;
    while (all->watches) {
        struct permission_watch *w = all->watches;
        send(w, &m);
        rpc_end(w->call);
        unlink_watch(w);
    }
}

static void on_writable(void *user, struct rpc_call *call)
{
    (void)call;
    struct permission_watch *w = user;
    w->no_room = false;
    pump(w);
}

static void on_cancel(void *user, struct rpc_call *call)
{
    (void)call;
    unlink_watch(user);
}

void api_watch_permissions(void *api, struct rpc_call *call, const WatchPermissionsRequest *req)
{
    static const struct rpc_call_events callbacks = {on_writable, on_cancel};
    struct sessions *all = api;
    sa_error *err = NULL;
    struct sa_id id;
    if (*req->session_id)
        store_message_free(sessions_read(all, req->session_id, &id, &err));
    if (!err && all->draining)
        sa_fail(&err, SA_DRAINING, "the service stops");
    if (!err && all->n_watches >= PERMISSION_WATCHES_MAX)
        sa_fail(&err, SA_TOO_MANY, "%d callers watch permissions already", PERMISSION_WATCHES_MAX);
    if (err) {
        rpc_fail(call, err);
        return;
    }
    struct permission_watch *w = sa_calloc(1, sizeof *w);
    w->all = all;
    w->call = rpc_call_ref(call);
    w->session = sa_strdup(req->session_id);
    w->stale = true;
    w->next = all->watches;
    all->watches = w;
    all->n_watches++;
    watch_permissions_on(call, &callbacks, w);
    pump(w);
}
