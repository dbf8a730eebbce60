#include "services/session-svc/terminals.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/os/fault.h"
#include "adapters/os/log.h"
#include "services/session-svc/environment.h"
#include "services/session-svc/requests.h"
#include "services/session-svc/sessions.h"

enum {
    INVALID_PARAMS = -32602,
    JOURNAL_MIN = 64 << 10,
    WAIT_MS = 600000, /* of one call of WaitProcess; then comes the next */
    NAME_MAX_ = 72,
};

struct name {
    char text[NAME_MAX_];
};

static struct name id_of(const struct terminal *t)
{
    struct name n;
    snprintf(n.text, sizeof n.text, "t%llu-%llu", (unsigned long long)t->incarnation,
             (unsigned long long)t->offset);
    return n;
}

/* Its request_id at process-svc, and the label by which it is found. */
static struct name label_of(const struct terminal *t)
{
    struct name n;
    snprintf(n.text, sizeof n.text, "%s-t%llu-%llu", t->session->name, (unsigned long long)t->incarnation,
             (unsigned long long)t->offset);
    return n;
}

static struct store_key key_of(const struct terminal *t)
{
    struct store_key key = db_numbered_key(t->session->id, t->incarnation);
    store_key_add_u64(&key, t->offset);
    return key;
}

bool terminals_know(const char *method)
{
    static const char *const methods[] = {"terminal/create", "terminal/output", "terminal/wait_for_exit",
                                          "terminal/kill", "terminal/release"};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (!strcmp(method, methods[i]))
            return true;
    return false;
}

/* ---- the list ---- */

static struct terminal *add(struct session *s, uint64_t incarnation, uint64_t offset)
{
    struct terminal *t = sa_calloc(1, sizeof *t), **at = &s->terminals;
    t->session = s;
    t->incarnation = incarnation;
    t->offset = offset;
    t->process_id = sa_strdup("");
    while (*at)
        at = &(*at)->next;
    return *at = t;
}

static void terminal_free(struct terminal *t)
{
    rpc_abandon(t->request);
    rpc_message_free(t->ended);
    free(t->page_token);
    free(t->process_id);
    free(t);
}

void terminals_clear(struct session *s)
{
    for (struct terminal *t = s->terminals, *next; t; t = next) {
        next = t->next;
        terminal_free(t);
    }
    s->terminals = NULL;
}

void terminals_abandon(struct session *s)
{
    for (struct terminal *t = s->terminals; t; t = t->next) {
        rpc_abandon(t->request);
        t->request = NULL;
    }
}

/* The row goes, and it is forgotten. */
static void drop(struct terminal *t)
{
    struct session *s = t->session;
    struct store_key key = key_of(t);
    store_delete(session_set(s), DB_P_TERMINALS, &key);
    session_changed(s);
    for (struct terminal **at = &s->terminals; *at; at = &(*at)->next)
        if (*at == t) {
            *at = t->next;
            break;
        }
    terminal_free(t);
}

uint32_t terminals_doomed(const struct session *s)
{
    uint32_t n = 0;
    for (const struct terminal *t = s->terminals; t; t = t->next)
        n += t->doomed;
    return n;
}

struct terminal *terminals_named(struct session *s, struct json params)
{
    struct json id = json_get(params, "terminalId");
    for (struct terminal *t = s->terminals; t; t = t->next)
        if (t->incarnation == s->link.incarnation && !t->doomed && json_is(id, id_of(t).text))
            return t;
    return NULL;
}

/* ---- stored form ---- */

static void store_row(struct terminal *t, StoredLaunch *launch)
{
    StoredTerminal row = STORED_TERMINAL__INIT;
    row.launch = launch;
    row.process_id = t->process_id;
    row.doomed = t->doomed;
    row.output_limit = t->output_limit;
    row.start_time_us = t->start_time_us;
    row.ended = t->ended;
    struct store_key key = key_of(t);
    store_put(session_set(t->session), DB_P_TERMINALS, &key, &row.base);
    session_changed(t->session);
}

struct loading {
    struct session *session;
    sa_error *err;
};

