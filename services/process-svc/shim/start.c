/* Design notes: see shim.c for the order of the steps. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "services/process-svc/shim/cgroup.h"
#include "services/process-svc/shim/child.h"
#include "services/process-svc/shim/private.h"
#include "services/process-svc/shim/pty.h"

enum { BACKLOG = 4 };

static int open_new(const char *name)
{
    return open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
}

static int listen_here(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX, .sun_path = "sock"};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && (bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0 || listen(fd, BACKLOG) < 0)) {
        close(fd);
        return -1;
    }
    return fd;
}

static const char *const stream_names[SHIM_STREAMS] = {"out", "err"};
static const char *const index_names[SHIM_STREAMS] = {"out.index", "err.index"};

/* The directory and all files, so that a full disk is told now, and the end can always be recorded. */
static int make_directory(struct shim *s, const struct shim_spec *spec)
{
    if (mkdir(spec->id, 0700) < 0 || chdir(spec->id) < 0)
        return -1;
    for (int i = 0; i < SHIM_STREAMS; i++) {
        int fd = open_new(stream_names[i]), index = open_new(index_names[i]);
        if (fd < 0 || index < 0)
            return -1;
        journal_init(&s->stream[i].journal, fd, index, (enum shim_retention)spec->retention[i],
                     spec->journal_bytes);
    }
    const struct shim_exit blank = {0};
    const struct shim_state state = s->state;
    s->state_fd = open_new("state");
    s->exit_fd = open_new("exit.new");
    if (s->state_fd < 0 || s->exit_fd < 0 ||
        write(s->exit_fd, &blank, sizeof blank) != (ssize_t)sizeof blank ||
        write(s->state_fd, &state, sizeof state) != (ssize_t)sizeof state)
        return -1;
    s->listener = listen_here();
    return s->listener < 0 ? -1 : 0;
}

/* Nobody waits for the child: a successor of the service may have looked before the directory was there. */
static void remove_directory(const struct shim_spec *spec)
{
    for (int i = 0; i < SHIM_STREAMS; i++) {
        unlink(stream_names[i]);
        unlink(index_names[i]);
    }
    unlink("state");
    unlink("exit.new");
    unlink("sock");
    if (chdir("..") == 0)
        rmdir(spec->id);
}

static bool asker_is_there(const struct shim *s)
{
    struct pollfd p = {.fd = s->connection};
    return poll(&p, 1, 0) >= 0 && !(p.revents & (POLLHUP | POLLERR));
}

/* Pipes for standard input, output and error: our ends and the child's. */
struct pipes {
    int ours[3], theirs[3];
};

