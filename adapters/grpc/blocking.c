/* The blocking form: the same requests, and a condition to wait on. The callbacks run under the service lock
 * on the completion-queue thread; the caller holds only the stream's own lock while it waits. */
#include <pthread.h>
#include <stdlib.h>

#include "adapters/grpc/internal.h"

/* ---- unary ---- */

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
    ProtobufCMessage *message;
    sa_error *error;
};

static void on_done(void *user, const void *res, const sa_error *err)
{
    struct waiter *w = user;
    pthread_mutex_lock(&w->lock);
    w->done = true;
    w->message = (ProtobufCMessage *)(uintptr_t)res;
    w->error = sa_error_copy(err);
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

ProtobufCMessage *rpc_gen_wait(struct rpc_channel *ch, const struct rpc_method *method,
                               const ProtobufCMessage *req, const struct rpc_call_options *opt,
                               sa_error **err)
{
    struct waiter w = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    struct sa_loop *loop = channel_loop(ch);
    sa_loop_lock(loop);
    request_call(ch, method, req, opt, true, on_done, &w);
    sa_loop_unlock(loop);
    pthread_mutex_lock(&w.lock);
    while (!w.done)
        pthread_cond_wait(&w.cond, &w.lock);
    pthread_mutex_unlock(&w.lock);
    pthread_mutex_destroy(&w.lock);
    pthread_cond_destroy(&w.cond);
    if (!w.message)
        sa_pass(err, w.error);
    return w.message;
}

/* ---- streams: one message is held, the next one is read when it was taken ---- */

struct rpc_stream {
    struct sa_loop *loop;
    struct rpc_request *request; /* guarded by the service lock; NULL after the end */
    pthread_mutex_t lock;        /* guards the rest; taken inside the service lock */
    pthread_cond_t cond;
    ProtobufCMessage *message;
    bool full, ended;
    sa_error *error;
};

static void on_message(void *user, const void *res)
{
    struct rpc_stream *s = user;
    rpc_pause_response(s->request, true);
    pthread_mutex_lock(&s->lock);
    s->message = (ProtobufCMessage *)(uintptr_t)res;
    pthread_cond_broadcast(&s->cond);
    pthread_mutex_unlock(&s->lock);
}

static void on_writable(void *user)
{
    struct rpc_stream *s = user;
    pthread_mutex_lock(&s->lock);
    s->full = false;
    pthread_cond_broadcast(&s->cond);
    pthread_mutex_unlock(&s->lock);
}

static void on_end(void *user, const sa_error *err)
{
    struct rpc_stream *s = user;
    s->request = NULL;
    pthread_mutex_lock(&s->lock);
    s->ended = true;
    s->error = sa_error_copy(err);
    pthread_cond_broadcast(&s->cond);
    pthread_mutex_unlock(&s->lock);
}

struct rpc_stream *rpc_gen_begin(struct rpc_channel *ch, const struct rpc_method *method,
                                 const ProtobufCMessage *req, const struct rpc_call_options *opt)
{
    static const struct rpc_gen_client events = {on_message, on_writable, on_end};
    struct rpc_stream *s = sa_calloc(1, sizeof *s);
    s->loop = channel_loop(ch);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->cond, NULL);
    sa_loop_lock(s->loop);
    s->request = request_open(ch, method, req, opt, true, &events, s);
    sa_loop_unlock(s->loop);
    return s;
}

/* How it ended, for who wants to go on sending. */
static int fail_ended(const struct rpc_stream *s, sa_error **err)
{
    if (s->error)
        return sa_pass(err, sa_error_copy(s->error));
    return sa_fail(err, SA_CANCELLED, "the server has ended the stream");
}

int rpc_gen_put(struct rpc_stream *s, const ProtobufCMessage *msg, sa_error **err)
{
    pthread_mutex_lock(&s->lock);
    while (s->full && !s->ended)
        pthread_cond_wait(&s->cond, &s->lock);
    pthread_mutex_unlock(&s->lock);

    sa_loop_lock(s->loop);
    bool over = false;
    if (s->request && !rpc_gen_write(s->request, msg)) {
        over = request_is_over(s->request);
        pthread_mutex_lock(&s->lock);
        s->full = !over;
        pthread_mutex_unlock(&s->lock);
    }
    sa_loop_unlock(s->loop);

    pthread_mutex_lock(&s->lock);
    /* How it ended is told behind the messages: behind one that nobody has read, not here. */
    while (over && !s->ended && !s->message)
        pthread_cond_wait(&s->cond, &s->lock);
    int r = s->ended || over ? fail_ended(s, err) : 0;
    pthread_mutex_unlock(&s->lock);
    return r;
}

int rpc_gen_next(struct rpc_stream *s, ProtobufCMessage **ret_message, sa_error **err)
{
    pthread_mutex_lock(&s->lock);
    while (!s->message && !s->ended)
        pthread_cond_wait(&s->cond, &s->lock);
    ProtobufCMessage *m = steal_pointer(&s->message);
    int r = m ? 1 : s->error ? sa_pass(err, sa_error_copy(s->error)) : 0;
    pthread_mutex_unlock(&s->lock);
    if (!m)
        return r;
    sa_loop_lock(s->loop);
    if (s->request)
        rpc_pause_response(s->request, false);
    sa_loop_unlock(s->loop);
    *ret_message = m;
    return 1;
}

int rpc_stream_close_send(struct rpc_stream *s, sa_error **err)
{
    sa_loop_lock(s->loop);
    if (s->request)
        rpc_close_send(s->request);
    sa_loop_unlock(s->loop);
    pthread_mutex_lock(&s->lock);
    int r = s->ended && s->error ? fail_ended(s, err) : 0;
    pthread_mutex_unlock(&s->lock);
    return r;
}

void rpc_stream_free(struct rpc_stream *s)
{
    if (!s)
        return;
    sa_loop_lock(s->loop);
    rpc_abandon(s->request);
    sa_loop_unlock(s->loop);
    rpc_message_free(s->message);
    sa_error_free(s->error);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->cond);
    free(s);
}
