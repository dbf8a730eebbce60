#include "services/session-svc/blobs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/fault.h"
#include "adapters/os/file.h"
#include "adapters/os/log.h"
#include "services/session-svc/sessions.h"

enum { SWEEP_MS = 60000, SWEEP_ROWS = 100 };

/* A blob that a set not yet committed is about to use: no sweep takes it. */
struct hold {
    struct hold *next;
    struct blobs *blobs;
    struct blob_id id;
};

struct blobs {
    struct sessions *all;
    char *directory;
    struct sa_timer *sweep;
    struct hold *holds;
    struct store_key at; /* the sweep goes on behind it; len 0: from the beginning */
};

/* ---- names ---- */

void blob_id_format(struct blob_id id, char ret_text[static SA_SHA256_TEXT + 1])
{
    for (size_t i = 0; i < sizeof id.bytes; i++)
        snprintf(ret_text + 2 * i, 3, "%02x", id.bytes[i]);
}

int blob_id_parse(const char *text, struct blob_id *ret, sa_error **err)
{
    struct blob_id id;
    char back[SA_SHA256_TEXT + 1] = "";
    if (strlen(text) == SA_SHA256_TEXT && strspn(text, "0123456789abcdef") == SA_SHA256_TEXT)
        for (size_t i = 0; i < sizeof id.bytes; i++) {
            memcpy(back, text + 2 * i, 2);
            id.bytes[i] = (uint8_t)strtoul(back, NULL, 16);
        }
    else
        return sa_fail(err, SA_INVALID_REQUEST, "a blob is named by 64 hexadecimal digits in lower case");
    *ret = id;
    return 0;
}

static struct store_key key_of(struct blob_id id)
{
    return store_key_of(id.bytes, sizeof id.bytes);
}

/* digest, session, seq */
static struct store_key use_key(struct blob_id id, struct sa_id session, uint64_t seq)
{
    struct store_key k = key_of(id);
    store_key_add(&k, session.bytes, sizeof session.bytes);
    store_key_add_u64(&k, seq);
    return k;
}

/* session, seq, digest */
static struct store_key event_key(struct sa_id session, uint64_t seq, struct blob_id id)
{
    struct store_key k = db_numbered_key(session, seq);
    store_key_add(&k, id.bytes, sizeof id.bytes);
    return k;
}

const char *blobs_directory(const struct blobs *b)
{
    return b->directory;
}

char *blobs_path(const struct blobs *b, struct blob_id id)
{
    char text[SA_SHA256_TEXT + 1];
    blob_id_format(id, text);
    return sa_format("%s/%s", b->directory, text);
}

/* ---- writing a file ---- */

