#include "services/session-svc/install_internal.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/os/fault.h"
#include "adapters/os/log.h"
#include "services/session-svc/acp_read.h"
#include "services/session-svc/acp_report.h"
#include "services/session-svc/acp_write.h"
#include "services/session-svc/api.h"
#include "services/session-svc/environment.h"
#include "services/session-svc/job.h"
#include "services/session-svc/prepare.h"
#include "services/session-svc/skills.h"

enum { RETRY_MS = 1000, LOOK_MS = 120000 };

static void save(struct install *i);
static void drive_all(struct sessions *all);

static bool is_over(const struct install *i)
{
    return i->state == INSTALL_STATE_DONE || i->state == INSTALL_STATE_FAILED;
}

/* ---- commits ---- */

static void install_free(struct install *i)
{
    sa_timer_free(i->retry);
    free(i->adapter);
    free(i->reason);
    free(i->message);
    sa_buf_fini(&i->tail);
    sa_buf_fini(&i->answer);
    sa_arena_free(i->arena);
    free(i);
}

static void over(struct install *i)
{
    struct sessions *all = i->all;
    for (struct install **at = &all->installs; *at; at = &(*at)->next)
        if (*at == i) {
            *at = i->next;
            break;
        }
    sa_log(SA_LOG_INFO, "install.over", "agent=%s removal=%d reason=%s", i->agent->name, i->removal,
           i->reason);
    install_end_watchers(i, NULL);
    sa_error *err = i->state == INSTALL_STATE_FAILED ? install_error(i) : NULL;
    if (!i->removal)
        prepare_installed(all, i->agent, err);
    sa_error_free(err);
    install_free(i);
    drive_all(all);
}

static void saved(void *user, const sa_error *err)
{
    struct install *i = user;
    service_release(i->all->svc);
    if (err) {
        sa_log(SA_LOG_ERROR, "install.commit_failed", "agent=%s error=\"%s\"", i->agent->name, err->message);
        sa_timer_start(i->retry, RETRY_MS);
        return;
    }
    SA_FAULT("install.saved");
    i->saving = false;
    job_end(i->last_job);
    i->last_job = NULL;
    install_tell_state(i);
    if (is_over(i))
        over(i);
    else
        drive_all(i->all);
}

static void save(struct install *i)
{
    struct sa_arena *arena = sa_arena_new();
    struct store_set *set = store_set_new();
    struct store_key key = store_key_of(i->agent->name, strlen(i->agent->name));
    StoredInstall row = STORED_INSTALL__INIT;
    row.installation = install_fill(i, arena);
    row.adapter = sa_arena_strdup(arena, i->adapter);
    row.start_time_us = i->start_time_us;
    store_put(set, DB_A_INSTALLS, &key, &row.base);
    if (i->report && i->state == INSTALL_STATE_DONE)
        store_put(set, DB_A_REPORTS, &key, &i->report->base);
    sa_arena_free(arena);
    cleanup_error sa_error *err = NULL;
    i->saving = true;
    service_hold(i->all->svc);
    if (store_commit(i->all->store, set, saved, i, &err))
        saved(i, err);
}

static void retry_due(void *user)
{
    save(user);
}

static void move(struct install *i, InstallState state)
{
    i->state = state;
    i->last_job = i->job;
    i->job = NULL;
    if (is_over(i))
        i->end_time_us = sa_wall_us();
    save(i);
}

