/* Who listens on which TCP port, as /proc tells: the listening sockets of every network namespace that a tree
 * lives in, found again by their inodes among the open files of its processes. Needs the right to look at
 * these (the same user, or root): of others nothing is seen. Blocks: in workers. Any thread. */
#ifndef SERVICES_PROCESS_SVC_PORTS_H_
#define SERVICES_PROCESS_SVC_PORTS_H_

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "services/process-svc/procfs.h"

enum {
    PORTS_TREE_MAX = 1000,       /* listening sockets of one tree; more are left out */
    PORTS_LISTENERS_MAX = 65536, /* listening sockets looked at */
    PORTS_NAMESPACES_MAX = 256,
    PORTS_FILES_MAX = 65536, /* open files looked at of one process */
};

/* Does the process `root`, or something that descends from it, listen on this port, whatever the address? */
bool ports_tree_listens(int root, uint32_t port);

/* ---- in two steps, for many trees ---- */

struct listener {
    uint64_t inode;
    uint32_t port;
    char address[INET6_ADDRSTRLEN];
};

/* A line of /proc/net/tcp or tcp6. false: it is none, or its socket does not listen. */
bool ports_parse_line(const char *line, size_t n, struct listener *ret);

struct listeners {
    struct listener *list;
    size_t n, sorted;
    uint64_t *namespaces; /* those that were read */
    size_t n_namespaces;
};
/* Those of our own network namespace. A number that differs when they do is in *ret_sum (may be NULL). */
void listeners_read(struct listeners *ret, uint64_t *ret_sum);
/* And of the namespaces of these processes. */
void listeners_add(struct listeners *l, const struct proc_list *tree);
/* Drops all but those on this port. */
void listeners_keep(struct listeners *l, uint32_t port);
void listeners_fini(struct listeners *l);

struct port {
    const struct listener *listener;
    int pid; /* the first of the tree that holds it */
};
/* What the tree holds of them, by port then address, each pair once; at most PORTS_TREE_MAX. Returns how
 * many. */
size_t ports_of_tree(const struct listeners *l, const struct proc_list *tree, struct port **ret);

#endif
