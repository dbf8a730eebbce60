/* Design notes
 *
 *     0 ... history ... next ............ len ... cap      of the window; `offset` is that of byte 0
 *           lines told or passed          not looked at
 *
 * Lines are matched one by one, so that no pattern reaches over a newline; plain text is first looked for in
 * all that is there, and only lines that have it are matched. Limits of PCRE2 bound what one line can cost.
 */
#include "services/fs-svc/grep.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "adapters/os/mem.h"

enum {
    WINDOW = 512 << 10,
    MATCH_LIMIT = 10000000, /* steps of backtracking for a line: a tenth of a second or so */
    HEAP_LIMIT_KIB = 20000,
    STACK_LEAST = 32 << 10,
    STACK_MOST = 1 << 20,
};

struct grep {
    struct grep_options opt;
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
    char *plain; /* the pattern is these bytes and nothing else */
    size_t n_plain;
    struct grep_range ranges[GREP_RANGES_MAX];
    size_t n_ranges;
    char *window;

    /* of the file at hand */
    const struct grep_sink *sink;
    uint64_t offset;  /* of the window in the file */
    size_t len, next; /* in the window */
    uint64_t number;  /* of the line at next */
    size_t told;      /* after the last line that was told; in the window */
    unsigned after;   /* lines that are still told */
    uint64_t matches, max;
    bool end;
};

/* ---- the pattern ---- */

static bool is_utf8(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint8_t c = p[i];
        size_t more = c < 0x80                ? 0
                      : c >= 0xc2 && c < 0xe0 ? 1
                      : (c & 0xf0) == 0xe0    ? 2
                      : c >= 0xf0 && c < 0xf5 ? 3
                                              : 9;
        if (more == 9 || n - i <= more)
            return false;
        for (size_t k = 1; k <= more; k++)
            if ((p[i + k] & 0xc0) != 0x80)
                return false;
        i += more + 1;
    }
    return true;
}

static int compile(struct grep *g, const void *pattern, size_t n, sa_error **err)
{
    uint32_t flags = PCRE2_NEVER_BACKSLASH_C;
    if (is_utf8(pattern, n))
        flags |= PCRE2_UTF | PCRE2_MATCH_INVALID_UTF;
    if (g->opt.literal)
        flags = (flags & ~(uint32_t)PCRE2_NEVER_BACKSLASH_C) | PCRE2_LITERAL;
    if (g->opt.ignore_case)
        flags |= PCRE2_CASELESS;
    int code;
    PCRE2_SIZE at;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (context && g->opt.word)
        pcre2_set_compile_extra_options(context, PCRE2_EXTRA_MATCH_WORD);
    if (context)
        pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    g->code = pcre2_compile(pattern, n, flags, &code, &at, context);
    pcre2_compile_context_free(context);
    if (!g->code) {
        char message[256];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof message);
        return sa_fail(err, SA_INVALID_PATTERN, "the pattern is wrong at byte %zu: %s", (size_t)at, message);
    }
    /* Without JIT (no memory that is both writable and executable) it is only slower. */
    (void)pcre2_jit_compile(g->code, PCRE2_JIT_COMPLETE);
    g->data = pcre2_match_data_create(1, NULL);
    g->context = pcre2_match_context_create(NULL);
    g->stack = pcre2_jit_stack_create(STACK_LEAST, STACK_MOST, NULL);
    if (!g->data || !g->context)
        return sa_fail(err, SA_SYSTEM_ERROR, "no memory for a pattern");
    pcre2_set_match_limit(g->context, MATCH_LIMIT);
    pcre2_set_heap_limit(g->context, HEAP_LIMIT_KIB);
    if (g->stack)
        pcre2_jit_stack_assign(g->context, NULL, g->stack);
    return 0;
}

