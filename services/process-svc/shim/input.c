#include "services/process-svc/shim/input.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "services/process-svc/shim/protocol.h"
#include "services/process-svc/shim/pty.h"

enum { FREE_STEP = 1 << 20, BLOCK = 4096 };

void input_init(struct input *in, int pipe, int spool, uint64_t next, int eof)
{
    *in = (struct input){.pipe = pipe, .spool = spool, .next = next, .eof = eof, .closed = eof};
}

void input_close(struct input *in)
{
    if (in->pipe >= 0)
        close(in->pipe);
    in->pipe = -1;
    if (in->hold)
        return;
    in->closed = 1;
    in->written = in->next;
}

/* Writes to the pipe; bytes taken, 0 when it is full or gone. */
static size_t feed(struct input *in, const void *p, size_t n)
{
    ssize_t r;
    do
        r = write(in->pipe, p, n);
    while (r < 0 && errno == EINTR);
    if (r < 0 && errno != EAGAIN && !in->terminal) /* a terminal's end is polled for */
        input_close(in);
    return r > 0 ? (size_t)r : 0;
}

static int spool(struct input *in, const char *p, size_t n, uint64_t at)
{
    if (in->spool < 0)
        in->spool = open("in", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (in->spool < 0)
        return errno;
    while (n) {
        ssize_t r = pwrite(in->spool, p, n, (off_t)at);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return errno;
        p += r, at += (size_t)r, n -= (size_t)r;
    }
    return 0;
}

static void finish(struct input *in)
{
    if (!in->eof || in->written != in->next)
        return;
    if (!in->terminal) {
        input_close(in);
        return;
    }
    const char c = pty_eof(in->pipe);
    in->eof = c && feed(in, &c, 1) == 0;
}

void input_resume(struct input *in, int pipe)
{
    in->pipe = pipe;
    finish(in); /* it had ended before */
}

int input_take(struct input *in, uint64_t offset, const void *p, size_t n, int eof)
{
    if (offset > in->next)
        return ERANGE;
    uint64_t have = in->next - offset;
    if (have >= n && (!eof || in->eof_at == in->next + 1 || in->eof || have > n))
        return 0; /* a repetition */
    if (in->closed)
        return have >= n ? 0 : EPIPE;
    if (in->eof)
        return ENOBUFS;
    const char *at = (const char *)p + (have < n ? have : n);
    size_t left = have < n ? n - (size_t)have : 0;
    if (in->next - in->written + left > SHIM_INPUT_PENDING_MAX)
        return ENOBUFS;
    size_t now = in->pipe >= 0 && in->written == in->next && left ? feed(in, at, left) : 0;
    if (in->closed)
        return EPIPE;
    /* What the pipe has taken is taken, whatever becomes of the rest. */
    in->next += now;
    in->written += now;
    int error = left > now ? spool(in, at + now, left - now, in->next) : 0;
    if (error)
        return error;
    in->next += left - now;
    if (eof) {
        in->eof = 1;
        in->eof_at = in->next + 1;
        in->closed = !in->terminal;
    }
    finish(in);
    return 0;
}

int input_pump(struct input *in, void *buf, size_t n)
{
    while (in->pipe >= 0 && in->written < in->next) {
        uint64_t waits = in->next - in->written;
        ssize_t r = pread(in->spool, buf, waits < n ? (size_t)waits : n, (off_t)in->written);
        if (r <= 0) { /* the spool is damaged: nothing sensible can follow */
            in->closed = 1;
            in->written = in->next;
            in->hold = 0;
            if (!in->terminal)
                input_close(in);
            break;
        }
        size_t fed = feed(in, buf, (size_t)r);
        in->written += fed;
        if (in->pipe < 0)
            break;
        uint64_t to = in->written - in->written % BLOCK;
        if (to - in->freed >= FREE_STEP && !fallocate(in->spool, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                                      (off_t)in->freed, (off_t)(to - in->freed)))
            in->freed = to;
        if (fed < (size_t)r)
            return 1;
    }
    finish(in);
    return 0;
}
