#include "services/fs-svc/test_dir.h"

#include "services/fs-svc/rank.h"
#include "services/fs-svc/walk.h"

/* All paths of a walk, a line each. */
static char *walk_all(const struct fs_root *root, const char *path, const struct fs_walk_options *opt,
                      bool files_only)
{
    struct sa_buf b = {0};
    cleanup_error sa_error *err = NULL;
    struct fs_walk *w = fs_walk_new(root, path, opt, &err);
    if (!w)
        fail_msg("%s", err->message);
    struct fs_walk_entry e;
    while (fs_walk_next(w, &e, &err) > 0)
        if (!files_only || !S_ISDIR(e.st.st_mode))
            sa_buf_addf(&b, "%s\n", e.path);
    assert_null(err);
    fs_walk_free(w);
    return sa_buf_string(&b);
}

static char *output_of(const char *command)
{
    struct sa_buf b = {0};
    FILE *f = popen(command, "r");
    assert_non_null(f);
    for (size_t n; (n = fread(sa_buf_reserve(&b, 4096), 1, 4096, f)) > 0;)
        b.len += n;
    assert_int_equal(pclose(f), 0);
    return sa_buf_string(&b);
}

static void test_order_links_and_depth(void **state)
{
    (void)state;
    char *dir = test_dir_new();
    test_mkdir(dir, "b/c");
    test_put(dir, "b/c/deep", "");
    test_put(dir, "b/z", "");
    test_put(dir, "b.txt", "");
    test_put(dir, "a", "");
    test_put(dir, ".hidden", "");
    test_put(dir, ".sa-xyz.tmp", "");
    test_mkdir(dir, ".git/objects");
    test_link("b", dir, "link");
    test_link(".", dir, "b/self");
    struct fs_root root = test_root(dir, false);
    struct fs_walk_options opt = {0};
    cleanup_free char *all = walk_all(&root, ".", &opt, false);
    assert_string_equal(all, "a\nb\nb/c\nb/c/deep\nb/self\nb/z\nb.txt\nlink\n");
    opt.max_depth = 1;
    cleanup_free char *top = walk_all(&root, ".", &opt, false);
    assert_string_equal(top, "a\nb\nb.txt\nlink\n");
    opt = (struct fs_walk_options){.hidden = true};
    cleanup_free char *hidden = walk_all(&root, ".", &opt, false);
    assert_string_equal(hidden, ".hidden\na\nb\nb/c\nb/c/deep\nb/self\nb/z\nb.txt\nlink\n");
    opt.vcs = true;
    cleanup_free char *vcs = walk_all(&root, ".", &opt, false);
    assert_non_null(strstr(vcs, ".git/objects\n"));
    test_root_fini(&root);
    test_dir_remove(dir);
}

static void test_globs_include_and_exclude(void **state)
{
    (void)state;
    char *dir = test_dir_new();
    test_mkdir(dir, "src/gen");
    test_mkdir(dir, "node_modules/x");
    test_put(dir, "src/a.c", "");
    test_put(dir, "src/a.h", "");
    test_put(dir, "src/gen/b.c", "");
    test_put(dir, "node_modules/x/c.c", "");
    struct fs_root root = test_root(dir, false);
    struct fs_globs g = {0};
    const struct fs_walk_options opt = {.globs = &g};
    assert_int_equal(fs_globs_add(&g, "*.c", 3, NULL), 0);
    cleanup_free char *c = walk_all(&root, ".", &opt, false);
    assert_string_equal(c, "node_modules/x/c.c\nsrc/a.c\nsrc/gen/b.c\n");
    assert_int_equal(fs_globs_add(&g, "!node_modules/", 14, NULL), 0);
    assert_int_equal(fs_globs_add(&g, "!src/gen", 8, NULL), 0);
    cleanup_free char *some = walk_all(&root, ".", &opt, false);
    assert_string_equal(some, "src/a.c\n");
    fs_globs_fini(&g);
    test_root_fini(&root);
    test_dir_remove(dir);
}

/* A directory with more names than are kept in memory is told whole and in order. */
static void test_a_large_directory_comes_in_passes(void **state)
{
    (void)state;
    enum { FILES = 20000 };
    char *dir = test_dir_new();
    test_mkdir(dir, "d");
    for (int i = 0; i < FILES; i++) {
        char name[32];
        snprintf(name, sizeof name, "d/%05d", i * 7919 % FILES);
        cleanup_free char *path = sa_format("%s/%s", dir, name);
        cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        assert_true(fd >= 0);
    }
    struct fs_root root = test_root(dir, false);
    struct fs_walk *w = fs_walk_new(&root, "d", &(struct fs_walk_options){0}, NULL);
    struct fs_walk_entry e;
    int n = 0;
    for (; fs_walk_next(w, &e, NULL) > 0; n++)
        assert_int_equal(atoi(e.path), n);
    assert_int_equal(n, FILES);
    fs_walk_free(w);
    test_root_fini(&root);
    test_dir_remove(dir);
}

