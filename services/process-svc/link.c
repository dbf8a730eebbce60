#include "services/process-svc/link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { BEHIND_BYTES = 256 << 10, STATUSES_PER_TURN = 16 };

struct link_pending {
    struct link_pending *next;
    uint64_t number;
    link_answer_fn *answer;
    void *user;
};

bool link_behind(const struct link *l)
{
    return l->queue.len - l->queue_at > BEHIND_BYTES;
}

static void flush(struct link *l)
{
    bool behind = link_behind(l);
    while (l->queue_at < l->queue.len) {
        uint32_t n;
        memcpy(&n, l->queue.data + l->queue_at, sizeof n);
        ssize_t r = send(l->fd, l->queue.data + l->queue_at + sizeof n, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (r < 0 && errno == EAGAIN)
            break;
        l->queue_at += sizeof n + n; /* another error: the reading side will see it */
    }
    if (l->queue_at == l->queue.len || l->queue_at > BEHIND_BYTES) {
        sa_buf_consume(&l->queue, l->queue_at);
        l->queue_at = 0;
    }
    sa_io_set(l->io, SA_IO_READ | (l->queue.len ? SA_IO_WRITE : 0));
    if (behind && !link_behind(l) && l->on_drained)
        l->on_drained(l->user);
}

/* Calls the answers up to this number; false: the shim answers what was not asked. */
static bool answered(struct link *l, const struct shim_status *status)
{
    struct link_pending *p = l->first;
    if (!p || status->answered < p->number)
        return true; /* a status that answers nothing new */
    if (status->answered != p->number)
        return false;
    if (!(l->first = p->next))
        l->last = &l->first;
    if (p->answer)
        p->answer(p->user, (int)status->answer_errno, status);
    free(p);
    return true;
}

static void on_io(void *user, int fd, int events)
{
    struct link *l = user;
    if (events & SA_IO_WRITE)
        flush(l);
    for (int i = 0; i < STATUSES_PER_TURN && l->fd == fd && link_is_open(l); i++) {
        struct shim_status status;
        ssize_t n = recv(fd, &status, sizeof status, MSG_DONTWAIT | MSG_TRUNC);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0 || !shim_check_status(&status, (size_t)n, &status) || !answered(l, &status)) {
            link_close(l);
            l->on_closed(l->user);
            return;
        }
        if (link_is_open(l))
            l->on_status(l->user, &status);
    }
}

void link_open(struct link *l, struct sa_loop *loop, int fd)
{
    l->loop = loop;
    l->fd = fd;
    l->number = 0;
    l->last = &l->first;
    l->io = sa_io_new(loop, fd, on_io, l);
    sa_io_set(l->io, SA_IO_READ);
}

void link_close(struct link *l)
{
    if (!link_is_open(l))
        return;
    sa_io_free(steal_pointer(&l->io));
    sa_close(l->fd);
    l->fd = -1;
    sa_buf_fini(&l->queue);
    l->queue_at = 0;
    while (l->first) {
        struct link_pending *p = l->first;
        l->first = p->next;
        if (p->answer)
            p->answer(p->user, ECONNRESET, NULL);
        free(p);
    }
    l->last = &l->first;
}

static void add(struct link *l, struct shim_request *r, const void *data, size_t n)
{
    r->magic = SHIM_REQUEST_MAGIC;
    r->version = SHIM_VERSION;
    uint32_t size = (uint32_t)(sizeof *r + n);
    sa_buf_add(&l->queue, &size, sizeof size);
    sa_buf_add(&l->queue, r, sizeof *r);
    sa_buf_add(&l->queue, data, n);
    flush(l);
}

static void ask(struct link *l, struct shim_request *r, const void *data, size_t n, link_answer_fn *answer,
                void *user)
{
    if (!link_is_open(l)) {
        if (answer)
            answer(user, ECONNRESET, NULL);
        return;
    }
    struct link_pending *p = sa_calloc(1, sizeof *p);
    *p = (struct link_pending){NULL, r->number = ++l->number, answer, user};
    *l->last = p;
    l->last = &p->next;
    add(l, r, data, n);
}

void link_signal(struct link *l, uint32_t signum, enum shim_scope scope, link_answer_fn *answer, void *user)
{
    struct shim_request r = {.type = SHIM_SIGNAL, .value = signum, .scope = scope};
    ask(l, &r, NULL, 0, answer, user);
}

void link_input(struct link *l, uint64_t offset, const void *p, size_t n, bool eof, link_answer_fn *answer,
                void *user)
{
    struct shim_request r = {.type = SHIM_INPUT, .offset = offset, .value = eof};
    ask(l, &r, p, n, answer, user);
}

void link_ask(struct link *l, link_answer_fn *answer, void *user)
{
    struct shim_request r = {.type = SHIM_STATUS};
    ask(l, &r, NULL, 0, answer, user);
}

void link_ack(struct link *l, uint32_t stream, uint64_t offset)
{
    struct shim_request r = {.type = SHIM_ACK, .stream = stream, .offset = offset};
    if (link_is_open(l))
        add(l, &r, NULL, 0);
}

void link_resize(struct link *l, uint32_t rows, uint32_t columns, link_answer_fn *answer, void *user)
{
    struct shim_request r = {.type = SHIM_RESIZE, .value = rows, .scope = columns};
    ask(l, &r, NULL, 0, answer, user);
}

void link_release(struct link *l)
{
    struct shim_request r = {.type = SHIM_RELEASE};
    if (link_is_open(l))
        add(l, &r, NULL, 0);
}

void link_last(struct link *l)
{
    struct shim_request r = {.type = SHIM_LAST};
    if (link_is_open(l))
        add(l, &r, NULL, 0);
}

void link_run(struct link *l, size_t spec_bytes, size_t input_bytes)
{
    struct shim_request r = {.type = SHIM_RUN, .value = (uint32_t)spec_bytes, .offset = input_bytes};
    if (link_is_open(l))
        add(l, &r, NULL, 0);
}

void link_forget(struct link *l, const void *user)
{
    for (struct link_pending *p = l->first; p; p = p->next)
        if (p->user == user)
            p->answer = NULL;
}
