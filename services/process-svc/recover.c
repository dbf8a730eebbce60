/* Starting is recovering: every record and every directory is looked at, shims are found again, what was
 * begun is completed or undone. Serving begins once every shim that was found has spoken, or after READY_MS.
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/log.h"
#include "adapters/os/mem.h"
#include "services/process-svc/processes.h"
#include "services/process-svc/retention.h"

enum { READY_MS = 5000, PRUNE_MS = 3600 * 1000 };

void processes_check_ready(struct processes *all)
{
    if (all->ready || all->awaited)
        return;
    all->ready = true;
    sa_timer_stop(all->ready_timer);
    service_ready(all->svc);
}

static void on_ready_timer(void *user)
{
    struct processes *all = user;
    sa_log(SA_LOG_WARN, "process.shims_silent", "count=%zu", all->awaited);
    all->awaited = 0;
    processes_check_ready(all);
}

static void await_status(struct process *p)
{
    p->awaited = true;
    p->all->awaited++;
}

/* An intent without a request id was never answered, so nobody knows the process: it is undone. */
static void recover_intent(struct process *p)
{
    bool known = p->record && *p->record->request_id;
    p->deleting = !known;
    await_status(p); /* until it is completed or undone */
    if (process_connect(p) < 0 || known)
        return;
    link_last(&p->link);
    link_signal(&p->link, SIGKILL, SHIM_SCOPE_TREE, NULL, NULL);
}

/* It has ended, and so has its shim, which takes its socket away: such are many, and stay in the store. */
static bool is_settled(const struct processes *all, struct sa_id id, const ProcessRecord *r)
{
    char name[SA_ID_TEXT + 1];
    sa_id_format(id, name);
    cleanup_free char *sock = sa_format("%s/%s/sock", all->directory, name);
    return !r->descendants && !r->n_ports && access(sock, F_OK) < 0;
}

static bool recover_record(void *user, const struct store_row *row)
{
    struct processes *all = user;
    struct sa_id id;
    sa_error *err = NULL;
    ProcessRecord *record = row->key_len == sizeof id.bytes ? store_row_unpack(row, &err) : NULL;
    if (!record) {
        sa_log(SA_LOG_ERROR, "process.record_damaged", "message=\"%s\"", err ? err->message : "wrong key");
        sa_error_free(err);
        return true;
    }
    memcpy(id.bytes, row->key, sizeof id.bytes);
    enum process_phase phase = record->state == RECORD_STATE_EXITED   ? PROCESS_EXITED
                               : record->state == RECORD_STATE_INTENT ? PROCESS_STARTING
                                                                      : PROCESS_RUNNING;
    if (phase == PROCESS_EXITED)
        retention_count(all, 1);
    if (phase == PROCESS_EXITED && is_settled(all, id, record)) {
        store_message_free(record);
        return true;
    }
    struct process *p = process_new(all, id, record, phase);
    if (phase == PROCESS_STARTING)
        recover_intent(p);
    else if (process_connect(p) == 0)
        await_status(p);
    if (phase == PROCESS_EXITED)
        link_release(&p->link); /* descendants may still be there */
    return true;
}

static bool has_record(struct processes *all, struct sa_id id)
{
    cleanup_buf struct sa_buf bytes = {0};
    struct store_key key = store_key_of(id.bytes, sizeof id.bytes);
    return processes_live(all, id) || store_get_bytes(all->store, TABLE_PROCESSES, &key, &bytes, NULL) != 0;
}

/* A directory that no record knows: left by a crash between a deletion and the removal. */
static void recover_directories(struct processes *all)
{
    DIR *d = opendir(all->directory);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        struct sa_id id;
        if (!sa_id_parse(e->d_name, &id) || has_record(all, id))
            continue;
        recover_intent(process_new(all, id, NULL, PROCESS_STARTING));
    }
    closedir(d);
}

/* ---- request ids are kept for a day, and as long as their process ---- */

struct old_requests {
    struct processes *all;
    struct store_set *set;
    int64_t before_us;
    struct sa_arena *arena;
    struct old_request {
        struct old_request *next;
        struct store_key key, process;
    } * list;
};

static bool collect_old(void *user, const struct store_row *row)
{
    struct old_requests *old = user;
    RequestRecord *r = store_row_unpack(row, NULL);
    if (r && r->time_us < old->before_us) {
        struct old_request *o = sa_arena_alloc(old->arena, sizeof *o);
        o->key = store_key_of(row->key, row->key_len);
        o->process = store_key_of(r->process_id.data, r->process_id.len);
        o->next = old->list;
        old->list = o;
    }
    store_message_free(r);
    return true;
}

static void prune(void *user)
{
    struct processes *all = user;
    struct old_requests old = {.all = all, .set = store_set_new(), .arena = sa_arena_new()};
    struct store_range range = {.table = TABLE_REQUESTS};
    old.before_us = sa_wall_us() - (int64_t)REQUEST_KEPT_HOURS * 3600 * 1000000;
    store_scan(all->store, &range, collect_old, &old, NULL);
    for (struct old_request *o = old.list; o; o = o->next) {
        cleanup_buf struct sa_buf bytes = {0};
        if (store_get_bytes(all->store, TABLE_PROCESSES, &o->process, &bytes, NULL) == 0)
            store_delete(old.set, TABLE_REQUESTS, &o->key);
    }
    store_commit(all->store, old.set, NULL, NULL, NULL); /* else the next hour */
    sa_arena_free(old.arena);
}

static void step_all(struct processes *all)
{
    for (size_t i = 0; i < PROCESS_BUCKETS; i++)
        for (struct process *p = all->buckets[i]; p; p = p->next)
            process_step(p);
}

int processes_recover(struct processes *all, sa_error **err)
{
    struct store_range range = {.table = TABLE_PROCESSES};
    all->ready_timer = sa_timer_new(all->loop, on_ready_timer, all);
    all->prune_timer = sa_timer_new(all->loop, prune, all);
    sa_timer_start(all->ready_timer, READY_MS);
    sa_timer_every(all->prune_timer, PRUNE_MS);
    int64_t n = store_scan(all->store, &range, recover_record, all, err);
    if (n < 0)
        return -1;
    recover_directories(all);
    sa_log(SA_LOG_INFO, "process.recovered", "records=%lld live=%zu shims=%zu", (long long)n, all->live,
           all->awaited);
    step_all(all);
    processes_check_ready(all);
    return 0;
}
