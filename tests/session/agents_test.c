/* Permissions, files, and agents that misbehave: each is a clear answer in a bounded time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/file.h"
#include "adapters/os/sha256.h"
#include "tests/session/stack.h"

static struct stack *stack;

static int start(void **state)
{
    (void)state;
    static const char *const extra[] = {"--initialize-timeout-ms", "700", "--open-timeout-ms", "2000", NULL};
    stack = stack_start(extra);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    stack_free(stack);
    return 0;
}

static char *content_of(const char *file)
{
    struct sa_buf b = {0};
    char *text = sa_read_file(file, 1 << 20, &b, NULL) ? NULL : sa_strdup(sa_buf_string(&b));
    sa_buf_fini(&b);
    return text;
}

/* ---- permissions ---- */

static size_t count_pending(const char *session)
{
    ListPermissionsRequest req = LIST_PERMISSIONS_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)session;
    ListPermissionsResponse *res = list_permissions_wait(stack->caller.channel, &req, NULL, NULL);
    assert_non_null(res);
    size_t n = res->n_permissions;
    if (n)
        assert_int_equal(res->permissions[0]->n_options, 2);
    rpc_message_free(res);
    return n;
}

static void the_first_answer_wins_and_later_ones_learn_who(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    cleanup_free char *file = sa_format("%s/allowed", stack->home);
    cleanup_free char *prompt = sa_format("PERMISSION %s it is", file);
    struct viewer *v = viewer_open(stack, id);
    uint64_t turn = send_prompt(stack, id, prompt);
    const Event *asked = viewer_until(v, 0, EVENT__KIND_PERMISSION_REQUESTED, turn);
    const char *permission = asked->permission_requested->permission_id;
    assert_int_equal(asked->permission_requested->n_options, 2);
    viewer_state(v, asked->seq, SESSION_STATE_WAITING);
    assert_int_equal(count_pending(id), 1);
    assert_int_equal(count_pending(""), 1);
    assert_string_equal(try_answer(stack, id, permission, "perhaps").text, "INVALID_REQUEST");
    assert_string_equal(try_answer(stack, id, "00000000000000000000000000", "allow").text,
                        "PERMISSION_NOT_FOUND");
    assert_string_equal(try_answer(stack, id, permission, "allow").text, "");
    struct reason late = try_answer(stack, id, permission, "reject");
    assert_string_equal(late.text, "PERMISSION_ALREADY_ANSWERED");
    assert_non_null(strstr(late.message, "tester"));
    assert_int_equal(count_pending(id), 0);
    viewer_turn_end(v, turn);
    const Event *resolved = viewer_until(v, 0, EVENT__KIND_PERMISSION_RESOLVED, turn);
    assert_string_equal(resolved->permission_resolved->author, "tester");
    assert_string_equal(resolved->permission_resolved->option_id, "allow");
    cleanup_free char *content = content_of(file), *text = viewer_text(v, turn);
    assert_string_equal(content, "it is\n");
    assert_string_equal(text, "permission: allow\n");
    viewer_close(v);
}

static void a_rejected_and_a_cancelled_permission_do_nothing(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    cleanup_free char *file = sa_format("%s/never", stack->home), *prompt = sa_format("PERMISSION %s", file);
    struct viewer *v = viewer_open(stack, id);
    uint64_t turn = send_prompt(stack, id, prompt);
    const Event *asked = viewer_until(v, 0, EVENT__KIND_PERMISSION_REQUESTED, turn);
    assert_string_equal(try_answer(stack, id, asked->permission_requested->permission_id, "reject").text, "");
    assert_int_equal(viewer_turn_end(v, turn)->turn_ended->stop_reason, STOP_REASON_END_TURN);

    turn = send_prompt(stack, id, prompt);
    asked = viewer_until(v, 0, EVENT__KIND_PERMISSION_REQUESTED, turn);
    cancel_turn(stack, id, turn);
    assert_int_equal(viewer_turn_end(v, turn)->turn_ended->stop_reason, STOP_REASON_CANCELLED);
    const Event *resolved = viewer_until(v, 0, EVENT__KIND_PERMISSION_RESOLVED, turn);
    assert_int_equal(resolved->permission_resolved->outcome, PERMISSION_OUTCOME_CANCELLED);
    assert_true(access(file, F_OK) != 0);
    assert_string_equal(try_answer(stack, id, asked->permission_requested->permission_id, "allow").text,
                        "PERMISSION_ALREADY_ANSWERED");
    viewer_close(v);
}

