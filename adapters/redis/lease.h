/* Leases and members with expiry, each change one Lua script that takes the time from Redis (so that clocks
 * of processes do not matter) and lets every key expire. Doing any of them twice is harmless.
 *
 * Where a `changes` key is given (NULL: none), each change is also added to that stream (at most
 * REDIS_CHANGES_MAX entries) and published on the channel of the same name: follow it with redis_follow.
 * Entries have the fields kind, name, data: lease.taken (name: holder, data: fencing number), lease.released
 * (name: holder), lease.expired (name: holder) member.joined, member.changed (name: member, data: its data),
 * member.left, member.expired (name: member) On a Redis cluster all keys of a call need one hash tag:
 * "sa:{<session>}:control". */
#ifndef ADAPTERS_REDIS_LEASE_H_
#define ADAPTERS_REDIS_LEASE_H_

#include "adapters/redis/redis.h"

enum {
    REDIS_CHANGES_MAX = 1000,
    REDIS_KEEP_MS = 86400000, /* keys go a day after their last change */
};

/* ---- lease: at most one holder; the fencing number grows with each new holder ---- */

struct redis_lease {
    bool held;          /* by the holder that asked (get: by anyone) */
    const char *holder; /* who has it; "" nobody. Lives for the callback */
    uint64_t fencing;   /* of that holding; nobody: the highest given so far */
    uint64_t left_ms;   /* until it ends */
};
/* Exactly one of lease and err is NULL. "Somebody else has it" is an answer (held false), not an error. */
typedef void redis_lease_fn(void *user, const struct redis_lease *lease, const sa_error *err);

/* Takes the lease when it is free or ours (ours: the same number, extended), or, with `force`, from whoever
 * has it. floor: the highest fencing number the caller has stored durably: the new number is above it, even
 * if Redis forgot everything. */
void redis_lease_acquire(struct redis_client *c, const char *key, const char *changes, const char *holder,
                         uint64_t ttl_ms, uint64_t floor, bool force, redis_lease_fn *done, void *user);
/* Extends what we hold with this number; held false: it is lost (expired, taken, forgotten). */
void redis_lease_renew(struct redis_client *c, const char *key, const char *changes, const char *holder,
                       uint64_t fencing, uint64_t ttl_ms, redis_lease_fn *done, void *user);
/* Gives it back; not ours: nothing happens. */
void redis_lease_release(struct redis_client *c, const char *key, const char *changes, const char *holder,
                         uint64_t fencing, redis_lease_fn *done, void *user);
/* Looks, and ends a lease whose time has come (so that `lease.expired` is told). */
void redis_lease_get(struct redis_client *c, const char *key, const char *changes, redis_lease_fn *done,
                     void *user);

/* ---- members: names with data, each with its own expiry ---- */

struct redis_member {
    const char *name, *data;
    size_t data_len;
    uint64_t left_ms;
};
struct redis_members {
    const struct redis_member *members; /* by name; lives for the callback */
    size_t n;
    uint64_t next_expiry_ms; /* until the next one is due; 0: there is none. Call redis_members_list then */
    const char *last_change; /* id in the changes stream to follow from; "0-0": it is empty */
};
typedef void redis_members_fn(void *user, const struct redis_members *members, const sa_error *err);

/* Adds or extends a member; told as joined, as changed when its data differ, else not at all. key: a prefix,
 * two keys are used: "<key>" and "<key>:data". max: more members than that: err TOO_MANY. The answer is the
 * list. */
void redis_members_put(struct redis_client *c, const char *key, const char *changes, const char *name,
                       const void *data, size_t n, uint64_t ttl_ms, uint32_t max, redis_members_fn *done,
                       void *user);
void redis_members_remove(struct redis_client *c, const char *key, const char *changes, const char *name,
                          redis_members_fn *done, void *user);
/* The snapshot. Every call first removes the members whose time has come and tells it: so one that fell
 * silent leaves without being asked, when someone calls this at next_expiry_ms. */
void redis_members_list(struct redis_client *c, const char *key, const char *changes, redis_members_fn *done,
                        void *user);

#endif
