/* Two who answer the same request at the same moment, while session-svc dies on the way: one answer reaches
 * the agent, the log tells that one, and both callers learn whose it was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/file.h"
#include "tests/session/stack.h"

#define POINTS "services/session-svc/fault_points"

struct answerer {
    struct stack *stack;
    pthread_mutex_t *revive;
    pthread_barrier_t *together; /* of both and the test: before the answer, behind it, at the end */
    struct rpc_channel *channel;
    const char *session, *permission, *option, *name;
    uint64_t seq; /* of the answer, once it is taken */
    char reason[64], message[256];
};

static void answer(struct answerer *a)
{
    AnswerPermissionRequest req = ANSWER_PERMISSION_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)a->session;
    req.permission_id = (char *)(uintptr_t)a->permission;
    req.option_id = (char *)(uintptr_t)a->option;
    req.request_id = (char[]){"mine"};
    for (;;) {
        sa_error *err = NULL;
        AnswerPermissionResponse *res = answer_permission_wait(a->channel, &req, NULL, &err);
        if (res) {
            a->seq = res->seq;
            rpc_message_free(res);
            return;
        }
        bool died = err->code == SA_CODE_UNAVAILABLE || err->code == SA_CODE_CANCELLED;
        snprintf(a->reason, sizeof a->reason, "%s", err->reason);
        snprintf(a->message, sizeof a->message, "%s", err->message);
        sa_error_free(err);
        if (!died)
            return;
        pthread_mutex_lock(a->revive);
        stack_revive(a->stack);
        pthread_mutex_unlock(a->revive);
    }
}

/* A program dies with the thread that has started it: so each stays until the end. */
static void *run(void *user)
{
    struct answerer *a = user;
    pthread_barrier_wait(a->together);
    answer(a);
    pthread_barrier_wait(a->together);
    pthread_barrier_wait(a->together);
    return NULL;
}

/* A caller of its own name. */
static struct rpc_channel *channel_of(struct stack *t, const char *name)
{
    cleanup_free char *target = sa_format("unix:%s/run/session.sock", t->dir);
    const char *metadata[] = {"x-service-secret", t->secret, "x-principal", name, NULL};
    struct rpc_channel_options opt = {.target = target, .metadata = metadata};
    sa_loop_lock(t->caller.loop);
    struct rpc_channel *channel = rpc_channel_new(t->caller.rpc, &opt);
    sa_loop_unlock(t->caller.loop);
    return channel;
}

static void check(struct viewer *v, struct answerer both[2])
{
    struct answerer *won = both[0].seq ? &both[0] : &both[1], *lost = both[0].seq ? &both[1] : &both[0];
    assert_true(won->seq && !lost->seq);
    assert_string_equal(lost->reason, "PERMISSION_ALREADY_ANSWERED");
    assert_non_null(strstr(lost->message, won->name));
    viewer_turn_end(v, 1);
    assert_int_equal(viewer_count(v, EVENT__KIND_PERMISSION_RESOLVED), 1);
    const Event *told = viewer_until(v, 0, EVENT__KIND_PERMISSION_RESOLVED, 1);
    assert_int_equal(told->seq, won->seq);
    assert_string_equal(told->permission_resolved->author, won->name);
    assert_string_equal(told->permission_resolved->option_id, won->option);
    cleanup_free char *text = viewer_text(v, 1), *expected = sa_format("tool: %s\n", won->option);
    assert_string_equal(text, expected);
}

/* Deaths on the way, 0 or 1. */
static int live(const char *fault)
{
    struct stack *t = stack_start_faulty(NULL, fault);
    pthread_mutex_t revive = PTHREAD_MUTEX_INITIALIZER;
    pthread_barrier_t together;
    pthread_barrier_init(&together, NULL, 3);
    CreateSessionRequest req = CREATE_SESSION_REQUEST__INIT;
    req.agent = (char[]){"mock"};
    req.request_id = (char[]){"the session"};
    char *id = NULL;
    while (*try_create(t, &req, &id).text)
        stack_revive(t);
    struct viewer *v = viewer_open(t, id);
    while (*try_prompt(t, id, "TOOL edit /x", "the prompt", NULL).text)
        stack_revive(t);
    const Event *asked = viewer_until(v, 0, EVENT__KIND_PERMISSION_REQUESTED, 1);
    struct answerer both[2] = {{.option = "allow", .name = "ann"}, {.option = "reject", .name = "bob"}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        both[i].stack = t;
        both[i].revive = &revive;
        both[i].together = &together;
        both[i].channel = channel_of(t, both[i].name);
        both[i].session = id;
        both[i].permission = asked->permission_requested->permission_id;
        assert_int_equal(pthread_create(&threads[i], NULL, run, &both[i]), 0);
    }
    pthread_barrier_wait(&together);
    pthread_barrier_wait(&together);
    check(v, both);
    sa_loop_lock(t->caller.loop);
    for (int i = 0; i < 2; i++)
        rpc_channel_free(both[i].channel);
    sa_loop_unlock(t->caller.loop);
    viewer_close(v);
    free(id);
    int deaths = t->deaths;
    if (t->fault) { /* it was not reached, and shall not be */
        t->fault = NULL;
        stack_crash_session(t);
    }
    stack_free(t);
    pthread_barrier_wait(&together);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&together);
    return deaths;
}

/* Every point once; those of a batch also at the batches around the answer, which is the seventh or eighth.
 */
static bool is_tried(const char *point, int hit)
{
    return hit == 1 || (!strncmp(point, "batch.", 6) && hit >= 6 && hit <= 9);
}

static void one_answer_wins_whatever_dies(void **state)
{
    (void)state;
    cleanup_buf struct sa_buf list = {0};
    int died = 0;
    assert_int_equal(sa_read_file(POINTS, 65536, &list, NULL), 0);
    live(NULL);
    for (char *rest, *point = strtok_r(sa_buf_string(&list), "\n", &rest); point;
         point = strtok_r(NULL, "\n", &rest))
        for (int hit = 1; hit <= 9; hit++) {
            cleanup_free char *fault = sa_format("%s:%d", point, hit);
            died += is_tried(point, hit) ? live(fault) : 0;
        }
    print_message("%d deaths\n", died);
    assert_true(died >= 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_answer_wins_whatever_dies)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
