/* Pictures that are too large for messages and events: they reach the agent, they come from it, and they go
 * when nobody refers to them any more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/file.h"
#include "adapters/os/sha256.h"
#include "tests/session/stack.h"

enum { LARGE = 20000000 };

static struct stack *stack;
static const char *words[] = {"--blob-hours", "24", NULL};

static int start(void **state)
{
    (void)state;
    words[1] = "24";
    stack = stack_start(words);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    stack_free(stack);
    return 0;
}

/* ---- helpers ---- */

/* What the mock agent makes. */
static uint8_t *picture(size_t n, char digest[static SA_SHA256_TEXT + 1])
{
    uint8_t *p = sa_malloc(n + 1);
    struct sa_sha256 sum;
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)i;
    sa_sha256_init(&sum);
    sa_sha256_add(&sum, p, n);
    sa_sha256_end_text(&sum, digest);
    return p;
}

/* The bytes of a blob; *reason is "" or why there is none. */
static struct sa_buf read_blob(const char *session, const char *digest, char reason[static 64])
{
    struct sa_buf all = {0};
    ReadBlobRequest req = READ_BLOB_REQUEST__INIT;
    ReadBlobResponse *m = NULL;
    sa_error *err = NULL;
    req.session_id = (char *)(uintptr_t)session;
    req.sha256 = (char *)(uintptr_t)digest;
    struct rpc_stream *s = read_blob_begin(stack->caller.channel, &req, NULL);
    while (read_blob_next(s, &m, &err) == 1) {
        sa_buf_add(&all, m->data.data, m->data.len);
        rpc_message_free(m);
    }
    snprintf(reason, 64, "%s", err ? err->reason : "");
    sa_error_free(err);
    rpc_stream_free(s);
    return all;
}

static void assert_blob(const char *session, const char *digest, const uint8_t *bytes, size_t n)
{
    char reason[64];
    cleanup_buf struct sa_buf got = read_blob(session, digest, reason);
    assert_string_equal(reason, "");
    assert_int_equal(got.len, n);
    assert_memory_equal(got.data, bytes, n);
}

static void assert_no_blob(const char *session, const char *digest)
{
    char reason[64];
    struct sa_buf got = read_blob(session, digest, reason);
    sa_buf_fini(&got);
    assert_string_equal(reason, "BLOB_NOT_FOUND");
}

static struct reason try_send(const char *session, const char *text, const char *digest, uint64_t *ret_turn)
{
    struct reason r = {.text = ""};
    BinaryContent picture = BINARY_CONTENT__INIT;
    ContentBlock first = CONTENT_BLOCK__INIT, second = CONTENT_BLOCK__INIT, *blocks[] = {&first, &second};
    SendPromptRequest req = SEND_PROMPT_REQUEST__INIT;
    sa_error *err = NULL;
    first.kind_case = CONTENT_BLOCK__KIND_TEXT;
    first.text = (char *)(uintptr_t)text;
    second.kind_case = CONTENT_BLOCK__KIND_IMAGE;
    second.image = &picture;
    picture.mime_type = (char[]){"image/png"};
    picture.blob = (char *)(uintptr_t)digest;
    req.session_id = (char *)(uintptr_t)session;
    req.content = blocks;
    req.n_content = 2;
    SendPromptResponse *res = send_prompt_wait(stack->caller.channel, &req, NULL, &err);
    if (res && ret_turn)
        *ret_turn = res->turn;
    snprintf(r.text, sizeof r.text, "%s", err ? err->reason : "");
    sa_error_free(err);
    rpc_message_free(res);
    return r;
}

