/* Shared by the files of the runtime. Everything here is guarded by the service lock. */
#ifndef ADAPTERS_GRPC_INTERNAL_H_
#define ADAPTERS_GRPC_INTERNAL_H_

#include <grpc/grpc.h>
#include <pthread.h>

#include "adapters/grpc/generated.h"
#include "adapters/grpc/rpc.h"

#define container_of(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))

/* ---- runtime.c: the completion queue and its thread ---- */

/* What a completion-queue event brings back. Lives in the object that waits for it. */
struct rpc_tag {
    void (*fn)(struct rpc_tag *tag, bool ok);
};

struct rpc_runtime {
    struct sa_loop *loop;
    grpc_completion_queue *cq;
    pthread_t thread;
    unsigned turns; /* of that thread */
    bool bursts;    /* its last turn had more than one event */
    size_t pending; /* events to come */
    bool closing;
    struct rpc_call *spare_calls; /* for the next ones: with their arenas */
    size_t n_spare_calls;
    struct rpc_request *spare_requests;
    size_t n_spare_requests;
};
enum { SPARE_MAX = 256 };

void runtime_start_batch(struct rpc_runtime *rt, grpc_call *call, const grpc_op *ops, size_t n,
                         struct rpc_tag *tag);

/* ---- wire.c: messages to and from byte buffers ---- */

/* NULL when the message cannot be sent: text that is not UTF-8 is mended, the rest is an error. */
grpc_byte_buffer *wire_pack(const ProtobufCMessage *m, sa_error **err);
/* Checks and unpacks, with the memory of `arena` (NULL: malloc). */
ProtobufCMessage *wire_unpack(const ProtobufCMessageDescriptor *d, grpc_byte_buffer *b,
                              struct sa_arena *arena, sa_error **err);
void wire_free(grpc_byte_buffer **b);

/* Messages that wait to be sent, one after the other. */
struct outbox {
    struct out_message *head, **tail;
    size_t bytes, count;
    bool full; /* the producer was told to wait */
};
enum {
    OUTBOX_HIGH = 256 << 10, /* bytes: from here on `send` says that there is no room */
    OUTBOX_LOW = 64 << 10,   /* below: on_writable */
    OUTBOX_MAX = 16 << 20,   /* a producer that sends on without room: SLOW_READER */
};
void outbox_init(struct outbox *o);
/* Takes b. False when OUTBOX_MAX was passed. */
bool outbox_push(struct outbox *o, grpc_byte_buffer *b);
grpc_byte_buffer *outbox_pop(struct outbox *o); /* NULL when empty */
void outbox_clear(struct outbox *o);
/* Is there room? Remembers that there was none. */
bool outbox_room(struct outbox *o);
/* True once after room came back. */
bool outbox_writable(struct outbox *o);

/* ---- status.c: sa_error on the wire ---- */

#define STATUS_DETAILS_KEY "grpc-status-details-bin"
/* google.rpc.Status with an ErrorInfo, serialized. */
grpc_slice status_details(const sa_error *e);
/* Did the server's application send this status (it brings details), or gRPC itself? */
bool status_has_details(const grpc_metadata_array *trailing);
/* The error of a call that ended with `code`, from the details where there are any. */
void status_error(grpc_status_code code, grpc_slice message, const grpc_metadata_array *trailing,
                  const char *method, sa_error **err);

/* ---- server.c and call.c ---- */

struct call_link {
    struct rpc_call *prev, *next;
};

/* Calls with the same time to live, so that the oldest ends first. */
struct deadline_queue {
    struct rpc_call *head, *tail;
    uint64_t ttl_ms;
};

struct route {
    struct rpc_server *server;
    const struct rpc_service *service;
    const struct rpc_method *method; /* NULL: what has no route */
    void (*handler)(void);
    void *api;
    void *registered;
    bool no_authorize; /* health checks */
    struct route *next;
};

struct service_entry {
    const struct rpc_service *service;
    bool serving;
    struct service_entry *next;
};

/* Something whose health is told though it is no service. */
struct health_name {
    char *name;
    bool serving;
    struct health_name *next;
};

struct trailer {
    const char *key, *value;
};
enum { TRAILERS_MAX = 8 };

