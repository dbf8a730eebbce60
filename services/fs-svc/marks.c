/* Which marks there are: in LMDB, and in memory; their lists and contents in a directory. Whatever a crash
 * left in the directory that no record knows is swept at the next start. */
#include "services/fs-svc/marks.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/os/fault.h"
#include "adapters/os/log.h"
#include "services/fs-svc/mark_diff.h"
#include "services/fs-svc/mark_store.h"
#include "services/runtime/service.h"

/* ---- the list ---- */

struct mark *fs_marks_find(struct fs_marks *m, const char *id, sa_error **err)
{
    for (struct mark *k = m->first; k; k = k->next)
        if (!strcmp(k->text, id) && !k->going)
            return k;
    sa_fail(err, SA_MARK_NOT_FOUND, "there is no mark `%.100s`", id);
    return NULL;
}

struct mark *fs_marks_youngest(struct fs_marks *m, const char *root, ProtobufCBinaryData path)
{
    struct mark *found = NULL;
    for (struct mark *k = m->first; k; k = k->next)
        if (!k->going && !strcmp(k->record->root, root) && k->record->path.len == path.len &&
            !memcmp(k->record->path.data, path.data, path.len))
            found = k;
    return found;
}

struct mark *fs_marks_of_request(struct fs_marks *m, const char *principal, const char *request_id)
{
    for (struct mark *k = m->first; k; k = k->next)
        if (!strcmp(k->record->request_id, request_id) && !strcmp(k->record->principal, principal))
            return k;
    return NULL;
}

struct mark *fs_marks_add(struct fs_marks *m, struct sa_id id, MarkRecord *record)
{
    struct mark *k = sa_calloc(1, sizeof *k), **at = &m->first;
    k->id = id;
    k->record = record;
    sa_id_format(id, k->text);
    while (*at && memcmp((*at)->id.bytes, id.bytes, sizeof id.bytes) < 0)
        at = &(*at)->next;
    k->next = *at;
    *at = k;
    m->n++;
    return k;
}

void fs_marks_remove(struct fs_marks *m, struct mark *mark)
{
    struct mark **at = &m->first;
    while (*at != mark)
        at = &(*at)->next;
    *at = mark->next;
    m->n--;
    store_message_free(mark->record);
    free(mark);
}

static Google__Protobuf__Timestamp *time_of(int64_t us, struct sa_arena *a)
{
    Google__Protobuf__Timestamp *t = sa_arena_alloc(a, sizeof *t);
    *t = (Google__Protobuf__Timestamp)GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    t->seconds = us / 1000000;
    t->nanos = (int32_t)(us % 1000000) * 1000;
    return t;
}

Mark *fs_mark_to_proto(const struct mark *mark, struct sa_arena *a)
{
    const MarkRecord *r = mark->record;
    Mark *m = sa_arena_alloc(a, sizeof *m);
    *m = (Mark)MARK__INIT;
    m->mark_id = sa_arena_strdup(a, mark->text);
    m->root = r->root;
    m->path = r->path;
    m->n_ignore = r->n_ignore;
    m->ignore = r->ignore;
    m->gitignore = r->gitignore;
    m->create_time = time_of(r->time_us, a);
    m->expire_time = time_of(r->expire_us, a);
    m->entries = r->entries;
    m->bytes = r->bytes;
    m->files_read = r->files_read;
    m->omitted = r->omitted;
    m->unreadable = r->unreadable;
    return m;
}

/* ---- who uses the directory ---- */

static void sweep(void *user);

bool fs_marks_enter(struct fs_marks *m, struct fs_task *t)
{
    fs_task_lock(t);
    while (m->sweeping && !fs_task_left(t)) {
        size_t i = 0;
        while (m->waiting[i] && m->waiting[i] != t)
            i++;
        m->waiting[i] = t;
        fs_task_wait(t);
    }
    bool in = !fs_task_left(t);
    for (size_t i = 0; i < FS_TASKS_MAX; i++)
        if (m->waiting[i] == t)
            m->waiting[i] = NULL;
    m->n_users += in;
    fs_task_unlock(t);
    return in;
}

void fs_marks_leave(struct fs_marks *m)
{
    if (--m->n_users == 0 && m->sweep_wanted)
        sa_timer_start(m->sweep, MARKS_SWEEP_MS);
}

void fs_marks_want_sweep(struct fs_marks *m)
{
    m->sweep_wanted = true;
    sa_timer_start(m->sweep, MARKS_SWEEP_MS);
}

struct sweep_job {
    struct fs_marks *marks;
    char **names;
    size_t n;
    uint64_t bytes;
    sa_error *err;
};

