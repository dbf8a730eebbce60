#include "services/session-svc/permissions.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/os/fault.h"
#include "services/session-svc/elicitation.h"
#include "services/session-svc/permission_watch.h"
#include "services/session-svc/permissions_internal.h"
#include "services/session-svc/requests.h"
#include "services/session-svc/sessions.h"

/* ---- the list ---- */

static void *copy_message(const void *message)
{
    const ProtobufCMessage *m = message;
    size_t n = protobuf_c_message_get_packed_size(m);
    cleanup_free uint8_t *packed = sa_malloc(n + 1);
    protobuf_c_message_pack(m, packed);
    return rpc_unpack(m->descriptor, packed, n, NULL);
}

static void permission_free(struct permission *p)
{
    rpc_message_free(p->row);
    rpc_message_free(p->resolution);
    free(p);
}

void permissions_clear(struct session *s)
{
    for (struct permission *p = s->permissions, *next; p; p = next) {
        next = p->next;
        permission_free(p);
    }
    s->permissions = NULL;
    sa_timer_free(s->permission_deadline);
    s->permission_deadline = NULL;
}

void permissions_sweep(struct session *s)
{
    for (struct permission **at = &s->permissions, *p; (p = *at);) {
        bool committed = p->changed_batch <= s->committed_batch;
        if (committed && !p->told)
            permission_watch_tell(s->all, p->id);
        p->told |= committed;
        if (p->resolution && committed) {
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
        n += !p->resolution;
    return n;
}

void permission_changed(struct session *s, struct permission *p)
{
    p->changed_batch = s->batch;
    p->told = false;
}

static struct permission *find(struct session *s, struct sa_id id)
{
    struct permission *p = s->permissions;
    while (p && !sa_id_equal(p->id, id))
        p = p->next;
    return p;
}

static StoredPermission *without_content(StoredPermission *row)
{
    ToolCall *call = row->tool_call;
    size_t n_content = call ? call->n_content : 0;
    if (call)
        call->n_content = 0;
    StoredPermission *copy = copy_message(row);
    if (call)
        call->n_content = n_content;
    return copy;
}

struct permission *permission_add(struct session *s, struct sa_id id, StoredPermission *row)
{
    struct permission *p = sa_calloc(1, sizeof *p), **at = &s->permissions;
    p->id = id;
    p->row = without_content(row);
    while (*at)
        at = &(*at)->next;
    return *at = p;
}

int permissions_load(struct session *s, const struct pending *pending, sa_error **err)
{
    struct store_key key = db_key(pending->permission);
    cleanup_message StoredPermission *row = NULL;
    int found = store_get(s->all->store, DB_PERMISSIONS, &key, &row, err);
    if (found == 0)
        return sa_fail(err, SA_STORE_CORRUPT, "session %s: a permission request is missing", s->name);
    if (found > 0)
        permission_add(s, pending->permission, row)->told = true;
    return found > 0 ? 0 : -1;
}

/* ---- deadlines ---- */

static void answer_by_deadline(struct session *s, struct permission *p);

static void deadline_due(void *user)
{
    struct session *s = user;
    if (!session_usable(s))
        return;
    int64_t now = sa_wall_us();
    for (struct permission *p = s->permissions; p; p = p->next)
        if (!p->resolution && p->row->deadline_us && p->row->deadline_us <= now && p->row->on_deadline)
            answer_by_deadline(s, p);
    permissions_arm(s);
    session_settle(s);
}

void permissions_arm(struct session *s)
{
    int64_t next = INT64_MAX, now = sa_wall_us();
    for (struct permission *p = s->permissions; p; p = p->next)
        if (!p->resolution && p->row->deadline_us && p->row->on_deadline && p->row->deadline_us < next)
            next = p->row->deadline_us;
    if (next == INT64_MAX) {
        if (s->permission_deadline)
            sa_timer_stop(s->permission_deadline);
        return;
    }
    if (!s->permission_deadline)
        s->permission_deadline = sa_timer_new(s->all->loop, deadline_due, s);
    sa_timer_start(s->permission_deadline, next > now ? (uint64_t)(next - now) / 1000 + 1 : 0);
}

/* ---- resolve ---- */

static void put_permission_result(struct sa_buf *out, const struct permission_verdict *v)
{
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    json_key(&w, "outcome");
    json_begin_object(&w);
    json_key(&w, "outcome");
    json_put_string(&w, v->outcome == PERMISSION_OUTCOME_SELECTED ? "selected" : "cancelled");
    if (v->outcome == PERMISSION_OUTCOME_SELECTED) {
        json_key(&w, "optionId");
        json_put_string(&w, v->option_id);
    }
    json_end_object(&w);
    json_end_object(&w);
}

static void put_elicitation_result(struct sa_buf *out, const struct permission_verdict *v)
{
    static const char *const words[] = {[ELICITATION_ACTION_ACCEPT] = "accept",
                                        [ELICITATION_ACTION_DECLINE] = "decline",
                                        [ELICITATION_ACTION_CANCEL] = "cancel"};
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    json_key(&w, "action");
    json_put_string(&w, words[v->action]);
    if (v->action == ELICITATION_ACTION_ACCEPT) {
        json_key(&w, "content");
        json_put_raw(&w, v->content);
    }
    json_end_object(&w);
}

static uint64_t tell_resolved(struct session *s, struct permission *p, char *id,
                              const struct permission_verdict *v)
{
    Event e = EVENT__INIT;
    PermissionResolved resolved = PERMISSION_RESOLVED__INIT;
    ElicitationResolved answered = ELICITATION_RESOLVED__INIT;
    e.turn = p->row->turn;
    if (p->row->elicitation) {
        answered.permission_id = id;
        answered.action = v->action;
        answered.content_json = (ProtobufCBinaryData){v->content.n, (uint8_t *)(uintptr_t)v->content.p};
        answered.author = (char *)(uintptr_t)v->author;
        answered.decider = v->decider;
        e.kind_case = EVENT__KIND_ELICITATION_RESOLVED;
        e.elicitation_resolved = &answered;
    } else {
        resolved.permission_id = id;
        resolved.outcome = v->outcome;
        resolved.option_id = (char *)(uintptr_t)v->option_id;
        resolved.author = (char *)(uintptr_t)v->author;
        resolved.decider = v->decider;
        resolved.rule = v->rule;
        resolved.arguments_sha256 = p->row->arguments_sha256;
        e.kind_case = EVENT__KIND_PERMISSION_RESOLVED;
        e.permission_resolved = &resolved;
    }
    return session_event(s, &e);
}

static void store_resolution(struct session *s, struct permission *p, uint64_t seq,
                             const struct permission_verdict *v)
{
    StoredResolution row = STORED_RESOLUTION__INIT;
    row.session_id = s->name;
    row.outcome = v->outcome;
    row.option_id = (char *)(uintptr_t)v->option_id;
    row.author = (char *)(uintptr_t)v->author;
    row.seq = seq;
    row.time_us = sa_wall_us();
    row.permission = p->row;
    row.decider = v->decider;
    row.rule = v->rule;
    row.action = v->action;
    row.request_id = (char *)(uintptr_t)v->request_id;
    struct store_key key = db_key(p->id), index = db_key(s->id);
    store_key_add(&index, p->id.bytes, sizeof p->id.bytes);
    store_put(session_set(s), DB_RESOLUTIONS, &key, &row.base);
    store_put_bytes(session_set(s), DB_P_RESOLVED, &index, "", 0);
    store_delete(session_set(s), DB_PERMISSIONS, &key);
    p->resolution = copy_message(&row);
    permission_changed(s, p);
}

uint64_t permission_resolve(struct session *s, struct permission *p, const struct permission_verdict *v)
{
    char id[SA_ID_TEXT + 1];
    sa_id_format(p->id, id);
    uint64_t seq = tell_resolved(s, p, id, v);
    store_resolution(s, p, seq, v);
    SA_FAULT("permission.resolve");
    struct pending *pending = requests_find(s, p->row->offset);
    cleanup_buf struct sa_buf result = {0};
    if (p->row->elicitation)
        put_elicitation_result(&result, v);
    else
        put_permission_result(&result, v);
    if (pending && v->outcome != PERMISSION_OUTCOME_WITHDRAWN)
        requests_answer(s, pending, &result);
    return seq;
}

static void clear_state(struct session *s)
{
    if (!permissions_waiting(s) && !s->link.ending)
        session_move(s, STATE_PERMISSIONS_CLEAR, NULL, NULL);
}

void permissions_end_all(struct session *s, PermissionOutcome outcome)
{
    struct permission_verdict v = {.outcome = outcome, .option_id = "", .author = "", .request_id = ""};
    v.action =
        outcome == PERMISSION_OUTCOME_CANCELLED ? ELICITATION_ACTION_CANCEL : ELICITATION_ACTION_UNSPECIFIED;
    for (struct permission *p = s->permissions; p; p = p->next)
        if (!p->resolution)
            permission_resolve(s, p, &v);
    clear_state(s);
    permissions_arm(s);
}

/* ---- choosing for somebody ---- */

static const char *option_of_kind(const StoredPermission *row, PermissionOptionKind kind)
{
    for (size_t i = 0; i < row->n_options; i++)
        if (row->options[i]->kind == kind)
            return row->options[i]->option_id;
    return NULL;
}

/* NULL: the agent has no such option. */
static const char *option_for(const StoredPermission *row, PolicyAction action)
{
    const char *option = NULL;
    if (action == POLICY_ACTION_ALLOW_ALWAYS)
        option = option_of_kind(row, PERMISSION_OPTION_KIND_ALLOW_ALWAYS);
    if (action == POLICY_ACTION_DENY) {
        option = option_of_kind(row, PERMISSION_OPTION_KIND_REJECT_ONCE);
        return option ? option : option_of_kind(row, PERMISSION_OPTION_KIND_REJECT_ALWAYS);
    }
    return option ? option : option_of_kind(row, PERMISSION_OPTION_KIND_ALLOW_ONCE);
}

void permission_choose(const StoredPermission *row, PolicyAction action, struct permission_verdict *v)
{
    const char *option = option_for(row, action);
    v->outcome = option ? PERMISSION_OUTCOME_SELECTED : PERMISSION_OUTCOME_CANCELLED;
    v->option_id = option ? option : "";
}

static void answer_by_deadline(struct session *s, struct permission *p)
{
    struct permission_verdict v = {
        .option_id = "", .author = "", .request_id = "", .decider = PERMISSION_DECIDER_DEADLINE};
    v.outcome = PERMISSION_OUTCOME_CANCELLED;
    v.action = ELICITATION_ACTION_CANCEL;
    if (p->row->elicitation && p->row->on_deadline == DEADLINE_ACTION_DENY) {
        v.outcome = PERMISSION_OUTCOME_SELECTED;
        v.action = ELICITATION_ACTION_DECLINE;
    } else if (!p->row->elicitation && p->row->on_deadline != DEADLINE_ACTION_CANCEL) {
        permission_choose(
            p->row,
            p->row->on_deadline == DEADLINE_ACTION_DENY ? POLICY_ACTION_DENY : POLICY_ACTION_ALLOW_ONCE, &v);
    }
    if (!p->row->elicitation)
        v.action = ELICITATION_ACTION_UNSPECIFIED;
    SA_FAULT("permission.deadline");
    permission_resolve(s, p, &v);
    clear_state(s);
}

/* ---- answer ---- */

const StoredResolution *permissions_resolution(struct session *s, const char *permission_id,
                                               struct sa_arena *arena)
{
    struct sa_id id;
    if (!sa_id_parse(permission_id, &id))
        return NULL;
    struct permission *p = find(s, id);
    if (p)
        return p->resolution;
    struct store_key key = db_key(id);
    StoredResolution *row = NULL;
    if (store_get(s->all->store, DB_RESOLUTIONS, &key, &row, NULL) <= 0)
        return NULL;
    StoredResolution *copy = NULL;
    if (!strcmp(row->session_id, s->name)) {
        copy = sa_arena_alloc(arena, sizeof *copy);
        *copy = (StoredResolution)STORED_RESOLUTION__INIT;
        copy->outcome = row->outcome;
        copy->decider = row->decider;
        copy->action = row->action;
        copy->seq = row->seq;
        copy->time_us = row->time_us;
        copy->option_id = sa_arena_strdup(arena, row->option_id);
        copy->author = sa_arena_strdup(arena, row->author);
        copy->request_id = sa_arena_strdup(arena, row->request_id);
    }
    store_message_free(row);
    return copy;
}

static int already(const char *permission_id, const StoredResolution *r, sa_error **err)
{
    if (r->decider == PERMISSION_DECIDER_POLICY)
        return sa_fail(err, SA_PERMISSION_ALREADY_ANSWERED,
                       "permission %s was answered by a rule of the policy", permission_id);
    if (r->decider == PERMISSION_DECIDER_DEADLINE)
        return sa_fail(err, SA_PERMISSION_ALREADY_ANSWERED,
                       "permission %s was answered when its deadline passed", permission_id);
    if (r->decider == PERMISSION_DECIDER_CALLER)
        return sa_fail(err, SA_PERMISSION_ALREADY_ANSWERED, "permission %s was answered by %s", permission_id,
                       r->author);
    return sa_fail(
        err, SA_PERMISSION_ALREADY_ANSWERED, "permission %s ended without an answer: %s", permission_id,
        r->outcome == PERMISSION_OUTCOME_CANCELLED ? "the turn was cancelled" : "the agent process ended");
}

/* The answer came before: the same one again is answered again. */
static int repeated(const char *permission_id, const StoredResolution *r, const struct permission_answer *a,
                    uint64_t *ret_seq, sa_error **err)
{
    if (!*a->request_id || strcmp(a->request_id, r->request_id) || strcmp(a->author, r->author))
        return already(permission_id, r, err);
    if (strcmp(a->option_id, r->option_id) || a->action != r->action)
        return sa_fail(err, SA_REQUEST_ID_REUSED, "request_id \"%s\" was used for another answer",
                       a->request_id);
    *ret_seq = r->seq;
    return 0;
}

static int check_answer(const char *permission_id, const struct permission *p,
                        const struct permission_answer *a, struct json *ret_content, sa_error **err)
{
    if (!p->row->elicitation != !a->action)
        return sa_fail(err, SA_INVALID_REQUEST, "permission %s is %s: AnswerElicitation answers only those",
                       permission_id, a->action ? "no question" : "a question");
    if (a->action == ELICITATION_ACTION_ACCEPT) {
        struct json schema;
        if (a->content_len > PERMISSIONS_CONTENT_MAX)
            return sa_fail(err, SA_INVALID_REQUEST, "content_json: over %d bytes", PERMISSIONS_CONTENT_MAX);
        if (json_check(p->row->elicitation->schema_json.data, p->row->elicitation->schema_json.len, &schema,
                       err))
            return -1;
        cleanup_error sa_error *why = NULL;
        if (json_check(a->content, a->content_len, ret_content, &why))
            return sa_fail(err, SA_INVALID_REQUEST, "content_json: %s", why->message);
        return elicitation_check_content(schema, *ret_content, err);
    }
    if (a->content_len)
        return sa_fail(err, SA_INVALID_REQUEST, "content_json: only an accepted question has it");
    for (size_t i = 0; !a->action && i < p->row->n_options; i++)
        if (!strcmp(p->row->options[i]->option_id, a->option_id))
            return 0;
    return a->action ? 0
                     : sa_fail(err, SA_INVALID_REQUEST,
                               "option_id \"%.64s\" is none of the options of permission %s", a->option_id,
                               permission_id);
}

int permissions_answer(struct session *s, const char *permission_id, const struct permission_answer *a,
                       uint64_t *ret_seq, sa_error **err)
{
    struct sa_id id;
    if (!sa_id_parse(permission_id, &id))
        return sa_fail(err, SA_PERMISSION_NOT_FOUND, "permission_id \"%.64s\" is not an id", permission_id);
    struct permission *p = find(s, id);
    if (!p || p->resolution) {
        struct sa_arena *arena = sa_arena_new();
        const StoredResolution *r = permissions_resolution(s, permission_id, arena);
        int failed = r ? repeated(permission_id, r, a, ret_seq, err)
                       : sa_fail(err, SA_PERMISSION_NOT_FOUND, "session %s has no permission request %s",
                                 s->name, permission_id);
        sa_arena_free(arena);
        return failed;
    }
    struct permission_verdict v = {.outcome = PERMISSION_OUTCOME_SELECTED,
                                   .option_id = a->option_id,
                                   .author = a->author,
                                   .request_id = a->request_id,
                                   .decider = PERMISSION_DECIDER_CALLER,
                                   .action = a->action};
    if (check_answer(permission_id, p, a, &v.content, err))
        return -1;
    if (a->action == ELICITATION_ACTION_CANCEL)
        v.outcome = PERMISSION_OUTCOME_CANCELLED;
    *ret_seq = permission_resolve(s, p, &v);
    clear_state(s);
    permissions_arm(s);
    return 0;
}

/* The request that waits. */
static struct permission *find_waiting(struct session *s, const char *permission_id, sa_error **err)
{
    struct sa_id id;
    struct permission *p = sa_id_parse(permission_id, &id) ? find(s, id) : NULL;
    struct sa_arena *arena = sa_arena_new();
    const StoredResolution *r = permissions_resolution(s, permission_id, arena);
    if (r)
        already(permission_id, r, err);
    else if (!p)
        sa_fail(err, SA_PERMISSION_NOT_FOUND, "session %s has no permission request \"%.64s\"", s->name,
                permission_id);
    sa_arena_free(arena);
    return r ? NULL : p;
}

static uint64_t tell_deadline(struct session *s, const char *permission_id, const StoredPermission *row,
                              const char *author)
{
    DeadlineChanged told = DEADLINE_CHANGED__INIT;
    Google__Protobuf__Timestamp at = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    at.seconds = row->deadline_us / 1000000;
    at.nanos = (int32_t)(row->deadline_us % 1000000) * 1000;
    told.permission_id = (char *)(uintptr_t)permission_id;
    told.deadline = row->deadline_us ? &at : NULL;
    told.on_deadline = row->on_deadline;
    told.author = (char *)(uintptr_t)author;
    Event e = EVENT__INIT;
    e.turn = row->turn;
    e.kind_case = EVENT__KIND_DEADLINE_CHANGED;
    e.deadline_changed = &told;
    return session_event(s, &e);
}

int permissions_set_deadline(struct session *s, const char *permission_id,
                             const struct permission_deadline *d, uint64_t *ret_seq, sa_error **err)
{
    struct permission *p = find_waiting(s, permission_id, err);
    if (!p)
        return -1;
    if (*d->request_id && !strcmp(d->request_id, p->row->deadline_request_id)) {
        *ret_seq = p->row->deadline_seq;
        return 0;
    }
    struct store_key key = db_key(p->id);
    cleanup_message StoredPermission *stored = NULL; /* with the content */
    int found = store_get(s->all->store, DB_PERMISSIONS, &key, &stored, err);
    if (found <= 0)
        return found < 0
                   ? -1
                   : sa_fail(err, SA_PERMISSION_NOT_FOUND, "permission %s is not there yet", permission_id);
    StoredPermission row = *stored;
    row.deadline_us = d->ms ? sa_wall_us() + (int64_t)d->ms * 1000 : 0;
    row.on_deadline = d->ms ? d->action : DEADLINE_ACTION_UNSPECIFIED;
    row.deadline_request_id = (char *)(uintptr_t)d->request_id;
    row.deadline_seq = *ret_seq = tell_deadline(s, permission_id, &row, d->author);
    store_put(session_set(s), DB_PERMISSIONS, &key, &row.base);
    rpc_message_free(p->row);
    p->row = without_content(&row);
    permission_changed(s, p);
    permissions_arm(s);
    return 0;
}
