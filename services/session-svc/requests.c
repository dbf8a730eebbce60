#include "services/session-svc/requests.h"

#include <stdlib.h>
#include <string.h>

#include "services/session-svc/acp_write.h"
#include "services/session-svc/permissions.h"
#include "services/session-svc/sessions.h"
#include "services/session-svc/terminals.h"

enum {
    METHOD_NOT_FOUND = -32601,
    INTERNAL_ERROR = -32603,
    PENDING_BYTES_MAX = 64 << 20, /* of the params of all that wait */
};

static bool is_file_method(const char *method)
{
    return !strcmp(method, "fs/read_text_file") || !strcmp(method, "fs/write_text_file");
}

static void pending_free(struct pending *p)
{
    files_abandon(p->file);
    terminals_abandon_call(p->terminal);
    free(p->method);
    sa_buf_fini(&p->id);
    sa_buf_fini(&p->params);
    free(p);
}

void requests_abandon(struct session *s)
{
    for (struct pending *p = s->link.pending; p; p = p->next) {
        files_abandon(p->file);
        terminals_abandon_call(p->terminal);
        p->file = NULL;
        p->terminal = NULL;
    }
}

void requests_clear(struct session *s)
{
    for (struct pending *p = s->link.pending, *next; p; p = next) {
        next = p->next;
        pending_free(p);
    }
    s->link.pending = NULL;
    s->link.n_pending = 0;
    s->link.pending_bytes = 0;
}

struct pending *requests_find(struct session *s, uint64_t offset)
{
    struct pending *p = s->link.pending;
    while (p && p->offset != offset)
        p = p->next;
    return p;
}

static struct pending *add(struct session *s, uint64_t offset, uint64_t batch, const char *method,
                           const void *id, size_t id_len, const void *params, size_t params_len)
{
    struct pending **at = &s->link.pending;
    while (*at)
        at = &(*at)->next;
    struct pending *p = *at = sa_calloc(1, sizeof *p);
    p->offset = offset;
    p->batch = batch;
    p->method = sa_strdup(method);
    sa_buf_add(&p->id, id, id_len);
    sa_buf_add(&p->params, params, params_len);
    s->link.n_pending++;
    s->link.pending_bytes += params_len;
    return p;
}

static void refuse_at_once(struct session *s, const struct acp_message *m, int code, const char *message)
{
    cleanup_buf struct sa_buf out = {0};
    acp_error(&out, m->id, code, message);
    link_send(s, &out);
}

void requests_take(struct session *s, struct sa_arena *arena, const struct acp_message *m, uint64_t offset)
{
    bool permission = permissions_know(m->method);
    bool terminal = terminals_know(m->method);
    if (!permission && !terminal && !is_file_method(m->method)) {
        session_event(s, m->event);
        refuse_at_once(s, m, METHOD_NOT_FOUND, "Method not found");
        return;
    }
    if (s->link.n_pending >= SESSION_PENDING_MAX || s->link.pending_bytes + m->params.n > PENDING_BYTES_MAX) {
        session_event(s, m->event);
        refuse_at_once(s, m, INTERNAL_ERROR, "Too many requests are waiting for an answer");
        return;
    }
    /* What a permission asks is stored with it; a file's content is needed again. */
    struct json params = permission ? (struct json){0} : m->params;
    struct pending *p = add(s, offset, s->batch, m->method, m->id.p, m->id.n, params.p, params.n);
    if (permission)
        p->permission = sessions_new_id(s->all);
    StoredPending row = STORED_PENDING__INIT;
    char permission_id[SA_ID_TEXT + 1] = "";
    if (permission)
        sa_id_format(p->permission, permission_id);
    row.method = p->method;
    row.id = (ProtobufCBinaryData){p->id.len, p->id.data};
    row.params = (ProtobufCBinaryData){p->params.len, p->params.data};
    row.permission_id = permission_id;
    struct store_key key = db_numbered_key(s->id, offset);
    store_put(session_set(s), DB_PENDING, &key, &row.base);
    if (permission)
        permissions_ask(s, arena, p, m);
    else if (terminal)
        terminals_take(s, p);
}

static void answered(struct session *s, struct pending *p, const struct sa_buf *message)
{
    struct store_key key = db_numbered_key(s->id, p->offset);
    store_delete(session_set(s), DB_PENDING, &key);
    link_send(s, message);
    for (struct pending **at = &s->link.pending; *at; at = &(*at)->next)
        if (*at == p) {
            *at = p->next;
            break;
        }
    s->link.n_pending--;
    s->link.pending_bytes -= p->params.len;
    pending_free(p);
}

void requests_answer(struct session *s, struct pending *p, const struct sa_buf *result)
{
    cleanup_buf struct sa_buf out = {0};
    acp_open_result(&out, (struct json){(const char *)p->id.data, p->id.len});
    sa_buf_add(&out, result->data, result->len);
    acp_close(&out);
    answered(s, p, &out);
}

void requests_refuse(struct session *s, struct pending *p, int code, const char *message)
{
    cleanup_buf struct sa_buf out = {0};
    acp_error(&out, (struct json){(const char *)p->id.data, p->id.len}, code, message);
    answered(s, p, &out);
}

static struct pending *next_to_start(struct session *s)
{
    struct pending *p = s->link.pending;
    while (p && (p->batch > s->committed_batch || p->file || !is_file_method(p->method)))
        p = p->next;
    return p;
}

/* One that is refused at once goes with its row: so from the front each time. */
void requests_drive(struct session *s)
{
    for (struct pending *p; (p = next_to_start(s));)
        files_start(s, p);
}

/* ---- load ---- */

struct loading {
    struct session *session;
    sa_error *err;
};

static bool load_row(void *user, const struct store_row *row)
{
    struct loading *l = user;
    cleanup_message StoredPending *m = store_row_unpack(row, &l->err);
    if (!m)
        return false;
    struct pending *p = add(l->session, db_key_number(row), 0, m->method, m->id.data, m->id.len,
                            m->params.data, m->params.len);
    sa_id_parse(m->permission_id, &p->permission);
    return true;
}

int requests_load(struct session *s, sa_error **err)
{
    struct loading l = {.session = s};
    struct store_key prefix = db_key(s->id);
    struct store_range range = {.table = DB_PENDING, .prefix = &prefix};
    if (store_scan(s->all->store, &range, load_row, &l, err) < 0)
        return -1;
    if (l.err)
        return sa_pass(err, l.err);
    for (struct pending *p = s->link.pending; p; p = p->next)
        if (permissions_know(p->method) && permissions_load(s, p, err))
            return -1;
    return 0;
}
