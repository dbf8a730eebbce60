/* SearchFiles: a walk, and a search through each file of it, on a thread of its own. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/clock.h"
#include "services/fs-svc/filter.h"
#include "services/fs-svc/grep.h"
#include "services/fs-svc/info.h"
#include "services/fs-svc/task.h"

enum {
    BATCH_BYTES = 64 << 10, /* of lines in a message; the last line may go beyond */
    BATCH_LINES = 1000,
    BATCH_MS = 100, /* so long what was found may wait for more */
    MATCHES_DEFAULT = 10000,
    MATCHES_MAX = 1000000,
    TEXT_DEFAULT = 1024,
    TEXT_MAX = 64 << 10,
};

struct searching {
    struct fs_task task;
    struct fs_globs globs;
    struct fs_walk_options walk;
    struct grep *grep;
    uint64_t max_per_file, max;
    size_t max_line;
    /* on the thread: lines that wait to be sent */
    struct sa_arena *arena;
    SearchedLine *lines[BATCH_LINES];
    size_t n, bytes;
    uint64_t sent_ms;
    char *path; /* of the file at hand, as it is told */
    SearchSummary summary;
};

static void send_lines(struct searching *s, SearchSummary *summary)
{
    SearchFilesResponse res = SEARCH_FILES_RESPONSE__INIT;
    if (s->n)
        res.path = (ProtobufCBinaryData){strlen(s->path), (uint8_t *)s->path};
    res.n_lines = s->n;
    res.lines = s->lines;
    res.summary = summary;
    if (fs_task_lock_to_send(&s->task)) {
        s->task.room = search_files_send(s->task.target.call, &res);
        fs_task_unlock(&s->task);
    }
    s->n = s->bytes = 0;
    s->sent_ms = sa_now_ms();
    sa_arena_reset(s->arena);
}

static bool stop(void *user)
{
    struct searching *s = user;
    if (s->n && sa_now_ms() - s->sent_ms >= BATCH_MS)
        send_lines(s, NULL);
    return fs_task_left(&s->task);
}

/* ---- a line ---- */

/* Which part of a long line is told: its first match, with something before it, from a whole character on. */
static size_t part_start(const struct grep_line *l, size_t max)
{
    size_t start = 0;
    if (l->n > max && l->n_ranges && l->ranges[0].end > max)
        start = l->ranges[0].start > max / 4 ? l->ranges[0].start - max / 4 : 0;
    while (start < l->n && start && ((uint8_t)l->text[start] & 0xc0) == 0x80)
        start++;
    return start;
}

static void add_ranges(struct searching *s, const struct grep_line *l, SearchedLine *line)
{
    line->ranges = sa_arena_alloc(s->arena, (l->n_ranges + 1) * sizeof *line->ranges);
    ByteRange *ranges = sa_arena_alloc(s->arena, (l->n_ranges + 1) * sizeof *ranges);
    uint64_t from = line->text_start, until = from + line->text.len;
    for (size_t i = 0; i < l->n_ranges; i++) {
        struct grep_range r = l->ranges[i];
        if (r.start < from || r.start > until)
            continue;
        ByteRange *range = &ranges[line->n_ranges];
        *range = (ByteRange)BYTE_RANGE__INIT;
        range->start = (uint32_t)(r.start - from);
        range->end = (uint32_t)((r.end < until ? r.end : until) - from);
        line->ranges[line->n_ranges++] = range;
    }
}

static void on_line(void *user, const struct grep_line *l)
{
    struct searching *s = user;
    SearchedLine *line = sa_arena_alloc(s->arena, sizeof *line);
    *line = (SearchedLine)SEARCHED_LINE__INIT;
    line->number = l->number;
    line->offset = l->offset;
    line->text_start = part_start(l, s->max_line);
    size_t left = l->n - line->text_start, told = left < s->max_line ? left : s->max_line;
    line->text = (ProtobufCBinaryData){told, sa_arena_memdup(s->arena, l->text + line->text_start, told)};
    line->cut = told < l->n;
    add_ranges(s, l, line);
    s->lines[s->n++] = line;
    s->bytes += told + sizeof *line + l->n_ranges * sizeof(ByteRange);
    if (s->n == BATCH_LINES || s->bytes >= BATCH_BYTES)
        send_lines(s, NULL);
}

/* ---- files ---- */

/* at: an O_PATH descriptor of a regular file. */
static int search_file(struct searching *s, int at, sa_error **err)
{
    const struct grep_sink sink = {.line = on_line, .stop = stop, .user = s};
    struct grep_result result = {0};
    cleanup_error sa_error *failed = NULL;
    cleanup_close int fd = fs_reopen(at, O_RDONLY | O_NOCTTY);
    if (fd < 0) {
        s->summary.unreadable++;
        return 0;
    }
    uint64_t left = s->max - s->summary.matches;
    int r = grep_fd(s->grep, fd, left < s->max_per_file ? left : s->max_per_file, &sink, &result, &failed);
    if (r < 0 && (sa_error_is(failed, SA_PATTERN_TOO_COSTLY) || sa_error_is(failed, SA_CANCELLED) ||
                  sa_error_is(failed, SA_INTERNAL))) {
        sa_pass(err, steal_pointer(&failed));
        return sa_wrap(err, "`%.200s`", s->path);
    }
    s->summary.unreadable += r < 0;
    s->summary.binary += result.binary;
    s->summary.files += r == 0 && !result.binary;
    s->summary.files_with_matches += result.matches > 0;
    s->summary.matches += result.matches;
    s->summary.limit_reached = s->summary.matches >= s->max;
    if (s->n)
        send_lines(s, NULL);
    return 0;
}

