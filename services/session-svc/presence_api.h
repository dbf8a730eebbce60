/* PresenceService: the requests about presence, over memory or Redis. */
#ifndef SERVICES_SESSION_SVC_PRESENCE_API_H_
#define SERVICES_SESSION_SVC_PRESENCE_API_H_

#include <stdbool.h>

#include "adapters/grpc/rpc.h"
#include "adapters/lmdb/store.h"
#include "adapters/os/error.h"

/* The row that session-svc's store needs for it, a table of plain bytes: {"presence_floor", 1, NULL}. Key:
 * the session id and a NUL; value: the highest fencing number, 8 bytes big-endian. Deleted with the session
 * by its owner. */
#define PRESENCE_FLOOR_TABLE "presence_floor"
struct store_key presence_floor_key(const char *session_id);

struct presence_api_options {
    struct sa_loop *loop;
    struct store *store;
    int floor_table;
    const char *redis_url; /* NULL: in memory */
    uint32_t ttl_ms;       /* 0: 30000 */
    /* Does the session exist (also an ended one)? SESSION_NOT_FOUND. */
    bool (*session_exists)(void *user, const char *session_id, sa_error **err);
    void *user;
};

struct presence_api;
/* Under the lock. INVALID_CONFIG: the Redis URL. */
struct presence_api *presence_api_new(const struct presence_api_options *opt, sa_error **err);
void presence_api_register(struct presence_api *api, struct rpc_server *server);
/* Under the lock: ends the watches with DRAINING. */
void presence_api_drain(struct presence_api *api);
/* Under the lock, when no call is left and before the store is freed. NULL is fine. */
void presence_api_free(struct presence_api *api);

#endif
