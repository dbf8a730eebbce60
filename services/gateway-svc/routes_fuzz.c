/* Any request target: found or not, nothing is read beyond, and what comes out is text. */
#include <stdlib.h>
#include <string.h>

#include "services/gateway-svc/routes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct route table[] = {
        {.method = "GET", .pattern = "/ui/*"},
        {.method = "GET", .pattern = "/v1/{a}/b/{c}"},
        {.method = "POST", .pattern = "/{a}"},
        {0},
    };
    struct sa_arena *a = sa_arena_new();
    char *path = sa_strndup((const char *)data, size);
    struct route_match m = {0};
    if (route_find(table, size % 2 ? "GET" : "POST", path, a, &m) == ROUTE_FOUND)
        for (size_t i = 0; i < m.n_params; i++)
            if (strlen(m.params[i].value) > size)
                abort();
    free(path);
    sa_arena_free(a);
    return 0;
}
