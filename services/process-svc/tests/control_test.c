/* Who types on a shared terminal, and whose size it has. */
#include "services/process-svc/tests/terminals.h"

static void one_types_at_a_time(void **state)
{
    struct svc *s = *state;
    const char *id = start_terminal(s, "exec cat");
    struct looker a = look_in_control(s, id), b = look(s, id, NULL);
    type(&a, "from a\n");
    look_for(&b, "from a");
    /* A request that is not granted is answered with who has it. */
    ask_control(&b, false);
    look_until(&b, ATTACH_TERMINAL_RESPONSE__KIND_CONTROL);
    assert_int_equal(b.message->control->viewer_id, a.viewer_id);
    uint64_t first = a.lease;
    ask_control(&b, true);
    look_until(&b, ATTACH_TERMINAL_RESPONSE__KIND_CONTROL);
    assert_int_equal(b.message->control->viewer_id, b.viewer_id);
    assert_true(b.lease > first);
    assert_int_equal(b.input, 7); /* goes on where the other one was */
    do
        look_until(&a, ATTACH_TERMINAL_RESPONSE__KIND_CONTROL);
    while (a.message->control->viewer_id != b.viewer_id);
    type(&b, "from b\n");
    look_for(&a, "from b");
    /* With the old lease, and with the new one, which is another's. */
    const uint64_t leases[] = {first, b.lease};
    for (int i = 0; i < 2; i++) {
        type_at(&a, leases[i], 14, "x", 1);
        look_until(&a, ATTACH_TERMINAL_RESPONSE__KIND_INPUT_REFUSED);
        assert_int_equal(a.message->input_refused->lease, leases[i]);
        assert_int_equal(a.message->input_refused->control->viewer_id, b.viewer_id);
    }
    type(&b, "b goes on\n");
    look_for_row(&a, "b goes on"); /* and a looks on */
    stop_looking(&a);
    /* Control falls to nobody when its holder leaves; then whoever asks gets it. */
    a = look(s, id, NULL);
    uint64_t held = b.lease;
    stop_looking(&b);
    do
        look_until(&a, ATTACH_TERMINAL_RESPONSE__KIND_CONTROL);
    while (a.message->control->viewer_id);
    assert_true(a.lease > held);
    ask_control(&a, false);
    look_until(&a, ATTACH_TERMINAL_RESPONSE__KIND_CONTROL);
    assert_int_equal(a.message->control->viewer_id, a.viewer_id);
    give_control(&a, a.lease);
    look_until(&a, ATTACH_TERMINAL_RESPONSE__KIND_CONTROL);
    assert_int_equal(a.message->control->viewer_id, 0);
    stop_looking(&a);
}

static void input_is_taken_once_and_in_order(void **state)
{
    struct svc *s = *state;
    const char *id = start_terminal(s, "stty -echo; echo ready; exec cat");
    struct looker a = look_in_control(s, id);
    look_for(&a, "ready");
    type_at(&a, a.lease, 0, "hello ", 6);
    type_at(&a, a.lease, 0, "hello ", 6);
    type_at(&a, a.lease, 3, "lo world\n", 9); /* only the rest is new */
    look_for(&a, "hello world");
    while (a.taken < 12)
        assert_true(look_on(&a));
    assert_int_equal(a.taken, 12);
    assert_non_null(strstr(sa_buf_string(&a.seen), "hello world\r\n"));
    assert_null(strstr(sa_buf_string(&a.seen), "hello hello"));
    type_at(&a, a.lease, 13, "x", 1);
    while (look_on(&a))
        ;
    assert_string_equal(a.err->reason, "OFFSET_AHEAD");
    stop_looking(&a);
    assert_int_equal(get(s, id)->stdin_offset, 12);
}