struct rpc_call {
    struct rpc_runtime *rt;
    struct rpc_server *server; /* NULL once the call is over */
    const struct rpc_method *method;
    const struct route *route;
    grpc_call *call;
    unsigned refs; /* one while the peer is there, one per batch, and the users' */

    struct rpc_tag accepted, closed, read, written;
    grpc_call_details details; /* of calls without a route */
    bool has_details;
    gpr_timespec core_deadline;
    grpc_metadata_array metadata;
    grpc_byte_buffer *in, *out; /* being received, being sent */
    int cancelled;              /* written by gRPC before `closed` */
    const char *path, *peer, *principal;

    struct sa_arena *arena;   /* lives as long as the call */
    struct sa_arena *inbox;   /* the message in on_message */
    struct sa_arena *scratch; /* the message that is built to be sent */
    struct outbox outbox;
    struct rpc_gen_events events;
    void *user;

    bool corked;          /* the handler runs: its answer goes with the first batch */
    bool open;            /* the peer is there */
    bool ended;           /* reply, fail or end was called */
    bool accepted_stream; /* reads messages */
    bool paused, reading, writing, read_ended;
    bool sent_metadata, sent_status;

    enum sa_code code;
    char *message;
    grpc_slice status_detail;
    bool has_detail;
    struct trailer trailer[TRAILERS_MAX];
    size_t n_trailers;

    uint64_t started_ns;
    uint64_t deadline_ms; /* sa_now_ms; UINT64_MAX: none */
    uint64_t expires_ms;  /* when our own deadline ends it */
    struct deadline_queue *expiry;
    struct call_link live_link, expiry_link;
};

struct rpc_server {
    struct rpc_runtime *rt;
    grpc_server *server;
    struct rpc_server_options opt;
    struct route *routes;
    struct route unknown;
    struct service_entry *services;
    struct health_name *health_names;
    struct rpc_call *live; /* calls whose peer is there */
    size_t n_live, n_accepts;
    struct deadline_queue by_default, by_cap;
    struct sa_timer *expiry_timer, *grace_timer;
    uint64_t expiry_at_ms; /* when expiry_timer fires */

    bool started, draining, stopped;
    struct rpc_tag stop_tag;
    void (*drained)(void *user);
    void *drained_user;
    pthread_mutex_t gone_lock; /* for rpc_server_free, which waits without the service lock */
    pthread_cond_t gone_cond;
    bool gone;

    bool serving;
    struct health_watch *watches;
};

/* server.c */
void server_call_over(struct rpc_server *s, struct rpc_call *call);
void server_expire_after(struct rpc_server *s, struct rpc_call *call, uint64_t now_ms);
void server_cancel_expiry(struct rpc_server *s, struct rpc_call *call);

/* call.c */
struct rpc_call *call_new(struct rpc_server *s, const struct route *route);
/* The handler's turn: accepted is done and the call object is filled. */
void call_begin(struct rpc_call *call);
void call_free(struct rpc_call *call);
void call_expired(struct rpc_call *call);
void runtime_free_spares(struct rpc_runtime *rt);

/* listen.c: addresses and credentials */
int listen_check(const char *address, const struct rpc_tls *tls, bool allow_plain, sa_error **err);
grpc_server_credentials *listen_credentials(const struct rpc_tls *tls, sa_error **err);
grpc_channel_credentials *connect_credentials(const struct rpc_tls *tls);

/* health.c and reflection.c */
void health_add(struct rpc_server *s);
void health_changed(struct rpc_server *s);
void health_drain(struct rpc_server *s);
void health_free(struct rpc_server *s);
void reflection_add(struct rpc_server *s);

/* client.c */
void request_free_spares(struct rpc_runtime *rt);
/* For the blocking form: messages are malloc'ed, and on_message or done owns them. */
struct rpc_request *request_call(struct rpc_channel *ch, const struct rpc_method *method,
                                 const ProtobufCMessage *req, const struct rpc_call_options *opt, bool owned,
                                 rpc_gen_done_fn *done, void *user);
struct rpc_request *request_open(struct rpc_channel *ch, const struct rpc_method *method,
                                 const ProtobufCMessage *req, const struct rpc_call_options *opt, bool owned,
                                 const struct rpc_gen_client *ev, void *user);
/* Nothing more can be sent; the end may still be behind messages. */
bool request_is_over(const struct rpc_request *r);
struct sa_loop *channel_loop(const struct rpc_channel *ch);

#endif
