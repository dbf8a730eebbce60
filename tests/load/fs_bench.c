/* Figures of files, side by side in one run: `fs_bench FS_SVC PEER`. With LOAD_FS_TEST set it does little of
 * everything, to see that it works. */
#include "tests/load/fs_bench.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/os/file.h"

enum {
    SMALLS = 2000,
    TOGETHER = 16,
    LARGE = 256 << 20,
    ENTRIES = 10000,
    TAR_FILES = 20000,
    ROUNDS = 3, /* all ways in turn, so that noise meets all; the best of each counts */
};

static unsigned scale_down = 1; /* of all amounts */

/* ---- what is there to work on ---- */

struct place {
    char *smalls, *large, *list, *tree, *tar, *out;
};

static void make_file(const char *path, uint64_t bytes)
{
    static uint8_t piece[1 << 20];
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (!piece[1])
        for (size_t i = 0; i < sizeof piece; i++)
            piece[i] = (uint8_t)(i * 31 + (i >> 9));
    for (uint64_t at = 0; at < bytes; at += sizeof piece) {
        size_t n = bytes - at < sizeof piece ? (size_t)(bytes - at) : sizeof piece;
        if (write(fd, piece, n) != (ssize_t)n)
            die("write %s", path);
    }
    close(fd);
}

static char *make_dir(const char *base, const char *name, size_t files, uint64_t bytes)
{
    char *dir = sa_format("%s/%s", base, name);
    if (sa_mkdirs(dir, 0755, NULL) < 0)
        die("make %s", dir);
    for (size_t i = 0; i < files; i++) {
        cleanup_free char *path = sa_format("%s/f%zu", dir, i);
        make_file(path, bytes);
    }
    return dir;
}

static struct place make_place(const char *which)
{
    cleanup_free char *base = bench_directory(which);
    struct place p = {.smalls = make_dir(base, "smalls", FILES, SMALL),
                      .large = sa_format("%s/large", base),
                      .list = make_dir(base, "list", ENTRIES / scale_down, 10),
                      .tree = make_dir(base, "tree", TAR_FILES / scale_down, SMALL),
                      .tar = sa_format("%s/tree.tar", base),
                      .out = sa_format("%s/out", base)};
    cleanup_free char *command = sa_format("tar -C '%s' -cf '%s' .", p.tree, p.tar);
    if (system(command) != 0)
        die("%s", command);
    make_file(p.large, LARGE / scale_down);
    return p;
}

