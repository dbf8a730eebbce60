/* Design notes
 *
 * A reader looks at the file and then at `first` (in the state file), without any lock. So the order is:
 * decide the new first, publish it, then punch the hole: a reader that got zeros from a hole sees afterwards
 * that its bytes lie before `first`.
 *
 * Freeing goes in steps of an eighth of the bound, so that it costs little; the file holds at most the bound.
 * For the index, one record is held back and lengthened while bytes of the same stream keep coming: a child
 * that writes small lines costs one record per few milliseconds, not one per line. */
#include "services/process-svc/shim/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum {
    BLOCK = 4096,
    RECORD_US = 5000, /* an index record covers at most so much time */
    INDEX_BYTES_MIN = 64 << 10,
};

void journal_init(struct journal *j, int fd, int index_fd, enum shim_retention retention, uint64_t bound)
{
    *j = (struct journal){.fd = fd, .index_fd = index_fd, .retention = retention, .bound = bound};
}

static uint64_t kept_from(const struct journal *j)
{
    return j->retention == SHIM_ACKNOWLEDGED ? j->acked : j->first;
}

size_t journal_room(const struct journal *j, size_t want)
{
    if (j->retention != SHIM_ACKNOWLEDGED)
        return want;
    uint64_t kept = j->end - kept_from(j);
    uint64_t room = kept < j->bound ? j->bound - kept : 0;
    return room < want ? (size_t)room : want;
}

static ssize_t write_at(int fd, const void *p, size_t n, uint64_t at)
{
    ssize_t r;
    do
        r = pwrite(fd, p, n, (off_t)at);
    while (r < 0 && errno == EINTR);
    return r;
}

static void note(struct journal *j, uint64_t offset, uint64_t n, int64_t now_us, uint64_t *arrival)
{
    if (j->last_open && j->last.arrival == *arrival && now_us - j->last.time_us < RECORD_US) {
        j->last.length += n;
        return;
    }
    journal_flush_index(j);
    j->last = (struct shim_index_record){offset, now_us, ++*arrival, n};
    j->last_open = 1;
}

ssize_t journal_append(struct journal *j, const void *p, size_t n, int64_t now_us, uint64_t *arrival)
{
    ssize_t r = write_at(j->fd, p, n, j->end);
    if (r < 0)
        return -1;
    if (r > 0)
        note(j, j->end, (uint64_t)r, now_us, arrival);
    j->end += (uint64_t)r;
    return r;
}

int journal_ack(struct journal *j, uint64_t offset)
{
    if (offset > j->end)
        return -1;
    if (j->retention == SHIM_ACKNOWLEDGED && offset > j->acked)
        j->acked = offset;
    return 0;
}

int journal_advance(struct journal *j)
{
    uint64_t step = j->bound / 8 > BLOCK ? j->bound / 8 : BLOCK, first = j->first;
    if (j->retention == SHIM_RING && j->end - j->first > j->bound)
        first = j->end - j->bound + step;
    if (j->retention == SHIM_ACKNOWLEDGED && j->acked - j->first >= step)
        first = j->acked;
    if (first == j->first)
        return 0;
    j->first = first;
    return 1;
}

int journal_shrink(struct journal *j)
{
    uint64_t kept = j->end - j->first, first = j->first;
    if (j->retention == SHIM_ACKNOWLEDGED)
        first = j->acked;
    if (j->retention == SHIM_RING && kept >= 4 * BLOCK)
        first = j->end - kept / 2;
    if (first == j->first)
        return 0;
    j->first = first;
    return 1;
}

/* Frees whole blocks of [*freed, to). Where the file system cannot, the file only grows in its sparse length.
 */
static void punch(int fd, uint64_t *freed, uint64_t to)
{
    to -= to % BLOCK;
    if (to <= *freed)
        return;
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)*freed, (off_t)(to - *freed)) == 0)
        *freed = to;
}

void journal_free_front(struct journal *j)
{
    punch(j->fd, &j->freed, j->first);
}

void journal_flush_index(struct journal *j)
{
    if (!j->last_open)
        return;
    j->last_open = 0;
    /* When came what: worth having, but not worth blocking the child for. */
    if (write_at(j->index_fd, &j->last, sizeof j->last, j->index_end) != (ssize_t)sizeof j->last)
        return;
    j->index_end += sizeof j->last;
    uint64_t bound = j->bound / 4 > INDEX_BYTES_MIN ? j->bound / 4 : INDEX_BYTES_MIN;
    if (j->index_end - j->index_freed > bound)
        punch(j->index_fd, &j->index_freed, j->index_end - bound + bound / 8);
}
