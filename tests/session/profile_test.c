/* Title, labels, archive: changed by several people, found again in lists. */
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

/* The reason, or "". */
static char *reason_of(sa_error *err)
{
    static char text[64];
    snprintf(text, sizeof text, "%s", err ? err->reason : "");
    sa_error_free(err);
    return text;
}

static char *create(const char *title, const char *label)
{
    CreateSessionRequest req = CREATE_SESSION_REQUEST__INIT;
    CreateSessionRequest__LabelsEntry entry = CREATE_SESSION_REQUEST__LABELS_ENTRY__INIT,
                                      *entries[] = {&entry};
    req.agent = (char[]){"mock"};
    req.title = (char *)(uintptr_t)title;
    entry.key = (char[]){"team"};
    entry.value = (char *)(uintptr_t)label;
    req.labels = entries;
    req.n_labels = 1;
    char *id = NULL;
    assert_string_equal(try_create(stack, &req, &id).text, "");
    return id;
}

static char *rename_session(const char *id, const char *field, const char *title, const char *etag)
{
    UpdateSessionRequest req = UPDATE_SESSION_REQUEST__INIT;
    Google__Protobuf__FieldMask mask = GOOGLE__PROTOBUF__FIELD_MASK__INIT;
    char *paths[] = {(char *)(uintptr_t)field};
    mask.paths = paths;
    mask.n_paths = 1;
    req.session_id = (char *)(uintptr_t)id;
    req.update_mask = &mask;
    req.title = (char *)(uintptr_t)title;
    req.etag = (char *)(uintptr_t)etag;
    sa_error *err = NULL;
    rpc_message_free(update_session_wait(stack->caller.channel, &req, NULL, &err));
    return reason_of(err);
}

static char *archive(const char *id, const char *etag)
{
    ArchiveSessionRequest req = ARCHIVE_SESSION_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)id;
    req.etag = (char *)(uintptr_t)etag;
    sa_error *err = NULL;
    rpc_message_free(archive_session_wait(stack->caller.channel, &req, NULL, &err));
    return reason_of(err);
}

static char *unarchive(const char *id)
{
    UnarchiveSessionRequest req = UNARCHIVE_SESSION_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)id;
    sa_error *err = NULL;
    rpc_message_free(unarchive_session_wait(stack->caller.channel, &req, NULL, &err));
    return reason_of(err);
}

static void the_second_of_two_who_read_the_same_is_told(void **state)
{
    (void)state;
    cleanup_free char *id = create("first", "a");
    struct viewer *v = viewer_open(stack, id);
    GetSessionResponse *res = get_session(stack, id);
    assert_string_equal(res->session->title, "first");
    cleanup_free char *etag = sa_strdup(res->session->etag);
    rpc_message_free(res);
    assert_string_equal(rename_session(id, "title", "mine", etag), "");
    assert_string_equal(rename_session(id, "title", "mine", etag), ""); /* retried: it is so */
    assert_string_equal(rename_session(id, "title", "yours", etag), "ETAG_MISMATCH");
    assert_string_equal(archive(id, etag), "ETAG_MISMATCH");
    assert_string_equal(rename_session(id, "title", "last", ""), "");
    assert_string_equal(rename_session(id, "creator", "me", ""), "INVALID_REQUEST");
    assert_string_equal(rename_session(id, "labels", "", ""), "");
    stack_crash_session(stack);
    res = get_session(stack, id);
    assert_string_equal(res->session->title, "last");
    assert_int_equal(res->session->n_labels, 0);
    assert_int_equal(res->as_of_seq, res->session->head_seq);
    rpc_message_free(res);
    const Event *e = viewer_until(v, 0, EVENT__KIND_SESSION_UPDATED, 0);
    assert_string_equal(e->session_updated->title, "mine");
    assert_string_equal(e->session_updated->author, "tester");
    assert_string_equal(e->session_updated->labels[0]->value, "a");
    char *longest = sa_malloc(258);
    memset(longest, 'x', 257);
    longest[257] = '\0';
    assert_string_equal(rename_session(id, "title", longest, ""), "INVALID_REQUEST");
    longest[256] = '\0';
    assert_string_equal(rename_session(id, "title", longest, ""), "");
    free(longest);
    viewer_close(v);
}

static size_t listed(const ListSessionsRequest *req, const char *id)
{
    ListSessionsResponse *res = list_sessions_wait(stack->caller.channel, req, NULL, NULL);
    assert_non_null(res);
    size_t n = 0;
    for (size_t i = 0; i < res->n_sessions; i++)
        n += !strcmp(res->sessions[i]->session_id, id);
    rpc_message_free(res);
    return n;
}

