#include "services/session-svc/acp_write.h"

#include <string.h>

#include "services/session-svc/acp_read.h"

void acp_open_request(struct sa_buf *out, uint64_t id, const char *method)
{
    sa_buf_addf(out, "{\"jsonrpc\":\"2.0\",\"id\":%llu,\"method\":\"%s\",\"params\":", (unsigned long long)id,
                method);
}

void acp_open_notification(struct sa_buf *out, const char *method)
{
    sa_buf_addf(out, "{\"jsonrpc\":\"2.0\",\"method\":\"%s\",\"params\":", method);
}

static void open_answer(struct sa_buf *out, struct json id, const char *member)
{
    sa_buf_addf(out, "{\"jsonrpc\":\"2.0\",\"id\":");
    sa_buf_add(out, id.p, id.n);
    sa_buf_addf(out, ",\"%s\":", member);
}

void acp_open_result(struct sa_buf *out, struct json id)
{
    open_answer(out, id, "result");
}

void acp_close(struct sa_buf *out)
{
    sa_buf_add(out, "}", 1);
}

void acp_error(struct sa_buf *out, struct json id, int code, const char *message)
{
    open_answer(out, id, "error");
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    json_key(&w, "code");
    json_put_int(&w, code);
    json_key(&w, "message");
    json_put_string(&w, message);
    json_end_object(&w);
    acp_close(out);
}

static void member_string(struct json_writer *w, const char *key, const char *value)
{
    json_key(w, key);
    json_put_string(w, value);
}

static void member_bool(struct json_writer *w, const char *key, bool value)
{
    json_key(w, key);
    json_put_bool(w, value);
}

void acp_initialize(struct sa_buf *out, uint64_t id, bool files)
{
    acp_open_request(out, id, "initialize");
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    json_key(&w, "protocolVersion");
    json_put_int(&w, ACP_VERSION);
    json_key(&w, "clientCapabilities");
    json_begin_object(&w);
    json_key(&w, "fs");
    json_begin_object(&w);
    member_bool(&w, "readTextFile", files);
    member_bool(&w, "writeTextFile", files);
    json_end_object(&w);
    member_bool(&w, "terminal", true);
    json_key(&w, "elicitation");
    json_begin_object(&w);
    json_key(&w, "form");
    json_begin_object(&w);
    json_end_object(&w);
    json_end_object(&w);
    json_end_object(&w);
    json_key(&w, "clientInfo");
    json_begin_object(&w);
    member_string(&w, "name", "sandbox-agent");
    member_string(&w, "title", "Sandbox Agent");
    member_string(&w, "version", "1.0.0");
    json_end_object(&w);
    json_end_object(&w);
    acp_close(out);
}

void acp_open_session(struct sa_buf *out, uint64_t id, const char *method, const void *cwd, size_t cwd_len,
                      const char *agent_session_id, struct json mcp_servers)
{
    acp_open_request(out, id, method);
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    if (*agent_session_id)
        member_string(&w, "sessionId", agent_session_id);
    json_key(&w, "cwd");
    json_put_bytes(&w, cwd, cwd_len);
    json_key(&w, "mcpServers");
    json_put_raw(&w, mcp_servers);
    json_end_object(&w);
    acp_close(out);
}

static void put_base64(struct json_writer *w, ProtobufCBinaryData data)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    cleanup_buf struct sa_buf text = {0};
    uint8_t *p = sa_buf_reserve(&text, (data.len + 2) / 3 * 4 + 1);
    for (size_t i = 0; i < data.len; i += 3) {
        size_t left = data.len - i;
        uint32_t v = (uint32_t)data.data[i] << 16 | (left > 1 ? (uint32_t)data.data[i + 1] << 8 : 0) |
                     (left > 2 ? data.data[i + 2] : 0);
        *p++ = (uint8_t)digits[v >> 18];
        *p++ = (uint8_t)digits[v >> 12 & 63];
        *p++ = left > 1 ? (uint8_t)digits[v >> 6 & 63] : '=';
        *p++ = left > 2 ? (uint8_t)digits[v & 63] : '=';
    }
    text.len = (data.len + 2) / 3 * 4;
    json_put_bytes(w, text.data, text.len);
}

static void put_binary(struct json_writer *w, const char *type, const BinaryContent *b)
{
    member_string(w, "type", type);
    member_string(w, "mimeType", b->mime_type);
    json_key(w, "data");
    put_base64(w, b->data);
}

void acp_put_block(struct json_writer *w, const ContentBlock *c)
{
    struct json raw;
    if (c->kind_case == CONTENT_BLOCK__KIND_JSON) {
        if (!json_check(c->json.data, c->json.len, &raw, NULL))
            json_put_raw(w, raw);
        else
            json_put_null(w);
        return;
    }
    json_begin_object(w);
    switch (c->kind_case) {
    case CONTENT_BLOCK__KIND_IMAGE:
        put_binary(w, "image", c->image);
        break;
    case CONTENT_BLOCK__KIND_AUDIO:
        put_binary(w, "audio", c->audio);
        break;
    case CONTENT_BLOCK__KIND_RESOURCE_LINK:
        member_string(w, "type", "resource_link");
        member_string(w, "uri", c->resource_link->uri);
        member_string(w, "name", c->resource_link->name);
        break;
    default:
        member_string(w, "type", "text");
        member_string(w, "text", c->kind_case == CONTENT_BLOCK__KIND_TEXT ? c->text : "");
    }
    json_end_object(w);
}

void acp_prompt(struct sa_buf *out, uint64_t id, const char *agent_session_id, ContentBlock *const *content,
                size_t n, const struct sa_buf *context)
{
    acp_open_request(out, id, "session/prompt");
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    member_string(&w, "sessionId", agent_session_id);
    json_key(&w, "prompt");
    json_begin_array(&w);
    if (context->len) {
        json_begin_object(&w);
        member_string(&w, "type", "text");
        json_key(&w, "text");
        json_put_bytes(&w, context->data, context->len);
        json_end_object(&w);
    }
    for (size_t i = 0; i < n; i++)
        acp_put_block(&w, content[i]);
    json_end_array(&w);
    json_end_object(&w);
    acp_close(out);
}

void acp_set(struct sa_buf *out, uint64_t id, const char *method, const char *agent_session_id,
             const char *config_id, const char *key, const char *value, bool boolean)
{
    acp_open_request(out, id, method);
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    member_string(&w, "sessionId", agent_session_id);
    if (config_id)
        member_string(&w, "configId", config_id);
    if (boolean)
        member_bool(&w, key, !strcmp(value, "true"));
    else
        member_string(&w, key, value);
    json_end_object(&w);
    acp_close(out);
}

void acp_cancel(struct sa_buf *out, const char *agent_session_id)
{
    acp_open_notification(out, "session/cancel");
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    member_string(&w, "sessionId", agent_session_id);
    json_end_object(&w);
    acp_close(out);
}
