#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/agents/mock/mock.h"
#include "adapters/os/clock.h"
#include "adapters/os/file.h"
#include "adapters/os/sha256.h"

static bool is_set(const char *name)
{
    const char *v = getenv(name);
    return v && *v && strcmp(v, "0");
}

static bool starts_with(const char *how)
{
    const char *v = getenv("MOCK_START");
    return v && !strcmp(v, how);
}

/* ---- writing ---- */

void mock_write(const void *p, size_t n)
{
    for (const char *c = p; n;) {
        ssize_t done = write(STDOUT_FILENO, c, n);
        if (done < 0 && errno != EINTR)
            exit(0);
        if (done > 0) {
            c += done;
            n -= (size_t)done;
        }
    }
}

void mock_send(const struct sa_buf *message)
{
    cleanup_buf struct sa_buf line = {0};
    sa_buf_add(&line, message->data, message->len);
    sa_buf_add(&line, "\n", 1);
    mock_write(line.data, line.len);
}

void mock_answer(struct json id, const char *member, const struct sa_buf *value)
{
    cleanup_buf struct sa_buf out = {0};
    sa_buf_addf(&out, "{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"%s\":", (int)id.n, id.p, member);
    sa_buf_add(&out, value->data, value->len);
    sa_buf_add(&out, "}", 1);
    mock_send(&out);
}

void mock_error(struct json id, int code, const char *message)
{
    cleanup_buf struct sa_buf value = {0};
    struct json_writer w = json_writer(&value);
    json_begin_object(&w);
    json_key(&w, "code");
    json_put_int(&w, code);
    json_key(&w, "message");
    json_put_string(&w, message);
    json_end_object(&w);
    mock_answer(id, "error", &value);
}

void mock_update(struct mock *m, const struct sa_buf *update)
{
    cleanup_buf struct sa_buf out = {0};
    sa_buf_addf(
        &out,
        "{\"jsonrpc\":\"2.0\",\"method\":\"session/update\",\"params\":{\"sessionId\":\"%s\",\"update\":",
        m->session_id);
    sa_buf_add(&out, update->data, update->len);
    sa_buf_addf(&out, "}}");
    mock_send(&out);
}

void mock_chunk(struct mock *m, const char *kind, const char *text, size_t n)
{
    cleanup_buf struct sa_buf update = {0};
    sa_buf_addf(&update, "{\"sessionUpdate\":\"%s\",\"content\":{\"type\":\"text\",\"text\":", kind);
    struct json_writer w = json_writer(&update);
    json_put_bytes(&w, text, n);
    sa_buf_addf(&update, "}}");
    mock_update(m, &update);
    if (!strcmp(kind, "agent_message_chunk"))
        sa_buf_add(&m->answer, text, n);
}

bool mock_request(struct mock *m, const char *method, const struct sa_buf *params)
{
    cleanup_buf struct sa_buf out = {0};
    sa_buf_addf(&out, "{\"jsonrpc\":\"2.0\",\"id\":\"mock-%lld\",\"method\":\"%s\",\"params\":",
                (long long)++m->next_request, method);
    sa_buf_add(&out, params->data, params->len);
    sa_buf_add(&out, "}", 1);
    m->answered = m->failed = false;
    mock_send(&out);
    mock_wait(m, &m->answered, -1);
    return m->answered && !m->failed;
}

/* ---- conversations ---- */

static char *conversation_file(const char *session_id)
{
    const char *home = getenv("HOME");
    return sa_format("%s/.mock-agent/%s", home ? home : ".", session_id);
}

void mock_remember(struct mock *m, const char *who, const void *text, size_t n)
{
    cleanup_free char *file = conversation_file(m->session_id);
    cleanup_buf struct sa_buf line = {0};
    sa_buf_addf(&line, "%s ", who);
    struct json_writer w = json_writer(&line);
    json_put_bytes(&w, text, n);
    sa_buf_add(&line, "\n", 1);
    FILE *f = fopen(file, "a");
    if (!f || fwrite(line.data, 1, line.len, f) != line.len || fclose(f)) {
        fprintf(stderr, "mock-agent: cannot write %s: %s\n", file, strerror(errno));
        exit(1);
    }
}

static bool known(const char *id)
{
    cleanup_free char *file = conversation_file(id);
    return !strchr(id, '/') && !access(file, R_OK);
}

/* Tells the conversation again, as session/load does. */
static void replay(struct mock *m)
{
    cleanup_free char *file = conversation_file(m->session_id);
    cleanup_buf struct sa_buf all = {0};
    if (sa_read_file(file, 64 << 20, &all, NULL))
        return;
    size_t scanned = 0;
    struct json line;
    for (size_t at = 0, used; (used = json_line(all.data + at, all.len - at, &scanned, &line)); at += used) {
        const char *space = memchr(line.p, ' ', line.n);
        struct json text;
        if (!space || json_check(space + 1, (size_t)(line.p + line.n - space - 1), &text, NULL))
            continue;
        cleanup_buf struct sa_buf decoded = {0};
        if (!json_decode(text, JSON_REPLACE, &decoded, NULL))
            mock_chunk(m, *line.p == 'u' ? "user_message_chunk" : "agent_message_chunk",
                       (const char *)decoded.data, decoded.len);
    }
    m->answer.len = 0;
}

