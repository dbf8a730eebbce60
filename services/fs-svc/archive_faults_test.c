/* Dies at every fault point of an upload that is all or nothing. After the restart there is the old directory
 * or the new one, whole, and nothing temporary; asked again, it is the new one. */
#include "services/fs-svc/archive_fixture.h"

#define POINTS "services/fs-svc/archive_fault_points"

static const struct sa_buf *make_archive(struct made *m)
{
    make_begin(m, ARCHIVE_TAR_GZIP);
    make_item(m, ARCHIVE_DIR, "d", NULL);
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "d/%d", i);
        make_text(m, name, "new");
    }
    make_end(m);
    return &m->bytes;
}

static bool nothing_temporary(const char *dir)
{
    cleanup_free char *command = sa_format("test -z \"$(find '%s' -name '.sa-*')\"", dir);
    return system(command) == 0;
}

static void die_at(const char *point, bool whole, bool exists)
{
    struct service_fixture f = service_new(NULL);
    cleanup_free char *ws = sa_format("ws=%s", f.ws);
    struct made m;
    const struct sa_buf *archive = make_archive(&m);
    const struct upload u = {
        .root = "ws", .path = "p/dir", .all_or_nothing = whole, .overwrite = OVERWRITE_POLICY_REPLACE};
    f.extra[0] = "--fs-root";
    f.extra[1] = ws;
    f.faulty = true;
    f.fault = point;
    test_mkdir(f.ws, "p");
    if (exists) {
        test_mkdir(f.ws, "p/dir/old");
        test_put(f.ws, "p/dir/old/file", "old");
    }
    service_up(&f);
    const char *answer = upload(&f, &u, archive->data, archive->len, NULL);
    if (strcmp(answer, "UNAVAILABLE") != 0 && strcmp(answer, "CANCELLED") != 0)
        fail_msg("%s: `%s`", point, answer);
    assert_int_equal(program_wait(&f.program), 128 + SIGKILL);
    caller_close(&f.caller);
    program_free(&f.program);
    f.fault = NULL;
    service_up(&f);
    if (!nothing_temporary(f.ws))
        fail_msg("%s: something temporary is left", point);
    if (whole)
        assert_shell("ok\n",
                     "cd '%s/p' && case \"$(ls dir 2>/dev/null)\" in '') echo %s;; old) test -f dir/old/file "
                     "&& echo ok;; d) test "
                     "$(cat dir/d/* | wc -c) = 60 && echo ok;; *) ls dir;; esac",
                     f.ws, exists ? "gone" : "ok");
    assert_string_equal(upload(&f, &u, archive->data, archive->len, NULL), "");
    assert_shell("20\n", "grep -l new '%s'/p/dir/d/* | wc -l", f.ws);
    assert_shell(whole || !exists ? "d\n" : "d\nold\n", "ls '%s/p/dir'", f.ws);
    assert_true(nothing_temporary(f.ws));
    sa_buf_fini(&m.bytes);
    service_free(&f);
}

static void an_upload_dies_at_every_step(void **state)
{
    (void)state;
    cleanup_buf struct sa_buf points = {0};
    int n = 0;
    assert_int_equal(sa_read_file(POINTS, 65536, &points, NULL), 0);
    for (char *rest, *point = strtok_r(sa_buf_string(&points), "\n", &rest); point;
         point = strtok_r(NULL, "\n", &rest), n++)
        for (int i = 0; i < 4; i++)
            die_at(point, i & 1, i & 2);
    assert_true(n >= 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(an_upload_dies_at_every_step)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
