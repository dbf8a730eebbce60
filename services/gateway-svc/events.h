/* Live events: one subscription to session-svc's bus for the whole process, one feed per followed session,
 * any number of viewers on a feed. A viewer is a cursor: it reads the feed's window, and what is no longer
 * there from the owner's log (ListEvents). What the bus loses is read from there, too, before any viewer sees
 * a gap. */
#ifndef SERVICES_GATEWAY_SVC_EVENTS_H_
#define SERVICES_GATEWAY_SVC_EVENTS_H_

#include "sandboxagent/session/v1/session_service.rpc.h"
#include "services/gateway-svc/gateway.h"
#include "services/gateway-svc/window.h"

struct events;
struct feed;

/* Embedded in a viewer. */
struct feed_viewer {
    struct feed_viewer *next, **link;
    void (*wake)(void *user); /* the feed has news */
    void *user;
};

struct events *events_new(struct gateway *gw);
void events_free(struct events *e); /* after all viewers have left; NULL is fine */

/* The session's feed, made by the first viewer and gone with the last. */
struct feed *feed_join(struct events *e, const char *session_id, struct feed_viewer *v);
void feed_leave(struct feed *f, struct feed_viewer *v);

/* Does the feed follow the log of this epoch? */
bool feed_follows(const struct feed *f, const char *epoch);
/* Follows the log after `head`. False: it cannot, for now. */
bool feed_follow(struct feed *f, const char *epoch, uint64_t head);
const struct window *feed_window(const struct feed *f);

/* Every viewer of every feed, e.g. for heartbeats; fn may make the viewer leave. */
void feed_each_viewer(struct events *e, void (*fn)(struct feed_viewer *v, void *arg), void *arg);

/* "id: <epoch>-<seq>\ndata: {...}\n\n" */
void event_frame(struct sa_buf *out, const char *epoch, const Event *event);
/* Is this the end of the session's log? */
bool event_is_last(const Event *event);

#endif
