/* Design notes
 *
 * One thread, one epoll, no allocation: what grows is in files. Everything the other side may want to know is
 * one struct shim_status; so a message may be dropped when a later one follows, and nothing is queued. Only
 * the answer to a request must not be lost: while one cannot be sent, no further request is read. The answer
 * to input waits a moment for output, most often an echo, so that both are one message.
 *
 * New output is announced at once after a pause and after input, whose answer somebody waits for; else at
 * most every ANNOUNCE_NS, and not while the last message is still unread: a child that writes small lines
 * would otherwise cost a wake-up of process-svc for each.
 *
 * Order at the start: directory, socket, then a look at the connection. If process-svc has died before it
 * could know this directory, the connection is gone and nothing is started; if it dies later, its successor
 * finds the directory and the socket.
 *
 * The child has ended when it was reaped and what lay in the pipes at that moment is in the journals; then
 * the exit record is renamed into place, then it is told. A descendant that holds the pipes delays nothing.
 */
#include "services/process-svc/shim/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "services/process-svc/shim/again.h"
#include "services/process-svc/shim/cgroup.h"
#include "services/process-svc/shim/child.h"
#include "services/process-svc/shim/private.h"
#include "services/process-svc/shim/pty.h"

#ifndef SIOCOUTQ
#define SIOCOUTQ TIOCOUTQ
#endif

#define ANNOUNCE_NS 300000ull
#define ANNOUNCE_MAX_NS 20000000ull /* while nobody reads the announcements */
#define ANSWER_NS 1000000ull        /* to input, which waits so long for the output that it brings forth */
#define RETRY_NS 100000000ull       /* of a journal that cannot be written, of a tree that is being killed */
#define DELETED_NS 5000000000ull    /* look whether our directory was deleted, once the child has ended */

enum { READS_PER_TURN = 4 };

uint64_t shim_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int64_t shim_wall_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

void shim_poll(struct shim *s, int fd, int source, uint32_t events, int op)
{
    struct epoll_event e = {.events = events, .data.u32 = (uint32_t)source};
    epoll_ctl(s->epoll, op, fd, &e);
}

void shim_drop(struct shim *s, int *fd, bool polled)
{
    if (*fd < 0)
        return;
    if (polled)
        epoll_ctl(s->epoll, EPOLL_CTL_DEL, *fd, NULL);
    close(*fd);
    *fd = -1;
}

/* ---- telling ---- */

static void fill_status(struct shim *s)
{
    struct shim_status *st = &s->status;
    st->stdin_next = s->input.next;
    st->stdin_pending = s->input.next - s->input.written;
    st->stdin_closed = (uint8_t)s->input.closed;
    st->descendants = !s->finished;
    if (s->slave >= 0)
        pty_size(s->slave, &st->rows, &st->columns);
    for (int i = 0; i < SHIM_STREAMS; i++) {
        st->first[i] = s->stream[i].journal.first;
        st->end[i] = s->stream[i].journal.end;
    }
}

static void kill_now(struct shim *s)
{
    if (s->spec)
        cgroups_kill(s->spec, &s->parts);
    descendants_signal(SIGKILL, 0, 0);
    s->retry_ns = shim_now_ns() + RETRY_NS;
}

void shim_kill_tree(struct shim *s)
{
    s->killing = true;
    kill_now(s);
}

static void connection_lost(struct shim *s)
{
    shim_drop(s, &s->connection, true);
    s->answer = false;
}

static void watch_connection(struct shim *s, uint32_t events)
{
    if (s->connection >= 0 && s->connection_events != events)
        shim_poll(s, s->connection, CONNECTION, s->connection_events = events, EPOLL_CTL_MOD);
}

