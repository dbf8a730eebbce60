/* MarkService: which marks there are, and the tasks that make and compare them. Under the service lock. */
#ifndef SERVICES_FS_SVC_MARKS_H_
#define SERVICES_FS_SVC_MARKS_H_

#include <sys/queue.h>

#include "sandboxagent/fs/v1/mark_service.rpc.h"
#include "services/fs-svc/fs.h"
#include "services/fs-svc/fs_store.rpc.h"
#include "services/fs-svc/task.h"

enum {
    MARKS_MAX = 1000,
    MARKS_KEEP_S = 86400,
    MARKS_KEEP_MAX_S = 30 * 86400,
    MARKS_PATTERNS_MAX = 64,
    MARKS_SWEEP_MS = 1000, /* after a mark was forgotten */
};
#define MARKS_ADDED_MAX ((uint64_t)256 << 20) /* bytes of content that one mark adds */
#define MARKS_BYTES_MAX ((uint64_t)2 << 30)   /* of all */

struct mark {
    struct mark *next; /* the next younger */
    struct sa_id id;
    char text[SA_ID_TEXT + 1];
    MarkRecord *record;
    bool going; /* its deletion is being committed */
};

struct fs_marks {
    struct fs_service *fs;
    char *dir;          /* mark_store.h */
    struct mark *first; /* the oldest; by id */
    size_t n;
    LIST_HEAD(, making) making; /* mark_api.c's */
    size_t n_making;
    uint64_t bytes; /* of kept content */
    /* The directory is used by tasks, or swept; never both. */
    size_t n_users;
    bool sweeping, sweep_wanted;
    struct fs_task *waiting[FS_TASKS_MAX]; /* for the end of a sweep */
    struct sa_timer *sweep, *expire;
};

/* Blocks; at start-up, with the lock. */
struct fs_marks *fs_marks_open(struct fs_service *fs, const char *data_dir, sa_error **err);
void fs_marks_free(struct fs_marks *m); /* NULL is fine */

/* MARK_NOT_FOUND. */
struct mark *fs_marks_find(struct fs_marks *m, const char *id, sa_error **err);
/* The youngest of this directory; NULL: none. */
struct mark *fs_marks_youngest(struct fs_marks *m, const char *root, ProtobufCBinaryData path);
/* The one that was made for this request; NULL: none. */
struct mark *fs_marks_of_request(struct fs_marks *m, const char *principal, const char *request_id);
/* Takes the record. */
struct mark *fs_marks_add(struct fs_marks *m, struct sa_id id, MarkRecord *record);
void fs_marks_remove(struct fs_marks *m, struct mark *mark);
/* Forgets what is expired. */
void fs_marks_expire(struct fs_marks *m);
Mark *fs_mark_to_proto(const struct mark *mark, struct sa_arena *a);

/* On a task's thread, without the lock: from enter to leave nothing is swept. False: the caller has left. */
bool fs_marks_enter(struct fs_marks *m, struct fs_task *t);
/* Under the lock. */
void fs_marks_leave(struct fs_marks *m);
/* Under the lock: soon, what no mark knows is removed. */
void fs_marks_want_sweep(struct fs_marks *m);

void fs_create_mark(void *api, struct rpc_call *call, const CreateMarkRequest *req);
void fs_list_marks(void *api, struct rpc_call *call, const ListMarksRequest *req);
void fs_delete_mark(void *api, struct rpc_call *call, const DeleteMarkRequest *req);
void fs_diff_marks(void *api, struct rpc_call *call, const DiffMarksRequest *req);

#endif
