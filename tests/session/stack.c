#include "tests/session/stack.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "adapters/os/clock.h"
#include "adapters/os/file.h"

enum { WORDS_MAX = 40, ENV_MAX = 16 };

/* ---- programs ---- */

static struct program start(struct stack *t, const char *name, const char *const *extra)
{
    cleanup_free char *data = sa_format("%s/data", t->dir), *run = sa_format("%s/run", t->dir);
    const char *words[WORDS_MAX] = {name,          "--data-dir", data,          "--run-dir", run,
                                    "--secret-fd", "3",          "--log-level", "info"};
    int n = 9;
    for (int i = 0; extra && extra[i]; i++)
        words[n++] = extra[i];
    struct program_fd fds[] = {{3, t->secret}, {0}};
    cleanup_free char *fault = t->fault ? sa_format("SA_FAULT=%s", t->fault) : NULL;
    const char *env[ENV_MAX] = {0};
    for (int i = 0, n_env = 0; t->env && t->env[i]; i++)
        env[n_env++] = t->env[i];
    for (int i = 0; fault; i++)
        if (!env[i]) {
            env[i] = fault;
            break;
        }
    struct program_options opt = {.home = t->home, .fds = fds, .env = env};
    return program_start(words, &opt);
}

static void start_session(struct stack *t)
{
    const char *words[WORDS_MAX] = {0};
    int n = 0;
    for (int i = 0; t->extra && t->extra[i]; i++)
        words[n++] = t->extra[i];
    if (t->fault) {
        cleanup_free char *mock = sa_strdup(harness_binary("mock-agent"));
        *strrchr(mock, '/') = '\0';
        words[n++] = "--programs-dir";
        words[n++] = mock;
        t->session = start(t, "services/session-svc/session-svc-faults", words);
    } else {
        t->session = start(t, "session-svc", words);
    }
    program_wait_for(&t->session, "service.ready");
}

static void start_process(struct stack *t)
{
    t->process = start(t, "process-svc", NULL);
    program_wait_for(&t->process, "service.ready");
}

static struct stack *start_stack(const char *const *extra, const char *const *env, const char *fault);

struct stack *stack_start(const char *const *extra)
{
    return start_stack(extra, NULL, NULL);
}

struct stack *stack_start_env(const char *const *extra, const char *const *env)
{
    return start_stack(extra, env, NULL);
}

struct stack *stack_start_faulty(const char *const *extra, const char *fault)
{
    return start_stack(extra, NULL, fault);
}

static struct stack *start_stack(const char *const *extra, const char *const *env, const char *fault)
{
    struct stack *t = sa_calloc(1, sizeof *t);
    t->fault = fault;
    t->env = env;
    t->dir = harness_dir();
    t->home = sa_format("%s/home", t->dir);
    t->extra = extra;
    char id[SA_ID_TEXT + 1], id2[SA_ID_TEXT + 1];
    sa_id_format(sa_id_new(), id);
    sa_id_format(sa_id_new(), id2);
    t->secret = sa_format("%s%s", id, id2);
    assert_int_equal(sa_mkdirs(t->home, 0755, NULL), 0);
    start_process(t);
    t->files = start(t, "fs-svc", NULL);
    program_wait_for(&t->files, "service.ready");
    start_session(t);
    cleanup_free char *target = sa_format("unix:%s/run/session.sock", t->dir);
    const char *metadata[] = {"x-service-secret", t->secret, "x-principal", "tester", NULL};
    t->caller = caller_open(target, NULL, metadata);
    return t;
}

static void crash(struct program *p)
{
    program_signal(p, SIGKILL);
    assert_int_equal(program_wait(p), 128 + SIGKILL);
    program_free(p);
}

/* A prompt once met the connection to the service that was killed a moment before: that it broke is told by
 * the first call on it, which is this one. */
static void notice_break(struct stack *t)
{
    const struct rpc_call_options patient = {.wait_for_ready = true};
    ListHeadsRequest req = LIST_HEADS_REQUEST__INIT;
    ListHeadsResponse *res = NULL;
    for (sa_error *err = NULL; !res; err = NULL) {
        res = list_heads_wait(t->caller.channel, &req, &patient, &err);
        if (!res)
            assert_string_equal(err->reason, "UNAVAILABLE");
        sa_error_free(err);
    }
    rpc_message_free(res);
}

void stack_crash_session(struct stack *t)
{
    crash(&t->session);
    start_session(t);
    notice_break(t);
}

void stack_crash_process(struct stack *t)
{
    crash(&t->process);
    start_process(t);
}

static bool has_died(void *user)
{
    struct stack *t = user;
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)t->session.pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0;
}

