#include "services/fs-svc/mark_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "adapters/os/file.h"

enum { LIST_MAX = 256 << 20 };

static void hex(const uint8_t *digest, char ret[static SA_SHA256_TEXT + 1])
{
    for (int i = 0; i < SA_SHA256_SIZE; i++)
        snprintf(ret + 2 * i, 3, "%02x", digest[i]);
}

static char *blob_path(const char *dir, const uint8_t *digest)
{
    char text[SA_SHA256_TEXT + 1];
    hex(digest, text);
    return sa_format("%s/blobs/%.2s/%s", dir, text, text);
}

int mark_store_prepare(const char *dir, sa_error **err)
{
    cleanup_free char *lists = sa_format("%s/lists", dir), *temp = sa_format("%s/temp", dir);
    if (sa_remove_tree(temp, err) < 0 || sa_mkdirs(lists, 0700, err) < 0 || sa_mkdirs(temp, 0700, err) < 0)
        return -1;
    for (int i = 0; i < 256; i++) {
        cleanup_free char *blobs = sa_format("%s/blobs/%02x", dir, i);
        if (sa_mkdirs(blobs, 0700, err) < 0)
            return -1;
    }
    return 0;
}

static int write_file(const char *dir, const char *path, const void *p, size_t n, sa_error **err)
{
    char id[SA_ID_TEXT + 1];
    sa_id_format(sa_id_new(), id);
    cleanup_free char *temp = sa_format("%s/temp/%s", dir, id);
    cleanup_close int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return sa_fail_errno(err, errno, "keep content");
    for (size_t at = 0; at < n;) {
        ssize_t done = write(fd, (const uint8_t *)p + at, n - at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0) {
            sa_fail_errno(err, errno, "keep content");
            unlink(temp);
            return -1;
        }
        at += (size_t)done;
    }
    if (rename(temp, path) == 0)
        return 0;
    sa_fail_errno(err, errno, "keep content");
    unlink(temp);
    return -1;
}

int mark_store_put_blob(const char *dir, const uint8_t digest[static SA_SHA256_SIZE], const void *p, size_t n,
                        uint64_t *ret_added, sa_error **err)
{
    cleanup_free char *path = blob_path(dir, digest);
    struct stat st;
    *ret_added = 0;
    if (stat(path, &st) == 0 && st.st_size == (off_t)n)
        return 0;
    if (write_file(dir, path, p, n, err) < 0)
        return -1;
    *ret_added = n;
    return 0;
}

static bool has_digest(const struct sa_buf *b, const uint8_t *digest)
{
    struct sa_sha256 c;
    uint8_t got[SA_SHA256_SIZE];
    sa_sha256_init(&c);
    sa_sha256_add(&c, b->data, b->len);
    sa_sha256_end(&c, got);
    return !memcmp(got, digest, sizeof got);
}

int mark_store_get_blob(const char *dir, const uint8_t digest[static SA_SHA256_SIZE], struct sa_buf *ret,
                        sa_error **err)
{
    cleanup_free char *path = blob_path(dir, digest);
    cleanup_buf struct sa_buf b = {0};
    if (sa_read_file(path, MARK_CONTENT_MAX, &b, err) < 0)
        return -1;
    if (!has_digest(&b, digest))
        return sa_fail(err, SA_STORE_CORRUPT, "a kept content is damaged");
    sa_buf_add(ret, b.data, b.len);
    return 0;
}

int mark_store_put_list(const char *dir, const struct mark_manifest *m,
                        char ret_name[static SA_SHA256_TEXT + 1], sa_error **err)
{
    cleanup_buf struct sa_buf b = {0};
    struct sa_sha256 c;
    struct stat st;
    char name[SA_SHA256_TEXT + 1];
    mark_manifest_pack(m, &b);
    sa_sha256_init(&c);
    sa_sha256_add(&c, b.data, b.len);
    sa_sha256_end_text(&c, name);
    cleanup_free char *path = sa_format("%s/lists/%s", dir, name);
    if ((stat(path, &st) < 0 || st.st_size != (off_t)b.len) && write_file(dir, path, b.data, b.len, err) < 0)
        return -1;
    memcpy(ret_name, name, sizeof name);
    return 0;
}

