/* Any bytes as a request body: refused, or read into a message that prints as JSON which reads into the same.
 */
#include <stdlib.h>
#include <string.h>

#include "adapters/json/message.h"
#include "message_test.pb-c.h"

#define MUST(x)                                                                                              \
    do {                                                                                                     \
        if (!(x))                                                                                            \
            abort();                                                                                         \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum json_bytes form(const ProtobufCMessageDescriptor *d, const ProtobufCFieldDescriptor *f)
{
    (void)d;
    if (strcmp(f->name, "raw_json") == 0)
        return JSON_BYTES_JSON;
    return strcmp(f->name, "path") == 0 ? JSON_BYTES_TEXT : JSON_BYTES_BASE64;
}

static ProtobufCMessage *read_print(struct sa_arena *a, const void *p, size_t n, struct sa_buf *out)
{
    static const struct json_mapping map = {.bytes = form};
    struct json v;
    if (json_check(p, n, &v, NULL) < 0)
        return NULL;
    ProtobufCMessage *m = json_read_message(a, v, &json__test__everything__descriptor, &map, NULL);
    struct json_writer w = json_writer(out);
    if (m)
        json_put_message(&w, m, &map);
    return m;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sa_arena *a = sa_arena_new();
    cleanup_buf struct sa_buf first = {0}, second = {0};
    if (read_print(a, data, size, &first)) {
        MUST(!memchr(first.data, '\n', first.len) && !memchr(first.data, '\r', first.len));
        MUST(read_print(a, first.data, first.len, &second));
        MUST(first.len == second.len && memcmp(first.data, second.data, first.len) == 0);
    }
    sa_arena_free(a);
    return 0;
}
