#include "services/session-svc/search_text.h"

#include <string.h>

/* ---- case ---- */

/* Of a letter of two bytes: all pairs here have two bytes in both cases. */
static unsigned lower(unsigned c)
{
    if ((c >= 0xc0 && c <= 0xde && c != 0xd7) || (c >= 0x391 && c <= 0x3a9 && c != 0x3a2) ||
        (c >= 0x410 && c <= 0x42f))
        return c + 32;
    return c >= 0x400 && c <= 0x40f ? c + 80 : c;
}

void search_fold(char *text, size_t n)
{
    uint8_t *p = (uint8_t *)text;
    for (size_t i = 0; i < n; i++) {
        if (p[i] >= 'A' && p[i] <= 'Z') {
            p[i] = (uint8_t)(p[i] + 32);
        } else if (p[i] >= 0xc2 && p[i] <= 0xdf && i + 1 < n) {
            unsigned c = lower((unsigned)(p[i] & 31) << 6 | (p[i + 1] & 63u));
            p[i] = (uint8_t)(0xc0 | c >> 6);
            p[++i] = (uint8_t)(0x80 | (c & 63));
        }
    }
}

/* ---- text ---- */

static void add(struct sa_buf *out, const char *text)
{
    if (!*text)
        return;
    if (out->len)
        sa_buf_add(out, "\n", 1);
    sa_buf_add(out, text, strlen(text));
}

static void add_bytes(struct sa_buf *out, ProtobufCBinaryData b)
{
    if (b.len && out->len)
        sa_buf_add(out, "\n", 1);
    sa_buf_add(out, b.data, b.len);
}

static void add_block(struct sa_buf *out, const ContentBlock *c)
{
    if (c && c->kind_case == CONTENT_BLOCK__KIND_TEXT) {
        add(out, c->text);
    } else if (c && c->kind_case == CONTENT_BLOCK__KIND_RESOURCE_LINK) {
        add(out, c->resource_link->name);
        add(out, c->resource_link->uri);
    }
}

static void add_tool(struct sa_buf *out, const ToolCall *t)
{
    add(out, t->title);
    for (size_t i = 0; i < t->n_locations; i++)
        add_bytes(out, t->locations[i]->path);
    for (size_t i = 0; i < t->n_content; i++) {
        const ToolCallContent *c = t->content[i];
        if (c->kind_case == TOOL_CALL_CONTENT__KIND_CONTENT) {
            add_block(out, c->content);
        } else if (c->kind_case == TOOL_CALL_CONTENT__KIND_DIFF) {
            add_bytes(out, c->diff->path);
            add(out, c->diff->new_text);
            if (c->diff->_old_text_case == FILE_DIFF___OLD_TEXT_OLD_TEXT)
                add(out, c->diff->old_text);
        }
    }
}

static bool is_chunk(Event__KindCase kind)
{
    return kind == EVENT__KIND_AGENT_MESSAGE_CHUNK || kind == EVENT__KIND_AGENT_THOUGHT_CHUNK ||
           kind == EVENT__KIND_USER_MESSAGE_CHUNK;
}

bool search_event_text(const Event *e, const Event__KindCase before, struct sa_buf *out)
{
    switch (e->kind_case) {
    case EVENT__KIND_PROMPT_ACCEPTED:
        for (size_t i = 0; i < e->prompt_accepted->n_content; i++)
            add_block(out, e->prompt_accepted->content[i]);
        break;
    case EVENT__KIND_USER_MESSAGE_CHUNK:
    case EVENT__KIND_AGENT_MESSAGE_CHUNK:
    case EVENT__KIND_AGENT_THOUGHT_CHUNK:
        add_block(out, e->agent_message_chunk->content);
        break;
    case EVENT__KIND_TOOL_CALL:
    case EVENT__KIND_TOOL_CALL_UPDATE:
        add_tool(out, e->tool_call);
        break;
    case EVENT__KIND_PERMISSION_REQUESTED:
        if (e->permission_requested->tool_call)
            add_tool(out, e->permission_requested->tool_call);
        break;
    case EVENT__KIND_PLAN:
        for (size_t i = 0; i < e->plan->n_entries; i++)
            add(out, e->plan->entries[i]->content);
        break;
    case EVENT__KIND_AGENT_LOG:
        add(out, e->agent_log->text);
        break;
    case EVENT__KIND_ERROR:
        add(out, e->error->message);
        break;
    case EVENT__KIND_STATE_CHANGED:
        add(out, e->state_changed->message);
        break;
    case EVENT__KIND_TURN_ENDED:
        add(out, e->turn_ended->message);
        break;
    case EVENT__KIND_FILE_ACCESS:
        add_bytes(out, e->file_access->path);
        break;
    default:
        break;
    }
    return !(is_chunk(e->kind_case) && e->kind_case == before);
}

/* ---- finding ---- */

void search_scan_init(struct search_scan *s, const char *text)
{
    *s = (struct search_scan){.needle_len = strlen(text)};
    memcpy(s->needle, text, s->needle_len + 1);
    search_fold(s->needle, s->needle_len);
}

void search_scan_fini(struct search_scan *s)
{
    sa_buf_fini(&s->text);
    sa_buf_fini(&s->folded);
}

/* Not in the midst of a character. */
static size_t boundary(const uint8_t *p, size_t at, size_t n)
{
    while (at < n && (p[at] & 0xc0) == 0x80)
        at++;
    return at;
}

static void cut_snippet(const struct search_scan *s, size_t at, struct sa_buf *out)
{
    const uint8_t *p = s->text.data;
    size_t n = s->text.len, room = (SEARCH_SNIPPET_MAX - s->needle_len % SEARCH_SNIPPET_MAX) / 2;
    size_t from = at > room ? boundary(p, at - room, n) : 0;
    size_t to = n - from > SEARCH_SNIPPET_MAX ? from + SEARCH_SNIPPET_MAX : n;
    while (to < n && to > from && (p[to] & 0xc0) == 0x80)
        to--;
    size_t start = out->len;
    sa_buf_add(out, p + from, to - from);
    for (size_t i = start; i < out->len; i++)
        if (out->data[i] < 0x20)
            out->data[i] = ' ';
}

bool search_scan_event(struct search_scan *s, const Event *e, struct sa_buf *snippet)
{
    cleanup_buf struct sa_buf text = {0};
    bool begins = search_event_text(e, s->before, &text);
    s->before = e->kind_case;
    if (begins)
        s->text.len = s->folded.len = 0;
    /* Of the message so far, what a match can begin in, and a bit for the snippet. */
    enum { TAIL = SEARCH_TEXT_MAX + SEARCH_SNIPPET_MAX };
    if (s->text.len > TAIL) {
        sa_buf_consume(&s->text, s->text.len - TAIL);
        sa_buf_consume(&s->folded, s->folded.len - TAIL);
    }
    size_t seen = s->text.len, overlap = s->needle_len - 1;
    size_t from = seen > overlap ? seen - overlap : 0;
    sa_buf_add(&s->text, text.data, text.len);
    sa_buf_add(&s->folded, text.data, text.len);
    if (text.len)
        search_fold((char *)s->folded.data + seen, text.len);
    const uint8_t *found = s->folded.len >= from + s->needle_len
                               ? memmem(s->folded.data + from, s->folded.len - from, s->needle, s->needle_len)
                               : NULL;
    if (found)
        cut_snippet(s, (size_t)(found - s->folded.data), snippet);
    return found != NULL;
}
