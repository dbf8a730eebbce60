/* What viewers of a terminal see: the same, whenever they come, however slowly they read, whatever dies. */
#include "services/process-svc/tests/terminals.h"

/* Prints colours, attributes, wide characters, a region that scrolls; then waits for a line. */
#define SHOW                                                                                                 \
    "stty -echo; i=0; while [ $i -lt 40 ]; do printf 'line %d \\033[1;3%dmcolour\\033[0m\\n' $i $((i % 8));" \
    "i=$((i + 1)); done; printf '\\033[4;7munder\\033[0m \\033[48;5;20m back \\033[K\\033[0m\\n';"           \
    "printf '\\344\\270\\255\\346\\226\\207 wide e\\314\\201\\033[38;2;1;2;3mrgb\\033[m';"                   \
    "printf '\\033[5;10r\\033[10;1H\\n\\nin the region\\033[r\\033[3;20Hready';"

static void two_viewers_see_the_same_bytes(void **state)
{
    struct svc *s = *state;
    const char *id = start_terminal(s, "read -r x; seq 1 20000; exit 3");
    struct looker a = look_in_control(s, id), b = look(s, id, NULL);
    look_until(&a, ATTACH_TERMINAL_RESPONSE__KIND_SCREEN);
    look_until(&b, ATTACH_TERMINAL_RESPONSE__KIND_SCREEN);
    type(&a, "go\n");
    look_until(&a, ATTACH_TERMINAL_RESPONSE__KIND_EXITED);
    look_until(&b, ATTACH_TERMINAL_RESPONSE__KIND_EXITED);
    assert_int_equal(b.message->exited->exit_code, 3);
    assert_int_equal(a.seen.len, b.seen.len);
    assert_memory_equal(a.seen.data, b.seen.data, a.seen.len);
    assert_same_screen(&a, &b);
    stop_looking(&a);
    stop_looking(&b);
}

static void a_late_viewer_sees_the_same_screen(void **state)
{
    struct svc *s = *state;
    const char *id = start_terminal(s, "read -r x; " SHOW "read -r x; printf 'after'; exec sleep 1000");
    struct looker a = look_in_control(s, id);
    look_until(&a, ATTACH_TERMINAL_RESPONSE__KIND_SCREEN); /* before there is anything */
    type(&a, "\n");
    look_for(&a, "ready");
    struct looker b = look(s, id, NULL);
    look_for(&b, "ready");
    assert_same_screen(&a, &b);
    type(&a, "\n"); /* bytes that follow the screen do the same for both */
    look_for(&a, "after");
    look_for(&b, "after");
    assert_same_screen(&a, &b);
    struct looker c = look(s, id, NULL);
    look_for(&c, "after");
    assert_same_screen(&a, &c);
    assert_int_equal(c.seen.len, 0);
    stop_looking(&a);
    stop_looking(&b);
    stop_looking(&c);
}

static void scrollback_comes_with_the_screen(void **state)
{
    struct svc *s = *state;
    TerminalSpec terminal = TERMINAL_SPEC__INIT;
    terminal.scrollback_lines = 10;
    const char *id = start_terminal_of(s, "seq -f 'line %g' 1 100; exec sleep 1000", &terminal);
    struct looker a = look(s, id, NULL);
    look_for(&a, "line 100");
    GetScreenResponse *all = screen_of(s, id, true), *some = screen_of(s, id, false);
    cleanup_buf struct sa_buf text = {0};
    sa_buf_add(&text, all->screen->data.data, all->screen->data.len);
    /* 23 lines are on the screen. */
    assert_null(strstr(sa_buf_string(&text), "line 67\r\n"));
    assert_non_null(strstr(sa_buf_string(&text), "line 68\r\n"));
    text.len = 0;
    sa_buf_add(&text, some->screen->data.data, some->screen->data.len);
    assert_null(strstr(sa_buf_string(&text), "line 77\r\n"));
    assert_non_null(strstr(sa_buf_string(&text), "line 78\r\n"));
    assert_int_equal(strncmp(some->text, "line 78\nline 79\n", 16), 0);
    assert_int_equal(some->cursor_row, 23);
    assert_int_equal(some->cursor_column, 0);
    rpc_message_free(all);
    rpc_message_free(some);
    stop_looking(&a);
}

/* As an editor does: its own screen, modes, a hidden cursor; and what was there before comes back. */
static void a_full_screen_program_survives(void **state)
{
    struct svc *s = *state;
    const char *id = start_terminal(
        s,
        "stty -echo; echo before; printf '\\033[31m$ \\033[?1049h\\033[?1h\\033=\\033[?2004h\\033[?1006h"
        "\\033[1;23r\\033[?25l\\033[2J\\033[H\\033[0m~ edited\\033[24;1H\\033[7m status \\033[0m\\033[5;5H';"
        "read -r x; printf '\\033[r\\033[?1l\\033>\\033[?2004l\\033[?25h\\033[?1049lback'; exec sleep 1000");
    struct looker a = look_in_control(s, id);
    look_for(&a, "status");
    struct looker b = look(s, id, NULL);
    look_for(&b, "status");
    assert_same_screen(&a, &b);
    cleanup_buf struct sa_buf text = {0};
    GetScreenResponse *res = screen_of(s, id, false);
    sa_buf_add(&text, res->screen->data.data, res->screen->data.len);
    for (const char *const *mode = WORDS("\033[?1049h", "\033[?1h", "\033=", "\033[?2004h", "\033[?1006h",
                                         "\033[?25l", "\033[1;23r");
         *mode; mode++)
        assert_non_null(strstr(sa_buf_string(&text), *mode));
    rpc_message_free(res);
    /* The service dies; another run of it knows the same. */
    stop_looking(&b);
    hang_up(&a);
    svc_kill(s);
    svc_again(s, NULL);
    struct looker c = look_in_control(s, id);
    look_for(&c, "status");
    assert_same_screen(&a, &c);
    type(&c, "\n");
    look_for(&c, "back");
    assert_string_equal(row_of(&c, 0), "before");
    assert_string_equal(row_of(&c, 1), "$ back");
    stop_looking(&a);
    stop_looking(&c);
}

