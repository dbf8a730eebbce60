/* The directory where marks keep their lists and contents, each under its SHA-256 digest:
 *
 *     <dir>/lists/<digest>            a packed mark_manifest
 *     <dir>/blobs/<2 digits>/<digest> a content
 *     <dir>/temp/                     what is being written; emptied at the start
 *
 * A file is written aside and renamed, so that what has its name is whole; nothing is synced: what power loss
 * damages is told by its digest, and is a content that is not kept. All functions block, and need the
 * service's own file rights; no lock. */
#ifndef SERVICES_FS_SVC_MARK_STORE_H_
#define SERVICES_FS_SVC_MARK_STORE_H_

#include <stdbool.h>
#include <stdint.h>

#include "services/fs-svc/mark_manifest.h"

/* At the start. */
int mark_store_prepare(const char *dir, sa_error **err);
/* *ret_added: bytes that the directory grew by. NO_SPACE. */
int mark_store_put_blob(const char *dir, const uint8_t digest[static SA_SHA256_SIZE], const void *p, size_t n,
                        uint64_t *ret_added, sa_error **err);
/* Appends. STORE_CORRUPT, FILE_NOT_FOUND. */
int mark_store_get_blob(const char *dir, const uint8_t digest[static SA_SHA256_SIZE], struct sa_buf *ret,
                        sa_error **err);
int mark_store_put_list(const char *dir, const struct mark_manifest *m,
                        char ret_name[static SA_SHA256_TEXT + 1], sa_error **err);
int mark_store_get_list(const char *dir, const char *name, struct mark_manifest *ret, sa_error **err);
/* Removes every list that is not among the names, and every blob that none of them knows. *ret_bytes: of the
 * blobs that are left. A list that cannot be read keeps all blobs. Nothing else may use the directory. */
int mark_store_sweep(const char *dir, char *const *names, size_t n, uint64_t *ret_bytes, sa_error **err);

#endif
