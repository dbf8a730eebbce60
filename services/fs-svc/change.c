/* The state machine of a change. Each state is one step that runs elsewhere: on a worker thread (w) or in the
 * store's writer (s). Steps on a worker that take long are cut into slices, so that others have their turn
 * and a caller that gives up is heard.
 *
 *     FIND (w) ▶ INTENT (s) ▶ ACT (w) ─────────────────────────────────────────▶ RESULT (s) ▶ reply
 *                               └▶ RECORD (s) ▶ COPY (w) ▶ NOTE (s) ▶ FINISH (w) ┴▶ REMOVE (w) ▶ RESULT
 *     error or cancel, anywhere before FINISH: UNDO (w) ▶ FORGET (s) ▶ fail
 *
 * INTENT is for requests that may be repeated. RECORD makes a temporary file or tree findable before it
 * exists; NOTE tells how to know it under its name, so that a crash after the rename is known to be one. */
#include "services/fs-svc/change.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/nng/bus.h"
#include "adapters/os/fault.h"
#include "adapters/os/log.h"
#include "services/runtime/service.h"

enum state { FIND, INTENT, ACT, RECORD, COPY, NOTE, FINISH, REMOVE, RESULT, UNDO, FORGET };

static void advance(struct change *c);

static void change_free(struct change *c)
{
    struct change *none = NULL;
    if (c->target.call)
        rpc_on_cancel(c->target.call, NULL, NULL);
    for (struct change **at = c->target.fs ? &c->target.fs->changes : &none; *at; at = &(*at)->next)
        if (*at == c) {
            *at = c->next;
            break;
        }
    fs_remove_fini(&c->remove);
    fs_transfer_fini(&c->transfer);
    fs_place_fini(&c->place);
    fs_info_fini(&c->result.info);
    fs_info_fini(&c->result.before);
    sa_error_free(c->err);
    sa_error_free(c->late);
    sa_error_free(c->step_err);
    protobuf_c_message_free_unpacked(c->request, NULL);
    sa_arena_free(c->arena);
    free(c->to_path);
    fs_target_fini(&c->target);
    free(c);
}

/* ---- on a worker ---- */

static int step(struct change *c, sa_error **err)
{
    struct fs_slice slice = fs_slice_begin();
    switch ((enum state)c->state) {
    case FIND:
        return c->kind->find(c, err);
    case ACT:
        return c->kind->act(c, &slice, err);
    case COPY:
        if (c->begun)
            return fs_transfer_copy(&c->transfer, &slice, err);
        c->begun = true;
        return fs_transfer_create(&c->transfer, err) < 0 ? -1 : CHANGE_MORE;
    case FINISH:
        return fs_transfer_finish(&c->transfer, err);
    case REMOVE:
        return fs_transfer_remove_source(&c->transfer, &slice, err);
    case UNDO:
        return fs_transfer_undo(&c->transfer, &slice, err);
    default:
        return 0;
    }
}

/* What is told about a copy, once nothing more is to be done on the disk. */
static int look(struct change *c, sa_error **err)
{
    c->result.changed = true;
    c->result.entries = c->transfer.copy.entries;
    c->result.bytes = c->transfer.copy.bytes;
    return fs_transfer_info(&c->transfer, &c->result.info, err);
}

static void work(void *user)
{
    struct change *c = user;
    const struct fs_identity *identity = c->target.fs->identity;
    if (fs_identity_enter(identity, &c->step_err) < 0)
        return;
    c->more = step(c, &c->step_err);
    bool last = c->more == 0 && c->state == (c->transfer.opt.move ? REMOVE : FINISH);
    if (last)
        look(c, &c->step_err);
    fs_identity_leave(identity);
}

static void work_done(void *user)
{
    struct change *c = user;
    c->busy = false;
    advance(c);
}

static void run(struct change *c, enum state state)
{
    c->state = state;
    c->busy = true;
    sa_work(c->target.fs->loop, work, work_done, c);
}

/* ---- in the store; a completion may come from inside the call that queues it ---- */