static bool load_row(void *user, const struct store_row *row)
{
    struct loading *l = user;
    StoredTerminal *m = store_row_unpack(row, &l->err);
    if (!m || row->key_len != 32)
        return false;
    struct terminal *t = add(l->session, store_u64(row->key + 16), store_u64(row->key + 24));
    session_set_text(&t->process_id, m->process_id);
    t->doomed = m->doomed;
    t->output_limit = m->output_limit;
    t->start_time_us = m->start_time_us;
    t->ended = steal_pointer(&m->ended);
    store_message_free(m);
    return true;
}

int terminals_load(struct session *s, sa_error **err)
{
    struct loading l = {.session = s};
    struct store_key prefix = db_key(s->id);
    struct store_range range = {.table = DB_P_TERMINALS, .prefix = &prefix};
    if (store_scan(s->all->store, &range, load_row, &l, err) < 0)
        return -1;
    return l.err ? sa_pass(err, l.err) : 0;
}

/* ---- create ---- */

static ProtobufCBinaryData text_bytes(const char *text)
{
    return (ProtobufCBinaryData){strlen(text), (uint8_t *)(uintptr_t)text};
}

/* Some agents put a whole command line into `command`. */
static bool is_command_line(const char *command)
{
    return command[strcspn(command, " \t\r\n|&;<>()$`\\\"'*?[#~%{}")] != '\0';
}

static void fill_argv(StoredLaunch *launch, struct json params, struct sa_arena *arena)
{
    static char shell[] = "/bin/sh", dash_c[] = "-c";
    const char *command = json_arena_string(arena, json_get(params, "command"));
    struct json args = json_get(params, "args"), v;
    size_t n = json_type(args) == JSON_ARRAY ? json_count(args) : 0;
    launch->argv = sa_arena_alloc(arena, (n + 3) * sizeof *launch->argv);
    if (!n && is_command_line(command)) {
        launch->argv[launch->n_argv++] = text_bytes(shell);
        launch->argv[launch->n_argv++] = text_bytes(dash_c);
    }
    launch->argv[launch->n_argv++] = text_bytes(command);
    for (struct json_iter it = json_iter(args); n && json_next(&it, NULL, &v);)
        launch->argv[launch->n_argv++] = text_bytes(json_arena_string(arena, v));
}

static int fill_launch(struct session *s, struct json params, StoredLaunch *launch, struct sa_arena *arena,
                       sa_error **err)
{
    struct store_key key = db_key(s->id);
    StoredSpec *spec = NULL;
    int found = store_get(s->all->store, DB_SPECS, &key, &spec, err);
    if (found <= 0)
        return found < 0 ? -1 : sa_fail(err, SA_STORE_CORRUPT, "the session has no specification");
    fill_argv(launch, params, arena);
    environment_command(s->all, spec, json_get(params, "env"), launch, arena);
    const char *cwd = json_arena_string(arena, json_get(params, "cwd"));
    launch->cwd =
        *cwd ? text_bytes(cwd)
             : (ProtobufCBinaryData){spec->cwd.len, sa_arena_memdup(arena, spec->cwd.data, spec->cwd.len)};
    store_message_free(spec);
    return 0;
}

static void tell_started(struct session *s, const struct terminal *t, const StoredLaunch *launch,
                         const sa_error *err)
{
    struct name id = id_of(t);
    TerminalStarted started = TERMINAL_STARTED__INIT;
    started.terminal_id = id.text;
    started.argv = launch->argv;
    started.n_argv = launch->n_argv;
    started.cwd = launch->cwd;
    started.process_id = t->process_id;
    if (err) {
        started.error_reason = (char *)(uintptr_t)err->reason;
        started.message = err->message;
    }
    Event e = EVENT__INIT;
    e.kind_case = EVENT__KIND_TERMINAL_STARTED;
    e.terminal_started = &started;
    session_event(s, &e);
}

static size_t count(const struct session *s)
{
    size_t n = 0;
    for (const struct terminal *t = s->terminals; t; t = t->next)
        n++;
    return n;
}

