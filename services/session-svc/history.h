/* The conversation so far as text, for an agent that cannot take it up by itself. */
#ifndef SERVICES_SESSION_SVC_HISTORY_H_
#define SERVICES_SESSION_SVC_HISTORY_H_

#include "services/session-svc/session.h"

enum {
    HISTORY_EVENTS_MAX = 400,  /* looked at, from the end */
    HISTORY_BYTES_MAX = 12000, /* of the text */
};

/* Appends what was said before the event `until_seq`, the latest last; nothing when there is nothing. */
void history_text(struct session *s, uint64_t until_seq, struct sa_buf *ret);

#endif
