/* The health of a sandbox: grpc.health.v1 of each of its services. Those with a port are asked there, as
 * callers reach them; the gateway on its unix socket. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/providers/local_internal.h"
#include "grpc/health/v1/health.rpc.h"

enum { SERVICES = 5, DEADLINE_MS = 5000 };

static const struct {
    const char *name;
    unsigned offset; /* of the port; 0: unix socket */
} services[SERVICES] = {{"session", 1}, {"process", 2}, {"fs", 3}, {"provider", 4}, {"gateway", 0}};

struct question {
    struct local_probe *probe;
    const char *name;
    struct rpc_channel *channel;
    struct rpc_request *request; /* NULL: answered */
};

struct local_probe {
    struct local_probe *next;
    struct local *local;
    int run_fd; /* a unix socket's address is short; through a descriptor every directory has a short name */
    struct question questions[SERVICES];
    int left;
    sa_error *err;
    provider_done_fn *done;
    void *user;
};

void local_probe_free(struct local_probe *p)
{
    if (!p)
        return;
    for (struct local_probe **at = &p->local->probes; *at; at = &(*at)->next)
        if (*at == p) {
            *at = p->next;
            break;
        }
    for (int i = 0; i < SERVICES; i++) {
        rpc_abandon(p->questions[i].request);
        rpc_channel_free(p->questions[i].channel);
    }
    sa_close(p->run_fd);
    sa_error_free(p->err);
    free(p);
}

static void answered(void *user, const Grpc__Health__V1__HealthCheckResponse *res, const sa_error *err)
{
    struct question *q = user;
    struct local_probe *p = q->probe;
    q->request = NULL;
    if (!p->err && err)
        sa_fail(&p->err, SA_UNAVAILABLE, "the %s service does not answer: %s", q->name, err->message);
    else if (!p->err && res->status != GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING)
        sa_fail(&p->err, SA_UNAVAILABLE, "the %s service does not serve", q->name);
    if (--p->left)
        return;
    cleanup_error sa_error *found = steal_pointer(&p->err);
    provider_done_fn *done = p->done;
    void *done_user = p->user;
    local_probe_free(p);
    done(done_user, found);
}

struct local_probe *local_probe_start(struct local *l, const char *dir, unsigned port, provider_done_fn *done,
                                      void *user)
{
    struct local_probe *p = sa_calloc(1, sizeof *p);
    cleanup_free char *run = sa_format("%s/run", dir);
    *p = (struct local_probe){.next = l->probes, .local = l, .left = SERVICES, .done = done, .user = user};
    p->run_fd = open(run, O_PATH | O_DIRECTORY | O_CLOEXEC);
    l->probes = p;
    for (int i = 0; i < SERVICES; i++) {
        struct question *q = &p->questions[i];
        cleanup_free char *target =
            services[i].offset ? sa_format("127.0.0.1:%u", port + services[i].offset)
                               : sa_format("unix:/proc/self/fd/%d/%s.sock", p->run_fd, services[i].name);
        struct rpc_channel_options channel = {.target = target};
        struct rpc_call_options opt = {.deadline_ms = DEADLINE_MS};
        Grpc__Health__V1__HealthCheckRequest req = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
        *q = (struct question){
            .probe = p, .name = services[i].name, .channel = rpc_channel_new(l->rpc, &channel)};
        q->request = grpc__health__v1__check_call(q->channel, &req, &opt, answered, q);
    }
    return p;
}
