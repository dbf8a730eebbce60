/* Design notes
 *
 * A walk with a stack of open directories, at most FS_DEPTH_MAX. Of each a batch of the next entries is kept;
 * when it is used up the directory is read again for those after it. So a page can begin anywhere: the cursor
 * names the directories to stand in and the last entry told in each. */
#include "services/fs-svc/dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BATCH_MAX = 1024 }; /* of a directory in a tree */

struct entry {
    struct fs_position at;
    unsigned char type; /* DT_ */
};

/* The first entries seen so far: a heap with the last of them on top, at most `max`. */
struct first {
    const struct fs_list *list;
    struct entry *entries;
    size_t n, max;
    bool dropped;
};

struct level {
    int fd;
    char *path; /* below the listed directory; "" for itself */
    struct first batch;
    size_t i;
    bool loaded, told; /* `last` is set */
    struct fs_position last;
};

struct walk {
    const struct fs_root *root;
    const struct fs_list *list;
    struct level levels[FS_DEPTH_MAX];
    size_t n;
    struct fs_page page;
    size_t prefix; /* bytes that every path is longer than in the page */
};

/* ---- the heap ---- */

static int compare(const struct fs_list *l, const struct fs_position *a, const struct fs_position *b)
{
    int c = a->key < b->key ? -1 : a->key > b->key ? 1 : strcmp(a->name, b->name);
    return l->descending ? -c : c;
}

static void swap(struct entry *a, struct entry *b)
{
    struct entry t = *a;
    *a = *b;
    *b = t;
}

static void sift_up(struct first *f, size_t i)
{
    struct entry *h = f->entries;
    for (; i && compare(f->list, &h[i].at, &h[(i - 1) / 2].at) > 0; i = (i - 1) / 2)
        swap(&h[i], &h[(i - 1) / 2]);
}

static void sift_down(struct first *f, size_t n)
{
    struct entry *h = f->entries;
    for (size_t i = 0, child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && compare(f->list, &h[child + 1].at, &h[child].at) > 0)
            child++;
        if (compare(f->list, &h[i].at, &h[child].at) >= 0)
            return;
        swap(&h[i], &h[child]);
    }
}

static void offer(struct first *f, struct fs_position at, unsigned char type)
{
    bool full = f->n == f->max;
    f->dropped |= full;
    if (full && compare(f->list, &at, &f->entries[0].at) >= 0)
        return;
    struct entry e = {{at.key, sa_strdup(at.name)}, type};
    if (full) {
        free(f->entries[0].at.name);
        f->entries[0] = e;
        sift_down(f, f->n);
    } else {
        f->entries[f->n] = e;
        sift_up(f, f->n++);
    }
}

/* Heap sort: the last goes to the end, again and again. */
static void sort(struct first *f)
{
    for (size_t n = f->n; n > 1;) {
        swap(&f->entries[0], &f->entries[--n]);
        sift_down(f, n);
    }
}

static void first_fini(struct first *f)
{
    for (size_t i = 0; i < f->n; i++)
        free(f->entries[i].at.name);
    free(f->entries);
    *f = (struct first){0};
}

/* ---- a directory ---- */

static bool is_hidden(const struct fs_list *l, const char *name)
{
    bool dots = name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
    return dots || (l->hide_hidden && name[0] == '.');
}