static void send_status(struct shim *s)
{
    fill_status(s);
    /* Whoever is told of bytes finds in the index when they came. */
    for (int i = 0; i < SHIM_STREAMS; i++)
        journal_flush_index(&s->stream[i].journal);
    ssize_t r = send(s->connection, &s->status, sizeof s->status, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (r < 0 && errno == EAGAIN) {
        watch_connection(s, EPOLLOUT);
        return;
    }
    if (r < 0) {
        connection_lost(s);
        return;
    }
    s->answer = s->changed = s->grown = false;
    s->told_ns = shim_now_ns();
    watch_connection(s, EPOLLIN);
}

/* Sends what is to be told; returns when to come back for the rest (0: not). */
static uint64_t tell(struct shim *s, uint64_t now)
{
    if (s->connection < 0 || s->connection_events == EPOLLOUT)
        return 0;
    if (s->changed || (s->answer && (s->grown || now >= s->answer_ns))) {
        send_status(s);
        return 0;
    }
    if (s->answer)
        return s->answer_ns;
    if (!s->grown)
        return 0;
    if (s->eager) {
        s->eager = false;
        send_status(s);
        return 0;
    }
    uint64_t due = s->told_ns + s->pause_ns;
    if (now < due)
        return due;
    int unread = 0;
    if (ioctl(s->connection, SIOCOUTQ, &unread) == 0 && unread > 0) {
        s->pause_ns = s->pause_ns * 2 < ANNOUNCE_MAX_NS ? s->pause_ns * 2 : ANNOUNCE_MAX_NS;
        s->told_ns = now;
        return now + s->pause_ns;
    }
    s->pause_ns = ANNOUNCE_NS;
    send_status(s);
    return 0;
}

/* ---- output ---- */

/* How much to take at once. What an ended child has left in its pipe is taken beyond the bound: it is little,
 * and its end can then be told although nobody acknowledges. */
static size_t room(const struct stream *st)
{
    if (st->drain)
        return st->drain < SHIM_CHUNK ? (size_t)st->drain : SHIM_CHUNK;
    return journal_room(&st->journal, SHIM_CHUNK);
}

/* Is the pipe to be read? Not while a journal has no room or the disk is full. */
static void watch_stream(struct shim *s, int i)
{
    struct stream *st = &s->stream[i];
    bool want = st->pipe >= 0 && !s->held_by && room(st) > 0;
    if (st->pipe < 0 || want == (bool)st->polled)
        return;
    shim_poll(s, st->pipe, OUTPUT + i, EPOLLIN, want ? EPOLL_CTL_ADD : EPOLL_CTL_DEL);
    st->polled = want;
}

static void write_state(struct shim *s)
{
    if (s->state_fd >= 0 && pwrite(s->state_fd, &s->state, sizeof s->state, 0) != (ssize_t)sizeof s->state)
        s->status.journal_errno = (uint32_t)errno; /* the block exists already: cannot be full */
}

static void publish_first(struct shim *s, struct stream *st)
{
    s->state.first[st - s->stream] = st->journal.first;
    write_state(s);
    journal_free_front(&st->journal);
}

static void advance(struct shim *s, struct stream *st)
{
    if (journal_advance(&st->journal))
        publish_first(s, st);
}

static void look_for_pattern(struct shim *s, const struct stream *st, const void *p, size_t n)
{
    if (!s->match.pattern || s->status.matched)
        return;
    s->status.matched = match_feed(&s->match, (int)(st - s->stream), p, n);
    s->changed |= s->status.matched;
}

/* Writes what was taken from a pipe. false: the disk refuses; it is held, the child waits, a timer tries
 * again. */
static bool store(struct shim *s, struct stream *st)
{
    while (s->held_at < s->held_end) {
        ssize_t r = journal_append(&st->journal, s->chunk + s->held_at, s->held_end - s->held_at,
                                   shim_wall_us(), &s->arrival);
        if (r <= 0 && journal_shrink(&st->journal)) {
            publish_first(s, st);
            continue;
        }
        if (r <= 0) {
            uint32_t error = (uint32_t)(r < 0 ? errno : ENOSPC);
            s->changed |= s->status.journal_errno != error;
            s->status.journal_errno = error;
            s->held_by = st;
            s->retry_ns = shim_now_ns() + RETRY_NS;
            return false;
        }
        look_for_pattern(s, st, s->chunk + s->held_at, (size_t)r);
        s->held_at += (size_t)r;
        st->drain -= (uint64_t)r < st->drain ? (uint64_t)r : st->drain;
        s->grown = true;
        advance(s, st);
    }
    s->held_by = NULL;
    s->changed |= s->status.journal_errno != 0;
    s->status.journal_errno = 0;
    return true;
}

void shim_read_stream(struct shim *s, struct stream *st)
{
    for (int turn = 0; turn < READS_PER_TURN && st->pipe >= 0 && !s->held_by; turn++) {
        size_t want = room(st);
        if (!want)
            return;
        ssize_t n = s->slave < 0 ? read(st->pipe, s->chunk, want) : pty_read(st->pipe, s->chunk, want);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            st->drain = 0;
            return;
        }
        if (n <= 0) {
            shim_drop(s, &st->pipe, st->polled);
            st->polled = 0;
            st->drain = 0;
            return;
        }
        s->held_at = 0;
        s->held_end = (size_t)n;
        if (!store(s, st) || (size_t)n < want)
            return;
    }
}

