#include "services/session-svc/blob_lines.h"

#include <stdlib.h>
#include <string.h>

#include "services/session-svc/link.h"
#include "services/session-svc/sessions.h"

/* In place of the base64: no base64 itself, so that nothing takes it for data. */
#define MARK "blob:sha256:"

/* ---- finding ---- */

bool blob_line_wanted(const struct line *line)
{
    return line->n > BLOB_TEXT_MIN && memmem(line->p, line->n, "session/update", 14);
}

static void find_in_block(struct blob_line *b, struct json block)
{
    struct json type = json_get(block, "type"), data = json_get(block, "data");
    if ((json_is(type, "image") || json_is(type, "audio")) && json_type(data) == JSON_STRING &&
        data.n > BLOB_TEXT_MIN && b->n_found < BLOBS_OF_LINE)
        b->found[b->n_found++].text = data;
}

static void find(struct blob_line *b)
{
    struct json_rpc rpc;
    struct json element;
    if (json_rpc_parse(b->text.data, b->text.len, &rpc, NULL) || !json_is(rpc.method, "session/update"))
        return;
    struct json content = json_get(rpc.params, "update.content");
    find_in_block(b, content);
    if (json_type(content) != JSON_ARRAY)
        return;
    for (struct json_iter it = json_iter(content); json_next(&it, NULL, &element);) {
        find_in_block(b, element);
        find_in_block(b, json_get(element, "content"));
    }
}

/* ---- decoding ---- */

static int digit(unsigned char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' || c == '-' ? 62 : c == '/' || c == '_' ? 63 : -1;
}

/* The bytes of a JSON string of base64, a piece at a time. 1: it is none. */
static int decode(struct json text, struct blob_file *f, sa_error **err)
{
    uint8_t piece[48 << 10];
    size_t n = 0, digits = 0;
    uint32_t bits = 0;
    const char *end = text.p + text.n - 1;
    while (end > text.p + 1 && end[-1] == '=')
        end--;
    for (const char *p = text.p + 1; p < end; p++) {
        if (*p == '\\' && p + 1 < end && p[1] == '/')
            p++;
        int d = digit((unsigned char)*p);
        if (d < 0)
            return 1;
        bits = bits << 6 | (uint32_t)d;
        if (digits++ % 4)
            piece[n++] = (uint8_t)(bits >> (6 - 2 * ((digits - 1) % 4)));
        if (n == sizeof piece) {
            if (blob_file_add(f, piece, n, err))
                return -1;
            n = 0;
        }
    }
    return digits % 4 == 1 ? 1 : blob_file_add(f, piece, n, err);
}

/* ---- on a worker ---- */

/* The line with references; those that were not written stay as they are. */
static void rewrite(struct blob_line *b)
{
    struct sa_buf out = {0};
    const char *at = (char *)b->text.data, *end = at + b->text.len;
    size_t kept = 0;
    for (size_t i = 0; i < b->n_found; i++) {
        char name[SA_SHA256_TEXT + 1];
        struct blob_found *f = &b->found[i];
        if (!f->file.path)
            continue;
        blob_id_format(f->file.id, name);
        sa_buf_add(&out, at, (size_t)(f->text.p - at));
        sa_buf_addf(&out, "\"%s%s\"", MARK, name);
        at = f->text.p + f->text.n;
        b->found[kept++] = *f;
    }
    sa_buf_add(&out, at, (size_t)(end - at));
    sa_buf_fini(&b->text);
    b->text = out;
    b->n_found = kept;
}

static void work(void *user)
{
    struct blob_line *b = user;
    const char *directory = blobs_directory(b->all->blobs);
    find(b);
    for (size_t i = 0; i < b->n_found && !b->err; i++) {
        struct blob_file *f = &b->found[i].file;
        int r = blob_file_open(f, directory, &b->err);
        if (!r)
            r = decode(b->found[i].text, f, &b->err);
        if (r || blob_file_complete(f, &b->err))
            blob_file_drop(f);
    }
    if (b->n_found)
        rewrite(b);
}

