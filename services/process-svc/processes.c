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
#include "adapters/os/fault.h"
#include "adapters/os/file.h"
#include "adapters/os/log.h"
#include "adapters/os/mem.h"
#include "services/process-svc/terminal.h"
#include "services/process-svc/watch.h"

enum { RETRY_MS = 1000, RECONNECTS_MAX = 8 };

const struct store_table process_tables[TABLES] = {
    [TABLE_PROBE] = {"probe", 1, NULL}, /* one row, written to see whether the store works again */
    [TABLE_PROCESSES] = {"processes", 2, &process_record__descriptor},
    [TABLE_REQUESTS] = {"requests", 1, &request_record__descriptor},
    [TABLE_CONFIG] = {"config", 1, &config_record__descriptor},
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

void calls_clear(struct calls *c)
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
    p->reader = READER_CLOSED;
    p->link =
        (struct link){.fd = -1, .on_status = on_status, .on_closed = on_closed, .on_drained = on_drained};
    p->link.user = p;
    p->next = *b;
    *b = p;
    all->live += phase != PROCESS_EXITED;
    return p;
}

static void process_free(struct process *p)
{
    struct process **at = bucket(p->all, p->id);
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    link_close(&p->link);
    terminal_free(p->terminal);
    reader_close(&p->reader);
    calls_clear(&p->starters);
    calls_clear(&p->waiters);
    calls_clear(&p->deleters);
    calls_clear(&p->stoppers);
    sa_timer_free(p->stop_timer);
    sa_error_free(p->failure);
    store_message_free(p->record);
    store_message_free(p->next_record);
    free(p->ports);
    free(p);
}

static bool is_read(const struct process *p)
{
    return p->attachments || p->followers || terminal_busy(p);
}

static void collect(void *user)
{
    struct process *p = user;
    p->collecting = false;
    bool ended = p->phase == PROCESS_EXITED && !p->deleting;
    bool read = is_read(p);
    if (!read && reader_is_open(&p->reader))
        reader_close(&p->reader);
    if ((ended || p->gone) && !p->committing && !p->sweeping && !link_is_open(&p->link) && !read &&
        !p->waiters.n && !p->deleters.n && !p->starters.n && !p->stoppers.n)
        process_free(p);
}

void process_release(struct process *p)
{
    if (p->collecting)
        return;
    p->collecting = true;
    sa_defer(p->all->loop, collect, p);
}

struct store_key process_key(const struct process *p)
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

uint64_t process_final_end(const struct process *p, int stream)
{
    if (p->phase != PROCESS_EXITED)
        return UINT64_MAX;
    return stream == SHIM_STDOUT ? p->record->end->stdout_end : p->record->end->stderr_end;
}

bool process_lost_output(const struct process *p)
{
    return p->phase == PROCESS_EXITED && *p->record->end->reason && !p->record->end->stdout_end &&
           !p->record->end->stderr_end;
}

/* ---- committing ---- */

void process_commit(struct process *p, struct store_set *set, store_done_fn *done)
{
    sa_error *err = NULL;
    p->committing = true;
    if (store_commit(p->all->store, set, done, p, &err) < 0) {
        done(p, err);
        sa_error_free(err);
    }
}

/* A commit has failed: everybody tries again a little later. */
void process_not_committed(struct process *p, const sa_error *err)
{
    sa_log(SA_LOG_ERROR, "process.store_failed", "process=%s reason=%s message=\"%s\"", p->name, err->reason,
           err->message);
    if (!sa_timer_active(p->all->retry_timer))
        sa_timer_start(p->all->retry_timer, RETRY_MS);
}

void process_publish(struct process *p)
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

/* ---- what comes next ---- */

static void step_starting(struct process *p)
{
    if (p->status.phase == SHIM_FAILED) {
        if (p->spec)
            spec_fail(&p->failure, p->spec, p->status.failed_stage, (int)p->status.failed_errno);
        process_forget(p);
    } else if (p->status.phase >= SHIM_RUNNING && !p->deleting) {
        process_commit_running(p);
    } else if (!link_is_open(&p->link)) {
        if (!p->failure && p->spec)
            sa_fail(&p->failure, SA_SYSTEM_ERROR, "the shim of process %s ended before it could start it",
                    p->name);
        else if (!p->failure)
            sa_fail(&p->failure, SA_UNAVAILABLE,
                    "an earlier attempt was interrupted and is undone: try again");
        process_without_shim(p);
    } else if (p->status.phase == SHIM_EXITED) {
        link_release(&p->link); /* being deleted: its end is of no interest */
    }
}

