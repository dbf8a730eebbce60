#include "services/session-svc/usage.h"

#include <stdio.h>
#include <string.h>

/* Beyond these an agent talks nonsense: unknown. */
#define COST_MAX 1e9
enum { TOKENS_BITS = 50 };

void usage_turn_starts(struct usage *u, bool first)
{
    u->turn_cost_known = u->turn_cost_guessed = false;
    u->turn_cost = 0;
    u->turn_context_known = first || u->context_known;
    u->turn_context = first ? 0 : u->context;
}

static bool same_currency(struct usage *u, const char *currency)
{
    size_t n = strlen(currency);
    if (!n || n > USAGE_CURRENCY_MAX)
        return false;
    if (!*u->currency)
        memcpy(u->currency, currency, n + 1);
    return !strcmp(u->currency, currency);
}

/* A smaller sum began anew. One of another process that is not smaller may be either. */
static void cost_reported(struct usage *u, double sum, uint64_t process)
{
    bool other = u->cost_known && u->cost_process != process;
    bool anew = !u->cost_known || sum < u->cost;
    bool guessed = (other && !anew && u->cost > 0) || (!other && anew && u->cost_known);
    double more = anew ? sum : sum - u->cost;
    u->cost_known = true;
    u->cost = sum;
    u->cost_process = process;
    u->turn_cost_known = true;
    u->turn_cost += more;
    u->turn_cost_guessed |= guessed;
    if (guessed)
        u->estimated_cost += more;
    else
        u->measured_cost += more;
}

void usage_reported(struct usage *u, const Usage *report, uint64_t process)
{
    if (report->_used_tokens_case && report->used_tokens >> TOKENS_BITS == 0) {
        u->context_known = true;
        u->context = report->used_tokens;
    }
    if (report->_cost_case && report->cost >= 0 && report->cost <= COST_MAX &&
        same_currency(u, report->currency))
        cost_reported(u, report->cost, process);
}

static uint64_t tokens(struct json v, const char *name)
{
    uint64_t n = 0;
    return json_uint(json_get(v, name), &n) && n >> TOKENS_BITS == 0 ? n : 0;
}

static void count_tokens(struct usage *u, struct json answer, TurnUsage *ret)
{
    ret->input_tokens = tokens(answer, "inputTokens");
    ret->output_tokens = tokens(answer, "outputTokens");
    ret->cached_read_tokens = tokens(answer, "cachedReadTokens");
    ret->cached_write_tokens = tokens(answer, "cachedWriteTokens");
    ret->thought_tokens = tokens(answer, "thoughtTokens");
    ret->total_tokens = tokens(answer, "totalTokens");
    if (!ret->total_tokens)
        ret->total_tokens = ret->input_tokens + ret->output_tokens;
    if (ret->total_tokens) {
        ret->tokens_source = USAGE_SOURCE_MEASURED;
        u->measured_tokens += ret->total_tokens;
        u->measured_input += ret->input_tokens;
        u->measured_output += ret->output_tokens;
    } else if (u->context_known && u->turn_context_known && u->context > u->turn_context) {
        ret->tokens_source = USAGE_SOURCE_ESTIMATED;
        ret->total_tokens = u->context - u->turn_context;
        u->estimated_tokens += ret->total_tokens;
    } else {
        u->unknown_token_turns++;
    }
}

void usage_turn_ends(struct usage *u, struct json answer, TurnUsage *ret)
{
    u->turns++;
    count_tokens(u, answer, ret);
    if (!u->turn_cost_known) {
        u->unknown_cost_turns++;
        return;
    }
    ret->cost_source = u->turn_cost_guessed ? USAGE_SOURCE_ESTIMATED : USAGE_SOURCE_MEASURED;
    ret->cost = u->turn_cost;
    ret->currency = u->currency;
}

void usage_total(const struct usage *u, SessionUsage *ret)
{
    ret->turns = u->turns;
    ret->measured_tokens = u->measured_tokens;
    ret->measured_input_tokens = u->measured_input;
    ret->measured_output_tokens = u->measured_output;
    ret->estimated_tokens = u->estimated_tokens;
    ret->unknown_token_turns = u->unknown_token_turns;
    ret->measured_cost = u->measured_cost;
    ret->estimated_cost = u->estimated_cost;
    ret->unknown_cost_turns = u->unknown_cost_turns;
    ret->currency = (char *)(uintptr_t)u->currency;
}

/* ---- budgets ---- */

static struct usage_verdict check_turns(const struct usage *u, const Budget *b)
{
    struct usage_verdict v = {0};
    if (!b->_max_turns_case || u->turns < b->max_turns)
        return v;
    v.limit = BUDGET_LIMIT_TURNS;
    snprintf(v.message, sizeof v.message, "%llu of %llu turns were run", (unsigned long long)u->turns,
             (unsigned long long)b->max_turns);
    return v;
}

static struct usage_verdict check_tokens(const struct usage *u, const Budget *b, bool stop)
{
    struct usage_verdict v = {0};
    uint64_t n = u->measured_tokens + u->estimated_tokens;
    if (!b->_max_tokens_case)
        return v;
    if (n >= b->max_tokens) {
        v.limit = BUDGET_LIMIT_TOKENS;
        snprintf(v.message, sizeof v.message, "%llu of %llu tokens are used", (unsigned long long)n,
                 (unsigned long long)b->max_tokens);
    } else if (stop && u->unknown_token_turns) {
        v = (struct usage_verdict){.limit = BUDGET_LIMIT_TOKENS, .unknown = true};
        snprintf(v.message, sizeof v.message, "the tokens of %llu of %llu turns are unknown",
                 (unsigned long long)u->unknown_token_turns, (unsigned long long)u->turns);
    }
    return v;
}

static struct usage_verdict check_cost(const struct usage *u, const Budget *b, bool stop)
{
    struct usage_verdict v = {0};
    double cost = u->measured_cost + u->estimated_cost;
    bool other = *u->currency && strcmp(u->currency, b->currency) != 0;
    if (!b->_max_cost_case)
        return v;
    if (!other && cost >= b->max_cost) {
        v.limit = BUDGET_LIMIT_COST;
        snprintf(v.message, sizeof v.message, "%.4f of %.4f %.15s are spent", cost, b->max_cost, b->currency);
    } else if (stop && (other || u->unknown_cost_turns)) {
        v = (struct usage_verdict){.limit = BUDGET_LIMIT_COST, .unknown = true};
        if (other)
            snprintf(v.message, sizeof v.message, "the cost is told in %s, not %.15s", u->currency,
                     b->currency);
        else
            snprintf(v.message, sizeof v.message, "the cost of %llu of %llu turns is unknown",
                     (unsigned long long)u->unknown_cost_turns, (unsigned long long)u->turns);
    }
    return v;
}

struct usage_verdict usage_check(const struct usage *u, const Budget *b)
{
    struct usage_verdict v = {0};
    if (!b)
        return v;
    bool stop = b->unknown != UNKNOWN_USAGE_IGNORE;
    v = check_turns(u, b);
    if (!v.limit)
        v = check_tokens(u, b, stop);
    return v.limit ? v : check_cost(u, b, stop);
}
