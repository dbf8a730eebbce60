/* Archives as streams of entries and bytes, on libarchive, which only archive.c includes. Reading: tar, plain
 * or with gzip or zstd, from a stream; zip from a file, because what an entry is is told at its end. Names
 * are bytes. libarchive never sees the file system but for that file.
 *
 * Everything here blocks where its callbacks do and needs no lock; one thread per object. That thread gets a
 * locale with UTF-8 from archive_begin_thread on, which libarchive wants for names. */
#ifndef SERVICES_FS_SVC_ARCHIVE_H_
#define SERVICES_FS_SVC_ARCHIVE_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "adapters/os/error.h"

enum archive_kind {
    ARCHIVE_FILE,
    ARCHIVE_DIR,
    ARCHIVE_SYMLINK,
    ARCHIVE_HARD_LINK,
    ARCHIVE_OTHER, /* a device, a FIFO, a socket */
};

/* Borrowed until the next entry. */
struct archive_item {
    const char *name; /* NULL: it cannot be told */
    enum archive_kind kind;
    const char *target; /* of links */
    mode_t mode;        /* permission bits */
    uint64_t size;
    struct timespec mtime;
    bool has_mtime;
};

struct archive_locale;
/* Ended by archive_end_thread; NULL: there is no such locale, names that are not ASCII may be refused. */
struct archive_locale *archive_begin_thread(void);
void archive_end_thread(struct archive_locale *l);

/* ---- reading ---- */

/* More of the archive: bytes, borrowed until the next call; 0: its end; -1: no more, it is broken off. */
typedef ssize_t archive_source_fn(void *user, const void **ret);

struct archive_in;
/* INVALID_ARCHIVE: the stream is none that is known. */
struct archive_in *archive_in_stream(archive_source_fn *source, void *user, sa_error **err);
/* A zip; fd: of a regular file, borrowed. TOO_MANY: its list of entries, which is kept in memory, is larger
 * than max_entries can be. */
struct archive_in *archive_in_zip(int fd, uint64_t max_entries, sa_error **err);
void archive_in_free(struct archive_in *in); /* NULL is fine */
/* Does it begin as a zip does? */
bool archive_is_zip(const void *p, size_t n);
/* 1: *ret is the next entry; 0: there is none; -1: INVALID_ARCHIVE. */
int archive_in_next(struct archive_in *in, struct archive_item *ret, sa_error **err);
/* The next bytes of the entry's file, borrowed until the next call, and where they belong: between them are
 * holes. 1, 0: its end, -1: INVALID_ARCHIVE. */
int archive_in_data(struct archive_in *in, const void **ret, size_t *ret_n, uint64_t *ret_offset,
                    sa_error **err);

/* ---- writing ---- */

enum archive_format { ARCHIVE_TAR, ARCHIVE_TAR_GZIP, ARCHIVE_TAR_ZSTD, ARCHIVE_ZIP };

/* Takes bytes of the archive; false: nobody wants more. */
typedef bool archive_sink_fn(void *user, const void *p, size_t n);

struct archive_out;
struct archive_out *archive_out_new(enum archive_format format, archive_sink_fn *sink, void *user,
                                    sa_error **err);
void archive_out_free(struct archive_out *out); /* NULL is fine */
/* Then exactly item->size bytes, with archive_out_data. INVALID_PATH: the format cannot hold it; CANCELLED:
 * the sink wants no more. */
int archive_out_entry(struct archive_out *out, const struct archive_item *item, sa_error **err);
int archive_out_data(struct archive_out *out, const void *p, size_t n, sa_error **err);
int archive_out_finish(struct archive_out *out, sa_error **err);

#endif
