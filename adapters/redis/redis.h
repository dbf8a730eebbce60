/* Redis, asynchronously, for what may be lost: presence and leases (mechanisms: "Presence and control").
 *
 * A client is one logical connection that reconnects by itself (back-off 50 ms to 2 s). While it is down
 * every command is answered at once with REDIS_UNAVAILABLE; a command that was under way when the connection
 * broke is too, and may or may not have been done: scripts are written so that doing them again is harmless.
 * A command without an answer within the deadline gets DEADLINE_EXCEEDED, and the connection is made anew.
 *
 * All functions are called with the service lock held, all callbacks run under it. No callback comes from
 * inside the call that started it. Plain TCP or a unix socket; no TLS (use a tunnel or mesh). */
#ifndef ADAPTERS_REDIS_REDIS_H_
#define ADAPTERS_REDIS_REDIS_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "adapters/os/error.h"
#include "adapters/os/loop.h"

struct redis_client;
struct redis_reply; /* lives for the callback */

struct redis_options {
    const char
        *url; /* "redis://[user:password@]host[:port][/db]" or "unix:/path[?db=n]"; %XX in the password */
    uint32_t deadline_ms; /* of a command; 0: 2000 */
    uint32_t max_pending; /* commands without an answer; 0: 10000; beyond: TOO_MANY */
    /* Connected (true: the database may be another or empty: take snapshots anew) or lost (false). May be
     * NULL. */
    void (*online)(void *user, bool online);
    void *user;
};

/* Starts connecting; a server that is down is no error. INVALID_CONFIG for a bad url (the message has no
 * password). */
struct redis_client *redis_client_new(struct sa_loop *loop, const struct redis_options *opt, sa_error **err);
/* Every command under way is answered with CANCELLED from inside this call; no other callback comes any more.
 * NULL is fine. */
void redis_client_free(struct redis_client *c);
bool redis_online(const struct redis_client *c);
/* Why the last attempt failed; "" when connected. Valid until the next call. */
const char *redis_last_error(const struct redis_client *c);

/* ---- commands ---- */

struct redis_arg {
    const void *p;
    size_t n;
};
struct redis_arg redis_arg(const char *s); /* NULL: "" */
/* The number as text, in `buf`, which must live until the call that uses the argument returns. */
struct redis_arg redis_arg_int(int64_t v, char buf[static 24]);

/* Called exactly once for each command. Exactly one of reply and err is NULL. An error answer of Redis is err
 * REDIS_ERROR with its text. */
typedef void redis_done_fn(void *user, const struct redis_reply *reply, const sa_error *err);

/* done may be NULL. Copies the arguments. */
void redis_command(struct redis_client *c, const struct redis_arg *args, size_t n, redis_done_fn *done,
                   void *user);

/* A Lua script; a static variable of its user. */
struct redis_script {
    const char *name;   /* unique in the process, for messages */
    const char *source; /* called with KEYS and ARGV; a string literal */
};
/* EVALSHA once the server knows the script, else EVAL. At most 16 keys and 32 arguments. */
void redis_eval(struct redis_client *c, const struct redis_script *script, const struct redis_arg *keys,
                size_t n_keys, const struct redis_arg *args, size_t n_args, redis_done_fn *done, void *user);

/* ---- replies; safe with any reply: a wrong type reads as nil, 0, "" ---- */

bool redis_is_nil(const struct redis_reply *r);
int64_t redis_int(const struct redis_reply *r);                      /* also of a string of digits */
const char *redis_str(const struct redis_reply *r, size_t *ret_len); /* NUL-terminated; ret_len may be NULL */
size_t redis_count(const struct redis_reply *r);
const struct redis_reply *redis_at(const struct redis_reply *r,
                                   size_t i); /* never NULL: nil beyond the end */

/* ---- notices ---- */

/* Follows a pub/sub channel on the client's second connection. `message` for each notice; `again` whenever
 * the subscription stands anew (the first time too): notices before it may have been missed, so read what you
 * follow. Fire and forget: build exactness on a stream (redis_follow). */
struct redis_subscription;
struct redis_subscription_events {
    void (*message)(void *user, const char *payload, size_t n);
    void (*again)(void *user); /* may be NULL */
};
struct redis_subscription *redis_subscribe(struct redis_client *c, const char *channel,
                                           const struct redis_subscription_events *events, void *user);
void redis_subscription_free(
    struct redis_subscription *s); /* NULL is fine; also after the client was freed */

/* Follows a short stream of changes (XADD with MAXLEN): every entry after `after_id`, in order, once. A
 * script that adds an entry also does PUBLISH <key> <anything>: that is the wake-up; the entries are read by
 * id. When entries were lost (trimmed, expired, another Redis) `reset` is called instead: take a snapshot,
 * which gives the id to go on from, and call redis_follow_from; nothing is delivered until then. */
struct redis_follow;
struct redis_follow_events {
    /* fields: an array reply name, value, name, value ... */
    void (*entry)(void *user, const char *id, const struct redis_reply *fields);
    void (*reset)(void *user);
};
/* after_id: a snapshot's last id ("0-0": the stream was empty); NULL: waits for redis_follow_from. */
struct redis_follow *redis_follow(struct redis_client *c, const char *stream_key, const char *after_id,
                                  const struct redis_follow_events *events, void *user);
void redis_follow_from(struct redis_follow *f, const char *after_id);
void redis_follow_free(struct redis_follow *f); /* NULL is fine; also after the client was freed */

#endif
