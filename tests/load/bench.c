#include "tests/load/bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "adapters/os/file.h"
#include "adapters/os/mem.h"

enum { CONNECT_MS = 20000 };

static const char *name = "bench"; /* of the program */

void die(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    fprintf(stderr, "%s: ", name);
    vfprintf(stderr, format, ap);
    fputs("\n", stderr);
    exit(1);
}

/* ---- programs ---- */

static int started[2];
static volatile int n_started;

void start_program(const char *const *argv, const char *directory)
{
    cleanup_free char *home = sa_format("HOME=%s", directory), *log = sa_format("%s/log", directory);
    const char *env[] = {home, "PATH=/usr/local/bin:/usr/bin:/bin", NULL};
    pid_t parent = getpid(), pid = fork();
    if (pid < 0)
        die("fork: %s", strerror(errno));
    if (pid > 0) {
        started[n_started++] = pid;
        return;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    int null = open("/dev/null", O_RDONLY);
    if (getppid() != parent || fd < 0 || null < 0)
        _exit(127);
    dup2(null, 0);
    dup2(fd, 1);
    dup2(fd, 2);
    execve(argv[0], (char **)(uintptr_t)argv, (char **)(uintptr_t)env);
    _exit(127);
}

static void end_program(int pid)
{
    kill(pid, SIGTERM);
    for (int i = 0; i < 500; i++) {
        if (waitpid(pid, NULL, WNOHANG) == pid)
            return;
        usleep(20000); /* there is no wait with a limit that is safe in a signal handler */
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void end_all(void)
{
    while (n_started)
        end_program(started[--n_started]);
}

static void on_alarm(int signum)
{
    static const char text[] = "the benchmark takes too long\n";
    (void)signum;
    if (write(2, text, sizeof text - 1) < 0)
        _exit(2);
    end_all();
    _exit(1);
}

int connect_to(unsigned port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (uint64_t until = sa_now_ms() + CONNECT_MS;;) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
            return fd;
        if (fd >= 0)
            close(fd);
        if (sa_now_ms() > until)
            die("nothing listens on port %u", port);
        usleep(20000);
    }
}

/* Free now, and not one that the kernel gives to outgoing connections. */
unsigned bench_port(unsigned from)
{
    for (unsigned port = from; port < from + 1000; port++) {
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool is_free = fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) == 0;
        close(fd);
        if (is_free)
            return port;
    }
    die("no port is free");
}

/* ---- numbers ---- */

static int compare(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

void bench_sort(uint64_t *ns, size_t n)
{
    qsort(ns, n, sizeof *ns, compare);
}

double bench_us(const uint64_t *ns, size_t n, unsigned percent)
{
    return (double)ns[n * percent / 100] / 1000;
}

void bench_head(const char *const names[WAYS])
{
    printf("%-34s", "");
    for (int i = 0; i < WAYS; i++)
        printf(" %13s", names[i]);
    printf("  %-5s %10s %10s\n", "", "to peer", "of bare");
}

void bench_line(const char *what, const char *unit, const double v[WAYS], bool less_is_better)
{
    printf("%-34s", what);
    for (int i = 0; i < WAYS; i++)
        v[i] >= 0 ? printf(" %13.1f", v[i]) : printf(" %13s", "-");
    double to_peer = less_is_better ? v[1] / v[0] : v[0] / v[1];
    double to_bare = less_is_better ? v[2] / v[0] : v[0] / v[2];
    printf("  %-5s", unit);
    v[0] >= 0 && v[1] > 0 ? printf(" %8.2f x", to_peer) : printf(" %10s", "-");
    v[0] >= 0 && v[2] > 0 ? printf(" %8.0f %%\n", 100 * to_bare) : printf(" %10s\n", "-");
    fflush(stdout);
}

/* ---- directories ---- */

static char directory[] = "/tmp/sa-bench-XXXXXX";

static void clean_up(void)
{
    end_all();
    sa_remove_tree(directory, NULL);
}

char *bench_directory(const char *which)
{
    char *path = sa_format("%s/%s", directory, which);
    if (sa_mkdirs(path, 0700, NULL) < 0)
        die("make `%s`", path);
    return path;
}

void bench_begin(const char *program)
{
    name = program;
    if (!mkdtemp(directory))
        die("make a directory");
    atexit(clean_up);
    signal(SIGALRM, on_alarm);
    alarm(BENCH_LIMIT_S);
}
