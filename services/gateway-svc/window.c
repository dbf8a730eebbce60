#include "services/gateway-svc/window.h"

#include <stdlib.h>

static struct window_frame *slot(struct window *w, uint64_t seq)
{
    return &w->frames[seq % WINDOW_EVENTS];
}

static void drop_first(struct window *w)
{
    struct window_frame *f = slot(w, w->first++);
    w->bytes -= f->len;
    free(f->text);
    f->text = NULL;
}

void window_reset(struct window *w, uint64_t next)
{
    while (w->first < w->next)
        drop_first(w);
    w->first = w->next = next;
}

void window_add(struct window *w, char *text, size_t len, bool last)
{
    if (w->next - w->first == WINDOW_EVENTS)
        drop_first(w);
    *slot(w, w->next++) = (struct window_frame){text, len, last};
    w->bytes += len;
    while (w->bytes > WINDOW_BYTES && w->next - w->first > 1)
        drop_first(w);
}

const struct window_frame *window_get(const struct window *w, uint64_t seq)
{
    return seq >= w->first && seq < w->next ? &w->frames[seq % WINDOW_EVENTS] : NULL;
}
