#include "services/session-svc/link.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/fault.h"
#include "adapters/os/log.h"
#include "sandboxagent/process/v1/process_service.rpc.h"
#include "services/session-svc/api.h"
#include "services/session-svc/config.h"
#include "services/session-svc/environment.h"
#include "services/session-svc/permissions.h"
#include "services/session-svc/prepare.h"
#include "services/session-svc/profile.h"
#include "services/session-svc/requests.h"
#include "services/session-svc/sessions.h"
#include "services/session-svc/talk.h"
#include "services/session-svc/terminals.h"
#include "services/session-svc/turns.h"

enum { RETRY_FIRST_MS = 50, RETRY_MAX_MS = 2000 };

static void deadline_passed(void *user);
static void cancel_passed(void *user);
static void quiet_passed(void *user);
static void retry_due(void *user);
static void idle_passed(void *user);

void link_init(struct session *s)
{
    struct link *l = &s->link;
    char *process_id = l->process_id;
    *l = (struct link){.process_id = process_id};
    l->outbox_tail = &l->outbox;
    lines_init(&l->out, s->all->config.line_max, 0);
    lines_init(&l->errors, LINK_STDERR_LINE_MAX, 0);
    l->retry = sa_timer_new(s->all->loop, retry_due, s);
    l->deadline = sa_timer_new(s->all->loop, deadline_passed, s);
    l->cancel = sa_timer_new(s->all->loop, cancel_passed, s);
    l->quiet = sa_timer_new(s->all->loop, quiet_passed, s);
    l->idle = sa_timer_new(s->all->loop, idle_passed, s);
    l->closed = sa_timer_new(s->all->loop, link_closed_passed, s);
}

static void clear_outbox(struct link *l)
{
    for (struct outgoing *o = l->outbox, *next; o; o = next) {
        next = o->next;
        free(o->data);
        free(o);
    }
    l->outbox = NULL;
    l->outbox_tail = &l->outbox;
    l->outbox_bytes = 0;
}

void link_fini(struct session *s)
{
    struct link *l = &s->link;
    link_detach(s);
    rpc_abandon(l->starting);
    l->starting = NULL;
    requests_clear(s);
    clear_outbox(l);
    lines_fini(&l->out);
    lines_fini(&l->errors);
    sa_buf_fini(&l->last_errors);
    struct sa_timer **timers[] = {&l->retry, &l->deadline, &l->cancel, &l->quiet, &l->idle, &l->closed};
    for (size_t i = 0; i < sizeof timers / sizeof *timers; i++) {
        sa_timer_free(*timers[i]);
        *timers[i] = NULL;
    }
}

/* ---- begin ---- */

/* What is to be started, stored: a retried start must be the same. */
static int decide_launch(struct session *s, sa_error **err)
{
    struct store_key key = db_key(s->id);
    cleanup_message StoredSpec *spec = NULL;
    if (!s->agent)
        return sa_fail(err, SA_UNKNOWN_AGENT, "this version does not know the session's agent");
    if (store_get(s->all->store, DB_SPECS, &key, &spec, err) == 0)
        return sa_fail(err, SA_STORE_CORRUPT, "the session has no specification");
    if (!spec)
        return -1;
    struct sa_arena *arena = sa_arena_new();
    StoredLaunch launch = STORED_LAUNCH__INIT;
    int r = environment_launch(s->all, s->agent, spec, &launch, arena, err);
    if (!r)
        store_put(session_set(s), DB_LAUNCHES, &key, &launch.base);
    sa_arena_free(arena);
    return r;
}

bool link_may_start(const struct session *s)
{
    for (const struct condemned *c = s->condemned; c; c = c->next)
        if (c->gentle)
            return false;
    return s->link.phase == AGENT_PHASE_NONE;
}

void link_start(struct session *s)
{
    struct link *l = &s->link;
    if (prepare_waits(s))
        return; /* comes back by itself */
    l->incarnation++;
    l->phase = AGENT_PHASE_SPAWNING;
    session_set_text(&l->process_id, "");
    l->doomed = false;
    l->stdout_offset = l->stderr_offset = l->stdin_end = l->last_request_id = 0;
    l->committed_stdout = l->acked = l->stdin_sent = l->stdin_taken = l->stdin_cleaned = 0;
    l->n_requests = 0;
    l->can_load = l->can_resume = false;
    l->spawn_batch = s->batch;
    l->retry_ms = 0;
    l->input_closed = false;
    l->last_errors.len = 0;
    lines_fini(&l->out);
    lines_fini(&l->errors);
    lines_init(&l->out, s->all->config.line_max, 0);
    lines_init(&l->errors, LINK_STDERR_LINE_MAX, 0);
    s->resume_wanted = false;
    session_changed(s);
    session_move(s, STATE_AGENT_STARTS, NULL, NULL);
    cleanup_error sa_error *err = NULL;
    if (decide_launch(s, &err)) {
        link_end(s, true, err->reason, err->message);
        return;
    }
    talk_initialize(s);
    link_arm_deadline(s);
}

