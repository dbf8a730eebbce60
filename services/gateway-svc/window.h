/* The newest events of one session as server-sent frames, made once and shown to every viewer. Bounded: the
 * oldest go first, and who needs those reads them from the log. Plain data structure. */
#ifndef SERVICES_GATEWAY_SVC_WINDOW_H_
#define SERVICES_GATEWAY_SVC_WINDOW_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    WINDOW_EVENTS = 512,     /* a power of two */
    WINDOW_BYTES = 512 << 10 /* of all frames; the newest one stays, however large */
};

struct window_frame {
    char *text;
    size_t len;
    bool last; /* nothing comes after this event, ever */
};

/* Holds first..next-1. */
struct window {
    uint64_t first, next;
    size_t bytes;
    struct window_frame frames[WINDOW_EVENTS];
};

/* Empty, and the next event is `next`. */
void window_reset(struct window *w, uint64_t next);
/* Adds event number w->next; takes text (malloc). */
void window_add(struct window *w, char *text, size_t len, bool last);
/* NULL: not held. */
const struct window_frame *window_get(const struct window *w, uint64_t seq);

#endif
