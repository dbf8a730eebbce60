/* Figures of processes, side by side in one run: `process_bench PROCESS_SVC PEER`. Everything stays on the
 * loopback and ends with the program, which ends after LIMIT_S in any case. With LOAD_PROCESS_TEST set it
 * does little of everything, to see that it works. */
#include "tests/load/process_bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "adapters/os/file.h"

enum {
    LIMIT_S = 570,
    RUNS_ALONE = 500,
    RUNS_TOGETHER = 2000,
    TOGETHER = 16,
    ECHOES = 300,
    WAYS = 3,
    ROUNDS = 3, /* all ways in turn, so that noise meets all; the best of each counts */
    CONNECT_MS = 20000,
};
#define MIB (1u << 20)

static unsigned scale_down = 1; /* of all amounts */

void die(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    fputs("process_bench: ", stderr);
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
    static const char text[] = "process_bench: it takes too long\n";
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
static unsigned free_port(unsigned from)
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

static double us(const uint64_t *ns, size_t n, unsigned percent)
{
    return (double)ns[n * percent / 100] / 1000;
}

/* One line: the figures of all ways, then ours as a multiple of the peer's and a share of the limit. NaN:
 * cannot. */
static void print_line(const char *what, const char *unit, const double v[WAYS], bool less_is_better)
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

/* ---- run `true` ---- */

struct lane {
    const struct way *way;
    void *user;
    pthread_t thread;
    uint64_t *ns;
    size_t n;
};

static void *run_lane(void *user)
{
    struct lane *l = user;
    for (size_t i = 0; i < l->n; i++) {
        uint64_t start = sa_now_ns();
        l->way->run_true(l->user);
        l->ns[i] = sa_now_ns() - start;
    }
    return NULL;
}

/* By a thread and a connection each. Returns when they began. */
static uint64_t run_in_lanes(const struct way *way, size_t lanes, uint64_t *ns, size_t n)
{
    struct lane list[TOGETHER];
    for (size_t i = 0; i < lanes; i++) {
        list[i] = (struct lane){.way = way, .ns = ns + i * (n / lanes), .n = n / lanes};
        list[i].user = way->lane_new ? way->lane_new(way->user) : way->user;
    }
    uint64_t start = sa_now_ns();
    for (size_t i = 0; i < lanes; i++)
        if (pthread_create(&list[i].thread, NULL, run_lane, &list[i]))
            die("thread");
    for (size_t i = 0; i < lanes; i++)
        pthread_join(list[i].thread, NULL);
    for (size_t i = 0; i < lanes; i++)
        if (way->lane_free)
            way->lane_free(list[i].user);
    return start;
}

/* Rate, p50 and p99 of n runs, so many at once. */
static void measure_runs(const struct way *way, size_t at_once, size_t n, double *ret_rate, double *ret_p50,
                         double *ret_p99)
{
    n = n / at_once * at_once;
    cleanup_free uint64_t *ns = sa_calloc(n, sizeof *ns);
    uint64_t start = sa_now_ns();
    if (way->run_trues)
        way->run_trues(way->user, at_once, ns, n);
    else
        start = run_in_lanes(way, at_once, ns, n);
    *ret_rate = (double)n / ((double)(sa_now_ns() - start) / 1e9);
    qsort(ns, n, sizeof *ns, compare);
    *ret_p50 = us(ns, n, 50);
    *ret_p99 = us(ns, n, 99);
}

/* ---- figures: each of one way in one round ---- */

struct figures {
    double rate, delivered; /* the more the better; -1: there are none */
    double p50, p99;
};

struct task {
    size_t lanes, n;
    uint64_t bytes;
    char *command;
};

typedef void measure_fn(const struct way *way, const struct task *t, struct figures *ret);

static void measure(const struct way *ways, const struct task *t, measure_fn *fn, struct figures ret[WAYS])
{
    for (int i = 0; i < WAYS; i++)
        ret[i] = (struct figures){-1, -1, -1, -1};
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < WAYS; i++) {
            struct figures f = {-1, -1, -1, -1};
            fn(&ways[i], t, &f);
            if (f.rate > ret[i].rate)
                ret[i] = f;
        }
}

static void measure_true(const struct way *way, const struct task *t, struct figures *ret)
{
    measure_runs(way, t->lanes, t->n, &ret->rate, &ret->p50, &ret->p99);
}

static double mib_per_s(uint64_t bytes, uint64_t ns)
{
    return (double)bytes / MIB / ((double)ns / 1e9);
}

static void measure_capture(const struct way *way, const struct task *t, struct figures *ret)
{
    uint64_t start = sa_now_ns();
    way->capture(way->user, t->command);
    ret->rate = mib_per_s(t->bytes, sa_now_ns() - start);
}

