/* One line of an agent's standard output as what it means: pure functions over bytes, fuzzed. Nothing is
 * refused: what this version does not know becomes an event that says so. */
#ifndef SERVICES_SESSION_SVC_ACP_READ_H_
#define SERVICES_SESSION_SVC_ACP_READ_H_

#include "adapters/json/json.h"
#include "sandboxagent/session/v1/event.rpc.h"

enum {
    ACP_VERSION = 1,
    ACP_RAW_MAX = 512 << 10, /* bytes of a message that an event keeps raw */
    ACP_EVENT_MAX = 1 << 20, /* bytes of an event; what is larger becomes `unknown` with size and digest */
    ACP_LIST_MAX =
        100, /* typed elements of a list (locations, plan entries, ...); all are in the raw message */
    ACP_LOG_TEXT_MAX = 8192, /* bytes of a line outside the protocol */
};

enum acp_kind {
    ACP_UPDATE,       /* event is filled */
    ACP_NOTIFICATION, /* another notification: event says unknown */
    ACP_REQUEST,      /* event says unknown; whoever knows the method replaces it */
    ACP_RESPONSE,     /* to request_id; error absent or not */
    ACP_NOT_JSON_RPC, /* event is an agent_log */
};

struct acp_message {
    enum acp_kind kind;
    struct json raw, id, params, result, error;
    char *method;        /* ACP_REQUEST, ACP_NOTIFICATION; else "" */
    uint64_t request_id; /* ACP_RESPONSE; 0: an id that is not one of ours */
    Event *event;        /* kind, raw bytes and protocol version; never NULL but for ACP_RESPONSE */
};

/* Everything in *ret lives in the arena or in the line. */
void acp_read(struct sa_arena *arena, const void *line, size_t n, struct acp_message *ret);

/* A line outside the protocol; stream 1 or 2. */
Event *acp_log_event(struct sa_arena *arena, unsigned stream, const void *line, size_t n);

/* Puts the raw message into the event where it is small enough; a typed event that is too large even without
 * it becomes `unknown` with the name, size and digest. */
void acp_keep_raw(struct sa_arena *arena, Event *e, const char *name, struct json raw);

/* Parts that requests carry too. */
ToolCall *acp_tool_call(struct sa_arena *arena, struct json v);
PermissionOption **acp_permission_options(struct sa_arena *arena, struct json list, size_t *ret_n);
StopReason acp_stop_reason(struct json v);
/* What a JSON-RPC error says to a person: its message, and the details some agents put into data. */
char *acp_error_text(struct sa_arena *arena, struct json error);

#endif
