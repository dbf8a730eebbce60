/* Page tokens: where the next page begins, sealed so that it fits only the list (its filter) and the store it
 * came from. */
#ifndef SERVICES_SESSION_SVC_PAGE_TOKEN_H_
#define SERVICES_SESSION_SVC_PAGE_TOKEN_H_

#include "adapters/os/clock.h"
#include "adapters/os/error.h"
#include "adapters/os/mem.h"

/* filter: describes the list and its conditions. In the arena. */
char *page_token_make(struct sa_arena *arena, struct sa_id last, const char *filter, uint64_t epoch);
/* INVALID_PAGE_TOKEN. */
int page_token_read(const char *token, const char *filter, uint64_t epoch, struct sa_id *ret_last,
                    sa_error **err);

#endif