/* Once a viewer that did not read for a few seconds got an eighth of the output, without a word. */
static void a_stalled_viewer_disturbs_nobody(void **state)
{
    enum { PARTS = 32, LINES = 65536, PART = LINES * LINE };
    struct svc *s = *state;
    cleanup_free char *command = sa_format("stty -echo -onlcr; echo ready; i=%llu; while read -r x && test "
                                           "-z $x; do seq $i $((i + %d)); i=$((i + %d)); done;"
                                           "printf '\\033[2J\\033[5;5Hthe end'; exec sleep 1000",
                                           COUNT_FROM, LINES - 1, LINES);
    struct spec *spec = shell(command);
    TerminalSpec terminal = TERMINAL_SPEC__INIT;
    spec->message.terminal = &terminal;
    spec->message.journal_bytes = 4 * MIB;
    const char *id = start(s, spec);
    struct looker stalled = look(s, id, NULL), fast = look_in_control(s, id);
    look_for(&stalled, "ready");
    look_for(&fast, "ready");
    uint64_t from = fast.offset;
    for (int part = 0; part < PARTS; part++) {
        type(&fast, "\n");
        while (fast.offset < from + (uint64_t)(part + 1) * PART) {
            assert_true(look_on(&fast));
            if (fast.message->kind_case == ATTACH_TERMINAL_RESPONSE__KIND_OUTPUT)
                assert_counts(fast.message->output->data.data, fast.message->output->data.len,
                              fast.message->output->offset - from);
        }
    }
    assert_int_equal(fast.n_screens, 1); /* the first one: it has missed nothing */
    type(&fast, "end\n");
    look_for(&fast, "the end");
    look_for(&stalled, "the end");
    assert_int_equal(stalled.n_screens, 2); /* it was told that it had missed some */
    struct looker late = look(s, id, NULL);
    look_for(&late, "the end");
    assert_same_screen(&late, &stalled);
    assert_same_screen(&late, &fast);
    stop_looking(&stalled);
    stop_looking(&fast);
    stop_looking(&late);
}

static void viewers_go_on_after_a_kill_of_the_service(void **state)
{
    enum { KILLS = 4 };
    struct svc *s = *state;
    const char *id =
        start_terminal(s, "stty -onlcr; i=100000000000000; while :; do echo $i; i=$((i + 1)); done");
    struct looker l = look(s, id, NULL);
    look_until(&l, ATTACH_TERMINAL_RESPONSE__KIND_OUTPUT);
    for (int i = 0; i < KILLS; i++) {
        uint64_t at = l.offset;
        stop_looking(&l);
        svc_kill(s);
        svc_again(s, NULL);
        TerminalOpen open = TERMINAL_OPEN__INIT;
        open._after_offset_case = TERMINAL_OPEN___AFTER_OFFSET_AFTER_OFFSET;
        open.after_offset = at;
        l = look(s, id, &open);
        look_until(&l, ATTACH_TERMINAL_RESPONSE__KIND_OUTPUT);
        assert_int_equal(l.n_screens, 0);
        assert_int_equal(l.message->output->offset, at);
        assert_counts(l.message->output->data.data, l.message->output->data.len, at);
    }
    stop_looking(&l);
    TerminalOpen ahead = TERMINAL_OPEN__INIT;
    ahead._after_offset_case = TERMINAL_OPEN___AFTER_OFFSET_AFTER_OFFSET;
    ahead.after_offset = 1ull << 40;
    l = look(s, id, &ahead);
    assert_string_equal(l.err->reason, "OFFSET_AHEAD");
    stop_looking(&l);
}

static void the_screen_of_what_has_ended_stays(void **state)
{
    struct svc *s = *state;
    const char *id = start_terminal(s, "printf 'first\\nlast words'; exit 4");
    wait_for(s, id);
    for (int i = 0; i < 2; i++) {
        struct looker l = look(s, id, NULL);
        look_until(&l, ATTACH_TERMINAL_RESPONSE__KIND_EXITED);
        assert_int_equal(l.message->exited->exit_code, 4);
        assert_true(shows(&l, "last words"));
        stop_looking(&l);
        GetScreenResponse *res = screen_of(s, id, false);
        assert_int_equal(strncmp(res->text, "first\nlast words\n", 17), 0);
        rpc_message_free(res);
        svc_kill(s);
        svc_again(s, NULL);
    }
    struct looker l = look_in_control(s, id);
    type_at(&l, l.lease, 0, "x", 1);
    while (look_on(&l))
        ;
    if (l.err) /* else its end was told first */
        assert_string_equal(l.err->reason, "STDIN_CLOSED");
    stop_looking(&l);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, svc_setup, svc_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(two_viewers_see_the_same_bytes),     TEST(a_late_viewer_sees_the_same_screen),
        TEST(scrollback_comes_with_the_screen),   TEST(a_full_screen_program_survives),
        TEST(a_stalled_viewer_disturbs_nobody),   TEST(viewers_go_on_after_a_kill_of_the_service),
        TEST(the_screen_of_what_has_ended_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
