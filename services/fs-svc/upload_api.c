/* The unary calls around uploads: they find the upload and tell it what is wanted (uploads.c). */
#include <stdlib.h>
#include <string.h>

#include "services/fs-svc/upload_state.h"
#include "services/fs-svc/uploads.h"

static bool same_bytes(ProtobufCBinaryData a, ProtobufCBinaryData b)
{
    return a.len == b.len && !memcmp(a.data, b.data, a.len);
}

/* ---- BeginUpload ---- */

static int check_begin(const BeginUploadRequest *req, sa_error **err)
{
    if (strlen(req->request_id) > FS_REQUEST_ID_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "request_id has more than %d characters", FS_REQUEST_ID_MAX);
    if (req->mode & ~0777u)
        return sa_fail(err, SA_INVALID_REQUEST, "mode %o has bits that are no permissions", req->mode);
    if (req->sha256.len && req->sha256.len != SA_SHA256_SIZE)
        return sa_fail(err, SA_INVALID_REQUEST, "sha256 has %zu bytes, not %d", req->sha256.len,
                       SA_SHA256_SIZE);
    if (req->expire_s > FS_UPLOAD_EXPIRE_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "expire_s is more than %d", FS_UPLOAD_EXPIRE_MAX);
    return 0;
}

/* Began it the same upload? */
static int same_request(const UploadRecord *r, const BeginUploadRequest *req, sa_error **err)
{
    if (!strcmp(r->root, req->root) && same_bytes(r->path, req->path))
        return 1;
    return sa_fail(err, SA_REQUEST_ID_REUSED, "request `%s` began another upload", req->request_id);
}

static Upload *done_to_proto(struct sa_arena *a, const UploadRecord *r, sa_error **err)
{
    Upload *to = fs_upload_to_proto(a, r, r->offset);
    to->file = rpc_unpack(&file_info__descriptor, r->file.data, r->file.len, err);
    return to->file ? to : NULL;
}

/* 1: *ret tells an earlier one; 0: there was none; -1. */
static int find_request(struct fs_service *fs, struct rpc_call *call, const BeginUploadRequest *req,
                        Upload **ret, sa_error **err)
{
    const char *principal = rpc_principal(call);
    for (struct fs_upload *u = fs->uploads->first; u; u = u->next) {
        if (strcmp(u->record->request_id, req->request_id) != 0 ||
            strcmp(u->record->principal, principal) != 0)
            continue;
        if (same_request(u->record, req, err) < 0)
            return -1;
        if (u->step < UPLOAD_IDLE || u->unwanted || u->committing)
            return sa_fail(err, SA_UNAVAILABLE, "request `%s` is under way; try again", req->request_id);
        *ret = fs_upload_to_proto(rpc_arena(call), u->record, u->committed);
        return 1;
    }
    cleanup_message UploadRecord *known = NULL;
    int found = fs_upload_find_request(fs, principal, req->request_id, &known, err);
    if (found <= 0)
        return found;
    if (same_request(known, req, err) < 0)
        return -1;
    *ret = done_to_proto(rpc_arena(call), known, err);
    return *ret ? 1 : -1;
}

static UploadRecord *record_of(const BeginUploadRequest *req, struct sa_id *id, const char *principal)
{
    UploadRecord r = UPLOAD_RECORD__INIT;
    struct sa_sha256 empty;
    uint8_t state[SA_SHA256_SAVED];
    sa_sha256_init(&empty);
    sa_sha256_save(&empty, state);
    r.upload_id = (ProtobufCBinaryData){sizeof id->bytes, id->bytes};
    r.request_id = req->request_id;
    r.principal = (char *)(uintptr_t)principal;
    r.root = req->root;
    r.path = req->path;
    r.mode = req->mode;
    r.create_only = req->create_only;
    r.if_match = req->if_match;
    if (req->_size_case == BEGIN_UPLOAD_REQUEST___SIZE_SIZE) {
        r._size_case = UPLOAD_RECORD___SIZE_SIZE;
        r.size = req->size;
    }
    r.sha256 = req->sha256;
    r.expire_s = req->expire_s ? req->expire_s : FS_UPLOAD_EXPIRE_S;
    r.digest_state = (ProtobufCBinaryData){sizeof state, state};
    r.create_us = r.time_us = sa_wall_us();
    return fs_upload_copy(&r);
}