/* ---- under the lock ---- */

void blob_line_free(struct blob_line *b)
{
    for (size_t i = 0; i < b->n_found; i++)
        blob_file_drop(&b->found[i].file);
    sa_buf_fini(&b->text);
    sa_error_free(b->err);
    free(b);
}

static void done(void *user)
{
    struct blob_line *b = user;
    struct service *svc = b->all->svc;
    b->line.p = b->text.data;
    b->line.n = b->text.len;
    if (b->session)
        link_resume(b->session, b);
    else
        blob_line_free(b);
    service_release(svc);
}

struct blob_line *blob_line_start(struct session *s, const struct line *line)
{
    struct blob_line *b = sa_calloc(1, sizeof *b);
    b->session = s;
    b->all = s->all;
    b->line = *line;
    sa_buf_add(&b->text, line->p, line->n);
    service_hold(s->all->svc);
    sa_work(s->all->loop, work, done, b);
    return b;
}

void blob_line_drop(struct blob_line *b)
{
    if (b)
        b->session = NULL;
}

/* ---- in the event ---- */

static const struct blob_found *find_mark(const struct blob_line *b, struct json data)
{
    for (size_t i = 0; i < b->n_found; i++) {
        char mark[sizeof MARK + SA_SHA256_TEXT] = MARK;
        blob_id_format(b->found[i].file.id, mark + sizeof MARK - 1);
        if (json_is(data, mark))
            return &b->found[i];
    }
    return NULL;
}

static void attach(struct sa_arena *arena, ContentBlock *c, const struct blob_line *b)
{
    struct json v;
    if (!c || c->kind_case != CONTENT_BLOCK__KIND_JSON || json_check(c->json.data, c->json.len, &v, NULL))
        return;
    const struct blob_found *f = find_mark(b, json_get(v, "data"));
    if (!f)
        return;
    char name[SA_SHA256_TEXT + 1];
    blob_id_format(f->file.id, name);
    BinaryContent *content = sa_arena_alloc(arena, sizeof *content);
    *content = (BinaryContent)BINARY_CONTENT__INIT;
    content->mime_type = json_arena_string(arena, json_get(v, "mimeType"));
    content->blob = sa_arena_strdup(arena, name);
    content->size = f->file.size;
    bool image = json_is(json_get(v, "type"), "image");
    c->kind_case = image ? CONTENT_BLOCK__KIND_IMAGE : CONTENT_BLOCK__KIND_AUDIO;
    c->image = content; /* both kinds share a type and their place in the union */
}

void blob_line_attach(struct sa_arena *arena, Event *e, const struct blob_line *b)
{
    switch (e->kind_case) {
    case EVENT__KIND_USER_MESSAGE_CHUNK:
    case EVENT__KIND_AGENT_MESSAGE_CHUNK:
    case EVENT__KIND_AGENT_THOUGHT_CHUNK:
        attach(arena, e->agent_message_chunk->content, b);
        break;
    case EVENT__KIND_TOOL_CALL:
    case EVENT__KIND_TOOL_CALL_UPDATE:
        for (size_t i = 0; i < e->tool_call->n_content; i++)
            if (e->tool_call->content[i]->kind_case == TOOL_CALL_CONTENT__KIND_CONTENT)
                attach(arena, e->tool_call->content[i]->content, b);
        break;
    default:
        break;
    }
}

int blob_line_use(struct session *s, struct blob_line *b, uint64_t seq, sa_error **err)
{
    int r = 0;
    for (size_t i = 0; i < b->n_found; i++) {
        struct blob_file *f = &b->found[i].file;
        if (blobs_keep(s->all->blobs, f, err))
            r = -1;
        else
            blobs_use(s, f->id, f->size, seq);
    }
    return r;
}
