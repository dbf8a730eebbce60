/* The writing side of one stream: an append-only sparse file whose offsets are the stream's, and its index.
 * Nothing here allocates. Bytes are never dropped unseen: `first` says where the kept range begins, and under
 * SHIM_ACKNOWLEDGED journal_room answers 0 instead. */
#ifndef SERVICES_PROCESS_SVC_SHIM_JOURNAL_H_
#define SERVICES_PROCESS_SVC_SHIM_JOURNAL_H_

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "services/process-svc/shim/protocol.h"

struct journal {
    int fd, index_fd;
    enum shim_retention retention;
    uint64_t bound;
    uint64_t end;                    /* of the stream: what was taken from the child */
    uint64_t first;                  /* first kept byte */
    uint64_t acked;                  /* SHIM_ACKNOWLEDGED: what may go */
    uint64_t freed;                  /* the file is a hole up to here */
    uint64_t index_end, index_freed; /* bytes of the index file */
    struct shim_index_record last;   /* not yet in the file while last_open */
    int last_open;
};

/* The descriptors stay the caller's. */
void journal_init(struct journal *j, int fd, int index_fd, enum shim_retention retention, uint64_t bound);

/* How many of `want` bytes may be taken from the child now. */
size_t journal_room(const struct journal *j, size_t want);

/* Appends; returns bytes written (fewer when the disk is full) or -1 with errno. now_us: wall clock; *arrival
 * counts index records of all streams. */
ssize_t journal_append(struct journal *j, const void *p, size_t n, int64_t now_us, uint64_t *arrival);

/* Bytes before `offset` are no longer needed; beyond the end it is an error (-1). */
int journal_ack(struct journal *j, uint64_t offset);

/* Moves `first` when there is more than the bound, or acknowledged bytes are worth freeing: returns 1 when it
 * moved. The caller then publishes `first`, and only after that calls journal_free_front. */
int journal_advance(struct journal *j);
/* The disk is full: a ring gives up half of what it keeps, else whatever is acknowledged goes. Returns 1 when
 * `first` moved, as above. */
int journal_shrink(struct journal *j);
void journal_free_front(struct journal *j);

/* Writes the open index record out. */
void journal_flush_index(struct journal *j);

#endif
