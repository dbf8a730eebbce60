#include "services/cli/process.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "adapters/os/clock.h"
#include "adapters/os/mem.h"
#include "services/cli/cli.h"
#include "services/cli/show.h"
#include "services/cli/values.h"

/* ---- which one ---- */

int process_each(struct client *c, const char *label_key, const char *label_value,
                 bool (*see)(void *user, const Process *p), void *user, sa_error **err)
{
    cleanup_free char *token = sa_strdup("");
    do {
        ListProcessesRequest req = LIST_PROCESSES_REQUEST__INIT;
        req.page_size = 1000;
        req.page_token = token;
        req.label_key = (char *)(uintptr_t)label_key;
        req.label_value = (char *)(uintptr_t)label_value;
        ListProcessesResponse *res = list_processes_wait(c->channel, &req, NULL, err);
        if (!res)
            return client_explain(c, err);
        bool more = true;
        for (size_t i = 0; i < res->n_processes && more; i++)
            more = see(user, res->processes[i]);
        free(token);
        token = sa_strdup(more ? res->next_page_token : "");
        rpc_message_free(res);
    } while (*token);
    return 0;
}

struct match {
    const char *name;
    char *id;    /* the first that begins or ends so */
    char *named; /* the newest with this --name */
    int n;
};

static bool is_name(const Process *p, const char *name)
{
    for (size_t i = 0; i < p->spec->n_labels; i++)
        if (!strcmp(p->spec->labels[i]->key, PROCESS_NAME_LABEL) && !strcmp(p->spec->labels[i]->value, name))
            return true;
    return false;
}

static bool try_match(void *user, const Process *p)
{
    struct match *m = user;
    size_t all = strlen(p->process_id), n = strlen(m->name);
    bool is_last = !strcmp(m->name, "last");
    if (is_name(p, m->name))
        m->named = sa_strdup(p->process_id);
    else if (is_last || (n <= all && (!strncasecmp(p->process_id, m->name, n) ||
                                      !strcasecmp(p->process_id + all - n, m->name)))) {
        m->n++;
        if (!m->id)
            m->id = sa_strdup(p->process_id);
    }
    return !m->named && !is_last;
}

char *process_find_id(struct client *c, const char *name, sa_error **err)
{
    struct match m = {.name = name};
    struct sa_id id;
    if (sa_id_parse(name, &id))
        return sa_strdup(name);
    if (*name && process_each(c, "", "", try_match, &m, err) < 0) {
        free(m.id);
        return NULL;
    }
    if (m.named) {
        free(m.id);
        return m.named;
    }
    if (m.n == 1)
        return m.id;
    if (m.n)
        sa_fail(err, SA_INVALID_REQUEST, "`%s` may be any of %d processes", name, m.n);
    else
        sa_fail(err, SA_PROCESS_NOT_FOUND, "there is no process `%s`; `sandbox-agent ps -a` lists them",
                name);
    free(m.id);
    return NULL;
}

/* ---- calls ---- */

GetProcessResponse *process_get(struct client *c, const char *id, sa_error **err)
{
    GetProcessRequest req = GET_PROCESS_REQUEST__INIT;
    req.process_id = (char *)(uintptr_t)id;
    GetProcessResponse *res = get_process_wait(c->channel, &req, NULL, err);
    if (!res)
        client_explain(c, err);
    return res;
}

WaitProcessResponse *process_wait(struct client *c, const char *id, sa_error **err)
{
    WaitProcessRequest req = WAIT_PROCESS_REQUEST__INIT;
    struct rpc_call_options opt = {.deadline_ms = PROCESS_WAIT_MS, .wait_for_ready = true};
    GetProcessResponse *there = process_get(c, id, err);
    if (!there)
        return NULL;
    rpc_message_free(there);
    req.process_id = (char *)(uintptr_t)id;
    for (;;) {
        sa_error *failed = NULL;
        WaitProcessResponse *res = wait_process_wait(c->channel, &req, &opt, &failed);
        if (res)
            return res;
        /* A server that was there and is being restarted comes back. */
        if (failed->code != SA_CODE_DEADLINE_EXCEEDED && failed->code != SA_CODE_UNAVAILABLE) {
            sa_pass(err, failed);
            return NULL;
        }
        sa_error_free(failed);
    }
}

