/* WriteFile: a small state machine per call. Each state is one step that runs elsewhere (on a worker thread,
 * or in the store's writer); `advance` starts the next one whenever a step has ended or the stream brought
 * something.
 *
 *     WAIT_OPEN ──open──▶ LOCATE ▶ RECORD ▶ CREATE ▶ WRITE ◀─┐ data       (worker, store, worker, worker)
 *                           │                          └─────┘
 *                           │                        end ▼
 *                           │          NOTE ▶ TURN ▶ FINISH ▶ RESULT ▶ reply   (store, -, worker, store)
 *                 error or cancel, anywhere before FINISH: UNDO ▶ FORGET ▶ fail   (worker, store)
 *
 * RECORD makes the temporary file findable before it exists; NOTE waits until its inode is recorded, which
 * was begun right after CREATE, so that a crash after the rename is known to be one. From FINISH on a cancel
 * comes too late.
 * A write without a request_id is quick: nobody asks for it again, so it has no record of its own but an
 * intent (intents.h), is answered after FINISH, and goes
 *
 *     WAIT_OPEN ──open──▶ LOCATE (and create) ▶ WRITE ▶ TURN ▶ FINISH (and write the rest) ▶ reply ▶ RESULT
 *
 * TURN waits for other writes to the same file to have taken effect. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/fault.h"
#include "adapters/os/log.h"
#include "adapters/os/sha256.h"
#include "services/fs-svc/fs.h"
#include "services/fs-svc/intents.h"
#include "services/fs-svc/replace.h"
#include "services/fs-svc/turns.h"
#include "services/runtime/service.h"

enum state { WAIT_OPEN, LOCATE, RECORD, CREATE, WRITE, NOTE, TURN, FINISH, RESULT, UNDO, FORGET, REPEAT };

struct writing {
    struct writing *next; /* of the service's */
    struct fs_service *fs;
    struct rpc_call *call;
    struct fs_target target; /* set by open */
    enum state state;
    struct sa_id id;
    struct fs_replace_options opt;
    struct fs_replace replace;
    struct fs_turn turn;
    int intent;    /* its slot; -1: none */
    bool quick;    /* without a record of its own */
    bool answered; /* before the result was stored */
    bool located;
    uint64_t size, came;   /* announced (UINT64_MAX: not), and taken from the stream */
    const uint8_t *sha256; /* announced; NULL: not */
    struct sa_sha256 digest;
    WriteRecord record; /* its memory is the arena's */
    struct sa_arena *arena;
    struct sa_buf pending, chunk; /* what came, and what a worker writes */
    struct fs_info info;
    uint64_t seq;
    bool busy;   /* a step runs */
    bool noting; /* the inode is being recorded */
    bool ended;  /* the stream brought its end */
    bool paused;
    bool cancelled; /* nobody waits for an answer */
    sa_error *err;  /* why it is being undone */
    sa_error *step_err;
};

static void advance(struct writing *w);

static void writing_free(struct writing *w)
{
    for (struct writing **at = &w->fs->writings; *at; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            break;
        }
    fs_turn_leave(&w->fs->turns, &w->turn);
    fs_intents_release(w->fs->intents, w->intent);
    if (w->located)
        fs_replace_fini(&w->replace);
    fs_info_fini(&w->info);
    sa_buf_fini(&w->pending);
    sa_buf_fini(&w->chunk);
    sa_error_free(w->err);
    sa_error_free(w->step_err);
    sa_arena_free(w->arena);
    fs_target_fini(&w->target);
    rpc_call_unref(w->call);
    free(w);
}

static void give_up(struct writing *w, sa_error *err)
{
    if (w->err)
        sa_error_free(err);
    else
        w->err = err;
}

/* ---- on a worker ---- */

static void create(struct writing *w)
{
    if (w->quick &&
        fs_intents_set(w->fs->intents, w->intent, w->replace.dir, w->replace.temp, &w->step_err) < 0)
        return;
    SA_FAULT("write.intent");
    if (fs_replace_create(&w->replace, &w->step_err) == 0 && w->size != UINT64_MAX)
        fs_replace_reserve(&w->replace, w->size, &w->step_err);
}

