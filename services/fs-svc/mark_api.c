/* CreateMark, ListMarks, DeleteMark. A mark is made by a task (task.h): list and contents come to the disk
 * first, then the record is committed: so a record that is there is whole. */
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "adapters/os/fault.h"
#include "services/fs-svc/mark_scan.h"
#include "services/fs-svc/mark_store.h"
#include "services/fs-svc/marks.h"
#include "services/runtime/service.h"

/* ---- CreateMark ---- */

struct making {
    struct fs_task task; /* first: it is handed around as that */
    LIST_ENTRY(making) link;
    struct fs_marks *marks;
    struct fs_globs ignore;
    struct mark_scan scan;
    MarkRecord *record; /* a message of its own: becomes the mark's */
    struct sa_id id;
    char *principal, *request_id;
    char *previous; /* list of the mark before; NULL: none */
    bool entered;
    uint64_t entries;
    char list[SA_SHA256_TEXT + 1];
};

static void making_free(struct making *k)
{
    if (k->entered)
        fs_marks_leave(k->marks);
    k->marks->n_making--;
    LIST_REMOVE(k, link);
    fs_globs_fini(&k->ignore);
    store_message_free(k->record);
    fs_target_fini(&k->task.target);
    free(k->previous);
    free(k->principal);
    free(k->request_id);
    free(k);
}

static bool make_stop(void *user)
{
    return fs_task_left(user);
}

static void make_run(struct fs_task *t)
{
    struct making *k = (struct making *)t;
    const struct fs_identity *identity = t->target.fs->identity;
    struct mark_manifest previous = {0}, now;
    k->entered = fs_marks_enter(k->marks, t);
    if (!k->entered)
        return;
    fs_identity_leave(identity);
    /* One that is damaged is as none. */
    bool known = k->previous && mark_store_get_list(k->marks->dir, k->previous, &previous, NULL) == 0;
    if (fs_identity_enter(identity, &t->err) == 0) {
        k->scan.previous = known ? &previous : NULL;
        if (mark_scan_run(&k->scan, &now, &t->err) == 0) {
            SA_FAULT("mark.contents_kept");
            fs_identity_leave(identity);
            k->entries = now.n;
            mark_store_put_list(k->marks->dir, &now, k->list, &t->err);
            fs_identity_enter(identity, &t->err);
            mark_manifest_fini(&now);
            SA_FAULT("mark.list_kept");
        }
    }
    mark_manifest_fini(&previous);
}

static void made(void *user, const sa_error *err)
{
    struct making *k = user;
    struct rpc_call *call = k->task.target.call;
    service_degraded(k->marks->fs->svc, err ? err->message : NULL);
    if (err) {
        rpc_fail(call, sa_error_copy(err));
    } else {
        SA_FAULT("mark.committed");
        CreateMarkResponse res = CREATE_MARK_RESPONSE__INIT;
        struct mark *mark = fs_marks_add(k->marks, k->id, steal_pointer(&k->record));
        res.mark = fs_mark_to_proto(mark, rpc_arena(call));
        create_mark_reply(call, &res);
    }
    making_free(k);
}

static void make_done(struct fs_task *t)
{
    struct making *k = (struct making *)t;
    struct fs_marks *m = k->marks;
    if (t->err || !*k->list) {
        sa_error_free(t->err);
        if (k->scan.kept_bytes)
            fs_marks_want_sweep(m);
        making_free(k);
        return;
    }
    MarkRecord *r = k->record;
    r->list = sa_strdup(k->list);
    r->expire_us += sa_wall_us() - r->time_us;
    r->time_us = sa_wall_us();
    r->entries = k->entries;
    r->bytes = k->scan.bytes;
    r->files_read = k->scan.files_read;
    r->omitted = k->scan.omitted;
    r->unreadable = k->scan.unreadable;
    m->bytes += k->scan.kept_bytes;
    struct store_key key = store_key_of(k->id.bytes, sizeof k->id.bytes);
    struct store_set *set = store_set_new();
    sa_error *err = NULL;
    store_put(set, FS_TABLE_MARKS, &key, &r->base);
    if (store_commit(fs_records_store(m->fs->records), set, made, k, &err) < 0) {
        made(k, err);
        sa_error_free(err);
    }
}