static void a_permission_ends_with_its_agent(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    uint64_t turn = send_prompt(stack, id, "PERMISSION");
    const Event *asked = viewer_until(v, 0, EVENT__KIND_PERMISSION_REQUESTED, turn);
    destroy_session(stack, id);
    const Event *resolved = viewer_until(v, 0, EVENT__KIND_PERMISSION_RESOLVED, turn);
    assert_int_equal(resolved->permission_resolved->outcome, PERMISSION_OUTCOME_WITHDRAWN);
    assert_int_equal(viewer_turn_end(v, turn)->turn_ended->stop_reason, STOP_REASON_AGENT_EXITED);
    assert_string_equal(asked->permission_requested->permission_id,
                        resolved->permission_resolved->permission_id);
    assert_int_equal(count_pending(id), 0);
    viewer_close(v);
}

/* ---- files ---- */

static void files_are_read_and_written_through_fs_svc(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    cleanup_free char *file = sa_format("%s/work/new/file.txt", stack->home);
    cleanup_free char *prompt =
        sa_format("FSWRITE %s some text\nFSREAD %s\nFSREAD %s.missing\nFSREAD relative", file, file, file);
    struct viewer *v = viewer_open(stack, id);
    uint64_t turn = send_prompt(stack, id, prompt);
    assert_int_equal(viewer_turn_end(v, turn)->turn_ended->stop_reason, STOP_REASON_END_TURN);
    cleanup_free char *content = content_of(file), *text = viewer_text(v, turn);
    assert_string_equal(content, "some text");
    assert_string_equal(text, "ok: done\nok: some text\nerror: -32002\nerror: -32602\n");
    assert_int_equal(viewer_count(v, EVENT__KIND_FILE_ACCESS), 4);
    const Event *written = viewer_until(v, 0, EVENT__KIND_FILE_ACCESS, turn);
    assert_true(written->file_access->written);
    assert_int_equal(written->file_access->size, 9);
    const Event *missing = viewer_until(v, viewer_until(v, written->seq, EVENT__KIND_FILE_ACCESS, turn)->seq,
                                        EVENT__KIND_FILE_ACCESS, turn);
    assert_string_equal(missing->file_access->error_reason, "FILE_NOT_FOUND");
    viewer_close(v);
}

static void a_file_request_waits_for_fs_svc(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    cleanup_free char *file = sa_format("%s/later", stack->home),
                      *prompt = sa_format("TICK 1\nFSWRITE %s x", file);
    struct viewer *v = viewer_open(stack, id);
    program_signal(&stack->files, SIGSTOP);
    uint64_t turn = send_prompt(stack, id, prompt);
    viewer_until(v, 0, EVENT__KIND_AGENT_MESSAGE_CHUNK, turn);
    stack_crash_session(stack); /* the request is pending: it is made again */
    program_signal(&stack->files, SIGCONT);
    viewer_turn_end(v, turn);
    cleanup_free char *content = content_of(file), *text = viewer_text(v, turn);
    assert_string_equal(content, "x");
    assert_string_equal(text, "tick 1\nok: done\n");
    viewer_close(v);
}

/* ---- agents that do not start ---- */