static void stored(void *user, const sa_error *err)
{
    struct change *c = user;
    service_degraded(c->target.fs->svc, err ? err->message : NULL);
    c->busy = false;
    c->step_err = sa_error_copy(err);
    if (err && c->state == RESULT)
        fs_records_reload(c->target.fs->records);
    advance(c);
}

/* queued: what the store answered. */
static void await_store(struct change *c, int queued)
{
    if (queued < 0) {
        c->busy = false;
        advance(c);
    }
}

static ProtobufCBinaryData bytes_of(struct sa_arena *a, const char *s)
{
    return (ProtobufCBinaryData){strlen(s), sa_arena_memdup(a, s, strlen(s))};
}

/* What recovery needs. */
static void fill_record(struct change *c)
{
    ChangeRecord *r = &c->record;
    const struct fs_transfer *t = &c->transfer;
    const struct fs_place *from = t->to.dir ? &t->from : &c->place;
    if (from->dir) {
        r->from_directory = bytes_of(c->arena, from->dir);
        r->from_name = bytes_of(c->arena, from->name);
        r->from_inode = t->to.dir ? t->st.st_ino : c->result.info.st.st_ino;
    }
    if (t->to.dir) {
        r->to_directory = bytes_of(c->arena, t->to.dir);
        r->to_name = bytes_of(c->arena, t->to.name);
    }
    r->temp = sa_arena_strdup(c->arena, t->copying ? t->temp : "");
    r->temp_inode = c->state == NOTE ? t->inode : 0;
    r->entries = t->copy.entries;
    r->bytes = t->copy.bytes;
    r->time_us = sa_wall_us();
}

static void record(struct change *c, enum state state)
{
    c->state = state;
    fill_record(c);
    c->busy = true;
    c->recorded = true;
    await_store(c, fs_changes_put(c->target.fs->records, c->id, &c->record, stored, c, &c->step_err));
}

static const char *told_path(const struct change *c)
{
    return c->to_path ? c->to_path : c->target.path;
}

static void result(struct change *c)
{
    const char *roots[2] = {NULL};
    ProtobufCMessage *res = c->kind->respond(c->arena, &c->result, told_path(c));
    c->state = RESULT;
    c->record.response.len = protobuf_c_message_get_packed_size(res);
    c->record.response.data = sa_arena_alloc(c->arena, c->record.response.len);
    protobuf_c_message_pack(res, c->record.response.data);
    c->record.time_us = sa_wall_us();
    if (c->late)
        c->record.request_id = sa_arena_strdup(c->arena, "");
    if (c->result.changed) {
        roots[0] = c->to_root->name;
        bool left = c->kind->told == FILE_CHANGE_KIND_MOVED && c->to_root != c->target.root && !c->late;
        roots[1] = left ? c->target.root->name : NULL;
    }
    c->busy = true;
    if (!c->result.changed && !c->recorded && !*c->record.request_id)
        await_store(c, -1); /* nothing happened, and nobody will ask for it */
    else
        await_store(c, fs_changes_finish(c->target.fs->records, c->id, &c->record, roots, c->seq, stored, c,
                                         &c->step_err));
}

static void forget(struct change *c)
{
    c->state = FORGET;
    c->busy = true;
    await_store(c, fs_changes_drop(c->target.fs->records, c->id, stored, c, &c->step_err));
}

/* ---- its end ---- */

static void fail(struct change *c)
{
    if (!c->cancelled)
        rpc_fail(c->target.call, steal_pointer(&c->err));
    change_free(c);
}

static void publish(struct change *c, const struct fs_root *root, uint64_t seq, const char *topic,
                    FileChanged *m)
{
    m->root = root->name;
    size_t n = file_changed__get_packed_size(m);
    cleanup_free uint8_t *packed = sa_malloc(n);
    file_changed__pack(m, packed);
    cleanup_free char *stream = sa_format("fs/%s", root->name), *whole = sa_format("%s/%s", stream, topic);
    bus_publish(c->target.fs->bus, whole, stream, seq, seq - 1, packed, n);
}

