/* Prompts that refer to blobs: checked when they are accepted, read before they are sent. */
#ifndef SERVICES_SESSION_SVC_BLOB_PROMPT_H_
#define SERVICES_SESSION_SVC_BLOB_PROMPT_H_

#include "services/session-svc/session.h"

/* Fills in the sizes of blobs. INVALID_REQUEST, BLOB_NOT_FOUND, MESSAGE_TOO_LARGE. */
int blob_prompt_check(struct session *s, ContentBlock *const *content, size_t n, bool *ret_has_blobs,
                      sa_error **err);
/* The event that accepts the prompt uses them. */
void blob_prompt_use(struct session *s, ContentBlock *const *content, size_t n, uint64_t seq);

struct blob_prompt;
/* Reads the blobs of a turn on a worker, then settles the session. Takes row and err (row NULL: err says
 * why). */
struct blob_prompt *blob_prompt_read(struct session *s, StoredTurn *row, sa_error *err);
bool blob_prompt_ready(const struct blob_prompt *b); /* NULL: no */
/* The turn with the blobs in place, each as the JSON of its block; free it with store_message_free. NULL:
 * *err. Once, when it is ready. */
StoredTurn *blob_prompt_take(struct blob_prompt *b, sa_error **err);
void blob_prompt_drop(struct blob_prompt *b); /* at any time; NULL is fine */

#endif
