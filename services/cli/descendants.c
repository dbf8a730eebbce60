/* The end of everything that descends from this process. We are its subreaper: what loses its parent comes to
 * us, so the tree below us is complete, and it is over when we have no child left. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "adapters/os/mem.h"
#include "services/cli/keeper.h"

enum {
    KILL_MS = 10000, /* what does not die of KILL hangs in the kernel: not waited for any longer */
    RESCAN_MS = 50,  /* what was forked while we looked is seen next time */
};

struct entry {
    pid_t pid, parent;
    bool below; /* descends from us */
};

struct table {
    struct entry *entries;
    size_t n, cap;
};

static bool read_parent(pid_t pid, pid_t *ret)
{
    char path[32], line[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    size_t n = fread(line, 1, sizeof line - 1, f);
    fclose(f);
    line[n] = 0;
    /* The name may contain anything: what follows its last parenthesis counts. */
    char *at = strrchr(line, ')');
    int parent;
    char state;
    if (!at || sscanf(at + 1, " %c %d", &state, &parent) != 2)
        return false;
    *ret = (pid_t)parent;
    return true;
}

static void read_table(struct table *t)
{
    DIR *d = opendir("/proc");
    t->n = 0;
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        pid_t pid = (pid_t)atoi(e->d_name), parent;
        if (pid <= 0 || !read_parent(pid, &parent))
            continue;
        if (t->n == t->cap) {
            t->cap = t->cap ? 2 * t->cap : 256;
            t->entries = sa_realloc(t->entries, t->cap * sizeof *t->entries);
        }
        t->entries[t->n++] = (struct entry){.pid = pid, .parent = parent};
    }
    closedir(d);
}

/* Does it run the program that we run? Then it looks after its own descendants. */
static bool supervises(pid_t pid)
{
    char path[32];
    struct stat ours, its;
    snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
    return stat(path, &its) == 0 && stat("/proc/self/exe", &ours) == 0 && its.st_dev == ours.st_dev &&
           its.st_ino == ours.st_ino;
}

/* Marks the children of `parent` and theirs; returns how many it found. */
static int mark(struct table *t, pid_t parent, bool into_supervisors)
{
    int n = 0;
    for (size_t i = 0; i < t->n; i++) {
        struct entry *e = &t->entries[i];
        if (e->parent != parent || e->below || e->pid == parent)
            continue;
        e->below = true;
        n++;
        if (into_supervisors || !supervises(e->pid))
            n += mark(t, e->pid, into_supervisors);
    }
    return n;
}

static int signal_all(struct table *t, int signum)
{
    read_table(t);
    int n = mark(t, getpid(), signum == SIGKILL);
    for (size_t i = 0; i < t->n; i++)
        if (t->entries[i].below)
            kill(t->entries[i].pid, signum);
    return n;
}

/* Collects what has ended; false: there is no child any more. */
static bool children_left(void)
{
    pid_t pid;
    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
        ;
    return pid == 0;
}

/* Waits for a child's end or for RESCAN_MS; true: somebody is in a hurry. */
static bool wait_a_moment(void)
{
    sigset_t set;
    struct timespec moment = {.tv_nsec = RESCAN_MS * 1000000L};
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    int got = sigtimedwait(&set, NULL, &moment);
    return got == SIGINT || got == SIGTERM;
}

int end_descendants(uint64_t grace_ms)
{
    struct table t = {0};
    uint64_t kill_at = sa_now_ms() + grace_ms, give_up_at = kill_at + KILL_MS;
    int left = 0;
    if (children_left())
        signal_all(&t, SIGTERM);
    while (children_left()) {
        uint64_t now = sa_now_ms();
        if (now >= kill_at)
            left = signal_all(&t, SIGKILL);
        if (now >= give_up_at)
            break;
        if (wait_a_moment())
            kill_at = now;
    }
    free(t.entries);
    return children_left() ? left : 0;
}
