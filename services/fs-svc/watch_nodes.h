/* The directories of a watched tree, found by name and by the kernel's watch descriptor. Plain data, under
 * the service lock; the kernel is not asked here. */
#ifndef SERVICES_FS_SVC_WATCH_NODES_H_
#define SERVICES_FS_SVC_WATCH_NODES_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "adapters/os/mem.h"
#include "services/fs-svc/glob.h"

struct watch_node {
    struct watch_node *parent; /* NULL: the root */
    LIST_ENTRY(watch_node) sibling;
    LIST_HEAD(, watch_node) children;
    TAILQ_ENTRY(watch_node) queue_link;
    char *name;                          /* "." of the root */
    int wd;                              /* -1: not watched */
    uint32_t cookie;                     /* it was moved away and has not arrived; 0: it has its place */
    LIST_ENTRY(watch_node) leaving_link; /* with a cookie */
    bool queued;                         /* waits to be walked */
    bool fresh;                          /* what the walk finds in it is new to readers */
    const char *unwatched;               /* why it cannot be; a constant; NULL: it can */
    unsigned stolen;                     /* times that another node turned out to have its descriptor */
    struct fs_globs globs;               /* of its .gitignore */
    uint64_t born;                       /* in the tree's count of walks */
    uint64_t id;                         /* unique in the tree: a walk's answer finds its node by it */
};

struct watch_nodes {
    struct watch_node *root;
    void *by_name, *by_wd, *by_id;
    TAILQ_HEAD(, watch_node) queue; /* to be walked */
    LIST_HEAD(, watch_node) leaving;
    size_t n, n_watched;
    uint64_t last_id;
    struct sa_buf dropped; /* int wds that no node has any more: for inotify_rm_watch */
};

void watch_nodes_init(struct watch_nodes *n);
void watch_nodes_fini(struct watch_nodes *n);

struct watch_node *watch_node_child(struct watch_nodes *n, struct watch_node *parent, const char *name);
struct watch_node *watch_node_by_wd(struct watch_nodes *n, int wd);
struct watch_node *watch_node_by_id(struct watch_nodes *n, uint64_t id);
/* A new one, queued; the name is free among the parent's. */
struct watch_node *watch_node_add(struct watch_nodes *n, struct watch_node *parent, const char *name,
                                  bool fresh, uint64_t born);
/* With all below it. Their descriptors are added to `dropped`. */
void watch_node_drop(struct watch_nodes *n, struct watch_node *node);
/* It has left its name; until it is attached or dropped its path is the old one. */
void watch_node_detach(struct watch_nodes *n, struct watch_node *node, uint32_t cookie);
struct watch_node *watch_node_leaving(struct watch_nodes *n, uint32_t cookie);
void watch_node_attach(struct watch_nodes *n, struct watch_node *node, struct watch_node *parent,
                       const char *name);
void watch_node_queue(struct watch_nodes *n, struct watch_node *node);
/* wd -1: none. Another node that has it loses it and is returned: it is somewhere else now. */
struct watch_node *watch_node_set_wd(struct watch_nodes *n, struct watch_node *node, int wd);
/* The kernel has ended this watch by itself. */
void watch_node_forget_wd(struct watch_nodes *n, struct watch_node *node);

/* "a/b/name", or of the node itself with name NULL; "." for the root. free() it. */
char *watch_node_path(const struct watch_node *node, const char *name);

#endif
