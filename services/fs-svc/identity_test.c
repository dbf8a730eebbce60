/* Needs root; elsewhere it says so and skips. The agent's user is `nobody`. */
#include "services/fs-svc/identity.h"

#include <errno.h>
#include <pthread.h>
#include <pwd.h>

#include "services/fs-svc/replace.h"
#include "services/fs-svc/test_dir.h"

static void not_root(void)
{
    if (geteuid() != 0) {
        print_message("skipped: only root can take another user's rights\n");
        skip();
    }
}

static void files_are_read_with_the_agents_rights(void **state)
{
    (void)state;
    not_root();
    char *dir = test_dir_new();
    struct fs_root root = test_root(dir, false);
    test_put(dir, "mine", "secret");
    test_put(dir, "everyones", "public");
    test_mkdir(dir, "closed");
    test_put(dir, "closed/file", "secret");
    cleanup_free char *mine = sa_format("%s/mine", dir), *closed = sa_format("%s/closed", dir);
    assert_int_equal(chmod(dir, 0755) | chmod(mine, 0600) | chmod(closed, 0700), 0);

    struct fs_identity *nobody = fs_identity_new("nobody", NULL);
    assert_non_null(nobody);
    assert_int_equal(fs_identity_enter(nobody, NULL), 0);
    int at = fs_path_open(&root, "mine", true, NULL), fd = fs_reopen(at, O_RDONLY), why = errno;
    int open_at = fs_path_open(&root, "everyones", true, NULL), open_fd = fs_reopen(open_at, O_RDONLY);
    cleanup_error sa_error *err = NULL;
    int inside = fs_path_open(&root, "closed/file", true, &err);
    int environ_fd = open("/proc/1/environ", O_RDONLY), maps = open("/proc/1/maps", O_RDONLY);
    fs_identity_leave(nobody);

    assert_true(at >= 0);
    assert_int_equal(fd, -1);
    assert_int_equal(why, EACCES);
    assert_true(open_fd >= 0);
    assert_int_equal(inside, -1);
    assert_reason(err, SA_PERMISSION_DENIED);
    assert_int_equal(environ_fd, -1);
    /* Would open if the thread had kept the capability to trace; as our own process it is refused by path. */
    if (getpid() != 1)
        assert_int_equal(maps, -1);
    sa_close(at);
    sa_close(open_at);
    sa_close(open_fd);
    cleanup_close int again = open(mine, O_RDONLY | O_CLOEXEC);
    assert_true(again >= 0); /* our own rights are back */
    fs_identity_free(nobody);
    test_root_fini(&root);
    test_dir_remove(dir);
}

static void files_belong_to_the_agent(void **state)
{
    (void)state;
    not_root();
    char *dir = test_dir_new();
    struct fs_root root = test_root(dir, false);
    struct passwd *pw = getpwnam("nobody");
    uid_t uid = pw->pw_uid;
    gid_t gid = pw->pw_gid;
    assert_int_equal(chown(dir, uid, gid), 0);
    struct fs_identity *nobody = fs_identity_new("nobody", NULL);
    struct fs_replace_options opt = {.make_parents = true};
    struct fs_replace r;
    struct fs_info info;
    assert_int_equal(fs_identity_enter(nobody, NULL), 0);
    int made = fs_replace_locate(&root, "new/dir/file", &opt, "t", &r, NULL) || fs_replace_create(&r, NULL) ||
               fs_replace_finish(&r, &info, NULL);
    fs_identity_leave(nobody);
    assert_int_equal(made, 0);
    assert_int_equal(info.st.st_uid, uid);
    assert_int_equal(info.st.st_gid, gid);
    fs_replace_fini(&r);
    fs_info_fini(&info);
    fs_identity_free(nobody);
    test_root_fini(&root);
    test_dir_remove(dir);
}

static void a_user_that_does_not_exist_is_named(void **state)
{
    (void)state;
    cleanup_error sa_error *err = NULL;
    assert_null(fs_identity_new("no-such-user", &err));
    assert_reason(err, SA_INVALID_CONFIG);
    assert_non_null(strstr(err->message, "no-such-user"));
}

static void without_a_user_the_home_is_ours(void **state)
{
    (void)state;
    assert_int_equal(setenv("HOME", "/tmp/somewhere", 1), 0);
    struct fs_identity *own = fs_identity_new(NULL, NULL);
    assert_string_equal(fs_identity_home(own), "/tmp/somewhere");
    assert_int_equal(fs_identity_enter(own, NULL), 0);
    fs_identity_leave(own);
    fs_identity_free(own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_read_with_the_agents_rights),
        cmocka_unit_test(files_belong_to_the_agent),
        cmocka_unit_test(a_user_that_does_not_exist_is_named),
        cmocka_unit_test(without_a_user_the_home_is_ours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
