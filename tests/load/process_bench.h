/* The same work done in three ways: by process-svc, by the npm package sandbox-agent over its HTTP API, and
 * by bare system calls. All functions block; what goes wrong ends the program. */
#ifndef TESTS_LOAD_PROCESS_BENCH_H_
#define TESTS_LOAD_PROCESS_BENCH_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "adapters/os/clock.h"
#include "adapters/os/mem.h"
#include "tests/load/bench.h"

struct way {
    const char *name;
    void *user;
    /* A connection for one thread; NULL functions: none is needed, `user` is it. */
    void *(*lane_new)(void *user);
    void (*lane_free)(void *lane);
    /* Runs `true` to its end. */
    void (*run_true)(void *lane);
    /* Instead of lanes: n runs, so many at once; how long each took. */
    void (*run_trues)(void *user, size_t at_once, uint64_t *ret_ns, size_t n);
    /* A shell command to its end while nobody looks at its output. */
    void (*capture)(void *user, const char *command);
    /* The same while one follows; how many bytes came, and when (sa_now_ns) the last did. */
    uint64_t (*follow)(void *user, const char *command, uint64_t *ret_last_ns);
    /* Types n times one character into a `cat` on a terminal; how long each took to come back. */
    void (*echo)(void *user, uint64_t *ret_ns, size_t n);
    /* A shell command on a terminal, which starts at a newline. As follow. */
    void (*terminal)(void *user, const char *command, uint64_t *ret_got, uint64_t *ret_start_ns,
                     uint64_t *ret_last_ns);
};

struct way bare_way(void);
struct way ours_way(const char *program, const char *directory, unsigned port);
struct way peer_way(const char *program, const char *directory, unsigned port);
void ours_free(struct way *w);
void peer_free(struct way *w);

#endif