static void begin_new(struct mock *m)
{
    cleanup_free char *home = conversation_file("");
    struct sa_id id = sa_id_new();
    char text[SA_ID_TEXT + 1];
    sa_id_format(id, text);
    free(m->session_id);
    m->session_id = sa_format("mock-%s", text);
    sa_error *err = NULL;
    if (sa_mkdirs(home, 0755, &err)) {
        fprintf(stderr, "mock-agent: %s\n", err->message);
        exit(1);
    }
    mock_remember(m, "note", "begin", 5);
}

static void copy_conversation(struct mock *m, const char *from_id)
{
    cleanup_free char *from = conversation_file(from_id), *to = conversation_file(m->session_id);
    cleanup_buf struct sa_buf all = {0};
    FILE *f = NULL;
    if (sa_read_file(from, 64 << 20, &all, NULL) || !(f = fopen(to, "w")) ||
        fwrite(all.data, 1, all.len, f) != all.len || fclose(f)) {
        fprintf(stderr, "mock-agent: cannot copy %s: %s\n", from, strerror(errno));
        exit(1);
    }
}

/* ---- methods ---- */

static void initialize(struct json id)
{
    const char *delay = getenv("MOCK_DELAY_MS");
    if (delay)
        poll(NULL, 0, atoi(delay));
    if (starts_with("silent"))
        return;
    bool resume = !is_set("MOCK_NO_RESUME"), fork = !is_set("MOCK_NO_FORK");
    cleanup_buf struct sa_buf out = {0};
    sa_buf_addf(&out,
                "{\"protocolVersion\":%d,\"agentCapabilities\":{\"loadSession\":%s,\"promptCapabilities\":{"
                "\"image\":true,\"embeddedContext\":true},\"mcpCapabilities\":{\"http\":%s,\"sse\":true},"
                "\"sessionCapabilities\":{%s%s%s}},\"authMethods\":[],"
                "\"agentInfo\":{\"name\":\"mock-agent\",\"title\":\"Mock\",\"version\":\"1\"}}",
                starts_with("protocol") ? 2 : 1, is_set("MOCK_NO_LOAD") ? "false" : "true",
                is_set("MOCK_NO_HTTP") ? "false" : "true", resume ? "\"resume\":{}" : "",
                resume && fork ? "," : "", fork ? "\"fork\":{}" : "");
    mock_answer(id, "result", &out);
}

static void open_session(struct mock *m, struct json id, struct json params, struct json method)
{
    if (starts_with("auth")) {
        mock_error(id, -32000, "Authentication required");
        return;
    }
    if (json_is(method, "session/new")) {
        begin_new(m);
    } else {
        cleanup_free char *asked = json_string(json_get(params, "sessionId"));
        if (!asked || !known(asked)) {
            mock_error(id, -32002, "Resource not found");
            return;
        }
        if (json_is(method, "session/fork")) {
            begin_new(m);
            copy_conversation(m, asked);
        } else {
            free(m->session_id);
            m->session_id = steal_pointer(&asked);
        }
        if (json_is(method, "session/load"))
            replay(m);
    }
    struct json servers = json_get(params, "mcpServers");
    m->mcp.len = 0;
    sa_buf_add(&m->mcp, servers.p, servers.n);
    if (is_set("MOCK_EARLY"))
        mock_chunk(m, "agent_message_chunk", "early", 5);
    m->answer.len = 0;
    cleanup_buf struct sa_buf out = {0};
    sa_buf_addf(&out, "{\"sessionId\":\"%s\",", m->session_id);
    mock_put_config(&out);
    sa_buf_addf(&out, "}");
    mock_answer(id, "result", &out);
}

