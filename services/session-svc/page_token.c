#include "services/session-svc/page_token.h"

#include <string.h>

#include "adapters/os/sha256.h"

enum { SEAL = 16 }; /* characters of the digest */

char *page_token_make(struct sa_arena *arena, struct sa_id last, const char *filter, uint64_t epoch)
{
    char id[SA_ID_TEXT + 1], digest[SA_SHA256_TEXT + 1];
    struct sa_sha256 sum;
    sa_id_format(last, id);
    sa_sha256_init(&sum);
    sa_sha256_add(&sum, id, SA_ID_TEXT);
    sa_sha256_add(&sum, &epoch, sizeof epoch);
    sa_sha256_add(&sum, filter, strlen(filter));
    sa_sha256_end_text(&sum, digest);
    return sa_arena_format(arena, "%s%.*s", id, SEAL, digest);
}

int page_token_read(const char *token, const char *filter, uint64_t epoch, struct sa_id *ret_last,
                    sa_error **err)
{
    char id[SA_ID_TEXT + 1];
    struct sa_id last;
    if (strlen(token) == SA_ID_TEXT + SEAL) {
        memcpy(id, token, SA_ID_TEXT);
        id[SA_ID_TEXT] = '\0';
        if (sa_id_parse(id, &last)) {
            struct sa_arena *arena = sa_arena_new();
            bool same = !strcmp(token, page_token_make(arena, last, filter, epoch));
            sa_arena_free(arena);
            if (same) {
                *ret_last = last;
                return 0;
            }
        }
    }
    return sa_fail(err, SA_INVALID_PAGE_TOKEN, "page_token does not belong to this list and filter");
}