static bool same_request(const MarkRecord *r, const CreateMarkRequest *req)
{
    bool same = !strcmp(r->root, req->root) && r->path.len == req->path.len &&
                !memcmp(r->path.data, req->path.data, req->path.len) && r->gitignore == req->gitignore &&
                r->n_ignore == req->n_ignore;
    for (size_t i = 0; same && i < req->n_ignore; i++)
        same = r->ignore[i].len == req->ignore[i].len &&
               !memcmp(r->ignore[i].data, req->ignore[i].data, req->ignore[i].len);
    return same;
}

/* 1: it was answered; 0: it is new; -1. */
static int answer_again(struct fs_marks *m, struct rpc_call *call, const CreateMarkRequest *req,
                        sa_error **err)
{
    if (strlen(req->request_id) > FS_REQUEST_ID_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "request_id has more than %d characters", FS_REQUEST_ID_MAX);
    if (!*req->request_id)
        return 0;
    struct making *k;
    LIST_FOREACH(k, &m->making, link)
    if (!strcmp(k->request_id, req->request_id) && !strcmp(k->principal, rpc_principal(call)))
        return sa_fail(err, SA_UNAVAILABLE, "request `%s` is under way; try again", req->request_id);
    struct mark *known = fs_marks_of_request(m, rpc_principal(call), req->request_id);
    if (!known)
        return 0;
    if (!same_request(known->record, req))
        return sa_fail(err, SA_REQUEST_ID_REUSED, "request `%s` made another mark", req->request_id);
    CreateMarkResponse res = CREATE_MARK_RESPONSE__INIT;
    res.mark = fs_mark_to_proto(known, rpc_arena(call));
    create_mark_reply(call, &res);
    return 1;
}

static ProtobufCBinaryData copy_bytes(ProtobufCBinaryData b)
{
    return (ProtobufCBinaryData){b.len, sa_memdup(b.data, b.len)};
}

static MarkRecord *new_record(struct rpc_call *call, const CreateMarkRequest *req)
{
    MarkRecord *r = sa_calloc(1, sizeof *r);
    *r = (MarkRecord)MARK_RECORD__INIT;
    r->root = sa_strdup(req->root);
    r->path = copy_bytes(req->path);
    r->n_ignore = req->n_ignore;
    r->ignore = sa_calloc(req->n_ignore, sizeof *r->ignore);
    for (size_t i = 0; i < req->n_ignore; i++)
        r->ignore[i] = copy_bytes(req->ignore[i]);
    r->gitignore = req->gitignore;
    r->principal = sa_strdup(rpc_principal(call));
    r->request_id = sa_strdup(req->request_id);
    r->time_us = sa_wall_us();
    r->expire_us = r->time_us + (int64_t)(req->keep_s ? req->keep_s : MARKS_KEEP_S) * 1000000;
    return r;
}

static int fill_globs(const ProtobufCBinaryData *patterns, size_t n, struct fs_globs *ret, sa_error **err)
{
    if (n > MARKS_PATTERNS_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "more than %d patterns", MARKS_PATTERNS_MAX);
    for (size_t i = 0; i < n; i++)
        if (fs_globs_add(ret, (const char *)patterns[i].data, patterns[i].len, err) < 0)
            return -1;
    return 0;
}

static int check_request(struct fs_marks *m, const CreateMarkRequest *req, sa_error **err)
{
    if (req->keep_s > MARKS_KEEP_MAX_S)
        return sa_fail(err, SA_INVALID_REQUEST, "keep_s is at most %d", MARKS_KEEP_MAX_S);
    fs_marks_expire(m);
    if (m->n + m->n_making >= MARKS_MAX)
        return sa_fail(err, SA_TOO_MANY, "there are %d marks, that is the limit", MARKS_MAX);
    return 0;
}

static int make(struct fs_marks *m, struct rpc_call *call, const CreateMarkRequest *req, sa_error **err)
{
    struct fs_target target;
    if (check_request(m, req, err) < 0 || fs_target_init(&target, m->fs, call, req->root, req->path, err) < 0)
        return -1;
    struct making *k = sa_calloc(1, sizeof *k);
    struct mark *before = fs_marks_youngest(m, req->root, req->path);
    k->task = (struct fs_task){.target = target, .run = make_run, .done = make_done};
    k->marks = m;
    k->record = new_record(call, req);
    k->id = sa_id_new();
    k->principal = sa_strdup(rpc_principal(call));
    k->request_id = sa_strdup(req->request_id);
    k->previous = before ? sa_strdup(before->record->list) : NULL;
    uint64_t room = m->bytes < MARKS_BYTES_MAX ? MARKS_BYTES_MAX - m->bytes : 0;
    k->scan = (struct mark_scan){.root = target.root,
                                 .path = target.path,
                                 .ignore = &k->ignore,
                                 .gitignore = req->gitignore,
                                 .identity = m->fs->identity,
                                 .store = m->dir,
                                 .room = room < MARKS_ADDED_MAX ? room : MARKS_ADDED_MAX,
                                 .stop = make_stop,
                                 .user = &k->task};
    m->n_making++;
    LIST_INSERT_HEAD(&m->making, k, link);
    if (fill_globs(req->ignore, req->n_ignore, &k->ignore, err) < 0 || fs_task_start(&k->task, err) < 0) {
        making_free(k);
        return -1;
    }
    rpc_no_server_deadline(call);
    rpc_on_cancel(call, fs_task_on_cancel, &k->task);
    return 0;
}

