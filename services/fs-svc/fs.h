/* What the API files of fs-svc share. One per process; all of it under the service lock. */
#ifndef SERVICES_FS_SVC_FS_H_
#define SERVICES_FS_SVC_FS_H_

#include <stddef.h>

#include "adapters/grpc/rpc.h"
#include "adapters/os/loop.h"
#include "sandboxagent/fs/v1/archive_service.rpc.h"
#include "sandboxagent/fs/v1/search_service.rpc.h"
#include "sandboxagent/fs/v1/watch_service.rpc.h"
#include "services/fs-svc/identity.h"
#include "services/fs-svc/records.h"
#include "services/fs-svc/roots.h"

enum {
    FS_CALLS_MAX = 512,       /* calls under way, each with at most one job on the workers; more: TOO_MANY */
    FS_CHUNK_MAX = 256 << 10, /* bytes of data in a message of ReadFile, unless the caller asks for others */
    FS_MESSAGE_MAX = 1 << 20, /* bytes of data in a message */
    FS_PENDING_MAX = 1 << 20, /* bytes of a write that wait for the disk before its stream is paused */
    FS_REQUEST_ID_MAX = 128,
};

struct bus_publisher;
struct change;
struct fs_intents;
struct fs_turn;
struct fs_uploads;
struct fs_marks;
struct fs_watches;
struct service;
struct writing;

struct fs_service {
    struct service *svc;
    struct sa_loop *loop;
    struct fs_roots *roots;
    struct fs_identity *identity;
    struct fs_records *records;
    struct bus_publisher *bus;
    struct writing *writings; /* under way; write_api.c's */
    struct change *changes;   /* under way; change.c's */
    struct fs_intents *intents;
    struct fs_turn *turns; /* of what takes effect */
    struct fs_uploads *uploads;
    size_t n_calls;
    size_t n_tasks; /* task.h */
    struct fs_watches *watches;
    struct fs_marks *marks;
};

/* The service's handlers; api is the struct fs_service. */
void fs_stat_file(void *api, struct rpc_call *call, const StatFileRequest *req);
void fs_list_directory(void *api, struct rpc_call *call, const ListDirectoryRequest *req);
void fs_read_file(void *api, struct rpc_call *call, const ReadFileRequest *req);
void fs_read_text(void *api, struct rpc_call *call, const ReadTextRequest *req);
void fs_write_file(void *api, struct rpc_call *call);
void fs_find_files(void *api, struct rpc_call *call, const FindFilesRequest *req);
void fs_rank_files(void *api, struct rpc_call *call, const RankFilesRequest *req);
void fs_search_files(void *api, struct rpc_call *call, const SearchFilesRequest *req);
void fs_upload_archive(void *api, struct rpc_call *call);
void fs_download_archive(void *api, struct rpc_call *call, const DownloadArchiveRequest *req);

void fs_make_directory(void *api, struct rpc_call *call, const MakeDirectoryRequest *req);
void fs_delete_file(void *api, struct rpc_call *call, const DeleteFileRequest *req);
void fs_move_file(void *api, struct rpc_call *call, const MoveFileRequest *req);
void fs_copy_file(void *api, struct rpc_call *call, const CopyFileRequest *req);
void fs_link_file(void *api, struct rpc_call *call, const MakeLinkRequest *req);
void fs_change_file(void *api, struct rpc_call *call, const ChangeFileRequest *req);
void fs_get_usage(void *api, struct rpc_call *call, const GetUsageRequest *req);
void fs_list_roots(void *api, struct rpc_call *call, const ListRootsRequest *req);

/* Tells the bus that a file was written; seq: fs_records_count. */
void fs_tell_written(struct fs_service *fs, const char *root, FileInfo *file, uint64_t seq);

/* A call with its place: held from the handler to the end of the last job of the call. */
struct fs_target {
    struct fs_service *fs;
    struct rpc_call *call;
    const struct fs_root *root;
    char *path;
};
/* Checks root and path and takes a place among FS_CALLS_MAX. ROOT_NOT_FOUND, INVALID_PATH, TOO_MANY. */
int fs_target_init(struct fs_target *t, struct fs_service *fs, struct rpc_call *call, const char *root,
                   ProtobufCBinaryData path, sa_error **err);
void fs_target_fini(struct fs_target *t);

#endif
