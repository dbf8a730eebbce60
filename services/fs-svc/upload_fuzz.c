/* Resuming: records as a disk may give them back are refused or good; and whatever messages come, with
 * restarts in between, what is accepted is the content from its beginning without a gap or a repetition. */
#include <stdlib.h>
#include <string.h>

#include "adapters/os/clock.h"
#include "services/fs-svc/upload_state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_record(const uint8_t *data, size_t size)
{
    cleanup_error sa_error *err = NULL;
    UploadRecord *r = (UploadRecord *)protobuf_c_message_unpack(&upload_record__descriptor, NULL, size, data);
    if (!r)
        return;
    if (fs_upload_check(r, &err) == 0) {
        struct sa_sha256 digest, again;
        fs_upload_load(r, &digest);
        if (digest.size != r->offset || r->offset > fs_upload_size(r))
            abort();
        sa_sha256_add(&digest, "x", 1);
        fs_upload_save(r, digest.size, &digest);
        fs_upload_load(r, &again);
        if (memcmp(digest.h, again.h, sizeof digest.h) != 0 || again.size != r->offset)
            abort();
    } else if (!err || strcmp(err->reason, "STORE_CORRUPT") != 0) {
        abort();
    }
    protobuf_c_message_free_unpacked(&r->base, NULL);
}

/* What the content is: its bytes tell where they belong. */
static void fill(uint8_t *p, uint64_t at, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)((at + i) * 31 + ((at + i) >> 8));
}

static void try_messages(const uint8_t *data, size_t size)
{
    enum { CONTENT = 65536 };
    static uint8_t content[CONTENT], piece[4096];
    uint8_t state[SA_SHA256_SAVED];
    uint64_t at = 0, announced = size ? (uint64_t)data[0] << 8 : 0, end = announced ? announced : UINT64_MAX;
    struct sa_sha256 digest, saved;
    UploadRecord r = UPLOAD_RECORD__INIT;
    r.digest_state = (ProtobufCBinaryData){sizeof state, state};
    sa_sha256_init(&digest);
    fs_upload_save(&r, 0, &digest);
    for (size_t i = 1; i + 4 <= size; i += 4) {
        if (data[i] == 255) { /* a restart: back to what was recorded */
            at = r.offset;
            fs_upload_load(&r, &digest);
            continue;
        }
        if (data[i] == 254) {
            fs_upload_save(&r, at, &digest);
            fs_upload_load(&r, &saved);
            continue;
        }
        uint64_t offset = (uint64_t)data[i + 1] << 8 | data[i + 2];
        size_t n = (size_t)data[i + 3] * 16, skip = 0;
        cleanup_error sa_error *err = NULL;
        fill(piece, offset, n);
        if (fs_upload_accept(at, end, offset, n, &skip, &err) < 0) {
            if (offset <= at && offset + n <= end)
                abort();
            continue;
        }
        if (offset > at || skip > n || (skip < n && offset + skip != at) || at + n - skip > end)
            abort();
        if (at + n - skip > CONTENT)
            break;
        memcpy(content + at, piece + skip, n - skip);
        sa_sha256_add(&digest, piece + skip, n - skip);
        at += n - skip;
    }
    static uint8_t want[CONTENT];
    uint8_t one[SA_SHA256_SIZE], other[SA_SHA256_SIZE];
    struct sa_sha256 direct;
    fill(want, 0, (size_t)at);
    sa_sha256_init(&direct);
    sa_sha256_add(&direct, want, (size_t)at);
    sa_sha256_end(&direct, one);
    sa_sha256_end(&digest, other);
    if (memcmp(content, want, (size_t)at) != 0 || memcmp(one, other, sizeof one) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size && data[0] & 1)
        try_record(data + 1, size - 1);
    else if (size)
        try_messages(data + 1, size - 1);
    return 0;
}
