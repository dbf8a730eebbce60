#include "services/process-svc/spawner.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "adapters/os/file.h"
#include "adapters/os/mem.h"

enum { CONTROL = 3, BACKLOG_MAX = 1024, FDS = 2 };

/* A request that the socket had no room for. */
struct request {
    struct request *next;
    struct shim_spawn message;
    int fds[FDS];
    int n_fds;
};

struct sweep {
    struct sweep *next;
    uint64_t number;
    void (*done)(void *user, uint32_t survivors);
    void *user;
};

struct spawner {
    struct sa_loop *loop;
    int control;
    struct sa_io *io;
    struct sa_child *child;
    pid_t pid;
    struct request *first, **last;
    int waiting;
    struct sweep *sweeps;
    uint64_t number;
    void (*on_gone)(void *user);
    void *user;
};

static void request_free(struct request *r)
{
    for (int i = 0; i < r->n_fds; i++)
        sa_close(r->fds[i]);
    free(r);
}

static void on_child(void *user, int wstatus)
{
    (void)wstatus;
    struct spawner *s = user;
    s->on_gone(s->user);
}

static void flush(struct spawner *s)
{
    while (s->first) {
        struct request *r = s->first;
        if (sa_send_fds(s->control, &r->message, sizeof r->message, r->fds, r->n_fds) < 0 && errno == EAGAIN)
            break;
        if (!(s->first = r->next))
            s->last = &s->first;
        s->waiting--;
        request_free(r);
    }
    sa_io_set(s->io, SA_IO_READ | (s->first ? SA_IO_WRITE : 0));
}

static void answered(struct spawner *s, const struct shim_spawn *m)
{
    for (struct sweep **at = &s->sweeps; *at; at = &(*at)->next) {
        struct sweep *w = *at;
        if (w->number != m->number)
            continue;
        *at = w->next;
        w->done(w->user, m->survivors);
        free(w);
        return;
    }
}

static void on_control(void *user, int fd, int events)
{
    struct spawner *s = user;
    struct shim_spawn m;
    if (events & SA_IO_WRITE)
        flush(s);
    if (!(events & SA_IO_READ))
        return;
    ssize_t n = recv(fd, &m, sizeof m, MSG_DONTWAIT);
    if (n > 0 && shim_check_spawn(&m, (size_t)n, &m))
        answered(s, &m);
    else if (n == 0)
        sa_io_set(s->io, 0); /* its end is told by on_child */
}

static int start_helper(struct spawner *s, const char *program, const char *directory, int control,
                        sa_error **err)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none;
    pid_t pid;
    char *argv[] = {(char *)(uintptr_t) "process-shim", (char *)(uintptr_t)directory, NULL}, *envp[] = {NULL};
    sigemptyset(&none);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, control, CONTROL);
    posix_spawn_file_actions_addclosefrom_np(&actions, CONTROL + 1);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
    int r = posix_spawn(&pid, program, &actions, &attr, argv, envp);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attr);
    if (r)
        return sa_fail_errno(err, r, "start the spawn helper `%s`", program);
    s->pid = pid;
    s->child = sa_child_new(s->loop, pid, on_child, s, err);
    return s->child ? 0 : -1;
}

struct spawner *spawner_new(struct sa_loop *loop, const char *program, const char *directory,
                            void (*on_gone)(void *user), void *user, sa_error **err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        sa_fail_errno(err, errno, "socket of the spawn helper");
        return NULL;
    }
    struct spawner *s = sa_calloc(1, sizeof *s);
    s->loop = loop;
    s->control = pair[0];
    s->last = &s->first;
    s->on_gone = on_gone;
    s->user = user;
    s->io = sa_io_new(loop, s->control, on_control, s);
    sa_io_set(s->io, SA_IO_READ);
    int r = start_helper(s, program, directory, pair[1], err);
    sa_close(pair[1]);
    if (r == 0)
        return s;
    spawner_free(s);
    return NULL;
}

int spawner_pid(const struct spawner *s)
{
    return s->pid;
}

void spawner_free(struct spawner *s)
{
    if (!s)
        return;
    sa_child_free(s->child);
    sa_io_free(s->io);
    sa_close(s->control);
    for (struct request *r; (r = s->first);) {
        s->first = r->next;
        request_free(r);
    }
    for (struct sweep *w; (w = s->sweeps);) {
        s->sweeps = w->next;
        free(w);
    }
    free(s);
}

static void send_request(struct spawner *s, const struct shim_spawn *m, const int *fds, int n_fds)
{
    struct request *r = sa_calloc(1, sizeof *r);
    r->message = *m;
    for (int i = 0; i < n_fds; i++)
        r->fds[r->n_fds++] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
    *s->last = r;
    s->last = &r->next;
    s->waiting++;
    flush(s);
}

static int spawn(struct spawner *s, enum shim_spawn_type type, int file, sa_error **err)
{
    int pair[2];
    if (s->waiting >= BACKLOG_MAX)
        return sa_fail(err, SA_TOO_MANY, "%d processes are about to be started already", BACKLOG_MAX);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return sa_fail_errno(err, errno, "socket of a shim");
    const int fds[FDS] = {pair[1], file};
    struct shim_spawn m = {.magic = SHIM_SPAWN_MAGIC, .version = SHIM_VERSION, .type = type};
    send_request(s, &m, fds, FDS);
    sa_close(pair[1]);
    return pair[0];
}

int spawner_spawn(struct spawner *s, int spec, sa_error **err)
{
    return spawn(s, SHIM_SPAWN, spec, err);
}

int spawner_spawn_runner(struct spawner *s, int file, sa_error **err)
{
    return spawn(s, SHIM_SPAWN_RUNNER, file, err);
}

void spawner_sweep(struct spawner *s, const struct shim_state *state,
                   void (*done)(void *user, uint32_t survivors), void *user)
{
    struct shim_spawn m = {.magic = SHIM_SPAWN_MAGIC, .version = SHIM_VERSION, .type = SHIM_SWEEP};
    m.shim_pid = state->shim_pid;
    m.shim_start = state->shim_start;
    m.child_pid = state->child_pid;
    m.child_start = state->child_start;
    m.number = ++s->number;
    struct sweep *w = sa_calloc(1, sizeof *w);
    *w = (struct sweep){s->sweeps, m.number, done, user};
    s->sweeps = w;
    send_request(s, &m, NULL, 0);
}
