/* A place in a sorted list of a tree, and its form as text for page tokens. Plain functions. */
#ifndef SERVICES_FS_SVC_CURSOR_H_
#define SERVICES_FS_SVC_CURSOR_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "adapters/os/mem.h"

enum { FS_DEPTH_MAX = 64 };

/* Where an entry stands: it and the directories that it is in, outermost first. n 0: before all. */
struct fs_cursor {
    size_t n;
    struct fs_position {
        uint64_t key; /* what it is sorted by before its name; 0 by name */
        char *name;
    } at[FS_DEPTH_MAX];
};
void fs_cursor_fini(struct fs_cursor *c);

/* Appends it in hexadecimal: of each part 8 bytes of the key, the name and a NUL. Names are bytes, text is
 * not. */
void fs_cursor_print(const struct fs_cursor *c, struct sa_buf *ret);
/* Reads that; false: it is damaged, or has more than `depth` parts. The text may be forged: what it names is
 * below where it begins. */
bool fs_cursor_parse(const char *text, size_t depth, struct fs_cursor *ret);

#endif
