/* `sandbox-agent fs get REMOTE [LOCAL]`: a file from there to here. What came grows in LOCAL.<etag>.part, so
 * that a second try, of this program or the next one, goes on with it as long as the file there is the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "adapters/os/mem.h"
#include "services/cli/show.h"
#include "services/cli/transfer.h"

struct get {
    struct client *c;
    const struct options *o;
    const char *remote;
    char *local, *part;
    FileInfo *file; /* there */
    int fd;
    uint64_t at;
    struct progress progress;
};

/* Where it is to be: a directory keeps the name. */
static char *local_name(const char *remote, const char *local)
{
    const char *slash = strrchr(remote, '/'), *name = slash ? slash + 1 : remote;
    struct stat st;
    if (!local)
        return sa_strdup(name);
    if (stat(local, &st) == 0 && S_ISDIR(st.st_mode))
        return sa_format("%s/%s", local, name);
    return sa_strdup(local);
}

static int failed(const char *what, const char *path, sa_error **err)
{
    return sa_fail_errno(err, errno, "%s `%s`", what, path);
}

static int write_at(struct get *g, const void *p, size_t n, sa_error **err)
{
    for (size_t done = 0; done < n;) {
        ssize_t r = pwrite(g->fd, (const char *)p + done, n - done, (off_t)(g->at + done));
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return failed("write", g->part, err);
        done += (size_t)r;
    }
    g->at += n;
    return 0;
}

static int take(struct get *g, const ReadFileResponse *res, sa_error **err)
{
    if (write_at(g, res->data.data, res->data.len, err) < 0)
        return -1;
    g->at += res->hole_bytes;
    if (res->hole_bytes && ftruncate(g->fd, (off_t)g->at) < 0)
        return failed("write", g->part, err);
    progress_tell(&g->progress, g->at);
    return 0;
}

static int receive(struct get *g, sa_error **err)
{
    ReadFileRequest req = READ_FILE_REQUEST__INIT;
    req.root = fs_root(g->o);
    req.path = fs_path(g->remote);
    req.offset = g->at;
    req.if_match = g->file->etag;
    req.chunk_bytes = TRANSFER_CHUNK;
    req.holes = true;
    struct rpc_stream *s = read_file_begin(g->c->channel, &req, NULL);
    ReadFileResponse *res;
    int r;
    while ((r = read_file_next(s, &res, err)) == 1) {
        r = take(g, res, err);
        rpc_message_free(res);
        if (r < 0)
            break;
    }
    rpc_stream_free(s);
    return r;
}

static int look(struct get *g, sa_error **err)
{
    StatFileRequest req = STAT_FILE_REQUEST__INIT;
    struct rpc_call_options again = {.deadline_ms = TRANSFER_RETRY_MS, .wait_for_ready = g->file != NULL};
    req.root = fs_root(g->o);
    req.path = fs_path(g->remote);
    StatFileResponse *res = stat_file_wait(g->c->channel, &req, &again, err);
    if (!res)
        return -1;
    if (g->file)
        file_info__free_unpacked(g->file, NULL);
    g->file = steal_pointer(&res->file);
    rpc_message_free(res);
    if (g->file->kind == FILE_KIND_DIRECTORY)
        return sa_fail(err, SA_IS_A_DIRECTORY, "`%s` is a directory", g->remote);
    return 0;
}

/* The part of this state of the file. */
static int open_part(struct get *g, sa_error **err)
{
    struct stat st;
    sa_close(g->fd);
    free(g->part);
    g->part = sa_format("%s.%s.part", g->local, g->file->etag);
    g->fd = open(g->part, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (g->fd < 0 || fstat(g->fd, &st) < 0)
        return failed("write", g->part, err);
    g->at = (uint64_t)st.st_size <= g->file->size ? (uint64_t)st.st_size : 0;
    return 0;
}

static int finish(struct get *g, sa_error **err)
{
    mode_t mask = umask(0);
    umask(mask);
    if (ftruncate(g->fd, (off_t)g->at) < 0 || fchmod(g->fd, g->file->mode & 0777 & ~mask) < 0 ||
        rename(g->part, g->local) < 0)
        return failed("write", g->local, err);
    return 0;
}

/* Until it is here, over breaks and changes of the file. */
static int fetch(struct get *g, sa_error **err)
{
    uint64_t until = sa_now_ms() + TRANSFER_RETRY_MS;
    for (;;) {
        sa_error *why = NULL;
        if (look(g, err) < 0 || open_part(g, err) < 0)
            return -1;
        uint64_t from = g->at;
        progress_begin(&g->progress, g->remote, g->file->size, from);
        int r = receive(g, &why);
        progress_end(&g->progress);
        if (r == 0)
            return finish(g, err);
        if (g->at > from)
            until = sa_now_ms() + TRANSFER_RETRY_MS;
        bool other = sa_error_is(why, SA_ETAG_MISMATCH) || sa_error_is(why, SA_FILE_CHANGED);
        if (other)
            unlink(g->part);
        if ((!other && !transfer_may_retry(why)) || sa_now_ms() > until)
            return sa_pass(err, why);
        sa_error_free(why);
    }
}

static int act(struct client *c, const struct options *o, sa_error **err)
{
    char **words = options_arguments(o);
    struct get g = {.c = c, .o = o, .remote = words[0], .fd = -1};
    g.local = local_name(g.remote, options_count(o) > 1 ? words[1] : NULL);
    int r = *g.local ? fetch(&g, err) : sa_fail(err, SA_INVALID_PATH, "`%s` names no file", g.remote);
    if (r == 0 && options_flag(o, "json"))
        show_json(stdout, &g.file->base);
    if (g.file)
        file_info__free_unpacked(g.file, NULL);
    sa_close(g.fd);
    free(g.local);
    free(g.part);
    return r;
}

int fs_get(int argc, char **argv)
{
    static const struct fs_verb verb = {
        .usage = "get [options] REMOTE [LOCAL]",
        .summary =
            "Fetches a file. One that broke off is gone on with, as long as the file there is the same.",
        .least = 1,
        .most = 2,
        .act = act,
    };
    return fs_verb(&verb, argc, argv);
}
