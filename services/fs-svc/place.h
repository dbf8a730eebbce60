/* A name in a directory: where everything begins that makes, removes or renames names.
 *
 * All functions block, need no lock, and use the file rights of the calling thread. */
#ifndef SERVICES_FS_SVC_PLACE_H_
#define SERVICES_FS_SVC_PLACE_H_

#include <stdbool.h>
#include <sys/stat.h>

#include "adapters/os/error.h"
#include "services/fs-svc/path.h"

struct fs_place {
    const char *path; /* as it was asked, for messages; borrowed */
    int dir_fd;       /* O_PATH */
    char *dir;        /* canonical path of the directory */
    char *name;       /* a link at the end of the path is this name, not what it points to */
    bool slash;       /* the path ends in a slash: it wants a directory */
};

/* make_parents: make missing directories on the way. Errors: as fs_path_open, and those of
 * fs_path_check_name; INVALID_PATH: the path does not end in a name, so a root is none. */
int fs_place_find(const struct fs_root *root, const char *path, bool make_parents, struct fs_place *ret,
                  sa_error **err);
void fs_place_fini(struct fs_place *p);

/* What is there; of a link, the link. FILE_NOT_FOUND; NOT_A_DIRECTORY when the path ends in a slash. */
int fs_place_stat(const struct fs_place *p, struct stat *ret, sa_error **err);
/* Both are one name in one directory, whatever way leads there. */
bool fs_place_same(const struct fs_place *a, const struct fs_place *b);
/* Is the name's directory in this one (an open descriptor), or is it that one? 1, 0, or -1. */
int fs_place_within(const struct fs_place *p, int dir, sa_error **err);

/* renameat that replaces as rename(2) does, or nothing at all (EEXIST). -1 with errno. */
int fs_rename(int from_dir, const char *from, int to_dir, const char *to, bool replace);
/* Opens a directory that was recorded, or nothing when a link is on the way to it now. -1 with errno. */
int fs_open_recorded(const char *dir);
/* Syncs the directory. -1 with errno. */
int fs_sync_dir(int dir_fd);

#endif
