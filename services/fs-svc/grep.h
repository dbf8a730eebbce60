/* Searching a file for lines that fit a pattern. A window of 512 KiB slides over the file, so memory does not
 * grow with it. Only grep.c includes pcre2.h. Blocks, needs no lock; one thread per object. */
#ifndef SERVICES_FS_SVC_GREP_H_
#define SERVICES_FS_SVC_GREP_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "adapters/os/error.h"

enum {
    GREP_PATTERN_MAX = 4096,
    GREP_PIECE = 256 << 10,   /* a longer line is searched in pieces of this size */
    GREP_CONTEXT_MAX = 100,   /* lines */
    GREP_HISTORY = 128 << 10, /* lines before a match are told as far as they begin within so many bytes */
    GREP_RANGES_MAX = 100,    /* told of one line */
    GREP_BINARY_LOOK = 8192,  /* a NUL among the first so many bytes: binary */
};

struct grep_options {
    bool literal, ignore_case, word, binary;
    unsigned before, after;
    uint64_t max; /* lines with a match; UINT64_MAX: any number */
};

struct grep_range {
    uint32_t start, end;
};

/* A line, without its newline; borrowed. */
struct grep_line {
    uint64_t number, offset;
    const char *text;
    size_t n;
    const struct grep_range *ranges; /* 0: a line around a match. An empty match is one empty range */
    size_t n_ranges;
};

/* What to do with lines, and whether to go on. */
struct grep_sink {
    void (*line)(void *user, const struct grep_line *l);
    bool (*stop)(void *user); /* asked from time to time; true: CANCELLED */
    void *user;
};

struct grep;
/* INVALID_PATTERN tells what is wrong, and at which byte. Copies. */
struct grep *grep_new(const void *pattern, size_t n, const struct grep_options *opt, sa_error **err);
void grep_free(struct grep *g); /* NULL is fine */

struct grep_result {
    uint64_t matches; /* lines */
    bool binary;      /* it was passed by */
};
/* Searches from the descriptor's position. max: as opt.max, for this file. PATTERN_TOO_COSTLY tells the line;
 * CANCELLED; what reading fails with. */
int grep_fd(struct grep *g, int fd, uint64_t max, const struct grep_sink *sink, struct grep_result *ret,
            sa_error **err);

#endif
