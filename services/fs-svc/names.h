/* The names in a directory, sorted as bytes, in pieces. Blocks, needs no lock, and uses the file rights of
 * the calling thread. */
#ifndef SERVICES_FS_SVC_NAMES_H_
#define SERVICES_FS_SVC_NAMES_H_

#include <stdbool.h>
#include <stddef.h>

#include "adapters/os/error.h"

/* The first `max` names after `after` (NULL: from the start) of a directory (O_PATH is enough). The caller
 * frees each and the list. Memory is bounded by max, whatever the directory holds. path: for messages. */
int fs_names_read(int dir, const char *after, size_t max, char ***ret_names, size_t *ret_n, bool *ret_more,
                  const char *path, sa_error **err);

#endif
