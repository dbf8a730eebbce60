/* The durable side of changes of names (fs_store.proto, ChangeRecord): what is under way, so that a crash is
 * undone or completed, and what was done for which request. All under the service lock. */
#ifndef SERVICES_FS_SVC_CHANGE_RECORDS_H_
#define SERVICES_FS_SVC_CHANGE_RECORDS_H_

#include "adapters/os/clock.h"
#include "services/fs-svc/records.h"

/* The answer to a request that was done before: 1 and a record to be freed with store_message_free; 0: none.
 */
int fs_changes_find(struct fs_records *r, const char *principal, const char *request_id, ChangeRecord **ret,
                    sa_error **err);
/* A change that is to begin, or what is now known of it. As store_commit. */
int fs_changes_put(struct fs_records *r, struct sa_id id, const ChangeRecord *c, store_done_fn *done,
                   void *user, sa_error **err);
/* It came to nothing and left nothing behind. */
int fs_changes_drop(struct fs_records *r, struct sa_id id, store_done_fn *done, void *user, sa_error **err);
/* It is done: c->response is the answer. roots: those that it changed, or NULL; ret_seq: the number of the
 * change in each, true once `done` told so. */
int fs_changes_finish(struct fs_records *r, struct sa_id id, ChangeRecord *c, const char *const roots[2],
                      uint64_t ret_seq[2], store_done_fn *done, void *user, sa_error **err);

/* At the start, blocks: removes half copies, completes moves, and finds out what was done. What cannot be
 * reached now is kept for the next start. */
int fs_changes_recover(struct fs_records *r, const struct fs_identity *identity, sa_error **err);
/* Forgets requests that were done before `until` (microseconds since 1970). */
void fs_changes_sweep(struct fs_records *r, int64_t until);

#endif
