#include <stdlib.h>

#include "adapters/grpc/plugin/plugin.h"

static void write_symbols(FILE *c, const Message *m, const char *scope)
{
    const char *full = join(scope, m->name);
    fprintf(c, "    \"%s\",\n", full);
    for (size_t i = 0; i < m->n_nested_type; i++)
        write_symbols(c, m->nested_type[i], full);
    for (size_t i = 0; i < m->n_enum_type; i++)
        fprintf(c, "    \"%s\",\n", join(full, m->enum_type[i]->name));
}

static void write_file_tables(FILE *c, const File *f)
{
    fprintf(c, "\nstatic const char *const symbols[] = {\n");
    for (size_t i = 0; i < f->n_message_type; i++)
        write_symbols(c, f->message_type[i], f->package);
    for (size_t i = 0; i < f->n_enum_type; i++)
        fprintf(c, "    \"%s\",\n", join(f->package, f->enum_type[i]->name));
    for (size_t i = 0; i < f->n_service; i++) {
        const char *full = join(f->package, f->service[i]->name);
        fprintf(c, "    \"%s\",\n", full);
        for (size_t j = 0; j < f->service[i]->n_method; j++)
            fprintf(c, "    \"%s\",\n", join(full, f->service[i]->method[j]->name));
    }
    fprintf(c, "    0,\n};\n\nstatic const struct rpc_file *const dependencies[] = {\n");
    for (size_t i = 0; i < f->n_dependency; i++)
        fprintf(c, "    &%s_file,\n", file_ident(f->dependency[i]));
    fprintf(c, "    0,\n};\n\nstatic const uint8_t descriptor[] = {");
    size_t n = google__protobuf__file_descriptor_proto__get_packed_size(f);
    uint8_t *raw = malloc(n + 1);
    google__protobuf__file_descriptor_proto__pack(f, raw);
    for (size_t i = 0; i < n; i++)
        fprintf(c, "%s%u,", i % 24 ? "" : "\n    ", raw[i]);
    fprintf(c,
            "\n};\n\nconst struct rpc_file %s_file = {\n    \"%s\", descriptor, sizeof descriptor, "
            "dependencies, symbols};\n",
            file_ident(f->name), f->name);
}

static void write_service(FILE *c, const Request *req, const File *f, const Service *s)
{
    const char *id = service_ident(f, s);
    fprintf(c, "\nstatic const struct rpc_method %s_methods[] = {\n", id);
    for (size_t i = 0; i < s->n_method; i++) {
        const Method *m = s->method[i];
        struct method_names n = method_names(req, f, m);
        fprintf(c, "    {\"/%s/%s\", &%s__descriptor, &%s__descriptor, %s, %s},\n", join(f->package, s->name),
                m->name, lower_name(m->input_type), lower_name(m->output_type),
                n.client_stream ? "true" : "false", n.server_stream ? "true" : "false");
    }
    fprintf(c, "};\n\nconst struct rpc_service %s = {\"%s\", &%s_file, %s_methods, %zu};\n", id,
            join(f->package, s->name), file_ident(f->name), id, s->n_method);
    fprintf(c, "\nvoid %s_register(struct rpc_server *s, const struct %s_handlers *h, void *api)\n{\n", id,
            id);
    fprintf(c, "    rpc_server_add(s, &%s, h, api);\n}\n", id);
}

static void write_server_side(FILE *c, const struct method_names *n)
{
    if (n->client_stream) {
        fprintf(c, "\nvoid %s_accept(struct rpc_call *call, const struct %s_events *ev, void *user)\n{\n",
                n->fn, n->fn);
        fprintf(c, "    struct rpc_gen_events e = {.on_message = (rpc_gen_message_fn *)ev->on_message,\n"
                   "        .on_end = ev->on_end, .on_cancel = ev->on_cancel};\n");
        if (n->server_stream)
            fprintf(c, "    e.on_writable = ev->on_writable;\n");
        fprintf(c, "    rpc_gen_accept(call, &e, user);\n}\n");
    }
    if (!n->server_stream)
        fprintf(c,
                "\nvoid %s_reply(struct rpc_call *call, const %s *res)\n{\n    rpc_gen_reply(call, "
                "&res->base);\n}\n",
                n->fn, n->out);
    else
        fprintf(c,
                "\nbool %s_send(struct rpc_call *call, const %s *res)\n{\n    return rpc_gen_send(call, "
                "&res->base);\n}\n",
                n->fn, n->out);
    if (n->server_stream && !n->client_stream) {
        fprintf(c, "\nvoid %s_on(struct rpc_call *call, const struct rpc_call_events *ev, void *user)\n{\n",
                n->fn);
        fprintf(c, "    rpc_gen_on(call, ev, user);\n}\n");
    }
}

