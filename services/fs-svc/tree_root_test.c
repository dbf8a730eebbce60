/* Changing names where that needs root: another user's rights, a full disk, mounts. Elsewhere it says so and
 * skips. */
#include "services/fs-svc/tree_fixture.h"

#include <pwd.h>
#include <sched.h>
#include <sys/mount.h>

static void need_mounts(void)
{
    /* Mounts of our own, which end with this process. */
    if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        print_message("skipped: no mounts here\n");
        skip();
    }
}

static void an_agent_user_changes_what_it_could_change_itself(void **state)
{
    (void)state;
    struct passwd *pw = getpwnam("nobody");
    if (geteuid() != 0 || !pw) {
        print_message("skipped: needs root\n");
        skip();
    }
    struct service_fixture f = service_new(WORDS("--agent-user", "nobody"));
    cleanup_free char *ws = sa_format("ws=%s", f.ws);
    f.extra[2] = "--fs-root";
    f.extra[3] = ws;
    test_mkdir(f.ws, "theirs/d");
    test_mkdir(f.ws, "closed/in");
    test_put(f.ws, "closed/in/secret", "root's own");
    test_put(f.ws, "ours", "root's own");
    cleanup_free char *theirs = sa_format("%s/theirs", f.ws), *closed = sa_format("%s/closed", f.ws);
    cleanup_free char *inner = sa_format("%s/d", theirs);
    assert_int_equal(chown(theirs, pw->pw_uid, pw->pw_gid) | chown(inner, pw->pw_uid, pw->pw_gid) |
                         chmod(closed, 0700),
                     0);
    service_up(&f);
    const char *denied = "PERMISSION_DENIED";
    assert_string_equal(make_dir(&f, ORDER("ws", "new")), denied);
    assert_string_equal(delete_path(&f, ORDER("ws", "ours")), denied);
    assert_string_equal(delete_path(&f, ORDER("ws", "closed", .recursive = true)), denied);
    assert_string_equal(move_path(&f, ORDER("ws", "ours", .to_path = "theirs/x")), denied);
    assert_string_equal(move_path(&f, ORDER("ws", "theirs/d", .to_path = "d")), denied);
    assert_string_equal(copy_path(&f, ORDER("ws", "closed", .to_path = "theirs/c", .recursive = true)),
                        denied);
    assert_string_equal(copy_path(&f, ORDER("ws", "closed/in/secret", .to_path = "theirs/c")), denied);
    assert_string_equal(make_link(&f, ORDER("ws", "l", .to_path = "ours")), denied);
    assert_string_equal(change_mode(&f, ORDER("ws", "ours", .mode = 0666)), denied);
    assert_int_equal(temporary_files(theirs), 0);
    GetUsageRequest req = GET_USAGE_REQUEST__INIT;
    req.root = mutable("ws");
    req.path = bytes(".");
    GetUsageResponse *res = get_usage_wait(f.caller.channel, &req, &patient, NULL);
    assert_non_null(res);
    assert_int_equal(res->unreadable, 1);
    rpc_message_free(res);
    ListDirectoryRequest list = LIST_DIRECTORY_REQUEST__INIT;
    list.root = mutable("ws");
    list.path = bytes(".");
    list.depth = 3;
    ListDirectoryResponse *listed = list_directory_wait(f.caller.channel, &list, &patient, NULL);
    assert_non_null(listed);
    assert_int_equal(listed->n_unreadable, 1);
    assert_memory_equal(listed->unreadable[0].data, "closed", 6);
    rpc_message_free(listed);
    assert_string_equal(copy_path(&f, ORDER("ws", "ours", .to_path = "theirs/copy", .preserve = true)), "");
    assert_string_equal(move_path(&f, ORDER("ws", "theirs/copy", .to_path = "theirs/d/moved")), "");
    cleanup_free char *moved = sa_format("%s/theirs/d/moved", f.ws);
    struct stat st;
    assert_int_equal(stat(moved, &st), 0);
    assert_int_equal(st.st_uid, pw->pw_uid);
    assert_string_equal(delete_path(&f, ORDER("ws", "theirs/d", .recursive = true)), "");
    service_free(&f);
}

/* Moving a directory looks at what is above its new place; a root may be in a directory that its user cannot
 * enter. */
