/* Dies at every fault point of the service once. Whatever was asked for is asked again after the restart;
 * then it has happened, and once. */
#include "services/process-svc/tests/fixture.h"

#include <sys/wait.h>

#include "adapters/os/file.h"

#define POINTS "services/process-svc/fault_points"

/* Starts the service again when it has died. */
static bool revived(struct svc *s)
{
    int status = 0;
    if (waitpid(s->program.pid, &status, WNOHANG) == 0)
        return false;
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    s->program.pid = 0;
    s->fault = NULL;
    caller_close(&s->caller);
    program_free(&s->program);
    svc_again(s, NULL);
    return true;
}

static bool has_died(void *user)
{
    struct svc *s = user;
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)s->program.pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0;
}

/* Was the call answered? If not, the service has died and is started again. */
static bool answered(struct svc *s, const void *res, sa_error **err, int *deaths)
{
    if (res)
        return true;
    if ((*err)->code != SA_CODE_UNAVAILABLE && (*err)->code != SA_CODE_CANCELLED)
        fail_msg("%s: %s", (*err)->reason, (*err)->message);
    sa_error_free(*err);
    *err = NULL;
    wait_until(has_died, s, "the service has died");
    assert_true(revived(s));
    ++*deaths;
    return false;
}

static void start_it(struct svc *s, struct spec *spec, const char *request_id, char ret_id[32], int *deaths)
{
    StartProcessResponse *res = NULL;
    StartProcessRequest req = START_PROCESS_REQUEST__INIT;
    sa_error *err = NULL;
    req.spec = &spec->message;
    req.request_id = (char *)(uintptr_t)request_id;
    do
        res = start_process_wait(s->channel, &req, NULL, &err);
    while (!answered(s, res, &err, deaths));
    snprintf(ret_id, 32, "%s", res->process->process_id);
    rpc_message_free(res);
    free(spec);
}

static void await_it(struct svc *s, const char *id, int *deaths)
{
    WaitProcessRequest req = WAIT_PROCESS_REQUEST__INIT;
    WaitProcessResponse *res = NULL;
    sa_error *err = NULL;
    req.process_id = (char *)(uintptr_t)id;
    do
        res = wait_process_wait(s->channel, &req, NULL, &err);
    while (!answered(s, res, &err, deaths));
    assert_int_equal(res->exit->exit_code, 4);
    rpc_message_free(res);
}

static void delete_once(struct svc *s, const char *id, int *deaths)
{
    DeleteProcessRequest req = DELETE_PROCESS_REQUEST__INIT;
    DeleteProcessResponse *res = NULL;
    sa_error *err = NULL;
    req.process_id = (char *)(uintptr_t)id;
    req.kill = true;
    do {
        res = delete_process_wait(s->channel, &req, NULL, &err);
        if (!res && sa_error_is(err, SA_PROCESS_NOT_FOUND) && *deaths)
            break; /* it was deleted, and the service died before it could say so */
    } while (!answered(s, res, &err, deaths));
    sa_error_free(err);
    rpc_message_free(res);
}

static void run_it(struct svc *s, int *deaths)
{
    RunProcessRequest req = RUN_PROCESS_REQUEST__INIT;
    RunProcessResponse *res = NULL;
    struct spec *spec = shell("echo ran; sleep 1000 & exit 5");
    sa_error *err = NULL;
    req.spec = &spec->message;
    do
        res = run_process_wait(s->channel, &req, NULL, &err);
    while (!answered(s, res, &err, deaths));
    assert_int_equal(res->exit->exit_code, 5);
    assert_int_equal(res->stdout.len, 4);
    rpc_message_free(res);
    free(spec);
}

static void configure(struct svc *s, int *deaths)
{
    SetConfigRequest req = SET_CONFIG_REQUEST__INIT;
    SetConfigResponse *res = NULL;
    ProcessConfig config = PROCESS_CONFIG__INIT;
    sa_error *err = NULL;
    config._max_runs_case = PROCESS_CONFIG___MAX_RUNS_MAX_RUNS;
    config.max_runs = 3;
    req.config = &config;
    do
        res = set_config_wait(s->channel, &req, NULL, &err);
    while (!answered(s, res, &err, deaths));
    assert_int_equal(res->config->max_runs, 3);
    rpc_message_free(res);
}

/* ---- a process that fails once, is started again, and must be stopped ---- */

