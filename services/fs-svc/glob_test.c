#include "services/fs-svc/test_dir.h"

#include "services/fs-svc/glob.h"

static size_t name_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

static bool decides(const struct fs_globs *g, const char *path, bool ignore_case)
{
    size_t n = strlen(path);
    bool is_dir = n && path[n - 1] == '/';
    cleanup_free char *copy = sa_strndup(path, n - is_dir);
    return fs_globs_decide(g, copy, n - is_dir, name_of(copy), is_dir, ignore_case) != NULL;
}

static void test_a_pattern_fits_what_git_says_it_fits(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *fits[8], *not [8];
    } table[] = {
        {"*.c", {"a.c", "d/a.c", ".c", "x/y/z.c"}, {"a.cc", "a.c/x", "c"}},
        {"/*.c", {"a.c"}, {"d/a.c"}},
        {"d/*.c", {"d/a.c"}, {"a.c", "d/e/a.c", "x/d/a.c"}},
        {"**/x", {"x", "a/x", "a/b/x"}, {"ax", "a/bx"}},
        {"a/**", {"a/b", "a/b/c"}, {"a", "b/a/c"}},
        {"a/**/b", {"a/b", "a/x/b", "a/x/y/b"}, {"a/xb", "ab", "a/x/bb"}},
        {"a/**/b/**/c", {"a/b/c", "a/b/b/c", "a/1/b/2/3/c", "a/b/c/c"}, {"a/c", "a/b/cc"}},
        {"**/a/**/a/b", {"a/a/b", "x/a/y/a/b", "a/a/a/b"}, {"a/b", "a/x/b"}},
        {"a**b", {"ab", "axxb", "x/ab"}, {"a/b"}},
        {"a/b**", {"a/b", "a/bcd"}, {"a/b/c"}},
        {"?", {"a", "x/b"}, {"ab", "a/bc"}},
        {"[ab]x", {"ax", "bx"}, {"cx", "x"}},
        {"[!ab]x", {"cx"}, {"ax", "bx"}},
        {"[^a-c]", {"d"}, {"a", "b", "c"}},
        {"[]-]", {"]", "-"}, {"a"}},
        {"[]a]", {"]", "a"}, {"b"}},
        {"[a-]", {"a", "-"}, {"b"}},
        {"[\\]]", {"]"}, {"\\"}},
        {"[[:digit:]_]x", {"1x", "_x"}, {"ax", ":x"}},
        {"\\*", {"*"}, {"a"}},
        {"\\!a", {"!a"}, {"a"}},
        {"a\\[b", {"a[b"}, {"ab"}},
        {"d/", {"d/", "x/d/"}, {"d", "x/d"}},
        {"d/e/", {"d/e/"}, {"d/e", "x/d/e/"}},
        {"*a*b*c*", {"abc", "xaxbxcx", "aabbcc"}, {"acb", "ab"}},
        {"{a,b}.c", {"a.c", "b.c"}, {"{a,b}.c", "c.c", ".c"}},
        {"{src,test/{x,y}}/*.c", {"src/a.c", "test/x/a.c", "test/y/b.c"}, {"test/a.c", "x/a.c"}},
        {"a{,b}c", {"ac", "abc"}, {"a,bc"}},
        {"\\{a,b}", {"{a,b}"}, {"a", "b"}},
        {"\xff*", {"\xff\xfe", "d/\xff"}, {"\xfe"}},
        {"A", {"A"}, {"a"}},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct fs_globs g = {0};
        assert_int_equal(fs_globs_add(&g, table[i].pattern, strlen(table[i].pattern), NULL), 0);
        for (const char *const *p = table[i].fits; *p; p++)
            if (!decides(&g, *p, false))
                fail_msg("`%s` does not fit `%s`", table[i].pattern, *p);
        for (const char *const *p = table[i].not ; *p; p++)
            if (decides(&g, *p, false))
                fail_msg("`%s` fits `%s`", table[i].pattern, *p);
        fs_globs_fini(&g);
    }
}

