/* With --agent-user, user files are accessed with that user's rights, so that what an agent asks of fs-svc
 * cannot reach what the agent itself could not. Only the worker thread that does the access changes, and only
 * its file rights (fsuid, fsgid, groups, capabilities): its signals and its memory stay the service's. */
#ifndef SERVICES_FS_SVC_IDENTITY_H_
#define SERVICES_FS_SVC_IDENTITY_H_

#include "adapters/os/error.h"

struct fs_identity;

/* user: a name or a number of the system's users; NULL: the service's own rights. Changing needs root:
 * PERMISSION_DENIED; INVALID_CONFIG: no such user. At start-up. */
struct fs_identity *fs_identity_new(const char *user, sa_error **err);
void fs_identity_free(struct fs_identity *id); /* NULL is fine */
/* The user's home directory; with no user, $HOME or that of the passwd entry; "/" when there is none. */
const char *fs_identity_home(const struct fs_identity *id);

/* The calling thread has the user's file rights from enter to leave. Not nested. enter fails (SYSTEM_ERROR)
 * rather than go on with more rights than wanted; leave cannot fail, or ends the process. */
int fs_identity_enter(const struct fs_identity *id, sa_error **err);
void fs_identity_leave(const struct fs_identity *id);

#endif
