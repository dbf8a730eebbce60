/* A schema, a newline, and what is filled in: nothing may be read outside of them, and what is accepted keeps
 * what the schema says of required fields. */
#include <stdlib.h>
#include <string.h>

#include "services/session-svc/elicitation.h"

#define MUST(x)                                                                                              \
    do {                                                                                                     \
        if (!(x))                                                                                            \
            abort();                                                                                         \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *newline = size ? memchr(data, '\n', size) : NULL;
    struct json schema, content;
    if (!newline || json_check(data, (size_t)(newline - data), &schema, NULL) ||
        json_check(newline + 1, size - (size_t)(newline - data) - 1, &content, NULL))
        return 0;
    cleanup_error sa_error *err = NULL;
    if (elicitation_check_schema(schema, &err)) {
        MUST(err && sa_error_is(err, SA_INVALID_REQUEST));
        return 0;
    }
    if (elicitation_check_content(schema, content, &err)) {
        MUST(err && sa_error_is(err, SA_INVALID_REQUEST));
        return 0;
    }
    MUST(json_type(content) == JSON_OBJECT);
    struct json required = json_get(schema, "required");
    MUST(json_type(required) != JSON_ARRAY || !json_count(required) || json_count(content));
    return 0;
}
