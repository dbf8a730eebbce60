/* Standard input: at an offset, once, bounded, closed. */
#include "services/process-svc/tests/fixture.h"

static struct attached attach_input(struct svc *s, const char *id)
{
    AttachOpen open = ATTACH_OPEN__INIT;
    open.process_id = (char *)(uintptr_t)id;
    struct attached a = attach(s, &open);
    assert_true(next(&a));
    return a;
}

static void input_that_is_repeated_is_not_typed_twice(void **state)
{
    struct svc *s = *state;
    const char *id = start_shell(s, "exec cat");
    struct attached a = attach_input(s, id);
    put_input(&a, 0, "hello ", false);
    assert_int_equal(next_taken(&a), 6);
    put_input(&a, 0, "hello ", false);
    assert_int_equal(next_taken(&a), 6);
    put_input(&a, 3, "lo world", false); /* overlaps: only the rest is new */
    assert_int_equal(next_taken(&a), 11);
    /* Another one, after a restart of the service, repeats it all. */
    detach(&a);
    svc_kill(s);
    svc_again(s, NULL);
    assert_int_equal(get(s, id)->stdin_offset, 11);
    a = attach_input(s, id);
    put_input(&a, 0, "hello world\n", true);
    assert_int_equal(next_taken(&a), 12);
    detach(&a);
    assert_int_equal(wait_for(s, id)->exit_code, 0);
    assert_string_equal(output_of(s, id, OUTPUT_STREAM_STDOUT, 0), "hello world\n");
    assert_int_equal(get(s, id)->stdin_offset, 12);
}

/* Statuses of the shim once repeated the number of a request that the service before had sent. The new one,
 * whose numbers begin again, took that for nonsense: it dropped the connection, and its input with it. */
static void input_after_a_restart_reaches_a_child_that_writes(void **state)
{
    enum { RESTARTS = 10 };
    struct svc *s = *state;
    const char *id = start_shell(s, "while :; do echo x; done & while read -r x; do :; done; kill $!");
    uint64_t offset = 0;
    for (int i = 0; i <= RESTARTS; i++) {
        struct attached a = attach_input(s, id);
        program_signal(&s->program, SIGSTOP); /* a status and the first request of the service wait for it */
        put_input(&a, offset, "\n", false);
        program_signal(&s->program, SIGCONT);
        assert_int_equal(next_taken(&a), ++offset);
        put_input(&a, offset, "\n", i == RESTARTS);
        assert_int_equal(next_taken(&a), ++offset);
        detach(&a);
        if (i == RESTARTS)
            break;
        svc_kill(s);
        svc_again(s, NULL);
    }
    assert_int_equal(wait_for(s, id)->exit_code, 0);
}

static void a_gap_in_the_input_is_refused(void **state)
{
    struct svc *s = *state;
    const char *id = start_shell(s, "exec cat");
    struct attached a = attach_input(s, id);
    put_input(&a, 1, "x", false);
    assert_false(next(&a));
    assert_string_equal(a.err->reason, "OFFSET_AHEAD");
    assert_non_null(strstr(a.err->message, "expects byte 0"));
    detach(&a);
}

static void closed_input_is_told(void **state)
{
    struct svc *s = *state;
    const char *id = start_shell(s, "exec 0</dev/null; echo closed; exec sleep 1000");
    struct attached a = attach_output(s, id, 0);
    assert_true(next(&a)); /* "closed" */
    put_input(&a, 0, "x", false);
    assert_false(next(&a));
    assert_string_equal(a.err->reason, "STDIN_CLOSED");
    detach(&a);

    id = start_shell(s, "cat; exec sleep 1000");
    a = attach_input(s, id);
    put_input(&a, 0, "bye", true);
    assert_int_equal(next_taken(&a), 3);
    put_input(&a, 3, "", true); /* the end again */
    assert_int_equal(next_taken(&a), 3);
    put_input(&a, 3, "more", false);
    assert_false(next(&a));
    assert_string_equal(a.err->reason, "STDIN_CLOSED");
    detach(&a);

    id = start_shell(s, "true");
    wait_for(s, id);
    a = attach_input(s, id);
    put_input(&a, 0, "x", false);
    assert_true(next(&a)); /* it has ended, which is told first */
    assert_int_equal(a.message->kind_case, ATTACH_PROCESS_RESPONSE__KIND_EXITED);
    detach(&a);
}

