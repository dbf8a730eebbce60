#include "services/fs-svc/replace.h"
#include "services/fs-svc/test_dir.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

struct world {
    char *dir;
    struct fs_root root;
};

static int setup(void **state)
{
    struct world *w = sa_calloc(1, sizeof *w);
    w->dir = test_dir_new();
    w->root = test_root(w->dir, false);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    test_root_fini(&w->root);
    test_dir_remove(w->dir);
    free(w);
    return 0;
}

static int temporary_files(const char *dir)
{
    DIR *d = opendir(dir);
    assert_non_null(d);
    int n = 0;
    for (struct dirent *e; (e = readdir(d));)
        n += !strncmp(e->d_name, ".sa-", 4);
    closedir(d);
    return n;
}

static int replace(struct world *w, const char *path, const char *content, struct fs_replace_options opt,
                   struct fs_info *ret, sa_error **err)
{
    struct fs_replace r;
    if (fs_replace_locate(&w->root, path, &opt, "test", &r, err) < 0)
        return -1;
    struct fs_info info = {0};
    int ok = 0;
    if (fs_replace_create(&r, err) < 0 || fs_replace_write(&r, content, strlen(content), err) < 0 ||
        fs_replace_finish(&r, &info, err) < 0) {
        fs_replace_abort(&r);
        ok = -1;
    }
    fs_replace_fini(&r);
    if (ret && ok == 0)
        *ret = info;
    else
        fs_info_fini(&info);
    return ok;
}

static const struct fs_replace_options plain = {0};

static void assert_content(struct world *w, const char *name, const char *content)
{
    cleanup_free char *got = test_get(w->dir, name);
    assert_string_equal(got, content);
}

