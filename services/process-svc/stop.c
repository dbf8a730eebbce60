/* The end of a service that was asked to stop: nothing that it started stays behind. (One that is killed, or
 * stops for a fault of its own, leaves everything to its successor.) The loop has ended already, so the
 * sockets of the shims are used directly. */
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "adapters/os/log.h"
#include "adapters/os/mem.h"
#include "services/process-svc/kept.h"
#include "services/process-svc/processes.h"

enum { GRACE_MS = 2000, KILL_MS = 3000 };

struct ending {
    struct pollfd *fds; /* fd -1: it is over */
    bool *terminal;
    size_t n;
};

static void request(int fd, enum shim_request_type type, uint32_t signum)
{
    struct shim_request r = {
        .magic = SHIM_REQUEST_MAGIC, .version = SHIM_VERSION, .type = type, .number = UINT64_MAX};
    r.value = signum;
    r.scope = SHIM_SCOPE_TREE;
    /* Blocking a little is fine here, failing is not: it is retried by the next rung. */
    send(fd, &r, sizeof r, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Reads what the shim says; once all below it has ended, lets it go. */
static void look(struct pollfd *p)
{
    struct shim_status s;
    ssize_t n = recv(p->fd, &s, sizeof s, MSG_DONTWAIT);
    if (n < 0)
        return;
    if (n == 0 || !shim_check_status(&s, (size_t)n, &s))
        p->fd = -1;
    else if (s.phase == SHIM_EXITED) /* its record is in its directory: the next start commits it */
        request(p->fd, SHIM_RELEASE, 0);
}

/* Signals all (HUP: all on terminals), then waits until they are gone: how many are not? */
static size_t rung(struct ending *e, uint32_t signum, uint64_t ms)
{
    uint64_t until = sa_now_ms() + ms, now;
    size_t left = 0;
    for (size_t i = 0; i < e->n; i++) {
        if (e->fds[i].fd < 0)
            continue;
        left++;
        if (signum == SIGHUP && !e->terminal[i])
            continue;
        request(e->fds[i].fd, SHIM_LAST, 0);
        /* Shells that somebody works with ignore TERM, and end when their terminal does. */
        request(e->fds[i].fd, SHIM_SIGNAL, signum == SIGTERM && e->terminal[i] ? SIGHUP : signum);
        request(e->fds[i].fd, SHIM_SIGNAL, SIGCONT);
    }
    while (left && (now = sa_now_ms()) < until) {
        poll(e->fds, e->n, (int)(until - now));
        left = 0;
        for (size_t i = 0; i < e->n; i++) {
            if (e->fds[i].revents)
                look(&e->fds[i]);
            left += e->fds[i].fd >= 0;
        }
    }
    return left;
}

void processes_end_all(struct processes *all)
{
    struct ending e = {0};
    kept_terminate(all);
    for (size_t i = 0; i < PROCESS_BUCKETS; i++)
        for (struct process *p = all->buckets[i]; p; p = p->next)
            if (link_is_open(&p->link)) {
                e.fds = sa_realloc(e.fds, (e.n + 1) * sizeof *e.fds);
                e.terminal = sa_realloc(e.terminal, (e.n + 1) * sizeof *e.terminal);
                e.terminal[e.n] = p->record && p->record->terminal;
                e.fds[e.n++] = (struct pollfd){.fd = p->link.fd, .events = POLLIN};
                request(p->link.fd, SHIM_RELEASE, 0); /* of those that have ended already */
            }
    size_t total = e.n, left = rung(&e, SIGTERM, GRACE_MS / 2);
    if (left)
        left = rung(&e, SIGHUP, GRACE_MS / 2); /* ladder.c: why twice */
    if (left)
        left = rung(&e, SIGKILL, KILL_MS);
    left += kept_wait(all, GRACE_MS + KILL_MS);
    sa_log(left ? SA_LOG_WARN : SA_LOG_INFO, "process.stopped", "processes=%zu left=%zu", total, left);
    free(e.terminal);
    free(e.fds);
}
