/* From what a caller asks for to what a shim gets: checks, users, and the memfd that carries it. */
#ifndef SERVICES_PROCESS_SVC_SPEC_H_
#define SERVICES_PROCESS_SVC_SPEC_H_

#include "adapters/os/error.h"
#include "adapters/os/sha256.h"
#include "sandboxagent/process/v1/process_service.rpc.h"
#include "services/process-svc/shim/protocol.h"

struct limits;

enum {
    SPEC_ROWS_DEFAULT = 24,
    SPEC_COLUMNS_DEFAULT = 80,
    SPEC_SCROLLBACK_DEFAULT = 1000,
    SPEC_SCROLLBACK_MAX = 10000,
    SPEC_TERM_MAX = 64,
};
#define SPEC_TERM_DEFAULT "xterm-256color"

enum { SPEC_LABELS_MAX = 64, SPEC_LABEL_BYTES_MAX = 256 };

/* INVALID_REQUEST names the field and the limit. Never says a value of the environment. */
int spec_check(const ProcessSpec *spec, sa_error **err);

/* Both 1 to SHIM_SIDE_MAX; `what` has them. */
int spec_check_size(const char *what, uint32_t rows, uint32_t columns, sa_error **err);

/* Who a process runs as. */
struct spec_user {
    bool set; /* false: as the service */
    uint32_t uid, gid;
    uint32_t groups[SHIM_GROUPS_MAX];
    uint32_t n_groups;
};
/* Looks a user up, by name or number; may block. INVALID_REQUEST: there is none. PERMISSION_DENIED: we may
 * not become it. Any thread. */
int spec_user_find(const char *name, struct spec_user *ret, sa_error **err);

/* How a shim is to run it. */
struct spec_mode {
    const char *id; /* NULL: by a runner */
    bool keep;      /* SHIM_FLAG_KEEP */
    const struct spec_user *user;
    enum shim_retention retention[SHIM_STREAMS];
    uint64_t journal_bytes;
    const struct limits *limits; /* where its cgroups may be made */
};
/* Writes the shim's spec to the start of a memfd; its size, or -1. spec must have passed spec_check. */
ssize_t spec_write(int fd, const ProcessSpec *spec, const struct spec_mode *mode, sa_error **err);
/* A new memfd with it. */
int spec_memfd(const ProcessSpec *spec, const struct spec_mode *mode, sa_error **err);

/* Digest of everything in the spec, the order of labels aside. */
void spec_digest(const ProcessSpec *spec, uint8_t ret_digest[static SA_SHA256_SIZE]);

/* Says what went wrong when a shim reports SHIM_FAILED. */
int spec_fail(sa_error **err, const ProcessSpec *spec, uint32_t stage, int errnum);

#endif
