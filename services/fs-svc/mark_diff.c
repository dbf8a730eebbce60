#include "services/fs-svc/mark_diff.h"

#include <git2.h>
#include <git2/sys/hashsig.h>
#include <stdlib.h>
#include <string.h>

#include "services/fs-svc/info.h"
#include "services/fs-svc/mark_store.h"

void mark_diff_start(void)
{
    git_libgit2_init();
}

void mark_diff_stop(void)
{
    git_libgit2_shutdown();
}

/* ---- which paths ---- */

static void add(struct mark_changes *c, ChangeKind kind, const struct mark_entry *old,
                const struct mark_entry *new)
{
    if (c->n == c->cap)
        c->changes = sa_realloc(c->changes, (c->cap = c->cap ? 2 * c->cap : 64) * sizeof *c->changes);
    c->changes[c->n++] = (struct mark_change){kind, old, new};
}

/* Where digests are missing, what the file system says of the file. */
static bool same_content(const struct mark_entry *a, const struct mark_entry *b)
{
    if ((a->mode & S_IFMT) != (b->mode & S_IFMT))
        return false;
    if (S_ISLNK(a->mode))
        return !strcmp(a->link, b->link);
    if (!S_ISREG(a->mode))
        return true;
    if (a->flags & b->flags & MARK_DIGEST)
        return !memcmp(a->digest, b->digest, sizeof a->digest);
    return !((a->flags ^ b->flags) & MARK_DIGEST) && a->size == b->size && a->inode == b->inode &&
           a->device == b->device && a->modified_ns == b->modified_ns;
}

static void compare(struct mark_changes *c, const struct mark_entry *a, const struct mark_entry *b)
{
    if (!same_content(a, b))
        add(c, CHANGE_KIND_MODIFIED, a, b);
    else if ((a->mode ^ b->mode) & 07777 && !S_ISLNK(a->mode))
        add(c, CHANGE_KIND_MODE, a, b);
}

static void merge(struct mark_changes *c, const struct mark_manifest *from, const struct mark_manifest *to)
{
    for (size_t i = 0, k = 0; i < from->n || k < to->n;) {
        const struct mark_entry *a = i < from->n ? &from->entries[i] : NULL,
                                *b = k < to->n ? &to->entries[k] : NULL;
        int order = !a ? 1 : !b ? -1 : mark_path_order(a->path, b->path);
        if (order < 0)
            add(c, CHANGE_KIND_DELETED, a, NULL);
        else if (order > 0)
            add(c, CHANGE_KIND_ADDED, NULL, b);
        else
            compare(c, a, b);
        i += order <= 0;
        k += order >= 0;
    }
}

/* ---- renames ---- */

/* A deleted or added file that may be half of one. */
struct half {
    struct mark_change *change;
    const struct mark_entry *entry;
    git_hashsig *signature;
};

static int by_content(const void *a, const void *b)
{
    const struct mark_entry *x = ((const struct half *)a)->entry, *y = ((const struct half *)b)->entry;
    int flags = (x->flags & MARK_DIGEST) - (y->flags & MARK_DIGEST);
    if (flags)
        return flags;
    if (x->flags & MARK_DIGEST)
        return memcmp(x->digest, y->digest, sizeof x->digest);
    if (x->inode != y->inode)
        return x->inode < y->inode ? -1 : 1;
    if (x->size != y->size)
        return x->size < y->size ? -1 : 1;
    return (x->modified_ns > y->modified_ns) - (x->modified_ns < y->modified_ns);
}

static struct half *collect(const struct mark_changes *c, ChangeKind kind, size_t *ret_n)
{
    struct half *halves = sa_calloc(c->n, sizeof *halves);
    size_t n = 0;
    for (size_t i = 0; i < c->n; i++) {
        const struct mark_entry *e = kind == CHANGE_KIND_ADDED ? c->changes[i].new : c->changes[i].old;
        if (c->changes[i].kind == kind && S_ISREG(e->mode) && e->size)
            halves[n++] = (struct half){.change = &c->changes[i], .entry = e};
    }
    if (n)
        qsort(halves, n, sizeof *halves, by_content);
    *ret_n = n;
    return halves;
}

