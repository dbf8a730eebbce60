#include "services/process-svc/control.h"

int control_add(struct control *c, struct member *m, sa_error **err)
{
    if (c->n == CONTROL_MEMBERS_MAX)
        return sa_fail(err, SA_TOO_MANY, "%d viewers look at this terminal already", CONTROL_MEMBERS_MAX);
    struct member **at = &c->members;
    while (*at)
        at = &(*at)->next;
    m->id = c->generation << 32 | ++c->made;
    m->next = NULL;
    *at = m;
    c->n++;
    c->forced = (struct dimensions){0};
    return 0;
}

static void pass(struct control *c, struct member *to)
{
    c->holder = to;
    c->changes++;
}

bool control_remove(struct control *c, struct member *m)
{
    struct member **at = &c->members;
    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
    c->n--;
    c->forced = (struct dimensions){0};
    if (c->holder != m)
        return false;
    pass(c, NULL);
    return true;
}

void control_resize(struct control *c, struct member *m, struct dimensions size)
{
    m->size = size;
    c->forced = (struct dimensions){0};
}

void control_force(struct control *c, struct dimensions size)
{
    c->forced = size;
}

bool control_acquire(struct control *c, struct member *m, bool take_over)
{
    if (c->holder == m || (c->holder && !take_over))
        return false;
    pass(c, m);
    return true;
}

bool control_holds(const struct control *c, const struct member *m, uint64_t lease)
{
    return c->holder == m && lease == control_lease(c);
}

bool control_release(struct control *c, const struct member *m, uint64_t lease)
{
    if (!control_holds(c, m, lease))
        return false;
    pass(c, NULL);
    return true;
}

uint64_t control_lease(const struct control *c)
{
    return c->generation << 32 | c->changes;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return !a ? b : !b ? a : a < b ? a : b;
}

struct dimensions control_size(const struct control *c, struct dimensions now)
{
    struct dimensions size = {0};
    if (c->forced.rows)
        return c->forced;
    if (!c->smallest)
        return c->holder && c->holder->size.rows ? c->holder->size : now;
    for (const struct member *m = c->members; m; m = m->next) {
        size.rows = smaller(size.rows, m->size.rows);
        size.columns = smaller(size.columns, m->size.columns);
    }
    return size.rows ? size : now;
}

int control_input(struct control *c, uint64_t offset, size_t n, size_t *ret_known, sa_error **err)
{
    if (offset > c->next)
        return sa_fail(err, SA_OFFSET_AHEAD, "the terminal's input expects byte %llu next, not %llu",
                       (unsigned long long)c->next, (unsigned long long)offset);
    uint64_t known = c->next - offset;
    *ret_known = known < n ? (size_t)known : n;
    c->next += n - *ret_known;
    return 0;
}
