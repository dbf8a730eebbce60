/* Design notes
 *
 * A local sandbox is one `sandbox-agent server`, a child in a session of its own, which starts and ends
 * everything in the sandbox. It is not tied to us: when we die it lives on, and is found again by pid, start
 * time and boot id.
 *
 *     <data dir>/<sandbox id>/data     its data directory; the token is in data/token, never in an argument
 *     <data dir>/<sandbox id>/run      its sockets
 *     <data dir>/<sandbox id>/log      what it says; log.1 is of the start before
 *
 * What a crash of ours leaves is findable: every process of the sandbox carries its id in LOCAL_LABEL. So a
 * create begins by ending whatever has the label, and a destroy ends with that.
 *
 * One operation per sandbox: `step` says which, and is WATCHING when none is and the server runs. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "adapters/os/file.h"
#include "adapters/providers/local_internal.h"

enum {
    READY_MS = 60000, /* from start to ready */
    LOOK_MS = 50,     /* between two looks for the sign of readiness */
    TERM_MS = 20000,  /* for the end by itself; the server drains for 10 s */
    PORT_RETRIES = 5, /* other ports, when somebody else took ours between choice and start */
    TOKEN_MAX = 1024,
};

static struct local *local_of(struct provider *p)
{
    return (struct local *)p;
}

/* ---- sandboxes ---- */

static struct local_sandbox *find(struct local *l, const char *id)
{
    for (struct local_sandbox *s = l->sandboxes; s; s = s->next)
        if (!strcmp(s->id, id))
            return s;
    return NULL;
}

static void on_timer(void *user);

static struct local_sandbox *sandbox_of(struct local *l, const char *id)
{
    struct local_sandbox *s = find(l, id);
    if (s)
        return s;
    s = sa_calloc(1, sizeof *s);
    *s = (struct local_sandbox){.next = l->sandboxes, .local = l, .pidfd = -1};
    s->id = sa_strdup(id);
    s->dir = sa_format("%s/%s", l->data_dir, id);
    s->timer = sa_timer_new(l->loop, on_timer, s);
    l->sandboxes = s;
    return s;
}

static void unwatch(struct local_sandbox *s)
{
    sa_io_free(s->io);
    s->io = NULL;
    sa_close(s->pidfd);
    s->pidfd = -1;
}

static void sandbox_free(struct local_sandbox *s)
{
    for (struct local_sandbox **at = &s->local->sandboxes; *at; at = &(*at)->next)
        if (*at == s) {
            *at = s->next;
            break;
        }
    unwatch(s);
    sa_timer_free(s->timer);
    local_probe_free(s->probe);
    sa_error_free(s->err);
    sa_error_free(s->failure);
    free(s->id);
    free(s->dir);
    free(s->text);
    free(s);
}

/* "1 <pid> <start> <boot id> <first port>" */
static void state_write(const struct local_sandbox *s, char *ret, size_t size)
{
    snprintf(ret, size, "1 %d %llu %s %u", (int)s->process.pid, (unsigned long long)s->process.start_ticks,
             s->process.boot_id, s->port);
}

static void state_read(struct local_sandbox *s, const struct provider_state *state)
{
    cleanup_free char *text = state && state->n ? sa_strndup(state->data, state->n) : NULL;
    struct local_process p = {0};
    unsigned long long start;
    unsigned port;
    int pid;
    if (!text || sscanf(text, "1 %d %llu %39s %u", &pid, &start, p.boot_id, &port) != 4)
        return;
    p.pid = (pid_t)pid;
    p.start_ticks = start;
    s->process = p;
    s->port = port;
}

/* ---- steps on a worker (local_work.c) ---- */

static void give_back(void *user)
{
    struct local_sandbox *s = user;
    struct local *l = s->local;
    l->n_jobs--;
    s->busy = false;
    if (!l->freed) {
        s->done(s);
        return;
    }
    sandbox_free(s);
    if (!l->n_jobs)
        local_end(l);
}

static void run(struct local_sandbox *s, void (*work)(void *user), void (*done)(struct local_sandbox *s))
{
    s->done = done;
    s->busy = true;
    s->local->n_jobs++;
    sa_work(s->local->loop, work, give_back, s);
}

/* ---- watching the server ---- */

static void on_exit_seen(void *user, int fd, int events);

