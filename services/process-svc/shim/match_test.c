/* A pattern is found wherever it comes, however the stream was cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "services/process-svc/shim/match.h"

static struct match m;

static bool feed(const char *text)
{
    return match_feed(&m, SHIM_STDOUT, text, strlen(text));
}

static void a_pattern_is_found_across_pieces(void **state)
{
    (void)state;
    match_init(&m, "listening on", 12);
    assert_false(feed("listening of listen"));
    assert_false(feed("ing "));
    assert_true(feed("on port"));
    assert_false(feed("listening o"));
    match_reset(&m);
    assert_false(feed("n"));
    /* Streams are looked through each for itself. */
    assert_false(feed("listening "));
    assert_false(match_feed(&m, SHIM_STDERR, "on", 2));
    assert_true(match_feed(&m, SHIM_STDOUT, "on", 2));
}

/* Against the simple way, with few letters so that beginnings overlap. */
static void any_pattern_is_found_where_it_is_and_nowhere_else(void **state)
{
    (void)state;
    unsigned seed = 1;
    for (int round = 0; round < 20000; round++) {
        char pattern[9] = "", text[65] = "";
        size_t n = 1 + (size_t)rand_r(&seed) % 8, len = (size_t)rand_r(&seed) % 64;
        for (size_t i = 0; i < n; i++)
            pattern[i] = (char)('a' + rand_r(&seed) % 2);
        for (size_t i = 0; i < len; i++)
            text[i] = (char)('a' + rand_r(&seed) % 2);
        match_init(&m, pattern, n);
        bool found = false;
        for (size_t at = 0, step; at < len && !found; at += step) {
            step = 1 + (size_t)rand_r(&seed) % 5;
            step = step < len - at ? step : len - at;
            found = match_feed(&m, SHIM_STDERR, text + at, step);
        }
        if (found != (strstr(text, pattern) != NULL))
            fail_msg("`%s` in `%s`: %d", pattern, text, found);
    }
}

static void the_longest_pattern_fits(void **state)
{
    (void)state;
    static char pattern[SHIM_PATTERN_MAX];
    memset(pattern, 'x', sizeof pattern);
    match_init(&m, pattern, sizeof pattern);
    assert_false(match_feed(&m, SHIM_STDOUT, pattern, sizeof pattern - 1));
    assert_true(match_feed(&m, SHIM_STDOUT, pattern, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pattern_is_found_across_pieces),
        cmocka_unit_test(any_pattern_is_found_where_it_is_and_nowhere_else),
        cmocka_unit_test(the_longest_pattern_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
