#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "services/process-svc/shim/input.h"
#include "services/process-svc/shim/journal.h"

enum { BOUND = 64 << 10 };

static struct journal open_journal(enum shim_retention retention)
{
    struct journal j;
    journal_init(&j, memfd_create("out", 0), memfd_create("index", 0), retention, BOUND);
    return j;
}

static void close_journal(struct journal *j)
{
    close(j->fd);
    close(j->index_fd);
}

/* Appends n bytes whose value tells their offset, as the shim does. */
static void append(struct journal *j, size_t n, int64_t now_us, uint64_t *arrival)
{
    char *p = malloc(n);
    for (size_t i = 0; i < n; i++)
        p[i] = (char)((j->end + i) % 251);
    assert_int_equal(journal_append(j, p, n, now_us, arrival), n);
    if (journal_advance(j))
        journal_free_front(j);
    free(p);
}

static void assert_kept(const struct journal *j)
{
    for (uint64_t at = j->first; at < j->end;) {
        char p[4096];
        size_t want = j->end - at < sizeof p ? (size_t)(j->end - at) : sizeof p;
        assert_int_equal(pread(j->fd, p, want, (off_t)at), want);
        for (size_t i = 0; i < want; i++)
            assert_int_equal((uint8_t)p[i], (at + i) % 251);
        at += want;
    }
}

static uint64_t blocks(int fd)
{
    struct stat st;
    fstat(fd, &st);
    return (uint64_t)st.st_blocks * 512;
}

static void a_ring_keeps_the_newest_within_its_bound(void **state)
{
    (void)state;
    struct journal j = open_journal(SHIM_RING);
    uint64_t arrival = 0;
    for (int i = 0; i < 1000; i++) {
        append(&j, (size_t)(i * 37 % 5000 + 1), i, &arrival);
        assert_true(j.end - j.first <= BOUND);
        assert_true(j.end < BOUND || j.end - j.first >= BOUND - BOUND / 8 - 5000);
    }
    assert_kept(&j);
    assert_true(blocks(j.fd) <= BOUND + 2 * 4096);
    assert_int_equal(journal_room(&j, 1 << 20), 1 << 20);
    close_journal(&j);
}

static void an_acknowledged_journal_has_no_room_beyond_its_bound(void **state)
{
    (void)state;
    struct journal j = open_journal(SHIM_ACKNOWLEDGED);
    uint64_t arrival = 0;
    append(&j, BOUND - 10, 0, &arrival);
    assert_int_equal(journal_room(&j, 4096), 10);
    append(&j, 10, 0, &arrival);
    assert_int_equal(journal_room(&j, 4096), 0);
    assert_int_equal(journal_ack(&j, BOUND + 1), -1);
    assert_int_equal(journal_ack(&j, 3000), 0);
    assert_int_equal(journal_room(&j, 4096), 3000);
    assert_int_equal(journal_ack(&j, 2000), 0); /* never back */
    assert_int_equal(journal_room(&j, 4096), 3000);
    assert_int_equal(journal_advance(&j), 0); /* too little to be worth a hole */
    assert_int_equal(j.first, 0);
    assert_int_equal(journal_ack(&j, 40000), 0);
    assert_int_equal(journal_advance(&j), 1);
    assert_int_equal(j.first, 40000);
    journal_free_front(&j);
    assert_kept(&j);
    assert_true(blocks(j.fd) <= BOUND - 36864);
    close_journal(&j);
}

static void the_index_tells_when_which_bytes_came_and_in_which_order(void **state)
{
    (void)state;
    struct journal out = open_journal(SHIM_RING), err = open_journal(SHIM_RING);
    uint64_t arrival = 0;
    struct shim_index_record r[4] = {0};
    append(&out, 10, 1000000, &arrival);
    append(&out, 10, 1000100, &arrival); /* joins */
    append(&err, 5, 1000200, &arrival);
    append(&out, 10, 1000300, &arrival); /* after err: a new record */
    append(&out, 10, 1100000, &arrival); /* much later: a new record */
    journal_flush_index(&out);
    journal_flush_index(&err);
    assert_int_equal(pread(out.index_fd, r, sizeof r, 0), 3 * sizeof *r);
    assert_int_equal(r[0].offset, 0);
    assert_int_equal(r[0].length, 20);
    assert_int_equal(r[0].time_us, 1000000);
    assert_int_equal(r[0].arrival, 1);
    assert_int_equal(r[1].offset, 20);
    assert_int_equal(r[1].length, 10);
    assert_int_equal(r[1].arrival, 3);
    assert_int_equal(r[2].offset, 30);
    assert_int_equal(r[2].arrival, 4);
    assert_int_equal(pread(err.index_fd, r, sizeof r, 0), sizeof *r);
    assert_int_equal(r[0].arrival, 2);
    assert_int_equal(r[0].length, 5);
    for (int i = 0; i < 100000; i++) /* bounded, too */
        append(&out, 1, 2000000 + i * 10000, &arrival);
    assert_true(blocks(out.index_fd) <= BOUND + 2 * 4096);
    close_journal(&out);
    close_journal(&err);
}