static void place_free(struct place *p)
{
    char *all[] = {p->smalls, p->large, p->list, p->tree, p->tar, p->out};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* ---- figures: each of one way in one round ---- */

struct figures {
    double rate, p50, p99; /* -1: there are none */
};
typedef void measure_fn(const struct way *way, const struct place *p, size_t at_once, struct figures *ret);

static void set_times(struct figures *f, uint64_t *ns, size_t n, uint64_t took)
{
    bench_sort(ns, n);
    *f = (struct figures){(double)n / ((double)took / 1e9), bench_us(ns, n, 50), bench_us(ns, n, 99)};
}

static void read_small(const struct way *way, const struct place *p, size_t at_once, struct figures *ret)
{
    size_t n = SMALLS / scale_down;
    cleanup_free uint64_t *ns = sa_calloc(n, sizeof *ns);
    way->read_small(way->user, p->smalls, at_once, ns, at_once); /* connected, and all is warm */
    uint64_t start = sa_now_ns();
    way->read_small(way->user, p->smalls, at_once, ns, n);
    set_times(ret, ns, n, sa_now_ns() - start);
}

static void write_small(const struct way *way, const struct place *p, size_t at_once, struct figures *ret)
{
    size_t n = SMALLS / scale_down;
    cleanup_free uint64_t *ns = sa_calloc(n, sizeof *ns);
    way->write_small(way->user, p->smalls, at_once, ns, at_once);
    uint64_t start = sa_now_ns();
    way->write_small(way->user, p->smalls, at_once, ns, n);
    set_times(ret, ns, n, sa_now_ns() - start);
}

static void set_rate(struct figures *f, double amount, uint64_t start)
{
    f->rate = amount / ((double)(sa_now_ns() - start) / 1e9);
}

static void get_large(const struct way *way, const struct place *p, size_t at_once, struct figures *ret)
{
    (void)at_once;
    uint64_t start = sa_now_ns(), got = way->get(way->user, p->large);
    if (got != LARGE / scale_down)
        die("%s: %llu bytes came", way->name, (unsigned long long)got);
    set_rate(ret, (double)got / 1e6, start);
}

static void put_large(const struct way *way, const struct place *p, size_t at_once, struct figures *ret)
{
    (void)at_once;
    if (!way->put)
        return;
    uint64_t start = sa_now_ns();
    way->put(way->user, p->large, LARGE / scale_down);
    set_rate(ret, (double)(LARGE / scale_down) / 1e6, start);
}

static void list(const struct way *way, const struct place *p, size_t at_once, struct figures *ret)
{
    (void)at_once;
    uint64_t start = sa_now_ns();
    size_t n = way->list(way->user, p->list);
    if (n != ENTRIES / scale_down)
        die("%s: %zu entries", way->name, n);
    set_rate(ret, (double)n, start);
}

static void unpack(const struct way *way, const struct place *p, size_t at_once, struct figures *ret)
{
    (void)at_once;
    if (!way->unpack)
        return;
    if (sa_remove_tree(p->out, NULL) < 0 || sa_mkdirs(p->out, 0755, NULL) < 0)
        die("make %s", p->out);
    uint64_t start = sa_now_ns();
    way->unpack(way->user, p->out, p->tar);
    set_rate(ret, (double)(TAR_FILES / scale_down), start);
}

static void pack(const struct way *way, const struct place *p, size_t at_once, struct figures *ret)
{
    (void)at_once;
    if (!way->pack)
        return;
    uint64_t start = sa_now_ns();
    if (way->pack(way->user, p->tree) < (uint64_t)(TAR_FILES / scale_down) * SMALL)
        die("%s: the archive is too small", way->name);
    set_rate(ret, (double)(TAR_FILES / scale_down), start);
}

/* ---- the table ---- */

static void row(const struct way *ways, const struct place *places, const char *what, const char *unit,
                size_t at_once, measure_fn *fn)
{
    struct figures best[WAYS];
    for (int i = 0; i < WAYS; i++)
        best[i] = (struct figures){-1, -1, -1};
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < WAYS; i++) {
            struct figures f = {-1, -1, -1};
            fn(&ways[i], &places[i], at_once, &f);
            if (f.rate > best[i].rate)
                best[i] = f;
        }
    bench_line(what, unit, (double[WAYS]){best[0].rate, best[1].rate, best[2].rate}, false);
    if (best[0].p50 >= 0) {
        bench_line("  p50", "us", (double[WAYS]){best[0].p50, best[1].p50, best[2].p50}, true);
        bench_line("  p99", "us", (double[WAYS]){best[0].p99, best[1].p99, best[2].p99}, true);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: fs_bench FS_SVC PEER\n");
        return 2;
    }
    if (getenv("LOAD_FS_TEST"))
        scale_down = 50;
    bench_begin("fs_bench");
    cleanup_free char *ours = bench_directory("ours-data"), *peer = bench_directory("peer-data");
    struct place places[WAYS] = {make_place("ours"), make_place("peer"), make_place("bare")};
    struct way ways[WAYS] = {
        ours_way(argv[1], ours),
        peer_way(argv[2], peer, bench_port(23000)),
        bare_way(),
    };
    bench_head((const char *const[WAYS]){ways[0].name, ways[1].name, ways[2].name});
    row(ways, places, "read 1 KiB files, 1 at a time", "/s", 1, read_small);
    row(ways, places, "read 1 KiB files, 16 at a time", "/s", TOGETHER, read_small);
    row(ways, places, "write 1 KiB files, 1 at a time", "/s", 1, write_small);
    row(ways, places, "write 1 KiB files, 16 at a time", "/s", TOGETHER, write_small);
    row(ways, places, "256 MiB down", "MB/s", 1, get_large);
    row(ways, places, "256 MiB up", "MB/s", 1, put_large);
    row(ways, places, "list 10,000 entries", "/s", 1, list);
    row(ways, places, "tar of 20,000 files up", "/s", 1, unpack);
    row(ways, places, "tar of 20,000 files down", "/s", 1, pack);
    ours_free(&ways[0]);
    peer_free(&ways[1]);
    for (int i = 0; i < WAYS; i++)
        place_free(&places[i]);
    return 0;
}