/* ---- end ---- */

void link_condemn(struct session *s, const char *process_id)
{
    struct condemned *c = sa_calloc(1, sizeof *c);
    c->process_id = sa_strdup(process_id);
    c->batch = s->batch;
    c->gentle = s->link.gentle;
    c->next = s->condemned;
    s->condemned = c;
    session_changed(s);
}

static void forget_launch(struct session *s)
{
    struct store_key key = db_key(s->id);
    store_delete(session_set(s), DB_LAUNCHES, &key);
}

/* The incarnation has no process any more, or never had one. */
static void become_none(struct session *s)
{
    struct link *l = &s->link;
    l->phase = AGENT_PHASE_NONE;
    l->doomed = false;
    session_set_text(&l->process_id, "");
    forget_launch(s);
    session_changed(s);
}

static void drop_rows(struct session *s)
{
    struct link *l = &s->link;
    struct store_key prefix = db_key(s->id);
    store_delete_range(session_set(s), DB_OUTBOX, &prefix, NULL, NULL);
    store_delete_range(session_set(s), DB_A_HIDDEN, &prefix, NULL, NULL);
    store_delete_range(session_set(s), DB_PENDING, &prefix, NULL, NULL);
    clear_outbox(l);
    requests_clear(s);
    l->n_requests = 0;
    l->out.skipping = false;
}

void link_end(struct session *s, bool failed, const char *reason, const char *message)
{
    struct link *l = &s->link;
    if (l->phase == AGENT_PHASE_NONE || l->doomed)
        return;
    sa_log(SA_LOG_INFO, "agent.ended", "session=%s incarnation=%llu reason=%s", s->name,
           (unsigned long long)l->incarnation, reason);
    SA_FAULT("link.end");
    l->ending = true;
    terminals_end_all(s);
    turns_end(s, s->cancelling ? STOP_REASON_CANCELLED : STOP_REASON_AGENT_EXITED, reason, message,
              (struct json){0});
    permissions_end_all(s, PERMISSION_OUTCOME_WITHDRAWN);
    l->ending = false;
    config_agent_gone(s);
    drop_rows(s);
    link_detach(s);
    sa_timer_stop(l->deadline);
    sa_timer_stop(l->closed);
    sa_timer_stop(l->retry);
    sa_timer_stop(l->idle);
    if (*l->process_id) {
        link_condemn(s, l->process_id);
        become_none(s);
    } else if (l->spawn_batch > s->committed_batch) {
        become_none(s); /* nobody was asked to start it */
    } else {
        l->doomed = true;
        session_changed(s);
    }
    session_move(s, failed ? STATE_AGENT_FAILED : STATE_AGENT_GONE, reason, message);
    if (failed)
        turns_end_queued(s, STOP_REASON_ERROR, reason, message);
}

void link_suspend(struct session *s, const char *reason, const char *message)
{
    s->link.gentle = true;
    link_end(s, false, reason, message);
    s->link.gentle = false;
}

/* ---- outbox ---- */

static void enqueue(struct link *l, uint64_t offset, uint64_t batch, const void *p, size_t n)
{
    struct outgoing *o = sa_calloc(1, sizeof *o);
    *o = (struct outgoing){.offset = offset, .size = n, .batch = batch, .data = sa_memdup(p, n)};
    *l->outbox_tail = o;
    l->outbox_tail = &o->next;
    l->outbox_bytes += n;
}

/* Values of credentials stay out of the store: the row says where they were. */
static void store_outgoing(struct session *s, const struct sa_buf *line)
{
    struct store_key key = db_numbered_key(s->id, s->link.stdin_end);
    struct sa_arena *arena = sa_arena_new();
    StoredHidden hidden = STORED_HIDDEN__INIT;
    cleanup_free uint8_t *copy = sa_memdup(line->data, line->len);
    if (secrets_hide(s->all->secrets, copy, line->len, arena, &hidden))
        store_put(session_set(s), DB_A_HIDDEN, &key, &hidden.base);
    store_put_bytes(session_set(s), DB_OUTBOX, &key, copy, line->len);
    sa_arena_free(arena);
}