static int write_chunk(struct writing *w)
{
    if (fs_replace_write(&w->replace, w->chunk.data, w->chunk.len, &w->step_err) < 0)
        return -1;
    if (w->sha256)
        sa_sha256_add(&w->digest, w->chunk.data, w->chunk.len);
    w->chunk.len = 0;
    return 0;
}

static void work(void *user)
{
    struct writing *w = user;
    const struct fs_identity *identity = w->fs->identity;
    if (fs_identity_enter(identity, &w->step_err) < 0)
        return;
    char id[SA_ID_TEXT + 1];
    switch (w->state) {
    case LOCATE:
        sa_id_format(w->id, id);
        w->located =
            fs_replace_locate(w->target.root, w->target.path, &w->opt, id, &w->replace, &w->step_err) == 0;
        if (w->located && w->quick)
            create(w);
        break;
    case CREATE:
        create(w);
        break;
    case WRITE:
        write_chunk(w);
        break;
    case FINISH:
        if (write_chunk(w) == 0 && fs_replace_finish(&w->replace, &w->info, &w->step_err) == 0 && w->quick)
            fs_intents_clear(w->fs->intents, w->intent);
        break;
    case UNDO:
        fs_replace_abort(&w->replace);
        if (w->quick)
            fs_intents_clear(w->fs->intents, w->intent);
        break;
    default:
        break;
    }
    fs_identity_leave(identity);
}

static void work_done(void *user)
{
    struct writing *w = user;
    w->busy = false;
    advance(w);
}

static void run(struct writing *w, enum state state)
{
    w->state = state;
    w->busy = true;
    sa_work(w->fs->loop, work, work_done, w);
}

/* ---- in the store; a completion may come from inside the call that queues it ---- */

/* The store tells by every commit whether it is well. */
static void note_store(struct writing *w, const sa_error *err)
{
    service_degraded(w->fs->svc, err ? err->message : NULL);
}

static void stored(void *user, const sa_error *err)
{
    struct writing *w = user;
    note_store(w, err);
    w->busy = false;
    w->step_err = sa_error_copy(err);
    SA_FAULT("write.stored");
    if (err && w->state == RESULT)
        fs_records_reload(w->fs->records);
    advance(w);
}

static void not_stored(struct writing *w)
{
    w->busy = false;
    advance(w);
}

static void noted(void *user, const sa_error *err)
{
    struct writing *w = user;
    note_store(w, err);
    w->noting = false;
    if (err)
        give_up(w, sa_error_copy(err));
    advance(w);
}

static ProtobufCBinaryData bytes_of(struct sa_arena *a, const char *s)
{
    return (ProtobufCBinaryData){strlen(s), sa_arena_memdup(a, s, strlen(s))};
}

static void record(struct writing *w)
{
    w->state = RECORD;
    w->record.directory = bytes_of(w->arena, w->replace.dir);
    w->record.name = bytes_of(w->arena, w->replace.name);
    w->record.temp = sa_arena_strdup(w->arena, w->replace.temp);
    w->record.time_us = sa_wall_us();
    w->busy = true;
    if (fs_records_put(w->fs->records, w->id, &w->record, stored, w, &w->step_err) < 0)
        not_stored(w);
}

/* Begun when the temporary file is there; the stream goes on meanwhile. */
static void note_inode(struct writing *w)
{
    sa_error *err = NULL;
    w->record.inode = w->replace.inode;
    w->noting = true;
    if (fs_records_put(w->fs->records, w->id, &w->record, noted, w, &err) < 0) {
        w->noting = false;
        give_up(w, err);
    }
}

static void result(struct writing *w)
{
    w->state = RESULT;
    FileInfo *file = fs_info_to_proto(w->arena, &w->info, w->target.path);
    w->record.file.len = file_info__get_packed_size(file);
    w->record.file.data = sa_arena_alloc(w->arena, w->record.file.len);
    file_info__pack(file, w->record.file.data);
    w->busy = true;
    if (fs_records_finish(w->fs->records, w->id, &w->record, &w->seq, stored, w, &w->step_err) < 0)
        not_stored(w);
}

