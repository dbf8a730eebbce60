/* Searches in logs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/clock.h"
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

static SearchEventsResponse *search(const char *session, const char *text, int size, const char *token)
{
    SearchEventsRequest req = SEARCH_EVENTS_REQUEST__INIT;
    sa_error *err = NULL;
    req.session_id = (char *)(uintptr_t)session;
    req.text = (char *)(uintptr_t)text;
    req.page_size = size;
    req.page_token = (char *)(uintptr_t)token;
    SearchEventsResponse *res = search_events_wait(stack->caller.channel, &req, NULL, &err);
    if (!res)
        fail_msg("SearchEvents: %s: %s", err->reason, err->message);
    return res;
}

static void assert_refused(const char *session, const char *text, const char *token, const char *reason)
{
    SearchEventsRequest req = SEARCH_EVENTS_REQUEST__INIT;
    cleanup_error sa_error *err = NULL;
    req.session_id = (char *)(uintptr_t)session;
    req.text = (char *)(uintptr_t)text;
    req.page_token = (char *)(uintptr_t)token;
    assert_null(search_events_wait(stack->caller.channel, &req, NULL, &err));
    assert_string_equal(err->reason, reason);
}

static char *talk(const char *text)
{
    char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    viewer_state(v, viewer_turn_end(v, send_prompt(stack, id, text))->seq, SESSION_STATE_IDLE);
    viewer_close(v);
    return id;
}

static void a_text_is_found_in_all_that_was_said(void **state)
{
    (void)state;
    cleanup_free char *id =
        talk("THINK about Apples\nan answer with apples that comes in pieces\nPLAN buy APPLES");
    SearchEventsResponse *res = search(id, "apples", 0, "");
    /* The prompt, the thought, the answer, the plan. */
    assert_int_equal(res->n_hits, 4);
    assert_string_equal(res->next_page_token, "");
    assert_non_null(strstr(res->hits[1]->snippet, "about Apples"));
    assert_non_null(strstr(res->hits[2]->snippet, "an answer with apples"));
    for (size_t i = 0; i < res->n_hits; i++) {
        assert_string_equal(res->hits[i]->session_id, id);
        assert_int_equal(res->hits[i]->turn, 1);
        assert_non_null(res->hits[i]->time);
        assert_true(!i || res->hits[i]->seq > res->hits[i - 1]->seq);
    }
    rpc_message_free(res);
    res = search(id, "pears", 0, "");
    assert_int_equal(res->n_hits, 0);
    assert_string_equal(res->next_page_token, "");
    rpc_message_free(res);
    assert_refused(id, "", "", "INVALID_REQUEST");
    assert_refused("01kb0000000000000000000000", "x", "", "SESSION_NOT_FOUND");
    assert_refused(id, "x", "nonsense", "INVALID_PAGE_TOKEN");
}

static void pages_tell_each_hit_once(void **state)
{
    (void)state;
    cleanup_free char *first = talk("BURST 3000");
    free(talk("BURST 1500"));
    free(talk("nothing"));
    const char *const asked[] = {first, ""};
    for (int i = 0; i < 2; i++) {
        size_t hits = 0, expected = i ? 4500 : 3000;
        cleanup_free char *token = sa_strdup("");
        uint64_t last = 0;
        char session[64] = "";
        do {
            SearchEventsResponse *res = search(asked[i], "TICK ", 700, token);
            for (size_t k = 0; k < res->n_hits; k++, hits++) {
                if (strcmp(session, res->hits[k]->session_id)) {
                    assert_true(!*session ||
                                strcmp(session, res->hits[k]->session_id) > 0); /* newest first */
                    snprintf(session, sizeof session, "%s", res->hits[k]->session_id);
                    last = 0;
                }
                assert_true(res->hits[k]->seq > last);
                last = res->hits[k]->seq;
            }
            free(token);
            token = sa_strdup(res->next_page_token);
            rpc_message_free(res);
            if (*token)
                assert_refused(asked[i], "another", token, "INVALID_PAGE_TOKEN");
        } while (*token);
        assert_int_equal(hits, expected);
    }
}

static void searches_at_once_are_limited_and_leave_with_their_callers(void **state)
{
    (void)state;
    cleanup_free char *id = talk("BURST 60000");
    SearchEventsRequest req = SEARCH_EVENTS_REQUEST__INIT;
    struct rpc_call_options opt = {.deadline_ms = 5}; /* gone before it is done */
    req.session_id = id;
    req.text = (char[]){"not there"};
    for (int i = 0; i < 20; i++)
        rpc_message_free(search_events_wait(stack->caller.channel, &req, &opt, NULL));
    /* None of them is still counted, once they had time to notice. */
    uint64_t until = sa_now_ms() + PATIENCE_MS;
    for (;;) {
        sa_error *err = NULL;
        SearchEventsResponse *res = search_events_wait(stack->caller.channel, &req, NULL, &err);
        if (res) {
            assert_int_equal(res->n_hits, 0);
            rpc_message_free(res);
            break;
        }
        assert_string_equal(err->reason, "TOO_MANY");
        assert_true(sa_now_ms() < until);
        sa_error_free(err);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_text_is_found_in_all_that_was_said, start, stop),
        cmocka_unit_test_setup_teardown(pages_tell_each_hit_once, start, stop),
        cmocka_unit_test_setup_teardown(searches_at_once_are_limited_and_leave_with_their_callers, start,
                                        stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
