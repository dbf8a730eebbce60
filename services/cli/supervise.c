/* `sandbox-agent supervise COMMAND...`: process 1 of a container. The command is restarted in place when it
 * ends, so that what it has started (agents under their shims) lives on: orphans come to us, not to a
 * container that ends. Signals are passed on; TERM and INT end the command, then everything else, then us,
 * with the command's code. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "adapters/os/log.h"
#include "adapters/os/mem.h"
#include "services/cli/cli.h"
#include "services/cli/keeper.h"
#include "services/runtime/options.h"

enum {
    EARLY_MS = 5000, /* a command that never lived so long ... */
    TRIES = 5,       /* ... and was tried so often has a fault that a restart does not cure */
    PASSED_ON = 5,
};

static const struct service_option supervise_options[] = {
    {"grace", SERVICE_OPTION_UINT, "18000", 0, 600000, "milliseconds from TERM to KILL"},
    {0},
};

static const int passed_on[PASSED_ON] = {SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH};

struct supervise {
    struct sa_loop *loop;
    struct keeper_spec spec;
    struct keeper *keeper;
    uint64_t grace_ms;
    uint64_t started_ms;
    int early_ends;
    bool lived;    /* once for EARLY_MS */
    bool stopping; /* told to */
    int exit_code;
};

static int code_of(int wstatus)
{
    return WIFEXITED(wstatus) ? WEXITSTATUS(wstatus) : 128 + WTERMSIG(wstatus);
}

static bool on_ended(void *user, struct keeper *k, int wstatus)
{
    struct supervise *s = user;
    s->lived = s->lived || sa_now_ms() - s->started_ms >= EARLY_MS;
    sa_log(SA_LOG_WARN, "child.ended", "name=%s how=\"%s\"", keeper_name(k), keeper_describe(wstatus));
    if (s->lived || ++s->early_ends < TRIES)
        return true;
    fprintf(stderr, "sandbox-agent: `%s` ended %d times within %d s of its start (%s): giving up\n",
            s->spec.argv[0], TRIES, EARLY_MS / 1000, keeper_describe(wstatus));
    s->exit_code = code_of(wstatus) ? code_of(wstatus) : 1;
    sa_loop_stop(s->loop);
    return false;
}

static void on_restarted(void *user, struct keeper *k)
{
    struct supervise *s = user;
    (void)k;
    s->started_ms = sa_now_ms();
}

static void on_stopped(void *user, struct keeper *k)
{
    struct supervise *s = user;
    (void)k;
    sa_loop_stop(s->loop);
}

static void on_end_signal(void *user, int signum)
{
    struct supervise *s = user;
    (void)signum;
    keeper_stop(s->keeper, s->stopping ? 0 : s->grace_ms);
    s->stopping = true;
}

static void on_signal(void *user, int signum)
{
    struct supervise *s = user;
    keeper_signal(s->keeper, signum);
}

/* argv[0] without a slash: a program beside ours, else one of PATH. */
static char *program_path(const char *name)
{
    if (strchr(name, '/'))
        return sa_strdup(name);
    char *beside = cli_sibling(name);
    if (access(beside, X_OK) == 0)
        return beside;
    free(beside);
    cleanup_free char *path = sa_strdup(getenv("PATH") ? getenv("PATH") : "/usr/local/bin:/usr/bin:/bin");
    char *rest = path;
    for (char *dir; (dir = strsep(&rest, ":"));) {
        char *there = sa_format("%s/%s", *dir ? dir : ".", name);
        if (access(there, X_OK) == 0)
            return there;
        free(there);
    }
    return sa_strdup(name);
}

static int run(struct supervise *s, sa_error **err)
{
    struct sa_signal *signals[2 + PASSED_ON];
    s->loop = sa_loop_new(err);
    if (!s->loop)
        return -1;
    sa_loop_lock(s->loop);
    struct reaper *reaper = reaper_new(s->loop);
    signals[0] = sa_signal_new(s->loop, SIGTERM, on_end_signal, s);
    signals[1] = sa_signal_new(s->loop, SIGINT, on_end_signal, s);
    for (int i = 0; i < PASSED_ON; i++)
        signals[2 + i] = sa_signal_new(s->loop, passed_on[i], on_signal, s);
    s->keeper = keeper_new(s->loop, reaper, &s->spec);
    int r = keeper_start(s->keeper, err);
    s->started_ms = sa_now_ms();
    sa_loop_unlock(s->loop);
    if (r == 0)
        sa_loop_run(s->loop);

    sa_loop_lock(s->loop);
    keeper_free(s->keeper);
    for (int i = 0; i < 2 + PASSED_ON; i++)
        sa_signal_free(signals[i]);
    reaper_free(reaper);
    sa_loop_unlock(s->loop);
    sa_loop_free(s->loop);
    end_descendants(s->grace_ms < 3000 ? s->grace_ms : 3000);
    return r;
}

int cli_supervise(int argc, char **argv)
{
    struct options *o = options_new(supervise_options, NULL);
    sa_error *err = NULL;
    int r = cli_parse(
        o, argc, argv, true, "supervise [options] [--] COMMAND [ARGUMENTS]",
        "Keeps the command running, as process 1 of a container. A command without a slash is first\n"
        "looked for beside sandbox-agent: `sandbox-agent supervise process-svc --data-dir D`.");
    if (r < 0 && !options_count(o)) {
        fprintf(stderr, "sandbox-agent: supervise what? See --help\n");
        r = 2;
    }
    if (r < 0) {
        char **command = options_arguments(o);
        cleanup_free char *name = sa_strdup(command[0]), *path = program_path(command[0]);
        command[0] = path;
        struct supervise s = {.grace_ms = options_uint(o, "grace")};
        s.spec = (struct keeper_spec){
            .name = name,
            .argv = command,
            .keep_stdin = true,
            .ended = on_ended,
            .restarted = on_restarted,
            .stopped = on_stopped,
            .user = &s,
        };
        sa_log_init("sandbox-agent", SA_LOG_INFO);
        r = run(&s, &err) < 0 ? cli_failed(err) : s.exit_code;
    }
    options_free(o);
    return r;
}
