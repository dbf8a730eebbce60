/* Bytes that are too large for events: files named by their SHA-256, beside the store. A row in the store
 * says that a file is there; rows of uses say why it is kept. A file is complete before its row is written,
 * so a crash leaves at most a file without a row, which the next start removes. A blob without uses goes in a
 * sweep.
 *
 * Under the lock, unless it says otherwise. */
#ifndef SERVICES_SESSION_SVC_BLOBS_H_
#define SERVICES_SESSION_SVC_BLOBS_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "adapters/lmdb/store.h"
#include "adapters/os/clock.h"
#include "adapters/os/sha256.h"

enum {
    BLOB_MAX = 24000000,       /* bytes of a blob: as base64 it fits into a line and an agent's input */
    BLOB_TEXT_MIN = 256 << 10, /* characters of base64: less stays in the event */
    BLOB_PIECE = 256 << 10,    /* bytes that are read or sent at once */
};

struct session;
struct sessions;
struct blobs;

struct blob_id {
    uint8_t bytes[SA_SHA256_SIZE];
};

void blob_id_format(struct blob_id id, char ret_text[static SA_SHA256_TEXT + 1]);
/* INVALID_REQUEST. */
int blob_id_parse(const char *text, struct blob_id *ret, sa_error **err);

/* Makes the directory; removes files that no row tells of. Blocks: at a start. */
struct blobs *blobs_new(struct sessions *all, sa_error **err);
void blobs_free(struct blobs *b); /* NULL is fine */

/* ---- a file that is being written: on a worker, without the lock ---- */

struct blob_file {
    char *path; /* of the temporary file; NULL: there is none */
    int fd;
    struct sa_sha256 sum;
    uint64_t size;
    struct blob_id id; /* once it is complete */
};
/* directory: blobs_directory(). */
int blob_file_open(struct blob_file *f, const char *directory, sa_error **err);
/* MESSAGE_TOO_LARGE, NO_SPACE. */
int blob_file_add(struct blob_file *f, const void *p, size_t n, sa_error **err);
/* All of it is on disk. */
int blob_file_complete(struct blob_file *f, sa_error **err);
void blob_file_drop(struct blob_file *f); /* one that was not kept; empty is fine */

const char *blobs_directory(const struct blobs *b);         /* any thread */
char *blobs_path(const struct blobs *b, struct blob_id id); /* free() it; any thread */

/* ---- under the lock ---- */

/* Gives a complete file its name. From here to the end of the current callback its row must be in a set, with
 * blob_put, or it is lost at the next start. */
int blobs_keep(struct blobs *b, struct blob_file *f, sa_error **err);
/* Its row, and a use: of an event of the session, or with seq 0 for a prompt to come. `done` of the set's
 * commit calls blobs_committed once for each. */
void blobs_put(struct blobs *b, struct store_set *set, struct sa_id session, struct blob_id id, uint64_t size,
               uint64_t seq);
void blobs_committed(struct blobs *b, struct blob_id id);
/* The same in the set that the session builds; it calls blobs_committed by itself. */
void blobs_use(struct session *s, struct blob_id id, uint64_t size, uint64_t seq);
/* Uses of events before this seq end, in the set that the session builds. */
int blobs_release(struct session *s, uint64_t first_seq, sa_error **err);
/* Of what the session may read. BLOB_NOT_FOUND. */
int blobs_find(struct blobs *b, struct sa_id session, struct blob_id id, uint64_t *ret_size, sa_error **err);

#endif
