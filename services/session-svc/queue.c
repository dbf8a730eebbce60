/* The queue of a session: prompts that wait are moved, withdrawn, or go first to steer the running turn. */
#include <string.h>

#include "adapters/os/fault.h"
#include "services/session-svc/sessions.h"
#include "services/session-svc/turns.h"

static int not_queued(struct session *s, uint64_t turn, const char *why, sa_error **err)
{
    return sa_fail(err, SA_TURN_NOT_QUEUED, "session %s: turn %llu %s", s->name, (unsigned long long)turn,
                   why);
}

/* NULL: it does not wait. ret_withdrawn (may be NULL): it did, and was withdrawn. */
static struct turn *find_waiting(struct session *s, uint64_t turn, bool *ret_withdrawn, sa_error **err)
{
    struct turn *t = turns_find(s, turn);
    if (t && turns_wait(s, t))
        return t;
    if (!turn || turn > s->last_turn) {
        sa_fail(err, SA_TURN_NOT_FOUND, "session %s has no turn %llu", s->name, (unsigned long long)turn);
        return NULL;
    }
    if (turn == s->current_turn) {
        not_queued(s, turn, "runs already", err);
        return NULL;
    }
    struct store_key key = db_numbered_key(s->id, turn);
    cleanup_message StoredTurn *row = NULL;
    if (store_get(s->all->store, DB_TURNS, &key, &row, err) < 0)
        return NULL;
    bool ran = t ? t->start_seq : row && row->start_seq;
    if (ret_withdrawn && !ran && (t || (row && row->stop_reason == STOP_REASON_CANCELLED)))
        *ret_withdrawn = true;
    not_queued(s, turn, ran ? "has run" : "was withdrawn", err);
    return NULL;
}

static uint32_t position_of(const struct session *s, const struct turn *t)
{
    uint32_t position = 1;
    for (const struct turn *other = s->turns; other && other != t; other = other->next)
        position += turns_wait(s, other);
    return position;
}

static void take_out(struct session *s, struct turn *t)
{
    struct turn **at = &s->turns;
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
}

int turns_move(struct session *s, uint64_t turn, uint32_t position, const char *author,
               uint32_t *ret_position, sa_error **err)
{
    if (!position)
        return sa_fail(err, SA_INVALID_REQUEST, "position: counts from 1");
    struct turn *t = find_waiting(s, turn, NULL, err);
    if (!t)
        return -1;
    size_t n = turns_count_waiting(s);
    *ret_position = position < n ? position : (uint32_t)n;
    if (position_of(s, t) == *ret_position)
        return 0;
    take_out(s, t);
    turns_insert(s, t, *ret_position);
    PromptMoved moved = PROMPT_MOVED__INIT;
    moved.position = *ret_position;
    moved.author = (char *)(uintptr_t)author;
    Event e = EVENT__INIT;
    e.turn = turn;
    e.kind_case = EVENT__KIND_PROMPT_MOVED;
    e.prompt_moved = &moved;
    session_event(s, &e);
    SA_FAULT("queue.move");
    return 0;
}

int turns_withdraw(struct session *s, uint64_t turn, const char *author, sa_error **err)
{
    bool withdrawn = false;
    sa_error *why = NULL;
    struct turn *t = find_waiting(s, turn, &withdrawn, &why);
    if (!t && !withdrawn)
        return sa_pass(err, why);
    sa_error_free(why);
    if (t)
        turns_drop(s, t, author);
    SA_FAULT("queue.withdraw");
    return 0;
}

int turns_steer(struct session *s, uint64_t turn, const struct prompt *p, SteerFallback fallback,
                struct accepted_turn *ret, sa_error **err)
{
    int repeated = turns_find_repeated(s, p, ret, err);
    if (repeated)
        return repeated < 0 ? -1 : 0;
    uint64_t running = s->current_turn;
    if (!running || (turn && turn != running))
        return sa_fail(err, SA_NO_TURN_RUNNING, "session %s: %s is running", s->name,
                       turn ? "another turn or none" : "no turn");
    if (fallback != STEER_FALLBACK_CANCEL)
        return sa_fail(
            err, SA_STEERING_UNSUPPORTED,
            "agent %s takes no text while it works; the fallback CANCEL ends its turn and asks next",
            s->agent ? s->agent->name : "(unknown)");
    struct prompt first = *p;
    first.first = true;
    if (turns_accept(s, &first, ret, err))
        return -1;
    TurnSteered steered = TURN_STEERED__INIT;
    steered.next_turn = ret->turn;
    steered.author = (char *)(uintptr_t)p->author;
    Event e = EVENT__INIT;
    e.turn = running;
    e.kind_case = EVENT__KIND_TURN_STEERED;
    e.turn_steered = &steered;
    session_event(s, &e);
    SA_FAULT("queue.steer");
    uint64_t cancelled;
    return turns_cancel(s, running, p->author, &cancelled, err);
}
