/* FindFiles and RankFiles: a walk on a thread of its own. */
#include <stdlib.h>
#include <string.h>

#include "adapters/os/clock.h"
#include "services/fs-svc/filter.h"
#include "services/fs-svc/info.h"
#include "services/fs-svc/rank.h"
#include "services/fs-svc/task.h"

/* ---- FindFiles ---- */

enum {
    BATCH_MAX = 256,
    BATCH_MS = 100, /* so long what was found may wait for more */
    LIMIT_DEFAULT = 100000,
    LIMIT_MAX = 10000000,
};

struct finding {
    struct fs_task task;
    struct fs_globs globs;
    struct fs_walk_options walk;
    uint32_t kinds; /* bit set of FileKind; 0: all */
    uint64_t min_size, max_size;
    struct timespec after, before;
    bool has_after, has_before;
    uint64_t limit;
    /* on the thread */
    struct sa_arena *arena; /* of the batch */
    FileInfo *batch[BATCH_MAX];
    size_t n;
    uint64_t sent_ms;
    FindSummary summary;
};

static void find_send(struct finding *f, bool last)
{
    FindFilesResponse res = FIND_FILES_RESPONSE__INIT;
    res.n_files = f->n;
    res.files = f->batch;
    res.summary = last ? &f->summary : NULL;
    if (fs_task_lock_to_send(&f->task)) {
        f->task.room = find_files_send(f->task.target.call, &res);
        fs_task_unlock(&f->task);
    }
    f->n = 0;
    f->sent_ms = sa_now_ms();
    sa_arena_reset(f->arena);
}

/* Asked at each entry: also the moment to send what has waited. */
static bool find_stop(void *user)
{
    struct finding *f = user;
    if (f->n && sa_now_ms() - f->sent_ms >= BATCH_MS)
        find_send(f, false);
    return fs_task_left(&f->task);
}

static bool earlier(struct timespec a, struct timespec b)
{
    return a.tv_sec != b.tv_sec ? a.tv_sec < b.tv_sec : a.tv_nsec < b.tv_nsec;
}

static bool wanted(const struct finding *f, const struct stat *st)
{
    uint64_t size = (uint64_t)st->st_size;
    return (!f->kinds || f->kinds >> fs_info_kind(st->st_mode) & 1) && size >= f->min_size &&
           (!f->max_size || size <= f->max_size) && !(f->has_after && earlier(st->st_mtim, f->after)) &&
           !(f->has_before && !earlier(st->st_mtim, f->before));
}

static void find_one(struct finding *f, const struct fs_walk_entry *e)
{
    struct fs_info info;
    if (fs_info_at(e->dir, e->name, &info, NULL) < 0)
        return; /* it has just gone */
    f->batch[f->n++] =
        fs_info_to_proto(f->arena, &info, fs_info_join(f->arena, f->task.target.path, e->path));
    fs_info_fini(&info);
    f->summary.files++;
    if (f->n == BATCH_MAX)
        find_send(f, false);
}

static void find_run(struct fs_task *t)
{
    struct finding *f = (struct finding *)t;
    struct fs_walk *w = fs_walk_new(t->target.root, t->target.path, &f->walk, &t->err);
    if (!w)
        return;
    struct fs_walk_entry e;
    f->sent_ms = sa_now_ms();
    while (!f->summary.limit_reached && fs_walk_next(w, &e, &t->err) > 0) {
        if (!wanted(f, &e.st))
            continue;
        if (f->summary.files < f->limit)
            find_one(f, &e);
        else
            f->summary.limit_reached = true;
    }
    f->summary.entries = fs_walk_counts(w).entries;
    f->summary.unreadable = fs_walk_counts(w).unreadable;
    fs_walk_free(w);
    if (!t->err)
        find_send(f, true);
}

static void find_free(struct finding *f)
{
    fs_globs_fini(&f->globs);
    sa_arena_free(f->arena);
    sa_error_free(f->task.err);
    fs_target_fini(&f->task.target);
    free(f);
}

