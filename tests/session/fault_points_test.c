/* Dies at every fault point of session-svc, at the first times it comes there. What was asked for is asked
 * again; then the log is the one of a run in which nothing happened. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/clock.h"
#include "adapters/os/file.h"
#include "tests/session/stack.h"

#define POINTS "services/session-svc/fault_points"

enum { HITS = 3 };

/* Should the call be made again? */
static bool again(struct stack *t, struct reason r)
{
    if (strcmp(r.text, "UNAVAILABLE") && strcmp(r.text, "CANCELLED"))
        return false;
    stack_revive(t);
    return true;
}

static char *create(struct stack *t)
{
    CreateSessionRequest req = CREATE_SESSION_REQUEST__INIT;
    struct reason r;
    char *id = NULL;
    req.agent = (char[]){"mock"};
    req.mode_id = (char[]){"auto"};
    req.request_id = (char[]){"the session"};
    do
        r = try_create(t, &req, &id);
    while (again(t, r));
    assert_string_equal(r.text, "");
    return id;
}

static void prompt(struct stack *t, const char *id, const char *text, const char *request_id, uint64_t turn)
{
    struct reason r;
    uint64_t got = 0;
    do
        r = try_prompt(t, id, text, request_id, &got);
    while (again(t, r));
    assert_string_equal(r.text, "");
    assert_int_equal(got, turn);
}

static void answer(struct stack *t, const char *id, const char *permission)
{
    struct reason r;
    do
        r = try_answer(t, id, permission, "allow");
    while (again(t, r));
    assert_true(!*r.text || (t->deaths && !strcmp(r.text, "PERMISSION_ALREADY_ANSWERED")));
}

static void answer_question(struct stack *t, const char *id, const char *permission)
{
    static char content[] = "{\"name\":\"Ada\"}";
    AnswerElicitationRequest req = ANSWER_ELICITATION_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)id;
    req.permission_id = (char *)(uintptr_t)permission;
    req.action = ELICITATION_ACTION_ACCEPT;
    req.content_json = (ProtobufCBinaryData){strlen(content), (uint8_t *)content};
    req.request_id = (char[]){"the answer"};
    struct reason r;
    do {
        sa_error *err = NULL;
        rpc_message_free(answer_elicitation_wait(t->caller.channel, &req, NULL, &err));
        r = (struct reason){0};
        if (err)
            snprintf(r.text, sizeof r.text, "%s", err->reason);
        sa_error_free(err);
    } while (again(t, r));
    assert_string_equal(r.text, "");
}

/* What ends in /denied is denied, and nobody waits longer than a millisecond. */
static void set_policy(struct stack *t, const char *id)
{
    PolicyRule rule = POLICY_RULE__INIT, *rules[] = {&rule};
    PermissionPolicy policy = PERMISSION_POLICY__INIT;
    SetPolicyRequest req = SET_POLICY_REQUEST__INIT;
    rule.path = (char[]){"/**/denied"};
    rule.action = POLICY_ACTION_DENY;
    policy.rules = rules;
    policy.n_rules = 1;
    policy.deadline_ms = 1;
    policy.on_deadline = DEADLINE_ACTION_ALLOW_ONCE;
    req.session_id = (char *)(uintptr_t)id;
    req.policy = &policy;
    req.request_id = (char[]){"the policy"};
    struct reason r;
    do {
        sa_error *err = NULL;
        rpc_message_free(set_policy_wait(t->caller.channel, &req, NULL, &err));
        r = (struct reason){0};
        if (err)
            snprintf(r.text, sizeof r.text, "%s", err->reason);
        sa_error_free(err);
    } while (again(t, r));
    assert_string_equal(r.text, "");
}

static void cancel(struct stack *t, const char *id, uint64_t turn)
{
    struct reason r;
    do
        r = try_cancel(t, id, turn);
    while (again(t, r));
    assert_true(!*r.text || (t->deaths && !strcmp(r.text, "NO_TURN_RUNNING")));
}

static void must(struct reason r)
{
    assert_string_equal(r.text, "");
}

static void move(struct stack *t, const char *id, uint64_t turn, uint32_t position)
{
    struct reason r;
    do
        r = try_move(t, id, turn, position, NULL);
    while (again(t, r));
    must(r);
}

static void suspend(struct stack *t, const char *id)
{
    struct reason r;
    do
        r = try_suspend(t, id);
    while (again(t, r));
    must(r);
}

static void resume(struct stack *t, const char *id)
{
    struct reason r;
    do
        r = try_resume(t, id);
    while (again(t, r));
    must(r);
}

static void withdraw(struct stack *t, const char *id, uint64_t turn)
{
    struct reason r;
    do
        r = try_withdraw(t, id, turn);
    while (again(t, r));
    must(r);
}

static void steer(struct stack *t, const char *id, const char *text, const char *request_id, uint64_t turn)
{
    struct reason r;
    uint64_t got = 0;
    do
        r = try_steer(t, id, 0, text, request_id, STEER_FALLBACK_CANCEL, &got);
    while (again(t, r));
    must(r);
    assert_int_equal(got, turn);
}

