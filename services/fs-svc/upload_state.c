#include "services/fs-svc/upload_state.h"

#include <string.h>

#include "adapters/os/clock.h"

int fs_upload_accept(uint64_t at, uint64_t size, uint64_t offset, size_t n, size_t *ret_skip, sa_error **err)
{
    if (offset > at)
        return sa_fail(err, SA_OFFSET_AHEAD, "the data is for offset %llu, the upload is at %llu",
                       (unsigned long long)offset, (unsigned long long)at);
    uint64_t skip = at - offset < n ? at - offset : n;
    if (n - skip > size - at)
        return sa_fail(err, SA_INVALID_REQUEST, "more than the announced %llu bytes came",
                       (unsigned long long)size);
    *ret_skip = (size_t)skip;
    return 0;
}

static int corrupt(const char *what, sa_error **err)
{
    return sa_fail(err, SA_STORE_CORRUPT, "the record of an upload has no good %s", what);
}

static int is_name(ProtobufCBinaryData b)
{
    return b.len && b.len <= 255 && !memchr(b.data, '/', b.len) && !memchr(b.data, 0, b.len) &&
           !(b.len == 1 && b.data[0] == '.') && !(b.len == 2 && b.data[0] == '.' && b.data[1] == '.');
}

int fs_upload_check(const UploadRecord *r, sa_error **err)
{
    struct sa_sha256 digest;
    struct sa_id id;
    if (r->upload_id.len != sizeof id.bytes)
        return corrupt("id", err);
    memcpy(id.bytes, r->upload_id.data, sizeof id.bytes);
    char text[SA_ID_TEXT + 1], temp[SA_ID_TEXT + 16] = ".sa-";
    sa_id_format(id, text);
    strcat(strcat(temp, text), ".tmp");
    if (strcmp(r->temp, temp) != 0 || !is_name(r->name))
        return corrupt("name", err);
    if (!r->directory.len || r->directory.data[0] != '/' || memchr(r->directory.data, 0, r->directory.len) ||
        !r->path.len || memchr(r->path.data, 0, r->path.len))
        return corrupt("path", err);
    if (r->sha256.len && r->sha256.len != SA_SHA256_SIZE)
        return corrupt("SHA-256", err);
    if (r->digest_state.len != SA_SHA256_SAVED)
        return corrupt("digest state", err);
    fs_upload_load(r, &digest);
    if (digest.size != r->offset || r->offset > INT64_MAX || r->offset > fs_upload_size(r))
        return corrupt("offset", err);
    return 0;
}

uint64_t fs_upload_size(const UploadRecord *r)
{
    return r->_size_case == UPLOAD_RECORD___SIZE_SIZE ? r->size : UINT64_MAX;
}

void fs_upload_save(UploadRecord *r, uint64_t offset, const struct sa_sha256 *digest)
{
    r->offset = offset;
    sa_sha256_save(digest, r->digest_state.data);
}

void fs_upload_load(const UploadRecord *r, struct sa_sha256 *ret_digest)
{
    sa_sha256_load(ret_digest, r->digest_state.data);
}