void link_send(struct session *s, const struct sa_buf *message)
{
    struct link *l = &s->link;
    if (l->phase == AGENT_PHASE_NONE || l->doomed)
        return;
    cleanup_buf struct sa_buf line = {0};
    sa_buf_add(&line, message->data, message->len);
    sa_buf_add(&line, "\n", 1);
    store_outgoing(s, &line);
    session_changed(s);
    enqueue(l, l->stdin_end, s->batch, line.data, line.len);
    l->stdin_end += line.len;
}

static bool load_row(void *user, const struct store_row *row)
{
    enqueue(user, db_key_number(row), 0, row->value, row->value_len);
    return true;
}

static bool reveal_row(void *user, const struct store_row *row)
{
    struct session *s = user;
    cleanup_error sa_error *err = NULL;
    cleanup_message StoredHidden *hidden = store_row_unpack(row, &err);
    for (struct outgoing *o = s->link.outbox; o && hidden; o = o->next)
        if (o->offset == db_key_number(row))
            secrets_reveal(s->all->secrets, o->data, o->size, hidden, &err);
    if (err) /* deleted since; the agent gets asterisks */
        sa_log(SA_LOG_WARN, "agent.credential_lost", "session=%s error=\"%s\"", s->name, err->message);
    return true;
}

int link_load_outbox(struct session *s, sa_error **err)
{
    struct store_key prefix = db_key(s->id);
    struct store_range range = {.table = DB_OUTBOX, .prefix = &prefix};
    if (store_scan(s->all->store, &range, load_row, &s->link, err) < 0)
        return -1;
    range.table = DB_A_HIDDEN;
    return store_scan(s->all->store, &range, reveal_row, s, err) < 0 ? -1 : 0;
}

void link_clean_outbox(struct session *s, struct store_set *set)
{
    struct link *l = &s->link;
    if (l->stdin_taken <= l->stdin_cleaned)
        return;
    struct store_key prefix = db_key(s->id), until = db_numbered_key(s->id, l->stdin_taken);
    store_delete_range(set, DB_OUTBOX, &prefix, NULL, &until);
    store_delete_range(set, DB_A_HIDDEN, &prefix, NULL, &until);
    l->stdin_cleaned = l->stdin_taken;
}

/* ---- timers ---- */

static uint32_t phase_ms(const struct session *s)
{
    const struct sessions_config *c = &s->all->config;
    uint32_t initialize = c->initialize_ms ? c->initialize_ms : s->agent ? s->agent->initialize_ms : 60000;
    uint32_t open = c->open_ms ? c->open_ms : s->agent ? s->agent->open_ms : 60000;
    return s->link.phase <= AGENT_PHASE_INITIALIZING ? initialize : open;
}

void link_arm_deadline(struct session *s)
{
    AgentPhase p = s->link.phase;
    bool idle = p == AGENT_PHASE_READY && (s->current_turn || !config_busy(s));
    if (p == AGENT_PHASE_NONE || idle || s->link.doomed)
        sa_timer_stop(s->link.deadline);
    else
        sa_timer_start(s->link.deadline, phase_ms(s));
}

static void deadline_passed(void *user)
{
    struct session *s = user;
    if (!session_usable(s))
        return;
    struct sa_arena *arena = sa_arena_new();
    const char *waited = talk_awaited(s);
    const char *message = sa_arena_format(arena, "agent %s did not answer %s within %u ms%s", talk_agent(s),
                                          waited, phase_ms(s), link_error_tail(s, arena));
    config_timed_out(s);
    link_end(s, true, sa_reason_name(SA_AGENT_TIMEOUT), message);
    sa_arena_free(arena);
    session_settle(s);
}

void link_arm_cancel(struct session *s)
{
    if (s->cancelling)
        sa_timer_start(s->link.cancel, s->all->config.cancel_ms);
    else
        sa_timer_stop(s->link.cancel);
}

static void cancel_passed(void *user)
{
    struct session *s = user;
    if (!session_usable(s) || !s->cancelling)
        return;
    cleanup_free char *message =
        sa_format("agent %s did not stop within %u ms after the cancel and was killed", talk_agent(s),
                  s->all->config.cancel_ms);
    link_end(s, false, sa_reason_name(SA_AGENT_TIMEOUT), message);
    session_settle(s);
}

