/* DiffMarks: a task reads both lists, or makes the second from what is there now, and tells the changes as
 * the caller takes them. */
#include <stdlib.h>
#include <string.h>

#include "services/fs-svc/mark_diff.h"
#include "services/fs-svc/mark_scan.h"
#include "services/fs-svc/mark_store.h"
#include "services/fs-svc/marks.h"

enum {
    CONTEXT_DEFAULT = 3,
    CONTEXT_MAX = 100,
    DIFF_DEFAULT = 8 << 20,
    DIFF_MAX = 64 << 20,
};

struct diffing {
    struct fs_task task; /* first: it is handed around as that */
    struct fs_marks *marks;
    char *from, *to; /* names of lists; to NULL: what is there now */
    struct fs_globs ignore;
    struct mark_scan scan;
    struct mark_diff_how how;
    bool entered;
};

static bool stop(void *user)
{
    return fs_task_left(user);
}

static bool send(struct diffing *d, DiffMarksResponse *res)
{
    if (!fs_task_lock_to_send(&d->task))
        return false;
    d->task.room = diff_marks_send(d->task.target.call, res);
    fs_task_unlock(&d->task);
    return true;
}

static bool send_summary(struct diffing *d, const struct mark_changes *c)
{
    DiffMarksResponse res = DIFF_MARKS_RESPONSE__INIT;
    DiffSummary s = DIFF_SUMMARY__INIT;
    for (size_t i = 0; i < c->n; i++) {
        ChangeKind kind = c->changes[i].kind;
        s.added += kind == CHANGE_KIND_ADDED;
        s.modified += kind == CHANGE_KIND_MODIFIED;
        s.deleted += kind == CHANGE_KIND_DELETED;
        s.renamed += kind == CHANGE_KIND_RENAMED;
        s.mode_changed += kind == CHANGE_KIND_MODE;
    }
    res.kind_case = DIFF_MARKS_RESPONSE__KIND_SUMMARY;
    res.summary = &s;
    return send(d, &res);
}

static void send_changes(struct diffing *d, const struct mark_changes *c)
{
    struct sa_arena *a = sa_arena_new();
    bool more = true;
    for (size_t i = 0; i < c->n && more; i++) {
        DiffMarksResponse res = DIFF_MARKS_RESPONSE__INIT;
        res.kind_case = DIFF_MARKS_RESPONSE__KIND_CHANGE;
        res.change = mark_change_to_proto(d->marks->dir, &c->changes[i], &d->how, a);
        d->how.room -= res.change->diff.len;
        more = send(d, &res);
        sa_arena_reset(a);
    }
    sa_arena_free(a);
}

/* The later state: from its list, or from the disk, with the user's rights. */
static int load_later(struct diffing *d, const struct mark_manifest *from, struct mark_manifest *ret)
{
    const struct fs_identity *identity = d->task.target.fs->identity;
    if (d->to)
        return mark_store_get_list(d->marks->dir, d->to, ret, &d->task.err);
    if (fs_identity_enter(identity, &d->task.err) < 0)
        return -1;
    d->scan.previous = from;
    int r = mark_scan_run(&d->scan, ret, &d->task.err);
    fs_identity_leave(identity);
    return r;
}

static void compare(struct diffing *d)
{
    struct mark_manifest from, to;
    struct mark_changes changes;
    if (mark_store_get_list(d->marks->dir, d->from, &from, &d->task.err) < 0)
        return;
    if (load_later(d, &from, &to) == 0) {
        if (mark_diff_compare(d->marks->dir, &from, &to, stop, &d->task, &changes, &d->task.err) == 0) {
            if (send_summary(d, &changes))
                send_changes(d, &changes);
            mark_changes_fini(&changes);
        }
        mark_manifest_fini(&to);
    }
    mark_manifest_fini(&from);
}

static void diff_run(struct fs_task *t)
{
    struct diffing *d = (struct diffing *)t;
    const struct fs_identity *identity = t->target.fs->identity;
    d->entered = fs_marks_enter(d->marks, t);
    if (!d->entered)
        return;
    fs_identity_leave(identity);
    compare(d);
    fs_identity_enter(identity, t->err ? NULL : &t->err);
}

