/* The queue: prompts are moved, withdrawn, put first to steer; what callers are told of turns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

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

static ListTurnsResponse *list(const char *id, TurnState state, int32_t size, const char *token)
{
    ListTurnsRequest req = LIST_TURNS_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)id;
    req.state = state;
    req.page_size = size;
    req.page_token = (char *)(uintptr_t)token;
    ListTurnsResponse *res = list_turns_wait(stack->caller.channel, &req, NULL, NULL);
    assert_non_null(res);
    return res;
}

static GetTurnResponse *get(const char *id, uint64_t turn)
{
    GetTurnRequest req = GET_TURN_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)id;
    req.turn = turn;
    GetTurnResponse *res = get_turn_wait(stack->caller.channel, &req, NULL, NULL);
    assert_non_null(res);
    return res;
}

/* A session whose first turn runs until it is cancelled, with n prompts behind it. */
static char *busy_session(struct viewer **ret_viewer, int n)
{
    char *id = create_session(stack, "mock", NULL);
    *ret_viewer = viewer_open(stack, id);
    send_prompt(stack, id, "HANG");
    viewer_until(*ret_viewer, 0, EVENT__KIND_TURN_STARTED, 1);
    for (int i = 0; i < n; i++)
        send_prompt(stack, id, "x");
    return id;
}

enum { PROMPTS = 9, STEPS = 60 };

static void check_order(const char *id, const uint64_t *order, size_t n)
{
    ListTurnsResponse *res = list(id, TURN_STATE_QUEUED, 0, "");
    assert_int_equal(res->n_turns, n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(res->turns[i]->turn, order[i]);
        assert_int_equal(res->turns[i]->position, i + 1);
    }
    rpc_message_free(res);
}

static void remove_at(uint64_t *order, size_t *n, size_t at)
{
    memmove(order + at, order + at + 1, (--*n - at) * sizeof *order);
}

static void insert_at(uint64_t *order, size_t *n, size_t at, uint64_t turn)
{
    memmove(order + at + 1, order + at, ((*n)++ - at) * sizeof *order);
    order[at] = turn;
}

/* Against an array; the order outlives kill -9, and is the one in which the turns run. */
static void prompts_run_in_the_order_they_were_moved_to(void **state)
{
    (void)state;
    struct viewer *v;
    cleanup_free char *id = busy_session(&v, PROMPTS);
    uint64_t order[PROMPTS + 1];
    size_t n = 0;
    for (uint64_t turn = 2; n < PROMPTS; turn++)
        order[n++] = turn;
    unsigned dice = 7;
    for (int step = 0; step < STEPS; step++) {
        dice = dice * 1103515245 + 12345;
        size_t from = (dice >> 8) % n, to = (dice >> 16) % (n + 2);
        uint64_t turn = order[from];
        if (step % 20 == 19) {
            assert_string_equal(try_withdraw(stack, id, turn).text, "");
            remove_at(order, &n, from);
        } else {
            uint32_t got = 0;
            assert_string_equal(try_move(stack, id, turn, (uint32_t)to + 1, &got).text, "");
            remove_at(order, &n, from);
            insert_at(order, &n, to < n ? to : n, turn);
            assert_int_equal(got, to < n ? to + 1 : n);
        }
        check_order(id, order, n);
        if (step == STEPS / 2)
            stack_crash_session(stack);
    }
    cancel_turn(stack, id, 1);
    uint64_t seq = 0;
    for (size_t i = 0; i < n; i++) {
        const Event *e = viewer_until(v, 0, EVENT__KIND_TURN_STARTED, order[i]);
        assert_true(e->seq > seq);
        seq = e->seq;
        viewer_turn_end(v, order[i]);
    }
    const Event *moved = viewer_until(v, 0, EVENT__KIND_PROMPT_MOVED, 0);
    assert_string_equal(moved->prompt_moved->author, "tester");
    assert_true(moved->prompt_moved->position >= 1);
    viewer_close(v);
}