/* A full disk, by a limit on the size of files. */
static void a_journal_that_cannot_be_written_says_so_and_loses_nothing(void **state)
{
    (void)state;
    char path[] = "/tmp/sa.XXXXXX";
    struct rlimit old, small;
    struct journal j;
    uint64_t arrival = 0;
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 10000;
    signal(SIGXFSZ, SIG_IGN);
    journal_init(&j, mkstemp(path), -1, SHIM_RING, BOUND);
    unlink(path);
    setrlimit(RLIMIT_FSIZE, &small);
    append(&j, 9000, 0, &arrival);
    char p[2000];
    for (size_t i = 0; i < sizeof p; i++)
        p[i] = (char)((j.end + i) % 251);
    assert_int_equal(journal_append(&j, p, sizeof p, 0, &arrival), 1000); /* a part, and the rest later */
    assert_int_equal(journal_append(&j, p + 1000, 1000, 0, &arrival), -1);
    assert_int_equal(errno, EFBIG);
    assert_int_equal(j.end, 10000);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(journal_append(&j, p + 1000, 1000, 0, &arrival), 1000);
    assert_kept(&j);
    assert_int_equal(journal_shrink(&j), 0); /* nearly nothing to give up */
    append(&j, 40000, 0, &arrival);
    assert_int_equal(journal_shrink(&j), 1);
    journal_free_front(&j);
    assert_true(j.end - j.first <= 51000 / 2 + 1);
    assert_kept(&j);
    close(j.fd);
}

/* ---- input ---- */

struct fed {
    struct input in;
    int child; /* what the child reads from */
};

static struct fed open_input(void)
{
    int ends[2];
    struct fed f;
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    input_init(&f.in, ends[1], memfd_create("in", 0), 0, 0);
    f.child = ends[0];
    return f;
}

static void close_input(struct fed *f)
{
    input_close(&f->in);
    close(f->in.spool);
    close(f->child);
}

static void input_is_taken_once_and_in_order(void **state)
{
    (void)state;
    struct fed f = open_input();
    char got[32] = "";
    assert_int_equal(input_take(&f.in, 0, "abc", 3, 0), 0);
    assert_int_equal(input_take(&f.in, 0, "abc", 3, 0), 0);
    assert_int_equal(input_take(&f.in, 1, "bcd", 3, 0), 0);
    assert_int_equal(input_take(&f.in, 5, "f", 1, 0), ERANGE);
    assert_int_equal(input_take(&f.in, 4, "e", 1, 1), 0);
    assert_int_equal(input_take(&f.in, 4, "e", 1, 1), 0);
    assert_int_equal(input_take(&f.in, 5, "", 0, 1), 0);
    assert_int_equal(input_take(&f.in, 5, "f", 1, 0), EPIPE);
    assert_int_equal(read(f.child, got, sizeof got), 5);
    assert_string_equal(got, "abcde");
    assert_int_equal(read(f.child, got, sizeof got), 0);
    close_input(&f);
}

static void input_waits_in_a_file_while_the_child_does_not_read(void **state)
{
    (void)state;
    struct fed f = open_input();
    enum { PIECE = 32 << 10 };
    char piece[PIECE], scratch[65536];
    int error = 0;
    while (!error) {
        for (size_t i = 0; i < PIECE; i++)
            piece[i] = (char)((f.in.next + i) % 251);
        error = input_take(&f.in, f.in.next, piece, PIECE, 0);
    }
    assert_int_equal(error, ENOBUFS);
    assert_true(f.in.next - f.in.written <= SHIM_INPUT_PENDING_MAX);
    assert_true(f.in.next - f.in.written > SHIM_INPUT_PENDING_MAX - 2 * PIECE);
    assert_int_equal(input_take(&f.in, f.in.next, "", 0, 1), 0);
    uint64_t read_so_far = 0, all = f.in.next;
    for (ssize_t n = 1; n > 0;) {
        input_pump(&f.in, scratch, sizeof scratch);
        n = read(f.child, piece, PIECE);
        for (ssize_t i = 0; i < n; i++)
            assert_int_equal((uint8_t)piece[i], (read_so_far + (uint64_t)i) % 251);
        read_so_far += n > 0 ? (uint64_t)n : 0;
    }
    assert_int_equal(read_so_far, all);
    assert_true(blocks(f.in.spool) < 2 << 20); /* what was read is freed */
    close_input(&f);
}

static void a_child_that_closes_its_input_is_noticed(void **state)
{
    (void)state;
    struct fed f = open_input();
    close(f.child);
    f.child = -1;
    assert_int_equal(input_take(&f.in, 0, "abc", 3, 0), EPIPE);
    assert_int_equal(f.in.closed, 1);
    assert_int_equal(f.in.next, 0);
    close_input(&f);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ring_keeps_the_newest_within_its_bound),
        cmocka_unit_test(an_acknowledged_journal_has_no_room_beyond_its_bound),
        cmocka_unit_test(the_index_tells_when_which_bytes_came_and_in_which_order),
        cmocka_unit_test(a_journal_that_cannot_be_written_says_so_and_loses_nothing),
        cmocka_unit_test(input_is_taken_once_and_in_order),
        cmocka_unit_test(input_waits_in_a_file_while_the_child_does_not_read),
        cmocka_unit_test(a_child_that_closes_its_input_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
