/* The same work on files done in three ways: by fs-svc over its unix socket, by the npm package sandbox-agent
 * over its HTTP API, and by bare system calls (large files: through a pair of unix sockets). All functions
 * block; what goes wrong ends the program. Paths are absolute. */
#ifndef TESTS_LOAD_FS_BENCH_H_
#define TESTS_LOAD_FS_BENCH_H_

#include "adapters/os/clock.h"
#include "adapters/os/mem.h"
#include "tests/load/bench.h"

enum { SMALL = 1024, FILES = 500 };

struct way {
    const char *name;
    void *user;
    /* n times the whole of a file of SMALL bytes, so many at once: <dir>/f<i % FILES>; how long each took. */
    void (*read_small)(void *user, const char *dir, size_t at_once, uint64_t *ret_ns, size_t n);
    void (*write_small)(void *user, const char *dir, size_t at_once, uint64_t *ret_ns, size_t n);
    /* The bytes of a file from there to here. */
    uint64_t (*get)(void *user, const char *path);
    /* So many bytes into a file; NULL: cannot. */
    void (*put)(void *user, const char *path, uint64_t bytes);
    /* The entries of a directory, with their size and time. */
    size_t (*list)(void *user, const char *dir);
    /* A tar file into an empty directory; NULL: cannot. */
    void (*unpack)(void *user, const char *dir, const char *tar);
    /* The bytes of a tar of a directory; NULL: cannot. */
    uint64_t (*pack)(void *user, const char *dir);
};

struct way bare_way(void);
struct way ours_way(const char *program, const char *directory);
struct way peer_way(const char *program, const char *directory, unsigned port);
void ours_free(struct way *w);
void peer_free(struct way *w);

#endif