static void create(struct session *s, struct pending *p, struct json params)
{
    const char *wrong =
        json_type(json_get(params, "command")) != JSON_STRING || params.n > TERMINAL_COMMAND_MAX
            ? "Invalid params: command is to be a text, all of it at most 256 KiB"
            : NULL;
    if (!wrong && json_type(json_get(params, "cwd")) == JSON_STRING &&
        json_get(params, "cwd").p[1] != '/') /* behind its quote */
        wrong = "Invalid params: cwd is to be absolute";
    if (wrong) {
        requests_refuse(s, p, INVALID_PARAMS, wrong);
        return;
    }
    if (count(s) >= TERMINALS_MAX) {
        requests_refuse(s, p, TERMINAL_FAILED, "There are 100 terminals already: release some");
        return;
    }
    struct sa_arena *arena = sa_arena_new();
    StoredLaunch launch = STORED_LAUNCH__INIT;
    cleanup_error sa_error *err = NULL;
    if (fill_launch(s, params, &launch, arena, &err)) {
        requests_refuse(s, p, TERMINAL_FAILED, err->message);
    } else {
        struct terminal *t = add(s, s->link.incarnation, p->offset);
        uint64_t limit = TERMINAL_OUTPUT_DEFAULT;
        json_uint(json_get(params, "outputByteLimit"), &limit);
        t->output_limit = limit < TERMINAL_OUTPUT_MAX ? limit : TERMINAL_OUTPUT_MAX;
        t->batch = s->batch;
        store_row(t, &launch);
    }
    sa_arena_free(arena);
}

static void start_failed(struct terminal *t, const StoredLaunch *launch, const sa_error *err)
{
    struct session *s = t->session;
    struct pending *p = requests_find(s, t->offset);
    tell_started(s, t, launch, err);
    if (p)
        requests_refuse(s, p, TERMINAL_FAILED, err->message);
    drop(t);
}

static void start_done(struct terminal *t, const StoredLaunch *launch, const Process *process)
{
    struct session *s = t->session;
    struct pending *p = requests_find(s, t->offset);
    session_set_text(&t->process_id, process->process_id);
    t->start_time_us = sa_wall_us();
    store_row(t, NULL);
    tell_started(s, t, launch, NULL);
    cleanup_buf struct sa_buf result = {0};
    sa_buf_addf(&result, "{\"terminalId\":\"%s\"}", id_of(t).text);
    if (p)
        requests_answer(s, p, &result);
}

static bool is_passing(const sa_error *err)
{
    return err->code == SA_CODE_UNAVAILABLE || err->code == SA_CODE_DEADLINE_EXCEEDED ||
           err->code == SA_CODE_CANCELLED || sa_error_is(err, SA_TOO_MANY);
}

static StoredTerminal *read_row(struct terminal *t, sa_error **err)
{
    struct store_key key = key_of(t);
    StoredTerminal *row = NULL;
    int found = store_get(t->session->all->store, DB_P_TERMINALS, &key, &row, err);
    if (found == 0 || (found > 0 && !row->launch)) {
        store_message_free(row);
        row = NULL;
        sa_fail(err, SA_STORE_CORRUPT, "terminal %s has no launch", id_of(t).text);
    }
    return row;
}

static void started(void *user, const StartProcessResponse *res, const sa_error *failed)
{
    struct terminal *t = user;
    struct session *s = t->session;
    t->request = NULL;
    SA_FAULT("terminal.started");
    if (failed && is_passing(failed)) {
        link_retry_later(s);
        return;
    }
    if (t->doomed) {
        if (!failed)
            link_condemn(s, res->process->process_id);
        drop(t);
    } else {
        cleanup_error sa_error *err = failed ? sa_error_copy(failed) : NULL;
        cleanup_message StoredTerminal *row = read_row(t, err ? NULL : &err);
        StoredLaunch none = STORED_LAUNCH__INIT;
        if (err)
            start_failed(t, row ? row->launch : &none, err);
        else
            start_done(t, row->launch, res->process);
    }
    session_settle(s);
}