/* ---- texts ---- */

const char *process_short_id(const char *id)
{
    size_t n = strlen(id);
    return n > PROCESS_SHORT_ID ? id + n - PROCESS_SHORT_ID : id;
}

int process_exit_code(const ExitRecord *e)
{
    if (e->kind_case == EXIT_RECORD__KIND_EXIT_CODE)
        return (int)e->exit_code;
    return e->kind_case == EXIT_RECORD__KIND_SIGNAL ? 128 + (int)e->signal : 1;
}

void process_exit_text(const ExitRecord *e, char ret[static PROCESS_TEXT])
{
    if (e->kind_case == EXIT_RECORD__KIND_EXIT_CODE)
        snprintf(ret, PROCESS_TEXT, "exited %u", e->exit_code);
    else if (e->kind_case == EXIT_RECORD__KIND_SIGNAL)
        snprintf(ret, PROCESS_TEXT, "killed by %s", value_signal_name(e->signal));
    else
        snprintf(ret, PROCESS_TEXT, "lost: %s", e->kind_case == EXIT_RECORD__KIND_LOST ? e->lost : "?");
}

void process_state_text(const Process *p, char ret[static PROCESS_TEXT])
{
    const char *text = "running";
    if (p->exit) {
        process_exit_text(p->exit, ret);
        return;
    }
    if (p->state == PROCESS_STATE_BACKING_OFF)
        text = "restarting";
    else if (p->stop_signal)
        text = "stopping";
    else if (p->spec->readiness)
        text = p->ready ? "ready" : "not ready";
    snprintf(ret, PROCESS_TEXT, "%s", text);
}

void process_age_text(const Google__Protobuf__Timestamp *t, char ret[static PROCESS_TEXT])
{
    int64_t age = t ? sa_wall_us() / 1000000 - t->seconds : 0;
    static const struct {
        const char *name;
        int64_t seconds, until;
    } units[] = {{"s", 1, 120}, {"min", 60, 7200}, {"h", 3600, 172800}, {"d", 86400, INT64_MAX}};
    size_t i = 0;
    if (age < 0)
        age = 0;
    while (age >= units[i].until)
        i++;
    snprintf(ret, PROCESS_TEXT, "%" PRId64 " %s", age / units[i].seconds, units[i].name);
}

void process_size_text(uint64_t bytes, char ret[static PROCESS_TEXT])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double n = (double)bytes;
    size_t i = 0;
    for (; n >= 1024 && i < 4; i++)
        n /= 1024;
    snprintf(ret, PROCESS_TEXT, i ? "%.1f %s" : "%.0f %s", n, units[i]);
}

void process_show_command(FILE *out, const ProcessSpec *spec)
{
    cleanup_buf struct sa_buf line = {0};
    for (size_t i = 0; i < spec->n_argv; i++) {
        if (i)
            sa_buf_add(&line, " ", 1);
        sa_buf_add(&line, spec->argv[i].data, spec->argv[i].len);
    }
    for (size_t i = 0; i < line.len; i++)
        if (line.data[i] == '\n' || line.data[i] == '\t')
            line.data[i] = ' ';
    show_text(out, (const char *)line.data, line.len);
}

/* ---- verbs ---- */

int process_verb(struct options *o, int argc, char **argv, const char *usage, const char *summary,
                 int (*act)(struct client *c, const struct options *o, const char *id, sa_error **err))
{
    struct client c = {0};
    sa_error *err = NULL;
    int r = cli_parse(o, argc, argv, false, usage, summary);
    if (r < 0 && !options_count(o)) {
        fprintf(stderr, "sandbox-agent: %s which process? `sandbox-agent ps` lists them\n", argv[0]);
        r = 2;
    }
    if (r < 0) {
        r = client_open_process(&c, o, &err) < 0 ? cli_failed(err) : 0;
        for (int i = 0; c.channel && i < options_count(o); i++) {
            sa_error *failed = NULL;
            cleanup_free char *id = process_find_id(&c, options_arguments(o)[i], &failed);
            int code = id ? act(&c, o, id, &failed) : -1;
            if (code < 0)
                code = cli_failed(failed);
            r = code > r ? code : r;
        }
    }
    client_close(&c);
    options_free(o);
    return r;
}
