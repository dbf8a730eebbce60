#include "services/fs-svc/archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/os/mem.h"

enum { BLOCK = 64 << 10 };

/* ---- the locale ---- */

struct archive_locale {
    locale_t own, before;
};

struct archive_locale *archive_begin_thread(void)
{
    locale_t own = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    if (!own)
        return NULL;
    struct archive_locale *l = sa_malloc(sizeof *l);
    *l = (struct archive_locale){.own = own, .before = uselocale(own)};
    return l;
}

void archive_end_thread(struct archive_locale *l)
{
    if (!l)
        return;
    uselocale(l->before);
    freelocale(l->own);
    free(l);
}

/* ---- reading ---- */

struct archive_in {
    struct archive *a;
    archive_source_fn *source;
    void *user;
};

static int fail(struct archive *a, sa_error **err)
{
    const char *why = archive_error_string(a);
    return sa_fail(err, SA_INVALID_ARCHIVE, "the archive cannot be read: %.300s",
                   why ? why : "it is damaged");
}

static la_ssize_t read_source(struct archive *a, void *user, const void **ret)
{
    struct archive_in *in = user;
    ssize_t n = in->source(in->user, ret);
    if (n < 0)
        archive_set_error(a, -1, "its end did not come");
    return n;
}

struct archive_in *archive_in_stream(archive_source_fn *source, void *user, sa_error **err)
{
    struct archive_in *in = sa_calloc(1, sizeof *in);
    in->a = archive_read_new();
    in->source = source;
    in->user = user;
    if (!in->a || archive_read_support_format_tar(in->a) < ARCHIVE_WARN ||
        archive_read_support_filter_gzip(in->a) < ARCHIVE_WARN ||
        archive_read_support_filter_zstd(in->a) < ARCHIVE_WARN ||
        archive_read_open(in->a, in, NULL, read_source, NULL) != ARCHIVE_OK) {
        fail(in->a, err);
        archive_in_free(in);
        return NULL;
    }
    return in;
}

static uint64_t little(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;
    while (n--)
        v = v << 8 | p[n];
    return v;
}

/* What the record at the end of a zip says of the list of entries: how many bytes it may have. */
static uint64_t list_size(int fd, const uint8_t *tail, size_t at, uint64_t tail_offset)
{
    uint64_t size = little(tail + at + 12, 4), start = little(tail + at + 16, 4), end = tail_offset + at;
    uint8_t large[56]; /* the record of a large zip, which a locator right before names */
    if (at >= 20 && !memcmp(tail + at - 20, "PK\6\7", 4) &&
        pread(fd, large, sizeof large, (off_t)(little(tail + at - 12, 8) & INT64_MAX)) == sizeof large) {
        size = little(large + 40, 8);
        start = little(large + 48, 8);
    }
    uint64_t until_end = start < end ? end - start : 0;
    return size > until_end ? size : until_end;
}

/* libarchive keeps the list whole, however long it is. */
static int check_zip(int fd, uint64_t max_entries, sa_error **err)
{
    enum { RECORD = 22, TAIL = (64 << 10) + RECORD, BYTES_PER_ENTRY = 256, LEAST = 1 << 20 };
    struct stat st;
    if (fstat(fd, &st) < 0)
        return sa_fail_errno(err, errno, "stat");
    uint64_t n = (uint64_t)st.st_size < TAIL ? (uint64_t)st.st_size : TAIL, offset = (uint64_t)st.st_size - n;
    cleanup_free uint8_t *tail = sa_malloc(n);
    if (pread(fd, tail, n, (off_t)offset) != (ssize_t)n)
        return sa_fail(err, SA_INVALID_ARCHIVE, "the archive cannot be read");
    for (uint64_t at = 0; at + RECORD <= n; at++)
        if (!memcmp(tail + at, "PK\5\6", 4) &&
            list_size(fd, tail, at, offset) > LEAST + max_entries * BYTES_PER_ENTRY)
            return sa_fail(err, SA_TOO_MANY, "the archive has more than %llu entries, that is the limit",
                           (unsigned long long)max_entries);
    return 0;
}

