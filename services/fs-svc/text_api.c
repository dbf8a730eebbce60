/* ReadText: a slice of a file by lines. A job on a worker thread goes through some megabytes; between two of
 * them others get their turn, and a caller who has gone ends it. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "services/fs-svc/fs.h"
#include "services/fs-svc/info.h"
#include "services/fs-svc/lines.h"

struct text {
    struct fs_target target;
    char *if_match;
    int fd;
    struct fs_info info;
    struct fs_lines lines;
    bool complete;
    sa_error *err;
};

static void text_free(struct text *t)
{
    sa_close(t->fd);
    fs_info_fini(&t->info);
    fs_lines_fini(&t->lines);
    sa_error_free(t->err);
    free(t->if_match);
    fs_target_fini(&t->target);
    free(t);
}

/* ---- on a worker ---- */

static int open_text(struct text *t)
{
    cleanup_close int at = fs_path_open(t->target.root, t->target.path, true, &t->err);
    const char *slash = strrchr(t->target.path, '/'), *name = slash && slash[1] ? slash + 1 : t->target.path;
    if (at < 0 || fs_info_of(at, name, &t->info, &t->err) < 0)
        return -1;
    if (S_ISDIR(t->info.st.st_mode))
        return sa_fail(&t->err, SA_IS_A_DIRECTORY, "`%.200s` is a directory", t->target.path);
    if (!S_ISREG(t->info.st.st_mode))
        return sa_fail(&t->err, SA_NOT_A_REGULAR_FILE, "`%.200s` is not a regular file", t->target.path);
    t->fd = fs_reopen(at, O_RDONLY | O_NOCTTY);
    return t->fd < 0 ? sa_fail_errno(&t->err, errno, "read `%.200s`", t->target.path) : 0;
}

static int check_etag(struct text *t)
{
    char etag[FS_ETAG_TEXT];
    struct stat now;
    if (!*t->if_match)
        return 0;
    if (fstat(t->fd, &now) < 0)
        return sa_fail_errno(&t->err, errno, "stat `%.200s`", t->target.path);
    fs_etag(&now, etag);
    if (strcmp(etag, t->if_match) != 0)
        return sa_fail(&t->err, SA_FILE_CHANGED, "`%.200s` is no longer the file that was meant",
                       t->target.path);
    return 0;
}

static void work(void *user)
{
    struct text *t = user;
    if (fs_identity_enter(t->target.fs->identity, &t->err) < 0)
        return;
    int r = -1;
    if (t->fd >= 0 || (open_text(t) == 0 && check_etag(t) == 0))
        r = fs_lines_read(&t->lines, t->fd, &t->err);
    t->complete = r == 1 && check_etag(t) == 0;
    fs_identity_leave(t->target.fs->identity);
}

/* ---- under the lock ---- */

static TextLine *line_to_proto(struct sa_arena *a, const struct text *t, const struct fs_line *line)
{
    TextLine *to = sa_arena_alloc(a, sizeof *to);
    const uint8_t *p = t->lines.text.data + line->start;
    size_t n = line->full > line->len ? fs_lines_whole_text(p, line->len) : line->len;
    *to = (TextLine)TEXT_LINE__INIT;
    if (fs_lines_is_text(p, n)) {
        to->kind_case = TEXT_LINE__KIND_TEXT;
        to->text = sa_arena_alloc(a, n + 1);
        if (n)
            memcpy(to->text, p, n);
    } else {
        to->kind_case = TEXT_LINE__KIND_RAW;
        to->raw = (ProtobufCBinaryData){line->len, (uint8_t *)(uintptr_t)p};
    }
    to->full_bytes = line->full > line->len ? line->full : 0;
    return to;
}

static void answer(struct text *t)
{
    const struct fs_lines *l = &t->lines;
    struct sa_arena *a = rpc_arena(t->target.call);
    ReadTextResponse res = READ_TEXT_RESPONSE__INIT;
    res.file = fs_info_to_proto(a, &t->info, t->target.path);
    res.first_line = l->first;
    res.n_lines = l->n;
    res.lines = sa_arena_alloc(a, (l->n + 1) * sizeof *res.lines);
    for (size_t i = 0; i < l->n; i++) {
        res.lines[i] = line_to_proto(a, t, &l->lines[i]);
        res.binary = res.binary || res.lines[i]->kind_case == TEXT_LINE__KIND_RAW;
    }
    res.next_line = l->next_line;
    res.next_offset = l->next_at;
    if (l->at_end) {
        res._total_lines_case = READ_TEXT_RESPONSE___TOTAL_LINES_TOTAL_LINES;
        res.total_lines = l->total;
    }
    read_text_reply(t->target.call, &res);
}

static void done(void *user)
{
    struct text *t = user;
    if (!t->err && !t->complete && rpc_alive(t->target.call)) {
        sa_work(t->target.fs->loop, work, done, t);
        return;
    }
    if (t->err)
        rpc_fail(t->target.call, steal_pointer(&t->err));
    else if (rpc_alive(t->target.call))
        answer(t);
    text_free(t);
}

static uint32_t limit(uint32_t asked, uint32_t otherwise, uint32_t max)
{
    uint32_t n = asked ? asked : otherwise;
    return n < max ? n : max;
}

void fs_read_text(void *api, struct rpc_call *call, const ReadTextRequest *req)
{
    sa_error *err = NULL;
    struct fs_target target;
    if (req->offset && !*req->if_match)
        sa_fail(&err, SA_INVALID_REQUEST, "`offset` needs `if_match`: in another file lines begin elsewhere");
    if (err || fs_target_init(&target, api, call, req->root, req->path, &err) < 0) {
        rpc_fail(call, err);
        return;
    }
    struct text *t = sa_calloc(1, sizeof *t);
    struct fs_lines *l = &t->lines;
    t->target = target;
    t->if_match = sa_strdup(req->if_match);
    t->fd = -1;
    l->first = req->first_line ? req->first_line : 1;
    l->max_lines = limit(req->max_lines, FS_LINES_DEFAULT, FS_LINES_MAX);
    l->max_bytes = limit(req->max_bytes, FS_LINES_BYTES_DEFAULT, FS_LINES_BYTES_MAX);
    l->max_line_bytes = limit(req->max_line_bytes, FS_LINE_DEFAULT, l->max_bytes);
    l->count = req->count_lines;
    l->at = req->offset;
    l->line = req->offset ? l->first : 1;
    sa_work(target.fs->loop, work, done, t);
}