static void close_all(const int fds[3])
{
    for (int i = 0; i < 3; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

static int make_pipes(struct pipes *p, const struct shim_spec *spec)
{
    for (int i = 0; i < 3; i++) {
        int pair[2];
        if (pipe2(pair, O_CLOEXEC) < 0)
            return -1;
        p->ours[i] = pair[i == 0];
        p->theirs[i] = pair[i != 0];
        fcntl(p->ours[i], F_SETFL, O_NONBLOCK);
        /* So that the child's user may open /dev/stdout again. */
        if ((spec->flags & SHIM_FLAG_SET_USER) && fchown(p->theirs[i], spec->uid, spec->gid) < 0)
            return -1;
    }
    return 0;
}

/* A new terminal for each run, of the size that the last one had. One descriptor of ours reads and another
 * one writes, so that each has a place in epoll. */
static int make_terminal(struct shim *s, struct pipes *p, const struct shim_spec *spec)
{
    uint32_t rows = s->status.rows ? s->status.rows : spec->rows;
    uint32_t columns = s->status.rows ? s->status.columns : spec->columns;
    shim_drop(s, &s->slave, false);
    if (pty_open(spec, rows, columns, &p->ours[1], &s->slave) < 0)
        return -1;
    p->ours[0] = fcntl(p->ours[1], F_DUPFD_CLOEXEC, 3);
    for (int i = 0; i < 3; i++)
        if ((p->theirs[i] = fcntl(s->slave, F_DUPFD_CLOEXEC, 3)) < 0)
            return -1;
    return p->ours[0] < 0 ? -1 : 0;
}

/* The first run begins the input, later ones go on with it. */
static void use_input(struct shim *s, const struct shim_spec *spec, int pipe)
{
    if (s->status.restarts) {
        input_resume(&s->input, pipe);
        return;
    }
    input_init(&s->input, pipe, -1, 0, 0);
    s->input.hold = spec->restart != SHIM_RESTART_NONE;
    s->input.terminal = (spec->flags & SHIM_FLAG_TERMINAL) != 0;
}

int shim_start_child(struct shim *s, const struct shim_spec *spec, const struct shim_spec_parts *parts)
{
    struct pipes p = {{-1, -1, -1}, {-1, -1, -1}};
    s->child = -1;
    int made = (spec->flags & SHIM_FLAG_TERMINAL) ? make_terminal(s, &p, spec) : make_pipes(&p, spec);
    if (made == 0)
        s->child = child_start(spec, parts, p.theirs, true, &s->status.failed_stage, &s->status.failed_errno);
    if (s->child < 0 && s->status.failed_stage)
        errno = (int)s->status.failed_errno;
    int error = errno;
    close_all(p.theirs);
    if (s->child < 0) {
        close_all(p.ours);
        errno = error;
        return -1;
    }
    use_input(s, spec, p.ours[0]);
    s->stream[SHIM_STDOUT].pipe = p.ours[1];
    s->stream[SHIM_STDERR].pipe = p.ours[2];
    return 0;
}

static void set_title(const struct shim_spec *spec)
{
    char name[16];
    snprintf(name, sizeof name, "shim %.10s", spec->id + SHIM_ID_TEXT - 10);
    prctl(PR_SET_NAME, name);
}

static int prepare(struct shim *s, const struct shim_spec *spec)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    set_title(spec);
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    s->children = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s->epoll < 0 || s->children < 0)
        return -1;
    s->state = (struct shim_state){.magic = SHIM_STATE_MAGIC, .version = SHIM_VERSION};
    s->status = (struct shim_status){.magic = SHIM_STATUS_MAGIC, .version = SHIM_VERSION};
    s->status.phase = SHIM_STARTING;
    s->status.shim_pid = s->state.shim_pid = (uint32_t)getpid();
    s->status.shim_start = s->state.shim_start = shim_process_start(getpid(), NULL, NULL, NULL);
    shim_boot_id(s->state.boot_id);
    return make_directory(s, spec);
}

/* Maps the spec and checks it; NULL with errno. */
static const struct shim_spec *map_spec(int fd, struct shim_spec_parts *ret_parts)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return NULL;
    size_t n = (size_t)st.st_size;
    if (n < sizeof(struct shim_spec) || n > SHIM_ARGV_MAX + SHIM_ENV_MAX + (64 << 10)) {
        errno = EINVAL;
        return NULL;
    }
    void *p = mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        return NULL;
    if (!shim_check_spec(p, n, ret_parts)) {
        munmap(p, n);
        errno = EINVAL;
        return NULL;
    }
    return p;
}

/* It may be large: it stays mapped only for what needs it. */
static void keep_spec(struct shim *s, const struct shim_spec *spec, const struct shim_spec_parts *parts,
                      bool started)
{
    if (started && (spec->restart || spec->n_cgroups || spec->pattern_bytes)) {
        s->spec = spec;
        s->parts = *parts;
        return;
    }
    cgroups_remove(spec, parts);
    munmap((void *)(uintptr_t)spec, spec->size);
}

int shim_start(struct shim *s, const struct shim_descriptors *d)
{
    struct shim_spec_parts parts;
    const struct shim_spec *spec = map_spec(d->spec, &parts);
    if (!spec)
        return -1;
    int r = prepare(s, spec);
    if (r == 0 && !asker_is_there(s)) {
        remove_directory(spec);
        errno = ECONNRESET;
        r = -1;
    }
    if (r == 0 && spec->pattern_bytes)
        match_init(&s->match, parts.pattern, spec->pattern_bytes);
    if (r == 0)
        r = shim_start_child(s, spec, &parts);
    int saved = errno;
    keep_spec(s, spec, &parts, r == 0);
    close(d->spec);
    errno = saved;
    return r;
}
