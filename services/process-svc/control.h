/* Who looks at a terminal, who types, whose size counts: the rules alone, without streams or shims.
 *
 * A lease is given with control and grows with every change, also when control falls to nobody. It and the
 * ids of members begin with `generation`, which grows with every run of the service: what was given before
 * is never given again. Names belong to the member's owner. */
#ifndef SERVICES_PROCESS_SVC_CONTROL_H_
#define SERVICES_PROCESS_SVC_CONTROL_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "adapters/os/error.h"

enum { CONTROL_MEMBERS_MAX = 1000 };

struct dimensions {
    uint32_t rows, columns; /* 0, 0: none */
};

struct member {
    struct member *next; /* in the order in which they came */
    uint64_t id;
    const char *name;
    struct dimensions size;
};

struct control {
    uint64_t generation;
    bool smallest; /* the policy; else the size is that of the one in control */
    struct member *members, *holder;
    size_t n;
    uint64_t made;            /* members so far */
    uint64_t changes;         /* of control so far */
    uint64_t next;            /* offset of the next byte of input that is taken */
    struct dimensions forced; /* until a member's size changes, or one comes or goes */
};

/* TOO_MANY. Gives it its id. */
int control_add(struct control *c, struct member *m, sa_error **err);
/* true: it was in control, which is nobody's now. */
bool control_remove(struct control *c, struct member *m);
void control_resize(struct control *c, struct member *m, struct dimensions size);
void control_force(struct control *c, struct dimensions size);
/* true: it has got it. */
bool control_acquire(struct control *c, struct member *m, bool take_over);
/* true: it had it, with this lease. */
bool control_release(struct control *c, const struct member *m, uint64_t lease);
uint64_t control_lease(const struct control *c);
/* What the terminal's size should be; `now` when nobody says. */
struct dimensions control_size(const struct control *c, struct dimensions now);
/* Is it in control, with this lease? */
bool control_holds(const struct control *c, const struct member *m, uint64_t lease);
/* Takes n bytes at `offset` from whoever is in control: *ret_known of them were taken before. OFFSET_AHEAD.
 */
int control_input(struct control *c, uint64_t offset, size_t n, size_t *ret_known, sa_error **err);

#endif
