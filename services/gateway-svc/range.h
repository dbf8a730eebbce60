/* The Range header of RFC 9110: one range of bytes. */
#ifndef SERVICES_GATEWAY_SVC_RANGE_H_
#define SERVICES_GATEWAY_SVC_RANGE_H_

#include <stdbool.h>
#include <stdint.h>

enum range_result {
    RANGE_NONE,    /* no header, or one that does not count (another unit, several ranges): all of it */
    RANGE_PART,    /* *ret_n > 0 bytes from *ret_from */
    RANGE_OUTSIDE, /* 416 */
};

/* header may be NULL; size: of all there is. */
enum range_result range_parse(const char *header, uint64_t size, uint64_t *ret_from, uint64_t *ret_n);

#endif
