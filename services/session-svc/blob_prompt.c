#include "services/session-svc/blob_prompt.h"

#include <stdlib.h>

#include "adapters/os/file.h"
#include "services/session-svc/acp_write.h"
#include "services/session-svc/sessions.h"

struct blob_prompt {
    struct session *session;
    StoredTurn *row;
    sa_error *err;
    bool ready, dropped;
};

/* Of a block that refers to one; else NULL. */
static BinaryContent *blob_of(const ContentBlock *c)
{
    BinaryContent *b = c->kind_case == CONTENT_BLOCK__KIND_IMAGE   ? c->image
                       : c->kind_case == CONTENT_BLOCK__KIND_AUDIO ? c->audio
                                                                   : NULL;
    return b && *b->blob ? b : NULL;
}

int blob_prompt_check(struct session *s, ContentBlock *const *content, size_t n, bool *ret_has_blobs,
                      sa_error **err)
{
    uint64_t bytes = 0;
    bool has_blobs = false;
    for (size_t i = 0; i < n; i++) {
        BinaryContent *b = blob_of(content[i]);
        struct blob_id id;
        if (!b)
            continue;
        has_blobs = true;
        if (b->data.len)
            return sa_fail(err, SA_INVALID_REQUEST, "content[%zu]: has data and a blob", i);
        if (blob_id_parse(b->blob, &id, err) || blobs_find(s->all->blobs, s->id, id, &b->size, err))
            return sa_wrap(err, "content[%zu]", i);
        bytes += b->size;
    }
    if (bytes > BLOB_MAX)
        return sa_fail(err, SA_MESSAGE_TOO_LARGE, "content: %llu bytes in blobs; a prompt has at most %d",
                       (unsigned long long)bytes, BLOB_MAX);
    *ret_has_blobs = has_blobs;
    return 0;
}

void blob_prompt_use(struct session *s, ContentBlock *const *content, size_t n, uint64_t seq)
{
    for (size_t i = 0; i < n; i++) {
        const BinaryContent *b = blob_of(content[i]);
        struct blob_id id;
        if (b && !blob_id_parse(b->blob, &id, NULL))
            blobs_use(s, id, b->size, seq);
    }
}

/* ---- reading, on a worker ---- */

static int inline_block(const struct blobs *blobs, ContentBlock *c, sa_error **err)
{
    BinaryContent *b = blob_of(c);
    struct blob_id id;
    if (!b)
        return 0;
    if (blob_id_parse(b->blob, &id, err))
        return -1;
    cleanup_free char *path = blobs_path(blobs, id);
    cleanup_buf struct sa_buf bytes = {0}, text = {0};
    if (sa_read_file(path, BLOB_MAX, &bytes, err))
        return -1;
    struct json_writer w = json_writer(&text);
    ProtobufCBinaryData before = b->data;
    b->data = (ProtobufCBinaryData){bytes.len, bytes.data};
    acp_put_block(&w, c);
    b->data = before;
    protobuf_c_message_free_unpacked(&b->base, NULL);
    c->kind_case = CONTENT_BLOCK__KIND_JSON;
    c->json = (ProtobufCBinaryData){text.len, steal_pointer(&text.data)};
    return 0;
}

static void work(void *user)
{
    struct blob_prompt *b = user;
    for (size_t i = 0; b->row && !b->err && i < b->row->n_content; i++)
        inline_block(b->session->all->blobs, b->row->content[i], &b->err);
}

/* ---- under the lock ---- */

static void prompt_free(struct blob_prompt *b)
{
    store_message_free(b->row);
    sa_error_free(b->err);
    free(b);
}

static void done(void *user)
{
    struct blob_prompt *b = user;
    struct session *s = b->session;
    struct service *svc = s->all->svc;
    b->ready = true;
    if (b->dropped)
        prompt_free(b);
    else
        session_settle(s);
    service_release(svc);
}

struct blob_prompt *blob_prompt_read(struct session *s, StoredTurn *row, sa_error *err)
{
    struct blob_prompt *b = sa_calloc(1, sizeof *b);
    *b = (struct blob_prompt){.session = s, .row = row, .err = err};
    service_hold(s->all->svc);
    sa_work(s->all->loop, work, done, b);
    return b;
}

bool blob_prompt_ready(const struct blob_prompt *b)
{
    return b && b->ready;
}

StoredTurn *blob_prompt_take(struct blob_prompt *b, sa_error **err)
{
    if (b->err) {
        sa_pass(err, steal_pointer(&b->err));
        return NULL;
    }
    return steal_pointer(&b->row);
}

void blob_prompt_drop(struct blob_prompt *b)
{
    if (b && b->ready)
        prompt_free(b);
    else if (b)
        b->dropped = true;
}
