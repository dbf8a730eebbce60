/* gRPC's start and end, and the one thread that takes its events to their handlers. */
#include <grpc/support/log.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "adapters/grpc/internal.h"

enum {
    EVENTS_MAX = 64, /* taken per turn of the lock */
    LOOK_EVERY = 64, /* turns */
};

void runtime_start_batch(struct rpc_runtime *rt, grpc_call *call, const grpc_op *ops, size_t n,
                         struct rpc_tag *tag)
{
    grpc_call_error e = grpc_call_start_batch(call, ops, n, tag, NULL);
    if (e != GRPC_CALL_OK) { /* only a mistake of this adapter can be the cause */
        fprintf(stderr, "grpc_call_start_batch: %s\n", grpc_call_error_to_string(e));
        abort();
    }
    rt->pending++;
}

static void handle(struct rpc_runtime *rt, const grpc_event *events, size_t n)
{
    sa_loop_lock(rt->loop);
    for (size_t i = 0; i < n; i++) {
        struct rpc_tag *tag = events[i].tag;
        tag->fn(tag, events[i].success);
    }
    rt->pending -= n;
    bool done = rt->closing && !rt->pending;
    sa_loop_unlock(rt->loop);
    if (done)
        grpc_completion_queue_shutdown(rt->cq);
}

/* Waits for one event and takes those that are there already: always when that was worth it the last time,
 * and every few turns to see.
 *
 * That look has another purpose. gRPC reads from sockets only when its queue is empty and nobody kicked it,
 * and every event kicks it: a stream whose writes succeed at once would keep all others from being read. The
 * second try comes after the kick. */
static size_t take(struct rpc_runtime *rt, grpc_event events[static EVENTS_MAX])
{
    events[0] = grpc_completion_queue_next(rt->cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    if (events[0].type == GRPC_QUEUE_SHUTDOWN)
        return 0;
    size_t n = 1;
    int tries = rt->turns++ % LOOK_EVERY == 0 ? 2 : rt->bursts ? 1 : 0;
    while (n < EVENTS_MAX && tries) {
        events[n] = grpc_completion_queue_next(rt->cq, gpr_inf_past(GPR_CLOCK_MONOTONIC), NULL);
        if (events[n].type == GRPC_OP_COMPLETE)
            n++;
        else
            tries--;
    }
    rt->bursts = n > 1;
    return n;
}

static void *run(void *arg)
{
    struct rpc_runtime *rt = arg;
    grpc_event events[EVENTS_MAX];
    for (size_t n; (n = take(rt, events));)
        handle(rt, events, n);
    return NULL;
}

/* An adapter does not log: errors reach the caller as sa_error. GRPC_VERBOSITY brings gRPC's own lines back.
 */
static void no_log(gpr_log_func_args *args)
{
    (void)args;
}

struct rpc_runtime *rpc_runtime_new(struct sa_loop *loop)
{
    struct rpc_runtime *rt = sa_calloc(1, sizeof *rt);
    rt->loop = loop;
    if (!getenv("GRPC_VERBOSITY"))
        gpr_set_log_function(no_log);
    /* Signals are the loop thread's: none for our thread, nor for those that gRPC starts. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    grpc_init();
    rt->cq = grpc_completion_queue_create_for_next(NULL);
    int e = pthread_create(&rt->thread, NULL, run, rt);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (e) {
        fprintf(stderr, "cannot start a thread\n");
        abort();
    }
    pthread_setname_np(rt->thread, "rpc");
    return rt;
}

void rpc_runtime_free(struct rpc_runtime *rt)
{
    if (!rt)
        return;
    sa_loop_lock(rt->loop);
    rt->closing = true;
    bool done = !rt->pending;
    sa_loop_unlock(rt->loop);
    if (done)
        grpc_completion_queue_shutdown(rt->cq);
    pthread_join(rt->thread, NULL);
    grpc_completion_queue_destroy(rt->cq);
    sa_loop_lock(rt->loop);
    runtime_free_spares(rt);
    request_free_spares(rt);
    sa_loop_unlock(rt->loop);
    free(rt);
    grpc_shutdown_blocking();
}