static void tell(struct change *c)
{
    FileChanged m = FILE_CHANGED__INIT;
    m.kind = c->late ? FILE_CHANGE_KIND_CREATED : c->kind->told;
    m.file = fs_info_to_proto(c->arena, &c->result.info, told_path(c));
    if (m.kind == FILE_CHANGE_KIND_MOVED) {
        m.old_root = c->target.root->name;
        m.old_path = bytes_of(c->arena, c->target.path);
    }
    publish(c, c->to_root, c->seq[0], c->late ? "create" : c->kind->topic, &m);
    if (!c->seq[1])
        return;
    FileChanged gone = FILE_CHANGED__INIT;
    gone.kind = FILE_CHANGE_KIND_DELETED;
    gone.file = fs_info_to_proto(c->arena, &c->result.before, c->target.path);
    publish(c, c->target.root, c->seq[1], "delete", &gone);
}

static void succeed(struct change *c)
{
    SA_FAULT("fs.change.committed");
    if (c->result.changed)
        tell(c);
    if (c->late)
        rpc_fail(c->target.call, steal_pointer(&c->late));
    else if (!c->cancelled)
        c->kind->reply(c->target.call, c->kind->respond(c->arena, &c->result, told_path(c)));
    change_free(c);
}

/* ---- what comes next ---- */

static void undo(struct change *c)
{
    if (c->begun && c->state != UNDO)
        run(c, UNDO);
    else if (c->recorded)
        forget(c);
    else
        fail(c);
}

/* A step failed. */
static void failed(struct change *c)
{
    enum state state = (enum state)c->state;
    if (state == FORGET || state == UNDO)
        /* A record that stays is looked at by the next start. */
        sa_log(SA_LOG_WARN, "fs.change_not_undone", "kind=%s reason=%s", c->kind->name, c->step_err->reason);
    if (!c->err && state != REMOVE)
        c->err = steal_pointer(&c->step_err);
    if (state == REMOVE) {
        c->late = steal_pointer(&c->step_err);
        c->result.changed = fs_transfer_info(&c->transfer, &c->result.info, NULL) == 0;
        result(c);
    } else if (state == ACT || state == COPY || state == NOTE || state == FINISH) {
        undo(c);
    } else {
        fail(c); /* nothing was done; or, after RESULT, the next start completes it */
    }
}

/* Has the caller given up in time? From FINISH on it is too late. */
static bool stops(const struct change *c)
{
    switch ((enum state)c->state) {
    case FIND:
    case INTENT:
    case RECORD:
    case COPY:
    case NOTE:
        return c->cancelled;
    case ACT:
        return c->cancelled && c->more == CHANGE_MORE;
    default:
        return false;
    }
}

static void after_act(struct change *c)
{
    if (c->more == CHANGE_MORE)
        run(c, ACT);
    else if (c->more == CHANGE_COPY)
        record(c, RECORD);
    else
        result(c);
}

static void after_find(struct change *c)
{
    if (c->kind->intent && *c->record.request_id)
        record(c, INTENT);
    else
        run(c, ACT);
}

/* A step has ended. */
static void advance(struct change *c)
{
    if (c->busy)
        return;
    if (c->step_err) {
        failed(c);
        return;
    }
    if (stops(c)) {
        undo(c);
        return;
    }
    switch ((enum state)c->state) {
    case FIND:
        after_find(c);
        break;
    case INTENT:
        SA_FAULT("fs.change.intended");
        run(c, ACT);
        break;
    case ACT:
        SA_FAULT("fs.change.acted");
        after_act(c);
        break;
    case RECORD:
        SA_FAULT("fs.change.recorded");
        run(c, COPY);
        break;
    case COPY:
        SA_FAULT("fs.change.copied");
        if (c->more)
            run(c, COPY);
        else
            record(c, NOTE);
        break;
    case NOTE:
        SA_FAULT("fs.change.noted");
        run(c, FINISH);
        break;
    case FINISH:
        SA_FAULT("fs.change.placed");
        if (c->transfer.opt.move)
            run(c, REMOVE);
        else
            result(c);
        break;
    case REMOVE:
        SA_FAULT("fs.change.removed");
        if (c->more)
            run(c, REMOVE);
        else
            result(c);
        break;
    case RESULT:
        succeed(c);
        break;
    case UNDO:
        SA_FAULT("fs.change.undone");
        if (c->more)
            run(c, UNDO);
        else
            forget(c);
        break;
    case FORGET:
        fail(c);
        break;
    }
}

