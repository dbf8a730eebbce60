/* For the tests of the program fs-svc: the calls that change names, in their shortest form. They answer "" or
 * the reason of the failure. */
#ifndef SERVICES_FS_SVC_TREE_FIXTURE_H_
#define SERVICES_FS_SVC_TREE_FIXTURE_H_

#include "services/fs-svc/service_fixture.h"

static inline char *mutable(const char *s)
{
    return (char *)(uintptr_t)(s ? s : "");
}

/* A service with the roots ws, ro (the same directory, read-only), other and small (16 bytes a write). */
static inline struct service_fixture tree_start(void)
{
    struct service_fixture f = service_new(NULL);
    test_mkdir(f.dir, "other");
    test_mkdir(f.dir, "small");
    int n = 0;
    const char *forms[] = {"ws=%s/ws", "ro=%s/ws:ro", "other=%s/other", "small=%s/small:max=16"};
    for (int i = 0; i < 4; i++) {
        const char *at = strchr(forms[i], '%');
        f.extra[n++] = "--fs-root";
        f.extra[n++] = sa_format("%.*s%s%s", (int)(at - forms[i]), forms[i], f.dir, at + 2);
    }
    f.extra[n] = NULL;
    service_up(&f);
    return f;
}

static inline void tree_end(struct service_fixture *f)
{
    service_free(f);
    for (int i = 1; i < 8; i += 2)
        free(mutable(f->extra[i]));
}

struct order {
    const char *root, *path, *to_root, *to_path, *request_id;
    bool recursive, overwrite, parents, missing_ok, preserve;
    uint32_t mode;
};

static inline const char *make_dir(struct service_fixture *f, const struct order *o)
{
    MakeDirectoryRequest req = MAKE_DIRECTORY_REQUEST__INIT;
    req.root = mutable(o->root);
    req.path = bytes(o->path);
    req.mode = o->mode;
    req.parents = o->parents;
    req.request_id = mutable(o->request_id);
    cleanup_error sa_error *err = NULL;
    rpc_message_free(make_directory_wait(f->caller.channel, &req, &patient, &err));
    return reason_of(err);
}

/* How many were deleted by the last one that was answered. */
static uint64_t deleted;

static inline const char *delete_path(struct service_fixture *f, const struct order *o)
{
    DeleteFileRequest req = DELETE_FILE_REQUEST__INIT;
    req.root = mutable(o->root);
    req.path = bytes(o->path);
    req.recursive = o->recursive;
    req.missing_ok = o->missing_ok;
    req.request_id = mutable(o->request_id);
    cleanup_error sa_error *err = NULL;
    DeleteFileResponse *res = delete_file_wait(f->caller.channel, &req, &patient, &err);
    deleted = res ? res->deleted : 0;
    rpc_message_free(res);
    return reason_of(err);
}

static inline const char *move_path(struct service_fixture *f, const struct order *o)
{
    MoveFileRequest req = MOVE_FILE_REQUEST__INIT;
    req.root = mutable(o->root);
    req.path = bytes(o->path);
    req.to_root = mutable(o->to_root);
    req.to_path = bytes(o->to_path);
    req.overwrite = o->overwrite;
    req.make_parents = o->parents;
    req.request_id = mutable(o->request_id);
    cleanup_error sa_error *err = NULL;
    rpc_message_free(move_file_wait(f->caller.channel, &req, &patient, &err));
    return reason_of(err);
}

static inline const char *copy_path(struct service_fixture *f, const struct order *o)
{
    CopyFileRequest req = COPY_FILE_REQUEST__INIT;
    req.root = mutable(o->root);
    req.path = bytes(o->path);
    req.to_root = mutable(o->to_root);
    req.to_path = bytes(o->to_path);
    req.overwrite = o->overwrite;
    req.make_parents = o->parents;
    req.recursive = o->recursive;
    req.preserve = o->preserve;
    req.request_id = mutable(o->request_id);
    cleanup_error sa_error *err = NULL;
    rpc_message_free(copy_file_wait(f->caller.channel, &req, &patient, &err));
    return reason_of(err);
}

/* to_path: the target. */
static inline const char *make_link(struct service_fixture *f, const struct order *o)
{
    MakeLinkRequest req = MAKE_LINK_REQUEST__INIT;
    req.root = mutable(o->root);
    req.path = bytes(o->path);
    req.target = bytes(o->to_path);
    req.make_parents = o->parents;
    req.request_id = mutable(o->request_id);
    cleanup_error sa_error *err = NULL;
    rpc_message_free(make_link_wait(f->caller.channel, &req, &patient, &err));
    return reason_of(err);
}

static inline const char *change_mode(struct service_fixture *f, const struct order *o)
{
    ChangeFileRequest req = CHANGE_FILE_REQUEST__INIT;
    req.root = mutable(o->root);
    req.path = bytes(o->path);
    req._mode_case = CHANGE_FILE_REQUEST___MODE_MODE;
    req.mode = o->mode;
    req.request_id = mutable(o->request_id);
    cleanup_error sa_error *err = NULL;
    rpc_message_free(change_file_wait(f->caller.channel, &req, &patient, &err));
    return reason_of(err);
}

static inline const char *usage_path(struct service_fixture *f, const struct order *o)
{
    GetUsageRequest req = GET_USAGE_REQUEST__INIT;
    req.root = mutable(o->root);
    req.path = bytes(o->path);
    cleanup_error sa_error *err = NULL;
    rpc_message_free(get_usage_wait(f->caller.channel, &req, &patient, &err));
    return reason_of(err);
}

static inline const char *list_path(struct service_fixture *f, const struct order *o)
{
    ListDirectoryRequest req = LIST_DIRECTORY_REQUEST__INIT;
    req.root = mutable(o->root);
    req.path = bytes(o->path);
    req.depth = o->recursive ? 64 : 1;
    cleanup_error sa_error *err = NULL;
    rpc_message_free(list_directory_wait(f->caller.channel, &req, &patient, &err));
    return reason_of(err);
}

/* A chain of so many directories "d", one in the other, below dir/name, with a file at its end. */
static inline void make_deep(const char *dir, const char *name, int depth)
{
    cleanup_free char *path = sa_format("%s/%s", dir, name);
    assert_int_equal(mkdir(path, 0755), 0);
    cleanup_close int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < depth; i++) {
        assert_int_equal(mkdirat(fd, "d", 0755), 0);
        int next = openat(fd, "d", O_PATH | O_DIRECTORY | O_CLOEXEC);
        assert_true(next >= 0);
        sa_close(fd);
        fd = next;
    }
    cleanup_close int file = openat(fd, "end", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_int_equal(write(file, "deep", 4), 4);
}

/* So many empty files in a new directory. */
static inline void make_many(const char *dir, const char *name, int n)
{
    cleanup_free char *path = sa_format("%s/%s", dir, name);
    assert_int_equal(mkdir(path, 0755), 0);
    cleanup_close int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < n; i++) {
        char file[16];
        snprintf(file, sizeof file, "f%05d", i);
        sa_close(openat(fd, file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    }
}

static inline bool there(const char *dir, const char *name)
{
    struct stat st;
    cleanup_free char *path = sa_format("%s/%s", dir, name);
    return lstat(path, &st) == 0;
}

static inline void assert_content(const char *dir, const char *name, const char *content)
{
    cleanup_free char *got = test_get(dir, name);
    assert_string_equal(got, content);
}

#define ORDER(in, ...) (&(struct order){.root = in, .path = __VA_ARGS__})

#endif
