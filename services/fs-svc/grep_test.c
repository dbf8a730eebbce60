#include "services/fs-svc/test_dir.h"

#include "adapters/os/clock.h"
#include "services/fs-svc/grep.h"

/* "number:line" of a match and "number-line" around it, as grep prints them. */
static void print(void *user, const struct grep_line *l)
{
    struct sa_buf *b = user;
    sa_buf_addf(b, "%llu%c%.*s\n", (unsigned long long)l->number, l->n_ranges ? ':' : '-', (int)l->n,
                l->text);
    for (size_t i = 0; i < l->n_ranges; i++)
        assert_true(l->ranges[i].start <= l->ranges[i].end && l->ranges[i].end <= l->n);
}

static bool never(void *user)
{
    (void)user;
    return false;
}

static int search(const char *dir, const char *file, const char *pattern, struct grep_options opt,
                  struct sa_buf *ret, struct grep_result *result, sa_error **err)
{
    struct grep *g = grep_new(pattern, strlen(pattern), &opt, err);
    if (!g)
        return -1;
    cleanup_free char *path = sa_format("%s/%s", dir, file);
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    const struct grep_sink sink = {.line = print, .stop = never, .user = ret};
    int r = grep_fd(g, fd, opt.max ? opt.max : UINT64_MAX, &sink, result, err);
    grep_free(g);
    return r;
}

static char *output_of(const char *command)
{
    struct sa_buf b = {0};
    FILE *f = popen(command, "r");
    assert_non_null(f);
    for (size_t n; (n = fread(sa_buf_reserve(&b, 65536), 1, 65536, f)) > 0;)
        b.len += n;
    pclose(f);
    return sa_buf_string(&b);
}

/* Many lines, of all lengths, so that windows end everywhere. */
static void make_corpus(const char *dir)
{
    static const char *const words[] = {"alpha", "beta",  "gamma()", "foo_bar", "x",   "",
                                        "\t",    "12345", "Ärger",   "naïve",   "FOO", "foo",
                                        ";",     "end;",  "fooo",    "\xff\xfe"};
    struct sa_buf b = {0};
    unsigned seed = 1;
    while (b.len < 3 << 20) {
        seed = seed * 1664525u + 1013904223u;
        sa_buf_addf(&b, "%s%s", words[seed >> 28], seed >> 20 & 3 ? " " : seed >> 16 & 31 ? "\n" : "\n\n");
    }
    sa_buf_addf(&b, "no newline at the end foo");
    cleanup_free char *path = sa_format("%s/corpus", dir);
    assert_int_equal(sa_write_file(path, b.data, b.len, 0644, NULL), 0);
    sa_buf_fini(&b);
}

static void test_lines_are_those_of_grep(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *flags;
        struct grep_options opt;
    } table[] = {
        {"foo", "-P", {0}},
        {"foo", "-Pw", {.word = true}},
        {"foo", "-Pi", {.ignore_case = true}},
        {"^foo", "-P", {0}},
        {"end;$", "-P", {0}},
        {"^$", "-P", {0}},
        {"f[o]+\\b", "-P", {0}},
        {"(?<!a)lpha|be(?=ta)", "-P", {0}},
        {"\\d{5}", "-P", {0}},
        {"gamma()", "-F", {.literal = true}},
        {"ärger", "-Pi", {.ignore_case = true}},
        {"na.ve", "-P", {0}},
        {"x*", "-P", {0}},
        {"12345.*12345.*12345.*12345", "-P -A2", {.after = 2}},
        {"12345.*12345.*12345.*12345", "-P -B3", {.before = 3}},
        {"alpha beta foo", "-F -C1", {.literal = true, .before = 1, .after = 1}},
        {"foo foo foo", "-F -B100 -A100", {.literal = true, .before = 100, .after = 100}},
        {"FOO.*end;.*x", "-P -m7", {.max = 7}},
        {"FOO.*end;.*x", "-P -m7 -A3", {.max = 7, .after = 3}},
        {"no newline", "-P", {0}},
    };
    char *dir = test_dir_new();
    make_corpus(dir);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        cleanup_buf struct sa_buf ours = {0};
        cleanup_error sa_error *err = NULL;
        struct grep_result result;
        if (search(dir, "corpus", table[i].pattern, table[i].opt, &ours, &result, &err) < 0)
            fail_msg("%s", err->message);
        cleanup_free char *command =
            sa_format("LC_ALL=C.UTF-8 grep -an --no-group-separator %s '%s' %s/corpus", table[i].flags,
                      table[i].pattern, dir);
        cleanup_free char *theirs = output_of(command);
        if (strcmp(sa_buf_string(&ours), theirs)) {
            size_t at = 0;
            while (ours.data[at] == (uint8_t)theirs[at])
                at++;
            at -= at > 60 ? 60 : at;
            fail_msg("`%s` %s: ours\n%.200s\n--- theirs\n%.200s", table[i].pattern, table[i].flags,
                     (char *)ours.data + at, theirs + at);
        }
    }
    test_dir_remove(dir);
}