int blob_file_open(struct blob_file *f, const char *directory, sa_error **err)
{
    char name[SA_ID_TEXT + 1];
    sa_id_format(sa_id_new(), name);
    *f = (struct blob_file){.path = sa_format("%s/tmp-%s", directory, name)};
    sa_sha256_init(&f->sum);
    f->fd = open(f->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (f->fd >= 0)
        return 0;
    sa_fail_errno(err, errno, "create a blob");
    free(f->path);
    *f = (struct blob_file){0};
    return -1;
}

int blob_file_add(struct blob_file *f, const void *p, size_t n, sa_error **err)
{
    if (n > BLOB_MAX - f->size)
        return sa_fail(err, SA_MESSAGE_TOO_LARGE, "a blob has at most %d bytes", BLOB_MAX);
    sa_sha256_add(&f->sum, p, n);
    f->size += n;
    for (const char *at = p; n;) {
        ssize_t done = write(f->fd, at, n);
        if (done < 0 && errno != EINTR)
            return sa_fail_errno(err, errno, "write a blob");
        if (done > 0) {
            at += done;
            n -= (size_t)done;
        }
    }
    return 0;
}

int blob_file_complete(struct blob_file *f, sa_error **err)
{
    if (fsync(f->fd) < 0)
        return sa_fail_errno(err, errno, "write a blob");
    sa_close(f->fd);
    f->fd = -1;
    sa_sha256_end(&f->sum, f->id.bytes);
    return 0;
}

void blob_file_drop(struct blob_file *f)
{
    if (!f->path)
        return;
    sa_close(f->fd);
    unlink(f->path);
    free(f->path);
    *f = (struct blob_file){0};
}

/* ---- rows ---- */

static bool is_held(const struct blobs *b, struct blob_id id)
{
    const struct hold *h = b->holds;
    while (h && memcmp(&h->id, &id, sizeof id))
        h = h->next;
    return h != NULL;
}

int blobs_keep(struct blobs *b, struct blob_file *f, sa_error **err)
{
    cleanup_free char *path = blobs_path(b, f->id);
    if (rename(f->path, path) < 0)
        return sa_fail_errno(err, errno, "keep a blob");
    free(f->path);
    f->path = NULL;
    SA_FAULT("blob.kept");
    return 0;
}

static void hold(struct blobs *b, struct blob_id id)
{
    struct hold *h = sa_calloc(1, sizeof *h);
    *h = (struct hold){b->holds, b, id};
    b->holds = h;
}

void blobs_committed(struct blobs *b, struct blob_id id)
{
    for (struct hold **at = &b->holds, *h; (h = *at); at = &h->next)
        if (!memcmp(&h->id, &id, sizeof id)) {
            *at = h->next;
            free(h);
            return;
        }
}

void blobs_put(struct blobs *b, struct store_set *set, struct sa_id session, struct blob_id id, uint64_t size,
               uint64_t seq)
{
    struct store_key key = key_of(id), use = use_key(id, session, seq), event = event_key(session, seq, id);
    StoredBlob row = STORED_BLOB__INIT;
    StoredBlobUse why = STORED_BLOB_USE__INIT;
    row.size = size;
    why.time_us = sa_wall_us();
    store_put(set, DB_LOG_BLOBS, &key, &row.base);
    store_put(set, DB_LOG_BLOB_USES, &use, &why.base);
    if (seq)
        store_put_bytes(set, DB_LOG_BLOB_EVENTS, &event, "", 0);
    hold(b, id);
}

static void use_committed(void *user, const sa_error *err)
{
    struct hold *h = user;
    (void)err;
    blobs_committed(h->blobs, h->id);
    free(h);
}

void blobs_use(struct session *s, struct blob_id id, uint64_t size, uint64_t seq)
{
    struct hold *h = sa_calloc(1, sizeof *h);
    *h = (struct hold){NULL, s->all->blobs, id};
    blobs_put(s->all->blobs, session_set(s), s->id, id, size, seq);
    session_after(s, use_committed, h);
}

struct release {
    struct session *s;
    uint64_t first_seq;
};

static bool release_row(void *user, const struct store_row *row)
{
    struct release *r = user;
    struct blob_id id;
    if (row->key_len != 16 + 8 + sizeof id.bytes)
        return true;
    uint64_t seq = store_u64(row->key + 16);
    if (seq >= r->first_seq)
        return false;
    memcpy(id.bytes, row->key + 24, sizeof id.bytes);
    struct store_key event = store_key_of(row->key, row->key_len), use = use_key(id, r->s->id, seq);
    store_delete(session_set(r->s), DB_LOG_BLOB_EVENTS, &event);
    store_delete(session_set(r->s), DB_LOG_BLOB_USES, &use);
    return true;
}

int blobs_release(struct session *s, uint64_t first_seq, sa_error **err)
{
    struct release r = {s, first_seq};
    struct store_key prefix = db_key(s->id);
    struct store_range range = {.table = DB_LOG_BLOB_EVENTS, .prefix = &prefix};
    return store_scan(s->all->store, &range, release_row, &r, err) < 0 ? -1 : 0;
}

static bool any_row(void *user, const struct store_row *row)
{
    (void)row;
    *(bool *)user = true;
    return false;
}

int blobs_find(struct blobs *b, struct sa_id session, struct blob_id id, uint64_t *ret_size, sa_error **err)
{
    struct store_key key = key_of(id), prefix = key;
    cleanup_message StoredBlob *row = NULL;
    bool used = false;
    store_key_add(&prefix, session.bytes, sizeof session.bytes);
    struct store_range range = {.table = DB_LOG_BLOB_USES, .prefix = &prefix};
    if (store_scan(b->all->store, &range, any_row, &used, err) < 0)
        return -1;
    int found = used ? store_get(b->all->store, DB_LOG_BLOBS, &key, &row, err) : 0;
    char text[SA_SHA256_TEXT + 1];
    blob_id_format(id, text);
    if (found == 0)
        return sa_fail(err, SA_BLOB_NOT_FOUND, "the session has no blob %s", text);
    if (found < 0)
        return -1;
    *ret_size = row->size;
    return 0;
}

/* ---- blobs without uses ---- */

struct look {
    int64_t oldest; /* a use for a prompt to come that is older than this has come to its end */
    struct store_set *ends;
    bool needed;
};

static bool look_use(void *user, const struct store_row *row)
{
    struct look *l = user;
    cleanup_message StoredBlobUse *use = store_row_unpack(row, NULL);
    struct store_key key = store_key_of(row->key, row->key_len);
    if (db_key_number(row) || !use || use->time_us > l->oldest) {
        l->needed = true;
        return false;
    }
    store_delete(l->ends, DB_LOG_BLOB_USES, &key);
    return true;
}

static void removed(void *user, const sa_error *err)
{
    struct hold *gone = user;
    struct blobs *b = gone->blobs;
    cleanup_free char *path = blobs_path(b, gone->id);
    if (!err && !is_held(b, gone->id)) /* the next start removes what stays because of a crash here */
        unlink(path);
    free(gone);
}

/* What somebody has begun to use meanwhile has its row written after this delete, and its file is kept. */
static void look_at(struct blobs *b, struct blob_id id)
{
    struct look l = {.oldest = sa_wall_us() - (int64_t)b->all->config.blob_hours * 3600 * 1000000,
                     .ends = store_set_new()};
    struct store_key key = key_of(id);
    struct store_range range = {.table = DB_LOG_BLOB_USES, .prefix = &key};
    cleanup_error sa_error *err = NULL;
    if (is_held(b, id) || store_scan(b->all->store, &range, look_use, &l, &err) < 0 || l.needed) {
        store_set_free(l.ends);
    } else {
        struct hold *gone = sa_calloc(1, sizeof *gone);
        *gone = (struct hold){NULL, b, id};
        store_delete(l.ends, DB_LOG_BLOBS, &key);
        if (store_commit(b->all->store, l.ends, removed, gone, &err))
            free(gone);
    }
    if (err)
        sa_log(SA_LOG_WARN, "blobs.sweep_failed", "reason=%s", err->reason);
}

struct found {
    struct blob_id ids[SWEEP_ROWS];
    size_t n;
};

static bool collect(void *user, const struct store_row *row)
{
    struct found *f = user;
    if (row->key_len == sizeof f->ids[0].bytes)
        memcpy(f->ids[f->n++].bytes, row->key, row->key_len);
    return true;
}

static void sweep_due(void *user)
{
    struct blobs *b = user;
    struct found f = {.n = 0};
    struct store_range range = {
        .table = DB_LOG_BLOBS, .from = b->at.len ? &b->at : NULL, .after = true, .limit = SWEEP_ROWS};
    cleanup_error sa_error *err = NULL;
    if (store_scan(b->all->store, &range, collect, &f, &err) < 0)
        sa_log(SA_LOG_WARN, "blobs.sweep_failed", "reason=%s", err->reason);
    b->at = f.n == SWEEP_ROWS ? key_of(f.ids[f.n - 1]) : (struct store_key){0};
    for (size_t i = 0; i < f.n; i++)
        look_at(b, f.ids[i]);
}

/* ---- start ---- */

/* Files that a crash has left: temporary ones, and those without a row. */
static int remove_strays(struct blobs *b, sa_error **err)
{
    DIR *d = opendir(b->directory);
    if (!d)
        return sa_fail_errno(err, errno, "read directory `%s`", b->directory);
    int r = 0;
    for (struct dirent *e; r == 0 && (e = readdir(d));) {
        struct blob_id id;
        cleanup_message StoredBlob *row = NULL;
        if (e->d_name[0] == '.')
            continue;
        if (!blob_id_parse(e->d_name, &id, NULL)) {
            struct store_key key = key_of(id);
            r = store_get(b->all->store, DB_LOG_BLOBS, &key, &row, err) < 0 ? -1 : 0;
        }
        if (r == 0 && !row && unlinkat(dirfd(d), e->d_name, 0) < 0)
            r = sa_fail_errno(err, errno, "remove `%s`", e->d_name);
    }
    closedir(d);
    return r;
}

struct blobs *blobs_new(struct sessions *all, sa_error **err)
{
    struct blobs *b = sa_calloc(1, sizeof *b);
    b->all = all;
    b->directory = sa_format("%s/blobs", service_data_dir(all->svc));
    b->sweep = sa_timer_new(all->loop, sweep_due, b);
    if (sa_mkdirs(b->directory, 0700, err) || remove_strays(b, err)) {
        blobs_free(b);
        return NULL;
    }
    sa_timer_every(b->sweep, SWEEP_MS);
    sweep_due(b);
    return b;
}

void blobs_free(struct blobs *b)
{
    if (!b)
        return;
    while (b->holds) {
        struct hold *h = b->holds;
        b->holds = h->next;
        free(h);
    }
    sa_timer_free(b->sweep);
    free(b->directory);
    free(b);
}