/* The added file becomes the rename, the deleted one nothing. */
static void join(struct half *deleted, struct half *added)
{
    added->change->kind = CHANGE_KIND_RENAMED;
    added->change->old = deleted->entry;
    deleted->change->kind = CHANGE_KIND_UNSPECIFIED;
    deleted->change = added->change = NULL;
}

static void join_equal(struct half *d, size_t n_d, struct half *a, size_t n_a)
{
    for (size_t i = 0, k = 0; i < n_d && k < n_a;) {
        int order = by_content(&d[i], &a[k]);
        if (order == 0)
            join(&d[i], &a[k]);
        i += order <= 0;
        k += order >= 0;
    }
}

static size_t sign(const char *store, struct half *h, size_t n)
{
    size_t signed_ = 0;
    for (size_t i = 0; i < n; i++) {
        cleanup_buf struct sa_buf b = {0};
        if (!h[i].change || !(h[i].entry->flags & MARK_KEPT) ||
            mark_store_get_blob(store, h[i].entry->digest, &b, NULL) < 0)
            continue;
        if (git_hashsig_create(&h[i].signature, (const char *)b.data, b.len,
                               GIT_HASHSIG_NORMAL | GIT_HASHSIG_ALLOW_SMALL_FILES) == 0)
            signed_++;
    }
    return signed_;
}

static size_t candidates(const struct half *h, size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        k += h[i].change && h[i].entry->flags & MARK_KEPT;
    return k;
}

/* For each added file the deleted one that it is most like. */
static void join_alike(const char *store, struct half *d, size_t n_d, struct half *a, size_t n_a)
{
    if (candidates(d, n_d) > MARK_ALIKE_FILES_MAX || candidates(a, n_a) > MARK_ALIKE_FILES_MAX ||
        !candidates(d, n_d) || !sign(store, a, n_a) || !sign(store, d, n_d))
        return;
    for (size_t k = 0; k < n_a; k++) {
        int best = MARK_ALIKE_PERCENT - 1;
        struct half *found = NULL;
        for (size_t i = 0; i < n_d && a[k].signature; i++) {
            int alike =
                d[i].change && d[i].signature ? git_hashsig_compare(d[i].signature, a[k].signature) : 0;
            if (alike > best) {
                best = alike;
                found = &d[i];
            }
        }
        if (found)
            join(found, &a[k]);
    }
}

static void halves_free(struct half *h, size_t n)
{
    for (size_t i = 0; i < n; i++)
        git_hashsig_free(h[i].signature);
    free(h);
}

static void find_renames(const char *store, struct mark_changes *c)
{
    size_t n_d, n_a, kept = 0;
    struct half *d = collect(c, CHANGE_KIND_DELETED, &n_d), *a = collect(c, CHANGE_KIND_ADDED, &n_a);
    join_equal(d, n_d, a, n_a);
    join_alike(store, d, n_d, a, n_a);
    halves_free(d, n_d);
    halves_free(a, n_a);
    for (size_t i = 0; i < c->n; i++)
        if (c->changes[i].kind != CHANGE_KIND_UNSPECIFIED)
            c->changes[kept++] = c->changes[i];
    c->n = kept;
}

int mark_diff_compare(const char *store, const struct mark_manifest *from, const struct mark_manifest *to,
                      bool (*stop)(void *user), void *user, struct mark_changes *ret, sa_error **err)
{
    struct mark_changes c = {0};
    merge(&c, from, to);
    if (stop(user)) {
        mark_changes_fini(&c);
        return sa_fail(err, SA_CANCELLED, "the caller has left");
    }
    find_renames(store, &c);
    *ret = c;
    return 0;
}

void mark_changes_fini(struct mark_changes *c)
{
    free(c->changes);
    *c = (struct mark_changes){0};
}

/* ---- telling ---- */

static ProtobufCBinaryData bytes_of(struct sa_arena *a, const void *p, size_t n)
{
    return (ProtobufCBinaryData){n, sa_arena_memdup(a, p, n)};
}

