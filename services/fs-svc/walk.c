/* Design notes
 *
 * `path` is the whole name of the entry at hand: first what lies between the top of the repository and the
 * start (the prefix; empty unless the start is inside of a repository), then what is below the start. Rules
 * remember where in it the paths begin that they judge, so every list is asked with the same text. */
#include "services/fs-svc/walk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/mem.h"
#include "services/fs-svc/names.h"

enum {
    NAMES_MAX = 16384,
    NAMES_LEAST = 256,
    IGNORE_FILE_MAX = 1 << 20,
};

/* The ignore files of one directory. */
struct rules {
    size_t base; /* where the paths begin that are relative to it */
    struct fs_globs git, own;
};

struct level {
    int fd;
    char **names;
    size_t n, at;
    bool more;
    size_t path_len; /* of the path to this directory, with its slash */
    struct rules rules;
};

struct fs_walk {
    const struct fs_root *root;
    struct fs_walk_options opt;
    struct sa_buf path;
    size_t prefix;
    struct rules *above; /* of the directories between the top of the repository and the start */
    size_t n_above;
    struct level levels[FS_WALK_DEPTH_MAX + 1];
    size_t depth; /* levels in use */
    size_t names; /* in memory */
    bool enter;   /* the entry at hand is a directory to be entered */
    struct fs_walk_counts counts;
};

/* ---- ignore files ---- */

static void load(const struct fs_walk *w, int dir, const char *name, struct fs_globs *ret)
{
    cleanup_close int at = fs_path_open_at(w->root, dir, name, NULL);
    struct stat st;
    if (at < 0 || fstat(at, &st) < 0 || !S_ISREG(st.st_mode))
        return;
    cleanup_close int fd = fs_reopen(at, O_RDONLY | O_NOCTTY);
    cleanup_buf struct sa_buf text = {0};
    while (fd >= 0 && text.len < IGNORE_FILE_MAX) {
        enum { PIECE = 16 << 10 };
        ssize_t n = read(fd, sa_buf_reserve(&text, PIECE), PIECE);
        if (n <= 0 && !(n < 0 && errno == EINTR))
            break;
        text.len += n > 0 ? (size_t)n : 0;
    }
    if (text.len)
        fs_globs_add_lines(ret, (const char *)text.data, text.len);
}

static struct rules rules_of(const struct fs_walk *w, int dir, size_t base)
{
    struct rules r = {.base = base};
    if (!w->opt.no_ignore) {
        load(w, dir, ".gitignore", &r.git);
        load(w, dir, ".ignore", &r.own);
    }
    return r;
}

static void rules_fini(struct rules *r)
{
    fs_globs_fini(&r->git);
    fs_globs_fini(&r->own);
}

/* A directory of the canonical path of the start, given by its bytes below the root. */
static int open_above(const struct fs_walk *w, const char *real, size_t n, const char *name)
{
    cleanup_free char *path = sa_format("%s%.*s/%s", w->root->whole ? "" : ".", (int)n, real, name);
    return fs_path_open(w->root, path, true, NULL);
}

/* When the start is below the top of a repository, the rules from there down to it count. */
static void load_above(struct fs_walk *w, int start)
{
    cleanup_free char *real_path = fs_real_path(start);
    size_t root_len = w->root->whole || !strcmp(w->root->dir, "/") ? 0 : strlen(w->root->dir);
    if (!real_path || strncmp(real_path, w->root->dir, root_len) || (root_len && real_path[root_len] != '/'))
        return;
    const char *real = real_path + root_len;
    size_t n = strlen(real), top = n;
    for (bool found = false; !found;) {
        cleanup_close int git = open_above(w, real, top, ".git");
        found = git >= 0;
        if (!found && top == 0)
            return;
        while (!found && real[--top] != '/')
            continue;
    }
    if (top == n)
        return;
    w->prefix = n - top;
    sa_buf_add(&w->path, real + top + 1, n - top - 1);
    sa_buf_add(&w->path, "/", 1);
    for (size_t at = top; at < n;) {
        cleanup_close int dir = open_above(w, real, at, ".");
        w->above = sa_realloc(w->above, (w->n_above + 1) * sizeof *w->above);
        w->above[w->n_above++] = rules_of(w, dir, at - top);
        at += 1 + strcspn(real + at + 1, "/");
    }
}

static const struct rules *rules_at(const struct fs_walk *w, size_t i)
{
    return i < w->n_above ? &w->above[i] : &w->levels[i - w->n_above].rules;
}

/* The nearest directory decides; .ignore before .gitignore, as in ripgrep. */
static bool ignored(const struct fs_walk *w, size_t name, bool is_dir)
{
    const char *path = (const char *)w->path.data;
    for (int own = 1; own >= 0; own--)
        for (size_t i = w->n_above + w->depth; i-- > 0;) {
            const struct rules *r = rules_at(w, i);
            const struct fs_glob *g =
                fs_globs_decide(own ? &r->own : &r->git, path + r->base, w->path.len - r->base,
                                name - r->base, is_dir, w->opt.ignore_case);
            if (g)
                return !g->negated;
        }
    return false;
}

/* ---- levels ---- */

static void drop_names(struct fs_walk *w, struct level *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->names[i]);
    free(l->names);
    w->names -= l->n;
    l->names = NULL;
    l->n = l->at = 0;
}

static int read_names(struct fs_walk *w, struct level *l, sa_error **err)
{
    size_t room = w->names + NAMES_LEAST < NAMES_MAX ? NAMES_MAX - w->names : NAMES_LEAST, n;
    cleanup_free char *after = l->n ? sa_strdup(l->names[l->n - 1]) : NULL;
    char **names;
    bool more;
    const char *path = w->path.len ? sa_buf_string(&w->path) : ".";
    if (fs_names_read(l->fd, after, room, &names, &n, &more, path, err) < 0)
        return -1;
    drop_names(w, l);
    l->names = names;
    l->n = n;
    l->more = more;
    w->names += n;
    return 0;
}