static int begin(struct fs_service *fs, struct rpc_call *call, const BeginUploadRequest *req, Upload **ret,
                 sa_error **err)
{
    int found = check_begin(req, err) < 0 ? -1 : *req->request_id ? find_request(fs, call, req, ret, err) : 0;
    if (found)
        return found;
    struct sa_id id = sa_id_new();
    char *path = fs_path_from_bytes(req->path.data, req->path.len, err);
    free(path);
    if (!path || !fs_roots_find(fs->roots, req->root, err))
        return -1;
    if (fs->uploads->n >= FS_UPLOADS_MAX)
        return sa_fail(err, SA_TOO_MANY, "there are %d uploads, that is the limit", FS_UPLOADS_MAX);
    UploadRecord *record = record_of(req, &id, rpc_principal(call));
    if (!record)
        return sa_fail(err, SA_INTERNAL, "the record of the upload cannot be made");
    struct fs_upload *u = fs_upload_new(fs, record, call);
    u->make_parents = req->make_parents;
    fs_upload_advance(u);
    return 0;
}

static void begin_upload(void *api, struct rpc_call *call, const BeginUploadRequest *req)
{
    sa_error *err = NULL;
    BeginUploadResponse res = BEGIN_UPLOAD_RESPONSE__INIT;
    rpc_no_server_deadline(call);
    int found = begin(api, call, req, &res.upload, &err);
    if (found < 0)
        rpc_fail(call, err);
    else if (found)
        begin_upload_reply(call, &res);
    if (res.upload && res.upload->file)
        rpc_message_free(res.upload->file);
}

/* ---- GetUpload ---- */

/* 1: it is committed: *ret is to be freed with store_message_free; 0: it is not known. */
static int find_done(struct fs_service *fs, const char *id, UploadRecord **ret, sa_error **err)
{
    struct sa_id want;
    return sa_id_parse(id, &want) ? fs_upload_find_done(fs, want, ret, err) : 0;
}

static void get_upload(void *api, struct rpc_call *call, const GetUploadRequest *req)
{
    struct fs_service *fs = api;
    cleanup_error sa_error *err = NULL;
    cleanup_message UploadRecord *done = NULL;
    GetUploadResponse res = GET_UPLOAD_RESPONSE__INIT;
    struct fs_upload *u = fs_upload_find(fs, req->upload_id, &err);
    if (u)
        res.upload = fs_upload_to_proto(rpc_arena(call), u->record, u->committed);
    else if (find_done(fs, req->upload_id, &done, &err) == 1)
        res.upload = done_to_proto(rpc_arena(call), done, &err);
    if (res.upload)
        get_upload_reply(call, &res);
    else
        rpc_fail(call, steal_pointer(&err));
    if (res.upload && res.upload->file)
        rpc_message_free(res.upload->file);
}

/* ---- ListUploads ---- */

static void list_uploads(void *api, struct rpc_call *call, const ListUploadsRequest *req)
{
    enum { PAGE_DEFAULT = 100 };
    struct fs_service *fs = api;
    struct sa_id after = {{0}};
    sa_error *err = NULL;
    if (*req->page_token && !sa_id_parse(req->page_token, &after)) {
        sa_fail(&err, SA_INVALID_PAGE_TOKEN, "page_token is not one of ours");
        rpc_fail(call, err);
        return;
    }
    size_t max = req->page_size <= 0               ? PAGE_DEFAULT
                 : req->page_size > FS_UPLOADS_MAX ? FS_UPLOADS_MAX
                                                   : (size_t)req->page_size;
    ListUploadsResponse res = LIST_UPLOADS_RESPONSE__INIT;
    struct sa_arena *a = rpc_arena(call);
    res.uploads = sa_arena_alloc(a, max * sizeof *res.uploads);
    for (struct fs_upload *u = fs->uploads->first; u; u = u->next) {
        if (u->step < UPLOAD_IDLE || u->unwanted ||
            memcmp(u->id.bytes, after.bytes, sizeof after.bytes) <= 0 ||
            (*req->root && strcmp(req->root, u->record->root) != 0))
            continue;
        if (res.n_uploads == max) {
            res.next_page_token = res.uploads[max - 1]->upload_id;
            break;
        }
        res.uploads[res.n_uploads++] = fs_upload_to_proto(a, u->record, u->committed);
    }
    list_uploads_reply(call, &res);
}