static int search_entry(struct searching *s, const struct fs_walk_entry *e, sa_error **err)
{
    struct stat st;
    cleanup_close int at = fs_path_open_at(s->task.target.root, e->dir, e->name, NULL);
    if (at < 0 || fstat(at, &st) < 0 || !S_ISREG(st.st_mode)) {
        s->summary.unreadable++;
        return 0;
    }
    struct sa_arena *a = sa_arena_new();
    s->path = fs_info_join(a, s->task.target.path, e->path);
    int r = search_file(s, at, err);
    s->path = NULL;
    sa_arena_free(a);
    return r;
}

static int search_tree(struct searching *s, int start, sa_error **err)
{
    struct fs_walk *w = fs_walk_new_at(s->task.target.root, start, &s->walk, err);
    if (!w)
        return -1;
    struct fs_walk_entry e;
    int r = 0;
    while (r == 0 && !s->summary.limit_reached && fs_walk_next(w, &e, err) > 0)
        if (S_ISREG(e.st.st_mode))
            r = search_entry(s, &e, err);
    s->summary.unreadable += fs_walk_counts(w).unreadable;
    fs_walk_free(w);
    return r;
}

static int search(struct searching *s, sa_error **err)
{
    const struct fs_target *t = &s->task.target;
    struct stat st;
    cleanup_close int at = fs_path_open(t->root, t->path, true, err);
    if (at < 0)
        return -1;
    if (fstat(at, &st) < 0)
        return sa_fail_errno(err, errno, "stat `%.200s`", t->path);
    if (S_ISDIR(st.st_mode))
        return search_tree(s, at, err);
    if (!S_ISREG(st.st_mode))
        return sa_fail(err, SA_NOT_A_REGULAR_FILE, "`%.200s` is not a regular file", t->path);
    s->path = t->path;
    return search_file(s, at, err);
}

static void run(struct fs_task *t)
{
    struct searching *s = (struct searching *)t;
    s->sent_ms = sa_now_ms();
    if (search(s, &t->err) == 0 && !t->err)
        send_lines(s, &s->summary);
}

static void searching_free(struct searching *s)
{
    grep_free(s->grep);
    fs_globs_fini(&s->globs);
    sa_arena_free(s->arena);
    sa_error_free(s->task.err);
    fs_target_fini(&s->task.target);
    free(s);
}

static void done(struct fs_task *t)
{
    if (!t->err && !fs_task_left(t))
        rpc_end(t->target.call);
    searching_free((struct searching *)t);
}

static int start(struct searching *s, struct fs_service *fs, struct rpc_call *call,
                 const SearchFilesRequest *req, sa_error **err)
{
    static const struct rpc_call_events events = {.on_writable = fs_task_on_writable,
                                                  .on_cancel = fs_task_on_cancel};
    if (req->before > GREP_CONTEXT_MAX || req->after > GREP_CONTEXT_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "more than %d lines around a match are asked",
                       GREP_CONTEXT_MAX);
    struct grep_options opt = {.literal = req->literal,
                               .ignore_case = req->ignore_case,
                               .word = req->word,
                               .binary = req->binary,
                               .before = req->before,
                               .after = req->after};
    s->max_per_file = req->max_per_file ? req->max_per_file : UINT64_MAX;
    s->max =
        req->max_matches ? req->max_matches < MATCHES_MAX ? req->max_matches : MATCHES_MAX : MATCHES_DEFAULT;
    s->max_line = req->max_line ? req->max_line < TEXT_MAX ? req->max_line : TEXT_MAX : TEXT_DEFAULT;
    s->summary = (SearchSummary)SEARCH_SUMMARY__INIT;
    s->arena = sa_arena_new();
    s->grep = grep_new(req->pattern.data, req->pattern.len, &opt, err);
    if (!s->grep || fs_filter(req->filter, &s->globs, &s->walk, err) < 0 ||
        fs_target_init(&s->task.target, fs, call, req->root, req->path, err) < 0)
        return -1;
    s->walk.stop = stop;
    s->walk.user = s;
    s->task.run = run;
    s->task.done = done;
    search_files_on(call, &events, &s->task);
    return fs_task_start(&s->task, err);
}

void fs_search_files(void *api, struct rpc_call *call, const SearchFilesRequest *req)
{
    sa_error *err = NULL;
    struct searching *s = sa_calloc(1, sizeof *s);
    if (start(s, api, call, req, &err) == 0)
        return;
    rpc_fail(call, err);
    searching_free(s);
}