/* What it is sorted by. false: it vanished. */
static bool position_of(const struct fs_list *l, int fd, char *name, struct fs_position *ret)
{
    struct stat st;
    *ret = (struct fs_position){0, name};
    if (l->order == FS_ORDER_NAME)
        return true;
    if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
        return false;
    /* Times before 1970 sort before those after. */
    ret->key = l->order == FS_ORDER_SIZE
                   ? (uint64_t)st.st_size
                   : ((uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec) ^ 1ull << 63;
    return true;
}

static int collect(const struct fs_list *l, DIR *d, const struct fs_position *after, struct first *ret,
                   sa_error **err)
{
    for (;;) {
        struct fs_position at;
        errno = 0;
        struct dirent *e = readdir(d);
        if (!e)
            return errno ? sa_fail_errno(err, errno, "list a directory") : 0;
        if (is_hidden(l, e->d_name) || !position_of(l, dirfd(d), e->d_name, &at))
            continue;
        if (!after || compare(l, &at, after) > 0)
            offer(ret, at, e->d_type);
    }
}

/* Its next entries. */
static int load(struct walk *w, struct level *l, sa_error **err)
{
    size_t left = w->list->max - w->page.n, max = w->list->depth > 1 && left > BATCH_MAX ? BATCH_MAX : left;
    int fd = openat(l->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        int failed = errno;
        sa_close(fd);
        return sa_fail_errno(err, failed, "list `%.200s`", l->path);
    }
    first_fini(&l->batch);
    l->batch =
        (struct first){.list = w->list, .entries = sa_calloc(max, sizeof *l->batch.entries), .max = max};
    l->i = 0;
    l->loaded = true;
    int r = collect(w->list, d, l->told ? &l->last : NULL, &l->batch, err);
    sort(&l->batch);
    closedir(d);
    return r;
}

/* ---- the walk ---- */

static char *join(const char *dir, const char *name)
{
    return *dir ? sa_format("%s/%s", dir, name) : sa_strdup(name);
}

static void set_last(struct level *l, const struct fs_position *at)
{
    char *name = sa_strdup(at->name);
    free(l->last.name);
    l->last = (struct fs_position){at->key, name};
    l->told = true;
}

static void pop(struct walk *w)
{
    struct level *l = &w->levels[--w->n];
    sa_close(l->fd);
    free(l->path);
    free(l->last.name);
    first_fini(&l->batch);
}

static void add_unreadable(struct walk *w, const char *path)
{
    struct fs_page *p = &w->page;
    p->unreadable = sa_realloc(p->unreadable, (p->n_unreadable + 1) * sizeof *p->unreadable);
    p->unreadable[p->n_unreadable++] = sa_strdup(path);
}

/* Goes into a directory of the innermost level; what vanished or is a directory no more is left out. */
static void push(struct walk *w, const char *name)
{
    struct level *above = &w->levels[w->n - 1];
    cleanup_free char *path = join(above->path, name);
    cleanup_close int fd = openat(above->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
        return;
    if (fd < 0 || fs_path_check_private(w->root, fd, path, NULL) < 0) {
        add_unreadable(w, path);
        return;
    }
    w->levels[w->n++] = (struct level){.fd = steal_fd(&fd), .path = steal_pointer(&path)};
}

/* Stands where the page before ended. */
static void resume(struct walk *w, const struct fs_cursor *c)
{
    for (size_t i = 0; i < c->n && w->n == i + 1; i++) {
        set_last(&w->levels[i], &c->at[i]);
        if (w->n < w->list->depth)
            push(w, c->at[i].name);
    }
}

/* Tells an entry. false: it vanished. */
static bool tell(struct walk *w, const struct level *l, const struct entry *e, sa_error **err)
{
    struct fs_page *p = &w->page;
    struct fs_info info = {.st.st_mode = DTTOIF(e->type)};
    cleanup_error sa_error *why = NULL;
    if (w->list->names_only && e->type != DT_UNKNOWN) {
        info.name = sa_strdup(e->at.name);
    } else if (fs_info_at(l->fd, e->at.name, &info, &why) < 0) {
        if (!sa_error_is(why, SA_FILE_NOT_FOUND))
            sa_pass(err, steal_pointer(&why));
        return false;
    }
    p->paths[p->n] = join(l->path, e->at.name);
    p->bytes += w->prefix + strlen(p->paths[p->n]) + strlen(info.name) +
                (info.link_target ? strlen(info.link_target) : 0);
    p->entries[p->n++] = info;
    return true;
}

static int step(struct walk *w, sa_error **err)
{
    struct level *l = &w->levels[w->n - 1];
    if (l->i == l->batch.n) {
        if (l->loaded && !l->batch.dropped) {
            pop(w);
            return 0;
        }
        return load(w, l, err);
    }
    struct entry *e = &l->batch.entries[l->i++];
    sa_error *failed = NULL;
    set_last(l, &e->at);
    bool told = tell(w, l, e, &failed);
    if (failed)
        return sa_pass(err, failed);
    if (told && w->n < w->list->depth && S_ISDIR(w->page.entries[w->page.n - 1].st.st_mode))
        push(w, e->at.name);
    return 0;
}

/* A directory that was entered and not looked at yet counts as more. */
static void finish(struct walk *w)
{
    struct fs_page *p = &w->page;
    for (size_t i = 0; i < w->n; i++) {
        struct level *l = &w->levels[i];
        p->more |= !l->loaded || l->i < l->batch.n || l->batch.dropped;
        if (l->told && p->last.n == i)
            p->last.at[p->last.n++] = (struct fs_position){l->last.key, steal_pointer(&l->last.name)};
    }
}

int fs_dir_page(const struct fs_root *root, const char *path, const struct fs_list *list,
                const struct fs_cursor *after, struct fs_page *ret, sa_error **err)
{
    cleanup_close int fd = fs_path_open(root, path, true, err);
    if (fd < 0)
        return -1;
    struct walk *w = sa_calloc(1, sizeof *w);
    w->root = root;
    w->list = list;
    w->prefix = strlen(path);
    w->page.entries = sa_calloc(list->max, sizeof *w->page.entries);
    w->page.paths = sa_calloc(list->max, sizeof *w->page.paths);
    w->levels[w->n++] = (struct level){.fd = steal_fd(&fd), .path = sa_strdup("")};
    if (after)
        resume(w, after);
    int r = 0;
    while (r == 0 && w->n && w->page.n < list->max && w->page.bytes < FS_PAGE_BYTES)
        r = step(w, err);
    if (r == 0)
        finish(w);
    while (w->n)
        pop(w);
    if (r == 0)
        *ret = w->page;
    else
        fs_page_fini(&w->page);
    free(w);
    return r;
}

void fs_page_fini(struct fs_page *p)
{
    for (size_t i = 0; i < p->n; i++) {
        fs_info_fini(&p->entries[i]);
        free(p->paths[i]);
    }
    for (size_t i = 0; i < p->n_unreadable; i++)
        free(p->unreadable[i]);
    free(p->entries);
    free(p->paths);
    free(p->unreadable);
    fs_cursor_fini(&p->last);
    *p = (struct fs_page){0};
}
