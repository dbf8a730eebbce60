/* Whatever lies in the files of a process: readers end, read each byte once and in its stream's order, and
 * tails have as many lines and bytes as were asked for. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "services/process-svc/merge.h"
#include "services/process-svc/tail.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FILES = 5 }; /* out, err, out.index, err.index, state */

/* What stands in front of the files. */
struct header {
    uint8_t wanted, kind;
    uint16_t size[FILES - 1]; /* the rest is the state */
    uint32_t count;
    uint8_t grown[SHIM_STREAMS]; /* so far do the ends lie beyond the files */
};

static struct reader r = {{-1, -1}, -1, {-1, -1}};

static void must(int is_so)
{
    if (!is_so)
        abort();
}

static int fill(int fd, const uint8_t *data, size_t n)
{
    if (fd < 0)
        fd = memfd_create("journal", 0);
    must(ftruncate(fd, 0) == 0 && pwrite(fd, data, n, 0) == (ssize_t)n);
    return fd;
}

/* Lines that end in [start, end), with an unfinished one at the end. */
static uint64_t lines(const uint8_t *data, uint64_t start, uint64_t end)
{
    uint64_t n = end > start && data[end - 1] != '\n';
    for (uint64_t i = start; i < end; i++)
        n += data[i] == '\n';
    return n;
}

static void read_merged(const bool wanted[SHIM_STREAMS], const uint64_t first[SHIM_STREAMS],
                        const uint64_t end[SHIM_STREAMS])
{
    struct merge m;
    struct piece p;
    uint64_t at[SHIM_STREAMS] = {first[0], first[1]};
    merge_init(&m, r.index_fd);
    for (int i = 0; i < SHIM_STREAMS; i++)
        if (wanted[i])
            merge_seek(&m, i, first[i]);
    while (merge_next(&m, end, &p)) {
        must(wanted[p.stream] && p.offset == at[p.stream] && p.end > p.offset && p.end <= end[p.stream]);
        m.cursor[p.stream] = at[p.stream] = p.end;
    }
    for (int i = 0; i < SHIM_STREAMS; i++)
        must(!wanted[i] || at[i] >= end[i]);
}

static void find_tail(const struct header *h, const bool wanted[SHIM_STREAMS], const uint8_t *content[FILES],
                      const uint64_t first[SHIM_STREAMS], const uint64_t end[SHIM_STREAMS])
{
    struct tail t;
    sa_error *err = NULL;
    enum tail_kind kind = h->kind % 3;
    uint64_t all = 0, got = 0;
    int result;
    uint64_t count = h->count % 300;
    tail_init(&t, &r, kind, count, h->count);
    for (int i = 0; i < SHIM_STREAMS; i++)
        if (wanted[i])
            tail_range(&t, i, first[i], end[i]);
    while ((result = tail_step(&t, &err)) == 0)
        ;
    sa_error_free(err);
    bool cut = false;
    for (int i = 0; i < SHIM_STREAMS; i++) {
        if (!wanted[i])
            continue;
        uint64_t start = t.stream[i].start;
        must(start >= first[i] && start <= end[i]);
        cut |= end[i] > h->size[i];
        if (cut)
            break;
        all += kind == TAIL_LINES ? lines(content[i], first[i], end[i]) : end[i] - first[i];
        got += kind == TAIL_LINES ? lines(content[i], start, end[i]) : end[i] - start;
        must(result < 0 || kind != TAIL_LINES || start == first[i] || start == end[i] ||
             content[i][start - 1] == '\n');
    }
    must(cut || result == 1);
    if (!cut && kind != TAIL_SINCE)
        must(got == (all < count ? all : count));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct header h;
    uint64_t first[SHIM_STREAMS], end[SHIM_STREAMS];
    const uint8_t *content[FILES];
    if (size < sizeof h)
        return 0;
    memcpy(&h, data, sizeof h);
    data += sizeof h;
    size -= sizeof h;
    int *fds[FILES] = {&r.fd[0], &r.fd[1], &r.index_fd[0], &r.index_fd[1], &r.state_fd};
    for (int i = 0; i < FILES; i++) {
        size_t n = i < FILES - 1 && h.size[i] < size ? h.size[i] : size;
        if (i < FILES - 1)
            h.size[i] = (uint16_t)n;
        content[i] = data;
        *fds[i] = fill(*fds[i], data, n);
        data += n;
        size -= n;
    }
    const bool wanted[SHIM_STREAMS] = {h.wanted & 1, h.wanted & 2};
    for (int i = 0; i < SHIM_STREAMS; i++) {
        if (reader_range(&r, i, &first[i], &end[i], NULL) < 0)
            return 0;
        end[i] += h.grown[i];
    }
    read_merged(wanted, first, end);
    find_tail(&h, wanted, content, first, end);
    return 0;
}
