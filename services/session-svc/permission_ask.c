/* An agent asks: what for, by what is known of the tool call, and whether a rule decides. */
#include <string.h>

#include "adapters/os/fault.h"
#include "adapters/os/sha256.h"
#include "services/session-svc/api.h"
#include "services/session-svc/elicitation.h"
#include "services/session-svc/permissions.h"
#include "services/session-svc/permissions_internal.h"
#include "services/session-svc/policy.h"
#include "services/session-svc/requests.h"
#include "services/session-svc/sessions.h"
#include "services/session-svc/tools.h"

enum { INVALID_PARAMS = -32602, TITLE_MAX = 4096 };

/* That of the session's policy, else that of the server's. */
static void set_deadline(struct session *s, StoredPermission *row)
{
    const PermissionPolicy *p = s->policy && s->policy->deadline_ms ? s->policy : s->all->policy;
    if (!p || !p->deadline_ms)
        return;
    row->deadline_us = row->create_time_us + (int64_t)p->deadline_ms * 1000;
    row->on_deadline = p->on_deadline;
}

/* True: a rule has decided. */
static bool decide(struct session *s, struct permission *p, const struct policy_facts *facts)
{
    struct policy_decision d = policy_decide(s->policy, s->all->policy, facts);
    DecidingRule rule = DECIDING_RULE__INIT;
    struct permission_verdict v = {
        .option_id = "", .author = "", .request_id = "", .decider = PERMISSION_DECIDER_POLICY};
    if (!d.rule || d.action == POLICY_ACTION_ASK)
        return false;
    permission_choose(p->row, d.action, &v);
    if (v.outcome == PERMISSION_OUTCOME_CANCELLED && d.action != POLICY_ACTION_DENY)
        return false; /* the agent has no such option: somebody is to see that */
    rule.of_server = d.of_server;
    rule.index = d.index;
    rule.rule = (PolicyRule *)(uintptr_t)d.rule;
    v.rule = &rule;
    SA_FAULT("permission.policy");
    permission_resolve(s, p, &v);
    return true;
}

/* ---- ask ---- */

bool permissions_know(const char *method)
{
    return !strcmp(method, "session/request_permission") || !strcmp(method, "elicitation/create");
}

static char *digest_of(struct sa_arena *arena, struct json v)
{
    struct sa_sha256 sum;
    char text[SA_SHA256_TEXT + 1];
    sa_sha256_init(&sum);
    sa_sha256_add(&sum, v.p, v.n);
    sa_sha256_end_text(&sum, text);
    return sa_arena_strdup(arena, text);
}

/* An event with what was asked; its number. The message itself is kept where it is small enough. */
static uint64_t tell_asked(struct session *s, const struct acp_message *m, const StoredPermission *row,
                           char *id, struct sa_arena *arena)
{
    Event e = EVENT__INIT;
    PermissionRequested requested = PERMISSION_REQUESTED__INIT;
    ElicitationRequested question = ELICITATION_REQUESTED__INIT;
    Google__Protobuf__Timestamp *deadline = row->deadline_us ? api_timestamp(arena, row->deadline_us) : NULL;
    if (row->elicitation) {
        question.permission_id = id;
        question.elicitation = row->elicitation;
        question.deadline = deadline;
        question.on_deadline = row->on_deadline;
        e.kind_case = EVENT__KIND_ELICITATION_REQUESTED;
        e.elicitation_requested = &question;
    } else {
        requested.permission_id = id;
        requested.tool_call = row->tool_call;
        requested.options = row->options;
        requested.n_options = row->n_options;
        requested.arguments_sha256 = row->arguments_sha256;
        requested.deadline = deadline;
        requested.on_deadline = row->on_deadline;
        e.kind_case = EVENT__KIND_PERMISSION_REQUESTED;
        e.permission_requested = &requested;
    }
    if (event__get_packed_size(&e) > ACP_EVENT_MAX / 2 && row->tool_call) { /* content without end */
        row->tool_call->n_content = 0;
        row->tool_call->title =
            rpc_utf8(arena, row->tool_call->title, strnlen(row->tool_call->title, TITLE_MAX));
    }
    if (m->raw.n <= ACP_RAW_MAX) {
        e.agent_json = (ProtobufCBinaryData){m->raw.n, (uint8_t *)(uintptr_t)m->raw.p};
        e.protocol_version = ACP_VERSION;
    }
    return session_event(s, &e);
}

