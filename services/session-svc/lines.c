#include "services/session-svc/lines.h"

#include <string.h>

void lines_init(struct lines *l, size_t limit, uint64_t offset)
{
    *l = (struct lines){.limit = limit, .offset = offset};
}

void lines_fini(struct lines *l)
{
    sa_buf_fini(&l->buf);
    sa_buf_fini(&l->head);
}

void lines_feed(struct lines *l, const void *p, size_t n)
{
    if (l->at) {
        sa_buf_consume(&l->buf, l->at);
        l->scanned -= l->at;
        l->at = 0;
    }
    sa_buf_add(&l->buf, p, n);
}

uint64_t lines_end(const struct lines *l)
{
    return l->offset + (l->buf.len - l->at);
}

static void take(struct lines *l, size_t n)
{
    l->at += n;
    l->offset += n;
    if (l->scanned < l->at)
        l->scanned = l->at;
    if (l->at == l->buf.len && l->buf.cap > (1 << 20)) {
        sa_buf_fini(&l->buf); /* after a long line: an idle agent holds no memory */
        l->buf = (struct sa_buf){0};
        l->at = l->scanned = 0;
    }
}

static void skip(struct lines *l, const uint8_t *p, size_t n)
{
    if (!l->skipping) {
        l->skipping = true;
        l->skip_size = 0;
        l->head.len = 0;
        sa_sha256_init(&l->skip_sum);
    }
    size_t keep = n < LINES_HEAD_MAX - l->head.len ? n : LINES_HEAD_MAX - l->head.len;
    sa_buf_add(&l->head, p, keep);
    l->skip_size += n;
    sa_sha256_add(&l->skip_sum, p, n);
}

static enum lines_what end_skip(struct lines *l, struct line *ret)
{
    *ret = (struct line){.p = l->head.data, .n = l->head.len, .offset = l->offset, .size = l->skip_size};
    sa_sha256_end_text(&l->skip_sum, ret->sha256);
    l->skipping = false;
    return LINES_TOO_LONG;
}

enum lines_what lines_next(struct lines *l, struct line *ret)
{
    if (l->at == l->buf.len)
        return LINES_NONE;
    const uint8_t *start = l->buf.data + l->at;
    size_t have = l->buf.len - l->at;
    const uint8_t *newline =
        l->buf.len > l->scanned ? memchr(l->buf.data + l->scanned, '\n', l->buf.len - l->scanned) : NULL;
    l->scanned = l->buf.len;
    size_t n = newline ? (size_t)(newline - start) : have;
    if (l->skipping || n > l->limit) {
        skip(l, start, n);
        take(l, n + (newline != NULL));
        l->scanned = l->at;
        return newline ? end_skip(l, ret) : LINES_SKIPPED;
    }
    if (!newline)
        return LINES_NONE;
    *ret = (struct line){.p = start, .n = n, .offset = l->offset, .size = n};
    l->at += n + 1;
    l->offset += n + 1;
    l->scanned = l->at;
    return LINES_LINE;
}

enum lines_what lines_last(struct lines *l, struct line *ret)
{
    size_t n = l->buf.len - l->at;
    if (l->skipping) {
        if (n)
            skip(l, l->buf.data + l->at, n);
        take(l, n);
        return end_skip(l, ret);
    }
    if (!n)
        return LINES_NONE;
    *ret = (struct line){.p = l->buf.data + l->at, .n = n, .offset = l->offset, .size = n};
    l->at += n;
    l->offset += n;
    return LINES_LINE;
}
