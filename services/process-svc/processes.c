/* Design notes
 *
 * A start is an effect outside the store, so: intent committed (with the request id), shim started, result
 * committed, caller told. The directory of the shim carries the id of the intent; after a crash recover.c
 * finds one by the other, and completes or undoes.
 *
 * While a commit is under way (`committing`) nothing else is decided for that process; its completion calls
 * step() again. A commit that fails leaves the process as it was, and retry_timer steps all of them. */
#include "services/process-svc/processes.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "adapters/nng/bus.h"
#include "adapters/os/file.h"
#include "adapters/os/log.h"
#include "adapters/os/mem.h"

enum { RETRY_MS = 1000, RECONNECTS_MAX = 8 };
enum end_kind { END_CODE = 1, END_SIGNAL = 2, END_LOST = 3 };

const struct store_table process_tables[TABLES] = {
    [TABLE_META] = {"meta", 1, NULL},
    [TABLE_PROCESSES] = {"processes", 1, &process_record__descriptor},
    [TABLE_REQUESTS] = {"requests", 1, &request_record__descriptor},
};

/* ---- calls that wait ---- */

void calls_add(struct calls *c, struct rpc_call *call)
{
    c->calls = sa_realloc(c->calls, (c->n + 1) * sizeof *c->calls);
    c->calls[c->n++] = rpc_call_ref(call);
}

void calls_prune(struct calls *c)
{
    size_t kept = 0;
    for (size_t i = 0; i < c->n; i++) {
        if (rpc_alive(c->calls[i]))
            c->calls[kept++] = c->calls[i];
        else
            rpc_call_unref(c->calls[i]);
    }
    c->n = kept;
}

static void calls_clear(struct calls *c)
{
    for (size_t i = 0; i < c->n; i++)
        rpc_call_unref(c->calls[i]);
    free(c->calls);
    *c = (struct calls){0};
}

void calls_fail(struct calls *c, const sa_error *err)
{
    for (size_t i = 0; i < c->n; i++)
        rpc_fail(c->calls[i], sa_error_copy(err));
    calls_clear(c);
}

/* ---- the table ---- */

static struct process **bucket(struct processes *all, struct sa_id id)
{
    /* The last bytes are random. */
    return &all->buckets[((id.bytes[14] << 8) | id.bytes[15]) % PROCESS_BUCKETS];
}

struct process *processes_live(struct processes *all, struct sa_id id)
{
    struct process *p = *bucket(all, id);
    while (p && !sa_id_equal(p->id, id))
        p = p->next;
    return p;
}

static void on_status(void *user, const struct shim_status *status);
static void on_closed(void *user);
static void on_drained(void *user);

struct process *process_new(struct processes *all, struct sa_id id, ProcessRecord *record,
                            enum process_phase phase)
{
    struct process *p = sa_calloc(1, sizeof *p), **b = bucket(all, id);
    p->all = all;
    p->id = id;
    sa_id_format(id, p->name);
    p->record = record;
    p->phase = phase;
    p->reader = (struct reader){{-1, -1}, -1};
    p->link =
        (struct link){.fd = -1, .on_status = on_status, .on_closed = on_closed, .on_drained = on_drained};
    p->link.user = p;
    p->next = *b;
    *b = p;
    all->live += phase != PROCESS_EXITED;
    return p;
}

static ProcessRecord *record_new(const StartProcessRequest *req)
{
    ProcessRecord r = PROCESS_RECORD__INIT;
    const ProcessSpec *spec = req->spec;
    struct sa_arena *a = sa_arena_new();
    r.state = RECORD_STATE_INTENT;
    r.request_id = req->request_id;
    r.n_argv = spec->n_argv;
    r.argv = spec->argv;
    r.cwd = spec->cwd;
    r.user = spec->user;
    r.stdout_retention = (uint32_t)spec->stdout_retention;
    r.journal_bytes = spec->journal_bytes ? spec->journal_bytes : SPEC_JOURNAL_DEFAULT;
    r.n_labels = spec->n_labels;
    r.labels = sa_arena_alloc(a, (spec->n_labels + 1) * sizeof *r.labels);
    for (size_t i = 0; i < spec->n_labels; i++) {
        LabelRecord *l = r.labels[i] = sa_arena_alloc(a, sizeof *l);
        label_record__init(l);
        l->key = spec->labels[i]->key;
        l->value = spec->labels[i]->value;
    }
    /* A deep copy that owns itself. */
    size_t n = protobuf_c_message_get_packed_size(&r.base);
    uint8_t *packed = sa_arena_alloc(a, n + 1);
    protobuf_c_message_pack(&r.base, packed);
    ProcessRecord *copy = (ProcessRecord *)protobuf_c_message_unpack(r.base.descriptor, NULL, n, packed);
    sa_arena_free(a);
    return copy;
}

