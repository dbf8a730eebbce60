#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "services/session-svc/api.h"
#include "services/session-svc/page_token.h"
#include "services/session-svc/permission_rows.h"
#include "services/session-svc/permissions.h"
#include "services/session-svc/policy.h"

enum { PAGE_BYTES = 1 << 20 }; /* a page ends with the request that takes it to so many */

/* ---- list: ids first, in their order, then what they name ---- */

struct ids {
    struct sa_id *list;
    size_t n, max;
    const char *session; /* "": of all */
    bool in_index;       /* keys are session, id */
    sa_error *err;
};

static bool take_id(void *user, const struct store_row *row)
{
    struct ids *ids = user;
    if (*ids->session && !ids->in_index) {
        StoredPermission *m = store_row_unpack(row, &ids->err);
        bool other = m && strcmp(m->session_id, ids->session);
        store_message_free(m);
        if (!m || other)
            return m != NULL;
    }
    memcpy(ids->list[ids->n++].bytes, row->key + (ids->in_index ? row->key_len - sizeof ids->list->bytes : 0),
           sizeof ids->list->bytes);
    return ids->n < ids->max;
}

static int collect(struct sessions *all, int table, const struct store_key *prefix, struct store_key *from,
                   struct ids *ids, sa_error **err)
{
    struct store_range range = {.table = table, .prefix = prefix, .from = from, .after = true};
    if (store_scan(all->store, &range, take_id, ids, err) < 0)
        return -1;
    return ids->err ? sa_pass(err, ids->err) : 0;
}

/* Pending ones after `last`; max + 1 of them, so that it is known whether there are more. */
static int collect_pending(struct sessions *all, const struct sa_id *last, struct ids *ids, sa_error **err)
{
    struct store_key from = last ? db_key(*last) : (struct store_key){0};
    return collect(all, DB_PERMISSIONS, NULL, last ? &from : NULL, ids, err);
}

static int collect_resolved(struct sessions *all, const struct sa_id *session, const struct sa_id *last,
                            struct ids *ids, sa_error **err)
{
    struct store_key prefix = session ? db_key(*session) : (struct store_key){0};
    struct store_key from = prefix;
    if (last)
        store_key_add(&from, last->bytes, sizeof last->bytes);
    ids->in_index = session != NULL;
    return collect(all, session ? DB_P_RESOLVED : DB_RESOLUTIONS, session ? &prefix : NULL,
                   last ? &from : NULL, ids, err);
}

/* The first of both, in order. */
static size_t merge(const struct ids *a, const struct ids *b, struct sa_id *out, size_t max)
{
    size_t i = 0, j = 0, n = 0;
    while (n < max && (i < a->n || j < b->n)) {
        bool first =
            j == b->n || (i < a->n && memcmp(a->list[i].bytes, b->list[j].bytes, sizeof out->bytes) < 0);
        out[n++] = first ? a->list[i++] : b->list[j++];
    }
    return n;
}

static int reply_list(struct sessions *all, struct rpc_call *call, const struct sa_id *ids, size_t n,
                      size_t max, const char *filter, sa_error **err)
{
    struct sa_arena *arena = rpc_arena(call);
    struct permission_row *rows = sa_arena_alloc(arena, (n + 1) * sizeof *rows);
    ListPermissionsResponse res = LIST_PERMISSIONS_RESPONSE__INIT;
    res.permissions = sa_arena_alloc(arena, (n + 1) * sizeof *res.permissions);
    size_t bytes = 0, i = 0;
    int failed = 0;
    for (; i < n && i < max && bytes < PAGE_BYTES && !failed; i++) {
        int found = permission_read(all, ids[i], &rows[i], err);
        failed = found < 0;
        if (found <= 0)
            continue;
        Permission *p = res.permissions[res.n_permissions++] = permission_describe(ids[i], &rows[i], arena);
        bytes += permission__get_packed_size(p);
    }
    if (i < n)
        res.next_page_token = page_token_make(arena, ids[i - 1], filter, all->epoch);
    if (!failed)
        list_permissions_reply(call, &res);
    for (size_t k = 0; k < n; k++)
        permission_row_fini(&rows[k]);
    return failed ? -1 : 0;
}

