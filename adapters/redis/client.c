/* Commands and scripts: each command waits in the order of the replies. All have the same deadline, so the
 * first one is always the first to be late. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/clock.h"
#include "adapters/redis/redis_internal.h"

enum { SCRIPTS_MAX = 64, EVAL_KEYS_MAX = 16, EVAL_ARGS_MAX = 32, SHA_LEN = 40 };

struct command {
    TAILQ_ENTRY(command) link;
    struct redis_client *client;
    redis_done_fn *done;
    void *user;
    uint64_t due_ms;
    sa_error *err; /* of one that was refused and waits to be told */
};
TAILQ_HEAD(command_list, command);

struct known_script {
    const struct redis_script *script;
    char sha[SHA_LEN + 1]; /* "": not known yet */
};

struct redis_client {
    struct sa_loop *loop;
    struct redis_target target;
    uint32_t deadline_ms, max_pending;
    void (*online)(void *user, bool online);
    void *user;
    int refs;
    bool gone;
    struct redis_conn *conn;
    struct sa_timer *timer; /* of the first command */
    struct command_list pending, refused;
    size_t n_pending;
    struct known_script scripts[SCRIPTS_MAX];
    size_t n_scripts;
    struct redis_notify *notify;
};

static void release(struct redis_client *c)
{
    if (!--c->refs)
        free(c);
}

/* ---- ending commands ---- */

static void finish(struct command *cmd, const redisReply *reply, const sa_error *err)
{
    if (cmd->done)
        cmd->done(cmd->user, (const struct redis_reply *)reply, err);
    sa_error_free(cmd->err);
    free(cmd);
}

static void watch_first(struct redis_client *c)
{
    struct command *first = TAILQ_FIRST(&c->pending);
    uint64_t now = sa_now_ms();
    if (!first)
        sa_timer_stop(c->timer);
    else
        sa_timer_start(c->timer, first->due_ms > now ? first->due_ms - now : 0);
}

static struct command *take_first(struct redis_client *c)
{
    struct command *cmd = TAILQ_FIRST(&c->pending);
    if (cmd) {
        TAILQ_REMOVE(&c->pending, cmd, link);
        c->n_pending--;
    }
    return cmd;
}

static void on_reply(void *user, const redisReply *reply)
{
    struct redis_client *c = user;
    struct command *cmd = take_first(c);
    cleanup_error sa_error *err = NULL;
    if (!cmd) {
        sa_fail(&err, SA_REDIS_UNAVAILABLE, "Redis: an answer to nothing");
        redis_conn_reset(c->conn, err);
        return;
    }
    watch_first(c);
    if (reply->type == REDIS_REPLY_ERROR) {
        bool loading = strncmp(reply->str, "LOADING", 7) == 0;
        sa_fail(&err, loading ? SA_REDIS_UNAVAILABLE : SA_REDIS_ERROR, "Redis: %s", reply->str);
    }
    finish(cmd, err ? NULL : reply, err);
}

static void on_up(void *user)
{
    struct redis_client *c = user;
    c->refs++;
    if (c->online)
        c->online(c->user, true);
    if (!c->gone)
        redis_notify_online(c->notify);
    release(c);
}

static void on_down(void *user, const sa_error *why)
{
    struct redis_client *c = user;
    struct command_list lost = TAILQ_HEAD_INITIALIZER(lost);
    TAILQ_CONCAT(&lost, &c->pending, link);
    c->n_pending = 0;
    sa_timer_stop(c->timer);
    c->refs++;
    for (struct command *cmd; (cmd = TAILQ_FIRST(&lost));) {
        TAILQ_REMOVE(&lost, cmd, link);
        finish(cmd, NULL, why);
    }
    if (c->online && !c->gone)
        c->online(c->user, false);
    release(c);
}

static const struct redis_conn_events conn_events = {on_up, on_down, on_reply};

static void on_timer(void *user)
{
    struct redis_client *c = user;
    struct command *late = take_first(c);
    cleanup_error sa_error *err = NULL, *why = NULL;
    if (!late)
        return;
    sa_fail(&err, SA_DEADLINE_EXCEEDED, "Redis has not answered within %u ms", (unsigned)c->deadline_ms);
    sa_fail(&why, SA_REDIS_UNAVAILABLE, "Redis has not answered an earlier command within %u ms",
            (unsigned)c->deadline_ms);
    c->refs++;
    finish(late, NULL, err);
    if (!c->gone)
        redis_conn_reset(c->conn, why);
    release(c);
}

/* ---- public: client ---- */

