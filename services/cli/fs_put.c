/* `sandbox-agent fs put LOCAL REMOTE`: a file from here to there. A large one goes as an upload, which is
 * taken up again where it broke: at once, or with --resume by a later start. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "adapters/os/mem.h"
#include "adapters/os/sha256.h"
#include "sandboxagent/fs/v1/upload_service.rpc.h"
#include "services/cli/show.h"
#include "services/cli/transfer.h"

static const struct service_option own[] = {
    TRANSFER_WRITE_OPTIONS,
    {"resume", SERVICE_OPTION_FLAG, NULL, 0, 0, "go on with an earlier put of the same file that broke off"},
    {0},
};

struct put {
    struct client *c;
    const struct options *o;
    const char *local;
    char *remote;
    int fd;
    struct stat st;
    uint32_t mode;
    char *upload_id;
    uint64_t committed;
    struct sa_sha256 digest;
    uint64_t hashed; /* bytes of the file that are in the digest */
    struct progress progress;
};

/* ---- the upload ---- */

/* The same file to the same place, which is as it was: the same upload. */
static int make_request_id(struct put *p, char ret[static SA_SHA256_TEXT + 1], sa_error **err)
{
    StatFileRequest req = STAT_FILE_REQUEST__INIT;
    req.root = fs_root(p->o);
    req.path = fs_path(p->remote);
    sa_error *why = NULL;
    StatFileResponse *res = stat_file_wait(p->c->channel, &req, NULL, &why);
    if (!res && !sa_error_is(why, SA_FILE_NOT_FOUND))
        return sa_pass(err, why);
    sa_error_free(why);
    struct sa_sha256 d;
    cleanup_free char *real = realpath(p->local, NULL);
    cleanup_free char *text = sa_format(
        "%s\n%llu %llu %lld %lld.%09ld\n%s\n%s\n%s", real ? real : p->local, (unsigned long long)p->st.st_dev,
        (unsigned long long)p->st.st_ino, (long long)p->st.st_size, (long long)p->st.st_mtim.tv_sec,
        p->st.st_mtim.tv_nsec, req.root, p->remote, res ? res->file->etag : "");
    rpc_message_free(res);
    sa_sha256_init(&d);
    sa_sha256_add(&d, text, strlen(text));
    sa_sha256_end_text(&d, ret);
    return 0;
}

static BeginUploadResponse *begin_once(struct put *p, char *request_id, sa_error **err)
{
    const char *if_match = options_text(p->o, "if-match");
    BeginUploadRequest req = BEGIN_UPLOAD_REQUEST__INIT;
    req.root = fs_root(p->o);
    req.path = fs_path(p->remote);
    req._size_case = BEGIN_UPLOAD_REQUEST___SIZE_SIZE;
    req.size = (uint64_t)p->st.st_size;
    req.mode = p->mode;
    req.make_parents = options_flag(p->o, "parents");
    req.create_only = options_flag(p->o, "create-only");
    if (if_match)
        req.if_match = (char *)(uintptr_t)if_match;
    req.request_id = request_id;
    return begin_upload_wait(p->c->channel, &req, NULL, err);
}

static int abort_it(struct put *p, char *id, sa_error **err)
{
    AbortUploadRequest req = ABORT_UPLOAD_REQUEST__INIT;
    req.upload_id = id;
    AbortUploadResponse *res = abort_upload_wait(p->c->channel, &req, NULL, err);
    rpc_message_free(res);
    return res ? 0 : -1;
}

/* An earlier upload is gone on with only if that is wanted. 1: it was committed already, and the file there
 * is what it made. */
static int begin(struct put *p, sa_error **err)
{
    char request_id[SA_SHA256_TEXT + 1];
    if (make_request_id(p, request_id, err) < 0)
        return -1;
    BeginUploadResponse *res = begin_once(p, request_id, err);
    if (res && !res->upload->file && res->upload->committed_offset && !options_flag(p->o, "resume")) {
        int r = abort_it(p, res->upload->upload_id, err);
        rpc_message_free(res);
        res = r < 0 ? NULL : begin_once(p, request_id, err);
    }
    if (!res)
        return -1;
    int done = res->upload->file != NULL;
    p->upload_id = sa_strdup(res->upload->upload_id);
    p->committed = res->upload->committed_offset;
    rpc_message_free(res);
    return done;
}