void stack_revive(struct stack *t)
{
    if (!t->fault)
        return;
    wait_until(has_died, t, "session-svc has died");
    assert_int_equal(program_wait(&t->session), 128 + SIGKILL);
    program_free(&t->session);
    t->fault = NULL;
    t->deaths++;
    start_session(t);
}

static void destroy_all(struct stack *t)
{
    ListSessionsRequest req = LIST_SESSIONS_REQUEST__INIT;
    req.page_size = 1000;
    req.archived = ARCHIVED_FILTER_ALL;
    ListSessionsResponse *res = list_sessions_wait(t->caller.channel, &req, NULL, NULL);
    assert_non_null(res);
    for (size_t i = 0; i < res->n_sessions; i++)
        destroy_session(t, res->sessions[i]->session_id);
    rpc_message_free(res);
}

/* Does a process with this word in its environment run? */
static bool something_runs_in(const char *dir)
{
    DIR *d = opendir("/proc");
    bool found = false;
    cleanup_free char *word = sa_format("HOME=%s/home", dir);
    for (struct dirent *e; d && !found && (e = readdir(d));) {
        cleanup_free char *file = sa_format("/proc/%s/environ", e->d_name);
        cleanup_free char *exe = sa_format("/proc/%s/comm", e->d_name);
        cleanup_buf struct sa_buf env = {0}, comm = {0};
        if (e->d_name[0] < '0' || e->d_name[0] > '9' || sa_read_file(file, 1 << 20, &env, NULL) ||
            sa_read_file(exe, 64, &comm, NULL) || strncmp(sa_buf_string(&comm), "mock-agent", 10))
            continue;
        found = memmem(env.data, env.len, word, strlen(word)) != NULL;
    }
    if (d)
        closedir(d);
    return found;
}

static void stop(struct program *p)
{
    program_signal(p, SIGTERM);
    if (program_wait(p) != 0)
        fail_msg("a service ended badly:\n%s", program_output(p));
    program_free(p);
}

void stack_free(struct stack *t)
{
    destroy_all(t);
    assert_false(something_runs_in(t->dir));
    caller_close(&t->caller);
    stop(&t->session);
    stop(&t->files);
    stop(&t->process);
    free(t->home);
    free(t->secret);
    free(t);
}

/* ---- calls ---- */

static struct reason reason_of(sa_error *err)
{
    struct reason r = {0};
    if (err) {
        snprintf(r.text, sizeof r.text, "%s", err->reason);
        snprintf(r.message, sizeof r.message, "%s", err->message);
        sa_error_free(err);
    }
    return r;
}

static void must(struct reason r, const char *what)
{
    if (*r.text)
        fail_msg("%s: %s: %s", what, r.text, r.message);
}

struct reason try_create(struct stack *t, const CreateSessionRequest *req, char **ret_id)
{
    sa_error *err = NULL;
    CreateSessionResponse *res = create_session_wait(t->caller.channel, req, NULL, &err);
    if (res && ret_id)
        *ret_id = sa_strdup(res->session->session_id);
    rpc_message_free(res);
    return reason_of(err);
}

char *create_session(struct stack *t, const char *agent, const char *const *env)
{
    CreateSessionRequest req = CREATE_SESSION_REQUEST__INIT;
    EnvironmentVariable vars[16], *list[16];
    req.agent = (char *)(uintptr_t)agent;
    req.env = list;
    for (; env && env[req.n_env]; req.n_env++) {
        EnvironmentVariable *v = list[req.n_env] = &vars[req.n_env];
        *v = (EnvironmentVariable)ENVIRONMENT_VARIABLE__INIT;
        const char *text = env[req.n_env], *equals = strchr(text, '=');
        v->name = (ProtobufCBinaryData){(size_t)(equals - text), (uint8_t *)(uintptr_t)text};
        v->value = (ProtobufCBinaryData){strlen(equals + 1), (uint8_t *)(uintptr_t)(equals + 1)};
    }
    char *id = NULL;
    must(try_create(t, &req, &id), "CreateSession");
    return id;
}

struct reason try_prompt(struct stack *t, const char *session, const char *text, const char *request_id,
                         uint64_t *ret_turn)
{
    ContentBlock block = CONTENT_BLOCK__INIT, *blocks[] = {&block};
    block.kind_case = CONTENT_BLOCK__KIND_TEXT;
    block.text = (char *)(uintptr_t)text;
    SendPromptRequest req = SEND_PROMPT_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)session;
    req.request_id = (char *)(uintptr_t)request_id;
    req.content = blocks;
    req.n_content = 1;
    sa_error *err = NULL;
    SendPromptResponse *res = send_prompt_wait(t->caller.channel, &req, NULL, &err);
    if (res && ret_turn)
        *ret_turn = res->turn;
    rpc_message_free(res);
    return reason_of(err);
}

