/* Design notes
 *
 * The child is made with vfork: it shares our memory until exec, so the error of a failed step is simply a
 * variable, exec has succeeded when vfork returns in the parent without one, and no page is copied. Until
 * exec it makes system calls only (raw ones where the C library would synchronize threads).
 *
 * Descendants are walked through /proc/<pid>/task/<tid>/children. Between reading a pid and signalling it the
 * process may have ended and the number may belong to another; so a pidfd is opened first, and the signal is
 * sent only when the process behind the number still has the parent under which it was found, or us. */
#include "services/process-svc/shim/child.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "services/process-svc/shim/cgroup.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

enum { WALK_MAX = 1 << 20 };

struct start {
    const struct shim_spec *spec;
    const struct shim_spec_parts *parts;
    const int *stdio;
    bool session;
    char **argv, **envp;
    const char *path; /* PATH of the environment */
    pid_t parent;
    volatile uint32_t stage, error;
};

static const int ignored[] = {SIGPIPE, SIGINT, SIGTERM, SIGHUP, SIGQUIT};
enum { IGNORED = sizeof ignored / sizeof *ignored, SIGNALS = 64 };

/* As the kernel takes it: the C library refuses the signals it uses itself, which whoever started us may have
 * ignored. */
static void set_handler(int signum, void (*handler)(int))
{
    struct {
        void (*handler)(int);
        unsigned long words[4];
    } action = {.handler = handler};
    syscall(SYS_rt_sigaction, signum, &action, NULL, 8);
}

void child_prepare_signals(void)
{
    for (int i = 1; i <= SIGNALS; i++)
        set_handler(i, SIG_DFL);
    for (int i = 0; i < IGNORED; i++)
        set_handler(ignored[i], SIG_IGN);
}

static void default_signals(void)
{
    for (int i = 0; i < IGNORED; i++)
        set_handler(ignored[i], SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static int limit_files(const struct start *s)
{
    const struct {
        uint64_t now, max;
    } limit = {s->spec->open_files, s->spec->open_files};
    return s->spec->open_files ? (int)syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &limit, NULL) : 0;
}

static int become_user(const struct start *s)
{
    if (!(s->spec->flags & SHIM_FLAG_SET_USER))
        return 0;
    if (syscall(SYS_setgroups, (size_t)s->spec->n_groups, s->parts->groups) < 0 ||
        syscall(SYS_setresgid, s->spec->gid, s->spec->gid, s->spec->gid) < 0)
        return -1;
    return (int)syscall(SYS_setresuid, s->spec->uid, s->spec->uid, s->spec->uid);
}

/* Standard descriptors in place, all others closed. The sources may lie at 0 to 2 themselves. */
static int place_stdio(const int from[3])
{
    int high[3];
    for (int i = 0; i < 3; i++)
        if ((high[i] = fcntl(from[i], F_DUPFD, 3)) < 0)
            return -1;
    for (int i = 0; i < 3; i++)
        if (dup2(high[i], i) < 0)
            return -1;
    if (syscall(SYS_close_range, 3u, ~0u, 0) == 0)
        return 0;
    for (int fd = 3; fd < 1024; fd++) /* a kernel before 5.9; we hold few, and low ones */
        close(fd);
    return 0;
}

static void try_exec(const char *file, struct start *s)
{
    struct stat st;
    execve(file, s->argv, s->envp);
    if (errno != EACCES)
        return;
    if (stat(file, &st) == 0 && S_ISDIR(st.st_mode))
        errno = EISDIR; /* says more */
    else
        errno = EACCES;
}

/* As execvpe, but with the PATH of the new environment, and without running text files by a shell. */
static void exec_search(struct start *s)
{
    const char *name = s->argv[0];
    if (strchr(name, '/')) {
        try_exec(name, s);
        return;
    }
    char file[PATH_MAX];
    int saved = ENOENT;
    for (const char *at = s->path, *colon; at; at = colon ? colon + 1 : NULL) {
        colon = strchr(at, ':');
        int n = colon ? (int)(colon - at) : (int)strlen(at);
        if (snprintf(file, sizeof file, "%.*s/%s", n ? n : 1, n ? at : ".", name) >= (int)sizeof file)
            continue;
        execve(file, s->argv, s->envp);
        if (errno != ENOENT && errno != ENOTDIR && errno != EACCES)
            return;
        if (errno == EACCES)
            saved = EACCES; /* there is one that may not be run: worth more than "not found" */
    }
    errno = saved;
}

/* In the child, until exec. Returns only on failure, with errno. */
static void run_child(struct start *s)
{
    s->stage = SHIM_STAGE_LIMITS;
    if (cgroups_join(s->spec, s->parts) < 0)
        return;
    s->stage = SHIM_STAGE_FORK;
    if ((s->session ? setsid() : setpgid(0, 0)) < 0 || place_stdio(s->stdio) < 0)
        return;
    if ((s->spec->flags & SHIM_FLAG_TERMINAL) && ioctl(0, TIOCSCTTY, 0) < 0)
        return;
    umask(022);
    s->stage = SHIM_STAGE_LIMITS;
    if (limit_files(s) < 0)
        return;
    s->stage = SHIM_STAGE_USER;
    if (become_user(s) < 0)
        return;
    /* After the change of user, which clears it; and our parent may be gone already. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != s->parent)
        return;
    s->stage = SHIM_STAGE_CWD;
    if (chdir(s->parts->cwd) < 0)
        return;
    s->stage = SHIM_STAGE_EXEC;
    default_signals();
    exec_search(s);
}

static void fill(char **ret, const char *strings, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        ret[i] = (char *)(uintptr_t)strings;
        strings += strlen(strings) + 1;
    }
    ret[count] = NULL;
}

static pid_t __attribute__((noinline)) vfork_child(struct start *s)
{
    pid_t pid = vfork();
    if (pid == 0) {
        run_child(s);
        s->error = (uint32_t)(errno ? errno : ECHILD);
        _exit(127);
    }
    return pid;
}

pid_t child_start(const struct shim_spec *spec, const struct shim_spec_parts *parts, const int stdio[3],
                  bool session, uint32_t *ret_stage, uint32_t *ret_errno)
{
    struct start s = {.spec = spec, .parts = parts, .stdio = stdio, .session = session};
    s.path = DEFAULT_PATH;
    s.parent = getpid();
    if (cgroups_make(spec, parts) < 0) {
        *ret_stage = SHIM_STAGE_LIMITS;
        *ret_errno = (uint32_t)errno;
        return -1;
    }
    size_t size = ((size_t)spec->argc + spec->envc + 2) * sizeof(char *);
    char **table = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (table == MAP_FAILED) {
        *ret_stage = SHIM_STAGE_FORK;
        *ret_errno = (uint32_t)errno;
        return -1;
    }
    s.argv = table;
    s.envp = table + spec->argc + 1;
    fill(s.argv, parts->argv, spec->argc);
    fill(s.envp, parts->env, spec->envc);
    for (char **e = s.envp; *e; e++)
        if (!strncmp(*e, "PATH=", 5))
            s.path = *e + 5;
    pid_t pid = vfork_child(&s);
    if (pid < 0) {
        s.stage = SHIM_STAGE_FORK;
        s.error = (uint32_t)errno;
    } else if (s.error) {
        waitpid(pid, NULL, 0);
        pid = -1;
    }
    munmap(table, size);
    *ret_stage = pid < 0 ? s.stage : 0;
    *ret_errno = s.error;
    return pid;
}

/* ---- what descends from us ---- */

struct walk {
    pid_t *pids; /* found so far; the walk goes on from `next` */
    int n, next;
    int signum, count;
    pid_t group, only;
};

static void signal_checked(struct walk *w, pid_t pid, pid_t parent)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0), ppid;
    bool zombie;
    if (fd < 0)
        return;
    if (shim_process_start(pid, &ppid, NULL, &zombie) && (ppid == parent || ppid == getpid()) && !zombie &&
        (!w->group || getpgid(pid) == w->group) && (!w->only || pid == w->only) &&
        (!w->signum || syscall(SYS_pidfd_send_signal, fd, w->signum, NULL, 0) == 0))
        w->count++;
    close(fd);
}

