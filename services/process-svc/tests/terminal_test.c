/* A process on a terminal: what it finds there, what it is told, and its end. */
#include "services/process-svc/tests/terminals.h"

static void a_program_finds_a_terminal(void **state)
{
    struct svc *s = *state;
    const char *id = start_terminal(
        s, "test -t 0 && test -t 1 && test -t 2 && echo all; stty size; echo $TERM; ps -o stat= $$;"
           "echo x >/dev/tty; readlink /proc/$$/fd/2");
    assert_int_equal(wait_for(s, id)->exit_code, 0);
    char *out = output_of(s, id, OUTPUT_STREAM_STDOUT, 0);
    assert_non_null(strstr(out, "all\r\n24 80\r\nxterm-256color\r\nSs"));
    assert_non_null(strstr(out, "+\r\nx\r\n/dev/pts/"));
    assert_string_equal(output_of(s, id, OUTPUT_STREAM_STDERR, 0), "");
    const Process *p = get(s, id);
    assert_int_equal(p->terminal_size->rows, 24);
    assert_int_equal(p->terminal_size->columns, 80);
    assert_int_equal(p->spec->terminal->scrollback_lines, 1000);
}

static void its_size_and_kind_are_as_asked(void **state)
{
    struct svc *s = *state;
    TerminalSpec terminal = TERMINAL_SPEC__INIT;
    terminal.rows = 1000;
    terminal.columns = 1;
    terminal.term = (char *)(uintptr_t) "vt100";
    const char *id = start_terminal_of(s, "stty size; echo $TERM", &terminal);
    wait_for(s, id);
    assert_string_equal(output_of(s, id, OUTPUT_STREAM_STDOUT, 0), "1000 1\r\nvt100\r\n");
    struct spec *own = shell("echo $TERM");
    own->message.terminal = &terminal;
    spec_env(own, "TERM=dumb");
    id = start(s, own);
    wait_for(s, id);
    assert_string_equal(output_of(s, id, OUTPUT_STREAM_STDOUT, 0), "dumb\r\n");
}

static const char *spec_error(struct svc *s, unsigned rows, unsigned columns, unsigned lines)
{
    TerminalSpec terminal = TERMINAL_SPEC__INIT;
    terminal.rows = rows;
    terminal.columns = columns;
    terminal.scrollback_lines = lines;
    struct spec *spec = shell("true");
    spec->message.terminal = &terminal;
    return start_error(s, spec, "");
}

static void what_is_no_terminal_is_refused(void **state)
{
    struct svc *s = *state;
    assert_string_equal(spec_error(s, 1001, 80, 0), "INVALID_REQUEST");
    assert_string_equal(spec_error(s, 24, 1001, 0), "INVALID_REQUEST");
    assert_string_equal(spec_error(s, 24, 80, 10001), "INVALID_REQUEST");
    assert_string_equal(spec_error(s, 0, 0, 0), "OK");
    TerminalSpec terminal = TERMINAL_SPEC__INIT;
    struct spec *spec = shell("true");
    spec->message.terminal = &terminal;
    assert_string_equal(run_error(s, spec, NULL), "INVALID_REQUEST");

    const char *pipes = start_shell(s, "exec sleep 1000"), *on = start_terminal(s, "exec sleep 1000");
    assert_string_equal(resize_error(s, on, 0, 0), "INVALID_REQUEST");
    assert_string_equal(resize_error(s, on, 1001, 80), "INVALID_REQUEST");
    assert_string_equal(resize_error(s, pipes, 24, 80), "NOT_A_TERMINAL");
    assert_string_equal(screen_error(s, pipes), "NOT_A_TERMINAL");
    struct looker l = look(s, pipes, NULL);
    assert_string_equal(l.err->reason, "NOT_A_TERMINAL");
    stop_looking(&l);
    l = look(s, "01h00000000000000000000000", NULL);
    assert_string_equal(l.err->reason, "PROCESS_NOT_FOUND");
    stop_looking(&l);
}

/* Not a byte is missing before the end, and none is added: nobody writes of an error into the terminal. */
static void all_output_comes_before_the_end(void **state)
{
    struct svc *s = *state;
    for (int i = 0; i < 30; i++) {
        const char *id = start_terminal(s, "stty -onlcr; exec seq 100000000000000 100000000000999");
        struct looker l = look(s, id, NULL);
        look_until(&l, ATTACH_TERMINAL_RESPONSE__KIND_EXITED);
        assert_int_equal(l.message->exited->exit_code, 0);
        assert_false(look_on(&l));
        assert_null(l.err);
        char *out = output_of(s, id, OUTPUT_STREAM_STDOUT, 0);
        assert_int_equal(strlen(out), 1000 * LINE);
        assert_counts(out, 1000 * LINE, 0);
        assert_int_equal(get(s, id)->stdout_end, 1000 * LINE);
        stop_looking(&l);
    }
}

