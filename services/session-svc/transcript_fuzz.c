/* Any bytes as a transcript, in any cuts; and any lines as the contents of one whose chain fits. What is
 * accepted as an event is printed as JSON that reads into the same event. */
#include <stdlib.h>
#include <string.h>

#include "adapters/json/message.h"
#include "adapters/transcript/transcript.h"
#include "sandboxagent/session/v1/event.rpc.h"
#include "sandboxagent/session/v1/session_log.rpc.h"

#define MUST(x)                                                                                              \
    do {                                                                                                     \
        if (!(x))                                                                                            \
            abort();                                                                                         \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct json_mapping mapping = {.bytes = json_bytes_by_name};

static void print(const ProtobufCMessage *m, struct sa_buf *out)
{
    struct json_writer w = json_writer(out);
    json_put_message(&w, m, &mapping);
}

static void read_content(struct json content, const ProtobufCMessageDescriptor *d)
{
    struct sa_arena *arena = sa_arena_new();
    cleanup_buf struct sa_buf first = {0}, second = {0};
    ProtobufCMessage *m = json_read_message(arena, content, d, &mapping, NULL);
    if (m) {
        struct json v;
        print(m, &first);
        MUST(!json_check(first.data, first.len, &v, NULL));
        ProtobufCMessage *back = json_read_message(arena, v, d, &mapping, NULL);
        MUST(back);
        print(back, &second);
        MUST(first.len == second.len && !memcmp(first.data, second.data, first.len));
    }
    sa_arena_free(arena);
}

/* Returns the number of lines. */
static size_t read_all(const uint8_t *data, size_t size, size_t cut)
{
    static const ProtobufCMessageDescriptor *const types[] = {
        &transcript_header__descriptor, &event__descriptor, &transcript_end__descriptor};
    struct transcript_reader r;
    struct transcript_line line;
    size_t lines = 0;
    int got = 0;
    transcript_reader_init(&r);
    for (size_t at = 0; at < size && got >= 0; at += cut) {
        transcript_feed(&r, data + at, size - at < cut ? size - at : cut);
        while ((got = transcript_next(&r, &line, NULL)) == 1) {
            read_content(line.content, types[line.kind]);
            lines++;
        }
    }
    if (got >= 0)
        transcript_complete(&r, NULL);
    transcript_reader_fini(&r);
    return lines;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t cut = size ? data[0] % 97 + 1 : 1;
    cleanup_buf struct sa_buf whole = {0}, content = {0};
    struct transcript_writer w;
    read_all(data, size, cut);
    transcript_writer_init(&w);
    for (size_t at = 0, kind = TRANSCRIPT_HEADER; at < size; kind = TRANSCRIPT_EVENT) {
        const uint8_t *end = memchr(data + at, '\n', size - at);
        size_t n = end ? (size_t)(end - data) - at : size - at;
        content.len = 0;
        sa_buf_add(&content, data + at, n);
        transcript_write(&w, (enum transcript_kind)kind, &content, &whole);
        at += n + 1;
    }
    if (whole.len)
        MUST(read_all(whole.data, whole.len, cut) == read_all(whole.data, whole.len, whole.len));
    return 0;
}
