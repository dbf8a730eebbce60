/* What the files of a screen share: screen_parse.c reads bytes, screen.c asks libvterm what they do,
 * screen_grid.c keeps the cells, screen_pen.c knows colours, screen_ansi.c writes it all down again. */
#ifndef SERVICES_PROCESS_SVC_SCREEN_PRIVATE_H_
#define SERVICES_PROCESS_SVC_SCREEN_PRIVATE_H_

#include "services/process-svc/screen.h"

enum {
    CELL_CHARS = 4,     /* one and what combines with it */
    SEQUENCE_MAX = 256, /* bytes of an escape sequence that is understood */
    TITLE_MAX = SEQUENCE_MAX,
    PARAMETERS_MAX = 32,
    SCREEN_RUN_MAX = 1024, /* bytes of text for libvterm at once: it keeps them on the stack */
};
#define CELL_CONTINUED UINT32_MAX /* the second half of a wide character */

/* Colours: the kind in the high byte; 0 is the default one. */
enum { COLOUR_INDEX = 1 << 24, COLOUR_RGB = 2 << 24 };

enum attribute {
    ATTR_BOLD = 1,
    ATTR_FAINT = 2,
    ATTR_ITALIC = 4,
    ATTR_BLINK = 8,
    ATTR_REVERSE = 16,
    ATTR_CONCEAL = 32,
    ATTR_STRIKE = 64,
    ATTR_OVERLINE = 128,
    ATTR_UNDERLINE_SHIFT = 8, /* three bits: the style, 0: none */
    ATTR_UNDERLINE = 7 << ATTR_UNDERLINE_SHIFT,
    ATTR_WIDE = 1 << 12, /* of a cell: the first half of a wide character */
};

struct pen {
    uint32_t fg, bg;
    uint16_t attributes;
};

struct cell {
    uint32_t chars[CELL_CHARS]; /* ends with 0 if it is shorter; chars[0] 0: blank, only pen.bg counts */
    struct pen pen;
};

/* Rows are pointers, so that scrolling moves pointers. */
struct grid {
    unsigned rows, columns;
    struct cell **row;
    struct cell *cells;
};

struct rect {
    unsigned top, bottom, left, right; /* bottom and right: the first that is not part of it */
};

/* Lines that have left the top of the screen, rendered, oldest first: a ring. */
struct scrollback {
    struct sa_buf *lines;
    size_t max, first, n;
    size_t bytes;
};

struct saved_cursor {
    bool valid;
    unsigned row, column;
    struct pen pen;
};

/* Parameters of a sequence: sub[i] when a colon joins it to the one before; -1: left out. */
struct parameters {
    int value[PARAMETERS_MAX];
    bool sub[PARAMETERS_MAX];
    int n;
};

enum parser_state { GROUND, ESCAPE, CONTROL_SEQUENCE, STRING, CHARACTER };

struct screen {
    struct VTerm *vterm;
    unsigned rows, columns; /* as asked; libvterm has at least two columns */
    struct grid buffers[2]; /* primary and alternate; the latter has no cells until its first use */
    int active;             /* of buffers */
    struct scrollback scrollback;
    struct pen pen;
    struct saved_cursor saved[2];       /* per buffer */
    unsigned row, column;               /* of the cursor */
    bool wrap_pending;                  /* the last column was written: the next character wraps first */
    bool moved;                         /* the cursor, since somebody set this to false */
    unsigned region_top, region_bottom; /* of scrolling; 0, 0: everything */
    uint64_t modes;                     /* bits of screen_modes */
    unsigned alternate_mode;            /* 47, 1047 or 1049 */
    char charset[2];                    /* what G0 and G1 are: 'B', '0' or 'A' */
    bool shifted;                       /* G1 is used */
    bool marks_full;                    /* too much combines with the last character */
    int cursor_style;                   /* of DECSCUSR; 0: default */
    char title[TITLE_MAX + 1];
    /* The sequence that is being read. */
    enum parser_state state;
    bool string_escape; /* STRING: the byte before was ESC */
    char string_kind;   /* STRING: the byte behind ESC */
    char sequence[SEQUENCE_MAX];
    size_t n_sequence;         /* of STRING: only the first ones are kept */
    char last[4 * CELL_CHARS]; /* the last character, for its repetition */
    size_t n_last;
};