static void measure_follow(const struct way *way, const struct task *t, struct figures *ret)
{
    uint64_t start = sa_now_ns(), last = start;
    uint64_t got = way->follow(way->user, t->command, &last);
    ret->rate = mib_per_s(got, last - start);
    ret->delivered = 100.0 * (double)got / (double)t->bytes;
}

static void measure_echo(const struct way *way, const struct task *t, struct figures *ret)
{
    cleanup_free uint64_t *ns = sa_calloc(t->n, sizeof *ns);
    way->echo(way->user, ns, t->n);
    qsort(ns, t->n, sizeof *ns, compare);
    ret->p50 = us(ns, t->n, 50);
    ret->p99 = us(ns, t->n, 99);
    ret->rate = 1e6 / ret->p50;
}

static void measure_terminal(const struct way *way, const struct task *t, struct figures *ret)
{
    uint64_t got = 0, start = 0, last = 0;
    way->terminal(way->user, t->command, &got, &start, &last);
    ret->rate = mib_per_s(got, last - start);
    ret->delivered = 100.0 * (double)got / (double)t->bytes;
}

/* ---- the table ---- */

enum field { RATE, DELIVERED, P50, P99 };

static void print_field(const char *what, const char *unit, const struct figures f[WAYS], enum field field)
{
    double v[WAYS];
    for (int i = 0; i < WAYS; i++)
        v[i] = field == RATE        ? f[i].rate
               : field == DELIVERED ? f[i].delivered
               : field == P50       ? f[i].p50
                                    : f[i].p99;
    print_line(what, unit, v, field >= P50);
}

static void runs(const struct way *ways, size_t lanes, size_t n)
{
    struct figures f[WAYS];
    cleanup_free char *what = sa_format("run `true`, %zu at a time", lanes);
    measure(ways, &(struct task){.lanes = lanes, .n = n / scale_down}, measure_true, f);
    print_field(what, "/s", f, RATE);
    print_field("  p50", "us", f, P50);
    print_field("  p99", "us", f, P99);
}

static void output(const struct way *ways, const char *what, uint64_t bytes, const char *before,
                   const char *after, measure_fn *fn)
{
    struct figures f[WAYS];
    bytes /= scale_down;
    cleanup_free char *text = sa_format("%s%llu%s", before, (unsigned long long)bytes, after);
    measure(ways, &(struct task){.bytes = bytes, .command = text}, fn, f);
    print_field(what, "MiB/s", f, RATE);
    if (f[0].delivered >= 0)
        print_field("  delivered", "%", f, DELIVERED);
}

static void echoes(const struct way *ways)
{
    struct figures f[WAYS];
    measure(ways, &(struct task){.n = ECHOES / scale_down}, measure_echo, f);
    print_field("terminal: echo of a key, p50", "us", f, P50);
    print_field("  p99", "us", f, P99);
}

static char directory[] = "/tmp/sa-bench-XXXXXX";

static void clean_up(void)
{
    end_all();
    sa_remove_tree(directory, NULL);
}

static char *directory_for(const char *name)
{
    char *path = sa_format("%s/%s", directory, name);
    if (sa_mkdirs(path, 0700, NULL) < 0)
        die("make `%s`", path);
    return path;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: process_bench PROCESS_SVC PEER\n");
        return 2;
    }
    if (getenv("LOAD_PROCESS_TEST"))
        scale_down = 32;
    if (!mkdtemp(directory))
        die("make a directory");
    atexit(clean_up);
    signal(SIGALRM, on_alarm);
    alarm(LIMIT_S);
    cleanup_free char *ours = directory_for("ours"), *peer = directory_for("peer");
    struct way ways[WAYS] = {
        ours_way(argv[1], ours, free_port(21000)),
        peer_way(argv[2], peer, free_port(23000)),
        bare_way(),
    };
    static const char lines[] = "yes 0123456789abcde | head -c ";
    printf("%-34s", "");
    for (int i = 0; i < WAYS; i++)
        printf(" %13s", ways[i].name);
    printf("  %-5s %10s %10s\n", "", "to peer", "of bare");
    runs(ways, 1, RUNS_ALONE);
    runs(ways, TOGETHER, RUNS_TOGETHER);
    output(ways, "capture, nobody follows", 256 * MIB, lines, "", measure_capture);
    output(ways, "follow", 128 * MIB, lines, "", measure_follow);
    echoes(ways);
    output(ways, "terminal: bulk", 32 * MIB, "stty -echo -opost; read go; head -c ",
           " /dev/zero | tr '\\0' x", measure_terminal);
    ours_free(&ways[0]);
    peer_free(&ways[1]);
    return 0;
}
