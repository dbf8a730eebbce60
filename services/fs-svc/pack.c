#include "services/fs-svc/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/os/mem.h"

enum { PIECE = 64 << 10 };

struct packing {
    struct archive_out *out;
    const struct fs_root *root;
    const struct pack_events *events;
    struct pack_result *result;
    uint8_t *piece;
};

static void skip(struct packing *p, const char *name, sa_error *err)
{
    p->result->skipped++;
    p->events->failed(p->events->user, name, err);
    sa_error_free(err);
}

/* ---- a file ---- */

static ssize_t read_piece(int fd, uint8_t *piece, uint64_t left, sa_error **err)
{
    for (;;) {
        ssize_t n = read(fd, piece, left < PIECE ? (size_t)left : PIECE);
        if (n < 0 && errno == EINTR)
            continue;
        return n < 0 ? sa_fail_errno(err, errno, "read") : n;
    }
}

/* The header has told how much comes: what is missing by now is filled up with zeros. */
static int pack_content(struct packing *p, int fd, const struct archive_item *item, sa_error **err)
{
    cleanup_error sa_error *broken = NULL;
    for (uint64_t left = item->size; left;) {
        if (p->events->stop(p->events->user))
            return sa_fail(err, SA_CANCELLED, "the caller has left");
        ssize_t n = broken ? 0 : read_piece(fd, p->piece, left, &broken);
        if (n == 0 && !broken)
            sa_fail(&broken, SA_FILE_CHANGED,
                    "it became shorter while it was packed: the last %llu bytes are zeros",
                    (unsigned long long)left);
        if (n <= 0) {
            n = left < PIECE ? (ssize_t)left : PIECE;
            memset(p->piece, 0, (size_t)n);
        }
        if (archive_out_data(p->out, p->piece, (size_t)n, err) < 0)
            return -1;
        left -= (uint64_t)n;
    }
    p->result->bytes += item->size;
    p->result->padded += broken != NULL;
    if (broken)
        p->events->failed(p->events->user, item->name, broken);
    return 0;
}

/* Is it the sink that refused, or this entry? */
static int refused(struct packing *p, const char *name, sa_error *failed, sa_error **err)
{
    if (!sa_error_is(failed, SA_INVALID_PATH))
        return sa_pass(err, failed);
    skip(p, name, failed);
    return 0;
}

static int pack_file(struct packing *p, int at, struct archive_item *item, sa_error **err)
{
    sa_error *failed = NULL;
    cleanup_close int fd = fs_reopen(at, O_RDONLY | O_NOCTTY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        sa_fail_errno(&failed, errno, "read");
        skip(p, item->name, failed);
        return 0;
    }
    item->size = (uint64_t)st.st_size;
    if (archive_out_entry(p->out, item, &failed) < 0)
        return refused(p, item->name, failed, err);
    p->result->entries++;
    return pack_content(p, fd, item, err);
}

/* ---- anything ---- */

/* at: O_PATH. */
static int pack_one(struct packing *p, int at, const struct stat *st, const char *name, sa_error **err)
{
    sa_error *failed = NULL;
    char target[PATH_MAX];
    struct archive_item item = {.name = name,
                                .mode = st->st_mode & 0777,
                                .mtime = st->st_mtim,
                                .has_mtime = true,
                                .kind = ARCHIVE_DIR};
    if (S_ISREG(st->st_mode)) {
        item.kind = ARCHIVE_FILE;
        return pack_file(p, at, &item, err);
    }
    if (S_ISLNK(st->st_mode)) {
        ssize_t n = readlinkat(at, "", target, sizeof target - 1);
        if (n < 0) {
            sa_fail_errno(&failed, errno, "read a link");
            skip(p, name, failed);
            return 0;
        }
        target[n] = 0;
        item.kind = ARCHIVE_SYMLINK;
        item.target = target;
    } else if (!S_ISDIR(st->st_mode)) {
        sa_fail(&failed, SA_NOT_A_REGULAR_FILE, "it is a device, a FIFO or a socket");
        skip(p, name, failed);
        return 0;
    }
    cleanup_free char *dir_name = item.kind == ARCHIVE_DIR ? sa_format("%s/", name) : NULL;
    if (dir_name)
        item.name = dir_name;
    if (archive_out_entry(p->out, &item, &failed) < 0)
        return refused(p, name, failed, err);
    p->result->entries++;
    return 0;
}

static int pack_entry(struct packing *p, const struct fs_walk_entry *e, const char *name, sa_error **err)
{
    sa_error *failed = NULL;
    struct stat st;
    cleanup_close int at = fs_path_open_at(p->root, e->dir, e->name, &failed);
    if (at < 0 && sa_error_is(failed, SA_FILE_NOT_FOUND)) { /* it has just gone */
        sa_error_free(failed);
        return 0;
    }
    if (at >= 0 && fstat(at, &st) == 0)
        return pack_one(p, at, &st, name, err);
    if (at >= 0)
        sa_fail_errno(&failed, errno, "stat");
    skip(p, name, failed);
    return 0;
}

static int pack_tree(struct packing *p, int start, const char *name, const struct fs_walk_options *opt,
                     sa_error **err)
{
    struct fs_walk *w = fs_walk_new_at(p->root, start, opt, err);
    if (!w)
        return -1;
    struct fs_walk_entry e;
    int r = 1;
    while (r > 0 && (r = fs_walk_next(w, &e, err)) > 0) {
        cleanup_free char *whole = name ? sa_format("%s/%s", name, e.path) : sa_strdup(e.path);
        r = pack_entry(p, &e, whole, err) < 0 ? -1 : 1;
    }
    uint64_t unreadable = fs_walk_counts(w).unreadable;
    fs_walk_free(w);
    p->result->skipped += unreadable;
    if (unreadable && r == 0) {
        cleanup_error sa_error *failed = NULL;
        sa_fail(&failed, SA_PERMISSION_DENIED, "%llu directories in it could not be read",
                (unsigned long long)unreadable);
        p->events->failed(p->events->user, name ? name : ".", failed);
    }
    return r;
}

int pack(struct archive_out *out, const struct fs_root *root, const char *path, const char *name,
         const struct fs_walk_options *walk, const struct pack_events *events, struct pack_result *result,
         sa_error **err)
{
    cleanup_free uint8_t *piece = sa_malloc(PIECE);
    struct packing p = {.out = out, .root = root, .events = events, .result = result, .piece = piece};
    /* Of a list of paths links are packed as links; the directory itself may be reached through one. */
    cleanup_close int at = fs_path_open(root, path, name == NULL, err);
    struct stat st;
    if (at < 0)
        return -1;
    if (fstat(at, &st) < 0)
        return sa_fail_errno(err, errno, "stat `%.200s`", path);
    const char *slash = strrchr(path, '/');
    if (!S_ISDIR(st.st_mode))
        return pack_one(&p, at, &st, name ? name : slash && slash[1] ? slash + 1 : path, err);
    if (name && pack_one(&p, at, &st, name, err) < 0)
        return -1;
    return pack_tree(&p, at, name, walk, err);
}
