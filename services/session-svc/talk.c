#include "services/session-svc/talk.h"

#include <string.h>

#include "adapters/os/fault.h"
#include "adapters/os/log.h"
#include "services/session-svc/acp_read.h"
#include "services/session-svc/acp_report.h"
#include "services/session-svc/acp_write.h"
#include "services/session-svc/blob_lines.h"
#include "services/session-svc/config.h"
#include "services/session-svc/config_store.h"
#include "services/session-svc/fork.h"
#include "services/session-svc/mask.h"
#include "services/session-svc/report.h"
#include "services/session-svc/requests.h"
#include "services/session-svc/sessions.h"
#include "services/session-svc/tools.h"
#include "services/session-svc/turns.h"

const char *talk_agent(const struct session *s)
{
    return s->agent ? s->agent->name : "(unknown)";
}

const char *talk_awaited(const struct session *s)
{
    const struct link *l = &s->link;
    return l->n_requests ? l->requests[0].method : "initialize";
}

/* ---- our requests ---- */

uint64_t talk_request_id(struct session *s, const char *method)
{
    struct link *l = &s->link;
    if (l->n_requests == LINK_REQUESTS_MAX) /* cannot be: a phase and a turn send one each */
        memmove(l->requests, l->requests + 1, --l->n_requests * sizeof *l->requests);
    l->requests[l->n_requests].id = ++l->last_request_id;
    snprintf(l->requests[l->n_requests].method, sizeof l->requests[0].method, "%s", method);
    l->n_requests++;
    session_changed(s);
    return l->last_request_id;
}

/* The method of an answered request goes to method; false: it is none of ours. */
static bool take_request(struct session *s, uint64_t id, char method[LINK_METHOD_MAX])
{
    struct link *l = &s->link;
    for (size_t i = 0; i < l->n_requests; i++)
        if (l->requests[i].id == id) {
            memcpy(method, l->requests[i].method, sizeof l->requests[i].method);
            memmove(l->requests + i, l->requests + i + 1, (--l->n_requests - i) * sizeof *l->requests);
            session_changed(s);
            return true;
        }
    return false;
}

void talk_initialize(struct session *s)
{
    cleanup_buf struct sa_buf out = {0};
    acp_initialize(&out, talk_request_id(s, "initialize"), !s->agent->no_files);
    link_send(s, &out);
}

void talk_prompt(struct session *s, ContentBlock *const *content, size_t n, const struct sa_buf *context)
{
    cleanup_buf struct sa_buf out = {0};
    acp_prompt(&out, talk_request_id(s, "session/prompt"), s->agent_session_id, content, n, context);
    link_send(s, &out);
}

void talk_cancel(struct session *s)
{
    cleanup_buf struct sa_buf out = {0};
    acp_cancel(&out, s->agent_session_id);
    link_send(s, &out);
}

static void enter(struct session *s, AgentPhase phase)
{
    s->link.phase = phase;
    session_changed(s);
    link_arm_deadline(s);
}

static void fail(struct session *s, struct sa_arena *arena, enum sa_reason reason, const char *what)
{
    const char *message =
        sa_arena_format(arena, "agent %s: %s%s", talk_agent(s), what, link_error_tail(s, arena));
    link_end(s, true, sa_reason_name(reason), message);
}

/* ---- opening the conversation ---- */

static const char *open_method(RestoreMethod m)
{
    return m == RESTORE_METHOD_RESUME ? "session/resume"
           : m == RESTORE_METHOD_LOAD ? "session/load"
           : m == RESTORE_METHOD_FORK ? "session/fork"
                                      : "session/new";
}

static void open_with(struct session *s, RestoreMethod method)
{
    struct store_key key = db_key(s->id);
    cleanup_message StoredSpec *spec = NULL;
    cleanup_error sa_error *err = NULL;
    if (store_get(s->all->store, DB_SPECS, &key, &spec, &err) <= 0) {
        link_end(s, true, sa_reason_name(SA_STORE_ERROR), "the session's specification cannot be read");
        return;
    }
    s->link.open_method = method;
    const char *name = open_method(method);
    cleanup_buf struct sa_buf servers = {0};
    if (mcp_servers(s, spec, &servers, &err)) {
        link_end(s, true, err->reason, err->message);
        return;
    }
    cleanup_buf struct sa_buf out = {0};
    acp_open_session(&out, talk_request_id(s, name), name, spec->cwd.data, spec->cwd.len,
                     method == RESTORE_METHOD_NEW    ? ""
                     : method == RESTORE_METHOD_FORK ? s->fork->agent_session_id
                                                     : s->agent_session_id,
                     (struct json){(const char *)servers.data, servers.len});
    enter(s, AGENT_PHASE_OPENING);
    link_send(s, &out);
}