/* Waits until the second run is known. */
static void await_second_run(struct svc *s, const char *id, int *deaths)
{
    for (bool again = false; !again;) {
        GetProcessRequest req = GET_PROCESS_REQUEST__INIT;
        sa_error *err = NULL;
        req.process_id = (char *)(uintptr_t)id;
        GetProcessResponse *res = get_process_wait(s->channel, &req, NULL, &err);
        if (!answered(s, res, &err, deaths))
            continue;
        again = res->process->restarts == 1 && res->process->state == PROCESS_STATE_RUNNING;
        rpc_message_free(res);
    }
}

static void stop_once(struct svc *s, const char *id, int *deaths)
{
    StopProcessRequest req = STOP_PROCESS_REQUEST__INIT;
    StopProcessResponse *res = NULL;
    sa_error *err = NULL;
    req.process_id = (char *)(uintptr_t)id;
    req._grace_ms_case = STOP_PROCESS_REQUEST___GRACE_MS_GRACE_MS;
    req.grace_ms = 20;
    do
        res = stop_process_wait(s->channel, &req, NULL, &err);
    while (!answered(s, res, &err, deaths));
    assert_int_equal(res->exit->signal, SIGKILL);
    rpc_message_free(res);
    Process *p = get(s, id);
    assert_int_equal(p->state, PROCESS_STATE_EXITED);
    assert_int_equal(p->restarts, 1);
    assert_int_equal(p->stop_signal, 0);
    assert_false(p->descendants);
}

static void die_in_a_stop(struct svc *s, int *deaths)
{
    char id[32];
    cleanup_free char *file = sa_format("%s/runs", s->dir), *deaf = sa_format("%s/deaf", s->dir);
    cleanup_free char *command = sa_format("echo $$ >>%s; [ $(wc -l <%s) = 2 ] || exit 1; trap '' TERM;"
                                           "echo $$ >%s; while :; do sleep 1; done",
                                           file, file, deaf);
    struct spec *spec = shell(command);
    spec_restart(spec, RESTART_MODE_ALWAYS, 1, 1000, 1000);
    start_it(s, spec, "twice", id, deaths);
    await_second_run(s, id, deaths);
    pid_in_file(deaf);
    stop_once(s, id, deaths);
    cleanup_buf struct sa_buf runs = {0};
    assert_int_equal(sa_read_file(file, 4096, &runs, NULL), 0);
    int n = 0;
    for (size_t i = 0; i < runs.len; i++)
        n += runs.data[i] == '\n';
    assert_int_equal(n, 2);
}

static bool no_directory(void *user)
{
    return access(user, F_OK) != 0;
}

static void die_at(const char *point)
{
    struct svc s = {.dir = harness_dir(), .fault = point};
    char id[32];
    int deaths = 0;
    cleanup_free char *file = sa_format("%s/pid", s.dir);
    cleanup_free char *command = sa_format("echo $$ >>%s; echo hello; exit 4", file);
    svc_again(&s, NULL);
    configure(&s, &deaths);
    run_it(&s, &deaths);
    start_it(&s, shell(command), "once", id, &deaths);
    await_it(&s, id, &deaths);
    assert_string_equal(output_of(&s, id, OUTPUT_STREAM_STDOUT, 0), "hello\n");
    delete_once(&s, id, &deaths);
    die_in_a_stop(&s, &deaths);
    if (deaths != 1)
        fail_msg("the service died %d times at %s", deaths, point);
    cleanup_buf struct sa_buf pids = {0};
    assert_int_equal(sa_read_file(file, 4096, &pids, NULL), 0);
    if (memchr(pids.data, '\n', pids.len) != pids.data + pids.len - 1)
        fail_msg("dying at %s, it was started more than once", point);
    cleanup_free char *directory = sa_format("%s/process/processes/%s", s.dir, id);
    wait_until(no_directory, directory, "the directory is removed");
    svc_stop(&s);
}

static void a_death_at_any_point_changes_nothing(void **state)
{
    (void)state;
    cleanup_buf struct sa_buf points = {0};
    int n = 0;
    assert_int_equal(sa_read_file(POINTS, 65536, &points, NULL), 0);
    for (char *rest, *point = strtok_r(sa_buf_string(&points), "\n", &rest); point;
         point = strtok_r(NULL, "\n", &rest), n++)
        die_at(point);
    assert_true(n >= 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_death_at_any_point_changes_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