static void a_lease_does_not_live_through_a_restart(void **state)
{
    struct svc *s = *state;
    const char *id = start_terminal(s, "exec cat");
    struct looker a = look_in_control(s, id);
    uint64_t lease = a.lease, viewer = a.viewer_id;
    stop_looking(&a);
    svc_kill(s);
    svc_again(s, NULL);
    struct looker b = look_in_control(s, id);
    assert_true(b.lease > lease);
    assert_true(b.viewer_id > viewer);
    type_at(&b, lease, 0, "old\n", 4);
    look_until(&b, ATTACH_TERMINAL_RESPONSE__KIND_INPUT_REFUSED);
    type(&b, "new\n");
    look_for(&b, "new");
    assert_false(shows(&b, "old"));
    stop_looking(&b);
}

static void everybody_sees_who_looks(void **state)
{
    struct svc *s = *state;
    const char *id = start_terminal(s, "exec sleep 1000");
    TerminalOpen open = TERMINAL_OPEN__INIT;
    open.display_name = (char *)(uintptr_t) "Ada \xc3\x96";
    struct looker a = look(s, id, &open);
    assert_int_equal(a.message->opened->viewers->n_viewers, 1);
    TerminalSize size = TERMINAL_SIZE__INIT;
    size.rows = 30;
    size.columns = 90;
    open.display_name = (char *)(uintptr_t) "Bob";
    open.size = &size;
    struct looker b = look(s, id, &open);
    assert_int_equal(b.message->opened->viewers->n_viewers, 2);
    assert_string_equal(b.message->opened->viewers->viewers[0]->display_name, "Ada \xc3\x96");
    do
        look_until(&a, ATTACH_TERMINAL_RESPONSE__KIND_VIEWERS);
    while (a.message->viewers->n_viewers != 2);
    assert_string_equal(a.message->viewers->viewers[1]->display_name, "Bob");
    assert_int_equal(a.message->viewers->viewers[1]->size->columns, 90);
    stop_looking(&b);
    do
        look_until(&a, ATTACH_TERMINAL_RESPONSE__KIND_VIEWERS);
    while (a.message->viewers->n_viewers != 1);
    stop_looking(&a);
}

static const char *open_error(struct svc *s, const char *id, const char *name, unsigned rows,
                              unsigned columns)
{
    static char reason[48];
    TerminalOpen open = TERMINAL_OPEN__INIT;
    TerminalSize size = TERMINAL_SIZE__INIT;
    size.rows = rows;
    size.columns = columns;
    open.display_name = (char *)(uintptr_t)name;
    open.size = &size;
    struct looker l = look(s, id, &open);
    snprintf(reason, sizeof reason, "%s", l.err ? l.err->reason : "OK");
    stop_looking(&l);
    return reason;
}

static void what_is_out_of_bounds_is_refused(void **state)
{
    enum { PIECE = 64 << 10 };
    struct svc *s = *state;
    static char name[300], much[PIECE + 1];
    const char *id = start_terminal(s, "stty raw; exec cat >/dev/null");
    for (int i = 0; i < 128; i++)
        memcpy(name + 2 * i, "\xc3\xa4", 2);
    assert_string_equal(open_error(s, id, name, 24, 80), "OK");
    strcat(name, "x");
    assert_string_equal(open_error(s, id, name, 24, 80), "INVALID_REQUEST");
    assert_string_equal(open_error(s, id, "", 0, 0), "INVALID_REQUEST");
    assert_string_equal(open_error(s, id, "", 1, 1001), "INVALID_REQUEST");
    assert_string_equal(open_error(s, id, "", 1000, 1000), "OK");
    struct looker l = look_in_control(s, id);
    type_at(&l, l.lease, 0, much, PIECE);
    look_until(&l, ATTACH_TERMINAL_RESPONSE__KIND_INPUT_TAKEN);
    assert_int_equal(l.message->input_taken->next_offset, PIECE);
    type_at(&l, l.lease, PIECE, much, PIECE + 1);
    while (look_on(&l))
        ;
    assert_string_equal(l.err->reason, "INVALID_REQUEST");
    stop_looking(&l);
    l = look(s, id, NULL);
    change_size(&l, 0, 0);
    while (look_on(&l))
        ;
    assert_string_equal(l.err->reason, "INVALID_REQUEST");
    stop_looking(&l);
}

