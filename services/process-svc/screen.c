/* Design notes
 *
 * What a program writes is hostile. So libvterm, which knows what moves the cursor and what scrolls, never
 * sees it: the bytes are read here, and libvterm gets complete characters and the sequences it needs, with
 * sane parameters. (By itself it overruns its buffers with many parameters, with a wide character in one
 * column, with a cursor restored or a scroll region kept after a change of size; it loops on a repetition of
 * nothing and keeps any number of combining characters.) Pen, modes, saved cursors and the alternate screen
 * are ours, because it does not tell them; cells are, because rows as pointers scroll many times faster. */
#include "services/process-svc/screen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vterm.h>

#include "services/process-svc/screen_private.h"

enum {
    MARKS_MAX = 16, /* that combine with one character, before more are dropped */
    VTERM_COLUMNS_MIN = 2,
};

const struct screen_mode screen_modes[] = {
    [MODE_ORIGIN] = {6, true, false, true},
    [MODE_WRAP] = {7, true, true, true},
    [MODE_INSERT] = {4, false, false, true},
    [MODE_KEYPAD] = {66, true, false, false},
    [MODE_CURSOR_VISIBLE] = {25, true, true, false},
    {20, false, false, true}, /* a line feed returns, too */
    {1, true, false, false},  /* cursor keys of applications */
    {5, true, false, false},  /* reverse video */
    {12, true, false, false}, /* the cursor blinks */
    {45, true, false, false}, /* backspace wraps */
    {9, true, false, false},  /* the mouse: presses, */
    {1000, true, false, false},
    {1002, true, false, false},
    {1003, true, false, false},
    {1004, true, false, false}, /* focus, */
    {1005, true, false, false}, /* and how they are told */
    {1006, true, false, false},
    {1015, true, false, false},
    {1016, true, false, false},
    {1007, true, false, false}, /* the wheel moves the cursor */
    {2004, true, false, false}, /* bracketed paste */
};
const size_t n_screen_modes = sizeof screen_modes / sizeof *screen_modes;

uint64_t screen_initial_modes(void)
{
    uint64_t modes = 0;
    for (size_t i = 0; i < n_screen_modes; i++)
        modes |= (uint64_t)screen_modes[i].initial << i;
    return modes;
}

/* ---- what libvterm says ---- */

static struct grid *grid(struct screen *s)
{
    return &s->buffers[s->active];
}

static struct rect rect_of(VTermRect r)
{
    /* Negative sides would become large, and the rectangle is clipped to nothing. */
    return (struct rect){(unsigned)r.start_row, (unsigned)r.end_row, (unsigned)r.start_col,
                         (unsigned)r.end_col};
}

static int on_glyph(VTermGlyphInfo *info, VTermPos pos, void *user)
{
    struct screen *s = user;
    int n = 0;
    while (n <= MARKS_MAX && info->chars[n])
        n++;
    s->marks_full |= n > MARKS_MAX;
    s->wrap_pending = false;
    if (info->width < 1 || info->width > 2 || pos.row < 0 || pos.col < 0)
        return 1; /* nothing to be seen */
    grid_put(grid(s), (unsigned)pos.row, (unsigned)pos.col, info->chars, (unsigned)info->width, &s->pen);
    s->wrap_pending = (unsigned)(pos.col + info->width) >= grid(s)->columns && screen_mode(s, MODE_WRAP);
    return 1;
}

static int on_cursor(VTermPos pos, VTermPos old, int visible, void *user)
{
    struct screen *s = user;
    (void)old;
    (void)visible;
    s->row = (unsigned)pos.row;
    s->column = (unsigned)pos.col;
    s->moved = true;
    return 1;
}

static void keep_line(struct screen *s, unsigned row)
{
    struct sa_buf *line = scrollback_next(&s->scrollback);
    if (!line)
        return;
    row_render(&s->buffers[0], row, s->columns, FULL, line);
    scrollback_added(&s->scrollback);
}

static int on_scroll(VTermRect rect, int up, int left, void *user)
{
    struct screen *s = user;
    const struct rect r = rect_of(rect);
    if (!s->active && up > 0 && !r.top && !r.left && r.right == grid(s)->columns)
        for (unsigned row = 0; row < (unsigned)up && row < r.bottom && row < grid(s)->rows; row++)
            keep_line(s, row);
    grid_scroll(grid(s), r, up, left, s->pen.bg);
    return 1;
}

static int on_erase(VTermRect rect, int selective, void *user)
{
    struct screen *s = user;
    (void)selective;
    grid_erase(grid(s), rect_of(rect), s->pen.bg);
    return 1;
}

