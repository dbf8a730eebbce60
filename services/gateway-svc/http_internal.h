/* What the files of the HTTP server share. The library's header is included here only. */
#ifndef SERVICES_GATEWAY_SVC_HTTP_INTERNAL_H_
#define SERVICES_GATEWAY_SVC_HTTP_INTERNAL_H_

#include <microhttpd.h>

#include "services/gateway-svc/http.h"

struct http_server {
    struct sa_loop *loop;
    struct http_options opt;
    struct MHD_Daemon *daemon;
    int epoll_fd;
    struct sa_io *io;
    struct sa_timer *timer;
    int listen_fd;
    uint16_t port;
    bool draining;
    bool local;
    uint32_t active;
    struct http_request *requests;       /* list */
    struct http_connection *connections; /* list */
    struct sa_timer *check;
};

/* What the library does not limit: the time that a request takes to arrive. */
struct http_connection {
    struct http_connection *next, **link;
    int fd;
    uint64_t deadline_ms; /* for what is to come; 0: nothing is */
};

struct http_request {
    struct http_server *server;
    struct MHD_Connection *conn;
    struct http_request *next, **link;
    struct sa_arena *arena;
    const char *method, *path;
    void *user;

    struct sa_buf body;
    size_t body_max, discarded;
    void (*too_large)(struct http_request *r, size_t max);
    bool handled, refused; /* refused: the rest of the body is of no interest */

    struct MHD_Response *response; /* to be queued, or queued */
    unsigned status;
    bool queued, suspended;

    struct http_stream stream;
    void *stream_user;
    struct http_sink sink;
    void *sink_user;
    const struct http_upgrade *upgrade;
    struct MHD_UpgradeResponseHandle *upgraded; /* the connection is somebody else's */
};

/* Answers with a response, which it takes. */
void http_answer(struct http_request *r, unsigned status, const char *type, const char *const *headers,
                 struct MHD_Response *response);
/* Ends an upgraded connection; `finished` comes a moment later. */
void http_end_upgrade(struct http_request *r);

#endif
