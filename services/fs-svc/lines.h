/* A slice of a file by lines: looks through what is before it, in pieces, and keeps only the slice. One user
 * per object; blocks; needs no lock. */
#ifndef SERVICES_FS_SVC_LINES_H_
#define SERVICES_FS_SVC_LINES_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "adapters/os/error.h"
#include "adapters/os/mem.h"

enum {
    FS_LINES_DEFAULT = 2000,
    FS_LINES_MAX = 10000,
    FS_LINES_BYTES_DEFAULT = 256 << 10,
    FS_LINES_BYTES_MAX = 1 << 20,
    FS_LINE_DEFAULT = 64 << 10,
    FS_LINES_PIECE = 16 << 20, /* bytes that one call of fs_lines_read goes through at most */
};

struct fs_line {
    size_t start, len; /* in `text` */
    uint64_t full;     /* bytes of the whole line, without its newline */
};

struct fs_lines {
    /* Wanted; set before the first fs_lines_read. */
    uint64_t first; /* number of the first line, from 1 */
    uint32_t max_lines, max_bytes, max_line_bytes;
    bool count; /* go on to the end of the file */
    /* Where it is: at the beginning of line `line` before the first call. */
    uint64_t at, line;
    /* Found. */
    struct fs_line *lines;
    size_t n;
    struct sa_buf text;
    uint64_t next_line, next_at; /* 0: there is no line after these */
    uint64_t total;              /* valid with `at_end` */
    bool at_end;                 /* the end of the file was reached */
    /* Its own. */
    struct fs_line open; /* the line that is being taken */
    uint64_t open_at;    /* where in the file it begins */
    bool begun, full;
};

/* Goes on. 1: done, 0: call again, -1: SYSTEM_ERROR. */
int fs_lines_read(struct fs_lines *l, int fd, sa_error **err);
void fs_lines_fini(struct fs_lines *l);

/* Text that a protobuf string can carry: UTF-8 without NUL. */
bool fs_lines_is_text(const uint8_t *p, size_t n);
/* n, or a little less, so that a cut text does not end inside a character. */
size_t fs_lines_whole_text(const uint8_t *p, size_t n);

#endif