static bool watch(struct local_sandbox *s)
{
    unwatch(s);
    s->pidfd = local_process_open(&s->process);
    if (s->pidfd < 0)
        return false;
    s->io = sa_io_new(s->local->loop, s->pidfd, on_exit_seen, s);
    sa_io_set(s->io, SA_IO_READ);
    return true;
}

static void describe_end(struct local_sandbox *s, char *ret, size_t size)
{
    int wstatus;
    /* Only its own child is told how it ended. */
    if (waitpid(s->process.pid, &wstatus, WNOHANG) != s->process.pid)
        snprintf(ret, size, "its server has ended");
    else if (WIFSIGNALED(wstatus))
        snprintf(ret, size, "its server was ended by signal %d", WTERMSIG(wstatus));
    else
        snprintf(ret, size, "its server has ended with exit code %d", WEXITSTATUS(wstatus));
}

/* ---- create ---- */

static void finish_create(struct local_sandbox *s, sa_error *err)
{
    char text[128];
    state_write(s, text, sizeof text);
    struct provider_state state = {text, strlen(text)};
    provider_created_fn *created = s->created;
    void *user = s->user;
    s->step = err ? LOCAL_IDLE : LOCAL_WATCHING;
    s->created = NULL;
    created(user, err ? NULL : &state, err);
    sa_error_free(err);
}

/* The server, when it is our child and was killed unwatched. */
static void reap(struct local_sandbox *s)
{
    if (s->process.pid > 0)
        waitpid(s->process.pid, NULL, WNOHANG);
}

static void create_cleared(struct local_sandbox *s)
{
    reap(s);
    sa_error_free(s->err);
    s->err = NULL;
    finish_create(s, steal_pointer(&s->failure));
}

/* A failed create leaves nothing running; the directory stays for its log until the sandbox is destroyed. */
static void fail_create(struct local_sandbox *s, sa_error *err)
{
    sa_timer_stop(s->timer);
    unwatch(s);
    s->step = LOCAL_CLEARING;
    s->failure = err;
    s->remove = false;
    run(s, local_work_clear, create_cleared);
}

static void prepared(struct local_sandbox *s);

static void start_create(struct local_sandbox *s)
{
    s->step = LOCAL_PREPARING;
    run(s, local_work_prepare, prepared);
}

static void cancel_now(struct local_sandbox *s)
{
    sa_error *err = NULL;
    sa_fail(&err, SA_CANCELLED, "local: the sandbox was not wanted any more before it was ready");
    fail_create(s, err);
}

static void log_read(struct local_sandbox *s)
{
    if (s->cancelled) {
        cancel_now(s);
        return;
    }
    if (strstr(s->text, "in use") && ++s->tries <= PORT_RETRIES) {
        start_create(s);
        return;
    }
    sa_error *err = NULL;
    sa_fail(&err, SA_PROVIDER_ERROR, "local: the server of sandbox %s did not start: %s", s->id,
            *s->text ? s->text : "it said nothing");
    fail_create(s, err);
}

static void prepared(struct local_sandbox *s)
{
    if (s->err) {
        fail_create(s, steal_pointer(&s->err));
    } else if (s->cancelled) {
        cancel_now(s);
    } else if (!watch(s)) {
        reap(s);
        run(s, local_work_read_log, log_read);
    } else {
        s->step = LOCAL_STARTING;
        s->deadline_ms = sa_now_ms() + READY_MS;
        sa_timer_start(s->timer, LOOK_MS);
    }
}

static void ready_checked(void *user, const sa_error *err)
{
    struct local_sandbox *s = user;
    s->probe = NULL;
    if (s->step != LOCAL_STARTING)
        return;
    if (err) {
        sa_timer_start(s->timer, LOOK_MS);
        return;
    }
    sa_timer_stop(s->timer);
    finish_create(s, NULL);
}

/* The server writes where it is once all of it serves. */
static void look(struct local_sandbox *s)
{
    cleanup_free char *sign = sa_format("%s/data/server", s->dir);
    if (sa_now_ms() >= s->deadline_ms) {
        sa_error *err = NULL;
        local_probe_free(steal_pointer(&s->probe));
        sa_fail(&err, SA_PROVIDER_ERROR, "local: the server of sandbox %s is not ready after %d s", s->id,
                READY_MS / 1000);
        fail_create(s, err);
    } else if (access(sign, F_OK) == 0) {
        s->probe = local_probe_start(s->local, s->dir, s->port, ready_checked, s);
    } else {
        sa_timer_start(s->timer, LOOK_MS);
    }
}

