/* Paths below a root. The kernel resolves them (openat2), so that no check can be raced: a named root is
 * never left, neither by "..", an absolute path nor a symbolic link, and no magic link of /proc is followed
 * anywhere. Where openat2 is blocked (old kernels, seccomp), a walk of our own gives the same answers.
 *
 * Everything here blocks, needs no lock, and uses the file rights of the calling thread (identity.h). */
#ifndef SERVICES_FS_SVC_PATH_H_
#define SERVICES_FS_SVC_PATH_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "adapters/os/error.h"

enum {
    FS_PATH_MAX = 4095, /* bytes of a path, as the kernel's PATH_MAX without its NUL */
    FS_LINKS_MAX = 40,  /* symbolic links on the way, as the kernel's */
};

/* A root; plain data, never changed after start-up. */
struct fs_root {
    char *name; /* "" is the default root */
    char *dir;  /* canonical */
    int fd;     /* O_PATH of dir */
    bool read_only;
    bool whole; /* the whole filesystem: absolute paths are as they are, relative ones are below `home` */
    char *home;
    /* Canonical directories that no path may reach, whatever its rights: where the services keep their own.
     * NULL-terminated; borrowed; NULL: none. */
    const char *const *private_dirs;
    /* Canonical directories of all roots, which are neither removed nor renamed through any of them; as
     * above. */
    const char *const *root_dirs;
    uint64_t max_write; /* bytes of one write; 0: no limit */
    bool no_openat2;    /* tests: walk always */
};

/* Copies the bytes of a message into a path. NULL: INVALID_PATH (empty, NUL inside, over FS_PATH_MAX). */
char *fs_path_from_bytes(const uint8_t *p, size_t n, sa_error **err);
/* The path without its last part ("." when there is nothing before it), and that part. -1: INVALID_PATH,
 * there is no name at the end ("..", ".", "/"). Trailing slashes are left out of the name and told in
 * *ret_slash. */
int fs_path_split(const char *path, char **ret_parent, char **ret_name, bool *ret_slash, sa_error **err);

/* Opens what the path names as an O_PATH descriptor (close-on-exec). follow: of a symbolic link at the end.
 * Errors: FILE_NOT_FOUND, NOT_A_DIRECTORY, PERMISSION_DENIED (also: below a private directory), INVALID_PATH
 * (it leaves the root, a name is too long, too many links, a magic link). */
int fs_path_open(const struct fs_root *root, const char *path, bool follow, sa_error **err);
/* The same for a directory that is made, with its parents, when it is missing (mode 0777 & ~umask). */
int fs_path_make_dirs(const struct fs_root *root, const char *path, sa_error **err);
/* Is the one canonical path the other, or below it? */
bool fs_path_below(const char *path, const char *dir);
/* Opens an entry (one name) of a directory that was opened by these functions, with the same checks; a link
 * is not followed. */
int fs_path_open_at(const struct fs_root *root, int dir_fd, const char *name, sa_error **err);
/* May it be looked at? PERMISSION_DENIED: it belongs to the services. fs_path_open has asked. */
int fs_path_check_private(const struct fs_root *root, int fd, const char *path, sa_error **err);
/* May `name` in the directory be made, replaced, renamed or removed? PERMISSION_DENIED: it is, or holds, what
 * belongs to the services, a root, or /proc. path: for the message. */
int fs_path_check_name(const struct fs_root *root, int dir_fd, const char *name, const char *path,
                       sa_error **err);
/* May all that is below be read? PERMISSION_DENIED: it holds what belongs to the services. */
int fs_path_check_tree(const struct fs_root *root, int fd, const char *path, sa_error **err);
/* Opens again, for reading or writing (O_ flags), what an O_PATH descriptor stands for. -1 with errno. */
int fs_reopen(int path_fd, int flags);
/* Canonical path of what a descriptor stands for, for messages and records. free() it; NULL with errno. */
char *fs_real_path(int fd);

#endif
