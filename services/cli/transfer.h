/* What the verbs that move content have in common: a line of progress, and a stream of a descriptor's bytes
 * into a file. */
#ifndef SERVICES_CLI_TRANSFER_H_
#define SERVICES_CLI_TRANSFER_H_

#include <stdbool.h>
#include <stdint.h>

#include "services/cli/fs.h"

enum {
    TRANSFER_CHUNK = 1 << 20,  /* bytes of a message */
    TRANSFER_RETRY_MS = 60000, /* so long without getting on, a broken transfer is tried again */
    TRANSFER_UPLOAD = 8 << 20, /* larger files go as uploads that can be resumed */
};

/* One line on standard error, if that is a terminal. Zero-initialised shows nothing. */
struct progress {
    bool shown;
    const char *name; /* borrowed */
    uint64_t size;    /* UINT64_MAX: not known */
    uint64_t from;    /* where this transfer began */
    uint64_t start_ms, told_ms;
};
void progress_begin(struct progress *p, const char *name, uint64_t size, uint64_t from);
void progress_tell(struct progress *p, uint64_t at);
void progress_end(struct progress *p); /* removes the line */

/* Reads until `n` bytes are there or the input ends. -1: SYSTEM_ERROR and so on; name: for the message. */
int transfer_read(int fd, const char *name, void *p, size_t n, size_t *ret_n, sa_error **err);
/* Writes what comes from fd as `open` says (its request_id is set when it has none); NULL: *err, also when
 * the input could not be read: then nothing is written. rpc_message_free it. */
WriteFileResponse *transfer_write(struct client *c, WriteFileOpen *open, int fd, const char *name,
                                  struct progress *p, sa_error **err);
/* The options that all verbs which write have, and what they say. */
#define TRANSFER_WRITE_OPTIONS                                                                               \
    {"mode", SERVICE_OPTION_TEXT, NULL, 0, 0, "permission bits of a new file, octal; default: 644"},         \
        {"parents", SERVICE_OPTION_FLAG, NULL, 0, 0, "make missing directories"},                            \
        {"create-only", SERVICE_OPTION_FLAG, NULL, 0, 0, "fail if the file exists"},                         \
    {                                                                                                        \
        "if-match", SERVICE_OPTION_TEXT, NULL, 0, 0, "etag that the file must have (fs stat shows it)"       \
    }
int transfer_mode(const struct options *o, uint32_t *ret_mode, sa_error **err);
/* Of a transfer that broke: worth another try? */
bool transfer_may_retry(const sa_error *err);

#endif