static struct reason start_failure(const char *agent, const char *const *env, struct viewer **ret_viewer)
{
    cleanup_free char *id = create_session(stack, agent, env);
    struct viewer *v = viewer_open(stack, id);
    uint64_t turn = send_prompt(stack, id, "hello");
    const Event *failed = viewer_state(v, 0, SESSION_STATE_FAILED);
    struct reason r = {0};
    snprintf(r.text, sizeof r.text, "%s", failed->state_changed->reason);
    snprintf(r.message, sizeof r.message, "%s", failed->state_changed->message);
    const Event *end = viewer_turn_end(v, turn);
    assert_int_equal(end->turn_ended->stop_reason, STOP_REASON_ERROR);
    assert_true(*end->turn_ended->error_reason && *end->turn_ended->message);
    GetSessionResponse *res = get_session(stack, id);
    assert_int_equal(res->session->state, SESSION_STATE_FAILED);
    assert_true(*res->session->state_reason);
    rpc_message_free(res);
    if (ret_viewer)
        *ret_viewer = v;
    else
        viewer_close(v);
    return r;
}

static void an_unknown_agent_is_refused(void **state)
{
    (void)state;
    CreateSessionRequest req = CREATE_SESSION_REQUEST__INIT;
    req.agent = (char[]){"nobody"};
    struct reason r = try_create(stack, &req, NULL);
    assert_string_equal(r.text, "UNKNOWN_AGENT");
    assert_non_null(strstr(r.message, "nobody"));
    req.agent = (char[]){""};
    assert_string_equal(try_create(stack, &req, NULL).text, "INVALID_REQUEST");
    req.agent = (char[]){"mock"};
    req.cwd = (ProtobufCBinaryData){8, (uint8_t *)(char[]){"relative"}};
    assert_string_equal(try_create(stack, &req, NULL).text, "INVALID_REQUEST");
}

static void an_agent_that_is_not_installed_says_what_to_install(void **state)
{
    (void)state;
    struct reason r = start_failure("qwen", NULL, NULL);
    assert_string_equal(r.text, "AGENT_NOT_INSTALLED");
    assert_non_null(strstr(r.message, "@qwen-code/qwen-code@"));
}

static void a_missing_working_directory_is_named(void **state)
{
    (void)state;
    CreateSessionRequest req = CREATE_SESSION_REQUEST__INIT;
    req.agent = (char[]){"mock"};
    req.cwd = (ProtobufCBinaryData){12, (uint8_t *)(char[]){"/no/such/dir"}};
    cleanup_free char *id = NULL;
    assert_string_equal(try_create(stack, &req, &id).text, "");
    struct viewer *v = viewer_open(stack, id);
    const Event *failed = viewer_state(v, 0, SESSION_STATE_FAILED);
    assert_string_equal(failed->state_changed->reason, "EXEC_FAILED");
    assert_non_null(strstr(failed->state_changed->message, "/no/such/dir"));
    viewer_close(v);
}

static void an_agent_that_exits_at_once_is_quoted(void **state)
{
    (void)state;
    static const char *const env[] = {"MOCK_START=exit", NULL};
    struct reason r = start_failure("mock", env, NULL);
    assert_string_equal(r.text, "AGENT_EXITED");
    assert_non_null(strstr(r.message, "code 3"));
    assert_non_null(strstr(r.message, "told to exit at start")); /* its last words */
}

static void an_agent_that_never_answers_is_given_up(void **state)
{
    (void)state;
    static const char *const env[] = {"MOCK_START=silent", NULL};
    struct viewer *v;
    struct reason r = start_failure("mock", env, &v);
    assert_string_equal(r.text, "AGENT_TIMEOUT");
    assert_non_null(strstr(r.message, "initialize"));
    /* A prompt tries again. */
    size_t seen = v->n;
    send_prompt(stack, v->session, "again");
    viewer_state(v, seen, SESSION_STATE_STARTING);
    viewer_state(v, seen, SESSION_STATE_FAILED);
    viewer_close(v);
}

static void other_versions_and_refused_sessions_are_told(void **state)
{
    (void)state;
    static const char *const version[] = {"MOCK_START=protocol", NULL}, *const auth[] = {"MOCK_START=auth",
                                                                                         NULL};
    struct reason r = start_failure("mock", version, NULL);
    assert_string_equal(r.text, "AGENT_PROTOCOL_ERROR");
    r = start_failure("mock", auth, NULL);
    assert_string_equal(r.text, "AGENT_ERROR");
    assert_non_null(strstr(r.message, "Authentication required"));
}

