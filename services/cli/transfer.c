#include "services/cli/transfer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "adapters/os/mem.h"
#include "services/cli/process.h"

/* ---- progress ---- */

enum { TELL_MS = 200 };

void progress_begin(struct progress *p, const char *name, uint64_t size, uint64_t from)
{
    uint64_t now = sa_now_ms();
    *p = (struct progress){.shown = isatty(STDERR_FILENO) == 1,
                           .name = name,
                           .size = size,
                           .from = from,
                           .start_ms = now,
                           .told_ms = now};
}

void progress_tell(struct progress *p, uint64_t at)
{
    uint64_t now = sa_now_ms();
    if (!p->shown || now < p->told_ms + TELL_MS)
        return;
    char done[PROCESS_TEXT], all[PROCESS_TEXT] = "", rate[PROCESS_TEXT];
    uint64_t per_s = at > p->from ? (at - p->from) * 1000 / (now - p->start_ms) : 0;
    process_size_text(at, done);
    process_size_text(per_s, rate);
    fprintf(stderr, "\r\033[K");
    fs_show_name(stderr, fs_path(p->name));
    if (p->size != UINT64_MAX && p->size) {
        process_size_text(p->size, all);
        fprintf(stderr, "  %3" PRIu64 " %%  %s of %s  %s/s", (uint64_t)((double)at * 100 / (double)p->size),
                done, all, rate);
        if (per_s && p->size > at)
            fprintf(stderr, "  %" PRIu64 " s left", (p->size - at) / per_s);
    } else {
        fprintf(stderr, "  %s  %s/s", done, rate);
    }
    fflush(stderr);
    p->told_ms = now;
}

void progress_end(struct progress *p)
{
    if (p->shown && p->told_ms != p->start_ms)
        fprintf(stderr, "\r\033[K");
    p->shown = false;
}

/* ---- writing ---- */

int transfer_mode(const struct options *o, uint32_t *ret_mode, sa_error **err)
{
    const char *text = options_text(o, "mode");
    char *end;
    unsigned long mode = text ? strtoul(text, &end, 8) : 0;
    if (text && (!*text || *end || mode > 0777))
        return sa_fail(err, SA_INVALID_CONFIG, "--mode is octal, at most 777");
    *ret_mode = (uint32_t)mode;
    return 0;
}

bool transfer_may_retry(const sa_error *err)
{
    return err->code == SA_CODE_UNAVAILABLE || err->code == SA_CODE_CANCELLED;
}

int transfer_read(int fd, const char *name, void *p, size_t n, size_t *ret_n, sa_error **err)
{
    size_t got = 0;
    while (got < n) {
        ssize_t r = read(fd, (char *)p + got, n - got);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return sa_fail_errno(err, errno, "read `%s`", name);
        if (r == 0)
            break;
        got += (size_t)r;
    }
    *ret_n = got;
    return 0;
}

static int put_open(struct rpc_stream *s, WriteFileOpen *open, sa_error **err)
{
    char id[SA_ID_TEXT + 1];
    WriteFileRequest msg = WRITE_FILE_REQUEST__INIT;
    if (!*open->request_id) {
        sa_id_format(sa_id_new(), id);
        open->request_id = id;
    }
    msg.kind_case = WRITE_FILE_REQUEST__KIND_OPEN;
    msg.open = open;
    return write_file_put(s, &msg, err);
}

static int put_all(struct rpc_stream *s, int fd, const char *name, struct progress *p, sa_error **err)
{
    cleanup_free uint8_t *chunk = sa_malloc(TRANSFER_CHUNK);
    size_t n = TRANSFER_CHUNK;
    for (uint64_t at = 0; n == TRANSFER_CHUNK; at += n) {
        WriteFileRequest msg = WRITE_FILE_REQUEST__INIT;
        if (transfer_read(fd, name, chunk, TRANSFER_CHUNK, &n, err) < 0)
            return -1;
        msg.kind_case = WRITE_FILE_REQUEST__KIND_DATA;
        msg.data = (ProtobufCBinaryData){n, chunk};
        if (n && write_file_put(s, &msg, err) < 0)
            return -1;
        progress_tell(p, at + n);
    }
    return rpc_stream_close_send(s, err);
}

WriteFileResponse *transfer_write(struct client *c, WriteFileOpen *open, int fd, const char *name,
                                  struct progress *p, sa_error **err)
{
    struct rpc_stream *s = write_file_begin(c->channel, NULL);
    WriteFileResponse *res = NULL;
    int r = put_open(s, open, err);
    if (r == 0)
        r = put_all(s, fd, name, p, err);
    if (r == 0 && write_file_next(s, &res, err) == 0)
        sa_fail(err, SA_INTERNAL, "the server has not answered");
    rpc_stream_free(s);
    return res;
}
