#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "services/session-svc/usage.h"

static void report(struct usage *u, double cost, const char *currency, uint64_t context, uint64_t process)
{
    Usage r = USAGE__INIT;
    if (cost >= 0)
        r._cost_case = USAGE___COST_COST;
    r.cost = cost;
    r.currency = (char *)(uintptr_t)currency;
    r._used_tokens_case = USAGE___USED_TOKENS_USED_TOKENS;
    r.used_tokens = context;
    usage_reported(u, &r, process);
}

static TurnUsage end(struct usage *u, const char *answer)
{
    TurnUsage t = TURN_USAGE__INIT;
    usage_turn_ends(u, answer ? json_of(answer) : (struct json){0}, &t);
    return t;
}

static void near(double a, double b)
{
    assert_true(a - b < 1e-9 && b - a < 1e-9);
}

static void the_sum_of_the_agent_becomes_the_cost_of_turns(void **state)
{
    (void)state;
    struct usage u = {0};
    usage_turn_starts(&u, true);
    report(&u, 0.10, "USD", 100, 1);
    report(&u, 0.25, "USD", 150, 1);
    TurnUsage t = end(&u, "{\"inputTokens\":10,\"outputTokens\":5,\"totalTokens\":15}");
    assert_int_equal(t.cost_source, USAGE_SOURCE_MEASURED);
    near(t.cost, 0.25);
    assert_int_equal(t.tokens_source, USAGE_SOURCE_MEASURED);
    assert_int_equal(t.total_tokens, 15);
    usage_turn_starts(&u, false);
    report(&u, 0.40, "USD", 300, 1);
    t = end(&u, NULL);
    near(t.cost, 0.15);
    assert_int_equal(t.tokens_source, USAGE_SOURCE_ESTIMATED);
    assert_int_equal(t.total_tokens, 150);
    usage_turn_starts(&u, false);
    t = end(&u, "null");
    assert_int_equal(t.cost_source, USAGE_SOURCE_UNSPECIFIED);
    assert_int_equal(t.tokens_source, USAGE_SOURCE_UNSPECIFIED);
    report(&u, 0.45, "USD", 300, 1); /* late: the session's, of no turn */
    near(u.measured_cost, 0.45);
    assert_int_equal(u.turns, 3);
    assert_int_equal(u.unknown_cost_turns, 1);
    assert_int_equal(u.unknown_token_turns, 1);
    assert_int_equal(u.measured_tokens, 15);
    assert_int_equal(u.estimated_tokens, 150);
}

static void another_process_begins_anew_or_with_the_old_sum(void **state)
{
    (void)state;
    struct usage u = {0};
    usage_turn_starts(&u, true);
    report(&u, 0.50, "USD", 10, 1);
    end(&u, NULL);
    usage_turn_starts(&u, false);
    report(&u, 0.20, "USD", 10, 2); /* less: it cannot hold what was before */
    TurnUsage t = end(&u, NULL);
    assert_int_equal(t.cost_source, USAGE_SOURCE_MEASURED);
    near(t.cost, 0.20);
    usage_turn_starts(&u, false);
    report(&u, 0.60, "USD", 10, 3); /* more: who knows */
    t = end(&u, NULL);
    assert_int_equal(t.cost_source, USAGE_SOURCE_ESTIMATED);
    near(t.cost, 0.40);
    near(u.measured_cost, 0.70);
    near(u.estimated_cost, 0.40);
}

static void other_currencies_and_nonsense_are_unknown(void **state)
{
    (void)state;
    struct usage u = {0};
    usage_turn_starts(&u, true);
    report(&u, 1, "USD", 10, 1);
    end(&u, NULL);
    usage_turn_starts(&u, false);
    report(&u, 9, "EUR", UINT64_MAX, 1);
    report(&u, 1e300, "USD", 10, 1);
    report(&u, 2, "", 10, 1);
    TurnUsage t = end(&u, "{\"totalTokens\":18446744073709551615,\"inputTokens\":-4,\"outputTokens\":\"x\"}");
    assert_int_equal(t.cost_source, USAGE_SOURCE_UNSPECIFIED);
    assert_int_equal(t.tokens_source, USAGE_SOURCE_UNSPECIFIED);
    near(u.measured_cost, 1);
}

static void a_limit_is_reached_by_use_or_by_what_is_unknown(void **state)
{
    (void)state;
    struct usage u = {0};
    Budget b = BUDGET__INIT;
    assert_int_equal(usage_check(&u, NULL).limit, BUDGET_LIMIT_UNSPECIFIED);
    b._max_cost_case = BUDGET___MAX_COST_MAX_COST;
    b.max_cost = 0.3;
    b.currency = (char[]){"USD"};
    assert_int_equal(usage_check(&u, &b).limit, BUDGET_LIMIT_UNSPECIFIED);
    usage_turn_starts(&u, true);
    end(&u, NULL);
    struct usage_verdict v = usage_check(&u, &b);
    assert_int_equal(v.limit, BUDGET_LIMIT_COST);
    assert_true(v.unknown);
    assert_non_null(strstr(v.message, "1 of 1 turns is unknown"));
    b.unknown = UNKNOWN_USAGE_IGNORE;
    assert_int_equal(usage_check(&u, &b).limit, BUDGET_LIMIT_UNSPECIFIED);
    usage_turn_starts(&u, false);
    report(&u, 0.3, "USD", 10, 1);
    end(&u, NULL);
    v = usage_check(&u, &b);
    assert_int_equal(v.limit, BUDGET_LIMIT_COST);
    assert_false(v.unknown);
    b.currency = (char[]){"EUR"};
    assert_int_equal(usage_check(&u, &b).limit, BUDGET_LIMIT_UNSPECIFIED);
    b.unknown = UNKNOWN_USAGE_UNSPECIFIED;
    assert_true(usage_check(&u, &b).unknown);
    Budget turns = BUDGET__INIT;
    turns._max_turns_case = BUDGET___MAX_TURNS_MAX_TURNS;
    turns.max_turns = 3;
    assert_int_equal(usage_check(&u, &turns).limit, BUDGET_LIMIT_UNSPECIFIED);
    turns.max_turns = 2;
    assert_int_equal(usage_check(&u, &turns).limit, BUDGET_LIMIT_TURNS);
    turns.max_turns = 0; /* set, and zero: nothing may be run */
    assert_int_equal(usage_check(&(struct usage){0}, &turns).limit, BUDGET_LIMIT_TURNS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sum_of_the_agent_becomes_the_cost_of_turns),
        cmocka_unit_test(another_process_begins_anew_or_with_the_old_sum),
        cmocka_unit_test(other_currencies_and_nonsense_are_unknown),
        cmocka_unit_test(a_limit_is_reached_by_use_or_by_what_is_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