static void early_output_is_kept(void **state)
{
    (void)state;
    static const char *const env[] = {"MOCK_START=garbage", "MOCK_EARLY=1", NULL};
    cleanup_free char *id = create_session(stack, "mock", env);
    struct viewer *v = viewer_open(stack, id);
    const Event *log = viewer_until(v, 0, EVENT__KIND_AGENT_LOG, 0);
    assert_string_equal(log->agent_log->text, "this is not JSON");
    const Event *early = viewer_until(v, 0, EVENT__KIND_AGENT_MESSAGE_CHUNK, 0);
    assert_string_equal(early->agent_message_chunk->content->text, "early");
    viewer_turn_end(v, send_prompt(stack, id, "fine"));
    viewer_close(v);
}

/* ---- agents that end ---- */

static uint64_t told_restored(struct viewer *v, size_t from, RestoreMethod method)
{
    const Event *e = viewer_until(v, from, EVENT__KIND_RESTORED, 0);
    assert_int_equal(e->restored->method, method);
    return e->seq;
}

/* Ends the agent three times; each time the next prompt takes the conversation up, and nothing is told twice.
 */
static void restored_by(const char *const *env, RestoreMethod method)
{
    cleanup_free char *id = create_session(stack, "mock", env);
    struct viewer *v = viewer_open(stack, id);
    viewer_turn_end(v, send_prompt(stack, id, "remember the milk"));
    size_t chunks = viewer_count(v, EVENT__KIND_AGENT_MESSAGE_CHUNK);
    for (int i = 0; i < 3; i++) {
        size_t from = v->n;
        uint64_t turn = send_prompt(stack, id, "ABORT");
        const Event *end = viewer_turn_end(v, turn);
        assert_int_equal(end->turn_ended->stop_reason, STOP_REASON_AGENT_EXITED);
        assert_string_equal(end->turn_ended->error_reason, "AGENT_EXITED");
        viewer_state(v, end->seq, SESSION_STATE_SUSPENDED);
        turn = send_prompt(stack, id, "STOP end_turn");
        assert_int_equal(viewer_turn_end(v, turn)->turn_ended->stop_reason, STOP_REASON_END_TURN);
        told_restored(v, from, method);
    }
    assert_int_equal(viewer_count(v, EVENT__KIND_USER_MESSAGE_CHUNK), 0);
    if (method != RESTORE_METHOD_REPLAY) {
        assert_int_equal(viewer_count(v, EVENT__KIND_AGENT_MESSAGE_CHUNK), chunks);
    } else {
        GetSessionResponse *res = get_session(stack, id);
        assert_true(agent_remembers(stack, res->session->agent_session_id, "User: remember the milk") > 0);
        rpc_message_free(res);
    }
    viewer_close(v);
}

static void an_agent_that_ended_is_resumed(void **state)
{
    (void)state;
    restored_by(NULL, RESTORE_METHOD_RESUME);
}

static void or_loaded(void **state)
{
    (void)state;
    static const char *const env[] = {"MOCK_NO_RESUME=1", NULL};
    restored_by(env, RESTORE_METHOD_LOAD);
}

static void or_told_its_history(void **state)
{
    (void)state;
    static const char *const env[] = {"MOCK_NO_RESUME=1", "MOCK_NO_LOAD=1", NULL};
    restored_by(env, RESTORE_METHOD_REPLAY);
}

static void an_idle_agent_that_ends_suspends_its_session(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    uint64_t turn = send_prompt(stack, id, "FAIL with a message");
    const Event *end = viewer_turn_end(v, turn);
    assert_int_equal(end->turn_ended->stop_reason, STOP_REASON_ERROR);
    assert_string_equal(end->turn_ended->error_reason, "AGENT_ERROR");
    assert_non_null(strstr(end->turn_ended->message, "with a message"));
    viewer_state(v, end->seq, SESSION_STATE_IDLE); /* an error does not end the agent */
    viewer_close(v);
}

