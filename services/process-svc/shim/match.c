#include "services/process-svc/shim/match.h"

#include <string.h>

/* How much of the pattern has come once `byte` follows its first `at` bytes. */
static size_t step(const struct match *m, size_t at, uint8_t byte)
{
    while (at && m->pattern[at] != byte)
        at = m->next[at - 1];
    return at + (m->pattern[at] == byte);
}

void match_init(struct match *m, const void *pattern, size_t n)
{
    m->pattern = pattern;
    m->n = n;
    m->next[0] = 0;
    for (size_t i = 1; i < n; i++)
        m->next[i] = (uint16_t)step(m, m->next[i - 1], m->pattern[i]);
    match_reset(m);
}

void match_reset(struct match *m)
{
    memset(m->at, 0, sizeof m->at);
}

bool match_feed(struct match *m, int stream, const void *p, size_t n)
{
    const uint8_t *at = p, *end = at + n;
    size_t have = m->at[stream];
    while (at < end && have < m->n) {
        const uint8_t *first = have ? at : memchr(at, m->pattern[0], (size_t)(end - at));
        if (!first)
            break;
        have = step(m, have, *first);
        at = first + 1;
    }
    m->at[stream] = have < m->n ? have : 0;
    return have == m->n;
}