void api_list_permissions(void *api, struct rpc_call *call, const ListPermissionsRequest *req)
{
    struct sessions *all = api;
    struct sa_arena *arena = rpc_arena(call);
    sa_error *err = NULL;
    uint32_t size;
    struct sa_id last, id;
    char *filter = sa_arena_format(arena, "permissions\n%s\n%d", req->session_id, (int)req->state);
    const struct sa_id *from = *req->page_token ? &last : NULL, *session = *req->session_id ? &id : NULL;
    if (session)
        store_message_free(sessions_read(all, req->session_id, &id, &err));
    if (!err && (unsigned)req->state > PERMISSION_STATE_ANY)
        sa_fail(&err, SA_INVALID_REQUEST, "state: is not a state");
    if (err || api_page_size(req->page_size, 50, &size, &err) ||
        (from && page_token_read(req->page_token, filter, all->epoch, &last, &err))) {
        rpc_fail(call, err);
        return;
    }
    struct ids pending = {.max = size + 1, .session = req->session_id}, resolved = pending;
    pending.list = sa_arena_alloc(arena, (size + 1) * sizeof *pending.list);
    resolved.list = sa_arena_alloc(arena, (size + 1) * sizeof *resolved.list);
    struct sa_id *ids = sa_arena_alloc(arena, (size + 1) * sizeof *ids);
    if ((req->state != PERMISSION_STATE_RESOLVED && collect_pending(all, from, &pending, &err)) ||
        (req->state >= PERMISSION_STATE_RESOLVED && collect_resolved(all, session, from, &resolved, &err)) ||
        reply_list(all, call, ids, merge(&pending, &resolved, ids, size + 1), size, filter, &err))
        rpc_fail(call, err);
}

void api_get_permission(void *api, struct rpc_call *call, const GetPermissionRequest *req)
{
    sa_error *err = NULL;
    struct sa_id id;
    struct permission_row row = {0};
    int found = sa_id_parse(req->permission_id, &id) ? permission_read(api, id, &row, &err) : 0;
    if (found == 0)
        sa_fail(&err, SA_PERMISSION_NOT_FOUND, "there is no permission request \"%.64s\"",
                req->permission_id);
    if (found <= 0) {
        rpc_fail(call, err);
        return;
    }
    GetPermissionResponse res = GET_PERMISSION_RESPONSE__INIT;
    res.permission = permission_describe(id, &row, rpc_arena(call));
    get_permission_reply(call, &res);
    permission_row_fini(&row);
}

/* ---- answer ---- */

struct answering {
    struct rpc_call *call;
    uint64_t seq;
    void (*reply)(struct rpc_call *call, uint64_t seq);
    sa_error *conflict; /* the answer of somebody else, once it is true */
};

static void answered(void *user, const sa_error *failed)
{
    struct answering *a = user;
    if (failed)
        api_fail_copy(a->call, failed);
    else if (a->conflict)
        rpc_fail(a->call, steal_pointer(&a->conflict));
    else
        a->reply(a->call, a->seq);
    sa_error_free(a->conflict);
    rpc_call_unref(a->call);
    free(a);
}

static void reply_later(struct session *s, struct rpc_call *call, uint64_t seq, sa_error *conflict,
                        void (*reply)(struct rpc_call *call, uint64_t seq))
{
    struct answering *a = sa_calloc(1, sizeof *a);
    *a = (struct answering){rpc_call_ref(call), seq, reply, conflict};
    session_after(s, answered, a);
    session_settle(s);
}

