#include "services/fs-svc/lines.h"
#include "services/fs-svc/test_dir.h"

static struct fs_lines read_lines(const char *content, size_t n, struct fs_lines want)
{
    char name[] = "/tmp/fs-lines-XXXXXX";
    cleanup_close int fd = mkstemp(name);
    assert_true(fd >= 0);
    unlink(name);
    assert_int_equal(write(fd, content, n), n);
    want.max_lines = want.max_lines ? want.max_lines : FS_LINES_DEFAULT;
    want.max_bytes = want.max_bytes ? want.max_bytes : FS_LINES_BYTES_DEFAULT;
    want.max_line_bytes = want.max_line_bytes ? want.max_line_bytes : want.max_bytes;
    want.first = want.first ? want.first : 1;
    want.line = want.line ? want.line : 1;
    int r;
    while ((r = fs_lines_read(&want, fd, NULL)) == 0)
        ;
    assert_int_equal(r, 1);
    return want;
}

static void assert_line(const struct fs_lines *l, size_t i, const char *text, uint64_t full)
{
    assert_true(i < l->n);
    assert_int_equal(l->lines[i].len, strlen(text));
    assert_memory_equal(l->text.data + l->lines[i].start, text, strlen(text));
    assert_int_equal(l->lines[i].full, full);
}

static void a_slice_knows_where_it_goes_on(void **state)
{
    (void)state;
    struct fs_lines l =
        read_lines("one\ntwo\n\nfour\nfive", 18, (struct fs_lines){.first = 2, .max_lines = 2});
    assert_int_equal(l.n, 2);
    assert_line(&l, 0, "two", 3);
    assert_line(&l, 1, "", 0);
    assert_int_equal(l.next_line, 4);
    assert_int_equal(l.next_at, 9);
    assert_false(l.at_end);
    fs_lines_fini(&l);
    l = read_lines("one\ntwo\n\nfour\nfive", 18, (struct fs_lines){.first = 4, .line = 4, .at = 9});
    assert_int_equal(l.n, 2);
    assert_line(&l, 0, "four", 4);
    assert_line(&l, 1, "five", 4);
    assert_true(l.at_end && l.total == 5 && l.next_line == 0);
    fs_lines_fini(&l);
}

static void the_end_is_told_exactly(void **state)
{
    (void)state;
    struct fs_lines l = read_lines("", 0, (struct fs_lines){0});
    assert_true(l.n == 0 && l.at_end && l.total == 0);
    fs_lines_fini(&l);
    l = read_lines("a\nb\n", 4, (struct fs_lines){.max_lines = 2});
    assert_true(l.n == 2 && l.at_end && l.total == 2 && l.next_line == 0);
    fs_lines_fini(&l);
    l = read_lines("a\nb\nc", 5, (struct fs_lines){.max_lines = 1, .count = true});
    assert_true(l.n == 1 && l.at_end && l.total == 3 && l.next_line == 2 && l.next_at == 2);
    fs_lines_fini(&l);
    l = read_lines("a\n", 2, (struct fs_lines){.first = 9});
    assert_true(l.n == 0 && l.at_end && l.total == 1);
    fs_lines_fini(&l);
    l = read_lines("\n\n", 2, (struct fs_lines){0});
    assert_true(l.n == 2 && l.total == 2);
    assert_line(&l, 1, "", 0);
    fs_lines_fini(&l);
}

static void long_lines_are_cut_and_counted(void **state)
{
    (void)state;
    struct fs_lines l =
        read_lines("0123456789\nx\nabcdef\n", 20, (struct fs_lines){.max_bytes = 8, .max_line_bytes = 4});
    assert_int_equal(l.n, 2);
    assert_line(&l, 0, "0123", 10);
    assert_line(&l, 1, "x", 1);
    assert_true(l.next_line == 3 && l.next_at == 13); /* with the third there would be nine bytes */
    fs_lines_fini(&l);
}

/* Lines that cross the blocks and the pieces in which the file is read. */
static void a_large_file_is_the_same_as_its_lines(void **state)
{
    (void)state;
    struct sa_buf b = {0};
    size_t wanted = 0;
    int n = 0;
    for (; b.len < (size_t)FS_LINES_PIECE + 300000; n++) {
        if (n == 123456)
            wanted = b.len;
        sa_buf_addf(&b, "line %d %.*s\n", n, n % 97,
                    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
    }
    struct fs_lines l = read_lines((char *)b.data, b.len,
                                   (struct fs_lines){.first = 123457, .max_lines = 1000, .count = true});
    assert_int_equal(l.n, 1000);
    for (size_t i = 0, at = wanted; i < l.n; i++) {
        const struct fs_line *line = &l.lines[i];
        assert_memory_equal(l.text.data + line->start, b.data + at, line->len);
        at += line->len;
        assert_int_equal(b.data[at++], '\n');
    }
    assert_int_equal(l.total, n);
    fs_lines_fini(&l);
    sa_buf_fini(&b);
}

static void text_is_what_is_utf8(void **state)
{
    (void)state;
    static const char *const bad[] = {"\xff",  "\xc0\x80", "\xed\xa0\x80", "\xf5\x80\x80\x80",
                                      "a\xc3", "\xe2\x82"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(fs_lines_is_text((const uint8_t *)bad[i], strlen(bad[i])));
    assert_true(fs_lines_is_text((const uint8_t *)"a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 10));
    assert_false(fs_lines_is_text((const uint8_t *)"a\0b", 3));
    assert_int_equal(fs_lines_whole_text((const uint8_t *)"a\xe2\x82", 3), 1);
    assert_int_equal(fs_lines_whole_text((const uint8_t *)"a\xe2\x82\xac", 4), 4);
    assert_int_equal(fs_lines_whole_text((const uint8_t *)"\x80\x80\x80\x80", 4), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slice_knows_where_it_goes_on),
        cmocka_unit_test(the_end_is_told_exactly),
        cmocka_unit_test(long_lines_are_cut_and_counted),
        cmocka_unit_test(a_large_file_is_the_same_as_its_lines),
        cmocka_unit_test(text_is_what_is_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
