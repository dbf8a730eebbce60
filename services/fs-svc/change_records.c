#include "services/fs-svc/change_records.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/os/log.h"
#include "adapters/os/mem.h"
#include "services/fs-svc/change.h"
#include "services/fs-svc/place.h"

/* Keys: FS_TABLE_CHANGES the change's id; FS_TABLE_CHANGE_REQUESTS principal NUL request_id NUL. */
static struct store_key id_key(struct sa_id id)
{
    return store_key_of(id.bytes, sizeof id.bytes);
}

static struct store_key request_key(const char *principal, const char *request_id)
{
    struct store_key k = {0};
    store_key_add_string(&k, principal);
    store_key_add_string(&k, request_id);
    return k;
}

int fs_changes_find(struct fs_records *r, const char *principal, const char *request_id, ChangeRecord **ret,
                    sa_error **err)
{
    struct store_key k = request_key(principal, request_id);
    return store_get(fs_records_store(r), FS_TABLE_CHANGE_REQUESTS, &k, ret, err);
}

int fs_changes_put(struct fs_records *r, struct sa_id id, const ChangeRecord *c, store_done_fn *done,
                   void *user, sa_error **err)
{
    struct store_key k = id_key(id);
    struct store_set *set = store_set_new();
    store_put(set, FS_TABLE_CHANGES, &k, &c->base);
    return store_commit(fs_records_store(r), set, done, user, err);
}

int fs_changes_drop(struct fs_records *r, struct sa_id id, store_done_fn *done, void *user, sa_error **err)
{
    struct store_key k = id_key(id);
    struct store_set *set = store_set_new();
    store_delete(set, FS_TABLE_CHANGES, &k);
    return store_commit(fs_records_store(r), set, done, user, err);
}

int fs_changes_finish(struct fs_records *r, struct sa_id id, ChangeRecord *c, const char *const roots[2],
                      uint64_t ret_seq[2], store_done_fn *done, void *user, sa_error **err)
{
    struct store_key k = id_key(id);
    struct store_set *set = store_set_new();
    store_delete(set, FS_TABLE_CHANGES, &k);
    for (int i = 0; i < 2; i++)
        ret_seq[i] = roots[i] ? fs_records_count(r, set, roots[i]) : 0;
    if (*c->request_id) {
        struct store_key request = request_key(c->principal, c->request_id);
        store_put(set, FS_TABLE_CHANGE_REQUESTS, &request, &c->base);
    }
    int result = store_commit(fs_records_store(r), set, done, user, err);
    if (result < 0)
        fs_records_reload(r);
    return result;
}

/* ---- starting is recovering ---- */

/* A recorded name, as far as its directory is still there. */
struct recorded {
    int dir_fd; /* -1: the directory is gone */
    char *name;
    struct stat st; /* st_ino 0: nothing is there */
};

static void recorded_fini(struct recorded *p)
{
    sa_close(p->dir_fd);
    free(p->name);
}

