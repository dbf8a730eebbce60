/* MarkService as its callers see it. */
#include "services/fs-svc/mark_fixture.h"

static struct service_fixture start(void)
{
    struct service_fixture f = service_new(NULL);
    f.extra[0] = "--fs-root";
    f.extra[1] = sa_format("ws=%s", f.ws);
    service_up(&f);
    return f;
}

static void end(struct service_fixture *f)
{
    service_free(f);
    free((char *)(uintptr_t)f->extra[1]);
}

static char *in(struct service_fixture *f, const char *name)
{
    static char paths[4][PATH_MAX];
    static int at;
    at = (at + 1) % 4;
    snprintf(paths[at], sizeof paths[at], "%s/%s", f->ws, name);
    return paths[at];
}

static void every_kind_of_change_is_told(void **state)
{
    (void)state;
    struct service_fixture f = start();
    test_put(f.ws, "same", "1\n");
    test_put(f.ws, "changed", "a\nb\nc\n");
    test_put(f.ws, "gone", "gone\n");
    test_put(f.ws, "before", "a file that is only renamed\n");
    test_put(f.ws, "mode", "x\n");
    test_put(f.ws, "empty", "");
    test_mkdir(f.ws, "d/e");
    test_link("one", f.ws, "link");
    struct marked m = make_mark(&f, ".");
    assert_int_equal(m.entries, 9);
    assert_int_equal(m.files_read, 6);
    assert_diff(&f, &m, NULL, "");
    test_put(f.ws, "changed", "a\nB\nc\n");
    test_put(f.ws, "d/new", "new\n");
    assert_int_equal(unlink(in(&f, "gone")), 0);
    assert_int_equal(rename(in(&f, "before"), in(&f, "d/after")), 0);
    assert_int_equal(chmod(in(&f, "mode"), 0755), 0);
    assert_int_equal(rmdir(in(&f, "d/e")), 0);
    assert_int_equal(unlink(in(&f, "link")), 0);
    test_link("two", f.ws, "link");
    assert_int_equal(unlink(in(&f, "empty")), 0);
    test_mkdir(f.ws, "empty");
    static const char wanted[] =
        "M changed\nR before > d/after\nD d/e/\nA d/new\nM empty/\nD gone\nM link\nm mode\n";
    assert_diff(&f, &m, NULL, wanted);
    struct marked now = make_mark(&f, ".");
    assert_diff(&f, &m, &now, wanted);
    assert_diff(&f, &now, NULL, "");
    cleanup_free char *text = diff_of(&f, &m, &now, true);
    assert_non_null(strstr(text, "M changed +1 -1\ndiff --git a/changed b/changed\n"));
    assert_non_null(strstr(text, "@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n"));
    assert_non_null(strstr(text, "A d/new +1 -0\n"));
    assert_non_null(strstr(text, "--- /dev/null\n+++ b/d/new\n@@ -0,0 +1 @@\n+new\n"));
    assert_non_null(strstr(text, "--- a/gone\n+++ /dev/null\n"));
    end(&f);
}

static void what_is_unchanged_is_not_read_again(void **state)
{
    (void)state;
    struct service_fixture f = start();
    for (int i = 0; i < 50; i++) {
        cleanup_free char *name = sa_format("f%d", i);
        test_put(f.ws, name, name);
    }
    let_times_pass();
    assert_int_equal(make_mark(&f, ".").files_read, 50);
    assert_int_equal(make_mark(&f, ".").files_read, 0);
    test_put(f.ws, "f7", "other");
    /* It was written a moment ago, in a tick in which it may be written again: it is read until that is over.
     */
    assert_int_equal(make_mark(&f, ".").files_read, 1);
    let_times_pass();
    make_mark(&f, ".");
    assert_int_equal(make_mark(&f, ".").files_read, 0);
    service_kill(&f);
    service_up(&f);
    assert_int_equal(make_mark(&f, ".").files_read, 0);
    end(&f);
}

/* Written twice within a tick of the file system's clock, with the same size: all that stat tells is the
 * same. */
static void a_change_in_the_same_tick_is_seen(void **state)
{
    (void)state;
    struct service_fixture f = start();
    for (int i = 0; i < 20; i++) {
        char text[3] = {(char)('a' + i), '\n', 0};
        test_put(f.ws, "file", text);
        struct marked before = make_mark(&f, ".");
        text[0]++;
        test_put(f.ws, "file", text);
        assert_diff(&f, &before, NULL, "M file\n");
    }
    end(&f);
}

static void a_renamed_and_changed_file_is_a_rename(void **state)
{
    (void)state;
    struct service_fixture f = start();
    cleanup_buf struct sa_buf b = {0};
    for (int i = 0; i < 100; i++)
        sa_buf_addf(&b, "line %d of a file\n", i * i);
    test_put(f.ws, "old.c", sa_buf_string(&b));
    struct marked m = make_mark(&f, ".");
    assert_int_equal(unlink(in(&f, "old.c")), 0);
    sa_buf_addf(&b, "one more\n");
    test_put(f.ws, "new.c", sa_buf_string(&b));
    cleanup_free char *text = diff_of(&f, &m, NULL, true);
    assert_non_null(strstr(text, "R old.c > new.c +1 -0\n"));
    assert_non_null(strstr(text, "\n+one more\n"));
    end(&f);
}