uint64_t send_prompt(struct stack *t, const char *session, const char *text)
{
    uint64_t turn = 0;
    must(try_prompt(t, session, text, "", &turn), "SendPrompt");
    return turn;
}

GetSessionResponse *get_session(struct stack *t, const char *session)
{
    GetSessionRequest req = GET_SESSION_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)session;
    sa_error *err = NULL;
    GetSessionResponse *res = get_session_wait(t->caller.channel, &req, NULL, &err);
    must(reason_of(err), "GetSession");
    return res;
}

struct reason try_answer(struct stack *t, const char *session, const char *permission, const char *option)
{
    AnswerPermissionRequest req = ANSWER_PERMISSION_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)session;
    req.permission_id = (char *)(uintptr_t)permission;
    req.option_id = (char *)(uintptr_t)option;
    sa_error *err = NULL;
    rpc_message_free(answer_permission_wait(t->caller.channel, &req, NULL, &err));
    return reason_of(err);
}

struct reason try_cancel(struct stack *t, const char *session, uint64_t turn)
{
    CancelTurnRequest req = CANCEL_TURN_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)session;
    req.turn = turn;
    sa_error *err = NULL;
    rpc_message_free(cancel_turn_wait(t->caller.channel, &req, NULL, &err));
    return reason_of(err);
}

struct reason try_move(struct stack *t, const char *session, uint64_t turn, uint32_t position,
                       uint32_t *ret_position)
{
    MovePromptRequest req = MOVE_PROMPT_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)session;
    req.turn = turn;
    req.position = position;
    sa_error *err = NULL;
    MovePromptResponse *res = move_prompt_wait(t->caller.channel, &req, NULL, &err);
    if (res && ret_position)
        *ret_position = res->position;
    rpc_message_free(res);
    return reason_of(err);
}

struct reason try_withdraw(struct stack *t, const char *session, uint64_t turn)
{
    WithdrawPromptRequest req = WITHDRAW_PROMPT_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)session;
    req.turn = turn;
    sa_error *err = NULL;
    rpc_message_free(withdraw_prompt_wait(t->caller.channel, &req, NULL, &err));
    return reason_of(err);
}

struct reason try_steer(struct stack *t, const char *session, uint64_t turn, const char *text,
                        const char *request_id, SteerFallback fallback, uint64_t *ret_turn)
{
    ContentBlock block = CONTENT_BLOCK__INIT, *blocks[] = {&block};
    block.kind_case = CONTENT_BLOCK__KIND_TEXT;
    block.text = (char *)(uintptr_t)text;
    SteerTurnRequest req = STEER_TURN_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)session;
    req.turn = turn;
    req.content = blocks;
    req.n_content = 1;
    req.request_id = (char *)(uintptr_t)request_id;
    req.fallback = fallback;
    sa_error *err = NULL;
    SteerTurnResponse *res = steer_turn_wait(t->caller.channel, &req, NULL, &err);
    if (res && ret_turn)
        *ret_turn = res->turn;
    rpc_message_free(res);
    return reason_of(err);
}

struct reason try_suspend(struct stack *t, const char *session)
{
    SuspendSessionRequest req = SUSPEND_SESSION_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)session;
    sa_error *err = NULL;
    rpc_message_free(suspend_session_wait(t->caller.channel, &req, NULL, &err));
    return reason_of(err);
}

struct reason try_resume(struct stack *t, const char *session)
{
    ResumeSessionRequest req = RESUME_SESSION_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)session;
    sa_error *err = NULL;
    rpc_message_free(resume_session_wait(t->caller.channel, &req, NULL, &err));
    return reason_of(err);
}

uint64_t cancel_turn(struct stack *t, const char *session, uint64_t turn)
{
    must(try_cancel(t, session, turn), "CancelTurn");
    return turn;
}

void destroy_session(struct stack *t, const char *session)
{
    DestroySessionRequest req = DESTROY_SESSION_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)session;
    sa_error *err = NULL;
    rpc_message_free(destroy_session_wait(t->caller.channel, &req, NULL, &err));
    must(reason_of(err), "DestroySession");
}

/* ---- blobs ---- */

