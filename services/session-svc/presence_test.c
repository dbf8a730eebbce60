/* Presence: the same behaviour in memory and in Redis, and what only Redis can do to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
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
#include "services/session-svc/presence.h"

enum { PATIENCE_MS = 20000, LINES_MAX = 600, TTL_MS = 400, LONG_MS = 60000, SERVERS = 2 };

static bool in_redis; /* which form the tests use now */

/* What somebody was told, line by line. */
struct told {
    struct world *w;
    struct presence_watch *watch;
    int n, taken;
    char lines[LINES_MAX][80];
    bool close_at_left;
};

/* One session-svc. */
struct server {
    struct presence *presence;
    uint64_t floor;
    bool cannot_keep; /* its store fails */
};

struct world {
    struct sa_loop *loop;
    struct sa_timer *tick;
    struct told *awaited;
    uint64_t limit_ms;
    char dir[32], url[64];
    pid_t redis;
    struct server servers[SERVERS]; /* in memory both are the same presence */
    struct told answers, events;
    uint32_t ttl_ms;
};

/* ---- redis-server ---- */

static void start_redis(struct world *w)
{
    cleanup_free char *socket = sa_format("%s/sock", w->dir);
    pid_t parent = getpid();
    unlink(socket);
    w->redis = fork();
    if (w->redis == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0);
        dup2(null, 1);
        if (getppid() == parent)
            execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", socket, "--save", "",
                   "--dir", w->dir, "--appendonly", "no", NULL);
        _exit(127);
    }
    assert_true(w->redis > 0);
}

static void stop_redis(struct world *w)
{
    if (w->redis > 0) {
        kill(w->redis, SIGKILL);
        waitpid(w->redis, NULL, 0);
    }
    w->redis = 0;
}

/* ---- what is told ---- */

static void say(struct told *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct told *t, const char *fmt, ...)
{
    va_list ap;
    assert_true(t->n < LINES_MAX);
    va_start(ap, fmt);
    vsnprintf(t->lines[t->n++], sizeof t->lines[0], fmt, ap);
    va_end(ap);
}

static void on_tick(void *user)
{
    struct world *w = user;
    if (w->awaited->n > w->awaited->taken || sa_now_ms() > w->limit_ms)
        sa_loop_stop(w->loop);
}

/* The next line, waited for. The test holds the lock; the loop runs meanwhile. */
static const char *next(struct world *w, struct told *t)
{
    w->awaited = t;
    w->limit_ms = sa_now_ms() + PATIENCE_MS;
    sa_timer_every(w->tick, 2);
    sa_loop_unlock(w->loop);
    sa_loop_run(w->loop);
    sa_loop_lock(w->loop);
    sa_timer_stop(w->tick);
    if (t->n == t->taken)
        fail_msg("nothing was told after: %s", t->n ? t->lines[t->n - 1] : "(nothing)");
    return t->lines[t->taken++];
}

static void on_snapshot(void *user, Member *const *members, size_t n)
{
    char line[80] = "snapshot";
    for (size_t i = 0; i < n; i++)
        snprintf(line + strlen(line), sizeof line - strlen(line), " %s", members[i]->display_name);
    say(user, "%s", line);
}

static void on_updated(void *user, const Member *m)
{
    say(user, "updated %s %s %llu", m->display_name, m->activity, (unsigned long long)m->seen_seq);
}

static void on_left(void *user, const char *member_id)
{
    struct told *t = user;
    say(t, "left %s", member_id);
    if (t->close_at_left) {
        presence_unwatch(t->watch);
        t->watch = NULL;
    }
}

static void on_unknown(void *user, const char *why)
{
    assert_true(strlen(why) > 0);
    say(user, "unknown");
}

static const struct presence_watch_events events = {on_snapshot, on_updated, on_left, on_unknown};

static void watch(struct world *w, int server, struct told *t)
{
    t->w = w;
    t->watch = presence_watch(w->servers[server].presence, "s1", &events, t);
}