/* ---- the end of the child ---- */

static void child_ended(struct shim *s, int wstatus)
{
    struct shim_exit *e = &s->status.exit;
    e->kind = WIFSIGNALED(wstatus) ? SHIM_EXIT_SIGNAL : SHIM_EXIT_CODE;
    e->value = (uint32_t)(WIFSIGNALED(wstatus) ? WTERMSIG(wstatus) : WEXITSTATUS(wstatus));
    e->time_us = shim_wall_us();
    s->reaped = true;
    for (int i = 0; i < SHIM_STREAMS; i++) {
        struct stream *st = &s->stream[i];
        if (st->pipe >= 0)
            st->drain = shim_waiting(s, st) + (s->held_by == st ? s->held_end - s->held_at : 0);
    }
}

static void reap(struct shim *s)
{
    struct signalfd_siginfo info;
    while (read(s->children, &info, sizeof info) > 0)
        ;
    pid_t pid;
    for (int wstatus; (pid = waitpid(-1, &wstatus, WNOHANG)) > 0;)
        if (pid == s->child)
            child_ended(s, wstatus);
    bool none = pid < 0 && errno == ECHILD;
    uint32_t kills = s->spec ? cgroups_oom_kills(s->spec, &s->parts) : 0;
    if (kills > s->status.oom_kills) {
        s->status.oom_kills = kills;
        s->changed = true;
    }
    s->changed |= none && !s->finished;
    s->finished = none;
    if (s->killing && !none)
        kill_now(s);
}

/* After every turn: has the child ended and is all it wrote in the journals? */
static void check_exit(struct shim *s)
{
    if (!s->reaped || s->status.phase != SHIM_RUNNING)
        return;
    for (int i = 0; i < SHIM_STREAMS; i++) {
        while (s->stream[i].drain && !s->held_by)
            shim_read_stream(s, &s->stream[i]);
        if (s->stream[i].drain)
            return;
    }
    again_run_ended(s);
}

/* ---- requests ---- */

static int signal_request(struct shim *s, const struct shim_request *r)
{
    int n = 0;
    if (r->scope == SHIM_SCOPE_PROCESS && !s->reaped)
        n = kill(s->child, (int)r->value) == 0; /* not reaped: the number is still the child's */
    if (r->scope == SHIM_SCOPE_GROUP)
        n = descendants_signal((int)r->value, s->child, 0);
    if (r->scope == SHIM_SCOPE_TREE)
        n = descendants_signal((int)r->value, 0, 0);
    if (r->scope == SHIM_SCOPE_TREE && r->value == SIGKILL && !s->finished)
        shim_kill_tree(s);
    return n ? 0 : ESRCH;
}

