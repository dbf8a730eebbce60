/* How well a path fits what a person typed: its bytes, in order, anywhere. Plain functions; any thread. */
#ifndef SERVICES_FS_SVC_RANK_H_
#define SERVICES_FS_SVC_RANK_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RANK_QUERY_MAX = 256 };

struct rank_query {
    char text[RANK_QUERY_MAX];
    size_t n;
    bool ignore_case; /* none of its letters is upper case */
};

/* text: at most RANK_QUERY_MAX bytes. */
struct rank_query rank_query_of(const void *text, size_t n);
/* False: it does not fit. positions (q->n of them; may be NULL): which bytes of the path fit. Costs at most
 * q->n * n steps. */
bool rank_path(const struct rank_query *q, const char *path, size_t n, int32_t *ret_score,
               uint32_t *ret_positions);

#endif