static void create(struct provider *p, const char *id, const struct provider_state *state,
                   provider_created_fn *done, void *user)
{
    struct local_sandbox *s = sandbox_of(local_of(p), id);
    state_read(s, state);
    s->created = done;
    s->user = user;
    s->cancelled = false;
    s->tries = 0;
    unwatch(s);
    start_create(s);
}

static void cancel(struct provider *p, const char *id)
{
    struct local_sandbox *s = find(local_of(p), id);
    if (!s || !s->created)
        return;
    s->cancelled = true;
    if (s->step == LOCAL_STARTING) {
        local_probe_free(steal_pointer(&s->probe));
        cancel_now(s);
    }
}

/* ---- destroy ---- */

static void destroyed(struct local_sandbox *s)
{
    reap(s);
    cleanup_error sa_error *err = steal_pointer(&s->err);
    provider_done_fn *done = s->told;
    void *user = s->user;
    if (err)
        s->step = LOCAL_IDLE;
    else
        sandbox_free(s);
    done(user, err);
}

static void clear_all(struct local_sandbox *s)
{
    sa_timer_stop(s->timer);
    unwatch(s);
    s->step = LOCAL_CLEARING;
    s->remove = true;
    run(s, local_work_clear, destroyed);
}

static void destroy(struct provider *p, const char *id, const struct provider_state *state,
                    provider_done_fn *done, void *user)
{
    struct local_sandbox *s = sandbox_of(local_of(p), id);
    state_read(s, state);
    s->told = done;
    s->user = user;
    if (!watch(s)) {
        clear_all(s);
        return;
    }
    s->step = LOCAL_ENDING;
    syscall(SYS_pidfd_send_signal, s->pidfd, SIGTERM, NULL, 0);
    sa_timer_start(s->timer, TERM_MS);
}

/* ---- what happens meanwhile ---- */

static void on_timer(void *user)
{
    struct local_sandbox *s = user;
    if (s->step == LOCAL_STARTING)
        look(s);
    else if (s->step == LOCAL_ENDING)
        clear_all(s);
}

static void on_exit_seen(void *user, int fd, int events)
{
    (void)fd, (void)events;
    struct local_sandbox *s = user;
    struct local *l = s->local;
    char how[80];
    describe_end(s, how, sizeof how);
    unwatch(s);
    if (s->step == LOCAL_STARTING) {
        sa_timer_stop(s->timer);
        local_probe_free(steal_pointer(&s->probe));
        s->step = LOCAL_PREPARING;
        run(s, local_work_read_log, log_read);
    } else if (s->step == LOCAL_ENDING) {
        clear_all(s);
    } else if (s->step == LOCAL_WATCHING) {
        s->step = LOCAL_IDLE;
        l->ended(l->ended_user, s->id, how);
    }
}

/* ---- the short operations: told later, never from inside ---- */

struct later {
    struct local *local;
    provider_done_fn *done;
    void *user;
    sa_error *err;
};

static void tell_later(void *user)
{
    struct later *t = user;
    struct local *l = t->local;
    l->n_jobs--;
    if (!l->freed)
        t->done(t->user, t->err);
    else if (!l->n_jobs)
        local_end(l);
    sa_error_free(t->err);
    free(t);
}

static void later(struct local *l, provider_done_fn *done, void *user, sa_error *err)
{
    struct later *t = sa_calloc(1, sizeof *t);
    *t = (struct later){l, done, user, err};
    l->n_jobs++;
    sa_defer(l->loop, tell_later, t);
}

static void adopt(struct provider *p, const char *id, const struct provider_state *state,
                  provider_done_fn *done, void *user)
{
    struct local *l = local_of(p);
    struct local_sandbox *s = sandbox_of(l, id);
    sa_error *err = NULL;
    state_read(s, state);
    if (watch(s))
        s->step = LOCAL_WATCHING;
    else
        sa_fail(&err, SA_NOT_FOUND, "local: the server of sandbox %s does not run", id);
    later(l, done, user, err);
}

