/* The inbox: who asks, who answers, what rules and deadlines do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static char *text_of(const char *s)
{
    return (char *)(uintptr_t)s;
}

static Permission *get(const char *permission, GetPermissionResponse **ret)
{
    GetPermissionRequest req = GET_PERMISSION_REQUEST__INIT;
    struct rpc_call_options opt = {.wait_for_ready = true};
    req.permission_id = text_of(permission);
    *ret = get_permission_wait(stack->caller.channel, &req, &opt, NULL);
    assert_non_null(*ret);
    return (*ret)->permission;
}

static size_t count(const char *session, PermissionState state, int page_size)
{
    cleanup_free char *token = sa_strdup("");
    size_t n = 0;
    do {
        ListPermissionsRequest req = LIST_PERMISSIONS_REQUEST__INIT;
        req.session_id = text_of(session);
        req.state = state;
        req.page_size = page_size;
        req.page_token = token;
        ListPermissionsResponse *res = list_permissions_wait(stack->caller.channel, &req, NULL, NULL);
        assert_non_null(res);
        for (size_t i = 0; i < res->n_permissions; i++)
            assert_true(!*session || !strcmp(res->permissions[i]->session_id, session));
        for (size_t i = 1; i < res->n_permissions; i++)
            assert_true(strcmp(res->permissions[i - 1]->permission_id, res->permissions[i]->permission_id) <
                        0);
        n += res->n_permissions;
        free(token);
        token = sa_strdup(res->next_page_token);
        rpc_message_free(res);
    } while (*token);
    return n;
}

static PolicyRule rule(const char *kind, const char *path, const char *command, PolicyAction action)
{
    PolicyRule r = POLICY_RULE__INIT;
    r.name = text_of("a rule");
    r.tool_kind = text_of(kind);
    r.path = text_of(path);
    r.command = text_of(command);
    r.action = action;
    return r;
}

/* Its etag: free() it; NULL: *ret_reason. */
static char *set_policy(const char *session, PolicyRule *rules, size_t n, uint64_t deadline_ms,
                        DeadlineAction action, const char *etag, struct reason *ret_reason)
{
    PolicyRule *list[8];
    PermissionPolicy p = PERMISSION_POLICY__INIT;
    SetPolicyRequest req = SET_POLICY_REQUEST__INIT;
    sa_error *err = NULL;
    for (size_t i = 0; i < n; i++)
        list[i] = &rules[i];
    p.rules = list;
    p.n_rules = n;
    p.deadline_ms = deadline_ms;
    p.on_deadline = action;
    p.etag = text_of(etag);
    req.session_id = text_of(session);
    req.policy = &p;
    SetPolicyResponse *res = set_policy_wait(stack->caller.channel, &req, NULL, &err);
    char *got = res ? sa_strdup(res->policy->etag) : NULL;
    if (err && ret_reason)
        snprintf(ret_reason->text, sizeof ret_reason->text, "%s", err->reason);
    else if (err)
        fail_msg("SetPolicy: %s", err->message);
    sa_error_free(err);
    rpc_message_free(res);
    return got;
}

static void set_mode(const char *session, PolicyMode mode)
{
    SetPolicyRequest req = SET_POLICY_REQUEST__INIT;
    req.session_id = text_of(session);
    req.mode = mode;
    SetPolicyResponse *res = set_policy_wait(stack->caller.channel, &req, NULL, NULL);
    assert_non_null(res);
    rpc_message_free(res);
}

/* ---- requests ---- */

