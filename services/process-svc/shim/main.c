/* The spawn helper of process-svc, and the shims: one small static program.
 *
 *     process-shim DIRECTORY      with its control socket as descriptor 3
 *
 * main         becomes the helper: waits for requests on descriptor 3 until process-svc is gone
 * spawn        forks; the copy goes on as a shim (shim.c), which outlives helper and service
 *   shim.c       the life of one shim: start, loop, exit record
 *   child.c      vfork and exec; walking and signalling what descends
 *   again.c      the restart policy, the exit record
 *   cgroup.c     the cgroups of a child with limits
 *   match.c      looks for what makes a process ready
 *   journal.c    output: append-only files with a bounded kept range
 *   input.c      input at an offset, spooled while the child does not read
 *   runner.c     commands of RunProcess, one after the other, without a directory
 *   pty.c        the terminal of a child that wants one
 *   protocol.c   what is said on sockets and left on disk, checked before it is believed
 * sweep        a shim was killed: its descendants are ended. They came to us, the nearest subreaper */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "services/process-svc/shim/child.h"
#include "services/process-svc/shim/protocol.h"
#include "services/process-svc/shim/runner.h"
#include "services/process-svc/shim/shim.h"

enum { CONTROL = 3, FDS_MAX = 2, SWEEP_MS = 3000, LOOK_AGAIN_MS = 20 };

static int children = -1; /* signalfd of SIGCHLD */

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* A request with up to FDS_MAX descriptors; what is missing stays -1. 0: the service is gone. */
static ssize_t receive(void *p, size_t n, int fds[FDS_MAX])
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } control;
    struct iovec iov = {p, n};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    msg.msg_control = control.bytes;
    msg.msg_controllen = sizeof control.bytes;
    for (int i = 0; i < FDS_MAX; i++)
        fds[i] = -1;
    ssize_t r = recvmsg(CONTROL, &msg, MSG_CMSG_CLOEXEC);
    struct cmsghdr *c = r > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
        memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
    return r;
}

/* Overwrites the program's arguments, so that ps tells shims from the helper. */
static void set_arguments(char **argv, const char *text)
{
    char *end = argv[0];
    for (char **a = argv; *a; a++)
        end = *a + strlen(*a);
    size_t n = (size_t)(end - argv[0]);
    memset(argv[0], 0, n);
    strncpy(argv[0], text, n);
}

static void spawn(uint32_t type, const int fds[FDS_MAX], char **argv)
{
    const struct shim_descriptors d = {fds[0], fds[1]};
    struct shim_status failed = {.magic = SHIM_STATUS_MAGIC, .version = SHIM_VERSION, .phase = SHIM_FAILED};
    pid_t pid = d.connection < 0 || d.spec < 0 ? -1 : fork();
    if (pid == 0) {
        close(CONTROL);
        close(children);
        set_arguments(argv, "shim");
        _exit(type == SHIM_SPAWN ? shim_run(&d) : runner_run(fds[0], fds[1]));
    }
    if (pid < 0 && d.connection >= 0) {
        failed.failed_stage = SHIM_STAGE_SHIM;
        failed.failed_errno = (uint32_t)errno;
        send(d.connection, &failed, sizeof failed, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    for (int i = 0; i < FDS_MAX; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

/* ---- what a killed shim leaves ---- */

/* Shims run the program that we run; a child of ours that does not was left to us by a dead shim. */
static bool is_shim(pid_t pid)
{
    char path[32];
    struct stat ours, its;
    snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
    return stat("/proc/self/exe", &ours) == 0 && stat(path, &its) == 0 && ours.st_ino == its.st_ino &&
           ours.st_dev == its.st_dev;
}

/* Kills the children that are no shims. Their own children come to us when they die, and so on. */
static int kill_strays(void)
{
    char path[48];
    int count = 0, parent;
    bool zombie;
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    for (int pid; fscanf(f, "%d", &pid) == 1;) {
        if (!shim_process_start(pid, &parent, NULL, &zombie) || parent != getpid() || zombie || is_shim(pid))
            continue;
        kill(pid, SIGKILL); /* our own child, not reaped: the number is still its own */
        count++;
    }
    fclose(f);
    return count;
}

static void reap(void)
{
    struct signalfd_siginfo info;
    while (read(children, &info, sizeof info) > 0)
        ;
    /* A shim ends by itself only when nothing is left below it; and a stray's end may bring us its children.
     */
    bool killed = false;
    for (int wstatus; waitpid(-1, &wstatus, WNOHANG) > 0;)
        killed |= WIFSIGNALED(wstatus);
    if (killed)
        kill_strays();
}

static int ended(uint32_t pid, uint64_t start)
{
    bool zombie;
    uint64_t now = pid ? shim_process_start((int)pid, NULL, NULL, &zombie) : 0;
    return !now || now != start || zombie;
}

/* Ends the child's session and the strays; answers once they are gone, or after SWEEP_MS. */
static void sweep(struct shim_spawn *request)
{
    uint64_t until = now_ms() + SWEEP_MS;
    for (;;) {
        reap();
        int left = !ended(request->shim_pid, request->shim_start) + kill_strays();
        if (request->child_pid)
            left += session_kill((pid_t)request->child_pid, request->child_start);
        request->survivors = (uint32_t)left;
        if (!left || now_ms() >= until)
            break;
        struct pollfd p = {.fd = children, .events = POLLIN};
        poll(&p, 1, LOOK_AGAIN_MS); /* what is not our child ends without a signal to us */
    }
    send(CONTROL, request, sizeof *request, MSG_NOSIGNAL);
}

/* ---- the helper ---- */

static int prepare(const char *directory)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    if (null < 0 || chdir(directory) < 0)
        return -1;
    for (int fd = 0; fd < 3; fd++)
        dup2(null, fd);
    close(null);
    setsid();
    sigprocmask(SIG_SETMASK, &set, NULL);
    child_prepare_signals();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    fcntl(CONTROL, F_SETFD, FD_CLOEXEC);
    children = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return children;
}

int main(int argc, char **argv)
{
    if (argc != 2 || prepare(argv[1]) < 0) {
        fprintf(stderr, "process-shim: is started by process-svc: %s\n",
                strerror(argc == 2 ? errno : EINVAL));
        return 1;
    }
    struct pollfd p[2] = {{.fd = CONTROL, .events = POLLIN}, {.fd = children, .events = POLLIN}};
    for (;;) {
        if (poll(p, 2, -1) < 0)
            continue;
        if (p[1].revents)
            reap();
        if (!p[0].revents)
            continue;
        struct shim_spawn request;
        int fds[FDS_MAX];
        ssize_t n = receive(&request, sizeof request, fds);
        if (n <= 0)
            return 0; /* the service is gone; shims live on */
        if (!shim_check_spawn(&request, (size_t)n, &request))
            return 1;
        if (request.type == SHIM_SWEEP)
            sweep(&request);
        else
            spawn(request.type, fds, argv);
    }
}