/* ---- requests ---- */

static void on_answer(void *user, const struct presence_answer *a, const sa_error *err)
{
    assert_true(!a != !err);
    if (err)
        say(user, "!%s", err->reason);
    else
        say(user, "%zu %llu", a->n, (unsigned long long)a->fencing);
}

static const char *join_session(struct world *w, int server, const char *session, const char *id)
{
    Member m = MEMBER__INIT;
    m.member_id = m.display_name = (char *)(uintptr_t)id;
    m.principal = (char *)(uintptr_t) "alice";
    presence_join(w->servers[server].presence, session, &m, on_answer, &w->answers);
    return next(w, &w->answers);
}

static const char *join(struct world *w, int server, const char *id)
{
    return join_session(w, server, "s1", id);
}

static const char *keep_as(struct world *w, int server, const char *id, const char *principal,
                           const char *activity, uint64_t seen)
{
    presence_keep(w->servers[server].presence, "s1", id, principal, activity, seen ? &seen : NULL, on_answer,
                  &w->answers);
    return next(w, &w->answers);
}

static const char *keep(struct world *w, int server, const char *id, const char *activity, uint64_t seen)
{
    return keep_as(w, server, id, "alice", activity, seen);
}

static const char *leave(struct world *w, int server, const char *id, const char *principal)
{
    presence_leave(w->servers[server].presence, "s1", id, principal, on_answer, &w->answers);
    return next(w, &w->answers);
}

static const char *list(struct world *w, int server)
{
    presence_list(w->servers[server].presence, "s1", on_answer, &w->answers);
    return next(w, &w->answers);
}

/* ---- servers ---- */

static uint64_t get_floor(void *user, const char *session_id)
{
    (void)session_id;
    return ((struct server *)user)->floor;
}

static void raise_floor(void *user, const char *session_id, uint64_t fencing, presence_stored_fn *done,
                        void *done_user)
{
    struct server *s = user;
    cleanup_error sa_error *err = NULL;
    (void)session_id;
    if (s->cannot_keep)
        sa_fail(&err, SA_STORE_ERROR, "the disk is broken");
    else if (fencing > s->floor)
        s->floor = fencing;
    if (done)
        done(done_user, err);
}

static void start_server(struct world *w, int i)
{
    struct server *s = &w->servers[i];
    struct presence_options opt = {.ttl_ms = w->ttl_ms, .floor = get_floor, .raise = raise_floor, .user = s};
    s->presence = in_redis ? presence_redis_new(w->loop, &opt, w->url, NULL)
                  : i      ? w->servers[0].presence
                           : presence_memory_new(w->loop, &opt);
    assert_non_null(s->presence);
}

static void stop_server(struct world *w, int i)
{
    if (i == 0 || in_redis)
        presence_free(w->servers[i].presence);
    w->servers[i].presence = NULL;
}

/* Until a list is answered, Redis is not there yet. */
static void await_redis(struct world *w, int i)
{
    while (!strcmp(list(w, i), "!REDIS_UNAVAILABLE"))
        ;
}

static int setup_with(void **state, uint32_t ttl_ms)
{
    struct world *w = sa_calloc(1, sizeof *w);
    strcpy(w->dir, "/tmp/presence.XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    snprintf(w->url, sizeof w->url, "unix:%s/sock", w->dir);
    w->ttl_ms = ttl_ms;
    w->loop = sa_loop_new(NULL);
    w->tick = sa_timer_new(w->loop, on_tick, w);
    sa_loop_lock(w->loop);
    if (in_redis)
        start_redis(w);
    for (int i = 0; i < SERVERS; i++)
        start_server(w, i);
    for (int i = 0; i < SERVERS; i++)
        await_redis(w, i);
    *state = w;
    return 0;
}

static int setup(void **state)
{
    return setup_with(state, LONG_MS);
}

static int setup_short(void **state)
{
    return setup_with(state, TTL_MS);
}

static int teardown(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < SERVERS; i++)
        stop_server(w, i);
    sa_timer_free(w->tick);
    sa_loop_unlock(w->loop);
    sa_loop_free(w->loop);
    stop_redis(w);
    sa_remove_tree(w->dir, NULL);
    free(w);
    return 0;
}

