/* RunProcess: one command to its end, and nothing of it afterwards. */
#include "services/process-svc/tests/fixture.h"

static void a_command_runs_to_its_end(void **state)
{
    struct svc *s = *state;
    RunProcessRequest req = RUN_PROCESS_REQUEST__INIT;
    uint8_t input[] = {'a', 0, 0xff, '\n'};
    req.stdin = (ProtobufCBinaryData){sizeof input, input};
    RunProcessResponse *r = run(s, shell("cat; echo error >&2; exit 9"), &req);
    assert_int_equal(r->exit->exit_code, 9);
    assert_int_equal(r->stdout.len, sizeof input);
    assert_memory_equal(r->stdout.data, input, sizeof input);
    assert_int_equal(r->stderr.len, 6);
    assert_false(r->timed_out);
    assert_false(r->stdout_truncated);
    assert_true(r->duration_ms < PATIENCE_MS);
    r = run(s, shell("kill -15 $$"), NULL);
    assert_int_equal(r->exit->signal, SIGTERM);
}

static void large_input_and_output_pass(void **state)
{
    struct svc *s = *state;
    RunProcessRequest req = RUN_PROCESS_REQUEST__INIT;
    uint8_t *input = malloc(MIB);
    for (size_t i = 0; i < MIB; i++)
        input[i] = (uint8_t)(i * 7 + i / 251);
    req.stdin = (ProtobufCBinaryData){MIB, input};
    RunProcessResponse *r = run(s, shell("exec cat"), &req);
    assert_int_equal(r->stdout.len, MIB);
    assert_memory_equal(r->stdout.data, input, MIB);
    assert_false(r->stdout_truncated);
    /* What the command does not read is no error. */
    r = run(s, shell("exec true"), &req);
    assert_int_equal(r->exit->exit_code, 0);
    free(input);
}

static void output_beyond_the_cap_is_dropped_and_said_to_be(void **state)
{
    struct svc *s = *state;
    RunProcessRequest req = RUN_PROCESS_REQUEST__INIT;
    req.max_output_bytes = 1000;
    RunProcessResponse *r = run(s, shell(counting(MIB / LINE)), &req);
    assert_int_equal(r->exit->exit_code, 0); /* the command was not stopped */
    assert_int_equal(r->stdout.len, 1000);
    assert_counts(r->stdout.data, 1000, 0);
    assert_true(r->stdout_truncated);
    assert_false(r->stderr_truncated);
    r = run(s, shell("printf %01000d 0 >&2"), &req);
    assert_int_equal(r->stderr.len, 1000);
    assert_false(r->stderr_truncated);
    r = run(s, shell("printf %01001d 0 >&2"), &req);
    assert_int_equal(r->stderr.len, 1000);
    assert_true(r->stderr_truncated);
}

static void a_background_grandchild_neither_holds_the_reply_nor_survives(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *file = sa_format("%s/pid", dir);
    cleanup_free char *command =
        sa_format("setsid sh -c 'trap \"\" TERM HUP; echo $$ >%s; while :; do sleep 1; done' & "
                  "while ! test -s %s; do sleep 0.01; done; echo done",
                  file, file);
    RunProcessResponse *r = run(s, shell(command), NULL);
    assert_memory_equal(r->stdout.data, "done\n", 5);
    assert_int_equal(r->exit->exit_code, 0);
    assert_false(pid_alive(pid_in_file(file)));
}

static void the_timeout_kills_the_whole_tree(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *file = sa_format("%s/pid", dir);
    cleanup_free char *command =
        sa_format("trap '' TERM; setsid sh -c 'echo $$ >%s; exec sleep 1000' & echo begun; "
                  "while :; do sleep 1; done",
                  file);
    RunProcessRequest req = RUN_PROCESS_REQUEST__INIT;
    req.timeout_ms = 300;
    RunProcessResponse *r = run(s, shell(command), &req);
    assert_true(r->timed_out);
    assert_int_equal(r->exit->signal, SIGKILL);
    assert_memory_equal(r->stdout.data, "begun\n", 6);
    assert_true(r->duration_ms >= 300 && r->duration_ms < 10000);
    assert_false(pid_alive(pid_in_file(file)));
}

static void a_caller_that_leaves_ends_its_command(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *file = sa_format("%s/pid", dir),
                      *command = sa_format("echo $$ >%s; exec sleep 1000", file);
    struct spec *spec = shell(command);
    RunProcessRequest req = RUN_PROCESS_REQUEST__INIT;
    struct rpc_call_options soon = {.deadline_ms = 500};
    sa_error *err = NULL;
    req.spec = &spec->message;
    assert_null(run_process_wait(s->channel, &req, &soon, &err));
    assert_int_equal(err->code, SA_CODE_DEADLINE_EXCEEDED);
    sa_error_free(err);
    free(spec);
    wait_pid_gone(pid_in_file(file));
}

static void ignored(void *user, const RunProcessResponse *res, const sa_error *err)
{
    (void)user, (void)res, (void)err;
}

static void a_killed_service_leaves_no_command(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *file = sa_format("%s/pid", dir);
    cleanup_free char *command = sa_format("setsid sh -c 'echo $$ >%s; exec sleep 1000' & sleep 1000", file);
    struct spec *spec = shell(command);
    RunProcessRequest req = RUN_PROCESS_REQUEST__INIT;
    req.spec = &spec->message;
    sa_loop_lock(s->caller.loop);
    run_process_call(s->channel, &req, NULL, ignored, NULL);
    sa_loop_unlock(s->caller.loop);
    free(spec);
    int pid = pid_in_file(file), parent = parent_of(pid);
    svc_kill(s);
    wait_pid_gone(pid);
    wait_pid_gone(parent);
    svc_again(s, NULL);
}

static void what_cannot_be_run_is_refused(void **state)
{
    struct svc *s = *state;
    assert_string_equal(run_error(s, shell(""), NULL), "OK");
    struct spec *spec = spec_new();
    spec_word(spec, "/no/such/program");
    assert_string_equal(run_error(s, spec, NULL), "EXEC_FAILED");
    assert_string_equal(run_error(s, spec_new(), NULL), "INVALID_REQUEST");
    RunProcessRequest req = RUN_PROCESS_REQUEST__INIT;
    req.timeout_ms = 600001;
    assert_string_equal(run_error(s, shell("true"), &req), "INVALID_REQUEST");
    req.timeout_ms = 0;
    req.max_output_bytes = MIB + 1;
    assert_string_equal(run_error(s, shell("true"), &req), "INVALID_REQUEST");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, svc_setup, svc_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_command_runs_to_its_end),
        TEST(large_input_and_output_pass),
        TEST(output_beyond_the_cap_is_dropped_and_said_to_be),
        TEST(a_background_grandchild_neither_holds_the_reply_nor_survives),
        TEST(the_timeout_kills_the_whole_tree),
        TEST(a_caller_that_leaves_ends_its_command),
        TEST(a_killed_service_leaves_no_command),
        TEST(what_cannot_be_run_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
