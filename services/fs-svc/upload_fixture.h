/* For the tests of uploads: the calls in their shortest form, and content that is the same at every try. */
#ifndef SERVICES_FS_SVC_UPLOAD_FIXTURE_H_
#define SERVICES_FS_SVC_UPLOAD_FIXTURE_H_

#include "services/fs-svc/service_fixture.h"

#include "adapters/os/sha256.h"
#include "sandboxagent/fs/v1/upload_service.rpc.h"

enum { UPLOAD_ID_TEXT = 40, UPLOAD_MESSAGE = 1 << 20 };

struct up {
    const char *root, *path, *request_id, *if_match;
    bool sized, create_only, make_parents;
    uint64_t size;
    const uint8_t *sha256;
    uint32_t expire_s;
};

/* Byte `at` of the content that is uploaded. */
static inline uint8_t upload_byte(uint64_t at)
{
    return (uint8_t)(at ^ at >> 8 ^ (at >> 20) * 31);
}

static inline void upload_fill(uint8_t *p, uint64_t at, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = upload_byte(at + i);
}

static inline void upload_digest(uint64_t n, uint8_t ret[static SA_SHA256_SIZE])
{
    static uint8_t piece[UPLOAD_MESSAGE];
    struct sa_sha256 c;
    sa_sha256_init(&c);
    for (uint64_t at = 0; at < n; at += sizeof piece) {
        size_t part = n - at < sizeof piece ? (size_t)(n - at) : sizeof piece;
        upload_fill(piece, at, part);
        sa_sha256_add(&c, piece, part);
    }
    sa_sha256_end(&c, ret);
}

/* The reason, or "" and the id. *ret_committed may be NULL. */
static inline const char *upload_begin(struct service_fixture *f, const struct up *u,
                                       char ret_id[static UPLOAD_ID_TEXT], uint64_t *ret_committed)
{
    BeginUploadRequest req = BEGIN_UPLOAD_REQUEST__INIT;
    req.root = (char *)(uintptr_t)u->root;
    req.path = bytes(u->path);
    req.request_id = (char *)(uintptr_t)(u->request_id ? u->request_id : "");
    req.if_match = (char *)(uintptr_t)(u->if_match ? u->if_match : "");
    req.create_only = u->create_only;
    req.make_parents = u->make_parents;
    req.expire_s = u->expire_s;
    if (u->sized) {
        req._size_case = BEGIN_UPLOAD_REQUEST___SIZE_SIZE;
        req.size = u->size;
    }
    if (u->sha256)
        req.sha256 = (ProtobufCBinaryData){SA_SHA256_SIZE, (uint8_t *)(uintptr_t)u->sha256};
    cleanup_error sa_error *err = NULL;
    BeginUploadResponse *res = begin_upload_wait(f->caller.channel, &req, &patient, &err);
    if (res) {
        snprintf(ret_id, UPLOAD_ID_TEXT, "%s", res->upload->upload_id);
        if (ret_committed)
            *ret_committed = res->upload->committed_offset;
    }
    rpc_message_free(res);
    return reason_of(err);
}

static inline struct rpc_stream *upload_open(struct service_fixture *f)
{
    return write_upload_begin(f->caller.channel, &patient);
}

/* Content from `from` to `to`. */
static inline int upload_send(struct rpc_stream *s, const char *id, uint64_t from, uint64_t to)
{
    static uint8_t piece[UPLOAD_MESSAGE];
    WriteUploadRequest msg = WRITE_UPLOAD_REQUEST__INIT;
    do {
        size_t n = to - from < sizeof piece ? (size_t)(to - from) : sizeof piece;
        upload_fill(piece, from, n);
        msg.upload_id = (char *)(uintptr_t)id;
        msg.offset = from;
        msg.data = (ProtobufCBinaryData){n, piece};
        if (write_upload_put(s, &msg, NULL) < 0)
            return -1;
        from += n;
    } while (from < to);
    return 0;
}

/* Ends the stream; the last offset that was acknowledged. */
static inline const char *upload_close(struct rpc_stream *s, uint64_t *ret_committed)
{
    cleanup_error sa_error *err = NULL;
    WriteUploadResponse *res;
    rpc_stream_close_send(s, NULL);
    while (write_upload_next(s, &res, &err) == 1) {
        if (ret_committed)
            *ret_committed = res->committed_offset;
        rpc_message_free(res);
    }
    rpc_stream_free(s);
    return reason_of(err);
}

static inline const char *upload_part(struct service_fixture *f, const char *id, uint64_t from, uint64_t to,
                                      uint64_t *ret_committed)
{
    struct rpc_stream *s = upload_open(f);
    upload_send(s, id, from, to);
    return upload_close(s, ret_committed);
}

static inline const char *upload_get(struct service_fixture *f, const char *id, uint64_t *ret_committed)
{
    GetUploadRequest req = GET_UPLOAD_REQUEST__INIT;
    req.upload_id = (char *)(uintptr_t)id;
    cleanup_error sa_error *err = NULL;
    GetUploadResponse *res = get_upload_wait(f->caller.channel, &req, &patient, &err);
    if (res)
        *ret_committed = res->upload->committed_offset;
    rpc_message_free(res);
    return reason_of(err);
}

static inline const char *upload_commit(struct service_fixture *f, const char *id, const uint8_t *sha256)
{
    CommitUploadRequest req = COMMIT_UPLOAD_REQUEST__INIT;
    req.upload_id = (char *)(uintptr_t)id;
    if (sha256)
        req.sha256 = (ProtobufCBinaryData){SA_SHA256_SIZE, (uint8_t *)(uintptr_t)sha256};
    cleanup_error sa_error *err = NULL;
    rpc_message_free(commit_upload_wait(f->caller.channel, &req, &patient, &err));
    return reason_of(err);
}

static inline const char *upload_abort(struct service_fixture *f, const char *id)
{
    AbortUploadRequest req = ABORT_UPLOAD_REQUEST__INIT;
    req.upload_id = (char *)(uintptr_t)id;
    cleanup_error sa_error *err = NULL;
    rpc_message_free(abort_upload_wait(f->caller.channel, &req, &patient, &err));
    return reason_of(err);
}

/* The file has n bytes of the content. */
static inline void assert_uploaded(const char *dir, const char *name, uint64_t n)
{
    static uint8_t got[UPLOAD_MESSAGE], want[UPLOAD_MESSAGE];
    cleanup_free char *path = sa_format("%s/%s", dir, name);
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    assert_int_equal(st.st_size, n);
    for (uint64_t at = 0; at < n; at += sizeof got) {
        size_t part = n - at < sizeof got ? (size_t)(n - at) : sizeof got;
        upload_fill(want, at, part);
        assert_int_equal(pread(fd, got, part, (off_t)at), part);
        assert_int_equal(memcmp(got, want, part), 0);
    }
}

#endif
