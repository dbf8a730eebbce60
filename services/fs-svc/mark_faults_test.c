/* Dies at every fault point of a mark once. What was asked for is asked again after the restart; then it has
 * happened, once, and nothing else is left. */
#include "services/fs-svc/mark_fixture.h"

#include <sys/wait.h>

#define POINTS "services/fs-svc/mark_fault_points"

static bool has_died(void *user)
{
    struct service_fixture *f = user;
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)f->program.pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0;
}

static void revive(struct service_fixture *f)
{
    wait_until(has_died, f, "the service has died");
    caller_close(&f->caller);
    assert_int_equal(program_wait(&f->program), 128 + SIGKILL);
    program_free(&f->program);
    f->fault = NULL;
    f->faulty = false;
    service_up(f);
}

static bool died(struct service_fixture *f, const char *reason, int *deaths)
{
    bool gone = !strcmp(reason, "UNAVAILABLE") || !strcmp(reason, "CANCELLED");
    if (gone) {
        revive(f);
        ++*deaths;
    }
    return gone;
}

static struct marked mark_once(struct service_fixture *f, const char *request_id, int *deaths)
{
    struct marked m;
    CreateMarkRequest req = mark_request("ws", ".");
    req.request_id = (char *)(uintptr_t)request_id;
    const char *reason = try_mark(f, &req, &m);
    if (died(f, reason, deaths))
        reason = try_mark(f, &req, &m);
    assert_string_equal(reason, "");
    return m;
}

static void delete_once(struct service_fixture *f, const char *id, int *deaths)
{
    const char *reason = delete_mark(f, id);
    if (died(f, reason, deaths)) {
        reason = delete_mark(f, id);
        if (!strcmp(reason, "MARK_NOT_FOUND"))
            return; /* it was deleted, and the service died before it could say so */
    }
    assert_string_equal(reason, "");
}

struct rest {
    struct service_fixture *f;
    char *blobs, *lists;
    int *deaths;
};

/* A sweep dies by itself, before or after it has done its work. */
static bool swept(void *user)
{
    struct rest *r = user;
    if (r->f->fault && has_died(r->f)) {
        revive(r->f);
        ++*r->deaths;
    }
    return !r->f->fault && count_files(r->blobs) == 2 && count_files(r->lists) == 1;
}

static void die_at(const char *point, int hit)
{
    struct service_fixture f = service_new(NULL);
    cleanup_free char *root = sa_format("ws=%s", f.ws), *fault = sa_format("%s:%d", point, hit);
    int deaths = 0;
    print_message("%s\n", point);
    f.extra[0] = "--fs-root";
    f.extra[1] = root;
    f.faulty = true;
    f.fault = fault;
    test_put(f.ws, "a", "one\n");
    test_put(f.ws, "b", "two\n");
    service_up(&f);
    struct marked first = mark_once(&f, "first", &deaths);
    test_put(f.ws, "a", "three\n");
    struct marked second = mark_once(&f, "second", &deaths);
    assert_int_equal(count_marks(&f), 2);
    cleanup_free char *diff = diff_of(&f, &first, &second, true);
    assert_non_null(strstr(diff, "-one\n+three\n"));
    delete_once(&f, first.id, &deaths);
    struct rest r = {.f = &f,
                     .blobs = sa_format("%s/fs/marks/blobs", f.data),
                     .lists = sa_format("%s/fs/marks/lists", f.data),
                     .deaths = &deaths};
    wait_until(swept, &r, "what no mark knows is gone");
    assert_int_equal(count_marks(&f), 1);
    if (deaths != 1)
        fail_msg("the service died %d times at %s", deaths, point);
    free(r.blobs);
    free(r.lists);
    service_free(&f);
}

static void a_death_at_any_point_changes_nothing(void **state)
{
    (void)state;
    cleanup_buf struct sa_buf points = {0};
    int n = 0;
    assert_int_equal(sa_read_file(POINTS, 65536, &points, NULL), 0);
    for (char *rest, *point = strtok_r(sa_buf_string(&points), "\n", &rest); point;
         point = strtok_r(NULL, "\n", &rest)) {
        if (strncmp(point, "mark.", 5) != 0)
            continue;
        /* The first sweep is the start's; the second one has something to do. */
        die_at(point, strstr(point, "sweep") ? 2 : 1);
        n++;
    }
    assert_int_equal(n, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_death_at_any_point_changes_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
