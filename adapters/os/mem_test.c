#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "adapters/os/log.h"
#include "adapters/os/mem.h"

static void copies_accept_nothing(void **state)
{
    (void)state;
    assert_null(sa_strdup(NULL));
    cleanup_free void *empty = sa_memdup(NULL, 0);
    assert_non_null(empty);
    cleanup_free char *part = sa_strndup("abc", 2);
    assert_string_equal(part, "ab");
    cleanup_free char *text = sa_format("%d-%s", 7, "x");
    assert_string_equal(text, "7-x");
}

static void a_buffer_grows_and_is_consumed_from_the_front(void **state)
{
    (void)state;
    cleanup_buf struct sa_buf b = {0};
    assert_string_equal(sa_buf_string(&b), "");
    for (int i = 0; i < 1000; i++)
        sa_buf_addf(&b, "%03d", i);
    sa_buf_add(&b, NULL, 0);
    assert_int_equal(b.len, 3000);
    sa_buf_consume(&b, 2994);
    assert_string_equal(sa_buf_string(&b), "998999");
    memcpy(sa_buf_reserve(&b, 100000), "!", 1);
    b.len++;
    assert_string_equal(sa_buf_string(&b), "998999!");
    sa_buf_consume(&b, 100);
    assert_int_equal(b.len, 0);
    sa_buf_fini(&b);
    assert_int_equal(b.cap, 0);
}

static void an_arena_gives_zeroed_memory_again_after_a_reset(void **state)
{
    (void)state;
    struct sa_arena *a = sa_arena_new();
    for (int round = 0; round < 3; round++) {
        for (size_t n = 1; n < 300000; n *= 3) {
            uint8_t *p = sa_arena_alloc(a, n);
            for (size_t i = 0; i < n; i++)
                assert_int_equal(p[i], 0);
            memset(p, 0xff, n);
        }
        sa_arena_reset(a);
    }
    assert_string_equal(sa_arena_strdup(a, NULL), "");
    assert_string_equal(sa_arena_format(a, "%s%d", "n", 1), "n1");
    sa_arena_free(a);
    sa_arena_free(NULL);
}

static int opened(const char *path)
{
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    return steal_fd(&fd);
}

static void cleanup_variables_release_what_was_not_stolen(void **state)
{
    (void)state;
    int fd = opened("/dev/null"), left;
    assert_true(fcntl(fd, F_GETFD) >= 0);
    {
        cleanup_close int closed = fd;
        left = closed;
    }
    assert_int_equal(fcntl(left, F_GETFD), -1);
    cleanup_free char *p = sa_strdup("x");
    char *mine = steal_pointer(&p);
    assert_null(p);
    free(mine);
    errno = 77;
    assert_int_equal(sa_close(-1), -1);
    assert_int_equal(sa_close(opened("/dev/null")), -1);
    assert_int_equal(errno, 77);
}

static void clocks_go_forward_and_bad_ids_are_refused(void **state)
{
    (void)state;
    uint64_t ns = sa_now_ns();
    assert_true(sa_now_ns() >= ns);
    assert_true(sa_now_ms() >= ns / 1000000);
    assert_true(sa_wall_us() > 1600000000000000);
    static const char *const bad[] = {"",
                                      "0123",
                                      "8zzzzzzzzzzzzzzzzzzzzzzzzz",
                                      "0zzzzzzzzzzzzzzzzzzzzzzzzz0",
                                      "0ZZZZZZZZZZZZZZZZZZZZZZZZZ",
                                      "0zzzzzzzzzzzzzzzzzzzzzzzz/",
                                      "0uuuuuuuuuuuuuuuuuuuuuuuuu"};
    struct sa_id id = {{1}}, before = id;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(sa_id_parse(bad[i], &id));
        assert_true(sa_id_equal(id, before));
    }
    assert_true(sa_id_parse("7zzzzzzzzzzzzzzzzzzzzzzzzz", &id));
    assert_int_equal(id.bytes[0] & id.bytes[15], 0xff);
}

/* What one log line looks like on standard error. */
static char *logged(enum sa_log_level level, const char *value)
{
    int fds[2], saved = dup(2);
    static char line[4096];
    assert_int_equal(pipe(fds), 0);
    dup2(fds[1], 2);
    sa_log(level, "thing.done", "value=%s", value);
    dup2(saved, 2);
    close(saved);
    close(fds[1]);
    ssize_t n = read(fds[0], line, sizeof line - 1);
    close(fds[0]);
    line[n > 0 ? n : 0] = 0;
    return line;
}

static void a_log_line_is_one_line_whatever_is_in_it(void **state)
{
    (void)state;
    sa_log_init("test-svc", SA_LOG_INFO);
    assert_string_equal(logged(SA_LOG_DEBUG, "x"), "");
    char *line = logged(SA_LOG_WARN, "a\nb\x1b[31m");
    assert_non_null(strstr(line, "Z warn test-svc thing.done value=a?b?[31m\n"));
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
    cleanup_free char *huge = sa_malloc(10000);
    memset(huge, 'x', 9999);
    huge[9999] = 0;
    line = logged(SA_LOG_ERROR, huge);
    assert_true(strlen(line) <= 2048);
    assert_int_equal(line[strlen(line) - 1], '\n');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_accept_nothing),
        cmocka_unit_test(a_buffer_grows_and_is_consumed_from_the_front),
        cmocka_unit_test(an_arena_gives_zeroed_memory_again_after_a_reset),
        cmocka_unit_test(cleanup_variables_release_what_was_not_stolen),
        cmocka_unit_test(clocks_go_forward_and_bad_ids_are_refused),
        cmocka_unit_test(a_log_line_is_one_line_whatever_is_in_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