/* The children of one thread. */
static void walk_children(struct walk *w, pid_t parent, const char *tid)
{
    char path[64], buf[4096];
    snprintf(path, sizeof path, "/proc/%d/task/%.16s/children", (int)parent, tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    long pid = 0;
    for (ssize_t n; (n = read(fd, buf, sizeof buf)) > 0;)
        for (ssize_t i = 0; i < n; i++) {
            if (buf[i] >= '0' && buf[i] <= '9') {
                pid = pid * 10 + (buf[i] - '0');
                continue;
            }
            if (pid && w->n < WALK_MAX) {
                w->pids[w->n++] = (pid_t)pid;
                signal_checked(w, (pid_t)pid, parent);
            }
            pid = 0;
        }
    close(fd);
}

static void walk_process(struct walk *w, pid_t pid)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *d = opendir(path);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.')
            walk_children(w, pid, e->d_name);
    closedir(d);
}

int descendants_signal(int signum, pid_t group, pid_t only)
{
    /* Room for every pid there may be; only touched pages exist, and only for the time of the walk. */
    size_t size = WALK_MAX * sizeof(pid_t);
    struct walk w = {.signum = signum, .group = group, .only = only};
    w.pids = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (w.pids == MAP_FAILED)
        return 0;
    for (walk_process(&w, getpid()); w.next < w.n && !(only && w.count);)
        walk_process(&w, w.pids[w.next++]);
    munmap(w.pids, size);
    return w.count;
}

int session_kill(pid_t session, uint64_t since)
{
    DIR *d = opendir("/proc");
    if (!d)
        return 0;
    int count = 0;
    for (struct dirent *e; (e = readdir(d));) {
        int pid = atoi(e->d_name), sid, fd;
        bool zombie;
        if (pid <= 1 || (fd = (int)syscall(SYS_pidfd_open, pid, 0)) < 0)
            continue;
        uint64_t started = shim_process_start(pid, NULL, &sid, &zombie);
        if (started >= since && started && sid == session && !zombie) {
            syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
            count++;
        }
        close(fd);
    }
    closedir(d);
    return count;
}