static void keys_of_a_terminal_work(void **state)
{
    struct svc *s = *state;
    const char *id = start_terminal(s, "PS1='$ ' exec bash --norc --noprofile -i");
    struct looker l = look_in_control(s, id);
    look_for(&l, "$");
    type(&l, "sh -c 'echo one; exec cat'\n");
    look_for_row(&l, "one");
    type(&l, "\x03"); /* Ctrl-C ends cat, not the shell */
    look_for_row(&l, "$");
    type(&l, "echo code=$?\n");
    look_for_row(&l, "code=130");
    type(&l, "sh -c 'echo two; exec cat'\n");
    look_for_row(&l, "two");
    type(&l, "\x04"); /* Ctrl-D */
    look_for_row(&l, "$");
    type(&l, "echo again=$?\n");
    look_for_row(&l, "again=0");
    type(&l, "sh -c 'echo three; read x; exit 9'\n");
    look_for_row(&l, "three");
    type(&l, "\x1a"); /* Ctrl-Z */
    look_for(&l, "Stopped");
    look_for_row(&l, "$");
    type(&l, "fg; echo back=$?\n");
    look_for_row(&l, "sh -c 'echo three; read x; exit 9'"); /* told by fg */
    type(&l, "\n");
    look_for_row(&l, "back=9");
    look_for_row(&l, "$");
    type(&l, "stty -echo; exit 7\n");
    look_until(&l, ATTACH_TERMINAL_RESPONSE__KIND_EXITED);
    assert_int_equal(l.message->exited->exit_code, 7);
    stop_looking(&l);
}

static void the_end_of_attached_input_is_typed(void **state)
{
    struct svc *s = *state;
    const char *id = start_terminal(s, "stty -echo eof ^B; echo ready; cat; echo one; cat; echo two");
    struct attached a = attach_output(s, id, 0);
    struct looker l = look(s, id, NULL);
    look_for(&l, "ready");
    put_input(&a, 0, "first\n", true);
    assert_int_equal(next_taken(&a), 6);
    put_input(&a, 0, "first\n", true); /* repeated: neither typed nor ended twice */
    look_for(&l, "one");
    put_input(&a, 6, "second\n", true);
    look_until(&l, ATTACH_TERMINAL_RESPONSE__KIND_EXITED);
    assert_string_equal(output_of(s, id, OUTPUT_STREAM_STDOUT, 0),
                        "ready\r\nfirst\r\none\r\nsecond\r\ntwo\r\n");
    detach(&a);
    stop_looking(&l);
}

/* More than the kernel takes at once waits in the shim. */
static void much_input_is_typed_completely(void **state)
{
    enum { BYTES = 1 << 20, PIECE = 32 << 10 };
    struct svc *s = *state;
    static char piece[PIECE];
    for (int i = 0; i < PIECE; i += LINE)
        memcpy(piece + i, "0123456789abcde\n", LINE);
    const char *id = start_terminal(s, "stty raw -echo; echo ready; head -c 1048576 | cksum");
    struct looker l = look_in_control(s, id);
    look_for(&l, "ready");
    for (size_t at = 0; at < BYTES; at += PIECE)
        type_at(&l, l.lease, at, piece, PIECE);
    look_until(&l, ATTACH_TERMINAL_RESPONSE__KIND_EXITED);
    stop_looking(&l);
    const char *reference = start_shell(s, "yes 0123456789abcde | head -c 1048576 | cksum");
    wait_for(s, reference);
    assert_non_null(
        strstr(output_of(s, id, OUTPUT_STREAM_STDOUT, 0), output_of(s, reference, OUTPUT_STREAM_STDOUT, 0)));
}

static void the_size_reaches_the_program(void **state)
{
    struct svc *s = *state;
    const char *id =
        start_terminal(s, "trap 'stty size; exit' WINCH; echo ready; while :; do read -r x; done");
    struct looker l = look(s, id, NULL);
    look_for(&l, "ready");
    assert_string_equal(resize_error(s, id, 10, 33), "OK");
    look_until(&l, ATTACH_TERMINAL_RESPONSE__KIND_RESIZED);
    assert_int_equal(l.message->resized->rows, 10);
    assert_int_equal(get(s, id)->terminal_size->columns, 33);
    look_until(&l, ATTACH_TERMINAL_RESPONSE__KIND_EXITED);
    assert_true(shows(&l, "10 33"));
    stop_looking(&l);
    assert_int_equal(get(s, id)->terminal_size->rows, 10);
    assert_string_equal(resize_error(s, id, 10, 34), "PROCESS_EXITED");
}

