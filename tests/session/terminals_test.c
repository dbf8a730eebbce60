/* Commands that an agent runs through the client: terminal/create and what follows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/file.h"
#include "sandboxagent/process/v1/process_service.rpc.h"
#include "tests/session/stack.h"

static struct stack *stack;

static int start(void **state)
{
    (void)state;
    stack = stack_start(NULL);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    stack_free(stack);
    return 0;
}

static char *run(const char *id, struct viewer *v, const char *prompt)
{
    uint64_t turn = send_prompt(stack, id, prompt);
    viewer_turn_end(v, turn);
    return viewer_text(v, turn);
}

static size_t known_processes(const char *label)
{
    cleanup_free char *target = sa_format("unix:%s/run/process.sock", stack->dir);
    const char *metadata[] = {"x-service-secret", stack->secret, "x-principal", "tester", NULL};
    struct caller c = caller_open(target, NULL, metadata);
    ListProcessesRequest req = LIST_PROCESSES_REQUEST__INIT;
    struct rpc_call_options opt = {.wait_for_ready = true};
    req.label_key = (char *)(uintptr_t)label;
    ListProcessesResponse *res = list_processes_wait(c.channel, &req, &opt, NULL);
    assert_non_null(res);
    size_t n = res->n_processes;
    rpc_message_free(res);
    caller_close(&c);
    return n;
}

static bool none_is_left(void *user)
{
    (void)user;
    return !known_processes("terminal");
}

static void a_command_runs_and_the_log_says_what_and_how(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", (const char *[]){"OF_SESSION=here", NULL});
    struct viewer *v = viewer_open(stack, id);
    cleanup_free char *text =
        run(id, v, "TERMINAL echo out; echo $OF_SESSION $MOCK_TERMINAL; pwd; echo err >&2; exit 3");
    cleanup_free char *expected =
        sa_format("terminal: exit 3 signal null: out\nhere yes\n%s\nerr\n\n", stack->home);
    assert_string_equal(text, expected);
    const Event *started = viewer_until(v, 0, EVENT__KIND_TERMINAL_STARTED, 1);
    const TerminalStarted *s = started->terminal_started;
    assert_int_equal(s->n_argv, 3);
    assert_memory_equal(s->argv[0].data, "/bin/sh", 7);
    assert_true(*s->process_id && !*s->error_reason);
    const Event *ended = viewer_until(v, started->seq, EVENT__KIND_TERMINAL_ENDED, 1);
    assert_string_equal(ended->terminal_ended->terminal_id, s->terminal_id);
    assert_int_equal(ended->terminal_ended->kind_case, TERMINAL_ENDED__KIND_EXIT_CODE);
    assert_int_equal(ended->terminal_ended->exit_code, 3);
    wait_until(none_is_left, NULL, "released terminals are deleted");
    viewer_close(v);
}

static void a_program_that_is_not_there_is_an_answer(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    cleanup_free char *text = run(id, v, "TERMINAL no-such-program");
    assert_non_null(strstr(text, "terminal: refused: "));
    assert_non_null(strstr(text, "no-such-program"));
    const Event *started = viewer_until(v, 0, EVENT__KIND_TERMINAL_STARTED, 1);
    assert_string_equal(started->terminal_started->error_reason, "EXEC_FAILED");
    cleanup_free char *unknown = run(id, v, "ASK terminal/output");
    assert_string_equal(unknown, "error: -32002\n");
    cleanup_free char *invalid = run(id, v, "ASK terminal/create");
    assert_string_equal(invalid, "error: -32602\n");
    viewer_close(v);
}

/* The oldest bytes go, and never a part of a character. */
static void output_is_cut_to_its_limit_between_characters(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    cleanup_free char *whole = run(id, v, "TERMLIMIT 7 printf aäää | tail -c 5");
    assert_string_equal(whole, "terminal: exit 0 signal null: \uFFFDää\n"); /* 1 byte became 3 */
    cleanup_free char *cut = run(id, v, "TERMLIMIT 5 printf aäää");
    assert_string_equal(cut, "terminal: exit 0 signal null truncated: ää\n");
    cleanup_free char *none = run(id, v, "TERMLIMIT 0 printf aäää");
    assert_string_equal(none, "terminal: exit 0 signal null truncated: \n");
    cleanup_free char *large = run(id, v, "TERMLIMIT 100000 yes 0123456789 | head -c 5000000");
    assert_int_equal(strlen(large), strlen("terminal: exit 0 signal null truncated: \n") + 100000);
    viewer_close(v);
}

