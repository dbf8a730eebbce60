/* Cells, and the lines that have left them. */
#include <stdlib.h>
#include <string.h>

#include "services/process-svc/screen_private.h"

/* ---- a grid ---- */

void grid_init(struct grid *g, unsigned rows, unsigned columns)
{
    *g = (struct grid){.rows = rows, .columns = columns};
    g->cells = sa_calloc((size_t)rows * columns, sizeof *g->cells);
    g->row = sa_malloc(rows * sizeof *g->row);
    for (unsigned i = 0; i < rows; i++)
        g->row[i] = g->cells + (size_t)i * columns;
}

void grid_fini(struct grid *g)
{
    free(g->row);
    free(g->cells);
    *g = (struct grid){0};
}

/* A rectangle as libvterm gives it, clipped to what there is. false: nothing is left. */
static bool clip(const struct grid *g, struct rect *r)
{
    r->bottom = r->bottom < g->rows ? r->bottom : g->rows;
    r->right = r->right < g->columns ? r->right : g->columns;
    return r->top < r->bottom && r->left < r->right;
}

static void blank(struct cell *c, size_t n, uint32_t bg)
{
    memset(c, 0, n * sizeof *c);
    for (size_t i = 0; bg && i < n; i++)
        c[i].pen.bg = bg;
}

void grid_erase(struct grid *g, struct rect r, uint32_t bg)
{
    if (!clip(g, &r))
        return;
    for (unsigned row = r.top; row < r.bottom; row++)
        blank(g->row[row] + r.left, r.right - r.left, bg);
}

/* Whole rows: only their pointers move. */
static void rotate(struct grid *g, struct rect r, int up)
{
    unsigned n = (unsigned)abs(up), rows = r.bottom - r.top;
    struct cell **at = g->row + r.top, *kept[SCREEN_SIDE_MAX];
    struct cell **from = up > 0 ? at : at + rows - n;
    memcpy(kept, from, n * sizeof *kept);
    if (up > 0)
        memmove(at, at + n, (rows - n) * sizeof *at);
    else
        memmove(at + n, at, (rows - n) * sizeof *at);
    memcpy(up > 0 ? at + rows - n : at, kept, n * sizeof *kept);
}

static void move_cells(struct grid *g, struct rect r, int up, int left)
{
    unsigned across = (unsigned)abs(left), width = r.right - r.left - across;
    for (unsigned i = 0; i < r.bottom - r.top; i++) {
        unsigned to = up >= 0 ? r.top + i : r.bottom - 1 - i, from = (unsigned)((int)to + up);
        if (from < r.top || from >= r.bottom)
            continue;
        memmove(g->row[to] + r.left + (left < 0 ? across : 0),
                g->row[from] + r.left + (left > 0 ? across : 0), width * sizeof **g->row);
    }
}

void grid_scroll(struct grid *g, struct rect r, int up, int left, uint32_t bg)
{
    if (!clip(g, &r))
        return;
    int rows = (int)(r.bottom - r.top), columns = (int)(r.right - r.left);
    if (abs(up) >= rows || abs(left) >= columns) {
        grid_erase(g, r, bg);
        return;
    }
    if (!left && r.left == 0 && r.right == g->columns)
        rotate(g, r, up);
    else
        move_cells(g, r, up, left);
    struct rect below = r, beside = r;
    if (up > 0)
        below.top = r.bottom - (unsigned)up;
    else
        below.bottom = r.top + (unsigned)-up;
    if (left > 0)
        beside.left = r.right - (unsigned)left;
    else
        beside.right = r.left + (unsigned)-left;
    grid_erase(g, below, bg);
    grid_erase(g, beside, bg);
}

void grid_put(struct grid *g, unsigned row, unsigned column, const uint32_t *chars, unsigned width,
              const struct pen *pen)
{
    if (row >= g->rows || column + width > g->columns)
        return;
    struct cell *c = g->row[row] + column;
    memset(c, 0, width * sizeof *c);
    for (int i = 0; i < CELL_CHARS && chars[i]; i++)
        c->chars[i] = chars[i];
    c->pen = *pen;
    if (width == 2) {
        c->pen.attributes |= ATTR_WIDE;
        c[1].chars[0] = CELL_CONTINUED;
        c[1].pen = *pen;
    }
}

unsigned grid_width(const struct grid *g, unsigned row, unsigned column)
{
    const struct cell *c = g->row[row] + column;
    if (!c->chars[0] || c->chars[0] == CELL_CONTINUED)
        return 0;
    if (!(c->pen.attributes & ATTR_WIDE))
        return 1;
    return column + 1 < g->columns && c[1].chars[0] == CELL_CONTINUED ? 2 : 0;
}

void grid_resize(struct grid *g, unsigned rows, unsigned columns, unsigned gone)
{
    struct grid old = *g;
    grid_init(g, rows, columns);
    unsigned width = columns < old.columns ? columns : old.columns;
    for (unsigned i = 0; i < rows && i + gone < old.rows; i++)
        memcpy(g->row[i], old.row[i + gone], width * sizeof **g->row);
    grid_fini(&old);
}

unsigned grid_used(const struct grid *g, unsigned row)
{
    unsigned n = g->columns;
    while (n && !g->row[row][n - 1].pen.bg && !grid_width(g, row, n - 1) &&
           (n == 1 || grid_width(g, row, n - 2) < 2))
        n--;
    return n;
}

/* ---- scrollback ---- */

void scrollback_init(struct scrollback *b, size_t max)
{
    *b = (struct scrollback){.max = max, .lines = sa_calloc(max + 1, sizeof *b->lines)};
}

void scrollback_clear(struct scrollback *b)
{
    for (size_t i = 0; i < b->max; i++)
        sa_buf_fini(&b->lines[i]);
    b->first = b->n = b->bytes = 0;
}

void scrollback_fini(struct scrollback *b)
{
    scrollback_clear(b);
    free(b->lines);
    *b = (struct scrollback){0};
}

static void drop_oldest(struct scrollback *b)
{
    struct sa_buf *oldest = &b->lines[b->first];
    b->bytes -= oldest->len;
    sa_buf_fini(oldest);
    b->first = (b->first + 1) % b->max;
    b->n--;
}

struct sa_buf *scrollback_next(struct scrollback *b)
{
    if (!b->max)
        return NULL;
    if (b->n == b->max)
        drop_oldest(b);
    return &b->lines[(b->first + b->n) % b->max];
}

void scrollback_added(struct scrollback *b)
{
    b->bytes += b->lines[(b->first + b->n) % b->max].len;
    b->n++;
    while (b->bytes > SCREEN_SCROLLBACK_BYTES)
        drop_oldest(b);
}

const struct sa_buf *scrollback_line(const struct scrollback *b, size_t i)
{
    return &b->lines[(b->first + i) % b->max];
}
