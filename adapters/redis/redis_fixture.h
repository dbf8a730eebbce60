/* A real redis-server on a unix socket in a directory of its own, and a loop that runs until something is
 * true. Included once per test program. */
#ifndef ADAPTERS_REDIS_REDIS_FIXTURE_H_
#define ADAPTERS_REDIS_REDIS_FIXTURE_H_

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "adapters/os/file.h"
#include "adapters/os/mem.h"
#include "adapters/redis/lease.h"

enum { DEADLINE_MS = 20000, MAX_LOG = 64 };

struct fixture {
    char dir[64], url[128];
    pid_t server;
    struct sa_loop *loop;
    struct sa_timer *tick;
    uint64_t limit_ms;
    bool (*until)(struct fixture *f);
    struct redis_client *client, *other;
    int ups, downs; /* of `client` */
    /* Answers, in the order they came. */
    int n;
    char log[MAX_LOG][128];
};

static inline void start_server(struct fixture *f, const char *password)
{
    char socket[100];
    snprintf(socket, sizeof socket, "%s/sock", f->dir);
    unlink(socket);
    pid_t parent = getpid();
    f->server = fork();
    if (f->server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0);
        dup2(null, 1);
        if (getppid() == parent)
            execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", socket, "--save", "",
                   "--dir", f->dir, "--appendonly", "no", "--requirepass", password ? password : "", NULL);
        _exit(127);
    }
    assert_true(f->server > 0);
}

static inline void stop_server(struct fixture *f)
{
    if (f->server > 0) {
        kill(f->server, SIGKILL);
        waitpid(f->server, NULL, 0);
    }
    f->server = 0;
}

static inline void on_tick(void *user)
{
    struct fixture *f = user;
    if (f->until(f) || sa_now_ms() > f->limit_ms)
        sa_loop_stop(f->loop);
}

/* Called with the lock held, which the test always does; the loop runs meanwhile. */
static inline void run_until(struct fixture *f, bool (*until)(struct fixture *f))
{
    f->until = until;
    f->limit_ms = sa_now_ms() + DEADLINE_MS;
    sa_timer_every(f->tick, 2);
    sa_loop_unlock(f->loop);
    sa_loop_run(f->loop);
    sa_loop_lock(f->loop);
    sa_timer_stop(f->tick);
    if (!until(f))
        fail_msg("waited too long; %d answers, the last: %s; %s", f->n, f->n ? f->log[f->n - 1] : "",
                 f->client ? redis_last_error(f->client) : "");
}

static inline void say(struct fixture *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static inline void say(struct fixture *f, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (f->n < MAX_LOG)
        vsnprintf(f->log[f->n++], sizeof f->log[0], fmt, ap);
    va_end(ap);
}

static inline bool answered(struct fixture *f)
{
    return f->n > 0;
}

/* Waits for one answer and forgets it. */
static inline const char *answer(struct fixture *f)
{
    static char text[128];
    run_until(f, answered);
    memcpy(text, f->log[0], sizeof text);
    memmove(f->log[0], f->log[1], sizeof f->log - sizeof f->log[0]);
    f->n--;
    return text;
}

static inline bool is_online(struct fixture *f)
{
    return redis_online(f->client) && (!f->other || redis_online(f->other));
}

static inline bool is_offline(struct fixture *f)
{
    return !redis_online(f->client);
}

static inline void on_online(void *user, bool online)
{
    struct fixture *f = user;
    *(online ? &f->ups : &f->downs) += 1;
}

static inline struct redis_client *new_client(struct fixture *f, bool counted)
{
    struct redis_options opt = {
        .url = f->url, .deadline_ms = 500, .online = counted ? on_online : NULL, .user = f};
    sa_error *err = NULL;
    struct redis_client *c = redis_client_new(f->loop, &opt, &err);
    if (!c)
        fail_msg("%s", err->message);
    return c;
}

/* Says the reply, or the reason of the error. */
static inline void on_answer(void *user, const struct redis_reply *reply, const sa_error *err)
{
    struct fixture *f = user;
    assert_true(!reply != !err);
    if (err)
        say(f, "%s", err->reason);
    else if (redis_is_nil(reply))
        say(f, "nil");
    else if (redis_count(reply))
        say(f, "[%zu]", redis_count(reply));
    else if (redis_str(reply, NULL)[0])
        say(f, "%s", redis_str(reply, NULL));
    else
        say(f, "%lld", (long long)redis_int(reply));
}

/* A command of up to five words. */
static inline void command(struct fixture *f, const char *text)
{
    char words[128], *save = NULL;
    struct redis_arg args[5];
    size_t n = 0;
    snprintf(words, sizeof words, "%s", text);
    for (char *w = strtok_r(words, " ", &save); w && n < 5; w = strtok_r(NULL, " ", &save))
        args[n++] = redis_arg(w);
    redis_command(f->client, args, n, on_answer, f);
}

static inline int setup(void **state)
{
    struct fixture *f = sa_calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/redis.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->url, sizeof f->url, "unix:%s/sock", f->dir);
    f->loop = sa_loop_new(NULL);
    f->tick = sa_timer_new(f->loop, on_tick, f);
    sa_loop_lock(f->loop);
    start_server(f, NULL);
    f->client = new_client(f, true);
    run_until(f, is_online);
    *state = f;
    return 0;
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;
    redis_client_free(f->client);
    redis_client_free(f->other);
    sa_timer_free(f->tick);
    sa_loop_unlock(f->loop);
    sa_loop_free(f->loop);
    stop_server(f);
    sa_remove_tree(f->dir, NULL);
    free(f);
    return 0;
}

#endif
