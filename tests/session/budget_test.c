/* What turns take is told as measured, estimated or unknown, and a budget stops before the next turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
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

static char *set_budget(const char *id, Budget *budget)
{
    static char text[64];
    SetBudgetRequest req = SET_BUDGET_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)id;
    req.budget = budget;
    sa_error *err = NULL;
    rpc_message_free(set_budget_wait(stack->caller.channel, &req, NULL, &err));
    snprintf(text, sizeof text, "%s", err ? err->reason : "");
    sa_error_free(err);
    return text;
}

static void near(double a, double b)
{
    assert_true(a - b < 1e-9 && b - a < 1e-9);
}

static void use_is_told_by_turn_and_by_session(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    const Event *e = viewer_turn_end(v, send_prompt(stack, id, "USAGE 100 0.5\nTOKENS 10 5"));
    assert_int_equal(e->turn_ended->usage->tokens_source, USAGE_SOURCE_MEASURED);
    assert_int_equal(e->turn_ended->usage->total_tokens, 15);
    near(e->turn_ended->usage->cost, 0.5);
    stack_crash_session(stack);
    e = viewer_turn_end(v, send_prompt(stack, id, "USAGE 130 0.75"));
    assert_int_equal(e->turn_ended->usage->tokens_source, USAGE_SOURCE_ESTIMATED);
    assert_int_equal(e->turn_ended->usage->total_tokens, 30);
    assert_int_equal(e->turn_ended->usage->cost_source, USAGE_SOURCE_MEASURED);
    near(e->turn_ended->usage->cost, 0.25);
    e = viewer_turn_end(v, send_prompt(stack, id, "nothing is told"));
    assert_int_equal(e->turn_ended->usage->tokens_source, USAGE_SOURCE_UNSPECIFIED);
    assert_int_equal(e->turn_ended->usage->cost_source, USAGE_SOURCE_UNSPECIFIED);
    GetSessionResponse *res = get_session(stack, id);
    const SessionUsage *u = res->session->usage;
    assert_int_equal(u->turns, 3);
    assert_int_equal(u->measured_tokens, 15);
    assert_int_equal(u->estimated_tokens, 30);
    assert_int_equal(u->unknown_token_turns, 1);
    assert_int_equal(u->unknown_cost_turns, 1);
    near(u->measured_cost, 0.75);
    assert_string_equal(u->currency, "USD");
    rpc_message_free(res);
    GetTurnRequest req = GET_TURN_REQUEST__INIT;
    req.session_id = id;
    req.turn = 1;
    GetTurnResponse *turn = get_turn_wait(stack->caller.channel, &req, NULL, NULL);
    assert_int_equal(turn->turn->usage->total_tokens, 15);
    rpc_message_free(turn);
    viewer_close(v);
}

/* Two wait while the first spends what there is: neither is run, each ends with the reason. */
static void a_spent_budget_stops_before_the_next_turn(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    Budget budget = BUDGET__INIT;
    budget._max_cost_case = BUDGET___MAX_COST_MAX_COST;
    budget.max_cost = 0.5;
    assert_string_equal(set_budget(id, &budget), "INVALID_REQUEST"); /* of which currency? */
    budget.currency = (char[]){"USD"};
    assert_string_equal(set_budget(id, &budget), "");
    assert_string_equal(set_budget(id, &budget), "");
    send_prompt(stack, id, "SLOW 200\nUSAGE 10 0.5");
    send_prompt(stack, id, "two");
    send_prompt(stack, id, "three");
    const Event *e = viewer_turn_end(v, 3);
    assert_int_equal(e->turn_ended->stop_reason, STOP_REASON_BUDGET);
    assert_string_equal(e->turn_ended->error_reason, "BUDGET_EXCEEDED");
    assert_null(e->turn_ended->usage);
    assert_int_equal(viewer_count(v, EVENT__KIND_TURN_STARTED), 1);
    assert_int_equal(viewer_count(v, EVENT__KIND_BUDGET_SET), 1);
    e = viewer_until(v, 0, EVENT__KIND_BUDGET_EXCEEDED, 2);
    assert_int_equal(e->budget_exceeded->limit, BUDGET_LIMIT_COST);
    assert_false(e->budget_exceeded->unknown);
    near(e->budget_exceeded->usage->measured_cost, 0.5);
    struct reason r = try_prompt(stack, id, "four", "", NULL);
    assert_string_equal(r.text, "BUDGET_EXCEEDED");
    stack_crash_session(stack);
    assert_string_equal(try_prompt(stack, id, "four", "", NULL).text, "BUDGET_EXCEEDED");
    budget.max_cost = 1;
    assert_string_equal(set_budget(id, &budget), "");
    e = viewer_turn_end(v, send_prompt(stack, id, "USAGE 20 0.6"));
    assert_int_equal(e->turn_ended->stop_reason, STOP_REASON_END_TURN);
    viewer_close(v);
}

/* An absent number was once read as zero, so that a guard let everything pass. */
static void what_is_unknown_is_not_zero(void **state)
{
    (void)state;
    CreateSessionRequest req = CREATE_SESSION_REQUEST__INIT;
    Budget budget = BUDGET__INIT;
    budget._max_tokens_case = BUDGET___MAX_TOKENS_MAX_TOKENS;
    budget.max_tokens = 1000;
    req.agent = (char[]){"mock"};
    req.budget = &budget;
    cleanup_free char *id = NULL;
    assert_string_equal(try_create(stack, &req, &id).text, "");
    struct viewer *v = viewer_open(stack, id);
    viewer_turn_end(v, send_prompt(stack, id, "TOKENS 10 5"));
    viewer_turn_end(v, send_prompt(stack, id, "nothing is told"));
    struct reason r = try_prompt(stack, id, "more", "", NULL);
    assert_string_equal(r.text, "BUDGET_EXCEEDED");
    assert_non_null(strstr(r.message, "unknown"));
    budget.unknown = UNKNOWN_USAGE_IGNORE;
    assert_string_equal(set_budget(id, &budget), "");
    viewer_turn_end(v, send_prompt(stack, id, "TOKENS 900 300"));
    r = try_prompt(stack, id, "more", "", NULL);
    assert_string_equal(r.text, "BUDGET_EXCEEDED");
    assert_null(strstr(r.message, "unknown"));
    assert_string_equal(set_budget(id, NULL), "");
    viewer_turn_end(v, send_prompt(stack, id, "more"));
    GetSessionResponse *res = get_session(stack, id);
    assert_null(res->session->budget);
    rpc_message_free(res);
    viewer_close(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(use_is_told_by_turn_and_by_session),
        cmocka_unit_test(a_spent_budget_stops_before_the_next_turn),
        cmocka_unit_test(what_is_unknown_is_not_zero),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