static void test_matches_in_a_line(void **state)
{
    (void)state;
    struct grep *g = grep_new("a|\xc3\xa4", 4, &(struct grep_options){0}, NULL);
    assert_non_null(g);
    grep_free(g);
    char *dir = test_dir_new();
    test_put(dir, "f", "one\nfoo bar foo\n");
    cleanup_buf struct sa_buf b = {0};
    struct grep_result result;
    assert_int_equal(search(dir, "f", "foo", (struct grep_options){0}, &b, &result, NULL), 0);
    assert_int_equal(result.matches, 1);
    assert_string_equal(sa_buf_string(&b), "2:foo bar foo\n");
    test_dir_remove(dir);
}

static void test_a_wrong_pattern_tells_where(void **state)
{
    (void)state;
    static const char *const bad[] = {"(a", "a)", "[z-a]", "a{2,1}", "(?<n>", "*a", "\\C"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cleanup_error sa_error *err = NULL;
        assert_null(grep_new(bad[i], strlen(bad[i]), &(struct grep_options){0}, &err));
        assert_reason(err, SA_INVALID_PATTERN);
        assert_non_null(strstr(err->message, "at byte"));
    }
    cleanup_error sa_error *err = NULL;
    assert_null(grep_new("", 0, &(struct grep_options){0}, &err));
    assert_reason(err, SA_INVALID_PATTERN);
}

/* Each of these takes longer than the universe without a limit. */
static void test_a_catastrophic_pattern_is_an_error(void **state)
{
    (void)state;
    static const char *const patterns[] = {"^(a+)+$", "^(a|aa)+$", "(x+x+)+y|^(a*)*b", "^(?:(a+)*)*c$"};
    char *dir = test_dir_new();
    test_put(dir, "f", "fine\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!\n");
    for (size_t i = 0; i < 2; i++) {
        cleanup_buf struct sa_buf b = {0};
        cleanup_error sa_error *err = NULL;
        struct grep_result result;
        assert_int_equal(search(dir, "f", patterns[i], (struct grep_options){0}, &b, &result, &err), -1);
        assert_reason(err, SA_PATTERN_TOO_COSTLY);
        assert_non_null(strstr(err->message, "line 2"));
    }
    for (size_t i = 2; i < 4; i++) {
        cleanup_buf struct sa_buf b = {0};
        cleanup_error sa_error *err = NULL;
        struct grep_result result;
        search(dir, "f", patterns[i], (struct grep_options){0}, &b, &result, &err); /* ends, somehow */
    }
    test_dir_remove(dir);
}

static void test_binary_files_are_passed_by_unless_asked(void **state)
{
    (void)state;
    char *dir = test_dir_new();
    cleanup_free char *path = sa_format("%s/f", dir);
    assert_int_equal(sa_write_file(path, "foo\0\nfoo\n", 9, 0644, NULL), 0);
    cleanup_buf struct sa_buf b = {0};
    struct grep_result result;
    assert_int_equal(search(dir, "f", "foo", (struct grep_options){0}, &b, &result, NULL), 0);
    assert_true(result.binary);
    assert_int_equal(result.matches, 0);
    assert_int_equal(search(dir, "f", "foo$", (struct grep_options){.binary = true}, &b, &result, NULL), 0);
    assert_false(result.binary);
    assert_int_equal(result.matches, 1);
    test_dir_remove(dir);
}

/* A file of one endless line costs no more memory than any other. */
static void test_a_line_without_end_is_searched_in_pieces(void **state)
{
    (void)state;
    char *dir = test_dir_new();
    cleanup_free char *path = sa_format("%s/f", dir);
    cleanup_buf struct sa_buf text = {0};
    memset(sa_buf_reserve(&text, 3 << 20), 'x', 3 << 20);
    text.len = 3 << 20;
    memcpy(text.data + 100, "needle", 6);
    memcpy(text.data + (2 << 20), "needle", 6);
    sa_buf_addf(&text, "\nlast needle\n");
    assert_int_equal(sa_write_file(path, text.data, text.len, 0644, NULL), 0);
    cleanup_buf struct sa_buf b = {0};
    struct grep_result result;
    assert_int_equal(search(dir, "f", "needle", (struct grep_options){0}, &b, &result, NULL), 0);
    assert_int_equal(result.matches, 3);
    assert_non_null(strstr(sa_buf_string(&b), "\n2:last needle\n"));
    test_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_are_those_of_grep),
        cmocka_unit_test(test_matches_in_a_line),
        cmocka_unit_test(test_a_wrong_pattern_tells_where),
        cmocka_unit_test(test_a_catastrophic_pattern_is_an_error),
        cmocka_unit_test(test_binary_files_are_passed_by_unless_asked),
        cmocka_unit_test(test_a_line_without_end_is_searched_in_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