static void what_runs_or_has_run_cannot_be_moved(void **state)
{
    (void)state;
    struct viewer *v;
    cleanup_free char *id = busy_session(&v, 2);
    assert_string_equal(try_move(stack, id, 1, 1, NULL).text, "TURN_NOT_QUEUED");
    assert_string_equal(try_withdraw(stack, id, 1).text, "TURN_NOT_QUEUED");
    assert_string_equal(try_move(stack, id, 9, 1, NULL).text, "TURN_NOT_FOUND");
    assert_string_equal(try_move(stack, id, 0, 1, NULL).text, "TURN_NOT_FOUND");
    assert_string_equal(try_move(stack, id, 2, 0, NULL).text, "INVALID_REQUEST");
    assert_string_equal(try_withdraw(stack, id, 2).text, "");
    assert_string_equal(try_withdraw(stack, id, 2).text, ""); /* it is as asked */
    assert_string_equal(try_move(stack, id, 2, 1, NULL).text, "TURN_NOT_QUEUED");
    assert_string_equal(try_move(stack, id, 3, 1, NULL).text, ""); /* stays: no event */
    cancel_turn(stack, id, 1);
    viewer_turn_end(v, 3);
    assert_int_equal(viewer_count(v, EVENT__KIND_PROMPT_MOVED), 0);
    assert_string_equal(try_move(stack, id, 3, 1, NULL).text, "TURN_NOT_QUEUED");
    assert_string_equal(try_withdraw(stack, id, 3).text, "TURN_NOT_QUEUED");
    viewer_close(v);
}

/* One of two callers at once wins; the other one is told, and the log says so too. */
static void a_prompt_that_starts_while_it_is_moved_is_told(void **state)
{
    (void)state;
    struct viewer *v;
    cleanup_free char *id = busy_session(&v, 2);
    cancel_turn(stack, id, 1);
    int moved = 0;
    for (uint32_t position = 2;; position = 3 - position) {
        struct reason r = try_move(stack, id, 2, position, NULL);
        if (*r.text) {
            assert_string_equal(r.text, "TURN_NOT_QUEUED");
            break;
        }
        moved++;
    }
    viewer_turn_end(v, 2);
    viewer_turn_end(v, 3);
    assert_true(viewer_count(v, EVENT__KIND_PROMPT_MOVED) <= (size_t)moved);
    viewer_close(v);
}

static void steering_cancels_and_goes_first_where_the_agent_takes_no_text(void **state)
{
    (void)state;
    struct viewer *v;
    cleanup_free char *id = busy_session(&v, 1);
    uint64_t turn = 0;
    assert_string_equal(try_steer(stack, id, 0, "left", "k", STEER_FALLBACK_UNSPECIFIED, &turn).text,
                        "STEERING_UNSUPPORTED");
    assert_string_equal(try_steer(stack, id, 2, "left", "k", STEER_FALLBACK_CANCEL, &turn).text,
                        "NO_TURN_RUNNING");
    for (int i = 0; i < 3; i++) {
        assert_string_equal(try_steer(stack, id, 1, "left", "k", STEER_FALLBACK_CANCEL, &turn).text, "");
        assert_int_equal(turn, 3);
    }
    assert_string_equal(try_steer(stack, id, 0, "right", "k", STEER_FALLBACK_CANCEL, &turn).text,
                        "REQUEST_ID_REUSED");
    const Event *ended = viewer_turn_end(v, 1), *steered = viewer_until(v, 0, EVENT__KIND_TURN_STEERED, 1);
    assert_int_equal(ended->turn_ended->stop_reason, STOP_REASON_CANCELLED);
    assert_string_equal(ended->turn_ended->author, "tester");
    assert_int_equal(steered->turn_steered->next_turn, 3);
    assert_int_equal(viewer_until(v, 0, EVENT__KIND_PROMPT_ACCEPTED, 3)->prompt_accepted->position, 1);
    assert_true(viewer_turn_end(v, 3)->seq < viewer_until(v, 0, EVENT__KIND_TURN_STARTED, 2)->seq);
    cleanup_free char *text = viewer_text(v, 3);
    assert_string_equal(text, "You said: left\n");
    assert_int_equal(viewer_count(v, EVENT__KIND_TURN_STEERED), 1);
    viewer_turn_end(v, 2);
    assert_string_equal(try_steer(stack, id, 0, "x", "", STEER_FALLBACK_CANCEL, NULL).text,
                        "NO_TURN_RUNNING");
    viewer_close(v);
}

