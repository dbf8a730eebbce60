/* Processes that are started again when they end. */
#include "services/process-svc/tests/fixture.h"

#include <fcntl.h>

#include "adapters/os/file.h"

enum { LONG_MS = 600000 };

static bool backs_off(const Process *p)
{
    return p->state == PROCESS_STATE_BACKING_OFF;
}

static bool runs_again(const Process *p)
{
    return p->state == PROCESS_STATE_RUNNING && p->restarts > 0;
}

static struct spec *again(const char *command, RestartMode mode, uint32_t backoff_ms, uint32_t max_ms,
                          uint32_t max)
{
    struct spec *spec = shell(command);
    spec_restart(spec, mode, backoff_ms, max_ms, max);
    return spec;
}

static void pauses_double_up_to_the_longest_and_end_with_giving_up(void **state)
{
    struct svc *s = *state;
    static const uint64_t at_least_ms[] = {40, 80, 100, 100};
    const char *id = start(s, again("date +%s%N; exit 1", RESTART_MODE_ON_FAILURE, 40, 100, 4));
    assert_int_equal(wait_for(s, id)->exit_code, 1);
    char *at = output_of(s, id, OUTPUT_STREAM_STDOUT, 0);
    uint64_t before = strtoull(at, &at, 10);
    for (int i = 0; i < 4; i++) {
        uint64_t now = strtoull(at, &at, 10);
        assert_true(now - before >= at_least_ms[i] * 1000000);
        before = now;
    }
    assert_string_equal(at, "\n"); /* five runs */
    Process *p = get(s, id);
    assert_int_equal(p->state, PROCESS_STATE_EXITED);
    assert_int_equal(p->restarts, 4);
    assert_int_equal(p->last_exit->exit_code, 1);
    assert_int_equal(p->spec->restart->backoff_ms, 40);
}

static void only_what_the_policy_says_is_started_again(void **state)
{
    struct svc *s = *state;
    const char *id = start(s, again("exit 0", RESTART_MODE_ON_FAILURE, 1, 1000, 3));
    assert_int_equal(wait_for(s, id)->exit_code, 0);
    assert_int_equal(get(s, id)->restarts, 0);
    id = start(s, again("exit 0", RESTART_MODE_ALWAYS, 1, 1000, 3));
    assert_int_equal(wait_for(s, id)->exit_code, 0);
    assert_int_equal(get(s, id)->restarts, 3);
    id = start(s, again("kill -9 $$", RESTART_MODE_ON_FAILURE, 1, 1000, 2));
    assert_int_equal(wait_for(s, id)->signal, SIGKILL);
    assert_int_equal(get(s, id)->restarts, 2);
}

/* Each run lasts longer than the longest pause: with only one restart allowed it would end soon. */
static void a_long_run_sets_the_count_back(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *command =
        sa_format("echo >>%s/runs; [ $(wc -l <%s/runs) = 5 ] && exit 0; sleep 0.05; exit 1", dir, dir);
    const char *id = start(s, again(command, RESTART_MODE_ON_FAILURE, 5, 20, 1));
    assert_int_equal(wait_for(s, id)->exit_code, 0);
    assert_int_equal(get(s, id)->restarts, 4);
}

static void what_a_run_left_is_gone_before_the_next(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *file = sa_format("%s/pid", dir);
    cleanup_free char *command = sa_format("[ -e %s ] && exec sleep 1000;"
                                           "setsid sh -c 'trap \"\" TERM; echo $$ >%s; exec sleep 1000' &"
                                           "while ! [ -s %s ]; do :; done; exit 1",
                                           file, file, file);
    const char *id = start(s, again(command, RESTART_MODE_ALWAYS, 1, 1000, 3));
    wait_until_process(s, id, runs_again, "it runs again");
    assert_false(pid_alive(pid_in_file(file)));
}

static void output_and_input_go_on_where_they_were(void **state)
{
    struct svc *s = *state;
    /* dd takes not a byte more than it is told to. */
    const char *id =
        start(s, again("dd bs=1 count=5 2>/dev/null; exit 1", RESTART_MODE_ON_FAILURE, 200, 200, 1));
    struct attached a = attach_output(s, id, 0);
    put_input(&a, 0, "first", false);
    assert_int_equal(next_taken(&a), 5);
    wait_until_process(s, id, backs_off, "the first run is over");
    put_input(&a, 5, "other", false); /* between the runs */
    assert_int_equal(next_taken(&a), 10);
    assert_int_equal(wait_for(s, id)->exit_code, 1);
    assert_string_equal(output_of(s, id, OUTPUT_STREAM_STDOUT, 0), "firstother");
    put_input(&a, 10, "late", false); /* now it is final */
    while (next(&a))
        ;
    detach(&a);
    assert_int_equal(get(s, id)->stdin_offset, 10);
}

static void the_end_of_input_is_the_end_for_every_run(void **state)
{
    struct svc *s = *state;
    const char *id = start(s, again("cat; echo end; exit 1", RESTART_MODE_ON_FAILURE, 1, 1000, 2));
    struct attached a = attach_output(s, id, 0);
    put_input(&a, 0, "x", true);
    wait_for(s, id);
    detach(&a);
    assert_string_equal(output_of(s, id, OUTPUT_STREAM_STDOUT, 0), "xend\nend\nend\n");
}

static void a_restart_that_cannot_be_executed_is_a_failure(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *script = sa_format("%s/script", dir);
    assert_int_equal(sa_write_file(script, "#!/bin/sh\nrm $0; exit 3\n", 24, 0700, NULL), 0);
    struct spec *spec = spec_new();
    spec_word(spec, script);
    spec_restart(spec, RESTART_MODE_ON_FAILURE, 1, 1000, 3);
    const char *id = start(s, spec);
    assert_int_equal(wait_for(s, id)->exit_code, 127);
    assert_int_equal(get(s, id)->restarts, 3);
}

