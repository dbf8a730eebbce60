/* Design notes
 *
 * One step at a time is in the worker pool; it owns the screen and the offset meanwhile. It reads some
 * output, and paints for those who wait once it has come to where the output ended when they asked. A step is
 * short, so that other work has its turn.
 *
 * While nobody waits a step follows the last one after a pause: a program that writes much costs a fraction
 * of a core, and one that somebody works with is always up to date. */
#include "services/process-svc/painter.h"

#include <stdlib.h>
#include <string.h>

#include "services/process-svc/reader.h"
#include "services/process-svc/screen.h"

enum { CHUNK = 64 << 10, CHUNKS_PER_STEP = 4, PAUSE_MS = 100 };

struct waiting {
    struct waiting *next;
    enum painting_kind kind;
    bool served; /* by the step that runs */
    painted_fn *fn;
    void *user;
};

struct painter {
    struct sa_loop *loop;
    struct sa_timer *pause;
    char *directory;
    struct waiting *waiting;
    unsigned rows, columns; /* as they should be */
    bool begun, news, busy, freed;
    /* The step's. */
    struct screen *screen;
    uint64_t offset, target; /* target 0: not known yet */
    bool line_start;         /* what comes next is the rest of a line whose beginning is lost */
    size_t lines;
    bool wanted[PAINTING_KINDS], painted;
    struct painting paintings[PAINTING_KINDS];
    unsigned step_rows, step_columns;
    bool more;
    sa_error *err;
};

/* ---- in a worker ---- */

/* What was there is lost: goes on in the middle of what is kept, to have some time. */
static int skip(struct painter *p, const struct reader *r, sa_error **err)
{
    uint64_t first, end;
    if (reader_range(r, SHIM_STDOUT, &first, &end, err) < 0)
        return -1;
    p->line_start = first > 0;
    if (p->offset) {
        first += (end - first) / 2;
        screen_skip(p->screen);
    }
    p->offset = first;
    return 0;
}

/* Reads a piece: 1, 0 at the end, -1. */
static int read_on(struct painter *p, const struct reader *r, uint8_t *chunk, sa_error **err)
{
    uint64_t first;
    ssize_t n = reader_read(r, SHIM_STDOUT, p->offset, chunk, CHUNK, &first, err);
    if (n < 0)
        return -1;
    if (first > p->offset)
        return skip(p, r, err) < 0 ? -1 : 1;
    if (!n)
        return 0;
    const uint8_t *from = chunk, *newline = p->line_start ? memchr(chunk, '\n', (size_t)n) : NULL;
    if (newline)
        from = newline + 1;
    p->line_start = false;
    screen_feed(p->screen, from, (size_t)(chunk + n - from));
    p->offset += (uint64_t)n;
    return 1;
}

static void paint(struct painter *p, enum painting_kind kind)
{
    struct painting *to = &p->paintings[kind];
    screen_render(p->screen, kind != PAINT_SCREEN, &to->data);
    if (kind != PAINT_ALL)
        screen_text(p->screen, &to->text);
    screen_size(p->screen, &to->rows, &to->columns);
    screen_cursor(p->screen, &to->cursor_row, &to->cursor_column);
    to->offset = p->offset;
}

static int work_on(struct painter *p, const struct reader *r, sa_error **err)
{
    cleanup_free uint8_t *chunk = sa_malloc(CHUNK);
    uint64_t first;
    int moved = 1;
    if (!p->screen)
        p->screen = screen_new(p->step_rows, p->step_columns, p->lines);
    screen_resize(p->screen, p->step_rows, p->step_columns);
    if (!p->target && reader_range(r, SHIM_STDOUT, &first, &p->target, err) < 0)
        return -1;
    for (int i = 0; i < CHUNKS_PER_STEP && moved > 0; i++)
        moved = read_on(p, r, chunk, err);
    if (moved < 0)
        return -1;
    p->more = moved;
    p->painted = !moved || p->offset >= p->target;
    for (int kind = 0; kind < PAINTING_KINDS && p->painted; kind++)
        if (p->wanted[kind])
            paint(p, (enum painting_kind)kind);
    return 0;
}

