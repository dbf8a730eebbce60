/* DiffMarks against `git diff --no-index`, on trees that are changed at random: the same paths, and the same
 * text. */
#include "services/fs-svc/mark_fixture.h"

enum { ROUNDS = 8, FILES = 60, EDITS = 40 };

struct random {
    unsigned seed;
};

static unsigned pick(struct random *r, unsigned n)
{
    r->seed = r->seed * 1103515245u + 12345u;
    return (r->seed >> 16) % n;
}

static char *any_name(struct random *r)
{
    static const char *const dirs[] = {"", "a/", "b/", "a/deep/", "c d/"};
    return sa_format("%sf%u", dirs[pick(r, 5)], pick(r, FILES));
}

/* Every line is another: of a line among its likes, git and libgit2 do not always say the same one is gone.
 */
static void put_random(struct random *r, const char *dir)
{
    cleanup_free char *name = any_name(r);
    cleanup_buf struct sa_buf b = {0};
    unsigned lines = 1 + pick(r, 39), width = 1 + pick(r, 6);
    for (unsigned i = 0; i < lines; i++)
        sa_buf_addf(&b, "%.*s %u %u\n", (int)width, "abcdef", i, pick(r, 8));
    if (pick(r, 5) == 0)
        sa_buf_addf(&b, "no newline at the end");
    test_put(dir, name, sa_buf_string(&b));
}

/* Some lines of a file are changed. */
static void edit_random(struct random *r, const char *dir)
{
    cleanup_free char *name = any_name(r), *path = sa_format("%s/%s", dir, name);
    cleanup_buf struct sa_buf old = {0}, new = {0};
    if (sa_read_file(path, 1 << 20, &old, NULL) < 0)
        return;
    for (char *line = sa_buf_string(&old), *end; *line; line = end) {
        end = strchr(line, '\n');
        end = end ? end + 1 : line + strlen(line);
        unsigned what = pick(r, 12);
        if (what != 0)
            sa_buf_add(&new, line, (size_t)(end - line));
        if (what == 1)
            sa_buf_addf(&new, "edited %u %zu\n", pick(r, 100), new.len);
    }
    if (new.len)
        test_put(dir, name, sa_buf_string(&new));
}

/* Either new files or deleted ones: nothing can be taken for a rename, which git is told not to look for. */
static void change_random(struct random *r, const char *dir, bool deleting)
{
    cleanup_free char *name = any_name(r), *path = sa_format("%s/%s", dir, name);
    switch (pick(r, 5)) {
    case 0:
        if (deleting)
            unlink(path);
        else
            put_random(r, dir);
        break;
    default:
        edit_random(r, dir);
        break;
    }
}

/* From a diff the names of each file's two sides, without the prefix, and its hunks: what both must say
 * alike. */
static char *essence(const char *text, const char *before, const char *after)
{
    struct sa_buf b = {0};
    for (const char *line = text, *end; *line; line = end) {
        end = strchr(line, '\n');
        end = end ? end + 1 : line + strlen(line);
        cleanup_free char *one = sa_strndup(line, (size_t)(end - line));
        bool old = !strncmp(one, "--- ", 4), new = !strncmp(one, "+++ ", 4);
        const char *prefix = old ? before : after, *at = old || new ? strstr(one, prefix) : NULL;
        one[strcspn(one, "\t\n")] = 0; /* git ends a name that has a blank with a tab */
        if (old || new)
            sa_buf_addf(&b, "%.4s%s\n", one, at ? at + strlen(prefix) : one + 4);
        else if (strchr("@+- \\", *one))
            sa_buf_addf(&b, "%s\n", one);
    }
    return sa_buf_string(&b);
}

static char *diff_of_git(const char *before, const char *after)
{
    int code;
    return program_run(WORDS("/usr/bin/git", "diff", "--no-index", "--no-renames", "--no-color",
                             "--no-ext-diff", "--src-prefix=", "--dst-prefix=", before, after),
                       NULL, &code);
}

static void prepare(const char *dir)
{
    static const char *const dirs[] = {"a/deep", "b", "c d"};
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++)
        test_mkdir(dir, dirs[i]);
}

static void git_says_the_same(void **state)
{
    (void)state;
    struct service_fixture f = service_new(NULL);
    cleanup_free char *root = sa_format("ws=%s", f.ws);
    f.extra[0] = "--fs-root";
    f.extra[1] = root;
    service_up(&f);
    unsigned first = (unsigned)sa_wall_us();
    print_message("seed %u\n", first);
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct random r = {first + round};
        cleanup_free char *tree = sa_format("t%u", round), *dir = sa_format("%s/%s", f.ws, tree);
        cleanup_free char *copy = sa_format("%s/copy%u", f.dir, round);
        int code;
        test_mkdir(f.ws, tree);
        prepare(dir);
        for (int i = 0; i < FILES; i++)
            put_random(&r, dir);
        struct marked before = make_mark(&f, tree);
        free(program_run(WORDS("/bin/cp", "-a", dir, copy), NULL, &code));
        assert_int_equal(code, 0);
        for (int i = 0; i < EDITS; i++)
            change_random(&r, dir, round % 2);
        struct marked after = make_mark(&f, tree);
        cleanup_free char *git_text = diff_of_git(copy, dir), *our_text = diff_of(&f, &before, &after, true);
        cleanup_free char *git = essence(git_text, copy + 1, dir + 1), *ours = essence(our_text, "a", "b");
        assert_string_equal(ours, git);
        assert_true(*git);
    }
    service_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(git_says_the_same)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