/* Journals that must lose nothing: each run would add a little beyond the bound, for ever. */
static void no_run_begins_while_its_output_has_no_room(void **state)
{
    struct svc *s = *state;
    struct spec *spec = again("head -c 70000 /dev/zero; exit 1", RESTART_MODE_ALWAYS, 1, 1, 1000);
    spec->message.stdout_retention = RETENTION_POLICY_ACKNOWLEDGED;
    spec->message.journal_bytes = 64 << 10;
    const char *id = start(s, spec);
    struct attached a = attach_output(s, id, 0);
    uint64_t end = 0;
    for (int runs = 0; runs < 4;) {
        assert_true(next(&a));
        if (a.message->kind_case != ATTACH_PROCESS_RESPONSE__KIND_OUTPUT)
            continue;
        end = a.message->output->offset + a.message->output->data.len;
        assert_true(get(s, id)->stdout_end - get(s, id)->stdout_first <= (64 << 10) + (128 << 10));
        put_ack(&a, end);
        runs = (int)(end / 70000);
    }
    detach(&a);
    delete_it(s, id, true);
}

static void a_shim_starts_again_while_the_service_is_away(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *fifo = sa_format("%s/fifo", dir), *second = sa_format("%s/second", dir);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    cleanup_free char *command =
        sa_format("echo $$; [ -e %s ] && { echo $$ >%s; exec sleep 1000; }; read -r x <%s;"
                  "touch %s; exit 3",
                  second, second, fifo, second);
    const char *id = start(s, again(command, RESTART_MODE_ON_FAILURE, 1, 1000, 3));
    int first = (int)get(s, id)->pid;
    svc_kill(s);
    int fd = open(fifo, O_WRONLY);
    assert_int_equal(write(fd, "go\n", 3), 3);
    close(fd);
    int pid = pid_in_file(second);
    assert_int_not_equal(pid, first);
    svc_again(s, NULL);
    Process *p = wait_until_process(s, id, runs_again, "the second run is known");
    assert_int_equal(p->restarts, 1);
    assert_int_equal(p->pid, pid);
    assert_true(private_kib(parent_of(pid)) <= 192); /* with its spec kept */
    assert_int_equal(p->last_exit->exit_code, 3);
    assert_true(p->ready);
    cleanup_free char *out = sa_format("%d\n%d\n", first, pid);
    assert_string_equal(output_of(s, id, OUTPUT_STREAM_STDOUT, 0), out);
}

static void the_pause_outlives_the_service_but_not_its_end(void **state)
{
    struct svc *s = *state;
    cleanup_free char *id = sa_strdup(start(s, again("exit 4", RESTART_MODE_ALWAYS, LONG_MS, LONG_MS, 3)));
    Process *p = wait_until_process(s, id, backs_off, "it backs off");
    assert_int_equal(p->pid, 0);
    assert_int_equal(p->last_exit->exit_code, 4);
    assert_false(p->ready);
    svc_kill(s);
    svc_again(s, NULL);
    p = get(s, id);
    assert_int_equal(p->state, PROCESS_STATE_BACKING_OFF);
    assert_int_equal(p->last_exit->exit_code, 4);
    assert_string_equal(delete_error(s, id, false), "PROCESS_RUNNING");
    assert_string_equal(signal_error(s, id, SIGTERM, SIGNAL_SCOPE_TREE), "PROCESS_EXITED");
    svc_stop(s); /* not after LONG_MS */
    svc_again(s, NULL);
    assert_int_equal(get(s, id)->state, PROCESS_STATE_EXITED);
    assert_int_equal(wait_for(s, id)->exit_code, 4);
}

static void deleting_ends_it_in_any_state(void **state)
{
    struct svc *s = *state;
    const char *id = start(s, again("exit 4", RESTART_MODE_ALWAYS, LONG_MS, LONG_MS, 3));
    wait_until_process(s, id, backs_off, "it backs off");
    assert_int_equal(delete_it(s, id, true)->exit_code, 4);
    id = start(s, again("exec sleep 1000", RESTART_MODE_ALWAYS, 1, 1000, 3));
    assert_int_equal(delete_it(s, id, true)->signal, SIGKILL);
}

static void policies_out_of_range_are_refused(void **state)
{
    struct svc *s = *state;
    assert_string_equal(start_error(s, again("true", (RestartMode)9, 1, 1, 1), ""), "INVALID_REQUEST");
    assert_string_equal(start_error(s, again("true", RESTART_MODE_ALWAYS, 2, 1, 1), ""), "INVALID_REQUEST");
    assert_string_equal(start_error(s, again("true", RESTART_MODE_ALWAYS, 1, 24 * 3600 * 1000 + 1, 1), ""),
                        "INVALID_REQUEST");
    assert_string_equal(run_error(s, again("true", RESTART_MODE_ALWAYS, 1, 1, 1), NULL), "INVALID_REQUEST");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, svc_setup, svc_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(pauses_double_up_to_the_longest_and_end_with_giving_up),
        TEST(only_what_the_policy_says_is_started_again),
        TEST(a_long_run_sets_the_count_back),
        TEST(what_a_run_left_is_gone_before_the_next),
        TEST(output_and_input_go_on_where_they_were),
        TEST(the_end_of_input_is_the_end_for_every_run),
        TEST(a_restart_that_cannot_be_executed_is_a_failure),
        TEST(no_run_begins_while_its_output_has_no_room),
        TEST(a_shim_starts_again_while_the_service_is_away),
        TEST(the_pause_outlives_the_service_but_not_its_end),
        TEST(deleting_ends_it_in_any_state),
        TEST(policies_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
