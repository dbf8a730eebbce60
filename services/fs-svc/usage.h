/* How much a tree takes, as du tells it. All functions block, fs_usage_step for one slice; they need no lock
 * and use the file rights of the calling thread. */
#ifndef SERVICES_FS_SVC_USAGE_H_
#define SERVICES_FS_SVC_USAGE_H_

#include <stddef.h>
#include <stdint.h>
#include <sys/statvfs.h>

#include "adapters/os/error.h"
#include "services/fs-svc/tree.h"

enum { FS_USAGE_LINKS_MAX = 1 << 20 }; /* files with several hard links in a tree; more: TOO_MANY */

struct fs_usage {
    uint64_t allocated, content; /* bytes */
    uint64_t files, directories, unreadable;
    struct fs_tree *tree;
    struct fs_usage_link {
        uint64_t dev, ino;
    } * links; /* a hash table of those with several hard links; inode 0: free */
    size_t n_links, cap;
};

/* Goes on for a slice; begins with a struct of zeros. fd: O_PATH of what is counted. 1: there is more. */
int fs_usage_step(struct fs_usage *u, int fd, const struct fs_slice *slice, sa_error **err);
void fs_usage_fini(struct fs_usage *u);
/* The filesystem that it is on. */
int fs_usage_filesystem(int fd, struct statvfs *ret, sa_error **err);

#endif
