#include "services/process-svc/tests/fixture.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "adapters/os/file.h"

#define PROGRAM "services/process-svc/process-svc"

char error_message[512];

/* ---- what is freed at the end of a test ---- */

static void *messages[4096], *texts[4096];
static size_t n_messages, n_texts;

static void *keep_message(void *m)
{
    assert_true(n_messages < sizeof messages / sizeof *messages);
    return messages[n_messages++] = m;
}

char *keep_text(char *text)
{
    assert_true(n_texts < sizeof texts / sizeof *texts);
    return texts[n_texts++] = text;
}

static void free_kept(void)
{
    while (n_messages)
        rpc_message_free(messages[--n_messages]);
    while (n_texts)
        free(texts[--n_texts]);
}

/* ---- the service ---- */

static void run_program(struct svc *s, const char *const *extra)
{
    cleanup_free char *fault = sa_format("SA_FAULT=%s:1", s->fault);
    const struct program_options faulty = {.env = WORDS(fault)};
    const char *argv[24] = {
        s->fault ? PROGRAM "-faults" : PROGRAM, "--data-dir", s->dir, "--no-token", "--durability", "nosync"};
    for (int i = 6; extra && *extra; i++)
        argv[i] = *extra++;
    s->program = program_start(argv, s->fault ? &faulty : NULL);
    program_wait_for(&s->program, "service.ready");
    cleanup_free char *target = sa_format("unix:%s/run/process.sock", s->dir);
    s->caller = caller_open(target, NULL, NULL);
    s->channel = s->caller.channel;
}

struct svc svc_start(const char *const *extra)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* orphans come to us: what is left can be seen */
    struct svc s = {.dir = harness_dir()};
    run_program(&s, extra);
    return s;
}

void svc_again(struct svc *s, const char *const *extra)
{
    run_program(s, extra);
}

static void svc_ended(struct svc *s)
{
    caller_close(&s->caller);
    if (getenv("VERBOSE"))
        fprintf(stderr, "%s", program_output(&s->program));
    program_free(&s->program);
}

void svc_kill(struct svc *s)
{
    program_signal(&s->program, SIGKILL);
    program_wait(&s->program);
    svc_ended(s);
}

void svc_stop(struct svc *s)
{
    program_signal(&s->program, SIGTERM);
    int code = program_wait(&s->program);
    if (code)
        fail_msg("the service ended with %d:\n%s", code, program_output(&s->program));
    svc_ended(s);
    free_kept();
}

static bool no_child(void *user)
{
    (void)user;
    return waitpid(-1, NULL, WNOHANG) < 0;
}

int svc_setup(void **state)
{
    struct svc *s = malloc(sizeof *s);
    *s = svc_start(NULL);
    *state = s;
    return 0;
}

int svc_teardown(void **state)
{
    svc_stop(*state);
    free(*state);
    wait_until(no_child, NULL, "nothing is left behind");
    return 0;
}

/* ---- specs ---- */

ProtobufCBinaryData bytes_of(const char *text)
{
    return (ProtobufCBinaryData){strlen(text), (uint8_t *)(uintptr_t)text};
}

struct spec *spec_new(void)
{
    struct spec *s = calloc(1, sizeof *s);
    process_spec__init(&s->message);
    s->message.argv = s->argv;
    s->message.env = s->env;
    s->message.labels = s->labels;
    s->labels[0] = &s->label;
    process_spec__labels_entry__init(&s->label);
    spec_env(s, "PATH=/usr/bin:/bin");
    return s;
}

void spec_word(struct spec *s, const char *word)
{
    s->argv[s->message.n_argv++] = bytes_of(word);
}

void spec_env(struct spec *s, const char *entry)
{
    s->env[s->message.n_env++] = bytes_of(entry);
}

struct spec *shell(const char *command)
{
    struct spec *s = spec_new();
    spec_word(s, "sh");
    spec_word(s, "-c");
    spec_word(s, command);
    return s;
}

void spec_restart(struct spec *s, RestartMode mode, uint32_t backoff_ms, uint32_t backoff_max_ms,
                  uint32_t max)
{
    restart_policy__init(&s->restart);
    s->restart.mode = mode;
    s->restart.backoff_ms = backoff_ms;
    s->restart.backoff_max_ms = backoff_max_ms;
    s->restart.max_restarts = max;
    s->message.restart = &s->restart;
}

ProcessLimits *spec_limits(struct spec *s)
{
    process_limits__init(&s->limits);
    return s->message.limits = &s->limits;
}

ReadinessProbe *spec_readiness(struct spec *s)
{
    readiness_probe__init(&s->readiness);
    return s->message.readiness = &s->readiness;
}

/* ---- calls ---- */

static const struct rpc_call_options patient = {.deadline_ms = PATIENCE_MS};