void process_step(struct process *p)
{
    if (p->phase != PROCESS_RUNNING || !is_read(p)) /* else this would be an event for each piece of output */
        process_release(p);
    if (p->committing || p->sweeping || p->gone || terminal_commits(p))
        return;
    if (p->phase == PROCESS_STARTING)
        step_starting(p);
    else if (p->phase == PROCESS_RUNNING && p->status.phase == SHIM_EXITED)
        process_commit_exit(p, &p->status.exit);
    else if (p->phase == PROCESS_RUNNING && !link_is_open(&p->link))
        process_without_shim(p);
    else if (p->phase == PROCESS_EXITED && p->deleting && !link_is_open(&p->link))
        process_forget(p);
    else if (!process_change(p) && !ladder_step(p))
        ready_await(p);
}

void process_settled(struct process *p)
{
    if (!p->awaited)
        return;
    p->awaited = false;
    p->all->awaited--;
    processes_check_ready(p->all);
}

static void check_health(struct processes *all)
{
    cleanup_free char *text = NULL;
    if (store_degraded(all->store))
        text = sa_strdup("the store of processes cannot be written");
    else if (all->journal_errors)
        text = sa_format("output of %zu processes cannot be written: %s", all->journal_errors,
                         strerror((int)all->journal_errno));
    service_degraded(all->svc, text);
}

static void journal_error(struct process *p, uint32_t before, uint32_t now)
{
    if (!before == !now)
        return;
    p->all->journal_errors += now ? 1 : (size_t)-1;
    p->all->journal_errno = now;
    check_health(p->all);
}

static void on_status(void *user, const struct shim_status *status)
{
    struct process *p = user;
    journal_error(p, p->status.journal_errno, status->journal_errno);
    p->status = *status;
    if (p->phase != PROCESS_STARTING)
        process_settled(p);
    watch_go_on(p->all->watch);
    attachments_notify(p);
    followers_notify(p);
    terminal_notify(p);
    process_step(p);
}

/* Has its shim more to do than to end? */
static bool needs_shim(const struct process *p)
{
    return p->phase == PROCESS_RUNNING ? p->status.phase != SHIM_EXITED
                                       : p->phase == PROCESS_EXITED && p->record->descendants;
}

static void on_closed(void *user)
{
    struct process *p = user;
    journal_error(p, p->status.journal_errno, 0);
    p->status.journal_errno = 0;
    if (p->phase != PROCESS_STARTING)
        process_settled(p);
    /* A shim that is alive dropped us because of another connection, or of a message: it is asked again. */
    if (needs_shim(p) && p->reconnects < RECONNECTS_MAX && process_connect(p) == 0) {
        p->reconnects++;
        attachments_reconnected(p);
        terminal_reconnected(p);
        if (p->phase == PROCESS_EXITED)
            link_release(&p->link);
    } else {
        process_step(p);
    }
}

static void on_drained(void *user)
{
    attachments_notify(user);
    terminal_notify(user);
}

int process_connect(struct process *p)
{
    cleanup_buf struct sa_buf path = {0};
    process_directory(p, &path);
    sa_buf_addf(&path, "/sock");
    int fd = sa_unix_connect(sa_buf_string(&path), SOCK_SEQPACKET, NULL);
    if (fd < 0)
        return -1;
    p->rung_sent = STOP_RUNG_UNSPECIFIED;
    p->hung_up_again = false;
    link_open(&p->link, p->all->loop, fd);
    return 0;
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
    SA_FAULT("delete.asked");
    if (call)
        calls_add(&p->deleters, call);
    if (kill)
        link_last(&p->link);
    if (kill)
        link_signal(&p->link, SIGKILL, SHIM_SCOPE_TREE, NULL, NULL);
    process_step(p);
}

/* ---- now and then ---- */

static void on_probe(void *user, const sa_error *err)
{
    (void)err;
    check_health(user);
}

/* After a commit that failed: what waits for one tries again; and one is tried in any case, to know. */
static void retry(void *user)
{
    struct processes *all = user;
    struct store_set *set = store_set_new();
    struct store_key key = store_key_of("probe", 5);
    store_put_bytes(set, TABLE_PROBE, &key, "", 0);
    store_commit(all->store, set, on_probe, all, NULL);
    for (size_t i = 0; i < PROCESS_BUCKETS; i++)
        for (struct process *p = all->buckets[i]; p; p = p->next)
            process_step(p);
    if (store_degraded(all->store))
        sa_timer_start(all->retry_timer, RETRY_MS);
    check_health(all);
}

void processes_start_timers(struct processes *all)
{
    all->retry_timer = sa_timer_new(all->loop, retry, all);
    all->watch = watch_new(all);
    ready_init(all);
}

void processes_fini(struct processes *all)
{
    for (size_t i = 0; i < PROCESS_BUCKETS; i++)
        while (all->buckets[i])
            process_free(all->buckets[i]);
    watch_free(all->watch);
    sa_timer_free(all->retry_timer);
    ready_fini(all);
    sa_timer_free(all->prune_timer);
    sa_timer_free(all->ready_timer);
}
