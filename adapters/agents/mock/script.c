#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/agents/mock/mock.h"
#include "adapters/os/file.h"
#include "adapters/os/sha256.h"

void mock_say(struct mock *m, const char *text)
{
    mock_chunk(m, "agent_message_chunk", text, strlen(text));
}

static void say(struct mock *m, const char *text)
{
    mock_say(m, text);
}

static void ticks(struct mock *m, const char *rest, bool pause)
{
    int n = 0, ms = 1;
    if (sscanf(rest, "%d %d", &n, &ms) < 1)
        n = 1;
    for (int i = 1; i <= n && !m->cancelled; i++) {
        char text[32];
        int len = snprintf(text, sizeof text, "tick %d\n", i);
        mock_chunk(m, "agent_message_chunk", text, (size_t)len);
        if (pause || i % 256 == 0)
            mock_wait(m, NULL, pause ? ms : 0);
    }
}

static void tick(struct mock *m, char *rest)
{
    ticks(m, rest, true);
}

static void burst(struct mock *m, char *rest)
{
    ticks(m, rest, false);
}

static void big(struct mock *m, char *rest)
{
    size_t n = strtoull(rest, NULL, 10);
    cleanup_free char *text = sa_malloc(n + 1);
    memset(text, 'x', n);
    mock_chunk(m, "agent_message_chunk", text, n);
}

/* A picture of n bytes: 0, 1, 2, ... */
static void image(struct mock *m, char *rest)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = strtoull(rest, NULL, 10);
    cleanup_buf struct sa_buf update = {0};
    sa_buf_addf(&update,
                "{\"sessionUpdate\":\"agent_message_chunk\",\"content\":{\"type\":\"image\",\"mimeType\":"
                "\"image/png\",\"data\":\"");
    uint8_t *p = sa_buf_reserve(&update, n / 3 * 4);
    for (size_t i = 0; i + 3 <= n; i += 3, update.len += 4) {
        uint32_t v = (uint32_t)(i & 255) << 16 | (uint32_t)((i + 1) & 255) << 8 | (uint32_t)((i + 2) & 255);
        for (int k = 0; k < 4; k++)
            *p++ = (uint8_t)digits[v >> (18 - 6 * k) & 63];
    }
    sa_buf_addf(&update, "\"}}");
    mock_update(m, &update);
}

static void raw(struct mock *m, char *rest)
{
    (void)m;
    char block[65536];
    memset(block, 'x', sizeof block);
    for (size_t left = strtoull(rest, NULL, 10); left;) {
        size_t n = left < sizeof block ? left : sizeof block;
        mock_write(block, n);
        left -= n;
    }
}

static void line(struct mock *m, char *rest)
{
    raw(m, rest);
    mock_write("\n", 1);
}

static void garbage(struct mock *m, char *rest)
{
    (void)m;
    (void)rest;
    static const char text[] = "%%% not JSON {\"jsonrpc\": \xff\n";
    mock_write(text, sizeof text - 1);
}

/* ---- tool calls, files ---- */

static char *word(char **rest)
{
    char *w = *rest;
    size_t n = strcspn(w, " ");
    *rest = w[n] ? w + n + 1 : w + n;
    w[n] = '\0';
    return w;
}

static void tool_call(struct mock *m, const char *kind, const char *status, const char *path)
{
    cleanup_buf struct sa_buf update = {0};
    struct json_writer w = json_writer(&update);
    json_begin_object(&w);
    json_key(&w, "sessionUpdate");
    json_put_string(&w, kind);
    json_key(&w, "toolCallId");
    json_put_string(&w, "call-1");
    json_key(&w, "title");
    json_put_string(&w, "Write a file");
    json_key(&w, "kind");
    json_put_string(&w, "edit");
    json_key(&w, "status");
    json_put_string(&w, status);
    json_key(&w, "locations");
    json_begin_array(&w);
    if (*path) {
        json_begin_object(&w);
        json_key(&w, "path");
        json_put_string(&w, path);
        json_end_object(&w);
    }
    json_end_array(&w);
    json_end_object(&w);
    mock_update(m, &update);
}

static bool write_file(const char *path, const char *text)
{
    cleanup_free char *content = sa_format("%s\n", *text ? text : "written by mock");
    return !sa_write_file(path, content, strlen(content), 0644, NULL);
}

static void do_write(struct mock *m, char *rest)
{
    char *path = word(&rest);
    tool_call(m, "tool_call", "in_progress", path);
    bool ok = write_file(path, rest);
    tool_call(m, "tool_call_update", ok ? "completed" : "failed", path);
}

