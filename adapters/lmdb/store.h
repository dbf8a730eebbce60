/* A service's durable state: one LMDB environment with typed tables, written by write sets (mechanisms:
 * "Store").
 *
 * The owner decides in memory under the service lock and describes the change as a write set: a list of puts
 * and deletes, queued with a completion. A writer thread puts everything that is queued into one transaction,
 * commits it, takes the service lock and runs the completions in the order of the commits: reply and publish
 * there ("commit, then tell"). Reads see committed state only.
 *
 * When a commit fails (disk full, I/O, map full) every set that is queued fails, in order, under the lock,
 * also those queued meanwhile: they were built on what did not happen. A completion that gets an error
 * reloads what the set touched. Until the last of them has been told, store_commit refuses (STORE_ERROR):
 * write again from sa_defer. Then the writer goes on; store_degraded() is true until a commit succeeds.
 *
 * Values are protobuf messages behind a schema number; keys are byte strings that sort as memcmp does, so
 * numbers in them are big-endian (store_key_add_u64). One process per directory: the caller holds
 * sa_lock_dir on it. Every function is called with the service lock held, unless it says otherwise. */
#ifndef ADAPTERS_LMDB_STORE_H_
#define ADAPTERS_LMDB_STORE_H_

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "adapters/os/error.h"
#include "adapters/os/loop.h"
#include "adapters/os/mem.h"

enum {
    STORE_KEY_MAX = 511, /* bytes of a key; also at least 1 */
    STORE_TABLES_MAX = 64,
    STORE_SET_MAX = 64 << 20,    /* bytes of keys and values in one write set */
    STORE_QUEUE_MAX = 256 << 20, /* bytes that wait for the writer; more is refused with TOO_MANY */
};

enum store_durability {
    STORE_NOMETASYNC, /* default: data synced with each group; the last moments may go on power loss */
    STORE_NOSYNC, /* throwaway sandboxes: power loss may cost the store; a small set is committed at once */
    STORE_FSYNC,  /* each group fully synced */
};

/* Of the option `--durability`: "nosync", "fsync"; anything else is "grouped", the default. Any thread. */
enum store_durability store_durability_of(const char *name);

/* One named table. Its number is its index in the array given to store_open. */
struct store_table {
    const char *name; /* never changes, never reused */
    uint16_t schema;  /* of the records this program writes, from 1; raised when an older
                       * program could not understand them */
    const ProtobufCMessageDescriptor *type; /* NULL: the values are plain bytes */
};

struct store_options {
    const char *dir;                  /* made with mode 0700 when missing */
    const struct store_table *tables; /* kept by reference */
    size_t n_tables;
    uint64_t map_size; /* bytes, the limit of the store; sparse. 0: 64 GiB (1 GiB under a sanitizer) */
    enum store_durability durability;
    /* Tests only: called before each commit; a non-zero answer (errno or MDB_ code) makes it fail. Any
     * thread. */
    int (*before_commit)(void *user);
    void *before_commit_user;
};

struct store;

/* Called without the lock; starts the writer thread. Opening is recovering: there is nothing else to do after
 * a crash. STORE_SCHEMA_NEWER when a newer program has written here; STORE_CORRUPT, STORE_ERROR, NO_SPACE. */
struct store *store_open(struct sa_loop *loop, const struct store_options *opt, sa_error **err);
/* Called without the lock. Commits what is queued (completions run, under the lock), then closes. NULL is
 * fine. */
void store_free(struct store *s);

/* Made with the store, at random, never 0: readers of our facts see by it that a store was lost or replaced.
 */
uint64_t store_epoch(const struct store *s);

/* True from a failed commit until one succeeds. */
bool store_degraded(const struct store *s);

struct store_stats {
    uint64_t commits, sets, rows, failures; /* since store_open; a group of sets is one commit */
    uint64_t queued_sets, queued_bytes;
    uint64_t used_bytes, map_bytes;
};
void store_stats(struct store *s, struct store_stats *ret);

/* ---- keys ---- */

struct store_key {
    uint16_t len; /* over STORE_KEY_MAX: more was added than fits; every use is refused */
    uint8_t data[STORE_KEY_MAX];
};

