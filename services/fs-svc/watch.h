/* WatchTree: readers of watched trees. Under the service lock. */
#ifndef SERVICES_FS_SVC_WATCH_H_
#define SERVICES_FS_SVC_WATCH_H_

#include "services/fs-svc/fs.h"

enum {
    WATCH_TREES_MAX = 64,
    WATCH_READERS_MAX = 512,
    WATCH_PROGRESS_MS = 15000,
    WATCH_BATCH_EVENTS = 1000,
    WATCH_BATCH_BYTES = 128 << 10,
    WATCH_FACT_BYTES = 8 << 10, /* of a message on the bus, which takes 16 KiB */
    WATCH_UNWATCHED_TOLD = 100,
};

struct fs_watches;

/* max_directories: of all trees. linger_ms: a tree is watched on so long after its last reader has left. */
struct fs_watches *fs_watches_new(struct fs_service *fs, uint64_t max_directories, uint64_t linger_ms);
/* Streams end with DRAINING. */
void fs_watches_drain(struct fs_watches *w);
void fs_watches_free(struct fs_watches *w); /* NULL is fine */

void fs_watch_tree(void *api, struct rpc_call *call, const WatchTreeRequest *req);

#endif
