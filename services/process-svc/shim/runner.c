/* Design notes
 *
 * Between two commands there is nothing but the connection, the memory file and a signalfd: pipes, counters,
 * working directory, limits and signals of a command live in the command (vfork shares only memory, and of
 * that it writes nothing), the status is made anew, the buffer is wiped.
 *
 * A command has ended when it was reaped and what lay in its pipes at that moment is in the file. What it has
 * left running is killed then, and the end is told once nothing is left; only then the next command may come.
 * The end of the connection kills everything at any time.
 *
 * A command gets no session of its own, unless it may leave something: with each session the scheduler of
 * Linux begins a group (autogroup), and of many that live for a moment one can wait 100 ms for its turn.
 *
 * With SHIM_FLAG_KEEP the end is told at once when something is left. From then on the runner is a mere
 * subreaper: it throws away what still comes through the pipes, hears nothing from the connection, and ends
 * with the last descendant. Its file `kept.<pid>` lets a restarted process-svc find it; it is there before
 * the command starts. SIGTERM makes it end what is left: TERM, and KILL after GRACE_MS. */
#include "services/process-svc/shim/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "services/process-svc/shim/cgroup.h"
#include "services/process-svc/shim/child.h"
#include "services/process-svc/shim/protocol.h"

enum { CHUNK = 64 << 10, READS_PER_TURN = 4, RETRY_MS = 100, GRACE_MS = 2000 };
enum { CONNECTION, SIGNALS, INPUT, OUTPUT, POLLED = OUTPUT + SHIM_STREAMS };

struct runner {
    struct pollfd fds[POLLED]; /* fd -1: closed */
    int file;
    bool busy;                    /* with a command, or with what it has left */
    pid_t child;                  /* the command; 0: it was reaped */
    bool ended;                   /* it has ended, which is not told yet */
    bool keep;                    /* leave alone what it has started */
    bool kept;                    /* that is so: nothing is to be told any more */
    bool killing;                 /* KILL to all that descends, until nothing is left */
    bool leaving;                 /* end with the last descendant */
    uint64_t kill_ms;             /* when TERM is followed by KILL; 0: it is not under way */
    const struct shim_spec *spec; /* mapped; NULL: none */
    struct shim_spec_parts parts; /* NULLs: the spec is not checked */
    size_t spec_bytes;
    uint64_t input_at, input_end;
    uint64_t bound; /* kept bytes of each stream */
    struct shim_status status;
    size_t used; /* bytes of chunk that were written to */
    char chunk[CHUNK];
};

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static int64_t wall_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void drop(struct runner *r, int which)
{
    if (r->fds[which].fd >= 0)
        close(r->fds[which].fd);
    r->fds[which].fd = -1;
    r->fds[which].revents = 0;
}

static void kill_all(struct runner *r)
{
    r->killing = true;
    if (r->parts.cgroups)
        cgroups_kill(r->spec, &r->parts);
    descendants_signal(SIGKILL, 0, 0);
}

/* Nobody is interested any more. */
static void connection_lost(struct runner *r)
{
    drop(r, CONNECTION);
    r->leaving = true;
    if (!r->kept)
        kill_all(r);
}

static void tell(struct runner *r, enum shim_phase phase)
{
    r->status.phase = phase;
    ssize_t n = send(r->fds[CONNECTION].fd, &r->status, sizeof r->status, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0)
        connection_lost(r); /* one status per request: there is always room, unless nobody reads */
}

/* ---- the record of a command whose descendants are kept ---- */

static void kept_name(char *ret, size_t n)
{
    snprintf(ret, n, SHIM_KEPT_PREFIX "%d", (int)getpid());
}