static void start(struct terminal *t)
{
    cleanup_error sa_error *err = NULL;
    cleanup_message StoredTerminal *row = read_row(t, &err);
    if (!row) {
        sa_log(SA_LOG_ERROR, "terminal.unreadable", "session=%s error=\"%s\"", t->session->name,
               err->message);
        link_retry_later(t->session);
        return;
    }
    struct name label = label_of(t);
    ProcessSpec__LabelsEntry labels[2] = {PROCESS_SPEC__LABELS_ENTRY__INIT, PROCESS_SPEC__LABELS_ENTRY__INIT};
    ProcessSpec__LabelsEntry *label_list[2] = {&labels[0], &labels[1]};
    labels[0].key = (char[]){"session"};
    labels[0].value = t->session->name;
    labels[1].key = (char[]){"terminal"};
    labels[1].value = label.text;
    ProcessSpec spec = PROCESS_SPEC__INIT;
    spec.argv = row->launch->argv;
    spec.n_argv = row->launch->n_argv;
    spec.env = row->launch->env;
    spec.n_env = row->launch->n_env;
    spec.cwd = row->launch->cwd;
    /* Each stream keeps the limit, and the order of arrival is kept for about a quarter. */
    spec.journal_bytes = JOURNAL_MIN + 4 * t->output_limit;
    spec.labels = label_list;
    spec.n_labels = 2;
    StartProcessRequest req = START_PROCESS_REQUEST__INIT;
    req.request_id = label.text;
    req.spec = &spec;
    SA_FAULT("terminal.start");
    t->request = start_process_call(t->session->all->process, &req, NULL, started, t);
}

/* ---- the end ---- */

static void answer_waiting(struct session *s, const struct terminal *t, struct pending *p)
{
    cleanup_buf struct sa_buf result = {0};
    struct json_writer w = json_writer(&result);
    terminals_put_exit(&w, t->ended);
    requests_answer(s, p, &result);
}

static struct pending *next_waiting(struct session *s, const struct terminal *t)
{
    struct name id = id_of(t);
    struct pending *p = s->link.pending;
    while (p && (strcmp(p->method, "terminal/wait_for_exit") ||
                 !json_is(json_get((struct json){(const char *)p->params.data, p->params.len}, "terminalId"),
                          id.text)))
        p = p->next;
    return p;
}

/* how->terminal_id and duration_ms are filled in here. */
static void end(struct terminal *t, TerminalEnded *how)
{
    struct name id = id_of(t);
    int64_t us = sa_wall_us() - t->start_time_us;
    how->terminal_id = id.text;
    how->duration_ms = us > 0 ? (uint64_t)us / 1000 : 0;
    Event e = EVENT__INIT;
    e.kind_case = EVENT__KIND_TERMINAL_ENDED;
    e.terminal_ended = how;
    session_event(t->session, &e);
    size_t n = terminal_ended__get_packed_size(how);
    cleanup_free uint8_t *packed = sa_malloc(n + 1);
    terminal_ended__pack(how, packed);
    t->ended = rpc_unpack(&terminal_ended__descriptor, packed, n, NULL);
}

void terminals_ended(struct terminal *t, const ExitRecord *x)
{
    struct session *s = t->session;
    if (t->ended)
        return;
    TerminalEnded how = TERMINAL_ENDED__INIT;
    if (x && x->kind_case == EXIT_RECORD__KIND_EXIT_CODE) {
        how.kind_case = TERMINAL_ENDED__KIND_EXIT_CODE;
        how.exit_code = x->exit_code;
    } else if (x && x->kind_case == EXIT_RECORD__KIND_SIGNAL) {
        how.kind_case = TERMINAL_ENDED__KIND_SIGNAL;
        how.signal = x->signal;
    } else {
        how.kind_case = TERMINAL_ENDED__KIND_LOST;
        how.lost = x && x->kind_case == EXIT_RECORD__KIND_LOST
                       ? x->lost
                       : (char[]){"its process is not known any more"};
    }
    end(t, &how);
    store_row(t, NULL);
    SA_FAULT("terminal.ended");
    for (struct pending *p; (p = next_waiting(s, t));)
        answer_waiting(s, t, p);
}

static void waited(void *user, const WaitProcessResponse *res, const sa_error *err)
{
    struct terminal *t = user;
    struct session *s = t->session;
    t->request = NULL;
    if (err && err->code == SA_CODE_DEADLINE_EXCEEDED) {
        terminals_continue(s);
    } else if (err && is_passing(err)) {
        link_retry_later(s);
    } else {
        if (err && !sa_error_is(err, SA_PROCESS_NOT_FOUND))
            sa_log(SA_LOG_WARN, "terminal.wait_failed", "session=%s error=\"%s\"", s->name, err->message);
        terminals_ended(t, res ? res->exit : NULL);
        session_settle(s);
    }
}

