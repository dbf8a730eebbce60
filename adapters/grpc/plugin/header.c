#include <string.h>

#include "adapters/grpc/plugin/plugin.h"

static void alias_oneofs(FILE *h, const Message *m, const char *full, const char *brief)
{
    for (size_t i = 0; i < m->n_oneof_decl; i++) {
        const char *name = m->oneof_decl[i]->name;
        fprintf(h, "typedef %s__%sCase %s__%sCase;\n", type_name(full), camel(name), type_name(brief),
                camel(name));
        fprintf(h, "#define %s__%s__NOT_SET %s__%s__NOT_SET\n", upper_name(brief), upper(name),
                upper_name(full), upper(name));
        for (size_t j = 0; j < m->n_field; j++)
            if (m->field[j]->has_oneof_index && m->field[j]->oneof_index == (int32_t)i)
                fprintf(h, "#define %s__%s_%s %s__%s_%s\n", upper_name(brief), upper(name),
                        upper(m->field[j]->name), upper_name(full), upper(name), upper(m->field[j]->name));
    }
}

static void alias_enum(FILE *h, const Enum *e, const char *package, const char *brief)
{
    const char *full = join(package, brief);
    fprintf(h, "typedef %s %s;\n", type_name(full), type_name(brief));
    fprintf(h, "#define %s__descriptor %s__descriptor\n", lower_name(brief), lower_name(full));
    for (size_t i = 0; i < e->n_value; i++)
        fprintf(h, "#define %s %s__%s\n", e->value[i]->name, upper_name(full), e->value[i]->name);
}

static void alias_message(FILE *h, const Message *m, const char *package, const char *brief, bool nested)
{
    static const char *const helpers[] = {"init", "get_packed_size", "pack", "pack_to_buffer",
                                          "free_unpacked"};
    const char *full = join(package, brief);
    fprintf(h, "\ntypedef %s %s;\n", type_name(full), type_name(brief));
    fprintf(h, "#define %s__INIT %s__INIT\n", upper_name(brief), upper_name(full));
    fprintf(h, "#define %s__descriptor %s__descriptor\n", lower_name(brief), lower_name(full));
    for (size_t i = 0; i < (nested ? 1 : sizeof helpers / sizeof *helpers); i++)
        fprintf(h, "#define %s__%s %s__%s\n", lower_name(brief), helpers[i], lower_name(full), helpers[i]);
    alias_oneofs(h, m, full, brief);
    for (size_t i = 0; i < m->n_enum_type; i++)
        alias_enum(h, m->enum_type[i], package, join(brief, m->enum_type[i]->name));
    for (size_t i = 0; i < m->n_nested_type; i++)
        alias_message(h, m->nested_type[i], package, join(brief, m->nested_type[i]->name), true);
}

static void write_aliases(FILE *h, const File *f)
{
    fprintf(h, "\n/* Names without the package. There is no __unpack: what comes from outside goes through "
               "rpc_unpack. */\n");
    for (size_t i = 0; i < f->n_enum_type; i++) {
        fprintf(h, "\n");
        alias_enum(h, f->enum_type[i], f->package, f->enum_type[i]->name);
    }
    for (size_t i = 0; i < f->n_message_type; i++)
        alias_message(h, f->message_type[i], f->package, f->message_type[i]->name, false);
}

static void write_handlers(FILE *h, const Request *req, const File *f, const Service *s)
{
    const char *id = service_ident(f, s);
    fprintf(h, "\n/* ---- %s ---- */\n\n", join(f->package, s->name));
    fprintf(h, "/* Called under the service lock; NULL answers UNIMPLEMENTED. */\nstruct %s_handlers {\n",
            id);
    for (size_t i = 0; i < s->n_method; i++) {
        struct method_names n = method_names(req, f, s->method[i]);
        const char *fn = lower_name(s->method[i]->name);
        if (n.client_stream)
            fprintf(h, "    void (*%s)(void *api, struct rpc_call *call);\n", fn);
        else
            fprintf(h, "    void (*%s)(void *api, struct rpc_call *call, const %s *req);\n", fn, n.in);
    }
    fprintf(h, "};\nextern const struct rpc_service %s;\n", id);
    fprintf(h, "void %s_register(struct rpc_server *s, const struct %s_handlers *h, void *api);\n", id, id);
}

