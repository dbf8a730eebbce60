/* The oldest come first in the store, between those that still run. To look at these once for many, a batch
 * is forgotten at a time. */
#include "services/process-svc/retention.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/os/log.h"
#include "adapters/os/mem.h"

enum { BATCH_MAX = 100, BATCH_SHARE = 100 /* one of so many */ };

struct batch {
    struct processes *all;
    char ids[BATCH_MAX][SA_ID_TEXT + 1];
    size_t n, wanted;
};

/* One that is in memory is followed, has just ended, or has left something running: at another time. */
static bool add_old(void *user, const struct store_row *row)
{
    struct batch *b = user;
    struct sa_id id;
    ProcessRecord *r = row->key_len == sizeof id.bytes ? store_row_unpack(row, NULL) : NULL;
    if (r) {
        memcpy(id.bytes, row->key, sizeof id.bytes);
        if (r->state == RECORD_STATE_EXITED && !processes_live(b->all, id))
            sa_id_format(id, b->ids[b->n++]);
    }
    store_message_free(r);
    return b->n < b->wanted;
}

static void forget_oldest(struct processes *all)
{
    struct batch b = {.all = all};
    struct store_range range = {.table = TABLE_PROCESSES};
    if (all->ended <= all->max_ended || all->draining)
        return;
    size_t share = all->max_ended / BATCH_SHARE + 1, over = all->ended - all->max_ended;
    b.wanted = over > share ? over : share;
    if (b.wanted > BATCH_MAX)
        b.wanted = BATCH_MAX;
    store_scan(all->store, &range, add_old, &b, NULL);
    for (size_t i = 0; i < b.n; i++) {
        struct process *p = processes_find(all, b.ids[i], NULL);
        if (p)
            process_delete(p, NULL, false);
    }
    sa_log(SA_LOG_INFO, "process.oldest_forgotten", "count=%zu remembered=%zu", b.n, all->ended - b.n);
}

static void apply(void *user)
{
    struct processes *all = user;
    all->retention_due = false;
    forget_oldest(all);
}

void retention_count(struct processes *all, int count)
{
    all->ended = count > 0 ? all->ended + 1 : all->ended - 1;
    if (all->ended <= all->max_ended || all->retention_due)
        return;
    all->retention_due = true;
    sa_defer(all->loop, apply, all);
}
