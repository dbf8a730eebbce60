#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/transcript/transcript.h"

static void add(struct transcript_writer *w, enum transcript_kind kind, const char *content,
                struct sa_buf *out)
{
    struct sa_buf b = {.data = (uint8_t *)(uintptr_t)content, .len = strlen(content)};
    transcript_write(w, kind, &b, out);
}

/* Four lines: a header, two events, the end. */
static struct sa_buf sample(void)
{
    struct sa_buf out = {0};
    struct transcript_writer w;
    transcript_writer_init(&w);
    add(&w, TRANSCRIPT_HEADER, "{\"version\":1,\"agent\":\"mock\"}", &out);
    add(&w, TRANSCRIPT_EVENT, "{\"seq\":\"7\",\"text\":\"a\"}", &out);
    add(&w, TRANSCRIPT_EVENT, "{\"seq\":\"8\",\"text\":\"b\"}", &out);
    add(&w, TRANSCRIPT_END, "{\"headSeq\":\"8\",\"events\":\"2\"}", &out);
    return out;
}

/* What is wrong with it, fed in pieces: "" when nothing is. */
static char *problem(const void *p, size_t n, size_t cut)
{
    struct transcript_reader r;
    struct transcript_line line;
    cleanup_error sa_error *err = NULL;
    int got = 0;
    transcript_reader_init(&r);
    for (size_t at = 0; at < n && got >= 0; at += cut) {
        transcript_feed(&r, (const char *)p + at, n - at < cut ? n - at : cut);
        while ((got = transcript_next(&r, &line, &err)) == 1)
            ;
    }
    if (got >= 0)
        transcript_complete(&r, &err);
    transcript_reader_fini(&r);
    return sa_strdup(err ? err->message : "");
}

static void assert_problem(const struct sa_buf *b, const char *expected)
{
    static const size_t cuts[] = {1, 7, 1 << 20};
    for (size_t i = 0; i < 3; i++) {
        cleanup_free char *got = problem(b->data, b->len, cuts[i]);
        assert_string_equal(got, expected);
    }
}

static void what_was_written_is_read(void **state)
{
    (void)state;
    cleanup_buf struct sa_buf b = sample();
    assert_problem(&b, "");
    struct transcript_reader r;
    struct transcript_line line;
    transcript_reader_init(&r);
    transcript_feed(&r, b.data, b.len);
    assert_int_equal(transcript_next(&r, &line, NULL), 1);
    assert_int_equal(line.kind, TRANSCRIPT_HEADER);
    assert_true(json_is(json_get(line.content, "agent"), "mock"));
    assert_int_equal(transcript_next(&r, &line, NULL), 1);
    assert_int_equal(line.seq, 7);
    assert_int_equal(transcript_next(&r, &line, NULL), 1);
    assert_int_equal(transcript_next(&r, &line, NULL), 1);
    assert_int_equal(line.kind, TRANSCRIPT_END);
    assert_int_equal(transcript_next(&r, &line, NULL), 0);
    transcript_reader_fini(&r);
}

/* As a person would check it: printf %s "$previous$rest" | sha256sum */
static void the_hash_is_what_the_format_says(void **state)
{
    (void)state;
    cleanup_buf struct sa_buf b = sample();
    static const char rest[] = "\"transcript\":{\"version\":1,\"agent\":\"mock\"}}";
    char zeros[65], text[65];
    memset(zeros, '0', 64);
    struct sa_sha256 sum;
    sa_sha256_init(&sum);
    sa_sha256_add(&sum, zeros, 64);
    sa_sha256_add(&sum, rest, strlen(rest));
    sa_sha256_end_text(&sum, text);
    assert_memory_equal(b.data, "{\"hash\":\"", 9);
    assert_memory_equal(b.data + 9, text, 64);
    assert_memory_equal(b.data + 73, "\",", 2);
    assert_memory_equal(b.data + 75, rest, strlen(rest));
}

static void every_changed_byte_is_found_in_its_line(void **state)
{
    (void)state;
    cleanup_buf struct sa_buf b = sample();
    unsigned line = 1;
    for (size_t i = 0; i < b.len; i++) {
        uint8_t was = b.data[i];
        char expected[32];
        snprintf(expected, sizeof expected, "line %u ", line);
        b.data[i] ^= 1;
        cleanup_free char *got = problem(b.data, b.len, 1 << 20);
        if (strncmp(got, expected, strlen(expected)))
            fail_msg("byte %zu was changed; expected %s, got %s", i, expected, got);
        b.data[i] = was;
        line += was == '\n';
    }
}

