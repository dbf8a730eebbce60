#include "adapters/os/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *check(void *p)
{
    if (!p) {
        static const char text[] = "out of memory\n";
        (void)!write(2, text, sizeof text - 1);
        abort();
    }
    return p;
}

void *sa_malloc(size_t n)
{
    return check(malloc(n ? n : 1));
}

void *sa_calloc(size_t n, size_t size)
{
    return check(calloc(n ? n : 1, size ? size : 1));
}

void *sa_realloc(void *p, size_t n)
{
    return check(realloc(p, n ? n : 1));
}

char *sa_strdup(const char *s)
{
    return s ? check(strdup(s)) : NULL;
}

char *sa_strndup(const char *s, size_t n)
{
    return check(strndup(s, n));
}

void *sa_memdup(const void *p, size_t n)
{
    void *copy = sa_malloc(n);
    if (n)
        memcpy(copy, p, n);
    return copy;
}

char *sa_vformat(const char *fmt, va_list ap)
{
    char *s = NULL;
    return vasprintf(&s, fmt, ap) < 0 ? check(NULL) : s;
}

char *sa_format(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *s = sa_vformat(fmt, ap);
    va_end(ap);
    return s;
}

void sa_cleanup_free(void *p)
{
    free(*(void **)p);
}

void sa_cleanup_close(int *fd)
{
    sa_close(*fd);
}

void sa_cleanup_error(sa_error **e)
{
    sa_error_free(*e);
}

int steal_fd(int *fd)
{
    int stolen = *fd;
    *fd = -1;
    return stolen;
}

int sa_close(int fd)
{
    if (fd >= 0) {
        int saved = errno;
        close(fd);
        errno = saved;
    }
    return -1;
}

uint8_t *sa_buf_reserve(struct sa_buf *b, size_t n)
{
    if (b->cap - b->len < n) {
        size_t cap = b->cap ? b->cap : 256;
        while (cap - b->len < n)
            cap *= 2;
        b->data = sa_realloc(b->data, cap);
        b->cap = cap;
    }
    return b->data + b->len;
}

void sa_buf_add(struct sa_buf *b, const void *p, size_t n)
{
    if (!n)
        return;
    memcpy(sa_buf_reserve(b, n), p, n);
    b->len += n;
}

void sa_buf_addf(struct sa_buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *s = sa_vformat(fmt, ap);
    va_end(ap);
    sa_buf_add(b, s, strlen(s));
    free(s);
}

void sa_buf_consume(struct sa_buf *b, size_t n)
{
    if (n >= b->len) {
        b->len = 0;
        return;
    }
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
}

char *sa_buf_string(struct sa_buf *b)
{
    *sa_buf_reserve(b, 1) = 0;
    return (char *)b->data;
}

void sa_buf_fini(struct sa_buf *b)
{
    free(b->data);
    *b = (struct sa_buf){0};
}

/* Blocks double in size up to ARENA_BLOCK_MAX; a larger request gets a block of its own. */
enum { ARENA_BLOCK_MIN = 1024, ARENA_BLOCK_MAX = 65536, ARENA_ALIGN = 16 };

struct arena_block {
    struct arena_block *next;
    size_t used, size;
    _Alignas(ARENA_ALIGN) uint8_t data[];
};

struct sa_arena {
    struct arena_block *head; /* the block that is being filled */
    size_t next_size;
};

struct sa_arena *sa_arena_new(void)
{
    struct sa_arena *a = sa_calloc(1, sizeof *a);
    a->next_size = ARENA_BLOCK_MIN;
    return a;
}

void sa_arena_free(struct sa_arena *a)
{
    if (!a)
        return;
    for (struct arena_block *b = a->head, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(a);
}

void sa_arena_reset(struct sa_arena *a)
{
    struct arena_block *keep = a->head;
    if (!keep)
        return;
    for (struct arena_block *b = keep->next, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    keep->next = NULL;
    keep->used = 0;
    if (keep->size > ARENA_BLOCK_MAX) {
        free(keep);
        a->head = NULL;
    }
    a->next_size = ARENA_BLOCK_MIN;
}

void *sa_arena_alloc_raw(struct sa_arena *a, size_t n)
{
    n = (n + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    struct arena_block *b = a->head;
    if (!b || b->size - b->used < n) {
        size_t size = n > a->next_size ? n : a->next_size;
        b = sa_malloc(sizeof *b + size);
        *b = (struct arena_block){.next = a->head, .size = size};
        a->head = b;
        if (a->next_size < ARENA_BLOCK_MAX)
            a->next_size *= 2;
    }
    void *p = b->data + b->used;
    b->used += n;
    return p;
}

void *sa_arena_alloc(struct sa_arena *a, size_t n)
{
    return memset(sa_arena_alloc_raw(a, n), 0, n);
}

void *sa_arena_memdup(struct sa_arena *a, const void *p, size_t n)
{
    void *copy = sa_arena_alloc_raw(a, n ? n : 1);
    if (n)
        memcpy(copy, p, n);
    return copy;
}

char *sa_arena_strdup(struct sa_arena *a, const char *s)
{
    return s ? sa_arena_memdup(a, s, strlen(s) + 1) : sa_arena_alloc(a, 1);
}

char *sa_arena_format(struct sa_arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *s = sa_vformat(fmt, ap);
    va_end(ap);
    char *copy = sa_arena_strdup(a, s);
    free(s);
    return copy;
}