/* A side of a difference: 1: text, or nothing; 0: binary; -1: text that is not to be had. */
static int load(const char *store, const struct mark_entry *e, struct sa_buf *b)
{
    if (!e || (S_ISREG(e->mode) && !e->size))
        return 1;
    if (S_ISLNK(e->mode)) {
        sa_buf_add(b, e->link, strlen(e->link));
        return 1;
    }
    if (!S_ISREG(e->mode) || !(e->flags & MARK_TEXT))
        return 0;
    return e->flags & MARK_KEPT && mark_store_get_blob(store, e->digest, b, NULL) == 0 ? 1 : -1;
}

static void make_patch(Change *m, const struct mark_change *c, const struct sa_buf *old,
                       const struct sa_buf *new, const struct mark_diff_how *how, struct sa_arena *a)
{
    git_diff_options opt;
    git_patch *patch = NULL;
    git_buf text = {0};
    size_t added = 0, deleted = 0;
    git_diff_options_init(&opt, GIT_DIFF_OPTIONS_VERSION);
    opt.flags = GIT_DIFF_INDENT_HEURISTIC | GIT_DIFF_FORCE_TEXT;
    opt.context_lines = how->context;
    /* NULL would be a file that is not there. */
    const void *from = c->old ? (old->len ? (const void *)old->data : "") : NULL,
               *to = c->new ? (new->len ? (const void *)new->data : "") : NULL;
    m->diff_omitted = true;
    if (git_patch_from_buffers(&patch, from, old->len, c->old ? c->old->path : NULL, to, new->len,
                               c->new ? c->new->path : NULL, &opt) == 0 &&
        git_patch_line_stats(NULL, &added, &deleted, patch) == 0) {
        m->lines_added = (uint32_t)added;
        m->lines_deleted = (uint32_t)deleted;
        if (git_patch_to_buf(&text, patch) == 0 && text.size <= MARK_DIFF_MAX && text.size <= how->room) {
            m->diff = bytes_of(a, text.ptr, text.size);
            m->diff_omitted = false;
        }
    }
    git_buf_dispose(&text);
    git_patch_free(patch);
}

static void add_diff(Change *m, const char *store, const struct mark_change *c,
                     const struct mark_diff_how *how, struct sa_arena *a)
{
    cleanup_buf struct sa_buf old = {0}, new = {0};
    const struct mark_entry *any = c->new ? c->new : c->old;
    bool kinds_differ = c->old && c->new && (c->old->mode & S_IFMT) != (c->new->mode &S_IFMT);
    if ((!S_ISREG(any->mode) && !S_ISLNK(any->mode)) || kinds_differ || c->kind == CHANGE_KIND_MODE)
        return;
    int from = load(store, c->old, &old), to = load(store, c->new, &new);
    m->binary = from == 0 || to == 0;
    m->diff_omitted = !m->binary && (from < 0 || to < 0);
    bool same = old.len == new.len && (!old.len || !memcmp(old.data, new.data, old.len));
    if (from == 1 && to == 1 && !(same && c->old && c->new))
        make_patch(m, c, &old, &new, how, a);
}

static FileKind kind_of(const struct mark_entry *e)
{
    return e ? fs_info_kind(e->mode) : FILE_KIND_UNSPECIFIED;
}

Change *mark_change_to_proto(const char *store, const struct mark_change *c, const struct mark_diff_how *how,
                             struct sa_arena *a)
{
    Change *m = sa_arena_alloc(a, sizeof *m);
    const struct mark_entry *old = c->old, *new = c->new, *any = new ? new : old;
    *m = (Change)CHANGE__INIT;
    m->kind = c->kind;
    m->path = bytes_of(a, any->path, strlen(any->path));
    if (c->kind == CHANGE_KIND_RENAMED)
        m->old_path = bytes_of(a, old->path, strlen(old->path));
    m->old_kind = kind_of(old);
    m->new_kind = kind_of(new);
    m->old_mode = old ? old->mode & 07777 : 0;
    m->new_mode = new ? new->mode & 07777 : 0;
    m->old_size = old ? old->size : 0;
    m->new_size = new ? new->size : 0;
    m->unsure = old && new &&S_ISREG(old->mode) && S_ISREG(new->mode) &&
                !(old->flags & new->flags &MARK_DIGEST) && c->kind != CHANGE_KIND_MODE &&
                old->size == new->size;
    if (!how->names_only)
        add_diff(m, store, c, how, a);
    return m;
}