static int seek(struct put *p, uint64_t at, sa_error **err)
{
    return lseek(p->fd, (off_t)at, SEEK_SET) < 0 ? sa_fail_errno(err, errno, "read `%s`", p->local) : 0;
}

/* The next bytes of the file; each goes into the digest once. */
static int read_chunk(struct put *p, uint64_t at, uint8_t *chunk, size_t *ret_n, sa_error **err)
{
    if (transfer_read(p->fd, p->local, chunk, TRANSFER_CHUNK, ret_n, err) < 0)
        return -1;
    if (at + *ret_n > p->hashed) {
        size_t known = p->hashed > at ? (size_t)(p->hashed - at) : 0;
        sa_sha256_add(&p->digest, chunk + known, *ret_n - known);
        p->hashed = at + *ret_n;
    }
    return 0;
}

/* What is there already is only read for the digest. */
static int hash_to(struct put *p, uint64_t end, uint8_t *chunk, sa_error **err)
{
    size_t n;
    if (p->hashed >= end)
        return 0;
    if (seek(p, p->hashed, err) < 0)
        return -1;
    while (p->hashed < end)
        if (read_chunk(p, p->hashed, chunk, &n, err) < 0 || n == 0)
            return *err ? -1 : sa_fail(err, SA_FILE_CHANGED, "`%s` became shorter meanwhile", p->local);
    return 0;
}

static int send_from(struct put *p, struct rpc_stream *s, uint8_t *chunk, sa_error **err)
{
    size_t n = TRANSFER_CHUNK;
    if (hash_to(p, p->committed, chunk, err) < 0 || seek(p, p->committed, err) < 0)
        return -1;
    for (uint64_t at = p->committed; n == TRANSFER_CHUNK; at += n) {
        WriteUploadRequest msg = WRITE_UPLOAD_REQUEST__INIT;
        if (read_chunk(p, at, chunk, &n, err) < 0)
            return -1;
        msg.upload_id = p->upload_id;
        msg.offset = at;
        msg.data = (ProtobufCBinaryData){n, chunk};
        if (write_upload_put(s, &msg, err) < 0)
            return -1;
        progress_tell(&p->progress, at + n);
    }
    return rpc_stream_close_send(s, err);
}

/* One stream, to the end of the file. */
static int send_stream(struct put *p, sa_error **err)
{
    cleanup_free uint8_t *chunk = sa_malloc(TRANSFER_CHUNK);
    struct rpc_stream *s = write_upload_begin(p->c->channel, NULL);
    WriteUploadResponse *res;
    int r = send_from(p, s, chunk, err);
    while (r >= 0 && (r = write_upload_next(s, &res, err)) == 1) {
        p->committed = res->committed_offset;
        rpc_message_free(res);
    }
    rpc_stream_free(s);
    return r;
}

static int where(struct put *p, sa_error **err)
{
    struct rpc_call_options again = {.deadline_ms = TRANSFER_RETRY_MS, .wait_for_ready = true};
    GetUploadRequest req = GET_UPLOAD_REQUEST__INIT;
    req.upload_id = p->upload_id;
    GetUploadResponse *res = get_upload_wait(p->c->channel, &req, &again, err);
    if (res)
        p->committed = res->upload->committed_offset;
    rpc_message_free(res);
    return res ? 0 : -1;
}

static int send_all(struct put *p, sa_error **err)
{
    uint64_t until = sa_now_ms() + TRANSFER_RETRY_MS;
    for (;;) {
        sa_error *why = NULL;
        uint64_t from = p->committed;
        progress_begin(&p->progress, p->remote, (uint64_t)p->st.st_size, from);
        int r = send_stream(p, &why);
        progress_end(&p->progress);
        if (r == 0)
            return 0;
        if (!transfer_may_retry(why) || sa_now_ms() > until)
            return sa_pass(err, why);
        sa_error_free(why);
        if (where(p, err) < 0)
            return -1;
        if (p->committed > from)
            until = sa_now_ms() + TRANSFER_RETRY_MS;
    }
}

