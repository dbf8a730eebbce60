#include "services/session-svc/job.h"

#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/fault.h"
#include "adapters/os/log.h"
#include "services/session-svc/lines.h"

enum { RETRY_FIRST_MS = 50, RETRY_MAX_MS = 2000 };

struct job {
    struct job *next;
    struct sessions *all;
    struct job_options opt; /* its texts are in the arena */
    struct sa_arena *arena;
    ProcessSpec spec;
    char *process_id; /* NULL: not known yet */
    struct rpc_request *request, *attachment;
    struct lines streams[2];
    struct sa_timer *retry, *deadline;
    uint32_t retry_ms;
    bool done, ending, nothing; /* nothing: there is no process */
    /* of a sweep only */
    bool (*wanted)(void *user, const char *label);
    void *wanted_user;
};

static void drive(struct job *j);

static void free_now(struct job *j)
{
    for (struct job **at = &j->all->jobs; *at; at = &(*at)->next)
        if (*at == j) {
            *at = j->next;
            break;
        }
    rpc_abandon(j->request);
    rpc_abandon(j->attachment);
    sa_timer_free(j->retry);
    sa_timer_free(j->deadline);
    lines_fini(&j->streams[0]);
    lines_fini(&j->streams[1]);
    free(j->process_id);
    sa_arena_free(j->arena);
    free(j);
}

void jobs_free(struct sessions *all)
{
    while (all->jobs)
        free_now(all->jobs);
}

static bool is_passing(const sa_error *err)
{
    return err->code == SA_CODE_UNAVAILABLE || err->code == SA_CODE_DEADLINE_EXCEEDED ||
           err->code == SA_CODE_CANCELLED;
}

static void retry_later(struct job *j)
{
    j->retry_ms = !j->retry_ms                     ? RETRY_FIRST_MS
                  : 2 * j->retry_ms < RETRY_MAX_MS ? 2 * j->retry_ms
                                                   : RETRY_MAX_MS;
    sa_timer_start(j->retry, j->retry_ms);
}

static void retry_due(void *user)
{
    drive(user);
}

static void finish(struct job *j, const ExitRecord *exit, const sa_error *err)
{
    if (j->done || j->ending)
        return;
    j->done = true;
    sa_timer_stop(j->deadline);
    sa_timer_stop(j->retry);
    rpc_abandon(j->attachment);
    j->attachment = NULL;
    j->opt.done(j->opt.user, exit, err); /* may end the job */
}

static void deadline_passed(void *user)
{
    struct job *j = user;
    cleanup_error sa_error *err = NULL;
    sa_fail(&err, SA_DEADLINE_EXCEEDED, "%s did not end within %u s", j->opt.argv[0],
            j->opt.timeout_ms / 1000);
    finish(j, NULL, err);
}

/* ---- its output ---- */

/* True: the job is done. */
static bool hand_out(struct job *j, unsigned stream, enum lines_what what, const struct line *line)
{
    if (what != LINES_LINE || !j->opt.line ||
        !j->opt.line(j->opt.user, stream, (const char *)line->p, line->n))
        return false;
    finish(j, NULL, NULL);
    return true;
}

static void take_output(struct job *j, const AttachOutput *out)
{
    unsigned stream = out->stream == OUTPUT_STREAM_STDOUT ? 1 : 2;
    struct lines *l = &j->streams[stream - 1];
    uint64_t end = lines_end(l);
    if (out->offset > end) {
        lines_fini(l);
        lines_init(l, JOB_LINE_MAX, end = out->offset);
    }
    if (out->offset + out->data.len <= end)
        return;
    size_t skip = end - out->offset;
    struct line line;
    lines_feed(l, out->data.data + skip, out->data.len - skip);
    for (enum lines_what w; (w = lines_next(l, &line)) != LINES_NONE;)
        if (hand_out(j, stream, w, &line))
            return;
}

static void take_exit(struct job *j, const ExitRecord *exit)
{
    for (unsigned stream = 1; stream <= 2; stream++) {
        struct line line;
        enum lines_what w = lines_last(&j->streams[stream - 1], &line);
        if (w != LINES_NONE && hand_out(j, stream, w, &line))
            return;
    }
    finish(j, exit, NULL);
}

static void write_input(struct job *j, uint64_t from)
{
    size_t n = j->opt.input ? strlen(j->opt.input) : 0;
    if (j->opt.input && from >= n)
        return;
    AttachInput input = ATTACH_INPUT__INIT;
    input.offset = from;
    input.data =
        (ProtobufCBinaryData){n ? n - from : 0, (uint8_t *)(uintptr_t)(n ? j->opt.input + from : "")};
    input.eof = !j->opt.input;
    AttachProcessRequest req = ATTACH_PROCESS_REQUEST__INIT;
    req.kind_case = ATTACH_PROCESS_REQUEST__KIND_INPUT;
    req.input = &input;
    attach_process_write(j->attachment, &req);
}

