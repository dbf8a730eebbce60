/* Sandbox providers behind one interface: a driver per file. A driver knows how its provider makes, finds,
 * asks and ends a sandbox; what exists is kept by its user (provider-svc), durably, and before the driver is
 * asked.
 *
 * Everything that takes time is an operation: it is started by a function here and told by its completion,
 * once, never from inside the call that started it. All functions are called with the service lock held, all
 * callbacks run under it. One operation per sandbox at a time.
 *
 * Recovery: a driver gives what it makes a name or label derived from the sandbox id, so that `create` and
 * `destroy` can be called again after a crash and finish or undo what the earlier call has left. */
#ifndef ADAPTERS_PROVIDERS_PROVIDER_H_
#define ADAPTERS_PROVIDERS_PROVIDER_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "adapters/grpc/rpc.h"
#include "adapters/os/error.h"
#include "adapters/os/loop.h"
#include "adapters/os/mem.h"

struct provider; /* a driver at work */

/* Bytes that the driver wants to see again with the sandbox; no secrets in it. Opaque to its user. */
struct provider_state {
    const void *data;
    size_t n;
};

struct provider_endpoint {
    const char *http_url; /* base URL of the gateway */
    const char
        *grpc_target;  /* host:port of the session service; process, fs and provider on the next ports */
    const char *token; /* bearer token of both: a secret */
};

/* Exactly one of the answer and err is NULL. Memory lives for the callback. */
typedef void provider_created_fn(void *user, const struct provider_state *state, const sa_error *err);
typedef void provider_endpoint_fn(void *user, const struct provider_endpoint *endpoint, const sa_error *err);
/* err NULL: done; for check: it is well. */
typedef void provider_done_fn(void *user, const sa_error *err);

struct provider_ops {
    const char *name; /* as CreateSandbox takes it */

    /* Can it be used now? Otherwise *ret_why (to be freed) says what is missing. Quick. */
    bool (*available)(struct provider *p, char **ret_why);
    /* Makes the sandbox of this id, or finishes what an earlier create began; ready when it is told. `state`
     * is what an earlier create has told, if it did: the same data, address and token where that is possible.
     * A failed create leaves nothing running. PROVIDER_ERROR, CANCELLED. */
    void (*create)(struct provider *p, const char *sandbox_id, const struct provider_state *state,
                   provider_created_fn *done, void *user);
    /* Ends a create under way soon: it is told as CANCELLED, or as done. Nothing under way: no effect. */
    void (*cancel)(struct provider *p, const char *sandbox_id);
    /* After a restart of its user: takes up a sandbox that was created. NOT_FOUND: it does not run any more.
     */
    void (*adopt)(struct provider *p, const char *sandbox_id, const struct provider_state *state,
                  provider_done_fn *done, void *user);
    void (*endpoint)(struct provider *p, const char *sandbox_id, const struct provider_state *state,
                     provider_endpoint_fn *done, void *user);
    /* Asks the sandbox itself. UNAVAILABLE says what is wrong with it. */
    void (*check)(struct provider *p, const char *sandbox_id, const struct provider_state *state,
                  provider_done_fn *done, void *user);
    /* Ends it, all that runs in it, and its data. One that is gone is fine. state.n 0: it was never told. */
    void (*destroy)(struct provider *p, const char *sandbox_id, const struct provider_state *state,
                    provider_done_fn *done, void *user);
    /* Operations under way are not told any more; sandboxes live on. */
    void (*free)(struct provider *p);
};

struct provider_options {
    struct sa_loop *loop;
    struct rpc_runtime *rpc;
    const char *data_dir; /* the driver's own, made when missing */
    /* A sandbox that was created or adopted has ended by itself. */
    void (*ended)(void *user, const char *sandbox_id, const char *message);
    void *user;
};

struct provider {
    const struct provider_ops *ops;
};

/* ---- the drivers ---- */

struct provider_local_options {
    const char *program;    /* path of `sandbox-agent` */
    const char *agent_user; /* NULL: ours */
    const char *agents_dir; /* where agents are installed; NULL: each sandbox has its own */
    const char *durability; /* of the services in it; NULL: their default */
};
/* On this machine: `sandbox-agent server` in a session of its own, with its own data, ports on loopback, and
 * token. */
struct provider *provider_local_new(const struct provider_options *opt,
                                    const struct provider_local_options *local, sa_error **err);

#endif
