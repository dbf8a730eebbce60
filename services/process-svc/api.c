/* The handlers of ProcessService: checks what came, finds the process, lets processes.c, attach.c and run.c
 * do the work. */
#include "services/process-svc/api.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"
#include "services/process-svc/attach.h"
#include "services/process-svc/census.h"
#include "services/process-svc/follow.h"
#include "services/process-svc/policy.h"
#include "services/process-svc/run.h"
#include "services/process-svc/terminal.h"
#include "services/process-svc/tree.h"

enum {
    REQUEST_ID_MAX = 128,
    PAGE_DEFAULT = 50,
    PAGE_MAX = 1000,
    PAGE_BYTES = 1 << 20, /* a page ends after the process that passes it */
    SCAN_ROWS_MAX = 2000, /* looked at for one page, so that a rare label does not hold the service */
    READ_MAX = 1 << 20,
    STOP_GRACE_MS = 5000,
    STOP_GRACE_MAX_MS = 600000,
};

/* ---- users other than the default are looked up in a worker: it may block ---- */

struct lookup {
    struct processes *all;
    struct rpc_call *call;
    const char *name, *group; /* of the call's request; empty: the default */
    struct spec_user user;
    sa_error *err;
    const StartProcessRequest *start; /* or */
    const RunProcessRequest *run;
};

static void lookup_work(void *user)
{
    struct lookup *l = user;
    if (!*l->name || spec_user_find(l->name, &l->user, &l->err) == 0)
        if (*l->group)
            policy_group_find(l->group, &l->user, &l->err);
}

static void lookup_done(void *user)
{
    struct lookup *l = user;
    if (l->err)
        rpc_fail(l->call, l->err);
    else if (l->start)
        processes_start(l->all, l->call, l->start, &l->user);
    else
        run_start(l->all, l->call, l->run, &l->user);
    rpc_call_unref(l->call);
    service_release(l->all->svc);
    free(l);
}

static void look_up(struct processes *all, struct rpc_call *call, const ProcessSpec *spec,
                    const StartProcessRequest *start, const RunProcessRequest *run)
{
    struct lookup *l = sa_calloc(1, sizeof *l);
    *l = (struct lookup){.all = all, .call = rpc_call_ref(call), .start = start, .run = run};
    l->name = spec->user;
    l->group = spec->group;
    l->user = all->user;
    service_hold(all->svc);
    sa_work(all->loop, lookup_work, lookup_done, l);
}

static bool has_user(const ProcessSpec *spec)
{
    return *spec->user || *spec->group;
}

/* ---- starting ---- */

static void start_process(void *api, struct rpc_call *call, const StartProcessRequest *req)
{
    struct processes *all = api;
    sa_error *err = NULL;
    if (strlen(req->request_id) > REQUEST_ID_MAX)
        sa_fail(&err, SA_INVALID_REQUEST, "request_id has more than %d characters", REQUEST_ID_MAX);
    else if (spec_check(req->spec, &err) == 0)
        limits_available(&all->limits, req->spec->limits, &err);
    if (err)
        rpc_fail(call, err);
    else if (has_user(req->spec))
        look_up(all, call, req->spec, req, NULL);
    else
        processes_start(all, call, req, &all->user);
}

static void run_process(void *api, struct rpc_call *call, const RunProcessRequest *req)
{
    struct processes *all = api;
    sa_error *err = NULL;
    if (run_check(all, req, &err) < 0 || limits_available(&all->limits, req->spec->limits, &err) < 0)
        rpc_fail(call, err);
    else if (has_user(req->spec))
        look_up(all, call, req->spec, NULL, req);
    else
        run_start(all, call, req, &all->user);
}

/* ---- looking ---- */

static void get_process(void *api, struct rpc_call *call, const GetProcessRequest *req)
{
    sa_error *err = NULL;
    struct process *p = processes_find(api, req->process_id, &err);
    if (!p) {
        rpc_fail(call, err);
        return;
    }
    GetProcessResponse res = GET_PROCESS_RESPONSE__INIT;
    res.process = process_message(rpc_arena(call), p);
    get_process_reply(call, &res);
}

struct page {
    struct processes *all;
    struct sa_arena *arena;
    const ListProcessesRequest *req;
    Process **list;
    size_t n, size, bytes, rows;
    char last[SA_ID_TEXT + 1]; /* looked at */
    bool full;
};

static bool has_label(const ProcessRecord *r, const char *key, const char *value)
{
    if (!*key)
        return true;
    for (size_t i = 0; i < r->n_labels; i++)
        if (!strcmp(r->labels[i]->key, key) && (!*value || !strcmp(r->labels[i]->value, value)))
            return true;
    return false;
}

