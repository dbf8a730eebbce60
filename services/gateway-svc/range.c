/* The Range header: apart from the files that it cuts so that it can be fuzzed alone. */
#include <string.h>
#include <strings.h>

#include "services/gateway-svc/range.h"

/* A number, which may be missing (*ret_given). More than 18 digits count as a very large one. */
static const char *number(const char *p, uint64_t *ret, bool *ret_given)
{
    size_t n = strspn(p, "0123456789");
    *ret = 0;
    *ret_given = n > 0;
    for (size_t i = 0; i < n; i++)
        *ret = n > 18 ? UINT64_MAX / 2 : *ret * 10 + (uint64_t)(p[i] - '0');
    return p + n;
}

enum range_result range_parse(const char *header, uint64_t size, uint64_t *ret_from, uint64_t *ret_n)
{
    uint64_t first, last;
    bool has_first, has_last;
    if (!header || strncasecmp(header, "bytes=", 6) != 0)
        return RANGE_NONE;
    const char *p = number(header + 6, &first, &has_first);
    if (*p++ != '-')
        return RANGE_NONE;
    p = number(p, &last, &has_last);
    if (*p || (!has_first && !has_last) || (has_first && has_last && last < first))
        return RANGE_NONE;
    if (!has_first) { /* the last so many */
        first = last < size ? size - last : 0;
        has_last = false;
        if (last == 0)
            return RANGE_OUTSIDE;
    }
    if (first >= size)
        return RANGE_OUTSIDE;
    *ret_from = first;
    *ret_n = (has_last && last < size ? last + 1 : size) - first;
    return RANGE_PART;
}
