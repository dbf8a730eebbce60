/* Figures of processes, side by side in one run: `process_bench PROCESS_SVC PEER`. Everything stays on the
 * loopback and ends with the program, which ends after BENCH_LIMIT_S in any case. With LOAD_PROCESS_TEST set
 * it does little of everything, to see that it works. */
#include "tests/load/process_bench.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    RUNS_ALONE = 500,
    RUNS_TOGETHER = 2000,
    TOGETHER = 16,
    ECHOES = 300,
    ROUNDS = 3, /* all ways in turn, so that noise meets all; the best of each counts */
};

static unsigned scale_down = 1; /* of all amounts */

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
    bench_sort(ns, n);
    *ret_p50 = bench_us(ns, n, 50);
    *ret_p99 = bench_us(ns, n, 99);
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
    bench_sort(ns, t->n);
    ret->p50 = bench_us(ns, t->n, 50);
    ret->p99 = bench_us(ns, t->n, 99);
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
    bench_line(what, unit, v, field >= P50);
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

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: process_bench PROCESS_SVC PEER\n");
        return 2;
    }
    if (getenv("LOAD_PROCESS_TEST"))
        scale_down = 32;
    bench_begin("process_bench");
    cleanup_free char *ours = bench_directory("ours"), *peer = bench_directory("peer");
    struct way ways[WAYS] = {
        ours_way(argv[1], ours, bench_port(21000)),
        peer_way(argv[2], peer, bench_port(23000)),
        bare_way(),
    };
    static const char lines[] = "yes 0123456789abcde | head -c ";
    bench_head((const char *const[WAYS]){ways[0].name, ways[1].name, ways[2].name});
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
