#include "services/process-svc/index.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

struct index_cursor index_cursor(int fd)
{
    return (struct index_cursor){.fd = fd};
}

uint64_t index_count(const struct index_cursor *c)
{
    struct stat st;
    return c->fd >= 0 && fstat(c->fd, &st) == 0 ? (uint64_t)st.st_size / sizeof *c->batch : 0;
}

static void load(struct index_cursor *c, uint64_t number)
{
    ssize_t n;
    c->first = number - number % INDEX_BATCH;
    do
        n = pread(c->fd, c->batch, sizeof c->batch, (off_t)(c->first * sizeof *c->batch));
    while (n < 0 && errno == EINTR);
    c->n = n > 0 ? (unsigned)((size_t)n / sizeof *c->batch) : 0;
}

bool index_get(struct index_cursor *c, uint64_t number, struct shim_index_record *ret)
{
    if (c->fd < 0 || number >= (uint64_t)INT64_MAX / sizeof *c->batch)
        return false;
    if (number < c->first || number >= c->first + c->n)
        load(c, number);
    if (number >= c->first + c->n)
        return false;
    const struct shim_index_record *r = &c->batch[number - c->first];
    if (!r->length || r->offset > INT64_MAX || r->length > INT64_MAX - r->offset)
        return false;
    *ret = *r;
    return true;
}

/* Both searches: records in front that are freed count as earlier. */

uint64_t index_find(struct index_cursor *c, uint64_t offset)
{
    uint64_t from = 0, to = index_count(c);
    while (from < to) {
        uint64_t middle = from + (to - from) / 2;
        struct shim_index_record r;
        if (!index_get(c, middle, &r) || r.offset + r.length <= offset)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

uint64_t index_find_time(struct index_cursor *c, int64_t time_us)
{
    uint64_t from = 0, to = index_count(c);
    while (from < to) {
        uint64_t middle = from + (to - from) / 2;
        struct shim_index_record r;
        if (!index_get(c, middle, &r) || r.time_us <= time_us)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}
