#include "services/session-svc/mask.h"

#include <string.h>
#include <strings.h>

#include "services/session-svc/sessions.h"

bool mask_is_secret(const void *name, size_t n)
{
    static const char *const words[] = {"KEY", "TOKEN", "SECRET", "PASSWORD"};
    for (size_t w = 0; w < sizeof words / sizeof *words; w++)
        for (size_t at = 0, len = strlen(words[w]); at + len <= n; at++)
            if (!strncasecmp((const char *)name + at, words[w], len))
                return true;
    return false;
}

void mask_load(struct session *s, EnvironmentVariable *const *env, size_t n)
{
    mask_clear(s);
    for (size_t i = 0; i < n; i++) {
        if (!mask_is_secret(env[i]->name.data, env[i]->name.len) || !env[i]->value.len)
            continue;
        if (!s->own_secrets)
            s->own_secrets = secrets_new();
        cleanup_free char *value = sa_strndup((const char *)env[i]->value.data, env[i]->value.len);
        secrets_know(s->own_secrets, value);
    }
}

void mask_clear(struct session *s)
{
    secrets_free(s->own_secrets);
    s->own_secrets = NULL;
}

bool mask_bytes(struct session *s, void *p, size_t n)
{
    bool found = secrets_mask(s->all->secrets, p, n);
    return (s->own_secrets && secrets_mask(s->own_secrets, p, n)) || found;
}

void mask_text(struct session *s, char *text)
{
    mask_bytes(s, text, strlen(text));
}

struct packed_event *mask_event(struct session *s, struct packed_event *p, const Event *e)
{
    size_t n = p->size - p->prefix;
    if (!mask_bytes(s, p->data + p->prefix, n) ||
        !rpc_validate(&event__descriptor, p->data + p->prefix, n, NULL))
        return p;
    /* The value lay across two fields of the message: only an agent that wants that can do it. */
    Unknown unknown = UNKNOWN__INIT;
    unknown.name = (char[]){"masked"};
    Event bare = *e;
    bare.agent_json = (ProtobufCBinaryData){0};
    bare.kind_case = EVENT__KIND_UNKNOWN;
    bare.unknown = &unknown;
    packed_event_unref(p);
    return packed_event_new(&bare);
}
