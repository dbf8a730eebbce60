#include "services/session-svc/session.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/os/log.h"
#include "services/session-svc/api.h"
#include "services/session-svc/budget.h"
#include "services/session-svc/config.h"
#include "services/session-svc/follow.h"
#include "services/session-svc/fork.h"
#include "services/session-svc/mask.h"
#include "services/session-svc/permissions.h"
#include "services/session-svc/policies.h"
#include "services/session-svc/prepare.h"
#include "services/session-svc/profile.h"
#include "services/session-svc/registry.h"
#include "services/session-svc/requests.h"
#include "services/session-svc/sessions.h"
#include "services/session-svc/terminals.h"
#include "services/session-svc/tools.h"
#include "services/session-svc/turns.h"

void session_set_text(char **field, const char *value)
{
    char *copy = sa_strdup(value ? value : "");
    free(*field);
    *field = copy;
}

struct session *session_new(struct sessions *all, struct sa_id id)
{
    struct session *s = sa_calloc(1, sizeof *s);
    s->all = all;
    s->id = id;
    s->batch = 1;
    sa_id_format(id, s->name);
    char **texts[] = {&s->state_reason,  &s->state_message,    &s->canceller,       &s->mode_id,   &s->model,
                      &s->thought_level, &s->agent_session_id, &s->link.process_id, &s->agent_name};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        session_set_text(texts[i], "");
    link_init(s);
    return s;
}

/* Everything decided. */
static void clear(struct session *s)
{
    prepare_abandon(s);
    link_fini(s);
    turns_clear(s);
    config_clear(s);
    profile_clear(s);
    fork_clear(s);
    permissions_clear(s);
    terminals_clear(s);
    tools_clear(s);
    policies_clear(&s->policy, &s->policy_request_id);
    mask_clear(s);
    for (struct condemned *c = s->condemned, *next; c; c = next) {
        next = c->next;
        rpc_abandon(c->deletion);
        free(c->process_id);
        free(c);
    }
    s->condemned = NULL;
}

void session_free(struct session *s)
{
    if (!s)
        return;
    cleanup_error sa_error *err = NULL;
    sa_fail(&err, SA_DRAINING, "the service stops");
    batch_drop_all(s, err);
    clear(s);
    sa_timer_free(s->retry);
    sa_timer_free(s->log.timer);
    free(s->create_key);
    window_clear(&s->window);
    char *texts[] = {s->state_reason,  s->state_message,    s->canceller,       s->mode_id,   s->model,
                     s->thought_level, s->agent_session_id, s->link.process_id, s->agent_name};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        free(texts[i]);
    free(s);
}

/* ---- the stored row ---- */

static void take_link(struct link *l, const StoredSession *row)
{
    l->incarnation = row->incarnation;
    l->phase = row->phase;
    session_set_text(&l->process_id, row->process_id);
    l->doomed = row->doomed;
    l->stdout_offset = l->committed_stdout = row->stdout_offset;
    l->stderr_offset = row->stderr_offset;
    l->stdin_end = row->stdin_end;
    l->last_request_id = row->last_request_id;
    l->can_load = row->can_load;
    l->can_resume = row->can_resume;
    l->mcp_http = row->mcp_http;
    l->mcp_sse = row->mcp_sse;
    l->open_method = row->open_method;
    for (size_t i = 0; i < row->n_requests && i < LINK_REQUESTS_MAX; i++, l->n_requests++) {
        l->requests[i].id = row->requests[i]->id;
        snprintf(l->requests[i].method, sizeof l->requests[i].method, "%s", row->requests[i]->method);
    }
    lines_init(&l->out, l->out.limit, l->stdout_offset);
    lines_init(&l->errors, LINK_STDERR_LINE_MAX, l->stderr_offset);
    if (row->skip && row->skip->sha256_state.len == SA_SHA256_SAVED) {
        l->out.skipping = true;
        l->out.skip_size = row->skip->size;
        sa_sha256_load(&l->out.skip_sum, row->skip->sha256_state.data);
        size_t n = row->skip->head.len < LINES_HEAD_MAX ? row->skip->head.len : LINES_HEAD_MAX;
        sa_buf_add(&l->out.head, row->skip->head.data, n);
    }
}

static void take_row(struct session *s, const StoredSession *row)
{
    s->state = s->committed_state = row->state;
    session_set_text(&s->state_reason, row->state_reason);
    session_set_text(&s->state_message, row->state_message);
    s->head_seq = s->committed_seq = row->head_seq;
    s->first_seq = s->committed_first = row->first_seq;
    retention_take_row(s, row);
    s->last_turn = row->last_turn;
    s->current_turn = row->current_turn;
    s->cancelling = row->cancelling;
    session_set_text(&s->canceller, row->canceller);
    session_set_text(&s->mode_id, row->mode_id);
    session_set_text(&s->agent_session_id, row->agent_session_id);
    s->has_history = row->has_history;
    s->replay_history = row->replay_history;
    s->change_time_us = row->change_time_us;
    for (size_t i = 0; i < row->n_condemned; i++) {
        struct condemned *c = sa_calloc(1, sizeof *c);
        c->process_id = sa_strdup(row->condemned[i]);
        c->next = s->condemned;
        s->condemned = c;
    }
    budget_load(s, row);
    fork_load(s, row);
    s->resume_wanted = row->resume_wanted;
    s->can_fork = row->can_fork;
    take_link(&s->link, row);
}

