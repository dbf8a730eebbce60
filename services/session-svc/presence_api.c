#include "services/session-svc/presence_api.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/os/clock.h"
#include "services/session-svc/presence.h"

enum { NAME_MAX_CHARS = 64, WATCHES_MAX = 4096 };

struct presence_api {
    struct presence_api_options opt;
    struct presence *presence;
    struct watch *watches;
    size_t n_watches;
    bool draining;
};

/* ---- the durable floor of fencing numbers ---- */

struct store_key presence_floor_key(const char *session_id)
{
    struct store_key k = {0};
    store_key_add_string(&k, session_id);
    return k;
}

static uint64_t get_floor(void *user, const char *session_id)
{
    struct presence_api *api = user;
    cleanup_buf struct sa_buf value = {0};
    struct store_key k = presence_floor_key(session_id);
    int found = store_get_bytes(api->opt.store, api->opt.floor_table, &k, &value, NULL);
    return found > 0 && value.len == 8 ? store_u64(value.data) : 0;
}

static void raise_floor(void *user, const char *session_id, uint64_t fencing, presence_stored_fn *done,
                        void *done_user)
{
    struct presence_api *api = user;
    cleanup_error sa_error *err = NULL;
    struct store_key k = presence_floor_key(session_id), value = {0};
    struct store_set *set = store_set_new();
    store_key_add_u64(&value, fencing);
    store_put_bytes(set, api->opt.floor_table, &k, value.data, value.len);
    if (store_commit(api->opt.store, set, done, done_user, &err) < 0 && done)
        done(done_user, err);
}

/* ---- unary requests ---- */

struct pending {
    struct presence_api *api;
    struct rpc_call *call;
};

static struct pending *pending_new(struct presence_api *api, struct rpc_call *call)
{
    struct pending *p = sa_calloc(1, sizeof *p);
    *p = (struct pending){api, rpc_call_ref(call)};
    return p;
}

/* Takes the call out; NULL: it was failed. */
static struct rpc_call *answered(struct pending *p, const sa_error *err)
{
    struct rpc_call *call = p->call;
    free(p);
    if (!err)
        return call;
    rpc_fail(call, sa_error_copy(err));
    rpc_call_unref(call);
    return NULL;
}

static bool check_session(struct presence_api *api, struct rpc_call *call, const char *session_id)
{
    sa_error *err = NULL;
    if (api->opt.session_exists(api->opt.user, session_id, &err))
        return true;
    rpc_fail(call, err);
    return false;
}

/* A text of at least `min` and at most NAME_MAX_CHARS characters; it is UTF-8. */
static bool check_text(struct rpc_call *call, const char *field, const char *text, size_t min)
{
    size_t chars = 0;
    for (const char *p = text; *p; p++)
        chars += ((unsigned char)*p & 0xc0) != 0x80;
    if (chars >= min && chars <= NAME_MAX_CHARS)
        return true;
    sa_error *err = NULL;
    sa_fail(&err, SA_INVALID_REQUEST, "%s has %zu characters; it may have %zu to %d", field, chars, min,
            NAME_MAX_CHARS);
    rpc_fail(call, err);
    return false;
}

static void join_done(void *user, const struct presence_answer *answer, const sa_error *err)
{
    struct presence_api *api = ((struct pending *)user)->api;
    struct rpc_call *call = answered(user, err);
    if (!call)
        return;
    JoinSessionResponse res = JOIN_SESSION_RESPONSE__INIT;
    res.member = answer->members[0];
    res.ttl_ms = presence_ttl_ms(api->presence);
    res.fencing_token = answer->fencing;
    join_session_reply(call, &res);
    rpc_call_unref(call);
}

static void join_session(void *user, struct rpc_call *call, const JoinSessionRequest *req)
{
    struct presence_api *api = user;
    if (!check_session(api, call, req->session_id) || !check_text(call, "display_name", req->display_name, 1))
        return;
    char id[SA_ID_TEXT + 1];
    sa_id_format(sa_id_new(), id);
    int64_t now = sa_wall_us();
    Google__Protobuf__Timestamp t = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    t.seconds = now / 1000000;
    t.nanos = (int32_t)(now % 1000000) * 1000;
    Member m = MEMBER__INIT;
    m.member_id = id;
    m.display_name = req->display_name;
    m.principal = (char *)(uintptr_t)rpc_principal(call);
    m.join_time = &t;
    presence_join(api->presence, req->session_id, &m, join_done, pending_new(api, call));
}

