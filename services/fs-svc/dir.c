#include "services/fs-svc/dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

int fs_dir_page(const struct fs_root *root, const char *path, const char *after, size_t max,
                struct fs_page *ret, sa_error **err)
{
    cleanup_close int at = fs_path_open(root, path, true, err);
    if (at < 0)
        return -1;
    int fd = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d __attribute__((cleanup(close_dir))) = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        int saved = errno;
        sa_close(fd);
        return sa_fail_errno(err, saved, "list `%.200s`", path);
    }
    struct smallest s
        __attribute__((cleanup(smallest_fini))) = {.names = sa_calloc(max, sizeof(char *)), .max = max};
    if (collect(d, after, &s, path, err) < 0)
        return -1;
    qsort(s.names, s.n, sizeof *s.names, by_name);
    struct fs_page page = {.entries = sa_calloc(s.n, sizeof *page.entries), .more = s.dropped};
    for (size_t i = 0; i < s.n; i++) {
        cleanup_error sa_error *gone = NULL;
        if (fs_info_at(dirfd(d), s.names[i], &page.entries[page.n], &gone) == 0) {
            page.n++;
        } else if (!sa_error_is(gone, SA_FILE_NOT_FOUND)) {
            fs_page_fini(&page);
            return sa_pass(err, steal_pointer(&gone));
        }
    }
    *ret = page;
    return 0;
}

void fs_page_fini(struct fs_page *p)
{
    for (size_t i = 0; i < p->n; i++)
        fs_info_fini(&p->entries[i]);
    free(p->entries);
    *p = (struct fs_page){0};
}
