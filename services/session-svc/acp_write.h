/* Messages for an agent, as JSON appended to a buffer. Pure functions. */
#ifndef SERVICES_SESSION_SVC_ACP_WRITE_H_
#define SERVICES_SESSION_SVC_ACP_WRITE_H_

#include "adapters/json/json.h"
#include "sandboxagent/session/v1/event.rpc.h"

/* {"jsonrpc":"2.0","id":id,"method":method,"params":...: the caller writes the value of params and calls
 * acp_close. */
void acp_open_request(struct sa_buf *out, uint64_t id, const char *method);
void acp_open_notification(struct sa_buf *out, const char *method);
/* The same with "result": the id is written as it came. */
void acp_open_result(struct sa_buf *out, struct json id);
void acp_close(struct sa_buf *out);
/* A whole answer. */
void acp_error(struct sa_buf *out, struct json id, int code, const char *message);

void acp_initialize(struct sa_buf *out, uint64_t id, bool files);
/* session/new (agent_session_id ""), session/load, session/resume. mcp_servers: a list, see config.h. */
void acp_open_session(struct sa_buf *out, uint64_t id, const char *method, const void *cwd, size_t cwd_len,
                      const char *agent_session_id, struct json mcp_servers);
/* One block of a prompt's content. */
void acp_put_block(struct json_writer *w, const ContentBlock *c);
/* context: text that goes before the content; may be empty. */
void acp_prompt(struct sa_buf *out, uint64_t id, const char *agent_session_id, ContentBlock *const *content,
                size_t n, const struct sa_buf *context);
/* session/set_mode (key modeId), session/set_model (modelId), session/set_config_option (value; with the id
 * of the option, else NULL). boolean: the value is true or false. */
void acp_set(struct sa_buf *out, uint64_t id, const char *method, const char *agent_session_id,
             const char *config_id, const char *key, const char *value, bool boolean);
void acp_cancel(struct sa_buf *out, const char *agent_session_id);

#endif
