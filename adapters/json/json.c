/* Lines, JSON-RPC, and finding parts of a checked text. Nothing here checks; everything stays within its
 * slice. */
#include "adapters/json/json.h"

#include <string.h>

#include "adapters/json/json_internal.h"

/* ---- lines ---- */

size_t json_line(const void *data, size_t n, size_t *scanned, struct json *ret_line)
{
    size_t from = *scanned <= n ? *scanned : n;
    const char *newline = n > from ? memchr((const char *)data + from, '\n', n - from) : NULL;
    if (!newline) {
        *scanned = n;
        return 0;
    }
    size_t len = (size_t)(newline - (const char *)data);
    *scanned = 0;
    *ret_line = (struct json){data, len && newline[-1] == '\r' ? len - 1 : len};
    return len + 1;
}

/* ---- JSON-RPC ---- */

static int classify(struct json_rpc *m, struct json version, sa_error **err)
{
    if (version.n && !json_is(version, "2.0"))
        return sa_fail(err, SA_MALFORMED_MESSAGE, "JSON-RPC: \"jsonrpc\" is not \"2.0\"");
    enum json_type id = json_type(m->id);
    if (id == JSON_BOOL || id == JSON_ARRAY || id == JSON_OBJECT)
        return sa_fail(err, SA_MALFORMED_MESSAGE, "JSON-RPC: the id is neither string nor number nor null");
    if (m->method.n) {
        enum json_type params = json_type(m->params);
        if (json_type(m->method) != JSON_STRING)
            return sa_fail(err, SA_MALFORMED_MESSAGE, "JSON-RPC: the method is no string");
        if (params == JSON_BOOL || params == JSON_NUMBER || params == JSON_STRING)
            return sa_fail(err, SA_MALFORMED_MESSAGE, "JSON-RPC: params is neither object nor array");
        m->kind = m->id.n ? JSON_RPC_REQUEST : JSON_RPC_NOTIFICATION;
        return 0;
    }
    /* Some agents send both, one of them null. */
    if (m->result.n && json_type(m->error) == JSON_NULL)
        m->error = (struct json){0};
    if (m->error.n && json_type(m->result) == JSON_NULL)
        m->result = (struct json){0};
    if (!m->result.n == !m->error.n)
        return sa_fail(err, SA_MALFORMED_MESSAGE, "JSON-RPC: %s",
                       m->result.n ? "both result and error" : "neither method nor result nor error");
    if (!m->id.n && m->result.n)
        return sa_fail(err, SA_MALFORMED_MESSAGE, "JSON-RPC: a result without an id");
    if (m->error.n && json_type(m->error) != JSON_OBJECT)
        return sa_fail(err, SA_MALFORMED_MESSAGE, "JSON-RPC: the error is no object");
    m->kind = m->error.n ? JSON_RPC_ERROR : JSON_RPC_RESPONSE;
    return 0;
}

int json_rpc_parse(const void *line, size_t n, struct json_rpc *ret, sa_error **err)
{
    struct json_rpc m = {0};
    struct json version = {0}, key, value;
    if (json_check(line, n, &m.raw, err))
        return -1;
    if (json_type(m.raw) != JSON_OBJECT)
        return sa_fail(err, SA_MALFORMED_MESSAGE, "JSON-RPC: the message is no object");
    const struct {
        const char *name;
        size_t n;
        struct json *to;
    } members[] = {{"jsonrpc", 7, &version}, {"id", 2, &m.id},         {"method", 6, &m.method},
                   {"params", 6, &m.params}, {"result", 6, &m.result}, {"error", 5, &m.error}};
    for (struct json_iter it = json_iter(m.raw); json_next(&it, &key, &value);) {
        for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
            if (!members[i].to->n && json_text_is(key, members[i].name, members[i].n)) {
                *members[i].to = value;
                break;
            }
        }
    }
    if (classify(&m, version, err))
        return -1;
    *ret = m;
    return 0;
}

/* ---- walking ---- */

enum json_type json_type(struct json v)
{
    if (!v.n)
        return JSON_ABSENT;
    switch (v.p[0]) {
    case '{':
        return JSON_OBJECT;
    case '[':
        return JSON_ARRAY;
    case '"':
        return JSON_STRING;
    case 't':
    case 'f':
        return JSON_BOOL;
    case 'n':
        return JSON_NULL;
    default:
        return JSON_NUMBER;
    }
}

