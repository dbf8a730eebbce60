/* The shim gets three memory files: input, and output and error, of which it keeps the heads. It kills what
 * is left of the tree when the command ends or our connection does; so closing the link is all it takes to
 * give up a run, and a service that is killed leaves none behind. */
#include "services/process-svc/run.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "adapters/os/mem.h"

enum { LOOK_MS = 250 }; /* a unary call does not tell when its caller leaves: we look */

struct run {
    struct run *next, **at; /* of all->runs */
    struct processes *all;
    struct rpc_call *call;
    const RunProcessRequest *req; /* lives as long as the call */
    struct link link;
    int files[3]; /* input, output, error */
    struct sa_timer *timer;
    uint64_t started_ms, until_ms;
    bool timed_out;
};

static void run_free(void *user)
{
    struct run *r = user;
    sa_timer_free(r->timer);
    for (int i = 0; i < 3; i++)
        sa_close(r->files[i]);
    rpc_call_unref(r->call);
    free(r);
}

/* Out of the list at once, freed when no callback of its link is on the stack. */
static void run_end(struct run *r)
{
    link_close(&r->link);
    sa_timer_stop(r->timer);
    if ((*r->at = r->next))
        r->next->at = r->at;
    r->all->n_runs--;
    sa_defer(r->all->loop, run_free, r);
}

static void run_fail(struct run *r, sa_error *err)
{
    rpc_fail(r->call, err);
    run_end(r);
}

static uint32_t output_max(const struct run *r)
{
    return r->req->max_output_bytes ? r->req->max_output_bytes : RUN_OUTPUT_MAX;
}

/* The kept head of a stream of `end` bytes. */
static int read_head(struct run *r, int stream, uint64_t end, ProtobufCBinaryData *ret, sa_error **err)
{
    size_t n = end < output_max(r) ? (size_t)end : output_max(r);
    uint8_t *data = sa_arena_alloc(rpc_arena(r->call), n + 1);
    for (size_t at = 0; at < n;) {
        ssize_t got = pread(r->files[1 + stream], data + at, n - at, (off_t)at);
        if (got <= 0)
            return sa_fail(err, SA_SYSTEM_ERROR, "output of a command ends at byte %zu instead of %zu", at,
                           n);
        at += (size_t)got;
    }
    *ret = (ProtobufCBinaryData){n, data};
    return 0;
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
    res.stdout_truncated = s->exit.end[SHIM_STDOUT] > output_max(r);
    res.stderr_truncated = s->exit.end[SHIM_STDERR] > output_max(r);
    if (read_head(r, SHIM_STDOUT, s->exit.end[SHIM_STDOUT], &res.stdout, &err) < 0 ||
        read_head(r, SHIM_STDERR, s->exit.end[SHIM_STDERR], &res.stderr, &err) < 0) {
        run_fail(r, err);
        return;
    }
    run_process_reply(r->call, &res);
    run_end(r);
}

static void on_status(void *user, const struct shim_status *s)
{
    struct run *r = user;
    sa_error *err = NULL;
    if (s->phase == SHIM_FAILED) {
        spec_fail(&err, r->req->spec, s->failed_stage, (int)s->failed_errno);
        run_fail(r, err);
    } else if (s->phase == SHIM_EXITED && !s->descendants) {
        reply(r, s);
    }
}

static void on_closed(void *user)
{
    struct run *r = user;
    sa_error *err = NULL;
    sa_fail(&err, SA_SYSTEM_ERROR, "the shim of the command was killed");
    run_fail(r, err);
}

static void on_timer(void *user)
{
    struct run *r = user;
    if (!rpc_alive(r->call)) {
        run_end(r);
        return;
    }
    if (!r->timed_out && sa_now_ms() >= r->until_ms) {
        r->timed_out = true;
        link_signal(&r->link, SIGKILL, SHIM_SCOPE_TREE, NULL, NULL);
    }
    uint64_t now = sa_now_ms(), left = r->until_ms > now ? r->until_ms - now : LOOK_MS;
    sa_timer_start(r->timer, left < LOOK_MS ? left : LOOK_MS);
}

static int make_files(struct run *r, sa_error **err)
{
    const ProtobufCBinaryData *in = &r->req->stdin;
    for (int i = 0; i < 3; i++)
        if ((r->files[i] = memfd_create("run", MFD_CLOEXEC)) < 0)
            return sa_fail_errno(err, errno, "memory file for a command");
    if (in->len && pwrite(r->files[0], in->data, in->len, 0) != (ssize_t)in->len)
        return sa_fail(err, SA_SYSTEM_ERROR, "input of a command cannot be kept");
    return 0;
}

static int spawn(struct run *r, const struct spec_user *user, sa_error **err)
{
    const struct spec_mode mode = {
        .user = user,
        .retention = {SHIM_HEAD, SHIM_HEAD},
        .journal_bytes = output_max(r),
    };
    if (make_files(r, err) < 0)
        return -1;
    cleanup_close int spec = spec_memfd(r->req->spec, &mode, err);
    int fd = spec < 0 ? -1 : spawner_spawn(r->all->spawner, spec, r->files, err);
    if (fd < 0)
        return -1;
    link_open(&r->link, r->all->loop, fd);
    return 0;
}

void run_start(struct processes *all, struct rpc_call *call, const RunProcessRequest *req,
               const struct spec_user *user)
{
    sa_error *err = NULL;
    if (all->draining || all->n_runs >= all->max_runs) {
        sa_fail(&err, all->draining ? SA_DRAINING : SA_TOO_MANY,
                all->draining ? "the service is about to stop" : "%zu commands run already", all->max_runs);
        rpc_fail(call, err);
        return;
    }
    struct run *r = sa_calloc(1, sizeof *r);
    *r = (struct run){.all = all, .call = rpc_call_ref(call), .req = req, .files = {-1, -1, -1}};
    r->link = (struct link){.fd = -1, .on_status = on_status, .on_closed = on_closed, .user = r};
    r->timer = sa_timer_new(all->loop, on_timer, r);
    r->started_ms = sa_now_ms();
    r->until_ms = r->started_ms + (req->timeout_ms ? req->timeout_ms : RUN_TIMEOUT_MS);
    r->next = all->runs;
    r->at = &all->runs;
    if (r->next)
        r->next->at = &r->next;
    all->runs = r;
    all->n_runs++;
    if (spawn(r, user, &err) < 0)
        run_fail(r, err);
    else
        on_timer(r);
}

void runs_fail(struct processes *all, const sa_error *err)
{
    while (all->runs)
        run_fail(all->runs, sa_error_copy(err));
}