static void test_what_cannot_be_read_is_counted(void **state)
{
    (void)state;
    char *dir = test_dir_new();
    test_mkdir(dir, "ws/secret");
    test_put(dir, "ws/secret/token", "");
    test_put(dir, "ws/a", "");
    cleanup_free char *ws = sa_format("%s/ws", dir), *secret = sa_format("%s/ws/secret", dir);
    struct fs_root root = test_root(ws, false);
    const char *const private_dirs[] = {secret, NULL};
    root.private_dirs = private_dirs;
    struct fs_walk *w = fs_walk_new(&root, ".", &(struct fs_walk_options){0}, NULL);
    struct fs_walk_entry e;
    while (fs_walk_next(w, &e, NULL) > 0)
        assert_null(strstr(e.path, "token"));
    assert_int_equal(fs_walk_counts(w).unreadable, 1);
    fs_walk_free(w);
    test_root_fini(&root);
    test_dir_remove(dir);
}

/* Deeper than descriptors and paths go. */
static void test_a_very_deep_tree_ends_at_the_limit(void **state)
{
    (void)state;
    char *dir = test_dir_new();
    int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < FS_WALK_DEPTH_MAX + 40; i++) {
        assert_int_equal(mkdirat(fd, "d", 0755), 0);
        int next = openat(fd, "d", O_PATH | O_DIRECTORY | O_CLOEXEC);
        sa_close(fd);
        fd = next;
    }
    sa_close(fd);
    struct fs_root root = test_root(dir, false);
    struct fs_walk *w = fs_walk_new(&root, ".", &(struct fs_walk_options){0}, NULL);
    struct fs_walk_entry e;
    int n = 0;
    while (fs_walk_next(w, &e, NULL) > 0)
        n++;
    assert_int_equal(n, FS_WALK_DEPTH_MAX);
    assert_int_equal(fs_walk_counts(w).unreadable, 1);
    fs_walk_free(w);
    test_root_fini(&root);
    test_dir_remove(dir);
}

/* ---- against git ---- */

static const char *const names[] = {"a",  "b",  "c.o", "d",     "build", "x y",
                                    "#h", "!n", "foo", "bar.c", "[q]",   "A"};
static const char *const lines[] = {
    "*.o",      "a",      "/a",      "b/",      "!a",     "!b/",         "**/foo",      "foo/**",
    "a/**/foo", "build/", "!build/", "/build",  "d/*",    "!d/a",        "*",           "!*/",
    "!*.c",     "x\\ y",  "x y  ",   "\\#h",    "#h",     "\\!n",        "[a-c]",       "[!a]*",
    "a/b",      "/a/b/",  "**/b/a",  "d/**",    "!d/foo", "?",           "??",          "*/a",
    "a*",       "**",     "**/",     "/*",      "!/d",    "foo\\",       "[",           "\\[q\\]",
    "[[]q]",    "a//b",   "//a",     "d/foo/",  "*.c\r",  "[[:upper:]]", "a/**/**/b",   "/**/c.o",
    "*foo",     "b*/",    "***",     "a/***/b", "/",      "!",           "foo\\/bar.c", "d\\/a",
};

static unsigned roll(unsigned *seed, unsigned n)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (*seed >> 8) % n;
}

static void make_tree(const char *dir, const char *at, int depth, unsigned *seed)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        cleanup_free char *path = sa_format("%s%s%s", at, *at ? "/" : "", names[i]);
        unsigned what = roll(seed, 5);
        if (what == 0)
            continue;
        if (what < 4 || depth == 3) {
            test_put(dir, path, "");
        } else {
            test_mkdir(dir, path);
            make_tree(dir, path, depth + 1, seed);
        }
    }
    if (roll(seed, 2 + (unsigned)depth * 2) == 0) {
        cleanup_buf struct sa_buf text = {0};
        for (unsigned n = 1 + roll(seed, 4); n; n--)
            sa_buf_addf(&text, "%s\n", lines[roll(seed, sizeof lines / sizeof *lines)]);
        cleanup_free char *path = sa_format("%s%s.gitignore", at, *at ? "/" : "");
        test_put(dir, path, sa_buf_string(&text));
    }
}