int mark_store_get_list(const char *dir, const char *name, struct mark_manifest *ret, sa_error **err)
{
    cleanup_free char *path = sa_format("%s/lists/%s", dir, name);
    cleanup_buf struct sa_buf b = {0};
    struct sa_sha256 c;
    char got[SA_SHA256_TEXT + 1];
    if (sa_read_file(path, LIST_MAX, &b, err) < 0)
        return -1;
    sa_sha256_init(&c);
    sa_sha256_add(&c, b.data, b.len);
    sa_sha256_end_text(&c, got);
    if (strcmp(got, name) != 0)
        return sa_fail(err, SA_STORE_CORRUPT, "a mark's list of files is damaged");
    return mark_manifest_unpack(ret, b.data, b.len, err);
}

/* ---- sweeping ---- */

struct known {
    uint8_t digest[SA_SHA256_SIZE];
};

static int by_digest(const void *a, const void *b)
{
    return memcmp(a, b, SA_SHA256_SIZE);
}

struct blobs {
    struct known *digests;
    bool *wanted;
    size_t n, cap;
};

static bool parse_digest(const char *name, uint8_t ret[static SA_SHA256_SIZE])
{
    if (strlen(name) != SA_SHA256_TEXT || strspn(name, "0123456789abcdef") != SA_SHA256_TEXT)
        return false;
    for (int i = 0; i < SA_SHA256_SIZE; i++) {
        unsigned byte = 0;
        sscanf(name + 2 * i, "%2x", &byte);
        ret[i] = (uint8_t)byte;
    }
    return true;
}

static void each_name(const char *path, void (*fn)(void *user, DIR *d, const char *name), void *user)
{
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.')
            fn(user, d, e->d_name);
    if (d)
        closedir(d);
}

static void note_blob(void *user, DIR *d, const char *name)
{
    (void)d;
    struct blobs *b = user;
    if (b->n == b->cap)
        b->digests = sa_realloc(b->digests, (b->cap = b->cap ? 2 * b->cap : 1024) * sizeof *b->digests);
    if (parse_digest(name, b->digests[b->n].digest))
        b->n++;
}

static int note_wanted(const char *dir, const char *name, struct blobs *b, sa_error **err)
{
    struct mark_manifest m;
    if (mark_store_get_list(dir, name, &m, err) < 0)
        return -1;
    for (size_t i = 0; i < m.n; i++) {
        const struct known *k =
            m.entries[i].flags & MARK_KEPT && b->n
                ? bsearch(m.entries[i].digest, b->digests, b->n, sizeof *b->digests, by_digest)
                : NULL;
        if (k)
            b->wanted[k - b->digests] = true;
    }
    mark_manifest_fini(&m);
    return 0;
}

struct lists {
    char *const *names;
    size_t n;
};

static void drop_list(void *user, DIR *d, const char *name)
{
    const struct lists *l = user;
    for (size_t i = 0; i < l->n; i++)
        if (!strcmp(l->names[i], name))
            return;
    unlinkat(dirfd(d), name, 0);
}

static uint64_t drop_blobs(const char *dir, const struct blobs *b, bool all_wanted)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < b->n; i++) {
        cleanup_free char *path = blob_path(dir, b->digests[i].digest);
        struct stat st;
        if (!all_wanted && !b->wanted[i])
            unlink(path);
        else if (stat(path, &st) == 0)
            bytes += (uint64_t)st.st_size;
    }
    return bytes;
}

int mark_store_sweep(const char *dir, char *const *names, size_t n, uint64_t *ret_bytes, sa_error **err)
{
    struct blobs b = {0};
    struct lists lists = {names, n};
    int r = 0;
    for (int i = 0; i < 256; i++) {
        cleanup_free char *path = sa_format("%s/blobs/%02x", dir, i);
        each_name(path, note_blob, &b);
    }
    if (b.n)
        qsort(b.digests, b.n, sizeof *b.digests, by_digest);
    b.wanted = sa_calloc(b.n, sizeof *b.wanted);
    for (size_t i = 0; i < n && r == 0; i++)
        r = note_wanted(dir, names[i], &b, err);
    *ret_bytes = drop_blobs(dir, &b, r < 0);
    cleanup_free char *path = sa_format("%s/lists", dir);
    each_name(path, drop_list, &lists);
    free(b.digests);
    free(b.wanted);
    return r;
}
