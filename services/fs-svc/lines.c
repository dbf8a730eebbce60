#include "services/fs-svc/lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = 256 << 10 };

/* ---- lines ---- */

/* The slice ends before this line. */
static void stop(struct fs_lines *l, uint64_t line, uint64_t at)
{
    l->full = true;
    l->next_line = line;
    l->next_at = at;
}

static void take_line(struct fs_lines *l)
{
    if (l->n && l->text.len > l->max_bytes) {
        l->text.len = l->open.start;
        stop(l, l->line, l->open_at);
        return;
    }
    if (!l->lines)
        l->lines = sa_calloc(l->max_lines, sizeof *l->lines);
    sa_buf_reserve(&l->text, 1); /* its address is told also when all lines are empty */
    l->lines[l->n++] = l->open;
}

/* Bytes of a line that is wanted, without the newline; `ends`: with one after them. */
static void take(struct fs_lines *l, const uint8_t *p, size_t n, bool ends)
{
    if (!l->begun) {
        l->open = (struct fs_line){.start = l->text.len};
        l->open_at = l->at;
    }
    size_t room = l->max_line_bytes - l->open.len, part = n < room ? n : room;
    if (part)
        sa_buf_add(&l->text, p, part);
    l->open.len += part;
    l->open.full += n;
    if (ends)
        take_line(l);
}

static void scan(struct fs_lines *l, const uint8_t *p, size_t n)
{
    for (const uint8_t *end = p + n; p < end;) {
        if (!l->begun && !l->full && l->n == l->max_lines)
            stop(l, l->line, l->at);
        if (l->full && !l->count)
            return;
        const uint8_t *newline = memchr(p, '\n', (size_t)(end - p));
        size_t len = (size_t)((newline ? newline : end) - p);
        if (!l->full && l->line >= l->first)
            take(l, p, len, newline != NULL);
        l->begun = !newline;
        l->line += newline != NULL;
        l->at += len + (newline != NULL);
        p += len + (newline != NULL);
    }
}

static void finish(struct fs_lines *l)
{
    l->at_end = true;
    l->total = l->begun ? l->line : l->line - 1;
    if (l->begun && !l->full && l->line >= l->first)
        take_line(l);
}

int fs_lines_read(struct fs_lines *l, int fd, sa_error **err)
{
    cleanup_free uint8_t *block = sa_malloc(BLOCK);
    for (size_t done = 0; done < FS_LINES_PIECE;) {
        ssize_t got = pread(fd, block, BLOCK, (off_t)l->at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return sa_fail_errno(err, errno, "read lines");
        if (got == 0) {
            finish(l);
            return 1;
        }
        scan(l, block, (size_t)got);
        if (l->full && !l->count)
            return 1;
        done += (size_t)got;
    }
    return 0;
}

void fs_lines_fini(struct fs_lines *l)
{
    free(l->lines);
    sa_buf_fini(&l->text);
    *l = (struct fs_lines){0};
}

/* ---- text ---- */

/* Bytes of the character at p, of n that are there; 0: it is none, or it is cut. */
static size_t character(const uint8_t *p, size_t n)
{
    uint8_t c = p[0];
    if (c < 0x80)
        return c != 0;
    size_t len = c >= 0xc2 && c <= 0xdf ? 2 : (c & 0xf0) == 0xe0 ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 0;
    if (!len || len > n)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    /* Longer than needed, a surrogate, or beyond the last character. */
    if ((c == 0xe0 && p[1] < 0xa0) || (c == 0xed && p[1] > 0x9f) || (c == 0xf0 && p[1] < 0x90) ||
        (c == 0xf4 && p[1] > 0x8f))
        return 0;
    return len;
}

bool fs_lines_is_text(const uint8_t *p, size_t n)
{
    for (size_t at = 0; at < n;) {
        size_t len = character(p + at, n - at);
        if (!len)
            return false;
        at += len;
    }
    return true;
}

size_t fs_lines_whole_text(const uint8_t *p, size_t n)
{
    size_t back = 0;
    while (back < 3 && back < n && (p[n - 1 - back] & 0xc0) == 0x80)
        back++;
    if (back == n || p[n - 1 - back] < 0xc0 || character(p + n - 1 - back, back + 1))
        return n;
    return n - 1 - back;
}
