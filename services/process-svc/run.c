/* A runner kills what is left of the tree when the command ends or our connection does; so ending the runner
 * is all it takes to give up a run, and a service that is killed leaves none behind.
 *
 * Short commands run faster one after the other than all at once: the scheduler would cut each into pieces
 * between those of the others. So only a few may be fresh, that is, have begun lately; the others wait for
 * their turn in the order in which they came. One that runs longer is not waited for.
 *
 * One timer serves all runs, and is set anew only when a run ends sooner than it: setting one costs more than
 * the rest of a short command here. */
#include "services/process-svc/run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/fault.h"
#include "adapters/os/mem.h"
#include "services/process-svc/kept.h"
#include "services/process-svc/runners.h"

enum { FRESH_MS = 3, FRESH_PER_CPU = 2 };

struct run {
    struct run *next, **at; /* of all->runs */
    struct run *behind;     /* in all->runs_waiting */
    struct processes *all;
    struct rpc_call *call;
    const RunProcessRequest *req; /* lives as long as the call */
    struct spec_user user;        /* while it waits for its turn */
    struct runner *runner;        /* NULL: it waits */
    uint64_t max_output;
    uint64_t started_ms, until_ms;
    bool fresh, timed_out;
};

/* ---- turns ---- */

static void run_begin(struct run *r);

static void leave_queue(struct run *r)
{
    struct run **at = &r->all->runs_waiting;
    while (*at && *at != r)
        at = &(*at)->behind;
    if (*at)
        *at = r->behind;
}

static void join_queue(struct run *r)
{
    struct run **at = &r->all->runs_waiting;
    while (*at)
        at = &(*at)->behind;
    *at = r;
}

static void begin_waiting(struct processes *all)
{
    while (all->runs_waiting && all->n_fresh < all->max_fresh) {
        struct run *r = all->runs_waiting;
        leave_queue(r);
        run_begin(r);
    }
    if (all->runs_waiting && !sa_timer_active(all->fresh_timer))
        sa_timer_start(all->fresh_timer, FRESH_MS);
}

static void no_longer_fresh(struct run *r)
{
    r->all->n_fresh -= r->fresh;
    r->fresh = false;
}

static void on_fresh_timer(void *user)
{
    struct processes *all = user;
    uint64_t now = sa_now_ms();
    for (struct run *r = all->runs; r; r = r->next)
        if (now - r->started_ms >= FRESH_MS)
            no_longer_fresh(r);
    begin_waiting(all);
}

/* ---- the end ---- */

static void run_free(struct run *r)
{
    struct processes *all = r->all;
    if ((*r->at = r->next))
        r->next->at = r->at;
    all->n_runs--;
    leave_queue(r);
    no_longer_fresh(r);
    rpc_on_cancel(r->call, NULL, NULL);
    rpc_call_unref(r->call);
    free(r);
    begin_waiting(all);
}

static void run_fail(struct run *r, sa_error *err)
{
    rpc_fail(r->call, err);
    if (r->runner)
        runner_end(r->runner);
    run_free(r);
}

/* The caller has left. A command that may keep something may just have ended, and then has: we must hear of
 * it. */
static void on_cancel(void *user, struct rpc_call *call)
{
    struct run *r = user;
    (void)call;
    if (r->runner && r->req->keep_descendants) {
        runner_kill(r->runner);
        return;
    }
    if (r->runner)
        runner_end(r->runner);
    run_free(r);
}

/* The kept head of a stream of `end` bytes. */
static int read_head(struct run *r, int stream, uint64_t end, ProtobufCBinaryData *ret, sa_error **err)
{
    size_t n = end < r->max_output ? (size_t)end : (size_t)r->max_output;
    uint8_t *data = n ? sa_arena_alloc_raw(rpc_arena(r->call), n) : NULL;
    for (size_t at = 0; at < n;) {
        off_t from = (off_t)RUNNER_OUTPUT_AT + (off_t)stream * RUNNER_PART + (off_t)at;
        ssize_t got = pread(runner_file(r->runner), data + at, n - at, from);
        if (got <= 0)
            return sa_fail(err, SA_SYSTEM_ERROR, "output of a command ends at byte %zu instead of %zu", at,
                           n);
        at += (size_t)got;
    }
    *ret = (ProtobufCBinaryData){n, data};
    return 0;
}

