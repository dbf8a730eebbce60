/* Dies at every fault point of a change once. Whatever was asked for is asked again after the restart; then
 * it has happened, and once; and a half copy is never seen. */
#include "services/fs-svc/tree_fixture.h"

#include <sys/wait.h>

#define POINTS "services/fs-svc/fault_points"

static bool has_died(void *user)
{
    struct service_fixture *f = user;
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)f->program.pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0;
}

struct dying {
    struct service_fixture f;
    char *far; /* a directory on another filesystem, or NULL */
    const char *point;
    int deaths;
};

/* The source is whole or the target is; never half of one, and no temporary file once the service is up. */
static void check(struct dying *d, const char *target_dir, const char *name)
{
    cleanup_free char *file = sa_format("%s/in/file", name);
    assert_int_equal(temporary_files(d->f.ws), 0);
    if (d->far)
        assert_int_equal(temporary_files(d->far), 0);
    if (there(target_dir, name))
        assert_content(target_dir, file, "content");
}

/* Asks until it is answered; the service is started again when it has died. */
static void insist(struct dying *d, const char *(*ask)(struct service_fixture *f, const struct order *o),
                   const struct order *o, const char *target_dir)
{
    for (;;) {
        const char *answer = ask(&d->f, o);
        if (!strcmp(answer, ""))
            return;
        if (strcmp(answer, "UNAVAILABLE") != 0 && strcmp(answer, "CANCELLED") != 0)
            fail_msg("%s at %s: %s", o->request_id, d->point, answer);
        wait_until(has_died, &d->f, "the service has died");
        caller_close(&d->f.caller);
        program_free(&d->f.program);
        d->deaths++;
        if (o->to_path && there(target_dir, o->to_path))
            check(d, target_dir, o->to_path);
        d->f.fault = NULL;
        service_up(&d->f);
        check(d, target_dir, o->to_path ? o->to_path : o->path);
    }
}

static void make_tree(const char *dir)
{
    test_mkdir(dir, "t/in");
    test_put(dir, "t/in/file", "content");
    test_put(dir, "t/other", "x");
}

static void die_at(const char *point, char *far)
{
    struct dying d = {.f = service_new(NULL), .point = point, .far = far};
    cleanup_free char *ws = sa_format("ws=%s", d.f.ws), *root = sa_format("far=%s", far ? far : d.f.ws);
    const char *extra[] = {"--fs-root", ws, "--fs-root", root};
    memcpy(d.f.extra, extra, sizeof extra);
    d.f.faulty = true;
    d.f.fault = point;
    make_tree(d.f.ws);
    service_up(&d.f);
    insist(&d, copy_path, ORDER("ws", "t", .to_path = "copied", .recursive = true, .request_id = "1"),
           d.f.ws);
    check(&d, d.f.ws, "copied");
    insist(&d, move_path, ORDER("ws", "t", .to_path = "moved", .request_id = "2"), d.f.ws);
    assert_false(there(d.f.ws, "t"));
    check(&d, d.f.ws, "moved");
    if (far) {
        insist(&d, move_path, ORDER("ws", "moved", "far", "moved", .request_id = "3"), far);
        assert_false(there(d.f.ws, "moved"));
        check(&d, far, "moved");
        /* Once: what is there now under the old name stays. */
        test_put(d.f.ws, "moved", "new");
        insist(&d, move_path, ORDER("ws", "moved", "far", "moved", .request_id = "3"), far);
        assert_content(d.f.ws, "moved", "new");
    }
    insist(&d, delete_path, ORDER("ws", "copied", .recursive = true, .request_id = "4"), d.f.ws);
    assert_false(there(d.f.ws, "copied"));
    if (d.deaths != 1 && (far || d.deaths > 1))
        fail_msg("the service died %d times at %s", d.deaths, point);
    service_free(&d.f);
}

/* A directory on another filesystem than the tests' own; NULL: there is none. */
static char *other_filesystem(const char *than)
{
    struct stat own, st;
    const char *places[] = {"/tmp", "/dev/shm"};
    assert_int_equal(stat(than, &own), 0);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char *dir = sa_format("%s/fs-XXXXXX", places[i]);
        if (stat(places[i], &st) == 0 && st.st_dev != own.st_dev && mkdtemp(dir))
            return dir;
        free(dir);
    }
    print_message("there is no other filesystem here\n");
    return NULL;
}

static void a_death_at_any_point_leaves_old_or_new(void **state)
{
    (void)state;
    cleanup_buf struct sa_buf points = {0};
    int n = 0;
    assert_int_equal(sa_read_file(POINTS, 65536, &points, NULL), 0);
    for (char *rest, *point = strtok_r(sa_buf_string(&points), "\n", &rest); point;
         point = strtok_r(NULL, "\n", &rest)) {
        if (strncmp(point, "fs.change.", 10) != 0 || !strcmp(point, "fs.change.undone"))
            continue;
        char *far = other_filesystem(harness_dir());
        die_at(point, far);
        if (far)
            test_dir_remove(far);
        n++;
    }
    assert_true(n >= 8);
}

static void a_death_while_undoing_is_no_trouble(void **state)
{
    (void)state;
    struct service_fixture f = service_new(NULL);
    cleanup_free char *ws = sa_format("ws=%s:max=10", f.ws);
    f.extra[0] = "--fs-root";
    f.extra[1] = ws;
    f.faulty = true;
    f.fault = "fs.change.undone";
    test_mkdir(f.ws, "t");
    test_put(f.ws, "t/large", "more than ten bytes");
    service_up(&f);
    assert_string_equal(copy_path(&f, ORDER("ws", "t", .to_path = "c", .recursive = true)), "UNAVAILABLE");
    wait_until(has_died, &f, "the service has died");
    caller_close(&f.caller);
    program_free(&f.program);
    f.fault = NULL;
    service_up(&f);
    assert_int_equal(temporary_files(f.ws), 0);
    assert_string_equal(copy_path(&f, ORDER("ws", "t", .to_path = "c", .recursive = true)), "FILE_TOO_LARGE");
    service_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_death_at_any_point_leaves_old_or_new),
        cmocka_unit_test(a_death_while_undoing_is_no_trouble),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
