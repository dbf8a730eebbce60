/* SandboxService over the sandboxes. */
#ifndef SERVICES_PROVIDER_SVC_API_H_
#define SERVICES_PROVIDER_SVC_API_H_

#include "services/provider-svc/sandboxes.h"

/* api of the handlers is the struct sandboxes. */
extern const struct sandbox_service_handlers sandbox_api;

#endif