/* A shell that somebody works with ignores TERM. */
static void a_shell_ends_with_the_service(void **state)
{
    struct svc *s = *state;
    cleanup_free char *id = sa_strdup(start_terminal(s, "PS1='$ ' exec bash --norc --noprofile -i"));
    struct looker l = look(s, id, NULL);
    look_for(&l, "$");
    stop_looking(&l);
    svc_stop(s);
    svc_again(s, NULL);
    const ExitRecord *e = wait_for(s, id);
    assert_int_equal(e->kind_case, EXIT_RECORD__KIND_SIGNAL);
    assert_int_equal(e->signal, SIGHUP);
}

static void look_for_at(struct looker *l, int row, const char *text)
{
    while (strcmp(row_of(l, row), text))
        assert_true(look_on(l));
}

/* Each run has a new terminal of the size that the last one had; output goes on in the same stream. What was
 * typed into the terminal of a run that is about to end ends with it: so each line waits for its reader. */
static void a_program_that_is_started_again_has_a_terminal(void **state)
{
    struct svc *s = *state;
    struct spec *spec = shell("stty size; stty -echo; echo ready; read -r x; echo got $x; exit 1");
    TerminalSpec terminal = TERMINAL_SPEC__INIT;
    RestartPolicy restart = RESTART_POLICY__INIT;
    restart.mode = RESTART_MODE_ON_FAILURE;
    restart.backoff_ms = 1;
    restart.max_restarts = 2;
    spec->message.terminal = &terminal;
    spec->message.restart = &restart;
    const char *id = start(s, spec);
    struct looker l = look_in_control(s, id);
    look_for(&l, "ready");
    assert_string_equal(resize_error(s, id, 30, 90), "OK");
    type(&l, "one\n");
    look_for_at(&l, 4, "ready"); /* below its first one, `got one` and `30 90` */
    type(&l, "two\n");
    look_for_at(&l, 7, "ready");
    type(&l, "three\n");
    look_until(&l, ATTACH_TERMINAL_RESPONSE__KIND_EXITED);
    char *out = output_of(s, id, OUTPUT_STREAM_STDOUT, 0);
    assert_non_null(strstr(out, "24 80\r\nready\r\ngot one\r\n30 90\r\n"));
    assert_non_null(strstr(out, "got three"));
    stop_looking(&l);
}

static void a_shell_that_is_stopped_is_hung_up(void **state)
{
    struct svc *s = *state;
    const char *id = start_terminal(s, "PS1='$ ' exec bash --norc --noprofile -i");
    struct looker l = look(s, id, NULL);
    look_for(&l, "$");
    StopProcessRequest req = STOP_PROCESS_REQUEST__INIT;
    req.process_id = (char *)(uintptr_t)id;
    StopProcessResponse *res = stop_process_wait(s->channel, &req, NULL, NULL);
    assert_non_null(res);
    assert_int_equal(res->exit->signal, SIGHUP);
    rpc_message_free(res);
    look_until(&l, ATTACH_TERMINAL_RESPONSE__KIND_EXITED);
    stop_looking(&l);
}

/* bash once slept through the HUP of a stop, and was killed five seconds later: it had come just before bash
 * waited for keys. So it comes twice. */
static void a_hangup_that_was_missed_is_repeated(void **state)
{
    struct svc *s = *state;
    const char *id = start_terminal(
        s, "trap 'trap \"exit 3\" HUP; echo missed' HUP; echo ready; while :; do read -r x; done");
    struct looker l = look(s, id, NULL);
    look_for(&l, "ready");
    StopProcessRequest req = STOP_PROCESS_REQUEST__INIT;
    req.process_id = (char *)(uintptr_t)id;
    StopProcessResponse *res = stop_process_wait(s->channel, &req, NULL, NULL);
    assert_non_null(res);
    assert_int_equal(res->exit->exit_code, 3);
    rpc_message_free(res);
    look_until(&l, ATTACH_TERMINAL_RESPONSE__KIND_EXITED);
    assert_true(shows(&l, "missed"));
    stop_looking(&l);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, svc_setup, svc_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_program_finds_a_terminal),
        TEST(its_size_and_kind_are_as_asked),
        TEST(what_is_no_terminal_is_refused),
        TEST(all_output_comes_before_the_end),
        TEST(keys_of_a_terminal_work),
        TEST(the_end_of_attached_input_is_typed),
        TEST(much_input_is_typed_completely),
        TEST(the_size_reaches_the_program),
        TEST(a_program_that_is_started_again_has_a_terminal),
        TEST(a_shell_that_is_stopped_is_hung_up),
        TEST(a_hangup_that_was_missed_is_repeated),
        TEST(a_shell_ends_with_the_service),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