static void process_free(struct process *p)
{
    struct process **at = bucket(p->all, p->id);
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    link_close(&p->link);
    reader_close(&p->reader);
    calls_clear(&p->starters);
    calls_clear(&p->waiters);
    calls_clear(&p->deleters);
    sa_error_free(p->failure);
    if (p->record)
        protobuf_c_message_free_unpacked(&p->record->base, NULL);
    free(p);
}

static void collect(void *user)
{
    struct process *p = user;
    p->collecting = false;
    bool ended = p->phase == PROCESS_EXITED && !p->deleting;
    if (!p->attachments && reader_is_open(&p->reader))
        reader_close(&p->reader);
    if ((ended || p->gone) && !p->committing && !p->sweeping && !link_is_open(&p->link) && !p->attachments &&
        !p->waiters.n && !p->deleters.n && !p->starters.n)
        process_free(p);
}

void process_release(struct process *p)
{
    if (p->collecting)
        return;
    p->collecting = true;
    sa_defer(p->all->loop, collect, p);
}

static struct store_key key_of(const struct process *p)
{
    return store_key_of(p->id.bytes, sizeof p->id.bytes);
}

struct process *processes_find(struct processes *all, const char *process_id, sa_error **err)
{
    struct sa_id id;
    if (!sa_id_parse(process_id, &id)) {
        sa_fail(err, SA_PROCESS_NOT_FOUND, "process `%.64s` does not exist", process_id);
        return NULL;
    }
    struct process *p = processes_live(all, id);
    if (p && p->phase != PROCESS_STARTING && !p->gone)
        return p;
    ProcessRecord *record = NULL;
    struct store_key key = store_key_of(id.bytes, sizeof id.bytes);
    int r = p ? 0 : store_get(all->store, TABLE_PROCESSES, &key, &record, err);
    if (r < 0)
        return NULL;
    if (r == 1 && record->state == RECORD_STATE_EXITED) {
        p = process_new(all, id, record, PROCESS_EXITED);
        process_release(p);
        return p;
    }
    store_message_free(record);
    sa_fail(err, SA_PROCESS_NOT_FOUND, "process `%s` does not exist", process_id);
    return NULL;
}

void process_directory(const struct process *p, struct sa_buf *ret)
{
    sa_buf_addf(ret, "%s/%s", p->all->directory, p->name);
}

int process_open_reader(struct process *p, sa_error **err)
{
    if (reader_is_open(&p->reader))
        return 0;
    cleanup_buf struct sa_buf dir = {0};
    process_directory(p, &dir);
    if (reader_open(&p->reader, sa_buf_string(&dir), err) < 0)
        return sa_wrap(err, "output of process %s", p->name);
    process_release(p);
    return 0;
}

/* ---- committing ---- */

static void commit(struct process *p, struct store_set *set, store_done_fn *done)
{
    sa_error *err = NULL;
    p->committing = true;
    if (store_commit(p->all->store, set, done, p, &err) < 0) {
        done(p, err);
        sa_error_free(err);
    }
}

/* A commit has failed: everybody tries again a little later. */
static void not_committed(struct process *p, const sa_error *err)
{
    sa_log(SA_LOG_ERROR, "process.store_failed", "process=%s reason=%s message=\"%s\"", p->name, err->reason,
           err->message);
    if (!sa_timer_active(p->all->retry_timer))
        sa_timer_start(p->all->retry_timer, RETRY_MS);
}

static void publish(struct process *p)
{
    cleanup_free char *stream = sa_format("process/%s", p->name),
                      *topic = sa_format("process/%s/state", p->name);
    struct sa_arena *a = sa_arena_new();
    Process *m = process_message(a, p);
    size_t n = protobuf_c_message_get_packed_size(&m->base);
    void *packed = sa_arena_alloc(a, n + 1);
    protobuf_c_message_pack(&m->base, packed);
    bus_publish(p->all->bus, topic, stream, p->record->seq, p->record->seq - 1, packed, n);
    sa_arena_free(a);
}

/* ---- forgetting: after a deletion, or a start that failed ---- */

struct removal {
    char *directory;
    sa_error *err;
};

