/* A listening TCP socket. */
#ifndef SERVICES_GATEWAY_SVC_LISTEN_H_
#define SERVICES_GATEWAY_SVC_LISTEN_H_

#include <stdbool.h>
#include <stdint.h>

#include "adapters/os/error.h"

/* Non-blocking, close-on-exec. host: an address or a name, of which the first usable address counts. port 0:
 * any. ADDRESS_IN_USE and INVALID_CONFIG name host and port. */
int listen_tcp(const char *host, uint16_t port, sa_error **err);
/* Its port, and whether it can be reached on the loopback only. */
uint16_t listen_port(int fd, bool *ret_local);

#endif
