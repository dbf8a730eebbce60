/* A page of a directory, or of a tree: each directory's entries sorted, what is in a directory right behind
 * it. Memory is bounded by the page and the depth, whatever the directories hold. */
#ifndef SERVICES_FS_SVC_DIR_H_
#define SERVICES_FS_SVC_DIR_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "adapters/os/error.h"
#include "services/fs-svc/cursor.h"
#include "services/fs-svc/info.h"
#include "services/fs-svc/path.h"

enum {
    FS_PAGE_DEFAULT = 1000,
    FS_PAGE_MAX = 10000, /* with names_only; whole entries have more fields than a message may hold */
    FS_PAGE_WHOLE_MAX = 4000,
    FS_PAGE_BYTES = 1 << 20, /* of paths and links in a page; it ends after the entry that passes it */
};

enum fs_order { FS_ORDER_NAME, FS_ORDER_SIZE, FS_ORDER_TIME };

struct fs_list {
    enum fs_order order;
    bool descending, hide_hidden;
    bool names_only; /* of the entries' st only the kind is told */
    size_t depth;    /* 1 to FS_DEPTH_MAX; 1: its own entries */
    size_t max;      /* 1 to FS_PAGE_MAX or FS_PAGE_WHOLE_MAX entries */
};

struct fs_page {
    struct fs_info *entries;
    char **paths; /* of each, below the directory */
    size_t n, bytes;
    bool more;
    struct fs_cursor last; /* of the last entry */
    char **unreadable;     /* directories below that could not be read */
    size_t n_unreadable;
};

/* The first entries after `after` (NULL: from the start). Blocks. An entry that vanishes meanwhile is left
 * out. Errors as fs_path_open, and NOT_A_DIRECTORY. */
int fs_dir_page(const struct fs_root *root, const char *path, const struct fs_list *list,
                const struct fs_cursor *after, struct fs_page *ret, sa_error **err);
void fs_page_fini(struct fs_page *p);

#endif
