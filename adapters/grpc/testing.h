/* For the tests of this adapter: a loop, a server and a channel over a unix socket, TCP or TLS, and something
 * to wait on that is not a sleep. */
#ifndef ADAPTERS_GRPC_TESTING_H_
#define ADAPTERS_GRPC_TESTING_H_

#include <pthread.h>

#include "adapters/grpc/rpc.h"
#include "adapters/os/clock.h"

enum { PATIENCE_MS = 20000 }; /* after that, what is waited for will not come */

/* ---- counters that another thread waits for ---- */

struct counter {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    uint64_t n;
};
#define COUNTER_INIT                                                                                         \
    {                                                                                                        \
        PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0                                               \
    }
void counter_add(struct counter *c, uint64_t n);
uint64_t counter_get(struct counter *c);
/* False when it does not reach n in PATIENCE_MS. */
bool counter_wait(struct counter *c, uint64_t n);

/* ---- a server and its client ---- */

enum transport { OVER_UNIX, OVER_TCP, OVER_TLS };

struct fixture {
    enum transport over;
    struct sa_loop *loop;
    pthread_t loop_thread;
    struct rpc_runtime *rt;
    struct rpc_server *server;
    struct rpc_channel *channel;
    char dir[64];
    char address[128]; /* for channels */
};

/* Registers `service` beside the standard ones, unless it is NULL. opt may be NULL. */
void fixture_start(struct fixture *f, enum transport over, const struct rpc_server_options *opt,
                   const struct rpc_service *service, const void *handlers, void *api);
/* Only the server part, on the address that f has; for restarts. */
void fixture_start_server(struct fixture *f, const struct rpc_server_options *opt,
                          const struct rpc_service *service, const void *handlers, void *api);
void fixture_stop(struct fixture *f);
struct rpc_channel *fixture_channel(struct fixture *f, const struct rpc_channel_options *opt);

/* PEM texts of the test's authority: server (also ca), client. */
const struct rpc_tls *test_server_tls(bool mutual);
const struct rpc_tls *test_client_tls(bool with_certificate);

#endif
