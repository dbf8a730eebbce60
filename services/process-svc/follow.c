/* FollowOutput: any number of followers of a process, each at its own speed.
 *
 *     OPENING --the shim has told what there is, the start is found--> FOLLOWING --all was sent--> (gone)
 *
 * A follower is a cursor per stream into the journals, and merge.c says which one goes on. Nothing is queued
 * for a slow reader. Unlike an attachment it reads no further than the shim has announced: only up to there
 * are the indexes complete, and with them the order of the streams. So at the start the shim is asked for a
 * status.
 *
 * Finding a tail may mean to read all that is kept: a worker does it, in steps. One turn of pump() sends a
 * few messages and then lets others have the lock. */
#include "services/process-svc/follow.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"
#include "services/process-svc/merge.h"
#include "services/process-svc/tail.h"

enum { MESSAGES_PER_TURN = 128 };

/* A worker's search for the start. */
struct search {
    struct reader reader;
    struct tail tail;
    int result;
    sa_error *err;
};

struct follower {
    struct follower *next; /* of the same process */
    struct processes *all;
    struct process *process;        /* NULL: the call has ended, only `search` or `deferred` holds this */
    struct rpc_call *call;          /* the same */
    const FollowOutputRequest *req; /* lives with the call */
    struct merge merge;
    bool told[SHIM_STREAMS];      /* something of this stream */
    uint64_t until[SHIM_STREAMS]; /* with until_now */
    struct search *search;
    bool asked;     /* the shim, and it has not answered */
    bool fresh;     /* it has */
    bool following; /* the start is found */
    bool blocked;   /* the call has no room */
    bool deferred;  /* the next turn comes by itself */
};

static const OutputStream stream_names[SHIM_STREAMS] = {OUTPUT_STREAM_STDOUT, OUTPUT_STREAM_STDERR};

static void free_unless_held(struct follower *f)
{
    if (!f->call && !f->search && !f->deferred)
        free(f);
}

/* The call has ended or is about to: nothing may reach the follower any more. */
static void leave(struct follower *f)
{
    struct process *p = f->process;
    struct follower **at = &p->followers;
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    link_forget(&p->link, f);
    process_release(p);
    rpc_call_unref(f->call);
    f->process = NULL;
    f->call = NULL;
    free_unless_held(f);
}

static void fail(struct follower *f, sa_error *err)
{
    rpc_fail(f->call, err);
    leave(f);
}

/* ---- to the caller ---- */

static void send(struct follower *f, const FollowOutputResponse *res)
{
    f->blocked = !follow_output_send(f->call, res);
}

static void send_opened(struct follower *f)
{
    FollowOutputResponse res = FOLLOW_OUTPUT_RESPONSE__INIT;
    FollowOpened opened = FOLLOW_OPENED__INIT;
    OutputOffsets offsets = OUTPUT_OFFSETS__INIT;
    offsets.stdout_offset = f->merge.cursor[SHIM_STDOUT];
    offsets.stderr_offset = f->merge.cursor[SHIM_STDERR];
    opened.process = process_message(rpc_send_arena(f->call), f->process);
    opened.offsets = &offsets;
    res.kind_case = FOLLOW_OUTPUT_RESPONSE__KIND_OPENED;
    res.opened = &opened;
    send(f, &res);
}

static void send_gap(struct follower *f, int stream, uint64_t first)
{
    FollowOutputResponse res = FOLLOW_OUTPUT_RESPONSE__INIT;
    AttachGap gap = ATTACH_GAP__INIT;
    gap.stream = stream_names[stream];
    gap.first_offset = first;
    res.kind_case = FOLLOW_OUTPUT_RESPONSE__KIND_GAP;
    res.gap = &gap;
    merge_seek(&f->merge, stream, first);
    send(f, &res);
}