/* ---- CommitUpload ---- */

static void answer_again(struct rpc_call *call, const UploadRecord *done)
{
    sa_error *err = NULL;
    CommitUploadResponse res = COMMIT_UPLOAD_RESPONSE__INIT;
    res.file = rpc_unpack(&file_info__descriptor, done->file.data, done->file.len, &err);
    if (res.file)
        commit_upload_reply(call, &res);
    else
        rpc_fail(call, err);
    rpc_message_free(res.file);
}

static int commit(struct fs_upload *u, struct rpc_call *call, const CommitUploadRequest *req, sa_error **err)
{
    if (req->sha256.len && req->sha256.len != SA_SHA256_SIZE)
        return sa_fail(err, SA_INVALID_REQUEST, "sha256 has %zu bytes, not %d", req->sha256.len,
                       SA_SHA256_SIZE);
    if (u->committing)
        return sa_fail(err, SA_UNAVAILABLE, "a commit is under way; try again");
    if (u->feed && !u->feed->ended) {
        sa_error *lost = NULL;
        sa_fail(&lost, SA_LEASE_LOST, "the upload is being committed");
        fs_feed_end(u->feed, lost);
    }
    free(u->want.data);
    u->want = (ProtobufCBinaryData){req->sha256.len, sa_memdup(req->sha256.data, req->sha256.len)};
    u->commit = rpc_call_ref(call);
    u->committing = true;
    rpc_no_server_deadline(call);
    fs_upload_advance(u);
    return 0;
}

static void commit_upload(void *api, struct rpc_call *call, const CommitUploadRequest *req)
{
    cleanup_error sa_error *err = NULL;
    cleanup_message UploadRecord *done = NULL;
    struct fs_upload *u = fs_upload_find(api, req->upload_id, &err);
    if (u ? commit(u, call, req, &err) == 0 : find_done(api, req->upload_id, &done, &err) == 1) {
        if (done)
            answer_again(call, done);
        return;
    }
    rpc_fail(call, steal_pointer(&err));
}

/* ---- AbortUpload ---- */

static void abort_upload(void *api, struct rpc_call *call, const AbortUploadRequest *req)
{
    cleanup_error sa_error *err = NULL;
    cleanup_message UploadRecord *done = NULL;
    struct fs_upload *u = fs_upload_find(api, req->upload_id, &err);
    if (!u && find_done(api, req->upload_id, &done, &err) == 1)
        sa_fail(&err, SA_UPLOAD_COMMITTED, "the upload is committed");
    else if (u && u->placed)
        sa_fail(&err, SA_UPLOAD_COMMITTED, "the upload is committed");
    else if (u && u->committing)
        sa_fail(&err, SA_UNAVAILABLE, "a commit is under way; try again");
    if (err) {
        rpc_fail(call, steal_pointer(&err));
        return;
    }
    u->abort = rpc_call_ref(call);
    u->unwanted = true;
    fs_upload_advance(u);
}

const struct upload_service_handlers fs_upload_handlers = {
    .begin_upload = begin_upload,
    .write_upload = fs_write_upload,
    .get_upload = get_upload,
    .list_uploads = list_uploads,
    .commit_upload = commit_upload,
    .abort_upload = abort_upload,
};
