/* A screen as bytes that bring another terminal to the same state.
 *
 * The scrollback and the rows are printed one below the other, so that the former ends where it belongs. Then
 * come the alternate screen, if it is shown, and what does not move the cursor. The last character is printed
 * again where the next one would wrap: there is no other way to say so. */
#include <string.h>

#include "services/process-svc/screen_private.h"

size_t utf8_write(uint32_t c, char ret[static 4])
{
    if (c < 0x80) {
        ret[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i; i--, c >>= 6)
        ret[i] = (char)(0x80 | (c & 0x3f));
    ret[0] = (char)((0xf00 >> n & 0xf0) | c);
    return n;
}

/* ---- a row ---- */

static void put_chars(const struct cell *c, unsigned width, enum fidelity fidelity, struct sa_buf *ret)
{
    char bytes[4];
    if (fidelity == ASCII) {
        sa_buf_add(ret, c->chars[0] < 0x80 ? (char[]){(char)c->chars[0], 0} : "??", width);
        return;
    }
    for (int i = 0; i < CELL_CHARS && c->chars[i]; i++)
        sa_buf_add(ret, bytes, utf8_write(c->chars[i], bytes));
}

static void use_pen(struct pen *now, const struct pen *wanted, enum fidelity fidelity, struct sa_buf *ret)
{
    if (fidelity != FULL || pen_equal(now, wanted))
        return;
    *now = *wanted;
    pen_render(wanted, ret);
}

/* Blank cells of one colour; returns how many. */
static unsigned put_blanks(const struct grid *g, unsigned row, unsigned at, unsigned end, struct pen *pen,
                           enum fidelity fidelity, struct sa_buf *ret)
{
    const struct cell *c = g->row[row];
    const struct pen blank = {.bg = c[at].pen.bg};
    unsigned n = 1;
    while (at + n < end && !grid_width(g, row, at + n) && c[at + n].pen.bg == blank.bg)
        n++;
    use_pen(pen, &blank, fidelity, ret);
    if (at + n == end)
        sa_buf_addf(ret, "\033[K");
    else
        sa_buf_addf(ret, "\033[%uX\033[%uC", n, n);
    return n;
}

void row_render(const struct grid *g, unsigned row, unsigned columns, enum fidelity fidelity,
                struct sa_buf *ret)
{
    unsigned end = g->columns < columns ? g->columns : columns, used = grid_used(g, row), width;
    struct pen pen = {0};
    for (unsigned at = 0; at < used && at < end; at += width) {
        const struct cell *c = g->row[row] + at;
        width = grid_width(g, row, at);
        if (!width) {
            width = put_blanks(g, row, at, end, &pen, fidelity, ret);
            continue;
        }
        use_pen(&pen, &c->pen, fidelity, ret);
        put_chars(c, width, fidelity, ret);
    }
    if (!pen_equal(&pen, &(struct pen){0}))
        sa_buf_addf(ret, "\033[m");
}

/* ---- both buffers ---- */

static void render_rows(const struct screen *s, int buffer, enum fidelity fidelity, struct sa_buf *ret)
{
    for (unsigned row = 0; row < s->rows; row++) {
        if (row)
            sa_buf_add(ret, "\r\n", 2);
        row_render(&s->buffers[buffer], row, s->columns, fidelity, ret);
    }
}

static void render_saved(const struct saved_cursor *saved, struct sa_buf *ret)
{
    sa_buf_addf(ret, "\033[%u;%uH", saved->row + 1, saved->column + 1);
    pen_render(&saved->pen, ret);
}

static void render_buffers(const struct screen *s, enum fidelity fidelity, struct sa_buf *ret)
{
    bool saves = s->active && s->alternate_mode == 1049; /* it saves the cursor itself */
    render_rows(s, 0, fidelity, ret);
    if (s->saved[0].valid) {
        render_saved(&s->saved[0], ret);
        sa_buf_addf(ret, "%s\033[m", saves ? "\033[?1049h" : "\0337");
    }
    if (!s->active)
        return;
    if (!saves || !s->saved[0].valid)
        sa_buf_addf(ret, "\033[?%uh", s->alternate_mode);
    sa_buf_addf(ret, "\033[m\033[2J\033[H");
    render_rows(s, 1, fidelity, ret);
    if (s->saved[1].valid) {
        render_saved(&s->saved[1], ret);
        sa_buf_addf(ret, "\0337\033[m");
    }
}

/* ---- what is not cells ---- */

static void render_mode(const struct screen *s, size_t i, struct sa_buf *ret)
{
    bool on = s->modes >> i & 1;
    if (on == screen_modes[i].initial)
        return;
    if (i == MODE_KEYPAD)
        sa_buf_addf(ret, on ? "\033=" : "\033>");
    else
        sa_buf_addf(ret, "\033[%s%u%c", screen_modes[i].dec ? "?" : "", screen_modes[i].number,
                    on ? 'h' : 'l');
}

static void render_cursor(const struct screen *s, enum fidelity fidelity, struct sa_buf *ret)
{
    const struct grid *g = &s->buffers[s->active];
    unsigned column = s->column < s->columns ? s->column : s->columns - 1;
    unsigned top = screen_mode(s, MODE_ORIGIN) ? s->region_top : 0;
    if (s->region_bottom)
        sa_buf_addf(ret, "\033[%u;%ur", s->region_top + 1, s->region_bottom);
    render_mode(s, MODE_ORIGIN, ret);
    sa_buf_addf(ret, "\033[%u;%uH", s->row - top + 1, column + 1);
    if (!s->wrap_pending)
        return;
    const struct cell *c = g->row[s->row] + column;
    unsigned width = grid_width(g, s->row, column);
    pen_render(&c->pen, ret);
    if (width) {
        put_chars(c, width, fidelity, ret);
        return;
    }
    /* It was erased since, what it did to the cursor was not. */
    sa_buf_addf(ret, column + 1 < s->columns ? "\xe3\x80\x80\033[2X" : " \033[X");
}

static void render_rest(const struct screen *s, enum fidelity fidelity, struct sa_buf *ret)
{
    if (*s->title)
        sa_buf_addf(ret, "\033]2;%s\007", s->title);
    render_cursor(s, fidelity, ret);
    for (size_t i = MODE_ORIGIN + 1; i < n_screen_modes; i++)
        render_mode(s, i, ret);
    for (int i = 0; i < 2; i++)
        if (s->charset[i] != 'B')
            sa_buf_addf(ret, "\033%c%c", i ? ')' : '(', s->charset[i]);
    if (s->cursor_style)
        sa_buf_addf(ret, "\033[%d q", s->cursor_style);
    pen_render(&s->pen, ret);
    if (s->shifted)
        sa_buf_add(ret, "\016", 1);
    if (s->state == STRING)
        sa_buf_addf(ret, "\033%c", s->string_kind);
    if (s->state != GROUND)
        sa_buf_add(ret, s->sequence, s->n_sequence);
    if (s->state == STRING && s->string_escape)
        sa_buf_add(ret, "\033", 1);
}

/* The newest lines for which there is room. */
static void render_scrollback(const struct scrollback *b, size_t room, struct sa_buf *ret)
{
    size_t from = b->n;
    while (from && scrollback_line(b, from - 1)->len + 2 <= room)
        room -= scrollback_line(b, --from)->len + 2;
    for (; from < b->n; from++) {
        const struct sa_buf *line = scrollback_line(b, from);
        sa_buf_add(ret, line->data, line->len);
        sa_buf_add(ret, "\r\n", 2);
    }
}

void screen_render(const struct screen *s, bool scrollback, struct sa_buf *ret)
{
    cleanup_buf struct sa_buf screen = {0};
    for (enum fidelity f = FULL; f <= ASCII; f++) {
        screen.len = 0;
        render_buffers(s, f, &screen);
        render_rest(s, f, &screen);
        if (screen.len <= SCREEN_RENDERED_BYTES)
            break;
    }
    if (scrollback)
        render_scrollback(&s->scrollback, SCREEN_RENDERED_BYTES - screen.len, ret);
    sa_buf_add(ret, screen.data, screen.len);
}

void screen_text(const struct screen *s, struct sa_buf *ret)
{
    const struct grid *g = &s->buffers[s->active];
    size_t blanks = 0, start = ret->len;
    for (unsigned row = 0; row < g->rows; row++) {
        if (row)
            sa_buf_add(ret, "\n", 1);
        blanks = 0;
        for (unsigned at = 0, width; at < g->columns && at < s->columns; at += width ? width : 1) {
            width = grid_width(g, row, at);
            const struct cell *c = g->row[row] + at;
            if (!width || (c->chars[0] == ' ' && !c->chars[1])) {
                blanks++;
                continue;
            }
            for (; blanks; blanks--)
                sa_buf_add(ret, " ", 1);
            bool much = ret->len - start > SCREEN_RENDERED_BYTES / 2;
            put_chars(c, width, much ? ASCII : FULL, ret);
        }
    }
}
