#include "services/session-svc/history.h"

#include <string.h>

#include "adapters/os/log.h"
#include "services/session-svc/sessions.h"

static void add_prompt(const PromptAccepted *p, struct sa_buf *out)
{
    sa_buf_addf(out, "\n\nUser: ");
    for (size_t i = 0; i < p->n_content; i++)
        if (p->content[i]->kind_case == CONTENT_BLOCK__KIND_TEXT)
            sa_buf_addf(out, "%s%s", i ? "\n" : "", p->content[i]->text);
}

/* Speakers change with events; chunks of one message follow each other. */
static void add_event(const Event *e, bool *agent_speaks, struct sa_buf *out)
{
    if (e->kind_case == EVENT__KIND_PROMPT_ACCEPTED) {
        *agent_speaks = false;
        add_prompt(e->prompt_accepted, out);
    } else if (e->kind_case == EVENT__KIND_AGENT_MESSAGE_CHUNK && e->agent_message_chunk->content &&
               e->agent_message_chunk->content->kind_case == CONTENT_BLOCK__KIND_TEXT) {
        if (!*agent_speaks)
            sa_buf_addf(out, "\n\nAssistant: ");
        *agent_speaks = true;
        sa_buf_addf(out, "%s", e->agent_message_chunk->content->text);
    } else if (e->kind_case == EVENT__KIND_TOOL_CALL && *e->tool_call->title) {
        *agent_speaks = false;
        sa_buf_addf(out, "\n\n[tool: %s]", e->tool_call->title);
    }
}

static void cut_front(struct sa_buf *b)
{
    if (b->len <= HISTORY_BYTES_MAX)
        return;
    size_t drop = b->len - HISTORY_BYTES_MAX;
    while (drop < b->len && (b->data[drop] & 0xc0) == 0x80)
        drop++;
    sa_buf_consume(b, drop);
}

/* The last events before a seq, oldest first. Returns how many there were, -1: unreadable. */
static int add_events(struct session *s, struct sa_id id, uint64_t until_seq, uint32_t limit, bool *ret_more,
                      struct sa_buf *out)
{
    cleanup_error sa_error *err = NULL;
    struct store_key prefix = db_key(id), from = db_numbered_key(id, until_seq);
    struct store_range range = {
        .table = DB_EVENTS, .prefix = &prefix, .from = &from, .after = true, .reverse = true, .limit = limit};
    struct store_page page;
    if (store_read_page(s->all->store, &range, &page, &err)) {
        sa_log(SA_LOG_WARN, "session.history_unreadable", "session=%s error=\"%s\"", s->name, err->message);
        return -1;
    }
    bool agent_speaks = false;
    for (size_t i = page.n; i-- > 0;) {
        Event *e = rpc_unpack(&event__descriptor, page.rows[i].value, page.rows[i].value_len, NULL);
        if (!e)
            continue;
        add_event(e, &agent_speaks, out);
        event__free_unpacked(e, NULL);
    }
    int n = (int)page.n;
    *ret_more = page.more;
    store_page_fini(&page);
    return n;
}

void history_text(struct session *s, uint64_t until_seq, struct sa_buf *ret)
{
    cleanup_buf struct sa_buf text = {0}, own = {0};
    bool more = false;
    struct sa_id parent;
    int n = add_events(s, s->id, until_seq, HISTORY_EVENTS_MAX, &more, &own);
    if (n < 0)
        return;
    if (s->fork && !more && n < HISTORY_EVENTS_MAX && sa_id_parse(s->fork->parent_session_id, &parent))
        add_events(s, parent, s->fork->parent_seq + 1, HISTORY_EVENTS_MAX - (uint32_t)n, &more, &text);
    sa_buf_add(&text, own.data, own.len);
    more |= text.len > HISTORY_BYTES_MAX;
    cut_front(&text);
    if (!text.len)
        return;
    sa_buf_addf(ret, "The conversation so far, for context%s:", more ? " (its beginning is left out)" : "");
    sa_buf_add(ret, text.data, text.len);
    sa_buf_addf(ret, "\n\nWhat follows is the user's new message.");
}
