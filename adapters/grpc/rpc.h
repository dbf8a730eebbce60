/* gRPC servers and clients as plain C, on the gRPC C core (mechanisms: handlers are plain functions under the
 * service lock). This header is the runtime; the typed functions come from the protoc plug-in (plugin/),
 * which writes X.rpc.h for X.proto. Only adapters/grpc includes grpc/grpc.h.
 *
 * ---- what the plug-in generates ----
 * Names are those of protoc-c without the package: type `GetSessionRequest`, initialiser
 * `GET_SESSION_REQUEST__INIT`, descriptor `get_session_request__descriptor`, enum constants by their own name
 * (`SESSION_STATE_RUNNING`), oneof cases `EVENT__KIND_MESSAGE_CHUNK`. Method names are unique in the project,
 * so generated functions start with the method's: for `service SessionService` of session_service.proto
 *
 *   struct session_service_handlers {
 *       // unary and server streaming
 *       void (*get_session)(void *api, struct rpc_call *call, const GetSessionRequest *req);
 *       void (*stream_events)(void *api, struct rpc_call *call, const StreamEventsRequest *req);
 *       // client and bidirectional streaming: called at the start; the handler calls <method>_accept
 *       void (*attach_process)(void *api, struct rpc_call *call);
 *   };
 *   extern const struct rpc_service session_service;          // for reflection, health and routing
 *   void session_service_register(struct rpc_server *s, const struct session_service_handlers *h, void *api);
 *   A NULL handler answers UNIMPLEMENTED.
 *
 *   Server side, per method:
 *   unary            void get_session_reply(struct rpc_call *call, const GetSessionResponse *res);
 *   server stream    bool stream_events_send(struct rpc_call *call, const StreamEventsResponse *res);
 *                    void stream_events_on(struct rpc_call *call, const struct rpc_call_events *ev, void
 * *user); client stream    struct write_file_events { on_message(void *user, struct rpc_call *, const
 * WriteFileRequest *); on_end(user, call); on_cancel(user, call); } void write_file_accept(struct rpc_call
 * *call, const struct write_file_events *ev, void *user); void write_file_reply(struct rpc_call *call, const
 * WriteFileResponse *res); bidi             as client stream plus on_writable, and attach_process_send
 *
 *   Client side, per method:
 *   unary            struct rpc_request *get_session_call(struct rpc_channel *ch, const GetSessionRequest
 * *req, const struct rpc_call_options *opt, void (*done)(void *user, const GetSessionResponse *res, const
 * sa_error *err), void *user); GetSessionResponse *get_session_wait(ch, req, opt, sa_error **err);   //
 * blocking form streams          struct stream_events_client { on_message(void *user, const
 * StreamEventsResponse *res); on_writable(void *user); on_end(void *user, const sa_error *err); } struct
 * rpc_request *stream_events_open(ch, [req,] opt, const struct stream_events_client *ev, void *user); bool
 * attach_process_write(struct rpc_request *r, const AttachProcessRequest *m);
 *                    // client stream: on_message brings the one response
 *   blocking streams struct rpc_stream *stream_events_begin(ch, [req,] opt);
 *                    int attach_process_put(struct rpc_stream *s, const AttachProcessRequest *m, sa_error
 * **err);
 *                    // 1: *ret_message, to be freed with rpc_message_free; 0: the end, status OK; -1: failed
 *                    int stream_events_next(struct rpc_stream *s, StreamEventsResponse **ret_message,
 * sa_error **err);
 *
 * ---- threads ----
 * One completion-queue thread per runtime. It takes up to 64 events without the lock, takes the service lock
 * once, handles them, releases it. Every handler and callback below runs under the lock and must not block;
 * every function is called with the lock held unless it says "blocking form" (called without it). */
#ifndef ADAPTERS_GRPC_RPC_H_
#define ADAPTERS_GRPC_RPC_H_

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "adapters/os/error.h"
#include "adapters/os/loop.h"
#include "adapters/os/mem.h"

/* ---- what the plug-in describes ---- */

struct rpc_method {
    const char *path; /* "/sandboxagent.session.v1.SessionService/GetSession" */
    const ProtobufCMessageDescriptor *input, *output;
    bool client_stream, server_stream;
};

struct rpc_file {
    const char *name;          /* "sandboxagent/session/v1/session_service.proto" */
    const uint8_t *descriptor; /* the serialized FileDescriptorProto */
    size_t descriptor_len;
    const struct rpc_file *const *dependencies; /* NULL-terminated */
    const char *const *symbols;                 /* full names of what it defines; NULL-terminated */
};

struct rpc_service {
    const char *name; /* "sandboxagent.session.v1.SessionService" */
    const struct rpc_file *file;
    const struct rpc_method *methods;
    size_t n_methods;
};

/* ---- runtime ---- */

struct rpc_runtime;
/* Called without the lock. Starts gRPC and the completion-queue thread. loop: outlives the runtime. */
struct rpc_runtime *rpc_runtime_new(struct sa_loop *loop);
/* Called without the lock, after every server and channel of it was freed. */
void rpc_runtime_free(struct rpc_runtime *rt);