struct reason write_blob(struct stack *t, const char *session, const uint8_t *p, size_t n, size_t cut)
{
    WriteBlobRequest req = WRITE_BLOB_REQUEST__INIT;
    WriteBlobResponse *res = NULL;
    sa_error *err = NULL;
    struct rpc_stream *s = write_blob_begin(t->caller.channel, NULL);
    bool writing = true;
    req.session_id = (char *)(uintptr_t)session;
    for (size_t at = 0; writing && (at < n || !n); at += cut) {
        req.data = (ProtobufCBinaryData){n - at < cut ? n - at : cut, (uint8_t *)(uintptr_t)p + at};
        writing = !write_blob_put(s, &req, NULL) && n;
    }
    rpc_stream_close_send(s, NULL);
    write_blob_next(s, &res, &err);
    rpc_message_free(res);
    rpc_stream_free(s);
    return reason_of(err);
}

/* ---- retention ---- */

struct reason try_retention(struct stack *t, const char *session, const Retention *own, uint64_t *ret_seq)
{
    SetRetentionRequest req = SET_RETENTION_REQUEST__INIT;
    sa_error *err = NULL;
    req.session_id = (char *)(uintptr_t)session;
    req.retention = (Retention *)(uintptr_t)own;
    SetRetentionResponse *res = set_retention_wait(t->caller.channel, &req, NULL, &err);
    if (res && ret_seq)
        *ret_seq = res->seq;
    rpc_message_free(res);
    return reason_of(err);
}

/* ---- transcripts ---- */

struct sa_buf export_session(struct stack *t, const char *session)
{
    struct sa_buf all = {0};
    ExportSessionRequest req = EXPORT_SESSION_REQUEST__INIT;
    ExportSessionResponse *m = NULL;
    sa_error *err = NULL;
    int got;
    req.session_id = (char *)(uintptr_t)session;
    struct rpc_stream *s = export_session_begin(t->caller.channel, &req, NULL);
    while ((got = export_session_next(s, &m, &err)) == 1) {
        sa_buf_add(&all, m->data.data, m->data.len);
        rpc_message_free(m);
    }
    if (got < 0)
        fail_msg("ExportSession: %s", err->message);
    rpc_stream_free(s);
    return all;
}

struct imported import_session(struct stack *t, const struct sa_buf *b, size_t cut, const char *request_id)
{
    struct imported r = {.reason = ""};
    sa_error *err = NULL;
    ImportOpen open = IMPORT_OPEN__INIT;
    ImportOpen__LabelsEntry label = IMPORT_OPEN__LABELS_ENTRY__INIT, *labels[] = {&label};
    label.key = (char[]){"from"};
    label.value = (char[]){"afar"};
    open.request_id = (char *)(uintptr_t)request_id;
    open.labels = labels;
    open.n_labels = 1;
    ImportSessionRequest req = IMPORT_SESSION_REQUEST__INIT;
    req.kind_case = IMPORT_SESSION_REQUEST__KIND_OPEN;
    req.open = &open;
    struct rpc_stream *s = import_session_begin(t->caller.channel, NULL);
    bool writing = !import_session_put(s, &req, NULL);
    req.kind_case = IMPORT_SESSION_REQUEST__KIND_DATA;
    for (size_t at = 0; writing && at < b->len; at += cut) {
        req.data = (ProtobufCBinaryData){b->len - at < cut ? b->len - at : cut, b->data + at};
        writing = !import_session_put(s, &req, NULL);
    }
    rpc_stream_close_send(s, NULL);
    ImportSessionResponse *res = NULL;
    if (import_session_next(s, &res, &err) == 1) {
        snprintf(r.session, sizeof r.session, "%s", res->session_id);
        snprintf(r.hash, sizeof r.hash, "%s", res->hash);
        r.events = res->events;
        r.head = res->head_seq;
        rpc_message_free(res);
    } else if (err) {
        snprintf(r.reason, sizeof r.reason, "%s", err->reason);
        snprintf(r.message, sizeof r.message, "%s", err->message);
    }
    sa_error_free(err);
    rpc_stream_free(s);
    return r;
}

/* ---- viewers ---- */

static void open_stream(struct viewer *v)
{
    StreamEventsRequest req = STREAM_EVENTS_REQUEST__INIT;
    /* A service that is to die may be dead already, and comes back only once a call has told so. */
    struct rpc_call_options opt = {.wait_for_ready = !v->stack->fault, .deadline_ms = PATIENCE_MS};
    req.session_id = v->session;
    req.after_seq = v->n;
    v->stream = stream_events_begin(v->stack->caller.channel, &req, &opt);
}

struct viewer *viewer_open(struct stack *t, const char *session)
{
    struct viewer *v = sa_calloc(1, sizeof *v);
    v->stack = t;
    v->session = sa_strdup(session);
    open_stream(v);
    return v;
}

