#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "tests/load/process_bench.h"

extern char **environ;

static pid_t spawn(const char *const *argv, int out)
{
    pid_t pid;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    if (out >= 0)
        posix_spawn_file_actions_adddup2(&actions, out, 1);
    if (posix_spawnp(&pid, argv[0], &actions, NULL, (char **)(uintptr_t)argv, environ))
        die("start `%s`", argv[0]);
    posix_spawn_file_actions_destroy(&actions);
    return pid;
}

/* With pipes, as whoever wants its output would do it. */
static void run_true(void *lane)
{
    int ends[2];
    char c;
    (void)lane;
    if (pipe2(ends, O_CLOEXEC) < 0)
        die("pipe");
    pid_t pid = spawn((const char *const[]){"true", NULL}, ends[1]);
    close(ends[1]);
    while (read(ends[0], &c, 1) > 0)
        ;
    close(ends[0]);
    waitpid(pid, NULL, 0);
}

static uint64_t follow(void *user, const char *command, uint64_t *ret_last_ns)
{
    static char buf[65536];
    uint64_t got = 0;
    int ends[2];
    (void)user;
    if (pipe2(ends, O_CLOEXEC) < 0)
        die("pipe");
    pid_t pid = spawn((const char *const[]){"sh", "-c", command, NULL}, ends[1]);
    close(ends[1]);
    for (ssize_t n; (n = read(ends[0], buf, sizeof buf)) > 0;)
        got += (uint64_t)n;
    *ret_last_ns = sa_now_ns();
    close(ends[0]);
    waitpid(pid, NULL, 0);
    return got;
}

static void capture(void *user, const char *command)
{
    uint64_t last;
    follow(user, command, &last);
}

static pid_t open_terminal(const char *command, int *ret_fd)
{
    pid_t pid = forkpty(ret_fd, NULL, NULL, NULL);
    if (pid < 0)
        die("terminal: %s", strerror(errno));
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    return pid;
}

static void echo(void *user, uint64_t *ret_ns, size_t n)
{
    int fd;
    char c;
    (void)user;
    pid_t pid = open_terminal("exec cat", &fd);
    for (size_t i = 0; i < n; i++) {
        uint64_t start = sa_now_ns();
        if (write(fd, "x", 1) != 1 || read(fd, &c, 1) != 1)
            die("a key did not come back");
        ret_ns[i] = sa_now_ns() - start;
    }
    close(fd);
    waitpid(pid, NULL, 0);
}

static void terminal(void *user, const char *command, uint64_t *ret_got, uint64_t *ret_start_ns,
                     uint64_t *ret_last_ns)
{
    static char buf[65536];
    int fd;
    (void)user;
    pid_t pid = open_terminal(command, &fd);
    *ret_start_ns = sa_now_ns();
    if (write(fd, "\n", 1) != 1)
        die("type");
    for (ssize_t n; (n = read(fd, buf, sizeof buf)) > 0;)
        for (ssize_t i = 0; i < n; i++)
            *ret_got += buf[i] == 'x';
    *ret_last_ns = sa_now_ns();
    close(fd);
    waitpid(pid, NULL, 0);
}

struct way bare_way(void)
{
    return (struct way){
        .name = "bare",
        .run_true = run_true,
        .capture = capture,
        .follow = follow,
        .echo = echo,
        .terminal = terminal,
    };
}