static void wait_for(struct terminal *t)
{
    WaitProcessRequest req = WAIT_PROCESS_REQUEST__INIT;
    struct rpc_call_options opt = {.deadline_ms = WAIT_MS};
    req.process_id = t->process_id;
    t->request = wait_process_call(t->session->all->process, &req, &opt, waited, t);
}

/* It is over for its agent: what runs is killed, what is unknown is doomed. */
static void finish(struct terminal *t, const char *why)
{
    struct session *s = t->session;
    if (!t->ended && *t->process_id) {
        TerminalEnded how = TERMINAL_ENDED__INIT;
        how.kind_case = TERMINAL_ENDED__KIND_KILLED;
        how.killed = (char *)(uintptr_t)why;
        end(t, &how);
    }
    if (*t->process_id) {
        link_condemn(s, t->process_id);
        drop(t);
    } else if (t->batch > s->committed_batch) {
        drop(t); /* nobody was asked to start it */
    } else {
        t->doomed = true;
        store_row(t, NULL);
    }
}

static void release(struct session *s, struct pending *p, struct terminal *t)
{
    for (struct pending *w; (w = next_waiting(s, t));)
        requests_refuse(s, w, TERMINAL_NOT_FOUND, "The terminal was released");
    finish(t, "RELEASED");
    cleanup_buf struct sa_buf result = {0};
    sa_buf_addf(&result, "{}");
    requests_answer(s, p, &result);
}

void terminals_end_all(struct session *s)
{
    for (struct terminal *t = s->terminals, *next; t; t = next) {
        next = t->next;
        if (!t->doomed)
            finish(t, sa_reason_name(SA_AGENT_EXITED));
    }
}

/* ---- search for the process of a doomed one ---- */

static void searched(void *user, const ListProcessesResponse *res, const sa_error *err)
{
    struct terminal *t = user;
    struct session *s = t->session;
    t->request = NULL;
    if (err) {
        link_retry_later(s);
        return;
    }
    if (!res->n_processes && *res->next_page_token) {
        session_set_text(&t->page_token, res->next_page_token);
        terminals_continue(s);
        return;
    }
    for (size_t i = 0; i < res->n_processes; i++)
        link_condemn(s, res->processes[i]->process_id);
    drop(t);
    session_settle(s);
}

static void search(struct terminal *t)
{
    struct name label = label_of(t);
    ListProcessesRequest req = LIST_PROCESSES_REQUEST__INIT;
    req.label_key = (char[]){"terminal"};
    req.label_value = label.text;
    req.page_token = t->page_token ? t->page_token : (char[]){""};
    t->request = list_processes_call(t->session->all->process, &req, NULL, searched, t);
}

/* ---- requests ---- */

void terminals_take(struct session *s, struct pending *p)
{
    struct json params = {(const char *)p->params.data, p->params.len};
    if (!strcmp(p->method, "terminal/create")) {
        create(s, p, params);
        return;
    }
    struct terminal *t = terminals_named(s, params);
    if (!t || !*t->process_id)
        requests_refuse(s, p, TERMINAL_NOT_FOUND, "There is no such terminal");
    else if (!strcmp(p->method, "terminal/release"))
        release(s, p, t);
    else if (!strcmp(p->method, "terminal/wait_for_exit") && t->ended)
        answer_waiting(s, t, p);
}

static bool is_call(const struct session *s, const struct pending *p)
{
    return p->batch <= s->committed_batch && !p->terminal &&
           (!strcmp(p->method, "terminal/output") || !strcmp(p->method, "terminal/kill"));
}

static struct pending *next_call(struct session *s)
{
    struct pending *p = s->link.pending;
    while (p && !is_call(s, p))
        p = p->next;
    return p;
}

void terminals_continue(struct session *s)
{
    for (struct terminal *t = s->terminals; t; t = t->next) {
        if (t->batch > s->committed_batch || t->request)
            continue;
        if (!*t->process_id && t->doomed)
            search(t);
        else if (!*t->process_id)
            start(t);
        else if (!t->ended)
            wait_for(t);
    }
    /* One that is refused at once goes with its row: so from the front each time. */
    for (struct pending *p; (p = next_call(s));) {
        struct json params = {(const char *)p->params.data, p->params.len};
        struct terminal *t = terminals_named(s, params);
        if (t)
            terminals_call(s, t, p);
        else
            requests_refuse(s, p, TERMINAL_NOT_FOUND, "There is no such terminal");
    }
}
