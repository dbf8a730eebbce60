/* Leases and members: two scripts. Everything that changes is decided inside them, by the clock of Redis. */
#include "adapters/redis/lease.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"

/* What both scripts begin with. KEYS: the state's keys, then the changes stream, if any. ARGV: the number of
 * the state's keys, how long keys are kept, the bound of the stream. */
#define PRELUDE                                                                                              \
    "local t = redis.call('TIME')\n"                                                                         \
    "local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"                                                    \
    "local changes = KEYS[ARGV[1] + 1]\n"                                                                    \
    "local function tell(kind, name, data)\n"                                                                \
    "  if not changes then return end\n"                                                                     \
    "  redis.call('XADD', changes, 'MAXLEN', ARGV[3], '*', 'kind', kind, 'name', name, 'data', data)\n"      \
    "  redis.call('PEXPIRE', changes, ARGV[2])\n"                                                            \
    "  redis.call('PUBLISH', changes, kind)\n"                                                               \
    "end\n"

enum { COMMON_ARGS = 3 };

static const struct redis_script lease_script = {
    "lease",
    PRELUDE
    "local key, op, me, ttl, number, force = KEYS[1], ARGV[4], ARGV[5], tonumber(ARGV[6]), "
    "tonumber(ARGV[7]), ARGV[8]\n"
    "local v = redis.call('HMGET', key, 'holder', 'until', 'fencing')\n"
    "local holder, ends, fencing = v[1] or '', tonumber(v[2] or 0), tonumber(v[3] or 0)\n"
    "local function free(kind)\n"
    "  redis.call('HDEL', key, 'holder', 'until')\n"
    "  tell(kind, holder, fencing)\n"
    "  holder, ends = '', 0\n"
    "end\n"
    "local function keep()\n"
    "  ends = now + ttl\n"
    "  redis.call('HSET', key, 'holder', holder, 'until', ends, 'fencing', fencing)\n"
    "end\n"
    "if holder ~= '' and ends <= now then free('lease.expired') end\n"
    "if op == 'acquire' then\n"
    "  local stale = fencing < number\n" /* this Redis has forgotten, or is older than what was promised */
    "  if holder == me and not stale then\n"
    "    keep()\n"
    "  elseif holder == '' or stale or force == '1' then\n"
    "    fencing = math.max(fencing, number) + 1\n"
    "    holder = me\n"
    "    keep()\n"
    "    tell('lease.taken', me, fencing)\n"
    "  end\n"
    "elseif op == 'renew' then\n"
    "  if holder == me and fencing == number then keep() end\n"
    "elseif op == 'release' then\n"
    "  if holder == me and fencing == number then free('lease.released') end\n"
    "end\n"
    "if redis.call('EXISTS', key) == 1 then redis.call('PEXPIRE', key, math.max(tonumber(ARGV[2]), ends - "
    "now)) end\n"
    "return {holder, fencing, math.max(ends - now, 0)}\n",
};

