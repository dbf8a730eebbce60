/* A change of names or attributes: one call, from the request to the answer. change.c has the state machine,
 * change_kinds.c what each kind does on a worker thread. */
#ifndef SERVICES_FS_SVC_CHANGE_H_
#define SERVICES_FS_SVC_CHANGE_H_

#include <stdbool.h>
#include <stdint.h>

#include "services/fs-svc/change_records.h"
#include "services/fs-svc/fs.h"
#include "services/fs-svc/info.h"
#include "services/fs-svc/remove.h"
#include "services/fs-svc/transfer.h"

struct change_kind;

/* What a request names; borrowed from it. */
struct change_names {
    const char *root, *to_root; /* to_root: only of a move or copy, else root */
    ProtobufCBinaryData path, to_path;
    const char *request_id;
};

/* What came of it. */
struct change_result {
    bool changed;          /* else nothing was to be done */
    struct fs_info info;   /* as it is now; of a deletion, as it was */
    struct fs_info before; /* of a move */
    uint64_t entries, bytes;
    bool created;
};

struct change {
    struct change *next; /* of the service's */
    const struct change_kind *kind;
    struct fs_target target;
    ProtobufCMessage *request; /* our copy */
    struct change_names names; /* of it */
    const struct fs_root *to_root;
    char *to_path;
    struct sa_id id;
    int state;
    int more;      /* what the last step on a worker answered */
    bool begun;    /* the temporary file is being made */
    bool recorded; /* the store has a record of it */
    bool busy, cancelled;
    sa_error *err;      /* why it is being undone */
    sa_error *late;     /* told although the change was made */
    sa_error *step_err; /* of the last step */
    ChangeRecord record;
    struct sa_arena *arena;
    uint64_t seq[2];
    /* The kinds': */
    struct fs_place place;
    struct fs_remove remove;
    struct fs_transfer transfer;
    struct change_result result;
};

enum { CHANGE_DONE = 0, CHANGE_MORE = 1, CHANGE_COPY = 2 };

struct change_kind {
    const char *name; /* in the store: never changes */
    const char *topic;
    FileChangeKind told;
    const ProtobufCMessageDescriptor *request, *response;
    bool intent; /* is recorded before it begins when it has a request_id */
    void (*names)(const ProtobufCMessage *request, struct change_names *ret);
    /* On a worker: what is meant, and whether it can be done. NULL: there is nothing to find. */
    int (*find)(struct change *c, sa_error **err);
    /* On a worker, a slice: CHANGE_DONE; CHANGE_MORE; CHANGE_COPY: it wants to go on as a copy (transfer). */
    int (*act)(struct change *c, const struct fs_slice *slice, sa_error **err);
    /* path: as it is told. In the arena. */
    ProtobufCMessage *(*respond)(struct sa_arena *a, const struct change_result *r, const char *path);
    void (*reply)(struct rpc_call *call, const ProtobufCMessage *response);
};

/* By the name in a record; NULL: there is none. */
const struct change_kind *change_kind_of(const char *name);
/* Begins the change that the request asks for. */
void change_begin(void *api, struct rpc_call *call, const struct change_kind *kind,
                  const ProtobufCMessage *request);

#endif
