/* SearchEvents. */
#ifndef SERVICES_SESSION_SVC_SEARCH_H_
#define SERVICES_SESSION_SVC_SEARCH_H_

#include "services/session-svc/sessions.h"

void api_search_events(void *api, struct rpc_call *call, const SearchEventsRequest *req);

#endif
