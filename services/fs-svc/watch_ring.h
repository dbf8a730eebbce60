/* The last events of a watched tree, numbered without holes. Plain data, under the service lock. */
#ifndef SERVICES_FS_SVC_WATCH_RING_H_
#define SERVICES_FS_SVC_WATCH_RING_H_

#include "adapters/os/mem.h"
#include "sandboxagent/fs/v1/watch_service.rpc.h"
#include "services/fs-svc/coalesce.h"

enum { WATCH_RING_EVENTS = 65536, WATCH_RING_BYTES = 16 << 20 };

struct watch_event;

struct watch_ring {
    struct watch_event **events; /* of seq s at s % WATCH_RING_EVENTS */
    uint64_t first, head;        /* first kept; newest, 0: none yet. Empty: first is head + 1 */
    size_t bytes;
};

void watch_ring_init(struct watch_ring *r);
void watch_ring_fini(struct watch_ring *r);
/* Copies. The oldest go. */
void watch_ring_add(struct watch_ring *r, const struct watch_change *w);
/* Events after `after`, which is at least first - 1, up to max_events and about max_bytes, at least one. The
 * message is the arena's, its texts are the ring's: both live until the next change. */
WatchEventBatch *watch_ring_batch(const struct watch_ring *r, uint64_t after, size_t max_events,
                                  size_t max_bytes, struct sa_arena *a);

#endif
