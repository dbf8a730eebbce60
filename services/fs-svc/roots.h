/* The roots that this server offers. Made at start-up, never changed. */
#ifndef SERVICES_FS_SVC_ROOTS_H_
#define SERVICES_FS_SVC_ROOTS_H_

#include "adapters/os/error.h"
#include "services/fs-svc/path.h"

enum { FS_ROOTS_MAX = 64, FS_ROOT_NAME_MAX = 64 };

struct fs_roots;

/* spec: lines NAME=DIR[:ro|:rw][:max=BYTES] (rw without a limit is the default); NULL: only the default root
 * "", the whole filesystem with relative paths below `home`. With a spec there is no default root.
 * private_dirs: see struct fs_root; copied, and made canonical where they exist. INVALID_CONFIG names the
 * line. */
struct fs_roots *fs_roots_new(const char *spec, const char *home, const char *const *private_dirs,
                              sa_error **err);
void fs_roots_free(struct fs_roots *r); /* NULL is fine */
/* ROOT_NOT_FOUND. */
const struct fs_root *fs_roots_find(const struct fs_roots *r, const char *name, sa_error **err);
/* May anything be changed? PERMISSION_DENIED: the root is read-only. */
int fs_root_check_change(const struct fs_root *root, sa_error **err);
/* May one write bring so many bytes? FILE_TOO_LARGE. */
int fs_root_check_size(const struct fs_root *root, uint64_t bytes, sa_error **err);
size_t fs_roots_count(const struct fs_roots *r);
const struct fs_root *fs_roots_at(const struct fs_roots *r, size_t i);

#endif