static void forget(struct writing *w)
{
    w->state = FORGET;
    w->busy = true;
    if (fs_records_drop(w->fs->records, w->id, stored, w, &w->step_err) < 0)
        not_stored(w);
}

/* ---- its end ---- */

static void fail(struct writing *w)
{
    if (!w->cancelled)
        rpc_fail(w->call, steal_pointer(&w->err));
    writing_free(w);
}

static void answer(struct writing *w, FileInfo *file)
{
    WriteFileResponse res = WRITE_FILE_RESPONSE__INIT;
    res.file = file;
    if (!w->cancelled && file)
        write_file_reply(w->call, &res);
}

static void succeed(struct writing *w)
{
    FileInfo *file = fs_info_to_proto(w->arena, &w->info, w->target.path);
    fs_tell_written(w->fs, w->record.root, file, w->seq);
    if (!w->answered)
        answer(w, file);
    writing_free(w);
}

/* The request was done before: the stream was read to its end, now it gets the same answer. */
static void repeat(struct writing *w)
{
    sa_error *err = NULL;
    FileInfo *file = rpc_unpack(&file_info__descriptor, w->record.file.data, w->record.file.len, &err);
    if (err)
        rpc_fail(w->call, err);
    answer(w, file);
    if (file)
        file_info__free_unpacked(file, NULL);
    writing_free(w);
}

/* ---- what comes next ---- */

static void hold_stream(struct writing *w, bool paused)
{
    if (w->paused != paused)
        rpc_pause_request(w->call, paused);
    w->paused = paused;
}

static void finish(void *user)
{
    run(user, FINISH);
}

/* All data is in the temporary file. -1: it is not what was announced. */
static int check_data(struct writing *w, sa_error **err)
{
    uint8_t digest[SA_SHA256_SIZE];
    if (w->size != UINT64_MAX && w->came != w->size)
        return sa_fail(err, SA_INVALID_REQUEST, "%llu bytes came, %llu were announced",
                       (unsigned long long)w->came, (unsigned long long)w->size);
    if (!w->sha256)
        return 0;
    sa_sha256_end(&w->digest, digest);
    if (memcmp(digest, w->sha256, sizeof digest) != 0)
        return sa_fail(err, SA_DIGEST_MISMATCH, "the SHA-256 of what came is not the announced one");
    return 0;
}

static void take_turn(struct writing *w)
{
    sa_error *err = NULL;
    if (check_data(w, &err) < 0) {
        give_up(w, err);
        advance(w);
        return;
    }
    w->turn = (struct fs_turn){.dir = w->replace.dir, .name = w->replace.name, .go = finish, .user = w};
    w->state = TURN;
    if (fs_turn_take(&w->fs->turns, &w->turn))
        finish(w);
}

static void take_pending(struct writing *w)
{
    struct sa_buf empty = w->chunk;
    w->chunk = w->pending;
    w->pending = empty;
    w->pending.len = 0;
    hold_stream(w, false);
}

static void write_more(struct writing *w)
{
    if (w->pending.len && (!w->ended || w->sha256)) {
        take_pending(w);
        run(w, WRITE);
    } else if (w->ended && !w->noting) {
        take_pending(w); /* goes with the last step */
        take_turn(w);
    } else {
        w->state = w->ended ? NOTE : WRITE;
    }
}

static void undo(struct writing *w)
{
    if (w->state == WAIT_OPEN || w->state == REPEAT || (w->state == LOCATE && !w->located))
        fail(w); /* nothing was recorded */
    else if (w->state == UNDO && w->quick)
        fail(w);
    else if (w->state == UNDO)
        forget(w);
    else if (w->state == FORGET)
        fail(w);
    else if (!w->noting) {
        fs_turn_leave(&w->fs->turns, &w->turn);
        run(w, UNDO);
    }
}