static int read_heads(struct run *r, const struct shim_status *s, RunProcessResponse *ret, sa_error **err)
{
    const uint64_t *end = s->exit.end;
    if (s->journal_errno)
        return sa_fail_errno(err, (int)s->journal_errno, "keep the output of a command");
    ret->stdout_truncated = end[SHIM_STDOUT] > r->max_output;
    ret->stderr_truncated = end[SHIM_STDERR] > r->max_output;
    if (read_head(r, SHIM_STDOUT, end[SHIM_STDOUT], &ret->stdout, err) < 0)
        return -1;
    return read_head(r, SHIM_STDERR, end[SHIM_STDERR], &ret->stderr, err);
}

static void reply(struct run *r, const struct shim_status *s)
{
    RunProcessResponse res = RUN_PROCESS_RESPONSE__INIT;
    EndRecord end = END_RECORD__INIT;
    sa_error *err = NULL;
    end.kind = s->exit.kind;
    end.value = s->exit.value;
    end.time_us = s->exit.time_us;
    res.exit = process_exit_message(rpc_arena(r->call), &end);
    res.timed_out = r->timed_out;
    res.duration_ms = sa_now_ms() - r->started_ms;
    if (read_heads(r, s, &res, &err) < 0)
        rpc_fail(r->call, err);
    else
        run_process_reply(r->call, &res);
}

static void on_end(void *user, const struct shim_status *s)
{
    struct run *r = user;
    sa_error *err = NULL;
    SA_FAULT("run.ended");
    if (!s)
        sa_fail(&err, SA_SYSTEM_ERROR, "the shim of the command was killed");
    else if (s->phase == SHIM_FAILED)
        spec_fail(&err, r->req->spec, s->failed_stage, (int)s->failed_errno);
    if (err)
        rpc_fail(r->call, err);
    else
        reply(r, s);
    if (s && s->descendants)
        kept_add(r->all, s->shim_pid, s->shim_start);
    runner_return(r->runner);
    run_free(r);
}

/* ---- timeouts ---- */

static void set_timer(struct processes *all, uint64_t until_ms)
{
    uint64_t now = sa_now_ms();
    all->runs_until_ms = until_ms;
    sa_timer_start(all->runs_timer, until_ms > now ? until_ms - now : 0);
}

static void on_timer(void *user)
{
    struct processes *all = user;
    uint64_t now = sa_now_ms(), soonest = UINT64_MAX;
    all->runs_until_ms = UINT64_MAX;
    for (struct run *r = all->runs; r; r = r->next) {
        if (!r->timed_out && r->until_ms <= now) {
            r->timed_out = true;
            runner_kill(r->runner);
        }
        if (!r->timed_out && r->until_ms < soonest)
            soonest = r->until_ms;
    }
    if (soonest != UINT64_MAX)
        set_timer(all, soonest);
}

/* ---- the start ---- */

static int check_unused(const ProcessSpec *spec, sa_error **err)
{
    const char *what = spec->terminal    ? "terminal"
                       : spec->restart   ? "restart"
                       : spec->readiness ? "readiness"
                                         : NULL;
    if (!what)
        return 0;
    return sa_fail(err, SA_INVALID_REQUEST, "spec.%s is not for RunProcess: use StartProcess", what);
}

