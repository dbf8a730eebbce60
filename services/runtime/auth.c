#include "services/runtime/auth.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "adapters/os/file.h"
#include "adapters/os/mem.h"

static int read_fd(int fd, struct sa_buf *ret, sa_error **err)
{
    for (;;) {
        ssize_t n = read(fd, sa_buf_reserve(ret, AUTH_SECRET_MAX), AUTH_SECRET_MAX);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return sa_fail_errno(err, errno, "read descriptor %d", fd);
        if (n == 0)
            return 0;
        ret->len += (size_t)n;
        if (ret->len > AUTH_SECRET_MAX)
            return sa_fail(err, SA_INVALID_CONFIG, "more than %d bytes", AUTH_SECRET_MAX);
    }
}

/* Reads `<name>-fd` or `<name>-file`, whichever is given. */
static int read_secret(const struct options *o, const char *name, char **ret, sa_error **err)
{
    cleanup_free char *by_fd = sa_format("%s-fd", name), *by_file = sa_format("%s-file", name);
    cleanup_buf struct sa_buf text = {0};
    const char *file = options_text(o, by_file);
    const char *used = by_fd;
    if (options_given(o, by_fd)) {
        int fd = (int)options_uint(o, by_fd);
        int r = read_fd(fd, &text, err);
        close(fd);
        if (r < 0)
            return sa_wrap(err, "option `--%s`", used);
    } else if (file) {
        used = by_file;
        if (sa_read_file(file, AUTH_SECRET_MAX, &text, err) < 0)
            return sa_wrap(err, "option `--%s`", used);
    } else {
        return 0;
    }
    if (text.len && text.data[text.len - 1] == '\n')
        text.len--;
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] <= ' ' || text.data[i] >= 0x7f)
            return sa_fail(err, SA_INVALID_CONFIG, "option `--%s`: only printable ASCII without blanks",
                           used);
    if (!text.len)
        return sa_fail(err, SA_INVALID_CONFIG, "option `--%s`: it is empty", used);
    *ret = sa_strdup(sa_buf_string(&text));
    return 0;
}

int auth_init(struct auth *a, const struct options *o, sa_error **err)
{
    struct auth new = {.open = options_flag(o, "no-token")};
    if (read_secret(o, "token", &new.token, err) < 0 || read_secret(o, "secret", &new.secret, err) < 0) {
        auth_fini(&new);
        return -1;
    }
    if (!new.open && !new.token && !new.secret)
        return sa_fail(
            err, SA_INVALID_CONFIG,
            "nobody could call: give --token-fd, --token-file, --secret-fd or --secret-file, or open it to "
            "everyone on this machine with --no-token");
    if (!new.open && !new.token && options_text(o, "listen")) {
        auth_fini(&new);
        return sa_fail(err, SA_INVALID_CONFIG, "--listen needs --token-fd or --token-file, or --no-token");
    }
    *a = new;
    return 0;
}

static void wipe(char *s)
{
    if (s)
        explicit_bzero(s, strlen(s));
    free(s);
}

void auth_fini(struct auth *a)
{
    wipe(a->token);
    wipe(a->secret);
    *a = (struct auth){0};
}

bool auth_equal(const char *known, const char *given)
{
    if (!known || !given)
        return false;
    size_t n = strlen(known), m = strlen(given);
    volatile unsigned char differs = n != m;
    for (size_t i = 0; i < m; i++)
        differs = (unsigned char)(differs | (given[i] ^ known[n ? i % n : 0]));
    return !differs;
}

const char *auth_principal(const struct auth *a, const char *token)
{
    if (auth_equal(a->token, token))
        return "owner";
    return a->open ? "anonymous" : NULL;
}

static const char *text(struct rpc_call *call, const char *key)
{
    size_t len;
    const char *v = rpc_metadata(call, key, &len);
    return v && strlen(v) == len ? v : NULL;
}

static const char *bearer(struct rpc_call *call)
{
    const char *v = text(call, "authorization");
    return v && !strncasecmp(v, "Bearer ", 7) ? v + 7 : NULL;
}

bool auth_authorize(void *auth, struct rpc_call *call, sa_error **err)
{
    const struct auth *a = auth;
    const char *secret = text(call, "x-service-secret");
    if (auth_equal(a->secret, secret)) {
        const char *on_behalf = text(call, "x-principal");
        rpc_set_principal(call, on_behalf && *on_behalf ? on_behalf : "service");
        return true;
    }
    const char *token = bearer(call), *principal = auth_principal(a, token);
    if (!principal) {
        sa_fail(err, SA_UNAUTHENTICATED,
                token || secret ? "the token is wrong"
                                : "a token is needed: metadata `authorization: Bearer <token>`");
        return false;
    }
    rpc_set_principal(call, principal);
    return true;
}