static void permission(struct mock *m, char *rest)
{
    char *path = word(&rest);
    tool_call(m, "tool_call", "pending", path);
    cleanup_buf struct sa_buf params = {0};
    sa_buf_addf(&params,
                "{\"sessionId\":\"%s\",\"toolCall\":{\"toolCallId\":\"call-1\",\"title\":\"Write a "
                "file\"},\"options\":["
                "{\"optionId\":\"allow\",\"name\":\"Allow\",\"kind\":\"allow_once\"},"
                "{\"optionId\":\"reject\",\"name\":\"Reject\",\"kind\":\"reject_once\"}]}",
                m->session_id);
    bool ok = mock_request(m, "session/request_permission", &params);
    struct json answer = {(const char *)m->response.data, m->response.len};
    cleanup_free char *option = ok ? json_string(json_get(answer, "outcome.optionId")) : NULL;
    bool allowed = option && !strcmp(option, "allow");
    bool done = allowed && (!*path || write_file(path, rest));
    tool_call(m, "tool_call_update", done ? "completed" : "failed", path);
    cleanup_free char *text = sa_format("permission: %s\n", option ? option : "none");
    say(m, text);
}

/* A permission request for a call of this kind, file and command; "-": not told. */
static void tool_permission(struct mock *m, char *rest)
{
    char *kind = word(&rest), *path = word(&rest);
    cleanup_buf struct sa_buf params = {0};
    sa_buf_addf(&params, "{\"sessionId\":\"%s\",\"toolCall\":{\"toolCallId\":\"call-%lld\",\"name\":\"Tool\"",
                m->session_id, (long long)m->next_request);
    struct json_writer w = json_writer(&params);
    if (strcmp(kind, "-")) {
        sa_buf_addf(&params, ",\"kind\":");
        json_put_string(&w, kind);
    }
    if (strcmp(path, "-")) {
        sa_buf_addf(&params, ",\"locations\":[{\"path\":");
        w = json_writer(&params);
        json_put_string(&w, path);
        sa_buf_addf(&params, "}]");
    }
    if (*rest) {
        sa_buf_addf(&params, ",\"rawInput\":{\"command\":");
        w = json_writer(&params);
        json_put_string(&w, rest);
        sa_buf_addf(&params, "}");
    }
    sa_buf_addf(&params, "},\"options\":["
                         "{\"optionId\":\"allow\",\"name\":\"Allow\",\"kind\":\"allow_once\"},"
                         "{\"optionId\":\"always\",\"name\":\"Always\",\"kind\":\"allow_always\"},"
                         "{\"optionId\":\"reject\",\"name\":\"Reject\",\"kind\":\"reject_once\"}]}");
    bool ok = mock_request(m, "session/request_permission", &params);
    cleanup_free char *option =
        ok ? json_string(
                 json_get((struct json){(const char *)m->response.data, m->response.len}, "outcome.optionId"))
           : NULL;
    cleanup_free char *text = sa_format("tool: %s\n", option ? option : "none");
    say(m, text);
}

static void elicit(struct mock *m, char *rest)
{
    (void)rest;
    cleanup_buf struct sa_buf params = {0};
    sa_buf_addf(&params,
                "{\"sessionId\":\"%s\",\"mode\":\"form\",\"message\":\"Who are you?\",\"requestedSchema\":{"
                "\"type\":\"object\",\"properties\":{"
                "\"name\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":8},"
                "\"age\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":150},"
                "\"colour\":{\"type\":\"string\",\"enum\":[\"red\",\"green\"]}},\"required\":[\"name\"]}}",
                m->session_id);
    bool ok = mock_request(m, "elicitation/create", &params);
    cleanup_free char *text = sa_format("elicitation: %s%.*s\n", ok ? "" : "refused ", (int)m->response.len,
                                        (char *)m->response.data);
    if (!m->cancelled || ok)
        say(m, text);
}

static void say_answer(struct mock *m, bool ok)
{
    struct json answer = {(const char *)m->response.data, m->response.len};
    if (m->cancelled)
        return;
    cleanup_free char *text = ok ? json_string(json_get(answer, "content")) : NULL;
    int64_t code = 0;
    json_int(json_get(answer, "code"), &code);
    cleanup_free char *said =
        ok ? sa_format("ok: %s\n", text ? text : "done") : sa_format("error: %lld\n", (long long)code);
    say(m, said);
}