/* p is at the opening quote; returns what follows the closing one. */
static const char *skip_string(const char *p, const char *end)
{
    const char *q = p + 1;
    while (q < end && (q = memchr(q, '"', (size_t)(end - q)))) {
        const char *b = q;
        while (b > p + 1 && b[-1] == '\\')
            b--;
        q++;
        if ((q - 1 - b) % 2 == 0)
            return q;
    }
    return end;
}

static const char *skip_container(const char *p, const char *end)
{
    size_t depth = 0;
    while (p < end) {
        switch (*p) {
        case '"':
            p = skip_string(p, end);
            continue;
        case '{':
        case '[':
            depth++;
            break;
        case '}':
        case ']':
            if (depth <= 1)
                return p + 1;
            depth--;
            break;
        }
        p++;
    }
    return end;
}

/* p < end is at a value; returns what follows it, always beyond p. */
static const char *skip_value(const char *p, const char *end)
{
    if (*p == '"')
        return skip_string(p, end);
    if (*p == '{' || *p == '[')
        return skip_container(p, end);
    const char *q = p + 1;
    while (q < end && !strchr(",:]} \t\r\n", *q))
        q++;
    return q;
}

struct json_iter json_iter(struct json container)
{
    enum json_type t = json_type(container);
    if ((t != JSON_OBJECT && t != JSON_ARRAY) || container.n < 2)
        return (struct json_iter){0};
    return (struct json_iter){container.p + 1, container.p + container.n - 1, t == JSON_OBJECT};
}

bool json_next(struct json_iter *it, struct json *ret_key, struct json *ret_value)
{
    const char *end = it->end, *p = json_skip_blanks(it->at, end);
    if (p < end && *p == ',')
        p = json_skip_blanks(p + 1, end);
    struct json key = {0};
    if (it->object && p < end) {
        const char *q = skip_value(p, end);
        key = (struct json){p, (size_t)(q - p)};
        p = json_skip_blanks(q, end);
        if (p < end && *p == ':')
            p = json_skip_blanks(p + 1, end);
    }
    if (p >= end) {
        it->at = end;
        return false;
    }
    const char *q = skip_value(p, end);
    it->at = q;
    if (ret_key)
        *ret_key = key;
    *ret_value = (struct json){p, (size_t)(q - p)};
    return true;
}

size_t json_count(struct json container)
{
    size_t n = 0;
    struct json v;
    for (struct json_iter it = json_iter(container); json_next(&it, NULL, &v);)
        n++;
    return n;
}

struct json json_member(struct json object, const char *key, size_t key_len)
{
    struct json k, v;
    if (json_type(object) != JSON_OBJECT)
        return (struct json){0};
    for (struct json_iter it = json_iter(object); json_next(&it, &k, &v);) {
        if (json_text_is(k, key, key_len))
            return v;
    }
    return (struct json){0};
}

static struct json element(struct json array, const char *digits, size_t n)
{
    size_t index = 0;
    struct json v;
    if (!n || n > 9)
        return (struct json){0};
    for (size_t i = 0; i < n; i++) {
        if (digits[i] < '0' || digits[i] > '9')
            return (struct json){0};
        index = index * 10 + (size_t)(digits[i] - '0');
    }
    for (struct json_iter it = json_iter(array); json_next(&it, NULL, &v);) {
        if (!index--)
            return v;
    }
    return (struct json){0};
}

struct json json_get(struct json v, const char *path)
{
    while (v.n) {
        size_t n = strcspn(path, ".");
        v = json_type(v) == JSON_ARRAY ? element(v, path, n) : json_member(v, path, n);
        if (!path[n])
            break;
        path += n + 1;
    }
    return v;
}

void json_replace(struct json whole, struct json part, struct json replacement, struct sa_buf *out)
{
    size_t before = (size_t)(part.p - whole.p);
    sa_buf_add(out, whole.p, before);
    sa_buf_add(out, replacement.p, replacement.n);
    sa_buf_add(out, part.p + part.n, whole.n - before - part.n);
}

struct json json_of(const char *text)
{
    return (struct json){text, strlen(text)};
}