static void on_message(void *user, const AttachProcessResponse *m)
{
    struct job *j = user;
    if (m->kind_case == ATTACH_PROCESS_RESPONSE__KIND_OPENED && m->opened->process)
        write_input(j, m->opened->process->stdin_offset);
    else if (m->kind_case == ATTACH_PROCESS_RESPONSE__KIND_OUTPUT)
        take_output(j, m->output);
    else if (m->kind_case == ATTACH_PROCESS_RESPONSE__KIND_EXITED)
        take_exit(j, m->exited);
}

static void on_end(void *user, const sa_error *err)
{
    struct job *j = user;
    j->attachment = NULL;
    if (err && sa_error_is(err, SA_PROCESS_NOT_FOUND))
        finish(j, NULL, err);
    else if (!j->done)
        retry_later(j); /* STDIN_CLOSED, too: how it ends is what matters */
}

static void attach(struct job *j)
{
    static const struct attach_process_client callbacks = {on_message, NULL, on_end};
    for (int i = 0; i < 2; i++) /* what was read beyond the last whole line is read again */
        j->streams[i].buf.len = j->streams[i].at = j->streams[i].scanned = 0;
    AttachOpen open = ATTACH_OPEN__INIT;
    open.process_id = j->process_id;
    open._stdout_offset_case = ATTACH_OPEN___STDOUT_OFFSET_STDOUT_OFFSET;
    open.stdout_offset = j->streams[0].offset;
    open._stderr_offset_case = ATTACH_OPEN___STDERR_OFFSET_STDERR_OFFSET;
    open.stderr_offset = j->streams[1].offset;
    AttachProcessRequest req = ATTACH_PROCESS_REQUEST__INIT;
    req.kind_case = ATTACH_PROCESS_REQUEST__KIND_OPEN;
    req.open = &open;
    j->attachment = attach_process_open(j->all->process, NULL, &callbacks, j);
    attach_process_write(j->attachment, &req);
}

/* ---- start, delete ---- */

static void started(void *user, const StartProcessResponse *res, const sa_error *err)
{
    struct job *j = user;
    j->request = NULL;
    SA_FAULT("job.started");
    if (err && (is_passing(err) || (j->ending && sa_error_is(err, SA_TOO_MANY)))) {
        retry_later(j);
        return;
    }
    if (res)
        j->process_id = sa_strdup(res->process->process_id);
    j->retry_ms = 0;
    j->nothing = !res;
    if (j->ending && j->nothing)
        free_now(j);
    else if (err)
        finish(j, NULL, err);
    else
        drive(j);
}

static void start(struct job *j)
{
    StartProcessRequest req = START_PROCESS_REQUEST__INIT;
    req.request_id = (char *)(uintptr_t)j->opt.request_id;
    req.spec = &j->spec;
    SA_FAULT("job.start");
    j->request = start_process_call(j->all->process, &req, NULL, started, j);
}

static void deleted(void *user, const DeleteProcessResponse *res, const sa_error *err)
{
    (void)res;
    struct job *j = user;
    j->request = NULL;
    SA_FAULT("job.deleted");
    if (err && is_passing(err)) {
        retry_later(j);
        return;
    }
    if (err && !sa_error_is(err, SA_PROCESS_NOT_FOUND))
        sa_log(SA_LOG_WARN, "job.delete_failed", "process=%s error=\"%s\"", j->process_id, err->message);
    free_now(j);
}

/* Does what comes next. */
static void drive(struct job *j)
{
    if (j->all->stopped || j->request || sa_timer_active(j->retry))
        return;
    if (j->ending && j->nothing) {
        free_now(j);
    } else if (!j->process_id) {
        start(j); /* also to end it: it may have been started */
    } else if (j->ending) {
        DeleteProcessRequest req = DELETE_PROCESS_REQUEST__INIT;
        req.process_id = j->process_id;
        req.kill = true;
        j->request = delete_process_call(j->all->process, &req, NULL, deleted, j);
    } else if (!j->attachment && !j->done) {
        attach(j);
    }
}

static void end_later(void *user)
{
    struct sessions *all = user; /* jobs that have ended inside of one of their own callbacks */
    for (struct job *j = all->jobs, *next; j; j = next) {
        next = j->next;
        if (j->ending)
            drive(j);
    }
}

void job_end(struct job *j)
{
    if (!j)
        return;
    j->ending = true;
    sa_timer_stop(j->deadline);
    rpc_abandon(j->attachment);
    j->attachment = NULL;
    if (!j->all->stopped)
        sa_defer(j->all->loop, end_later, j->all);
}

/* ---- new ---- */