static void a_kill_ends_the_command_and_keeps_its_output(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    cleanup_free char *text = run(id, v, "TERMKILL echo begun; sleep 1000; echo never");
    assert_string_equal(text, "terminal: exit null signal \"SIGTERM\": begun\n\n");
    const Event *ended = viewer_until(v, 0, EVENT__KIND_TERMINAL_ENDED, 1);
    assert_int_equal(ended->terminal_ended->signal, SIGTERM);
    viewer_close(v);
}

/* The agent waits for the exit while both services are killed; it is told once, by those that come back. */
static void a_wait_survives_both_services(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    cleanup_free char *go = sa_format("%s/go", stack->home), *ran = sa_format("%s/ran", stack->home);
    cleanup_free char *prompt =
        sa_format("TERMINAL echo x >> %s; while [ ! -e %s ]; do sleep 0.02; done; exit 7", ran, go);
    struct viewer *v = viewer_open(stack, id);
    uint64_t turn = send_prompt(stack, id, prompt);
    viewer_until(v, 0, EVENT__KIND_TERMINAL_STARTED, turn);
    stack_crash_session(stack);
    stack_crash_process(stack);
    assert_int_equal(sa_write_file(go, "", 0, 0644, NULL), 0);
    stack_crash_session(stack);
    viewer_turn_end(v, turn);
    cleanup_free char *text = viewer_text(v, turn);
    assert_string_equal(text, "terminal: exit 7 signal null: \n");
    assert_int_equal(viewer_count(v, EVENT__KIND_TERMINAL_STARTED), 1);
    assert_int_equal(viewer_count(v, EVENT__KIND_TERMINAL_ENDED), 1);
    cleanup_buf struct sa_buf times = {0};
    assert_int_equal(sa_read_file(ran, 100, &times, NULL), 0);
    assert_string_equal(sa_buf_string(&times), "x\n");
    viewer_close(v);
}

/* An agent that dies with its request on the way: whether the command was started or not, nothing is left. */
static void what_an_agent_leaves_is_deleted(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    for (int i = 0; i < 4; i++) {
        uint64_t turn =
            send_prompt(stack, id, i % 2 ? "TERMDROP sleep 1000 & sleep 1001" : "TERMDROP sleep 1000");
        assert_int_equal(viewer_turn_end(v, turn)->turn_ended->stop_reason, STOP_REASON_AGENT_EXITED);
        if (i > 1)
            stack_crash_session(stack);
        wait_until(none_is_left, NULL, "the terminals of an ended agent are deleted");
    }
    uint64_t turn = send_prompt(stack, id, "TERMINAL sleep 1000");
    viewer_until(v, 0, EVENT__KIND_TERMINAL_STARTED, turn);
    destroy_session(stack, id);
    viewer_turn_end(v, turn);
    const Event *ended = viewer_until(v, 0, EVENT__KIND_TERMINAL_ENDED, turn);
    assert_string_equal(ended->terminal_ended->killed, "AGENT_EXITED");
    wait_until(none_is_left, NULL, "the terminals of a destroyed session are deleted");
    viewer_close(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_runs_and_the_log_says_what_and_how),
        cmocka_unit_test(a_program_that_is_not_there_is_an_answer),
        cmocka_unit_test(output_is_cut_to_its_limit_between_characters),
        cmocka_unit_test(a_kill_ends_the_command_and_keeps_its_output),
        cmocka_unit_test(a_wait_survives_both_services),
        cmocka_unit_test(what_an_agent_leaves_is_deleted),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