static void take_request(struct shim *s, size_t n)
{
    struct shim_request r;
    int error = 0;
    if (!shim_check_request(&s->request, n, &r)) {
        connection_lost(s);
        return;
    }
    s->answer_ns = 0;
    switch (r.type) {
    case SHIM_INPUT:
        error = input_take(&s->input, r.offset, s->request.bytes + sizeof r, n - sizeof r, r.value != 0);
        s->eager = true;
        s->answer_ns = error ? 0 : shim_now_ns() + ANSWER_NS;
        break;
    case SHIM_SIGNAL:
        error = signal_request(s, &r);
        break;
    case SHIM_ACK:
        journal_ack(&s->stream[r.stream].journal, r.offset);
        advance(s, &s->stream[r.stream]);
        if (s->held_by)
            store(s, s->held_by);
        return;
    case SHIM_RESIZE:
        error = s->slave < 0 ? ENOTTY : pty_resize(s->slave, r.value, r.scope);
        break;
    case SHIM_RELEASE:
        s->released = s->status.phase == SHIM_EXITED;
        return;
    case SHIM_LAST:
        s->last = true;
        if (s->status.phase == SHIM_BACKING_OFF)
            again_run_ended(s);
        return;
    default:
        break;
    }
    s->status.answered = r.number;
    s->status.answer_errno = (uint32_t)error;
    s->answer = true;
}

static void read_connection(struct shim *s)
{
    if (s->connection_events == EPOLLOUT || s->answer)
        send_status(s);
    if (s->connection_events != EPOLLIN || s->connection < 0)
        return;
    /* MSG_TRUNC: the true length, so that a message that is too long is seen as such. */
    ssize_t n = recv(s->connection, &s->request, sizeof s->request, MSG_DONTWAIT | MSG_TRUNC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 || (size_t)n > sizeof s->request)
        connection_lost(s);
    else
        take_request(s, (size_t)n);
    if (s->answer && !s->answer_ns)
        send_status(s);
}

static void use_connection(struct shim *s, int fd)
{
    if (fd != s->connection)
        shim_drop(s, &s->connection, true);
    s->connection = fd;
    shim_poll(s, fd, CONNECTION, s->connection_events = EPOLLIN, EPOLL_CTL_ADD);
    s->pause_ns = ANNOUNCE_NS;
    s->changed = true;
    s->answer = false;
    s->status.answered = 0; /* requests are counted anew on every connection */
}

/* A restarted process-svc; there is only one, so the newest connection is the one that counts. */
static void accept_connection(struct shim *s)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && (peer.uid == geteuid() || !peer.uid))
        use_connection(s, fd);
    else
        close(fd);
}

/* ---- the loop ---- */

static int wait_events(struct shim *s, struct epoll_event *events, int n, uint64_t until)
{
    struct timespec t = {0}, *timeout = until ? &t : NULL;
    uint64_t now = shim_now_ns();
    if (until > now) {
        t.tv_sec = (time_t)((until - now) / 1000000000u);
        t.tv_nsec = (long)((until - now) % 1000000000u);
    }
#ifdef SYS_epoll_pwait2
    int r = (int)syscall(SYS_epoll_pwait2, s->epoll, events, n, timeout, NULL, 0);
    if (r >= 0 || errno != ENOSYS)
        return r;
#endif
    int ms = timeout ? (int)(t.tv_sec * 1000 + (t.tv_nsec + 999999) / 1000000) : -1;
    return epoll_wait(s->epoll, events, n, ms);
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return !a ? b : !b ? a : a < b ? a : b;
}

static void on_time(struct shim *s, uint64_t now)
{
    if (s->retry_ns && now >= s->retry_ns) {
        s->retry_ns = 0;
        if (s->held_by)
            store(s, s->held_by);
        if (s->killing && !s->finished)
            kill_now(s);
    }
    if (s->deleted_ns && now >= s->deleted_ns) {
        s->deleted_ns = s->released ? 0 : now + DELETED_NS;
        s->released |= again_is_deleted();
    }
}

void shim_close_input(struct shim *s)
{
    if (s->input.terminal &&
        s->input.pipe >= 0) /* the output's descriptor is the same file: closing would leave it in epoll */
        shim_poll(s, s->input.pipe, INPUT, 0, EPOLL_CTL_DEL);
    input_close(&s->input);
    s->changed = true;
}

static bool nobody_reads(const struct input *in, uint32_t events)
{
    if (in->terminal)
        return events & (EPOLLHUP | EPOLLERR);
    return in->written == in->next; /* nothing waits, so it is not writability that we are told */
}

