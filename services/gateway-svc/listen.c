#include "services/gateway-svc/listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

#include "adapters/os/mem.h"

enum { SEND_BUFFER = 512 << 10 /* in the kernel, for a connection: what a slow reader may hold */ };

static int open_socket(const struct addrinfo *ai)
{
    int on = 1, buffer = SEND_BUFFER;
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer)); /* inherited by what is accepted */
    if (ai->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, 1024) < 0)
        return sa_close(fd);
    return fd;
}

uint16_t listen_port(int fd, bool *ret_local)
{
    struct sockaddr_storage a = {0};
    socklen_t n = sizeof(a);
    getsockname(fd, (struct sockaddr *)&a, &n);
    *ret_local = a.ss_family == AF_INET6 ? IN6_IS_ADDR_LOOPBACK(&((struct sockaddr_in6 *)&a)->sin6_addr)
                                         : ntohl(((struct sockaddr_in *)&a)->sin_addr.s_addr) >> 24 == 127;
    return ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a)->sin6_port
                                         : ((struct sockaddr_in *)&a)->sin_port);
}

int listen_tcp(const char *host, uint16_t port, sa_error **err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV},
                    *list = NULL;
    char service[8];
    snprintf(service, sizeof(service), "%u", port);
    int e = getaddrinfo(host, service, &hints, &list);
    if (e)
        return sa_fail(err, SA_INVALID_CONFIG, "cannot listen on %s: %s", host, gai_strerror(e));
    int fd = -1, errnum = 0;
    for (struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next) {
        fd = open_socket(ai);
        errnum = errno;
    }
    freeaddrinfo(list);
    if (fd < 0 && errnum == EADDRINUSE)
        return sa_fail(err, SA_ADDRESS_IN_USE, "port %u of %s is in use", port, host);
    if (fd < 0)
        return sa_fail_errno(err, errnum, "cannot listen on port %u of %s", port, host);
    return fd;
}