static void remove_work(void *user)
{
    struct removal *r = user;
    sa_remove_tree(r->directory, &r->err);
}

static void remove_done(void *user)
{
    struct removal *r = user;
    if (r->err) /* recovery removes directories without a record */
        sa_log(SA_LOG_WARN, "process.directory_left", "directory=\"%s\" message=\"%s\"", r->directory,
               r->err->message);
    sa_error_free(r->err);
    free(r->directory);
    free(r);
}

static void remove_directory(struct process *p)
{
    cleanup_buf struct sa_buf dir = {0};
    process_directory(p, &dir);
    struct removal *r = sa_calloc(1, sizeof *r);
    r->directory = sa_strdup(sa_buf_string(&dir));
    sa_work(p->all->loop, remove_work, remove_done, r);
}

static void forgotten(void *user, const sa_error *err)
{
    struct process *p = user;
    p->committing = false;
    if (err) {
        not_committed(p, err);
        calls_fail(&p->deleters, err);
        return;
    }
    if (p->phase != PROCESS_EXITED)
        p->all->live--;
    p->gone = true;
    p->deleting = false;
    for (size_t i = 0; i < p->deleters.n; i++) {
        DeleteProcessResponse res = DELETE_PROCESS_RESPONSE__INIT;
        res.exit = process_exit_message(rpc_arena(p->deleters.calls[i]), p->record->end);
        delete_process_reply(p->deleters.calls[i], &res);
    }
    calls_clear(&p->deleters);
    if (p->failure)
        calls_fail(&p->starters, p->failure);
    remove_directory(p);
    process_release(p);
}

/* The request id of a process that was started stays known for a day: a late retry must not start it again.
 */
static void forget(struct process *p)
{
    struct store_set *set = store_set_new();
    struct store_key key = key_of(p);
    store_delete(set, TABLE_PROCESSES, &key);
    if (p->phase == PROCESS_STARTING && p->record && *p->record->request_id) {
        struct store_key request = store_key_of(p->record->request_id, strlen(p->record->request_id));
        store_delete(set, TABLE_REQUESTS, &request);
    }
    commit(p, set, forgotten);
}

/* ---- the end ---- */

static void ended(void *user, const sa_error *err)
{
    struct process *p = user;
    p->committing = false;
    if (err) {
        end_record__free_unpacked(p->record->end, NULL);
        p->record->end = NULL;
        p->record->state = RECORD_STATE_RUNNING;
        p->record->seq--;
        not_committed(p, err);
        return;
    }
    p->phase = PROCESS_EXITED;
    p->all->live--;
    link_release(&p->link);
    const EndRecord *end = p->record->end;
    sa_log(SA_LOG_INFO, "process.exited", "process=%s %s=%u reason=\"%s\"", p->name,
           end->kind == END_CODE ? "code" : "signal", end->value, end->reason);
    publish(p);
    for (size_t i = 0; i < p->waiters.n; i++) {
        WaitProcessResponse res = WAIT_PROCESS_RESPONSE__INIT;
        res.exit = process_exit_message(rpc_arena(p->waiters.calls[i]), end);
        wait_process_reply(p->waiters.calls[i], &res);
    }
    calls_clear(&p->waiters);
    attachments_notify(p);
    process_step(p);
}

static void commit_end(struct process *p, EndRecord *end)
{
    p->record->end = end;
    p->record->state = RECORD_STATE_EXITED;
    p->record->seq++;
    struct store_set *set = store_set_new();
    struct store_key key = key_of(p);
    store_put(set, TABLE_PROCESSES, &key, &p->record->base);
    commit(p, set, ended);
}

static EndRecord *end_new(uint32_t kind, uint32_t value, const char *reason, int64_t time_us)
{
    EndRecord init = END_RECORD__INIT, *end = malloc(sizeof *end);
    if (!end)
        abort();
    *end = init;
    end->kind = kind;
    end->value = value;
    if (*reason)
        end->reason = sa_strdup(reason);
    end->time_us = time_us;
    return end;
}

static void fill_ranges(const struct process *p, EndRecord *end)
{
    cleanup_buf struct sa_buf dir = {0};
    struct reader r;
    process_directory(p, &dir);
    if (reader_open(&r, sa_buf_string(&dir), NULL) < 0)
        return;
    reader_range(&r, SHIM_STDOUT, &end->stdout_first, &end->stdout_end, NULL);
    reader_range(&r, SHIM_STDERR, &end->stderr_first, &end->stderr_end, NULL);
    reader_close(&r);
}

