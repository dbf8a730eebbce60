/* What the files of this adapter share: set.c (write sets), read.c (reads), store.c (the environment and the
 * writer). */
#ifndef ADAPTERS_LMDB_STORE_INTERNAL_H_
#define ADAPTERS_LMDB_STORE_INTERNAL_H_

#include <lmdb.h>
#include <pthread.h>

#include "adapters/lmdb/store.h"

enum { STORE_SCHEMA_SIZE = 2 }; /* every value begins with its table's schema number, big-endian */

enum store_op_kind { STORE_OP_PUT, STORE_OP_APPEND, STORE_OP_DELETE, STORE_OP_DELETE_RANGE };

struct store_op {
    enum store_op_kind kind;
    int table;
    const ProtobufCMessageDescriptor *type; /* of a message; NULL: bytes */
    uint16_t key_len;
    uint32_t value_len;   /* schema number included */
    uint8_t *key, *value; /* inside the set; set by store_set_next */
};

struct store_set {
    struct store_set *next;
    struct sa_buf ops; /* headers, each followed by key and value */
    size_t n_ops, n_deletes, put_bytes;
    bool has_range;
    bool too_large, bad_key;
    int rc; /* of an inline commit that is still to be told */
    store_done_fn *done;
    void *user;
};

/* Walks the operations; *at starts with 0. */
bool store_set_next(struct store_set *set, size_t *at, struct store_op *ret);
/* May the writer use the reserve for it when the map is full? */
bool store_set_reclaims(const struct store_set *set);

struct store_set_list {
    struct store_set *head, **tail;
};

struct store {
    uint64_t epoch;
    struct sa_loop *loop;
    const struct store_table *tables;
    size_t n_tables;
    char *dir;
    uint64_t map_size;
    enum store_durability durability;
    int (*before_commit)(void *user);
    void *before_commit_user;

    /* Under the service lock. */
    MDB_env *env; /* the writer uses it without the lock, and changes it with the lock */
    MDB_dbi dbi[STORE_TABLES_MAX];
    MDB_txn *reader; /* reset between reads */
    bool reading;
    bool failing; /* completions are being told of a failure */
    bool telling; /* a completion of an inline commit runs further up the stack */
    bool degraded;
    struct store_set_list told_later; /* committed inline by such a completion */
    struct store_stats stats;

    /* Under `mutex`, which is never held while callbacks run. */
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    pthread_t writer;
    struct store_set_list queue;
    size_t queued_sets, queued_bytes; /* those the writer is at included */
    bool busy;                        /* the writer has a group: until its completions have run */
    bool closing;
};

void store_list_push(struct store_set_list *list, struct store_set *set);
struct store_set *store_list_pop(struct store_set_list *list);
/* Does a key begin with the prefix (NULL: yes)? */
bool store_has_prefix(const MDB_val *key, const struct store_key *prefix);
/* Ends the cached read transaction. */
void store_reader_close(struct store *s);
int store_fail_mdb(sa_error **err, int rc, const char *what);

#endif
