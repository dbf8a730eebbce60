#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/grpc/plugin/plugin.h"

char *format(const char *fmt, ...)
{
    char *s = NULL;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&s, fmt, ap) < 0)
        abort();
    va_end(ap);
    return s;
}

char *join(const char *scope, const char *name)
{
    return scope && *scope ? format("%s.%s", scope, name) : format("%s", name);
}

/* Dots become "__"; an underscore goes before each upper-case letter that follows a lower-case one. */
static char *snake(const char *full, int (*convert)(int))
{
    char *out = calloc(strlen(full) * 2 + 1, 1), *p = out;
    bool was_upper = true;
    for (full += *full == '.'; *full; full++) {
        if (*full == '.') {
            *p++ = '_', *p++ = '_';
            was_upper = true;
            continue;
        }
        bool is_upper = isupper((unsigned char)*full);
        if (is_upper && !was_upper)
            *p++ = '_';
        *p++ = (char)convert((unsigned char)*full);
        was_upper = is_upper;
    }
    return out;
}

char *lower_name(const char *full)
{
    return snake(full, tolower);
}

char *upper_name(const char *full)
{
    return snake(full, toupper);
}

char *upper(const char *name)
{
    return snake(name, toupper);
}

char *type_name(const char *full)
{
    char *out = calloc(strlen(full) * 2 + 1, 1), *p = out;
    bool next_upper = true;
    for (full += *full == '.'; *full; full++) {
        if (*full == '.') {
            *p++ = '_', *p++ = '_';
            next_upper = true;
        } else if (*full == '_') {
            next_upper = true;
        } else {
            *p++ = next_upper ? (char)toupper((unsigned char)*full) : *full;
            next_upper = false;
        }
    }
    return out;
}

char *camel(const char *name)
{
    return type_name(name);
}

char *file_stem(const char *file)
{
    return format("%.*s", (int)(strlen(file) - strlen(".proto")), file);
}

char *file_ident(const char *file)
{
    char *s = file_stem(file);
    for (char *p = s; *p; p++)
        if (!isalnum((unsigned char)*p))
            *p = '_';
    return s;
}

bool is_ours(const char *package)
{
    return package && (!strncmp(package, "sandboxagent.", 13) || !strcmp(package, "sandboxagent"));
}

const char *short_name(const Request *req, const char *full)
{
    full += *full == '.';
    for (size_t i = 0; i < req->n_proto_file; i++) {
        const char *package = req->proto_file[i]->package;
        size_t n = package ? strlen(package) : 0;
        if (!is_ours(package) || strncmp(full, package, n) || full[n] != '.')
            continue;
        /* "a.v1" must not be taken for the package of what is in "a.v1.more": components of a message's
         * name start with a capital, those of a package do not. */
        if (isupper((unsigned char)full[n + 1]))
            return full + n + 1;
    }
    return full;
}

char *service_ident(const File *f, const Service *s)
{
    return is_ours(f->package) ? lower_name(s->name) : lower_name(join(f->package, s->name));
}

struct method_names method_names(const Request *req, const File *f, const Method *m)
{
    return (struct method_names){
        .fn = is_ours(f->package) ? lower_name(m->name) : lower_name(join(f->package, m->name)),
        .in = type_name(short_name(req, m->input_type)),
        .out = type_name(short_name(req, m->output_type)),
        .client_stream = m->has_client_streaming && m->client_streaming,
        .server_stream = m->has_server_streaming && m->server_streaming,
    };
}