/* ---- output without measure ---- */

static void a_line_over_the_limit_is_skipped_and_its_digest_told(void **state)
{
    (void)state;
    enum { SIZE = 100 * 1000 * 1000 };
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    cleanup_free char *prompt = sa_format("LINE %d\nand on it goes", SIZE);
    uint64_t turn = send_prompt(stack, id, prompt);
    assert_int_equal(viewer_turn_end(v, turn)->turn_ended->stop_reason, STOP_REASON_END_TURN);
    const Event *log = viewer_until(v, 0, EVENT__KIND_AGENT_LOG, turn);
    assert_int_equal(log->agent_log->full_size, SIZE);
    struct sa_sha256 sum;
    char expected[SA_SHA256_TEXT + 1], block[1000];
    memset(block, 'x', sizeof block);
    sa_sha256_init(&sum);
    for (int i = 0; i < SIZE / 1000; i++)
        sa_sha256_add(&sum, block, sizeof block);
    sa_sha256_end_text(&sum, expected);
    assert_string_equal(log->agent_log->sha256, expected);
    const Event *error = viewer_until(v, 0, EVENT__KIND_ERROR, turn);
    assert_string_equal(error->error->reason, "LINE_TOO_LONG");
    cleanup_free char *text = viewer_text(v, turn);
    assert_string_equal(text, "You said: and on it goes\n");
    viewer_close(v);
}

static void without_a_newline_it_ends_with_the_agent(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    uint64_t turn = send_prompt(stack, id, "RAW 100000000\nEXIT 1");
    assert_int_equal(viewer_turn_end(v, turn)->turn_ended->stop_reason, STOP_REASON_AGENT_EXITED);
    const Event *log = viewer_until(v, 0, EVENT__KIND_AGENT_LOG, turn);
    assert_int_equal(log->agent_log->full_size, 100000000);
    viewer_close(v);
}

static void large_messages_are_told_by_name_and_digest(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    uint64_t turn = send_prompt(stack, id, "BIG 600000\nBIG 5000000\nBIG 10");
    viewer_turn_end(v, turn);
    const Event *typed = viewer_until(v, 0, EVENT__KIND_AGENT_MESSAGE_CHUNK, turn);
    assert_int_equal(strlen(typed->agent_message_chunk->content->text), 600000);
    assert_int_equal(typed->agent_json.len, 0);
    const Event *unknown = viewer_until(v, 0, EVENT__KIND_UNKNOWN, turn);
    assert_string_equal(unknown->unknown->name, "agent_message_chunk");
    assert_true(unknown->unknown->full_size > 5000000);
    assert_int_equal(strlen(unknown->unknown->sha256), 64);
    viewer_close(v);
}

/* ---- what an agent gets ---- */

static void an_agent_gets_its_environment_and_no_other(void **state)
{
    (void)state;
    static const char *const env[] = {"MY_OWN=value with = and blanks", NULL};
    cleanup_free char *id = create_session(stack, "mock", env);
    struct viewer *v = viewer_open(stack, id);
    uint64_t turn = send_prompt(stack, id, "ENV MY_OWN\nENV HOME\nENV TEST_SRCDIR\nENV TERM\nENV LANG\nPWD");
    viewer_turn_end(v, turn);
    cleanup_free char *text = viewer_text(v, turn);
    cleanup_free char *expected =
        sa_format("MY_OWN=value with = and blanks\nHOME=%s\nTEST_SRCDIR is not set\n"
                  "TERM is not set\nLANG=C.UTF-8\n%s\n",
                  stack->home, stack->home);
    assert_string_equal(text, expected);
    viewer_close(v);
}

