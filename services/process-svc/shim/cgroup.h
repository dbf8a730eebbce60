/* The cgroups of a child: made as the spec says, one in each hierarchy that is needed. Works on cgroup v1 and
 * v2 alike, since process-svc has chosen the files. Single-threaded, nothing allocates. */
#ifndef SERVICES_PROCESS_SVC_SHIM_CGROUP_H_
#define SERVICES_PROCESS_SVC_SHIM_CGROUP_H_

#include "services/process-svc/shim/protocol.h"

/* Makes the directories, which may be there already, and writes the settings. 0, or -1 with errno. */
int cgroups_make(const struct shim_spec *spec, const struct shim_spec_parts *parts);
/* Puts the calling process in, by system calls only. 0, or -1 with errno. */
int cgroups_join(const struct shim_spec *spec, const struct shim_spec_parts *parts);
/* Kills everything in them, where the kernel offers that (v2). */
void cgroups_kill(const struct shim_spec *spec, const struct shim_spec_parts *parts);
/* How often the limit of memory has killed something in them. */
uint32_t cgroups_oom_kills(const struct shim_spec *spec, const struct shim_spec_parts *parts);
/* Removes them, once they are empty. */
void cgroups_remove(const struct shim_spec *spec, const struct shim_spec_parts *parts);

#endif
