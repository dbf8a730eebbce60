/* Members come, go, take control, type and change size in any order: there is one holder at most, a lease is
 * never given twice, each byte of input is taken once and only from who holds the lease in force. */
#include <stdint.h>
#include <stdlib.h>

#include "services/process-svc/control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MEMBERS = 8 };

struct state {
    struct control c;
    struct member members[MEMBERS];
    bool in[MEMBERS];
    uint64_t leases[MEMBERS]; /* that each was given last */
    uint64_t last_lease, last_id;
};

static void must(bool so)
{
    if (!so)
        abort();
}

static void check(struct state *s)
{
    uint64_t lease = control_lease(&s->c);
    size_t n = 0;
    bool held = !s->c.holder;
    for (const struct member *m = s->c.members; m; m = m->next, n++)
        held |= m == s->c.holder;
    must(held && n == s->c.n && lease >= s->last_lease);
    s->last_lease = lease;
    struct dimensions now = {24, 80}, d = control_size(&s->c, now);
    must(d.rows && d.columns);
}

static void type(struct state *s, struct member *m, uint8_t a, uint8_t b)
{
    uint64_t lease = (a & 1) ? control_lease(&s->c) : s->leases[a % MEMBERS], before = s->c.next;
    uint64_t offset = before + (b & 15) - (before < 8 ? 0 : 8);
    size_t known = 0, n = b >> 4;
    bool may = s->c.holder == m && lease == control_lease(&s->c) && offset <= before;
    int r = control_holds(&s->c, m, lease) ? control_input(&s->c, offset, n, &known, NULL) : -1;
    must((r == 0) == may);
    must(r < 0 ? s->c.next == before : s->c.next == (offset + n > before ? offset + n : before));
    must(r < 0 || known <= n);
}

static void act(struct state *s, uint8_t op, uint8_t a, uint8_t b)
{
    size_t i = op / 8 % MEMBERS;
    struct member *m = &s->members[i];
    const struct dimensions size = {1 + a, 1 + b};
    uint64_t before = control_lease(&s->c);
    if (!s->in[i]) {
        *m = (struct member){.size = (op & 1) ? size : (struct dimensions){0}};
        must(control_add(&s->c, m, NULL) == 0 && m->id > s->last_id);
        s->last_id = m->id;
        s->in[i] = true;
        return;
    }
    bool held = s->c.holder == m;
    switch (op % 8) {
    case 0:
        must(control_remove(&s->c, m) == held);
        s->in[i] = false;
        break;
    case 1:
    case 2:
        if (control_acquire(&s->c, m, op % 8 == 2))
            must(s->c.holder == m && control_lease(&s->c) > before);
        if (s->c.holder == m)
            s->leases[i] = control_lease(&s->c);
        break;
    case 3:
        must(!control_release(&s->c, m, (a & 1) ? before : s->leases[i]) || (held && !s->c.holder));
        break;
    case 4:
        control_resize(&s->c, m, size);
        break;
    case 5:
        control_force(&s->c, size);
        must(control_size(&s->c, (struct dimensions){1, 1}).rows == size.rows);
        break;
    default:
        type(s, m, a, b);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct state s = {.c = {.generation = 1, .smallest = size & 1}};
    for (size_t at = 0; at + 3 <= size; at += 3) {
        act(&s, data[at], data[at + 1], data[at + 2]);
        check(&s);
    }
    return 0;
}