static void handle(struct shim *s, const struct epoll_event *e)
{
    uint32_t source = e->data.u32;
    if (source == CONNECTION && s->connection >= 0)
        read_connection(s);
    else if (source == LISTENER)
        accept_connection(s);
    else if (source == CHILDREN)
        reap(s);
    else if (source == INPUT && s->input.pipe >= 0 && nobody_reads(&s->input, e->events))
        shim_close_input(s);
    else if (source >= OUTPUT && !s->held_by)
        shim_read_stream(s, &s->stream[source - OUTPUT]);
}

/* Writes what waits and polls for what the rest needs. */
static void watch_input(struct shim *s)
{
    struct input *in = &s->input;
    if (in->pipe >= 0 && (in->written < in->next || in->eof) && !s->held_by)
        input_pump(in, s->chunk, SHIM_CHUNK);
    if (in->pipe < 0)
        return; /* closing took it out of epoll: nobody shares the write end */
    uint32_t want = in->written < in->next || in->eof ? EPOLLOUT : 0; /* 0: only EPOLLERR, nobody reads */
    if (want != s->input_events)
        shim_poll(s, in->pipe, INPUT, s->input_events = want, EPOLL_CTL_MOD);
}

static bool is_over(const struct shim *s)
{
    bool told = s->connection < 0 || !(s->answer || s->changed);
    return s->status.phase == SHIM_EXITED && s->finished && told && s->released;
}

static void loop(struct shim *s)
{
    struct epoll_event events[8];
    for (;;) {
        uint64_t again = tell(s, shim_now_ns());
        if (is_over(s))
            return;
        for (int i = 0; i < SHIM_STREAMS; i++)
            watch_stream(s, i);
        watch_input(s);
        uint64_t next_run = s->status.phase == SHIM_BACKING_OFF ? s->again_ns : 0;
        int n =
            wait_events(s, events, 8, sooner(sooner(again, next_run), sooner(s->retry_ns, s->deleted_ns)));
        for (int i = 0; i < n; i++)
            handle(s, &events[i]);
        on_time(s, shim_now_ns());
        check_exit(s);
        again_start(s);
    }
}

/* ---- from start to end ---- */

void shim_child_runs(struct shim *s)
{
    s->status.phase = SHIM_RUNNING;
    s->changed = true;
    s->run_ns = shim_now_ns();
    s->status.child_pid = s->state.child_pid = (uint32_t)s->child;
    s->status.child_start = s->state.child_start = shim_process_start(s->child, NULL, NULL, NULL);
    s->status.started_us = s->state.started_us = shim_wall_us();
    write_state(s);
    if (s->input.pipe >= 0)
        shim_poll(s, s->input.pipe, INPUT, s->input_events = 0, EPOLL_CTL_ADD);
}

static void listen_to_all(struct shim *s)
{
    shim_poll(s, s->children, CHILDREN, EPOLLIN, EPOLL_CTL_ADD);
    if (s->listener >= 0)
        shim_poll(s, s->listener, LISTENER, EPOLLIN, EPOLL_CTL_ADD);
    int first = s->connection;
    s->connection = -1;
    use_connection(s, first);
}

static int fail(struct shim *s, int error)
{
    s->status.magic = SHIM_STATUS_MAGIC;
    s->status.version = SHIM_VERSION;
    s->status.phase = SHIM_FAILED;
    if (!s->status.failed_stage) {
        s->status.failed_stage = SHIM_STAGE_SHIM;
        s->status.failed_errno = (uint32_t)error;
    }
    send(s->connection, &s->status, sizeof s->status, MSG_NOSIGNAL | MSG_DONTWAIT);
    return 1;
}

int shim_run(const struct shim_descriptors *d)
{
    static struct shim s; /* pages that are not used do not exist */
    s.connection = d->connection;
    s.listener = s.state_fd = s.exit_fd = s.input.pipe = s.slave = -1;
    s.stream[SHIM_STDOUT].pipe = s.stream[SHIM_STDERR].pipe = -1;
    if (shim_start(&s, d) < 0)
        return fail(&s, errno);
    shim_child_runs(&s);
    listen_to_all(&s);
    loop(&s);
    if (s.spec)
        cgroups_remove(s.spec, &s.parts);
    unlink("sock"); /* so that nobody looks for us */
    return 0;
}
