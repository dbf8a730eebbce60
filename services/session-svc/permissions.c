#include "services/session-svc/permissions.h"
#include "adapters/os/fault.h"

#include <stdlib.h>
#include <string.h>

#include "services/session-svc/requests.h"
#include "services/session-svc/sessions.h"

static void permission_free(struct permission *p)
{
    for (size_t i = 0; i < p->n_options; i++)
        free(p->options[i]);
    free(p->options);
    free(p->author);
    free(p);
}

void permissions_clear(struct session *s)
{
    for (struct permission *p = s->permissions, *next; p; p = next) {
        next = p->next;
        permission_free(p);
    }
    s->permissions = NULL;
}

void permissions_sweep(struct session *s)
{
    for (struct permission **at = &s->permissions, *p; (p = *at);) {
        if (p->resolved_batch && p->resolved_batch <= s->committed_batch) {
            *at = p->next;
            permission_free(p);
        } else {
            at = &p->next;
        }
    }
}

uint32_t permissions_waiting(const struct session *s)
{
    uint32_t n = 0;
    for (const struct permission *p = s->permissions; p; p = p->next)
        n += !p->outcome;
    return n;
}

static void add(struct session *s, struct sa_id id, uint64_t turn, uint64_t offset, uint64_t seq,
                PermissionOption **options, size_t n)
{
    struct permission *p = sa_calloc(1, sizeof *p), **at = &s->permissions;
    p->id = id;
    p->turn = turn;
    p->offset = offset;
    p->seq = seq;
    p->options = sa_calloc(n + 1, sizeof *p->options);
    for (; p->n_options < n; p->n_options++)
        p->options[p->n_options] = sa_strdup(options[p->n_options]->option_id);
    while (*at)
        at = &(*at)->next;
    *at = p;
}

int permissions_load(struct session *s, const struct pending *pending, sa_error **err)
{
    struct store_key key = db_key(pending->permission);
    cleanup_message StoredPermission *row = NULL;
    int found = store_get(s->all->store, DB_PERMISSIONS, &key, &row, err);
    if (found == 0)
        return sa_fail(err, SA_STORE_CORRUPT, "session %s: a permission request is missing", s->name);
    if (found > 0)
        add(s, pending->permission, row->turn, row->offset, row->seq, row->options, row->n_options);
    return found > 0 ? 0 : -1;
}

/* ---- ask ---- */

void permissions_ask(struct session *s, struct sa_arena *arena, struct pending *pending,
                     const struct acp_message *m)
{
    char id[SA_ID_TEXT + 1];
    pending->permission = sessions_new_id(s->all);
    sa_id_format(pending->permission, id);
    PermissionRequested requested = PERMISSION_REQUESTED__INIT;
    requested.permission_id = id;
    requested.tool_call = acp_tool_call(arena, json_get(m->params, "toolCall"));
    requested.options = acp_permission_options(arena, json_get(m->params, "options"), &requested.n_options);

    Event *e = m->event;
    e->kind_case = EVENT__KIND_PERMISSION_REQUESTED;
    e->permission_requested = &requested;
    e->agent_json = (ProtobufCBinaryData){0};
    if (event__get_packed_size(e) > ACP_EVENT_MAX / 2) { /* content of a tool call without end */
        requested.tool_call->n_content = 0;
        requested.tool_call->title =
            rpc_utf8(arena, requested.tool_call->title, strnlen(requested.tool_call->title, 4096));
    }
    if (m->raw.n <= ACP_RAW_MAX) {
        e->agent_json = (ProtobufCBinaryData){m->raw.n, (uint8_t *)(uintptr_t)m->raw.p};
        e->protocol_version = ACP_VERSION;
    }
    uint64_t seq = session_event(s, e);

    StoredPermission row = STORED_PERMISSION__INIT;
    row.session_id = s->name;
    row.turn = s->current_turn;
    row.create_time_us = sa_wall_us();
    row.tool_call = requested.tool_call;
    row.options = requested.options;
    row.n_options = requested.n_options;
    row.offset = pending->offset;
    row.seq = seq;
    struct store_key key = db_key(pending->permission);
    store_put(session_set(s), DB_PERMISSIONS, &key, &row.base);
    SA_FAULT("permission.ask");
    add(s, pending->permission, s->current_turn, pending->offset, seq, requested.options,
        requested.n_options);
    session_move(s, STATE_PERMISSION_ASKED, NULL, NULL);
    e->permission_requested = NULL;
    e->kind_case = EVENT__KIND__NOT_SET;
}

/* ---- resolve ---- */