static void keep_done(void *user, const struct presence_answer *answer, const sa_error *err)
{
    (void)answer;
    struct presence_api *api = ((struct pending *)user)->api;
    struct rpc_call *call = answered(user, err);
    if (!call)
        return;
    KeepPresenceResponse res = KEEP_PRESENCE_RESPONSE__INIT;
    res.ttl_ms = presence_ttl_ms(api->presence);
    keep_presence_reply(call, &res);
    rpc_call_unref(call);
}

static void keep_presence(void *user, struct rpc_call *call, const KeepPresenceRequest *req)
{
    struct presence_api *api = user;
    bool has_activity = req->_activity_case == KEEP_PRESENCE_REQUEST___ACTIVITY_ACTIVITY;
    bool has_seen = req->_seen_seq_case == KEEP_PRESENCE_REQUEST___SEEN_SEQ_SEEN_SEQ;
    if (!check_session(api, call, req->session_id) ||
        (has_activity && !check_text(call, "activity", req->activity, 0)))
        return;
    uint64_t seen = has_seen ? req->seen_seq : 0;
    presence_keep(api->presence, req->session_id, req->member_id, rpc_principal(call),
                  has_activity ? req->activity : NULL, has_seen ? &seen : NULL, keep_done,
                  pending_new(api, call));
}

static void leave_done(void *user, const struct presence_answer *answer, const sa_error *err)
{
    (void)answer;
    struct rpc_call *call = answered(user, err);
    if (!call)
        return;
    LeaveSessionResponse res = LEAVE_SESSION_RESPONSE__INIT;
    leave_session_reply(call, &res);
    rpc_call_unref(call);
}

static void leave_session(void *user, struct rpc_call *call, const LeaveSessionRequest *req)
{
    struct presence_api *api = user;
    if (check_session(api, call, req->session_id))
        presence_leave(api->presence, req->session_id, req->member_id, rpc_principal(call), leave_done,
                       pending_new(api, call));
}

static void list_done(void *user, const struct presence_answer *answer, const sa_error *err)
{
    struct rpc_call *call = answered(user, err);
    if (!call)
        return;
    ListPresenceResponse res = LIST_PRESENCE_RESPONSE__INIT;
    res.n_members = answer->n;
    res.members = (Member **)(uintptr_t)answer->members;
    list_presence_reply(call, &res);
    rpc_call_unref(call);
}

static void list_presence(void *user, struct rpc_call *call, const ListPresenceRequest *req)
{
    struct presence_api *api = user;
    if (check_session(api, call, req->session_id))
        presence_list(api->presence, req->session_id, list_done, pending_new(api, call));
}

/* ---- watching: a reader that is too slow for the changes gets a snapshot when there is room again ---- */

struct watch {
    struct watch *next;
    struct presence_api *api;
    struct rpc_call *call;
    struct presence_watch *presence;
    bool full, skipped;
};

static void watch_free(struct watch *w)
{
    for (struct watch **at = &w->api->watches; *at; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            break;
        }
    w->api->n_watches--;
    presence_unwatch(w->presence);
    rpc_call_unref(w->call);
    free(w);
}

static void tell(struct watch *w, const WatchPresenceResponse *res)
{
    if (w->full)
        w->skipped = true;
    else
        w->full = !watch_presence_send(w->call, res);
}

static void on_snapshot(void *user, Member *const *members, size_t n)
{
    WatchPresenceResponse res = WATCH_PRESENCE_RESPONSE__INIT;
    PresenceSnapshot snapshot = PRESENCE_SNAPSHOT__INIT;
    snapshot.n_members = n;
    snapshot.members = (Member **)(uintptr_t)members;
    res.kind_case = WATCH_PRESENCE_RESPONSE__KIND_SNAPSHOT;
    res.snapshot = &snapshot;
    tell(user, &res);
}