static void on_cancel(void *user, struct rpc_call *call)
{
    (void)call;
    struct change *c = user;
    c->cancelled = true;
}

/* ---- its beginning ---- */

static int check_same(const struct change *c, const ChangeRecord *known, sa_error **err)
{
    if (strcmp(known->kind, c->record.kind) != 0 || known->request.len != c->record.request.len ||
        memcmp(known->request.data, c->record.request.data, known->request.len) != 0)
        return sa_fail(err, SA_REQUEST_ID_REUSED, "request `%s` was another one", c->record.request_id);
    return 0;
}

/* 1: it was done before and is answered; 0: it was not; -1: refused. */
static int find_request(struct change *c, sa_error **err)
{
    for (struct change *other = c->target.fs->changes; other; other = other->next)
        if (!strcmp(other->record.request_id, c->record.request_id) &&
            !strcmp(other->record.principal, c->record.principal))
            return sa_fail(err, SA_UNAVAILABLE, "request `%s` is under way; try again", c->record.request_id);
    cleanup_message ChangeRecord *known = NULL;
    int found =
        fs_changes_find(c->target.fs->records, c->record.principal, c->record.request_id, &known, err);
    if (found <= 0)
        return found;
    if (check_same(c, known, err) < 0)
        return -1;
    ProtobufCMessage *res = rpc_unpack(c->kind->response, known->response.data, known->response.len, err);
    if (!res)
        return -1;
    c->kind->reply(c->target.call, res);
    protobuf_c_message_free_unpacked(res, NULL);
    return 1;
}

static int copy_request(struct change *c, const ProtobufCMessage *request, sa_error **err)
{
    ChangeRecord *r = &c->record;
    r->kind = sa_arena_strdup(c->arena, c->kind->name);
    r->request.len = protobuf_c_message_get_packed_size(request);
    r->request.data = sa_arena_alloc(c->arena, r->request.len);
    protobuf_c_message_pack(request, r->request.data);
    c->request = rpc_unpack(c->kind->request, r->request.data, r->request.len, err);
    if (!c->request)
        return -1;
    c->kind->names(c->request, &c->names);
    if (strlen(c->names.request_id) > FS_REQUEST_ID_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "request_id has more than %d characters", FS_REQUEST_ID_MAX);
    r->request_id = sa_arena_strdup(c->arena, c->names.request_id);
    return 0;
}

static int open_change(struct change *c, struct fs_service *fs, struct rpc_call *call, sa_error **err)
{
    const struct change_names *n = &c->names;
    if (fs_target_init(&c->target, fs, call, n->root, n->path, err) < 0)
        return -1;
    c->to_root = *n->to_root ? fs_roots_find(fs->roots, n->to_root, err) : c->target.root;
    if (!c->to_root)
        return -1;
    if (n->to_path.data != n->path.data)
        c->to_path = fs_path_from_bytes(n->to_path.data, n->to_path.len, err);
    if (n->to_path.data != n->path.data && !c->to_path)
        return -1;
    c->record.principal = sa_arena_strdup(c->arena, rpc_principal(call));
    return *c->record.request_id ? find_request(c, err) : 0;
}

void change_begin(void *api, struct rpc_call *call, const struct change_kind *kind,
                  const ProtobufCMessage *request)
{
    struct fs_service *fs = api;
    sa_error *err = NULL;
    struct change *c = sa_calloc(1, sizeof *c);
    c->kind = kind;
    c->id = sa_id_new();
    c->arena = sa_arena_new();
    c->record = (ChangeRecord)CHANGE_RECORD__INIT;
    c->transfer.source = -1;
    fs_copy_init(&c->transfer.copy);
    int r = copy_request(c, request, &err);
    if (r == 0)
        r = open_change(c, fs, call, &err);
    if (r < 0)
        rpc_fail(call, err);
    if (r != 0) {
        change_free(c);
        return;
    }
    c->next = fs->changes;
    fs->changes = c;
    rpc_no_server_deadline(call);
    rpc_on_cancel(call, on_cancel, c);
    run(c, kind->find ? FIND : ACT);
}