static void send_output(struct follower *f, const struct piece *p, uint8_t *data, size_t n)
{
    FollowOutputResponse res = FOLLOW_OUTPUT_RESPONSE__INIT;
    FollowedOutput output = FOLLOWED_OUTPUT__INIT;
    Google__Protobuf__Timestamp time = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    time.seconds = p->time_us / 1000000;
    time.nanos = (int32_t)(p->time_us % 1000000) * 1000;
    output.stream = stream_names[p->stream];
    output.offset = p->offset;
    output.data = (ProtobufCBinaryData){n, data};
    output.time = p->time_us > 0 ? &time : NULL;
    res.kind_case = FOLLOW_OUTPUT_RESPONSE__KIND_OUTPUT;
    res.output = &output;
    f->merge.cursor[p->stream] += n;
    send(f, &res);
}

/* The end of the call; with `exited`, unless it was asked for less than all. */
static void finish(struct follower *f)
{
    FollowOutputResponse res = FOLLOW_OUTPUT_RESPONSE__INIT;
    bool complete = f->process->phase == PROCESS_EXITED;
    for (int i = 0; i < SHIM_STREAMS; i++)
        complete &= !f->merge.wanted[i] || f->merge.cursor[i] >= process_final_end(f->process, i);
    if (complete) {
        res.kind_case = FOLLOW_OUTPUT_RESPONSE__KIND_EXITED;
        res.exited = process_exit_message(rpc_send_arena(f->call), f->process->record->end);
        send(f, &res);
    }
    rpc_end(f->call);
    leave(f);
}

/* ---- following ---- */

/* How far a stream may be read: to its end, or to what the shim has told. */
static uint64_t known_end(const struct process *p, int stream)
{
    const struct shim_status *s = &p->status;
    if (p->phase == PROCESS_EXITED)
        return process_final_end(p, stream);
    return s->phase == SHIM_EXITED && s->exit.end[stream] < s->end[stream] ? s->exit.end[stream]
                                                                           : s->end[stream];
}

static int send_piece(struct follower *f, const struct piece *p, sa_error **err)
{
    uint64_t n = p->end - p->offset, first;
    ssize_t got = reader_read(&f->process->reader, p->stream, p->offset, f->all->chunk,
                              n < ATTACH_CHUNK ? (size_t)n : ATTACH_CHUNK, &first, err);
    const char *name = p->stream ? "error" : "output";
    if (got < 0)
        return -1;
    bool told = f->told[p->stream]; /* else it is the caller's start that is no longer kept */
    f->told[p->stream] = true;
    if (first > p->offset && told && f->req->slow_policy == SLOW_FOLLOWER_POLICY_DISCONNECT)
        return sa_fail(err, SA_SLOW_READER,
                       "standard %s of process %s is kept from byte %llu, the follower has come to %llu",
                       name, f->process->name, (unsigned long long)first, (unsigned long long)p->offset);
    if (first <= p->offset && got == 0)
        return sa_fail(err, SA_JOURNAL_TRUNCATED,
                       "standard %s of process %s ends at byte %llu instead of %llu", name, f->process->name,
                       (unsigned long long)p->offset, (unsigned long long)p->end);
    if (first > p->offset)
        send_gap(f, p->stream, first);
    else
        send_output(f, p, f->all->chunk, (size_t)got);
    return 0;
}

static void on_turn(void *user);

static void pump(struct follower *f)
{
    sa_error *err = NULL;
    struct piece piece;
    uint64_t limit[SHIM_STREAMS];
    for (int i = 0; i < SHIM_STREAMS; i++)
        limit[i] = f->req->until_now ? f->until[i] : known_end(f->process, i);
    for (int n = 0; !f->blocked && merge_next(&f->merge, limit, &piece); n++) {
        if (n == MESSAGES_PER_TURN) {
            f->deferred = true;
            sa_defer(f->all->loop, on_turn, f);
            return;
        }
        if (send_piece(f, &piece, &err) < 0) {
            fail(f, err);
            return;
        }
    }
    if (!f->blocked && (f->req->until_now || f->process->phase == PROCESS_EXITED))
        finish(f);
}

static void on_turn(void *user)
{
    struct follower *f = user;
    f->deferred = false;
    if (!f->call)
        free_unless_held(f);
    else if (!f->blocked)
        pump(f);
}

/* ---- the start ---- */

