#include "services/fs-svc/mark_manifest.h"

#include <stdlib.h>
#include <string.h>

static const char magic[8] = "SAMARK1\n";

void mark_manifest_init(struct mark_manifest *m)
{
    *m = (struct mark_manifest){.texts = sa_arena_new()};
}

void mark_manifest_fini(struct mark_manifest *m)
{
    free(m->entries);
    sa_arena_free(m->texts);
    *m = (struct mark_manifest){0};
}

struct mark_entry *mark_manifest_add(struct mark_manifest *m, const struct mark_entry *e)
{
    if (m->n == m->cap)
        m->entries = sa_realloc(m->entries, (m->cap = m->cap ? 2 * m->cap : 256) * sizeof *m->entries);
    struct mark_entry *added = &m->entries[m->n++];
    *added = *e;
    added->path = sa_arena_strdup(m->texts, e->path);
    added->link = e->link ? sa_arena_strdup(m->texts, e->link) : NULL;
    return added;
}

int mark_path_order(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    /* The separator sorts before every byte of a name. */
    unsigned x = *a == '/' ? 1 : (unsigned char)*a ? (unsigned char)*a + 1u : 0;
    unsigned y = *b == '/' ? 1 : (unsigned char)*b ? (unsigned char)*b + 1u : 0;
    return (x > y) - (x < y);
}

/* ---- bytes: numbers are little-endian, texts have their length before them ---- */

static void put(struct sa_buf *b, uint64_t v)
{
    uint8_t p[8];
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> 8 * i);
    sa_buf_add(b, p, sizeof p);
}

static void put_text(struct sa_buf *b, const char *s)
{
    put(b, strlen(s));
    sa_buf_add(b, s, strlen(s));
}

void mark_manifest_pack(const struct mark_manifest *m, struct sa_buf *ret)
{
    sa_buf_add(ret, magic, sizeof magic);
    put(ret, m->n);
    for (size_t i = 0; i < m->n; i++) {
        const struct mark_entry *e = &m->entries[i];
        put_text(ret, e->path);
        put_text(ret, e->link ? e->link : "");
        put(ret, (uint64_t)e->mode << 8 | e->flags);
        put(ret, e->size);
        put(ret, e->inode);
        put(ret, e->device);
        put(ret, (uint64_t)e->modified_ns);
        put(ret, (uint64_t)e->changed_ns);
        if (e->flags & MARK_DIGEST)
            sa_buf_add(ret, e->digest, sizeof e->digest);
    }
}

struct reader {
    const uint8_t *at;
    size_t left;
    bool bad;
};

static const uint8_t *take(struct reader *r, size_t n)
{
    if (r->bad || n > r->left) {
        r->bad = true;
        return NULL;
    }
    r->at += n;
    r->left -= n;
    return r->at - n;
}

static uint64_t get(struct reader *r)
{
    const uint8_t *p = take(r, 8);
    uint64_t v = 0;
    for (int i = 7; p && i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

static const char *get_text(struct reader *r, struct sa_arena *a)
{
    uint64_t n = get(r);
    const uint8_t *p = take(r, n > r->left ? r->left + 1 : (size_t)n);
    if (!p || memchr(p, 0, (size_t)n)) {
        r->bad = true;
        return "";
    }
    char *s = sa_arena_alloc_raw(a, (size_t)n + 1);
    memcpy(s, p, (size_t)n);
    s[n] = 0;
    return s;
}

static void get_entry(struct reader *r, struct mark_manifest *m)
{
    struct mark_entry e = {.path = get_text(r, m->texts), .link = get_text(r, m->texts)};
    uint64_t mode = get(r);
    e.mode = (mode_t)(mode >> 8);
    e.flags = (uint8_t)mode;
    e.size = get(r);
    e.inode = get(r);
    e.device = get(r);
    e.modified_ns = (int64_t)get(r);
    e.changed_ns = (int64_t)get(r);
    const uint8_t *digest = e.flags & MARK_DIGEST ? take(r, sizeof e.digest) : NULL;
    if (digest)
        memcpy(e.digest, digest, sizeof e.digest);
    if (!S_ISLNK(e.mode))
        e.link = NULL;
    r->bad |= !*e.path || (m->n && mark_path_order(m->entries[m->n - 1].path, e.path) >= 0);
    if (m->n == m->cap)
        m->entries = sa_realloc(m->entries, (m->cap = m->cap ? 2 * m->cap : 256) * sizeof *m->entries);
    m->entries[m->n++] = e;
}

int mark_manifest_unpack(struct mark_manifest *ret, const uint8_t *p, size_t n, sa_error **err)
{
    struct reader r = {p, n, false};
    struct mark_manifest m;
    mark_manifest_init(&m);
    const uint8_t *start = take(&r, sizeof magic);
    r.bad |= !start || memcmp(start, magic, sizeof magic) != 0;
    uint64_t count = get(&r);
    r.bad |= count > MARK_ENTRIES_MAX;
    for (uint64_t i = 0; i < count && !r.bad; i++)
        get_entry(&r, &m);
    if (r.bad || r.left) {
        mark_manifest_fini(&m);
        return sa_fail(err, SA_STORE_CORRUPT, "a mark's list of files is damaged");
    }
    *ret = m;
    return 0;
}
