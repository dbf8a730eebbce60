/* What the files of this adapter share: conn.c (one connection), client.c (commands and scripts), notify.c
 * (pub/sub and streams), lease.c (leases and members, by the public functions alone). Of hiredis only the
 * protocol is used: its parser and its formatter. */
#ifndef ADAPTERS_REDIS_REDIS_INTERNAL_H_
#define ADAPTERS_REDIS_REDIS_INTERNAL_H_

#include <hiredis/hiredis.h>
#include <sys/queue.h>

#include "adapters/os/mem.h"
#include "adapters/redis/redis.h"

/* ---- where to connect ---- */

struct redis_target {
    char *path; /* of a unix socket, or NULL */
    char *host, *port;
    char *user, *password; /* NULL: none */
    int db;
};
int redis_target_parse(const char *url, struct redis_target *ret, sa_error **err);
void redis_target_fini(struct redis_target *t);

/* ---- one connection, which reconnects until it is freed ---- */

struct redis_conn_events {
    void (*up)(void *user);                             /* handshake done */
    void (*down)(void *user, const sa_error *why);      /* only after up */
    void (*reply)(void *user, const redisReply *reply); /* after up; may free the connection */
};

struct redis_conn;
struct redis_conn *redis_conn_new(struct sa_loop *loop, const struct redis_target *target,
                                  uint32_t deadline_ms, const struct redis_conn_events *events, void *user);
void redis_conn_free(struct redis_conn *c);
bool redis_conn_up(const struct redis_conn *c);
const char *redis_conn_error(const struct redis_conn *c);
/* Only while up. Written when the loop comes round: many commands in one write. */
void redis_conn_send(struct redis_conn *c, const struct redis_arg *args, size_t n);
/* Drops the connection and makes a new one; `down` is called. */
void redis_conn_reset(struct redis_conn *c, const sa_error *why);

/* ---- the client's lists of what listens; notify.c ---- */

struct redis_notify;
struct redis_notify *redis_notify_new(struct redis_client *c, struct sa_loop *loop,
                                      const struct redis_target *target, uint32_t deadline_ms);
void redis_notify_free(struct redis_notify *n);
/* The client's connection for commands is up. */
void redis_notify_online(struct redis_notify *n);
struct redis_notify *redis_client_notify(struct redis_client *c);

#endif