void viewer_close(struct viewer *v)
{
    rpc_stream_free(v->stream);
    for (size_t i = 0; i < v->n_owners; i++)
        rpc_message_free(v->owners[i]);
    free(v->owners);
    free(v->events);
    free(v->session);
    free(v);
}

static void take(struct viewer *v, StreamEventsResponse *m)
{
    if (v->n_owners == v->owners_cap)
        v->owners = sa_realloc(v->owners,
                               (v->owners_cap = v->owners_cap ? 2 * v->owners_cap : 64) * sizeof *v->owners);
    v->owners[v->n_owners++] = m;
    if (m->kind_case != STREAM_EVENTS_RESPONSE__KIND_BATCH)
        return;
    assert_int_equal(m->batch->prev_seq, v->n);
    for (size_t i = 0; i < m->batch->n_events; i++) {
        if (v->n == v->cap)
            v->events = sa_realloc(v->events, (v->cap = v->cap ? 2 * v->cap : 256) * sizeof *v->events);
        assert_int_equal(m->batch->events[i]->seq, v->n + 1);
        v->events[v->n++] = m->batch->events[i];
    }
}

/* Reads at least one more event, over as many streams as it takes. */
static void read_more(struct viewer *v)
{
    size_t before = v->n;
    uint64_t until = sa_now_ms() + PATIENCE_MS;
    while (v->n == before) {
        StreamEventsResponse *m = NULL;
        sa_error *err = NULL;
        int r = stream_events_next(v->stream, &m, &err);
        if (r == 1) {
            take(v, m);
            continue;
        }
        if (r == 0 || sa_now_ms() > until ||
            (err->code != SA_CODE_UNAVAILABLE && err->code != SA_CODE_CANCELLED))
            fail_msg(
                "the stream of session %s ended at seq %zu: %s; session-svc said:\n%s\nprocess-svc said:\n%s",
                v->session, v->n, err ? err->message : "OK", program_output(&v->stack->session),
                program_output(&v->stack->process));
        sa_error_free(err);
        rpc_stream_free(v->stream);
        stack_revive(v->stack);
        open_stream(v);
    }
}

const Event *viewer_next(struct viewer *v)
{
    read_more(v);
    return v->events[v->n - 1];
}

const Event *viewer_until(struct viewer *v, size_t from, Event__KindCase kind, uint64_t turn)
{
    for (size_t i = from;; i++) {
        while (i >= v->n)
            read_more(v);
        if (v->events[i]->kind_case == kind && (!turn || v->events[i]->turn == turn))
            return v->events[i];
    }
}

const Event *viewer_turn_end(struct viewer *v, uint64_t turn)
{
    return viewer_until(v, 0, EVENT__KIND_TURN_ENDED, turn);
}

const Event *viewer_state(struct viewer *v, size_t from, SessionState state)
{
    for (;;) {
        const Event *e = viewer_until(v, from, EVENT__KIND_STATE_CHANGED, 0);
        if (e->state_changed->state == state)
            return e;
        from = e->seq;
    }
}

char *viewer_text(struct viewer *v, uint64_t turn)
{
    struct sa_buf text = {0};
    for (size_t i = 0; i < v->n; i++)
        if (v->events[i]->kind_case == EVENT__KIND_AGENT_MESSAGE_CHUNK && v->events[i]->turn == turn)
            sa_buf_addf(&text, "%s", v->events[i]->agent_message_chunk->content->text);
    sa_buf_addf(&text, "%s", "");
    char *s = sa_strdup(sa_buf_string(&text));
    sa_buf_fini(&text);
    return s;
}

size_t viewer_count(const struct viewer *v, Event__KindCase kind)
{
    size_t n = 0;
    for (size_t i = 0; i < v->n; i++)
        n += v->events[i]->kind_case == kind;
    return n;
}

struct sa_buf viewer_bytes(const struct viewer *v)
{
    struct sa_buf b = {0};
    for (size_t i = 0; i < v->n; i++)
        b.len += event__pack(v->events[i], sa_buf_reserve(&b, event__get_packed_size(v->events[i])));
    return b;
}

int agent_remembers(const struct stack *t, const char *session_of_agent, const char *line)
{
    cleanup_free char *file = sa_format("%s/.mock-agent/%s", t->home, session_of_agent);
    cleanup_buf struct sa_buf all = {0};
    assert_int_equal(sa_read_file(file, 64 << 20, &all, NULL), 0);
    int n = 0;
    for (const char *p = sa_buf_string(&all); (p = strstr(p, line)); p += strlen(line))
        n++;
    return n;
}