static void find_done(struct fs_task *t)
{
    if (!t->err && !fs_task_left(t))
        rpc_end(t->target.call);
    find_free((struct finding *)t);
}

static bool take_time(const Google__Protobuf__Timestamp *t, struct timespec *ret)
{
    if (t)
        *ret = (struct timespec){.tv_sec = (time_t)t->seconds, .tv_nsec = t->nanos};
    return t != NULL;
}

static int find_start(struct finding *f, struct fs_service *fs, struct rpc_call *call,
                      const FindFilesRequest *req, sa_error **err)
{
    static const struct rpc_call_events events = {.on_writable = fs_task_on_writable,
                                                  .on_cancel = fs_task_on_cancel};
    for (size_t i = 0; i < req->n_kinds; i++)
        f->kinds |= (unsigned)req->kinds[i] < 32 ? 1u << req->kinds[i] : 0;
    f->min_size = req->min_size;
    f->max_size = req->max_size;
    f->has_after = take_time(req->modified_after, &f->after);
    f->has_before = take_time(req->modified_before, &f->before);
    f->limit = req->limit ? req->limit < LIMIT_MAX ? req->limit : LIMIT_MAX : LIMIT_DEFAULT;
    f->summary = (FindSummary)FIND_SUMMARY__INIT;
    if (fs_filter(req->filter, &f->globs, &f->walk, err) < 0 ||
        fs_target_init(&f->task.target, fs, call, req->root, req->path, err) < 0)
        return -1;
    f->arena = sa_arena_new();
    f->walk.stop = find_stop;
    f->walk.user = f;
    f->task.run = find_run;
    f->task.done = find_done;
    find_files_on(call, &events, &f->task);
    return fs_task_start(&f->task, err);
}

void fs_find_files(void *api, struct rpc_call *call, const FindFilesRequest *req)
{
    sa_error *err = NULL;
    struct finding *f = sa_calloc(1, sizeof *f);
    if (find_start(f, api, call, req, &err) == 0)
        return;
    rpc_fail(call, err);
    find_free(f);
}

/* ---- RankFiles ---- */

enum { RANKED_DEFAULT = 50, RANKED_MAX = 1000 };

struct ranked {
    char *path;
    int32_t score;
};

struct ranking {
    struct fs_task task;
    struct fs_globs globs;
    struct fs_walk_options walk;
    struct rank_query query;
    size_t max;
    /* on the thread: a heap with the worst on top */
    struct ranked *best;
    size_t n;
    FindSummary summary;
};

static bool rank_stop(void *user)
{
    struct ranking *r = user;
    return fs_task_left(&r->task);
}

/* Is a told after b? */
static bool worse(const struct ranked *a, const struct ranked *b)
{
    if (a->score != b->score)
        return a->score < b->score;
    size_t a_len = strlen(a->path), b_len = strlen(b->path);
    return a_len != b_len ? a_len > b_len : strcmp(a->path, b->path) > 0;
}

static void sift_down(struct ranked *h, size_t n)
{
    for (size_t i = 0, child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && worse(&h[child + 1], &h[child]))
            child++;
        if (!worse(&h[child], &h[i]))
            return;
        struct ranked t = h[i];
        h[i] = h[child];
        h[child] = t;
    }
}

static void sift_up(struct ranked *h, size_t i)
{
    for (; i && worse(&h[i], &h[(i - 1) / 2]); i = (i - 1) / 2) {
        struct ranked t = h[i];
        h[i] = h[(i - 1) / 2];
        h[(i - 1) / 2] = t;
    }
}

static void offer(struct ranking *r, const char *path)
{
    struct ranked one = {.path = (char *)(uintptr_t)path};
    if (!rank_path(&r->query, path, strlen(path), &one.score, NULL))
        return;
    r->summary.files++;
    if (r->n == r->max && !worse(&r->best[0], &one))
        return;
    one.path = sa_strdup(path);
    if (r->n < r->max) {
        r->best[r->n] = one;
        sift_up(r->best, r->n++);
        return;
    }
    free(r->best[0].path);
    r->best[0] = one;
    sift_down(r->best, r->n);
}