static void write_server_side(FILE *h, const struct method_names *n)
{
    if (n->client_stream) {
        fprintf(h, "struct %s_events {\n", n->fn);
        fprintf(h, "    void (*on_message)(void *user, struct rpc_call *call, const %s *msg);\n", n->in);
        if (n->server_stream)
            fprintf(h, "    void (*on_writable)(void *user, struct rpc_call *call);\n");
        fprintf(h, "    void (*on_end)(void *user, struct rpc_call *call);\n");
        fprintf(h, "    void (*on_cancel)(void *user, struct rpc_call *call);\n};\n");
        fprintf(h, "void %s_accept(struct rpc_call *call, const struct %s_events *ev, void *user);\n", n->fn,
                n->fn);
    }
    if (!n->server_stream)
        fprintf(h, "void %s_reply(struct rpc_call *call, const %s *res);\n", n->fn, n->out);
    else
        fprintf(h, "bool %s_send(struct rpc_call *call, const %s *res);\n", n->fn, n->out);
    if (n->server_stream && !n->client_stream)
        fprintf(h, "void %s_on(struct rpc_call *call, const struct rpc_call_events *ev, void *user);\n",
                n->fn);
}

static void write_client_side(FILE *h, const struct method_names *n)
{
    const char *opt = "const struct rpc_call_options *opt";
    if (!n->client_stream && !n->server_stream) {
        fprintf(h, "struct rpc_request *%s_call(struct rpc_channel *ch, const %s *req, %s,\n", n->fn, n->in,
                opt);
        fprintf(h, "    void (*done)(void *user, const %s *res, const sa_error *err), void *user);\n",
                n->out);
        fprintf(h, "%s *%s_wait(struct rpc_channel *ch, const %s *req, %s, sa_error **err);\n", n->out, n->fn,
                n->in, opt);
        return;
    }
    const char *req = n->client_stream ? "" : format("const %s *req, ", n->in);
    fprintf(h, "struct %s_client {\n", n->fn);
    fprintf(h, "    void (*on_message)(void *user, const %s *res);\n", n->out);
    fprintf(h, "    void (*on_writable)(void *user);\n");
    fprintf(h, "    void (*on_end)(void *user, const sa_error *err);\n};\n");
    fprintf(h, "struct rpc_request *%s_open(struct rpc_channel *ch, %s%s,\n", n->fn, req, opt);
    fprintf(h, "    const struct %s_client *ev, void *user);\n", n->fn);
    if (n->client_stream)
        fprintf(h, "bool %s_write(struct rpc_request *r, const %s *msg);\n", n->fn, n->in);
    fprintf(h, "struct rpc_stream *%s_begin(struct rpc_channel *ch, %s%s);\n", n->fn, req, opt);
    if (n->client_stream)
        fprintf(h, "int %s_put(struct rpc_stream *s, const %s *msg, sa_error **err);\n", n->fn, n->in);
    fprintf(h, "int %s_next(struct rpc_stream *s, %s **ret_message, sa_error **err);\n", n->fn, n->out);
}

static const char *kind(const struct method_names *n)
{
    if (n->client_stream)
        return n->server_stream ? "bidirectional stream" : "client stream";
    return n->server_stream ? "server stream" : "unary";
}

void write_header(FILE *h, const Request *req, const File *f)
{
    const char *id = file_ident(f->name);
    fprintf(h, "/* Generated from %s by protoc-gen-rpc; explained in adapters/grpc/rpc.h. */\n", f->name);
    fprintf(h, "#ifndef %s_RPC_H_\n#define %s_RPC_H_\n\n", id, id);
    fprintf(h, "#include \"%s.pb-c.h\"\n#include \"adapters/grpc/rpc.h\"\n", file_stem(f->name));
    for (size_t i = 0; i < f->n_dependency; i++)
        fprintf(h, "#include \"%s.rpc.h\"\n", file_stem(f->dependency[i]));
    fprintf(h, "\nextern const struct rpc_file %s_file;\n", id);
    if (is_ours(f->package))
        write_aliases(h, f);
    for (size_t i = 0; i < f->n_service; i++) {
        write_handlers(h, req, f, f->service[i]);
        for (size_t j = 0; j < f->service[i]->n_method; j++) {
            struct method_names n = method_names(req, f, f->service[i]->method[j]);
            fprintf(h, "\n/* %s: %s */\n", f->service[i]->method[j]->name, kind(&n));
            write_server_side(h, &n);
            write_client_side(h, &n);
        }
    }
    fprintf(h, "\n#endif\n");
}
