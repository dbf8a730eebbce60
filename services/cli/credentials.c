/* `sandbox-agent credentials`: names and times; a value is read from standard input, never from the command
 * line. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "adapters/os/mem.h"
#include "sandboxagent/session/v1/credential_service.rpc.h"
#include "services/cli/actions.h"
#include "services/cli/cli.h"
#include "services/cli/show.h"

enum { VALUE_MAX = 32 << 10 };

static int list(struct client *c, const struct options *o, char **words, int n, sa_error **err)
{
    (void)words;
    (void)n;
    ListCredentialsRequest req = LIST_CREDENTIALS_REQUEST__INIT;
    ListCredentialsResponse *res = list_credentials_wait(c->channel, &req, NULL, err);
    if (!res)
        return client_explain(c, err);
    for (size_t i = 0; i < res->n_credentials; i++) {
        const Credential *one = res->credentials[i];
        char when[32] = "";
        time_t seconds = one->set_time ? (time_t)one->set_time->seconds : 0;
        struct tm tm;
        if (localtime_r(&seconds, &tm))
            strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
        if (options_flag(o, "json"))
            show_json(stdout, &one->base);
        else
            printf("%s  %s\n", when, one->name);
    }
    rpc_message_free(res);
    return 0;
}

/* One line, or all there is without a last newline. */
static int read_value(char value[static VALUE_MAX + 2], sa_error **err)
{
    size_t n = fread(value, 1, VALUE_MAX + 1, stdin);
    while (n && (value[n - 1] == '\n' || value[n - 1] == '\r'))
        n--;
    value[n] = '\0';
    if (n == 0 || n > VALUE_MAX || strlen(value) != n)
        return sa_fail(err, SA_INVALID_CONFIG,
                       "the value, from standard input: is empty, over %d bytes or has NUL", VALUE_MAX);
    return 0;
}

static int set(struct client *c, const struct options *o, char **words, int n, sa_error **err)
{
    (void)o;
    (void)n;
    char value[VALUE_MAX + 2];
    if (read_value(value, err) < 0)
        return -1;
    SetCredentialRequest req = SET_CREDENTIAL_REQUEST__INIT;
    req.name = words[0];
    req.value = value;
    SetCredentialResponse *res = set_credential_wait(c->channel, &req, NULL, err);
    explicit_bzero(value, sizeof value);
    rpc_message_free(res);
    return res ? 0 : client_explain(c, err);
}

static int rm(struct client *c, const struct options *o, char **words, int n, sa_error **err)
{
    (void)o;
    for (int i = 0; i < n; i++) {
        DeleteCredentialRequest req = DELETE_CREDENTIAL_REQUEST__INIT;
        req.name = words[i];
        DeleteCredentialResponse *res = delete_credential_wait(c->channel, &req, NULL, err);
        rpc_message_free(res);
        if (!res)
            return client_explain(c, err);
    }
    return 0;
}

int cli_credentials(int argc, char **argv)
{
    static const struct action actions[] = {{"ls", 0, 0, list}, {"set", 1, 1, set}, {"rm", 1, -1, rm}, {0}};
    static const struct action_verb verb = {
        .actions = actions,
        .usage = "credentials [ls | set NAME < FILE | rm NAME...] [options]",
        .summary = "Secrets that sessions refer to by name. The value of `set` comes from standard input.",
    };
    return cli_act(&verb, argc, argv);
}
