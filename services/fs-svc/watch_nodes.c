#include "services/fs-svc/watch_nodes.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

/* ---- indexes ---- */

static int compare(uintptr_t a, uintptr_t b)
{
    return a < b ? -1 : a > b;
}

static int by_name(const void *a, const void *b)
{
    const struct watch_node *x = a, *y = b;
    int c = compare((uintptr_t)x->parent, (uintptr_t)y->parent);
    return c ? c : strcmp(x->name, y->name);
}

static int by_wd(const void *a, const void *b)
{
    const struct watch_node *x = a, *y = b;
    return (x->wd > y->wd) - (x->wd < y->wd);
}

static int by_id(const void *a, const void *b)
{
    const struct watch_node *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static struct watch_node *find(void *const *tree, const struct watch_node *key,
                               int (*order)(const void *, const void *))
{
    struct watch_node **found = tfind(key, tree, order);
    return found ? *found : NULL;
}

struct watch_node *watch_node_child(struct watch_nodes *n, struct watch_node *parent, const char *name)
{
    struct watch_node key = {.parent = parent, .name = (char *)(uintptr_t)name};
    return find(&n->by_name, &key, by_name);
}

struct watch_node *watch_node_by_wd(struct watch_nodes *n, int wd)
{
    struct watch_node key = {.wd = wd};
    return find(&n->by_wd, &key, by_wd);
}

struct watch_node *watch_node_by_id(struct watch_nodes *n, uint64_t id)
{
    struct watch_node key = {.id = id};
    return find(&n->by_id, &key, by_id);
}

/* ---- a node ---- */

struct watch_node *watch_node_add(struct watch_nodes *n, struct watch_node *parent, const char *name,
                                  bool fresh, uint64_t born)
{
    struct watch_node *node = sa_calloc(1, sizeof *node);
    node->parent = parent;
    node->name = sa_strdup(name);
    node->wd = -1;
    node->fresh = fresh;
    node->born = born;
    node->id = ++n->last_id;
    LIST_INIT(&node->children);
    if (parent)
        LIST_INSERT_HEAD(&parent->children, node, sibling);
    else
        n->root = node;
    tsearch(node, &n->by_name, by_name);
    tsearch(node, &n->by_id, by_id);
    n->n++;
    watch_node_queue(n, node);
    return node;
}

void watch_node_queue(struct watch_nodes *n, struct watch_node *node)
{
    if (!node->queued)
        TAILQ_INSERT_TAIL(&n->queue, node, queue_link);
    node->queued = true;
}

void watch_node_forget_wd(struct watch_nodes *n, struct watch_node *node)
{
    if (node->wd < 0)
        return;
    tdelete(node, &n->by_wd, by_wd);
    node->wd = -1;
    n->n_watched--;
}

struct watch_node *watch_node_set_wd(struct watch_nodes *n, struct watch_node *node, int wd)
{
    if (node->wd == wd)
        return NULL;
    struct watch_node *other = wd < 0 ? NULL : watch_node_by_wd(n, wd);
    if (node->wd >= 0)
        sa_buf_add(&n->dropped, &node->wd, sizeof node->wd);
    watch_node_forget_wd(n, node);
    if (other)
        watch_node_forget_wd(n, other);
    if (wd >= 0) {
        node->wd = wd;
        tsearch(node, &n->by_wd, by_wd);
        n->n_watched++;
    }
    return other;
}

static void drop_one(struct watch_nodes *n, struct watch_node *node)
{
    watch_node_set_wd(n, node, -1);
    if (node->cookie)
        LIST_REMOVE(node, leaving_link);
    else
        tdelete(node, &n->by_name, by_name);
    tdelete(node, &n->by_id, by_id);
    if (node->queued)
        TAILQ_REMOVE(&n->queue, node, queue_link);
    if (node->parent)
        LIST_REMOVE(node, sibling);
    else
        n->root = NULL;
    n->n--;
    fs_globs_fini(&node->globs);
    free(node->name);
    free(node);
}

/* The deepest first, without recursion: trees may be deep. */
void watch_node_drop(struct watch_nodes *n, struct watch_node *top)
{
    for (struct watch_node *node = top;;) {
        struct watch_node *child = LIST_FIRST(&node->children);
        if (child) {
            node = child;
            continue;
        }
        struct watch_node *parent = node->parent;
        bool last = node == top;
        drop_one(n, node);
        if (last)
            return;
        node = parent;
    }
}

void watch_node_detach(struct watch_nodes *n, struct watch_node *node, uint32_t cookie)
{
    tdelete(node, &n->by_name, by_name);
    node->cookie = cookie;
    LIST_INSERT_HEAD(&n->leaving, node, leaving_link);
}

struct watch_node *watch_node_leaving(struct watch_nodes *n, uint32_t cookie)
{
    struct watch_node *node;
    LIST_FOREACH(node, &n->leaving, leaving_link)
    if (node->cookie == cookie)
        break;
    return node;
}

void watch_node_attach(struct watch_nodes *n, struct watch_node *node, struct watch_node *parent,
                       const char *name)
{
    LIST_REMOVE(node, leaving_link);
    LIST_REMOVE(node, sibling);
    node->parent = parent;
    LIST_INSERT_HEAD(&parent->children, node, sibling);
    free(node->name);
    node->name = sa_strdup(name);
    node->cookie = 0;
    tsearch(node, &n->by_name, by_name);
}

char *watch_node_path(const struct watch_node *node, const char *name)
{
    size_t len = name ? strlen(name) + 1 : 0;
    for (const struct watch_node *at = node; at->parent; at = at->parent)
        len += strlen(at->name) + 1;
    if (!len)
        return sa_strdup(".");
    char *path = sa_malloc(len), *end = path + len - 1;
    *end = 0;
    if (name) {
        end -= strlen(name);
        memcpy(end, name, strlen(name));
    }
    for (const struct watch_node *at = node; at->parent; at = at->parent) {
        size_t part = strlen(at->name);
        if (end != path + len - 1)
            *--end = '/';
        end -= part;
        memcpy(end, at->name, part);
    }
    return path;
}

void watch_nodes_init(struct watch_nodes *n)
{
    *n = (struct watch_nodes){0};
    TAILQ_INIT(&n->queue);
    LIST_INIT(&n->leaving);
}

void watch_nodes_fini(struct watch_nodes *n)
{
    if (n->root)
        watch_node_drop(n, n->root);
    sa_buf_fini(&n->dropped);
}