struct grep *grep_new(const void *pattern, size_t n, const struct grep_options *opt, sa_error **err)
{
    if (n == 0 || n > GREP_PATTERN_MAX) {
        sa_fail(err, SA_INVALID_PATTERN, "the pattern has %zu bytes; it may have 1 to %d", n,
                GREP_PATTERN_MAX);
        return NULL;
    }
    struct grep *g = sa_calloc(1, sizeof *g);
    g->opt = *opt;
    bool plain = opt->literal;
    if (!plain) {
        const char *special = "\\^$.[]|()?*+{}#";
        plain = true;
        for (size_t i = 0; i < n && plain; i++)
            plain = ((const char *)pattern)[i] && !strchr(special, ((const char *)pattern)[i]);
    }
    if (plain && !opt->ignore_case && !memchr(pattern, '\n', n)) {
        g->plain = sa_memdup(pattern, n);
        g->n_plain = n;
    }
    if (compile(g, pattern, n, err) < 0) {
        grep_free(g);
        return NULL;
    }
    g->window = sa_malloc(WINDOW);
    return g;
}

void grep_free(struct grep *g)
{
    if (!g)
        return;
    pcre2_jit_stack_free(g->stack);
    pcre2_match_context_free(g->context);
    pcre2_match_data_free(g->data);
    pcre2_code_free(g->code);
    free(g->plain);
    free(g->window);
    free(g);
}

/* ---- a line ---- */

static int too_costly(const struct grep *g, int code, sa_error **err)
{
    if (code == PCRE2_ERROR_MATCHLIMIT || code == PCRE2_ERROR_DEPTHLIMIT || code == PCRE2_ERROR_HEAPLIMIT ||
        code == PCRE2_ERROR_JIT_STACKLIMIT)
        return sa_fail(err, SA_PATTERN_TOO_COSTLY,
                       "line %llu takes too long with this pattern: it backtracks too much",
                       (unsigned long long)g->number);
    return sa_fail(err, SA_INTERNAL, "PCRE2 failed with %d", code);
}

/* 1: the line fits, g->ranges tell where; 0: it does not. */
static int match_line(struct grep *g, const char *text, size_t n, sa_error **err)
{
    size_t at = 0;
    g->n_ranges = 0;
    while (at <= n && g->n_ranges < GREP_RANGES_MAX) {
        int r = pcre2_match(g->code, (PCRE2_SPTR)text, n, at, 0, g->data, g->context);
        if (r == PCRE2_ERROR_NOMATCH)
            break;
        if (r < 0)
            return too_costly(g, r, err);
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(g->data);
        /* \K may put the start behind the end. */
        size_t start = span[0] < span[1] ? span[0] : span[1], end = span[1];
        if (end > start || g->n_ranges == 0)
            g->ranges[g->n_ranges++] = (struct grep_range){(uint32_t)start, (uint32_t)end};
        if (end > start && end > at) {
            at = end;
            continue;
        }
        /* After an empty match goes on with the next character. */
        at = (end > at ? end : at) + 1;
        while (at < n && ((uint8_t)text[at] & 0xc0) == 0x80)
            at++;
    }
    return g->n_ranges > 0;
}

static void tell(struct grep *g, size_t start, size_t n, uint64_t number, size_t n_ranges)
{
    struct grep_line l = {.number = number,
                          .offset = g->offset + start,
                          .text = g->window + start,
                          .n = n,
                          .ranges = g->ranges,
                          .n_ranges = n_ranges};
    g->sink->line(g->sink->user, &l);
    g->told = start + n + 1;
}

/* The lines before the one at `start` that were not told yet. */
static void tell_before(struct grep *g, size_t start)
{
    size_t at = start;
    unsigned lines = 0;
    while (lines < g->opt.before && at > g->told) {
        const char *newline = at >= 2 ? memrchr(g->window + g->told, '\n', at - 1 - g->told) : NULL;
        size_t begin = newline ? (size_t)(newline - g->window) + 1 : g->told;
        at = begin;
        lines++;
    }
    while (at < start) {
        const char *newline = memchr(g->window + at, '\n', start - at);
        size_t end = newline ? (size_t)(newline - g->window) : start;
        tell(g, at, end - at, g->number - lines--, 0);
        at = end + 1;
    }
}