void fs_create_mark(void *api, struct rpc_call *call, const CreateMarkRequest *req)
{
    struct fs_marks *m = ((struct fs_service *)api)->marks;
    sa_error *err = NULL;
    int known = answer_again(m, call, req, &err);
    if (known < 0 || (known == 0 && make(m, call, req, &err) < 0))
        rpc_fail(call, err);
}

/* ---- ListMarks ---- */

void fs_list_marks(void *api, struct rpc_call *call, const ListMarksRequest *req)
{
    struct fs_marks *m = ((struct fs_service *)api)->marks;
    struct sa_arena *a = rpc_arena(call);
    ListMarksResponse res = LIST_MARKS_RESPONSE__INIT;
    struct sa_id after = {{0}};
    sa_error *err = NULL;
    bool one_root = req->_root_case == LIST_MARKS_REQUEST___ROOT_ROOT;
    if (req->page_size < 0)
        sa_fail(&err, SA_INVALID_REQUEST, "page_size is negative");
    else if (*req->page_token && !sa_id_parse(req->page_token, &after))
        sa_fail(&err, SA_INVALID_PAGE_TOKEN, "the page token is damaged");
    if (err) {
        rpc_fail(call, err);
        return;
    }
    size_t max = req->page_size && req->page_size < MARKS_MAX ? (size_t)req->page_size : MARKS_MAX;
    res.marks = sa_arena_alloc(a, (m->n + 1) * sizeof *res.marks);
    for (struct mark *k = m->first; k; k = k->next) {
        if (k->going || memcmp(k->id.bytes, after.bytes, sizeof after.bytes) <= 0 ||
            (one_root && strcmp(k->record->root, req->root) != 0))
            continue;
        if (res.n_marks == max) {
            res.next_page_token = res.marks[max - 1]->mark_id;
            break;
        }
        res.marks[res.n_marks++] = fs_mark_to_proto(k, a);
    }
    list_marks_reply(call, &res);
}

/* ---- DeleteMark ---- */

struct deleting {
    struct fs_marks *marks;
    struct rpc_call *call;
    struct mark *mark;
};

static void deleted(void *user, const sa_error *err)
{
    struct deleting *d = user;
    service_degraded(d->marks->fs->svc, err ? err->message : NULL);
    if (err) {
        d->mark->going = false;
        rpc_fail(d->call, sa_error_copy(err));
    } else {
        SA_FAULT("mark.deleted");
        DeleteMarkResponse res = DELETE_MARK_RESPONSE__INIT;
        fs_marks_remove(d->marks, d->mark);
        fs_marks_want_sweep(d->marks);
        delete_mark_reply(d->call, &res);
    }
    rpc_call_unref(d->call);
    service_release(d->marks->fs->svc);
    free(d);
}

void fs_delete_mark(void *api, struct rpc_call *call, const DeleteMarkRequest *req)
{
    struct fs_marks *m = ((struct fs_service *)api)->marks;
    sa_error *err = NULL;
    struct mark *mark = fs_marks_find(m, req->mark_id, &err);
    if (!mark) {
        rpc_fail(call, err);
        return;
    }
    struct deleting *d = sa_calloc(1, sizeof *d);
    struct store_key key = store_key_of(mark->id.bytes, sizeof mark->id.bytes);
    struct store_set *set = store_set_new();
    *d = (struct deleting){m, rpc_call_ref(call), mark};
    service_hold(m->fs->svc);
    mark->going = true;
    store_delete(set, FS_TABLE_MARKS, &key);
    if (store_commit(fs_records_store(m->fs->records), set, deleted, d, &err) < 0) {
        deleted(d, err);
        sa_error_free(err);
    }
}
