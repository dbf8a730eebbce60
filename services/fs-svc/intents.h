/* Where temporary files may be that no record in the store tells of: those of writes without a request_id,
 * which nobody asks for again. A slot each in a file that is written and not synced: a process that is killed
 * leaves its page cache, so a restart finds every one. (After a power failure one may be left over.)
 *
 * A slot has one user, from fs_intents_take to fs_intents_release. */
#ifndef SERVICES_FS_SVC_INTENTS_H_
#define SERVICES_FS_SVC_INTENTS_H_

#include "adapters/os/error.h"
#include "services/fs-svc/identity.h"

enum { FS_INTENTS_MAX = 512 };

struct fs_intents;

/* Opens the file `path`, or makes it, and removes what it tells of (with the rights of `identity`; what
 * cannot be reached now is kept for the next start). Blocks. At start-up. */
struct fs_intents *fs_intents_open(const char *path, const struct fs_identity *identity, sa_error **err);
void fs_intents_free(struct fs_intents *t); /* NULL is fine */

/* Under the service lock. -1: all are in use. */
int fs_intents_take(struct fs_intents *t);
void fs_intents_release(struct fs_intents *t, int slot);

/* On a worker: before the file `temp` of the directory exists, and after it is gone. */
int fs_intents_set(struct fs_intents *t, int slot, const char *dir, const char *temp, sa_error **err);
void fs_intents_clear(struct fs_intents *t, int slot);

#endif