static void lines_that_are_missing_or_moved_are_found(void **state)
{
    (void)state;
    cleanup_buf struct sa_buf b = sample();
    char *lines[5], *at = sa_buf_string(&b);
    for (int i = 0; i < 4; i++) {
        lines[i] = at;
        at = strchr(at, '\n') + 1;
    }
    lines[4] = at;
    static const struct {
        const char *order, *problem;
    } cases[] = {
        {"", "line 1 is missing: there is no end"},
        {"0", "line 2 is missing: there is no end"},
        {"012", "line 4 is missing: there is no end"},
        {"013", "line 3 is broken: its hash is not that of its content and the lines before"},
        {"0213", "line 2 is broken: its hash is not that of its content and the lines before"},
        {"01233", "line 5 is broken: its hash is not that of its content and the lines before"},
        {"1", "line 1 is broken: its hash is not that of its content and the lines before"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cleanup_buf struct sa_buf other = {0};
        for (const char *o = cases[i].order; *o; o++)
            sa_buf_add(&other, lines[*o - '0'], (size_t)(lines[*o - '0' + 1] - lines[*o - '0']));
        assert_problem(&other, cases[i].problem);
    }
    b.len--;
    assert_problem(&b, "line 4 is cut off");
}

/* A chain that fits is no licence: whoever forges one must still write a transcript. */
static void a_good_chain_over_nonsense_is_refused(void **state)
{
    (void)state;
    static const struct {
        enum transcript_kind kind[3];
        const char *content[3];
        const char *problem;
    } cases[] = {
        {{TRANSCRIPT_EVENT}, {"{\"seq\":1}"}, "line 1 is not the header of a transcript"},
        {{TRANSCRIPT_HEADER}, {"{\"version\":2}"}, "line 1 has another version than 1"},
        {{TRANSCRIPT_HEADER}, {"[1]"}, "line 1 does not hold an object"},
        {{TRANSCRIPT_HEADER, TRANSCRIPT_HEADER},
         {"{\"version\":1}", "{\"version\":1}"},
         "line 2 is a second header"},
        {{TRANSCRIPT_HEADER, TRANSCRIPT_EVENT}, {"{\"version\":1}", "{\"seq\":0}"}, "line 2 has no seq"},
        {{TRANSCRIPT_HEADER, TRANSCRIPT_EVENT},
         {"{\"version\":1}", "{\"seq\":1},\"x\":{}"},
         "line 2 is not a hash and one of transcript, event and end"},
        {{TRANSCRIPT_HEADER, TRANSCRIPT_EVENT, TRANSCRIPT_EVENT},
         {"{\"version\":1}", "{\"seq\":1}", "{\"seq\":3}"},
         "line 3 does not have the seq that follows the one before"},
        {{TRANSCRIPT_HEADER, TRANSCRIPT_END},
         {"{\"version\":1}", "{\"events\":1}"},
         "line 2 tells another number of events than are there"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cleanup_buf struct sa_buf b = {0};
        struct transcript_writer w;
        transcript_writer_init(&w);
        for (int k = 0; k < 3 && cases[i].content[k]; k++)
            add(&w, cases[i].kind[k], cases[i].content[k], &b);
        assert_problem(&b, cases[i].problem);
    }
}

static void a_line_without_end_is_refused(void **state)
{
    (void)state;
    cleanup_free char *big = sa_malloc(TRANSCRIPT_LINE_MAX + 1);
    memset(big, ' ', TRANSCRIPT_LINE_MAX + 1);
    cleanup_free char *got = problem(big, TRANSCRIPT_LINE_MAX + 1, 1 << 20);
    assert_string_equal(got, "line 1 is longer than 8388608 bytes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read),
        cmocka_unit_test(the_hash_is_what_the_format_says),
        cmocka_unit_test(every_changed_byte_is_found_in_its_line),
        cmocka_unit_test(lines_that_are_missing_or_moved_are_found),
        cmocka_unit_test(a_good_chain_over_nonsense_is_refused),
        cmocka_unit_test(a_line_without_end_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
