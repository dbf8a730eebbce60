#include "services/cli/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "adapters/os/log.h"
#include "adapters/os/mem.h"

struct reaper {
    struct sa_loop *loop;
    struct sa_signal *sigchld;
    struct keeper *keepers;
};

struct keeper {
    struct keeper *next;
    struct sa_loop *loop;
    struct reaper *reaper;
    const struct keeper_spec *spec;
    struct sa_timer *timer; /* until the restart, or until the KILL */
    pid_t pid;              /* 0: it does not run */
    uint64_t restarted_ms;  /* when it was restarted last; 0: never */
    bool stopping;
};

/* ---- reaper ---- */

static void child_ended(struct keeper *k, int wstatus);

static void on_sigchld(void *user, int signum)
{
    (void)signum;
    struct reaper *r = user;
    int wstatus;
    for (pid_t pid; (pid = waitpid(-1, &wstatus, WNOHANG)) > 0;) {
        for (struct keeper *k = r->keepers; k; k = k->next) {
            if (k->pid == pid) {
                child_ended(k, wstatus);
                break;
            }
        }
    }
}

struct reaper *reaper_new(struct sa_loop *loop)
{
    struct reaper *r = sa_calloc(1, sizeof *r);
    r->loop = loop;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    r->sigchld = sa_signal_new(loop, SIGCHLD, on_sigchld, r);
    return r;
}

void reaper_free(struct reaper *r)
{
    if (!r)
        return;
    sa_signal_free(r->sigchld);
    free(r);
}

/* ---- starting a child ---- */

/* A pipe that holds `text` already and has no writer. */
static int pipe_with(const char *text, sa_error **err)
{
    int ends[2];
    size_t n = strlen(text);
    if (pipe2(ends, O_CLOEXEC) < 0)
        return sa_fail_errno(err, errno, "pipe");
    bool whole = write(ends[1], text, n) == (ssize_t)n; /* far below a pipe's capacity */
    close(ends[1]);
    if (whole)
        return ends[0];
    close(ends[0]);
    return sa_fail(err, SA_SYSTEM_ERROR, "a pipe does not take %zu bytes", n);
}

struct child_setup {
    const struct keeper_spec *spec;
    int from[KEEPER_FDS_MAX]; /* what becomes spec->fds[i].fd */
    int status_fd;            /* tells errno when exec fails */
    pid_t parent;
};

/* Between fork and exec: only what is async-signal-safe. */
static void run_child(const struct child_setup *c)
{
    const struct keeper_spec *spec = c->spec;
    sigset_t none;
    int moved[KEEPER_FDS_MAX];
    for (int s = 1; s < NSIG; s++)
        if (s != SIGKILL && s != SIGSTOP)
            signal(s, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0); /* Ctrl-C reaches only us: we say who ends when */
    /* It ends with us, even if we are killed; unless that happened already. */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != c->parent)
        _exit(1);
    if (!spec->keep_stdin) {
        int null = open("/dev/null", O_RDONLY);
        if (null > 0) {
            dup2(null, 0);
            close(null);
        }
    }
    /* First out of the way of every target, then to the target. */
    for (int i = 0; i < KEEPER_FDS_MAX; i++)
        moved[i] = c->from[i] >= 0 ? fcntl(c->from[i], F_DUPFD_CLOEXEC, 20) : -1;
    for (int i = 0; i < KEEPER_FDS_MAX; i++)
        if (moved[i] >= 0)
            dup2(moved[i], spec->fds[i].fd);
    execv(spec->argv[0], spec->argv);
    int e = errno;
    (void)!write(c->status_fd, &e, sizeof e);
    _exit(127);
}

