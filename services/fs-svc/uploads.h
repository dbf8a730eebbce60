/* Uploads: each is an object with a record in the store, which lives until it is committed, aborted or
 * expired, over any number of streams and restarts. What it does next is decided in one place (uploads.c);
 * the handlers only tell it what is wanted. All of it under the service lock. */
#ifndef SERVICES_FS_SVC_UPLOADS_H_
#define SERVICES_FS_SVC_UPLOADS_H_

#include "adapters/os/clock.h"
#include "adapters/os/sha256.h"
#include "sandboxagent/fs/v1/upload_service.rpc.h"
#include "services/fs-svc/fs.h"
#include "services/fs-svc/fs_store.rpc.h"
#include "services/fs-svc/replace.h"
#include "services/fs-svc/turns.h"

enum {
    FS_UPLOADS_MAX = 1024,          /* not committed; more: TOO_MANY */
    FS_UPLOAD_SYNC = 32 << 20,      /* bytes after which what was written is synced and recorded */
    FS_UPLOAD_EXPIRE_S = 86400,     /* default */
    FS_UPLOAD_EXPIRE_MAX = 2592000, /* 30 days */
};

enum fs_upload_step {
    UPLOAD_LOCATE, /* beginning: where it leads (worker) ... */
    UPLOAD_RECORD, /* ... is recorded (store), before ... */
    UPLOAD_CREATE, /* ... the temporary file is made (worker), ... */
    UPLOAD_NOTE,   /* ... whose inode is recorded (store) */
    UPLOAD_IDLE,
    UPLOAD_OPEN,   /* the temporary file, again (worker) */
    UPLOAD_WRITE,  /* data (worker) */
    UPLOAD_TURN,   /* committing: other writes to the file take effect first */
    UPLOAD_FINISH, /* it is put in place (worker) */
    UPLOAD_RESULT, /* and that is recorded (store) */
    UPLOAD_REMOVE, /* the temporary file is removed (worker) */
    UPLOAD_FORGET, /* and then the record (store) */
};

/* A stream of data for it. */
struct fs_feed {
    struct fs_service *fs;
    struct rpc_call *call;
    struct fs_upload *upload; /* NULL: the first message has not come */
    bool ended, paused;
};

struct fs_upload {
    struct fs_upload *next; /* the younger one */
    struct fs_service *fs;
    struct sa_id id;
    UploadRecord *record; /* as it was put into the store last */
    enum fs_upload_step step;
    bool busy;        /* the step runs */
    sa_error *failed; /* how it ended */

    const struct fs_root *root;
    struct fs_replace file;
    bool open;
    uint64_t at;             /* bytes in the temporary file */
    struct sa_sha256 digest; /* of them */
    uint64_t committed;      /* of them on the disk and in the record */
    struct sa_sha256 committed_digest;
    struct sa_buf pending, chunk;

    bool syncing; /* beside the steps: the disk, then the record */
    uint64_t sync_to;
    struct sa_sha256 sync_digest;
    sa_error *sync_failed;
    bool lost; /* the disk failed: what was not recorded is to come again */

    struct fs_feed *feed;     /* the newest stream; NULL: none */
    struct rpc_call *begin;   /* waits for its beginning; NULL: nobody */
    bool make_parents;        /* at the beginning */
    struct rpc_call *commit;  /* waits for the end; NULL: nobody */
    ProtobufCBinaryData want; /* SHA-256 that the commit asks for; its memory is the commit's */
    bool committing;          /* also when its caller has gone */
    bool placed;              /* the file is in place; only the record is missing */
    struct fs_info info;      /* then */
    uint64_t seq;
    struct fs_turn turn;
    struct rpc_call *abort; /* waits for the removal; NULL: nobody */
    bool unwanted;          /* aborted or expired, or it could not begin */
    sa_error *reason;       /* that it could not begin */
};

struct fs_uploads {
    struct fs_upload *first; /* oldest first */
    size_t n;
    struct sa_timer *expiry, *sweep;
};

/* Reads the records and finds out what a crash has left of each; blocks. At start-up. */
int fs_uploads_open(struct fs_service *fs, sa_error **err);
/* No call is left, or none has come. */
void fs_uploads_free(struct fs_service *fs);

/* ---- uploads.c ---- */

/* Takes the record, whose temporary file is there, or is to be made (begin: the call that waits for it). */
struct fs_upload *fs_upload_new(struct fs_service *fs, UploadRecord *record, struct rpc_call *begin);
/* NULL: UPLOAD_NOT_FOUND, also when it has not begun yet or is being removed. */
struct fs_upload *fs_upload_find(struct fs_service *fs, const char *id, sa_error **err);
/* Something is wanted, or a step has ended. It may be gone afterwards. */
void fs_upload_advance(struct fs_upload *u);
Upload *fs_upload_to_proto(struct sa_arena *a, const UploadRecord *r, uint64_t committed);

/* ---- upload_write.c ---- */

/* It is over for this stream: with an error, which it takes, or (err NULL) with a last answer. */
void fs_feed_end(struct fs_feed *feed, sa_error *err);
void fs_feed_pause(struct fs_feed *feed, bool paused);
void fs_feed_acknowledge(struct fs_feed *feed, uint64_t committed);

/* ---- upload_store.c: as store_commit ---- */

int fs_upload_put(struct fs_upload *u, store_done_fn *done, sa_error **err);
int fs_upload_forget(struct fs_upload *u, store_done_fn *done, sa_error **err);
/* It is in place: u->info. Sets u->seq. */
int fs_upload_finish(struct fs_upload *u, store_done_fn *done, sa_error **err);
/* A committed one: 1 and a record to be freed with store_message_free; 0: none. */
int fs_upload_find_done(struct fs_service *fs, struct sa_id id, UploadRecord **ret, sa_error **err);
int fs_upload_find_request(struct fs_service *fs, const char *principal, const char *request_id,
                           UploadRecord **ret, sa_error **err);
/* A copy that is freed with store_message_free. */
UploadRecord *fs_upload_copy(const UploadRecord *r);
/* Forgets what was committed more than a day ago. */
void fs_upload_sweep(void *fs);

/* The service's handlers; api is the struct fs_service. */
extern const struct upload_service_handlers fs_upload_handlers;
void fs_write_upload(void *api, struct rpc_call *call);

#endif
