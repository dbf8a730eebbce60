#include "services/process-svc/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/os/mem.h"

static const char *const names[SHIM_STREAMS] = {"out", "err"};

static int open_in(const char *directory, const char *name, sa_error **err)
{
    cleanup_free char *path = sa_format("%s/%s", directory, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? sa_fail_errno(err, errno, "open journal `%s`", path) : fd;
}

int reader_open(struct reader *r, const char *directory, sa_error **err)
{
    *r = READER_CLOSED;
    r->state_fd = open_in(directory, "state", err);
    for (int i = 0; i < SHIM_STREAMS && r->state_fd >= 0; i++)
        if ((r->fd[i] = open_in(directory, names[i], err)) < 0) {
            reader_close(r);
            return -1;
        }
    return r->state_fd < 0 ? -1 : 0;
}

void reader_close(struct reader *r)
{
    for (int i = 0; i < SHIM_STREAMS; i++) {
        sa_close(r->fd[i]);
        sa_close(r->index_fd[i]);
    }
    sa_close(r->state_fd);
    *r = READER_CLOSED;
}

void reader_open_index(struct reader *r, const char *directory)
{
    for (int i = 0; i < SHIM_STREAMS; i++) {
        cleanup_free char *name = sa_format("%s.index", names[i]);
        if (r->index_fd[i] < 0)
            r->index_fd[i] = open_in(directory, name, NULL);
    }
}

static int copy_fd(int fd, sa_error **err)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return copy < 0 ? sa_fail_errno(err, errno, "open a journal once more") : copy;
}

int reader_copy(struct reader *r, const struct reader *of, sa_error **err)
{
    bool good = true;
    *r = READER_CLOSED;
    good = (r->state_fd = copy_fd(of->state_fd, err)) >= 0;
    for (int i = 0; i < SHIM_STREAMS && good; i++)
        good = (r->fd[i] = copy_fd(of->fd[i], err)) >= 0 &&
               (of->index_fd[i] < 0 || (r->index_fd[i] = copy_fd(of->index_fd[i], err)) >= 0);
    if (!good)
        reader_close(r);
    return good ? 0 : -1;
}

bool reader_is_open(const struct reader *r)
{
    return r->state_fd >= 0;
}

static int first_kept(const struct reader *r, int stream, uint64_t *ret_first, sa_error **err)
{
    uint64_t first = 0;
    off_t at = (off_t)(offsetof(struct shim_state, first) + (size_t)stream * sizeof first);
    if (pread(r->state_fd, &first, sizeof first, at) != (ssize_t)sizeof first)
        return sa_fail(err, SA_JOURNAL_TRUNCATED, "the state record of the process is cut short");
    *ret_first = first;
    return 0;
}

int reader_range(const struct reader *r, int stream, uint64_t *ret_first, uint64_t *ret_end, sa_error **err)
{
    uint64_t first = 0;
    struct stat st;
    if (first_kept(r, stream, &first, err) < 0)
        return -1;
    if (fstat(r->fd[stream], &st) < 0)
        return sa_fail_errno(err, errno, "size of a journal");
    if (first > (uint64_t)st.st_size)
        return sa_fail(err, SA_JOURNAL_TRUNCATED,
                       "the journal of standard %s ends at byte %lld, kept from %llu",
                       stream ? "error" : "output", (long long)st.st_size, (unsigned long long)first);
    *ret_first = first;
    *ret_end = (uint64_t)st.st_size;
    return 0;
}

ssize_t reader_read(const struct reader *r, int stream, uint64_t offset, void *p, size_t n,
                    uint64_t *ret_first, sa_error **err)
{
    uint64_t first = 0;
    ssize_t got;
    do
        got = pread(r->fd[stream], p, n, (off_t)offset);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return sa_fail_errno(err, errno, "read standard %s", stream ? "error" : "output");
    /* After the bytes: the shim moves `first` before it frees, so what was freed under us shows here. */
    if (first_kept(r, stream, &first, err) < 0)
        return -1;
    *ret_first = first;
    return first > offset ? 0 : got;
}

int reader_state(const char *directory, struct shim_state *ret, sa_error **err)
{
    cleanup_close int fd = open_in(directory, "state", err);
    struct shim_state state;
    if (fd < 0)
        return -1;
    ssize_t n = read(fd, &state, sizeof state);
    if (n < 0 || !shim_check_state(&state, (size_t)n, ret))
        return sa_fail(err, SA_JOURNAL_TRUNCATED, "`%s/state` is no state record", directory);
    return 0;
}

int reader_exit(const char *directory, struct shim_exit *ret)
{
    cleanup_close int fd = open_in(directory, "exit", NULL);
    struct shim_exit e[2];
    ssize_t n = fd < 0 ? -1 : read(fd, e, sizeof e);
    return n >= 0 && shim_check_exit(e, (size_t)n, ret);
}