static void a_root_may_be_in_a_closed_directory(void **state)
{
    (void)state;
    struct passwd *pw = getpwnam("nobody");
    if (geteuid() != 0 || !pw) {
        print_message("skipped: needs root\n");
        skip();
    }
    struct service_fixture f = service_new(WORDS("--agent-user", "nobody"));
    cleanup_free char *closed = sa_format("%s/closed", f.dir), *dir = sa_format("%s/ws", closed);
    cleanup_free char *ws = sa_format("ws=%s", dir), *inner = sa_format("%s/d", dir);
    f.extra[2] = "--fs-root";
    f.extra[3] = ws;
    test_mkdir(closed, "ws/d");
    assert_int_equal(chown(dir, pw->pw_uid, pw->pw_gid) | chown(inner, pw->pw_uid, pw->pw_gid), 0);
    assert_int_equal(chmod(closed, 0700), 0);
    service_up(&f);
    assert_string_equal(copy_path(&f, ORDER("ws", "d", .to_path = "d/in", .recursive = true)),
                        "INVALID_PATH");
    assert_string_equal(copy_path(&f, ORDER("ws", "d", .to_path = "e", .recursive = true)), "");
    assert_string_equal(move_path(&f, ORDER("ws", "e", .to_path = "d/e")), "");
    assert_true(there(inner, "e"));
    service_free(&f);
}

static void a_full_disk_leaves_no_half_copy(void **state)
{
    (void)state;
    need_mounts();
    struct service_fixture f = service_new(NULL);
    cleanup_free char *ws = sa_format("ws=%s", f.ws), *far = sa_format("%s/far", f.dir);
    cleanup_free char *far_root = sa_format("far=%s", far);
    const char *extra[] = {"--fs-root", ws, "--fs-root", far_root};
    memcpy(f.extra, extra, sizeof extra);
    test_mkdir(f.dir, "far");
    assert_int_equal(mount("tmpfs", far, "tmpfs", 0, "size=1m"), 0);
    test_mkdir(f.ws, "t/d");
    test_put(f.ws, "t/a", "small");
    cleanup_free char *large = sa_calloc(1, (2 << 20) + 1);
    memset(large, 'x', 2 << 20);
    test_put(f.ws, "t/d/large", large);
    test_put(far, "old", "old");
    service_up(&f);
    assert_string_equal(copy_path(&f, ORDER("ws", "t", "far", "t", .recursive = true)), "NO_SPACE");
    assert_string_equal(move_path(&f, ORDER("ws", "t", "far", "t")), "NO_SPACE");
    assert_string_equal(move_path(&f, ORDER("ws", "t/d/large", "far", "old", .overwrite = true)), "NO_SPACE");
    assert_content(f.ws, "t/a", "small");
    assert_true(there(f.ws, "t/d/large") && !there(far, "t"));
    assert_content(far, "old", "old");
    assert_int_equal(temporary_files(far), 0);
    assert_string_equal(move_path(&f, ORDER("ws", "t/a", "far", "old", .overwrite = true)), "");
    assert_content(far, "old", "small");
    assert_false(there(f.ws, "t/a"));
    service_free(&f);
    assert_int_equal(umount(far), 0);
}

static void a_mount_is_not_deleted(void **state)
{
    (void)state;
    need_mounts();
    struct service_fixture f = service_new(NULL);
    cleanup_free char *ws = sa_format("ws=%s", f.ws), *mounted = sa_format("%s/t/mounted", f.ws);
    cleanup_free char *bound = sa_format("%s/bound", f.ws), *source = sa_format("%s/t", f.ws);
    f.extra[0] = "--fs-root";
    f.extra[1] = ws;
    test_mkdir(f.ws, "t/mounted");
    test_mkdir(f.ws, "bound");
    test_mkdir(f.ws, "t/in");
    assert_int_equal(mount("tmpfs", mounted, "tmpfs", 0, "size=1m"), 0);
    assert_int_equal(mount(source, bound, NULL, MS_BIND, NULL), 0);
    service_up(&f);
    assert_string_equal(delete_path(&f, ORDER("ws", "t/mounted")), "FILE_BUSY");
    assert_string_equal(move_path(&f, ORDER("ws", "t/mounted", .to_path = "x")), "FILE_BUSY");
    /* The same directory under another mount: a copy into it would never end. */
    assert_string_equal(copy_path(&f, ORDER("ws", "t", .to_path = "bound/copy", .recursive = true)),
                        "INVALID_PATH");
    assert_string_equal(move_path(&f, ORDER("ws", "t/in", .to_path = "bound/in", .overwrite = true)), "");
    assert_true(there(f.ws, "t/in"));
    service_free(&f);
    assert_int_equal(umount(bound) | umount(mounted), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_agent_user_changes_what_it_could_change_itself),
        cmocka_unit_test(a_root_may_be_in_a_closed_directory),
        cmocka_unit_test(a_full_disk_leaves_no_half_copy),
        cmocka_unit_test(a_mount_is_not_deleted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
