/* Agents end when they are idle and come back; sessions are copied. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sandboxagent/session/v1/permission_service.rpc.h"
#include "tests/session/stack.h"

static struct stack *stack;

static int start(void **state)
{
    (void)state;
    stack = stack_start(NULL);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    stack_free(stack);
    return 0;
}

static void change_idle(const char *id, bool set, uint64_t ms)
{
    UpdateSessionRequest req = UPDATE_SESSION_REQUEST__INIT;
    Google__Protobuf__FieldMask mask = GOOGLE__PROTOBUF__FIELD_MASK__INIT;
    char *paths[] = {(char[]){"idle_suspend_ms"}};
    mask.paths = paths;
    mask.n_paths = 1;
    req.session_id = (char *)(uintptr_t)id;
    req.update_mask = &mask;
    if (set)
        req._idle_suspend_ms_case = UPDATE_SESSION_REQUEST___IDLE_SUSPEND_MS_IDLE_SUSPEND_MS;
    req.idle_suspend_ms = ms;
    UpdateSessionResponse *res = update_session_wait(stack->caller.channel, &req, NULL, NULL);
    assert_non_null(res);
    assert_int_equal(res->session->idle_suspend_ms, set ? ms : 600000);
    rpc_message_free(res);
}

/* Three times; what was in the log stays as it was, and only suspension is added. */
static void suspends_and_resumes(const char *const *env, RestoreMethod method)
{
    cleanup_free char *id = create_session(stack, "mock", env);
    struct viewer *v = viewer_open(stack, id);
    viewer_state(v, viewer_turn_end(v, send_prompt(stack, id, "remember me"))->seq, SESSION_STATE_IDLE);
    size_t n = v->n;
    cleanup_buf struct sa_buf before = viewer_bytes(v);
    for (int i = 0; i < 3; i++) {
        size_t at = v->n;
        assert_string_equal(try_suspend(stack, id).text, "");
        const Event *e = viewer_state(v, at, SESSION_STATE_SUSPENDED);
        assert_string_equal(e->state_changed->reason, "SUSPENDED");
        GetSessionResponse *res = get_session(stack, id);
        assert_string_equal(res->session->process_id, "");
        rpc_message_free(res);
        assert_string_equal(try_suspend(stack, id).text, "");
        if (i == 1)
            stack_crash_session(stack);
        assert_string_equal(try_resume(stack, id).text, "");
        assert_string_equal(try_resume(stack, id).text, "");
        viewer_state(v, e->seq, SESSION_STATE_IDLE);
        assert_int_equal(viewer_until(v, e->seq, EVENT__KIND_RESTORED, 0)->restored->method, method);
        assert_int_equal(v->n, at + 4); /* suspended, starting, restored, idle */
    }
    assert_int_equal(viewer_count(v, EVENT__KIND_RESTORED), 3);
    v->n = n;
    cleanup_buf struct sa_buf after = viewer_bytes(v);
    assert_int_equal(before.len, after.len);
    assert_memory_equal(before.data, after.data, before.len);
    viewer_close(v);
}

static void by_resume(void **state)
{
    (void)state;
    suspends_and_resumes(NULL, RESTORE_METHOD_RESUME);
}

static void by_load(void **state)
{
    (void)state;
    static const char *const env[] = {"MOCK_NO_RESUME=1", NULL};
    suspends_and_resumes(env, RESTORE_METHOD_LOAD);
}

static void by_history(void **state)
{
    (void)state;
    static const char *const env[] = {"MOCK_NO_RESUME=1", "MOCK_NO_LOAD=1", NULL};
    suspends_and_resumes(env, RESTORE_METHOD_REPLAY);
}

