/* What needs root: the rights of another user, and a filesystem that is full. Elsewhere it says so and skips.
 */
#include "services/fs-svc/service_fixture.h"

#include <pwd.h>
#include <sched.h>
#include <sys/mount.h>

static void need_root(void)
{
    if (geteuid() != 0) {
        print_message("skipped: needs root\n");
        skip();
    }
}

static void an_agent_user_reaches_what_it_could_reach_itself(void **state)
{
    (void)state;
    need_root();
    struct service_fixture f = service_new(WORDS("--agent-user", "nobody"));
    service_up(&f);
    test_put(f.ws, "secret", "root's own");
    test_put(f.ws, "public", "everyone's");
    test_mkdir(f.ws, "closed/in");
    cleanup_free char *secret = sa_format("%s/secret", f.ws), *public = sa_format("%s/public", f.ws);
    cleanup_free char *closed = sa_format("%s/closed", f.ws), *in = sa_format("%s/closed/in", f.ws);
    cleanup_free char *new = sa_format("%s/new", f.ws), *store = sa_format("%s/fs/store/data.mdb", f.data);
    assert_int_equal(chmod(f.ws, 0755) | chmod(secret, 0600) | chmod(closed, 0700), 0);
    cleanup_buf struct sa_buf got = {0};
    assert_string_equal(read_path(&f, "", public, 0, 0, &got), "");
    assert_string_equal(read_path(&f, "", secret, 0, 0, &got), "PERMISSION_DENIED");
    assert_string_equal(read_path(&f, "", store, 0, 0, &got), "PERMISSION_DENIED");
    assert_string_equal(read_path(&f, "", "/etc/shadow", 0, 0, &got), "PERMISSION_DENIED");
    assert_string_equal(read_path(&f, "", "/proc/1/environ", 0, 0, &got), "PERMISSION_DENIED");
    assert_string_equal(stat_path(&f, "", in), "PERMISSION_DENIED");
    struct writer w = {.root = "", .path = new};
    assert_string_equal(write_text(&f, &w, "x"), "PERMISSION_DENIED");
    w.path = public;
    assert_string_equal(write_text(&f, &w, "x"), "PERMISSION_DENIED");
    ListDirectoryRequest req = LIST_DIRECTORY_REQUEST__INIT;
    req.path = bytes(closed);
    cleanup_error sa_error *err = NULL;
    assert_null(list_directory_wait(f.caller.channel, &req, &patient, &err));
    assert_reason(err, SA_PERMISSION_DENIED);

    struct passwd *pw = getpwnam("nobody");
    uid_t uid = pw->pw_uid;
    assert_int_equal(chown(f.ws, uid, pw->pw_gid), 0);
    w.path = new;
    assert_string_equal(write_text(&f, &w, "mine"), "");
    struct stat st;
    assert_int_equal(stat(new, &st), 0);
    assert_int_equal(st.st_uid, uid);
    service_free(&f);
}

static void an_agent_users_broken_write_is_undone_after_a_crash(void **state)
{
    (void)state;
    need_root();
    struct service_fixture f = service_new(WORDS("--agent-user", "nobody"));
    struct passwd *pw = getpwnam("nobody");
    assert_int_equal(chown(f.ws, pw->pw_uid, pw->pw_gid), 0);
    service_up(&f);
    cleanup_free char *path = sa_format("%s/file", f.ws);
    struct writer w = {.root = "", .path = path};
    struct rpc_stream *s = write_begin(&f, &w);
    write_data(s, "new", 3);
    wait_until(has_temporary_file, f.ws, "the temporary file is there");
    program_signal(&f.program, SIGKILL);
    program_wait(&f.program);
    rpc_stream_free(s);
    caller_close(&f.caller);
    program_free(&f.program);
    service_up(&f);
    assert_int_equal(temporary_files(f.ws), 0);
    service_free(&f);
}

static void a_full_disk_is_told_and_the_old_file_stays(void **state)
{
    (void)state;
    need_root();
    /* A mount of our own, which ends with this process. */
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        print_message("skipped: no mounts here\n");
        skip();
    }
    struct service_fixture f = service_new(NULL);
    assert_int_equal(mount("tmpfs", f.ws, "tmpfs", 0, "size=4m"), 0);
    test_put(f.ws, "file", "old");
    cleanup_free char *root = sa_format("ws=%s", f.ws);
    f.extra[0] = "--fs-root";
    f.extra[1] = root;
    service_up(&f);
    static uint8_t chunk[1 << 20];
    struct writer w = {.root = "ws", .path = "file"};
    struct rpc_stream *s = write_begin(&f, &w);
    for (int i = 0; i < 16 && write_data(s, chunk, sizeof chunk) == 0; i++)
        ;
    assert_string_equal(write_end(s, NULL), "NO_SPACE");
    wait_until(has_no_temporary_file, f.ws, "the temporary file goes");
    cleanup_free char *content = test_get(f.ws, "file");
    assert_string_equal(content, "old");
    assert_string_equal(write_text(&f, &w, "fits"), "");
    service_down(&f);
    assert_int_equal(umount(f.ws), 0);
    free(f.data);
    free(f.home);
    free(f.ws);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_agent_user_reaches_what_it_could_reach_itself),
        cmocka_unit_test(an_agent_users_broken_write_is_undone_after_a_crash),
        cmocka_unit_test(a_full_disk_is_told_and_the_old_file_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