/* Who answered, when and how, for programs. */
static void tell_first(struct session *s, struct rpc_call *call, const char *permission_id)
{
    struct sa_arena *arena = rpc_arena(call);
    const StoredResolution *r = permissions_resolution(s, permission_id, arena);
    if (!r)
        return;
    time_t at = (time_t)(r->time_us / 1000000);
    struct tm tm;
    char text[32];
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&at, &tm));
    rpc_set_trailer(call, "answered-by", r->author);
    rpc_set_trailer(call, "answered-at", text);
    rpc_set_trailer(call, "answered-option", r->option_id);
    rpc_set_trailer(call, "answered-seq", sa_arena_format(arena, "%llu", (unsigned long long)r->seq));
}

static void answer(struct session *s, struct rpc_call *call, const char *permission_id,
                   const struct permission_answer *a, void (*reply)(struct rpc_call *call, uint64_t seq))
{
    sa_error *err = NULL;
    uint64_t seq = 0;
    if (!permissions_answer(s, permission_id, a, &seq, &err)) {
        reply_later(s, call, seq, NULL, reply);
    } else if (sa_error_is(err, SA_PERMISSION_ALREADY_ANSWERED)) {
        tell_first(s, call, permission_id);
        reply_later(s, call, 0, err, reply);
    } else {
        rpc_fail(call, err);
    }
}

static void reply_permission(struct rpc_call *call, uint64_t seq)
{
    AnswerPermissionResponse res = ANSWER_PERMISSION_RESPONSE__INIT;
    res.seq = seq;
    answer_permission_reply(call, &res);
}

void api_answer_permission(void *api, struct rpc_call *call, const AnswerPermissionRequest *req)
{
    sa_error *err = NULL;
    struct session *s = sessions_find_to_change(api, req->session_id, &err);
    if (!s || api_check_request_id(req->request_id, &err)) {
        rpc_fail(call, err);
        return;
    }
    struct permission_answer a = {
        .option_id = req->option_id, .author = rpc_principal(call), .request_id = req->request_id};
    answer(s, call, req->permission_id, &a, reply_permission);
}

static void reply_elicitation(struct rpc_call *call, uint64_t seq)
{
    AnswerElicitationResponse res = ANSWER_ELICITATION_RESPONSE__INIT;
    res.seq = seq;
    answer_elicitation_reply(call, &res);
}

void api_answer_elicitation(void *api, struct rpc_call *call, const AnswerElicitationRequest *req)
{
    sa_error *err = NULL;
    struct session *s = sessions_find_to_change(api, req->session_id, &err);
    if (s && (req->action < ELICITATION_ACTION_ACCEPT || req->action > ELICITATION_ACTION_CANCEL))
        sa_fail(&err, SA_INVALID_REQUEST, "action: is not set");
    if (err || api_check_request_id(req->request_id, &err)) {
        rpc_fail(call, err);
        return;
    }
    struct permission_answer a = {.option_id = "",
                                  .action = req->action,
                                  .content = req->content_json.data,
                                  .content_len = req->content_json.len,
                                  .author = rpc_principal(call),
                                  .request_id = req->request_id};
    answer(s, call, req->permission_id, &a, reply_elicitation);
}

/* ---- deadline ---- */

static void reply_deadline(struct rpc_call *call, uint64_t seq)
{
    SetDeadlineResponse res = SET_DEADLINE_RESPONSE__INIT;
    res.seq = seq;
    set_deadline_reply(call, &res);
}

void api_set_deadline(void *api, struct rpc_call *call, const SetDeadlineRequest *req)
{
    sa_error *err = NULL;
    uint64_t seq = 0;
    struct session *s = sessions_find_to_change(api, req->session_id, &err);
    struct permission_deadline d = {req->deadline_ms, req->on_deadline, rpc_principal(call), req->request_id};
    if (!s || api_check_request_id(req->request_id, &err) ||
        policy_check_deadline(req->deadline_ms, req->on_deadline, &err) ||
        permissions_set_deadline(s, req->permission_id, &d, &seq, &err))
        rpc_fail(call, err);
    else
        reply_later(s, call, seq, NULL, reply_deadline);
}
