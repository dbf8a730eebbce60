/* What the files of /v1/fs share: paths as the peer's clients write them, and its answers to errors. */
#ifndef SERVICES_GATEWAY_SVC_FILES_H_
#define SERVICES_GATEWAY_SVC_FILES_H_

#include "sandboxagent/fs/v1/file_service.rpc.h"
#include "services/gateway-svc/peer.h"

/* Where a file is: `root` as in FileService (query `root`; "": the whole filesystem). There a path is made
 * absolute, relative ones being below the home directory, so that answers can tell it. */
struct file_place {
    char *root;
    char *path; /* in the request's arena */
};

/* given: what the client wrote; NULL or "": the home directory or the root. Answers 400 (a relative path with
 * "..") and returns false. */
bool file_place(struct exchange *x, const char *given, struct file_place *ret);
/* The same of the query `path`, which must be there. Checks the query, too. */
bool file_place_of_query(struct exchange *x, struct file_place *ret);
ProtobufCBinaryData file_path(const struct file_place *p);

/* Which call failed: the same error is told differently. */
enum file_call { FILE_ANY, FILE_LIST, FILE_READ, FILE_WRITE, FILE_MOVE };
/* Answers with the error, which it copies. path: the one it is about. */
void file_fail(struct exchange *x, enum file_call call, const char *path, const sa_error *err);

/* "entryType", "size" and "modified" of a file. */
void file_put_info(struct json_writer *w, const FileInfo *f);
/* Options of a call that takes as long as there is work: it has no deadline of ours, and fails at once while
 * fs-svc is away. */
struct rpc_call_options file_long_call(const struct exchange *x);

#endif