struct archive_in *archive_in_zip(int fd, uint64_t max_entries, sa_error **err)
{
    if (check_zip(fd, max_entries, err) < 0)
        return NULL;
    struct archive_in *in = sa_calloc(1, sizeof *in);
    in->a = archive_read_new();
    if (!in->a || archive_read_support_format_zip_seekable(in->a) != ARCHIVE_OK ||
        archive_read_open_fd(in->a, fd, BLOCK) != ARCHIVE_OK) {
        fail(in->a, err);
        archive_in_free(in);
        return NULL;
    }
    return in;
}

void archive_in_free(struct archive_in *in)
{
    if (!in)
        return;
    archive_read_free(in->a);
    free(in);
}

bool archive_is_zip(const void *p, size_t n)
{
    return n >= 4 && (!memcmp(p, "PK\3\4", 4) || !memcmp(p, "PK\5\6", 4));
}

static enum archive_kind kind_of(struct archive_entry *e)
{
    if (archive_entry_hardlink(e))
        return ARCHIVE_HARD_LINK;
    switch (archive_entry_filetype(e)) {
    case AE_IFREG:
        return ARCHIVE_FILE;
    case AE_IFDIR:
        return ARCHIVE_DIR;
    case AE_IFLNK:
        return ARCHIVE_SYMLINK;
    default:
        return ARCHIVE_OTHER;
    }
}

int archive_in_next(struct archive_in *in, struct archive_item *ret, sa_error **err)
{
    struct archive_entry *e;
    int r = archive_read_next_header(in->a, &e);
    if (r == ARCHIVE_EOF)
        return 0;
    if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
        return fail(in->a, err);
    enum archive_kind kind = kind_of(e);
    int64_t size = archive_entry_size_is_set(e) ? archive_entry_size(e) : 0;
    *ret = (struct archive_item){
        .name = archive_entry_pathname(e),
        .kind = kind,
        .target = kind == ARCHIVE_HARD_LINK ? archive_entry_hardlink(e)
                  : kind == ARCHIVE_SYMLINK ? archive_entry_symlink(e)
                                            : NULL,
        .mode = archive_entry_perm(e) & 07777,
        .size = size > 0 ? (uint64_t)size : 0,
        .mtime = {.tv_sec = archive_entry_mtime(e), .tv_nsec = archive_entry_mtime_nsec(e)},
        .has_mtime = archive_entry_mtime_is_set(e),
    };
    return 1;
}

int archive_in_data(struct archive_in *in, const void **ret, size_t *ret_n, uint64_t *ret_offset,
                    sa_error **err)
{
    la_int64_t offset;
    int r = archive_read_data_block(in->a, ret, ret_n, &offset);
    if (r == ARCHIVE_EOF)
        return 0;
    if (r != ARCHIVE_OK || offset < 0)
        return fail(in->a, err);
    *ret_offset = (uint64_t)offset;
    return 1;
}

/* ---- writing ---- */

struct archive_out {
    struct archive *a;
    struct archive_entry *entry;
    archive_sink_fn *sink;
    void *user;
    bool refused; /* by the sink */
    bool ending;
};

/* What fails in the middle would make libarchive forget to free: what nobody wants is taken until the end. */
static la_ssize_t write_sink(struct archive *a, void *user, const void *p, size_t n)
{
    struct archive_out *out = user;
    if (out->ending) {
        archive_set_error(a, -1, "nobody reads it");
        return -1;
    }
    out->refused = out->refused || !out->sink(out->user, p, n);
    return (la_ssize_t)n;
}