static bool list_row(void *user, const struct store_row *row)
{
    struct page *page = user;
    struct sa_id id;
    if (page->n == page->size || page->bytes > PAGE_BYTES || page->rows == SCAN_ROWS_MAX) {
        page->full = true;
        return false;
    }
    page->rows++;
    ProcessRecord *r = row->key_len == sizeof id.bytes ? store_row_unpack(row, NULL) : NULL;
    if (!r)
        return true; /* recovery has told that it is damaged */
    memcpy(id.bytes, row->key, sizeof id.bytes);
    sa_id_format(id, page->last);
    if (r->state != RECORD_STATE_INTENT && has_label(r, page->req->label_key, page->req->label_value)) {
        const struct process *live = processes_live(page->all, id);
        page->list[page->n++] = live && live->phase != PROCESS_STARTING
                                    ? process_message(page->arena, live)
                                    : process_record_message(page->arena, page->last, r);
        page->bytes += row->value_len;
    }
    store_message_free(r);
    return true;
}

/* Ties a page token to the filter that it was given for. */
static uint32_t filter_sum(const ListProcessesRequest *req)
{
    uint32_t h = 2166136261u;
    for (const char *p = req->label_key; *p; p++)
        h = (h ^ (uint8_t)*p) * 16777619u;
    h = (h ^ 0xff) * 16777619u;
    for (const char *p = req->label_value; *p; p++)
        h = (h ^ (uint8_t)*p) * 16777619u;
    return h;
}

static int page_start(const ListProcessesRequest *req, struct store_key *ret_key, sa_error **err)
{
    struct sa_id id;
    char text[SA_ID_TEXT + 1] = "", *end = NULL;
    if (strlen(req->page_token) == SA_ID_TEXT + 8) {
        memcpy(text, req->page_token, SA_ID_TEXT);
        unsigned long sum = strtoul(req->page_token + SA_ID_TEXT, &end, 16);
        if (!*end && sum == filter_sum(req) && sa_id_parse(text, &id)) {
            *ret_key = store_key_of(id.bytes, sizeof id.bytes);
            return 0;
        }
    }
    return sa_fail(err, SA_INVALID_PAGE_TOKEN, "page_token is not one that was given for this filter");
}

static void list_processes(void *api, struct rpc_call *call, const ListProcessesRequest *req)
{
    struct processes *all = api;
    sa_error *err = NULL;
    struct store_key from;
    struct store_range range = {.table = TABLE_PROCESSES, .reverse = true, .after = *req->page_token};
    struct page page = {.all = all, .arena = rpc_arena(call), .req = req, .size = (size_t)req->page_size};
    if (req->page_size < 0)
        sa_fail(&err, SA_INVALID_REQUEST, "page_size is negative");
    else if (*req->page_token && page_start(req, &from, &err) == 0)
        range.from = &from;
    if (req->page_size == 0)
        page.size = PAGE_DEFAULT;
    if (req->page_size > PAGE_MAX)
        page.size = PAGE_MAX;
    if (!err) {
        page.list = sa_arena_alloc(page.arena, page.size * sizeof *page.list);
        store_scan(all->store, &range, list_row, &page, &err);
    }
    if (err) {
        rpc_fail(call, err);
        return;
    }
    ListProcessesResponse res = LIST_PROCESSES_RESPONSE__INIT;
    res.n_processes = page.n;
    res.processes = page.list;
    if (page.full)
        res.next_page_token = sa_arena_format(page.arena, "%s%08x", page.last, filter_sum(req));
    list_processes_reply(call, &res);
}

/* Reads into *ret from the first kept byte at or after *offset. */
static int read_kept(struct process *p, int stream, uint64_t *offset, size_t max, ReadOutputResponse *ret,
                     sa_error **err)
{
    if (process_open_reader(p, err) < 0 ||
        reader_range(&p->reader, stream, &ret->first_offset, &ret->end_offset, err) < 0)
        return -1;
    if (*offset > ret->end_offset)
        return sa_fail(err, SA_OFFSET_AHEAD, "standard %s of process %s ends at byte %llu, before %llu",
                       stream ? "error" : "output", p->name, (unsigned long long)ret->end_offset,
                       (unsigned long long)*offset);
    for (;;) {
        ssize_t n = reader_read(&p->reader, stream, *offset, ret->data.data, max, &ret->first_offset, err);
        if (n < 0)
            return -1;
        ret->data.len = (size_t)n;
        if (ret->first_offset <= *offset)
            return 0;
        *offset = ret->first_offset; /* what was asked for is gone */
    }
}

