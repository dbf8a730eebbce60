/* A viewer of a terminal who types as if nobody else did: it takes control whenever it has something to type,
 * as the peer's clients expect. Each piece of input is taken once, also when another viewer takes control
 * while it is on its way. Under the service lock; callbacks never come from inside these functions. */
#ifndef SERVICES_GATEWAY_SVC_TERMINAL_LINK_H_
#define SERVICES_GATEWAY_SVC_TERMINAL_LINK_H_

#include "sandboxagent/process/v1/terminal_service.rpc.h"
#include "services/gateway-svc/gateway.h"

struct terminal_link;

/* Any may be NULL but `ended`. */
struct terminal_link_events {
    void (*opened)(void *user, const Process *p);
    /* Bytes for the viewer's terminal. anew: it is to be cleared before, as output was skipped. */
    void (*output)(void *user, const void *data, size_t n, bool anew);
    /* All that was typed so far is with the process. */
    void (*typed)(void *user);
    /* The last one: how the process ended, or why the view did. */
    void (*ended)(void *user, const ExitRecord *exit, const sa_error *err);
};

/* after: go on from this byte of output; NULL: begin with the screen. */
struct terminal_link *terminal_link_new(const struct exchange *x, const char *process_id,
                                        const uint64_t *after, const struct terminal_link_events *events,
                                        void *user);
void terminal_link_free(struct terminal_link *l); /* NULL is fine */
void terminal_link_type(struct terminal_link *l, const void *data, size_t n);
size_t terminal_link_untyped(const struct terminal_link *l); /* bytes that wait */
void terminal_link_resize(struct terminal_link *l, uint32_t columns, uint32_t rows);
void terminal_link_pause(struct terminal_link *l, bool paused); /* output */

#endif