static void an_answered_request_stays_in_the_list(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL), *other = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id), *w = viewer_open(stack, other);
    uint64_t turn = send_prompt(stack, id, "TOOL execute /tmp/x ls -l\nTOOL edit ./a");
    const PermissionRequested *asked =
        viewer_until(v, 0, EVENT__KIND_PERMISSION_REQUESTED, turn)->permission_requested;
    assert_int_equal(strlen(asked->arguments_sha256), 64);
    GetPermissionResponse *res;
    Permission *p = get(asked->permission_id, &res);
    assert_int_equal(p->state, PERMISSION_STATE_PENDING);
    assert_string_equal(p->session_id, id);
    assert_string_equal(p->arguments_sha256, asked->arguments_sha256);
    rpc_message_free(res);
    assert_string_equal(try_answer(stack, id, asked->permission_id, "allow").text, "");
    p = get(asked->permission_id, &res);
    assert_int_equal(p->state, PERMISSION_STATE_RESOLVED);
    assert_int_equal(p->resolution->decider, PERMISSION_DECIDER_CALLER);
    assert_string_equal(p->resolution->author, "tester");
    assert_string_equal(p->resolution->option_id, "allow");
    assert_string_equal(p->tool_call->tool_kind, "execute");
    const Event *told = viewer_until(v, 0, EVENT__KIND_PERMISSION_RESOLVED, turn);
    assert_int_equal(told->seq, p->resolution->seq);
    assert_string_equal(told->permission_resolved->arguments_sha256, asked->arguments_sha256);
    rpc_message_free(res);
    viewer_until(v, told->seq, EVENT__KIND_PERMISSION_REQUESTED, turn);
    send_prompt(stack, other, "TOOL edit /x");
    viewer_until(w, 0, EVENT__KIND_PERMISSION_REQUESTED, 0);
    assert_int_equal(count(id, PERMISSION_STATE_UNSPECIFIED, 0), 1);
    assert_int_equal(count(id, PERMISSION_STATE_RESOLVED, 0), 1);
    assert_int_equal(count(id, PERMISSION_STATE_ANY, 1), 2);
    assert_int_equal(count("", PERMISSION_STATE_ANY, 1), 3);
    assert_int_equal(count("", PERMISSION_STATE_PENDING, 1), 2);
    cancel_turn(stack, id, 0);
    cancel_turn(stack, other, 0);
    viewer_turn_end(v, turn);
    viewer_turn_end(w, 1);
    viewer_close(v);
    viewer_close(w);
}

static void a_repeated_answer_gets_the_first_ones_seq(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    uint64_t turn = send_prompt(stack, id, "TOOL edit /x");
    const Event *asked = viewer_until(v, 0, EVENT__KIND_PERMISSION_REQUESTED, turn);
    AnswerPermissionRequest req = ANSWER_PERMISSION_REQUEST__INIT;
    req.session_id = id;
    req.permission_id = asked->permission_requested->permission_id;
    req.option_id = text_of("always");
    req.request_id = text_of("mine");
    uint64_t seqs[2] = {0};
    for (int i = 0; i < 2; i++) {
        AnswerPermissionResponse *res = answer_permission_wait(stack->caller.channel, &req, NULL, NULL);
        assert_non_null(res);
        seqs[i] = res->seq;
        rpc_message_free(res);
        viewer_turn_end(v, turn);
    }
    assert_int_equal(seqs[0], seqs[1]);
    sa_error *err = NULL;
    req.option_id = text_of("reject");
    assert_null(answer_permission_wait(stack->caller.channel, &req, NULL, &err));
    assert_string_equal(err->reason, "REQUEST_ID_REUSED");
    sa_error_free(err);
    viewer_close(v);
}

/* ---- watching ---- */

static WatchPermissionsResponse *next(struct rpc_stream *s)
{
    WatchPermissionsResponse *m = NULL;
    assert_int_equal(watch_permissions_next(s, &m, NULL), 1);
    return m;
}

static void next_is(struct rpc_stream *s, WatchPermissionsResponse__KindCase kind)
{
    WatchPermissionsResponse *m = next(s);
    assert_int_equal(m->kind_case, kind);
    rpc_message_free(m);
}

static void next_is_permission(struct rpc_stream *s, const char *session, PermissionState state)
{
    WatchPermissionsResponse *m = next(s);
    assert_int_equal(m->kind_case, WATCH_PERMISSIONS_RESPONSE__KIND_PERMISSION);
    assert_string_equal(m->permission->session_id, session);
    assert_int_equal(m->permission->state, state);
    rpc_message_free(m);
}