static const struct redis_script members_script = {
    "members",
    PRELUDE
    "local op, name, data, ttl, max = ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])\n"
    "local set, hash = KEYS[1], KEYS[2]\n"
    "for _, m in ipairs(redis.call('ZRANGEBYSCORE', set, '-inf', now)) do\n"
    "  redis.call('ZREM', set, m)\n"
    "  redis.call('HDEL', hash, m)\n"
    "  tell('member.expired', m, '')\n"
    "end\n"
    "if op == 'put' then\n"
    "  local known = redis.call('ZSCORE', set, name)\n"
    "  if not known and redis.call('ZCARD', set) >= max then\n"
    "    return redis.error_reply('TOO_MANY more than ' .. max .. ' members')\n"
    "  end\n"
    "  local before = redis.call('HGET', hash, name)\n"
    "  redis.call('ZADD', set, now + ttl, name)\n"
    "  redis.call('HSET', hash, name, data)\n"
    "  if not known then tell('member.joined', name, data)\n"
    "  elseif before ~= data then tell('member.changed', name, data) end\n"
    "elseif op == 'remove' and redis.call('ZREM', set, name) == 1 then\n"
    "  redis.call('HDEL', hash, name)\n"
    "  tell('member.left', name, '')\n"
    "end\n"
    "if redis.call('EXISTS', set) == 1 then\n"
    "  local last = redis.call('ZRANGE', set, -1, -1, 'WITHSCORES')\n"
    "  local keep = math.max(tonumber(ARGV[2]), last[2] - now)\n"
    "  redis.call('PEXPIRE', set, keep)\n"
    "  redis.call('PEXPIRE', hash, keep)\n"
    "end\n"
    "local e = changes and redis.call('XREVRANGE', changes, '+', '-', 'COUNT', 1) or {}\n"
    "local r = {e[1] and e[1][1] or '0-0'}\n"
    "local all = redis.call('ZRANGE', set, 0, -1, 'WITHSCORES')\n"
    "for i = 1, #all, 2 do\n"
    "  r[#r + 1] = {all[i], redis.call('HGET', hash, all[i]) or '', all[i + 1] - now}\n"
    "end\n"
    "return r\n",
};

/* keys: one or two and the changes; args: after the common ones. */
static void run(struct redis_client *c, const struct redis_script *script, const char *const *keys,
                size_t n_keys, const char *changes, const struct redis_arg *more, size_t n_more,
                redis_done_fn *done, void *user)
{
    struct redis_arg k[3], args[COMMON_ARGS + 8];
    char n[24], keep[24], max[24];
    size_t at = 0, n_args = COMMON_ARGS;
    for (; at < n_keys; at++)
        k[at] = redis_arg(keys[at]);
    if (changes)
        k[at++] = redis_arg(changes);
    args[0] = redis_arg_int((int64_t)n_keys, n);
    args[1] = redis_arg_int(REDIS_KEEP_MS, keep);
    args[2] = redis_arg_int(REDIS_CHANGES_MAX, max);
    for (size_t i = 0; i < n_more; i++)
        args[n_args++] = more[i];
    redis_eval(c, script, k, at, args, n_args, done, user);
}

/* ---- lease ---- */

struct lease_call {
    char *holder;     /* who asked; NULL: a look */
    uint64_t fencing; /* that was renewed; 0: any */
    redis_lease_fn *done;
    void *user;
};

static void on_lease(void *user, const struct redis_reply *reply, const sa_error *err)
{
    struct lease_call *call = user;
    struct redis_lease lease = {.holder = redis_str(redis_at(reply, 0), NULL)};
    lease.fencing = (uint64_t)redis_int(redis_at(reply, 1));
    lease.left_ms = (uint64_t)redis_int(redis_at(reply, 2));
    lease.held = call->holder ? strcmp(lease.holder, call->holder) == 0 : lease.holder[0] != 0;
    if (call->fencing && lease.fencing != call->fencing)
        lease.held = false;
    if (call->done)
        call->done(call->user, err ? NULL : &lease, err);
    free(call->holder);
    free(call);
}

static void lease_op(struct redis_client *c, const char *key, const char *changes, const char *op,
                     const char *holder, uint64_t ttl_ms, uint64_t number, bool force, redis_lease_fn *done,
                     void *user)
{
    char ttl[24], fencing[24];
    struct lease_call *call = sa_calloc(1, sizeof *call);
    call->holder = sa_strdup(holder);
    call->fencing = strcmp(op, "renew") == 0 ? number : 0;
    call->done = done;
    call->user = user;
    struct redis_arg args[] = {redis_arg(op), redis_arg(holder), redis_arg_int((int64_t)ttl_ms, ttl),
                               redis_arg_int((int64_t)number, fencing), redis_arg(force ? "1" : "0")};
    run(c, &lease_script, &key, 1, changes, args, sizeof args / sizeof *args, on_lease, call);
}

void redis_lease_acquire(struct redis_client *c, const char *key, const char *changes, const char *holder,
                         uint64_t ttl_ms, uint64_t floor, bool force, redis_lease_fn *done, void *user)
{
    lease_op(c, key, changes, "acquire", holder, ttl_ms, floor, force, done, user);
}

