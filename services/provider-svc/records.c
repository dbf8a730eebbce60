#include "services/provider-svc/records.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/os/log.h"

enum { SANDBOXES, N_TABLES, PAGE_ROWS = 1000 };

/* Keys: the sandbox id's text. */
static const struct store_table tables[N_TABLES] = {
    [SANDBOXES] = {"sandboxes", 1, &sandbox_record__descriptor},
};

struct records {
    struct store *store;
};

struct records *records_open(struct sa_loop *loop, const char *dir, enum store_durability durability,
                             sa_error **err)
{
    struct records *r = sa_calloc(1, sizeof *r);
    cleanup_free char *path = sa_format("%s/store", dir);
    struct store_options opt = {
        .dir = path, .tables = tables, .n_tables = N_TABLES, .durability = durability};
    r->store = store_open(loop, &opt, err);
    if (r->store)
        return r;
    /* The writer thread may want the lock before it ends. */
    sa_loop_unlock(loop);
    records_free(r);
    sa_loop_lock(loop);
    return NULL;
}

void records_free(struct records *r)
{
    store_free(r->store);
    free(r);
}

uint64_t records_epoch(const struct records *r)
{
    return store_epoch(r->store);
}

int records_put(struct records *r, const char *id, const SandboxRecord *record, store_done_fn *done,
                void *user, sa_error **err)
{
    struct store_key k = store_key_of(id, strlen(id));
    struct store_set *set = store_set_new();
    store_put(set, SANDBOXES, &k, &record->base);
    return store_commit(r->store, set, done, user, err);
}

void records_drop(struct records *r, const char *id)
{
    struct store_key k = store_key_of(id, strlen(id));
    struct store_set *set = store_set_new();
    store_delete(set, SANDBOXES, &k);
    store_commit(r->store, set, NULL, NULL, NULL); /* what is still there is dropped by the next sweep */
}

void records_load(struct records *r, void (*loaded)(void *user, const char *id, SandboxRecord *record),
                  void *user)
{
    struct store_key last;
    for (bool more = true, after = false; more; after = true) {
        struct store_page page;
        struct store_range range = {
            .table = SANDBOXES, .from = after ? &last : NULL, .after = after, .limit = PAGE_ROWS};
        if (store_read_page(r->store, &range, &page, NULL) < 0)
            return;
        for (size_t i = 0; i < page.n; i++) {
            cleanup_error sa_error *err = NULL;
            SandboxRecord *record = store_row_unpack(&page.rows[i], &err);
            last = store_key_of(page.rows[i].key, page.rows[i].key_len);
            cleanup_free char *id = sa_strndup((const char *)page.rows[i].key, page.rows[i].key_len);
            if (record)
                loaded(user, id, record);
            else
                sa_log(SA_LOG_ERROR, "sandbox.unreadable", "sandbox=%s reason=%s", id, err->reason);
        }
        more = page.more;
        store_page_fini(&page);
    }
}

/* ---- one record ---- */

SandboxRecord *records_copy(const SandboxRecord *r)
{
    size_t n = sandbox_record__get_packed_size(r);
    cleanup_free uint8_t *packed = sa_malloc(n);
    sandbox_record__pack(r, packed);
    return rpc_unpack(&sandbox_record__descriptor, packed, n, NULL);
}

void records_free_one(SandboxRecord *r)
{
    if (r)
        sandbox_record__free_unpacked(r, NULL);
}

SandboxRecord *records_new(const char *principal, const CreateSandboxRequest *req)
{
    struct sa_arena *a = sa_arena_new();
    SandboxRecord r = SANDBOX_RECORD__INIT;
    r.provider = req->provider;
    r.state = SANDBOX_STATE_CREATING;
    r.principal = (char *)(uintptr_t)principal;
    r.request_id = req->request_id;
    r.create_time_us = sa_wall_us();
    r.seq = 1;
    r.n_labels = req->n_labels;
    r.labels = sa_arena_alloc(a, (req->n_labels + 1) * sizeof *r.labels);
    for (size_t i = 0; i < req->n_labels; i++) {
        r.labels[i] = sa_arena_alloc(a, sizeof *r.labels[i]);
        *r.labels[i] = (SandboxLabel)SANDBOX_LABEL__INIT;
        r.labels[i]->key = req->labels[i]->key;
        r.labels[i]->value = req->labels[i]->value;
    }
    SandboxRecord *copy = records_copy(&r);
    sa_arena_free(a);
    return copy;
}

void records_set_message(SandboxRecord *r, const char *message)
{
    struct sa_arena *a = sa_arena_new();
    if (r->message != protobuf_c_empty_string)
        free(r->message);
    r->message = sa_strdup(rpc_utf8(a, message, strlen(message)));
    sa_arena_free(a);
}

void records_set_driver_state(SandboxRecord *r, const void *p, size_t n)
{
    free(r->driver_state.data);
    r->driver_state = (ProtobufCBinaryData){n, sa_memdup(p, n)};
}

Sandbox *records_to_proto(struct sa_arena *a, const char *id, const SandboxRecord *r)
{
    Sandbox *m = sa_arena_alloc(a, sizeof *m);
    Google__Protobuf__Timestamp *t = sa_arena_alloc(a, sizeof *t);
    *m = (Sandbox)SANDBOX__INIT;
    *t = (Google__Protobuf__Timestamp)GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    t->seconds = r->create_time_us / 1000000;
    t->nanos = (int32_t)(r->create_time_us % 1000000) * 1000;
    m->sandbox_id = sa_arena_strdup(a, id);
    m->provider = sa_arena_strdup(a, r->provider);
    m->state = (SandboxState)r->state;
    m->message = sa_arena_strdup(a, r->message);
    m->create_time = t;
    m->n_labels = r->n_labels;
    m->labels = sa_arena_alloc(a, (r->n_labels + 1) * sizeof *m->labels);
    for (size_t i = 0; i < r->n_labels; i++) {
        m->labels[i] = sa_arena_alloc(a, sizeof *m->labels[i]);
        *m->labels[i] = (Sandbox__LabelsEntry)SANDBOX__LABELS_ENTRY__INIT;
        m->labels[i]->key = sa_arena_strdup(a, r->labels[i]->key);
        m->labels[i]->value = sa_arena_strdup(a, r->labels[i]->value);
    }
    return m;
}
