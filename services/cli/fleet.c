#include "services/cli/fleet.h"

#include <signal.h>
#include <stdlib.h>

#include "adapters/os/log.h"
#include "adapters/os/mem.h"
#include "grpc/health/v1/health.rpc.h"

enum { ASK_AGAIN_MS = 50 };

struct member {
    struct fleet *fleet;
    struct keeper_spec spec;
    struct keeper *keeper;
    /* Until it serves for the first time: */
    struct rpc_channel *channel;
    struct rpc_request *watch;
    struct sa_timer *again;
    bool serving;
};

struct fleet {
    const struct fleet_spec *spec;
    struct sa_loop *loop;
    struct rpc_runtime *rpc;
    struct sa_timer *deadline;
    struct member *members;
    int n_stopped;
    bool stopping, failed, ready;
};

static void fail(struct fleet *f, char *message)
{
    if (!f->failed && !f->stopping) {
        f->failed = true;
        f->spec->failed(f->spec->user, message);
    }
    free(message);
}

/* ---- are they ready? ---- */

static void ask(struct member *m);

static void on_serving(struct member *m)
{
    struct fleet *f = m->fleet;
    m->serving = true;
    for (int i = 0; i < f->spec->n_services; i++)
        if (!f->members[i].serving)
            return;
    sa_timer_stop(f->deadline);
    f->ready = true;
    if (!f->stopping && !f->failed)
        f->spec->ready(f->spec->user);
}

static void on_health(void *user, const Grpc__Health__V1__HealthCheckResponse *res)
{
    struct member *m = user;
    if (!m->serving && res->status == GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING)
        on_serving(m);
}

/* The stream broke, or the service does not listen yet. */
static void on_health_end(void *user, const sa_error *err)
{
    (void)err;
    struct member *m = user;
    m->watch = NULL;
    if (!m->serving)
        sa_timer_start(m->again, ASK_AGAIN_MS);
}

static void on_again(void *user)
{
    ask(user);
}

static void ask(struct member *m)
{
    static const struct grpc__health__v1__watch_client events = {.on_message = on_health,
                                                                 .on_end = on_health_end};
    Grpc__Health__V1__HealthCheckRequest req = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    struct rpc_call_options opt = {.deadline_ms = FLEET_START_MS, .wait_for_ready = true};
    m->watch = grpc__health__v1__watch_open(m->channel, &req, &opt, &events, m);
}

static void on_deadline(void *user)
{
    struct fleet *f = user;
    for (int i = 0; i < f->spec->n_services; i++)
        if (!f->members[i].serving)
            fail(f, sa_format("the %s service is not ready after %d s", f->spec->services[i].name,
                              FLEET_START_MS / 1000));
}

/* ---- keeping them running ---- */

static bool on_ended(void *user, struct keeper *k, int wstatus)
{
    struct member *m = user;
    if (!m->fleet->ready) {
        fail(m->fleet,
             sa_format("the %s service did not start (%s)", keeper_name(k), keeper_describe(wstatus)));
        return false;
    }
    sa_log(SA_LOG_WARN, "child.ended", "name=%s how=\"%s\"", keeper_name(k), keeper_describe(wstatus));
    return true;
}

static void stop_next(struct fleet *f)
{
    if (f->n_stopped == f->spec->n_services)
        f->spec->stopped(f->spec->user);
    else
        keeper_stop(f->members[f->n_stopped].keeper, FLEET_STOP_MS);
}

static void on_stopped(void *user, struct keeper *k)
{
    struct member *m = user;
    (void)k;
    m->fleet->n_stopped++;
    stop_next(m->fleet);
}

struct fleet *fleet_new(struct sa_loop *loop, struct rpc_runtime *rpc, struct reaper *r,
                        const struct fleet_spec *spec)
{
    struct fleet *f = sa_calloc(1, sizeof *f);
    f->spec = spec;
    f->loop = loop;
    f->rpc = rpc;
    f->members = sa_calloc((size_t)spec->n_services, sizeof *f->members);
    f->deadline = sa_timer_new(loop, on_deadline, f);
    for (int i = 0; i < spec->n_services; i++) {
        struct member *m = &f->members[i];
        cleanup_free char *target = sa_format("unix:%s/%s.sock", spec->socket_dir, spec->services[i].name);
        struct rpc_channel_options opt = {.target = target};
        *m = (struct member){
            .fleet = f,
            .spec = {.name = spec->services[i].name,
                     .argv = spec->services[i].argv,
                     .fds = {{FLEET_SECRET_FD, spec->secret},
                             {spec->token ? FLEET_TOKEN_FD : 0, spec->token}},
                     .ended = on_ended,
                     .stopped = on_stopped,
                     .user = m},
            .channel = rpc_channel_new(rpc, &opt),
            .again = sa_timer_new(loop, on_again, m),
        };
        m->keeper = keeper_new(loop, r, &m->spec);
    }
    return f;
}

int fleet_start(struct fleet *f, sa_error **err)
{
    sa_timer_start(f->deadline, FLEET_START_MS);
    for (int i = 0; i < f->spec->n_services; i++)
        if (keeper_start(f->members[i].keeper, err) < 0)
            return -1;
    for (int i = 0; i < f->spec->n_services; i++)
        sa_timer_start(f->members[i].again, ASK_AGAIN_MS);
    return 0;
}

void fleet_stop(struct fleet *f)
{
    if (!f->stopping) {
        f->stopping = true;
        sa_timer_stop(f->deadline);
        for (int i = 0; i < f->spec->n_services; i++)
            sa_timer_stop(f->members[i].again);
        stop_next(f);
        return;
    }
    for (int i = f->n_stopped; i < f->spec->n_services; i++)
        keeper_signal(f->members[i].keeper, SIGKILL);
}

void fleet_free(struct fleet *f)
{
    if (!f)
        return;
    for (int i = 0; i < f->spec->n_services; i++) {
        struct member *m = &f->members[i];
        rpc_abandon(m->watch);
        rpc_channel_free(m->channel);
        sa_timer_free(m->again);
        keeper_free(m->keeper);
    }
    sa_timer_free(f->deadline);
    free(f->members);
    free(f);
}
