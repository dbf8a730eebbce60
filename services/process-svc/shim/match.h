/* Looks for a byte string in streams that come in pieces (Knuth, Morris and Pratt): nothing of a stream is
 * kept. */
#ifndef SERVICES_PROCESS_SVC_SHIM_MATCH_H_
#define SERVICES_PROCESS_SVC_SHIM_MATCH_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "services/process-svc/shim/protocol.h"

struct match {
    const uint8_t *pattern; /* NULL: nothing is looked for */
    size_t n;
    size_t at[SHIM_STREAMS];         /* so many bytes of it have come last */
    uint16_t next[SHIM_PATTERN_MAX]; /* [i]: so many of its first i + 1 bytes are also its first ones */
};

/* pattern: stays the caller's, n from 1 to SHIM_PATTERN_MAX. */
void match_init(struct match *m, const void *pattern, size_t n);
/* The streams begin anew. */
void match_reset(struct match *m);
/* The next bytes of a stream: was the pattern completed in them? */
bool match_feed(struct match *m, int stream, const void *p, size_t n);

#endif