/* Start from `struct store_key k = {0}` or from store_key_of. */
struct store_key store_key_of(const void *p, size_t n);
void store_key_add(struct store_key *k, const void *p, size_t n);
void store_key_add_u64(struct store_key *k, uint64_t v); /* 8 bytes, big-endian: sorts as the number */
void store_key_add_u32(struct store_key *k, uint32_t v);
/* A string and its NUL: so that ("ab","c") and ("a","bc") differ. The string has no NUL inside. */
void store_key_add_string(struct store_key *k, const char *s);
uint64_t store_u64(const void *p); /* 8 big-endian bytes */
uint32_t store_u32(const void *p);

/* ---- write sets: plain data, no thread, no lock ---- */

struct store_set;
struct store_set *store_set_new(void);
void store_set_free(struct store_set *set); /* one that was not committed; NULL is fine */

/* All of these copy. What is wrong with them (key size, table, message type) is told by store_commit. */
void store_put(struct store_set *set, int table, const struct store_key *key, const ProtobufCMessage *m);
void store_put_bytes(struct store_set *set, int table, const struct store_key *key, const void *p, size_t n);
/* As store_put, for a key greater than all others of its table or near them: a hint that makes logs dense and
 * fast; a smaller key is stored as well. */
void store_append(struct store_set *set, int table, const struct store_key *key, const ProtobufCMessage *m);
/* A missing key is fine. */
void store_delete(struct store_set *set, int table, const struct store_key *key);
/* Every key that begins with `prefix` and is >= from (NULL: all) and < until (NULL: all). The writer is busy
 * with about a million rows a second. */
void store_delete_range(struct store_set *set, int table, const struct store_key *prefix,
                        const struct store_key *from, const struct store_key *until);

/* Runs under the lock, once. err NULL: the set is committed. */
typedef void store_done_fn(void *user, const sa_error *err);

/* Queues the set and takes it, also when it fails. -1: nothing was queued and `done` does not come:
 * MESSAGE_TOO_LARGE (over STORE_SET_MAX), TOO_MANY (STORE_QUEUE_MAX), INVALID_REQUEST, STORE_ERROR (see
 * above). In STORE_NOSYNC `done` (may be NULL) may have run when this returns. An empty set is a barrier: its
 * done comes after those before. */
int store_commit(struct store *s, struct store_set *set, store_done_fn *done, void *user, sa_error **err);

/* ---- reads: short, copying, committed state only ---- */

/* ret_message: address of a message pointer (`SessionState *m; store_get(s, SESSIONS, &key, &m, err)`).
 * 1: found, the message is to be freed with store_message_free; 0: no such key; -1: STORE_CORRUPT (the
 * bytes are no such message), STORE_SCHEMA_NEWER, STORE_ERROR. The table has a type. */
int store_get(struct store *s, int table, const struct store_key *key, void *ret_message, sa_error **err);
void store_message_free(void *message); /* NULL is fine */
void store_cleanup_message(void *pp);
#define cleanup_message __attribute__((cleanup(store_cleanup_message)))
/* The same for the value's bytes (packed, without the schema number), appended to *ret. */
int store_get_bytes(struct store *s, int table, const struct store_key *key, struct sa_buf *ret,
                    sa_error **err);

struct store_range {
    int table;
    const struct store_key *prefix; /* only keys that begin with it; NULL: all */
    const struct store_key
        *from;          /* the first key, itself included; NULL: from the end the direction starts at */
    bool after;         /* skip `from` itself */
    bool reverse;       /* from high to low; `from` NULL starts at the last */
    uint32_t limit;     /* rows; 0: no limit */
    size_t limit_bytes; /* stop after the row that passes it; 0: no limit */
};

struct store_row {
    const uint8_t *key;
    size_t key_len;
    const uint8_t *value; /* packed message or bytes */
    size_t value_len;
    const struct store_table *table;
};
/* The row's message (free with store_message_free); NULL: STORE_CORRUPT. */
void *store_row_unpack(const struct store_row *row, sa_error **err);

/* false ends the scan. The row's memory lives for the call only. Must not call the store: a read transaction
 * is open. */
typedef bool store_row_fn(void *user, const struct store_row *row);
/* Returns the number of rows given to fn, or -1 (also for a row of a newer schema). */
int64_t store_scan(struct store *s, const struct store_range *range, store_row_fn *fn, void *user,
                   sa_error **err);

/* The same as a copy, for readers that go on to write to sockets. */
struct store_page {
    struct store_row *rows;
    size_t n;
    bool more; /* stopped at a limit; go on with from = the last key, after = true */
    struct sa_arena *arena;
};
int store_read_page(struct store *s, const struct store_range *range, struct store_page *ret, sa_error **err);
void store_page_fini(struct store_page *page);

#endif