static void begin_at(struct follower *f, const uint64_t start[SHIM_STREAMS])
{
    for (int i = 0; i < SHIM_STREAMS; i++)
        if (f->merge.wanted[i])
            merge_seek(&f->merge, i, start[i]);
    f->following = true;
    send_opened(f);
    if (!f->blocked)
        pump(f);
}

static void search_work(void *user)
{
    struct search *s = ((struct follower *)user)->search;
    s->result = tail_step(&s->tail, &s->err);
}

static void search_done(void *user)
{
    struct follower *f = user;
    struct search *s = f->search;
    if (f->call && s->result == 0) {
        sa_work(f->all->loop, search_work, search_done, f);
        return;
    }
    f->search = NULL;
    if (f->call && s->result < 0) {
        fail(f, s->err); /* frees f */
        s->err = NULL;
    } else if (f->call) {
        begin_at(f, (uint64_t[]){s->tail.stream[SHIM_STDOUT].start, s->tail.stream[SHIM_STDERR].start});
    } else {
        free_unless_held(f);
    }
    sa_error_free(s->err);
    reader_close(&s->reader);
    free(s);
}

static int start_search(struct follower *f, const uint64_t first[SHIM_STREAMS], sa_error **err)
{
    const FollowOutputRequest *req = f->req;
    struct search *s = sa_calloc(1, sizeof *s);
    if (reader_copy(&s->reader, &f->process->reader, err) < 0) {
        free(s);
        return -1;
    }
    int64_t since_us = 0;
    if (req->start_case == FOLLOW_OUTPUT_REQUEST__START_SINCE)
        since_us = req->since->seconds * 1000000 + req->since->nanos / 1000;
    tail_init(&s->tail, &s->reader,
              req->start_case == FOLLOW_OUTPUT_REQUEST__START_TAIL_LINES   ? TAIL_LINES
              : req->start_case == FOLLOW_OUTPUT_REQUEST__START_TAIL_BYTES ? TAIL_BYTES
                                                                           : TAIL_SINCE,
              req->start_case == FOLLOW_OUTPUT_REQUEST__START_TAIL_LINES ? req->tail_lines : req->tail_bytes,
              since_us);
    for (int i = 0; i < SHIM_STREAMS; i++)
        if (f->merge.wanted[i])
            tail_range(&s->tail, i, first[i], f->until[i]);
    f->search = s;
    sa_work(f->all->loop, search_work, search_done, f);
    return 0;
}

static int open_files(struct process *p, sa_error **err)
{
    cleanup_buf struct sa_buf dir = {0};
    if (process_open_reader(p, err) < 0)
        return -1;
    process_directory(p, &dir);
    reader_open_index(&p->reader, sa_buf_string(&dir));
    return 0;
}

/* What is known now is what there is. */
static int begin(struct follower *f, sa_error **err)
{
    struct process *p = f->process;
    const FollowOutputRequest *req = f->req;
    bool offsets = req->start_case == FOLLOW_OUTPUT_REQUEST__START_OFFSETS, wanted[SHIM_STREAMS];
    uint64_t first[SHIM_STREAMS] = {0}, start[SHIM_STREAMS] = {0}, size;
    if (process_lost_output(p)) {
        begin_at(f, first);
        return 0;
    }
    if (open_files(p, err) < 0)
        return -1;
    memcpy(wanted, f->merge.wanted, sizeof wanted);
    merge_init(&f->merge, p->reader.index_fd);
    memcpy(f->merge.wanted, wanted, sizeof wanted);
    if (offsets) {
        start[SHIM_STDOUT] = req->offsets->stdout_offset;
        start[SHIM_STDERR] = req->offsets->stderr_offset;
    }
    for (int i = 0; i < SHIM_STREAMS; i++) {
        if (!wanted[i])
            continue;
        if (reader_range(&p->reader, i, &first[i], &size, err) < 0)
            return -1;
        f->until[i] = known_end(p, i);
        if (offsets && start[i] > f->until[i])
            return sa_fail(err, SA_OFFSET_AHEAD, "standard %s of process %s ends at byte %llu, before %llu",
                           i ? "error" : "output", p->name, (unsigned long long)f->until[i],
                           (unsigned long long)start[i]);
    }
    if (offsets || req->start_case == FOLLOW_OUTPUT_REQUEST__START__NOT_SET) {
        begin_at(f, offsets ? start : first);
        return 0;
    }
    return start_search(f, first, err);
}