static void on_answer(const char *p, size_t n, void *user)
{
    (void)p, (void)n, (void)user; /* viewers answer what a program asks its terminal */
}

static const VTermStateCallbacks callbacks = {
    .putglyph = on_glyph,
    .movecursor = on_cursor,
    .scrollrect = on_scroll,
    .erase = on_erase,
};

/* ---- what libvterm is told ---- */

/* stays: a sequence after which a pending wrap is still pending, unless the cursor has moved. */
static void tell(struct screen *s, const char *p, size_t n, bool stays)
{
    bool pending = s->wrap_pending && stays;
    s->moved = false;
    vterm_input_write(s->vterm, p, n);
    s->wrap_pending = pending && !s->moved;
}

static void tell_sequence(struct screen *s, int first, int second, char final)
{
    char text[32] = "\033[", number[12];
    if (first >= 0) {
        snprintf(number, sizeof number, "%d", first);
        strcat(text, number);
    }
    if (second >= 0) {
        snprintf(number, sizeof number, ";%d", second);
        strcat(text, number);
    }
    size_t n = strlen(text);
    text[n++] = final;
    tell(s, text, n, strchr("@IJKLMPSTXZghlr", final) != NULL);
}

static void move_to(struct screen *s, unsigned row, unsigned column)
{
    unsigned top = screen_mode(s, MODE_ORIGIN) ? s->region_top : 0;
    row = row > top ? row - top : 0;
    tell_sequence(s, (int)row + 1, (int)column + 1, 'H');
}

/* Line feeds and the like end a pending wrap also where the cursor stays: libvterm thinks otherwise. */
static void tell_control(struct screen *s, const char *p, size_t n)
{
    tell(s, p, n, true);
    if (s->wrap_pending)
        move_to(s, s->row, s->column);
}

void screen_run(struct screen *s, const char *p, size_t n)
{
    while (n) {
        size_t part = n < SCREEN_RUN_MAX ? n : SCREEN_RUN_MAX;
        while (part < n && part > 1 && ((uint8_t)p[part] & 0xc0) == 0x80)
            part--; /* not within a character */
        vterm_input_write(s->vterm, p, part);
        p += part, n -= part;
    }
}

/* ---- cursors, buffers, modes ---- */

static void save_cursor(struct screen *s)
{
    s->saved[s->active] = (struct saved_cursor){true, s->row, s->column, s->pen};
}

static void restore_cursor(struct screen *s)
{
    const struct saved_cursor *saved = &s->saved[s->active];
    s->pen = saved->pen; /* never saved: all zero */
    move_to(s, saved->row < s->rows ? saved->row : s->rows - 1,
            saved->column < s->columns ? saved->column : s->columns - 1);
}

static void set_region(struct screen *s, int top, int bottom)
{
    if (bottom > (int)s->rows)
        bottom = (int)s->rows;
    if (bottom < top + 1)
        return;
    bool all = top == 1 && bottom == (int)s->rows;
    s->region_top = all ? 0 : (unsigned)top - 1;
    s->region_bottom = all ? 0 : (unsigned)bottom;
    tell_sequence(s, top, bottom, 'r'); /* homes the cursor */
}

static void use_alternate(struct screen *s, unsigned mode, bool on)
{
    if (on == s->active)
        return;
    if (!on) {
        s->active = 0;
        if (mode == 1049)
            restore_cursor(s);
        return;
    }
    if (mode == 1049)
        save_cursor(s);
    s->active = 1;
    s->alternate_mode = mode;
    s->saved[1] = (struct saved_cursor){0};
    if (!grid(s)->cells)
        grid_init(grid(s), s->buffers[0].rows, s->buffers[0].columns);
    grid_erase(grid(s), (struct rect){0, grid(s)->rows, 0, grid(s)->columns}, s->pen.bg);
}

static void set_mode(struct screen *s, unsigned number, bool dec, bool on)
{
    if (dec && (number == 47 || number == 1047 || number == 1049)) {
        use_alternate(s, number, on);
        return;
    }
    if (dec && number == 1048) {
        on ? save_cursor(s) : restore_cursor(s);
        return;
    }
    for (size_t i = 0; i < n_screen_modes; i++) {
        const struct screen_mode *m = &screen_modes[i];
        if (m->number != number || m->dec != dec)
            continue;
        s->modes = (s->modes & ~(1ull << i)) | (uint64_t)on << i;
        char text[16];
        int n = snprintf(text, sizeof text, "\033[%s%u%c", dec ? "?" : "", number, on ? 'h' : 'l');
        if (m->known)
            tell(s, text, (size_t)n, true);
    }
}