static void on_updated(void *user, const Member *m)
{
    WatchPresenceResponse res = WATCH_PRESENCE_RESPONSE__INIT;
    res.kind_case = WATCH_PRESENCE_RESPONSE__KIND_UPDATED;
    res.updated = (Member *)(uintptr_t)m;
    tell(user, &res);
}

static void on_left(void *user, const char *member_id)
{
    WatchPresenceResponse res = WATCH_PRESENCE_RESPONSE__INIT;
    res.kind_case = WATCH_PRESENCE_RESPONSE__KIND_LEFT;
    res.left = (char *)(uintptr_t)member_id;
    tell(user, &res);
}

static void on_unknown(void *user, const char *why)
{
    WatchPresenceResponse res = WATCH_PRESENCE_RESPONSE__INIT;
    PresenceUnknown unknown = PRESENCE_UNKNOWN__INIT;
    unknown.message = (char *)(uintptr_t)why;
    res.kind_case = WATCH_PRESENCE_RESPONSE__KIND_UNKNOWN;
    res.unknown = &unknown;
    tell(user, &res);
}

static void on_writable(void *user, struct rpc_call *call)
{
    (void)call;
    struct watch *w = user;
    w->full = false;
    if (w->skipped)
        presence_watch_again(w->presence);
    w->skipped = false;
}

static void on_cancel(void *user, struct rpc_call *call)
{
    (void)call;
    watch_free(user);
}

static void watch_presence(void *user, struct rpc_call *call, const WatchPresenceRequest *req)
{
    static const struct rpc_call_events events = {.on_writable = on_writable, .on_cancel = on_cancel};
    static const struct presence_watch_events changes = {
        .snapshot = on_snapshot, .updated = on_updated, .left = on_left, .unknown = on_unknown};
    struct presence_api *api = user;
    sa_error *err = NULL;
    if (!check_session(api, call, req->session_id))
        return;
    if (api->draining)
        sa_fail(&err, SA_DRAINING, "the server is shutting down");
    else if (api->n_watches >= WATCHES_MAX)
        sa_fail(&err, SA_TOO_MANY, "%d callers watch presence, that is the limit", WATCHES_MAX);
    if (err) {
        rpc_fail(call, err);
        return;
    }
    struct watch *w = sa_calloc(1, sizeof *w);
    *w = (struct watch){.next = api->watches, .api = api, .call = rpc_call_ref(call)};
    api->watches = w;
    api->n_watches++;
    watch_presence_on(call, &events, w);
    w->presence = presence_watch(api->presence, req->session_id, &changes, w);
}

/* ---- lifecycle ---- */

struct presence_api *presence_api_new(const struct presence_api_options *opt, sa_error **err)
{
    struct presence_api *api = sa_calloc(1, sizeof *api);
    api->opt = *opt;
    struct presence_options p = {
        .ttl_ms = opt->ttl_ms, .floor = get_floor, .raise = raise_floor, .user = api};
    api->presence = opt->redis_url ? presence_redis_new(opt->loop, &p, opt->redis_url, err)
                                   : presence_memory_new(opt->loop, &p);
    if (!api->presence) {
        free(api);
        return NULL;
    }
    api->opt.redis_url = NULL; /* borrowed for the call */
    return api;
}

void presence_api_register(struct presence_api *api, struct rpc_server *server)
{
    static const struct presence_service_handlers handlers = {
        .join_session = join_session,
        .keep_presence = keep_presence,
        .leave_session = leave_session,
        .list_presence = list_presence,
        .watch_presence = watch_presence,
    };
    presence_service_register(server, &handlers, api);
}

void presence_api_drain(struct presence_api *api)
{
    api->draining = true;
    while (api->watches) {
        sa_error *err = NULL;
        sa_fail(&err, SA_DRAINING, "the server is shutting down");
        rpc_fail(api->watches->call, err);
        watch_free(api->watches);
    }
}

void presence_api_free(struct presence_api *api)
{
    if (!api)
        return;
    while (api->watches)
        watch_free(api->watches);
    presence_free(api->presence);
    free(api);
}