static int files_kept(void)
{
    cleanup_free char *path = sa_format("%s/data/session/blobs", stack->dir);
    DIR *d = opendir(path);
    int n = 0;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

/* ---- to the agent ---- */

static void a_large_picture_reaches_the_agent_once(void **state)
{
    (void)state;
    char digest[SA_SHA256_TEXT + 1];
    cleanup_free uint8_t *bytes = picture(LARGE, digest);
    cleanup_free char *id = create_session(stack, "mock", NULL), *other = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    viewer_state(v, 0, SESSION_STATE_IDLE);
    uint64_t turn = 0, second = 0;
    assert_string_equal(try_send(id, "look", digest, NULL).text, "BLOB_NOT_FOUND");
    assert_string_equal(write_blob(stack, id, bytes, LARGE, 1 << 20).text, "");
    assert_blob(id, digest, bytes, LARGE);
    assert_no_blob(other, digest); /* another session's is none of its business */
    assert_string_equal(try_send(other, "look", digest, NULL).text, "BLOB_NOT_FOUND");
    assert_string_equal(try_send(id, "look", digest, &turn).text, "");
    assert_string_equal(try_send(id, "SLOW 1", digest, &second).text, "");
    stack_crash_session(stack);
    viewer_turn_end(v, second);
    const Event *e = viewer_until(v, 0, EVENT__KIND_PROMPT_ACCEPTED, turn);
    assert_string_equal(e->prompt_accepted->content[1]->image->blob, digest);
    assert_int_equal(e->prompt_accepted->content[1]->image->size, LARGE);
    cleanup_free char *text = viewer_text(v, turn);
    cleanup_free char *expected = sa_format("image of %d characters", (LARGE + 2) / 3 * 4);
    assert_non_null(strstr(text, expected));
    assert_int_equal(viewer_turn_end(v, turn)->turn_ended->stop_reason, STOP_REASON_END_TURN);
    viewer_close(v);
}

static void what_cannot_be_a_blob_is_refused(void **state)
{
    (void)state;
    char digest[SA_SHA256_TEXT + 1];
    enum { TOO_LARGE = 24000001 };
    cleanup_free uint8_t *bytes = picture(TOO_LARGE, digest);
    cleanup_free char *id = create_session(stack, "mock", NULL);
    assert_string_equal(write_blob(stack, id, bytes, TOO_LARGE, 1 << 20).text, "MESSAGE_TOO_LARGE");
    assert_string_equal(write_blob(stack, id, bytes, (1 << 20) + 1, (1 << 20) + 1).text, "MESSAGE_TOO_LARGE");
    assert_string_equal(write_blob(stack, "01kb0000000000000000000000", bytes, 10, 10).text,
                        "SESSION_NOT_FOUND");
    assert_string_equal(try_send(id, "look", "../../etc/passwd", NULL).text, "INVALID_REQUEST");
    assert_int_equal(files_kept(), 0);
    /* Two at once, and an empty one. */
    assert_string_equal(write_blob(stack, id, bytes, 15000000, 1 << 20).text, "");
    assert_string_equal(write_blob(stack, id, bytes, 0, 1).text, "");
    assert_int_equal(files_kept(), 2);
}

/* ---- from the agent ---- */

static void a_large_picture_of_the_agent_is_kept_beside_the_log(void **state)
{
    (void)state;
    char digest[SA_SHA256_TEXT + 1], small_digest[SA_SHA256_TEXT + 1];
    cleanup_free uint8_t *bytes = picture(LARGE / 3 * 3, digest), *small = picture(300000, small_digest);
    cleanup_free char *id = create_session(stack, "mock", NULL);
    cleanup_free char *text =
        sa_format("TICK 3\nIMAGE %d\nTICK 2\nIMAGE 300000\nIMAGE 3000\nTICK 2", LARGE / 3 * 3);
    struct viewer *v = viewer_open(stack, id);
    viewer_state(v, 0, SESSION_STATE_IDLE);
    uint64_t turn = send_prompt(stack, id, text);
    for (int i = 0; i < 3; i++) /* nothing is lost or doubled by a death in the midst of it */
        viewer_until(v, v->n, EVENT__KIND_AGENT_MESSAGE_CHUNK, turn);
    stack_crash_session(stack);
    viewer_turn_end(v, turn);
    const Event *pictures[3];
    size_t n = 0, chunks = 0;
    for (size_t i = 0; i < v->n; i++) {
        const Event *e = v->events[i];
        if (e->kind_case != EVENT__KIND_AGENT_MESSAGE_CHUNK)
            continue;
        chunks++;
        if (e->agent_message_chunk->content->kind_case == CONTENT_BLOCK__KIND_IMAGE && n < 3)
            pictures[n++] = e;
    }
    assert_int_equal(n, 3);
    assert_int_equal(chunks, 10);
    const BinaryContent *large = pictures[0]->agent_message_chunk->content->image;
    assert_string_equal(large->blob, digest);
    assert_string_equal(large->mime_type, "image/png");
    assert_int_equal(large->size, LARGE / 3 * 3);
    assert_int_equal(large->data.len, 0);
    /* The raw message is there, with the digest in place of the picture. */
    cleanup_free char *mark = sa_format("\"data\":\"blob:sha256:%s\"", digest);
    assert_non_null(memmem(pictures[0]->agent_json.data, pictures[0]->agent_json.len, mark, strlen(mark)));
    assert_string_equal(pictures[1]->agent_message_chunk->content->image->blob, small_digest);
    assert_int_equal(pictures[2]->agent_message_chunk->content->image->data.len, 3000);
    assert_blob(id, digest, bytes, LARGE / 3 * 3);
    assert_blob(id, small_digest, small, 300000);
    viewer_close(v);
}

/* An agent wrote what we write in place of a picture: it was taken for one of ours. */
static void a_forged_reference_is_text(void **state)
{
    (void)state;
    char digest[SA_SHA256_TEXT + 1];
    cleanup_free uint8_t *bytes = picture(400000, digest);
    cleanup_free char *id = create_session(stack, "mock", NULL);
    cleanup_free char *text = sa_format("TICK 1\nblob:sha256:%s", digest);
    struct viewer *v = viewer_open(stack, id);
    viewer_turn_end(v, send_prompt(stack, id, text));
    assert_no_blob(id, digest);
    (void)bytes;
    viewer_close(v);
}

/* ---- the end of a blob ---- */

static bool is_gone(void *user)
{
    (void)user;
    return files_kept() == 1;
}

static bool is_trimmed(void *user)
{
    struct viewer *v = user;
    GetSessionResponse *res = get_session(stack, v->session);
    bool trimmed = res->session->first_seq == v->n;
    rpc_message_free(res);
    return trimmed;
}

static void a_blob_goes_with_its_last_event(void **state)
{
    (void)state;
    char digest[SA_SHA256_TEXT + 1], other[SA_SHA256_TEXT + 1];
    cleanup_free uint8_t *bytes = picture(300000, digest), *unused = picture(1000, other);
    cleanup_free char *id = create_session(stack, "mock", NULL),
                      *holder = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id), *w = viewer_open(stack, holder);
    viewer_state(v, viewer_turn_end(v, send_prompt(stack, id, "IMAGE 300000\nIMAGE 360000"))->seq,
                 SESSION_STATE_IDLE);
    viewer_state(w, viewer_turn_end(w, send_prompt(stack, holder, "IMAGE 300000"))->seq, SESSION_STATE_IDLE);
    assert_string_equal(write_blob(stack, id, unused, 1000, 1000).text, "");
    assert_int_equal(files_kept(), 3);
    Retention r = RETENTION__INIT;
    r.max_events = 1;
    assert_string_equal(try_retention(stack, id, &r, NULL).text, "");
    viewer_until(v, 0, EVENT__KIND_RETENTION_CHANGED, 0);
    wait_until(is_trimmed, v, "the log to be shortened");
    words[1] = "0"; /* a sweep comes with the start */
    stack_crash_session(stack);
    wait_until(is_gone, NULL, "blobs that nobody uses to go");
    assert_no_blob(id, digest); /* the other session still has it */
    assert_blob(holder, digest, bytes, 300000);
    assert_no_blob(id, other);
    viewer_close(v);
    viewer_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_large_picture_reaches_the_agent_once, start, stop),
        cmocka_unit_test_setup_teardown(what_cannot_be_a_blob_is_refused, start, stop),
        cmocka_unit_test_setup_teardown(a_large_picture_of_the_agent_is_kept_beside_the_log, start, stop),
        cmocka_unit_test_setup_teardown(a_forged_reference_is_text, start, stop),
        cmocka_unit_test_setup_teardown(a_blob_goes_with_its_last_event, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
