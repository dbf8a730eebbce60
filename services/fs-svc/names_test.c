/* What makes, moves and removes names, on its own: with openat2 and without the answers are the same. */
#include "services/fs-svc/make.h"
#include "services/fs-svc/remove.h"
#include "services/fs-svc/roots.h"
#include "services/fs-svc/test_dir.h"
#include "services/fs-svc/transfer.h"
#include "services/fs-svc/usage.h"

#include <errno.h>
#include <pthread.h>

/* ---- the operations, whole ---- */

static int make(const struct fs_root *root, const char *path, sa_error **err)
{
    struct fs_info info = {0};
    bool created;
    int r = fs_make_dir(root, path, 0700, false, &created, &info, err);
    fs_info_fini(&info);
    return r;
}

static int make_parents(const struct fs_root *root, const char *path, sa_error **err)
{
    struct fs_info info = {0};
    bool created;
    int r = fs_make_dir(root, path, 0, true, &created, &info, err);
    fs_info_fini(&info);
    return r;
}

static int make_link(const struct fs_root *root, const char *path, sa_error **err)
{
    struct fs_info info = {0};
    int r = fs_make_link(root, path, "file", false, &info, err);
    fs_info_fini(&info);
    return r;
}

static int point_at(const struct fs_root *root, const char *target, sa_error **err)
{
    struct fs_info info = {0};
    int r = fs_make_link(root, "dir/new-link", target, false, &info, err);
    fs_info_fini(&info);
    return r;
}

static int change(const struct fs_root *root, const char *path, sa_error **err)
{
    struct fs_info info = {0};
    struct fs_attributes a = {.set_mode = true, .mode = 0700};
    int r = fs_change(root, path, &a, &info, err);
    fs_info_fini(&info);
    return r;
}

static int delete (const struct fs_root *root, const char *path, sa_error **err)
{
    struct fs_place p = {0};
    struct stat st;
    int r = fs_place_find(root, path, false, &p, err);
    if (r == 0)
        r = fs_place_stat(&p, &st, err);
    if (r == 0)
        r = fs_remove_all(p.dir_fd, p.name, err);
    fs_place_fini(&p);
    return r;
}

static int transfer(const struct fs_root *from_root, const char *from, const struct fs_root *to_root,
                    const char *to, const struct fs_transfer_options *opt, sa_error **err)
{
    struct fs_transfer t;
    struct fs_slice slice = {UINT64_MAX};
    int r = fs_transfer_find(from_root, from, to_root, to, opt, "id", &t, err);
    if (r == 0 && opt->move)
        r = fs_transfer_rename(&t, err);
    if (r == 0 && !opt->move)
        r = 1;
    if (r == 1) {
        r = fs_transfer_create(&t, err);
        while (r == 0 && (r = fs_transfer_copy(&t, &slice, err)) == 1)
            r = 0;
        r = r == 0 ? fs_transfer_finish(&t, err) : r;
        r = r == 0 && opt->move ? fs_transfer_remove_source(&t, &slice, err) : r;
    }
    if (r < 0)
        assert_int_equal(fs_transfer_undo(&t, &slice, NULL), 0);
    fs_transfer_fini(&t);
    return r;
}

static int move_from(const struct fs_root *root, const char *path, sa_error **err)
{
    return transfer(root, path, root, "target", &(struct fs_transfer_options){.move = true}, err);
}

static int move_to(const struct fs_root *root, const char *path, sa_error **err)
{
    return transfer(root, "file", root, path, &(struct fs_transfer_options){.move = true, .overwrite = true},
                    err);
}

static int copy_from(const struct fs_root *root, const char *path, sa_error **err)
{
    return transfer(root, path, root, "target", &(struct fs_transfer_options){.recursive = true}, err);
}

static int copy_to(const struct fs_root *root, const char *path, sa_error **err)
{
    return transfer(root, "file", root, path, &(struct fs_transfer_options){.make_parents = true}, err);
}

static void fill(const char *dir)
{
    test_mkdir(dir, "dir/in");
    test_put(dir, "file", "content");
    test_put(dir, "dir/in/file", "content");
    test_link("dir", dir, "link");
    test_link("../file", dir, "dir/up");
    test_link("..", dir, "out");
    test_link("/etc", dir, "absolute");
    test_link("nowhere", dir, "dangling");
    test_link("loop", dir, "loop");
}