/* A step has ended, or the stream brought something. */
static void advance(struct writing *w)
{
    if (w->busy)
        return;
    if (w->step_err) {
        /* A record that cannot be dropped is dropped at the next start: it says where nothing is. */
        if (w->state == FORGET)
            sa_log(SA_LOG_WARN, "fs.forget_failed", "reason=%s", w->step_err->reason);
        /* RECORD: nothing was done. RESULT and UNDO: the record stays, and the next start completes or
         * undoes. */
        bool over = w->state == RECORD || w->state == RESULT || w->state == UNDO;
        give_up(w, steal_pointer(&w->step_err));
        if (over) {
            fail(w);
            return;
        }
    }
    if ((w->err || w->cancelled) && w->state != RESULT && !(w->state == FINISH && !w->err)) {
        undo(w);
        return;
    }
    switch (w->state) {
    case WAIT_OPEN:
        break;
    case REPEAT:
        if (w->ended)
            repeat(w);
        break;
    case LOCATE:
        if (w->located && w->quick) {
            w->state = WRITE;
            write_more(w);
        } else if (w->located)
            record(w);
        else
            run(w, LOCATE);
        break;
    case RECORD:
        run(w, CREATE);
        break;
    case CREATE:
        w->state = WRITE;
        note_inode(w);
        advance(w);
        break;
    case WRITE:
    case NOTE:
        write_more(w);
        break;
    case TURN:
        break;
    case FINISH:
        fs_turn_leave(&w->fs->turns, &w->turn);
        if (w->quick) { /* what is stored is the number of the change only */
            answer(w, fs_info_to_proto(w->arena, &w->info, w->target.path));
            w->answered = true;
        }
        result(w);
        break;
    case RESULT:
        succeed(w);
        break;
    case UNDO:
    case FORGET:
        break;
    }
}

/* ---- the stream ---- */

/* 1: it was done before, 0: it was not, -1: refused. */
static int find_request(struct writing *w, const WriteFileOpen *open, sa_error **err)
{
    for (struct writing *other = w->fs->writings; other; other = other->next)
        if (other != w && !strcmp(other->record.request_id, open->request_id) &&
            !strcmp(other->record.principal, w->record.principal))
            return sa_fail(err, SA_UNAVAILABLE, "request `%s` is under way; try again", open->request_id);
    cleanup_message WriteRecord *known = NULL;
    int found = fs_records_find(w->fs->records, rpc_principal(w->call), open->request_id, &known, err);
    if (found <= 0)
        return found;
    if (strcmp(known->root, open->root) || known->path.len != open->path.len ||
        memcmp(known->path.data, open->path.data, open->path.len))
        return sa_fail(err, SA_REQUEST_ID_REUSED, "request `%s` wrote another file", open->request_id);
    w->record.file.len = known->file.len;
    w->record.file.data = sa_arena_memdup(w->arena, known->file.data, known->file.len);
    return 1;
}

static enum fs_method method_of(WriteMethod method)
{
    return method == WRITE_METHOD_APPEND      ? FS_APPEND
           : method == WRITE_METHOD_AT_OFFSET ? FS_AT_OFFSET
                                              : FS_REPLACE;
}

/* What does not fit together. */
static int check_open(const WriteFileOpen *open, sa_error **err)
{
    bool at_offset = open->method == WRITE_METHOD_AT_OFFSET;
    if (open->method > WRITE_METHOD_AT_OFFSET)
        return sa_fail(err, SA_INVALID_REQUEST, "there is no method %d", (int)open->method);
    if (!at_offset && (open->offset || open->truncate))
        return sa_fail(err, SA_INVALID_REQUEST, "`offset` and `truncate` are for WRITE_METHOD_AT_OFFSET");
    if (open->in_place && method_of(open->method) == FS_REPLACE)
        return sa_fail(err, SA_INVALID_REQUEST, "`in_place` is for appends and writes at an offset");
    if (open->sha256.len && open->sha256.len != SA_SHA256_SIZE)
        return sa_fail(err, SA_INVALID_REQUEST, "sha256 has %zu bytes, not %d", open->sha256.len,
                       SA_SHA256_SIZE);
    return 0;
}