static int commit(struct put *p, sa_error **err)
{
    struct rpc_call_options patient = {.deadline_ms = TRANSFER_RETRY_MS, .wait_for_ready = true};
    uint8_t digest[SA_SHA256_SIZE];
    struct stat now;
    if (fstat(p->fd, &now) < 0 || now.st_size != p->st.st_size ||
        now.st_mtim.tv_sec != p->st.st_mtim.tv_sec || now.st_mtim.tv_nsec != p->st.st_mtim.tv_nsec)
        return sa_fail(err, SA_FILE_CHANGED, "`%s` was changed while it was sent", p->local);
    sa_sha256_end(&p->digest, digest);
    CommitUploadRequest req = COMMIT_UPLOAD_REQUEST__INIT;
    req.upload_id = p->upload_id;
    req.sha256 = (ProtobufCBinaryData){sizeof digest, digest};
    CommitUploadResponse *res = NULL;
    for (uint64_t until = sa_now_ms() + TRANSFER_RETRY_MS; !res;) {
        sa_error *why = NULL;
        res = commit_upload_wait(p->c->channel, &req, &patient, &why);
        if (!res && (!transfer_may_retry(why) || sa_now_ms() > until))
            return sa_pass(err, why);
        sa_error_free(why);
    }
    if (options_flag(p->o, "json"))
        show_json(stdout, &res->file->base);
    rpc_message_free(res);
    return 0;
}

static int upload(struct put *p, sa_error **err)
{
    sa_sha256_init(&p->digest);
    int r = begin(p, err);
    if (r)
        return r < 0 ? -1 : 0;
    return send_all(p, err) < 0 || commit(p, err) < 0 ? -1 : 0;
}

/* ---- in one stream ---- */

static int write_at_once(struct put *p, bool sized, sa_error **err)
{
    const char *if_match = options_text(p->o, "if-match");
    WriteFileOpen open = WRITE_FILE_OPEN__INIT;
    open.root = fs_root(p->o);
    open.path = fs_path(p->remote);
    open.mode = p->mode;
    open.make_parents = options_flag(p->o, "parents");
    open.create_only = options_flag(p->o, "create-only");
    if (if_match)
        open.if_match = (char *)(uintptr_t)if_match;
    if (sized) {
        open._size_case = WRITE_FILE_OPEN___SIZE_SIZE;
        open.size = (uint64_t)p->st.st_size;
    }
    progress_begin(&p->progress, p->remote, sized ? open.size : UINT64_MAX, 0);
    WriteFileResponse *res = transfer_write(p->c, &open, p->fd, p->local, &p->progress, err);
    progress_end(&p->progress);
    if (!res)
        return -1;
    if (options_flag(p->o, "json"))
        show_json(stdout, &res->file->base);
    rpc_message_free(res);
    return 0;
}

/* ---- the verb ---- */

static char *remote_name(const char *local, const char *remote)
{
    const char *slash = strrchr(local, '/');
    size_t n = strlen(remote);
    return sa_format("%s%s", remote, n && remote[n - 1] == '/' ? slash ? slash + 1 : local : "");
}

static int put(struct put *p, bool standard_input, sa_error **err)
{
    if (transfer_mode(p->o, &p->mode, err) < 0)
        return -1;
    p->fd = standard_input ? dup(STDIN_FILENO) : open(p->local, O_RDONLY | O_CLOEXEC);
    if (p->fd < 0 || fstat(p->fd, &p->st) < 0)
        return sa_fail_errno(err, errno, "read `%s`", p->local);
    if (S_ISDIR(p->st.st_mode))
        return sa_fail(err, SA_IS_A_DIRECTORY, "`%s` is a directory", p->local);
    bool sized = !standard_input && S_ISREG(p->st.st_mode);
    if (sized && !options_text(p->o, "mode"))
        p->mode = p->st.st_mode & 0777;
    return sized && p->st.st_size > TRANSFER_UPLOAD ? upload(p, err) : write_at_once(p, sized, err);
}

static int act(struct client *c, const struct options *o, sa_error **err)
{
    char **words = options_arguments(o);
    bool standard_input = !strcmp(words[0], "-");
    struct put p = {.c = c, .o = o, .local = standard_input ? "standard input" : words[0], .fd = -1};
    p.remote = remote_name(words[0], words[1]);
    int r = put(&p, standard_input, err);
    sa_close(p.fd);
    free(p.remote);
    free(p.upload_id);
    return r;
}

int fs_put(int argc, char **argv)
{
    static const struct fs_verb verb = {
        .own = own,
        .letters = "p=parents",
        .usage = "put [options] LOCAL REMOTE",
        .summary = "Sends a file, or standard input (-), and replaces REMOTE when all is there. Over 8 MiB "
                   "it can be\n"
                   "resumed: a connection that breaks is taken up again, and --resume goes on after an "
                   "interruption.",
        .least = 2,
        .most = 2,
        .act = act,
    };
    return fs_verb(&verb, argc, argv);
}
