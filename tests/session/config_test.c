/* Mode, model and other options: what the agent offers, what is asked of it, what it keeps. */
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
    static const char *const extra[] = {"--open-timeout-ms", "1000", NULL};
    stack = stack_start(extra);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    stack_free(stack);
    return 0;
}

static const char *const with_options[] = {"MOCK_CONFIG=1", NULL};

static struct reason configure(const char *id, const char *mode, const char *model, const char *level,
                               bool *ret_applied)
{
    ConfigureSessionRequest req = CONFIGURE_SESSION_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)id;
    req.mode_id = (char *)(uintptr_t)mode;
    req.model = (char *)(uintptr_t)model;
    req.thought_level = (char *)(uintptr_t)level;
    struct reason r = {0};
    sa_error *err = NULL;
    ConfigureSessionResponse *res = configure_session_wait(stack->caller.channel, &req, NULL, &err);
    if (res && ret_applied)
        *ret_applied = res->applied;
    if (err) {
        snprintf(r.text, sizeof r.text, "%s", err->reason);
        snprintf(r.message, sizeof r.message, "%s", err->message);
        sa_error_free(err);
    }
    rpc_message_free(res);
    return r;
}

static void works_with(struct viewer *v, const char *expected)
{
    uint64_t turn = send_prompt(stack, v->session, "CONFIG");
    viewer_turn_end(v, turn);
    cleanup_free char *text = viewer_text(v, turn);
    assert_string_equal(text, expected);
}

static void session_says(const char *id, const char *mode, const char *model, const char *level)
{
    GetSessionResponse *res = get_session(stack, id);
    assert_string_equal(res->session->mode_id, mode);
    assert_string_equal(res->session->model, model);
    assert_string_equal(res->session->thought_level, level);
    rpc_message_free(res);
}

static void what_the_agent_offers_is_told(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", with_options);
    struct viewer *v = viewer_open(stack, id);
    viewer_state(v, 0, SESSION_STATE_IDLE);
    GetSessionResponse *res = get_session(stack, id);
    assert_int_equal(res->n_config_options, 3);
    assert_string_equal(res->config_options[1]->option_id, "model");
    assert_string_equal(res->config_options[1]->value, "small");
    assert_int_equal(res->config_options[1]->n_choices, 4);
    assert_string_equal(res->config_options[1]->choices[1]->value, "large");
    assert_string_equal(res->config_options[2]->category, "thought_level");
    rpc_message_free(res);
    const Event *e = viewer_until(v, 0, EVENT__KIND_CONFIG_CHANGED, 0);
    assert_int_equal(e->config_changed->n_values, 3);
    assert_string_equal(e->config_changed->author, "");
    viewer_close(v);
}

/* The large model has an effort that the small one has not: the order matters. */
static void options_are_set_in_order_and_kept_by_the_next_process(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", with_options);
    struct viewer *v = viewer_open(stack, id);
    viewer_state(v, 0, SESSION_STATE_IDLE);
    bool applied = false;
    assert_string_equal(configure(id, "auto", "large", "high", &applied).text, "");
    assert_true(applied);
    session_says(id, "auto", "large", "high");
    const Event *asked = viewer_until(v, 0, EVENT__KIND_CONFIG_ASKED, 0);
    assert_int_equal(asked->config_asked->n_values, 3);
    assert_string_equal(asked->config_asked->author, "tester");
    const Event *e = viewer_until(v, asked->seq, EVENT__KIND_CONFIG_CHANGED, 0);
    assert_string_equal(e->config_changed->option_id, "model");
    assert_string_equal(e->config_changed->author, "tester");
    assert_true(e->agent_json.len > 0);
    works_with(v, "mode auto, model large, effort high\n");
    assert_string_equal(configure(id, "auto", "large", "high", &applied).text, ""); /* it is so */
    assert_int_equal(viewer_count(v, EVENT__KIND_CONFIG_ASKED), 1);
    size_t told = viewer_count(v, EVENT__KIND_CONFIG_CHANGED);

    viewer_turn_end(v, send_prompt(stack, id, "ABORT"));
    works_with(v, "mode auto, model large, effort high\n");
    assert_int_equal(viewer_count(v, EVENT__KIND_CONFIG_CHANGED), told); /* nothing new to tell */
    stack_crash_session(stack);
    viewer_turn_end(v, send_prompt(stack, id, "ABORT"));
    works_with(v, "mode auto, model large, effort high\n");
    assert_int_equal(viewer_count(v, EVENT__KIND_CONFIG_CHANGED), told);
    session_says(id, "auto", "large", "high");
    viewer_close(v);
}

static void what_is_not_offered_is_refused_and_changes_nothing(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", with_options);
    struct viewer *v = viewer_open(stack, id);
    viewer_state(v, 0, SESSION_STATE_IDLE);
    struct reason r = configure(id, "auto", "huge", "", NULL);
    assert_string_equal(r.text, "INVALID_REQUEST");
    assert_non_null(strstr(r.message, "small, large"));
    assert_string_equal(configure(id, "", "", "high", NULL).text, "INVALID_REQUEST");
    assert_string_equal(configure(id, "", "", "", NULL).text, "INVALID_REQUEST");
    r = configure(id, "", "broken", "", NULL);
    assert_string_equal(r.text, "AGENT_ERROR");
    assert_non_null(strstr(viewer_until(v, 0, EVENT__KIND_ERROR, 0)->error->message, "broken"));
    assert_string_equal(configure(id, "", "large", "none such", NULL).text, "INVALID_REQUEST");
    session_says(id, "ask", "large", "low");
    works_with(v, "mode ask, model large, effort low\n");
    viewer_close(v);

    cleanup_free char *plain = create_session(stack, "mock", NULL);
    v = viewer_open(stack, plain);
    viewer_state(v, 0, SESSION_STATE_IDLE);
    assert_string_equal(configure(plain, "", "large", "", NULL).text, "UNKNOWN_OPTION");
    assert_string_equal(configure(plain, "auto", "", "", NULL).text, "");
    session_says(plain, "auto", "", "");
    viewer_close(v);
}