static void commit_exit(struct process *p, const struct shim_exit *e)
{
    EndRecord *end = end_new(e->kind == SHIM_EXIT_CODE ? END_CODE : END_SIGNAL, e->value, "", e->time_us);
    fill_ranges(p, end);
    end->stdout_end = e->end[SHIM_STDOUT]; /* its own; what a descendant writes later is not part of it */
    end->stderr_end = e->end[SHIM_STDERR];
    end->stdin_offset = e->stdin_next;
    commit_end(p, end);
}

static void commit_lost(struct process *p, const char *reason)
{
    EndRecord *end = end_new(END_LOST, 0, reason, sa_wall_us());
    fill_ranges(p, end);
    end->stdin_offset = p->status.stdin_next;
    commit_end(p, end);
}

static void swept(void *user, uint32_t survivors)
{
    struct process *p = user;
    p->sweeping = false;
    p->lost = true;
    if (survivors)
        sa_log(SA_LOG_WARN, "process.survivors", "process=%s count=%u", p->name, survivors);
    process_step(p);
}

/* No shim any more: was it told how the process ended? If not, what is left of it is ended first. */
static void without_shim(struct process *p)
{
    cleanup_buf struct sa_buf dir = {0};
    struct shim_exit e;
    struct shim_state state;
    char boot[SHIM_BOOT_ID_TEXT + 1];
    process_directory(p, &dir);
    if (p->phase == PROCESS_RUNNING && reader_exit(sa_buf_string(&dir), &e)) {
        commit_exit(p, &e);
        return;
    }
    shim_boot_id(boot);
    bool known = reader_state(sa_buf_string(&dir), &state, NULL) == 0;
    bool rebooted = known && strcmp(boot, state.boot_id) != 0;
    if (known && !rebooted && !p->lost) {
        p->sweeping = true;
        spawner_sweep(p->all->spawner, &state, swept, p);
        return;
    }
    if (p->phase == PROCESS_STARTING)
        forget(p);
    else
        commit_lost(p, !known     ? "its directory is damaged or gone"
                       : rebooted ? "the machine was restarted"
                                  : "its shim was killed");
}

/* ---- the start ---- */

static void running(void *user, const sa_error *err)
{
    struct process *p = user;
    p->committing = false;
    if (err) {
        not_committed(p, err);
        p->record->state = RECORD_STATE_INTENT;
        p->record->seq = 0;
        calls_fail(&p->starters, err);
        process_delete(p, NULL, true); /* the caller was told that it does not run */
        return;
    }
    p->phase = PROCESS_RUNNING;
    p->spec = NULL;
    sa_log(SA_LOG_INFO, "process.started", "process=%s pid=%u", p->name, p->record->pid);
    publish(p);
    for (size_t i = 0; i < p->starters.n; i++) {
        StartProcessResponse res = START_PROCESS_RESPONSE__INIT;
        res.process = process_message(rpc_arena(p->starters.calls[i]), p);
        start_process_reply(p->starters.calls[i], &res);
    }
    calls_clear(&p->starters);
    process_step(p);
}

static void commit_running(struct process *p)
{
    p->record->state = RECORD_STATE_RUNNING;
    p->record->pid = p->status.child_pid;
    p->record->started_us = p->status.started_us;
    p->record->seq = 1;
    struct store_set *set = store_set_new();
    struct store_key key = key_of(p);
    store_put(set, TABLE_PROCESSES, &key, &p->record->base);
    commit(p, set, running);
}

static void step_starting(struct process *p)
{
    if (p->status.phase == SHIM_FAILED) {
        if (p->spec)
            spec_fail(&p->failure, p->spec, p->status.failed_stage, (int)p->status.failed_errno);
        forget(p);
    } else if (p->status.phase >= SHIM_RUNNING && !p->deleting) {
        commit_running(p);
    } else if (!link_is_open(&p->link)) {
        if (!p->failure)
            sa_fail(&p->failure, SA_SYSTEM_ERROR, "the shim of process %s ended before it could start it",
                    p->name);
        without_shim(p);
    } else if (p->status.phase == SHIM_EXITED) {
        link_release(&p->link); /* being deleted: its end is of no interest */
    }
}