static void check(struct provider *p, const char *id, const struct provider_state *state,
                  provider_done_fn *done, void *user)
{
    struct local *l = local_of(p);
    struct local_sandbox *s = find(l, id);
    (void)state;
    if (s && s->step == LOCAL_WATCHING) {
        local_probe_start(l, s->dir, s->port, done, user);
        return;
    }
    sa_error *err = NULL;
    sa_fail(&err, SA_UNAVAILABLE, "local: the server of sandbox %s does not run", id);
    later(l, done, user, err);
}

/* ---- where it is ---- */

struct token_job {
    struct local *local;
    char *path, *token;
    unsigned port;
    sa_error *err;
    provider_endpoint_fn *done;
    void *user;
};

static void read_token(void *user)
{
    struct token_job *j = user;
    cleanup_buf struct sa_buf b = {0};
    if (sa_read_file(j->path, TOKEN_MAX, &b, &j->err) < 0)
        return;
    j->token = sa_strndup(sa_buf_string(&b), strcspn(sa_buf_string(&b), "\n"));
    explicit_bzero(b.data, b.len);
}

static void token_read(void *user)
{
    struct token_job *j = user;
    struct local *l = j->local;
    cleanup_free char *http = sa_format("http://127.0.0.1:%u", j->port);
    cleanup_free char *grpc = sa_format("127.0.0.1:%u", j->port + 1);
    struct provider_endpoint e = {http, grpc, j->token};
    l->n_jobs--;
    if (!l->freed)
        j->done(j->user, j->err ? NULL : &e, j->err);
    else if (!l->n_jobs)
        local_end(l);
    if (j->token)
        explicit_bzero(j->token, strlen(j->token));
    free(j->token);
    free(j->path);
    sa_error_free(j->err);
    free(j);
}

static void endpoint(struct provider *p, const char *id, const struct provider_state *state,
                     provider_endpoint_fn *done, void *user)
{
    struct local *l = local_of(p);
    struct local_sandbox known = {0};
    state_read(&known, state);
    struct token_job *j = sa_calloc(1, sizeof *j);
    *j = (struct token_job){.local = l, .port = known.port, .done = done, .user = user};
    j->path = sa_format("%s/%s/data/token", l->data_dir, id);
    l->n_jobs++;
    sa_work(l->loop, read_token, token_read, j);
}

/* ---- the driver ---- */

static bool available(struct provider *p, char **ret_why)
{
    struct local *l = local_of(p);
    if (access(l->program, X_OK) == 0)
        return true;
    *ret_why = sa_format("the program `%s` is not there", l->program);
    return false;
}

void local_end(struct local *l)
{
    free(l->program);
    free(l->data_dir);
    free(l->agent_user);
    free(l->agents_dir);
    free(l->durability);
    free(l);
}

static void local_free(struct provider *p)
{
    struct local *l = local_of(p);
    l->freed = true;
    while (l->probes)
        local_probe_free(l->probes);
    for (struct local_sandbox *s = l->sandboxes, *next; s; s = next) {
        next = s->next;
        unwatch(s);
        sa_timer_stop(s->timer);
        if (!s->busy)
            sandbox_free(s);
    }
    if (!l->n_jobs)
        local_end(l);
}

struct provider *provider_local_new(const struct provider_options *opt,
                                    const struct provider_local_options *local, sa_error **err)
{
    static const struct provider_ops ops = {
        .name = "local",
        .available = available,
        .create = create,
        .cancel = cancel,
        .adopt = adopt,
        .endpoint = endpoint,
        .check = check,
        .destroy = destroy,
        .free = local_free,
    };
    if (sa_mkdirs(opt->data_dir, 0700, err) < 0)
        return NULL;
    struct local *l = sa_calloc(1, sizeof *l);
    l->base.ops = &ops;
    l->loop = opt->loop;
    l->rpc = opt->rpc;
    l->data_dir = sa_strdup(opt->data_dir);
    l->ended = opt->ended;
    l->ended_user = opt->user;
    l->program = sa_strdup(local->program);
    l->agent_user = sa_strdup(local->agent_user);
    l->agents_dir = sa_strdup(local->agents_dir);
    l->durability = sa_strdup(local->durability);
    return &l->base;
}