static void the_catalogue_says_what_is_there(void **state)
{
    (void)state;
    ListAgentsRequest req = LIST_AGENTS_REQUEST__INIT;
    ListAgentsResponse *res = list_agents_wait(stack->caller.channel, &req, NULL, NULL);
    assert_non_null(res);
    bool mock = false, claude = false;
    for (size_t i = 0; i < res->n_agents; i++) {
        mock |= !strcmp(res->agents[i]->agent, "mock") && res->agents[i]->installed;
        claude |= !strcmp(res->agents[i]->agent, "claude") && *res->agents[i]->npm_package;
    }
    assert_true(mock && claude);
    rpc_message_free(res);
}

static void sessions_are_listed_newest_first_in_pages(void **state)
{
    (void)state;
    enum { N = 7 };
    char *ids[N];
    CreateSessionRequest create = CREATE_SESSION_REQUEST__INIT;
    CreateSessionRequest__LabelsEntry label = CREATE_SESSION_REQUEST__LABELS_ENTRY__INIT,
                                      *labels[] = {&label};
    create.agent = (char[]){"mock"};
    label.key = (char[]){"list"};
    label.value = (char[]){"yes"};
    create.labels = labels;
    create.n_labels = 1;
    for (int i = 0; i < N; i++)
        assert_string_equal(try_create(stack, &create, &ids[i]).text, "");
    ListSessionsRequest req = LIST_SESSIONS_REQUEST__INIT;
    req.page_size = 3;
    req.label_key = label.key;
    req.label_value = label.value;
    cleanup_free char *token = sa_strdup("");
    int at = N;
    do {
        req.page_token = token;
        ListSessionsResponse *res = list_sessions_wait(stack->caller.channel, &req, NULL, NULL);
        assert_non_null(res);
        for (size_t i = 0; i < res->n_sessions; i++)
            assert_string_equal(res->sessions[i]->session_id, ids[--at]);
        free(token);
        token = sa_strdup(res->next_page_token);
        if (*token && at == N - 3) { /* a token of one list is none of another */
            ListSessionsRequest other = LIST_SESSIONS_REQUEST__INIT;
            other.page_token = token;
            sa_error *err = NULL;
            assert_null(list_sessions_wait(stack->caller.channel, &other, NULL, &err));
            assert_string_equal(err->reason, "INVALID_PAGE_TOKEN");
            sa_error_free(err);
        }
        rpc_message_free(res);
    } while (*token);
    assert_int_equal(at, 0);
    for (int i = 0; i < N; i++)
        free(ids[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_answer_wins_and_later_ones_learn_who),
        cmocka_unit_test(a_rejected_and_a_cancelled_permission_do_nothing),
        cmocka_unit_test(a_permission_ends_with_its_agent),
        cmocka_unit_test(files_are_read_and_written_through_fs_svc),
        cmocka_unit_test(a_file_request_waits_for_fs_svc),
        cmocka_unit_test(an_unknown_agent_is_refused),
        cmocka_unit_test(an_agent_that_is_not_installed_says_what_to_install),
        cmocka_unit_test(a_missing_working_directory_is_named),
        cmocka_unit_test(an_agent_that_exits_at_once_is_quoted),
        cmocka_unit_test(an_agent_that_never_answers_is_given_up),
        cmocka_unit_test(other_versions_and_refused_sessions_are_told),
        cmocka_unit_test(early_output_is_kept),
        cmocka_unit_test(an_agent_that_ended_is_resumed),
        cmocka_unit_test(or_loaded),
        cmocka_unit_test(or_told_its_history),
        cmocka_unit_test(an_idle_agent_that_ends_suspends_its_session),
        cmocka_unit_test(a_line_over_the_limit_is_skipped_and_its_digest_told),
        cmocka_unit_test(without_a_newline_it_ends_with_the_agent),
        cmocka_unit_test(large_messages_are_told_by_name_and_digest),
        cmocka_unit_test(an_agent_gets_its_environment_and_no_other),
        cmocka_unit_test(the_catalogue_says_what_is_there),
        cmocka_unit_test(sessions_are_listed_newest_first_in_pages),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