static void set_charset(struct screen *s, char which, char charset)
{
    const char text[] = {'\033', which, charset};
    if (!strchr("B0A", charset) || (which != '(' && which != ')'))
        return;
    s->charset[which == ')'] = charset;
    tell(s, text, sizeof text, true);
}

static void shift(struct screen *s, bool on)
{
    s->shifted = on;
    tell(s, on ? "\016" : "\017", 1, true);
}

static void end_region(struct screen *s)
{
    unsigned row = s->row, column = s->column;
    set_region(s, 1, (int)s->rows);
    s->region_top = s->region_bottom = 0;
    move_to(s, row, column);
}

static void soft_reset(struct screen *s)
{
    end_region(s);
    unsigned row = s->row, column = s->column;
    set_mode(s, 6, true, false); /* homes the cursor */
    move_to(s, row, column);
    set_mode(s, 7, true, true);
    set_mode(s, 4, false, false);
    set_mode(s, 66, true, false);
    set_mode(s, 25, true, true);
    set_mode(s, 1, true, false);
    set_charset(s, '(', 'B');
    set_charset(s, ')', 'B');
    shift(s, false);
    s->pen = (struct pen){0};
    s->saved[s->active] = (struct saved_cursor){0};
}

static void reset(struct screen *s)
{
    s->active = 0;
    grid_fini(&s->buffers[1]);
    s->pen = (struct pen){0};
    tell(s, "\033c", 2, false);
    s->row = s->column = 0;
    s->wrap_pending = s->shifted = false;
    s->region_top = s->region_bottom = 0;
    s->modes = screen_initial_modes();
    s->cursor_style = 0;
    s->charset[0] = s->charset[1] = 'B';
    memset(s->saved, 0, sizeof s->saved);
    *s->title = 0;
}

static void repeat(struct screen *s, int times)
{
    for (int i = 0; i < times && i < (int)s->columns && s->n_last; i++)
        screen_run(s, s->last, s->n_last);
}

/* ---- sequences ---- */

static void set_modes(struct screen *s, const struct parameters *p, bool dec, bool on)
{
    for (int i = 0; i < p->n; i++)
        if (p->value[i] > 0)
            set_mode(s, (unsigned)p->value[i], dec, on);
}

static void plain_sequence(struct screen *s, const struct parameters *p, char final)
{
    switch (final) {
    case 'm':
        pen_apply(&s->pen, p);
        break;
    case 'h':
    case 'l':
        set_modes(s, p, false, final == 'h');
        break;
    case 'r':
        set_region(s, parameter(p, 0, 1) ? parameter(p, 0, 1) : 1,
                   parameter(p, 1, 0) ? parameter(p, 1, 0) : (int)s->rows);
        break;
    case 's':
        save_cursor(s);
        break;
    case 'u':
        restore_cursor(s);
        break;
    case 'b':
        repeat(s, parameter(p, 0, 1) ? parameter(p, 0, 1) : 1);
        break;
    default:
        if (final == 'J' && parameter(p, 0, 0) == 3)
            scrollback_clear(&s->scrollback);
        else if (strchr("@ABCDEFGHIJKLMPSTXZ`adefg", final) && !(final == 'T' && p->n > 1))
            tell_sequence(s, p->value[0], p->n > 1 ? p->value[1] : -1, final);
    }
}

/* sequence[2..n): leader, parameters, intermediates, final. */
void screen_control_sequence(struct screen *s)
{
    const char *at = s->sequence + 2, *last = s->sequence + s->n_sequence - 1;
    char leader = *at >= '<' && *at <= '?' ? *at++ : 0, final = *last;
    size_t n = strspn(at, "0123456789:;");
    char between = at + n < last ? at[n] : 0;
    struct parameters p;
    parameters_read(&p, at, n);
    if (at + n + (between != 0) != last)
        return; /* none that is known */
    if (!leader && !between)
        plain_sequence(s, &p, final);
    else if (leader == '?' && !between && (final == 'h' || final == 'l'))
        set_modes(s, &p, true, final == 'h');
    else if (leader == '?' && !between && (final == 'J' || final == 'K') && parameter(&p, 0, 0) < 3)
        tell_sequence(s, p.value[0], -1, final);
    else if (!leader && between == '!' && final == 'p')
        soft_reset(s);
    else if (!leader && between == ' ' && final == 'q' && parameter(&p, 0, 0) <= 6)
        s->cursor_style = parameter(&p, 0, 0);
}