static void an_archived_session_is_out_of_the_way(void **state)
{
    (void)state;
    cleanup_free char *id = create("old", "a");
    struct viewer *v = viewer_open(stack, id);
    send_prompt(stack, id, "HANG");
    assert_string_equal(archive(id, ""), "TURN_RUNNING");
    viewer_until(v, 0, EVENT__KIND_TURN_STARTED, 1);
    cancel_turn(stack, id, 1);
    viewer_state(v, viewer_turn_end(v, 1)->seq, SESSION_STATE_IDLE);
    assert_string_equal(archive(id, ""), "");
    assert_string_equal(archive(id, ""), "");
    const Event *e = viewer_until(v, 0, EVENT__KIND_SESSION_UPDATED, 0);
    assert_true(e->session_updated->archived);
    viewer_state(v, e->seq, SESSION_STATE_SUSPENDED);
    ListSessionsRequest req = LIST_SESSIONS_REQUEST__INIT;
    assert_int_equal(listed(&req, id), 0);
    req.archived = ARCHIVED_FILTER_ONLY;
    assert_int_equal(listed(&req, id), 1);
    req.archived = ARCHIVED_FILTER_ALL;
    assert_int_equal(listed(&req, id), 1);
    assert_string_equal(try_prompt(stack, id, "more", "", NULL).text, "SESSION_ARCHIVED");
    stack_crash_session(stack);
    assert_string_equal(try_prompt(stack, id, "more", "", NULL).text, "SESSION_ARCHIVED");
    assert_string_equal(unarchive(id), "");
    assert_string_equal(unarchive(id), "");
    req.archived = ARCHIVED_FILTER_HIDE;
    assert_int_equal(listed(&req, id), 1);
    assert_int_equal(viewer_turn_end(v, send_prompt(stack, id, "more"))->turn_ended->stop_reason,
                     STOP_REASON_END_TURN);
    viewer_close(v);
}

enum { SESSIONS = 12 };

static void lists_are_filtered_in_stable_pages(void **state)
{
    (void)state;
    char *ids[SESSIONS];
    for (int i = 0; i < SESSIONS; i++) {
        cleanup_free char *title = sa_format("%s number %d", i % 2 ? "Odd" : "even", i);
        ids[i] = create(title, i % 3 ? "blue" : "red");
    }
    ListSessionsRequest req = LIST_SESSIONS_REQUEST__INIT;
    ListSessionsRequest__LabelsEntry entry = LIST_SESSIONS_REQUEST__LABELS_ENTRY__INIT, *entries[] = {&entry};
    entry.key = (char[]){"team"};
    entry.value = (char[]){"blue"};
    req.labels = entries;
    req.n_labels = 1;
    req.title_contains = (char[]){"oDD num"};
    req.page_size = 1;
    req.page_token = sa_strdup("");
    cleanup_buf struct sa_buf found = {0};
    int pages = 0;
    do {
        ListSessionsResponse *res = list_sessions_wait(stack->caller.channel, &req, NULL, NULL);
        assert_non_null(res);
        assert_true(res->n_sessions <= 1);
        for (size_t i = 0; i < res->n_sessions; i++)
            sa_buf_addf(&found, "%s,", strrchr(res->sessions[i]->title, ' ') + 1);
        free(req.page_token);
        req.page_token = sa_strdup(res->next_page_token);
        rpc_message_free(res);
        if (pages++ == 1)
            free(create("Odd number new", "blue")); /* does not disturb */
    } while (*req.page_token);
    free(req.page_token);
    assert_string_equal(sa_buf_string(&found), "11,7,5,1,");

    ListSessionsRequest other = LIST_SESSIONS_REQUEST__INIT;
    other.agent = (char[]){"claude"};
    assert_int_equal(listed(&other, ids[0]), 0);
    other.agent = (char[]){"mock"};
    assert_int_equal(listed(&other, ids[0]), 1);
    SessionState destroyed[] = {SESSION_STATE_DESTROYED};
    other.states = destroyed;
    other.n_states = 1;
    assert_int_equal(listed(&other, ids[0]), 0);
    destroy_session(stack, ids[0]);
    assert_int_equal(listed(&other, ids[0]), 1);
    GetSessionResponse *res = get_session(stack, ids[5]);
    ListSessionsRequest later = LIST_SESSIONS_REQUEST__INIT;
    later.created_after = res->session->create_time;
    assert_int_equal(listed(&later, ids[5]), 0);
    assert_int_equal(listed(&later, ids[6]), 1);
    rpc_message_free(res);
    for (int i = 0; i < SESSIONS; i++)
        free(ids[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_second_of_two_who_read_the_same_is_told),
        cmocka_unit_test(an_archived_session_is_out_of_the_way),
        cmocka_unit_test(lists_are_filtered_in_stable_pages),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