static ProtobufCBinaryData *texts(struct job *j, char *const *list, size_t *ret_n)
{
    size_t n = 0;
    while (list && list[n])
        n++;
    ProtobufCBinaryData *copy = sa_arena_alloc(j->arena, (n + 1) * sizeof *copy);
    for (size_t i = 0; i < n; i++)
        copy[i] = (ProtobufCBinaryData){strlen(list[i]), (uint8_t *)sa_arena_strdup(j->arena, list[i])};
    *ret_n = n;
    return copy;
}

static void fill_spec(struct job *j, const struct job_options *opt)
{
    process_spec__init(&j->spec);
    j->spec.argv = texts(j, opt->argv, &j->spec.n_argv);
    j->spec.env = texts(j, opt->env, &j->spec.n_env);
    j->spec.cwd = (ProtobufCBinaryData){strlen(opt->cwd), (uint8_t *)sa_arena_strdup(j->arena, opt->cwd)};
    ProcessSpec__LabelsEntry *label = sa_arena_alloc(j->arena, sizeof *label);
    *label = (ProcessSpec__LabelsEntry)PROCESS_SPEC__LABELS_ENTRY__INIT;
    label->key = sa_arena_strdup(j->arena, "job");
    label->value = sa_arena_strdup(j->arena, opt->label);
    j->spec.labels = sa_arena_alloc(j->arena, sizeof *j->spec.labels);
    j->spec.labels[j->spec.n_labels++] = label;
    struct passwd *pw = opt->as_ourselves && service_agent_user(j->all->svc) ? getpwuid(geteuid()) : NULL;
    if (pw)
        j->spec.user = sa_arena_strdup(j->arena, pw->pw_name);
}

static struct job *new_job(struct sessions *all)
{
    struct job *j = sa_calloc(1, sizeof *j);
    j->all = all;
    j->arena = sa_arena_new();
    lines_init(&j->streams[0], JOB_LINE_MAX, 0);
    lines_init(&j->streams[1], JOB_LINE_MAX, 0);
    j->retry = sa_timer_new(all->loop, retry_due, j);
    j->deadline = sa_timer_new(all->loop, deadline_passed, j);
    j->next = all->jobs;
    all->jobs = j;
    return j;
}

struct job *job_start(struct sessions *all, const struct job_options *opt)
{
    struct job *j = new_job(all);
    j->opt = *opt;
    j->opt.request_id = sa_arena_strdup(j->arena, opt->request_id);
    j->opt.input = opt->input ? sa_arena_strdup(j->arena, opt->input) : NULL;
    fill_spec(j, opt);
    char **argv = sa_arena_alloc(j->arena, 2 * sizeof *argv);
    argv[0] = (char *)j->spec.argv[0].data; /* for messages */
    j->opt.argv = argv;
    sa_timer_start(j->deadline, opt->timeout_ms);
    drive(j);
    return j;
}

/* ---- sweep ---- */

static void listed(void *user, const ListProcessesResponse *res, const sa_error *err)
{
    struct job *sweep = user;
    sweep->request = NULL;
    if (err)
        sa_log(SA_LOG_WARN, "job.sweep_failed", "error=\"%s\"", err->message);
    for (size_t i = 0; res && i < res->n_processes; i++) {
        const ProcessSpec *spec = res->processes[i]->spec;
        const char *label = "";
        for (size_t l = 0; spec && l < spec->n_labels; l++)
            if (!strcmp(spec->labels[l]->key, "job"))
                label = spec->labels[l]->value;
        if (sweep->wanted(sweep->wanted_user, label))
            continue;
        struct job *j = new_job(sweep->all);
        j->process_id = sa_strdup(res->processes[i]->process_id);
        j->ending = true;
        drive(j);
    }
    free_now(sweep);
}

void jobs_sweep(struct sessions *all, bool (*wanted)(void *user, const char *label), void *user)
{
    static const struct rpc_call_options wait = {.wait_for_ready = true};
    struct job *sweep = new_job(all);
    sweep->wanted = wanted;
    sweep->wanted_user = user;
    ListProcessesRequest req = LIST_PROCESSES_REQUEST__INIT;
    req.page_size = 1000;
    req.label_key = (char[]){"job"};
    sweep->request = list_processes_call(all->process, &req, &wait, listed, sweep);
}

const char *job_exit_text(const ExitRecord *x, struct sa_arena *arena)
{
    if (x->kind_case == EXIT_RECORD__KIND_EXIT_CODE)
        return sa_arena_format(arena, "exited with code %u", x->exit_code);
    if (x->kind_case == EXIT_RECORD__KIND_SIGNAL)
        return sa_arena_format(arena, "was ended by signal %u", x->signal);
    return sa_arena_format(arena, "is lost: %s", x->kind_case == EXIT_RECORD__KIND_LOST ? x->lost : "?");
}
