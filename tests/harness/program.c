#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "adapters/os/clock.h"
#include "adapters/os/file.h"
#include "tests/harness/harness.h"

enum { DIRS_MAX = 256, PIPE_BYTES = 1 << 20, FDS_MAX = 4, ENV_MAX = 64, LOOK_AGAIN_MS = 20 };

/* ---- directories ---- */

static char *dirs[DIRS_MAX];
static int n_dirs;
static pid_t dirs_owner;

static void remove_dirs(void)
{
    if (getpid() != dirs_owner)
        return;
    for (int i = 0; i < n_dirs; i++) {
        sa_remove_tree(dirs[i], NULL);
        free(dirs[i]);
    }
}

/* In memory, where there is plenty: a test waits for the services, not for a disk that others keep busy. */
static const char *base_dir(void)
{
    enum { TMPFS = 0x01021994 };
    struct statfs fs;
    bool plenty =
        statfs("/dev/shm", &fs) == 0 && fs.f_type == TMPFS && fs.f_bavail * (uint64_t)fs.f_bsize >> 32;
    return plenty && access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
}

const char *harness_dir(void)
{
    if (n_dirs == 0) {
        dirs_owner = getpid();
        atexit(remove_dirs);
    }
    assert_true(n_dirs < DIRS_MAX);
    char *dir = sa_format("%s/sa.XXXXXX", base_dir());
    assert_non_null(mkdtemp(dir));
    dirs[n_dirs++] = dir;
    return dir;
}

const char *harness_binary(const char *name)
{
    static char path[4096];
    const char *root = getenv("TEST_SRCDIR"), *workspace = getenv("TEST_WORKSPACE");
    if (root && workspace)
        snprintf(path, sizeof path, "%s/%s/deploy/bin/%s", root, workspace, name);
    else
        snprintf(path, sizeof path, "bazel-bin/deploy/bin/%s", name);
    return path;
}

/* ---- programs ---- */

/* The end to read of a pipe that holds `text`; the other end is closed, or given to *ret_writer. */
static int pipe_with(const char *text, int *ret_writer)
{
    int ends[2];
    size_t n = strlen(text);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES);
    assert_true(write(ends[1], text, n) == (ssize_t)n);
    if (ret_writer)
        *ret_writer = ends[1];
    else
        close(ends[1]);
    return ends[0];
}

/* What the program gets of our own environment, then what the test wants. */
static char **environment(const struct program_options *opt)
{
    static const char *const kept[] = {"PATH",           "ASAN_OPTIONS", "UBSAN_OPTIONS",
                                       "LSAN_OPTIONS",   "TSAN_OPTIONS", "TEST_SRCDIR",
                                       "TEST_WORKSPACE", "TEST_TMPDIR",  "RUNFILES_DIR"};
    char **env = sa_calloc(ENV_MAX, sizeof *env);
    int n = 0;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (getenv(kept[i]))
            env[n++] = sa_format("%s=%s", kept[i], getenv(kept[i]));
    env[n++] = sa_format("HOME=%s", opt->home ? opt->home : harness_dir());
    for (int i = 0; opt->env && opt->env[i]; i++) {
        assert_true(n < ENV_MAX - 1);
        env[n++] = sa_strdup(opt->env[i]);
    }
    return env;
}

struct program program_start(const char *const *argv, const struct program_options *opt)
{
    static const struct program_options none = {0};
    opt = opt ? opt : &none;
    int output[2], from[FDS_MAX], n = 0, typed = -1;
    int input = pipe_with(opt->input ? opt->input : "", opt->interactive ? &typed : NULL);
    char **env = environment(opt);
    cleanup_free char *path = sa_strdup(strchr(argv[0], '/') ? argv[0] : harness_binary(argv[0]));
    assert_int_equal(pipe2(output, O_CLOEXEC), 0);
    fcntl(output[1], F_SETPIPE_SZ, PIPE_BYTES);
    for (; opt->fds && opt->fds[n].fd; n++) {
        assert_true(n < FDS_MAX);
        from[n] = pipe_with(opt->fds[n].text, NULL);
    }
    struct program p = {.output_fd = output[0], .input_fd = typed};
    pid_t parent = getpid();
    p.pid = fork();
    if (p.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(126);
        if (opt->own_session)
            setsid();
        for (int i = 0; i < n; i++)
            from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 50);
        dup2(input, 0);
        dup2(output[1], 1);
        dup2(output[1], 2);
        for (int i = 0; i < n; i++)
            dup2(from[i], opt->fds[i].fd);
        execve(path, (char **)(uintptr_t)argv, env);
        dprintf(2, "cannot run `%s`: %s\n", path, strerror(errno));
        _exit(127);
    }
    assert_true(p.pid > 0);
    close(output[1]);
    close(input);
    for (int i = 0; i < n; i++)
        close(from[i]);
    for (int i = 0; env[i]; i++)
        free(env[i]);
    free(env);
    return p;
}