static void fs_request(struct mock *m, const char *method, const char *path, const char *content)
{
    cleanup_buf struct sa_buf params = {0};
    struct json_writer w = json_writer(&params);
    json_begin_object(&w);
    json_key(&w, "sessionId");
    json_put_string(&w, m->session_id);
    json_key(&w, "path");
    json_put_string(&w, path);
    if (content) {
        json_key(&w, "content");
        json_put_string(&w, content);
    }
    json_end_object(&w);
    bool ok = mock_request(m, method, &params);
    say_answer(m, ok);
}

static void fs_read(struct mock *m, char *rest)
{
    fs_request(m, "fs/read_text_file", word(&rest), NULL);
}

static void fs_write(struct mock *m, char *rest)
{
    char *path = word(&rest);
    fs_request(m, "fs/write_text_file", path, *rest ? rest : "written through the client\n");
}

static void ask(struct mock *m, char *rest)
{
    cleanup_buf struct sa_buf params = {0};
    sa_buf_addf(&params, "{}");
    bool ok = mock_request(m, word(&rest), &params);
    say_answer(m, ok);
}

/* ---- other messages ---- */

static void notify(struct mock *m, char *rest)
{
    (void)m;
    cleanup_buf struct sa_buf out = {0};
    sa_buf_addf(&out, "{\"jsonrpc\":\"2.0\",\"method\":\"%s\",\"params\":{\"big\":12345678901234567890}}",
                word(&rest));
    mock_send(&out);
}

static void think(struct mock *m, char *rest)
{
    mock_chunk(m, "agent_thought_chunk", rest, strlen(rest));
}

static void plan(struct mock *m, char *rest)
{
    cleanup_buf struct sa_buf update = {0};
    sa_buf_addf(&update, "{\"sessionUpdate\":\"plan\",\"entries\":[{\"content\":");
    struct json_writer w = json_writer(&update);
    json_put_string(&w, rest);
    sa_buf_addf(&update, ",\"priority\":\"high\",\"status\":\"pending\"}]}");
    mock_update(m, &update);
}

static void mode(struct mock *m, char *rest)
{
    cleanup_buf struct sa_buf update = {0};
    sa_buf_addf(&update, "{\"sessionUpdate\":\"current_mode_update\",\"currentModeId\":\"%s\"}", word(&rest));
    mock_update(m, &update);
}

static void change_model(struct mock *m, char *rest)
{
    mock_change_model(m, word(&rest));
}

static void config(struct mock *m, char *rest)
{
    (void)rest;
    cleanup_free char *text = mock_config_text();
    say(m, text);
}

static void usage(struct mock *m, char *rest)
{
    cleanup_buf struct sa_buf update = {0};
    unsigned long long used = strtoull(word(&rest), NULL, 10);
    sa_buf_addf(&update, "{\"sessionUpdate\":\"usage_update\",\"used\":%llu,\"size\":200000", used);
    if (strcmp(rest, "-") != 0)
        sa_buf_addf(&update, ",\"cost\":{\"amount\":%s,\"currency\":\"USD\"}", *rest ? rest : "0.25");
    sa_buf_addf(&update, "}");
    mock_update(m, &update);
}

static void tokens(struct mock *m, char *rest)
{
    unsigned long long in = strtoull(word(&rest), NULL, 10), out = strtoull(rest, NULL, 10);
    free(m->tokens);
    m->tokens = sa_format(",\"usage\":{\"inputTokens\":%llu,\"outputTokens\":%llu,\"totalTokens\":%llu}", in,
                          out, in + out);
}

static void to_stderr(struct mock *m, char *rest)
{
    (void)m;
    fprintf(stderr, "%s\n", rest);
}

/* ---- waiting and ending ---- */

static void slow(struct mock *m, char *rest)
{
    mock_wait(m, NULL, atoi(rest));
}

static void hang(struct mock *m, char *rest)
{
    (void)rest;
    mock_wait(m, NULL, -1);
}

static void ignore_cancel(struct mock *m, char *rest)
{
    (void)rest;
    m->ignore_cancel = true;
    mock_wait(m, NULL, -1);
}

static void late(struct mock *m, char *rest)
{
    m->late = sa_strdup(rest);
}

static void fail(struct mock *m, char *rest)
{
    m->stop_reason = sa_format("error %s", *rest ? rest : "failed as told");
}

static void stop(struct mock *m, char *rest)
{
    m->stop_reason = sa_strdup(word(&rest));
}

static void do_exit(struct mock *m, char *rest)
{
    (void)m;
    exit(atoi(rest));
}

static void do_abort(struct mock *m, char *rest)
{
    (void)m;
    (void)rest;
    raise(SIGKILL);
}

