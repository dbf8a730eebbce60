/* What a spec says about starting again and about readiness, and which group it runs as. */
#ifndef SERVICES_PROCESS_SVC_POLICY_H_
#define SERVICES_PROCESS_SVC_POLICY_H_

#include "adapters/os/error.h"
#include "adapters/os/mem.h"
#include "services/process-svc/spec.h"
#include "store.rpc.h"

enum {
    POLICY_BACKOFF_MS = 1000,
    POLICY_BACKOFF_MAX_MS = 60000,
    POLICY_RESTARTS = 10,
    POLICY_PAUSE_MAX_MS = 24 * 3600 * 1000, /* of any pause */
};

/* INVALID_REQUEST: restart, readiness, limits. */
int policy_check(const ProcessSpec *spec, sa_error **err);
/* Into the spec of a shim: restart to the header, the pattern to the end. */
void policy_pack(const ProcessSpec *spec, struct shim_spec *h, struct sa_buf *b);

/* From a spec to its record: shares memory with it. */
void policy_to_record(const ProcessSpec *spec, ProcessRecord *r);
/* And back, copied. */
void policy_to_message(struct sa_arena *a, const ProcessRecord *r, ProcessSpec *m);

/* Changes the group of `user`, whom the process runs as. A look-up by name may block. INVALID_REQUEST: there
 * is no such group. PERMISSION_DENIED: we may not become it. Any thread. */
int policy_group_find(const char *name, struct spec_user *user, sa_error **err);

#endif
