/* Requests of the agent: each becomes a durable pending row, is carried out once it is committed, and is
 * answered in the write set that deletes the row. After a restart every row is carried out again. */
#ifndef SERVICES_SESSION_SVC_REQUESTS_H_
#define SERVICES_SESSION_SVC_REQUESTS_H_

#include "services/session-svc/acp_read.h"
#include "services/session-svc/session.h"

/* A request that came at this offset. What no one here knows is answered with -32601 at once. */
void requests_take(struct session *s, struct sa_arena *arena, const struct acp_message *m, uint64_t offset);
/* Carries out what is committed and not under way. */
void requests_drive(struct session *s);
/* Answers with a result (raw JSON) or, code not 0, an error; the row goes. */
void requests_answer(struct session *s, struct pending *p, const struct sa_buf *result);
void requests_refuse(struct session *s, struct pending *p, int code, const char *message);
struct pending *requests_find(struct session *s, uint64_t offset);

int requests_load(struct session *s, sa_error **err);
/* Stops what is under way; the rows stay. */
void requests_abandon(struct session *s);
/* Forgets them all, in memory. */
void requests_clear(struct session *s);

/* files.c: one fs/read_text_file or fs/write_text_file. */
void files_start(struct session *s, struct pending *p);
void files_abandon(struct file_request *f); /* NULL is fine */

#endif