void process_step(struct process *p)
{
    process_release(p);
    if (p->committing || p->sweeping || p->gone)
        return;
    if (p->phase == PROCESS_STARTING)
        step_starting(p);
    else if (p->phase == PROCESS_RUNNING && p->status.phase == SHIM_EXITED)
        commit_exit(p, &p->status.exit);
    else if (p->phase == PROCESS_RUNNING && !link_is_open(&p->link))
        without_shim(p);
    else if (p->phase == PROCESS_EXITED && p->deleting && !link_is_open(&p->link))
        forget(p);
}

static void spoken(struct process *p)
{
    if (!p->awaited)
        return;
    p->awaited = false;
    p->all->awaited--;
    processes_check_ready(p->all);
}

static void journal_error(struct process *p, uint32_t before, uint32_t now)
{
    if (!before == !now)
        return;
    struct processes *all = p->all;
    all->journal_errors += now ? 1 : (size_t)-1;
    cleanup_free char *text =
        sa_format("output of process %s cannot be written: %s", p->name, strerror((int)now));
    service_degraded(all->svc, all->journal_errors ? text : NULL);
}

static void on_status(void *user, const struct shim_status *status)
{
    struct process *p = user;
    journal_error(p, p->status.journal_errno, status->journal_errno);
    p->status = *status;
    spoken(p);
    attachments_notify(p);
    process_step(p);
}

static void on_closed(void *user)
{
    struct process *p = user;
    journal_error(p, p->status.journal_errno, 0);
    p->status.journal_errno = 0;
    spoken(p);
    /* A shim that is alive dropped us because of another connection, or of a message: it is asked again. */
    if (p->phase == PROCESS_RUNNING && p->status.phase == SHIM_RUNNING && p->reconnects < RECONNECTS_MAX &&
        process_connect(p) == 0)
        p->reconnects++;
    else
        process_step(p);
}

static void on_drained(void *user)
{
    attachments_notify(user);
}

int process_connect(struct process *p)
{
    cleanup_buf struct sa_buf path = {0};
    process_directory(p, &path);
    sa_buf_addf(&path, "/sock");
    int fd = sa_unix_connect(sa_buf_string(&path), SOCK_SEQPACKET, NULL);
    if (fd < 0)
        return -1;
    link_open(&p->link, p->all->loop, fd);
    return 0;
}

/* The intent is committed: the shim may start. */
static void intended(void *user, const sa_error *err)
{
    struct process *p = user;
    struct processes *all = p->all;
    p->committing = false;
    if (err) {
        calls_fail(&p->starters, err);
        all->live--;
        p->gone = true;
        process_release(p);
        return;
    }
    bool acknowledged = p->record->stdout_retention == RETENTION_POLICY_ACKNOWLEDGED;
    const struct spec_mode mode = {
        .id = p->name,
        .user = &p->user,
        .retention = {acknowledged ? SHIM_ACKNOWLEDGED : SHIM_RING, SHIM_RING},
        .journal_bytes = p->record->journal_bytes,
    };
    cleanup_close int spec = spec_memfd(p->spec, &mode, &p->failure);
    int fd = spec < 0 ? -1 : spawner_spawn(all->spawner, spec, NULL, &p->failure);
    if (fd < 0)
        forget(p);
    else
        link_open(&p->link, all->loop, fd);
}

static void commit_intent(struct process *p, const StartProcessRequest *req)
{
    struct store_set *set = store_set_new();
    struct store_key key = key_of(p);
    store_put(set, TABLE_PROCESSES, &key, &p->record->base);
    if (*req->request_id) {
        struct store_key request = store_key_of(req->request_id, strlen(req->request_id));
        RequestRecord r = REQUEST_RECORD__INIT;
        r.process_id = (ProtobufCBinaryData){sizeof p->id.bytes, p->id.bytes};
        r.digest = (ProtobufCBinaryData){sizeof p->digest, p->digest};
        r.time_us = sa_wall_us();
        store_put(set, TABLE_REQUESTS, &request, &r.base);
    }
    commit(p, set, intended);
}

static struct process *starting_with(struct processes *all, const char *request_id)
{
    for (size_t i = 0; i < PROCESS_BUCKETS; i++)
        for (struct process *p = all->buckets[i]; p; p = p->next)
            if (p->phase == PROCESS_STARTING && !p->gone && p->record &&
                !strcmp(p->record->request_id, request_id))
                return p;
    return NULL;
}

static int check_same(const char *request_id, const uint8_t *digest, const void *other, size_t n,
                      sa_error **err)
{
    if (n == SA_SHA256_SIZE && !memcmp(digest, other, n))
        return 0;
    return sa_fail(err, SA_REQUEST_ID_REUSED, "request id `%s` was used for another process", request_id);
}

