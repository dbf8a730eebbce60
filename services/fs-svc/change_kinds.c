/* What each kind of change does on a worker, and its handler. */
#include <string.h>
#include <sys/stat.h>

#include "services/fs-svc/change.h"
#include "services/fs-svc/make.h"

/* ---- DeleteFile ---- */

static void delete_names(const ProtobufCMessage *request, struct change_names *ret)
{
    const DeleteFileRequest *req = (const DeleteFileRequest *)request;
    *ret = (struct change_names){req->root, req->root, req->path, req->path, req->request_id};
}

static int delete_find(struct change *c, sa_error **err)
{
    const DeleteFileRequest *req = (const DeleteFileRequest *)c->request;
    struct stat st;
    sa_error *why = NULL;
    if (fs_root_check_change(c->target.root, err) < 0)
        return -1;
    if (fs_place_find(c->target.root, c->target.path, false, &c->place, &why) == 0 &&
        fs_place_stat(&c->place, &st, &why) == 0 &&
        fs_info_at(c->place.dir_fd, c->place.name, &c->result.info, &why) == 0)
        return 0;
    if (!req->missing_ok || !sa_error_is(why, SA_FILE_NOT_FOUND))
        return sa_pass(err, why);
    sa_error_free(why);
    return 0;
}

static int delete_act(struct change *c, const struct fs_slice *slice, sa_error **err)
{
    const DeleteFileRequest *req = (const DeleteFileRequest *)c->request;
    if (!c->result.info.name)
        return CHANGE_DONE; /* nothing is there, and that is fine */
    c->remove.dir_fd = c->place.dir_fd;
    c->remove.name = c->place.name;
    c->remove.recursive = req->recursive;
    int r = fs_remove_step(&c->remove, slice, err);
    if (r == 0 && !c->remove.removed && !req->missing_ok)
        return sa_fail(err, SA_FILE_NOT_FOUND, "`%.200s` was deleted by another", c->target.path);
    c->result.entries = c->remove.removed;
    c->result.changed = c->remove.removed > 0;
    return r;
}

static ProtobufCMessage *delete_respond(struct sa_arena *a, const struct change_result *r, const char *path)
{
    (void)path;
    DeleteFileResponse *res = sa_arena_alloc(a, sizeof *res);
    *res = (DeleteFileResponse)DELETE_FILE_RESPONSE__INIT;
    res->deleted = r->entries;
    return &res->base;
}

static void delete_reply(struct rpc_call *call, const ProtobufCMessage *response)
{
    delete_file_reply(call, (const DeleteFileResponse *)response);
}

/* ---- MoveFile and CopyFile ---- */

static int transfer_find(struct change *c, const struct fs_transfer_options *opt, sa_error **err)
{
    char id[SA_ID_TEXT + 1];
    sa_id_format(c->id, id);
    return fs_transfer_find(c->target.root, c->target.path, c->to_root, c->to_path, opt, id, &c->transfer,
                            err);
}

static void move_names(const ProtobufCMessage *request, struct change_names *ret)
{
    const MoveFileRequest *req = (const MoveFileRequest *)request;
    *ret = (struct change_names){req->root, *req->to_root ? req->to_root : req->root, req->path, req->to_path,
                                 req->request_id};
}

static int move_find(struct change *c, sa_error **err)
{
    const MoveFileRequest *req = (const MoveFileRequest *)c->request;
    struct fs_transfer_options opt = {
        .move = true, .overwrite = req->overwrite, .make_parents = req->make_parents};
    if (transfer_find(c, &opt, err) < 0)
        return -1;
    return fs_info_at(c->transfer.from.dir_fd, c->transfer.from.name, &c->result.before, err);
}

static int move_act(struct change *c, const struct fs_slice *slice, sa_error **err)
{
    (void)slice;
    int r = fs_transfer_rename(&c->transfer, err);
    if (r != 0)
        return r < 0 ? -1 : CHANGE_COPY;
    c->result.changed = !c->transfer.same;
    return fs_transfer_info(&c->transfer, &c->result.info, err);
}

static ProtobufCMessage *move_respond(struct sa_arena *a, const struct change_result *r, const char *path)
{
    MoveFileResponse *res = sa_arena_alloc(a, sizeof *res);
    *res = (MoveFileResponse)MOVE_FILE_RESPONSE__INIT;
    res->file = r->info.name ? fs_info_to_proto(a, &r->info, path) : NULL;
    return &res->base;
}

static void move_reply(struct rpc_call *call, const ProtobufCMessage *response)
{
    move_file_reply(call, (const MoveFileResponse *)response);
}

static void copy_names(const ProtobufCMessage *request, struct change_names *ret)
{
    const CopyFileRequest *req = (const CopyFileRequest *)request;
    *ret = (struct change_names){req->root, *req->to_root ? req->to_root : req->root, req->path, req->to_path,
                                 req->request_id};
}