/* 32 MiB wait in the shim's file, not in memory; then it is full. */
static void input_that_is_not_read_waits_up_to_a_bound(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *go = sa_format("%s/go", dir);
    cleanup_free char *command = sa_format("while ! test -e %s; do sleep 0.01; done; exec cat", go);
    struct spec *spec = shell(command);
    spec->message.journal_bytes = 64 * MIB;
    const char *id = start(s, spec);
    struct attached a = attach_input(s, id);
    char *piece = malloc(MIB + 1);
    uint64_t at = 0;
    for (;;) {
        for (int i = 0; i < MIB; i += LINE) {
            char line[32];
            snprintf(line, sizeof line, "%llu\n", COUNT_FROM + (at + (uint64_t)i) / LINE);
            memcpy(piece + i, line, LINE);
        }
        piece[MIB] = 0;
        put_input(&a, at, piece, false);
        if (!next(&a))
            break;
        at = a.message->input_taken->next_offset;
        assert_int_equal(at % MIB, 0);
    }
    assert_string_equal(a.err->reason, "INPUT_FULL");
    assert_in_range(at, 31 * MIB, 33 * MIB);
    detach(&a);
    free(piece);
    fclose(fopen(go, "w"));
    uint64_t taken = get(s, id)->stdin_offset;
    a = attach_output(s, id, 0);
    put_input(&a, taken, "", true);
    for (uint64_t seen = 0; next(&a) && a.message->kind_case != ATTACH_PROCESS_RESPONSE__KIND_EXITED;) {
        if (a.message->kind_case != ATTACH_PROCESS_RESPONSE__KIND_OUTPUT)
            continue;
        assert_counts(a.message->output->data.data, a.message->output->data.len, seen);
        seen += a.message->output->data.len;
    }
    assert_non_null(a.message);
    assert_int_equal(get(s, id)->stdout_end, taken);
    detach(&a);
}

static void a_line_goes_there_and_back(void **state)
{
    struct svc *s = *state;
    const char *id = start_shell(s, "while read -r line; do echo \"got $line\"; done");
    struct attached a = attach_output(s, id, 0);
    uint64_t at = 0, out = 0;
    for (int i = 0; i < 500; i++) {
        char line[32], expected[32];
        int n = snprintf(line, sizeof line, "%d\n", i);
        int m = snprintf(expected, sizeof expected, "got %d\n", i);
        put_input(&a, at, line, false);
        at += (uint64_t)n;
        bool taken = false, seen = false;
        while (!taken || !seen) {
            assert_true(next(&a));
            if (a.message->kind_case == ATTACH_PROCESS_RESPONSE__KIND_INPUT_TAKEN) {
                assert_int_equal(a.message->input_taken->next_offset, at);
                taken = true;
                continue;
            }
            assert_int_equal(a.message->output->offset, out);
            assert_int_equal(a.message->output->data.len, m);
            assert_memory_equal(a.message->output->data.data, expected, m);
            out += (uint64_t)m;
            seen = true;
        }
    }
    detach(&a);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, svc_setup, svc_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(input_that_is_repeated_is_not_typed_twice),
        TEST(input_after_a_restart_reaches_a_child_that_writes),
        TEST(a_gap_in_the_input_is_refused),
        TEST(closed_input_is_told),
        TEST(input_that_is_not_read_waits_up_to_a_bound),
        TEST(a_line_goes_there_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
