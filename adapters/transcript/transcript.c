#include "adapters/transcript/transcript.h"

#include <inttypes.h>
#include <string.h>

static const char *const kinds[] = {"transcript", "event", "end"};

/* {"hash":"<digits>", */
#define BEGIN "{\"hash\":\""
enum { HASH_AT = sizeof BEGIN - 1, REST_AT = HASH_AT + SA_SHA256_TEXT + 2 };

static void start_chain(char hash[static SA_SHA256_TEXT + 1])
{
    memset(hash, '0', SA_SHA256_TEXT);
    hash[SA_SHA256_TEXT] = '\0';
}

/* The hash moves on over the rest of a line. */
static void chain(char hash[static SA_SHA256_TEXT + 1], const void *rest, size_t n)
{
    struct sa_sha256 sum;
    sa_sha256_init(&sum);
    sa_sha256_add(&sum, hash, SA_SHA256_TEXT);
    sa_sha256_add(&sum, rest, n);
    sa_sha256_end_text(&sum, hash);
}

/* ---- writing ---- */

void transcript_writer_init(struct transcript_writer *w)
{
    start_chain(w->hash);
}

void transcript_write(struct transcript_writer *w, enum transcript_kind kind, const struct sa_buf *content,
                      struct sa_buf *out)
{
    size_t at = out->len;
    sa_buf_addf(out, "%s%s\",\"%s\":", BEGIN, w->hash, kinds[kind]);
    sa_buf_add(out, content->data, content->len);
    sa_buf_add(out, "}", 1);
    chain(w->hash, out->data + at + REST_AT, out->len - at - REST_AT);
    memcpy(out->data + at + HASH_AT, w->hash, SA_SHA256_TEXT);
    sa_buf_add(out, "\n", 1);
}

/* ---- reading ---- */

void transcript_reader_init(struct transcript_reader *r)
{
    *r = (struct transcript_reader){0};
    start_chain(r->hash);
}

void transcript_reader_fini(struct transcript_reader *r)
{
    sa_buf_fini(&r->buf);
}

void transcript_feed(struct transcript_reader *r, const void *p, size_t n)
{
    sa_buf_consume(&r->buf, r->at);
    r->at = 0;
    sa_buf_add(&r->buf, p, n);
}

static int wrong(const struct transcript_reader *r, const char *problem, sa_error **err)
{
    return sa_fail(err, SA_INVALID_TRANSCRIPT, "line %" PRIu64 " %s", r->line, problem);
}

/* The kind that the line says it is, -1: none. */
static int kind_of(const char *rest, size_t n)
{
    for (int kind = TRANSCRIPT_HEADER; kind <= TRANSCRIPT_END; kind++) {
        size_t len = strlen(kinds[kind]);
        if (n > len + 3 && rest[0] == '"' && !memcmp(rest + 1, kinds[kind], len) &&
            !memcmp(rest + 1 + len, "\":", 2))
            return kind;
    }
    return -1;
}

static int open_line(struct transcript_reader *r, struct json line, struct transcript_line *ret,
                     sa_error **err)
{
    struct json whole;
    if (line.n <= REST_AT || memcmp(line.p, BEGIN, HASH_AT) || memcmp(line.p + REST_AT - 2, "\",", 2))
        return wrong(r, "does not begin with its hash", err);
    const char *rest = line.p + REST_AT;
    int kind = kind_of(rest, line.n - REST_AT);
    chain(r->hash, rest, line.n - REST_AT);
    if (memcmp(r->hash, line.p + HASH_AT, SA_SHA256_TEXT))
        return wrong(r, "is broken: its hash is not that of its content and the lines before", err);
    if (kind < 0 || json_check(line.p, line.n, &whole, NULL) || json_count(whole) != 2)
        return wrong(r, "is not a hash and one of transcript, event and end", err);
    ret->kind = (enum transcript_kind)kind;
    ret->content = json_member(whole, kinds[kind], strlen(kinds[kind]));
    if (json_type(ret->content) != JSON_OBJECT)
        return wrong(r, "does not hold an object", err);
    return 0;
}

/* Numbers of 64 bits are strings in the JSON of messages. */
static bool number(struct json v, uint64_t *ret)
{
    if (json_type(v) == JSON_STRING && v.n > 2)
        v = (struct json){v.p + 1, v.n - 2};
    return json_type(v) == JSON_NUMBER && json_uint(v, ret);
}

static int check_place(struct transcript_reader *r, struct transcript_line *l, sa_error **err)
{
    uint64_t version, events, head;
    if (r->ended)
        return wrong(r, "comes after the end", err);
    if ((l->kind == TRANSCRIPT_HEADER) != (r->line == 1))
        return wrong(r, r->line == 1 ? "is not the header of a transcript" : "is a second header", err);
    switch (l->kind) {
    case TRANSCRIPT_HEADER:
        if (!json_uint(json_get(l->content, "version"), &version) || version != TRANSCRIPT_VERSION)
            return wrong(r, "has another version than 1", err);
        return 0;
    case TRANSCRIPT_EVENT:
        if (!number(json_get(l->content, "seq"), &l->seq) || !l->seq || l->seq == UINT64_MAX)
            return wrong(r, "has no seq", err);
        if (r->events && l->seq != r->next_seq)
            return wrong(r, "does not have the seq that follows the one before", err);
        r->events++;
        r->next_seq = l->seq + 1;
        return 0;
    case TRANSCRIPT_END:
        if (!number(json_get(l->content, "events"), &events))
            events = 0;
        if (!number(json_get(l->content, "headSeq"), &head))
            head = 0;
        if (events != r->events || (events && head != r->next_seq - 1))
            return wrong(r, "tells another number of events than are there", err);
        r->ended = true;
        return 0;
    }
    return 0;
}

int transcript_next(struct transcript_reader *r, struct transcript_line *ret, sa_error **err)
{
    struct json line;
    struct transcript_line l = {0};
    size_t left = r->buf.len - r->at;
    size_t n = left ? json_line(r->buf.data + r->at, left, &r->scanned, &line) : 0;
    if (!n && left <= TRANSCRIPT_LINE_MAX)
        return 0;
    r->line++;
    if (!n || line.n > TRANSCRIPT_LINE_MAX)
        return sa_fail(err, SA_MESSAGE_TOO_LARGE, "line %" PRIu64 " is longer than %d bytes", r->line,
                       TRANSCRIPT_LINE_MAX);
    if (open_line(r, line, &l, err) || check_place(r, &l, err))
        return -1;
    r->at += n;
    *ret = l;
    return 1;
}

int transcript_complete(const struct transcript_reader *r, sa_error **err)
{
    if (r->buf.len > r->at)
        return sa_fail(err, SA_INVALID_TRANSCRIPT, "line %" PRIu64 " is cut off", r->line + 1);
    if (!r->ended)
        return sa_fail(err, SA_INVALID_TRANSCRIPT, "line %" PRIu64 " is missing: there is no end",
                       r->line + 1);
    return 0;
}
