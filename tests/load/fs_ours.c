/* fs-svc over its unix socket. One client; calls that are under way at once are requests of it, not threads.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/grpc/rpc.h"
#include "sandboxagent/fs/v1/archive_service.rpc.h"
#include "sandboxagent/fs/v1/file_service.rpc.h"
#include "tests/load/fs_bench.h"

enum { LANES = 16, PIECE = 1 << 20 };

struct ours {
    struct sa_loop *loop;
    struct rpc_runtime *rpc;
    struct rpc_channel *channel;
};

static const struct rpc_call_options patient = {.deadline_ms = 300000, .wait_for_ready = true};

static void failed(const char *what, const sa_error *err)
{
    die("fs-svc: %s: %s", what, err ? err->message : "failed");
}

static ProtobufCBinaryData bytes_of(const char *text)
{
    return (ProtobufCBinaryData){strlen(text), (uint8_t *)(uintptr_t)text};
}

/* ---- small files ---- */

struct smalls {
    struct ours *o;
    const char *dir;
    bool write;
    size_t begun, ended, n;
    uint64_t *ns;
    pthread_mutex_t lock;
    pthread_cond_t over;
};

struct small {
    struct smalls *all;
    size_t i, got;
    uint64_t start_ns;
};

static void next(struct small *s);

static void on_end(void *user, const sa_error *err)
{
    struct small *s = user;
    struct smalls *all = s->all;
    if (err || (!all->write && s->got != SMALL))
        failed(all->write ? "WriteFile" : "ReadFile", err);
    all->ns[s->i] = sa_now_ns() - s->start_ns;
    if (all->begun < all->n)
        next(s);
    pthread_mutex_lock(&all->lock);
    if (++all->ended == all->n)
        pthread_cond_signal(&all->over);
    pthread_mutex_unlock(&all->lock);
}

static void on_data(void *user, const ReadFileResponse *res)
{
    struct small *s = user;
    s->got += res->data.len;
}

static void on_written(void *user, const WriteFileResponse *res)
{
    (void)user, (void)res;
}

static void begin_read(struct small *s, const char *path)
{
    static const struct read_file_client events = {.on_message = on_data, .on_end = on_end};
    ReadFileRequest req = READ_FILE_REQUEST__INIT;
    req.path = bytes_of(path);
    read_file_open(s->all->o->channel, &req, &patient, &events, s);
}

static void begin_write(struct small *s, const char *path)
{
    static const struct write_file_client events = {.on_message = on_written, .on_end = on_end};
    static uint8_t content[SMALL];
    WriteFileRequest msg = WRITE_FILE_REQUEST__INIT;
    WriteFileOpen open = WRITE_FILE_OPEN__INIT;
    open.path = bytes_of(path);
    msg.kind_case = WRITE_FILE_REQUEST__KIND_OPEN;
    msg.open = &open;
    struct rpc_request *r = write_file_open(s->all->o->channel, &patient, &events, s);
    write_file_write(r, &msg);
    msg.kind_case = WRITE_FILE_REQUEST__KIND_DATA;
    msg.data = (ProtobufCBinaryData){sizeof content, content};
    write_file_write(r, &msg);
    rpc_close_send(r);
}

static void next(struct small *s)
{
    s->i = s->all->begun++;
    s->got = 0;
    s->start_ns = sa_now_ns();
    cleanup_free char *path = sa_format("%s/f%zu", s->all->dir, s->i % FILES);
    if (s->all->write)
        begin_write(s, path);
    else
        begin_read(s, path);
}

static void run_smalls(struct ours *o, const char *dir, bool write, size_t at_once, uint64_t *ret_ns,
                       size_t n)
{
    struct small list[LANES];
    struct smalls all = {.o = o, .dir = dir, .write = write, .n = n, .ns = ret_ns};
    pthread_mutex_init(&all.lock, NULL);
    pthread_cond_init(&all.over, NULL);
    sa_loop_lock(o->loop);
    for (size_t i = 0; i < at_once; i++) {
        list[i] = (struct small){.all = &all};
        next(&list[i]);
    }
    sa_loop_unlock(o->loop);
    pthread_mutex_lock(&all.lock);
    while (all.ended < n)
        pthread_cond_wait(&all.over, &all.lock);
    pthread_mutex_unlock(&all.lock);
    pthread_mutex_destroy(&all.lock);
    pthread_cond_destroy(&all.over);
}

static void read_small(void *user, const char *dir, size_t at_once, uint64_t *ret_ns, size_t n)
{
    run_smalls(user, dir, false, at_once, ret_ns, n);
}

static void write_small(void *user, const char *dir, size_t at_once, uint64_t *ret_ns, size_t n)
{
    run_smalls(user, dir, true, at_once, ret_ns, n);
}

/* ---- large files ---- */

static uint64_t get(void *user, const char *path)
{
    struct ours *o = user;
    sa_error *err = NULL;
    ReadFileRequest req = READ_FILE_REQUEST__INIT;
    ReadFileResponse *res;
    req.path = bytes_of(path);
    uint64_t n = 0;
    struct rpc_stream *s = read_file_begin(o->channel, &req, &patient);
    int r;
    while ((r = read_file_next(s, &res, &err)) == 1) {
        n += res->data.len;
        rpc_message_free(res);
    }
    if (r < 0)
        failed("ReadFile", err);
    rpc_stream_free(s);
    return n;
}