static int write_kept(const struct runner *r)
{
    char name[32];
    struct shim_state st = {.magic = SHIM_STATE_MAGIC, .version = SHIM_VERSION};
    st.shim_pid = r->status.shim_pid;
    st.shim_start = r->status.shim_start;
    shim_boot_id(st.boot_id);
    kept_name(name, sizeof name);
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ssize_t n = fd < 0 ? -1 : write(fd, &st, sizeof st);
    if (n >= 0 && n < (ssize_t)sizeof st)
        errno = ENOSPC;
    int saved = errno;
    if (fd >= 0)
        close(fd);
    errno = saved;
    return n == (ssize_t)sizeof st ? 0 : -1;
}

static void remove_kept(void)
{
    char name[32];
    kept_name(name, sizeof name);
    unlink(name);
}

/* ---- one command ---- */

static void fresh_status(struct runner *r)
{
    struct shim_status fresh = {.magic = SHIM_STATUS_MAGIC, .version = SHIM_VERSION};
    fresh.shim_pid = r->status.shim_pid;
    fresh.shim_start = r->status.shim_start;
    r->status = fresh;
}

/* Nothing of the command is left: neither below us nor in us. */
static void clear(struct runner *r)
{
    for (int i = INPUT; i < POLLED; i++)
        drop(r, i);
    if (r->keep)
        remove_kept();
    if (r->parts.cgroups)
        cgroups_remove(r->spec, &r->parts);
    if (r->spec)
        munmap((void *)(uintptr_t)r->spec, r->spec_bytes);
    r->spec = NULL;
    r->parts = (struct shim_spec_parts){0};
    memset(r->chunk, 0, r->used);
    r->used = 0;
    r->child = 0;
    r->busy = r->ended = r->keep = r->killing = false;
    r->input_at = r->input_end = 0;
    fresh_status(r);
}

/* The command is over, and told to be so once nothing of it is left. */
static void finish(struct runner *r, enum shim_phase phase)
{
    const struct shim_status told = r->status;
    clear(r);
    r->status = told;
    if (r->fds[CONNECTION].fd >= 0)
        tell(r, phase);
    fresh_status(r);
}

static int fail_stage(struct runner *r, int stage)
{
    r->status.failed_stage = (uint32_t)stage;
    r->status.failed_errno = (uint32_t)errno;
    return -1;
}