/* PEM texts (not paths), all optional; borrowed for the call. */
struct rpc_tls {
    const char *cert_chain, *private_key; /* ours */
    const char *ca;          /* server: require and verify client certificates; client: verify server */
    const char *server_name; /* client: the name to verify when it is not the target's host */
};

/* ---- server ---- */

enum {
    RPC_MESSAGE_MAX = 4 << 20, /* bytes, default limit of a received message: RESOURCE_EXHAUSTED */
    RPC_DEPTH_MAX = 32,        /* nesting of a received message: MALFORMED_MESSAGE */
    RPC_METADATA_MAX = 16384,  /* bytes of metadata of one call */
};

struct rpc_call;

struct rpc_server_options {
    uint32_t max_message_bytes;    /* 0: RPC_MESSAGE_MAX */
    uint32_t max_concurrent_calls; /* 0: 10000; above: TOO_MANY */
    uint32_t default_deadline_ms;  /* of a unary call without one; 0: 30000 */
    uint32_t max_deadline_ms;      /* cap for unary calls; 0: 600000 */
    uint32_t keepalive_ms;         /* HTTP/2 ping of an idle connection; 0: 30000 */
    bool allow_plain;              /* the operator's choice: plain text off the loopback too */
    /* Runs before every handler (not before health checks); false with *err set refuses the call. May read
     * the metadata and call rpc_set_principal. NULL: everyone may call. */
    bool (*authorize)(void *user, struct rpc_call *call, sa_error **err);
    /* After every call: for metrics and the access log. NULL: none. */
    void (*finished)(void *user, const char *method, enum sa_code code, uint64_t duration_us);
    void *user;
};

struct rpc_server;
struct rpc_server *rpc_server_new(struct rpc_runtime *rt, const struct rpc_server_options *opt);
void rpc_server_add(struct rpc_server *s, const struct rpc_service *service, const void *handlers, void *api);
/* grpc.health.v1 and server reflection (v1 and v1alpha) for all services added so far and later. */
void rpc_server_add_standard(struct rpc_server *s);
/* service NULL: the whole server, which starts as NOT_SERVING until the first call. Another name than that of
 * an added service is told, too: of something that the server needs, for instance. Watchers are told. */
void rpc_server_set_serving(struct rpc_server *s, const char *service, bool serving);
/* address: "unix:/path" or "host:port" (port 0: any). Plain text is refused off loopback and unix sockets.
 * tls NULL: plain. *ret_port (may be NULL) gets the bound port. ADDRESS_IN_USE names the address.
 * Before rpc_server_start. Called without the lock. */
int rpc_server_listen(struct rpc_server *s, const char *address, const struct rpc_tls *tls, int *ret_port,
                      sa_error **err);
/* Called without the lock. */
void rpc_server_start(struct rpc_server *s);
/* Graceful: NOT_SERVING, no new calls, running ones may finish; after grace_ms the rest is cancelled.
 * Calls done under the lock when no call is left. */
void rpc_server_drain(struct rpc_server *s, uint32_t grace_ms, void (*done)(void *user), void *user);
/* Called without the lock, after drain was done, or at any time to cancel everything. */
void rpc_server_free(struct rpc_server *s);

/* ---- a call on the server. Lives until its status was sent and the peer is gone; see rpc_call_ref. ---- */

/* Memory that lives as long as the call: for replies. */
struct sa_arena *rpc_arena(struct rpc_call *call);
/* Memory for one message of a stream: emptied by the next send on this call, so that a stream may last. */
struct sa_arena *rpc_send_arena(struct rpc_call *call);
/* Ends the call with an error; takes `err`. Status carries google.rpc.ErrorInfo{reason, "sandboxagent.dev"}.
 * A call that ended already: frees the error only. */
void rpc_fail(struct rpc_call *call, sa_error *err);
/* Ends a streaming call with OK after what was sent. */
void rpc_end(struct rpc_call *call);
/* False once the peer cancelled, the deadline passed, or the call was ended: sends and replies are no-ops
 * then. */
bool rpc_alive(const struct rpc_call *call);
/* Pending work that outlives the handler holds the call; every holder releases once, before rpc_runtime_free.
 */
struct rpc_call *rpc_call_ref(struct rpc_call *call);
void rpc_call_unref(struct rpc_call *call); /* NULL is fine */
/* For unary calls that answer later: fn runs once when the peer cancels or the deadline passes before an
 * answer, as on_cancel of a stream does. Replaces the fn set before. */
void rpc_on_cancel(struct rpc_call *call, void (*fn)(void *user, struct rpc_call *call), void *user);
/* For a unary call that ends by itself in bounded time: no deadline of the server's own is set for it (see
 * rpc_server_options). The caller's deadline counts as ever. */
