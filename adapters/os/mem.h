/* Memory and scope: allocation that cannot fail, cleanup attributes, a growable buffer, an arena.
 *
 * Running out of memory ends the process (the services are crash-only: see design notes in README.md);
 * every size that comes from outside is bounded before it reaches these functions. */
#ifndef ADAPTERS_OS_MEM_H_
#define ADAPTERS_OS_MEM_H_

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "adapters/os/error.h"

void *sa_malloc(size_t n);
void *sa_calloc(size_t n, size_t size);
void *sa_realloc(void *p, size_t n);
char *sa_strdup(const char *s); /* NULL: NULL */
char *sa_strndup(const char *s, size_t n);
void *sa_memdup(const void *p, size_t n); /* n == 0: a non-NULL pointer that can be freed */
char *sa_format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
char *sa_vformat(const char *fmt, va_list ap) __attribute__((format(printf, 1, 0)));

/* ---- cleanup attributes: the variable is released when its scope ends; initialise it at declaration ---- */

void sa_cleanup_free(void *p);
void sa_cleanup_close(int *fd);
void sa_cleanup_error(sa_error **e);

#define cleanup_free __attribute__((cleanup(sa_cleanup_free)))   /* start at NULL */
#define cleanup_close __attribute__((cleanup(sa_cleanup_close))) /* start at -1 */
#define cleanup_error __attribute__((cleanup(sa_cleanup_error))) /* start at NULL */

/* Takes the value out of a cleanup variable, so that its scope's end does not release it. */
#define steal_pointer(pp)                                                                                    \
    ({                                                                                                       \
        __typeof__(*(pp)) stolen_ = *(pp);                                                                   \
        *(pp) = NULL;                                                                                        \
        stolen_;                                                                                             \
    })
int steal_fd(int *fd);
/* close() that keeps errno and ignores -1; always returns -1. */
int sa_close(int fd);

/* ---- buf: a growable run of bytes. Zero-initialised is empty. ---- */

struct sa_buf {
    uint8_t *data;
    size_t len;
    size_t cap;
};

void sa_buf_add(struct sa_buf *b, const void *p, size_t n);
void sa_buf_addf(struct sa_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
uint8_t *sa_buf_reserve(struct sa_buf *b, size_t n); /* room for n more; the caller adds to len */
void sa_buf_consume(struct sa_buf *b, size_t n);     /* drops n bytes from the front */
char *sa_buf_string(struct sa_buf *b); /* NUL-terminates in place; valid until the next change */
void sa_buf_fini(struct sa_buf *b);
#define cleanup_buf __attribute__((cleanup(sa_buf_fini)))

/* ---- arena: many small allocations, freed in one step. Not thread safe. ---- */

struct sa_arena;
struct sa_arena *sa_arena_new(void);
void sa_arena_free(struct sa_arena *a);                   /* NULL is fine */
void sa_arena_reset(struct sa_arena *a);                  /* frees all, keeps a block for what comes */
void *sa_arena_alloc(struct sa_arena *a, size_t n);       /* zeroed, aligned for any type */
void *sa_arena_alloc_raw(struct sa_arena *a, size_t n);   /* the same, not zeroed */
char *sa_arena_strdup(struct sa_arena *a, const char *s); /* NULL: "" (a protobuf string is never NULL) */
void *sa_arena_memdup(struct sa_arena *a, const void *p, size_t n);
char *sa_arena_format(struct sa_arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