struct redis_client *redis_client_new(struct sa_loop *loop, const struct redis_options *opt, sa_error **err)
{
    struct redis_target target;
    if (redis_target_parse(opt->url, &target, err))
        return NULL;
    struct redis_client *c = sa_calloc(1, sizeof *c);
    c->loop = loop;
    c->target = target;
    c->deadline_ms = opt->deadline_ms ? opt->deadline_ms : 2000;
    c->max_pending = opt->max_pending ? opt->max_pending : 10000;
    c->online = opt->online;
    c->user = opt->user;
    c->refs = 1;
    TAILQ_INIT(&c->pending);
    TAILQ_INIT(&c->refused);
    c->timer = sa_timer_new(loop, on_timer, c);
    c->conn = redis_conn_new(loop, &c->target, c->deadline_ms, &conn_events, c);
    c->notify = redis_notify_new(c, loop, &c->target, c->deadline_ms);
    return c;
}

void redis_client_free(struct redis_client *c)
{
    if (!c)
        return;
    c->gone = true;
    redis_notify_free(c->notify);
    redis_conn_free(c->conn);
    sa_timer_free(c->timer);
    cleanup_error sa_error *err = NULL;
    sa_fail(&err, SA_CANCELLED, "the Redis client was closed");
    for (struct command *cmd; (cmd = take_first(c));)
        finish(cmd, NULL, err);
    for (struct command *cmd; (cmd = TAILQ_FIRST(&c->refused));) { /* sa_defer frees them */
        TAILQ_REMOVE(&c->refused, cmd, link);
        redis_done_fn *done = cmd->done;
        cmd->done = NULL;
        cmd->client = NULL;
        if (done)
            done(cmd->user, NULL, err);
    }
    redis_target_fini(&c->target);
    release(c);
}

bool redis_online(const struct redis_client *c)
{
    return redis_conn_up(c->conn);
}

const char *redis_last_error(const struct redis_client *c)
{
    return redis_conn_error(c->conn);
}

struct redis_notify *redis_client_notify(struct redis_client *c)
{
    return c->notify;
}

/* ---- public: commands ---- */

struct redis_arg redis_arg(const char *s)
{
    return (struct redis_arg){s ? s : "", s ? strlen(s) : 0};
}

struct redis_arg redis_arg_int(int64_t v, char buf[static 24])
{
    int n = snprintf(buf, 24, "%lld", (long long)v);
    return (struct redis_arg){buf, (size_t)n};
}

static void tell_refusal(void *user)
{
    struct command *cmd = user;
    if (cmd->client)
        TAILQ_REMOVE(&cmd->client->refused, cmd, link);
    finish(cmd, NULL, cmd->err);
}

void redis_command(struct redis_client *c, const struct redis_arg *args, size_t n, redis_done_fn *done,
                   void *user)
{
    struct command *cmd = sa_calloc(1, sizeof *cmd);
    cmd->done = done;
    cmd->user = user;
    if (c->gone) {
        sa_fail(&cmd->err, SA_CANCELLED, "the Redis client was closed");
        sa_defer(c->loop, tell_refusal, cmd);
        return;
    }
    cmd->client = c;
    if (!redis_conn_up(c->conn)) {
        const char *why = redis_conn_error(c->conn);
        sa_fail(&cmd->err, SA_REDIS_UNAVAILABLE, "%s", *why ? why : "Redis is not connected yet");
    } else if (c->n_pending >= c->max_pending) {
        sa_fail(&cmd->err, SA_TOO_MANY, "Redis: %u commands wait for an answer already",
                (unsigned)c->max_pending);
    }
    if (cmd->err) {
        TAILQ_INSERT_TAIL(&c->refused, cmd, link);
        sa_defer(c->loop, tell_refusal, cmd);
        return;
    }
    cmd->due_ms = sa_now_ms() + c->deadline_ms;
    TAILQ_INSERT_TAIL(&c->pending, cmd, link);
    if (!c->n_pending++)
        watch_first(c);
    redis_conn_send(c->conn, args, n);
}

/* ---- public: scripts ---- */

/* One call of a script: kept until it is answered, to be sent again when the server does not know the script.
 */
struct eval {
    struct redis_client *client; /* holds a reference */
    const struct redis_script *script;
    redis_done_fn *done;
    void *user;
    char n_keys[24];
    size_t n;
    struct redis_arg args[3 + EVAL_KEYS_MAX + EVAL_ARGS_MAX]; /* into `bytes` from the fourth on */
    struct sa_buf bytes;
};

struct loading {
    struct redis_client *client;
    size_t index;
};