/* ---- in both forms ---- */

static void watchers_see_who_comes_changes_and_goes(void **state)
{
    struct world *w = *state;
    struct told *e = &w->events;
    watch(w, 1, e);
    assert_string_equal(next(w, e), "snapshot");
    assert_string_equal(join(w, 0, "ann"), "1 1");
    assert_string_equal(next(w, e), "updated ann  0");
    assert_string_equal(join(w, 0, "bob"), "1 2");
    assert_string_equal(next(w, e), "updated bob  0");
    assert_string_equal(keep(w, 0, "ann", "typing", 7), "1 1");
    assert_string_equal(next(w, e), "updated ann typing 7");
    assert_string_equal(keep(w, 0, "ann", NULL, 9), "1 1");
    assert_string_equal(next(w, e), "updated ann typing 9");
    assert_string_equal(keep(w, 0, "ann", NULL, 0), "1 1"); /* nothing new: nothing told */
    assert_string_equal(leave(w, 0, "bob", "alice"), in_redis ? "1 2" : "0 0");
    assert_string_equal(next(w, e), "left bob");
    assert_string_equal(list(w, 1), "1 0");
}

static void a_late_watcher_begins_with_a_snapshot(void **state)
{
    struct world *w = *state;
    join(w, 0, "ann");
    join(w, 1, "bob");
    watch(w, 1, &w->events);
    assert_string_equal(next(w, &w->events), "snapshot ann bob");
    struct told *late = sa_calloc(1, sizeof *late);
    watch(w, 1, late);
    assert_string_equal(next(w, late), "snapshot ann bob");
    presence_watch_again(late->watch);
    assert_string_equal(next(w, late), "snapshot ann bob");
    presence_unwatch(late->watch);
    join(w, 0, "cy");
    assert_string_equal(next(w, &w->events), "updated cy  0");
    assert_int_equal(late->n, late->taken);
    free(late);
}

static void a_watcher_may_go_while_it_is_told(void **state)
{
    struct world *w = *state;
    w->events.close_at_left = true;
    watch(w, 0, &w->events);
    assert_string_equal(next(w, &w->events), "snapshot");
    join(w, 0, "ann");
    assert_string_equal(next(w, &w->events), "updated ann  0");
    leave(w, 0, "ann", "alice");
    assert_string_equal(next(w, &w->events), "left ann");
    assert_string_equal(join(w, 0, "bob"), "1 2");
    assert_int_equal(w->events.n, w->events.taken);
}

static void who_falls_silent_leaves_without_being_asked(void **state)
{
    struct world *w = *state;
    watch(w, 1, &w->events);
    assert_string_equal(next(w, &w->events), "snapshot");
    join(w, 0, "ann");
    assert_string_equal(next(w, &w->events), "updated ann  0");
    uint64_t joined = sa_now_ms();
    assert_string_equal(keep(w, 0, "ann", NULL, 0), "1 1");
    assert_string_equal(next(w, &w->events), "left ann");
    assert_true(sa_now_ms() - joined >= TTL_MS - 50);
    assert_string_equal(keep(w, 0, "ann", "typing", 0), "!MEMBER_NOT_FOUND");
    assert_string_equal(list(w, 0), "0 0");
}

static void who_keeps_alive_stays(void **state)
{
    struct world *w = *state;
    watch(w, 1, &w->events);
    assert_string_equal(next(w, &w->events), "snapshot");
    join(w, 0, "ann");
    assert_string_equal(next(w, &w->events), "updated ann  0");
    for (uint64_t until = sa_now_ms() + 3 * TTL_MS; sa_now_ms() < until;)
        assert_string_equal(keep(w, 0, "ann", NULL, 0), "1 1");
    assert_int_equal(w->events.n, w->events.taken);
}

