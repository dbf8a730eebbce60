/* A connection to one shim: requests out, statuses in. Bounded: link_behind() says when to stop feeding
 * input. All functions under the service lock. */
#ifndef SERVICES_PROCESS_SVC_LINK_H_
#define SERVICES_PROCESS_SVC_LINK_H_

#include "adapters/os/loop.h"
#include "adapters/os/mem.h"
#include "services/process-svc/shim/protocol.h"

/* An answered request: error is an errno, or ECONNRESET when the shim went away before it answered. */
typedef void link_answer_fn(void *user, int error, const struct shim_status *status);

struct link_pending;
struct link {
    struct sa_loop *loop;
    int fd; /* -1: closed */
    struct sa_io *io;
    struct sa_buf queue; /* messages that the socket had no room for, each behind its length */
    size_t queue_at;
    struct link_pending *first, **last;
    uint64_t number;
    void (*on_status)(void *user, const struct shim_status *status);
    void (*on_closed)(void *user);  /* the shim is gone, or talks nonsense; the link is closed already */
    void (*on_drained)(void *user); /* was behind and is not any more */
    void *user;
};

/* Takes fd. The callbacks are set by the caller before. */
void link_open(struct link *l, struct sa_loop *loop, int fd);
/* Answers what is pending with ECONNRESET; no callback of the link itself comes any more. */
void link_close(struct link *l);
static inline bool link_is_open(const struct link *l)
{
    return l->io != NULL;
}

/* answer may be NULL. On a closed link the answer is ECONNRESET at once. */
void link_signal(struct link *l, uint32_t signum, enum shim_scope scope, link_answer_fn *answer, void *user);
/* At most SHIM_INPUT_CHUNK_MAX bytes. */
void link_input(struct link *l, uint64_t offset, const void *p, size_t n, bool eof, link_answer_fn *answer,
                void *user);
/* Asks for nothing but a status: its answer tells of all that was written before. */
void link_ask(struct link *l, link_answer_fn *answer, void *user);
void link_ack(struct link *l, uint32_t stream, uint64_t offset);
/* Of its terminal. ENOTTY: it has none. */
void link_resize(struct link *l, uint32_t rows, uint32_t columns, link_answer_fn *answer, void *user);
void link_release(struct link *l);
/* No run follows the present one. */
void link_last(struct link *l);
/* To a runner: the command is in its memory file. */
void link_run(struct link *l, size_t spec_bytes, size_t input_bytes);
/* Much waits to be sent. */
bool link_behind(const struct link *l);
/* Makes the answers of this user go nowhere. */
void link_forget(struct link *l, const void *user);

#endif