static struct known_script *known(struct redis_client *c, const struct redis_script *script)
{
    for (size_t i = 0; i < c->n_scripts; i++) {
        if (c->scripts[i].script == script)
            return &c->scripts[i];
    }
    if (c->n_scripts == SCRIPTS_MAX)
        return NULL; /* then it is sent in full each time */
    c->scripts[c->n_scripts].script = script;
    return &c->scripts[c->n_scripts++];
}

static void on_loaded(void *user, const struct redis_reply *reply, const sa_error *err)
{
    struct loading *l = user;
    size_t n = 0;
    const char *sha = redis_str(reply, &n);
    if (!err && n == SHA_LEN)
        memcpy(l->client->scripts[l->index].sha, sha, SHA_LEN + 1);
    release(l->client);
    free(l);
}

static void on_eval(void *user, const struct redis_reply *reply, const sa_error *err)
{
    struct eval *e = user;
    bool unknown = err && strncmp(err->message, "Redis: NOSCRIPT", 15) == 0;
    if (unknown && e->args[0].n == 7 /* EVALSHA */) {
        e->args[0] = redis_arg("EVAL");
        e->args[1] = redis_arg(e->script->source);
        redis_command(e->client, e->args, e->n, on_eval, e);
        return;
    }
    if (e->done)
        e->done(e->user, reply, err);
    release(e->client);
    sa_buf_fini(&e->bytes);
    free(e);
}

static void copy_args(struct eval *e, const struct redis_arg *keys, size_t n_keys,
                      const struct redis_arg *args, size_t n_args)
{
    size_t total = 0, at = 0;
    for (size_t i = 0; i < n_keys + n_args; i++)
        total += i < n_keys ? keys[i].n : args[i - n_keys].n;
    sa_buf_reserve(&e->bytes, total + 1);
    for (size_t i = 0; i < n_keys + n_args; i++) {
        struct redis_arg a = i < n_keys ? keys[i] : args[i - n_keys];
        sa_buf_add(&e->bytes, a.p, a.n);
        e->args[e->n++] = (struct redis_arg){e->bytes.data + at, a.n};
        at += a.n;
    }
}

void redis_eval(struct redis_client *c, const struct redis_script *script, const struct redis_arg *keys,
                size_t n_keys, const struct redis_arg *args, size_t n_args, redis_done_fn *done, void *user)
{
    struct eval *e = sa_calloc(1, sizeof *e);
    e->client = c;
    c->refs++;
    e->script = script;
    e->done = done;
    e->user = user;
    struct known_script *k = known(c, script);
    bool by_sha = k && k->sha[0];
    e->args[0] = redis_arg(by_sha ? "EVALSHA" : "EVAL");
    e->args[1] = redis_arg(by_sha ? k->sha : script->source);
    e->args[2] = redis_arg_int((int64_t)n_keys, e->n_keys);
    e->n = 3;
    n_keys = n_keys < EVAL_KEYS_MAX ? n_keys : EVAL_KEYS_MAX;
    n_args = n_args < EVAL_ARGS_MAX ? n_args : EVAL_ARGS_MAX;
    copy_args(e, keys, n_keys, args, n_args);
    if (k && !by_sha && !c->gone && redis_conn_up(c->conn)) {
        struct loading *l = sa_calloc(1, sizeof *l);
        *l = (struct loading){c, (size_t)(k - c->scripts)};
        c->refs++;
        struct redis_arg load[] = {redis_arg("SCRIPT"), redis_arg("LOAD"), redis_arg(script->source)};
        redis_command(c, load, 3, on_loaded, l);
    }
    redis_command(c, e->args, e->n, on_eval, e);
}

/* ---- public: replies ---- */

static const redisReply nil = {.type = REDIS_REPLY_NIL};

static const redisReply *of(const struct redis_reply *r)
{
    return r ? (const redisReply *)r : &nil;
}

bool redis_is_nil(const struct redis_reply *r)
{
    return of(r)->type == REDIS_REPLY_NIL;
}

const char *redis_str(const struct redis_reply *r, size_t *ret_len)
{
    const redisReply *reply = of(r);
    bool text = reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS;
    if (ret_len)
        *ret_len = text ? reply->len : 0;
    return text ? reply->str : "";
}

int64_t redis_int(const struct redis_reply *r)
{
    return of(r)->type == REDIS_REPLY_INTEGER ? of(r)->integer : strtoll(redis_str(r, NULL), NULL, 10);
}

size_t redis_count(const struct redis_reply *r)
{
    return of(r)->type == REDIS_REPLY_ARRAY ? of(r)->elements : 0;
}

const struct redis_reply *redis_at(const struct redis_reply *r, size_t i)
{
    return (const struct redis_reply *)(i < redis_count(r) ? of(r)->element[i] : &nil);
}