void screen_escape(struct screen *s)
{
    const char *q = s->sequence;
    if (s->n_sequence == 3 && (q[1] == '(' || q[1] == ')'))
        set_charset(s, q[1], q[2]);
    else if (s->n_sequence == 3 && q[1] == '#' && q[2] == '8')
        tell(s, q, 3, true);
    if (s->n_sequence != 2)
        return;
    if (q[1] == 'H')
        tell(s, q, 2, true);
    else if (strchr("DEM", q[1]))
        tell_control(s, q, 2);
    else if (q[1] == '7')
        save_cursor(s);
    else if (q[1] == '8')
        restore_cursor(s);
    else if (q[1] == '=' || q[1] == '>')
        set_mode(s, 66, true, q[1] == '=');
    else if (q[1] == 'c')
        reset(s);
}

/* OSC 0 and 2 are the title. */
void screen_string(struct screen *s)
{
    const char *q = s->sequence;
    if (s->string_kind != ']' || s->n_sequence < 2 || (q[0] != '0' && q[0] != '2') || q[1] != ';')
        return;
    char *to = s->title;
    for (size_t i = 2; i < s->n_sequence; i++)
        if ((uint8_t)q[i] >= ' ' && q[i] != 0x7f)
            *to++ = q[i];
    *to = 0;
}

void screen_control(struct screen *s, char c)
{
    if (c == 016 || c == 017)
        shift(s, c == 016);
    else if (c >= '\b' && c <= '\r')
        tell_control(s, &c, 1);
}

/* ---- the screen ---- */

struct screen *screen_new(unsigned rows, unsigned columns, size_t lines)
{
    struct screen *s = sa_calloc(1, sizeof *s);
    unsigned width = columns < VTERM_COLUMNS_MIN ? VTERM_COLUMNS_MIN : columns;
    s->rows = rows;
    s->columns = columns;
    s->charset[0] = s->charset[1] = 'B';
    s->modes = screen_initial_modes();
    grid_init(&s->buffers[0], rows, width);
    scrollback_init(&s->scrollback, lines < SCREEN_LINES_MAX ? lines : SCREEN_LINES_MAX);
    s->vterm = vterm_new((int)rows, (int)width);
    vterm_set_utf8(s->vterm, 1);
    vterm_output_set_callback(s->vterm, on_answer, NULL);
    VTermState *state = vterm_obtain_state(s->vterm);
    vterm_state_set_callbacks(state, &callbacks, s);
    vterm_state_reset(state, 1);
    return s;
}

void screen_free(struct screen *s)
{
    if (!s)
        return;
    vterm_free(s->vterm);
    grid_fini(&s->buffers[0]);
    grid_fini(&s->buffers[1]);
    scrollback_fini(&s->scrollback);
    free(s);
}

static unsigned no_more_than(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

void screen_resize(struct screen *s, unsigned rows, unsigned columns)
{
    if (rows == s->rows && columns == s->columns)
        return;
    unsigned width = columns < VTERM_COLUMNS_MIN ? VTERM_COLUMNS_MIN : columns;
    unsigned row = s->row, column = s->column, gone[2] = {0};
    end_region(s);
    for (int i = 0; i < 2; i++) {
        unsigned at = i == s->active ? row : s->saved[i].row;
        gone[i] = at >= rows ? at - (rows - 1) : 0;
        s->saved[i].row = no_more_than(s->saved[i].row - no_more_than(gone[i], s->saved[i].row), rows - 1);
        s->saved[i].column = no_more_than(s->saved[i].column, columns - 1);
    }
    for (unsigned i = 0; i < gone[0]; i++)
        keep_line(s, i);
    for (int i = 0; i < 2; i++)
        if (s->buffers[i].cells)
            grid_resize(&s->buffers[i], rows, width, gone[i]);
    s->rows = rows;
    s->columns = columns;
    move_to(s, row - gone[s->active], no_more_than(column, columns - 1)); /* before libvterm would cut it */
    vterm_set_size(s->vterm, (int)rows, (int)width);
    move_to(s, row - gone[s->active], no_more_than(column, columns - 1));
}

void screen_skip(struct screen *s)
{
    s->state = GROUND;
    s->pen = (struct pen){0};
    end_region(s);
    move_to(s, 0, 0);
    set_charset(s, '(', 'B');
    set_charset(s, ')', 'B');
    shift(s, false);
    scrollback_clear(&s->scrollback);
    for (int i = 0; i < 2; i++)
        if (s->buffers[i].cells)
            grid_erase(&s->buffers[i], (struct rect){0, s->rows, 0, s->buffers[i].columns}, 0);
}

void screen_size(const struct screen *s, unsigned *ret_rows, unsigned *ret_columns)
{
    *ret_rows = s->rows;
    *ret_columns = s->columns;
}

void screen_cursor(const struct screen *s, unsigned *ret_row, unsigned *ret_column)
{
    *ret_row = s->row;
    *ret_column = no_more_than(s->column, s->columns - 1);
}