static void on_asked(void *user, int error, const struct shim_status *status)
{
    struct follower *f = user;
    (void)status;
    f->asked = false;
    f->fresh = !error; /* the status itself, or a new connection, comes next: followers_notify */
}

/* Goes on with what the process allows. */
static void open_next(struct follower *f)
{
    sa_error *err = NULL;
    struct process *p = f->process;
    if (f->asked || f->search)
        return;
    if (p->phase == PROCESS_EXITED || f->fresh) {
        if (begin(f, &err) < 0)
            fail(f, err);
    } else if (link_is_open(&p->link)) {
        f->asked = true;
        link_ask(&p->link, on_asked, f);
    }
}

void followers_notify(struct process *p)
{
    for (struct follower *f = p->followers, *next; f; f = next) {
        next = f->next;
        if (!f->following)
            open_next(f);
        else if (!f->blocked && !f->deferred)
            pump(f);
    }
}

void followers_fail(struct process *p, const sa_error *err)
{
    while (p->followers)
        fail(p->followers, sa_error_copy(err));
}

/* ---- the call ---- */

static int check(const FollowOutputRequest *req, bool wanted[SHIM_STREAMS], sa_error **err)
{
    for (int i = 0; i < SHIM_STREAMS; i++)
        wanted[i] = !req->n_streams;
    for (size_t i = 0; i < req->n_streams; i++) {
        if (req->streams[i] != OUTPUT_STREAM_STDOUT && req->streams[i] != OUTPUT_STREAM_STDERR)
            return sa_fail(err, SA_INVALID_REQUEST, "a stream is stdout or stderr");
        wanted[req->streams[i] == OUTPUT_STREAM_STDOUT ? SHIM_STDOUT : SHIM_STDERR] = true;
    }
    if (req->start_case == FOLLOW_OUTPUT_REQUEST__START_TAIL_LINES && req->tail_lines > FOLLOW_LINES_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "tail_lines is %u, at most %d are allowed", req->tail_lines,
                       FOLLOW_LINES_MAX);
    /* The years 1 to 9999, as a timestamp has them. */
    if (req->start_case == FOLLOW_OUTPUT_REQUEST__START_SINCE &&
        (req->since->seconds < -62135596800 || req->since->seconds > 253402300799 || req->since->nanos < 0 ||
         req->since->nanos > 999999999))
        return sa_fail(err, SA_INVALID_REQUEST, "since is no time");
    if ((unsigned)req->slow_policy > SLOW_FOLLOWER_POLICY_DISCONNECT)
        return sa_fail(err, SA_INVALID_REQUEST, "slow_policy %u is unknown", (unsigned)req->slow_policy);
    return 0;
}

static void on_writable(void *user, struct rpc_call *call)
{
    struct follower *f = user;
    (void)call;
    f->blocked = false;
    if (f->following && !f->deferred)
        pump(f);
}

static void on_cancel(void *user, struct rpc_call *call)
{
    (void)call;
    leave(user);
}

void follow_output_handler(void *api, struct rpc_call *call, const FollowOutputRequest *req)
{
    static const struct rpc_call_events events = {on_writable, on_cancel};
    sa_error *err = NULL;
    bool wanted[SHIM_STREAMS];
    struct process *p = check(req, wanted, &err) == 0 ? processes_find(api, req->process_id, &err) : NULL;
    if (!p) {
        rpc_fail(call, err);
        return;
    }
    struct follower *f = sa_calloc(1, sizeof *f);
    *f = (struct follower){
        .next = p->followers, .all = api, .process = p, .call = rpc_call_ref(call), .req = req};
    merge_init(&f->merge, READER_CLOSED.index_fd);
    memcpy(f->merge.wanted, wanted, sizeof wanted);
    p->followers = f;
    follow_output_on(call, &events, f);
    open_next(f);
}
