/* What a terminal shows, kept from the bytes that a program writes to it: scrollback, screen, modes, cursor.
 *
 * A screen is one caller's at a time, on any thread; nothing blocks. Memory is bounded: two buffers of
 * rows * columns cells (28 bytes each, the second one from its first use on), SCREEN_SCROLLBACK_BYTES of
 * scrollback, and little else, whatever the bytes are. Not kept: sixel and other pictures, double-width
 * lines, left and right margins, protected cells, more than three combining characters in a cell. */
#ifndef SERVICES_PROCESS_SVC_SCREEN_H_
#define SERVICES_PROCESS_SVC_SCREEN_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "adapters/os/mem.h"

enum {
    SCREEN_SIDE_MAX = 1000,            /* rows, columns */
    SCREEN_LINES_MAX = 10000,          /* of scrollback */
    SCREEN_SCROLLBACK_BYTES = 2 << 20, /* as it is rendered */
    SCREEN_RENDERED_BYTES = 7 << 19,   /* of screen_render: 3.5 MiB, below what a message may have */
};

struct screen;
/* rows and columns: 1 to SCREEN_SIDE_MAX. lines: of scrollback, 0 to SCREEN_LINES_MAX. */
struct screen *screen_new(unsigned rows, unsigned columns, size_t lines);
void screen_free(struct screen *s); /* NULL is fine */

/* Bytes as the program has written them; a sequence may be cut anywhere. */
void screen_feed(struct screen *s, const void *p, size_t n);
/* As terminals do it: what no longer fits goes into the scrollback; scroll regions end. */
void screen_resize(struct screen *s, unsigned rows, unsigned columns);
/* Bytes are missing from here on: clears everything but the modes and the title. */
void screen_skip(struct screen *s);

/* Appends what brings a terminal of the same size, just cleared, to the same state, including a sequence
 * that is not complete yet: the byte after the last one that was fed can follow. At most
 * SCREEN_RENDERED_BYTES: when there is more, the oldest scrollback is left out, then colours, then what is
 * not ASCII. */
void screen_render(const struct screen *s, bool scrollback, struct sa_buf *ret);
/* Appends the text of the screen alone: lines without trailing blanks, joined by newlines. UTF-8. */
void screen_text(const struct screen *s, struct sa_buf *ret);
void screen_size(const struct screen *s, unsigned *ret_rows, unsigned *ret_columns);
/* From 0. */
void screen_cursor(const struct screen *s, unsigned *ret_row, unsigned *ret_column);

#endif
