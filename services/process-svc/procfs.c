/* The kernel gives no snapshot of all processes. It lists many at once, and one of these may have started
 * another and ended before it is read; so the list is looked at again until it shows nothing new: then
 * everyone who lived at that moment is known. An edge is believed only if the parent is not younger than the
 * child. */
#include "services/process-svc/procfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PASSES_MAX = 5 };

/* ---- one process ---- */

/* Reads at most size - 1 bytes and NUL-terminates; the length, or -1. */
static ssize_t read_file(const char *path, char *buf, size_t size)
{
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t n = 0;
    if (fd < 0)
        return -1;
    while (n < size - 1) {
        ssize_t got = read(fd, buf + n, size - 1 - n);
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        n += (size_t)got;
    }
    buf[n] = 0;
    return (ssize_t)n;
}

static ssize_t read_of(int pid, const char *name, char *buf, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    return read_file(path, buf, size);
}

/* One number of a line of numbers, which may be negative (what it is, nobody asks then: 0); steps behind the
 * blank that follows. */
static bool take_number(const char **at, const char *end, uint64_t *ret)
{
    const char *p = *at;
    bool negative = p < end && *p == '-';
    uint64_t v = 0;
    p += negative;
    if (p == end || *p < '0' || *p > '9')
        return false;
    for (; p < end && *p >= '0' && *p <= '9'; p++) {
        if (v > (UINT64_MAX - (uint64_t)(*p - '0')) / 10)
            return false;
        v = v * 10 + (uint64_t)(*p - '0');
    }
    if (p < end && *p != ' ' && *p != '\n')
        return false;
    *at = p < end ? p + 1 : p;
    *ret = negative ? 0 : v;
    return true;
}

/* "pid (name) state ppid pgrp session ...": numbered as in proc(5), where the state is field 3. */
enum {
    STAT_PARENT = 4,
    STAT_SESSION = 6,
    STAT_USER = 14,
    STAT_SYSTEM = 15,
    STAT_WAITED_USER = 16,
    STAT_WAITED_SYSTEM = 17,
    STAT_THREADS = 20,
    STAT_START = 22,
    STAT_RESIDENT = 24,
    STAT_FIELDS = 25,
};

bool proc_parse_stat(const char *text, size_t n, struct proc *ret)
{
    const char *at = text, *end = text + n, *close = memrchr(text, ')', n);
    uint64_t pid, f[STAT_FIELDS];
    if (!take_number(&at, end, &pid) || !close || at >= close || *at != '(' || end - close < 5 ||
        close[1] != ' ' || close[3] != ' ')
        return false;
    const char *name = at + 1;
    at = close + 4;
    for (int i = STAT_PARENT; i < STAT_FIELDS; i++)
        if (!take_number(&at, end, &f[i]))
            return false;
    if (pid > INT32_MAX || f[STAT_PARENT] > INT32_MAX || f[STAT_SESSION] > INT32_MAX ||
        f[STAT_THREADS] > UINT32_MAX)
        return false;
    *ret = (struct proc){
        .pid = (int)pid,
        .parent = (int)f[STAT_PARENT],
        .session = (int)f[STAT_SESSION],
        .state = close[2],
        .threads = (uint32_t)f[STAT_THREADS],
        .start_ticks = f[STAT_START],
        .user_ticks = f[STAT_USER],
        .system_ticks = f[STAT_SYSTEM],
        .waited_user_ticks = f[STAT_WAITED_USER],
        .waited_system_ticks = f[STAT_WAITED_SYSTEM],
        .resident_pages = f[STAT_RESIDENT],
    };
    size_t len = (size_t)(close - name) < PROC_NAME_MAX - 1 ? (size_t)(close - name) : PROC_NAME_MAX - 1;
    memcpy(ret->name, name, len);
    return true;
}

