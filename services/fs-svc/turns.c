#include "services/fs-svc/turns.h"

#include <stddef.h>
#include <string.h>

static bool same_file(const struct fs_turn *a, const struct fs_turn *b)
{
    return !strcmp(a->name, b->name) && !strcmp(a->dir, b->dir);
}

bool fs_turn_take(struct fs_turn **list, struct fs_turn *t)
{
    struct fs_turn **at = list;
    t->waits = false;
    for (; *at; at = &(*at)->next)
        t->waits = t->waits || same_file(*at, t);
    *at = t;
    t->next = NULL;
    t->listed = true;
    return !t->waits;
}

void fs_turn_leave(struct fs_turn **list, struct fs_turn *t)
{
    struct fs_turn **at = list;
    if (!t->listed)
        return;
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    t->listed = false;
    if (t->waits)
        return;
    for (struct fs_turn *next = *list; next; next = next->next)
        if (same_file(next, t)) {
            next->waits = false;
            next->go(next->user);
            return;
        }
}
