/* Who calls. With a token the token decides, and no web page knows it. With --no-token whoever can connect
 * may call, and a web page in a browser that can must not be a way in for everybody else: its requests are
 * told by Origin (another site), and on the loopback by Host (a name of its own that resolves to us). */
#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "services/gateway-svc/gateway.h"

static const char *bearer(const struct http_request *r)
{
    const char *text = http_header(r, "Authorization");
    if (!text || strncasecmp(text, "Bearer ", 7) != 0)
        return NULL;
    text += 7;
    return text + strspn(text, " ");
}

static bool is_address(const char *host)
{
    uint8_t bytes[16];
    return inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1;
}

static bool is_local_name(const char *host)
{
    size_t n = strlen(host);
    return strcasecmp(host, "localhost") == 0 || (n > 10 && strcasecmp(host + n - 10, ".localhost") == 0);
}

static bool is_listed(const char *list, const char *host)
{
    size_t n = strlen(host);
    for (; list && *list; list += strcspn(list, "\n"), list += *list == '\n')
        if (strcspn(list, "\n") == n && strncasecmp(list, host, n) == 0)
            return true;
    return false;
}

bool auth_host_allowed(const char *header, const char *allowed)
{
    char host[256];
    if (!header || strlen(header) >= sizeof(host))
        return false;
    strcpy(host, header);
    if (*host == '[') { /* [::1]:2468 */
        char *end = strchr(host, ']');
        if (!end)
            return false;
        *end = 0;
        return is_address(host + 1);
    }
    host[strcspn(host, ":")] = 0;
    return is_address(host) || is_local_name(host) || is_listed(allowed, host);
}

bool auth_same_origin(const char *origin, const char *host)
{
    if (!origin)
        return true; /* no browser: it sends one with every method that can change anything */
    const char *name = strstr(origin, "://");
    return name && host && strcasecmp(name + 3, host) == 0;
}

static bool is_safe(const char *method)
{
    return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0 || strcmp(method, "OPTIONS") == 0;
}

static bool check_browser(struct exchange *x)
{
    const char *host = http_header(x->http, "Host");
    const char *site = http_header(x->http, "Sec-Fetch-Site");
    if (http_server_is_local(x->gw->http) &&
        !auth_host_allowed(host, service_text(x->gw->svc, "allow-host"))) {
        problem_forbidden(x->http,
                          "without a token, Host must be an address, localhost or one of --allow-host");
        return false;
    }
    if (!is_safe(http_method(x->http)) && (!auth_same_origin(http_header(x->http, "Origin"), host) ||
                                           (site && strcmp(site, "cross-site") == 0))) {
        problem_forbidden(x->http, "without a token, pages of other origins may not change anything");
        return false;
    }
    return true;
}

static int find_token(void *user, const char *name, const char *value)
{
    const char **ret = user;
    if (strcmp(name, "access_token") == 0)
        *ret = value;
    return 0;
}

/* The token that the caller shows, where this route takes it. */
static const char *token_of(const struct exchange *x)
{
    const char *token = bearer(x->http);
    if (!token && x->route->token_in_query)
        http_query_each(x->http, find_token, &token);
    return token;
}

bool auth_check(struct exchange *x)
{
    x->principal = "";
    if (x->route->open)
        return true;
    const char *principal = service_principal_of_token(x->gw->svc, token_of(x));
    if (!principal) {
        problem_token(x->http);
        return false;
    }
    x->principal = principal;
    return service_flag(x->gw->svc, "no-token") ? check_browser(x) : true;
}