static struct permission *ask(struct session *s, struct sa_arena *arena, const struct pending *pending,
                              const struct acp_message *m, StoredPermission *row)
{
    char id[SA_ID_TEXT + 1];
    sa_id_format(pending->permission, id);
    row->session_id = s->name;
    row->turn = s->current_turn;
    row->create_time_us = sa_wall_us();
    row->offset = pending->offset;
    set_deadline(s, row);
    row->seq = tell_asked(s, m, row, id, arena);
    struct store_key key = db_key(pending->permission);
    store_put(session_set(s), DB_PERMISSIONS, &key, &row->base);
    SA_FAULT("permission.ask");
    struct permission *p = permission_add(s, pending->permission, row);
    permission_changed(s, p);
    return p;
}

static void wait_for_answer(struct session *s)
{
    session_move(s, STATE_PERMISSION_ASKED, NULL, NULL);
    permissions_arm(s);
}

static void ask_permission(struct session *s, struct sa_arena *arena, struct pending *pending,
                           const struct acp_message *m)
{
    struct json call = json_get(m->params, "toolCall"), input = json_get(call, "rawInput");
    struct store_key key = db_key(s->id);
    cleanup_message StoredSpec *spec = NULL;
    struct policy_facts facts = {.paths_cut = true, .cwd = "/"};
    const char *title;
    StoredPermission row = STORED_PERMISSION__INIT;
    row.tool_call = acp_tool_call(arena, call);
    row.options = acp_permission_options(arena, json_get(m->params, "options"), &row.n_options);
    row.arguments_sha256 = digest_of(arena, input.n ? input : call);
    tools_facts(s, call, &facts, &title);
    if (!*row.tool_call->title)
        row.tool_call->title = rpc_utf8(arena, title, strnlen(title, TITLE_MAX));
    if (!*row.tool_call->tool_kind && facts.kind)
        row.tool_call->tool_kind = rpc_utf8(arena, facts.kind, strnlen(facts.kind, TITLE_MAX));
    if (store_get(s->all->store, DB_SPECS, &key, &spec, NULL) > 0)
        facts.cwd = rpc_utf8(arena, spec->cwd.data, spec->cwd.len);
    else
        facts.paths_cut = true; /* relative to what? */
    struct permission *p = ask(s, arena, pending, m, &row);
    if (!decide(s, p, &facts))
        wait_for_answer(s);
}

static void ask_question(struct session *s, struct sa_arena *arena, struct pending *pending,
                         const struct acp_message *m)
{
    struct json schema = json_get(m->params, "requestedSchema");
    cleanup_error sa_error *err = NULL;
    if (!json_is(json_get(m->params, "mode"), "form"))
        sa_fail(&err, SA_INVALID_REQUEST, "mode: is not form");
    if (err || elicitation_check_schema(schema, &err)) {
        session_event(s, m->event);
        requests_refuse(s, pending, INVALID_PARAMS, err->message);
        return;
    }
    Elicitation question = ELICITATION__INIT;
    const char *message = json_arena_string(arena, json_get(m->params, "message"));
    question.message = rpc_utf8(arena, message, strnlen(message, PERMISSIONS_CONTENT_MAX));
    question.schema_json = (ProtobufCBinaryData){schema.n, (uint8_t *)(uintptr_t)schema.p};
    question.tool_call_id = json_arena_string(arena, json_get(m->params, "toolCallId"));
    StoredPermission row = STORED_PERMISSION__INIT;
    row.elicitation = &question;
    ask(s, arena, pending, m, &row);
    wait_for_answer(s);
}

void permissions_ask(struct session *s, struct sa_arena *arena, struct pending *pending,
                     const struct acp_message *m)
{
    if (!strcmp(m->method, "elicitation/create"))
        ask_question(s, arena, pending, m);
    else
        ask_permission(s, arena, pending, m);
}