static void read_output(void *api, struct rpc_call *call, const ReadOutputRequest *req)
{
    sa_error *err = NULL;
    ReadOutputResponse res = READ_OUTPUT_RESPONSE__INIT;
    size_t max = req->max_bytes && req->max_bytes < READ_MAX ? req->max_bytes : READ_MAX;
    struct process *p = processes_find(api, req->process_id, &err);
    res.offset = req->offset;
    if (p && req->stream != OUTPUT_STREAM_STDOUT && req->stream != OUTPUT_STREAM_STDERR)
        sa_fail(&err, SA_INVALID_REQUEST, "stream is neither stdout nor stderr");
    if (!err) {
        res.data.data = sa_arena_alloc(rpc_arena(call), max);
        read_kept(p, req->stream == OUTPUT_STREAM_STDERR ? SHIM_STDERR : SHIM_STDOUT, &res.offset, max, &res,
                  &err);
    }
    if (err) {
        rpc_fail(call, err);
        return;
    }
    if (res.end_offset < res.offset + res.data.len)
        res.end_offset = res.offset + res.data.len;
    read_output_reply(call, &res);
}

/* ---- signals and the end ---- */

static void on_signalled(void *user, int error, const struct shim_status *status)
{
    struct rpc_call *call = user;
    sa_error *err = NULL;
    (void)status;
    SignalProcessResponse res = SIGNAL_PROCESS_RESPONSE__INIT;
    if (!error)
        signal_process_reply(call, &res);
    else if (error == ESRCH || error == ECONNRESET)
        sa_fail(&err, SA_PROCESS_EXITED, "the process has ended, there is nothing to signal");
    else
        sa_fail_errno(&err, error, "signal a process");
    if (err)
        rpc_fail(call, err);
    rpc_call_unref(call);
}

static void signal_process(void *api, struct rpc_call *call, const SignalProcessRequest *req)
{
    static const enum shim_scope scopes[] = {
        [SIGNAL_SCOPE_UNSPECIFIED] = SHIM_SCOPE_TREE,
        [SIGNAL_SCOPE_PROCESS] = SHIM_SCOPE_PROCESS,
        [SIGNAL_SCOPE_GROUP] = SHIM_SCOPE_GROUP,
        [SIGNAL_SCOPE_TREE] = SHIM_SCOPE_TREE,
    };
    sa_error *err = NULL;
    struct process *p = processes_find(api, req->process_id, &err);
    if (p && (req->signal < 1 || req->signal > 64))
        sa_fail(&err, SA_INVALID_REQUEST, "signal is %u, allowed are 1 to 64", req->signal);
    else if (p && (unsigned)req->scope > SIGNAL_SCOPE_TREE)
        sa_fail(&err, SA_INVALID_REQUEST, "scope %u is unknown", (unsigned)req->scope);
    if (err)
        rpc_fail(call, err);
    else
        link_signal(&p->link, req->signal, scopes[req->scope], on_signalled, rpc_call_ref(call));
}

/* Shells that somebody works with ignore TERM, and end when their terminal does. */
static uint32_t polite_signal(const struct process *p)
{
    return p->record->terminal ? SIGHUP : SIGTERM;
}

static void stop_process(void *api, struct rpc_call *call, const StopProcessRequest *req)
{
    sa_error *err = NULL;
    struct process *p = processes_find(api, req->process_id, &err);
    uint32_t grace = req->_grace_ms_case ? req->grace_ms : STOP_GRACE_MS;
    if (p && req->signal > 64)
        sa_fail(&err, SA_INVALID_REQUEST, "signal is %u, allowed are 0 to 64", req->signal);
    else if (p && grace > STOP_GRACE_MAX_MS)
        sa_fail(&err, SA_INVALID_REQUEST, "grace_ms is %u, at most %d are allowed", grace, STOP_GRACE_MAX_MS);
    if (err)
        rpc_fail(call, err);
    else
        process_stop(p, call, req->signal ? req->signal : polite_signal(p), grace);
}

static void wait_process(void *api, struct rpc_call *call, const WaitProcessRequest *req)
{
    sa_error *err = NULL;
    struct process *p = processes_find(api, req->process_id, &err);
    if (p)
        process_wait(p, call);
    else
        rpc_fail(call, err);
}

static void delete_process(void *api, struct rpc_call *call, const DeleteProcessRequest *req)
{
    sa_error *err = NULL;
    struct process *p = processes_find(api, req->process_id, &err);
    if (p)
        process_delete(p, call, req->kill);
    else
        rpc_fail(call, err);
}

void api_register(struct processes *all)
{
    static const struct process_service_handlers handlers = {
        .start_process = start_process,
        .get_process = get_process,
        .list_processes = list_processes,
        .stop_process = stop_process,
        .get_process_tree = get_process_tree_handler,
        .take_census = take_census_handler,
        .clear_strays = clear_strays_handler,
        .signal_process = signal_process,
        .wait_process = wait_process,
        .delete_process = delete_process,
        .run_process = run_process,
        .read_output = read_output,
        .attach_process = attach_process_handler,
        .get_config = config_get,
        .set_config = config_set,
        .follow_output = follow_output_handler,
    };
    process_service_register(service_rpc(all->svc), &handlers, all);
    terminal_register(all);
}