static void a_session_is_created_with_its_configuration(void **state)
{
    (void)state;
    CreateSessionRequest req = CREATE_SESSION_REQUEST__INIT;
    EnvironmentVariable var = ENVIRONMENT_VARIABLE__INIT, *vars[] = {&var};
    CreateSessionRequest__OptionsEntry entry = CREATE_SESSION_REQUEST__OPTIONS_ENTRY__INIT,
                                       *entries[] = {&entry};
    var.name = (ProtobufCBinaryData){11, (uint8_t *)(char[]){"MOCK_CONFIG"}};
    var.value = (ProtobufCBinaryData){1, (uint8_t *)(char[]){"1"}};
    req.env = vars;
    req.n_env = 1;
    req.agent = (char[]){"mock"};
    req.mode_id = (char[]){"auto"};
    req.model = (char[]){"large"};
    entry.key = (char[]){"effort"};
    entry.value = (char[]){"high"};
    req.options = entries;
    req.n_options = 1;
    cleanup_free char *id = NULL;
    assert_string_equal(try_create(stack, &req, &id).text, "");
    struct viewer *v = viewer_open(stack, id);
    works_with(v, "mode auto, model large, effort high\n");
    session_says(id, "auto", "large", "high");
    viewer_close(v);
}

static void the_older_list_of_models_works_too(void **state)
{
    (void)state;
    static const char *const env[] = {"MOCK_MODELS=1", NULL};
    cleanup_free char *id = create_session(stack, "mock", env);
    struct viewer *v = viewer_open(stack, id);
    viewer_state(v, 0, SESSION_STATE_IDLE);
    bool applied = false;
    assert_string_equal(configure(id, "", "large", "", &applied).text, "");
    assert_true(applied);
    works_with(v, "mode ask, model large, effort low\n");
    viewer_close(v);
}

static void a_change_by_the_agent_is_told_and_kept(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", with_options);
    struct viewer *v = viewer_open(stack, id);
    viewer_state(v, 0, SESSION_STATE_IDLE);
    assert_string_equal(configure(id, "", "large", "", NULL).text, "");
    uint64_t turn = send_prompt(stack, id, "MODEL small");
    viewer_turn_end(v, turn);
    const Event *e = viewer_until(v, 0, EVENT__KIND_CONFIG_CHANGED, turn);
    assert_string_equal(e->config_changed->values[1]->value, "small");
    session_says(id, "ask", "small", "low");
    viewer_turn_end(v, send_prompt(stack, id, "ABORT"));
    works_with(v, "mode ask, model small, effort low\n");
    viewer_close(v);
}

static void without_a_process_the_wish_waits(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", with_options);
    struct viewer *v = viewer_open(stack, id);
    viewer_state(v, viewer_turn_end(v, send_prompt(stack, id, "ABORT"))->seq, SESSION_STATE_SUSPENDED);
    bool applied = true;
    assert_string_equal(configure(id, "", "large", "", &applied).text, "");
    assert_false(applied);
    assert_string_equal(configure(id, "", "huge", "", NULL).text, "INVALID_REQUEST");
    stack_crash_session(stack);
    works_with(v, "mode ask, model large, effort low\n");
    session_says(id, "ask", "large", "low");
    viewer_close(v);
}

/* It is ended, and the wish with it: else it would hang each time it is started. */
static void an_agent_that_does_not_answer_is_given_up_with_the_wish(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", with_options);
    struct viewer *v = viewer_open(stack, id);
    viewer_state(v, 0, SESSION_STATE_IDLE);
    assert_string_equal(configure(id, "", "silent", "", NULL).text, "AGENT_TIMEOUT");
    const Event *failed = viewer_state(v, 0, SESSION_STATE_FAILED);
    assert_string_equal(failed->state_changed->reason, "AGENT_TIMEOUT");
    works_with(v, "mode ask, model small, effort low\n");
    viewer_close(v);
}

static void a_wish_reaches_an_agent_that_works(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", with_options);
    struct viewer *v = viewer_open(stack, id);
    uint64_t turn = send_prompt(stack, id, "HANG");
    viewer_until(v, 0, EVENT__KIND_TURN_STARTED, turn);
    bool applied = false;
    assert_string_equal(configure(id, "auto", "", "", &applied).text, "");
    assert_true(applied);
    assert_int_equal(
        viewer_until(v, viewer_until(v, 0, EVENT__KIND_CONFIG_ASKED, 0)->seq, EVENT__KIND_CONFIG_CHANGED, 0)
            ->turn,
        turn);
    cancel_turn(stack, id, turn);
    assert_int_equal(viewer_turn_end(v, turn)->turn_ended->stop_reason, STOP_REASON_CANCELLED);
    viewer_close(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_agent_offers_is_told),
        cmocka_unit_test(options_are_set_in_order_and_kept_by_the_next_process),
        cmocka_unit_test(what_is_not_offered_is_refused_and_changes_nothing),
        cmocka_unit_test(a_session_is_created_with_its_configuration),
        cmocka_unit_test(the_older_list_of_models_works_too),
        cmocka_unit_test(a_change_by_the_agent_is_told_and_kept),
        cmocka_unit_test(without_a_process_the_wish_waits),
        cmocka_unit_test(an_agent_that_does_not_answer_is_given_up_with_the_wish),
        cmocka_unit_test(a_wish_reaches_an_agent_that_works),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