static void pop(struct fs_walk *w)
{
    struct level *l = &w->levels[--w->depth];
    drop_names(w, l);
    sa_close(l->fd);
    rules_fini(&l->rules);
    *l = (struct level){.fd = -1};
}

/* Takes fd. */
static int push(struct fs_walk *w, int fd, sa_error **err)
{
    struct level *l = &w->levels[w->depth];
    *l = (struct level){.fd = fd, .path_len = w->path.len};
    if (read_names(w, l, err) < 0) {
        sa_close(fd);
        return -1;
    }
    l->rules = rules_of(w, fd, w->path.len);
    w->depth++;
    return 0;
}

static void enter(struct fs_walk *w, const char *name)
{
    size_t deepest = w->opt.max_depth ? w->opt.max_depth : FS_WALK_DEPTH_MAX;
    if (w->depth >= deepest) {
        w->counts.unreadable += w->opt.max_depth == 0; /* a limit that was asked for is no failure */
        return;
    }
    int fd = fs_path_open_at(w->root, w->levels[w->depth - 1].fd, name, NULL);
    sa_buf_add(&w->path, "/", 1);
    if (fd < 0 || push(w, fd, NULL) < 0)
        w->counts.unreadable++;
}

/* ---- the walk ---- */

struct fs_walk *fs_walk_new_at(const struct fs_root *root, int dir, const struct fs_walk_options *opt,
                               sa_error **err)
{
    int fd = fcntl(dir, F_DUPFD_CLOEXEC, 3);
    if (fd < 0) {
        sa_fail_errno(err, errno, "open a directory again");
        return NULL;
    }
    struct fs_walk *w = sa_calloc(1, sizeof *w);
    w->root = root;
    w->opt = *opt;
    if (w->opt.max_depth > FS_WALK_DEPTH_MAX)
        w->opt.max_depth = 0;
    if (!opt->no_ignore)
        load_above(w, fd);
    if (push(w, fd, err) == 0)
        return w;
    fs_walk_free(w);
    return NULL;
}

struct fs_walk *fs_walk_new(const struct fs_root *root, const char *path, const struct fs_walk_options *opt,
                            sa_error **err)
{
    cleanup_close int fd = fs_path_open(root, path, true, err);
    return fd < 0 ? NULL : fs_walk_new_at(root, fd, opt, err);
}

void fs_walk_free(struct fs_walk *w)
{
    if (!w)
        return;
    while (w->depth)
        pop(w);
    for (size_t i = 0; i < w->n_above; i++)
        rules_fini(&w->above[i]);
    free(w->above);
    sa_buf_fini(&w->path);
    free(w);
}

static bool passed_by(const struct fs_walk *w, const char *name)
{
    static const char *const vcs[] = {".git", ".hg", ".svn", ".jj"};
    if (*name != '.')
        return false;
    size_t n = strlen(name);
    if (!w->opt.hidden || (n > 8 && !strncmp(name, ".sa-", 4) && !strcmp(name + n - 4, ".tmp")))
        return true;
    for (size_t i = 0; i < sizeof vcs / sizeof *vcs && !w->opt.vcs; i++)
        if (!strcmp(name, vcs[i]))
            return true;
    return false;
}

/* Looks at one entry: is it to be told? */
static bool look(struct fs_walk *w, const struct level *l, const char *name, struct fs_walk_entry *ret)
{
    if (passed_by(w, name))
        return false;
    w->counts.entries++;
    w->path.len = l->path_len;
    sa_buf_add(&w->path, name, strlen(name));
    if (w->path.len - w->prefix > FS_PATH_MAX) {
        w->counts.unreadable++;
        return false;
    }
    if (fstatat(l->fd, name, &ret->st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0) {
        w->counts.unreadable += errno != ENOENT; /* it has just gone */
        return false;
    }
    bool is_dir = S_ISDIR(ret->st.st_mode);
    if (ignored(w, l->path_len, is_dir))
        return false;
    const char *path = (const char *)w->path.data + w->prefix;
    const struct fs_globs *globs = w->opt.globs;
    const struct fs_glob *g = globs ? fs_globs_decide(globs, path, w->path.len - w->prefix,
                                                      l->path_len - w->prefix, is_dir, w->opt.ignore_case)
                                    : NULL;
    if (g && g->negated)
        return false;
    w->enter = is_dir;
    return g || !globs || !globs->includes;
}

int fs_walk_next(struct fs_walk *w, struct fs_walk_entry *ret, sa_error **err)
{
    while (w->depth) {
        struct level *l = &w->levels[w->depth - 1];
        if (w->opt.stop && w->opt.stop(w->opt.user))
            return sa_fail(err, SA_CANCELLED, "the caller has left");
        if (w->enter) {
            w->enter = false;
            enter(w, l->names[l->at - 1]);
        } else if (l->at < l->n) {
            const char *name = l->names[l->at++];
            if (look(w, l, name, ret)) {
                ret->path = sa_buf_string(&w->path) + w->prefix;
                ret->name = name;
                ret->dir = l->fd;
                return 1;
            }
        } else if (!l->more) {
            pop(w);
        } else {
            w->path.len = l->path_len;
            if (read_names(w, l, NULL) < 0) {
                w->counts.unreadable++;
                pop(w);
            }
        }
    }
    return 0;
}

void fs_walk_skip(struct fs_walk *w)
{
    w->enter = false;
}

struct fs_walk_counts fs_walk_counts(const struct fs_walk *w)
{
    return w->counts;
}
