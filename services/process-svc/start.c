/* The start of a process: is it a repetition; the intent; the shim; the result; the answer. */
#include <stdlib.h>
#include <string.h>

#include "adapters/os/fault.h"
#include "adapters/os/log.h"
#include "adapters/os/mem.h"
#include "services/process-svc/policy.h"
#include "services/process-svc/processes.h"

static ProcessRecord *record_new(const struct config *c, const StartProcessRequest *req)
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
    r.journal_bytes = spec->journal_bytes ? spec->journal_bytes : c->default_journal_bytes;
    policy_to_record(spec, &r);
    r.n_labels = spec->n_labels;
    r.labels = sa_arena_alloc(a, (spec->n_labels + 1) * sizeof *r.labels);
    for (size_t i = 0; i < spec->n_labels; i++) {
        LabelRecord *l = r.labels[i] = sa_arena_alloc(a, sizeof *l);
        label_record__init(l);
        l->key = spec->labels[i]->key;
        l->value = spec->labels[i]->value;
    }
    TerminalRecord terminal = TERMINAL_RECORD__INIT;
    if (spec->terminal) {
        const TerminalSpec *t = spec->terminal;
        terminal.rows = t->rows ? t->rows : SPEC_ROWS_DEFAULT;
        terminal.columns = t->columns ? t->columns : SPEC_COLUMNS_DEFAULT;
        terminal.term = *t->term ? t->term : (char *)(uintptr_t)SPEC_TERM_DEFAULT;
        terminal.size_policy = t->size_policy ? t->size_policy : TERMINAL_SIZE_POLICY_LEADER;
        terminal.scrollback_lines = t->scrollback_lines ? t->scrollback_lines : SPEC_SCROLLBACK_DEFAULT;
        r.terminal = &terminal;
    }
    ProcessRecord *copy = process_record_copy(&r);
    sa_arena_free(a);
    return copy;
}

/* ---- it runs ---- */

static void answer_started(struct process *p, struct rpc_call *call)
{
    StartProcessResponse res = START_PROCESS_RESPONSE__INIT;
    res.process = process_message(rpc_arena(call), p);
    start_process_reply(call, &res);
}

static void running(void *user, const sa_error *err)
{
    struct process *p = user;
    p->committing = false;
    if (err) {
        process_not_committed(p, err);
        p->record->state = RECORD_STATE_INTENT;
        p->record->seq = 0;
        p->spec = NULL;
        calls_fail(&p->starters, err);
        process_delete(p, NULL, true); /* the caller was told that it does not run */
        return;
    }
    SA_FAULT("start.result_committed");
    p->phase = PROCESS_RUNNING;
    p->spec = NULL;
    process_settled(p);
    sa_log(SA_LOG_INFO, "process.started", "process=%s pid=%u", p->name, p->record->pid);
    process_publish(p);
    for (size_t i = 0; i < p->starters.n; i++)
        answer_started(p, p->starters.calls[i]);
    calls_clear(&p->starters);
    process_step(p);
}

void process_commit_running(struct process *p)
{
    SA_FAULT("start.exec_reported");
    p->record->state = RECORD_STATE_RUNNING;
    p->record->pid = p->status.child_pid;
    p->record->started_us = p->status.started_us;
    p->record->seq = 1;
    p->record->ready = process_is_ready(p);
    struct store_set *set = store_set_new();
    struct store_key key = process_key(p);
    store_put(set, TABLE_PROCESSES, &key, &p->record->base);
    process_commit(p, set, running);
}

/* ---- it is wanted ---- */

/* The intent is committed: the shim may start. */
static void intended(void *user, const sa_error *err)
{
    struct process *p = user;
    struct processes *all = p->all;
    p->committing = false;
    if (err) {
        process_not_committed(p, err);
        calls_fail(&p->starters, err);
        all->live--;
        p->gone = true;
        process_release(p);
        return;
    }
    SA_FAULT("start.intent_committed");
    bool acknowledged = p->record->stdout_retention == RETENTION_POLICY_ACKNOWLEDGED;
    const struct spec_mode mode = {
        .id = p->name,
        .user = &p->user,
        .retention = {acknowledged ? SHIM_ACKNOWLEDGED : SHIM_RING, SHIM_RING},
        .journal_bytes = p->record->journal_bytes,
        .limits = &all->limits,
    };
    cleanup_close int spec = spec_memfd(p->spec, &mode, &p->failure);
    int fd = spec < 0 ? -1 : spawner_spawn(all->spawner, spec, &p->failure);
    if (fd < 0)
        process_forget(p);
    else
        link_open(&p->link, all->loop, fd);
    SA_FAULT("start.shim_asked");
}

static void commit_intent(struct process *p, const StartProcessRequest *req)
{
    struct store_set *set = store_set_new();
    struct store_key key = process_key(p);
    store_put(set, TABLE_PROCESSES, &key, &p->record->base);
    if (*req->request_id) {
        struct store_key request = store_key_of(req->request_id, strlen(req->request_id));
        RequestRecord r = REQUEST_RECORD__INIT;
        r.process_id = (ProtobufCBinaryData){sizeof p->id.bytes, p->id.bytes};
        r.digest = (ProtobufCBinaryData){sizeof p->digest, p->digest};
        r.time_us = sa_wall_us();
        store_put(set, TABLE_REQUESTS, &request, &r.base);
    }
    process_commit(p, set, intended);
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
    struct store_key key = store_key_of(request_id, strlen(request_id));
    cleanup_message RequestRecord *r = NULL;
    struct process *p = starting_with(all, request_id);
    int found = store_get(all->store, TABLE_REQUESTS, &key, &r, err);
    if (found < 0 || (!found && !p)) /* its intent may not be committed yet */
        return found;
    const void *first = r ? r->digest.data : p->digest;
    if (check_same(request_id, digest, first, r ? r->digest.len : sizeof p->digest, err) < 0)
        return -1;
    if (p) {
        calls_add(&p->starters, call);
        return 1;
    }
    char id[SA_ID_TEXT + 1] = "";
    struct sa_id parsed;
    if (r->process_id.len == sizeof parsed.bytes) {
        memcpy(parsed.bytes, r->process_id.data, sizeof parsed.bytes);
        sa_id_format(parsed, id);
    }
    if (!(p = processes_find(all, id, err)))
        return sa_wrap(err, "request id `%s` started a process that was deleted", request_id);
    answer_started(p, call);
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
    if (r == 0 && all->live >= all->config.max_processes)
        r = sa_fail(&err, SA_TOO_MANY, "%zu processes run already", all->live);
    if (r < 0)
        rpc_fail(call, err);
    if (r != 0)
        return;
    struct process *p = process_new(all, sa_id_new(), record_new(&all->config, req), PROCESS_STARTING);
    memcpy(p->digest, digest, sizeof digest);
    p->user = *user;
    p->spec = req->spec;
    calls_add(&p->starters, call);
    commit_intent(p, req);
}
