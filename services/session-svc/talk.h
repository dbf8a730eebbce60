/* The conversation with an agent over ACP: the handshake, updates, answers. */
#ifndef SERVICES_SESSION_SVC_TALK_H_
#define SERVICES_SESSION_SVC_TALK_H_

#include "adapters/json/json.h"
#include "services/session-svc/session.h"

/* A line of the agent's standard output. */
void talk_line(struct session *s, struct sa_arena *arena, const struct line *line);

/* Each puts a message into the outbox. */
void talk_initialize(struct session *s);
void talk_prompt(struct session *s, ContentBlock *const *content, size_t n, const struct sa_buf *context);
void talk_cancel(struct session *s);

/* Tells the agent the next of the wishes for its configuration; when it has them all, it is ready. */
void talk_configure(struct session *s);
/* The id for a request of ours with this method, whose answer is then expected. */
uint64_t talk_request_id(struct session *s, const char *method);

/* The agent's name, and the method whose answer it owes, for messages. */
const char *talk_agent(const struct session *s);
const char *talk_awaited(const struct session *s);

#endif