static void who_watches_sees_what_waits_and_every_change(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL), *other = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id), *w = viewer_open(stack, other);
    uint64_t turn = send_prompt(stack, id, "TOOL edit /x\nTOOL edit /y");
    const Event *asked = viewer_until(v, 0, EVENT__KIND_PERMISSION_REQUESTED, turn);
    WatchPermissionsRequest req = WATCH_PERMISSIONS_REQUEST__INIT;
    struct rpc_call_options opt = {.deadline_ms = PATIENCE_MS};
    struct rpc_stream *all = watch_permissions_begin(stack->caller.channel, &req, &opt);
    req.session_id = id;
    struct rpc_stream *one = watch_permissions_begin(stack->caller.channel, &req, &opt);
    struct rpc_stream *both[] = {all, one};
    for (int i = 0; i < 2; i++) {
        next_is(both[i], WATCH_PERMISSIONS_RESPONSE__KIND_SNAPSHOT_BEGIN);
        next_is_permission(both[i], id, PERMISSION_STATE_PENDING);
        next_is(both[i], WATCH_PERMISSIONS_RESPONSE__KIND_SNAPSHOT_END);
    }
    send_prompt(stack, other, "TOOL edit /z");
    next_is_permission(all, other, PERMISSION_STATE_PENDING);
    try_answer(stack, id, asked->permission_requested->permission_id, "allow");
    for (int i = 0; i < 2; i++) {
        next_is_permission(both[i], id, PERMISSION_STATE_RESOLVED);
        next_is_permission(both[i], id, PERMISSION_STATE_PENDING);
    }
    cancel_turn(stack, id, 0);
    for (int i = 0; i < 2; i++)
        next_is_permission(both[i], id, PERMISSION_STATE_RESOLVED);
    cancel_turn(stack, other, 0);
    next_is_permission(all, other, PERMISSION_STATE_RESOLVED);
    rpc_stream_free(all);
    rpc_stream_free(one);
    viewer_turn_end(v, turn);
    viewer_turn_end(w, 1);
    viewer_close(v);
    viewer_close(w);
}

/* ---- deadlines ---- */

static void nobody_answers(const char *mode, DeadlineAction action, const char *prompt, const char *said)
{
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    free(set_policy(id, NULL, 0, 20, action, "", NULL));
    uint64_t turn = send_prompt(stack, id, prompt);
    viewer_turn_end(v, turn);
    cleanup_free char *text = viewer_text(v, turn);
    if (strcmp(text, said))
        fail_msg("%s: \"%s\" instead of \"%s\"", mode, text, said);
    viewer_close(v);
}

static void a_deadline_answers_as_it_was_told(void **state)
{
    (void)state;
    nobody_answers("allow", DEADLINE_ACTION_ALLOW_ONCE, "TOOL edit /x", "tool: allow\n");
    nobody_answers("deny", DEADLINE_ACTION_DENY, "TOOL edit /x", "tool: reject\n");
    nobody_answers("cancel", DEADLINE_ACTION_CANCEL, "TOOL edit /x", "tool: none\n");
    nobody_answers("decline", DEADLINE_ACTION_DENY, "ELICIT", "elicitation: {\"action\":\"decline\"}\n");
    nobody_answers("dismiss", DEADLINE_ACTION_CANCEL, "ELICIT", "elicitation: {\"action\":\"cancel\"}\n");
}

static void a_deadline_survives_a_restart_and_may_be_changed(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    free(set_policy(id, NULL, 0, 3600 * 1000, DEADLINE_ACTION_ALLOW_ONCE, "", NULL));
    uint64_t turn = send_prompt(stack, id, "TOOL edit /x");
    const Event *asked = viewer_until(v, 0, EVENT__KIND_PERMISSION_REQUESTED, turn);
    assert_non_null(asked->permission_requested->deadline);
    SetDeadlineRequest req = SET_DEADLINE_REQUEST__INIT;
    req.session_id = id;
    req.permission_id = asked->permission_requested->permission_id;
    req.deadline_ms = 300;
    req.on_deadline = DEADLINE_ACTION_DENY;
    SetDeadlineResponse *res = set_deadline_wait(stack->caller.channel, &req, NULL, NULL);
    assert_non_null(res);
    stack_crash_session(stack);
    const Event *resolved = viewer_until(v, 0, EVENT__KIND_PERMISSION_RESOLVED, turn);
    assert_int_equal(resolved->permission_resolved->decider, PERMISSION_DECIDER_DEADLINE);
    assert_string_equal(resolved->permission_resolved->option_id, "reject");
    const Event *changed = viewer_until(v, 0, EVENT__KIND_DEADLINE_CHANGED, turn);
    assert_int_equal(changed->seq, res->seq);
    assert_string_equal(changed->deadline_changed->author, "tester");
    rpc_message_free(res);
    viewer_turn_end(v, turn);
    struct reason late = try_answer(stack, id, req.permission_id, "allow");
    assert_string_equal(late.text, "PERMISSION_ALREADY_ANSWERED");
    assert_non_null(strstr(late.message, "deadline"));
    viewer_close(v);
}

/* ---- policies ---- */

