/* Any bytes: accepted or refused, never read beyond. What is accepted must hold together: parts lie inside,
 * walking visits the whole, decoding and writing again gives the same text, replacing nothing changes
 * nothing. */
#include <stdlib.h>
#include <string.h>

#include "adapters/json/json.h"

#define MUST(x)                                                                                              \
    do {                                                                                                     \
        if (!(x))                                                                                            \
            abort();                                                                                         \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_string(struct json v)
{
    cleanup_buf struct sa_buf text = {0}, again = {0}, text2 = {0};
    MUST(!json_decode(v, JSON_REPLACE, &text, NULL));
    struct json_writer w = json_writer(&again);
    json_put_bytes(&w, text.data, text.len);
    struct json out;
    MUST(!json_check(again.data, again.len, &out, NULL));
    MUST(!json_decode(out, JSON_REFUSE, &text2, NULL));
    MUST(text.len == text2.len && (!text.len || !memcmp(text.data, text2.data, text.len)));
    char *s = json_string(v);
    MUST(strlen(s) == text.len && json_is(out, s));
    free(s);
}

static void visit(struct json v, int depth)
{
    int64_t i;
    uint64_t u;
    double d;
    struct json key, item, first;
    MUST(depth <= JSON_DEPTH_MAX);
    switch (json_type(v)) {
    case JSON_STRING:
        check_string(v);
        break;
    case JSON_NUMBER:
        MUST(json_double(v, &d));
        if (json_int(v, &i) && json_uint(v, &u))
            MUST((uint64_t)i == u);
        break;
    default:
        break;
    }
    for (struct json_iter it = json_iter(v); json_next(&it, &key, &item);) {
        MUST(item.p > v.p && item.p + item.n < v.p + v.n);
        MUST(!json_check(item.p, item.n, &first, NULL) && first.n == item.n);
        if (depth < 4)
            visit(item, depth + 1);
    }
}

/* Values that nobody checked: any answer will do, as long as nothing is read outside of them. */
static void abuse(struct json v)
{
    struct json key, item;
    cleanup_buf struct sa_buf b = {0};
    int64_t i;
    for (struct json_iter it = json_iter(v); json_next(&it, &key, &item);)
        json_int(item, &i);
    json_get(v, "params.update.0.sessionUpdate");
    json_is(v, "text");
    json_decode(v, JSON_REPLACE, &b, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json v, line;
    struct json_rpc m;
    abuse((struct json){(const char *)data, size});
    size_t scanned = 0;
    for (size_t n; (n = json_line(data, size, &scanned, &line));) {
        MUST(n <= size && line.n < n);
        json_rpc_parse(line.p, line.n, &m, NULL);
        data += n;
        size -= n;
    }
    if (!json_rpc_parse(data, size, &m, NULL))
        MUST(m.method.n || m.result.n || m.error.n);
    if (json_check(data, size, &v, NULL))
        return 0;
    visit(v, 1);
    cleanup_buf struct sa_buf same = {0};
    json_replace(v, v, v, &same);
    MUST(same.len == v.n && !memcmp(same.data, v.p, v.n));
    return 0;
}