void rpc_no_server_deadline(struct rpc_call *call);
/* Value of a metadata key, NULL when absent; "-bin" keys are raw bytes. Lives as long as the call. */
const char *rpc_metadata(struct rpc_call *call, const char *key, size_t *ret_len);
void rpc_set_trailer(struct rpc_call *call, const char *key, const char *value);
const char *rpc_method_path(const struct rpc_call *call);
/* On whose behalf: set by `authorize`; "" until then. */
void rpc_set_principal(struct rpc_call *call, const char *principal);
const char *rpc_principal(const struct rpc_call *call);
/* "unix" or "ipv4:127.0.0.1:5000" of the peer. Owned by the call. */
const char *rpc_peer(struct rpc_call *call);
/* Milliseconds left until the deadline; UINT64_MAX when there is none. */
uint64_t rpc_time_left_ms(const struct rpc_call *call);

/* Stops (true) and resumes the arrival of a client stream's messages (on_message, on_end), as
 * rpc_pause_response does for a client: the peer is slowed down. on_cancel still comes. At any time. */
void rpc_pause_request(struct rpc_call *call, bool paused);

/* `send` answers whether there is room for more. It takes its message also when there is none; then stop
 * until on_writable: a call whose backlog passes 16 MiB fails with SLOW_READER.
 *
 * Server-streaming callbacks; any may be NULL. on_cancel is the last one called: also at the deadline and
 * when the connection breaks, not after rpc_end or rpc_fail. */
struct rpc_call_events {
    void (*on_writable)(void *user, struct rpc_call *call);
    void (*on_cancel)(void *user, struct rpc_call *call);
};

/* ---- client ---- */

struct rpc_channel_options {
    const char *target;          /* "unix:/path" or "host:port" */
    const struct rpc_tls *tls;   /* NULL: plain */
    const char *token;           /* sent as `authorization: Bearer <token>`; NULL: none */
    const char *const *metadata; /* sent with every call: key, value, ..., NULL; NULL: none */
    uint32_t max_message_bytes;  /* received; 0: RPC_MESSAGE_MAX */
};

struct rpc_channel;
/* Connects on first use and again after a break. Copies the options. */
struct rpc_channel *rpc_channel_new(struct rpc_runtime *rt, const struct rpc_channel_options *opt);
/* Its requests end with CANCELLED. */
void rpc_channel_free(struct rpc_channel *ch); /* NULL is fine */

struct rpc_call_options {
    uint32_t deadline_ms;        /* 0: 30000 for unary calls, none for streams */
    bool wait_for_ready;         /* do not fail at once while the peer is down: wait within the deadline */
    const char *principal;       /* `x-principal`: believed only by peers that know our secret; NULL: none */
    const char *const *metadata; /* key, value, key, value, NULL */
};

/* A request under way. The callbacks (done, on_end) are called exactly once, then the request is gone. */
struct rpc_request;
/* Stops (true) and resumes the arrival of messages: a reader whose work is behind, for instance in the
 * store's queue, so bounds its memory. At most one more message comes after a pause; the peer's sends find no
 * room then. on_end waits as well. */
void rpc_pause_response(struct rpc_request *r, bool paused);
/* Cancels: done or on_end still comes, with CANCELLED, never from inside this call. */
void rpc_cancel(struct rpc_request *r);
/* Cancels and forgets: no callback comes any more. For an owner that is being freed. NULL is fine. */
void rpc_abandon(struct rpc_request *r);
/* No more messages from us (client and bidi streams). */
void rpc_close_send(struct rpc_request *r);

/* Calls a unary method by its description, for a gateway that maps another protocol to any of them. req and
 * res are of the method's input and output type. */
struct rpc_request *rpc_unary(struct rpc_channel *ch, const struct rpc_method *method,
                              const ProtobufCMessage *req, const struct rpc_call_options *opt,
                              void (*done)(void *user, const void *res, const sa_error *err), void *user);

/* ---- blocking form: for the command line and tests. Without the lock, one thread per stream. ---- */

struct rpc_stream;
int rpc_stream_close_send(struct rpc_stream *s, sa_error **err);
void rpc_stream_free(struct rpc_stream *s); /* cancels when it has not ended; NULL is fine */
/* The status of a stream that has ended, as next() told it. */

/* Releases a message that a blocking form returned. NULL is fine. */
void rpc_message_free(void *message);

/* ---- messages outside of calls (stores, bus) ---- */

/* Checks the wire bytes against the descriptor without recursion, then unpacks. Checks: depth, element counts
 * (RPC_ELEMENTS_MAX), strings are UTF-8 without NUL, wire types fit. NULL: MALFORMED_MESSAGE names the field.
 * Free with protobuf_c_message_free_unpacked(m, NULL). Any thread. */
enum { RPC_ELEMENTS_MAX = 100000 }; /* fields, list elements and unknown fields of one message */
void *rpc_unpack(const ProtobufCMessageDescriptor *d, const uint8_t *data, size_t len, sa_error **err);
/* Only the check. */
int rpc_validate(const ProtobufCMessageDescriptor *d, const uint8_t *data, size_t len, sa_error **err);
/* Replaces what is not UTF-8 (and NUL) by U+FFFD, so that a string field may be set to it. */
char *rpc_utf8(struct sa_arena *a, const void *p, size_t n);

#endif