static void put(void *user, const char *path, uint64_t bytes)
{
    struct ours *o = user;
    sa_error *err = NULL;
    cleanup_free uint8_t *piece = sa_calloc(1, PIECE);
    WriteFileRequest msg = WRITE_FILE_REQUEST__INIT;
    WriteFileOpen open = WRITE_FILE_OPEN__INIT;
    WriteFileResponse *res = NULL;
    open.path = bytes_of(path);
    msg.kind_case = WRITE_FILE_REQUEST__KIND_OPEN;
    msg.open = &open;
    struct rpc_stream *s = write_file_begin(o->channel, &patient);
    int r = write_file_put(s, &msg, &err);
    msg.kind_case = WRITE_FILE_REQUEST__KIND_DATA;
    for (uint64_t at = 0; r == 0 && at < bytes; at += msg.data.len) {
        msg.data = (ProtobufCBinaryData){bytes - at < PIECE ? (size_t)(bytes - at) : PIECE, piece};
        r = write_file_put(s, &msg, &err);
    }
    rpc_stream_close_send(s, NULL);
    if (r < 0 || write_file_next(s, &res, &err) != 1)
        failed("WriteFile", err);
    rpc_message_free(res);
    rpc_stream_free(s);
}

/* ---- trees ---- */

static size_t list(void *user, const char *dir)
{
    struct ours *o = user;
    cleanup_free char *token = sa_strdup("");
    size_t n = 0;
    do {
        sa_error *err = NULL;
        ListDirectoryRequest req = LIST_DIRECTORY_REQUEST__INIT;
        req.path = bytes_of(dir);
        req.page_size = 10000;
        req.page_token = token;
        ListDirectoryResponse *res = list_directory_wait(o->channel, &req, &patient, &err);
        if (!res)
            failed("ListDirectory", err);
        n += res->n_entries;
        free(token);
        token = sa_strdup(res->next_page_token);
        rpc_message_free(res);
    } while (*token);
    return n;
}

static void unpack(void *user, const char *dir, const char *tar)
{
    struct ours *o = user;
    sa_error *err = NULL;
    cleanup_free uint8_t *piece = sa_malloc(PIECE);
    cleanup_close int fd = open(tar, O_RDONLY | O_CLOEXEC);
    UploadArchiveRequest msg = UPLOAD_ARCHIVE_REQUEST__INIT;
    UploadArchiveOpen open = UPLOAD_ARCHIVE_OPEN__INIT;
    UploadArchiveResponse *res = NULL;
    open.path = bytes_of(dir);
    msg.kind_case = UPLOAD_ARCHIVE_REQUEST__KIND_OPEN;
    msg.open = &open;
    struct rpc_stream *s = upload_archive_begin(o->channel, &patient);
    int r = upload_archive_put(s, &msg, &err);
    msg.kind_case = UPLOAD_ARCHIVE_REQUEST__KIND_DATA;
    for (ssize_t n; r == 0 && (n = read(fd, piece, PIECE)) > 0;) {
        msg.data = (ProtobufCBinaryData){(size_t)n, piece};
        r = upload_archive_put(s, &msg, &err);
    }
    rpc_stream_close_send(s, NULL);
    if (r < 0 || upload_archive_next(s, &res, &err) != 1)
        failed("UploadArchive", err);
    rpc_message_free(res);
    rpc_stream_free(s);
}

static uint64_t pack(void *user, const char *dir)
{
    struct ours *o = user;
    sa_error *err = NULL;
    DownloadArchiveRequest req = DOWNLOAD_ARCHIVE_REQUEST__INIT;
    DownloadArchiveResponse *res;
    uint64_t n = 0;
    req.path = bytes_of(dir);
    req.format = ARCHIVE_FORMAT_TAR;
    struct rpc_stream *s = download_archive_begin(o->channel, &req, &patient);
    int r;
    while ((r = download_archive_next(s, &res, &err)) == 1) {
        n += res->kind_case == DOWNLOAD_ARCHIVE_RESPONSE__KIND_DATA ? res->data.len : 0;
        rpc_message_free(res);
    }
    if (r < 0)
        failed("DownloadArchive", err);
    rpc_stream_free(s);
    return n;
}

/* ---- the service ---- */

struct way ours_way(const char *program, const char *directory)
{
    struct ours *o = sa_calloc(1, sizeof *o);
    cleanup_free char *target = sa_format("unix:%s/run/fs.sock", directory);
    cleanup_free char *socket = sa_format("%s/run/fs.sock", directory);
    struct rpc_channel_options opt = {.target = target};
    start_program(
        (const char *const[]){program, "--data-dir", directory, "--no-token", "--log-level", "warn", NULL},
        directory);
    for (uint64_t until = sa_now_ms() + 20000; access(socket, F_OK) != 0; usleep(20000))
        if (sa_now_ms() > until)
            die("fs-svc does not start");
    o->loop = sa_loop_new(NULL);
    o->rpc = rpc_runtime_new(o->loop);
    sa_loop_lock(o->loop);
    o->channel = rpc_channel_new(o->rpc, &opt);
    sa_loop_unlock(o->loop);
    return (struct way){.name = "fs-svc",
                        .user = o,
                        .read_small = read_small,
                        .write_small = write_small,
                        .get = get,
                        .put = put,
                        .list = list,
                        .unpack = unpack,
                        .pack = pack};
}

void ours_free(struct way *w)
{
    struct ours *o = w->user;
    sa_loop_lock(o->loop);
    rpc_channel_free(o->channel);
    sa_loop_unlock(o->loop);
    rpc_runtime_free(o->rpc);
    sa_loop_free(o->loop);
    free(o);
}