/* Standard descriptors of the command: theirs for it, the other ends for us. */
static int make_pipes(struct runner *r, int theirs[3])
{
    const struct shim_spec *spec = r->spec;
    for (int i = 0; i < 3; i++) {
        int ends[2];
        if (i == 0 && !r->input_end) {
            if ((theirs[0] = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0)
                return -1;
            continue;
        }
        if (pipe2(ends, O_CLOEXEC) < 0)
            return -1;
        theirs[i] = ends[i != 0];
        r->fds[INPUT + i] = (struct pollfd){.fd = ends[i == 0], .events = i ? POLLIN : POLLOUT};
        fcntl(ends[i == 0], F_SETFL, O_NONBLOCK);
        /* So that the command's user may open /dev/stdout again. */
        if ((spec->flags & SHIM_FLAG_SET_USER) && fchown(theirs[i], spec->uid, spec->gid) < 0)
            return -1;
    }
    return 0;
}

static int start_child(struct runner *r)
{
    int theirs[3] = {-1, -1, -1};
    r->keep = r->spec->flags & SHIM_FLAG_KEEP;
    r->bound = r->spec->journal_bytes;
    int made = r->keep && write_kept(r) < 0 ? -1 : make_pipes(r, theirs);
    if (made < 0)
        fail_stage(r, SHIM_STAGE_SHIM);
    else
        r->child = child_start(r->spec, &r->parts, theirs, r->keep, &r->status.failed_stage,
                               &r->status.failed_errno);
    for (int i = 0; i < 3; i++)
        if (theirs[i] >= 0)
            close(theirs[i]);
    return made < 0 || r->child < 0 ? -1 : 0;
}

static int start_command(struct runner *r, const struct shim_request *q)
{
    struct stat st;
    size_t n = q->value;
    r->busy = true;
    r->input_end = q->offset;
    if (fstat(r->file, &st) < 0 || (uint64_t)st.st_size < n || n > RUNNER_INPUT_AT - RUNNER_SPEC_AT) {
        errno = EINVAL;
        return fail_stage(r, SHIM_STAGE_SHIM);
    }
    void *p = mmap(NULL, n, PROT_READ, MAP_PRIVATE, r->file, RUNNER_SPEC_AT);
    if (p == MAP_FAILED)
        return fail_stage(r, SHIM_STAGE_SHIM);
    r->spec = p;
    r->spec_bytes = n;
    if (shim_check_spec(p, n, &r->parts))
        return start_child(r);
    errno = EINVAL;
    return fail_stage(r, SHIM_STAGE_SHIM);
}

/* ---- input and output ---- */

static void feed(struct runner *r)
{
    uint64_t left = r->input_end - r->input_at;
    ssize_t n =
        pread(r->file, r->chunk, left < CHUNK ? (size_t)left : CHUNK, (off_t)(RUNNER_INPUT_AT + r->input_at));
    r->used = n > (ssize_t)r->used ? (size_t)n : r->used;
    ssize_t fed = n > 0 ? write(r->fds[INPUT].fd, r->chunk, (size_t)n) : -1;
    if (fed > 0)
        r->input_at += (uint64_t)fed;
    if (r->input_at == r->input_end || (fed < 0 && (n <= 0 || (errno != EAGAIN && errno != EINTR))))
        drop(r, INPUT); /* all is written, or nobody reads */
}

static void keep_head(struct runner *r, int stream, size_t n)
{
    uint64_t at = r->status.end[stream];
    size_t room = at < r->bound ? (size_t)(r->bound - at) : 0, len = n < room ? n : room;
    r->used = n > r->used ? n : r->used;
    r->status.end[stream] += n;
    for (size_t done = 0; done < len && !r->kept;) {
        ssize_t w = pwrite(r->file, r->chunk + done, len - done,
                           (off_t)((uint64_t)RUNNER_OUTPUT_AT + (uint64_t)stream * RUNNER_PART + at + done));
        if (w <= 0) {
            r->status.journal_errno = (uint32_t)(w < 0 ? errno : ENOSPC); /* told with the end */
            return;
        }
        done += (size_t)w;
    }
}

static bool read_once(struct runner *r, int stream, size_t want)
{
    ssize_t n = read(r->fds[OUTPUT + stream].fd, r->chunk, want);
    if (n > 0)
        keep_head(r, stream, (size_t)n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        drop(r, OUTPUT + stream);
    return n == (ssize_t)want;
}

/* What lies in the pipe now. What others write meanwhile is not the command's. */
static void drain(struct runner *r, int stream)
{
    int waiting = 0;
    if (r->fds[OUTPUT + stream].fd < 0 || ioctl(r->fds[OUTPUT + stream].fd, FIONREAD, &waiting) < 0)
        return;
    for (int n; waiting > 0; waiting -= n) {
        n = waiting < CHUNK ? waiting : CHUNK;
        if (!read_once(r, stream, (size_t)n))
            return;
    }
}

/* ---- the end ---- */

static void child_ended(struct runner *r, int wstatus)
{
    struct shim_exit *e = &r->status.exit;
    e->kind = WIFSIGNALED(wstatus) ? SHIM_EXIT_SIGNAL : SHIM_EXIT_CODE;
    e->value = (uint32_t)(WIFSIGNALED(wstatus) ? WTERMSIG(wstatus) : WEXITSTATUS(wstatus));
    e->time_us = wall_us();
    r->child = 0;
    r->ended = true;
    for (int i = 0; i < SHIM_STREAMS; i++) {
        drain(r, i);
        e->end[i] = r->status.end[i];
    }
    shim_seal_exit(e);
}

/* The first signal to a tree that is to end by itself. */
static void terminate(struct runner *r)
{
    r->leaving = true;
    r->kill_ms = now_ms() + GRACE_MS;
    descendants_signal(SIGTERM, 0, 0);
    descendants_signal(SIGCONT, 0, 0);
}

static void tell_kept(struct runner *r)
{
    r->status.descendants = 1;
    tell(r, SHIM_EXITED);
    if (r->leaving) /* nobody was told */
        return;
    r->kept = r->leaving = true;
    r->ended = false;
    drop(r, INPUT);
    drop(r, CONNECTION);
}

/* After a child has ended: is that the end of the command, and may it be told? */
static void check_end(struct runner *r, bool none)
{
    if (!none && r->ended && r->keep && !r->killing && !r->leaving) {
        tell_kept(r);
    } else if (!none && (r->ended || r->killing)) {
        kill_all(r); /* again: the children of one that has ended came to us */
    } else if (none && (r->ended || r->kept)) {
        finish(r, SHIM_EXITED);
    }
}

static void on_signals(struct runner *r)
{
    struct signalfd_siginfo info;
    while (read(r->fds[SIGNALS].fd, &info, sizeof info) > 0)
        if (info.ssi_signo == SIGTERM)
            terminate(r);
    pid_t pid;
    for (int wstatus; (pid = waitpid(-1, &wstatus, WNOHANG)) > 0;)
        if (pid == r->child)
            child_ended(r, wstatus);
    if (r->busy)
        check_end(r, pid < 0);
}

/* ---- requests ---- */

static void run_command(struct runner *r, const struct shim_request *q)
{
    if (start_command(r, q) < 0)
        finish(r, SHIM_FAILED);
}

static void on_connection(struct runner *r)
{
    struct shim_request q;
    ssize_t n = recv(r->fds[CONNECTION].fd, &q, sizeof q, MSG_DONTWAIT | MSG_TRUNC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    bool known = n == (ssize_t)sizeof q && shim_check_request(&q, sizeof q, &q);
    if (known && q.type == SHIM_RUN && !r->busy)
        run_command(r, &q);
    else if (known && q.type == SHIM_SIGNAL && q.value == SIGKILL && r->busy)
        kill_all(r); /* the end is told, not this */
    else if (!known || q.type != SHIM_SIGNAL)
        connection_lost(r);
}

/* ---- the loop ---- */

static int timeout(const struct runner *r)
{
    if (r->killing)
        return RETRY_MS;
    uint64_t now = now_ms();
    return !r->kill_ms ? -1 : r->kill_ms > now ? (int)(r->kill_ms - now) : 0;
}

static void turn(struct runner *r)
{
    int n = poll(r->fds, POLLED, timeout(r));
    if (n < 0)
        return;
    if (r->killing ? n == 0 : r->kill_ms && now_ms() >= r->kill_ms)
        kill_all(r);
    for (int i = 0; i < SHIM_STREAMS; i++)
        if (r->fds[OUTPUT + i].revents)
            for (int turns = 0; turns < READS_PER_TURN && read_once(r, i, CHUNK); turns++)
                ;
    if (r->fds[INPUT].revents)
        feed(r);
    if (r->fds[SIGNALS].revents)
        on_signals(r);
    if (r->fds[CONNECTION].revents)
        on_connection(r);
}

static int prepare(struct runner *r)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_SETMASK, &set, NULL); /* blocked, it comes although the helper ignored it */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_NAME, "shim runner");
    r->fds[SIGNALS].fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    r->fds[SIGNALS].events = POLLIN;
    r->status.shim_pid = (uint32_t)getpid();
    r->status.shim_start = shim_process_start(getpid(), NULL, NULL, NULL);
    fresh_status(r);
    return r->fds[SIGNALS].fd;
}

int runner_run(int connection, int file)
{
    static struct runner r;
    for (int i = 0; i < POLLED; i++)
        r.fds[i].fd = -1;
    r.fds[CONNECTION] = (struct pollfd){.fd = connection, .events = POLLIN};
    r.file = file;
    if (prepare(&r) < 0)
        return 1;
    tell(&r, SHIM_STARTING);
    while (r.busy || !r.leaving)
        turn(&r);
    return 0;
}