static const char *told(sa_error *err)
{
    if (!err)
        return "OK";
    snprintf(error_message, sizeof error_message, "%s", err->message);
    const char *reason = keep_text(sa_strdup(err->reason));
    sa_error_free(err);
    return reason;
}

static void *must(void *message, sa_error **err)
{
    if (!message)
        fail_msg("%s: %s", (*err)->reason, (*err)->message);
    return keep_message(message);
}

const char *start(struct svc *s, struct spec *spec)
{
    program_read(&s->program);
    sa_error *err = NULL;
    StartProcessRequest req = START_PROCESS_REQUEST__INIT;
    req.spec = &spec->message;
    StartProcessResponse *res = must(start_process_wait(s->channel, &req, &patient, &err), &err);
    free(spec);
    return res->process->process_id;
}

const char *start_shell(struct svc *s, const char *command)
{
    return start(s, shell(command));
}

const char *start_error(struct svc *s, struct spec *spec, const char *request_id)
{
    sa_error *err = NULL;
    StartProcessRequest req = START_PROCESS_REQUEST__INIT;
    req.spec = &spec->message;
    req.request_id = (char *)(uintptr_t)request_id;
    StartProcessResponse *res = start_process_wait(s->channel, &req, &patient, &err);
    free(spec);
    rpc_message_free(res);
    return told(err);
}

Process *get(struct svc *s, const char *id)
{
    program_read(&s->program);
    sa_error *err = NULL;
    GetProcessRequest req = GET_PROCESS_REQUEST__INIT;
    req.process_id = (char *)(uintptr_t)id;
    GetProcessResponse *res = must(get_process_wait(s->channel, &req, &patient, &err), &err);
    return res->process;
}

ExitRecord *wait_for(struct svc *s, const char *id)
{
    program_read(&s->program);
    sa_error *err = NULL;
    WaitProcessRequest req = WAIT_PROCESS_REQUEST__INIT;
    req.process_id = (char *)(uintptr_t)id;
    WaitProcessResponse *res = must(wait_process_wait(s->channel, &req, &patient, &err), &err);
    return res->exit;
}

static StopProcessResponse *stop_call(struct svc *s, const char *id, uint32_t signum, uint32_t grace_ms,
                                      uint32_t deadline_ms, sa_error **err)
{
    StopProcessRequest req = STOP_PROCESS_REQUEST__INIT;
    const struct rpc_call_options opt = {.deadline_ms = deadline_ms};
    req.process_id = (char *)(uintptr_t)id;
    req.signal = signum;
    req._grace_ms_case = STOP_PROCESS_REQUEST___GRACE_MS_GRACE_MS;
    req.grace_ms = grace_ms;
    return stop_process_wait(s->channel, &req, &opt, err);
}

ExitRecord *stop_it(struct svc *s, const char *id, uint32_t signum, uint32_t grace_ms)
{
    sa_error *err = NULL;
    StopProcessResponse *res = must(stop_call(s, id, signum, grace_ms, PATIENCE_MS, &err), &err);
    return res->exit;
}

const char *stop_error(struct svc *s, const char *id, uint32_t signum, uint32_t grace_ms,
                       uint32_t deadline_ms)
{
    sa_error *err = NULL;
    rpc_message_free(stop_call(s, id, signum, grace_ms, deadline_ms, &err));
    return told(err);
}

struct awaited {
    struct svc *s;
    const char *id;
    bool (*is_so)(const Process *p);
};

static bool process_is_so(void *user)
{
    struct awaited *a = user;
    GetProcessRequest req = GET_PROCESS_REQUEST__INIT;
    sa_error *err = NULL;
    req.process_id = (char *)(uintptr_t)a->id;
    GetProcessResponse *res = get_process_wait(a->s->channel, &req, &patient, &err);
    if (!res)
        fail_msg("%s: %s", err->reason, err->message);
    bool so = a->is_so(res->process);
    rpc_message_free(res);
    return so;
}

Process *wait_until_process(struct svc *s, const char *id, bool (*is_so)(const Process *p), const char *what)
{
    struct awaited a = {s, id, is_so};
    wait_until(process_is_so, &a, what);
    return get(s, id);
}

GetProcessTreeResponse *tree_of(struct svc *s, const char *id)
{
    sa_error *err = NULL;
    GetProcessTreeRequest req = GET_PROCESS_TREE_REQUEST__INIT;
    req.process_id = (char *)(uintptr_t)id;
    return must(get_process_tree_wait(s->channel, &req, &patient, &err), &err);
}

TakeCensusResponse *census(struct svc *s)
{
    sa_error *err = NULL;
    TakeCensusRequest req = TAKE_CENSUS_REQUEST__INIT;
    return must(take_census_wait(s->channel, &req, &patient, &err), &err);
}

