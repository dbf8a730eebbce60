/* A page of a directory, sorted by name. Memory is bounded by the page, whatever the directory holds. */
#ifndef SERVICES_FS_SVC_DIR_H_
#define SERVICES_FS_SVC_DIR_H_

#include <stdbool.h>
#include <stddef.h>

#include "adapters/os/error.h"
#include "services/fs-svc/info.h"
#include "services/fs-svc/path.h"

enum { FS_PAGE_DEFAULT = 1000, FS_PAGE_MAX = 10000 };

struct fs_page {
    struct fs_info *entries;
    size_t n;
    bool more;
};

/* The first `max` (1 to FS_PAGE_MAX) entries whose names sort, as bytes, after `after` (NULL: from the
 * start). Blocks. An entry that vanishes meanwhile is left out. Errors as fs_path_open, and NOT_A_DIRECTORY.
 */
int fs_dir_page(const struct fs_root *root, const char *path, const char *after, size_t max,
                struct fs_page *ret, sa_error **err);
void fs_page_fini(struct fs_page *p);

#endif
