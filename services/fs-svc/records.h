/* The durable side of writes: what is under way (so that a crash is undone), what was done for which request
 * (so that a repeated one is answered), and the number of each root's last change on the bus. All under the
 * service lock. */
#ifndef SERVICES_FS_SVC_RECORDS_H_
#define SERVICES_FS_SVC_RECORDS_H_

#include <stdint.h>

#include "adapters/lmdb/store.h"
#include "adapters/os/clock.h"
#include "adapters/os/error.h"
#include "sandboxagent/fs/v1/file_service.rpc.h"
#include "services/fs-svc/fs_store.rpc.h"
#include "services/fs-svc/identity.h"

enum { FS_REQUEST_KEEP_S = 86400 }; /* so long a finished request is answered again */

struct fs_records;

/* Opens the store below `dir`, undoes what a crash left (with the rights of `identity`; blocks; what cannot
 * be reached now is kept for the next start) and forgets what is too old. At start-up. */
struct fs_records *fs_records_open(struct sa_loop *loop, const char *dir, enum store_durability durability,
                                   const struct fs_identity *identity, sa_error **err);
/* Called without the lock. NULL is fine. */
void fs_records_free(struct fs_records *r);
uint64_t fs_records_epoch(const struct fs_records *r); /* of the bus; not 0 */

/* The answer to a request that was done before: 1 and a record to be freed with store_message_free; 0: none.
 */
int fs_records_find(struct fs_records *r, const char *principal, const char *request_id, WriteRecord **ret,
                    sa_error **err);
/* A write under way, or what is now known of it. As store_commit. */
int fs_records_put(struct fs_records *r, struct sa_id id, const WriteRecord *w, store_done_fn *done,
                   void *user, sa_error **err);
/* It came to nothing and left nothing behind. */
int fs_records_drop(struct fs_records *r, struct sa_id id, store_done_fn *done, void *user, sa_error **err);
/* It is done: w->file is the answer. *ret_seq is the number of the change in its root, true once `done` told
 * so. */
int fs_records_finish(struct fs_records *r, struct sa_id id, WriteRecord *w, uint64_t *ret_seq,
                      store_done_fn *done, void *user, sa_error **err);
/* For changes (change_records.h) and uploads: the store, and one more change of a root, put into the set;
 * answers its number. After a failed commit: fs_records_reload. */
enum {
    FS_TABLE_CHANGES = 3,
    FS_TABLE_CHANGE_REQUESTS,
    FS_TABLE_UPLOADS, /* upload_store.c */
    FS_TABLE_UPLOADS_DONE,
    FS_TABLE_UPLOAD_REQUESTS,
    FS_TABLE_MARKS, /* marks.c */
};
struct store *fs_records_store(struct fs_records *r);
uint64_t fs_records_count(struct fs_records *r, struct store_set *set, const char *root);
/* `done` got an error: numbers are as the store has them. */
void fs_records_reload(struct fs_records *r);

#endif
