/* What an upload's resuming stands on: which bytes of a message are new, and the state that is kept in its
 * record. Plain data; no lock, nothing blocks. */
#ifndef SERVICES_FS_SVC_UPLOAD_STATE_H_
#define SERVICES_FS_SVC_UPLOAD_STATE_H_

#include <stddef.h>
#include <stdint.h>

#include "adapters/os/error.h"
#include "adapters/os/sha256.h"
#include "services/fs-svc/fs_store.rpc.h"

/* Of n bytes at `offset`, when `at` bytes are there already: the first *ret_skip are known, the rest is new.
 * size: announced, UINT64_MAX: not. OFFSET_AHEAD: bytes before them are missing; INVALID_REQUEST: beyond
 * `size`. */
int fs_upload_accept(uint64_t at, uint64_t size, uint64_t offset, size_t n, size_t *ret_skip, sa_error **err);

/* Is this record, as it was read, one that an upload can go on from? STORE_CORRUPT. */
int fs_upload_check(const UploadRecord *r, sa_error **err);
uint64_t fs_upload_size(const UploadRecord *r); /* announced; UINT64_MAX: not */
/* Puts the position and the digest of what is before it into the record, whose digest_state has its size, or
 * takes the digest out. */
void fs_upload_save(UploadRecord *r, uint64_t offset, const struct sa_sha256 *digest);
void fs_upload_load(const UploadRecord *r, struct sa_sha256 *ret_digest);

#endif
