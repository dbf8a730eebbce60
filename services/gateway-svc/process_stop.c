/* POST /v1/processes/{id}/stop and /kill. Both end all that descends from the process; stop leaves it as much
 * time as there is. The answer tells the process as it is after `waitMs`: the stop goes on without us once
 * process-svc has begun with it. */
#include <signal.h>
#include <stdlib.h>

#include "services/gateway-svc/processes.h"

enum {
    STOP_WAIT_MS = 2000,
    KILL_WAIT_MS = 1000,
    WAIT_MAX_MS = 600000,
    GRACE_MS = 600000,  /* the longest there is: the peer's stop never kills */
    LOOK_AGAIN_MS = 20, /* until the stop has begun */
};

struct stop {
    struct exchange *x;
    struct rpc_request *stopping, *looking;
    struct sa_timer *timer;
};

static void on_process(void *user, const GetProcessResponse *res, const sa_error *err)
{
    struct stop *s = user;
    s->looking = NULL;
    if (err)
        process_fail(s->x, err);
    else if (s->stopping && !res->process->exit && !res->process->stop_signal)
        sa_timer_start(s->timer, LOOK_AGAIN_MS);
    else
        process_reply(s->x, res->process);
}

static void look(struct stop *s)
{
    GetProcessRequest req = GET_PROCESS_REQUEST__INIT;
    struct rpc_call_options opt = calls_options(s->x);
    req.process_id = process_id(s->x);
    sa_timer_stop(s->timer);
    if (!s->looking)
        s->looking = get_process_call(s->x->gw->process, &req, &opt, on_process, s);
}

static void on_timer(void *user)
{
    look(user);
}

static void on_stopped(void *user, const StopProcessResponse *res, const sa_error *err)
{
    struct stop *s = user;
    (void)res;
    s->stopping = NULL;
    if (http_answered(s->x->http))
        return;
    if (err)
        process_fail(s->x, err);
    else
        look(s);
}

static void abandon(struct exchange *x)
{
    struct stop *s = x->state;
    rpc_abandon(s->stopping);
    rpc_abandon(s->looking);
    sa_timer_free(s->timer);
    free(s);
}

static void stop(struct exchange *x, uint32_t signum, uint32_t grace_ms, uint64_t wait_ms)
{
    StopProcessRequest req = STOP_PROCESS_REQUEST__INIT;
    struct rpc_call_options opt = calls_options(x);
    if (!peer_check_query(x) || !peer_query_uint(x, "waitMs", &wait_ms))
        return;
    struct stop *s = sa_calloc(1, sizeof(*s));
    s->x = x;
    x->state = s;
    x->abandon = abandon;
    if (wait_ms > WAIT_MAX_MS)
        wait_ms = WAIT_MAX_MS;
    req.process_id = process_id(x);
    req.signal = signum;
    req._grace_ms_case = STOP_PROCESS_REQUEST___GRACE_MS_GRACE_MS;
    req.grace_ms = grace_ms;
    opt.deadline_ms += (uint32_t)wait_ms;
    s->timer = sa_timer_new(service_loop(x->gw->svc), on_timer, s);
    s->stopping = stop_process_call(x->gw->process, &req, &opt, on_stopped, s);
    sa_timer_start(s->timer, wait_ms);
}

void processes_stop(struct exchange *x)
{
    stop(x, 0, GRACE_MS, STOP_WAIT_MS);
}

void processes_kill(struct exchange *x)
{
    stop(x, SIGKILL, 0, KILL_WAIT_MS);
}
