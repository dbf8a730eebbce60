#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/file.h"
#include "services/session-svc/acp_read.h"

/* ---- what real agents wrote ---- */

static void add_text(struct sa_buf *out, const char *text)
{
    struct json_writer w = json_writer(out);
    sa_buf_add(out, " ", 1);
    json_put_bytes(&w, text, strnlen(text, 60));
}

static void add_content(struct sa_buf *out, const ContentBlock *c)
{
    if (c->kind_case == CONTENT_BLOCK__KIND_TEXT)
        add_text(out, c->text);
    else
        sa_buf_addf(out, " content:%d", (int)c->kind_case);
}

static void add_tool_call(struct sa_buf *out, const ToolCall *t)
{
    sa_buf_addf(out, " status=%d kind=%s locations=%zu content=", (int)t->status, t->tool_kind,
                t->n_locations);
    for (size_t i = 0; i < t->n_content; i++)
        sa_buf_addf(out, "%s",
                    t->content[i]->kind_case == TOOL_CALL_CONTENT__KIND_DIFF          ? "d"
                    : t->content[i]->kind_case == TOOL_CALL_CONTENT__KIND_TERMINAL_ID ? "t"
                                                                                      : "c");
    add_text(out, t->title);
}

/* One line that says what an event holds. */
static void describe(struct sa_buf *out, const Event *e)
{
    const ProtobufCFieldDescriptor *f =
        protobuf_c_message_descriptor_get_field(&event__descriptor, (unsigned)e->kind_case);
    sa_buf_addf(out, "%s", f ? f->name : "none");
    switch (e->kind_case) {
    case EVENT__KIND_USER_MESSAGE_CHUNK:
    case EVENT__KIND_AGENT_MESSAGE_CHUNK:
    case EVENT__KIND_AGENT_THOUGHT_CHUNK:
        add_content(out, e->agent_message_chunk->content);
        break;
    case EVENT__KIND_TOOL_CALL:
    case EVENT__KIND_TOOL_CALL_UPDATE:
        add_tool_call(out, e->tool_call);
        break;
    case EVENT__KIND_USAGE:
        sa_buf_addf(out, " used=%llu window=%llu", (unsigned long long)e->usage->used_tokens,
                    (unsigned long long)e->usage->window_tokens);
        if (e->usage->_cost_case)
            sa_buf_addf(out, " cost=%.4f %s", e->usage->cost, e->usage->currency);
        break;
    case EVENT__KIND_MODE_CHANGED:
        add_text(out, e->mode_changed->mode_id);
        break;
    case EVENT__KIND_UNKNOWN:
        add_text(out, e->unknown->name);
        break;
    default:
        break;
    }
}

static void describe_permission(struct sa_buf *out, struct sa_arena *arena, struct json params)
{
    size_t n;
    PermissionOption **options = acp_permission_options(arena, json_get(params, "options"), &n);
    ToolCall *t = acp_tool_call(arena, json_get(params, "toolCall"));
    sa_buf_addf(out, " tool=%s", *t->tool_call_id ? "yes" : "no");
    for (size_t i = 0; i < n; i++)
        sa_buf_addf(out, " %s:%d", options[i]->option_id, (int)options[i]->kind);
}

static void describe_line(struct sa_buf *out, struct json raw)
{
    static const char *const kinds[] = {"update", "notification", "request", "response", "not json"};
    struct sa_arena *arena = sa_arena_new();
    struct acp_message m;
    acp_read(arena, raw.p, raw.n, &m);
    sa_buf_addf(out, "%s ", kinds[m.kind]);
    if (m.kind == ACP_RESPONSE) {
        sa_buf_addf(out, "%llu %s\n", (unsigned long long)m.request_id, m.error.n ? "error" : "result");
        sa_arena_free(arena);
        return;
    }
    /* Nothing of the agent is lost, and every reader can read it. */
    assert_int_equal(m.event->agent_json.len, raw.n);
    assert_memory_equal(m.event->agent_json.data, raw.p, raw.n);
    size_t n = event__get_packed_size(m.event);
    uint8_t *packed = test_malloc(n);
    event__pack(m.event, packed);
    Event *again = rpc_unpack(&event__descriptor, packed, n, NULL);
    assert_non_null(again);
    describe(out, again);
    event__free_unpacked(again, NULL);
    test_free(packed);
    if (!strcmp(m.method, "session/request_permission"))
        describe_permission(out, arena, m.params);
    sa_buf_add(out, "\n", 1);
    sa_arena_free(arena);
}