static int set_format(struct archive *a, enum archive_format format)
{
    switch (format) {
    case ARCHIVE_ZIP:
        return archive_write_set_format_zip(a);
    case ARCHIVE_TAR_GZIP:
        /* Without the time in the header the same files make the same archive. */
        if (archive_write_add_filter_gzip(a) < ARCHIVE_WARN ||
            archive_write_set_filter_option(a, "gzip", "timestamp", NULL) < ARCHIVE_WARN)
            return ARCHIVE_FATAL;
        break;
    case ARCHIVE_TAR_ZSTD:
        if (archive_write_add_filter_zstd(a) < ARCHIVE_WARN)
            return ARCHIVE_FATAL;
        break;
    case ARCHIVE_TAR:
        break;
    }
    return archive_write_set_format_pax_restricted(a);
}

static int fail_writing(struct archive_out *out, enum sa_reason reason, sa_error **err)
{
    const char *why = archive_error_string(out->a);
    if (out->refused)
        return sa_fail(err, SA_CANCELLED, "the caller has left");
    return sa_fail(err, reason, "the archive cannot be written: %.300s", why ? why : "unknown");
}

struct archive_out *archive_out_new(enum archive_format format, archive_sink_fn *sink, void *user,
                                    sa_error **err)
{
    struct archive_out *out = sa_calloc(1, sizeof *out);
    out->a = archive_write_new();
    out->entry = archive_entry_new();
    out->sink = sink;
    out->user = user;
    if (out->a && out->entry && set_format(out->a, format) >= ARCHIVE_WARN &&
        archive_write_set_bytes_per_block(out->a, BLOCK) == ARCHIVE_OK &&
        archive_write_set_bytes_in_last_block(out->a, 1) == ARCHIVE_OK &&
        archive_write_open(out->a, out, NULL, write_sink, NULL) == ARCHIVE_OK)
        return out;
    fail_writing(out, SA_INTERNAL, err);
    archive_out_free(out);
    return NULL;
}

void archive_out_free(struct archive_out *out)
{
    if (!out)
        return;
    /* Closes, if that was not done: what it still wants to write, nobody wants. */
    out->ending = true;
    archive_entry_free(out->entry);
    archive_write_free(out->a);
    free(out);
}

int archive_out_entry(struct archive_out *out, const struct archive_item *item, sa_error **err)
{
    static const unsigned types[] = {[ARCHIVE_FILE] = AE_IFREG,
                                     [ARCHIVE_DIR] = AE_IFDIR,
                                     [ARCHIVE_SYMLINK] = AE_IFLNK,
                                     [ARCHIVE_HARD_LINK] = AE_IFREG,
                                     [ARCHIVE_OTHER] = AE_IFIFO};
    struct archive_entry *e = archive_entry_clear(out->entry);
    archive_entry_copy_pathname(e, item->name);
    archive_entry_set_filetype(e, types[item->kind]);
    archive_entry_set_perm(e, item->mode);
    if (item->has_mtime)
        archive_entry_set_mtime(e, item->mtime.tv_sec, item->mtime.tv_nsec);
    if (item->kind == ARCHIVE_SYMLINK)
        archive_entry_copy_symlink(e, item->target);
    if (item->kind == ARCHIVE_HARD_LINK)
        archive_entry_copy_hardlink(e, item->target);
    archive_entry_set_size(e, item->kind == ARCHIVE_FILE ? (int64_t)item->size : 0);
    int r = archive_write_header(out->a, e);
    return !out->refused && (r == ARCHIVE_OK || r == ARCHIVE_WARN) ? 0
                                                                   : fail_writing(out, SA_INVALID_PATH, err);
}

int archive_out_data(struct archive_out *out, const void *p, size_t n, sa_error **err)
{
    la_ssize_t w = archive_write_data(out->a, p, n);
    return !out->refused && w == (la_ssize_t)n ? 0 : fail_writing(out, SA_INTERNAL, err);
}

int archive_out_finish(struct archive_out *out, sa_error **err)
{
    return archive_write_close(out->a) == ARCHIVE_OK && !out->refused ? 0
                                                                      : fail_writing(out, SA_INTERNAL, err);
}