static void members_belong_to_who_joined(void **state)
{
    struct world *w = *state;
    join(w, 0, "ann");
    assert_string_equal(keep_as(w, 0, "ann", "mallory", "typing", 0), "!PERMISSION_DENIED");
    assert_string_equal(leave(w, 0, "ann", "mallory"), "!PERMISSION_DENIED");
    assert_string_equal(list(w, 0), "1 0");
    assert_string_equal(keep(w, 0, "nobody", NULL, 0), "!MEMBER_NOT_FOUND");
    assert_string_equal(leave(w, 0, "nobody", "alice"), "0 0");
}

static void numbers_grow_over_everything(void **state)
{
    struct world *w = *state;
    w->servers[0].floor = 41;
    assert_string_equal(join(w, 0, "ann"), "1 42");
    leave(w, 0, "ann", "alice");
    assert_string_equal(join(w, 0, "ann"), "1 43");
    assert_int_equal(w->servers[0].floor, 43);
    w->servers[0].cannot_keep = true;
    assert_string_equal(join(w, 0, "bob"), "!STORE_ERROR");
    assert_string_equal(list(w, 0), "1 0");
}

static void a_session_has_room_for_so_many(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < PRESENCE_MEMBERS_MAX; i++) {
        char id[16];
        snprintf(id, sizeof id, "m%03d", i);
        assert_int_equal(join(w, 0, id)[0], '1');
    }
    assert_string_equal(join(w, 0, "one-more"), "!TOO_MANY");
    assert_string_equal(join_session(w, 0, "s2", "elsewhere")[0] == '1' ? "joined" : "not", "joined");
}

static void it_can_end_in_the_middle_of_everything(void **state)
{
    struct world *w = *state;
    Member m = MEMBER__INIT;
    m.member_id = m.display_name = (char *)(uintptr_t) "ann";
    join(w, 0, "bob");
    watch(w, 0, &w->events);
    presence_join(w->servers[0].presence, "s1", &m, on_answer, &w->answers);
    presence_keep(w->servers[0].presence, "s1", "bob", "alice", "typing", NULL, on_answer, &w->answers);
    presence_list(w->servers[0].presence, "s3", on_answer, &w->answers);
    presence_unwatch(w->events.watch);
    int before = w->answers.n;
    stop_server(w, 0);
    /* Something else that takes a while: nothing of the above comes any more. */
    start_server(w, 0);
    await_redis(w, 0);
    assert_int_equal(w->events.n, 0);
    assert_true(w->answers.n > before);
    if (!in_redis)
        w->servers[1].presence = w->servers[0].presence;
}

/* ---- in Redis only ---- */

static void two_servers_see_each_others_members(void **state)
{
    struct world *w = *state;
    struct told *other = sa_calloc(1, sizeof *other);
    watch(w, 0, &w->events);
    watch(w, 1, other);
    assert_string_equal(next(w, &w->events), "snapshot");
    assert_string_equal(next(w, other), "snapshot");
    assert_string_equal(join(w, 0, "ann"), "1 1");
    assert_string_equal(join(w, 1, "bob"), "1 2");
    assert_string_equal(keep(w, 1, "ann", "typing", 0), "1 1");
    static const char *const expected[] = {"updated ann  0", "updated bob  0", "updated ann typing 0"};
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(next(w, &w->events), expected[i]);
        assert_string_equal(next(w, other), expected[i]);
    }
    presence_unwatch(other->watch);
    list(w, 1);
    free(other);
}

