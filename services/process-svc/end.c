/* The end of a process: its exit, its loss, its deletion. */
#include <stdlib.h>
#include <string.h>

#include "adapters/os/fault.h"
#include "adapters/os/file.h"
#include "adapters/os/log.h"
#include "adapters/os/mem.h"
#include "services/process-svc/processes.h"
#include "services/process-svc/retention.h"
#include "services/process-svc/terminal.h"
#include "services/process-svc/watch.h"

enum end_kind { END_CODE = 1, END_SIGNAL = 2, END_LOST = 3 };

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
        process_not_committed(p, err);
        calls_fail(&p->deleters, err);
        return;
    }
    SA_FAULT("delete.committed");
    if (p->phase == PROCESS_EXITED)
        retention_count(p->all, -1);
    else
        p->all->live--;
    p->gone = true;
    p->deleting = false;
    process_settled(p);
    ladder_answer(p);
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
void process_forget(struct process *p)
{
    struct store_set *set = store_set_new();
    struct store_key key = process_key(p);
    store_delete(set, TABLE_PROCESSES, &key);
    if (p->phase == PROCESS_STARTING && p->record && *p->record->request_id) {
        struct store_key request = store_key_of(p->record->request_id, strlen(p->record->request_id));
        store_delete(set, TABLE_REQUESTS, &request);
    }
    process_commit(p, set, forgotten);
}

/* ---- the end ---- */

static void ended(void *user, const sa_error *err)
{
    struct process *p = user;
    p->committing = false;
    if (err) {
        process_drop_next(p);
        process_not_committed(p, err);
        return;
    }
    SA_FAULT("end.committed");
    process_take_next(p);
    p->phase = PROCESS_EXITED;
    p->all->live--;
    retention_count(p->all, 1);
    link_release(&p->link);
    SA_FAULT("end.shim_released");
    const EndRecord *end = p->record->end;
    sa_log(SA_LOG_INFO, "process.exited", "process=%s %s=%u reason=\"%s\"", p->name,
           end->kind == END_CODE ? "code" : "signal", end->value, end->reason);
    process_publish(p);
    for (size_t i = 0; i < p->waiters.n; i++) {
        WaitProcessResponse res = WAIT_PROCESS_RESPONSE__INIT;
        res.exit = process_exit_message(rpc_arena(p->waiters.calls[i]), end);
        wait_process_reply(p->waiters.calls[i], &res);
    }
    calls_clear(&p->waiters);
    attachments_notify(p);
    followers_notify(p);
    terminal_notify(p);
    process_step(p);
}

static void commit_end(struct process *p, EndRecord *end)
{
    SA_FAULT("end.reported");
    ProcessRecord *next = p->next_record = process_record_copy(p->record);
    process_fill_runs(p, next);
    next->end = end;
    next->state = RECORD_STATE_EXITED;
    next->seq++;
    next->ready = false;
    next->descendants = process_has_descendants(p);
    if (!next->descendants)
        watch_clear(next);
    if (next->stop && !next->descendants)
        stop_record__free_unpacked(steal_pointer(&next->stop), NULL);
    struct store_set *set = store_set_new();
    struct store_key key = process_key(p);
    store_put(set, TABLE_PROCESSES, &key, &next->base);
    process_commit(p, set, ended);
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

EndRecord *process_end_of(const struct shim_exit *e)
{
    EndRecord *end = end_new(e->kind == SHIM_EXIT_CODE ? END_CODE : END_SIGNAL, e->value, "", e->time_us);
    end->stdout_end = e->end[SHIM_STDOUT];
    end->stderr_end = e->end[SHIM_STDERR];
    end->stdin_offset = e->stdin_next;
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

void process_commit_exit(struct process *p, const struct shim_exit *e)
{
    EndRecord *end = process_end_of(e);
    fill_ranges(p, end);
    end->stdout_end = e->end[SHIM_STDOUT]; /* its own; what a descendant writes later is not part of it */
    end->stderr_end = e->end[SHIM_STDERR];
    end->terminal_size = terminal_last_size(p);
    commit_end(p, end);
}

static void commit_lost(struct process *p, const char *reason)
{
    EndRecord *end = end_new(END_LOST, 0, reason, sa_wall_us());
    fill_ranges(p, end);
    end->stdin_offset = p->status.stdin_next;
    end->terminal_size = terminal_last_size(p);
    commit_end(p, end);
}

static void swept(void *user, uint32_t survivors)
{
    struct process *p = user;
    p->sweeping = false;
    p->lost = true;
    if (survivors)
        sa_log(SA_LOG_WARN, "process.survivors", "process=%s count=%u", p->name, survivors);
    limits_remove(&p->all->limits, p->name);
    process_step(p);
}

/* No shim any more: was it told how the process ended? If not, what is left of it is ended first. */
void process_without_shim(struct process *p)
{
    cleanup_buf struct sa_buf dir = {0};
    struct shim_exit e;
    struct shim_state state;
    char boot[SHIM_BOOT_ID_TEXT + 1];
    process_directory(p, &dir);
    if (p->phase == PROCESS_RUNNING && reader_exit(sa_buf_string(&dir), &e)) {
        process_commit_exit(p, &e);
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
        process_forget(p);
    else
        commit_lost(p, !known     ? "its directory is damaged or gone"
                       : rebooted ? "the machine was restarted"
                                  : "its shim was killed");
}