ClearStraysResponse *clear_strays(struct svc *s, SystemProcess *const *strays, size_t n)
{
    sa_error *err = NULL;
    ClearStraysRequest req = CLEAR_STRAYS_REQUEST__INIT;
    StrayName names[64], *list[64];
    assert_true(n <= 64);
    for (size_t i = 0; i < n; i++) {
        stray_name__init(list[i] = &names[i]);
        names[i].pid = strays[i]->pid;
        names[i].start_ticks = strays[i]->start_ticks;
    }
    req.n_strays = n;
    req.strays = list;
    return must(clear_strays_wait(s->channel, &req, &patient, &err), &err);
}

static DeleteProcessResponse *delete_call(struct svc *s, const char *id, bool kill, sa_error **err)
{
    program_read(&s->program);
    DeleteProcessRequest req = DELETE_PROCESS_REQUEST__INIT;
    req.process_id = (char *)(uintptr_t)id;
    req.kill = kill;
    return delete_process_wait(s->channel, &req, &patient, err);
}

ExitRecord *delete_it(struct svc *s, const char *id, bool kill)
{
    sa_error *err = NULL;
    DeleteProcessResponse *res = must(delete_call(s, id, kill, &err), &err);
    return res->exit;
}

const char *delete_error(struct svc *s, const char *id, bool kill)
{
    sa_error *err = NULL;
    rpc_message_free(delete_call(s, id, kill, &err));
    return told(err);
}

const char *signal_error(struct svc *s, const char *id, int signum, SignalScope scope)
{
    sa_error *err = NULL;
    SignalProcessRequest req = SIGNAL_PROCESS_REQUEST__INIT;
    req.process_id = (char *)(uintptr_t)id;
    req.signal = (uint32_t)signum;
    req.scope = scope;
    rpc_message_free(signal_process_wait(s->channel, &req, &patient, &err));
    return told(err);
}

void send_signal(struct svc *s, const char *id, int signum, SignalScope scope)
{
    assert_string_equal(signal_error(s, id, signum, scope), "OK");
}

static ReadOutputResponse *read_call(struct svc *s, const char *id, OutputStream stream, uint64_t offset,
                                     sa_error **err)
{
    ReadOutputRequest req = READ_OUTPUT_REQUEST__INIT;
    req.process_id = (char *)(uintptr_t)id;
    req.stream = stream;
    req.offset = offset;
    return read_output_wait(s->channel, &req, &patient, err);
}

const char *read_error(struct svc *s, const char *id, OutputStream stream, uint64_t offset)
{
    sa_error *err = NULL;
    rpc_message_free(read_call(s, id, stream, offset, &err));
    return told(err);
}

char *output_of(struct svc *s, const char *id, OutputStream stream, uint64_t offset)
{
    struct sa_buf all = {0};
    for (;;) {
        sa_error *err = NULL;
        ReadOutputResponse *res = must(read_call(s, id, stream, offset, &err), &err);
        if (!res->data.len)
            break;
        sa_buf_add(&all, res->data.data, res->data.len);
        offset = res->offset + res->data.len;
    }
    sa_buf_add(&all, "", 1);
    return keep_text((char *)all.data);
}

RunProcessResponse *run(struct svc *s, struct spec *spec, RunProcessRequest *req)
{
    sa_error *err = NULL;
    RunProcessRequest init = RUN_PROCESS_REQUEST__INIT;
    req = req ? req : &init;
    req->spec = &spec->message;
    RunProcessResponse *res = must(run_process_wait(s->channel, req, &patient, &err), &err);
    free(spec);
    return res;
}

const char *run_error(struct svc *s, struct spec *spec, RunProcessRequest *req)
{
    sa_error *err = NULL;
    RunProcessRequest init = RUN_PROCESS_REQUEST__INIT;
    req = req ? req : &init;
    req->spec = &spec->message;
    rpc_message_free(run_process_wait(s->channel, req, &patient, &err));
    free(spec);
    return told(err);
}

/* ---- attachments ---- */

struct attached attach(struct svc *s, const AttachOpen *open)
{
    struct attached a = {.stream = attach_process_begin(s->channel, &patient)};
    AttachProcessRequest req = ATTACH_PROCESS_REQUEST__INIT;
    req.kind_case = ATTACH_PROCESS_REQUEST__KIND_OPEN;
    req.open = (AttachOpen *)(uintptr_t)open;
    attach_process_put(a.stream, &req, NULL);
    return a;
}

struct attached attach_output(struct svc *s, const char *id, uint64_t offset)
{
    AttachOpen open = ATTACH_OPEN__INIT;
    open.process_id = (char *)(uintptr_t)id;
    open._stdout_offset_case = ATTACH_OPEN___STDOUT_OFFSET_STDOUT_OFFSET;
    open.stdout_offset = offset;
    struct attached a = attach(s, &open);
    assert_true(next(&a));
    assert_int_equal(a.message->kind_case, ATTACH_PROCESS_RESPONSE__KIND_OPENED);
    assert_string_equal(a.message->opened->process->process_id, id);
    return a;
}

