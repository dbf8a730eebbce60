#include "services/gateway-svc/routes.h"

#include <stdio.h>
#include <string.h>

static size_t segment_length(const char *p)
{
    return strcspn(p, "/");
}

static bool take_param(struct route_match *m, const char *pattern, size_t pattern_len, const char *p,
                       size_t n, struct sa_arena *a)
{
    char *value = http_decode(a, p, n);
    if (!value || m->n_params == ROUTE_PARAMS_MAX)
        return false;
    m->params[m->n_params++] = (struct route_param){pattern + 1, pattern_len - 2, value};
    return true;
}

/* Does the path fit? Both begin with a slash. */
static enum route_result match(const char *pattern, const char *path, struct sa_arena *a,
                               struct route_match *m)
{
    enum route_result result = ROUTE_FOUND;
    m->n_params = 0;
    while (*pattern == '/' && *path == '/') {
        pattern++, path++;
        size_t k = segment_length(pattern), n = segment_length(path);
        if (k == 1 && *pattern == '*')
            return result;
        if (*pattern == '{' && n > 0) {
            if (!take_param(m, pattern, k, path, n, a))
                result = ROUTE_BAD_PATH;
        } else if (k != n || memcmp(pattern, path, n) != 0) {
            return ROUTE_NO_PATH;
        }
        pattern += k, path += n;
    }
    return *pattern || *path ? ROUTE_NO_PATH : result;
}

static void add_allowed(char allow[static ROUTE_ALLOW_TEXT], const char *method)
{
    size_t n = strlen(allow);
    snprintf(allow + n, ROUTE_ALLOW_TEXT - n, "%s%s%s", n ? ", " : "", method,
             strcmp(method, "GET") == 0 ? ", HEAD" : "");
}

enum route_result route_find(const struct route *table, const char *method, const char *path,
                             struct sa_arena *a, struct route_match *ret)
{
    const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
    char allow[ROUTE_ALLOW_TEXT] = "";
    struct route_match m = {0};
    for (const struct route *r = table; r->method; r++) {
        enum route_result result = match(r->pattern, path, a, &m);
        if (result == ROUTE_BAD_PATH)
            return result;
        if (result != ROUTE_FOUND)
            continue;
        if (strcmp(r->method, wanted) == 0) {
            m.route = r;
            *ret = m;
            return ROUTE_FOUND;
        }
        add_allowed(allow, r->method);
    }
    if (!*allow)
        return ROUTE_NO_PATH;
    memcpy(ret->allow, allow, sizeof(allow));
    return ROUTE_NO_METHOD;
}
