/* Dies at every step of every way to change a file, each time it comes there. The file is then what it was or
 * what it was to be, nothing is left beside it after the restart, and what was asked for is done when it is
 * asked again, once. */
#include "services/fs-svc/upload_fixture.h"

#include <sys/wait.h>

#include "adapters/os/file.h"

#define POINTS "services/fs-svc/content_fault_points"
#define OLD "old content, "
#define DATA "new data"

enum { UPLOAD_SIZE = 3 << 20 };

struct way {
    const char *name, *target; /* what the file is to be; NULL: an upload */
    WriteMethod method;
    uint64_t offset;
    bool in_place; /* the one way that may leave a part of the data */
    bool quick;    /* without a request_id */
    void (*run)(struct service_fixture *f, const struct way *w);
    void (*check)(struct service_fixture *f, const struct way *w);
};

/* ---- the ways ---- */

static void write_it(struct service_fixture *f, const struct way *w)
{
    struct rpc_stream *s = write_file_begin(f->caller.channel, &patient);
    WriteFileRequest msg = WRITE_FILE_REQUEST__INIT;
    WriteFileOpen open = WRITE_FILE_OPEN__INIT;
    open.root = (char *)(uintptr_t) "ws";
    open.path = bytes("file");
    open.method = w->method;
    open.offset = w->offset;
    open.in_place = w->in_place;
    open.request_id = (char *)(uintptr_t)(w->quick ? "" : "once");
    msg.kind_case = WRITE_FILE_REQUEST__KIND_OPEN;
    msg.open = &open;
    write_file_put(s, &msg, NULL);
    write_data(s, DATA, strlen(DATA));
    write_end(s, NULL);
}

static void check_written(struct service_fixture *f, const struct way *w)
{
    cleanup_free char *got = test_get(f->ws, "file");
    size_t n = strlen(got);
    if (w->in_place && n >= strlen(OLD) && n <= strlen(w->target) && !strncmp(got, w->target, n))
        return;
    if (strcmp(got, OLD) != 0 && strcmp(got, w->target) != 0)
        fail_msg("%s: it is `%s` now", w->name, got);
}

static void upload_it(struct service_fixture *f, const struct way *w)
{
    (void)w;
    char id[UPLOAD_ID_TEXT];
    uint64_t committed = 0;
    struct up u = {.root = "ws", .path = "file", .request_id = "once"};
    if (*upload_begin(f, &u, id, &committed))
        return;
    if (committed < UPLOAD_SIZE / 2 && *upload_part(f, id, committed, UPLOAD_SIZE / 2, &committed))
        return;
    if (committed < UPLOAD_SIZE && *upload_part(f, id, committed, UPLOAD_SIZE, &committed))
        return;
    upload_commit(f, id, NULL);
}

static void check_upload(struct service_fixture *f, const struct way *w)
{
    (void)w;
    struct stat st;
    cleanup_free char *path = sa_format("%s/file", f->ws);
    assert_int_equal(stat(path, &st), 0);
    if (st.st_size != (off_t)strlen(OLD))
        assert_uploaded(f->ws, "file", UPLOAD_SIZE);
}

/* Begins and gives up what it may have begun before. */
static void give_up(struct service_fixture *f, const struct way *w)
{
    (void)w;
    char id[UPLOAD_ID_TEXT];
    struct up u = {.root = "ws", .path = "file", .request_id = "never"};
    if (!*upload_begin(f, &u, id, NULL) && !*upload_part(f, id, 0, 1000, NULL))
        upload_abort(f, id);
}

static void check_old(struct service_fixture *f, const struct way *w)
{
    (void)w;
    cleanup_free char *got = test_get(f->ws, "file");
    assert_string_equal(got, OLD);
}

static const struct way ways[] = {
    {"replace", DATA, WRITE_METHOD_REPLACE, .run = write_it, .check = check_written},
    {"quick replace", DATA, WRITE_METHOD_REPLACE, .quick = true, .run = write_it, .check = check_written},
    {"append", OLD DATA, WRITE_METHOD_APPEND, .run = write_it, .check = check_written},
    {"at an offset", "old new data ", WRITE_METHOD_AT_OFFSET, 4, .run = write_it, .check = check_written},
    {"in place", OLD DATA, WRITE_METHOD_APPEND, .in_place = true, .run = write_it, .check = check_written},
    {"upload", NULL, .run = upload_it, .check = check_upload},
    {"give up", NULL, .run = give_up, .check = check_old},
};

/* ---- the deaths ---- */

static bool has_died(struct service_fixture *f)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)f->program.pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid;
}

static bool is_dead(void *user)
{
    return has_died(user);
}

/* A call that fails means that the service is dying. */
static bool dies(struct service_fixture *f, const struct way *w)
{
    w->run(f, w);
    /* A quick write is answered before all is over: what is answered after the next one's record was not. */
    struct writer barrier = {.root = "ws", .path = "other", .request_id = "barrier"};
    if (w->quick && !*call_reason)
        write_text(f, &barrier, "");
    if (!*call_reason)
        return has_died(f);
    wait_until(is_dead, f, "the service has died");
    return true;
}

static bool die_at(const struct way *w, const char *point, int hit)
{
    struct service_fixture f = service_new(NULL);
    cleanup_free char *root = sa_format("ws=%s", f.ws);
    cleanup_free char *fault = sa_format("%s:%d", point, hit);
    f.extra[0] = "--fs-root";
    f.extra[1] = root;
    test_put(f.ws, "file", OLD);
    f.faulty = true;
    f.fault = fault;
    service_up(&f);
    bool died = dies(&f, w);
    w->check(&f, w);
    if (died) {
        service_kill(&f);
        w->check(&f, w);
        f.faulty = false;
        f.fault = NULL;
        service_up(&f);
        w->check(&f, w);
        if (w->target && temporary_files(f.ws))
            fail_msg("%s, death at %s:%d: a temporary file is left", w->name, point, hit);
        w->run(&f, w);
        if (*call_reason)
            fail_msg("%s, after a death at %s:%d: %s", w->name, point, hit, call_reason);
        if (!w->in_place)
            w->check(&f, w);
    }
    if (temporary_files(f.ws))
        fail_msg("%s, death at %s:%d: a temporary file is left at the end", w->name, point, hit);
    cleanup_free char *path = sa_format("%s/file", f.ws);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    if (w->target && !w->in_place)
        assert_int_equal(st.st_size, strlen(w->target));
    if (w->run == upload_it)
        assert_int_equal(st.st_size, UPLOAD_SIZE);
    service_free(&f);
    return died;
}

static void a_death_at_any_step_leaves_old_or_new(void **state)
{
    (void)state;
    cleanup_buf struct sa_buf points = {0};
    int deaths = 0;
    assert_int_equal(sa_read_file(POINTS, 65536, &points, NULL), 0);
    for (char *rest, *point = strtok_r(sa_buf_string(&points), "\n", &rest); point;
         point = strtok_r(NULL, "\n", &rest))
        for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
            for (int hit = 1; die_at(&ways[i], point, hit); hit++)
                deaths++;
    print_message("%d deaths\n", deaths);
    assert_true(deaths >= 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_death_at_any_step_leaves_old_or_new)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
