/* ConfigureSession. */
#include "services/session-svc/api.h"
#include "services/session-svc/config.h"

void api_configure_session(void *api, struct rpc_call *call, const ConfigureSessionRequest *req)
{
    sa_error *err = NULL;
    struct config_wish *wishes;
    size_t n;
    struct session *s = sessions_find_to_change(api, req->session_id, &err);
    if (!s ||
        config_wishes(rpc_arena(call), req->mode_id, req->model, req->thought_level,
                      (const ConfigureSessionRequest__OptionsEntry *const *)req->options, req->n_options,
                      &wishes, &n, &err) ||
        config_ask(s, wishes, n, call, &err))
        rpc_fail(call, err);
    else
        session_settle(s);
}
