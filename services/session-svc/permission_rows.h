/* Permission requests and questions as they are stored, for callers. */
#ifndef SERVICES_SESSION_SVC_PERMISSION_ROWS_H_
#define SERVICES_SESSION_SVC_PERMISSION_ROWS_H_

#include "sandboxagent/session/v1/permission_service.rpc.h"
#include "services/session-svc/sessions.h"

/* What is committed of a request; zero before, permission_row_fini after. */
struct permission_row {
    StoredPermission *pending; /* NULL: it is resolved */
    StoredResolution *resolved;
};
/* 1: found; 0: not; -1: STORE_ERROR, ... */
int permission_read(struct sessions *all, struct sa_id id, struct permission_row *ret, sa_error **err);
void permission_row_fini(struct permission_row *row);
/* "" when it is of no session: never. */
const char *permission_row_session(const struct permission_row *row);
/* Points into the row. */
Permission *permission_describe(struct sa_id id, const struct permission_row *row, struct sa_arena *arena);

#endif
