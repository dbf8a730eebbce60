/* Messages on the wire, and closing a socket.
 *
 * nng_close of NNG 1.5 can wait for ever: when a pipe is closed between the header of a message and its body,
 * the transport forgets the receive that its reaper then waits for (upstream issues 1543 and 1813). So a
 * thread of its own closes, and nobody waits for it longer than CLOSE_MS. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "adapters/nng/bus_internal.h"

int bus_fail_nng(sa_error **err, int rc, const char *what, const char *url)
{
    enum sa_reason reason = rc == NNG_EADDRINUSE ? SA_ADDRESS_IN_USE
                            : rc == NNG_EADDRINVAL || rc == NNG_EINVAL || rc == NNG_ENOTSUP
                                ? SA_INVALID_CONFIG
                                : SA_UNAVAILABLE;
    return sa_fail(err, reason, "bus: %s %s: %s", what, url, nng_strerror(rc));
}

bool bus_valid_id(const char *id)
{
    size_t n = strlen(id);
    return n >= 1 && n <= BUS_TOPIC_MAX && id[0] != BUS_BEAT_TOPIC[0];
}

static bool has_nul(ProtobufCBinaryData b)
{
    return b.len > BUS_TOPIC_MAX || (b.len && memchr(b.data, 0, b.len));
}

Envelope *bus_open(nng_msg *msg, char ret_topic[static BUS_TOPIC_MAX + 1])
{
    const uint8_t *p = nng_msg_body(msg);
    size_t n = nng_msg_len(msg);
    const uint8_t *nul = n ? memchr(p, 0, n < BUS_TOPIC_MAX + 1 ? n : BUS_TOPIC_MAX + 1) : NULL;
    Envelope *e = NULL;
    if (nul) {
        memcpy(ret_topic, p, (size_t)(nul - p) + 1);
        size_t head = (size_t)(nul - p) + 1;
        e = sandboxagent__broker__v1__envelope__unpack(NULL, n - head, p + head);
    }
    nng_msg_free(msg);
    bool ours = e && e->schema == BUS_SCHEMA && e->epoch && !has_nul(e->stream_id) &&
                (e->beat || (e->stream_id.len && e->prev_seq < e->seq));
    for (size_t i = 0; ours && e->beat && i < e->beat->n_heads; i++)
        ours = !has_nul(e->beat->heads[i]->stream_id);
    if (e && !ours) {
        sandboxagent__broker__v1__envelope__free_unpacked(e, NULL);
        e = NULL;
    }
    return e;
}

nng_msg *bus_seal(const char *topic, const Envelope *e)
{
    size_t head = strlen(topic) + 1;
    nng_msg *msg;
    if (nng_msg_alloc(&msg, head + sandboxagent__broker__v1__envelope__get_packed_size(e)))
        return NULL;
    uint8_t *p = nng_msg_body(msg);
    memcpy(p, topic, head);
    sandboxagent__broker__v1__envelope__pack(e, p + head);
    return msg;
}

enum { CLOSE_MS = 300 };

struct closing {
    atomic_int refs; /* the thread and the waiter */
    nng_socket socket;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool closed;
};

static void closing_release(struct closing *c)
{
    if (atomic_fetch_sub(&c->refs, 1) > 1)
        return;
    pthread_cond_destroy(&c->cond);
    pthread_mutex_destroy(&c->mutex);
    free(c);
}

static void *run_close(void *arg)
{
    struct closing *c = arg;
    nng_close(c->socket);
    pthread_mutex_lock(&c->mutex);
    c->closed = true;
    pthread_cond_signal(&c->cond);
    pthread_mutex_unlock(&c->mutex);
    closing_release(c);
    return NULL;
}

void bus_close(nng_socket socket)
{
    struct closing *c = sa_calloc(1, sizeof *c);
    pthread_t thread;
    c->socket = socket;
    atomic_init(&c->refs, 2);
    pthread_mutex_init(&c->mutex, NULL);
    pthread_cond_init(&c->cond, NULL);
    if (pthread_create(&thread, NULL, run_close, c)) {
        closing_release(c);
        run_close(c);
        return;
    }
    pthread_detach(thread);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += CLOSE_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    int rc = 0;
    pthread_mutex_lock(&c->mutex);
    while (!c->closed && !rc)
        rc = pthread_cond_timedwait(&c->cond, &c->mutex, &until);
    pthread_mutex_unlock(&c->mutex);
    closing_release(c);
}
