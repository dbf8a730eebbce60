#include <stdlib.h>
#include <string.h>

#include "services/session-svc/api.h"
#include "services/session-svc/page_token.h"
#include "services/session-svc/permissions.h"

/* ---- list ---- */

struct listing {
    struct sa_arena *arena;
    const char *session_id;  /* "": of all */
    StoredPermission **rows; /* to be freed */
    struct sa_id *ids;
    size_t n, max;
    bool more;
    sa_error *err;
};

static bool list_row(void *user, const struct store_row *row)
{
    struct listing *l = user;
    StoredPermission *m = store_row_unpack(row, &l->err);
    if (!m)
        return false;
    if (*l->session_id && strcmp(m->session_id, l->session_id)) {
        store_message_free(m);
        return true;
    }
    if (l->n == l->max) {
        store_message_free(m);
        l->more = true;
        return false;
    }
    l->ids[l->n] = db_key_id(row);
    l->rows[l->n++] = m;
    return true;
}

static Permission *describe(struct sa_arena *arena, struct sa_id id, const StoredPermission *row)
{
    char text[SA_ID_TEXT + 1];
    sa_id_format(id, text);
    Permission *p = sa_arena_alloc(arena, sizeof *p);
    *p = (Permission)PERMISSION__INIT;
    p->permission_id = sa_arena_strdup(arena, text);
    p->session_id = row->session_id;
    p->turn = row->turn;
    p->create_time = api_timestamp(arena, row->create_time_us);
    p->tool_call = row->tool_call;
    p->options = row->options;
    p->n_options = row->n_options;
    return p;
}

static void reply(struct rpc_call *call, struct listing *l, const char *filter, uint64_t epoch)
{
    ListPermissionsResponse res = LIST_PERMISSIONS_RESPONSE__INIT;
    res.permissions = sa_arena_alloc(l->arena, (l->n + 1) * sizeof *res.permissions);
    for (size_t i = 0; i < l->n; i++)
        res.permissions[res.n_permissions++] = describe(l->arena, l->ids[i], l->rows[i]);
    if (l->more)
        res.next_page_token = page_token_make(l->arena, l->ids[l->n - 1], filter, epoch);
    list_permissions_reply(call, &res);
}

void api_list_permissions(void *api, struct rpc_call *call, const ListPermissionsRequest *req)
{
    struct sessions *all = api;
    struct sa_arena *arena = rpc_arena(call);
    sa_error *err = NULL;
    uint32_t size;
    struct sa_id last;
    char *filter = sa_arena_format(arena, "permissions\n%s", req->session_id);
    bool begin = !*req->page_token;
    struct sa_id id;
    cleanup_message StoredSession *s =
        *req->session_id ? sessions_read(all, req->session_id, &id, &err) : NULL;
    if ((*req->session_id && !s) || api_page_size(req->page_size, 50, &size, &err) ||
        (!begin && page_token_read(req->page_token, filter, all->epoch, &last, &err))) {
        rpc_fail(call, err);
        return;
    }
    struct listing l = {.arena = arena, .session_id = req->session_id, .max = size};
    l.ids = sa_arena_alloc(arena, size * sizeof *l.ids);
    l.rows = sa_arena_alloc(arena, size * sizeof *l.rows);
    struct store_key from = begin ? (struct store_key){0} : db_key(last);
    struct store_range range = {.table = DB_PERMISSIONS, .from = begin ? NULL : &from, .after = true};
    if (store_scan(all->store, &range, list_row, &l, &err) < 0 || (err = l.err))
        rpc_fail(call, err);
    else
        reply(call, &l, filter, all->epoch);
    for (size_t i = 0; i < l.n; i++)
        store_message_free(l.rows[i]);
}

/* ---- answer ---- */

struct answering {
    struct rpc_call *call;
    uint64_t seq;
};

static void answered(void *user, const sa_error *failed)
{
    struct answering *a = user;
    AnswerPermissionResponse res = ANSWER_PERMISSION_RESPONSE__INIT;
    res.seq = a->seq;
    if (failed)
        api_fail_copy(a->call, failed);
    else
        answer_permission_reply(a->call, &res);
    rpc_call_unref(a->call);
    free(a);
}

void api_answer_permission(void *api, struct rpc_call *call, const AnswerPermissionRequest *req)
{
    sa_error *err = NULL;
    uint64_t seq;
    struct session *s = sessions_find_to_change(api, req->session_id, &err);
    if (!s || permissions_answer(s, req->permission_id, req->option_id, rpc_principal(call), &seq, &err)) {
        rpc_fail(call, err);
        return;
    }
    struct answering *a = sa_calloc(1, sizeof *a);
    *a = (struct answering){rpc_call_ref(call), seq};
    session_after(s, answered, a);
    session_settle(s);
}