static void strange_files_are_told_as_what_they_are(void **state)
{
    (void)state;
    struct service_fixture f = start();
    test_put(f.ws, "a\nb\xff", "1\n");
    cleanup_close int fd = open(in(&f, "huge"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    assert_int_equal(ftruncate(fd, (off_t)1 << 40), 0);
    assert_int_equal(mkfifo(in(&f, "fifo"), 0644), 0);
    cleanup_close int binary = open(in(&f, "binary"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    assert_int_equal(write(binary, "a\0b", 3), 3);
    struct marked m = make_mark(&f, ".");
    assert_int_equal(m.bytes, ((uint64_t)1 << 40) + 5);
    assert_int_equal(m.files_read, 2);
    test_put(f.ws, "a\nb\xff", "2\n");
    assert_int_equal(pwrite(fd, "x", 1, 4096), 1);
    assert_int_equal(pwrite(binary, "c", 1, 0), 1);
    cleanup_free char *text = diff_of(&f, &m, NULL, true);
    assert_non_null(strstr(text, "M a\nb\xff +1 -1\n"));
    assert_non_null(strstr(text, "M binary binary\n"));
    assert_non_null(strstr(text, "M huge binary unsure\n"));
    end(&f);
}

static void what_is_ignored_is_not_in_a_mark(void **state)
{
    (void)state;
    struct service_fixture f = start();
    test_mkdir(f.ws, "node_modules/x");
    test_mkdir(f.ws, ".git");
    test_mkdir(f.ws, "src");
    test_put(f.ws, ".gitignore", "*.log\n");
    test_put(f.ws, "src/a.log", "");
    test_put(f.ws, "src/a.c", "");
    ProtobufCBinaryData patterns[] = {bytes("node_modules/")};
    CreateMarkRequest req = mark_request("ws", ".");
    struct marked m;
    req.ignore = patterns;
    req.n_ignore = 1;
    assert_string_equal(try_mark(&f, &req, &m), "");
    assert_int_equal(m.entries, 5);
    req.gitignore = true;
    assert_string_equal(try_mark(&f, &req, &m), "");
    assert_int_equal(m.entries, 3);
    test_put(f.ws, "src/b.log", "");
    test_put(f.ws, "node_modules/y", "");
    assert_diff(&f, &m, NULL, "");
    end(&f);
}

static void requests_are_answered_once_and_nonsense_never(void **state)
{
    (void)state;
    struct service_fixture f = start();
    struct marked a, b;
    CreateMarkRequest req = mark_request("ws", ".");
    test_mkdir(f.ws, "d");
    test_put(f.ws, "file", "");
    req.request_id = (char *)(uintptr_t) "once";
    assert_string_equal(try_mark(&f, &req, &a), "");
    assert_string_equal(try_mark(&f, &req, &b), "");
    assert_string_equal(a.id, b.id);
    req.path = bytes("d");
    assert_string_equal(try_mark(&f, &req, NULL), "REQUEST_ID_REUSED");
    req.request_id = (char *)(uintptr_t) "";
    assert_string_equal(try_mark(&f, &req, &b), "");
    assert_int_equal(count_marks(&f), 2);
    req.path = bytes("file");
    assert_string_equal(try_mark(&f, &req, NULL), "NOT_A_DIRECTORY");
    req.path = bytes("..");
    assert_string_equal(try_mark(&f, &req, NULL), "INVALID_PATH");
    req.path = bytes("missing");
    assert_string_equal(try_mark(&f, &req, NULL), "FILE_NOT_FOUND");
    req.root = (char *)(uintptr_t) "none";
    assert_string_equal(try_mark(&f, &req, NULL), "ROOT_NOT_FOUND");
    req = mark_request("ws", ".");
    req.keep_s = 40 * 86400;
    assert_string_equal(try_mark(&f, &req, NULL), "INVALID_REQUEST");
    cleanup_buf struct sa_buf none = {0};
    DiffMarksRequest diff = DIFF_MARKS_REQUEST__INIT;
    diff.from_mark_id = a.id;
    diff.to_mark_id = b.id;
    assert_string_equal(try_diff(&f, &diff, false, &none), "INVALID_REQUEST");
    diff.to_mark_id = (char *)(uintptr_t) "x";
    assert_string_equal(try_diff(&f, &diff, false, &none), "MARK_NOT_FOUND");
    assert_string_equal(delete_mark(&f, "x"), "MARK_NOT_FOUND");
    end(&f);
}

struct store {
    char *blobs, *lists;
    size_t n_blobs, n_lists;
};

static bool store_has(void *user)
{
    struct store *s = user;
    return count_files(s->blobs) == s->n_blobs && count_files(s->lists) == s->n_lists;
}

static void content_goes_with_the_last_mark_that_knows_it(void **state)
{
    (void)state;
    struct service_fixture f = start();
    struct store s = {.blobs = sa_format("%s/fs/marks/blobs", f.data),
                      .lists = sa_format("%s/fs/marks/lists", f.data)};
    test_put(f.ws, "a", "one\n");
    test_put(f.ws, "b", "two\n");
    struct marked first = make_mark(&f, ".");
    test_put(f.ws, "b", "three\n");
    struct marked second = make_mark(&f, ".");
    assert_int_equal(count_files(s.blobs), 3);
    assert_string_equal(delete_mark(&f, first.id), "");
    assert_string_equal(delete_mark(&f, first.id), "MARK_NOT_FOUND");
    s.n_blobs = 2;
    s.n_lists = 1;
    wait_until(store_has, &s, "what only the first mark knew goes");
    test_put(f.ws, "b", "four\n");
    cleanup_free char *text = diff_of(&f, &second, NULL, true);
    assert_non_null(strstr(text, "-three\n+four\n"));
    wait_until(store_has, &s, "what a look at now had kept goes");
    /* A short-lived one. */
    CreateMarkRequest req = mark_request("ws", ".");
    req.keep_s = 1;
    assert_string_equal(try_mark(&f, &req, NULL), "");
    assert_string_equal(delete_mark(&f, second.id), "");
    service_kill(&f);
    service_up(&f);
    assert_int_equal(count_marks(&f), 1);
    free(s.blobs);
    free(s.lists);
    end(&f);
}

/* What is kept is damaged: the service says that it has no difference, and goes on. */
static void damage_is_told(void **state)
{
    (void)state;
    struct service_fixture f = start();
    test_put(f.ws, "a", "one\n");
    struct marked m = make_mark(&f, ".");
    test_put(f.ws, "a", "two\n");
    cleanup_free char *damage =
        sa_format("find %s/fs/marks/blobs -type f -exec sh -c 'echo damaged >{}' \\;", f.data);
    cleanup_free char *lists =
        sa_format("find %s/fs/marks/lists -type f -exec sh -c 'echo damaged >{}' \\;", f.data);
    int code;
    free(program_run(WORDS("/bin/sh", "-c", damage), NULL, &code));
    cleanup_free char *text = diff_of(&f, &m, NULL, true);
    assert_string_equal(text, "M a omitted\n");
    free(program_run(WORDS("/bin/sh", "-c", lists), NULL, &code));
    cleanup_buf struct sa_buf b = {0};
    DiffMarksRequest req = DIFF_MARKS_REQUEST__INIT;
    req.from_mark_id = m.id;
    assert_string_equal(try_diff(&f, &req, true, &b), "STORE_CORRUPT");
    make_mark(&f, ".");
    end(&f);
}

static void a_diff_has_its_bounds(void **state)
{
    (void)state;
    struct service_fixture f = start();
    cleanup_buf struct sa_buf b = {0};
    struct marked m = make_mark(&f, ".");
    while (b.len < 300 << 10)
        sa_buf_addf(&b, "%zu\n", b.len);
    test_put(f.ws, "large", sa_buf_string(&b));
    test_put(f.ws, "small", "1\n");
    test_put(f.ws, "small2", "2\n");
    cleanup_free char *text = diff_of(&f, &m, NULL, true);
    assert_non_null(strstr(text, "A large omitted +"));
    assert_non_null(strstr(text, "A small +1 -0\n"));
    cleanup_buf struct sa_buf some = {0};
    DiffMarksRequest req = DIFF_MARKS_REQUEST__INIT;
    req.from_mark_id = m.id;
    req.max_diff_bytes = 150;
    assert_string_equal(try_diff(&f, &req, true, &some), "");
    assert_non_null(strstr(sa_buf_string(&some), "A small +1 -0\n"));
    assert_non_null(strstr(sa_buf_string(&some), "A small2 omitted +1 -0\n"));
    req.max_diff_bytes = (uint64_t)1 << 40;
    assert_string_equal(try_diff(&f, &req, true, &some), "INVALID_REQUEST");
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_change_is_told),
        cmocka_unit_test(what_is_unchanged_is_not_read_again),
        cmocka_unit_test(a_change_in_the_same_tick_is_seen),
        cmocka_unit_test(a_renamed_and_changed_file_is_a_rename),
        cmocka_unit_test(strange_files_are_told_as_what_they_are),
        cmocka_unit_test(what_is_ignored_is_not_in_a_mark),
        cmocka_unit_test(requests_are_answered_once_and_nonsense_never),
        cmocka_unit_test(content_goes_with_the_last_mark_that_knows_it),
        cmocka_unit_test(damage_is_told),
        cmocka_unit_test(a_diff_has_its_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