static void step_work(void *user)
{
    struct painter *p = user;
    struct reader r = READER_CLOSED;
    if (reader_open(&r, p->directory, &p->err) == 0)
        work_on(p, &r, &p->err);
    reader_close(&r);
}

/* ---- under the lock ---- */

static void step(struct painter *p);

static void release(struct painter *p)
{
    for (int i = 0; i < PAINTING_KINDS; i++) {
        sa_buf_fini(&p->paintings[i].data);
        sa_buf_fini(&p->paintings[i].text);
    }
    while (p->waiting) {
        struct waiting *w = p->waiting;
        p->waiting = w->next;
        free(w);
    }
    sa_error_free(p->err);
    screen_free(p->screen);
    free(p->directory);
    free(p);
}

/* A callback may ask again, forget, or free the painter: `freed` is looked at after each. */
static void serve(struct painter *p)
{
    struct waiting **at = &p->waiting;
    while (*at && !p->freed) {
        struct waiting *w = *at;
        if (!w->served) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        w->fn(w->user, p->err ? NULL : &p->paintings[w->kind], p->err);
        free(w);
        at = &p->waiting; /* it may be another list now; what is new there is not served */
    }
}

static void step_done(void *user)
{
    struct painter *p = user;
    if (!p->freed && (p->painted || p->err))
        serve(p);
    p->busy = false;
    if (p->freed) {
        release(p);
        return;
    }
    for (int i = 0; i < PAINTING_KINDS; i++) {
        sa_buf_fini(&p->paintings[i].data);
        sa_buf_fini(&p->paintings[i].text);
    }
    bool failed = p->err != NULL;
    sa_error_free(steal_pointer(&p->err));
    if (p->waiting)
        step(p);
    else if ((p->more || p->news) && !failed && !sa_timer_active(p->pause))
        sa_timer_start(p->pause, PAUSE_MS);
}

static void step(struct painter *p)
{
    if (p->busy)
        return;
    p->busy = p->begun = true;
    p->news = p->painted = p->more = false;
    p->step_rows = p->rows;
    p->step_columns = p->columns;
    memset(p->wanted, 0, sizeof p->wanted);
    bool fresh = true;
    for (struct waiting *w = p->waiting; w; w = w->next) {
        fresh &= !w->served;
        w->served = true;
        p->wanted[w->kind] = true;
    }
    if (fresh)
        p->target = 0;
    sa_timer_stop(p->pause);
    sa_work(p->loop, step_work, step_done, p);
}

static void on_pause(void *user)
{
    step(user);
}

struct painter *painter_new(struct sa_loop *loop, const char *directory, unsigned rows, unsigned columns,
                            size_t lines)
{
    struct painter *p = sa_calloc(1, sizeof *p);
    p->loop = loop;
    p->directory = sa_strdup(directory);
    p->rows = rows;
    p->columns = columns;
    p->lines = lines;
    p->pause = sa_timer_new(loop, on_pause, p);
    return p;
}

void painter_free(struct painter *p)
{
    if (!p)
        return;
    sa_timer_free(steal_pointer(&p->pause));
    p->freed = true;
    if (!p->busy)
        release(p);
}

void painter_ask(struct painter *p, enum painting_kind kind, painted_fn *fn, void *user)
{
    struct waiting *w = sa_calloc(1, sizeof *w);
    *w = (struct waiting){.next = p->waiting, .kind = kind, .fn = fn, .user = user};
    p->waiting = w;
    step(p);
}

void painter_forget(struct painter *p, const void *user)
{
    for (struct waiting **at = &p->waiting; *at;) {
        struct waiting *w = *at;
        if (w->user != user) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        free(w);
    }
}

void painter_resize(struct painter *p, unsigned rows, unsigned columns)
{
    p->rows = rows;
    p->columns = columns;
}

void painter_news(struct painter *p)
{
    p->news = true;
    if (p->begun && !p->busy && !sa_timer_active(p->pause))
        sa_timer_start(p->pause, PAUSE_MS);
}