/* Has this request come before? 1: the call is answered or waits for the first one's result. */
static int answer_repetition(struct processes *all, struct rpc_call *call, const char *request_id,
                             const uint8_t *digest, sa_error **err)
{
    struct process *p = starting_with(all, request_id);
    if (p) {
        if (check_same(request_id, digest, p->digest, sizeof p->digest, err) < 0)
            return -1;
        calls_add(&p->starters, call);
        return 1;
    }
    struct store_key key = store_key_of(request_id, strlen(request_id));
    cleanup_message RequestRecord *r = NULL;
    int found = store_get(all->store, TABLE_REQUESTS, &key, &r, err);
    if (found <= 0)
        return found;
    char id[SA_ID_TEXT + 1] = "";
    struct sa_id first;
    if (check_same(request_id, digest, r->digest.data, r->digest.len, err) < 0)
        return -1;
    if (r->process_id.len == sizeof first.bytes) {
        memcpy(first.bytes, r->process_id.data, sizeof first.bytes);
        sa_id_format(first, id);
    }
    if (!(p = processes_find(all, id, err)))
        return sa_wrap(err, "request id `%s` started a process that was deleted", request_id);
    StartProcessResponse res = START_PROCESS_RESPONSE__INIT;
    res.process = process_message(rpc_arena(call), p);
    start_process_reply(call, &res);
    return 1;
}

void processes_start(struct processes *all, struct rpc_call *call, const StartProcessRequest *req,
                     const struct spec_user *user)
{
    sa_error *err = NULL;
    uint8_t digest[SA_SHA256_SIZE];
    spec_digest(req->spec, digest);
    int r = *req->request_id ? answer_repetition(all, call, req->request_id, digest, &err) : 0;
    if (r == 0 && all->draining)
        r = sa_fail(&err, SA_DRAINING, "the service is about to stop");
    if (r == 0 && all->live >= all->max)
        r = sa_fail(&err, SA_TOO_MANY, "%zu processes run already", all->max);
    if (r < 0)
        rpc_fail(call, err);
    if (r != 0)
        return;
    struct process *p = process_new(all, sa_id_new(), record_new(req), PROCESS_STARTING);
    memcpy(p->digest, digest, sizeof digest);
    p->user = *user;
    p->spec = req->spec;
    calls_add(&p->starters, call);
    commit_intent(p, req);
}

/* ---- waiting and deleting ---- */

void process_wait(struct process *p, struct rpc_call *call)
{
    if (p->phase != PROCESS_EXITED) {
        calls_prune(&p->waiters);
        calls_add(&p->waiters, call);
        return;
    }
    WaitProcessResponse res = WAIT_PROCESS_RESPONSE__INIT;
    res.exit = process_exit_message(rpc_arena(call), p->record->end);
    wait_process_reply(call, &res);
}

void process_delete(struct process *p, struct rpc_call *call, bool kill)
{
    sa_error *err = NULL;
    bool left = link_is_open(&p->link) && p->status.descendants;
    if (!kill && !p->deleting && (p->phase != PROCESS_EXITED || left)) {
        sa_fail(&err, SA_PROCESS_RUNNING,
                p->phase == PROCESS_EXITED ? "what process %s has started still runs"
                                           : "process %s still runs",
                p->name);
        rpc_fail(call, err);
        return;
    }
    p->deleting = true;
    if (call)
        calls_add(&p->deleters, call);
    if (kill)
        link_signal(&p->link, SIGKILL, SHIM_SCOPE_TREE, NULL, NULL);
    process_step(p);
}

/* ---- now and then ---- */

static void retry(void *user)
{
    struct processes *all = user;
    for (size_t i = 0; i < PROCESS_BUCKETS; i++)
        for (struct process *p = all->buckets[i]; p; p = p->next)
            process_step(p);
    if (store_degraded(all->store))
        sa_timer_start(all->retry_timer, RETRY_MS);
    service_degraded(all->svc,
                     store_degraded(all->store) ? "the store of processes cannot be written" : NULL);
}

void processes_start_timers(struct processes *all)
{
    all->retry_timer = sa_timer_new(all->loop, retry, all);
}

void processes_fini(struct processes *all)
{
    for (size_t i = 0; i < PROCESS_BUCKETS; i++)
        while (all->buckets[i])
            process_free(all->buckets[i]);
    sa_timer_free(all->retry_timer);
    sa_timer_free(all->prune_timer);
    sa_timer_free(all->ready_timer);
}
