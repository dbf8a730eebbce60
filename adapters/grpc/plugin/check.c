#include <stdlib.h>
#include <string.h>

#include "adapters/grpc/plugin/plugin.h"

enum { FIELDS_MAX = 512, NAMES_MAX = 65536 };

static const Message *find_in(const Message *m, const char *rest)
{
    size_t n = strlen(m->name);
    if (strncmp(rest, m->name, n))
        return NULL;
    if (!rest[n])
        return m;
    if (rest[n] != '.')
        return NULL;
    for (size_t i = 0; i < m->n_nested_type; i++) {
        const Message *found = find_in(m->nested_type[i], rest + n + 1);
        if (found)
            return found;
    }
    return NULL;
}

const Message *find_message(const Request *req, const char *full)
{
    full += *full == '.';
    for (size_t i = 0; i < req->n_proto_file; i++) {
        const File *f = req->proto_file[i];
        size_t n = f->package ? strlen(f->package) : 0;
        if (n && (strncmp(full, f->package, n) || full[n] != '.'))
            continue;
        for (size_t j = 0; j < f->n_message_type; j++) {
            const Message *found = find_in(f->message_type[j], full + n + (n > 0));
            if (found)
                return found;
        }
    }
    return NULL;
}

struct path {
    const struct path *up;
    const Message *m;
};

/* The receiver unpacks with a recursive parser, so what it receives must not nest without end. */
static const char *find_recursion(const Request *req, const Message *m, const struct path *up)
{
    for (const struct path *p = up; p; p = p->up)
        if (p->m == m)
            return format("message %s contains itself", m->name);
    struct path here = {up, m};
    for (size_t i = 0; i < m->n_field; i++) {
        const Field *field = m->field[i];
        if (field->type == GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_GROUP)
            return format("%s.%s is a group", m->name, field->name);
        if (field->type != GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_MESSAGE)
            continue;
        const Message *sub = find_message(req, field->type_name);
        const char *why = sub ? find_recursion(req, sub, &here) : format("unknown type %s", field->type_name);
        if (why)
            return why;
    }
    return NULL;
}

static const char *check_size(const Message *m)
{
    if (m->n_field > FIELDS_MAX)
        return format("message %s has %zu fields, the limit is %d", m->name, m->n_field, FIELDS_MAX);
    for (size_t i = 0; i < m->n_nested_type; i++) {
        const char *why = check_size(m->nested_type[i]);
        if (why)
            return why;
    }
    return NULL;
}

struct names {
    const char *name[NAMES_MAX];
    const char *package[NAMES_MAX];
    size_t n;
};

/* Generated names leave the package out, so they must be unique over all our packages that meet in a file. */
static const char *add_name(struct names *names, const char *name, const char *package)
{
    for (size_t i = 0; i < names->n; i++)
        if (!strcmp(names->name[i], name))
            return format("%s is defined in package %s and in %s: names are used without the package", name,
                          names->package[i], package);
    if (names->n == NAMES_MAX)
        return "too many names";
    names->name[names->n] = name;
    names->package[names->n++] = package;
    return NULL;
}

static const char *add_enum(struct names *names, const Enum *e, const char *package)
{
    const char *why = NULL;
    for (size_t i = 0; !why && i < e->n_value; i++)
        why = add_name(names, e->value[i]->name, package);
    return why;
}

static const char *add_nested_enums(struct names *names, const Message *m, const char *package)
{
    const char *why = NULL;
    for (size_t i = 0; !why && i < m->n_enum_type; i++)
        why = add_enum(names, m->enum_type[i], package);
    for (size_t i = 0; !why && i < m->n_nested_type; i++)
        why = add_nested_enums(names, m->nested_type[i], package);
    return why;
}

static const char *add_file(struct names *names, const File *f)
{
    const char *why = NULL;
    for (size_t i = 0; !why && i < f->n_message_type; i++) {
        why = add_name(names, f->message_type[i]->name, f->package);
        if (!why)
            why = add_nested_enums(names, f->message_type[i], f->package);
    }
    for (size_t i = 0; !why && i < f->n_enum_type; i++) {
        why = add_name(names, f->enum_type[i]->name, f->package);
        if (!why)
            why = add_enum(names, f->enum_type[i], f->package);
    }
    for (size_t i = 0; !why && i < f->n_service; i++) {
        why = add_name(names, f->service[i]->name, f->package);
        for (size_t j = 0; !why && j < f->service[i]->n_method; j++)
            why = add_name(names, format("rpc %s", f->service[i]->method[j]->name), f->package);
    }
    return why;
}

const char *check(const Request *req, const File *f)
{
    struct names *names = calloc(1, sizeof *names);
    const char *why = NULL;
    for (size_t i = 0; !why && i < req->n_proto_file; i++)
        if (is_ours(req->proto_file[i]->package))
            why = add_file(names, req->proto_file[i]);
    for (size_t i = 0; !why && i < f->n_message_type; i++)
        why = check_size(f->message_type[i]);
    for (size_t i = 0; !why && i < f->n_service; i++) {
        const Service *s = f->service[i];
        for (size_t j = 0; !why && j < s->n_method; j++) {
            const Message *in = find_message(req, s->method[j]->input_type);
            const char *inner = in ? find_recursion(req, in, NULL) : "its request is unknown";
            if (inner)
                why =
                    format("rpc %s: %s, and a request must not nest without end", s->method[j]->name, inner);
        }
    }
    return why ? format("%s: %s", f->name, why) : NULL;
}