static void prompt(struct mock *m, struct json id, struct json params)
{
    if (m->prompt_id.len || !m->session_id) {
        mock_error(id, -32600, "A prompt is running, or there is no session");
        return;
    }
    cleanup_buf struct sa_buf text = {0};
    struct json block;
    for (struct json_iter it = json_iter(json_get(params, "prompt")); json_next(&it, NULL, &block);) {
        if (json_is(json_get(block, "type"), "text")) {
            if (text.len)
                sa_buf_add(&text, "\n", 1);
            json_decode(json_get(block, "text"), JSON_REPLACE, &text, NULL);
        } else if (json_is(json_get(block, "type"), "image")) {
            struct json data = json_get(block, "data");
            char digest[SA_SHA256_TEXT + 1];
            struct sa_sha256 sum;
            sa_sha256_init(&sum);
            sa_sha256_add(&sum, data.p + 1, data.n > 2 ? data.n - 2 : 0);
            sa_sha256_end_text(&sum, digest);
            sa_buf_addf(&text, "%simage of %zu characters, %s", text.len ? "\n" : "",
                        data.n > 2 ? data.n - 2 : 0, digest);
        }
    }
    sa_buf_add(&m->prompt_id, id.p, id.n);
    m->cancelled = m->ignore_cancel = false;
    mock_remember(m, "user", text.data, text.len);
    mock_run(m, sa_buf_string(&text), text.len);
    if (m->cancelled) {
        free(m->stop_reason);
        m->stop_reason = sa_strdup("cancelled");
    }
    mock_remember(m, "agent", m->answer.data, m->answer.len);
    m->answer.len = 0;
    struct json raw_id = {(const char *)m->prompt_id.data, m->prompt_id.len};
    if (m->stop_reason && !strncmp(m->stop_reason, "error ", 6)) {
        mock_error(raw_id, -32603, m->stop_reason + 6);
    } else {
        cleanup_buf struct sa_buf out = {0};
        sa_buf_addf(&out, "{\"stopReason\":\"%s\"%s}", m->stop_reason ? m->stop_reason : "end_turn",
                    m->tokens ? m->tokens : "");
        mock_answer(raw_id, "result", &out);
    }
    m->prompt_id.len = 0;
    sa_cleanup_free(&m->tokens);
    m->tokens = NULL;
    sa_cleanup_free(&m->stop_reason);
    m->stop_reason = NULL;
    if (m->late)
        mock_chunk(m, "agent_message_chunk", m->late, strlen(m->late));
    m->answer.len = 0;
    sa_cleanup_free(&m->late);
    m->late = NULL;
}

static void response(struct mock *m, const struct json_rpc *rpc)
{
    cleanup_free char *mine = sa_format("mock-%lld", (long long)m->next_request);
    if (!json_is(rpc->id, mine) || m->answered)
        return;
    struct json v = rpc->kind == JSON_RPC_ERROR ? rpc->error : rpc->result;
    m->answered = true;
    m->failed = rpc->kind == JSON_RPC_ERROR;
    m->response.len = 0;
    sa_buf_add(&m->response, v.p, v.n);
}

static void handle(struct mock *m, const char *line, size_t n)
{
    struct json_rpc rpc;
    if (json_rpc_parse(line, n, &rpc, NULL))
        return;
    if (rpc.kind == JSON_RPC_RESPONSE || rpc.kind == JSON_RPC_ERROR) {
        response(m, &rpc);
    } else if (rpc.kind == JSON_RPC_NOTIFICATION) {
        if (json_is(rpc.method, "session/cancel") && m->prompt_id.len && !m->ignore_cancel)
            m->cancelled = true;
    } else if (json_is(rpc.method, "initialize")) {
        initialize(rpc.id);
    } else if (json_is(rpc.method, "session/new") || json_is(rpc.method, "session/load") ||
               json_is(rpc.method, "session/resume") || json_is(rpc.method, "session/fork")) {
        open_session(m, rpc.id, rpc.params, rpc.method);
    } else if (json_is(rpc.method, "session/set_mode")) {
        mock_set_mode(m, rpc.id, rpc.params);
    } else if (json_is(rpc.method, "session/set_model")) {
        mock_set_model(m, rpc.id, rpc.params);
    } else if (json_is(rpc.method, "session/set_config_option")) {
        mock_set_option(m, rpc.id, rpc.params);
    } else if (json_is(rpc.method, "session/prompt")) {
        prompt(m, rpc.id, rpc.params);
    } else {
        mock_error(rpc.id, -32601, "Method not found");
    }
}

/* Handles the lines that are there; a prompt in one of them reads on by itself, so the line is taken out
 * first. */
static void handle_lines(struct mock *m)
{
    struct json line;
    size_t used;
    while ((used = json_line(m->in.data, m->in.len, &m->scanned, &line))) {
        cleanup_buf struct sa_buf copy = {0};
        sa_buf_add(&copy, line.p, line.n);
        sa_buf_consume(&m->in, used);
        if (copy.len)
            handle(m, (const char *)copy.data, copy.len);
    }
}

void mock_wait(struct mock *m, const bool *until, int ms)
{
    uint64_t end = ms < 0 ? UINT64_MAX : sa_now_ms() + (uint64_t)ms;
    for (;;) {
        handle_lines(m);
        uint64_t now = sa_now_ms();
        if ((until && *until) || (m->prompt_id.len && m->cancelled))
            return;
        struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
        int left = ms < 0 ? -1 : now >= end ? 0 : (int)(end - now);
        if (poll(&p, 1, left) == 0)
            return;
        ssize_t n = read(STDIN_FILENO, sa_buf_reserve(&m->in, 65536), 65536);
        if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
            exit(0);
        if (n > 0)
            m->in.len += (size_t)n;
    }
}

int main(void)
{
    static struct mock m;
    if (starts_with("exit")) {
        fprintf(stderr, "mock-agent: told to exit at start\n");
        return 3;
    }
    if (starts_with("garbage"))
        mock_write("this is not JSON\n", 17);
    for (;;)
        mock_wait(&m, NULL, -1);
}
