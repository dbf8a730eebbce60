/* Goes through the log of a session with work that takes time for each event (export, verification, search).
 * A page is copied under the lock and handed to a worker; when that is done, `done` decides under the lock
 * how it goes on. Memory: one page. Embedded in what its user keeps. */
#ifndef SERVICES_SESSION_SVC_WALK_H_
#define SERVICES_SESSION_SVC_WALK_H_

#include "services/session-svc/sessions.h"

enum { WALK_PAGE_BYTES = 256 << 10 };

struct walk {
    struct sessions *all;
    struct sa_id id;
    uint64_t next, last; /* the next event to read, and the last one */
    struct store_page page;
    bool busy;     /* a worker has it: it must not be freed */
    sa_error *err; /* set by `work`, or because the store failed: the walk is over */
    /* On a worker, without the lock: rows of the page, contiguous from `next` on. NULL: nothing. */
    void (*work)(struct walk *w);
    /* Under the lock: w->next is behind the page. It may free the walk. */
    void (*done)(struct walk *w);
};

/* Over all that is committed. SESSION_NOT_FOUND, INVALID_REQUEST, STORE_ERROR. */
int walk_init(struct walk *w, struct sessions *all, const char *session_id, sa_error **err);
void walk_fini(struct walk *w); /* not while it is busy */
bool walk_is_over(const struct walk *w);
/* The next page, with err for what went wrong: EVENTS_REMOVED, STORE_CORRUPT, STORE_ERROR. `done` comes
 * later, never from inside. Not while it is busy, and not when it is over. */
void walk_next(struct walk *w);
/* seq of a row of the page. */
uint64_t walk_seq(const struct store_row *row);

#endif