static mode_t mode_of(struct world *w, const char *name)
{
    cleanup_free char *path = sa_format("%s/%s", w->dir, name);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

static void content_is_replaced_and_the_mode_kept(void **state)
{
    struct world *w = *state;
    struct fs_info info;
    assert_int_equal(replace(w, "f", "one", plain, &info, NULL), 0);
    assert_int_equal(info.st.st_size, 3);
    assert_string_equal(info.name, "f");
    fs_info_fini(&info);
    assert_int_equal(mode_of(w, "f"), 0644);
    cleanup_free char *path = sa_format("%s/f", w->dir);
    assert_int_equal(chmod(path, 0751), 0);
    assert_int_equal(
        replace(w, "f", "second", (struct fs_replace_options){.mode = 0600, .durable = true}, NULL, NULL), 0);
    assert_content(w, "f", "second");
    assert_int_equal(mode_of(w, "f"), 0751);
    assert_int_equal(replace(w, "g", "", (struct fs_replace_options){.mode = 0600}, NULL, NULL), 0);
    assert_int_equal(mode_of(w, "g"), 0600);
    assert_int_equal(temporary_files(w->dir), 0);
}

static void the_old_content_stays_until_the_end(void **state)
{
    struct world *w = *state;
    test_put(w->dir, "f", "old");
    struct fs_replace r;
    assert_int_equal(fs_replace_locate(&w->root, "f", &plain, "id", &r, NULL), 0);
    assert_int_equal(temporary_files(w->dir), 0);
    assert_int_equal(fs_replace_create(&r, NULL), 0);
    assert_int_equal(fs_replace_write(&r, "new", 3, NULL), 0);
    assert_content(w, "f", "old");
    assert_int_equal(temporary_files(w->dir), 1);
    fs_replace_abort(&r);
    fs_replace_fini(&r);
    assert_content(w, "f", "old");
    assert_int_equal(temporary_files(w->dir), 0);
}

static void a_link_is_written_through(void **state)
{
    struct world *w = *state;
    test_mkdir(w->dir, "sub");
    test_put(w->dir, "sub/real", "old");
    test_link("sub/real", w->dir, "link");
    test_link("link", w->dir, "second");
    test_link("sub/new", w->dir, "dangling");
    assert_int_equal(replace(w, "second", "new", plain, NULL, NULL), 0);
    assert_content(w, "sub/real", "new");
    assert_int_equal(replace(w, "dangling", "made", plain, NULL, NULL), 0);
    assert_content(w, "sub/new", "made");
    cleanup_free char *link = sa_format("%s/link", w->dir);
    struct stat st;
    assert_int_equal(lstat(link, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
}

static void what_cannot_be_replaced_is_refused(void **state)
{
    struct world *w = *state;
    test_mkdir(w->dir, "dir");
    test_put(w->dir, "file", "old");
    test_link("loop", w->dir, "loop");
    test_link("/etc/x", w->dir, "absolute");
    test_link("../x", w->dir, "outside");
    test_link("dir", w->dir, "to-dir");
    cleanup_free char *fifo = sa_format("%s/fifo", w->dir);
    assert_int_equal(mkfifo(fifo, 0644), 0);
    static const struct {
        const char *path;
        enum sa_reason reason;
        struct fs_replace_options opt;
    } cases[] = {
        {"dir", SA_IS_A_DIRECTORY, {0}},
        {"dir/", SA_IS_A_DIRECTORY, {0}},
        {"to-dir", SA_IS_A_DIRECTORY, {0}},
        {"new/", SA_IS_A_DIRECTORY, {0}},
        {"..", SA_INVALID_PATH, {0}},
        {"../x", SA_INVALID_PATH, {0}},
        {"/tmp/x", SA_INVALID_PATH, {0}},
        {"absolute", SA_INVALID_PATH, {0}},
        {"outside", SA_INVALID_PATH, {0}},
        {"loop", SA_INVALID_PATH, {0}},
        {"fifo", SA_NOT_A_REGULAR_FILE, {0}},
        {"file/x", SA_NOT_A_DIRECTORY, {0}},
        {"missing/x", SA_FILE_NOT_FOUND, {0}},
        {"file", SA_ALREADY_EXISTS, {.create_only = true}},
        {"outside", SA_INVALID_PATH, {.make_parents = true}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cleanup_error sa_error *err = NULL;
        assert_int_equal(replace(w, cases[i].path, "new", cases[i].opt, NULL, &err), -1);
        assert_reason(err, cases[i].reason);
    }
    w->root.read_only = true;
    cleanup_error sa_error *err = NULL;
    assert_int_equal(replace(w, "file", "new", plain, NULL, &err), -1);
    assert_reason(err, SA_PERMISSION_DENIED);
    assert_content(w, "file", "old");
    assert_int_equal(temporary_files(w->dir), 0);
}

static void a_new_file_is_made_once(void **state)
{
    struct world *w = *state;
    struct fs_replace_options once = {.create_only = true, .make_parents = true};
    assert_int_equal(replace(w, "a/b/new", "mine", once, NULL, NULL), 0);
    /* Both looked before either was there: the second finds out at the end. */
    struct fs_replace first, second;
    struct fs_info info;
    assert_int_equal(fs_replace_locate(&w->root, "race", &once, "1", &first, NULL), 0);
    assert_int_equal(fs_replace_locate(&w->root, "race", &once, "2", &second, NULL), 0);
    assert_int_equal(fs_replace_create(&first, NULL), 0);
    assert_int_equal(fs_replace_create(&second, NULL), 0);
    assert_int_equal(fs_replace_finish(&first, &info, NULL), 0);
    fs_info_fini(&info);
    cleanup_error sa_error *err = NULL;
    assert_int_equal(fs_replace_finish(&second, &info, &err), -1);
    assert_reason(err, SA_ALREADY_EXISTS);
    fs_replace_abort(&second);
    fs_replace_fini(&first);
    fs_replace_fini(&second);
    assert_int_equal(temporary_files(w->dir), 0);
}

static void a_crash_is_undone_or_completed(void **state)
{
    struct world *w = *state;
    test_put(w->dir, "f", "old");
    enum fs_outcome outcome;
    struct fs_info info;
    struct fs_replace r;
    /* before the temporary file was made */
    assert_int_equal(fs_replace_undo(w->dir, "f", ".sa-x.tmp", 0, &outcome, &info, NULL), 0);
    assert_int_equal(outcome, FS_UNDONE);
    /* while it was written */
    assert_int_equal(fs_replace_locate(&w->root, "f", &plain, "x", &r, NULL), 0);
    assert_int_equal(fs_replace_create(&r, NULL), 0);
    uint64_t inode = r.inode;
    fs_replace_fini(&r);
    assert_int_equal(temporary_files(w->dir), 1);
    assert_int_equal(fs_replace_undo(w->dir, "f", ".sa-x.tmp", inode, &outcome, &info, NULL), 0);
    assert_int_equal(outcome, FS_UNDONE);
    assert_int_equal(temporary_files(w->dir), 0);
    assert_content(w, "f", "old");
    /* after the rename */
    assert_int_equal(fs_replace_locate(&w->root, "f", &plain, "x", &r, NULL), 0);
    assert_int_equal(fs_replace_create(&r, NULL), 0);
    inode = r.inode;
    assert_int_equal(fs_replace_finish(&r, &info, NULL), 0);
    fs_info_fini(&info);
    fs_replace_fini(&r);
    assert_int_equal(fs_replace_undo(w->dir, "f", ".sa-x.tmp", inode, &outcome, &info, NULL), 0);
    assert_int_equal(outcome, FS_DONE);
    assert_string_equal(info.name, "f");
    fs_info_fini(&info);
    /* when the directory is gone, or became a link */
    cleanup_free char *gone = sa_format("%s/gone", w->dir);
    assert_int_equal(fs_replace_undo(gone, "f", ".sa-x.tmp", inode, &outcome, &info, NULL), 0);
    assert_int_equal(outcome, FS_UNDONE);
    test_put(w->dir, ".sa-x.tmp", "not ours");
    test_link(".", w->dir, "gone");
    assert_int_equal(fs_replace_undo(gone, "f", ".sa-x.tmp", inode, &outcome, &info, NULL), 0);
    assert_int_equal(temporary_files(w->dir), 1);
}

/* ---- many writers, many readers ---- */

enum { WRITERS = 4, ROUNDS = 100, SIZE = 30000 };

struct writer {
    struct world *w;
    int number;
};

static void *write_often(void *arg)
{
    struct writer *me = arg;
    char *content = sa_malloc(SIZE);
    memset(content, 'a' + me->number, SIZE);
    for (int i = 0; i < ROUNDS; i++) {
        struct fs_replace r;
        struct fs_info info;
        char id[32];
        snprintf(id, sizeof id, "%d-%d", me->number, i);
        if (fs_replace_locate(&me->w->root, "shared", &plain, id, &r, NULL) < 0 ||
            fs_replace_create(&r, NULL) < 0 || fs_replace_write(&r, content, SIZE, NULL) < 0 ||
            fs_replace_finish(&r, &info, NULL) < 0)
            abort();
        fs_info_fini(&info);
        fs_replace_fini(&r);
    }
    free(content);
    return NULL;
}

static void a_reader_sees_one_writers_content_whole(void **state)
{
    struct world *w = *state;
    assert_int_equal(replace(w, "shared", "", plain, NULL, NULL), 0);
    pthread_t threads[WRITERS];
    struct writer writers[WRITERS];
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){w, i};
        assert_int_equal(pthread_create(&threads[i], NULL, write_often, &writers[i]), 0);
    }
    for (int i = 0; i < ROUNDS; i++) {
        cleanup_free char *got = test_get(w->dir, "shared");
        size_t n = strlen(got);
        assert_true(n == 0 || n == SIZE);
        for (size_t k = 1; k < n; k++)
            assert_int_equal(got[k], got[0]);
    }
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(temporary_files(w->dir), 0);
}

#define REPLACE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        REPLACE_TEST(content_is_replaced_and_the_mode_kept),
        REPLACE_TEST(the_old_content_stays_until_the_end),
        REPLACE_TEST(a_link_is_written_through),
        REPLACE_TEST(what_cannot_be_replaced_is_refused),
        REPLACE_TEST(a_new_file_is_made_once),
        REPLACE_TEST(a_crash_is_undone_or_completed),
        REPLACE_TEST(a_reader_sees_one_writers_content_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