static int open_write(struct writing *w, const WriteFileOpen *open, sa_error **err)
{
    if (w->state != WAIT_OPEN)
        return sa_fail(err, SA_INVALID_REQUEST, "`open` comes once, as the first message");
    if (strlen(open->request_id) > FS_REQUEST_ID_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "request_id has more than %d characters", FS_REQUEST_ID_MAX);
    if (open->mode & ~0777u)
        return sa_fail(err, SA_INVALID_REQUEST, "mode %o has bits that are no permissions", open->mode);
    w->record.request_id = sa_arena_strdup(w->arena, open->request_id);
    w->record.principal = sa_arena_strdup(w->arena, rpc_principal(w->call));
    w->record.root = sa_arena_strdup(w->arena, open->root);
    w->record.path =
        (ProtobufCBinaryData){open->path.len, sa_arena_memdup(w->arena, open->path.data, open->path.len)};
    if (check_open(open, err) < 0)
        return -1;
    w->opt = (struct fs_replace_options){.mode = (mode_t)open->mode,
                                         .make_parents = open->make_parents,
                                         .create_only = open->create_only,
                                         .durable = open->durable,
                                         .method = method_of(open->method),
                                         .offset = open->offset,
                                         .truncate = open->truncate,
                                         .in_place = open->in_place,
                                         .if_match = sa_arena_strdup(w->arena, open->if_match)};
    if (open->_size_case == WRITE_FILE_OPEN___SIZE_SIZE)
        w->size = open->size;
    if (open->sha256.len)
        w->sha256 = sa_arena_memdup(w->arena, open->sha256.data, open->sha256.len);
    sa_sha256_init(&w->digest);
    int found = *open->request_id ? find_request(w, open, err) : 0;
    if (found < 0 || fs_target_init(&w->target, w->fs, w->call, open->root, open->path, err) < 0)
        return -1;
    w->intent = *open->request_id ? -1 : fs_intents_take(w->fs->intents);
    w->quick = w->intent >= 0;
    w->state = found ? REPEAT : LOCATE;
    return 0;
}

static int take(struct writing *w, const WriteFileRequest *msg, sa_error **err)
{
    if (msg->kind_case == WRITE_FILE_REQUEST__KIND_OPEN)
        return open_write(w, msg->open, err);
    if (msg->kind_case != WRITE_FILE_REQUEST__KIND_DATA || w->state == WAIT_OPEN)
        return sa_fail(err, SA_INVALID_REQUEST, "the first message is `open`, the others are `data`");
    if (msg->data.len > FS_MESSAGE_MAX)
        return sa_fail(err, SA_MESSAGE_TOO_LARGE, "a message has %zu bytes of data, the limit is %d",
                       msg->data.len, FS_MESSAGE_MAX);
    if (w->state == REPEAT || w->err)
        return 0;
    w->came += msg->data.len;
    if (w->came > w->size)
        return sa_fail(err, SA_INVALID_REQUEST, "more than the announced %llu bytes came",
                       (unsigned long long)w->size);
    sa_buf_add(&w->pending, msg->data.data, msg->data.len);
    if (w->pending.len >= FS_PENDING_MAX)
        hold_stream(w, true);
    return 0;
}

static void on_message(void *user, struct rpc_call *call, const WriteFileRequest *msg)
{
    (void)call;
    struct writing *w = user;
    sa_error *err = NULL;
    if (take(w, msg, &err) < 0)
        give_up(w, err);
    advance(w);
}

static void on_end(void *user, struct rpc_call *call)
{
    (void)call;
    struct writing *w = user;
    w->ended = true;
    if (w->state == WAIT_OPEN) {
        sa_error *err = NULL;
        sa_fail(&err, SA_INVALID_REQUEST, "the stream ended before `open`");
        give_up(w, err);
    }
    advance(w);
}

static void on_cancel(void *user, struct rpc_call *call)
{
    (void)call;
    struct writing *w = user;
    w->cancelled = true;
    advance(w);
}

void fs_write_file(void *api, struct rpc_call *call)
{
    static const struct write_file_events events = {
        .on_message = on_message, .on_end = on_end, .on_cancel = on_cancel};
    struct writing *w = sa_calloc(1, sizeof *w);
    w->fs = api;
    w->call = rpc_call_ref(call);
    w->id = sa_id_new();
    w->arena = sa_arena_new();
    w->size = UINT64_MAX;
    w->intent = -1;
    w->record = (WriteRecord)WRITE_RECORD__INIT;
    w->next = w->fs->writings;
    w->fs->writings = w;
    write_file_accept(call, &events, w);
}