static uint64_t resolve(struct session *s, struct permission *p, PermissionOutcome outcome,
                        const char *option_id, const char *author)
{
    char id[SA_ID_TEXT + 1];
    sa_id_format(p->id, id);
    p->outcome = outcome;
    p->author = sa_strdup(author);
    p->resolved_batch = s->batch;
    PermissionResolved resolved = PERMISSION_RESOLVED__INIT;
    resolved.permission_id = id;
    resolved.outcome = outcome;
    resolved.option_id = (char *)(uintptr_t)option_id;
    resolved.author = p->author;
    Event e = EVENT__INIT;
    e.turn = p->turn;
    e.kind_case = EVENT__KIND_PERMISSION_RESOLVED;
    e.permission_resolved = &resolved;
    uint64_t seq = session_event(s, &e);

    StoredResolution row = STORED_RESOLUTION__INIT;
    row.session_id = s->name;
    row.outcome = outcome;
    row.option_id = resolved.option_id;
    row.author = p->author;
    row.seq = seq;
    row.time_us = sa_wall_us();
    struct store_key key = db_key(p->id);
    store_put(session_set(s), DB_RESOLUTIONS, &key, &row.base);
    store_delete(session_set(s), DB_PERMISSIONS, &key);

    SA_FAULT("permission.resolve");
    struct pending *pending = requests_find(s, p->offset);
    cleanup_buf struct sa_buf result = {0};
    struct json_writer w = json_writer(&result);
    json_begin_object(&w);
    json_key(&w, "outcome");
    json_begin_object(&w);
    json_key(&w, "outcome");
    json_put_string(&w, outcome == PERMISSION_OUTCOME_SELECTED ? "selected" : "cancelled");
    if (outcome == PERMISSION_OUTCOME_SELECTED) {
        json_key(&w, "optionId");
        json_put_string(&w, option_id);
    }
    json_end_object(&w);
    json_end_object(&w);
    if (pending && outcome != PERMISSION_OUTCOME_WITHDRAWN)
        requests_answer(s, pending, &result);
    return seq;
}

void permissions_end_all(struct session *s, PermissionOutcome outcome)
{
    for (struct permission *p = s->permissions; p; p = p->next)
        if (!p->outcome)
            resolve(s, p, outcome, "", "");
    if (!s->link.ending)
        session_move(s, STATE_PERMISSIONS_CLEAR, NULL, NULL);
}

static int already(const char *permission_id, PermissionOutcome outcome, const char *author, sa_error **err)
{
    if (outcome == PERMISSION_OUTCOME_SELECTED)
        return sa_fail(err, SA_PERMISSION_ALREADY_ANSWERED, "permission %s was answered by %s", permission_id,
                       author);
    return sa_fail(
        err, SA_PERMISSION_ALREADY_ANSWERED, "permission %s ended without an answer: %s", permission_id,
        outcome == PERMISSION_OUTCOME_CANCELLED ? "the turn was cancelled" : "the agent process ended");
}

static int explain_missing(struct session *s, struct sa_id id, const char *permission_id, sa_error **err)
{
    struct store_key key = db_key(id);
    cleanup_message StoredResolution *row = NULL;
    int found = store_get(s->all->store, DB_RESOLUTIONS, &key, &row, err);
    if (found < 0)
        return -1;
    if (found > 0 && !strcmp(row->session_id, s->name))
        return already(permission_id, row->outcome, row->author, err);
    return sa_fail(err, SA_PERMISSION_NOT_FOUND, "session %s has no permission request %s", s->name,
                   permission_id);
}

int permissions_answer(struct session *s, const char *permission_id, const char *option_id,
                       const char *author, uint64_t *ret_seq, sa_error **err)
{
    struct sa_id id;
    if (!sa_id_parse(permission_id, &id))
        return sa_fail(err, SA_PERMISSION_NOT_FOUND, "permission_id \"%.64s\" is not an id", permission_id);
    struct permission *p = s->permissions;
    while (p && !sa_id_equal(p->id, id))
        p = p->next;
    if (!p)
        return explain_missing(s, id, permission_id, err);
    if (p->outcome)
        return already(permission_id, p->outcome, p->author, err);
    for (size_t i = 0; i < p->n_options; i++)
        if (!strcmp(p->options[i], option_id)) {
            *ret_seq = resolve(s, p, PERMISSION_OUTCOME_SELECTED, p->options[i], author);
            if (!permissions_waiting(s))
                session_move(s, STATE_PERMISSIONS_CLEAR, NULL, NULL);
            return 0;
        }
    return sa_fail(err, SA_INVALID_REQUEST, "option_id \"%.64s\" is none of the options of permission %s",
                   option_id, permission_id);
}
