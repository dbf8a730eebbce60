/* Which files of a tree are looked at: what `fs find`, `fs grep` and `fs download` have in common. Their
 * tables have the options --glob (-g), and the first two --hidden, --no-ignore, --any-case and --depth as
 * well. */
#ifndef SERVICES_CLI_FS_FILTER_H_
#define SERVICES_CLI_FS_FILTER_H_

#include "adapters/os/mem.h"
#include "sandboxagent/fs/v1/search_service.rpc.h"
#include "services/runtime/options.h"

/* In the arena, but for the words of the command line. */
FileFilter *fs_filter_globs(struct sa_arena *a, const struct options *o);
FileFilter *fs_filter_all(struct sa_arena *a, const struct options *o);

#endif
