#include "services/fs-svc/names.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/mem.h"

/* The smallest names seen so far: a heap with the largest on top, at most `max` of them. */
struct smallest {
    char **names;
    size_t n, max;
    bool dropped;
};

static void swap(char **a, char **b)
{
    char *t = *a;
    *a = *b;
    *b = t;
}

static void sift_up(char **h, size_t i)
{
    for (; i && strcmp(h[i], h[(i - 1) / 2]) > 0; i = (i - 1) / 2)
        swap(&h[i], &h[(i - 1) / 2]);
}

static void sift_down(char **h, size_t n)
{
    for (size_t i = 0, child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && strcmp(h[child + 1], h[child]) > 0)
            child++;
        if (strcmp(h[i], h[child]) >= 0)
            return;
        swap(&h[i], &h[child]);
    }
}

static void offer(struct smallest *s, const char *name)
{
    if (s->n < s->max) {
        if ((s->n & (s->n - 1)) == 0)
            s->names = sa_realloc(s->names, (s->n ? 2 * s->n : 1) * sizeof *s->names);
        s->names[s->n] = sa_strdup(name);
        sift_up(s->names, s->n++);
        return;
    }
    s->dropped = true;
    if (strcmp(name, s->names[0]) >= 0)
        return;
    free(s->names[0]);
    s->names[0] = sa_strdup(name);
    sift_down(s->names, s->n);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void smallest_fini(struct smallest *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->names[i]);
    free(s->names);
}

/* Reads all names after `after`. */
static int collect(DIR *d, const char *after, struct smallest *s, const char *path, sa_error **err)
{
    for (;;) {
        errno = 0;
        struct dirent *e = readdir(d);
        if (!e)
            return errno ? sa_fail_errno(err, errno, "list `%.200s`", path) : 0;
        bool dots = e->d_name[0] == '.' && (!e->d_name[1] || (e->d_name[1] == '.' && !e->d_name[2]));
        if (!dots && (!after || strcmp(e->d_name, after) > 0))
            offer(s, e->d_name);
    }
}

static void close_dir(DIR **d)
{
    if (*d)
        closedir(*d);
}

int fs_names_read(int dir, const char *after, size_t max, char ***ret_names, size_t *ret_n, bool *ret_more,
                  const char *path, sa_error **err)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d __attribute__((cleanup(close_dir))) = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        int saved = errno;
        sa_close(fd);
        return sa_fail_errno(err, saved, "list `%.200s`", path);
    }
    struct smallest s __attribute__((cleanup(smallest_fini))) = {.max = max};
    if (collect(d, after, &s, path, err) < 0)
        return -1;
    if (s.n)
        qsort(s.names, s.n, sizeof *s.names, by_name);
    *ret_n = s.n;
    *ret_more = s.dropped;
    *ret_names = steal_pointer(&s.names);
    s.n = 0;
    return 0;
}
