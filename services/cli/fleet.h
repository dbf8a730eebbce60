/* The services of one server: started together, ready when all serve, restarted when they crash, stopped one
 * after the other in the order of the table. Everything is called with the loop's lock held; callbacks run
 * under it. */
#ifndef SERVICES_CLI_FLEET_H_
#define SERVICES_CLI_FLEET_H_

#include "adapters/grpc/rpc.h"
#include "adapters/os/error.h"
#include "adapters/os/loop.h"
#include "services/cli/keeper.h"

enum {
    FLEET_SECRET_FD = 3,
    FLEET_TOKEN_FD = 4,
    FLEET_START_MS = 30000, /* until every service must have said that it serves */
    FLEET_STOP_MS = 18000,  /* for each: it drains for at most 10 s, process-svc then ends processes */
};

struct fleet_service {
    const char *name; /* of its socket */
    char *const *argv;
};

struct fleet_spec {
    const struct fleet_service *services; /* in the order in which they are stopped */
    int n_services;
    const char *socket_dir; /* <socket_dir>/<name>.sock */
    const char *secret;     /* each reads it on FLEET_SECRET_FD */
    const char *token;      /* each reads it on FLEET_TOKEN_FD; NULL: none */
    /* All serve for the first time. */
    void (*ready)(void *user);
    /* One ended or was silent before that; the fleet goes on until it is stopped. Told once. */
    void (*failed)(void *user, const char *message);
    /* The last one has ended. */
    void (*stopped)(void *user);
    void *user;
};

/* spec, with what it points to, outlives the fleet. */
struct fleet *fleet_new(struct sa_loop *loop, struct rpc_runtime *rpc, struct reaper *r,
                        const struct fleet_spec *spec);
int fleet_start(struct fleet *f, sa_error **err);
/* Called again it no longer waits for anybody. */
void fleet_stop(struct fleet *f);
void fleet_free(struct fleet *f); /* NULL is fine */

#endif
