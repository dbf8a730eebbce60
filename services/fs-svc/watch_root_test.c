/* Watches and marks that need root: another user's rights, and mounts. Elsewhere it says so and skips. */
#include "services/fs-svc/mark_fixture.h"
#include "services/fs-svc/watch_fixture.h"

#include <sched.h>
#include <sys/mount.h>

static void need_root(void)
{
    if (geteuid() != 0) {
        print_message("skipped: needs root\n");
        skip();
    }
}

static char *in(struct service_fixture *f, const char *name)
{
    static char paths[4][PATH_MAX];
    static int at;
    at = (at + 1) % 4;
    snprintf(paths[at], sizeof paths[at], "%s/%s", f->ws, name);
    return paths[at];
}

static void expect_line(struct viewer *v, const char *line)
{
    while (!v->log || !strstr(v->log, line))
        if (!viewer_next(v))
            fail_msg("`%s` did not come: %s%s\n%s", line, v->closed, v->failed, v->log ? v->log : "");
}

static void what_the_agent_may_not_see_is_not_watched(void **state)
{
    (void)state;
    need_root();
    struct service_fixture f = service_new(WORDS("--agent-user", "nobody"));
    service_up(&f);
    test_mkdir(f.ws, "open");
    test_mkdir(f.ws, "closed/in");
    assert_int_equal(chmod(in(&f, "closed"), 0700), 0);
    struct viewer v = viewer_of(&f, "", f.ws, f.ws);
    viewer_open(&v);
    assert_int_equal(v.watched, 2);
    assert_int_equal(v.unwatched, 1);
    test_put(f.ws, "closed/secret", "");
    test_mkdir(f.ws, "later");
    assert_int_equal(chmod(in(&f, "later"), 0700), 0);
    test_put(f.ws, "open/x", "");
    expect_line(&v, "+open/x\n");
    assert_null(strstr(v.log, "secret"));
    /* Allowed now: it is watched, and what is in it is told. */
    assert_int_equal(chmod(in(&f, "closed"), 0755), 0);
    expect_line(&v, "+closed/in/\n");
    expect_line(&v, "+closed/secret\n");
    viewer_free(&v);
    service_free(&f);
}

static void the_services_own_directories_are_not_watched(void **state)
{
    (void)state;
    need_root();
    struct service_fixture f = service_new(NULL);
    service_up(&f);
    struct viewer v = viewer_of(&f, "", f.dir, f.dir);
    viewer_open(&v);
    assert_true(v.unwatched >= 2); /* data/fs and data/run */
    struct marked m;
    CreateMarkRequest req = mark_request("", f.dir);
    assert_string_equal(try_mark(&f, &req, &m), "");
    assert_true(m.unreadable >= 2);
    assert_null(v.log);
    viewer_free(&v);
    service_free(&f);
}

static void a_mark_says_what_it_could_not_read(void **state)
{
    (void)state;
    need_root();
    struct service_fixture f = service_new(WORDS("--agent-user", "nobody"));
    service_up(&f);
    test_put(f.ws, "public", "1\n");
    test_put(f.ws, "secret", "2\n");
    assert_int_equal(chmod(in(&f, "secret"), 0600), 0);
    struct marked m;
    CreateMarkRequest req = mark_request("", f.ws);
    assert_string_equal(try_mark(&f, &req, &m), "");
    assert_int_equal(m.entries, 2);
    assert_int_equal(m.files_read, 1);
    assert_int_equal(m.unreadable, 1);
    test_put(f.ws, "public", "3\n");
    test_put(f.ws, "secret", "4\n");
    cleanup_free char *text = diff_of(&f, &m, NULL, true);
    assert_non_null(strstr(text, "-1\n+3\n"));
    assert_non_null(strstr(text, "M secret binary unsure\n"));
    assert_null(strstr(text, "+4"));
    service_free(&f);
}

static bool is_unmounted(void *dir)
{
    return umount(dir) == 0;
}

static void an_unmounted_filesystem_is_told(void **state)
{
    (void)state;
    need_root();
    /* A mount of our own, which ends with this process. */
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        print_message("skipped: no mounts here\n");
        skip();
    }
    struct service_fixture f = service_new(NULL);
    test_mkdir(f.ws, "outer/m");
    char *m = sa_strdup(in(&f, "outer/m"));
    assert_int_equal(mount("tmpfs", m, "tmpfs", 0, "size=4m"), 0);
    service_up(&f);
    test_mkdir(m, "deep");
    cleanup_free char *outer = sa_strdup(in(&f, "outer"));
    struct viewer around = viewer_of(&f, "", outer, outer), inside = viewer_of(&f, "", m, m);
    viewer_open(&around);
    viewer_open(&inside);
    test_put(m, "deep/x", "");
    expect_line(&around, "+m/deep/x\n");
    expect_line(&inside, "+deep/x\n");
    wait_until(is_unmounted, m, "it is unmounted"); /* while nobody is looking into it */
    while (viewer_next(&inside))
        ;
    assert_string_equal(inside.closed, "FILE_NOT_FOUND");
    while (!around.rescans)
        assert_true(viewer_next(&around));
    viewer_settle(&around);
    test_put(m, "below", "");
    expect_line(&around, "+m/below\n");
    viewer_free(&around);
    viewer_free(&inside);
    free(m);
    service_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_agent_may_not_see_is_not_watched),
        cmocka_unit_test(the_services_own_directories_are_not_watched),
        cmocka_unit_test(a_mark_says_what_it_could_not_read),
        cmocka_unit_test(an_unmounted_filesystem_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
