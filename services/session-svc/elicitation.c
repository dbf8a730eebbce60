#include "services/session-svc/elicitation.h"

#include <string.h>

/* The name of a field, for a message: its raw string, cut. */
struct field {
    const char *p;
    int n;
};

static struct field field_of(struct json key)
{
    return (struct field){key.p, key.n > 64 ? 64 : (int)key.n};
}

static int wrong(sa_error **err, struct json key, const char *what)
{
    struct field f = field_of(key);
    return sa_fail(err, SA_INVALID_REQUEST, "content_json: field %.*s %s", f.n, f.p, what);
}

/* ---- schema ---- */

static bool is_known_type(struct json property)
{
    static const char *const types[] = {"string", "number", "integer", "boolean", "array"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (json_is(json_get(property, "type"), types[i]))
            return true;
    return false;
}

static struct json property_of(struct json schema, struct json key)
{
    struct json k, v;
    cleanup_buf struct sa_buf name = {0};
    json_decode(key, JSON_REPLACE, &name, NULL);
    for (struct json_iter it = json_iter(json_get(schema, "properties")); json_next(&it, &k, &v);) {
        cleanup_buf struct sa_buf other = {0};
        json_decode(k, JSON_REPLACE, &other, NULL);
        if (other.len == name.len && (!name.len || !memcmp(other.data, name.data, name.len)))
            return v;
    }
    return (struct json){0};
}

int elicitation_check_schema(struct json schema, sa_error **err)
{
    struct json properties = json_get(schema, "properties"), required = json_get(schema, "required"), key, v;
    if (json_type(schema) != JSON_OBJECT || schema.n > ELICITATION_SCHEMA_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "requestedSchema: is not an object of at most %d bytes",
                       ELICITATION_SCHEMA_MAX);
    if (json_type(properties) != JSON_ABSENT && json_type(properties) != JSON_OBJECT)
        return sa_fail(err, SA_INVALID_REQUEST, "requestedSchema.properties: is not an object");
    if (json_count(properties) > ELICITATION_FIELDS_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "requestedSchema.properties: more than %d",
                       ELICITATION_FIELDS_MAX);
    for (struct json_iter it = json_iter(properties); json_next(&it, &key, &v);)
        if (!is_known_type(v))
            return sa_fail(err, SA_INVALID_REQUEST, "requestedSchema.properties.%.*s: its type is not known",
                           field_of(key).n, field_of(key).p);
    if (json_type(required) != JSON_ARRAY)
        return 0;
    if (json_count(required) > ELICITATION_FIELDS_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "requestedSchema.required: more than %d",
                       ELICITATION_FIELDS_MAX);
    for (struct json_iter it = json_iter(required); json_next(&it, NULL, &v);)
        if (json_type(v) != JSON_STRING || !property_of(schema, v).n)
            return sa_fail(err, SA_INVALID_REQUEST, "requestedSchema.required: %.*s is no property",
                           field_of(v).n, field_of(v).p);
    return 0;
}

/* ---- content ---- */

static bool same_text(struct json a, struct json b)
{
    cleanup_buf struct sa_buf x = {0}, y = {0};
    return !json_decode(a, JSON_REPLACE, &x, NULL) && !json_decode(b, JSON_REPLACE, &y, NULL) &&
           x.len == y.len && (!x.len || !memcmp(x.data, y.data, x.len));
}

/* enum: texts; oneOf, anyOf: objects with `const`. Without any of them everything is a choice. */
static bool is_choice(struct json property, struct json value)
{
    static const char *const lists[] = {"enum", "oneOf", "anyOf"};
    struct json list, v;
    bool restricted = false;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        list = json_get(property, lists[i]);
        if (json_type(list) != JSON_ARRAY)
            continue;
        restricted = true;
        for (struct json_iter it = json_iter(list); json_next(&it, NULL, &v);)
            if (same_text(i ? json_get(v, "const") : v, value))
                return true;
    }
    return !restricted;
}

static uint64_t characters(struct json text)
{
    cleanup_buf struct sa_buf b = {0};
    uint64_t n = 0;
    json_decode(text, JSON_REPLACE, &b, NULL);
    for (size_t i = 0; i < b.len; i++)
        n += (b.data[i] & 0xc0) != 0x80;
    return n;
}

static bool within(struct json property, const char *min, const char *max, uint64_t n)
{
    uint64_t bound;
    return !(json_uint(json_get(property, min), &bound) && n < bound) &&
           !(json_uint(json_get(property, max), &bound) && n > bound);
}

static int check_number(struct json property, struct json key, struct json v, sa_error **err)
{
    double value, bound;
    int64_t whole;
    if (json_type(v) != JSON_NUMBER || !json_double(v, &value))
        return wrong(err, key, "is not a number");
    if (json_is(json_get(property, "type"), "integer") && !json_int(v, &whole))
        return wrong(err, key, "is not an integer");
    if ((json_double(json_get(property, "minimum"), &bound) && value < bound) ||
        (json_double(json_get(property, "maximum"), &bound) && value > bound))
        return wrong(err, key, "is out of its range");
    return 0;
}

static int check_list(struct json property, struct json key, struct json list, sa_error **err)
{
    struct json v;
    if (json_type(list) != JSON_ARRAY)
        return wrong(err, key, "is not a list");
    if (!within(property, "minItems", "maxItems", json_count(list)))
        return wrong(err, key, "has too few or too many elements");
    if (json_count(list) > ELICITATION_FIELDS_MAX)
        return wrong(err, key, "has more than 100 elements");
    for (struct json_iter it = json_iter(list); json_next(&it, NULL, &v);)
        if (json_type(v) != JSON_STRING || !is_choice(json_get(property, "items"), v))
            return wrong(err, key, "has an element that is none of the choices");
    return 0;
}

static int check_value(struct json property, struct json key, struct json v, sa_error **err)
{
    struct json type = json_get(property, "type");
    if (json_is(type, "number") || json_is(type, "integer"))
        return check_number(property, key, v, err);
    if (json_is(type, "array"))
        return check_list(property, key, v, err);
    if (json_is(type, "boolean"))
        return json_type(v) == JSON_BOOL ? 0 : wrong(err, key, "is not true or false");
    if (json_type(v) != JSON_STRING)
        return wrong(err, key, "is not a text");
    if (!within(property, "minLength", "maxLength", characters(v)))
        return wrong(err, key, "is too short or too long");
    return is_choice(property, v) ? 0 : wrong(err, key, "is none of the choices");
}

static bool has(struct json object, struct json name)
{
    struct json key, v;
    for (struct json_iter it = json_iter(object); json_next(&it, &key, &v);)
        if (same_text(key, name))
            return true;
    return false;
}

int elicitation_check_content(struct json schema, struct json content, sa_error **err)
{
    struct json key, v;
    if (json_type(content) != JSON_OBJECT || content.n > ELICITATION_CONTENT_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "content_json: is not an object of at most %d bytes",
                       ELICITATION_CONTENT_MAX);
    if (json_count(content) > ELICITATION_FIELDS_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "content_json: more than %d fields", ELICITATION_FIELDS_MAX);
    for (struct json_iter it = json_iter(content); json_next(&it, &key, &v);) {
        struct json property = property_of(schema, key);
        if (!property.n)
            return wrong(err, key, "is not in the form");
        if (check_value(property, key, v, err))
            return -1;
    }
    for (struct json_iter it = json_iter(json_get(schema, "required")); json_next(&it, NULL, &v);)
        if (!has(content, v))
            return wrong(err, v, "is required");
    return 0;
}
