/* Inside the local driver. */
#ifndef ADAPTERS_PROVIDERS_LOCAL_INTERNAL_H_
#define ADAPTERS_PROVIDERS_LOCAL_INTERNAL_H_

#include "adapters/providers/local_process.h"
#include "adapters/providers/provider.h"

/* Neighbouring ports of a sandbox: HTTP, then gRPC of session, process, fs and provider. */
enum { LOCAL_PORTS = 5 };

enum local_step {
    LOCAL_IDLE,      /* nothing runs that we know of */
    LOCAL_PREPARING, /* a worker makes directories and starts the server, or reads why it did not start */
    LOCAL_STARTING,  /* the server runs and is not ready */
    LOCAL_WATCHING,  /* it is ready */
    LOCAL_ENDING,    /* it was asked to end */
    LOCAL_CLEARING,  /* a worker ends what is left, and removes the data */
};

struct local_probe;

struct local_sandbox {
    struct local_sandbox *next;
    struct local *local;
    char *id, *dir;
    struct local_process process;
    unsigned port; /* the first; 0: not chosen */
    enum local_step step;
    int pidfd; /* of the server, while it is watched */
    struct sa_io *io;
    struct sa_timer *timer;
    struct local_probe *probe; /* of a create */
    uint64_t deadline_ms;
    int tries;
    bool cancelled, remove;
    sa_error *failure; /* of a create, told once everything is cleared */
    provider_created_fn *created;
    provider_done_fn *told;
    void *user;
    /* A worker's, while busy. */
    bool busy;
    void (*done)(struct local_sandbox *s);
    sa_error *err;
    char *text;
};

struct local {
    struct provider base;
    struct sa_loop *loop;
    struct rpc_runtime *rpc;
    char *data_dir, *program, *agent_user, *agents_dir, *durability;
    void (*ended)(void *user, const char *sandbox_id, const char *message);
    void *ended_user;
    struct local_sandbox *sandboxes;
    struct local_probe *probes;
    size_t n_jobs; /* workers and deferred calls that still come back */
    bool freed;    /* the last of them frees the memory */
};
void local_end(struct local *l);

/* On a worker, with a struct local_sandbox; what goes wrong is in its err. */
void local_work_prepare(
    void *sandbox); /* ends what an earlier start left, makes directories and token, starts */
void local_work_read_log(void *sandbox); /* text: the last line the server wrote */
void local_work_clear(void *sandbox);    /* ends all that is left; with `remove` the data go too */

/* Asks every service of a sandbox for its health. done: once, later; UNAVAILABLE names the first that is not
 * well. */
struct local_probe *local_probe_start(struct local *l, const char *dir, unsigned port, provider_done_fn *done,
                                      void *user);
/* It is not told any more. NULL is fine. */
void local_probe_free(struct local_probe *p);

#endif