/* n: of the line, without its newline. */
static int one_line(struct grep *g, size_t n, sa_error **err)
{
    size_t start = g->next;
    int fits = g->matches < g->max ? match_line(g, g->window + start, n, err) : 0;
    if (fits < 0)
        return -1;
    if (fits) {
        tell_before(g, start);
        tell(g, start, n, g->number, g->n_ranges);
        g->matches++;
        g->after = g->opt.after;
    } else if (g->after) {
        g->after--;
        tell(g, start, n, g->number, 0);
    }
    return 0;
}

/* ---- the window ---- */

static int fill(struct grep *g, int fd, sa_error **err)
{
    while (g->len < WINDOW && !g->end) {
        ssize_t n = read(fd, g->window + g->len, WINDOW - g->len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return sa_fail_errno(err, errno, "read");
        g->end = n == 0;
        g->len += (size_t)n;
    }
    return 0;
}

/* Drops what is no longer needed: all before `next` but for the lines that may be told before a match. */
static void slide(struct grep *g)
{
    size_t keep = g->next;
    for (unsigned i = 0; i < g->opt.before && keep > g->told; i++) {
        const char *newline = keep >= 2 ? memrchr(g->window, '\n', keep - 1) : NULL;
        size_t begin = newline ? (size_t)(newline - g->window) + 1 : 0;
        if (g->next - begin > GREP_HISTORY)
            break;
        keep = begin;
    }
    memmove(g->window, g->window + keep, g->len - keep);
    g->offset += keep;
    g->len -= keep;
    g->next -= keep;
    g->told = g->told > keep ? g->told - keep : 0;
}

static uint64_t newlines(const char *p, size_t n)
{
    uint64_t count = 0;
    for (const char *end = p + n; p < end && (p = memchr(p, '\n', (size_t)(end - p))); p++)
        count++;
    return count;
}

/* With plain text: goes on to the next line that has it, or behind the last whole line. */
static void skip_plain(struct grep *g)
{
    const char *from = g->window + g->next;
    size_t n = g->len - g->next;
    const char *hit = memmem(from, n, g->plain, g->n_plain);
    const char *newline = memrchr(from, '\n', hit ? (size_t)(hit - from) : n);
    size_t skip = newline ? (size_t)(newline - from) + 1 : 0;
    g->number += newlines(from, skip);
    g->next += skip;
}

/* All lines that are whole. */
static int search_window(struct grep *g, sa_error **err)
{
    while (g->next < g->len) {
        if (g->sink->stop(g->sink->user))
            return sa_fail(err, SA_CANCELLED, "the caller has left");
        if (g->matches >= g->max && !g->after)
            return 0;
        if (g->plain && !g->after)
            skip_plain(g);
        size_t left = g->len - g->next, look = left < GREP_PIECE ? left : GREP_PIECE;
        const char *newline = memchr(g->window + g->next, '\n', look);
        if (!left || (!newline && left < GREP_PIECE && !g->end))
            return 0;
        size_t n = newline ? (size_t)(newline - (g->window + g->next)) : look;
        if (one_line(g, n, err) < 0)
            return -1;
        g->next += n + (newline != NULL);
        g->number += newline != NULL;
    }
    return 0;
}

int grep_fd(struct grep *g, int fd, uint64_t max, const struct grep_sink *sink, struct grep_result *ret,
            sa_error **err)
{
    g->sink = sink;
    g->offset = g->matches = 0;
    g->len = g->next = g->told = 0;
    g->after = 0;
    g->number = 1;
    g->max = max;
    g->end = false;
    if (fill(g, fd, err) < 0)
        return -1;
    *ret = (struct grep_result){0};
    if (!g->opt.binary && memchr(g->window, 0, g->len < GREP_BINARY_LOOK ? g->len : GREP_BINARY_LOOK)) {
        ret->binary = true;
        return 0;
    }
    for (;;) {
        if (search_window(g, err) < 0)
            return -1;
        ret->matches = g->matches;
        if ((g->end && g->next >= g->len) || (g->matches >= g->max && !g->after))
            return 0;
        slide(g);
        if (fill(g, fd, err) < 0)
            return -1;
    }
}