void redis_lease_renew(struct redis_client *c, const char *key, const char *changes, const char *holder,
                       uint64_t fencing, uint64_t ttl_ms, redis_lease_fn *done, void *user)
{
    lease_op(c, key, changes, "renew", holder, ttl_ms, fencing, false, done, user);
}

void redis_lease_release(struct redis_client *c, const char *key, const char *changes, const char *holder,
                         uint64_t fencing, redis_lease_fn *done, void *user)
{
    lease_op(c, key, changes, "release", holder, 0, fencing, false, done, user);
}

void redis_lease_get(struct redis_client *c, const char *key, const char *changes, redis_lease_fn *done,
                     void *user)
{
    lease_op(c, key, changes, "get", NULL, 0, 0, false, done, user);
}

/* ---- members ---- */

struct members_call {
    redis_members_fn *done;
    void *user;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct redis_member *)a)->name, ((const struct redis_member *)b)->name);
}

static void on_members(void *user, const struct redis_reply *reply, const sa_error *err)
{
    struct members_call *call = user;
    cleanup_error sa_error *too_many = NULL;
    if (err && strncmp(err->message, "Redis: TOO_MANY", 15) == 0) {
        sa_fail(&too_many, SA_TOO_MANY, "%s", err->message + strlen("Redis: TOO_MANY "));
        err = too_many;
    }
    size_t n = err ? 0 : redis_count(reply) - (redis_count(reply) > 0);
    cleanup_free struct redis_member *members = sa_calloc(n + 1, sizeof *members);
    struct redis_members all = {
        .members = members, .n = n, .last_change = redis_str(redis_at(reply, 0), NULL)};
    for (size_t i = 0; i < n; i++) {
        const struct redis_reply *m = redis_at(reply, i + 1);
        members[i].name = redis_str(redis_at(m, 0), NULL);
        members[i].data = redis_str(redis_at(m, 1), &members[i].data_len);
        int64_t left = redis_int(redis_at(m, 2));
        members[i].left_ms = left > 1 ? (uint64_t)left : 1;
        if (!all.next_expiry_ms || members[i].left_ms < all.next_expiry_ms)
            all.next_expiry_ms = members[i].left_ms;
    }
    qsort(members, n, sizeof *members, by_name);
    if (call->done)
        call->done(call->user, err ? NULL : &all, err);
    free(call);
}

static void members_op(struct redis_client *c, const char *key, const char *changes, const char *op,
                       const char *name, struct redis_arg data, uint64_t ttl_ms, uint32_t max,
                       redis_members_fn *done, void *user)
{
    char ttl[24], limit[24];
    cleanup_free char *hash = sa_format("%s:data", key);
    const char *keys[] = {key, hash};
    struct members_call *call = sa_calloc(1, sizeof *call);
    *call = (struct members_call){done, user};
    struct redis_arg args[] = {redis_arg(op), redis_arg(name), data, redis_arg_int((int64_t)ttl_ms, ttl),
                               redis_arg_int(max, limit)};
    run(c, &members_script, keys, 2, changes, args, sizeof args / sizeof *args, on_members, call);
}

void redis_members_put(struct redis_client *c, const char *key, const char *changes, const char *name,
                       const void *data, size_t n, uint64_t ttl_ms, uint32_t max, redis_members_fn *done,
                       void *user)
{
    members_op(c, key, changes, "put", name, (struct redis_arg){data, n}, ttl_ms, max, done, user);
}

void redis_members_remove(struct redis_client *c, const char *key, const char *changes, const char *name,
                          redis_members_fn *done, void *user)
{
    members_op(c, key, changes, "remove", name, redis_arg(NULL), 0, 0, done, user);
}

void redis_members_list(struct redis_client *c, const char *key, const char *changes, redis_members_fn *done,
                        void *user)
{
    members_op(c, key, changes, "list", NULL, redis_arg(NULL), 0, 0, done, user);
}