static void rules_decide_when_a_request_arrives(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    PolicyRule rules[] = {
        rule("", "secret/**", "", POLICY_ACTION_DENY),
        rule("edit", "**", "", POLICY_ACTION_ALLOW_ONCE),
        rule("execute", "", "ls*", POLICY_ACTION_ALLOW_ALWAYS),
    };
    cleanup_free char *etag = set_policy(id, rules, 3, 0, 0, "", NULL);
    uint64_t turn =
        send_prompt(stack, id,
                    "TOOL edit src/a\nTOOL edit src/../secret/a\nTOOL edit ../a\nTOOL execute - ls -l\n"
                    "TOOL execute - ls; rm -rf /");
    size_t from = 0;
    for (int i = 0; i < 2; i++) { /* of the five, two are asked: the third and the last */
        const Event *waiting = viewer_state(v, from, SESSION_STATE_WAITING);
        const PermissionRequested *asked = v->events[waiting->seq - 2]->permission_requested;
        from = waiting->seq;
        assert_string_equal(try_answer(stack, id, asked->permission_id, "reject").text, "");
    }
    viewer_turn_end(v, turn);
    cleanup_free char *text = viewer_text(v, turn);
    assert_string_equal(text, "tool: allow\ntool: reject\ntool: reject\ntool: always\ntool: reject\n");
    const Event *first = viewer_until(v, 0, EVENT__KIND_PERMISSION_RESOLVED, turn);
    assert_int_equal(first->permission_resolved->decider, PERMISSION_DECIDER_POLICY);
    assert_int_equal(first->permission_resolved->rule->index, 1);
    assert_string_equal(first->permission_resolved->rule->rule->name, "a rule");
    const Event *set = viewer_until(v, 0, EVENT__KIND_POLICY_CHANGED, 0);
    assert_string_equal(set->policy_changed->policy->etag, etag);
    assert_string_equal(set->policy_changed->policy->author, "tester");
    viewer_close(v);
}

/* The request names only the call; what the call does was told before, and the service has been killed since.
 */
static void what_was_told_of_a_call_before_counts(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    cleanup_free char *file = sa_format("%s/told-before", stack->home);
    cleanup_free char *prompt = sa_format("PERMISSION %s yes", file);
    struct viewer *v = viewer_open(stack, id);
    set_mode(id, POLICY_MODE_ALLOW_EDITS);
    stack_crash_session(stack);
    uint64_t turn = send_prompt(stack, id, prompt);
    viewer_turn_end(v, turn);
    cleanup_free char *text = viewer_text(v, turn);
    assert_string_equal(text, "permission: allow\n");
    viewer_close(v);
}

static void two_who_set_a_policy_do_not_overwrite_each_other(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct reason why = {0};
    cleanup_free char *first = set_policy(id, NULL, 0, 0, 0, "0", NULL);
    assert_null(set_policy(id, NULL, 0, 0, 0, "0", &why));
    assert_string_equal(why.text, "ETAG_MISMATCH");
    cleanup_free char *second = set_policy(id, NULL, 0, 0, 0, first, NULL);
    assert_string_not_equal(first, second);
    PolicyRule bad = rule("", "../a", "", POLICY_ACTION_DENY);
    assert_null(set_policy(id, &bad, 1, 0, 0, "", &why));
    assert_string_equal(why.text, "INVALID_REQUEST");
    destroy_session(stack, id);
    assert_null(set_policy(id, NULL, 0, 0, 0, "", &why));
    assert_string_equal(why.text, "SESSION_DESTROYED");
}

static void the_servers_policy_counts_where_the_sessions_is_silent(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    set_mode("", POLICY_MODE_DENY_ALL);
    stack_crash_session(stack);
    PolicyRule own = rule("edit", "", "", POLICY_ACTION_ALLOW_ONCE);
    free(set_policy(id, &own, 1, 0, 0, "", NULL));
    uint64_t turn = send_prompt(stack, id, "TOOL edit /x\nTOOL execute - ls");
    viewer_turn_end(v, turn);
    cleanup_free char *text = viewer_text(v, turn);
    assert_string_equal(text, "tool: allow\ntool: reject\n");
    set_mode("", POLICY_MODE_ASK);
    GetPolicyRequest req = GET_POLICY_REQUEST__INIT;
    GetPolicyResponse *res = get_policy_wait(stack->caller.channel, &req, NULL, NULL);
    assert_non_null(res);
    assert_int_equal(res->policy->n_rules, 0);
    rpc_message_free(res);
    viewer_close(v);
}

/* ---- questions ---- */