/* The expectation lies beside each recording; UPDATE_EXPECTED=<directory> writes new ones to be looked at. */
static void check_recording(const char *path)
{
    cleanup_buf struct sa_buf recording = {0}, expected = {0}, got = {0};
    assert_int_equal(sa_read_file(path, 64 << 20, &recording, NULL), 0);
    size_t scanned = 0, used;
    struct json line;
    for (size_t at = 0; (used = json_line(recording.data + at, recording.len - at, &scanned, &line));
         at += used) {
        struct json v;
        assert_int_equal(json_check(line.p, line.n, &v, NULL), 0);
        if (json_is(json_get(v, "dir"), "in") && json_get(v, "msg").n)
            describe_line(&got, json_get(v, "msg"));
    }
    assert_true(got.len > 0);
    const char *name = strrchr(path, '/') + 1, *update = getenv("UPDATE_EXPECTED");
    if (update) {
        cleanup_free char *to = sa_format("%s/%.*s.events", update, (int)(strlen(name) - 6), name);
        assert_int_equal(sa_write_file(to, got.data, got.len, 0644, NULL), 0);
        return;
    }
    cleanup_free char *beside = sa_format("%.*s.events", (int)(strlen(path) - 6), path);
    assert_int_equal(sa_read_file(beside, 64 << 20, &expected, NULL), 0);
    print_message("%s\n", name);
    assert_string_equal(sa_buf_string(&got), sa_buf_string(&expected));
}

static char **recordings;

static void recordings_of_real_agents_give_their_events(void **state)
{
    (void)state;
    int n = 0;
    for (char **path = recordings; *path; path++) {
        size_t len = strlen(*path);
        if (len > 6 && !strcmp(*path + len - 6, ".jsonl")) {
            check_recording(*path);
            n++;
        }
    }
    assert_true(n >= 10);
}

/* ---- what may come as well ---- */

static struct acp_message read_text(struct sa_arena *arena, const char *text)
{
    struct acp_message m;
    acp_read(arena, text, strlen(text), &m);
    return m;
}

static void what_is_not_json_becomes_a_log_line(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "hello", "{", "[1]", "{\"id\":1}", "null", "\xff\xfe", "{\"jsonrpc\":\"2.0\"} x"};
    struct sa_arena *arena = sa_arena_new();
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct acp_message m = read_text(arena, lines[i]);
        assert_int_equal(m.kind, ACP_NOT_JSON_RPC);
        assert_int_equal(m.event->kind_case, EVENT__KIND_AGENT_LOG);
        assert_int_equal(m.event->agent_log->stream, 1);
    }
    sa_arena_free(arena);
}

static void unknown_and_malformed_updates_are_kept(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "{\"jsonrpc\":\"2.0\",\"method\":\"session/"
        "update\",\"params\":{\"update\":{\"sessionUpdate\":\"new_kind\",\"n\":1e400}}}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"session/update\",\"params\":{\"update\":{}}}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"session/"
        "update\",\"params\":{\"update\":{\"sessionUpdate\":\"agent_message_chunk\"}}}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"session/"
        "update\",\"params\":{\"update\":{\"sessionUpdate\":\"tool_call\"}}}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"_private/"
        "thing\",\"params\":{\"big\":123456789012345678901234567890}}",
    };
    struct sa_arena *arena = sa_arena_new();
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct acp_message m = read_text(arena, lines[i]);
        assert_int_equal(m.event->kind_case, EVENT__KIND_UNKNOWN);
        assert_int_equal(m.event->agent_json.len, strlen(lines[i]));
    }
    assert_string_equal(read_text(arena, lines[0]).event->unknown->name, "new_kind");
    sa_arena_free(arena);
}