int run_check(const struct processes *all, const RunProcessRequest *req, sa_error **err)
{
    const struct config *c = &all->config;
    if (spec_check(req->spec, err) < 0 || check_unused(req->spec, err) < 0)
        return -1;
    if (req->stdin.len > c->max_input_bytes)
        return sa_fail(err, SA_INVALID_REQUEST, "stdin has %zu bytes, at most %llu are allowed",
                       req->stdin.len, (unsigned long long)c->max_input_bytes);
    if (req->timeout_ms > c->max_run_timeout_ms)
        return sa_fail(err, SA_INVALID_REQUEST, "timeout_ms is %u, at most %llu are allowed", req->timeout_ms,
                       (unsigned long long)c->max_run_timeout_ms);
    if (req->max_output_bytes > c->max_run_output_bytes)
        return sa_fail(err, SA_INVALID_REQUEST, "max_output_bytes is %u, at most %llu are allowed",
                       req->max_output_bytes, (unsigned long long)c->max_run_output_bytes);
    return 0;
}

static int admit(const struct processes *all, sa_error **err)
{
    if (all->draining)
        return sa_fail(err, SA_DRAINING, "the service is about to stop");
    if (all->n_runs >= all->config.max_runs)
        return sa_fail(err, SA_TOO_MANY, "%zu commands run already", all->n_runs);
    return 0;
}

static int hand_over(struct run *r, sa_error **err)
{
    const ProtobufCBinaryData *in = &r->req->stdin;
    const struct spec_mode mode = {
        .keep = r->req->keep_descendants,
        .user = &r->user,
        .journal_bytes = r->max_output,
        .limits = &r->all->limits,
    };
    if (!(r->runner = runners_take(r->all, on_end, r, err)))
        return -1;
    ssize_t n = spec_write(runner_file(r->runner), r->req->spec, &mode, err);
    if (n < 0)
        return -1;
    if (in->len && pwrite(runner_file(r->runner), in->data, in->len, RUNNER_INPUT_AT) != (ssize_t)in->len)
        return sa_fail(err, SA_SYSTEM_ERROR, "input of a command cannot be kept");
    runner_run(r->runner, (size_t)n, in->len);
    SA_FAULT("run.asked");
    return 0;
}

static void run_begin(struct run *r)
{
    struct processes *all = r->all;
    sa_error *err = NULL;
    r->started_ms = sa_now_ms();
    r->until_ms =
        r->started_ms + (r->req->timeout_ms ? r->req->timeout_ms : config_run_timeout(&all->config));
    if (hand_over(r, &err) < 0) {
        run_fail(r, err);
        return;
    }
    r->fresh = true;
    all->n_fresh++;
    if (!sa_timer_active(all->runs_timer) || r->until_ms < all->runs_until_ms)
        set_timer(all, r->until_ms);
}

void run_start(struct processes *all, struct rpc_call *call, const RunProcessRequest *req,
               const struct spec_user *user)
{
    const struct config *c = &all->config;
    sa_error *err = NULL;
    if (admit(all, &err) < 0) {
        rpc_fail(call, err);
        return;
    }
    struct run *r = sa_calloc(1, sizeof *r);
    *r = (struct run){.all = all, .call = rpc_call_ref(call), .req = req, .user = *user, .at = &all->runs};
    r->max_output = req->max_output_bytes ? req->max_output_bytes : c->max_run_output_bytes;
    r->until_ms = UINT64_MAX;
    if ((r->next = all->runs))
        r->next->at = &r->next;
    all->runs = r;
    all->n_runs++;
    rpc_on_cancel(call, on_cancel, r);
    rpc_no_server_deadline(call); /* the timeout may be longer */
    join_queue(r);
    begin_waiting(all);
}

void runs_fail(struct processes *all, const sa_error *err)
{
    all->runs_waiting = NULL; /* none begins in the place of another */
    while (all->runs)
        run_fail(all->runs, sa_error_copy(err));
}

void runs_open(struct processes *all)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    all->max_fresh = FRESH_PER_CPU * (size_t)(cpus > 0 ? cpus : 1);
    all->runs_timer = sa_timer_new(all->loop, on_timer, all);
    all->fresh_timer = sa_timer_new(all->loop, on_fresh_timer, all);
}

void runs_close(struct processes *all)
{
    sa_timer_free(all->runs_timer);
    sa_timer_free(all->fresh_timer);
}