static void rename_it(struct stack *t, const char *id)
{
    UpdateSessionRequest req = UPDATE_SESSION_REQUEST__INIT;
    Google__Protobuf__FieldMask mask = GOOGLE__PROTOBUF__FIELD_MASK__INIT;
    char *paths[] = {(char[]){"title"}};
    mask.paths = paths;
    mask.n_paths = 1;
    req.session_id = (char *)(uintptr_t)id;
    req.update_mask = &mask;
    req.title = (char[]){"a title"};
    struct reason r;
    do {
        sa_error *err = NULL;
        rpc_message_free(update_session_wait(t->caller.channel, &req, NULL, &err));
        r = (struct reason){0};
        snprintf(r.text, sizeof r.text, "%s", err ? err->reason : "");
        sa_error_free(err);
    } while (again(t, r));
    must(r);
}

static void destroy(struct stack *t, const char *id)
{
    DestroySessionRequest req = DESTROY_SESSION_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)id;
    for (;;) {
        sa_error *err = NULL;
        DestroySessionResponse *res = destroy_session_wait(t->caller.channel, &req, NULL, &err);
        if (res) {
            rpc_message_free(res);
            return;
        }
        assert_true(err->code == SA_CODE_UNAVAILABLE || err->code == SA_CODE_CANCELLED);
        sa_error_free(err);
        stack_revive(t);
    }
}

/* The log as a file, and that file as a session. */
static char *copy(struct stack *t, const char *id)
{
    cleanup_buf struct sa_buf transcript = export_session(t, id);
    struct imported r;
    struct reason reason;
    do {
        r = import_session(t, &transcript, 1 << 20, "the copy");
        snprintf(reason.text, sizeof reason.text, "%s", r.reason);
    } while (again(t, reason));
    assert_string_equal(r.reason, "");
    return sa_strdup(r.session);
}

static void upload(struct stack *t, const char *id)
{
    struct reason r;
    do
        r = write_blob(t, id, (const uint8_t *)"a picture", 9, 9);
    while (again(t, r));
    assert_string_equal(r.text, "");
}

/* Shortens the log. */
static void shorten(struct stack *t, const char *id)
{
    Retention r = RETENTION__INIT;
    GetSessionRequest req = GET_SESSION_REQUEST__INIT;
    uint64_t first = 0, until = sa_now_ms() + PATIENCE_MS;
    r.max_events = 5;
    while (again(t, try_retention(t, id, &r, NULL)))
        ;
    req.session_id = (char *)(uintptr_t)id;
    while (first < 2 && sa_now_ms() < until) {
        sa_error *err = NULL;
        GetSessionResponse *res = get_session_wait(t->caller.channel, &req, NULL, &err);
        if (res)
            first = res->session->first_seq;
        else
            stack_revive(t);
        sa_error_free(err);
        rpc_message_free(res);
    }
    assert_true(first > 1);
}

/* What an event tells, without what differs from run to run: times, ids, pids. */
static void describe(struct sa_buf *out, const Event *e)
{
    const ProtobufCFieldDescriptor *f =
        protobuf_c_message_descriptor_get_field(&event__descriptor, (unsigned)e->kind_case);
    sa_buf_addf(out, "%d %d %s", (int)e->seq, (int)e->turn, f->name);
    switch (e->kind_case) {
    case EVENT__KIND_STATE_CHANGED:
        sa_buf_addf(out, " %d %s", (int)e->state_changed->state, e->state_changed->reason);
        break;
    case EVENT__KIND_AGENT_MESSAGE_CHUNK:
        if (e->agent_message_chunk->content->kind_case == CONTENT_BLOCK__KIND_TEXT)
            sa_buf_addf(out, " %s", e->agent_message_chunk->content->text);
        else
            sa_buf_addf(out, " %s", e->agent_message_chunk->content->image->blob);
        break;
    case EVENT__KIND_TURN_ENDED:
        sa_buf_addf(out, " %d %s", (int)e->turn_ended->stop_reason, e->turn_ended->error_reason);
        break;
    case EVENT__KIND_PERMISSION_RESOLVED:
        sa_buf_addf(out, " %d %s %s", (int)e->permission_resolved->outcome, e->permission_resolved->option_id,
                    e->permission_resolved->author);
        sa_buf_addf(out, " %d", (int)e->permission_resolved->decider);
        break;
    case EVENT__KIND_ELICITATION_RESOLVED:
        sa_buf_addf(out, " %d", (int)e->elicitation_resolved->action);
        break;
    case EVENT__KIND_FILE_ACCESS:
        sa_buf_addf(out, " %d %d %s", e->file_access->written, (int)e->file_access->size,
                    e->file_access->error_reason);
        break;
    case EVENT__KIND_TERMINAL_ENDED:
        sa_buf_addf(out, " %d %d", (int)e->terminal_ended->kind_case, (int)e->terminal_ended->signal);
        break;
    case EVENT__KIND_RESTORED:
        sa_buf_addf(out, " %d", (int)e->restored->method);
        break;
    default:
        break;
    }
    sa_buf_addf(out, "\n");
}