const char *program_output(struct program *p)
{
    return p->output.len ? sa_buf_string(&p->output) : "";
}

static void give_up(struct program *p, const char *what)
{
    fail_msg("%s; the output is:\n%s", what, program_output(p));
}

/* Takes what there is within `ms`; false: nothing more will come. */
static bool read_some(struct program *p, int ms)
{
    struct pollfd fd = {p->output_fd, POLLIN, 0};
    if (p->output_fd < 0 || poll(&fd, 1, ms) <= 0)
        return p->output_fd >= 0;
    ssize_t n = read(p->output_fd, sa_buf_reserve(&p->output, 65536), 65536);
    if (n > 0)
        p->output.len += (size_t)n;
    if (n == 0 || (n < 0 && errno != EINTR))
        p->output_fd = sa_close(p->output_fd);
    return p->output_fd >= 0;
}

void program_read(struct program *p)
{
    for (size_t before = SIZE_MAX; before != p->output.len;) {
        before = p->output.len;
        read_some(p, 0);
    }
}

void program_wait_for(struct program *p, const char *text)
{
    uint64_t deadline = sa_now_ms() + PATIENCE_MS;
    for (;;) {
        const char *found = strstr(program_output(p) + p->seen, text);
        if (found) {
            p->seen = (size_t)(found - program_output(p)) + strlen(text);
            return;
        }
        uint64_t now = sa_now_ms();
        if (now >= deadline || !read_some(p, (int)(deadline - now))) {
            cleanup_free char *what = sa_format("`%s` was not printed", text);
            give_up(p, what);
        }
    }
}

static int code_of(int wstatus)
{
    return WIFEXITED(wstatus) ? WEXITSTATUS(wstatus) : 128 + WTERMSIG(wstatus);
}

int program_wait(struct program *p)
{
    uint64_t deadline = sa_now_ms() + PATIENCE_MS;
    if (!p->pid)
        return code_of(p->wstatus);
    int pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
    assert_true(pidfd >= 0);
    for (uint64_t now; (now = sa_now_ms()) < deadline;) {
        struct pollfd fds[] = {{pidfd, POLLIN, 0}, {p->output_fd, POLLIN, 0}};
        poll(fds, 2, (int)(deadline - now));
        if (fds[1].revents)
            read_some(p, 0);
        if (fds[0].revents)
            break;
    }
    close(pidfd);
    if (waitpid(p->pid, &p->wstatus, WNOHANG) != p->pid)
        give_up(p, "the program has not ended");
    p->pid = 0;
    /* What it left in the pipe. Its children may keep the pipe open: not waited for. */
    while (p->output_fd >= 0) {
        size_t before = p->output.len;
        if (!read_some(p, 0) || p->output.len == before)
            break;
    }
    return code_of(p->wstatus);
}

void program_signal(struct program *p, int signum)
{
    if (p->pid)
        kill(p->pid, signum);
}

void program_type(struct program *p, const char *line)
{
    if (line)
        assert_true(write(p->input_fd, line, strlen(line)) == (ssize_t)strlen(line));
    else
        p->input_fd = sa_close(p->input_fd);
}

void program_free(struct program *p)
{
    if (p->pid > 0) {
        kill(p->pid, SIGKILL);
        waitpid(p->pid, NULL, 0);
    }
    sa_close(p->output_fd);
    sa_close(p->input_fd);
    sa_buf_fini(&p->output);
    *p = (struct program){.output_fd = -1, .input_fd = -1};
}

char *program_run(const char *const *argv, const struct program_options *opt, int *ret_code)
{
    struct program p = program_start(argv, opt);
    *ret_code = program_wait(&p);
    char *output = sa_strdup(program_output(&p));
    program_free(&p);
    return output;
}

void wait_until(bool (*is_so)(void *user), void *user, const char *what)
{
    uint64_t deadline = sa_now_ms() + PATIENCE_MS;
    while (!is_so(user)) {
        if (sa_now_ms() >= deadline)
            fail_msg("it never came true that %s", what);
        poll(NULL, 0, LOOK_AGAIN_MS);
    }
}
