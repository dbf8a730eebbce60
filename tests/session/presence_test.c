/* PresenceService of session-svc, with Redis: through crashes of session-svc, through the loss of Redis. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sandboxagent/presence/v1/presence_service.rpc.h"
#include "tests/session/stack.h"

static const struct rpc_call_options patient = {.deadline_ms = PATIENCE_MS, .wait_for_ready = true};

/* ---- Redis ---- */

static struct program start_redis(const char *dir)
{
    cleanup_free char *socket = sa_format("%s/redis", dir);
    struct program p = program_start(WORDS("/usr/bin/redis-server", "--port", "0", "--unixsocket", socket,
                                           "--save", "", "--appendonly", "no", "--dir", dir),
                                     NULL);
    program_wait_for(&p, "ready to accept connections");
    return p;
}

/* ---- calls; they answer "" or the reason of the failure ---- */

static char reason[64];

static const char *told(const sa_error *err)
{
    snprintf(reason, sizeof reason, "%s", err ? err->reason : "");
    return reason;
}

static const char *join_as(struct stack *t, const char *session, const char *name, char **ret_id,
                           uint64_t *ret_fencing)
{
    JoinSessionRequest req = JOIN_SESSION_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)session;
    req.display_name = (char *)(uintptr_t)name;
    cleanup_error sa_error *err = NULL;
    JoinSessionResponse *res = join_session_wait(t->caller.channel, &req, &patient, &err);
    if (res) {
        assert_string_equal(res->member->display_name, name);
        assert_true(res->ttl_ms > 0);
        assert_true(res->member->join_time->seconds > 1600000000);
        *ret_id = sa_strdup(res->member->member_id);
        *ret_fencing = res->fencing_token;
    }
    rpc_message_free(res);
    return told(err);
}

static const char *keep(struct stack *t, const char *session, const char *member, const char *activity)
{
    KeepPresenceRequest req = KEEP_PRESENCE_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)session;
    req.member_id = (char *)(uintptr_t)member;
    if (activity) {
        req._activity_case = KEEP_PRESENCE_REQUEST___ACTIVITY_ACTIVITY;
        req.activity = (char *)(uintptr_t)activity;
    }
    cleanup_error sa_error *err = NULL;
    rpc_message_free(keep_presence_wait(t->caller.channel, &req, &patient, &err));
    return told(err);
}

static const char *leave(struct stack *t, const char *session, const char *member)
{
    LeaveSessionRequest req = LEAVE_SESSION_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)session;
    req.member_id = (char *)(uintptr_t)member;
    cleanup_error sa_error *err = NULL;
    rpc_message_free(leave_session_wait(t->caller.channel, &req, &patient, &err));
    return told(err);
}

/* The names, joined. */
static const char *list(struct stack *t, const char *session)
{
    static char names[128];
    ListPresenceRequest req = LIST_PRESENCE_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)session;
    cleanup_error sa_error *err = NULL;
    ListPresenceResponse *res = list_presence_wait(t->caller.channel, &req, &patient, &err);
    if (!res)
        return told(err);
    names[0] = 0;
    for (size_t i = 0; i < res->n_members; i++)
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", i ? " " : "",
                 res->members[i]->display_name);
    rpc_message_free(res);
    return names;
}

static struct rpc_stream *watch(struct stack *t, const char *session)
{
    WatchPresenceRequest req = WATCH_PRESENCE_REQUEST__INIT;
    struct rpc_call_options opt = {.deadline_ms = 4 * PATIENCE_MS, .wait_for_ready = true};
    req.session_id = (char *)(uintptr_t)session;
    return watch_presence_begin(t->caller.channel, &req, &opt);
}

/* What the watcher is told next, as a line. */
static const char *next(struct rpc_stream *s)
{
    static char line[128];
    WatchPresenceResponse *res;
    cleanup_error sa_error *err = NULL;
    if (watch_presence_next(s, &res, &err) != 1)
        return told(err);
    switch (res->kind_case) {
    case WATCH_PRESENCE_RESPONSE__KIND_SNAPSHOT:
        snprintf(line, sizeof line, "snapshot %zu", res->snapshot->n_members);
        break;
    case WATCH_PRESENCE_RESPONSE__KIND_UPDATED:
        snprintf(line, sizeof line, "updated %s %s", res->updated->display_name, res->updated->activity);
        break;
    case WATCH_PRESENCE_RESPONSE__KIND_LEFT:
        snprintf(line, sizeof line, "left");
        break;
    case WATCH_PRESENCE_RESPONSE__KIND_UNKNOWN:
        snprintf(line, sizeof line, "unknown");
        break;
    default:
        snprintf(line, sizeof line, "?");
    }
    rpc_message_free(res);
    return line;
}

/* ---- the tests ---- */

struct world {
    struct program redis;
    const char *dir;
    char *url;
    struct stack *stack;
    char *session;
};

/* session-svc serves before it has reached Redis. */
static void await_presence(struct stack *t, const char *session)
{
    while (!strcmp(list(t, session), "REDIS_UNAVAILABLE"))
        ;
}

static struct world begin(bool with_redis)
{
    struct world w = {.dir = harness_dir()};
    w.redis = start_redis(w.dir);
    w.url = sa_format("unix:%s/redis", w.dir);
    static const char *extra[3];
    extra[0] = "--redis";
    extra[1] = w.url;
    w.stack = stack_start(with_redis ? extra : NULL);
    w.session = create_session(w.stack, "mock", NULL);
    await_presence(w.stack, w.session);
    return w;
}

static void end(struct world *w)
{
    stack_free(w->stack);
    free(w->session);
    free(w->url);
    program_free(&w->redis);
}

