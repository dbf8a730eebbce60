/* Directories, small files and locks of the services' own data. Thread safe; may block: call at start-up or
 * from sa_work. User files are fs-svc's business. */
#ifndef ADAPTERS_OS_FILE_H_
#define ADAPTERS_OS_FILE_H_

#include <stddef.h>
#include <sys/types.h>

#include "adapters/os/error.h"
#include "adapters/os/mem.h"

/* mkdir -p; the directories it makes get `mode`. */
int sa_mkdirs(const char *path, mode_t mode, sa_error **err);
/* Deletes a tree without following links; a missing one is fine. */
int sa_remove_tree(const char *path, sa_error **err);
/* Whole file, at most `max` bytes (more: TOO_MANY). Appends to *ret. */
int sa_read_file(const char *path, size_t max, struct sa_buf *ret, sa_error **err);
/* Replaces a file atomically: temporary file beside it, fsync, rename. */
int sa_write_file(const char *path, const void *data, size_t n, mode_t mode, sa_error **err);
/* Takes an exclusive flock on `dir`/lock and writes our pid into it. Returns the descriptor that holds it
 * (close to release); DATA_DIR_IN_USE names the holder's pid. */
int sa_lock_dir(const char *dir, sa_error **err);
/* The same with a lock file of any name; `what` is in use, says the error. */
int sa_lock_file(const char *path, const char *what, sa_error **err);

/* Unix sockets whose path may be longer than sun_path (108): bound and connected through
 * /proc/self/fd of the directory. type: SOCK_STREAM or SOCK_SEQPACKET. Non-blocking, close-on-exec. */
int sa_unix_listen(const char *path, int type, sa_error **err);
int sa_unix_connect(const char *path, int type, sa_error **err);
/* One message of up to 16 descriptors. Returns bytes or -1 with errno, like sendmsg and recvmsg.
 * Received descriptors are close-on-exec; *n_fds says how many fit and how many came. */
ssize_t sa_send_fds(int sock, const void *p, size_t n, const int *fds, int n_fds);
ssize_t sa_recv_fds(int sock, void *p, size_t n, int *ret_fds, int *n_fds);

#endif
