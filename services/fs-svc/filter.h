/* The FileFilter of a request as options of a walk. */
#ifndef SERVICES_FS_SVC_FILTER_H_
#define SERVICES_FS_SVC_FILTER_H_

#include "sandboxagent/fs/v1/search_service.rpc.h"
#include "services/fs-svc/walk.h"

/* f: NULL: the defaults. *globs gets its patterns, and is left as it is by a failure but for what the caller
 * finishes. INVALID_PATTERN, INVALID_REQUEST. */
int fs_filter(const FileFilter *f, struct fs_globs *globs, struct fs_walk_options *ret, sa_error **err);

#endif
