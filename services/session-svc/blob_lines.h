/* Pictures and sound in an agent's updates that are too large for an event: they become blobs, and the line
 * goes on with a reference in their place. A line that may hold one is looked at on a worker; the agent's
 * output waits meanwhile. */
#ifndef SERVICES_SESSION_SVC_BLOB_LINES_H_
#define SERVICES_SESSION_SVC_BLOB_LINES_H_

#include "adapters/json/json.h"
#include "sandboxagent/session/v1/event.rpc.h"
#include "services/session-svc/blobs.h"
#include "services/session-svc/lines.h"

enum { BLOBS_OF_LINE = 16 }; /* more stay where they are */

struct blob_found {
    struct json text; /* the JSON string in the line that is base64 */
    struct blob_file file;
};

/* A line that is being looked at. */
struct blob_line {
    struct session *session; /* NULL: nobody waits any more */
    struct sessions *all;
    struct sa_buf text; /* the line; then with references */
    struct line line;   /* over text */
    struct blob_found found[BLOBS_OF_LINE];
    size_t n_found;
    sa_error *err; /* why some stay where they are */
};

/* Could it hold one? */
bool blob_line_wanted(const struct line *line);
/* Copies the line; link_resume gets it when it was looked at, unless it was dropped. */
struct blob_line *blob_line_start(struct session *s, const struct line *line);
void blob_line_drop(struct blob_line *b); /* while it is being looked at; NULL is fine */
void blob_line_free(struct blob_line *b); /* after it came back */

/* Content that the line's references have left as JSON becomes what it was, with `blob` in place of data. */
void blob_line_attach(struct sa_arena *arena, Event *e, const struct blob_line *b);
/* The event of that seq uses them. -1: some are lost. */
int blob_line_use(struct session *s, struct blob_line *b, uint64_t seq, sa_error **err);

#endif