static void size_becomes(struct looker *l, unsigned rows, unsigned columns)
{
    while (l->rows != rows || l->columns != columns)
        look_until(l, ATTACH_TERMINAL_RESPONSE__KIND_RESIZED);
}

static struct looker look_with_size(struct svc *s, const char *id, unsigned rows, unsigned columns,
                                    bool control)
{
    TerminalOpen open = TERMINAL_OPEN__INIT;
    TerminalSize size = TERMINAL_SIZE__INIT;
    TerminalAcquire acquire = TERMINAL_ACQUIRE__INIT;
    acquire.take_over = true;
    size.rows = rows;
    size.columns = columns;
    open.size = &size;
    if (control)
        open.acquire = &acquire;
    struct looker l = look(s, id, &open);
    assert_non_null(l.message);
    return l;
}

static void the_leader_has_the_size(void **state)
{
    struct svc *s = *state;
    const char *id = start_terminal(s, "exec sleep 1000");
    struct looker a = look_with_size(s, id, 50, 100, true), b = look_with_size(s, id, 40, 120, false);
    size_becomes(&b, 50, 100);
    change_size(&b, 41, 121); /* does not lead */
    change_size(&a, 51, 101);
    size_becomes(&b, 51, 101);
    ask_control(&b, true);
    size_becomes(&a, 41, 121);
    assert_string_equal(resize_error(s, id, 5, 6), "OK"); /* whatever they are, */
    size_becomes(&a, 5, 6);
    change_size(&a, 52, 102); /* until one changes */
    size_becomes(&a, 41, 121);
    stop_looking(&a);
    stop_looking(&b);
}

static void the_smallest_has_the_size(void **state)
{
    struct svc *s = *state;
    TerminalSpec terminal = TERMINAL_SPEC__INIT;
    terminal.size_policy = TERMINAL_SIZE_POLICY_SMALLEST;
    const char *id = start_terminal_of(s, "exec sleep 1000", &terminal);
    struct looker none = look(s, id, NULL), a = look_with_size(s, id, 50, 100, true);
    size_becomes(&none, 50, 100);
    struct looker b = look_with_size(s, id, 40, 120, false);
    size_becomes(&none, 40, 100);
    stop_looking(&a);
    size_becomes(&none, 40, 120);
    change_size(&b, 60, 60);
    size_becomes(&none, 60, 60);
    stop_looking(&b);
    stop_looking(&none);
}

static void a_thousand_may_look(void **state)
{
    enum { MAX = 1000 };
    struct svc *s = *state;
    static struct looker l[MAX];
    const char *id = start_terminal(s, "stty -echo; echo ready; exec cat");
    l[0] = look_in_control(s, id);
    look_for(&l[0], "ready");
    for (int i = 1; i < MAX; i++) {
        l[i] = look(s, id, NULL);
        assert_non_null(l[i].message);
    }
    struct looker more = look(s, id, NULL);
    assert_string_equal(more.err->reason, "TOO_MANY");
    stop_looking(&more);
    type(&l[0], "all\n");
    for (int i = 0; i < MAX; i++)
        look_for(&l[i], "all");
    for (int i = 0; i < MAX; i++)
        stop_looking(&l[i]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, svc_setup, svc_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_types_at_a_time),
        TEST(input_is_taken_once_and_in_order),
        TEST(a_lease_does_not_live_through_a_restart),
        TEST(everybody_sees_who_looks),
        TEST(what_is_out_of_bounds_is_refused),
        TEST(the_leader_has_the_size),
        TEST(the_smallest_has_the_size),
        TEST(a_thousand_may_look),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