static void members_of_a_server_that_died_leave(void **state)
{
    struct world *w = *state;
    watch(w, 1, &w->events);
    assert_string_equal(next(w, &w->events), "snapshot");
    join(w, 0, "ann");
    assert_string_equal(next(w, &w->events), "updated ann  0");
    stop_server(w, 0);
    assert_string_equal(next(w, &w->events), "left ann");
}

static void an_empty_redis_starts_from_what_we_know(void **state)
{
    struct world *w = *state;
    watch(w, 0, &w->events);
    assert_string_equal(next(w, &w->events), "snapshot");
    join(w, 0, "ann");
    assert_string_equal(next(w, &w->events), "updated ann  0");
    assert_string_equal(join(w, 1, "bob"), "1 2");
    assert_string_equal(next(w, &w->events), "updated bob  0");
    stop_redis(w);
    assert_string_equal(next(w, &w->events), "unknown");
    assert_string_equal(join(w, 0, "cy"), "!REDIS_UNAVAILABLE");
    assert_string_equal(list(w, 0), "!REDIS_UNAVAILABLE");
    start_redis(w);
    assert_string_equal(next(w, &w->events), "snapshot");
    assert_string_equal(keep(w, 0, "ann", NULL, 0), "!MEMBER_NOT_FOUND");
    /* Numbers that were given, also by the other server, are not given again. */
    await_redis(w, 1);
    const char *line = join(w, 0, "ann");
    assert_memory_equal(line, "1 ", 2);
    assert_true(atoi(line + 2) >= 3);
    assert_string_equal(next(w, &w->events), "updated ann  0");
}

static void redis_may_come_later(void **state)
{
    struct world *w = *state;
    stop_server(w, 0);
    stop_redis(w);
    start_server(w, 0);
    watch(w, 0, &w->events);
    assert_string_equal(next(w, &w->events), "unknown");
    assert_string_equal(join(w, 0, "ann"), "!REDIS_UNAVAILABLE");
    start_redis(w);
    assert_string_equal(next(w, &w->events), "snapshot");
    assert_int_equal(join(w, 0, "ann")[0], '1');
    assert_string_equal(next(w, &w->events), "updated ann  0");
}

static void a_wrong_url_is_told(void **state)
{
    struct world *w = *state;
    struct presence_options opt = {.floor = get_floor, .raise = raise_floor, .user = w};
    cleanup_error sa_error *err = NULL;
    assert_null(presence_redis_new(w->loop, &opt, "http://nowhere", &err));
    assert_string_equal(err->reason, "INVALID_CONFIG");
}

#define LONG_LEASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define SHORT_LEASE(f) cmocka_unit_test_setup_teardown(f, setup_short, teardown)

int main(void)
{
    const struct CMUnitTest both[] = {
        LONG_LEASE(watchers_see_who_comes_changes_and_goes),
        LONG_LEASE(a_late_watcher_begins_with_a_snapshot),
        LONG_LEASE(a_watcher_may_go_while_it_is_told),
        SHORT_LEASE(who_falls_silent_leaves_without_being_asked),
        SHORT_LEASE(who_keeps_alive_stays),
        LONG_LEASE(members_belong_to_who_joined),
        LONG_LEASE(numbers_grow_over_everything),
        LONG_LEASE(a_session_has_room_for_so_many),
        LONG_LEASE(it_can_end_in_the_middle_of_everything),
    };
    const struct CMUnitTest redis[] = {
        LONG_LEASE(two_servers_see_each_others_members),
        SHORT_LEASE(members_of_a_server_that_died_leave),
        LONG_LEASE(an_empty_redis_starts_from_what_we_know),
        LONG_LEASE(redis_may_come_later),
        LONG_LEASE(a_wrong_url_is_told),
    };
    int failed = cmocka_run_group_tests_name("in memory", both, NULL, NULL);
    in_redis = true;
    failed += cmocka_run_group_tests_name("in Redis", both, NULL, NULL);
    return failed + cmocka_run_group_tests_name("Redis alone", redis, NULL, NULL);
}