static void diffing_free(struct diffing *d)
{
    if (d->entered)
        fs_marks_leave(d->marks);
    if (d->scan.kept_bytes)
        fs_marks_want_sweep(d->marks);
    fs_globs_fini(&d->ignore);
    fs_target_fini(&d->task.target);
    free(d->from);
    free(d->to);
    free(d);
}

static void diff_done(struct fs_task *t)
{
    if (!t->err && !fs_task_left(t))
        rpc_end(t->target.call);
    sa_error_free(t->err);
    diffing_free((struct diffing *)t);
}

/* ---- the call ---- */

static int fill(struct diffing *d, const DiffMarksRequest *req, const struct mark *from,
                const struct mark *to, sa_error **err)
{
    const MarkRecord *r = from->record;
    bool context = req->_context_lines_case == DIFF_MARKS_REQUEST___CONTEXT_LINES_CONTEXT_LINES;
    if (context && req->context_lines > CONTEXT_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "context_lines is at most %d", CONTEXT_MAX);
    if (req->max_diff_bytes > DIFF_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "max_diff_bytes is at most %d", DIFF_MAX);
    d->how = (struct mark_diff_how){
        .names_only = req->names_only,
        .context = context ? req->context_lines : CONTEXT_DEFAULT,
        .room = req->max_diff_bytes ? (size_t)req->max_diff_bytes : DIFF_DEFAULT,
    };
    d->from = sa_strdup(r->list);
    d->to = to ? sa_strdup(to->record->list) : NULL;
    for (size_t i = 0; i < r->n_ignore; i++)
        if (fs_globs_add(&d->ignore, (const char *)r->ignore[i].data, r->ignore[i].len, err) < 0)
            return -1;
    uint64_t bytes = d->marks->bytes;
    d->scan = (struct mark_scan){.root = d->task.target.root,
                                 .path = d->task.target.path,
                                 .ignore = &d->ignore,
                                 .gitignore = r->gitignore,
                                 .identity = d->marks->fs->identity,
                                 .store = d->marks->dir,
                                 .room = bytes < MARKS_BYTES_MAX ? MARKS_BYTES_MAX - bytes : 0,
                                 .stop = stop,
                                 .user = &d->task};
    return 0;
}

static int find_both(struct fs_marks *m, const DiffMarksRequest *req, struct mark **ret_from,
                     struct mark **ret_to, sa_error **err)
{
    struct mark *from = fs_marks_find(m, req->from_mark_id, err), *to = NULL;
    if (!from || (*req->to_mark_id && !(to = fs_marks_find(m, req->to_mark_id, err))))
        return -1;
    const MarkRecord *a = from->record, *b = to ? to->record : a;
    if (strcmp(a->root, b->root) != 0 || a->path.len != b->path.len ||
        memcmp(a->path.data, b->path.data, a->path.len) != 0)
        return sa_fail(err, SA_INVALID_REQUEST, "the marks are of different directories");
    *ret_from = from;
    *ret_to = to;
    return 0;
}

static int begin(struct fs_marks *m, struct rpc_call *call, const DiffMarksRequest *req, sa_error **err)
{
    static const struct rpc_call_events events = {.on_writable = fs_task_on_writable,
                                                  .on_cancel = fs_task_on_cancel};
    struct mark *from = NULL, *to = NULL;
    struct fs_target target;
    if (find_both(m, req, &from, &to, err) < 0 ||
        fs_target_init(&target, m->fs, call, from->record->root, from->record->path, err) < 0)
        return -1;
    struct diffing *d = sa_calloc(1, sizeof *d);
    d->marks = m;
    d->task = (struct fs_task){.target = target, .run = diff_run, .done = diff_done};
    if (fill(d, req, from, to, err) < 0 || fs_task_start(&d->task, err) < 0) {
        diffing_free(d);
        return -1;
    }
    diff_marks_on(call, &events, &d->task);
    return 0;
}

void fs_diff_marks(void *api, struct rpc_call *call, const DiffMarksRequest *req)
{
    sa_error *err = NULL;
    if (begin(((struct fs_service *)api)->marks, call, req, &err) < 0)
        rpc_fail(call, err);
}