static void an_idle_agent_ends_and_the_next_prompt_brings_it_back(void **state)
{
    (void)state;
    CreateSessionRequest req = CREATE_SESSION_REQUEST__INIT;
    req.agent = (char[]){"mock"};
    req._idle_suspend_ms_case = CREATE_SESSION_REQUEST___IDLE_SUSPEND_MS_IDLE_SUSPEND_MS;
    req.idle_suspend_ms = 100;
    cleanup_free char *id = NULL;
    assert_string_equal(try_create(stack, &req, &id).text, "");
    struct viewer *v = viewer_open(stack, id);
    const Event *e = viewer_state(v, 0, SESSION_STATE_SUSPENDED);
    assert_string_equal(e->state_changed->reason, "IDLE");
    for (int i = 0; i < 3; i++) {
        const Event *end =
            viewer_turn_end(v, send_prompt(stack, id, "SLOW 200\nhere")); /* not while it works */
        assert_int_equal(end->turn_ended->stop_reason, STOP_REASON_END_TURN);
        assert_string_equal(viewer_state(v, end->seq, SESSION_STATE_SUSPENDED)->state_changed->reason,
                            "IDLE");
    }
    GetSessionResponse *res = get_session(stack, id);
    assert_int_equal(res->session->idle_suspend_ms, 100);
    assert_int_equal(agent_remembers(stack, res->session->agent_session_id, "user"),
                     3); /* one conversation */
    rpc_message_free(res);
    change_idle(id, true, 0);
    viewer_state(v, viewer_turn_end(v, send_prompt(stack, id, "x"))->seq, SESSION_STATE_IDLE);
    change_idle(id, false, 0);
    size_t at = v->n;
    change_idle(id, true, 100); /* counts for one that is idle already, after a crash too */
    stack_crash_session(stack);
    viewer_state(v, at, SESSION_STATE_SUSPENDED);
    viewer_close(v);
}

static void what_works_or_is_over_is_not_suspended(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    send_prompt(stack, id, "HANG");
    viewer_until(v, 0, EVENT__KIND_TURN_STARTED, 1);
    assert_string_equal(try_suspend(stack, id).text, "TURN_RUNNING");
    assert_string_equal(try_resume(stack, id).text, "");
    cancel_turn(stack, id, 1);
    viewer_turn_end(v, 1);
    assert_string_equal(try_suspend(stack, id).text, "");
    uint64_t turn = send_prompt(stack, id, "at once"); /* waits for the end of the old process */
    assert_int_equal(viewer_turn_end(v, turn)->turn_ended->stop_reason, STOP_REASON_END_TURN);
    destroy_session(stack, id);
    assert_string_equal(try_suspend(stack, id).text, "SESSION_DESTROYED");
    assert_string_equal(try_resume(stack, id).text, "SESSION_DESTROYED");
    viewer_close(v);
}

/* ---- fork ---- */

static char *fork_session(const char *id, ForkMethod method, const char *request_id, char **ret_id)
{
    static char text[64];
    ForkSessionRequest req = FORK_SESSION_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)id;
    req.method = method;
    req.request_id = (char *)(uintptr_t)request_id;
    sa_error *err = NULL;
    ForkSessionResponse *res = fork_session_wait(stack->caller.channel, &req, NULL, &err);
    if (res) {
        assert_string_equal(res->session->parent_session_id, id);
        *ret_id = sa_strdup(res->session->session_id);
    }
    rpc_message_free(res);
    snprintf(text, sizeof text, "%s", err ? err->reason : "");
    sa_error_free(err);
    return text;
}

static void a_fork_goes_on_with_the_conversation_of_the_agent(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL), *copy = NULL, *again = NULL, *other = NULL;
    struct viewer *v = viewer_open(stack, id);
    viewer_turn_end(v, send_prompt(stack, id, "a common past"));
    viewer_state(v, viewer_turn_end(v, 1)->seq, SESSION_STATE_IDLE);
    assert_string_equal(fork_session(id, FORK_METHOD_AGENT, "f", &copy), "");
    assert_string_equal(fork_session(id, FORK_METHOD_AGENT, "f", &again), "");
    assert_string_equal(copy, again);
    assert_string_equal(fork_session(id, FORK_METHOD_HISTORY, "f", &other), "REQUEST_ID_REUSED");
    struct viewer *w = viewer_open(stack, copy);
    viewer_turn_end(w, send_prompt(stack, copy, "a way of its own"));
    const Event *e = viewer_until(w, 0, EVENT__KIND_SESSION_FORKED, 0);
    assert_int_equal(e->seq, 1);
    assert_string_equal(e->session_forked->parent_session_id, id);
    assert_string_equal(e->session_forked->author, "tester");
    assert_int_equal(e->session_forked->parent_seq, v->n);
    assert_int_equal(viewer_until(w, 0, EVENT__KIND_RESTORED, 0)->restored->method, RESTORE_METHOD_FORK);
    GetSessionResponse *parent = get_session(stack, id), *child = get_session(stack, copy);
    const char *theirs = child->session->agent_session_id, *ours = parent->session->agent_session_id;
    assert_int_equal(agent_remembers(stack, theirs, "user \"a common past\""), 1);
    assert_int_equal(agent_remembers(stack, theirs, "user \"a way of its own\""), 1);
    assert_int_equal(agent_remembers(stack, ours, "a way of its own"), 0);
    assert_int_equal(parent->session->head_seq, v->n); /* nothing happened to it */
    rpc_message_free(parent);
    rpc_message_free(child);
    viewer_turn_end(w, send_prompt(stack, copy, "ABORT"));
    viewer_turn_end(w, send_prompt(stack, copy, "still there"));
    child = get_session(stack, copy);
    assert_int_equal(agent_remembers(stack, child->session->agent_session_id, "user \"still there\""), 1);
    rpc_message_free(child);
    viewer_close(v);
    viewer_close(w);
}