static int copy_find(struct change *c, sa_error **err)
{
    const CopyFileRequest *req = (const CopyFileRequest *)c->request;
    struct fs_transfer_options opt = {.overwrite = req->overwrite,
                                      .make_parents = req->make_parents,
                                      .recursive = req->recursive,
                                      .preserve = req->preserve};
    return transfer_find(c, &opt, err);
}

static int copy_act(struct change *c, const struct fs_slice *slice, sa_error **err)
{
    (void)c, (void)slice, (void)err;
    return CHANGE_COPY;
}

static ProtobufCMessage *copy_respond(struct sa_arena *a, const struct change_result *r, const char *path)
{
    CopyFileResponse *res = sa_arena_alloc(a, sizeof *res);
    *res = (CopyFileResponse)COPY_FILE_RESPONSE__INIT;
    res->file = r->info.name ? fs_info_to_proto(a, &r->info, path) : NULL;
    res->entries = r->entries;
    res->bytes = r->bytes;
    return &res->base;
}

static void copy_reply(struct rpc_call *call, const ProtobufCMessage *response)
{
    copy_file_reply(call, (const CopyFileResponse *)response);
}

/* ---- MakeDirectory ---- */

static void directory_names(const ProtobufCMessage *request, struct change_names *ret)
{
    const MakeDirectoryRequest *req = (const MakeDirectoryRequest *)request;
    *ret = (struct change_names){req->root, req->root, req->path, req->path, req->request_id};
}

static int directory_act(struct change *c, const struct fs_slice *slice, sa_error **err)
{
    (void)slice;
    const MakeDirectoryRequest *req = (const MakeDirectoryRequest *)c->request;
    if (req->mode & ~07777u)
        return sa_fail(err, SA_INVALID_REQUEST, "mode %o has bits that are no permissions", req->mode);
    if (fs_make_dir(c->target.root, c->target.path, (mode_t)req->mode, req->parents, &c->result.created,
                    &c->result.info, err) < 0)
        return -1;
    c->result.changed = c->result.created;
    return CHANGE_DONE;
}

static ProtobufCMessage *directory_respond(struct sa_arena *a, const struct change_result *r,
                                           const char *path)
{
    MakeDirectoryResponse *res = sa_arena_alloc(a, sizeof *res);
    *res = (MakeDirectoryResponse)MAKE_DIRECTORY_RESPONSE__INIT;
    res->file = fs_info_to_proto(a, &r->info, path);
    res->created = r->created;
    return &res->base;
}

static void directory_reply(struct rpc_call *call, const ProtobufCMessage *response)
{
    make_directory_reply(call, (const MakeDirectoryResponse *)response);
}

/* ---- MakeLink ---- */

static void link_names(const ProtobufCMessage *request, struct change_names *ret)
{
    const MakeLinkRequest *req = (const MakeLinkRequest *)request;
    *ret = (struct change_names){req->root, req->root, req->path, req->path, req->request_id};
}

static int link_act(struct change *c, const struct fs_slice *slice, sa_error **err)
{
    (void)slice;
    const MakeLinkRequest *req = (const MakeLinkRequest *)c->request;
    cleanup_free char *target = fs_path_from_bytes(req->target.data, req->target.len, err);
    if (!target ||
        fs_make_link(c->target.root, c->target.path, target, req->make_parents, &c->result.info, err) < 0)
        return -1;
    c->result.changed = true;
    return CHANGE_DONE;
}

static ProtobufCMessage *link_respond(struct sa_arena *a, const struct change_result *r, const char *path)
{
    MakeLinkResponse *res = sa_arena_alloc(a, sizeof *res);
    *res = (MakeLinkResponse)MAKE_LINK_RESPONSE__INIT;
    res->file = fs_info_to_proto(a, &r->info, path);
    return &res->base;
}

static void link_reply(struct rpc_call *call, const ProtobufCMessage *response)
{
    make_link_reply(call, (const MakeLinkResponse *)response);
}

/* ---- ChangeFile ---- */

static void attributes_names(const ProtobufCMessage *request, struct change_names *ret)
{
    const ChangeFileRequest *req = (const ChangeFileRequest *)request;
    *ret = (struct change_names){req->root, req->root, req->path, req->path, req->request_id};
}

