/* The store does not grow for ever: the oldest of those that have ended are forgotten. */
#include "services/process-svc/tests/fixture.h"

#include <dirent.h>

#include "adapters/os/clock.h"

enum { KEPT = 20, STARTED = 50 };

static size_t directories(const struct svc *s)
{
    cleanup_free char *path = sa_format("%s/process/processes", s->dir);
    DIR *d = opendir(path);
    size_t n = 0;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += strlen(e->d_name) == SA_ID_TEXT;
    closedir(d);
    return n;
}

static size_t listed(struct svc *s, const char *id)
{
    sa_error *err = NULL;
    ListProcessesRequest req = LIST_PROCESSES_REQUEST__INIT;
    req.page_size = 1000;
    ListProcessesResponse *res = list_processes_wait(s->channel, &req, NULL, &err);
    assert_non_null(res);
    size_t n = 0;
    for (size_t i = 0; i < res->n_processes; i++)
        n += !id || !strcmp(res->processes[i]->process_id, id);
    rpc_message_free(res);
    return n;
}

static bool has_few(void *user)
{
    return directories(user) <= KEPT + 2 && listed(user, NULL) <= KEPT + 2;
}

static void the_oldest_ended_ones_are_forgotten(void **state)
{
    static const char *const extra[] = {"--max-ended", "20", NULL};
    (void)state;
    struct svc s = svc_start(extra);
    const char *ids[STARTED];
    const char *runs = start_shell(&s, "exec sleep 1000");
    const char *left = start_shell(&s, "sleep 1000 & exit 0");
    wait_for(&s, left);
    for (int i = 0; i < STARTED; i++) {
        ids[i] = start_shell(&s, "exit 0");
        wait_for(&s, ids[i]);
    }
    wait_until(has_few, &s, "the oldest are forgotten");
    assert_int_equal(listed(&s, runs), 1);
    assert_int_equal(listed(&s, left), 1);
    assert_int_equal(listed(&s, ids[0]), 0);
    for (int i = STARTED - 10; i < STARTED; i++)
        assert_int_equal(listed(&s, ids[i]), 1);
    assert_string_equal(read_error(&s, ids[0], OUTPUT_STREAM_STDOUT, 0), "PROCESS_NOT_FOUND");
    svc_kill(&s);
    svc_again(&s, extra); /* which counts them anew */
    assert_true(has_few(&s));
    assert_int_equal(get(&s, left)->descendants, true);
    delete_it(&s, left, true);
    delete_it(&s, runs, true);
    svc_stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_oldest_ended_ones_are_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