static void members_come_and_go(void **state)
{
    (void)state;
    for (int with_redis = 0; with_redis < 2; with_redis++) {
        struct world w = begin(with_redis);
        struct stack *t = w.stack;
        uint64_t first, second;
        cleanup_free char *ann = NULL, *bob = NULL;
        struct rpc_stream *s = watch(t, w.session);
        assert_string_equal(next(s), "snapshot 0");
        assert_string_equal(join_as(t, w.session, "ann", &ann, &first), "");
        assert_string_equal(next(s), "updated ann ");
        assert_string_equal(join_as(t, w.session, "bob", &bob, &second), "");
        assert_true(second > first);
        assert_string_equal(next(s), "updated bob ");
        assert_string_equal(keep(t, w.session, ann, "typing"), "");
        assert_string_equal(next(s), "updated ann typing");
        assert_string_equal(list(t, w.session), "ann bob");
        assert_string_equal(leave(t, w.session, ann), "");
        assert_string_equal(next(s), "left");
        assert_string_equal(leave(t, w.session, ann), "");
        assert_string_equal(keep(t, w.session, ann, NULL), "MEMBER_NOT_FOUND");
        rpc_stream_free(s);
        end(&w);
    }
}

static void requests_are_checked(void **state)
{
    (void)state;
    struct world w = begin(false);
    struct stack *t = w.stack;
    uint64_t fencing;
    cleanup_free char *ann = NULL;
    char long_name[130];
    memset(long_name, 'x', 65);
    long_name[65] = 0;
    assert_string_equal(join_as(t, "01h00000000000000000000000", "ann", &ann, &fencing), "SESSION_NOT_FOUND");
    assert_string_equal(list(t, "nonsense"), "SESSION_NOT_FOUND");
    struct rpc_stream *s = watch(t, "nonsense");
    assert_string_equal(next(s), "SESSION_NOT_FOUND");
    rpc_stream_free(s);
    assert_string_equal(join_as(t, w.session, "", &ann, &fencing), "INVALID_REQUEST");
    assert_string_equal(join_as(t, w.session, long_name, &ann, &fencing), "INVALID_REQUEST");
    for (int i = 0; i < 128; i += 2)
        memcpy(long_name + i, "\xc3\xbc", 2); /* 64 characters, 128 bytes */
    long_name[128] = 0;
    assert_string_equal(join_as(t, w.session, long_name, &ann, &fencing), "");
    long_name[65] = 0;
    memset(long_name, 'x', 65);
    assert_string_equal(keep(t, w.session, ann, long_name), "INVALID_REQUEST");
    end(&w);
}

static void members_outlive_a_crash_of_session_svc(void **state)
{
    (void)state;
    struct world w = begin(true);
    struct stack *t = w.stack;
    uint64_t before, after;
    cleanup_free char *ann = NULL, *bob = NULL;
    assert_string_equal(join_as(t, w.session, "ann", &ann, &before), "");
    stack_crash_session(t);
    await_presence(t, w.session);
    assert_string_equal(list(t, w.session), "ann");
    assert_string_equal(keep(t, w.session, ann, "typing"), "");
    assert_string_equal(join_as(t, w.session, "bob", &bob, &after), "");
    assert_true(after > before);
    end(&w);
}

static void numbers_grow_over_crashes_without_redis(void **state)
{
    (void)state;
    struct world w = begin(false);
    struct stack *t = w.stack;
    uint64_t before, after;
    cleanup_free char *ann = NULL, *again = NULL;
    assert_string_equal(join_as(t, w.session, "ann", &ann, &before), "");
    stack_crash_session(t);
    assert_string_equal(keep(t, w.session, ann, NULL), "MEMBER_NOT_FOUND");
    assert_string_equal(join_as(t, w.session, "ann", &again, &after), "");
    assert_true(after > before);
    end(&w);
}

static void losing_redis_loses_presence_and_nothing_else(void **state)
{
    (void)state;
    struct world w = begin(true);
    struct stack *t = w.stack;
    uint64_t before, after;
    cleanup_free char *ann = NULL, *again = NULL;
    struct rpc_stream *s = watch(t, w.session);
    assert_string_equal(next(s), "snapshot 0");
    assert_string_equal(join_as(t, w.session, "ann", &ann, &before), "");
    assert_string_equal(next(s), "updated ann ");
    program_signal(&w.redis, SIGKILL);
    program_wait(&w.redis);
    program_free(&w.redis);
    assert_string_equal(next(s), "unknown");
    assert_string_equal(list(t, w.session), "REDIS_UNAVAILABLE");
    /* A turn runs as ever; session-svc can even be started again. */
    struct viewer *v = viewer_open(t, w.session);
    assert_non_null(viewer_turn_end(v, send_prompt(t, w.session, "hello")));
    viewer_close(v);
    rpc_stream_free(s);
    stack_crash_session(t);
    s = watch(t, w.session);
    assert_string_equal(next(s), "unknown");
    v = viewer_open(t, w.session);
    assert_non_null(viewer_turn_end(v, send_prompt(t, w.session, "hello again")));
    viewer_close(v);
    /* An empty Redis: nobody is here, and no number is given twice. */
    w.redis = start_redis(w.dir);
    assert_string_equal(next(s), "snapshot 0");
    assert_string_equal(keep(t, w.session, ann, NULL), "MEMBER_NOT_FOUND");
    assert_string_equal(join_as(t, w.session, "ann", &again, &after), "");
    assert_true(after > before);
    assert_string_equal(next(s), "updated ann ");
    rpc_stream_free(s);
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_come_and_go),
        cmocka_unit_test(requests_are_checked),
        cmocka_unit_test(members_outlive_a_crash_of_session_svc),
        cmocka_unit_test(numbers_grow_over_crashes_without_redis),
        cmocka_unit_test(losing_redis_loses_presence_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
