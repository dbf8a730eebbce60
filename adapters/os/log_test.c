/* A reader of the log that stands once stopped whole services: with many pipes on a machine each holds a page
 * or two, and a line that did not fit was waited for, with the service lock held. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/log.h"
#include "adapters/os/mem.h"

enum { LINES = 2000 };

static int reader, real_stderr;

static int up(void **state)
{
    int fds[2];
    (void)state;
    real_stderr = dup(STDERR_FILENO);
    if (pipe(fds) || fcntl(fds[1], F_SETPIPE_SZ, 4096) < 0 || dup2(fds[1], STDERR_FILENO) < 0)
        return -1;
    close(fds[1]);
    reader = fds[0];
    return 0;
}

static int down(void **state)
{
    (void)state;
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    return 0;
}

/* All that is in the pipe. */
static const char *take(struct sa_buf *b)
{
    struct pollfd p = {reader, POLLIN, 0};
    b->len = 0;
    while (poll(&p, 1, 0) == 1 && (p.revents & POLLIN)) {
        ssize_t n = read(reader, sa_buf_reserve(b, 4096), 4096);
        if (n <= 0)
            break;
        b->len += (size_t)n;
    }
    return sa_buf_string(b);
}

static size_t count(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, what)); p += strlen(what))
        n++;
    return n;
}

static void a_reader_that_stands_stops_nobody_and_is_told_what_it_missed(void **state)
{
    (void)state;
    cleanup_buf struct sa_buf b = {0};
    for (int i = 0; i < LINES; i++)
        sa_log(SA_LOG_INFO, "test.line", "number=%d", i);
    size_t came = count(take(&b), "test.line");
    assert_in_range(came, 1, LINES - 1);
    sa_log(SA_LOG_INFO, "test.after", "x=1");
    char told[64];
    snprintf(told, sizeof told, "log.lost lines=%zu\n", LINES - came);
    assert_non_null(strstr(take(&b), told));
    assert_non_null(strstr(sa_buf_string(&b), "test.after x=1\n"));
    sa_log(SA_LOG_INFO, "test.more", "x=2");
    assert_int_equal(count(take(&b), "\n"), 1); /* said once */
}

static void a_closed_log_stops_nobody(void **state)
{
    (void)state;
    int kept = dup(STDERR_FILENO);
    close(STDERR_FILENO);
    sa_log(SA_LOG_INFO, "test.line", "x=3");
    assert_int_equal(dup2(kept, STDERR_FILENO), STDERR_FILENO);
    close(kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_reader_that_stands_stops_nobody_and_is_told_what_it_missed, up,
                                        down),
        cmocka_unit_test_setup_teardown(a_closed_log_stops_nobody, up, down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
