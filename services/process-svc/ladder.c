/* StopProcess: a ladder of two rungs. The signal that was asked for goes to the tree, and CONT behind it, so
 * that what was stopped can die; after a time of grace KILL goes to the tree until nothing is left.
 *
 * A rung is committed before its signal is sent, so the ladder goes on after a restart of the service: the
 * signal of the present rung is then sent again. From the first rung on the process is not started again. A
 * stop that is asked for while one is under way joins it, and can only hasten it. */
#include <signal.h>
#include <stdlib.h>

#include "adapters/os/fault.h"
#include "adapters/os/mem.h"
#include "services/process-svc/processes.h"

/* What a rung sends to the tree; 0: what was asked for. */
static const struct rung {
    uint32_t signal;
    bool wake;  /* CONT follows */
    bool grace; /* after a time of grace the next one comes */
} rungs[] = {
    [STOP_RUNG_ASK] = {0, true, true},
    [STOP_RUNG_KILL] = {SIGKILL, false, false},
};

static const struct rung *rung_of(const StopRecord *stop)
{
    return &rungs[stop->rung == STOP_RUNG_ASK ? STOP_RUNG_ASK : STOP_RUNG_KILL];
}

uint32_t ladder_signal(const StopRecord *stop)
{
    if (!stop)
        return 0;
    return rung_of(stop)->signal ? rung_of(stop)->signal : stop->signal;
}

/* Milliseconds until the next rung, by a clock that may jump. */
static uint64_t time_left(const StopRecord *stop)
{
    int64_t passed = (sa_wall_us() - stop->since_us) / 1000;
    if (passed < 0)
        return stop->grace_ms;
    return (uint64_t)passed < stop->grace_ms ? stop->grace_ms - (uint64_t)passed : 0;
}

static bool is_left(const struct process *p)
{
    return p->phase != PROCESS_EXITED || process_has_descendants(p);
}

void ladder_answer(struct process *p)
{
    for (size_t i = 0; i < p->stoppers.n; i++) {
        StopProcessResponse res = STOP_PROCESS_RESPONSE__INIT;
        res.exit = process_exit_message(rpc_arena(p->stoppers.calls[i]), p->record->end);
        stop_process_reply(p->stoppers.calls[i], &res);
    }
    calls_clear(&p->stoppers);
}

void ladder_not_committed(struct process *p, const sa_error *err)
{
    if (p->record->stop)
        return; /* it is durable already: the step is tried again */
    p->stop_asked = false;
    calls_fail(&p->stoppers, err);
}

static void commit_stop(struct process *p, const StopRecord *stop)
{
    ProcessRecord *next = process_record_copy(p->record);
    if (next->stop)
        stop_record__free_unpacked(next->stop, NULL);
    next->stop = NULL;
    if (stop) {
        next->stop = sa_malloc(sizeof *stop);
        *next->stop = *stop;
    }
    SA_FAULT("stop.step");
    process_commit_change(p, next);
}

/* What a request makes of the stop that is under way, if any. */
static StopRecord joined(const struct process *p)
{
    StopRecord stop = STOP_RECORD__INIT;
    bool kill = p->asked_signal == SIGKILL;
    if (!p->record->stop) {
        stop.signal = p->asked_signal;
        stop.grace_ms = p->asked_grace_ms;
        stop.since_us = sa_wall_us();
        stop.rung = kill ? STOP_RUNG_KILL : STOP_RUNG_ASK;
        return stop;
    }
    stop = *p->record->stop;
    uint64_t left = time_left(&stop);
    if (kill)
        stop.rung = STOP_RUNG_KILL;
    else if (p->asked_grace_ms < left)
        stop.grace_ms -= (uint32_t)(left - p->asked_grace_ms);
    return stop;
}

/* A request that is not committed yet. */
static bool commit_asked(struct process *p)
{
    const StopRecord *now = p->record->stop;
    StopRecord next = joined(p);
    p->stop_asked = false;
    if (now && next.rung == now->rung && next.grace_ms == now->grace_ms)
        return false;
    commit_stop(p, &next);
    return true;
}

static void on_grace_over(void *user)
{
    process_step(user);
}

/* A shell that gets HUP between looking for signals and waiting for keys sleeps on, as bash 5.2 does (a
 * terminal that is really closed would wake it): so HUP is sent a second time, after half of the grace. */
static bool hangs_up_again(const struct process *p, const StopRecord *stop)
{
    return ladder_signal(stop) == SIGHUP && p->record->terminal && !p->hung_up_again;
}

/* Milliseconds until the next step. */
static uint64_t next_step(const struct process *p, const StopRecord *stop)
{
    uint64_t left = time_left(stop), half = stop->grace_ms / 2;
    return hangs_up_again(p, stop) && left > half ? left - half : left;
}

/* Sends the signal of the present rung, if that was not done, and sees to it that its end is noticed. */
static void climb(struct process *p, const StopRecord *stop)
{
    const struct rung *rung = rung_of(stop);
    bool again =
        p->rung_sent == stop->rung && hangs_up_again(p, stop) && time_left(stop) <= stop->grace_ms / 2;
    p->hung_up_again |= again;
    if (rung->grace) {
        if (!p->stop_timer)
            p->stop_timer = sa_timer_new(p->all->loop, on_grace_over, p);
        sa_timer_start(p->stop_timer, next_step(p, stop) + 1);
    }
    if ((p->rung_sent == stop->rung && !again) || !link_is_open(&p->link))
        return;
    p->rung_sent = stop->rung;
    link_last(&p->link);
    link_signal(&p->link, ladder_signal(stop), SHIM_SCOPE_TREE, NULL, NULL);
    if (rung->wake)
        link_signal(&p->link, SIGCONT, SHIM_SCOPE_TREE, NULL, NULL);
    SA_FAULT("stop.signalled");
}

bool ladder_step(struct process *p)
{
    const StopRecord *stop = p->record->stop;
    if (!is_left(p)) {
        p->stop_asked = false;
        if (stop)
            commit_stop(p, NULL);
        else
            ladder_answer(p);
        return stop != NULL;
    }
    if (p->stop_asked && commit_asked(p))
        return true;
    if (stop && rung_of(stop)->grace && !time_left(stop)) {
        StopRecord next = *stop;
        next.rung = STOP_RUNG_KILL;
        commit_stop(p, &next);
        return true;
    }
    if (stop)
        climb(p, stop);
    return false;
}

void process_stop(struct process *p, struct rpc_call *call, uint32_t signum, uint32_t grace_ms)
{
    calls_prune(&p->stoppers);
    calls_add(&p->stoppers, call);
    bool first = !p->stop_asked;
    p->stop_asked = true;
    /* Several that came during one commit: the shortest grace, and KILL if one wants it. */
    if (first || signum == SIGKILL)
        p->asked_signal = signum;
    if (first || grace_ms < p->asked_grace_ms)
        p->asked_grace_ms = grace_ms;
    SA_FAULT("stop.asked");
    process_step(p);
}