static int best_first(const void *a, const void *b)
{
    return worse(a, b) ? 1 : -1;
}

static void rank_run(struct fs_task *t)
{
    struct ranking *r = (struct ranking *)t;
    struct fs_walk *w = fs_walk_new(t->target.root, t->target.path, &r->walk, &t->err);
    if (!w)
        return;
    struct fs_walk_entry e;
    r->best = sa_calloc(r->max, sizeof *r->best);
    while (fs_walk_next(w, &e, &t->err) > 0)
        if (!S_ISDIR(e.st.st_mode))
            offer(r, e.path);
    qsort(r->best, r->n, sizeof *r->best, best_first);
    r->summary.entries = fs_walk_counts(w).entries;
    r->summary.unreadable = fs_walk_counts(w).unreadable;
    r->summary.limit_reached = r->summary.files > r->n;
    fs_walk_free(w);
}

static RankedFile *tell_ranked(struct ranking *r, struct sa_arena *a, const struct ranked *one)
{
    RankedFile *file = sa_arena_alloc(a, sizeof *file);
    *file = (RankedFile)RANKED_FILE__INIT;
    const char *path = fs_info_join(a, r->task.target.path, one->path);
    size_t before = strlen(path) - strlen(one->path);
    file->path = (ProtobufCBinaryData){strlen(path), (uint8_t *)(uintptr_t)path};
    file->score = one->score;
    file->n_positions = r->query.n;
    file->positions = sa_arena_alloc(a, (r->query.n + 1) * sizeof *file->positions);
    rank_path(&r->query, one->path, strlen(one->path), &file->score, file->positions);
    for (size_t i = 0; i < r->query.n; i++)
        file->positions[i] += (uint32_t)before;
    return file;
}

static void rank_free(struct ranking *r)
{
    for (size_t i = 0; i < r->n; i++)
        free(r->best[i].path);
    free(r->best);
    fs_globs_fini(&r->globs);
    sa_error_free(r->task.err);
    fs_target_fini(&r->task.target);
    free(r);
}

static void rank_done(struct fs_task *t)
{
    struct ranking *r = (struct ranking *)t;
    if (!t->err && !fs_task_left(t)) {
        struct sa_arena *a = rpc_arena(t->target.call);
        RankFilesResponse res = RANK_FILES_RESPONSE__INIT;
        res.n_files = r->n;
        res.files = sa_arena_alloc(a, (r->n + 1) * sizeof *res.files);
        for (size_t i = 0; i < r->n; i++)
            res.files[i] = tell_ranked(r, a, &r->best[i]);
        res.summary = &r->summary;
        rank_files_reply(t->target.call, &res);
    }
    rank_free(r);
}

static int rank_start(struct ranking *r, struct fs_service *fs, struct rpc_call *call,
                      const RankFilesRequest *req, sa_error **err)
{
    if (req->query.len > RANK_QUERY_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "the query has %zu bytes, the limit is %d", req->query.len,
                       RANK_QUERY_MAX);
    r->query = rank_query_of(req->query.data, req->query.len);
    r->max = req->limit ? req->limit < RANKED_MAX ? req->limit : RANKED_MAX : RANKED_DEFAULT;
    r->summary = (FindSummary)FIND_SUMMARY__INIT;
    if (fs_filter(req->filter, &r->globs, &r->walk, err) < 0 ||
        fs_target_init(&r->task.target, fs, call, req->root, req->path, err) < 0)
        return -1;
    r->walk.stop = rank_stop;
    r->walk.user = r;
    r->task.run = rank_run;
    r->task.done = rank_done;
    rpc_on_cancel(call, fs_task_on_cancel, &r->task);
    return fs_task_start(&r->task, err);
}

void fs_rank_files(void *api, struct rpc_call *call, const RankFilesRequest *req)
{
    sa_error *err = NULL;
    struct ranking *r = sa_calloc(1, sizeof *r);
    if (rank_start(r, api, call, req, &err) == 0)
        return;
    rpc_fail(call, err);
    rank_free(r);
}