static void fill_link(const struct link *l, StoredSession *row, struct sa_arena *arena)
{
    row->incarnation = l->incarnation;
    row->phase = l->phase;
    row->process_id = l->process_id;
    row->doomed = l->doomed;
    row->stdout_offset = l->stdout_offset;
    row->stderr_offset = l->stderr_offset;
    row->stdin_end = l->stdin_end;
    row->last_request_id = l->last_request_id;
    row->can_load = l->can_load;
    row->can_resume = l->can_resume;
    row->mcp_http = l->mcp_http;
    row->mcp_sse = l->mcp_sse;
    row->open_method = l->open_method;
    row->requests = sa_arena_alloc(arena, LINK_REQUESTS_MAX * sizeof *row->requests);
    for (size_t i = 0; i < l->n_requests; i++) {
        StoredRequest *r = sa_arena_alloc(arena, sizeof *r);
        *r = (StoredRequest)STORED_REQUEST__INIT;
        r->id = l->requests[i].id;
        r->method = (char *)(uintptr_t)l->requests[i].method;
        row->requests[row->n_requests++] = r;
    }
    if (!l->out.skipping)
        return;
    row->skip = sa_arena_alloc(arena, sizeof *row->skip);
    *row->skip = (StoredSkip)STORED_SKIP__INIT;
    row->skip->size = l->out.skip_size;
    uint8_t *saved = sa_arena_alloc(arena, SA_SHA256_SAVED);
    sa_sha256_save(&l->out.skip_sum, saved);
    row->skip->sha256_state = (ProtobufCBinaryData){SA_SHA256_SAVED, saved};
    row->skip->head = (ProtobufCBinaryData){l->out.head.len, l->out.head.data};
}

void session_fill_row(const struct session *s, StoredSession *row, struct sa_arena *arena)
{
    row->state = s->state;
    row->state_reason = s->state_reason;
    row->state_message = s->state_message;
    row->head_seq = s->head_seq;
    row->first_seq = s->first_seq;
    retention_fill_row(s, row, arena);
    row->last_turn = s->last_turn;
    row->current_turn = s->current_turn;
    row->cancelling = s->cancelling;
    row->canceller = s->canceller;
    row->mode_id = s->mode_id;
    row->agent_session_id = s->agent_session_id;
    row->has_history = s->has_history;
    row->replay_history = s->replay_history;
    row->change_time_us = s->change_time_us;
    row->pending_permissions = permissions_waiting(s);
    row->doomed_terminals = terminals_doomed(s);
    row->queued_turns = turns_queued(s, arena, &row->n_queued_turns);
    size_t n = 0;
    for (struct condemned *c = s->condemned; c; c = c->next)
        n++;
    row->condemned = sa_arena_alloc(arena, (n + 1) * sizeof *row->condemned);
    for (struct condemned *c = s->condemned; c; c = c->next)
        row->condemned[row->n_condemned++] = c->process_id;
    config_fill_row(s, row, arena);
    budget_fill_row(s, row, arena);
    row->fork = s->fork;
    row->resume_wanted = s->resume_wanted;
    row->can_fork = s->can_fork;
    fill_link(&s->link, row, arena);
}

int session_load(struct session *s, sa_error **err)
{
    clear(s);
    link_init(s);
    struct store_key key = db_key(s->id);
    cleanup_message StoredSession *row = NULL;
    cleanup_message StoredSpec *spec = NULL;
    int found = store_get(s->all->store, DB_SESSIONS, &key, &row, err);
    if (found <= 0)
        return found;
    found = store_get(s->all->store, DB_SPECS, &key, &spec, err);
    if (found <= 0)
        return found < 0 ? -1 : sa_fail(err, SA_STORE_CORRUPT, "session %s has no specification", s->name);
    s->agent = registry_find(s->all, spec->agent, NULL);
    session_set_text(&s->agent_name, spec->agent);
    mask_load(s, spec->env, spec->n_env);
    take_row(s, row);
    s->committed_batch = s->batch++; /* all that is here is true */
    if (turns_load(s, row, err) || config_load(s, row, err) || profile_load(s, spec, err) ||
        requests_load(s, err) || link_load_outbox(s, err) || terminals_load(s, err) ||
        policies_load(s->all, s, err))
        return -1;
    return 1;
}

/* ---- for callers ---- */

static ProtobufCBinaryData copy_bytes(struct sa_arena *arena, ProtobufCBinaryData b)
{
    return (ProtobufCBinaryData){b.len, sa_arena_memdup(arena, b.data, b.len)};
}

