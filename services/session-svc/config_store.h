/* The MCP servers and skills of a session: its own, those configured for its working directory, those for
 * all. */
#ifndef SERVICES_SESSION_SVC_CONFIG_STORE_H_
#define SERVICES_SESSION_SVC_CONFIG_STORE_H_

#include "adapters/json/json.h"
#include "services/session-svc/session.h"

enum {
    CONFIG_ROWS_MAX = 10000, /* of each kind */
    CONFIG_ITEMS_MAX = 100,  /* servers or skills of a session; elements of a list of one */
    CONFIG_NAME_MAX = 128,
    CONFIG_ITEM_TEXT_MAX = 32 << 10,
    CONFIG_BYTES_MAX = 64 << 10,
};

/* 1 to 128 letters, digits, '.', '-' and '_'; INVALID_REQUEST names the field. */
int config_check_name(const char *name, const char *field, sa_error **err);
int config_check_directory(ProtobufCBinaryData directory, sa_error **err);
/* Credentials must exist (NOT_FOUND). */
int config_check_server(struct sessions *all, const McpServer *m, sa_error **err);
int config_check_skill(const Skill *k, sa_error **err);
/* Of a table by directory and name (DB_A_MCP, DB_A_SKILLS). */
struct store_key config_key(ProtobufCBinaryData directory, const char *name);

/* Those that the session has, in the arena; disabled ones are left out. */
int config_servers(struct session *s, const StoredSpec *spec, struct sa_arena *arena, McpServer ***ret,
                   size_t *ret_n, sa_error **err);
int config_skills(struct session *s, const StoredSpec *spec, struct sa_arena *arena, Skill ***ret,
                  size_t *ret_n, sa_error **err);

/* mcpServers of session/new, load and resume: appends the list, with the values of credentials (NOT_FOUND).
 * What this agent cannot use is left out, with an error event. */
int mcp_servers(struct session *s, const StoredSpec *spec, struct sa_buf *ret, sa_error **err);

#endif
