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

#include "services/process-svc/shim/child.h"
#include "services/process-svc/shim/private.h"

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

/* The directory and all files, so that a full disk is told now, and the end can always be recorded. */
static int make_directory(struct shim *s, const struct shim_spec *spec)
{
    static const char *const names[] = {"out", "err"}, *const indexes[] = {"out.index", "err.index"};
    if (mkdir(spec->id, 0700) < 0 || chdir(spec->id) < 0)
        return -1;
    for (int i = 0; i < SHIM_STREAMS; i++) {
        int fd = open_new(names[i]), index = open_new(indexes[i]);
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

static bool asker_is_there(const struct shim *s)
{
    struct pollfd p = {.fd = s->connection};
    return poll(&p, 1, 0) >= 0 && !(p.revents & (POLLHUP | POLLERR));
}

/* Makes the pipes and starts the child; keeps our ends. */
static int start_child(struct shim *s, const struct shim_spec *spec, const struct shim_spec_parts *parts)
{
    int pipes[3][2], stdio[3];
    for (int i = 0; i < 3; i++) {
        if (pipe2(pipes[i], O_CLOEXEC) < 0)
            return -1;
        int ours = pipes[i][i == 0], theirs = stdio[i] = pipes[i][i != 0];
        fcntl(ours, F_SETFL, O_NONBLOCK);
        /* So that the child's user may open /dev/stdout again. */
        if ((spec->flags & SHIM_FLAG_SET_USER) && fchown(theirs, spec->uid, spec->gid) < 0)
            return -1;
    }
    input_init(&s->input, pipes[0][1], -1, 0, 0);
    s->stream[SHIM_STDOUT].pipe = pipes[1][0];
    s->stream[SHIM_STDERR].pipe = pipes[2][0];
    s->child = child_start(spec, parts, stdio, &s->status.failed_stage, &s->status.failed_errno);
    for (int i = 0; i < 3; i++)
        close(stdio[i]);
    if (s->child < 0)
        errno = (int)s->status.failed_errno;
    return s->child < 0 ? -1 : 0;
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

int shim_start(struct shim *s, const struct shim_descriptors *d)
{
    struct shim_spec_parts parts;
    const struct shim_spec *spec = map_spec(d->spec, &parts);
    if (!spec)
        return -1;
    int r = prepare(s, spec);
    if (r == 0 && !asker_is_there(s)) {
        errno = ECONNRESET;
        r = -1;
    }
    if (r == 0)
        r = start_child(s, spec, &parts);
    int saved = errno;
    munmap((void *)(uintptr_t)spec, spec->size);
    close(d->spec);
    errno = saved;
    return r;
}