static char *chunk_of(size_t n)
{
    char *text = sa_malloc(n + 1);
    memset(text, 'x', n);
    text[n] = '\0';
    char *line = sa_format(
        "{\"jsonrpc\":\"2.0\",\"method\":\"session/update\",\"params\":{\"sessionId\":\"s\",\"update\":{"
        "\"sessionUpdate\":\"agent_message_chunk\",\"content\":{\"type\":\"text\",\"text\":\"%s\"}}}}",
        text);
    free(text);
    return line;
}

static void an_event_stays_within_its_limit(void **state)
{
    (void)state;
    const size_t sizes[] = {1000,   ACP_RAW_MAX - 1000, ACP_RAW_MAX, ACP_EVENT_MAX - 1000, ACP_EVENT_MAX,
                            5 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct sa_arena *arena = sa_arena_new();
        cleanup_free char *line = chunk_of(sizes[i]);
        struct acp_message m = read_text(arena, line);
        assert_true(event__get_packed_size(m.event) <= ACP_EVENT_MAX + 1000);
        if (sizes[i] < ACP_RAW_MAX) {
            assert_int_equal(m.event->agent_json.len, strlen(line));
            assert_int_equal(m.event->protocol_version, ACP_VERSION);
        }
        if (sizes[i] <= ACP_EVENT_MAX - 1000) {
            assert_int_equal(strlen(m.event->agent_message_chunk->content->text), sizes[i]);
        } else {
            assert_int_equal(m.event->kind_case, EVENT__KIND_UNKNOWN);
            assert_string_equal(m.event->unknown->name, "agent_message_chunk");
            assert_int_equal(m.event->unknown->full_size, strlen(line));
            assert_int_equal(strlen(m.event->unknown->sha256), 64);
        }
        sa_arena_free(arena);
    }
}

static void ids_of_other_shapes_are_no_answers_of_ours(void **state)
{
    (void)state;
    struct sa_arena *arena = sa_arena_new();
    assert_int_equal(read_text(arena, "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":null}").request_id, 7);
    assert_int_equal(read_text(arena, "{\"jsonrpc\":\"2.0\",\"id\":\"7\",\"result\":{}}").request_id, 0);
    assert_int_equal(read_text(arena, "{\"jsonrpc\":\"2.0\",\"id\":-1,\"result\":{}}").request_id, 0);
    assert_int_equal(read_text(arena, "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":1}}").kind,
                     ACP_RESPONSE);
    sa_arena_free(arena);
}

static void images_are_decoded(void **state)
{
    (void)state;
    struct sa_arena *arena = sa_arena_new();
    static const char line[] =
        "{\"method\":\"session/"
        "update\",\"params\":{\"update\":{\"sessionUpdate\":\"agent_message_chunk\",\"content\":"
        "{\"type\":\"image\",\"mimeType\":\"image/png\",\"data\":\"aGVsbG8=\"}}}}";
    struct acp_message m = read_text(arena, line);
    const ContentBlock *c = m.event->agent_message_chunk->content;
    assert_int_equal(c->kind_case, CONTENT_BLOCK__KIND_IMAGE);
    assert_int_equal(c->image->data.len, 5);
    assert_memory_equal(c->image->data.data, "hello", 5);
    sa_arena_free(arena);
}

static void an_error_says_its_details(void **state)
{
    (void)state;
    struct sa_arena *arena = sa_arena_new();
    struct acp_message m = read_text(arena, "{\"id\":1,\"error\":{\"code\":-32603,\"message\":\"Internal "
                                            "error\",\"data\":{\"details\":\"no model\"}}}");
    assert_string_equal(acp_error_text(arena, m.error), "Internal error: no model");
    sa_arena_free(arena);
}

int main(int argc, char **argv)
{
    (void)argc;
    recordings = argv + 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recordings_of_real_agents_give_their_events),
        cmocka_unit_test(what_is_not_json_becomes_a_log_line),
        cmocka_unit_test(unknown_and_malformed_updates_are_kept),
        cmocka_unit_test(an_event_stays_within_its_limit),
        cmocka_unit_test(ids_of_other_shapes_are_no_answers_of_ours),
        cmocka_unit_test(images_are_decoded),
        cmocka_unit_test(an_error_says_its_details),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