int proc_read(int pid, struct proc *ret)
{
    char buf[1024];
    struct proc p;
    ssize_t n = read_of(pid, "stat", buf, sizeof buf);
    if (n <= 0 || !proc_parse_stat(buf, (size_t)n, &p) || p.pid != pid)
        return -1;
    *ret = p;
    return 0;
}

static uint64_t value_of(const char *text, const char *key)
{
    const char *at = strstr(text, key);
    return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

static bool read_io(int pid, const char *name, struct proc_io *ret)
{
    char buf[512];
    bool known = read_of(pid, name, buf, sizeof buf) > 0;
    *ret = (struct proc_io){0};
    if (known)
        *ret = (struct proc_io){value_of(buf, "\nread_bytes: "), value_of(buf, "\nwrite_bytes: ")};
    return known;
}

bool proc_read_io(int pid, struct proc_io *ret)
{
    return read_io(pid, "io", ret);
}

bool proc_read_own_io(int pid, struct proc_io *ret)
{
    char name[32];
    snprintf(name, sizeof name, "task/%d/io", pid);
    return read_io(pid, name, ret);
}

void proc_read_command(const struct proc *p, struct sa_buf *ret)
{
    char buf[PROC_COMMAND_MAX + 1];
    ssize_t n = read_of(p->pid, "cmdline", buf, sizeof buf);
    while (n > 0 && !buf[n - 1])
        n--;
    for (ssize_t i = 0; i < n; i++)
        if (!buf[i])
            buf[i] = ' ';
    if (n > 0)
        sa_buf_add(ret, buf, (size_t)n);
    else
        sa_buf_addf(ret, "[%s]", p->name);
}

int64_t proc_read_uid(int pid)
{
    char buf[4096];
    if (read_of(pid, "status", buf, sizeof buf) <= 0)
        return -1;
    const char *at = strstr(buf, "\nUid:\t"); /* in the name newlines are escaped */
    return at ? (int64_t)strtoul(at + 6, NULL, 10) : -1;
}

int64_t proc_ticks_us(uint64_t ticks)
{
    long hz = sysconf(_SC_CLK_TCK);
    return (int64_t)((double)ticks * 1e6 / (double)(hz > 0 ? hz : 100));
}

int64_t proc_boot_us(void)
{
    struct timespec since_boot, now;
    if (clock_gettime(CLOCK_BOOTTIME, &since_boot) < 0 || clock_gettime(CLOCK_REALTIME, &now) < 0)
        return 0;
    return (now.tv_sec - since_boot.tv_sec) * INT64_C(1000000) + (now.tv_nsec - since_boot.tv_nsec) / 1000;
}

/* ---- all of them ---- */

static int by_pid(const void *a, const void *b)
{
    const struct proc *x = a, *y = b;
    return (x->pid > y->pid) - (x->pid < y->pid);
}

static int by_parent(const void *a, const void *b)
{
    const struct proc *x = *(struct proc *const *)a, *y = *(struct proc *const *)b;
    if (x->parent != y->parent)
        return x->parent < y->parent ? -1 : 1;
    return by_pid(x, y);
}

static void add(struct proc_table *t, size_t *room, const struct proc *p)
{
    if (t->n == *room)
        t->list = sa_realloc(t->list, (*room = *room ? 2 * *room : 512) * sizeof *t->list);
    t->list[t->n++] = *p;
}

static void sort(struct proc_table *t)
{
    qsort(t->list, t->n, sizeof *t->list, by_pid);
    t->by_parent = sa_malloc((t->n + 1) * sizeof *t->by_parent);
    for (size_t i = 0; i < t->n; i++)
        t->by_parent[i] = &t->list[i];
    qsort(t->by_parent, t->n, sizeof *t->by_parent, by_parent);
}

/* Adds those that are listed and not known yet; how many. */
static size_t add_listed(struct proc_table *t, size_t *room, DIR *d)
{
    struct proc_table known = *t; /* sorted */
    rewinddir(d);
    for (struct dirent *e; t->n < PROC_TABLE_MAX && (e = readdir(d));) {
        struct proc p;
        int pid = e->d_name[0] >= '1' && e->d_name[0] <= '9' ? atoi(e->d_name) : 0;
        known.list = t->list;
        if (pid && !proc_table_find(&known, pid, 0) && proc_read(pid, &p) == 0)
            add(t, room, &p);
    }
    qsort(t->list, t->n, sizeof *t->list, by_pid);
    return t->n - known.n;
}

/* Whose parent ended after they were read has another one now. */
static void read_orphans_again(struct proc_table *t)
{
    for (size_t i = 0; i < t->n; i++) {
        struct proc *p = &t->list[i], now;
        if (p->parent && !proc_table_find(t, p->parent, 0) && proc_read(p->pid, &now) == 0)
            *p = now;
    }
}

int proc_table_read(struct proc_table *ret, sa_error **err)
{
    size_t room = 0;
    *ret = (struct proc_table){0};
    DIR *d = opendir("/proc");
    if (!d)
        return sa_fail_errno(err, errno, "open /proc");
    for (int pass = 0; add_listed(ret, &room, d) && pass < PASSES_MAX; pass++)
        ;
    closedir(d);
    if (!ret->n)
        return sa_fail(err, SA_SYSTEM_ERROR, "/proc shows no process");
    read_orphans_again(ret);
    sort(ret);
    return 0;
}

/* Adds the children of all threads of a process. */
static void add_children(struct proc_table *t, size_t *room, int parent)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", parent);
    DIR *d = opendir(path);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        struct proc p;
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%.16s/children", parent, e->d_name);
        FILE *f = fopen(path, "re");
        for (int pid; f && t->n < PROC_TABLE_MAX && fscanf(f, "%d", &pid) == 1;)
            if (proc_read(pid, &p) == 0 && p.parent == parent)
                add(t, room, &p);
        if (f)
            fclose(f);
    }
    closedir(d);
}

