/* Any Range header names nothing, or bytes that exist. */
#include <stdlib.h>
#include <string.h>

#include "services/gateway-svc/range.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t sizes[] = {0, 1, 10, UINT64_MAX / 2};
    char text[64] = "bytes=";
    size_t n = size < sizeof(text) - 7 ? size : sizeof(text) - 7;
    memcpy(text + 6, data, n);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        uint64_t from = 0, count = 0;
        if (range_parse(text, sizes[i], &from, &count) == RANGE_PART &&
            (count == 0 || from >= sizes[i] || count > sizes[i] - from))
            abort();
    }
    return 0;
}