static void child(struct mock *m, char *rest)
{
    (void)rest;
    pid_t pid = fork();
    if (pid == 0) {
        setsid();
        for (int fd = 0; fd < 3; fd++)
            close(fd);
        for (;;)
            pause();
    }
    cleanup_free char *text = sa_format("child: %d\n", (int)pid);
    say(m, text);
}

static void env(struct mock *m, char *rest)
{
    char *name = word(&rest);
    const char *value = getenv(name);
    cleanup_free char *text = sa_format("%s%s%s\n", name, value ? "=" : " is not set", value ? value : "");
    say(m, text);
}

static void mcp(struct mock *m, char *rest)
{
    (void)rest;
    mock_chunk(m, "agent_message_chunk", (const char *)m->mcp.data, m->mcp.len);
}

/* Shows that a value came, where it is masked when it is said. */
static void say_sum(struct mock *m, const void *p, size_t n)
{
    struct sa_sha256 sum;
    char text[SA_SHA256_TEXT + 1];
    sa_sha256_init(&sum);
    sa_sha256_add(&sum, p, n);
    sa_sha256_end_text(&sum, text);
    say(m, text);
}

static void env_sum(struct mock *m, char *rest)
{
    const char *value = getenv(word(&rest));
    say_sum(m, value ? value : "", value ? strlen(value) : 0);
}

static void mcp_sum(struct mock *m, char *rest)
{
    (void)rest;
    say_sum(m, m->mcp.data, m->mcp.len);
}

static void cat(struct mock *m, char *rest)
{
    cleanup_buf struct sa_buf text = {0};
    if (sa_read_file(word(&rest), 1 << 20, &text, NULL))
        say(m, "it cannot be read");
    else
        mock_chunk(m, "agent_message_chunk", (const char *)text.data, text.len);
}

static void pwd(struct mock *m, char *rest)
{
    (void)rest;
    char dir[4096];
    cleanup_free char *text = sa_format("%s\n", getcwd(dir, sizeof dir) ? dir : "?");
    say(m, text);
}

static void echo(struct mock *m, const char *text)
{
    say(m, "You said: ");
    for (size_t n = strlen(text), piece; n; text += piece, n -= piece) {
        for (piece = n < 16 ? n : 16; piece < n && ((unsigned char)text[piece] & 0xc0) == 0x80;)
            piece++;
        mock_chunk(m, "agent_message_chunk", text, piece);
    }
    say(m, "\n");
}

static const struct {
    const char *word;
    void (*run)(struct mock *m, char *rest);
} words[] = {
    {"TICK", tick},
    {"BURST", burst},
    {"BIG", big},
    {"LINE", line},
    {"RAW", raw},
    {"GARBAGE", garbage},
    {"WRITE", do_write},
    {"PERMISSION", permission},
    {"FSREAD", fs_read},
    {"FSWRITE", fs_write},
    {"ASK", ask},
    {"NOTIFY", notify},
    {"THINK", think},
    {"PLAN", plan},
    {"MODE", mode},
    {"USAGE", usage},
    {"STDERR", to_stderr},
    {"SLOW", slow},
    {"HANG", hang},
    {"IGNORECANCEL", ignore_cancel},
    {"LATE", late},
    {"FAIL", fail},
    {"STOP", stop},
    {"EXIT", do_exit},
    {"ABORT", do_abort},
    {"CHILD", child},
    {"TOKENS", tokens},
    {"ENV", env},
    {"CONFIG", config},
    {"MODEL", change_model},
    {"PWD", pwd},
    {"IMAGE", image},
    {"TOOL", tool_permission},
    {"ELICIT", elicit},
    {"TERMINAL", mock_terminal},
    {"TERMKILL", mock_terminal_kill},
    {"TERMDROP", mock_terminal_drop},
    {"TERMLIMIT", mock_terminal_limit},
    {"MCP", mcp},
    {"MCPSUM", mcp_sum},
    {"ENVSUM", env_sum},
    {"CAT", cat},
};

static void run_line(struct mock *m, char *text)
{
    size_t n = strcspn(text, " ");
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i].word) == n && !memcmp(words[i].word, text, n)) {
            words[i].run(m, text[n] ? text + n + 1 : text + n);
            return;
        }
    if (*text)
        echo(m, text);
}

void mock_run(struct mock *m, const char *prompt, size_t n)
{
    cleanup_free char *copy = sa_strndup(prompt, n);
    for (char *at = copy, *next; at && !m->cancelled; at = next) {
        next = strchr(at, '\n');
        if (next)
            *next++ = '\0';
        run_line(m, at);
    }
}
