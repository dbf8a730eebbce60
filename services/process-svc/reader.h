/* Reads what a process has written, straight from its journals. Any number of readers, no lock with the shim.
 */
#ifndef SERVICES_PROCESS_SVC_READER_H_
#define SERVICES_PROCESS_SVC_READER_H_

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "adapters/os/error.h"
#include "services/process-svc/shim/protocol.h"

struct reader {
    int fd[SHIM_STREAMS]; /* -1: not open */
    int state_fd;
    int index_fd[SHIM_STREAMS]; /* -1: not open, or there is none; see index.h */
};
#define READER_CLOSED ((struct reader){{-1, -1}, -1, {-1, -1}})

/* directory: the process's. */
int reader_open(struct reader *r, const char *directory, sa_error **err);
void reader_close(struct reader *r); /* also one that was never open, when it is all -1 */
bool reader_is_open(const struct reader *r);
/* Opens the indexes too, where there are any. */
void reader_open_index(struct reader *r, const char *directory);
/* The same files, for a worker that goes on while r is closed. */
int reader_copy(struct reader *r, const struct reader *of, sa_error **err);

/* The kept range now. */
int reader_range(const struct reader *r, int stream, uint64_t *ret_first, uint64_t *ret_end, sa_error **err);
/* Reads up to n bytes at `offset`: the number of bytes, 0 at the end. When bytes from `offset` on are no
 * longer kept, nothing is read and *ret_first is the first kept byte (> offset); else *ret_first <= offset.
 * -1: JOURNAL_TRUNCATED or a system error. */
ssize_t reader_read(const struct reader *r, int stream, uint64_t offset, void *p, size_t n,
                    uint64_t *ret_first, sa_error **err);

/* The state record of a directory. */
int reader_state(const char *directory, struct shim_state *ret, sa_error **err);
/* The exit record of a directory: 1, or 0 when there is none that can be believed. */
int reader_exit(const char *directory, struct shim_exit *ret);

#endif
