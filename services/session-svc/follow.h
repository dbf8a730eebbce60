/* Readers of a session's log: each is a cursor over what is committed. There is no queue per reader, and
 * nothing is read from the store while a reader has no room. */
#ifndef SERVICES_SESSION_SVC_FOLLOW_H_
#define SERVICES_SESSION_SVC_FOLLOW_H_

#include "services/session-svc/session.h"

enum {
    FOLLOW_BEHIND_MAX = 10000, /* events: a live reader that is further behind gets its verdict */
    FOLLOW_PROGRESS_MS = 15000,
    FOLLOW_BATCH_EVENTS = 256,
    FOLLOW_BATCH_BYTES = 256 << 10,
};

/* Both take the call over. SEQ_AHEAD. */
void follow_stream(struct session *s, struct rpc_call *call, const StreamEventsRequest *req);
/* From the event before accept_seq to the end of the turn; end_seq: 0 while it is not known. */
void follow_run(struct session *s, struct rpc_call *call, uint64_t turn, uint64_t accept_seq,
                uint64_t end_seq);

/* Something was committed. */
void follow_wake(struct session *s);
void follow_turn_ended(struct session *s, uint64_t turn, uint64_t seq);
/* Streams end with DRAINING. */
void follow_drain(struct sessions *all);
/* Timer: signs of life. */
void follow_progress(struct sessions *all);

#endif