static void a_turn_is_told_with_all_that_became_of_it(void **state)
{
    (void)state;
    struct viewer *v;
    cleanup_free char *id = busy_session(&v, 0);
    uint64_t turn = 0;
    assert_string_equal(try_prompt(stack, id, "a second \xc3\xa4", "key-2", &turn).text, "");
    GetTurnResponse *res = get(id, 2);
    assert_int_equal(res->turn->state, TURN_STATE_QUEUED);
    assert_int_equal(res->turn->position, 1);
    assert_string_equal(res->turn->author, "tester");
    assert_string_equal(res->turn->request_id, "key-2");
    assert_string_equal(res->turn->preview, "a second \xc3\xa4");
    assert_null(res->turn->start_time);
    rpc_message_free(res);
    res = get(id, 1);
    assert_int_equal(res->turn->state, TURN_STATE_RUNNING);
    assert_non_null(res->turn->start_time);
    rpc_message_free(res);
    cancel_turn(stack, id, 0);
    const Event *end = viewer_turn_end(v, 1);
    res = get(id, 1);
    assert_int_equal(res->turn->state, TURN_STATE_ENDED);
    assert_int_equal(res->turn->stop_reason, STOP_REASON_CANCELLED);
    assert_int_equal(res->turn->end_seq, end->seq);
    assert_non_null(res->turn->end_time);
    rpc_message_free(res);
    viewer_turn_end(v, 2);
    GetTurnRequest none = GET_TURN_REQUEST__INIT;
    none.session_id = id;
    none.turn = 3;
    sa_error *err = NULL;
    assert_null(get_turn_wait(stack->caller.channel, &none, NULL, &err));
    assert_string_equal(err->reason, "TURN_NOT_FOUND");
    sa_error_free(err);
    viewer_close(v);
}

static void turns_are_listed_newest_first_in_pages(void **state)
{
    (void)state;
    struct viewer *v;
    cleanup_free char *id = busy_session(&v, 6), *token = sa_strdup("");
    uint64_t expected = 7;
    do {
        ListTurnsResponse *res = list(id, TURN_STATE_UNSPECIFIED, 2, token);
        assert_true(res->n_turns <= 2);
        for (size_t i = 0; i < res->n_turns; i++)
            assert_int_equal(res->turns[i]->turn, expected--);
        free(token);
        token = sa_strdup(res->next_page_token);
        rpc_message_free(res);
        if (expected == 5)
            send_prompt(stack, id, "new ones do not disturb");
    } while (*token);
    assert_int_equal(expected, 0);
    ListTurnsResponse *res = list(id, TURN_STATE_RUNNING, 0, "");
    assert_int_equal(res->n_turns, 1);
    assert_int_equal(res->turns[0]->turn, 1);
    rpc_message_free(res);
    ListTurnsRequest bad = LIST_TURNS_REQUEST__INIT;
    bad.session_id = id;
    bad.page_token = (char[]){"made up"};
    sa_error *err = NULL;
    assert_null(list_turns_wait(stack->caller.channel, &bad, NULL, &err));
    assert_string_equal(err->reason, "INVALID_PAGE_TOKEN");
    sa_error_free(err);
    viewer_close(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts_run_in_the_order_they_were_moved_to),
        cmocka_unit_test(what_runs_or_has_run_cannot_be_moved),
        cmocka_unit_test(a_prompt_that_starts_while_it_is_moved_is_told),
        cmocka_unit_test(steering_cancels_and_goes_first_where_the_agent_takes_no_text),
        cmocka_unit_test(a_turn_is_told_with_all_that_became_of_it),
        cmocka_unit_test(turns_are_listed_newest_first_in_pages),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