static void describe_spec(Session *out, const StoredSpec *spec, struct sa_arena *arena)
{
    out->agent = sa_arena_strdup(arena, spec->agent);
    out->cwd = copy_bytes(arena, spec->cwd);
    out->creator = sa_arena_strdup(arena, spec->creator);
    out->create_time = api_timestamp(arena, spec->create_time_us);
}

static void describe_profile(Session *out, const StoredProfile *p, struct sa_arena *arena)
{
    out->title = sa_arena_strdup(arena, p->title);
    out->etag = sa_arena_format(arena, "%llu", (unsigned long long)p->version);
    if (p->archive_time_us)
        out->archive_time = api_timestamp(arena, p->archive_time_us);
    out->labels = sa_arena_alloc(arena, (p->n_labels + 1) * sizeof *out->labels);
    for (size_t i = 0; i < p->n_labels; i++) {
        Session__LabelsEntry *e = sa_arena_alloc(arena, sizeof *e);
        *e = (Session__LabelsEntry)SESSION__LABELS_ENTRY__INIT;
        e->key = sa_arena_strdup(arena, p->labels[i]->key);
        e->value = sa_arena_strdup(arena, p->labels[i]->value);
        out->labels[out->n_labels++] = e;
    }
}

Session *session_describe(struct sessions *all, struct sa_id id, struct sa_arena *arena, sa_error **err)
{
    struct store_key key = db_key(id);
    cleanup_message StoredSession *row = NULL;
    cleanup_message StoredSpec *spec = NULL;
    int found = store_get(all->store, DB_SPECS, &key, &spec, err);
    if (found > 0)
        found = store_get(all->store, DB_SESSIONS, &key, &row, err);
    char name[SA_ID_TEXT + 1];
    sa_id_format(id, name);
    if (found == 0)
        sa_fail(err, SA_SESSION_NOT_FOUND, "session %s does not exist", name);
    cleanup_message StoredProfile *profile = found > 0 ? profile_read(all, id, spec, err) : NULL;
    if (!profile)
        return NULL;
    Session *out = sa_arena_alloc(arena, sizeof *out);
    *out = (Session)SESSION__INIT;
    out->session_id = sa_arena_strdup(arena, name);
    describe_spec(out, spec, arena);
    describe_profile(out, profile, arena);
    budget_describe(out, row, profile, arena);
    out->idle_suspend_ms = profile_idle_ms(all, profile);
    if (row->fork) {
        out->parent_session_id = sa_arena_strdup(arena, row->fork->parent_session_id);
        out->parent_seq = row->fork->parent_seq;
    }
    out->state = row->state;
    out->state_reason = sa_arena_strdup(arena, row->state_reason);
    out->state_message = sa_arena_strdup(arena, row->state_message);
    out->head_seq = row->head_seq;
    out->first_seq = row->first_seq;
    out->epoch = all->epoch_text;
    out->current_turn = row->current_turn;
    out->last_turn = row->last_turn;
    out->queued_prompts = (uint32_t)row->n_queued_turns;
    out->agent_session_id = sa_arena_strdup(arena, row->agent_session_id);
    out->process_id = sa_arena_strdup(arena, row->process_id);
    out->pending_permissions = row->pending_permissions;
    out->mode_id = sa_arena_strdup(arena, row->mode_id);
    out->model = sa_arena_strdup(arena, row->model);
    out->thought_level = sa_arena_strdup(arena, row->thought_level);
    out->retention = retention_describe(all, row, arena);
    return out;
}

/* ---- state ---- */

void session_move(struct session *s, enum state_event event, const char *reason, const char *message)
{
    SessionState next = state_next(s->state, event);
    if (next == s->state)
        return;
    s->state = next;
    session_set_text(&s->state_reason, reason);
    session_set_text(&s->state_message, message);
    mask_text(s, s->state_message);
    SessionStateChanged changed = SESSION_STATE_CHANGED__INIT;
    changed.state = next;
    changed.reason = s->state_reason;
    changed.message = s->state_message;
    Event e = EVENT__INIT;
    e.kind_case = EVENT__KIND_STATE_CHANGED;
    e.state_changed = &changed;
    session_event(s, &e);
    sa_log(SA_LOG_INFO, "session.state", "session=%s state=%d reason=%s", s->name, (int)next,
           s->state_reason);
}

void session_take_up(struct session *s)
{
    if (s->state == SESSION_STATE_STARTING && s->link.phase == AGENT_PHASE_NONE)
        link_start(s); /* created, and then we were gone */
    link_arm_deadline(s);
    link_arm_cancel(s);
    link_arm_quiet(s);
    link_arm_idle(s);
    permissions_arm(s);
    link_continue(s);
    session_settle(s);
}

void session_destroy(struct session *s)
{
    if (s->state == SESSION_STATE_DESTROYED)
        return;
    link_end(s, false, "SESSION_DESTROYED", "the session was destroyed");
    turns_end_queued(s, STOP_REASON_CANCELLED, "SESSION_DESTROYED", "the session was destroyed");
    session_move(s, STATE_DESTROY, NULL, NULL);
}