void proc_table_read_tree(struct proc_table *ret, int root)
{
    size_t room = 0;
    struct proc p;
    *ret = (struct proc_table){0};
    if (proc_read(root, &p) == 0)
        add(ret, &room, &p);
    for (size_t i = 0; i < ret->n; i++)
        add_children(ret, &room, ret->list[i].pid);
    sort(ret);
}

void proc_table_fini(struct proc_table *t)
{
    free(t->list);
    free(t->by_parent);
    *t = (struct proc_table){0};
}

struct proc *proc_table_find(const struct proc_table *t, int pid, uint64_t start_ticks)
{
    const struct proc key = {.pid = pid};
    struct proc *p = t->n ? bsearch(&key, t->list, t->n, sizeof *t->list, by_pid) : NULL;
    return p && (!start_ticks || p->start_ticks == start_ticks) ? p : NULL;
}

/* ---- walks ---- */

void proc_list_fini(struct proc_list *l)
{
    free(l->list);
    *l = (struct proc_list){0};
}

static void take(struct proc_list *l, struct proc *p)
{
    p->taken = true;
    if ((l->n & (l->n - 1)) == 0)
        l->list = sa_realloc(l->list, (l->n ? 2 * l->n : 1) * sizeof *l->list);
    l->list[l->n++] = p;
}

static void take_children(const struct proc_table *t, const struct proc *parent, struct proc_list *ret)
{
    size_t low = 0, high = t->n; /* the first whose parent is not lower */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (t->by_parent[middle]->parent < parent->pid)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < t->n && t->by_parent[low]->parent == parent->pid; low++)
        if (!t->by_parent[low]->taken && t->by_parent[low]->start_ticks >= parent->start_ticks)
            take(ret, t->by_parent[low]);
}

void proc_walk(const struct proc_table *t, struct proc *root, bool itself, struct proc_list *ret)
{
    size_t next = ret->n;
    if (itself && !root->taken)
        take(ret, root);
    else if (!itself)
        take_children(t, root, ret);
    while (next < ret->n)
        take_children(t, ret->list[next++], ret);
}
