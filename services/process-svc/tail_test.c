/* Tails of journals that are larger than one step, and what a step may cost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "services/process-svc/merge.h"
#include "services/process-svc/tail.h"

enum { MIB = 1 << 20 };

static struct reader files(void)
{
    static const struct shim_state state;
    struct reader r = READER_CLOSED;
    r.state_fd = memfd_create("state", 0);
    assert_int_equal(write(r.state_fd, &state, sizeof state), sizeof state);
    for (int i = 0; i < SHIM_STREAMS; i++) {
        r.fd[i] = memfd_create("out", 0);
        r.index_fd[i] = memfd_create("index", 0);
    }
    return r;
}

static void put(int fd, const void *p, size_t n)
{
    assert_int_equal(write(fd, p, n), n);
}

static struct tail tail_of(const struct reader *r, enum tail_kind kind, uint64_t count, int *ret_steps)
{
    struct tail t;
    int result;
    tail_init(&t, r, kind, count, 0);
    for (int i = 0; i < SHIM_STREAMS; i++)
        tail_range(&t, i, 0, (uint64_t)lseek(r->fd[i], 0, SEEK_END));
    *ret_steps = 0;
    do
        ++*ret_steps;
    while ((result = tail_step(&t, NULL)) == 0);
    assert_int_equal(result, 1);
    return t;
}

static void a_long_search_goes_in_steps(void **state)
{
    (void)state;
    int steps;
    struct reader r = files();
    /* 100 MiB without a newline behind the first line. */
    put(r.fd[0], "x\n", 2);
    assert_int_equal(ftruncate(r.fd[0], 100 * MIB), 0);
    struct tail t = tail_of(&r, TAIL_LINES, 1, &steps);
    assert_int_equal(t.stream[0].start, 2);
    assert_in_range(steps, 6, 8); /* 16 MiB each */
    t = tail_of(&r, TAIL_LINES, 2, &steps);
    assert_int_equal(t.stream[0].start, 0);
    reader_close(&r);
}

static void pieces_of_one_byte_are_found_in_order(void **state)
{
    (void)state;
    enum { PAIRS = 300000 };
    int steps;
    struct reader r = files();
    static struct shim_index_record records[SHIM_STREAMS][PAIRS];
    static char bytes[SHIM_STREAMS][PAIRS];
    for (uint64_t i = 0; i < PAIRS; i++)
        for (uint64_t s = 0; s < SHIM_STREAMS; s++) {
            records[s][i] = (struct shim_index_record){i, 1, 2 * i + s + 1, 1};
            bytes[s][i] = i % 2 ? '\n' : s ? 'e' : 'o';
        }
    for (int s = 0; s < SHIM_STREAMS; s++) {
        put(r.fd[s], bytes[s], sizeof bytes[s]);
        put(r.index_fd[s], records[s], sizeof records[s]);
    }
    struct tail t = tail_of(&r, TAIL_LINES, 100001, &steps);
    assert_int_equal(t.stream[SHIM_STDERR].start, PAIRS - 2 * 50001);
    assert_int_equal(t.stream[SHIM_STDOUT].start, PAIRS - 2 * 50000);
    t = tail_of(&r, TAIL_BYTES, 400001, &steps);
    assert_int_equal(t.stream[SHIM_STDERR].start, PAIRS - 200001);
    assert_int_equal(t.stream[SHIM_STDOUT].start, PAIRS - 200000);
    assert_in_range(steps, 4, 6);
    /* And forward again. */
    struct merge m;
    struct piece p;
    const uint64_t limit[SHIM_STREAMS] = {PAIRS, PAIRS};
    merge_init(&m, r.index_fd);
    merge_seek(&m, SHIM_STDOUT, t.stream[SHIM_STDOUT].start);
    merge_seek(&m, SHIM_STDERR, t.stream[SHIM_STDERR].start);
    for (uint64_t n = 0; merge_next(&m, limit, &p); n++) {
        assert_int_equal(p.stream, n % 2 ? SHIM_STDOUT : SHIM_STDERR);
        m.cursor[p.stream] = p.end;
    }
    assert_int_equal(m.cursor[SHIM_STDOUT], PAIRS);
    reader_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_search_goes_in_steps),
        cmocka_unit_test(pieces_of_one_byte_are_found_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
