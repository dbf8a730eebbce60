#include "services/session-svc/budget.h"

#include <stdlib.h>
#include <string.h>

#include "services/session-svc/profile.h"
#include "services/session-svc/sessions.h"

int budget_check(const Budget *b, sa_error **err)
{
    if (!b)
        return 0;
    if (b->_max_cost_case && !(b->max_cost >= 0 && b->max_cost <= 1e9))
        return sa_fail(err, SA_INVALID_REQUEST, "budget.max_cost: is not between 0 and 1e9");
    if (b->_max_cost_case && (!*b->currency || strlen(b->currency) > USAGE_CURRENCY_MAX))
        return sa_fail(err, SA_INVALID_REQUEST, "budget.currency: is empty or over %d bytes",
                       USAGE_CURRENCY_MAX);
    if (!b->_max_cost_case && !b->_max_tokens_case && !b->_max_turns_case)
        return sa_fail(err, SA_INVALID_REQUEST, "budget: sets no limit");
    return 0;
}

static bool same(const Budget *a, const Budget *b)
{
    if (!a || !b)
        return a == b;
    size_t n = budget__get_packed_size(a);
    if (n != budget__get_packed_size(b))
        return false;
    cleanup_free uint8_t *x = sa_malloc(n + 1), *y = sa_malloc(n + 1);
    budget__pack(a, x);
    budget__pack(b, y);
    return !memcmp(x, y, n);
}

int budget_set(struct session *s, Budget *b, const char *author, sa_error **err)
{
    if (s->state == SESSION_STATE_DESTROYED)
        return sa_fail(err, SA_SESSION_DESTROYED, "session %s was destroyed", s->name);
    if (budget_check(b, err))
        return -1;
    if (same(s->profile->budget, b))
        return 0;
    StoredProfile now = *s->profile;
    now.budget = b;
    profile_replace(s, &now);
    BudgetSet set = BUDGET_SET__INIT;
    set.budget = b;
    set.author = (char *)(uintptr_t)author;
    Event e = EVENT__INIT;
    e.kind_case = EVENT__KIND_BUDGET_SET;
    e.budget_set = &set;
    session_event(s, &e);
    return 0;
}

int budget_allows(struct session *s, sa_error **err)
{
    struct usage_verdict v = usage_check(&s->usage, s->profile->budget);
    return v.limit ? sa_fail(err, SA_BUDGET_EXCEEDED, "session %s: %s", s->name, v.message) : 0;
}

char *budget_refuses(struct session *s, uint64_t turn)
{
    struct usage_verdict v = usage_check(&s->usage, s->profile->budget);
    if (!v.limit)
        return NULL;
    SessionUsage usage = SESSION_USAGE__INIT;
    usage_total(&s->usage, &usage);
    BudgetExceeded exceeded = BUDGET_EXCEEDED__INIT;
    exceeded.limit = v.limit;
    exceeded.unknown = v.unknown;
    exceeded.message = v.message;
    exceeded.usage = &usage;
    Event e = EVENT__INIT;
    e.turn = turn;
    e.kind_case = EVENT__KIND_BUDGET_EXCEEDED;
    e.budget_exceeded = &exceeded;
    session_event(s, &e);
    return sa_strdup(v.message);
}

/* ---- stored ---- */

void budget_load(struct session *s, const StoredSession *row)
{
    struct usage *u = &s->usage;
    const StoredUsage *m = row->usage;
    *u = (struct usage){0};
    if (!m || !m->total)
        return;
    u->turns = m->total->turns;
    u->measured_tokens = m->total->measured_tokens;
    u->measured_input = m->total->measured_input_tokens;
    u->measured_output = m->total->measured_output_tokens;
    u->estimated_tokens = m->total->estimated_tokens;
    u->unknown_token_turns = m->total->unknown_token_turns;
    u->measured_cost = m->total->measured_cost;
    u->estimated_cost = m->total->estimated_cost;
    u->unknown_cost_turns = m->total->unknown_cost_turns;
    snprintf(u->currency, sizeof u->currency, "%s", m->total->currency);
    u->cost_known = m->cost_known;
    u->cost = m->cost;
    u->cost_process = m->cost_process;
    u->turn_cost_known = m->turn_cost_known;
    u->turn_cost = m->turn_cost;
    u->turn_cost_guessed = m->turn_cost_guessed;
    u->context_known = m->context_known;
    u->context = m->context;
    u->turn_context_known = m->turn_context_known;
    u->turn_context = m->turn_context;
}

void budget_fill_row(const struct session *s, StoredSession *row, struct sa_arena *arena)
{
    const struct usage *u = &s->usage;
    StoredUsage *m = row->usage = sa_arena_alloc(arena, sizeof *m);
    *m = (StoredUsage)STORED_USAGE__INIT;
    m->total = sa_arena_alloc(arena, sizeof *m->total);
    *m->total = (SessionUsage)SESSION_USAGE__INIT;
    usage_total(u, m->total);
    m->cost_known = u->cost_known;
    m->cost = u->cost;
    m->cost_process = u->cost_process;
    m->turn_cost_known = u->turn_cost_known;
    m->turn_cost = u->turn_cost;
    m->turn_cost_guessed = u->turn_cost_guessed;
    m->context_known = u->context_known;
    m->context = u->context;
    m->turn_context_known = u->turn_context_known;
    m->turn_context = u->turn_context;
}

/* ---- for callers ---- */

void budget_describe(Session *out, const StoredSession *row, const StoredProfile *profile,
                     struct sa_arena *arena)
{
    out->usage = sa_arena_alloc(arena, sizeof *out->usage);
    *out->usage = (SessionUsage)SESSION_USAGE__INIT;
    if (row->usage && row->usage->total) {
        ProtobufCMessage base = out->usage->base;
        *out->usage = *row->usage->total;
        out->usage->base = base;
        out->usage->currency = sa_arena_strdup(arena, row->usage->total->currency);
    }
    if (!profile->budget)
        return;
    out->budget = sa_arena_memdup(arena, profile->budget, sizeof *profile->budget);
    out->budget->base = (ProtobufCMessage){.descriptor = &budget__descriptor};
    out->budget->currency = sa_arena_strdup(arena, profile->budget->currency);
}

TurnUsage *budget_copy_turn(struct sa_arena *arena, const TurnUsage *from)
{
    if (!from)
        return NULL;
    TurnUsage *copy = sa_arena_memdup(arena, from, sizeof *from);
    copy->base = (ProtobufCMessage){.descriptor = &turn_usage__descriptor};
    copy->currency = sa_arena_strdup(arena, from->currency);
    return copy;
}
