#include <stdlib.h>

#include "adapters/nng/bus.h"
#include "services/fs-svc/fs.h"

void fs_tell_written(struct fs_service *fs, const char *root, FileInfo *file, uint64_t seq)
{
    FileChanged m = FILE_CHANGED__INIT;
    m.root = (char *)(uintptr_t)root;
    m.file = file;
    m.kind = FILE_CHANGE_KIND_MODIFIED;
    size_t n = file_changed__get_packed_size(&m);
    cleanup_free uint8_t *packed = sa_malloc(n);
    file_changed__pack(&m, packed);
    cleanup_free char *stream = sa_format("fs/%s", root), *topic = sa_format("%s/write", stream);
    bus_publish(fs->bus, topic, stream, seq, seq - 1, packed, n);
}
