#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "services/session-svc/lines.h"

/* What came out, as text: lines in brackets, too long ones as <head,size>. */
static void drain(struct lines *l, struct sa_buf *out)
{
    struct line line;
    for (enum lines_what w; (w = lines_next(l, &line)) != LINES_NONE;) {
        if (w == LINES_LINE)
            sa_buf_addf(out, "[%.*s]", (int)line.n, (const char *)line.p);
        if (w == LINES_TOO_LONG)
            sa_buf_addf(out, "<%.*s,%d>", (int)line.n, (const char *)line.p, (int)line.size);
    }
}

static void any_cut_gives_the_same_lines(void **state)
{
    (void)state;
    static const char text[] = "one\n\ntwo two\nthis line is far over the limit\nx\nlast";
    for (size_t step = 1; step < sizeof text; step++) {
        struct lines l;
        cleanup_buf struct sa_buf out = {0};
        lines_init(&l, 10, 100);
        for (size_t at = 0; at < sizeof text - 1; at += step) {
            size_t n = sizeof text - 1 - at < step ? sizeof text - 1 - at : step;
            lines_feed(&l, text + at, n);
            drain(&l, &out);
        }
        assert_string_equal(sa_buf_string(&out), "[one][][two two]<this line is far over the limit,31>[x]");
        assert_int_equal(l.offset, 100 + sizeof text - 1 - 4);
        assert_int_equal(lines_end(&l), 100 + sizeof text - 1);
        struct line line;
        assert_int_equal(lines_last(&l, &line), LINES_LINE);
        assert_int_equal(line.n, 4);
        assert_int_equal(lines_last(&l, &line), LINES_NONE);
        lines_fini(&l);
    }
}

static void a_line_of_exactly_the_limit_is_kept(void **state)
{
    (void)state;
    struct lines l;
    cleanup_buf struct sa_buf out = {0};
    lines_init(&l, 4, 0);
    lines_feed(&l, "abcd\nabcde\n", 11);
    drain(&l, &out);
    assert_string_equal(sa_buf_string(&out), "[abcd]<abcde,5>");
    lines_fini(&l);
}

static void a_skipped_line_is_bounded_and_taken_up_from_its_saved_state(void **state)
{
    (void)state;
    enum { PIECE = 65536, PIECES = 64 };
    char *piece = test_malloc(PIECE);
    memset(piece, 'x', PIECE);
    struct lines l;
    struct line line;
    lines_init(&l, PIECE, 0);
    uint8_t saved[SA_SHA256_SAVED];
    for (int i = 0; i < PIECES; i++) {
        lines_feed(&l, piece, PIECE);
        while (lines_next(&l, &line) != LINES_NONE)
            ;
        assert_true(l.buf.len - l.at <= PIECE);
        if (i != PIECES / 2)
            continue;
        /* A crash: only what is stored goes on. */
        assert_true(l.skipping);
        struct lines again;
        lines_init(&again, PIECE, l.offset);
        again.skipping = true;
        again.skip_size = l.skip_size;
        sa_sha256_save(&l.skip_sum, saved);
        sa_sha256_load(&again.skip_sum, saved);
        sa_buf_add(&again.head, l.head.data, l.head.len);
        lines_fini(&l);
        l = again;
    }
    lines_feed(&l, "\n", 1);
    assert_int_equal(lines_next(&l, &line), LINES_TOO_LONG);
    assert_int_equal(line.size, PIECE * PIECES);
    assert_int_equal(line.n, LINES_HEAD_MAX);
    assert_int_equal(l.offset, PIECE * PIECES + 1);
    struct sa_sha256 sum;
    char text[SA_SHA256_TEXT + 1];
    sa_sha256_init(&sum);
    for (int i = 0; i < PIECES; i++)
        sa_sha256_add(&sum, piece, PIECE);
    sa_sha256_end_text(&sum, text);
    assert_string_equal(text, line.sha256);
    lines_fini(&l);
    test_free(piece);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_cut_gives_the_same_lines),
        cmocka_unit_test(a_line_of_exactly_the_limit_is_kept),
        cmocka_unit_test(a_skipped_line_is_bounded_and_taken_up_from_its_saved_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