static void write_unary_client(FILE *c, const struct method_names *n, const char *method)
{
    fprintf(c,
            "\nstruct rpc_request *%s_call(struct rpc_channel *ch, const %s *req, const struct "
            "rpc_call_options *opt,\n",
            n->fn, n->in);
    fprintf(c, "    void (*done)(void *user, const %s *res, const sa_error *err), void *user)\n{\n", n->out);
    fprintf(c, "    return rpc_gen_call(ch, %s, &req->base, opt, (rpc_gen_done_fn *)done, user);\n}\n",
            method);
    fprintf(c,
            "\n%s *%s_wait(struct rpc_channel *ch, const %s *req, const struct rpc_call_options *opt, "
            "sa_error **err)\n{\n",
            n->out, n->fn, n->in);
    fprintf(c, "    return (%s *)rpc_gen_wait(ch, %s, &req->base, opt, err);\n}\n", n->out, method);
}

static void write_stream_client(FILE *c, const struct method_names *n, const char *method)
{
    const char *req = n->client_stream ? "" : format("const %s *req, ", n->in);
    const char *arg = n->client_stream ? "NULL" : "&req->base";
    fprintf(c,
            "\nstruct rpc_request *%s_open(struct rpc_channel *ch, %sconst struct rpc_call_options *opt,\n",
            n->fn, req);
    fprintf(c, "    const struct %s_client *ev, void *user)\n{\n", n->fn);
    fprintf(c, "    struct rpc_gen_client e = {(rpc_gen_response_fn *)ev->on_message, ev->on_writable, "
               "ev->on_end};\n");
    fprintf(c, "    return rpc_gen_open(ch, %s, %s, opt, &e, user);\n}\n", method, arg);
    fprintf(
        c, "\nstruct rpc_stream *%s_begin(struct rpc_channel *ch, %sconst struct rpc_call_options *opt)\n{\n",
        n->fn, req);
    fprintf(c, "    return rpc_gen_begin(ch, %s, %s, opt);\n}\n", method, arg);
    if (n->client_stream) {
        fprintf(c,
                "\nbool %s_write(struct rpc_request *r, const %s *msg)\n{\n    return rpc_gen_write(r, "
                "&msg->base);\n}\n",
                n->fn, n->in);
        fprintf(c,
                "\nint %s_put(struct rpc_stream *s, const %s *msg, sa_error **err)\n{\n    return "
                "rpc_gen_put(s, &msg->base, err);\n}\n",
                n->fn, n->in);
    }
    fprintf(c, "\nint %s_next(struct rpc_stream *s, %s **ret_message, sa_error **err)\n{\n", n->fn, n->out);
    fprintf(c, "    return rpc_gen_next(s, (ProtobufCMessage **)ret_message, err);\n}\n");
}

void write_source(FILE *c, const Request *req, const File *f)
{
    fprintf(c, "/* Generated from %s by protoc-gen-rpc. */\n", f->name);
    fprintf(c, "#include \"%s.rpc.h\"\n\n#include \"adapters/grpc/generated.h\"\n", file_stem(f->name));
    write_file_tables(c, f);
    for (size_t i = 0; i < f->n_service; i++) {
        const Service *s = f->service[i];
        write_service(c, req, f, s);
        for (size_t j = 0; j < s->n_method; j++) {
            struct method_names n = method_names(req, f, s->method[j]);
            const char *method = format("&%s_methods[%zu]", service_ident(f, s), j);
            write_server_side(c, &n);
            if (n.client_stream || n.server_stream)
                write_stream_client(c, &n, method);
            else
                write_unary_client(c, &n, method);
        }
    }
}
