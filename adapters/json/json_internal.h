/* What the files of this adapter share. */
#ifndef ADAPTERS_JSON_JSON_INTERNAL_H_
#define ADAPTERS_JSON_JSON_INTERNAL_H_

#include "adapters/json/json.h"

/* Bytes of the UTF-8 character at p (p < end); 0: it is none. */
size_t json_utf8_length(const char *p, const char *end);

static inline const char *json_skip_blanks(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
        p++;
    return p;
}

/* Does the raw string decode to these bytes? */
bool json_text_is(struct json raw, const char *text, size_t n);

#endif
