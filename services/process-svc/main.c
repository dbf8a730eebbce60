/* process-svc: owns every child process. This file is the map.
 *
 *   main.c       options; the order of start and stop
 *   api.c        the unary methods of ProcessService: check, find, hand over
 *   processes.c  the processes we know; process_step() decides what comes next for one
 *   start.c      a start: intent, shim, result;  end.c: exit, loss, deletion
 *   recover.c    after a start: shims found again, unfinished work completed or undone
 *   attach.c     AttachProcess: followers of output at their own speed, input at an offset
 *   follow.c     FollowOutput: both streams in the order of arrival; index.c, merge.c and tail.c find it
 *   run.c        RunProcess: one command to its end;  runners.c: the warm shims that run them
 *   kept.c       what commands were asked to leave running
 *   config.c     GetConfig, SetConfig: limits and defaults
 *   change.c     what changes while a process is known: runs, readiness, what is left of it
 *   ladder.c     StopProcess: a signal, a time of grace, KILL
 *   ready.c      readiness by TCP port
 *   retention.c  how many ended ones are remembered
 *   tree.c       GetProcessTree: what runs below one, what it uses
 *   watch.c      where trees listen, looked at every second
 *   census.c     TakeCensus, ClearStrays;  scan.c: known trees and strays told apart
 *   procfs.c     processes of the system, from /proc;  ports.c: who listens on which port
 *   terminal.c   the terminal of a process, shared: who looks, whose size it has, TerminalService
 *   viewer.c     AttachTerminal: one who looks and perhaps types
 *   control.c    who looks and who types, as rules
 *   painter.c    keeps what a terminal shows up to date, in workers
 *   screen.c     what a terminal shows (libvterm), with screen_parse.c, _grid.c, _pen.c and _ansi.c
 *   stop.c       after SIGTERM: TERM, KILL, nothing left behind
 *   messages.c   records and statuses as messages of the API
 *   spec.c       what a caller asks for, checked, and packed for a shim; users
 *   policy.c     restarts, readiness and groups in a spec;  process_limits.c: limits, their cgroups
 *   reader.c     journals, read without the shim
 *   link.c       the connection to a shim
 *   spawner.c    the spawn helper, which forks for us
 *   store.proto  what the store keeps
 *   shim/        the program that runs beside every process and outlives this service: shim/main.c is its map
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "adapters/os/file.h"
#include "adapters/os/log.h"
#include "adapters/os/mem.h"
#include "services/process-svc/api.h"
#include "services/process-svc/kept.h"
#include "services/process-svc/processes.h"
#include "services/process-svc/run.h"
#include "services/process-svc/runners.h"
#include "services/process-svc/terminal.h"

static const struct service_option options[] = {
    {"shim", SERVICE_OPTION_TEXT, NULL, 0, 0, "the program process-shim; else beside this program"},
    {"max-processes", SERVICE_OPTION_UINT, "4096", 1, 100000, "processes that may run at once"},
    {"max-ended", SERVICE_OPTION_UINT, "100000", 1, 10000000,
     "ended processes that are remembered; the oldest are forgotten with their output"},
    {"max-runs", SERVICE_OPTION_UINT, "64", 1, 10000, "commands of RunProcess that may run at once"},
    {"keep-children", SERVICE_OPTION_FLAG, NULL, 0, 0,
     "at SIGTERM leave processes running, for the next start"},
    {0},
};

static char *shim_program(struct service *svc)
{
    const char *given = service_text(svc, "shim");
    char self[PATH_MAX];
    if (given)
        return sa_strdup(given);
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    char *slash = strrchr(self, '/');
    if (slash)
        *slash = 0;
    return sa_format("%s/process-shim", self);
}

/* Without the spawn helper nothing can be started. The next start of the service makes a new one. */
static void helper_gone(void *user)
{
    struct processes *all = user;
    sa_error *err = NULL;
    all->fatal = true;
    sa_fail(&err, SA_SYSTEM_ERROR, "the spawn helper has ended");
    service_fatal(all->svc, err);
}

/* A descriptor for each process, and for whoever looks: as many as we may have. After the helper has started,
 * so that what it starts has the usual limit. */
static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        sa_log(SA_LOG_WARN, "process.file_limit", "message=\"%s\"", strerror(errno));
}

static int open_all(struct processes *all, sa_error **err)
{
    struct service *svc = all->svc;
    const char *data = service_data_dir(svc), *user = service_agent_user(svc);
    cleanup_free char *store = sa_format("%s/store", data), *program = shim_program(svc);
    const struct store_options opt = {.dir = store,
                                      .tables = process_tables,
                                      .n_tables = TABLES,
                                      .durability = store_durability_of(service_text(svc, "durability"))};
    all->directory = sa_format("%s/processes", data);
    limits_init(&all->limits);
    if (user && spec_user_find(user, &all->user, err) < 0)
        return sa_wrap(err, "option --agent-user");
    if (sa_mkdirs(all->directory, 0700, err) < 0 || !(all->store = store_open(all->loop, &opt, err)) ||
        !(all->bus = service_bus(svc, store_epoch(all->store), err)))
        return -1;
    if (config_load(all, err) < 0)
        return -1;
    all->spawner = spawner_new(all->loop, program, all->directory, helper_gone, all, err);
    raise_file_limit();
    return all->spawner ? 0 : -1;
}

static void release(struct processes *all)
{
    sa_loop_lock(all->loop);
    runners_close(all);
    kept_fini(all);
    runs_close(all);
    sa_loop_settle(all->loop); /* processes that wait to be collected */
    processes_fini(all);
    spawner_free(all->spawner);
    sa_loop_unlock(all->loop);
    store_free(all->store);
    limits_fini(&all->limits);
    free(all->directory);
    free(all->chunk);
    free(all);
}

static int start(struct service *svc, void **ret_state, sa_error **err)
{
    struct processes *all = sa_calloc(1, sizeof *all);
    all->svc = svc;
    all->loop = service_loop(svc);
    all->max_ended = service_uint(svc, "max-ended");
    all->chunk = sa_malloc(ATTACH_CHUNK);
    runs_open(all);
    processes_start_timers(all);
    if (open_all(all, err) < 0 || processes_recover(all, err) < 0) {
        sa_loop_unlock(all->loop);
        release(all);
        sa_loop_lock(service_loop(svc));
        return -1;
    }
    kept_recover(all);
    runners_open(all);
    api_register(all);
    *ret_state = all;
    return 0;
}

/* Streams and waiting calls end; what is under way in the store may finish. */
static void drain(void *state)
{
    struct processes *all = state;
    cleanup_error sa_error *err = NULL;
    all->draining = true;
    sa_fail(&err, SA_DRAINING, "process-svc is about to stop");
    runs_fail(all, err);
    for (size_t i = 0; i < PROCESS_BUCKETS; i++)
        for (struct process *p = all->buckets[i]; p; p = p->next) {
            attachments_fail(p, err);
            followers_fail(p, err);
            terminal_fail(p, err);
            calls_fail(&p->waiters, err);
            calls_fail(&p->deleters, err);
            calls_fail(&p->stoppers, err);
        }
}

static void stop(void *state)
{
    struct processes *all = state;
    if (all->draining && !all->fatal && !service_flag(all->svc, "keep-children"))
        processes_end_all(all);
    release(all);
}

static const struct service_spec spec = {
    .name = "process-svc",
    .summary = "Starts, follows, feeds, signals and remembers processes.",
    .options = options,
    .start = start,
    .drain = drain,
    .stop = stop,
};

int main(int argc, char **argv)
{
    return service_main(&spec, argc, argv);
}