static int read_attributes(const ChangeFileRequest *req, struct fs_attributes *ret, sa_error **err)
{
    struct fs_attributes a = {.set_mode = req->_mode_case == CHANGE_FILE_REQUEST___MODE_MODE,
                              .set_uid = req->_uid_case == CHANGE_FILE_REQUEST___UID_UID,
                              .set_gid = req->_gid_case == CHANGE_FILE_REQUEST___GID_GID,
                              .set_time = req->modify_time || req->modify_now};
    const Google__Protobuf__Timestamp *t = req->modify_time;
    if (!a.set_mode && !a.set_uid && !a.set_gid && !a.set_time)
        return sa_fail(err, SA_INVALID_REQUEST, "nothing is to be changed");
    if (t && req->modify_now)
        return sa_fail(err, SA_INVALID_REQUEST, "modify_time and modify_now exclude each other");
    if (t && (t->nanos < 0 || t->nanos > 999999999))
        return sa_fail(err, SA_INVALID_REQUEST, "modify_time has %d nanoseconds", (int)t->nanos);
    if (a.set_mode && req->mode & ~07777u)
        return sa_fail(err, SA_INVALID_REQUEST, "mode %o has bits that are no permissions", req->mode);
    if ((a.set_uid && req->uid == UINT32_MAX) || (a.set_gid && req->gid == UINT32_MAX))
        return sa_fail(err, SA_INVALID_REQUEST, "%u is nobody's number", UINT32_MAX);
    a.mode = a.set_mode ? (mode_t)req->mode : 0;
    a.uid = a.set_uid ? req->uid : 0;
    a.gid = a.set_gid ? req->gid : 0;
    a.time = t ? (struct timespec){.tv_sec = t->seconds, .tv_nsec = t->nanos}
               : (struct timespec){.tv_nsec = UTIME_NOW};
    *ret = a;
    return 0;
}

static int attributes_act(struct change *c, const struct fs_slice *slice, sa_error **err)
{
    (void)slice;
    struct fs_attributes a;
    if (read_attributes((const ChangeFileRequest *)c->request, &a, err) < 0 ||
        fs_change(c->target.root, c->target.path, &a, &c->result.info, err) < 0)
        return -1;
    c->result.changed = true;
    return CHANGE_DONE;
}

static ProtobufCMessage *attributes_respond(struct sa_arena *a, const struct change_result *r,
                                            const char *path)
{
    ChangeFileResponse *res = sa_arena_alloc(a, sizeof *res);
    *res = (ChangeFileResponse)CHANGE_FILE_RESPONSE__INIT;
    res->file = fs_info_to_proto(a, &r->info, path);
    return &res->base;
}

static void attributes_reply(struct rpc_call *call, const ProtobufCMessage *response)
{
    change_file_reply(call, (const ChangeFileResponse *)response);
}

/* ---- the table ---- */

enum { DELETE, MOVE, COPY, DIRECTORY, LINK, ATTRIBUTES, KINDS };

static const struct change_kind kinds[KINDS] = {
    [DELETE] = {"delete", "delete", FILE_CHANGE_KIND_DELETED, &delete_file_request__descriptor,
                &delete_file_response__descriptor, true, delete_names, delete_find, delete_act,
                delete_respond, delete_reply},
    [MOVE] = {"move", "move", FILE_CHANGE_KIND_MOVED, &move_file_request__descriptor,
              &move_file_response__descriptor, true, move_names, move_find, move_act, move_respond,
              move_reply},
    [COPY] = {"copy", "create", FILE_CHANGE_KIND_CREATED, &copy_file_request__descriptor,
              &copy_file_response__descriptor, false, copy_names, copy_find, copy_act, copy_respond,
              copy_reply},
    [DIRECTORY] = {"directory", "create", FILE_CHANGE_KIND_CREATED, &make_directory_request__descriptor,
                   &make_directory_response__descriptor, false, directory_names, NULL, directory_act,
                   directory_respond, directory_reply},
    [LINK] = {"link", "create", FILE_CHANGE_KIND_CREATED, &make_link_request__descriptor,
              &make_link_response__descriptor, false, link_names, NULL, link_act, link_respond, link_reply},
    [ATTRIBUTES] = {"attributes", "change", FILE_CHANGE_KIND_MODIFIED, &change_file_request__descriptor,
                    &change_file_response__descriptor, false, attributes_names, NULL, attributes_act,
                    attributes_respond, attributes_reply},
};

const struct change_kind *change_kind_of(const char *name)
{
    for (int i = 0; i < KINDS; i++)
        if (!strcmp(kinds[i].name, name))
            return &kinds[i];
    return NULL;
}

void fs_delete_file(void *api, struct rpc_call *call, const DeleteFileRequest *req)
{
    change_begin(api, call, &kinds[DELETE], &req->base);
}

void fs_move_file(void *api, struct rpc_call *call, const MoveFileRequest *req)
{
    change_begin(api, call, &kinds[MOVE], &req->base);
}

void fs_copy_file(void *api, struct rpc_call *call, const CopyFileRequest *req)
{
    change_begin(api, call, &kinds[COPY], &req->base);
}

void fs_make_directory(void *api, struct rpc_call *call, const MakeDirectoryRequest *req)
{
    change_begin(api, call, &kinds[DIRECTORY], &req->base);
}

void fs_link_file(void *api, struct rpc_call *call, const MakeLinkRequest *req)
{
    change_begin(api, call, &kinds[LINK], &req->base);
}

void fs_change_file(void *api, struct rpc_call *call, const ChangeFileRequest *req)
{
    change_begin(api, call, &kinds[ATTRIBUTES], &req->base);
}
