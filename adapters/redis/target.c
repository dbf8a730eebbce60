/* Addresses: redis://[user:password@]host[:port][/db] and unix:/path[?db=n]. */
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "adapters/redis/redis_internal.h"

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* A copy with %XX decoded; NULL: bad escape. */
static char *decode(const char *p, size_t n)
{
    char *out = sa_malloc(n + 1);
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        if (p[i] != '%') {
            out[len++] = p[i];
            continue;
        }
        int high = i + 2 < n ? hex(p[i + 1]) : -1, low = high >= 0 ? hex(p[i + 2]) : -1;
        if (low < 0) {
            free(out);
            return NULL;
        }
        out[len++] = (char)(high * 16 + low);
        i += 2;
    }
    out[len] = 0;
    return out;
}

static bool parse_db(const char *text, int *ret)
{
    char *end;
    unsigned long v = strtoul(text, &end, 10);
    if (!*text || *end || *text < '0' || *text > '9' || v > 1000000)
        return false;
    *ret = (int)v;
    return true;
}

static bool parse_unix(const char *rest, struct redis_target *t)
{
    size_t n = strcspn(rest, "?");
    struct sockaddr_un address;
    if (!n || n >= sizeof address.sun_path || rest[0] != '/')
        return false;
    t->path = sa_strndup(rest, n);
    return !rest[n] || (strncmp(rest + n, "?db=", 4) == 0 && parse_db(rest + n + 4, &t->db));
}

static bool parse_user(const char *p, size_t n, struct redis_target *t)
{
    const char *colon = memchr(p, ':', n);
    if (!colon)
        return false;
    size_t user_len = (size_t)(colon - p);
    t->user = user_len ? decode(p, user_len) : NULL;
    t->password = decode(colon + 1, n - user_len - 1);
    return t->password && (t->user || !user_len);
}

static bool parse_host(const char *p, size_t n, struct redis_target *t)
{
    const char *host = p, *after;
    size_t host_len;
    if (n && p[0] == '[') {
        const char *end = memchr(p, ']', n);
        if (!end)
            return false;
        host = p + 1;
        host_len = (size_t)(end - host);
        after = end + 1;
    } else {
        const char *colon = memchr(p, ':', n);
        host_len = colon ? (size_t)(colon - p) : n;
        after = p + host_len;
    }
    size_t rest = n - (size_t)(after - p);
    if (!host_len || (rest && after[0] != ':') || rest == 1)
        return false;
    t->host = sa_strndup(host, host_len);
    t->port = rest ? sa_strndup(after + 1, rest - 1) : sa_strdup("6379");
    char *end;
    unsigned long port = strtoul(t->port, &end, 10);
    return !*end && port >= 1 && port <= 65535;
}

static bool parse_tcp(const char *rest, struct redis_target *t)
{
    size_t n = strcspn(rest, "/");
    const char *at = NULL;
    for (size_t i = 0; i < n; i++) {
        if (rest[i] == '@')
            at = rest + i;
    }
    if (at && !parse_user(rest, (size_t)(at - rest), t))
        return false;
    const char *host = at ? at + 1 : rest;
    if (!parse_host(host, n - (size_t)(host - rest), t))
        return false;
    return !rest[n] || !rest[n + 1] || parse_db(rest + n + 1, &t->db);
}

int redis_target_parse(const char *url, struct redis_target *ret, sa_error **err)
{
    struct redis_target t = {0};
    bool ok = strncmp(url, "unix:", 5) == 0      ? parse_unix(url + 5, &t)
              : strncmp(url, "redis://", 8) == 0 ? parse_tcp(url + 8, &t)
                                                 : false;
    if (!ok) {
        redis_target_fini(&t);
        return sa_fail(
            err, SA_INVALID_CONFIG,
            "the Redis url is neither redis://[user:password@]host[:port][/db] nor unix:/path[?db=n]");
    }
    *ret = t;
    return 0;
}

void redis_target_fini(struct redis_target *t)
{
    free(t->path);
    free(t->host);
    free(t->port);
    free(t->user);
    if (t->password)
        explicit_bzero(t->password, strlen(t->password));
    free(t->password);
    *t = (struct redis_target){0};
}
