/* Keys and write sets: plain data. */
#include <stdlib.h>
#include <string.h>

#include "adapters/lmdb/store_internal.h"

/* ---- keys ---- */

struct store_key store_key_of(const void *p, size_t n)
{
    struct store_key k = {0};
    store_key_add(&k, p, n);
    return k;
}

void store_key_add(struct store_key *k, const void *p, size_t n)
{
    if (k->len > STORE_KEY_MAX || n > (size_t)(STORE_KEY_MAX - k->len)) {
        k->len = STORE_KEY_MAX + 1;
        return;
    }
    if (n)
        memcpy(k->data + k->len, p, n);
    k->len = (uint16_t)(k->len + n);
}

void store_key_add_u64(struct store_key *k, uint64_t v)
{
    uint8_t b[8];
    for (int i = 0; i < 8; i++)
        b[i] = (uint8_t)(v >> (56 - 8 * i));
    store_key_add(k, b, sizeof b);
}

void store_key_add_u32(struct store_key *k, uint32_t v)
{
    uint8_t b[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    store_key_add(k, b, sizeof b);
}

void store_key_add_string(struct store_key *k, const char *s)
{
    store_key_add(k, s, strlen(s) + 1);
}

uint64_t store_u64(const void *p)
{
    const uint8_t *b = p;
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v = v << 8 | b[i];
    return v;
}

uint32_t store_u32(const void *p)
{
    const uint8_t *b = p;
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

/* ---- write sets ---- */

struct store_set *store_set_new(void)
{
    return sa_calloc(1, sizeof(struct store_set));
}

void store_set_free(struct store_set *set)
{
    if (!set)
        return;
    sa_buf_fini(&set->ops);
    free(set);
}

/* Room for one operation; NULL when the set is refused anyway. The caller fills in `value_len` bytes of
 * value. */
static uint8_t *add_op(struct store_set *set, struct store_op op, const struct store_key *key)
{
    size_t n = sizeof op + key->len + (size_t)op.value_len;
    if (key->len > STORE_KEY_MAX || (!key->len && op.kind != STORE_OP_DELETE_RANGE)) {
        set->bad_key = true;
        return NULL;
    }
    if (set->too_large || n > STORE_SET_MAX - set->ops.len) {
        set->too_large = true;
        return NULL;
    }
    op.key_len = key->len;
    sa_buf_reserve(&set->ops, n);
    sa_buf_add(&set->ops, &op, sizeof op);
    sa_buf_add(&set->ops, key->data, key->len);
    uint8_t *value = set->ops.data + set->ops.len;
    set->ops.len += op.value_len;
    set->n_ops++;
    return value;
}

static void put_message(struct store_set *set, enum store_op_kind kind, int table,
                        const struct store_key *key, const ProtobufCMessage *m)
{
    size_t n = protobuf_c_message_get_packed_size(m);
    if (n > STORE_SET_MAX - STORE_SCHEMA_SIZE) {
        set->too_large = true;
        return;
    }
    struct store_op op = {.kind = kind, .table = table, .type = m->descriptor};
    op.value_len = (uint32_t)(STORE_SCHEMA_SIZE + n);
    uint8_t *value = add_op(set, op, key);
    if (!value)
        return;
    protobuf_c_message_pack(m, value + STORE_SCHEMA_SIZE);
    set->put_bytes += key->len + op.value_len;
}

void store_put(struct store_set *set, int table, const struct store_key *key, const ProtobufCMessage *m)
{
    put_message(set, STORE_OP_PUT, table, key, m);
}

void store_append(struct store_set *set, int table, const struct store_key *key, const ProtobufCMessage *m)
{
    put_message(set, STORE_OP_APPEND, table, key, m);
}

void store_put_bytes(struct store_set *set, int table, const struct store_key *key, const void *p, size_t n)
{
    if (n > STORE_SET_MAX - STORE_SCHEMA_SIZE) {
        set->too_large = true;
        return;
    }
    struct store_op op = {.kind = STORE_OP_PUT, .table = table};
    op.value_len = (uint32_t)(STORE_SCHEMA_SIZE + n);
    uint8_t *value = add_op(set, op, key);
    if (!value)
        return;
    if (n)
        memcpy(value + STORE_SCHEMA_SIZE, p, n);
    set->put_bytes += key->len + op.value_len;
}

void store_delete(struct store_set *set, int table, const struct store_key *key)
{
    add_op(set, (struct store_op){.kind = STORE_OP_DELETE, .table = table}, key);
    set->n_deletes++;
}

void store_delete_range(struct store_set *set, int table, const struct store_key *prefix,
                        const struct store_key *from, const struct store_key *until)
{
    /* The value is the pair (from, until); an empty key stands for NULL. */
    static const struct store_key none;
    struct store_key pair[2] = {from ? *from : none, until ? *until : none};
    if (pair[0].len > STORE_KEY_MAX || pair[1].len > STORE_KEY_MAX) {
        set->bad_key = true;
        return;
    }
    struct store_op op = {.kind = STORE_OP_DELETE_RANGE, .table = table, .value_len = sizeof pair};
    uint8_t *value = add_op(set, op, prefix ? prefix : &none);
    if (value)
        memcpy(value, pair, sizeof pair);
    set->n_deletes++;
    set->has_range = true;
}

bool store_set_next(struct store_set *set, size_t *at, struct store_op *ret)
{
    if (*at >= set->ops.len)
        return false;
    uint8_t *p = set->ops.data + *at;
    memcpy(ret, p, sizeof *ret);
    ret->key = p + sizeof *ret;
    ret->value = ret->key + ret->key_len;
    *at += sizeof *ret + ret->key_len + ret->value_len;
    return true;
}

bool store_set_reclaims(const struct store_set *set)
{
    return set->n_deletes && set->put_bytes <= 64 << 10;
}

void store_list_push(struct store_set_list *list, struct store_set *set)
{
    set->next = NULL;
    *list->tail = set;
    list->tail = &set->next;
}

struct store_set *store_list_pop(struct store_set_list *list)
{
    struct store_set *set = list->head;
    if (set && !(list->head = set->next))
        list->tail = &list->head;
    return set;
}
