/* Addresses and credentials. gRPC says only that it cannot listen, takes a live unix socket away from its
 * server and would talk plain text to anybody, so the address is looked at first. */
#include <errno.h>
#include <grpc/grpc_security.h>
#include <libgen.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "adapters/grpc/internal.h"

static int check_unix(const char *path, sa_error **err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof addr.sun_path)
        return sa_fail(err, SA_INVALID_PATH, "socket path `%s` is longer than %zu bytes", path,
                       sizeof addr.sun_path - 1);
    strcpy(addr.sun_path, path);
    cleanup_free char *copy = sa_strdup(path);
    const char *dir = dirname(copy);
    if (access(dir, W_OK | X_OK) < 0)
        return sa_fail_errno(err, errno, "cannot make socket `%s`: directory `%s`", path, dir);
    struct stat st;
    if (lstat(path, &st) < 0)
        return 0;
    if (!S_ISSOCK(st.st_mode))
        return sa_fail(err, SA_ADDRESS_IN_USE, "`%s` exists and is not a socket", path);
    cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return sa_fail_errno(err, errno, "unix socket");
    if (!connect(fd, (struct sockaddr *)&addr, sizeof addr) || errno == EAGAIN)
        return sa_fail(err, SA_ADDRESS_IN_USE, "address unix:%s is in use by a running server", path);
    return 0; /* nobody is behind it: gRPC replaces it */
}

static bool is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24 == 127;
    if (a->sa_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
    return false;
}

/* 0, or the errno with which the address cannot be had. */
static int try_bind(const struct addrinfo *a)
{
    cleanup_close int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    if (fd < 0)
        return 0; /* a family that this machine lacks */
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (a->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    return bind(fd, a->ai_addr, a->ai_addrlen) < 0 && errno != EADDRNOTAVAIL ? errno : 0;
}

static int check_tcp(const char *address, bool plain, sa_error **err)
{
    cleanup_free char *host = sa_strdup(address);
    char *colon = strrchr(host, ':'), *h = host;
    if (!colon)
        return sa_fail(err, SA_INVALID_CONFIG, "address `%s` has no port", address);
    *colon = 0;
    if (*h == '[' && colon > h && colon[-1] == ']') {
        colon[-1] = 0;
        h++;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV},
                    *list = NULL;
    int r = getaddrinfo(*h ? h : NULL, colon + 1, &hints, &list);
    if (r)
        return sa_fail(err, SA_INVALID_CONFIG, "address `%s`: %s", address, gai_strerror(r));
    int result = 0;
    for (const struct addrinfo *a = list; a && !result; a = a->ai_next) {
        int e = try_bind(a);
        if (plain && !is_loopback(a->ai_addr))
            result = sa_fail(err, SA_INVALID_CONFIG,
                             "address `%s` is not on the loopback: it needs a certificate (TLS)", address);
        else if (e == EADDRINUSE)
            result = sa_fail(err, SA_ADDRESS_IN_USE, "address %s is in use", address);
        else if (e)
            result = sa_fail_errno(err, e, "cannot listen on %s", address);
    }
    freeaddrinfo(list);
    return result;
}

int listen_check(const char *address, const struct rpc_tls *tls, bool allow_plain, sa_error **err)
{
    if (!strncmp(address, "unix:", 5))
        return check_unix(address + 5, err);
    return check_tcp(address, !tls && !allow_plain, err);
}

grpc_server_credentials *listen_credentials(const struct rpc_tls *tls, sa_error **err)
{
    if (!tls)
        return grpc_insecure_server_credentials_create();
    if (!tls->cert_chain || !tls->private_key) {
        sa_fail(err, SA_INVALID_CONFIG, "a TLS server needs a certificate and its private key");
        return NULL;
    }
    grpc_ssl_pem_key_cert_pair pair = {tls->private_key, tls->cert_chain};
    return grpc_ssl_server_credentials_create_ex(
        tls->ca, &pair, 1,
        tls->ca ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
        NULL);
}

grpc_channel_credentials *connect_credentials(const struct rpc_tls *tls)
{
    if (!tls)
        return grpc_insecure_credentials_create();
    grpc_ssl_pem_key_cert_pair pair = {tls->private_key, tls->cert_chain};
    return grpc_ssl_credentials_create(tls->ca, tls->private_key && tls->cert_chain ? &pair : NULL, NULL,
                                       NULL);
}
