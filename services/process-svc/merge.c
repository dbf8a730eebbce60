#include "services/process-svc/merge.h"

void merge_init(struct merge *m, const int index_fd[SHIM_STREAMS])
{
    *m = (struct merge){0};
    for (int i = 0; i < SHIM_STREAMS; i++)
        m->index[i] = index_cursor(index_fd[i]);
}

void merge_seek(struct merge *m, int stream, uint64_t offset)
{
    m->wanted[stream] = true;
    m->cursor[stream] = offset;
    m->record[stream] = index_find(&m->index[stream], offset);
}

static bool reaches(struct merge *m, int stream, struct shim_index_record *ret)
{
    return index_get(&m->index[stream], m->record[stream], ret) &&
           ret->offset + ret->length > m->cursor[stream];
}

/* The record that the cursor is in or before. It is the present one or the next; a search only where records
 * were freed before we came to them, or the file is damaged. */
static bool find_record(struct merge *m, int stream, struct shim_index_record *ret)
{
    if (reaches(m, stream, ret))
        return true;
    m->record[stream]++;
    if (reaches(m, stream, ret))
        return true;
    m->record[stream]--;
    if (m->record[stream] + 1 >= index_count(&m->index[stream]))
        return false;
    m->record[stream] = index_find(&m->index[stream], m->cursor[stream]);
    return reaches(m, stream, ret);
}

static struct piece head(struct merge *m, int stream, uint64_t limit)
{
    struct piece p = {stream, m->cursor[stream], limit, 0, UINT64_MAX};
    struct shim_index_record r;
    if (!find_record(m, stream, &r))
        return p;
    bool inside = r.offset <= p.offset;
    uint64_t end = inside ? r.offset + r.length : r.offset;
    p.end = end < limit ? end : limit;
    p.arrival = r.arrival;
    p.time_us = inside ? r.time_us : 0;
    return p;
}

bool merge_next(struct merge *m, const uint64_t limit[SHIM_STREAMS], struct piece *ret)
{
    bool found = false;
    for (int i = 0; i < SHIM_STREAMS; i++) {
        if (!m->wanted[i] || m->cursor[i] >= limit[i])
            continue;
        struct piece p = head(m, i, limit[i]);
        if (!found || p.arrival < ret->arrival)
            *ret = p;
        found = true;
    }
    return found;
}