static void both_ways_give_the_same_answers(void **state)
{
    (void)state;
    static int (*const run[])(const struct fs_root *root, const char *path, sa_error **err) = {
        make, make_parents, make_link, point_at, change, delete, move_from, move_to, copy_from, copy_to};
    static const char *const paths[] = {
        "file",     "dir",   "link",        "dangling",   "out",         "absolute",   "loop",    "new",
        "new/",     "new/x", "dir/",        "file/",      "link/",       "link/new",   "link/in", "dir/up",
        "dir/up/x", "out/x", "loop/x",      "absolute/x", "..",          ".",          "/",       "/etc",
        "dir/..",   "dir/.", "dir/../file", "../x",       "dir/../../x", "dangling/x", "target"};
    for (size_t i = 0; i < sizeof run / sizeof *run; i++)
        for (size_t k = 0; k < sizeof paths / sizeof *paths; k++) {
            char answers[2][48] = {"", ""};
            for (int way = 0; way < 2; way++) {
                char *dir = sa_strdup("/dev/shm/fs-XXXXXX"); /* some 700 of them: in memory */
                assert_non_null(mkdtemp(dir));
                struct fs_root root = test_root(dir, way);
                cleanup_error sa_error *err = NULL;
                fill(dir);
                if (run[i](&root, paths[k], &err) < 0)
                    snprintf(answers[way], sizeof answers[way], "%s", err->reason);
                test_root_fini(&root);
                test_dir_remove(dir);
            }
            if (strcmp(answers[0], answers[1]) != 0)
                fail_msg("operation %zu at `%s`: %s with openat2, %s without", i, paths[k], answers[0],
                         answers[1]);
        }
}

/* ---- another filesystem ---- */

static void a_move_to_another_filesystem_is_whole(void **state)
{
    (void)state;
    struct stat a, b;
    char *dir = test_dir_new(), *far = sa_strdup("/dev/shm/fs-XXXXXX");
    if (!mkdtemp(far) || stat(dir, &a) < 0 || stat(far, &b) < 0 || a.st_dev == b.st_dev) {
        print_message("skipped: there is no other filesystem here\n");
        free(far);
        test_dir_remove(dir);
        skip();
    }
    struct fs_root near_root = test_root(dir, false), far_root = test_root(far, false);
    struct fs_transfer_options opt = {.move = true};
    fill(dir);
    assert_int_equal(transfer(&near_root, "dir", &far_root, "dir", &opt, NULL), 0);
    assert_int_equal(transfer(&near_root, "dangling", &far_root, "dangling", &opt, NULL), 0);
    cleanup_free char *content = test_get(far, "dir/in/file");
    assert_string_equal(content, "content");
    cleanup_free char *gone = sa_format("%s/dir", dir);
    assert_int_equal(access(gone, F_OK), -1);
    /* What is there is replaced only if so wanted, and what cannot be replaced is not copied first. */
    cleanup_error sa_error *err = NULL;
    test_mkdir(dir, "dir");
    assert_int_equal(transfer(&near_root, "dir", &far_root, "dir", &opt, &err), -1);
    assert_reason(err, SA_ALREADY_EXISTS);
    opt.overwrite = true;
    assert_int_equal(transfer(&near_root, "dir", &far_root, "dir", &opt, &err), -1);
    assert_reason(err, SA_DIRECTORY_NOT_EMPTY);
    assert_int_equal(transfer(&near_root, "file", &far_root, "dir", &opt, &err), -1);
    assert_reason(err, SA_IS_A_DIRECTORY);
    test_put(far, "file", "old");
    assert_int_equal(transfer(&near_root, "file", &far_root, "file", &opt, NULL), 0);
    cleanup_free char *replaced = test_get(far, "file");
    assert_string_equal(replaced, "content");
    test_root_fini(&near_root);
    test_root_fini(&far_root);
    test_dir_remove(dir);
    test_dir_remove(far);
}

/* ---- walks ---- */

struct moving {
    const char *dir;
    int visited;
};

