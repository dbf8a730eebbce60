#include "services/session-svc/acp_read.h"

#include <string.h>

#include "adapters/os/sha256.h"

#define ARENA_NEW(arena, type, init)                                                                         \
    ({                                                                                                       \
        type *new_ = sa_arena_alloc(arena, sizeof *new_);                                                    \
        *new_ = (type)init;                                                                                  \
        new_;                                                                                                \
    })

struct word {
    const char *text;
    int value;
};

static int word_value(struct json v, const struct word *words, int otherwise)
{
    for (; words->text; words++)
        if (json_is(v, words->text))
            return words->value;
    return otherwise;
}

static ProtobufCBinaryData bytes_of(struct sa_arena *arena, struct json v)
{
    cleanup_buf struct sa_buf b = {0};
    json_decode(v, JSON_REPLACE, &b, NULL);
    return (ProtobufCBinaryData){b.len, sa_arena_memdup(arena, b.data, b.len)};
}

/* ---- content ---- */

static int base64_digit(unsigned char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' || c == '-' ? 62 : c == '/' || c == '_' ? 63 : -1;
}

static bool base64(struct sa_arena *arena, struct json v, ProtobufCBinaryData *ret)
{
    cleanup_buf struct sa_buf text = {0};
    if (json_decode(v, JSON_REFUSE, &text, NULL))
        return false;
    size_t n = text.len;
    while (n && text.data[n - 1] == '=')
        n--;
    if (n % 4 == 1)
        return false;
    uint8_t *out = sa_arena_alloc(arena, n * 3 / 4 + 1);
    size_t len = 0;
    uint32_t bits = 0;
    for (size_t i = 0; i < n; i++) {
        int d = base64_digit(text.data[i]);
        if (d < 0)
            return false;
        bits = bits << 6 | (uint32_t)d;
        if (i % 4)
            out[len++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
    }
    *ret = (ProtobufCBinaryData){len, out};
    return true;
}

static BinaryContent *binary(struct sa_arena *arena, struct json v)
{
    BinaryContent *b = ARENA_NEW(arena, BinaryContent, BINARY_CONTENT__INIT);
    b->mime_type = json_arena_string(arena, json_get(v, "mimeType"));
    return base64(arena, json_get(v, "data"), &b->data) ? b : NULL;
}

static ContentBlock *content_block(struct sa_arena *arena, struct json v)
{
    ContentBlock *c = ARENA_NEW(arena, ContentBlock, CONTENT_BLOCK__INIT);
    struct json type = json_get(v, "type");
    if (json_is(type, "text") && json_type(json_get(v, "text")) == JSON_STRING) {
        c->kind_case = CONTENT_BLOCK__KIND_TEXT;
        c->text = json_arena_string(arena, json_get(v, "text"));
    } else if (json_is(type, "image") && (c->image = binary(arena, v))) {
        c->kind_case = CONTENT_BLOCK__KIND_IMAGE;
    } else if (json_is(type, "audio") && (c->audio = binary(arena, v))) {
        c->kind_case = CONTENT_BLOCK__KIND_AUDIO;
    } else if (json_is(type, "resource_link")) {
        ResourceLink *l = ARENA_NEW(arena, ResourceLink, RESOURCE_LINK__INIT);
        l->uri = json_arena_string(arena, json_get(v, "uri"));
        l->name = json_arena_string(arena, json_get(v, "name"));
        c->kind_case = CONTENT_BLOCK__KIND_RESOURCE_LINK;
        c->resource_link = l;
    } else {
        c->kind_case = CONTENT_BLOCK__KIND_JSON;
        c->json = (ProtobufCBinaryData){v.n, sa_arena_memdup(arena, v.p, v.n)};
    }
    return c;
}

static bool content_chunk(struct sa_arena *arena, struct json update, Event *e, Event__KindCase kind)
{
    struct json content = json_get(update, "content");
    if (json_type(content) != JSON_OBJECT)
        return false;
    ContentChunk *c = ARENA_NEW(arena, ContentChunk, CONTENT_CHUNK__INIT);
    c->content = content_block(arena, content);
    c->message_id = json_arena_string(arena, json_get(update, "messageId"));
    e->kind_case = kind;
    e->agent_message_chunk = c; /* the three chunk kinds share a type and their place in the union */
    return true;
}

static bool user_chunk(struct sa_arena *arena, struct json update, Event *e)
{
    return content_chunk(arena, update, e, EVENT__KIND_USER_MESSAGE_CHUNK);
}

static bool agent_chunk(struct sa_arena *arena, struct json update, Event *e)
{
    return content_chunk(arena, update, e, EVENT__KIND_AGENT_MESSAGE_CHUNK);
}

static bool thought_chunk(struct sa_arena *arena, struct json update, Event *e)
{
    return content_chunk(arena, update, e, EVENT__KIND_AGENT_THOUGHT_CHUNK);
}

/* ---- tool calls ---- */

static ToolCallContent *tool_content(struct sa_arena *arena, struct json v)
{
    ToolCallContent *c = ARENA_NEW(arena, ToolCallContent, TOOL_CALL_CONTENT__INIT);
    struct json type = json_get(v, "type");
    if (json_is(type, "diff")) {
        FileDiff *d = ARENA_NEW(arena, FileDiff, FILE_DIFF__INIT);
        d->path = bytes_of(arena, json_get(v, "path"));
        d->new_text = json_arena_string(arena, json_get(v, "newText"));
        if (json_type(json_get(v, "oldText")) == JSON_STRING) {
            d->_old_text_case = FILE_DIFF___OLD_TEXT_OLD_TEXT;
            d->old_text = json_arena_string(arena, json_get(v, "oldText"));
        }
        c->kind_case = TOOL_CALL_CONTENT__KIND_DIFF;
        c->diff = d;
    } else if (json_is(type, "terminal")) {
        c->kind_case = TOOL_CALL_CONTENT__KIND_TERMINAL_ID;
        c->terminal_id = json_arena_string(arena, json_get(v, "terminalId"));
    } else {
        struct json inner = json_get(v, "content");
        c->kind_case = TOOL_CALL_CONTENT__KIND_CONTENT;
        c->content = content_block(arena, json_is(type, "content") ? inner : v);
    }
    return c;
}

static ToolCallLocation *tool_location(struct sa_arena *arena, struct json v)
{
    ToolCallLocation *l = ARENA_NEW(arena, ToolCallLocation, TOOL_CALL_LOCATION__INIT);
    uint64_t line;
    l->path = bytes_of(arena, json_get(v, "path"));
    if (json_uint(json_get(v, "line"), &line) && line <= UINT32_MAX) {
        l->_line_case = TOOL_CALL_LOCATION___LINE_LINE;
        l->line = (uint32_t)line;
    }
    return l;
}

/* Fills an array of pointers from the first elements of a list. */
#define EACH(arena, list, make, array, count)                                                                \
    do {                                                                                                     \
        struct json element_;                                                                                \
        (count) = 0;                                                                                         \
        (array) = sa_arena_alloc(arena, ACP_LIST_MAX * sizeof *(array));                                     \
        for (struct json_iter it_ = json_iter(list);                                                         \
             (count) < ACP_LIST_MAX && json_next(&it_, NULL, &element_);)                                    \
            (array)[(count)++] = make(arena, element_);                                                      \
    } while (0)

/* An array; anything else is taken as empty. */
static struct json list_of(struct json v)
{
    return json_type(v) == JSON_ARRAY ? v : (struct json){0};
}

ToolCall *acp_tool_call(struct sa_arena *arena, struct json v)
{
    static const struct word statuses[] = {{"pending", TOOL_CALL_STATUS_PENDING},
                                           {"in_progress", TOOL_CALL_STATUS_IN_PROGRESS},
                                           {"completed", TOOL_CALL_STATUS_COMPLETED},
                                           {"failed", TOOL_CALL_STATUS_FAILED},
                                           {0}};
    ToolCall *t = ARENA_NEW(arena, ToolCall, TOOL_CALL__INIT);
    t->tool_call_id = json_arena_string(arena, json_get(v, "toolCallId"));
    t->title = json_arena_string(arena, json_get(v, "title"));
    t->tool_kind = json_arena_string(arena, json_get(v, "kind"));
    t->status = (ToolCallStatus)word_value(json_get(v, "status"), statuses, TOOL_CALL_STATUS_UNSPECIFIED);
    EACH(arena, list_of(json_get(v, "locations")), tool_location, t->locations, t->n_locations);
    EACH(arena, list_of(json_get(v, "content")), tool_content, t->content, t->n_content);
    return t;
}

static bool tool_call(struct sa_arena *arena, struct json update, Event *e)
{
    e->kind_case = EVENT__KIND_TOOL_CALL;
    e->tool_call = acp_tool_call(arena, update);
    return *e->tool_call->tool_call_id != '\0';
}

static bool tool_call_update(struct sa_arena *arena, struct json update, Event *e)
{
    bool ok = tool_call(arena, update, e);
    e->kind_case = EVENT__KIND_TOOL_CALL_UPDATE;
    return ok;
}

static PermissionOption *permission_option(struct sa_arena *arena, struct json v)
{
    static const struct word kinds[] = {{"allow_once", PERMISSION_OPTION_KIND_ALLOW_ONCE},
                                        {"allow_always", PERMISSION_OPTION_KIND_ALLOW_ALWAYS},
                                        {"reject_once", PERMISSION_OPTION_KIND_REJECT_ONCE},
                                        {"reject_always", PERMISSION_OPTION_KIND_REJECT_ALWAYS},
                                        {0}};
    PermissionOption *o = ARENA_NEW(arena, PermissionOption, PERMISSION_OPTION__INIT);
    o->option_id = json_arena_string(arena, json_get(v, "optionId"));
    o->name = json_arena_string(arena, json_get(v, "name"));
    o->kind =
        (PermissionOptionKind)word_value(json_get(v, "kind"), kinds, PERMISSION_OPTION_KIND_UNSPECIFIED);
    return o;
}

PermissionOption **acp_permission_options(struct sa_arena *arena, struct json list, size_t *ret_n)
{
    PermissionOption **options;
    EACH(arena, list_of(list), permission_option, options, *ret_n);
    return options;
}

/* ---- the other updates ---- */

static PlanEntry *plan_entry(struct sa_arena *arena, struct json v)
{
    PlanEntry *p = ARENA_NEW(arena, PlanEntry, PLAN_ENTRY__INIT);
    p->content = json_arena_string(arena, json_get(v, "content"));
    p->priority = json_arena_string(arena, json_get(v, "priority"));
    p->status = json_arena_string(arena, json_get(v, "status"));
    return p;
}

static bool plan(struct sa_arena *arena, struct json update, Event *e)
{
    e->kind_case = EVENT__KIND_PLAN;
    e->plan = ARENA_NEW(arena, Plan, PLAN__INIT);
    EACH(arena, list_of(json_get(update, "entries")), plan_entry, e->plan->entries, e->plan->n_entries);
    return true;
}

static bool usage(struct sa_arena *arena, struct json update, Event *e)
{
    Usage *u = ARENA_NEW(arena, Usage, USAGE__INIT);
    uint64_t n;
    double amount;
    if (json_uint(json_get(update, "used"), &n)) {
        u->_used_tokens_case = USAGE___USED_TOKENS_USED_TOKENS;
        u->used_tokens = n;
    }
    if (json_uint(json_get(update, "size"), &n)) {
        u->_window_tokens_case = USAGE___WINDOW_TOKENS_WINDOW_TOKENS;
        u->window_tokens = n;
    }
    if (json_double(json_get(update, "cost.amount"), &amount)) {
        u->_cost_case = USAGE___COST_COST;
        u->cost = amount;
        u->currency = json_arena_string(arena, json_get(update, "cost.currency"));
    }
    e->kind_case = EVENT__KIND_USAGE;
    e->usage = u;
    return true;
}

static bool mode_changed(struct sa_arena *arena, struct json update, Event *e)
{
    e->kind_case = EVENT__KIND_MODE_CHANGED;
    e->mode_changed = ARENA_NEW(arena, ModeChanged, MODE_CHANGED__INIT);
    e->mode_changed->mode_id = json_arena_string(arena, json_get(update, "currentModeId"));
    return *e->mode_changed->mode_id != '\0';
}

static bool config_changed(struct sa_arena *arena, struct json update, Event *e)
{
    (void)update;
    e->kind_case = EVENT__KIND_CONFIG_CHANGED;
    e->config_changed = ARENA_NEW(arena, ConfigChanged, CONFIG_CHANGED__INIT);
    return true;
}

static const struct {
    const char *name;
    bool (*fill)(struct sa_arena *arena, struct json update, Event *e);
} updates[] = {
    {"user_message_chunk", user_chunk},
    {"agent_message_chunk", agent_chunk},
    {"agent_thought_chunk", thought_chunk},
    {"tool_call", tool_call},
    {"tool_call_update", tool_call_update},
    {"plan", plan},
    {"usage_update", usage},
    {"current_mode_update", mode_changed},
    {"config_option_update", config_changed},
};

static void set_unknown(struct sa_arena *arena, Event *e, const char *name, size_t full_size)
{
    Unknown *u = ARENA_NEW(arena, Unknown, UNKNOWN__INIT);
    u->name = rpc_utf8(arena, name, strnlen(name, 256));
    u->full_size = full_size;
    e->kind_case = EVENT__KIND_UNKNOWN;
    e->unknown = u;
}

/* Returns the name of the update. */
static const char *fill_update(struct sa_arena *arena, struct json update, Event *e)
{
    struct json kind = json_get(update, "sessionUpdate");
    for (size_t i = 0; i < sizeof updates / sizeof *updates; i++)
        if (json_is(kind, updates[i].name)) {
            if (!updates[i].fill(arena, update, e))
                set_unknown(arena, e, updates[i].name, 0);
            return updates[i].name;
        }
    char *name = json_arena_string(arena, kind);
    set_unknown(arena, e, name, 0);
    return name;
}

void acp_keep_raw(struct sa_arena *arena, Event *e, const char *name, struct json raw)
{
    if (raw.n <= ACP_RAW_MAX) {
        e->agent_json = (ProtobufCBinaryData){raw.n, (uint8_t *)(uintptr_t)raw.p};
        e->protocol_version = ACP_VERSION;
    }
    if (raw.n <= ACP_RAW_MAX / 2 || event__get_packed_size(e) <= ACP_EVENT_MAX)
        return;
    struct sa_sha256 sum;
    char text[SA_SHA256_TEXT + 1];
    sa_sha256_init(&sum);
    sa_sha256_add(&sum, raw.p, raw.n);
    sa_sha256_end_text(&sum, text);
    e->agent_json = (ProtobufCBinaryData){0};
    e->protocol_version = 0;
    set_unknown(arena, e, name, raw.n);
    e->unknown->sha256 = sa_arena_strdup(arena, text);
}

Event *acp_log_event(struct sa_arena *arena, unsigned stream, const void *line, size_t n)
{
    Event *e = ARENA_NEW(arena, Event, EVENT__INIT);
    AgentLog *l = ARENA_NEW(arena, AgentLog, AGENT_LOG__INIT);
    size_t kept = n < ACP_LOG_TEXT_MAX ? n : ACP_LOG_TEXT_MAX;
    l->stream = stream;
    l->text = rpc_utf8(arena, line, kept);
    l->full_size = kept < n ? n : 0;
    e->kind_case = EVENT__KIND_AGENT_LOG;
    e->agent_log = l;
    return e;
}

StopReason acp_stop_reason(struct json v)
{
    static const struct word reasons[] = {{"end_turn", STOP_REASON_END_TURN},
                                          {"max_tokens", STOP_REASON_MAX_TOKENS},
                                          {"max_turn_requests", STOP_REASON_MAX_TURN_REQUESTS},
                                          {"refusal", STOP_REASON_REFUSAL},
                                          {"cancelled", STOP_REASON_CANCELLED},
                                          {0}};
    return (StopReason)word_value(v, reasons, STOP_REASON_OTHER);
}

char *acp_error_text(struct sa_arena *arena, struct json error)
{
    char *message = json_arena_string(arena, json_get(error, "message"));
    char *details = json_arena_string(arena, json_get(error, "data.details"));
    if (!*details)
        details = json_arena_string(arena, json_get(error, "data.message"));
    if (!*details)
        details = json_arena_string(arena, json_get(error, "data"));
    char *text = *details ? sa_arena_format(arena, "%s: %s", message, details) : message;
    return rpc_utf8(arena, text, strnlen(text, 4096));
}

static void read_request(struct sa_arena *arena, struct acp_message *m, const struct json_rpc *rpc)
{
    m->method = json_arena_string(arena, rpc->method);
    m->event = ARENA_NEW(arena, Event, EVENT__INIT);
    const char *name = m->method;
    m->kind = rpc->kind == JSON_RPC_REQUEST ? ACP_REQUEST : ACP_NOTIFICATION;
    struct json update = json_get(rpc->params, "update");
    if (m->kind == ACP_NOTIFICATION && json_is(rpc->method, "session/update") &&
        json_type(update) == JSON_OBJECT) {
        m->kind = ACP_UPDATE;
        name = fill_update(arena, update, m->event);
    } else {
        set_unknown(arena, m->event, name, 0);
    }
    acp_keep_raw(arena, m->event, name, rpc->raw);
}

void acp_read(struct sa_arena *arena, const void *line, size_t n, struct acp_message *ret)
{
    struct json_rpc rpc;
    *ret = (struct acp_message){.kind = ACP_NOT_JSON_RPC, .method = sa_arena_strdup(arena, NULL)};
    if (json_rpc_parse(line, n, &rpc, NULL)) {
        ret->event = acp_log_event(arena, 1, line, n);
        return;
    }
    ret->raw = rpc.raw;
    ret->id = rpc.id;
    ret->params = rpc.params;
    ret->result = rpc.result;
    ret->error = rpc.error;
    if (rpc.kind == JSON_RPC_REQUEST || rpc.kind == JSON_RPC_NOTIFICATION) {
        read_request(arena, ret, &rpc);
        return;
    }
    ret->kind = ACP_RESPONSE;
    if (!json_uint(rpc.id, &ret->request_id))
        ret->request_id = 0;
}