static void test_case_counts_unless_it_is_asked_not_to(void **state)
{
    (void)state;
    static const char *const patterns[] = {"ReadMe.*", "[Q-S]eadme.md", "[[:upper:]]*"};
    for (size_t i = 0; i < 3; i++) {
        struct fs_globs g = {0};
        assert_int_equal(fs_globs_add(&g, patterns[i], strlen(patterns[i]), NULL), 0);
        assert_false(decides(&g, "readme.md", false));
        assert_true(decides(&g, "readme.md", true));
        assert_true(decides(&g, "README.MD", true));
        fs_globs_fini(&g);
    }
}

static void test_the_last_pattern_that_fits_decides(void **state)
{
    (void)state;
    struct fs_globs g = {0};
    static const char text[] = "\xef\xbb\xbf# comment\n\n*.o\r\n!keep.o\n\\#x\ntrail  \nkept\\ \n/\n!\n[\n";
    fs_globs_add_lines(&g, text, sizeof text - 1);
    assert_int_equal(g.n, 6);
    assert_false(fs_globs_decide(&g, "a.o", 3, 0, false, false)->negated);
    assert_true(fs_globs_decide(&g, "keep.o", 6, 0, false, false)->negated);
    assert_non_null(fs_globs_decide(&g, "#x", 2, 0, false, false));
    assert_non_null(fs_globs_decide(&g, "trail", 5, 0, false, false));
    assert_non_null(fs_globs_decide(&g, "kept ", 5, 0, false, false));
    assert_null(fs_globs_decide(&g, "[", 1, 0, false, false));
    fs_globs_fini(&g);
}

static void test_a_damaged_pattern_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",    "[a",   "a{b", "a{b,{c}", "[[:alpha:]", "a\\",
                                      "[a-", "[a\\", "/",   "!",       "{a,b",       "{{a,b}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct fs_globs g = {0};
        cleanup_error sa_error *err = NULL;
        if (fs_globs_add(&g, bad[i], strlen(bad[i]), &err) == 0)
            fail_msg("`%s` was taken", bad[i]);
        assert_reason(err, SA_INVALID_PATTERN);
        fs_globs_fini(&g);
    }
    struct fs_globs g = {0};
    assert_int_equal(fs_globs_add(&g, "a\0b", 3, NULL), -1);
    fs_globs_fini(&g);
}

static void test_braces_cannot_grow_without_bound(void **state)
{
    (void)state;
    static const char bomb[] =
        "{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}";
    struct fs_globs g = {0};
    cleanup_error sa_error *err = NULL;
    assert_int_equal(fs_globs_add(&g, bomb, sizeof bomb - 1, &err), -1);
    assert_reason(err, SA_INVALID_PATTERN);
    assert_true(g.n <= FS_EXPANDED_MAX);
    fs_globs_fini(&g);
}

/* A matcher with recursion for each `*` takes years here. */
static void test_a_hostile_pattern_costs_little(void **state)
{
    (void)state;
    cleanup_buf struct sa_buf stars = {0}, dirs = {0}, path = {0};
    for (int i = 0; i < 500; i++) {
        sa_buf_addf(&stars, "*a");
        sa_buf_addf(&dirs, "**/a/");
        sa_buf_addf(&path, "a/a");
    }
    sa_buf_addf(&stars, "b");
    sa_buf_addf(&dirs, "b");
    struct fs_globs g = {0};
    assert_int_equal(fs_globs_add(&g, sa_buf_string(&stars), stars.len, NULL), 0);
    assert_int_equal(fs_globs_add(&g, sa_buf_string(&dirs), dirs.len, NULL), 0);
    assert_null(fs_globs_decide(&g, sa_buf_string(&path), path.len, 0, false, false));
    fs_globs_fini(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_pattern_fits_what_git_says_it_fits),
        cmocka_unit_test(test_case_counts_unless_it_is_asked_not_to),
        cmocka_unit_test(test_the_last_pattern_that_fits_decides),
        cmocka_unit_test(test_a_damaged_pattern_is_refused),
        cmocka_unit_test(test_braces_cannot_grow_without_bound),
        cmocka_unit_test(test_a_hostile_pattern_costs_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