static struct reason try_question(const char *session, const char *permission, ElicitationAction action,
                                  const char *content)
{
    AnswerElicitationRequest req = ANSWER_ELICITATION_REQUEST__INIT;
    struct reason r = {0};
    sa_error *err = NULL;
    req.session_id = text_of(session);
    req.permission_id = text_of(permission);
    req.action = action;
    req.content_json = (ProtobufCBinaryData){strlen(content), (uint8_t *)(uintptr_t)content};
    rpc_message_free(answer_elicitation_wait(stack->caller.channel, &req, NULL, &err));
    if (err)
        snprintf(r.text, sizeof r.text, "%s", err->reason);
    sa_error_free(err);
    return r;
}

static void a_question_is_answered_declined_or_dismissed(void **state)
{
    (void)state;
    static const struct {
        ElicitationAction action;
        const char *content, *said;
    } answers[] = {
        {ELICITATION_ACTION_ACCEPT, "{\"name\": \"Ada\",\"age\":36}",
         "elicitation: {\"action\":\"accept\",\"content\":{\"name\": \"Ada\",\"age\":36}}\n"},
        {ELICITATION_ACTION_DECLINE, "", "elicitation: {\"action\":\"decline\"}\n"},
        {ELICITATION_ACTION_CANCEL, "", "elicitation: {\"action\":\"cancel\"}\n"},
    };
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        uint64_t turn = send_prompt(stack, id, "ELICIT");
        const Event *asked = viewer_until(v, 0, EVENT__KIND_ELICITATION_REQUESTED, turn);
        const ElicitationRequested *q = asked->elicitation_requested;
        assert_string_equal(q->elicitation->message, "Who are you?");
        viewer_state(v, asked->seq, SESSION_STATE_WAITING);
        stack_crash_session(stack); /* it waits on */
        GetPermissionResponse *res;
        assert_non_null(get(q->permission_id, &res)->elicitation);
        rpc_message_free(res);
        assert_string_equal(try_question(id, q->permission_id, ELICITATION_ACTION_ACCEPT, "{}").text,
                            "INVALID_REQUEST");
        assert_string_equal(try_question(id, q->permission_id, ELICITATION_ACTION_ACCEPT, "{").text,
                            "INVALID_REQUEST");
        assert_string_equal(try_answer(stack, id, q->permission_id, "allow").text, "INVALID_REQUEST");
        assert_string_equal(try_question(id, q->permission_id, answers[i].action, answers[i].content).text,
                            "");
        assert_string_equal(try_question(id, q->permission_id, answers[i].action, answers[i].content).text,
                            "PERMISSION_ALREADY_ANSWERED");
        viewer_turn_end(v, turn);
        cleanup_free char *text = viewer_text(v, turn);
        assert_string_equal(text, answers[i].said);
        const Event *resolved = viewer_until(v, 0, EVENT__KIND_ELICITATION_RESOLVED, turn);
        assert_int_equal(resolved->elicitation_resolved->action, answers[i].action);
        assert_string_equal(resolved->elicitation_resolved->author, "tester");
    }
    uint64_t turn = send_prompt(stack, id, "ELICIT");
    viewer_until(v, 0, EVENT__KIND_ELICITATION_REQUESTED, turn);
    cancel_turn(stack, id, turn);
    assert_int_equal(viewer_turn_end(v, turn)->turn_ended->stop_reason, STOP_REASON_CANCELLED);
    const Event *resolved = viewer_until(v, 0, EVENT__KIND_ELICITATION_RESOLVED, turn);
    assert_int_equal(resolved->elicitation_resolved->action, ELICITATION_ACTION_CANCEL);
    cleanup_free char *invalid = NULL;
    turn = send_prompt(stack, id, "ASK elicitation/create");
    viewer_turn_end(v, turn);
    invalid = viewer_text(v, turn);
    assert_string_equal(invalid, "error: -32602\n");
    viewer_close(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answered_request_stays_in_the_list),
        cmocka_unit_test(a_repeated_answer_gets_the_first_ones_seq),
        cmocka_unit_test(who_watches_sees_what_waits_and_every_change),
        cmocka_unit_test(a_deadline_answers_as_it_was_told),
        cmocka_unit_test(a_deadline_survives_a_restart_and_may_be_changed),
        cmocka_unit_test(rules_decide_when_a_request_arrives),
        cmocka_unit_test(what_was_told_of_a_call_before_counts),
        cmocka_unit_test(two_who_set_a_policy_do_not_overwrite_each_other),
        cmocka_unit_test(the_servers_policy_counts_where_the_sessions_is_silent),
        cmocka_unit_test(a_question_is_answered_declined_or_dismissed),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