static void sweep_work(void *user)
{
    struct sweep_job *j = user;
    SA_FAULT("mark.before_sweep");
    mark_store_sweep(j->marks->dir, j->names, j->n, &j->bytes, &j->err);
    SA_FAULT("mark.after_sweep");
}

static void sweep_end(struct sweep_job *j)
{
    if (j->err)
        sa_log(SA_LOG_WARN, "fs.mark_sweep_failed", "reason=%s message=\"%s\"", j->err->reason,
               j->err->message);
    j->marks->bytes = j->bytes;
    for (size_t i = 0; i < j->n; i++)
        free(j->names[i]);
    free(j->names);
    sa_error_free(j->err);
    free(j);
}

static void sweep_done(void *user)
{
    struct sweep_job *j = user;
    struct fs_marks *m = j->marks;
    sweep_end(j);
    m->sweeping = false;
    for (size_t i = 0; i < FS_TASKS_MAX; i++)
        if (m->waiting[i])
            fs_task_wake(m->waiting[i]);
    service_release(m->fs->svc);
}

static struct sweep_job *sweep_job(struct fs_marks *m)
{
    struct sweep_job *j = sa_calloc(1, sizeof *j);
    j->marks = m;
    j->names = sa_calloc(m->n, sizeof *j->names);
    for (struct mark *k = m->first; k; k = k->next)
        j->names[j->n++] = sa_strdup(k->record->list);
    return j;
}

static void sweep(void *user)
{
    struct fs_marks *m = user;
    if (m->sweeping || m->n_users)
        return; /* when the last user leaves */
    m->sweep_wanted = false;
    m->sweeping = true;
    service_hold(m->fs->svc);
    sa_work(m->fs->loop, sweep_work, sweep_done, sweep_job(m));
}

/* ---- expiry ---- */

/* One that is going and has no time left is expired. */
static void expired(void *user, const sa_error *err)
{
    struct fs_marks *m = user;
    struct mark *next;
    for (struct mark *k = m->first; k; k = next) {
        next = k->next;
        if (k->going && k->record->expire_us == 0) {
            if (err)
                k->going = false;
            else
                fs_marks_remove(m, k);
        }
    }
    fs_marks_want_sweep(m);
    service_release(m->fs->svc);
}

void fs_marks_expire(struct fs_marks *m)
{
    int64_t now = sa_wall_us();
    struct store_set *set = store_set_new();
    size_t n = 0;
    for (struct mark *k = m->first; k; k = k->next) {
        if (k->going || k->record->expire_us > now)
            continue;
        struct store_key key = store_key_of(k->id.bytes, sizeof k->id.bytes);
        store_delete(set, FS_TABLE_MARKS, &key);
        k->going = true;
        k->record->expire_us = 0;
        n++;
    }
    if (!n) {
        store_set_free(set);
        return;
    }
    cleanup_error sa_error *err = NULL;
    service_hold(m->fs->svc);
    if (store_commit(fs_records_store(m->fs->records), set, expired, m, &err) < 0)
        expired(m, err);
}

static void on_expire(void *user)
{
    fs_marks_expire(user);
}

/* ---- life ---- */

static bool load_row(void *user, const struct store_row *row)
{
    struct fs_marks *m = user;
    struct sa_id id;
    MarkRecord *r = row->key_len == sizeof id.bytes ? store_row_unpack(row, NULL) : NULL;
    if (r) {
        memcpy(id.bytes, row->key, sizeof id.bytes);
        fs_marks_add(m, id, r);
    }
    return true;
}

struct fs_marks *fs_marks_open(struct fs_service *fs, const char *data_dir, sa_error **err)
{
    enum { EXPIRE_MS = 60000 };
    struct fs_marks *m = sa_calloc(1, sizeof *m);
    struct store_range all = {.table = FS_TABLE_MARKS};
    m->fs = fs;
    m->dir = sa_format("%s/marks", data_dir);
    mark_diff_start();
    if (mark_store_prepare(m->dir, err) < 0 ||
        store_scan(fs_records_store(fs->records), &all, load_row, m, err) < 0) {
        fs_marks_free(m);
        return NULL;
    }
    m->sweep = sa_timer_new(fs->loop, sweep, m);
    m->expire = sa_timer_new(fs->loop, on_expire, m);
    sa_timer_every(m->expire, EXPIRE_MS);
    sweep(m); /* what a crash left; and how much there is */
    return m;
}

void fs_marks_free(struct fs_marks *m)
{
    if (!m)
        return;
    sa_timer_free(m->sweep);
    sa_timer_free(m->expire);
    while (m->first)
        fs_marks_remove(m, m->first);
    mark_diff_stop();
    free(m->dir);
    free(m);
}
