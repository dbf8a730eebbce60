/* Questions of agents (elicitation/create): what ACP's form schema allows, checked. Pure functions over
 * bytes, fuzzed. */
#ifndef SERVICES_SESSION_SVC_ELICITATION_H_
#define SERVICES_SESSION_SVC_ELICITATION_H_

#include "adapters/json/json.h"

enum {
    ELICITATION_SCHEMA_MAX = 64 << 10, /* bytes */
    ELICITATION_CONTENT_MAX = 64 << 10,
    ELICITATION_FIELDS_MAX = 100,
};

/* Can the form be shown and its answer be checked? requestedSchema of a request. INVALID_REQUEST says why
 * not. */
int elicitation_check_schema(struct json schema, sa_error **err);
/* Does the filled-in form fit? Every required field is there, none is unknown, each has its type and keeps
 * its bounds (minimum, maximum, minLength, maxLength, minItems, maxItems, enum, oneOf, items). `pattern` and
 * `format` are for who shows the form; the agent checks them again. Lengths are in characters.
 * INVALID_REQUEST names the field. */
int elicitation_check_content(struct json schema, struct json content, sa_error **err);

#endif