static void without_that_it_is_told_the_history(void **state)
{
    (void)state;
    static const char *const env[] = {"MOCK_NO_FORK=1", NULL};
    cleanup_free char *id = create_session(stack, "mock", env), *copy = NULL;
    struct viewer *v = viewer_open(stack, id);
    viewer_state(v, viewer_turn_end(v, send_prompt(stack, id, "a common past"))->seq, SESSION_STATE_IDLE);
    assert_string_equal(fork_session(id, FORK_METHOD_AGENT, "", &copy), "FORK_UNSUPPORTED");
    assert_string_equal(fork_session(id, FORK_METHOD_UNSPECIFIED, "", &copy), "");
    stack_crash_session(stack);
    struct viewer *w = viewer_open(stack, copy);
    viewer_turn_end(w, send_prompt(stack, copy, "a way of its own"));
    assert_int_equal(viewer_until(w, 0, EVENT__KIND_RESTORED, 0)->restored->method, RESTORE_METHOD_REPLAY);
    GetSessionResponse *child = get_session(stack, copy);
    assert_int_equal(agent_remembers(stack, child->session->agent_session_id, "User: a common past"), 2);
    rpc_message_free(child);
    send_prompt(stack, id, "HANG");
    viewer_until(v, 0, EVENT__KIND_TURN_STARTED, 2);
    cleanup_free char *none = NULL;
    assert_string_equal(fork_session(id, FORK_METHOD_UNSPECIFIED, "", &none), "TURN_RUNNING");
    viewer_close(v);
    viewer_close(w);
}

/* A copy that might do what its parent must not would be a way around the policy. */
static void a_fork_keeps_the_policy(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL), *copy = NULL;
    struct viewer *v = viewer_open(stack, id);
    viewer_state(v, viewer_turn_end(v, send_prompt(stack, id, "a common past"))->seq, SESSION_STATE_IDLE);
    SetPolicyRequest req = SET_POLICY_REQUEST__INIT;
    req.session_id = id;
    req.mode = POLICY_MODE_DENY_ALL;
    rpc_message_free(set_policy_wait(stack->caller.channel, &req, NULL, NULL));
    assert_string_equal(fork_session(id, FORK_METHOD_UNSPECIFIED, "", &copy), "");
    stack_crash_session(stack);
    struct viewer *w = viewer_open(stack, copy);
    uint64_t turn = send_prompt(stack, copy, "TOOL edit ./a");
    const PermissionResolved *r =
        viewer_until(w, 0, EVENT__KIND_PERMISSION_RESOLVED, turn)->permission_resolved;
    assert_int_equal(r->decider, PERMISSION_DECIDER_POLICY);
    viewer_turn_end(w, turn);
    viewer_close(v);
    viewer_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_resume),
        cmocka_unit_test(by_load),
        cmocka_unit_test(by_history),
        cmocka_unit_test(an_idle_agent_ends_and_the_next_prompt_brings_it_back),
        cmocka_unit_test(what_works_or_is_over_is_not_suspended),
        cmocka_unit_test(a_fork_goes_on_with_the_conversation_of_the_agent),
        cmocka_unit_test(without_that_it_is_told_the_history),
        cmocka_unit_test(a_fork_keeps_the_policy),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