/* Modes that can be set and reset; in the order in which they are rendered. */
struct screen_mode {
    unsigned number;
    bool dec;     /* CSI ? n h, else CSI n h */
    bool initial; /* on in a terminal that was just reset */
    bool known;   /* to libvterm: passed on */
};
enum screen_mode_index { MODE_ORIGIN, MODE_WRAP, MODE_INSERT, MODE_KEYPAD, MODE_CURSOR_VISIBLE };
extern const struct screen_mode screen_modes[];
extern const size_t n_screen_modes;
uint64_t screen_initial_modes(void);
static inline bool screen_mode(const struct screen *s, enum screen_mode_index i)
{
    return s->modes >> i & 1;
}

/* ---- screen.c, for screen_parse.c ---- */

/* Characters, each complete and to be shown. */
void screen_run(struct screen *s, const char *p, size_t n);
void screen_control(struct screen *s, char c);
/* s->sequence is complete. */
void screen_escape(struct screen *s);
void screen_control_sequence(struct screen *s);
void screen_string(struct screen *s);

/* ---- screen_grid.c ---- */

void grid_init(struct grid *g, unsigned rows, unsigned columns);
void grid_fini(struct grid *g);
void grid_erase(struct grid *g, struct rect r, uint32_t bg);
/* Moves what is in a rectangle, up or down, left or right; what is uncovered becomes blank. */
void grid_scroll(struct grid *g, struct rect r, int up, int left, uint32_t bg);
/* chars: ends with 0. width 1 or 2. */
void grid_put(struct grid *g, unsigned row, unsigned column, const uint32_t *chars, unsigned width,
              const struct pen *pen);
/* The first `gone` rows are given up, then rows are cut or added below, columns at the right. */
void grid_resize(struct grid *g, unsigned rows, unsigned columns, unsigned gone);
/* Columns of the character that begins here; 0: blank, or half of a wide one that was overwritten in part. */
unsigned grid_width(const struct grid *g, unsigned row, unsigned column);
/* How many cells of the row count: behind them all are blank and of the default colour. */
unsigned grid_used(const struct grid *g, unsigned row);

void scrollback_init(struct scrollback *b, size_t max);
void scrollback_fini(struct scrollback *b);
void scrollback_clear(struct scrollback *b);
/* The next line, empty, to be filled; the oldest goes when there are too many. NULL: none is kept. */
struct sa_buf *scrollback_next(struct scrollback *b);
/* It is filled; the oldest go when there are too many bytes. */
void scrollback_added(struct scrollback *b);
const struct sa_buf *scrollback_line(const struct scrollback *b, size_t i);

/* ---- screen_pen.c ---- */

void parameters_read(struct parameters *p, const char *text, size_t n);
/* p->value[i], or `other` where it is left out. */
int parameter(const struct parameters *p, int i, int other);
/* SGR. */
void pen_apply(struct pen *pen, const struct parameters *p);
/* Appends the sequence that sets it from any other. */
void pen_render(const struct pen *pen, struct sa_buf *ret);
bool pen_equal(const struct pen *a, const struct pen *b);

/* ---- screen_ansi.c ---- */

enum fidelity { FULL, NO_COLOURS, ASCII };
/* Appends a row, its first `columns` cells; leaves the pen at its default. */
void row_render(const struct grid *g, unsigned row, unsigned columns, enum fidelity fidelity,
                struct sa_buf *ret);
size_t utf8_write(uint32_t c, char ret[static 4]);

#endif