static pid_t start_child(const struct keeper_spec *spec, sa_error **err)
{
    struct child_setup c = {.spec = spec, .parent = getpid()};
    int status[2], failed = 0;
    pid_t pid = -1;
    for (int i = 0; i < KEEPER_FDS_MAX; i++)
        c.from[i] = -1;
    for (int i = 0; i < KEEPER_FDS_MAX && spec->fds[i].fd; i++)
        if ((c.from[i] = pipe_with(spec->fds[i].text, err)) < 0)
            goto done;
    if (pipe2(status, O_CLOEXEC) < 0) {
        sa_fail_errno(err, errno, "pipe");
        goto done;
    }
    /* Above the targets of the descriptors, which would close it. */
    c.status_fd = fcntl(status[1], F_DUPFD_CLOEXEC, 20);
    close(status[1]);
    pid = fork();
    if (pid == 0)
        run_child(&c);
    close(c.status_fd);
    if (pid < 0) {
        sa_fail_errno(err, errno, "fork");
    } else if (read(status[0], &failed, sizeof failed) > 0) {
        waitpid(pid, NULL, 0);
        pid = sa_fail(err, SA_EXEC_FAILED, "`%s` cannot be run: %s", spec->argv[0], strerror(failed));
    }
    close(status[0]);
done:
    for (int i = 0; i < KEEPER_FDS_MAX; i++)
        sa_close(c.from[i]);
    return pid;
}

/* ---- keeper ---- */

static void schedule_restart(struct keeper *k)
{
    uint64_t now = sa_now_ms(), due = k->restarted_ms ? k->restarted_ms + KEEPER_PAUSE_MS : now;
    sa_timer_start(k->timer, due > now ? due - now : 0);
}

static void on_timer(void *user)
{
    struct keeper *k = user;
    cleanup_error sa_error *err = NULL;
    if (k->stopping) {
        if (k->pid) {
            sa_log(SA_LOG_WARN, "child.killed", "name=%s pid=%d", k->spec->name, (int)k->pid);
            kill(k->pid, SIGKILL);
        } else {
            k->spec->stopped(k->spec->user, k);
        }
        return;
    }
    k->restarted_ms = sa_now_ms();
    k->pid = start_child(k->spec, &err);
    if (k->pid < 0) {
        k->pid = 0;
        sa_log(SA_LOG_ERROR, "child.failed", "name=%s message=\"%s\"", k->spec->name, err->message);
        schedule_restart(k);
        return;
    }
    sa_log(SA_LOG_INFO, "child.restarted", "name=%s pid=%d", k->spec->name, (int)k->pid);
    if (k->spec->restarted)
        k->spec->restarted(k->spec->user, k);
}

static void child_ended(struct keeper *k, int wstatus)
{
    k->pid = 0;
    if (k->stopping) {
        if (wstatus)
            sa_log(SA_LOG_WARN, "child.ended", "name=%s how=\"%s\"", k->spec->name, keeper_describe(wstatus));
        sa_timer_start(k->timer, 0); /* tells it from the loop */
        return;
    }
    if (k->spec->ended(k->spec->user, k, wstatus) && !k->stopping)
        schedule_restart(k);
}

struct keeper *keeper_new(struct sa_loop *loop, struct reaper *r, const struct keeper_spec *spec)
{
    struct keeper *k = sa_calloc(1, sizeof *k);
    k->loop = loop;
    k->reaper = r;
    k->spec = spec;
    k->timer = sa_timer_new(loop, on_timer, k);
    k->next = r->keepers;
    r->keepers = k;
    return k;
}

int keeper_start(struct keeper *k, sa_error **err)
{
    pid_t pid = start_child(k->spec, err);
    if (pid < 0)
        return -1;
    k->pid = pid;
    return 0;
}

void keeper_stop(struct keeper *k, uint64_t grace_ms)
{
    if (!k->stopping && k->pid)
        kill(k->pid, SIGTERM);
    k->stopping = true;
    sa_timer_start(k->timer, k->pid ? grace_ms : 0);
}

void keeper_signal(struct keeper *k, int signum)
{
    if (k->pid)
        kill(k->pid, signum);
}

const char *keeper_name(const struct keeper *k)
{
    return k->spec->name;
}

pid_t keeper_pid(const struct keeper *k)
{
    return k->pid;
}

void keeper_free(struct keeper *k)
{
    if (!k)
        return;
    if (k->pid)
        kill(k->pid, SIGKILL);
    for (struct keeper **at = &k->reaper->keepers; *at; at = &(*at)->next) {
        if (*at == k) {
            *at = k->next;
            break;
        }
    }
    sa_timer_free(k->timer);
    free(k);
}

const char *keeper_describe(int wstatus)
{
    static char text[64];
    if (WIFEXITED(wstatus))
        snprintf(text, sizeof text, "exit code %d", WEXITSTATUS(wstatus));
    else
        snprintf(text, sizeof text, "signal %d (%s)", WTERMSIG(wstatus), strsignal(WTERMSIG(wstatus)));
    return text;
}