static void fail(struct install *i, enum sa_reason reason, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void fail(struct install *i, enum sa_reason reason, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    cleanup_free char *what = sa_vformat(fmt, ap);
    va_end(ap);
    while (i->tail.len && i->tail.data[i->tail.len - 1] == '\n')
        i->tail.len--;
    struct sa_arena *arena = sa_arena_new();
    free(i->message);
    i->message = sa_format("agent %s: %s%s%s", i->agent->name, what, i->tail.len ? "; it said: " : "",
                           i->tail.len ? rpc_utf8(arena, i->tail.data, i->tail.len) : "");
    session_set_text(&i->reason, sa_reason_name(reason));
    sa_arena_free(arena);
    move(i, INSTALL_STATE_FAILED);
}

/* ---- output of its processes ---- */

static void note_line(struct install *i, const char *p, size_t n)
{
    cleanup_free char *copy = sa_memdup(p, n);
    secrets_mask(i->all->secrets, copy, n);
    install_tell_line(i, copy, n);
    size_t kept = n < INSTALL_TAIL_MAX / 2 ? n : INSTALL_TAIL_MAX / 2;
    sa_buf_add(&i->tail, copy, kept);
    sa_buf_add(&i->tail, "\n", 1);
    if (i->tail.len > INSTALL_TAIL_MAX)
        sa_buf_consume(&i->tail, i->tail.len - INSTALL_TAIL_MAX);
}

static bool npm_line(void *user, unsigned stream, const char *p, size_t n)
{
    (void)stream;
    note_line(user, p, n);
    return false;
}

static const char *why(const ExitRecord *exit, const sa_error *err, struct sa_arena *arena)
{
    return err ? err->message : exit ? job_exit_text(exit, arena) : "stopped";
}

static bool is_good(const ExitRecord *exit)
{
    return exit && exit->kind_case == EXIT_RECORD__KIND_EXIT_CODE && exit->exit_code == 0;
}

/* ---- look: the version of Node; the adapter, when a registry is to be asked ---- */

static const char look_script[] =
    "const [url, id] = process.argv.slice(1);"
    "console.log('node ' + process.versions.node);"
    "const done = (e) => { console.error(String(e && e.message || e)); process.exit(1); };"
    "if (url) fetch(url).then((r) => { if (!r.ok) throw new Error(url + ': HTTP ' + r.status); return "
    "r.json(); })"
    ".then((j) => { const a = (j.agents || []).find((a) => a.id === id);"
    "const p = a && a.distribution && a.distribution.npx && a.distribution.npx.package;"
    "if (p) console.log('package ' + p); }).catch(done);";

static bool look_line(void *user, unsigned stream, const char *p, size_t n)
{
    struct install *i = user;
    if (stream == 1 && n > 5 && !memcmp(p, "node ", 5)) {
        cleanup_free char *version = sa_strndup(p + 5, n - 5);
        i->private_node = strtoul(version, NULL, 10) < i->agent->node_min;
    } else if (stream == 1 && n > 8 && !memcmp(p, "package ", 8)) {
        free(i->adapter);
        i->adapter = sa_strndup(p + 8, n - 8);
    } else {
        note_line(i, p, n);
    }
    return false;
}

static void looked(void *user, const ExitRecord *exit, const sa_error *err)
{
    struct install *i = user;
    struct sa_arena *arena = sa_arena_new();
    if (err && sa_error_is(err, SA_EXEC_FAILED))
        fail(i, SA_AGENT_INSTALL_FAILED, "there is no Node on this machine, and npm needs one");
    else if (!is_good(exit))
        fail(i, SA_AGENT_INSTALL_FAILED, "the look at Node and the registry %s", why(exit, err, arena));
    else if (i->adapter && !agents_npm_exact(i->adapter))
        fail(i, SA_AGENT_INSTALL_FAILED,
             "the registry names \"%.128s\", which is no package with an exact version", i->adapter);
    else
        move(i, INSTALL_STATE_INSTALLING);
    sa_arena_free(arena);
}

/* ---- check: what npm has left ---- */

struct check {
    struct install *install;
    sa_error *err;
};

static void check_work(void *user)
{
    struct check *c = user;
    agents_npm_check(c->install->agent, c->install->all->config.place.agents_dir, c->install->adapter,
                     &c->err);
}

static void check_done(void *user)
{
    struct check *c = user;
    struct install *i = c->install;
    service_release(i->all->svc);
    if (c->err)
        fail(i, SA_AGENT_INSTALL_FAILED, "npm has ended well, but %s", c->err->message);
    else
        move(i, INSTALL_STATE_VERIFYING);
    sa_error_free(c->err);
    free(c);
}

static void npm_done(void *user, const ExitRecord *exit, const sa_error *err)
{
    struct install *i = user;
    if (!is_good(exit)) {
        struct sa_arena *arena = sa_arena_new();
        fail(i, SA_AGENT_INSTALL_FAILED, "npm %s", why(exit, err, arena));
        sa_arena_free(arena);
    } else if (i->removal) {
        move(i, INSTALL_STATE_DONE);
    } else {
        i->tail.len = 0;
        struct check *c = sa_calloc(1, sizeof *c);
        c->install = i;
        service_hold(i->all->svc);
        sa_work(i->all->loop, check_work, check_done, c);
    }
}

/* ---- verify: it is started, and must answer ---- */

static bool verify_line(void *user, unsigned stream, const char *p, size_t n)
{
    struct install *i = user;
    struct json_rpc m;
    if (stream == 2 || json_rpc_parse(p, n, &m, NULL) || !json_int(m.id, &(int64_t){0})) {
        note_line(i, p, n);
        return false;
    }
    if (m.kind != JSON_RPC_RESPONSE && m.kind != JSON_RPC_ERROR)
        return false;
    i->answer.len = 0;
    sa_buf_add(&i->answer, p, n);
    return true;
}

static void verified(void *user, const ExitRecord *exit, const sa_error *err)
{
    struct install *i = user;
    struct json_rpc m = {0};
    int64_t version = 0;
    struct sa_arena *arena = i->arena;
    if (exit || err) {
        fail(i, SA_AGENT_INSTALL_FAILED, "is installed, but did not answer initialize: it %s",
             why(exit, err, arena));
        return;
    }
    json_rpc_parse(i->answer.data, i->answer.len, &m, NULL);
    json_int(json_get(m.result, "protocolVersion"), &version);
    if (m.kind == JSON_RPC_ERROR) {
        fail(i, SA_AGENT_INSTALL_FAILED, "is installed, but refused initialize: %s",
             acp_error_text(arena, m.error));
    } else if (version != ACP_VERSION) {
        fail(i, SA_AGENT_INSTALL_FAILED, "is installed, but speaks version %lld of the protocol",
             (long long)version);
    } else {
        i->report = sa_arena_alloc(arena, sizeof *i->report);
        *i->report = (AgentCapabilities)AGENT_CAPABILITIES__INIT;
        acp_report_initialize(arena, m.result, i->report);
        i->report->report_time = api_timestamp(arena, sa_wall_us());
        move(i, INSTALL_STATE_DONE);
    }
}

/* ---- its processes ---- */

/* Of the present step's process: its request_id and label. */
static char *process_name(const struct install *i)
{
    const char *step = i->state == INSTALL_STATE_LOOKING      ? "look"
                       : i->state == INSTALL_STATE_INSTALLING ? "npm"
                                                              : "verify";
    return sa_format("%s-%s", i->id, step);
}

static void begin(struct install *i, char **argv, char **env, struct job_options opt)
{
    cleanup_free char *name = process_name(i);
    opt.request_id = opt.label = name;
    opt.argv = argv;
    opt.env = env;
    opt.user = i;
    SA_FAULT("install.begin");
    i->job = job_start(i->all, &opt);
}

static void begin_look(struct install *i)
{
    const struct sessions_config *c = &i->all->config;
    const char *url = c->registry_url && i->agent->registry_id ? c->registry_url : "";
    char *argv[] = {(char[]){"node"},
                    (char[]){"-e"},
                    (char *)(uintptr_t)look_script,
                    (char *)(uintptr_t)url,
                    (char *)(uintptr_t)(i->agent->registry_id ? i->agent->registry_id : ""),
                    NULL};
    begin(i, argv, environment_tools(i->all, NULL, i->arena),
          (struct job_options){
              .cwd = "/", .as_ourselves = true, .timeout_ms = LOOK_MS, .line = look_line, .done = looked});
}

static void begin_npm(struct install *i)
{
    const char *dir = i->all->config.place.agents_dir;
    char **argv = i->removal ? agents_npm_uninstall(i->agent, dir, i->arena)
                             : agents_npm_install(i->agent, dir, i->adapter, i->private_node, i->arena);
    begin(i, argv, environment_tools(i->all, NULL, i->arena),
          (struct job_options){.cwd = dir,
                               .as_ourselves = true,
                               .timeout_ms = INSTALL_NPM_MS,
                               .line = npm_line,
                               .done = npm_done});
}

static char **words(ProtobufCBinaryData *list, size_t n, struct sa_arena *arena)
{
    char **w = sa_arena_alloc(arena, (n + 1) * sizeof *w);
    for (size_t i = 0; i < n; i++)
        w[i] = sa_arena_format(arena, "%.*s", (int)list[i].len, (const char *)list[i].data);
    return w;
}

static void begin_verify(struct install *i)
{
    const char *home = i->all->config.home;
    StoredSpec spec = STORED_SPEC__INIT;
    StoredLaunch launch = STORED_LAUNCH__INIT;
    spec.cwd = (ProtobufCBinaryData){strlen(home), (uint8_t *)(uintptr_t)home};
    cleanup_error sa_error *err = NULL;
    if (environment_launch(i->all, i->agent, &spec, &launch, i->arena, &err)) {
        fail(i, SA_AGENT_INSTALL_FAILED, "npm has ended well, but %s", err->message);
        return;
    }
    cleanup_buf struct sa_buf input = {0};
    acp_initialize(&input, 1, !i->agent->no_files);
    sa_buf_add(&input, "\n", 1);
    begin(i, words(launch.argv, launch.n_argv, i->arena), words(launch.env, launch.n_env, i->arena),
          (struct job_options){.cwd = home,
                               .input = sa_buf_string(&input),
                               .timeout_ms = i->agent->initialize_ms,
                               .line = verify_line,
                               .done = verified});
}

static void drive(struct install *i)
{
    switch (i->state) {
    case INSTALL_STATE_QUEUED:
        move(i, i->removal ? INSTALL_STATE_INSTALLING : INSTALL_STATE_LOOKING);
        break;
    case INSTALL_STATE_LOOKING:
        begin_look(i);
        break;
    case INSTALL_STATE_INSTALLING:
        begin_npm(i);
        break;
    case INSTALL_STATE_VERIFYING:
        begin_verify(i);
        break;
    default:
        break;
    }
}

/* The first one goes on; one at a time, as npm locks nothing. */
static void drive_all(struct sessions *all)
{
    struct install *i = all->installs;
    if (i && !i->job && !all->draining && !i->saving)
        drive(i);
}

/* ---- asked for, loaded, freed ---- */

static struct install *install_new(struct sessions *all, const struct agent *a)
{
    struct install *i = sa_calloc(1, sizeof *i), **at = &all->installs;
    i->all = all;
    i->agent = a;
    i->arena = sa_arena_new();
    i->retry = sa_timer_new(all->loop, retry_due, i);
    session_set_text(&i->reason, "");
    session_set_text(&i->message, "");
    while (*at)
        at = &(*at)->next;
    return *at = i;
}

static int check_ask(struct sessions *all, const struct agent *a, bool removal, sa_error **err)
{
    size_t n = 0;
    for (struct install *i = all->installs; i; i = i->next)
        n++;
    if (all->draining)
        return sa_fail(err, SA_DRAINING, "the service stops");
    if (!a->npm_packages[0])
        return sa_fail(err, SA_AGENT_NOT_INSTALLED, "agent %s is not installed from npm", a->name);
    if (all->config.require_preinstall && !removal)
        return sa_fail(err, SA_AGENT_NOT_INSTALLED,
                       "this server uses only agents that are installed already");
    if (!all->config.place.agents_dir)
        return sa_fail(err, SA_AGENT_NOT_INSTALLED, "this server has no directory for agents (--agents-dir)");
    if (n >= INSTALL_QUEUE_MAX)
        return sa_fail(err, SA_TOO_MANY, "%zu installations wait already", n);
    return 0;
}

struct install *install_ask(struct sessions *all, const struct agent *a, bool removal, sa_error **err)
{
    for (struct install *i = all->installs; i; i = i->next)
        if (i->agent == a && i->removal == removal && !is_over(i))
            return i;
    if (check_ask(all, a, removal, err))
        return NULL;
    for (struct install *i = all->installs; i; i = i->next)
        if (i->agent == a) {
            sa_fail(err, SA_TOO_MANY, "agent %s is being %s", a->name, i->removal ? "removed" : "installed");
            return NULL;
        }
    struct install *i = install_new(all, a);
    sa_id_format(sa_id_new(), i->id);
    i->removal = removal;
    i->start_time_us = sa_wall_us();
    sa_log(SA_LOG_INFO, "install.asked", "agent=%s removal=%d", a->name, removal);
    move(i, INSTALL_STATE_QUEUED);
    return i;
}

bool install_is_running(const struct sessions *all, const struct agent *a)
{
    for (const struct install *i = all->installs; i; i = i->next)
        if (i->agent == a)
            return true;
    return false;
}

static bool load_row(void *user, const struct store_row *row)
{
    struct sessions *all = user;
    cleanup_message StoredInstall *m = store_row_unpack(row, NULL);
    const struct agent *a = m && m->installation ? agents_find(m->installation->agent, NULL) : NULL;
    if (!a || m->installation->state == INSTALL_STATE_DONE || m->installation->state == INSTALL_STATE_FAILED)
        return true;
    struct install *i = install_new(all, a);
    snprintf(i->id, sizeof i->id, "%s", m->installation->installation_id);
    i->state = m->installation->state;
    i->removal = m->installation->removal;
    i->private_node = m->installation->private_node;
    i->adapter = *m->adapter ? sa_strdup(m->adapter) : NULL;
    i->start_time_us = m->start_time_us;
    return true;
}

static bool is_running(void *user, const char *label)
{
    struct sessions *all = user;
    for (struct install *i = all->installs; i; i = i->next) {
        cleanup_free char *name = process_name(i);
        if (!strcmp(name, label))
            return true;
    }
    return skills_are_fetched_by(all, label);
}

int installs_load(struct sessions *all, sa_error **err)
{
    struct store_range range = {.table = DB_A_INSTALLS};
    if (store_scan(all->store, &range, load_row, all, err) < 0)
        return -1;
    /* The table is by name: the one that was under way goes on first. */
    for (struct install **at = &all->installs; *at; at = &(*at)->next)
        if ((*at)->state != INSTALL_STATE_QUEUED) {
            struct install *i = *at;
            *at = i->next;
            i->next = all->installs;
            all->installs = i;
            break;
        }
    jobs_sweep(all, is_running, all);
    drive_all(all);
    return 0;
}

void installs_drain(struct sessions *all)
{
    cleanup_error sa_error *err = NULL;
    sa_fail(&err, SA_DRAINING, "the service stops; the installation goes on when it is back");
    for (struct install *i = all->installs; i; i = i->next)
        install_end_watchers(i, err);
}

void installs_free(struct sessions *all)
{
    for (struct install *i = all->installs, *next; i; i = next) {
        next = i->next;
        install_free(i);
    }
    all->installs = NULL;
}
