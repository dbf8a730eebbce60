/* A socket is found by its inode: /proc/<pid>/net/tcp has the listening ones of a network namespace, and
 * /proc/<pid>/fd names those that a process holds. */
#include "services/process-svc/ports.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/mem.h"

enum { SOCKETS_MAX = 64, TREE_MAX = 65536, STATE_LISTEN = 0x0A };

struct sockets {
    unsigned long inodes[SOCKETS_MAX];
    size_t n;
};

struct tree {
    int *pids;
    size_t n;
};

/* Adds the sockets of one table that listen on the port. */
static void add_listening(struct sockets *s, int pid, const char *table, uint32_t port)
{
    cleanup_free char *path = sa_format("/proc/%d/net/%s", pid, table);
    char line[512];
    FILE *f = fopen(path, "re");
    if (!f)
        return;
    while (s->n < SOCKETS_MAX && fgets(line, sizeof line, f)) {
        unsigned local, state;
        unsigned long inode;
        if (sscanf(line, "%*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*s %*s %lu", &local, &state,
                   &inode) == 3 &&
            local == port && state == STATE_LISTEN)
            s->inodes[s->n++] = inode;
    }
    fclose(f);
}

static void add_pid(struct tree *t, int pid)
{
    if (t->n == TREE_MAX)
        return;
    if ((t->n & (t->n - 1)) == 0)
        t->pids = sa_realloc(t->pids, (t->n ? 2 * t->n : 1) * sizeof *t->pids);
    t->pids[t->n++] = pid;
}

/* Adds the children of all threads of a process. */
static void add_children(struct tree *t, int pid)
{
    cleanup_free char *tasks = sa_format("/proc/%d/task", pid);
    DIR *d = opendir(tasks);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        cleanup_free char *path = sa_format("%s/%s/children", tasks, e->d_name);
        FILE *f = fopen(path, "re");
        for (int child; f && fscanf(f, "%d", &child) == 1;)
            add_pid(t, child);
        if (f)
            fclose(f);
    }
    closedir(d);
}

static bool holds_one(int pid, const struct sockets *s)
{
    cleanup_free char *fds = sa_format("/proc/%d/fd", pid);
    DIR *d = opendir(fds);
    bool found = false;
    if (!d)
        return false;
    for (struct dirent *e; !found && (e = readdir(d));) {
        char target[64];
        unsigned long inode;
        ssize_t n = readlinkat(dirfd(d), e->d_name, target, sizeof target - 1);
        target[n > 0 ? n : 0] = 0;
        if (sscanf(target, "socket:[%lu]", &inode) != 1)
            continue;
        for (size_t i = 0; i < s->n; i++)
            found |= s->inodes[i] == inode;
    }
    closedir(d);
    return found;
}

bool ports_tree_listens(int root, uint32_t port)
{
    struct sockets sockets = {0};
    struct tree tree = {0};
    bool found = false;
    add_listening(&sockets, root, "tcp", port);
    add_listening(&sockets, root, "tcp6", port);
    if (!sockets.n)
        return false;
    add_pid(&tree, root);
    for (size_t i = 0; i < tree.n && !found; i++) {
        found = holds_one(tree.pids[i], &sockets);
        add_children(&tree, tree.pids[i]);
    }
    free(tree.pids);
    return found;
}
