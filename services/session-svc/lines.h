/* A byte stream cut into lines, with the offset up to which everything was handed out. A line over the limit
 * is not kept but skipped, and what is known of it so far can be stored and taken up again. Plain memory, no
 * thread. */
#ifndef SERVICES_SESSION_SVC_LINES_H_
#define SERVICES_SESSION_SVC_LINES_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "adapters/os/mem.h"
#include "adapters/os/sha256.h"

enum { LINES_HEAD_MAX = 1024 }; /* bytes kept of a skipped line */

struct lines {
    size_t limit;    /* bytes of a line without its newline */
    uint64_t offset; /* in the stream: everything before was handed out or skipped */
    struct sa_buf buf;
    size_t at, scanned; /* into buf: first byte not handed out; searched for a newline up to here */
    bool skipping;
    uint64_t skip_size;
    struct sa_sha256 skip_sum;
    struct sa_buf head; /* its first LINES_HEAD_MAX bytes */
};

enum lines_what {
    LINES_NONE,     /* more bytes are needed */
    LINES_LINE,     /* a line */
    LINES_SKIPPED,  /* a part of a line over the limit was skipped: only offset and the skip state changed */
    LINES_TOO_LONG, /* the end of such a line */
};

struct line {
    const uint8_t *p; /* without the newline, or the head of a line that is too long; until the next call */
    size_t n;
    uint64_t offset;                 /* where it starts (LINES_LINE) */
    uint64_t size;                   /* of the whole line */
    char sha256[SA_SHA256_TEXT + 1]; /* LINES_TOO_LONG */
};

/* Starts empty at an offset. */
void lines_init(struct lines *l, size_t limit, uint64_t offset);
void lines_fini(struct lines *l);
/* The stream's next bytes. */
void lines_feed(struct lines *l, const void *p, size_t n);
/* The stream's offset after all bytes that were fed. */
uint64_t lines_end(const struct lines *l);
enum lines_what lines_next(struct lines *l, struct line *ret);
/* The stream has ended: what is left without a newline, as its last line. */
enum lines_what lines_last(struct lines *l, struct line *ret);

#endif