/* The best method after `tried` (UNSPECIFIED: none) that the agent offers. */
static void open_next(struct session *s, RestoreMethod tried)
{
    bool known = *s->agent_session_id;
    if (known && s->link.can_resume && tried == RESTORE_METHOD_UNSPECIFIED)
        open_with(s, RESTORE_METHOD_RESUME);
    else if (known && s->link.can_load && tried != RESTORE_METHOD_LOAD)
        open_with(s, RESTORE_METHOD_LOAD);
    else if (!known && tried == RESTORE_METHOD_UNSPECIFIED && fork_by_agent(s))
        open_with(s, RESTORE_METHOD_FORK);
    else
        open_with(s, RESTORE_METHOD_NEW);
}

static void initialized(struct session *s, struct sa_arena *arena, const struct acp_message *m)
{
    int64_t version = 0;
    if (m->error.n) {
        fail(s, arena, SA_AGENT_ERROR, acp_error_text(arena, m->error));
        return;
    }
    json_int(json_get(m->result, "protocolVersion"), &version);
    if (version != ACP_VERSION) {
        fail(s, arena, SA_AGENT_PROTOCOL_ERROR,
             sa_arena_format(arena, "it speaks version %lld of the protocol; asked was %d",
                             (long long)version, ACP_VERSION));
        return;
    }
    SA_FAULT("talk.initialized");
    AgentCapabilities report = AGENT_CAPABILITIES__INIT;
    acp_report_initialize(arena, m->result, &report);
    report_initialized(s, arena, &report);
    s->link.mcp_http = report.mcp_http;
    s->link.mcp_sse = report.mcp_sse;
    s->link.can_load = report.load && !(s->agent && s->agent->no_load);
    s->link.can_resume = report.resume && !(s->agent && s->agent->no_resume);
    struct json fork = json_get(m->result, "agentCapabilities.sessionCapabilities.fork");
    s->can_fork = json_type(fork) == JSON_OBJECT || json_true(fork);
    open_next(s, RESTORE_METHOD_UNSPECIFIED);
}

static void tell_restored(struct session *s, RestoreMethod method)
{
    Restored restored = RESTORED__INIT;
    restored.method = method;
    Event e = EVENT__INIT;
    e.kind_case = EVENT__KIND_RESTORED;
    e.restored = &restored;
    session_event(s, &e);
}

static void ready(struct session *s)
{
    struct sa_arena *arena = sa_arena_new();
    config_settled(s, arena);
    enter(s, AGENT_PHASE_READY);
    session_move(s, STATE_AGENT_READY, NULL, NULL);
    link_arm_idle(s);
    sa_arena_free(arena);
}

void talk_configure(struct session *s)
{
    bool asked = config_next(s);
    if (s->link.phase == AGENT_PHASE_READY) {
        link_arm_deadline(s);
        link_arm_idle(s);
    } else if (asked) {
        enter(s, AGENT_PHASE_CONFIGURING);
    } else {
        ready(s);
    }
}

static void session_opened(struct session *s, struct sa_arena *arena, const struct acp_message *m)
{
    struct link *l = &s->link;
    RestoreMethod method = l->open_method;
    SA_FAULT("talk.opened");
    bool needed = method == RESTORE_METHOD_FORK && s->fork->method == FORK_METHOD_AGENT;
    if (m->error.n && method != RESTORE_METHOD_NEW && !needed) {
        sa_log(SA_LOG_INFO, "agent.restore_failed", "session=%s method=%s", s->name, open_method(method));
        open_next(s, method);
        return;
    }
    if (m->error.n) {
        fail(s, arena, SA_AGENT_ERROR, acp_error_text(arena, m->error));
        return;
    }
    if (method == RESTORE_METHOD_NEW || method == RESTORE_METHOD_FORK) {
        char *id = json_arena_string(arena, json_get(m->result, "sessionId"));
        if (!*id || strlen(id) > 1024) {
            fail(s, arena, SA_AGENT_PROTOCOL_ERROR, "its answer has no sessionId");
            return;
        }
        bool forked = method == RESTORE_METHOD_FORK;
        s->replay_history = s->has_history && !forked;
        if (s->has_history)
            tell_restored(s, forked ? RESTORE_METHOD_FORK : RESTORE_METHOD_REPLAY);
        session_set_text(&s->agent_session_id, id);
    } else {
        tell_restored(s, method);
    }
    report_opened(s, arena, m->result);
    config_opened(s, arena, m->result);
    talk_configure(s);
}