void link_arm_quiet(struct session *s)
{
    s->link.last_line_ms = sa_now_ms();
    if (s->current_turn)
        sa_timer_start(s->link.quiet, s->all->config.quiet_ms);
    else
        sa_timer_stop(s->link.quiet);
}

/* Not restarted by every line: it looks how long ago the last one was. One event per silence. */
static void quiet_passed(void *user)
{
    struct session *s = user;
    if (!session_usable(s) || !s->current_turn)
        return;
    uint64_t silent = sa_now_ms() - s->link.last_line_ms;
    if (silent < s->all->config.quiet_ms) {
        sa_timer_start(s->link.quiet, s->all->config.quiet_ms - silent);
        return;
    }
    Quiet quiet = QUIET__INIT;
    quiet.silent_ms = silent;
    Event e = EVENT__INIT;
    e.kind_case = EVENT__KIND_QUIET;
    e.quiet = &quiet;
    session_event(s, &e);
    session_settle(s);
}

static bool is_idle(const struct session *s)
{
    return s->link.phase == AGENT_PHASE_READY && !s->current_turn && !turns_count_waiting(s) &&
           !config_busy(s);
}

void link_arm_idle(struct session *s)
{
    uint64_t ms = s->profile ? profile_idle_ms(s->all, s->profile) : 0;
    s->link.idle_since_ms = sa_now_ms();
    if (ms && is_idle(s))
        sa_timer_start(s->link.idle, (uint32_t)ms);
    else
        sa_timer_stop(s->link.idle);
}

/* What is busy now arms it again when it is idle. A question that waits for an answer keeps the agent. */
static void idle_passed(void *user)
{
    struct session *s = user;
    if (!session_usable(s) || !is_idle(s))
        return;
    if (permissions_waiting(s) || s->all->draining) {
        link_arm_idle(s);
        return;
    }
    cleanup_free char *message =
        sa_format("the agent had no turn for %llu ms; the next prompt starts it again",
                  (unsigned long long)(sa_now_ms() - s->link.idle_since_ms));
    link_suspend(s, "IDLE", message);
    session_settle(s);
}

void link_retry_later(struct session *s)
{
    struct link *l = &s->link;
    l->retry_ms = l->retry_ms ? l->retry_ms * 2 : RETRY_FIRST_MS;
    if (l->retry_ms > RETRY_MAX_MS)
        l->retry_ms = RETRY_MAX_MS;
    sa_timer_start(l->retry, l->retry_ms);
}

static void retry_due(void *user)
{
    struct session *s = user;
    if (!session_usable(s))
        return;
    link_continue(s);
    session_settle(s);
}

/* ---- what committed state asks for ---- */

static bool is_passing(const sa_error *err)
{
    return err->code == SA_CODE_UNAVAILABLE || err->code == SA_CODE_DEADLINE_EXCEEDED ||
           err->code == SA_CODE_CANCELLED || sa_error_is(err, SA_TOO_MANY);
}

static void started(void *user, const StartProcessResponse *res, const sa_error *err)
{
    struct session *s = user;
    struct link *l = &s->link;
    l->starting = NULL;
    SA_FAULT("link.spawned");
    if (err && is_passing(err)) {
        link_retry_later(s);
        return;
    }
    l->retry_ms = 0;
    if (err) {
        bool doomed = l->doomed;
        l->spawn_batch = UINT64_MAX; /* there is no process */
        l->doomed = false;
        if (doomed)
            become_none(s);
        else
            link_end(s, true, err->reason, err->message);
    } else if (l->doomed) {
        link_condemn(s, res->process->process_id);
        become_none(s);
    } else {
        session_set_text(&l->process_id, res->process->process_id);
        l->phase = AGENT_PHASE_INITIALIZING;
        forget_launch(s);
        session_changed(s);
        sa_log(SA_LOG_INFO, "agent.started", "session=%s incarnation=%llu process=%s", s->name,
               (unsigned long long)l->incarnation, l->process_id);
        link_arm_deadline(s);
        link_continue(s);
    }
    session_settle(s);
    api_answer_destroyed(s);
}

