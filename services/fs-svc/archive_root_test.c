/* What needs root: a disk that is full, and an agent user. */
#include "services/fs-svc/archive_fixture.h"

#include <pwd.h>
#include <sched.h>
#include <sys/mount.h>

static void need_root(void)
{
    if (geteuid() == 0)
        return;
    print_message("skipped: not root\n");
    skip();
}

static void make_files(struct made *m, int n)
{
    static uint8_t noise[1 << 20];
    unsigned seed = 1;
    make_begin(m, ARCHIVE_TAR);
    for (size_t j = 0; j < sizeof noise; j++)
        noise[j] = (uint8_t)((seed = seed * 1664525u + 1013904223u) >> 24);
    for (int i = 0; i < n; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        make_file(m, name, noise, sizeof noise, 0644);
    }
    make_end(m);
}

static void an_agent_user_unpacks_and_packs_what_it_could_itself(void **state)
{
    (void)state;
    need_root();
    struct service_fixture f = service_new(WORDS("--agent-user", "nobody"));
    struct passwd *pw = getpwnam("nobody");
    assert_int_equal(chown(f.ws, pw->pw_uid, pw->pw_gid), 0);
    test_mkdir(f.ws, "roots");
    test_put(f.ws, "hidden", "secret");
    assert_shell("", "chmod 600 '%s/hidden'; chmod 700 '%s/roots'", f.ws, f.ws);
    service_up(&f);
    struct made m;
    make_files(&m, 1);
    cleanup_free char *mine = sa_format("%s/mine", f.ws), *roots = sa_format("%s/roots", f.ws);
    struct upload u = {.root = "", .path = mine, .all_or_nothing = true};
    assert_string_equal(upload(&f, &u, m.bytes.data, m.bytes.len, NULL), "");
    assert_shell("nobody nobody\n", "stat -c '%%U %%U' '%s/mine/0'", f.ws);
    u.path = roots;
    u.all_or_nothing = false;
    assert_string_equal(upload(&f, &u, m.bytes.data, m.bytes.len, NULL), "PERMISSION_DENIED");
    DownloadArchiveRequest req = DOWNLOAD_ARCHIVE_REQUEST__INIT;
    req.path = bytes(f.ws);
    cleanup_buf struct sa_buf got = {0};
    uint64_t counts[4] = {0};
    assert_string_equal(download(&f, &req, &got, counts), "");
    assert_int_equal(counts[0], 3); /* mine, mine/0, roots */
    assert_int_equal(counts[2], 2); /* hidden, and what is in roots */
    sa_buf_fini(&m.bytes);
    service_free(&f);
}

static void a_full_disk_ends_an_upload_and_leaves_nothing_temporary(void **state)
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
    cleanup_free char *root = sa_format("ws=%s", f.ws);
    f.extra[0] = "--fs-root";
    f.extra[1] = root;
    service_up(&f);
    struct made m, fits;
    make_files(&m, 8);
    make_files(&fits, 1);
    for (int whole = 0; whole < 2; whole++) {
        struct upload u = {
            .root = "ws", .path = "dir", .all_or_nothing = whole, .overwrite = OVERWRITE_POLICY_REPLACE};
        assert_string_equal(upload(&f, &u, m.bytes.data, m.bytes.len, NULL), "NO_SPACE");
        assert_shell("", "find '%s' -name '.sa-*'", f.ws);
        assert_shell("", "rm -rf '%s/dir'", f.ws);
        assert_string_equal(upload(&f, &u, fits.bytes.data, fits.bytes.len, NULL), "");
        assert_shell("0\n", "ls '%s/dir'; rm -rf '%s/dir'", f.ws, f.ws);
    }
    service_down(&f);
    assert_int_equal(umount(f.ws), 0);
    sa_buf_fini(&m.bytes);
    sa_buf_fini(&fits.bytes);
    free(f.data);
    free(f.home);
    free(f.ws);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_agent_user_unpacks_and_packs_what_it_could_itself),
        cmocka_unit_test(a_full_disk_ends_an_upload_and_leaves_nothing_temporary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
