#include <stdlib.h>

#include "services/fs-svc/fs.h"
#include "services/runtime/service.h"

int fs_target_init(struct fs_target *t, struct fs_service *fs, struct rpc_call *call, const char *root,
                   ProtobufCBinaryData path, sa_error **err)
{
    const struct fs_root *found = fs_roots_find(fs->roots, root, err);
    if (!found)
        return -1;
    if (fs->n_calls >= FS_CALLS_MAX)
        return sa_fail(err, SA_TOO_MANY, "%d file calls are under way, that is the limit", FS_CALLS_MAX);
    char *text = fs_path_from_bytes(path.data, path.len, err);
    if (!text)
        return -1;
    fs->n_calls++;
    service_hold(fs->svc);
    *t = (struct fs_target){.fs = fs, .call = rpc_call_ref(call), .root = found, .path = text};
    return 0;
}

void fs_target_fini(struct fs_target *t)
{
    if (!t->fs)
        return;
    t->fs->n_calls--;
    service_release(t->fs->svc);
    rpc_call_unref(t->call);
    free(t->path);
    *t = (struct fs_target){0};
}