bool next(struct attached *a)
{
    rpc_message_free(a->message);
    a->message = NULL;
    sa_error_free(a->err);
    a->err = NULL;
    return attach_process_next(a->stream, &a->message, &a->err) == 1;
}

void put_input(struct attached *a, uint64_t offset, const char *data, bool eof)
{
    AttachProcessRequest req = ATTACH_PROCESS_REQUEST__INIT;
    AttachInput input = ATTACH_INPUT__INIT;
    input.offset = offset;
    input.data = bytes_of(data);
    input.eof = eof;
    req.kind_case = ATTACH_PROCESS_REQUEST__KIND_INPUT;
    req.input = &input;
    attach_process_put(a->stream, &req, NULL);
}

void put_ack(struct attached *a, uint64_t offset)
{
    AttachProcessRequest req = ATTACH_PROCESS_REQUEST__INIT;
    AttachAck ack = ATTACH_ACK__INIT;
    ack.stdout_offset = offset;
    req.kind_case = ATTACH_PROCESS_REQUEST__KIND_ACK;
    req.ack = &ack;
    attach_process_put(a->stream, &req, NULL);
}

uint64_t next_taken(struct attached *a)
{
    while (next(a))
        if (a->message->kind_case == ATTACH_PROCESS_RESPONSE__KIND_INPUT_TAKEN)
            return a->message->input_taken->next_offset;
    fail_msg("the attachment ended: %s", a->err ? a->err->message : "OK");
    return 0;
}

void detach(struct attached *a)
{
    rpc_message_free(a->message);
    sa_error_free(a->err);
    rpc_stream_free(a->stream);
    *a = (struct attached){0};
}

/* ---- counting ---- */

const char *counting(uint64_t lines)
{
    return keep_text(sa_format("exec seq %llu %llu", COUNT_FROM, COUNT_FROM + lines - 1));
}

void assert_counts(const void *data, size_t n, uint64_t offset)
{
    const char *p = data;
    for (size_t i = 0; i < n;) {
        char line[32];
        uint64_t at = offset + i;
        snprintf(line, sizeof line, "%llu\n", COUNT_FROM + at / LINE);
        size_t from = at % LINE, len = LINE - from < n - i ? LINE - from : n - i;
        if (memcmp(p + i, line + from, len) != 0)
            fail_msg("at byte %llu: expected `%.*s`, got `%.*s`", (unsigned long long)at, (int)len,
                     line + from, (int)len, p + i);
        i += len;
    }
}

/* ---- processes of the machine ---- */

/* Field of /proc/<pid>/stat after the name: state, parent. */
static bool read_stat(int pid, char *ret_state, int *ret_parent)
{
    cleanup_free char *path = sa_format("/proc/%d/stat", pid);
    cleanup_buf struct sa_buf text = {0};
    if (sa_read_file(path, 4096, &text, NULL) < 0 || !text.len)
        return false;
    const char *at = strrchr(sa_buf_string(&text), ')');
    return at && sscanf(at, ") %c %d", ret_state, ret_parent) == 2;
}

bool pid_alive(int pid)
{
    char state;
    int parent;
    return read_stat(pid, &state, &parent) && state != 'Z';
}

int parent_of(int pid)
{
    char state;
    int parent = 0;
    return read_stat(pid, &state, &parent) ? parent : 0;
}

static bool is_gone(void *user)
{
    return !pid_alive(*(int *)user);
}

void wait_pid_gone(int pid)
{
    wait_until(is_gone, &pid, "the process is gone");
}

struct pid_file {
    const char *path;
    int pid;
};

static bool has_pid(void *user)
{
    struct pid_file *f = user;
    cleanup_buf struct sa_buf text = {0};
    if (sa_read_file(f->path, 64, &text, NULL) < 0 || !text.len || !strchr(sa_buf_string(&text), '\n'))
        return false;
    f->pid = atoi((char *)text.data);
    return f->pid > 0;
}

int pid_in_file(const char *path)
{
    struct pid_file f = {path, 0};
    wait_until(has_pid, &f, "a child has written its pid");
    return f.pid;
}

unsigned private_kib(int pid)
{
    cleanup_free char *path = sa_format("/proc/%d/smaps_rollup", pid);
    cleanup_buf struct sa_buf text = {0};
    unsigned clean = 0, dirty = 0;
    assert_int_equal(sa_read_file(path, 65536, &text, NULL), 0);
    sscanf(strstr(sa_buf_string(&text), "Private_Clean:"), "Private_Clean: %u", &clean);
    sscanf(strstr(sa_buf_string(&text), "Private_Dirty:"), "Private_Dirty: %u", &dirty);
    return clean + dirty;
}
