/* Keeps what a terminal shows up to date with its journal, in the worker pool, and hands it out.
 *
 * Nothing is read before the first painter_ask. From then on it follows, slowly (painter_news), and at full
 * speed while somebody waits. What it is too slow for is skipped. All functions under the service lock. */
#ifndef SERVICES_PROCESS_SVC_PAINTER_H_
#define SERVICES_PROCESS_SVC_PAINTER_H_

#include "adapters/os/loop.h"
#include "adapters/os/mem.h"

/* The screen at a point of the output. */
struct painting {
    struct sa_buf data; /* see screen_render */
    struct sa_buf text; /* of GetScreen: see screen_text */
    uint64_t offset;    /* output goes on at this byte */
    unsigned rows, columns, cursor_row, cursor_column;
};

/* `painting` lives until the call returns; NULL with err: the output cannot be read. */
typedef void painted_fn(void *user, const struct painting *painting, const sa_error *err);

enum painting_kind {
    PAINT_ALL,    /* with scrollback, for a viewer */
    PAINT_SCREEN, /* without, and the text */
    PAINT_LINES,  /* with scrollback, and the text */
    PAINTING_KINDS,
};

struct painter;
/* directory: of the process. lines: of scrollback. */
struct painter *painter_new(struct sa_loop *loop, const char *directory, unsigned rows, unsigned columns,
                            size_t lines);
/* What waits is not called any more. */
void painter_free(struct painter *p); /* NULL is fine */
/* Calls fn later, once, with the screen at the present end of the output, or behind it. */
void painter_ask(struct painter *p, enum painting_kind kind, painted_fn *fn, void *user);
/* What this user asked for is not called any more. */
void painter_forget(struct painter *p, const void *user);
void painter_resize(struct painter *p, unsigned rows, unsigned columns);
/* There is more output, and somebody looks. */
void painter_news(struct painter *p);

#endif
