/* Connections that change to another protocol. The library keeps the socket open and does nothing else with
 * it until it is told to close it. */
#include <fcntl.h>

#include "services/gateway-svc/http_internal.h"

static void on_upgrade(void *cls, struct MHD_Connection *conn, void *context, const char *extra, size_t n,
                       MHD_socket fd, struct MHD_UpgradeResponseHandle *handle)
{
    struct http_request *r = cls;
    (void)conn;
    (void)context;
    r->upgraded = handle;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    r->upgrade->open(r->stream_user, fd, extra, n);
}

void http_switch(struct http_request *r, const char *const *headers, const struct http_upgrade *upgrade,
                 void *user)
{
    r->upgrade = upgrade;
    r->stream_user = user;
    http_answer(r, 101, NULL, headers, MHD_create_response_for_upgrade(on_upgrade, r));
}

void http_end_upgrade(struct http_request *r)
{
    struct MHD_UpgradeResponseHandle *handle = r->upgraded;
    r->upgrade->closing(r->stream_user);
    r->upgraded = NULL;
    MHD_upgrade_action(handle, MHD_UPGRADE_ACTION_CLOSE);
}

void http_close(struct http_request *r)
{
    if (!r->upgraded)
        return;
    http_end_upgrade(r);
    sa_timer_start(r->server->timer, 0);
}
