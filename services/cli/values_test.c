#include "services/cli/values.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "adapters/os/mem.h"

/* What is refused names the option and the text. */
#define REFUSED(call)                                                                                        \
    do {                                                                                                     \
        cleanup_error sa_error *err = NULL;                                                                  \
        assert_int_equal(call, -1);                                                                          \
        assert_non_null(strstr(err->message, "`--x`"));                                                      \
    } while (0)

static void durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {{"0", 0},        {"30", 30000},   {"500ms", 500},  {"30s", 30000},
                {"10m", 600000}, {"2H", 7200000}, {"1d", 86400000}};
    static const char *const bad[] = {"", "s", "-1", "1.5s", "10 m", "1w", "99999999999999999999", "2d"};
    uint64_t ms;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(value_duration("x", good[i].text, 86400000, &ms, NULL), 0);
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        REFUSED(value_duration("x", bad[i], 86400000, &ms, &err));
}

static void sizes(void **state)
{
    (void)state;
    uint64_t n;
    assert_int_equal(value_size("x", "4096", &n, NULL), 0);
    assert_int_equal(n, 4096);
    assert_int_equal(value_size("x", "512M", &n, NULL), 0);
    assert_int_equal(n, 512 << 20);
    assert_int_equal(value_size("x", "2GiB", &n, NULL), 0);
    assert_int_equal(n, 2ull << 30);
    REFUSED(value_size("x", "2T", &n, &err));
    REFUSED(value_size("x", "M", &n, &err));
    REFUSED(value_size("x", "99999999999999G", &n, &err));
}

static void thousandths(void **state)
{
    (void)state;
    uint32_t n;
    assert_int_equal(value_thousandths("x", "2", &n, NULL), 0);
    assert_int_equal(n, 2000);
    assert_int_equal(value_thousandths("x", "0.5", &n, NULL), 0);
    assert_int_equal(n, 500);
    assert_int_equal(value_thousandths("x", "1.125", &n, NULL), 0);
    assert_int_equal(n, 1125);
    REFUSED(value_thousandths("x", "", &n, &err));
    REFUSED(value_thousandths("x", ".5", &n, &err));
    REFUSED(value_thousandths("x", "1.2345", &n, &err));
    REFUSED(value_thousandths("x", "12345678", &n, &err));
}

static void signals(void **state)
{
    (void)state;
    uint32_t n;
    static const char *const term[] = {"TERM", "term", "SIGTERM", "sigterm", "15"};
    for (size_t i = 0; i < sizeof term / sizeof *term; i++) {
        assert_int_equal(value_signal("x", term[i], &n, NULL), 0);
        assert_int_equal(n, 15);
    }
    assert_int_equal(value_signal("x", "64", &n, NULL), 0);
    assert_int_equal(n, 64);
    REFUSED(value_signal("x", "0", &n, &err));
    REFUSED(value_signal("x", "65", &n, &err));
    REFUSED(value_signal("x", "NOPE", &n, &err));
    REFUSED(value_signal("x", "", &n, &err));
    assert_string_equal(value_signal_name(9), "KILL");
    assert_string_equal(value_signal_name(40), "40");
}

static void times(void **state)
{
    (void)state;
    static const int64_t now = 1764089223000000; /* 2025-11-25T16:47:03Z */
    int64_t us;
    setenv("TZ", "CET-1", 1);
    tzset();
    static const struct {
        const char *text;
        int64_t us;
    } good[] = {{"10m", now - 600 * 1000000ll},
                {"2025-11-25T16:47:03Z", now},
                {"2025-11-25T17:47:03+01:00", now},
                {"2025-11-25T11:17:03-0530", now},
                {"2025-11-25T16:47:03.25z", now + 250000},
                {"2025-11-25 17:47:03", now},
                {"2025-11-25 17:47", now - 3000000},
                {"2025-11-25", now - (17 * 3600 + 47 * 60 + 3) * 1000000ll}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(value_time("x", good[i].text, now, &us, NULL), 0);
        assert_int_equal(us, good[i].us);
    }
    REFUSED(value_time("x", "yesterday", now, &us, &err));
    REFUSED(value_time("x", "2025-13-25", now, &us, &err));
    REFUSED(value_time("x", "2025-11-25T16:47:03+99:00", now, &us, &err));
    REFUSED(value_time("x", "2025-11-25T16:47:03Q", now, &us, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations), cmocka_unit_test(sizes), cmocka_unit_test(thousandths),
        cmocka_unit_test(signals),   cmocka_unit_test(times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