static void configured(struct session *s, struct sa_arena *arena, const struct acp_message *m)
{
    config_answered(s, arena, m);
    talk_configure(s);
}

static void prompt_answered(struct session *s, struct sa_arena *arena, const struct acp_message *m)
{
    if (m->error.n) {
        turns_end(s, STOP_REASON_ERROR, sa_reason_name(SA_AGENT_ERROR), acp_error_text(arena, m->error),
                  m->raw);
        return;
    }
    turns_end(s, acp_stop_reason(json_get(m->result, "stopReason")), "", "", m->raw);
}

/* ---- messages ---- */

static void response(struct session *s, struct sa_arena *arena, const struct acp_message *m)
{
    static const struct {
        const char *method;
        void (*answered)(struct session *s, struct sa_arena *arena, const struct acp_message *m);
    } answers[] = {
        {"initialize", initialized},         {"session/new", session_opened},
        {"session/load", session_opened},    {"session/resume", session_opened},
        {"session/fork", session_opened},    {"session/set_mode", configured},
        {"session/set_model", configured},   {"session/set_config_option", configured},
        {"session/prompt", prompt_answered},
    };
    char method[LINK_METHOD_MAX];
    if (!take_request(s, m->request_id, method)) {
        Unknown unknown = UNKNOWN__INIT;
        unknown.name = sa_arena_strdup(arena, "response");
        Event e = EVENT__INIT;
        e.kind_case = EVENT__KIND_UNKNOWN;
        e.unknown = &unknown;
        acp_keep_raw(arena, &e, "response", m->raw);
        session_event(s, &e);
        return;
    }
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
        if (!strcmp(answers[i].method, method))
            answers[i].answered(s, arena, m);
}

static void update(struct session *s, struct sa_arena *arena, const struct acp_message *m)
{
    /* Between session/load and its answer the agent tells the history again: the log has it. */
    if (s->link.phase == AGENT_PHASE_OPENING && s->link.open_method == RESTORE_METHOD_LOAD)
        return;
    bool config =
        m->event->kind_case == EVENT__KIND_MODE_CHANGED || m->event->kind_case == EVENT__KIND_CONFIG_CHANGED;
    if (config && !config_reported(s, arena, m))
        return;
    if (m->event->kind_case == EVENT__KIND_USAGE)
        usage_reported(&s->usage, m->event->usage, s->link.incarnation);
    bool begins = m->event->kind_case == EVENT__KIND_TOOL_CALL;
    if (begins || m->event->kind_case == EVENT__KIND_TOOL_CALL_UPDATE)
        tools_note(s, json_get(m->params, "update"), begins);
    session_event(s, m->event);
}

void talk_line(struct session *s, struct sa_arena *arena, const struct line *line)
{
    struct acp_message m;
    if (!line->n)
        return;
    acp_read(arena, line->p, line->n, &m);
    if (m.kind != ACP_REQUEST || !strcmp(m.method, "session/request_permission")) {
        /* Only told. What another request asks for is done as it came; its event is masked (mask_event). */
        uint8_t *copy = sa_arena_memdup(arena, line->p, line->n);
        if (mask_bytes(s, copy, line->n))
            acp_read(arena, copy, line->n, &m);
    }
    if (s->link.blobs && m.kind == ACP_UPDATE)
        blob_line_attach(arena, m.event, s->link.blobs);
    switch (m.kind) {
    case ACP_RESPONSE:
        response(s, arena, &m);
        break;
    case ACP_REQUEST:
        requests_take(s, arena, &m, line->offset);
        break;
    case ACP_UPDATE:
        update(s, arena, &m);
        break;
    case ACP_NOTIFICATION:
    case ACP_NOT_JSON_RPC:
        session_event(s, m.event);
        break;
    }
}