/* Everything a session can go through, and its log as text. */
static char *live(const char *fault, int *ret_deaths)
{
    struct stack *t = stack_start_faulty(NULL, fault);
    cleanup_free char *permitted = sa_format("%s/permitted", t->home),
                      *written = sa_format("%s/written", t->home);
    cleanup_free char *text =
        sa_format("TICK 3\nIMAGE 300000\nELICIT\nPERMISSION %s yes\nTOOL edit /x/denied\nTOOL edit "
                  "/x/y\nFSWRITE %s x\nFSREAD %s\nTERMINAL echo ran >> %s\n"
                  "TERMKILL echo begun; sleep 1000\nTICK 2",
                  permitted, written, written, written);
    cleanup_free char *id = create(t);
    struct viewer *v = viewer_open(t, id);
    viewer_state(v, 0, SESSION_STATE_IDLE);
    upload(t, id);
    prompt(t, id, text, "first", 1);
    const Event *question = viewer_until(v, 0, EVENT__KIND_ELICITATION_REQUESTED, 1);
    answer_question(t, id, question->elicitation_requested->permission_id);
    const Event *asked = viewer_until(v, 0, EVENT__KIND_PERMISSION_REQUESTED, 1);
    set_policy(t, id);
    answer(t, id, asked->permission_requested->permission_id);
    viewer_state(v, viewer_turn_end(v, 1)->seq, SESSION_STATE_IDLE);
    cleanup_buf struct sa_buf content = {0};
    assert_int_equal(sa_read_file(written, 100, &content, NULL), 0);
    assert_string_equal(sa_buf_string(&content), "xran\n"); /* once */
    prompt(t, id, "HANG", "second", 2);
    viewer_until(v, 0, EVENT__KIND_TURN_STARTED, 2);
    cancel(t, id, 2);
    viewer_state(v, viewer_turn_end(v, 2)->seq, SESSION_STATE_IDLE);
    prompt(t, id, "HANG", "third", 3);
    viewer_until(v, 0, EVENT__KIND_TURN_STARTED, 3);
    prompt(t, id, "never", "fourth", 4);
    prompt(t, id, "last", "fifth", 5);
    move(t, id, 5, 1);
    withdraw(t, id, 4);
    steer(t, id, "this way", "sixth", 6);
    assert_true(viewer_turn_end(v, 6)->seq < viewer_turn_end(v, 5)->seq);
    viewer_state(v, viewer_turn_end(v, 5)->seq, SESSION_STATE_IDLE);
    rename_it(t, id);
    suspend(t, id);
    resume(t, id);
    viewer_state(v, viewer_state(v, 0, SESSION_STATE_SUSPENDED)->seq, SESSION_STATE_IDLE);
    prompt(t, id, "ABORT", "seventh", 7);
    viewer_state(v, viewer_turn_end(v, 7)->seq, SESSION_STATE_SUSPENDED);
    prompt(t, id, "back", "eighth", 8);
    viewer_state(v, viewer_turn_end(v, 8)->seq, SESSION_STATE_IDLE);
    destroy(t, id);
    viewer_state(v, 0, SESSION_STATE_DESTROYED);
    struct sa_buf log = {0};
    for (size_t i = 0; i < v->n; i++)
        describe(&log, v->events[i]);
    cleanup_free char *imported = copy(t, id);
    struct viewer *w = viewer_open(t, imported);
    viewer_state(w, v->n, SESSION_STATE_DESTROYED);
    assert_int_equal(w->n, v->n + 1);
    for (size_t i = 0; i < w->n; i++)
        describe(&log, w->events[i]);
    viewer_close(w);
    shorten(t, imported);
    char *copy = sa_strdup(sa_buf_string(&log));
    sa_buf_fini(&log);
    viewer_close(v);
    *ret_deaths = t->deaths;
    t->fault = NULL; /* it was not reached */
    stack_free(t);
    return copy;
}

/* Those of what this life does not do: agent_faults_test. */
static bool is_elsewhere(const char *point)
{
    return !strncmp(point, "install.", 8) || !strncmp(point, "job.", 4) || !strncmp(point, "secrets.", 8);
}

static void a_death_at_any_point_changes_nothing(void **state)
{
    (void)state;
    int deaths, points = 0, died = 0;
    cleanup_free char *expected = live(NULL, &deaths);
    assert_non_null(strstr(expected, "restored"));
    cleanup_buf struct sa_buf list = {0};
    assert_int_equal(sa_read_file(POINTS, 65536, &list, NULL), 0);
    for (char *rest, *point = strtok_r(sa_buf_string(&list), "\n", &rest); point;
         point = strtok_r(NULL, "\n", &rest), points++)
        for (int hit = 1; hit <= HITS && !is_elsewhere(point); hit++) {
            cleanup_free char *fault = sa_format("%s:%d", point, hit);
            cleanup_free char *got = live(fault, &deaths);
            if (strcmp(got, expected) || (hit == 1 && deaths != 1))
                fail_msg("died %d times at %s; the log was\n%s\nand not\n%s", deaths, fault, got, expected);
            died += deaths;
            if (!deaths)
                break;
        }
    print_message("%d deaths at %d points\n", died, points);
    assert_true(points >= 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_death_at_any_point_changes_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