/* The directory that the walk stands in goes elsewhere. */
static int move_away(void *user, int dir_fd, const char *name, const struct fs_slice *slice, sa_error **err)
{
    (void)dir_fd, (void)name, (void)slice, (void)err;
    struct moving *m = user;
    cleanup_free char *from = sa_format("%s/t/a/b", m->dir), *to = sa_format("%s/elsewhere", m->dir);
    assert_int_equal(rename(from, to), 0);
    m->visited++;
    return 0;
}

static void a_walk_does_not_go_on_elsewhere(void **state)
{
    (void)state;
    static const struct fs_tree_events events = {.entry = move_away};
    char *dir = test_dir_new();
    struct fs_root root = test_root(dir, false);
    test_mkdir(dir, "t/a/b/c");
    test_put(dir, "t/a/b/file", "");
    struct moving m = {.dir = dir};
    struct fs_slice slice = {UINT64_MAX};
    cleanup_error sa_error *err = NULL;
    struct fs_tree *t = fs_tree_new(root.fd, "t", &events, &m);
    assert_int_equal(fs_tree_step(t, &slice, &err), -1);
    assert_reason(err, SA_FILE_NOT_FOUND);
    assert_int_equal(m.visited, 1);
    fs_tree_free(t);
    test_root_fini(&root);
    test_dir_remove(dir);
}

static void a_walk_can_be_cut_into_any_slices(void **state)
{
    (void)state;
    char *dir = test_dir_new();
    struct fs_root root = test_root(dir, false);
    fill(dir);
    uint64_t files[2] = {0};
    for (int cut = 0; cut < 2; cut++) {
        struct fs_usage u = {0};
        struct fs_slice slice = {cut ? 0 : UINT64_MAX};
        int r, steps = 0;
        while ((r = fs_usage_step(&u, root.fd, &slice, NULL)) == 1)
            steps++;
        assert_int_equal(r, 0);
        assert_true(cut ? steps > 5 : steps == 0);
        assert_int_equal(u.directories, 3);
        files[cut] = u.files;
        fs_usage_fini(&u);
    }
    assert_int_equal(files[0], files[1]);
    test_root_fini(&root);
    test_dir_remove(dir);
}

/* ---- roots ---- */

static void roots_are_read_with_their_options(void **state)
{
    (void)state;
    char *dir = test_dir_new();
    test_mkdir(dir, "odd:ro:dir");
    static const struct {
        const char *options;
        bool read_only;
        uint64_t max;
    } good[] = {{"", false, 0}, {":ro", true, 0}, {":rw:max=5", false, 5}, {":max=1000:ro", true, 1000}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        cleanup_free char *spec = sa_format("a=%s%s\nb=%s/odd:ro:dir", dir, good[i].options, dir);
        struct fs_roots *r = fs_roots_new(spec, "/", NULL, NULL);
        assert_non_null(r);
        const struct fs_root *a = fs_roots_find(r, "a", NULL);
        assert_int_equal(a->read_only, good[i].read_only);
        assert_int_equal(a->max_write, good[i].max);
        cleanup_error sa_error *err = NULL;
        assert_int_equal(fs_root_check_size(a, good[i].max, NULL), 0);
        if (good[i].max) {
            assert_int_equal(fs_root_check_size(a, good[i].max + 1, &err), -1);
            assert_reason(err, SA_FILE_TOO_LARGE);
        }
        assert_false(fs_roots_find(r, "b", NULL)->read_only);
        fs_roots_free(r);
    }
    static const char *const bad[] = {":max=",   ":max=0",  ":max=x",
                                      ":max=5k", ":max=-1", ":max=99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cleanup_error sa_error *err = NULL;
        cleanup_free char *spec = sa_format("a=%s%s", dir, bad[i]);
        assert_null(fs_roots_new(spec, "/", NULL, &err));
        assert_reason(err, SA_INVALID_CONFIG);
    }
    test_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ways_give_the_same_answers),
        cmocka_unit_test(a_move_to_another_filesystem_is_whole),
        cmocka_unit_test(a_walk_does_not_go_on_elsewhere),
        cmocka_unit_test(a_walk_can_be_cut_into_any_slices),
        cmocka_unit_test(roots_are_read_with_their_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