static void test_ignore_files_are_obeyed_as_git_does(void **state)
{
    (void)state;
    for (unsigned round = 1; round <= 40; round++) {
        unsigned seed = round;
        char *dir = test_dir_new();
        make_tree(dir, "", 0, &seed);
        cleanup_free char *command = sa_format(
            "cd %s && export HOME=/nonexistent LC_ALL=C && git init -q . 2>&1 && "
            "git -c core.quotePath=false ls-files -o --exclude-standard | sed 's/^\"\\(.*\\)\"$/\\1/' "
            "| sort",
            dir);
        cleanup_free char *git = output_of(command);
        struct fs_root root = test_root(dir, false);
        cleanup_free char *list = sa_format("%s.ours", dir), *ours = NULL;
        cleanup_free char *all = walk_all(&root, ".", &(struct fs_walk_options){.hidden = true}, true);
        assert_int_equal(sa_write_file(list, all, strlen(all), 0644, NULL), 0);
        cleanup_free char *sort = sa_format("LC_ALL=C sort %s", list);
        ours = output_of(sort);
        if (strcmp(ours, git)) {
            cleanup_free char *show = sa_format("cd %s; find . -name .gitignore | xargs -d '\\n' tail -n +1; "
                                                "find . -path ./.git -prune -o -type f -print | head -100",
                                                dir);
            cleanup_free char *shown = output_of(show);
            fail_msg("round %u\n%s\n--- git\n%s--- ours\n%s", round, shown, git, ours);
        }
        assert_int_equal(unlink(list), 0);
        test_root_fini(&root);
        test_dir_remove(dir);
    }
}

/* Started below the top of a repository, what is above counts too, as far as the top. */
static void test_ignore_files_above_the_start_count(void **state)
{
    (void)state;
    char *dir = test_dir_new();
    test_mkdir(dir, "repo/.git");
    test_mkdir(dir, "repo/src/lib");
    test_put(dir, ".gitignore", "*.c\n");
    test_put(dir, "repo/.gitignore", "*.o\n/src/lib/gone\nsrc/*/*.tmp\n");
    test_put(dir, "repo/src/.gitignore", "!keep.o\n");
    test_put(dir, "repo/src/lib/.ignore", "secret\n");
    test_put(dir, "repo/src/lib/a.c", "");
    test_put(dir, "repo/src/lib/a.o", "");
    test_put(dir, "repo/src/lib/keep.o", "");
    test_put(dir, "repo/src/lib/gone", "");
    test_put(dir, "repo/src/lib/secret", "");
    test_put(dir, "repo/src/lib/x.tmp", "");
    struct fs_root named = test_root(dir, false), whole = test_whole(dir, false);
    for (int i = 0; i < 2; i++) {
        cleanup_free char *some =
            walk_all(i ? &whole : &named, "repo/src/lib", &(struct fs_walk_options){0}, false);
        assert_string_equal(some, "a.c\nkeep.o\n");
    }
    test_root_fini(&named);
    test_root_fini(&whole);
    test_dir_remove(dir);
}

/* ---- ranking ---- */

static int32_t score(const char *query, const char *path)
{
    struct rank_query q = rank_query_of(query, strlen(query));
    int32_t s = INT32_MIN;
    return rank_path(&q, path, strlen(path), &s, NULL) ? s : INT32_MIN;
}

static void test_better_paths_have_higher_scores(void **state)
{
    (void)state;
    assert_int_equal(score("xyz", "src/main.c"), INT32_MIN);
    assert_int_equal(score("cm", "m.c"), INT32_MIN);
    assert_true(score("main", "src/main.c") > score("main", "src/mxaxixn.c"));
    assert_true(score("main", "src/main.c") > score("main", "main/other.c"));
    assert_true(score("fb", "foo_bar.c") > score("fb", "foobar.c"));
    assert_true(score("fb", "FooBar.c") > score("fb", "foobar.c"));
    assert_true(score("sm", "src/main.c") > score("sm", "lib/awesome.c"));
    assert_true(score("README", "README") > INT32_MIN);
    assert_int_equal(score("README", "readme"), INT32_MIN);
    assert_true(score("readme", "README") > INT32_MIN);
    assert_int_equal(score("", "x"), 0);
}

static void test_positions_spell_the_query(void **state)
{
    (void)state;
    static const char *const paths[] = {"src/main.c", "a/b/c/d/e", "aaaaabaaaab", "ab", "foo/bar_baz.txt"};
    static const char *const queries[] = {"smc", "ace", "aab", "ab", "fbbt"};
    for (size_t i = 0; i < 5; i++) {
        struct rank_query q = rank_query_of(queries[i], strlen(queries[i]));
        uint32_t at[RANK_QUERY_MAX];
        int32_t s, again;
        assert_true(rank_path(&q, paths[i], strlen(paths[i]), &s, at));
        assert_true(rank_path(&q, paths[i], strlen(paths[i]), &again, NULL));
        assert_int_equal(s, again);
        for (size_t k = 0; k < q.n; k++) {
            assert_int_equal(paths[i][at[k]], queries[i][k]);
            assert_true(k == 0 || at[k] > at[k - 1]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_links_and_depth),
        cmocka_unit_test(test_globs_include_and_exclude),
        cmocka_unit_test(test_a_large_directory_comes_in_passes),
        cmocka_unit_test(test_what_cannot_be_read_is_counted),
        cmocka_unit_test(test_a_very_deep_tree_ends_at_the_limit),
        cmocka_unit_test(test_ignore_files_are_obeyed_as_git_does),
        cmocka_unit_test(test_ignore_files_above_the_start_count),
        cmocka_unit_test(test_better_paths_have_higher_scores),
        cmocka_unit_test(test_positions_spell_the_query),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