static void spawn(struct session *s)
{
    struct link *l = &s->link;
    struct store_key key = db_key(s->id);
    cleanup_message StoredLaunch *launch = NULL;
    cleanup_error sa_error *err = NULL;
    if (store_get(s->all->store, DB_LAUNCHES, &key, &launch, &err) <= 0) {
        sa_log(SA_LOG_ERROR, "agent.launch_unreadable", "session=%s", s->name);
        link_retry_later(s);
        return;
    }
    char request_id[64], incarnation[24];
    snprintf(request_id, sizeof request_id, "%s-%llu", s->name, (unsigned long long)l->incarnation);
    snprintf(incarnation, sizeof incarnation, "%llu", (unsigned long long)l->incarnation);
    ProcessSpec__LabelsEntry labels[2] = {PROCESS_SPEC__LABELS_ENTRY__INIT, PROCESS_SPEC__LABELS_ENTRY__INIT};
    ProcessSpec__LabelsEntry *label_list[2] = {&labels[0], &labels[1]};
    labels[0].key = (char[]){"session"};
    labels[0].value = s->name;
    labels[1].key = (char[]){"incarnation"};
    labels[1].value = incarnation;
    struct sa_arena *arena = sa_arena_new();
    ProcessSpec spec = PROCESS_SPEC__INIT;
    spec.argv = launch->argv;
    spec.n_argv = launch->n_argv;
    if (environment_of_launch(s->all, launch, &spec, arena, &err)) {
        sa_arena_free(arena);
        l->spawn_batch = UINT64_MAX; /* as it is now, nothing was started, or is found again by nobody */
        link_end(s, true, err->reason, err->message);
        return;
    }
    spec.cwd = launch->cwd;
    spec.stdout_retention = RETENTION_POLICY_ACKNOWLEDGED;
    spec.journal_bytes = s->all->config.journal_bytes;
    spec.labels = label_list;
    spec.n_labels = 2;
    StartProcessRequest req = START_PROCESS_REQUEST__INIT;
    req.request_id = request_id;
    req.spec = &spec;
    SA_FAULT("link.spawn");
    l->starting = start_process_call(s->all->process, &req, NULL, started, s);
    sa_arena_free(arena);
}

static void deleted(void *user, const DeleteProcessResponse *res, const sa_error *err)
{
    (void)res;
    struct condemned *c = user;
    struct session *s = c->session;
    c->deletion = NULL;
    SA_FAULT("link.deleted");
    if (err && !sa_error_is(err, SA_PROCESS_NOT_FOUND)) {
        if (!is_passing(err))
            sa_log(SA_LOG_ERROR, "agent.delete_failed", "session=%s process=%s error=\"%s\"", s->name,
                   c->process_id, err->message);
        link_retry_later(s);
        return;
    }
    for (struct condemned **at = &s->condemned; *at; at = &(*at)->next)
        if (*at == c) {
            *at = c->next;
            break;
        }
    free(c->process_id);
    free(c);
    session_changed(s);
    session_settle(s);
    api_answer_destroyed(s);
}

static void delete_one(struct session *s, struct condemned *c)
{
    DeleteProcessRequest req = DELETE_PROCESS_REQUEST__INIT;
    req.process_id = c->process_id;
    req.kill = true;
    c->session = s;
    SA_FAULT("link.delete");
    c->deletion = delete_process_call(s->all->process, &req, NULL, deleted, c);
}

/* Whatever came of it, what is left of it is deleted. */
static void stopped(void *user, const StopProcessResponse *res, const sa_error *err)
{
    (void)res;
    struct condemned *c = user;
    c->deletion = NULL;
    c->gentle = err && is_passing(err);
    SA_FAULT("link.stopped");
    if (c->gentle)
        link_retry_later(c->session);
    else
        delete_one(c->session, c);
    session_settle(c->session);
}

static void stop_one(struct session *s, struct condemned *c)
{
    StopProcessRequest req = STOP_PROCESS_REQUEST__INIT;
    req.process_id = c->process_id;
    c->session = s;
    SA_FAULT("link.stop");
    c->deletion = stop_process_call(s->all->process, &req, NULL, stopped, c);
}

static void delete_condemned(struct session *s)
{
    for (struct condemned *c = s->condemned; c; c = c->next) {
        if (c->batch > s->committed_batch || c->deletion)
            continue;
        if (c->gentle)
            stop_one(s, c);
        else
            delete_one(s, c);
    }
}

void link_continue(struct session *s)
{
    struct link *l = &s->link;
    if (s->all->stopped || sa_timer_active(l->retry))
        return;
    delete_condemned(s);
    if (l->phase == AGENT_PHASE_SPAWNING && !*l->process_id && !l->starting &&
        l->spawn_batch <= s->committed_batch)
        spawn(s);
    if (*l->process_id && !l->attachment)
        link_attach(s);
    if (l->opened)
        link_write(s);
    requests_drive(s);
    terminals_continue(s);
}
