/* kill -9 of the service in the middle of many starts and deletions: with request ids each start happens
 * exactly once, nothing runs that is not listed, nothing is listed that does not run. */
#include "services/process-svc/tests/fixture.h"

#include <dirent.h>

#include "adapters/os/clock.h"
#include "adapters/os/file.h"

enum { ROUNDS = 12, STARTS = 12 };

struct burst {
    struct svc *s;
    int answered, left, kill_after;
};

static void answered(struct burst *b, bool ok)
{
    b->left--;
    if (ok && ++b->answered == b->kill_after)
        program_signal(&b->s->program, SIGKILL);
}

static void on_started(void *user, const StartProcessResponse *res, const sa_error *err)
{
    (void)err;
    answered(user, res);
}

static void on_deleted(void *user, const DeleteProcessResponse *res, const sa_error *err)
{
    (void)err;
    answered(user, res);
}

static bool all_answered(void *user)
{
    struct burst *b = user;
    sa_loop_lock(b->s->caller.loop);
    bool done = b->left == 0;
    sa_loop_unlock(b->s->caller.loop);
    return done;
}

static struct spec *spec_of(const char *dir, int round, int i)
{
    static char command[256];
    snprintf(command, sizeof command, "echo $$ >>%s/%d-%d; exec sleep 1000", dir, round, i);
    return shell(command);
}

static void request_id_of(char *text, size_t n, int round, int i)
{
    snprintf(text, n, "start-%d-%d", round, i);
}

static int random_below(int n)
{
    uint32_t r;
    sa_random(&r, sizeof r);
    return (int)(r % (uint32_t)n);
}

static void start_burst(struct svc *s, const char *dir, int round)
{
    struct burst b = {s, 0, STARTS, random_below(STARTS) + 1};
    struct rpc_call_options opt = {.deadline_ms = PATIENCE_MS};
    sa_loop_lock(s->caller.loop);
    for (int i = 0; i < STARTS; i++) {
        char id[32];
        StartProcessRequest req = START_PROCESS_REQUEST__INIT;
        struct spec *spec = spec_of(dir, round, i);
        request_id_of(id, sizeof id, round, i);
        req.spec = &spec->message;
        req.request_id = id;
        start_process_call(s->channel, &req, &opt, on_started, &b);
        free(spec);
    }
    sa_loop_unlock(s->caller.loop);
    wait_until(all_answered, &b, "every start was answered or failed");
}

static void delete_burst(struct svc *s, char ids[STARTS][32])
{
    struct burst b = {s, 0, STARTS, random_below(STARTS) + 1};
    struct rpc_call_options opt = {.deadline_ms = PATIENCE_MS};
    sa_loop_lock(s->caller.loop);
    for (int i = 0; i < STARTS; i++) {
        DeleteProcessRequest req = DELETE_PROCESS_REQUEST__INIT;
        req.process_id = ids[i];
        req.kill = true;
        delete_process_call(s->channel, &req, &opt, on_deleted, &b);
    }
    sa_loop_unlock(s->caller.loop);
    wait_until(all_answered, &b, "every deletion was answered or failed");
}

/* Repeats every start: its process; each command has run exactly once. */
static void repeat_starts(struct svc *s, const char *dir, int round, char ret_ids[STARTS][32])
{
    for (int i = 0; i < STARTS; i++) {
        char request_id[32];
        sa_error *err = NULL;
        StartProcessRequest req = START_PROCESS_REQUEST__INIT;
        struct spec *spec = spec_of(dir, round, i);
        request_id_of(request_id, sizeof request_id, round, i);
        req.spec = &spec->message;
        req.request_id = request_id;
        StartProcessResponse *res = start_process_wait(s->channel, &req, NULL, &err);
        if (!res)
            fail_msg("%s", err->message);
        snprintf(ret_ids[i], 32, "%s", res->process->process_id);
        cleanup_free char *path = sa_format("%s/%d-%d", dir, round, i);
        assert_int_equal(pid_in_file(path), res->process->pid);
        struct stat st;
        cleanup_free char *line = sa_format("%u\n", res->process->pid);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_size, strlen(line));
        rpc_message_free(res);
        free(spec);
    }
}

static size_t listed(struct svc *s)
{
    ListProcessesRequest req = LIST_PROCESSES_REQUEST__INIT;
    req.page_size = 1000;
    ListProcessesResponse *res = list_processes_wait(s->channel, &req, NULL, NULL);
    assert_non_null(res);
    size_t n = res->n_processes;
    rpc_message_free(res);
    return n;
}

static size_t directories(struct svc *s)
{
    cleanup_free char *path = sa_format("%s/process/processes", s->dir);
    DIR *d = opendir(path);
    size_t n = 0;
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static bool no_directories(void *user)
{
    return directories(user) == 0;
}

static bool one_directory_each(void *user)
{
    return directories(user) == STARTS;
}

static void every_start_happens_once_however_often_the_service_is_killed(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    for (int round = 0; round < ROUNDS; round++) {
        char ids[STARTS][32];
        start_burst(s, dir, round);
        svc_kill(s);
        svc_again(s, NULL);
        repeat_starts(s, dir, round, ids);
        assert_int_equal(listed(s), STARTS);
        wait_until(one_directory_each, s, "directories of starts that were undone are removed");
        delete_burst(s, ids);
        svc_kill(s);
        svc_again(s, NULL);
        for (int i = 0; i < STARTS; i++) {
            const char *reason = delete_error(s, ids[i], true);
            assert_true(!strcmp(reason, "OK") || !strcmp(reason, "PROCESS_NOT_FOUND"));
        }
        assert_int_equal(listed(s), 0);
        wait_until(no_directories, s, "directories are removed");
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, svc_setup, svc_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(every_start_happens_once_however_often_the_service_is_killed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