static int look_at(ProtobufCBinaryData dir, const char *name, size_t n, struct recorded *ret, sa_error **err)
{
    *ret = (struct recorded){.dir_fd = -1};
    if (!dir.len || !n)
        return 0;
    cleanup_free char *path = sa_strndup((const char *)dir.data, dir.len);
    ret->name = sa_strndup(name, n);
    ret->dir_fd = fs_open_recorded(path);
    if (ret->dir_fd < 0 && errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
        return sa_fail_errno(err, errno, "open directory `%.200s`", path);
    if (ret->dir_fd >= 0 && fstatat(ret->dir_fd, ret->name, &ret->st, AT_SYMLINK_NOFOLLOW) < 0 &&
        errno != ENOENT)
        return sa_fail_errno(err, errno, "stat `%.200s/%.200s`", path, ret->name);
    return 0;
}

/* 1: it was done, and *ret says what came of it; 0: it was not, and nothing of it is left. */
static int settle(const ChangeRecord *c, struct change_result *ret, sa_error **err)
{
    __attribute__((cleanup(recorded_fini))) struct recorded from = {.dir_fd = -1}, to = {.dir_fd = -1},
                                                            temp = {.dir_fd = -1};
    if (look_at(c->from_directory, (const char *)c->from_name.data, c->from_name.len, &from, err) < 0 ||
        look_at(c->to_directory, (const char *)c->to_name.data, c->to_name.len, &to, err) < 0 ||
        look_at(c->to_directory, c->temp, strlen(c->temp), &temp, err) < 0)
        return -1;
    bool source = c->from_inode && from.st.st_ino == c->from_inode;
    if (!c->to_directory.len) { /* a deletion: how many there were is not known any more */
        ret->changed = !source;
        ret->entries = 1;
        return !source;
    }
    if (temp.st.st_ino)
        return fs_remove_all(temp.dir_fd, temp.name, err);
    uint64_t wanted = *c->temp ? c->temp_inode : c->from_inode;
    if (!wanted || to.st.st_ino != wanted || (!*c->temp && source))
        return 0;
    if (*c->temp && source && fs_remove_all(from.dir_fd, from.name, err) < 0)
        return -1;
    ret->changed = true;
    ret->entries = c->entries;
    ret->bytes = c->bytes;
    return fs_info_at(to.dir_fd, to.name, &ret->info, err) < 0 ? -1 : 1;
}

static void recovered(void *user, const sa_error *err)
{
    if (err) {
        sa_log(SA_LOG_ERROR, "fs.recover_failed", "reason=%s", err->reason);
        fs_records_reload(user);
    }
}

/* The answer of one that was done, as it would have been given. */
static int complete(struct fs_records *r, struct sa_id id, ChangeRecord *c, const struct change_kind *kind,
                    const struct change_result *result, sa_error **err)
{
    struct change_names names;
    uint64_t seq[2];
    ProtobufCMessage *request = rpc_unpack(kind->request, c->request.data, c->request.len, err);
    if (!request)
        return -1;
    kind->names(request, &names);
    struct sa_arena *a = sa_arena_new();
    cleanup_free char *path = sa_strndup((const char *)names.to_path.data, names.to_path.len);
    ProtobufCMessage *res = kind->respond(a, result, path);
    ProtobufCBinaryData before = c->response;
    c->response.len = protobuf_c_message_get_packed_size(res);
    c->response.data = sa_arena_alloc(a, c->response.len + 1);
    protobuf_c_message_pack(res, c->response.data);
    bool left = kind->told == FILE_CHANGE_KIND_MOVED && strcmp(names.root, names.to_root) != 0;
    const char *roots[2] = {names.to_root, left ? names.root : NULL};
    int done = fs_changes_finish(r, id, c, roots, seq, recovered, r, err);
    c->response = before;
    sa_arena_free(a);
    protobuf_c_message_free_unpacked(request, NULL);
    return done;
}

static void recover_one(struct fs_records *r, const struct fs_identity *identity, struct sa_id id,
                        ChangeRecord *c)
{
    cleanup_error sa_error *err = NULL;
    const struct change_kind *kind = change_kind_of(c->kind);
    struct change_result result = {0};
    int done = fs_identity_enter(identity, &err);
    if (done == 0) {
        done = settle(c, &result, &err);
        fs_identity_leave(identity);
    }
    if (done < 0 || !kind) {
        sa_log(SA_LOG_WARN, "fs.change_not_recovered", "kind=%s reason=%s", c->kind,
               err ? err->reason : "unknown");
    } else {
        int stored =
            done ? complete(r, id, c, kind, &result, &err) : fs_changes_drop(r, id, recovered, r, &err);
        sa_log(SA_LOG_INFO, "fs.change_recovered", "kind=%s outcome=%s", c->kind, done ? "done" : "undone");
        if (stored < 0)
            sa_log(SA_LOG_ERROR, "fs.recover_failed", "reason=%s", err->reason);
    }
    fs_info_fini(&result.info);
}

enum { PAGE_ROWS = 1000 };

/* Calls fn with every row; in pages, because the store must not be called from inside a scan. */
static int each(struct fs_records *r, int table,
                void (*fn)(void *user, const struct store_key *key, ChangeRecord *c), void *user,
                sa_error **err)
{
    struct store_key last;
    for (bool more = true, after = false; more; after = true) {
        struct store_page page;
        struct store_range range = {
            .table = table, .from = after ? &last : NULL, .after = after, .limit = PAGE_ROWS};
        if (store_read_page(fs_records_store(r), &range, &page, err) < 0)
            return -1;
        for (size_t i = 0; i < page.n; i++) {
            cleanup_message ChangeRecord *c = store_row_unpack(&page.rows[i], NULL);
            last = store_key_of(page.rows[i].key, page.rows[i].key_len);
            fn(user, &last, c);
        }
        more = page.more;
        store_page_fini(&page);
    }
    return 0;
}

struct recovery {
    struct fs_records *records;
    const struct fs_identity *identity;
};

static void recover_row(void *user, const struct store_key *key, ChangeRecord *c)
{
    struct recovery *r = user;
    struct sa_id id;
    if (!c || key->len != sizeof id.bytes)
        return;
    memcpy(id.bytes, key->data, sizeof id.bytes);
    recover_one(r->records, r->identity, id, c);
}

int fs_changes_recover(struct fs_records *r, const struct fs_identity *identity, sa_error **err)
{
    struct recovery recovery = {r, identity};
    return each(r, FS_TABLE_CHANGES, recover_row, &recovery, err);
}

struct sweeping {
    struct store_set *set;
    int64_t until;
};

static void sweep_row(void *user, const struct store_key *key, ChangeRecord *c)
{
    struct sweeping *s = user;
    if (!c || c->time_us < s->until)
        store_delete(s->set, FS_TABLE_CHANGE_REQUESTS, key);
}

void fs_changes_sweep(struct fs_records *r, int64_t until)
{
    struct sweeping s = {store_set_new(), until};
    /* What cannot be read or written now is forgotten an hour later. */
    each(r, FS_TABLE_CHANGE_REQUESTS, sweep_row, &s, NULL);
    store_commit(fs_records_store(r), s.set, NULL, NULL, NULL);
}
