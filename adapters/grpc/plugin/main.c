/* Reads a CodeGeneratorRequest from protoc, writes a CodeGeneratorResponse. */
#include <stdlib.h>
#include <string.h>

#include "adapters/grpc/plugin/plugin.h"

typedef Google__Protobuf__Compiler__CodeGeneratorResponse__File OutFile;

static Request *read_request(void)
{
    size_t n = 0, cap = 1 << 16, r;
    uint8_t *buf = malloc(cap);
    while ((r = fread(buf + n, 1, cap - n, stdin)) > 0)
        if ((n += r) == cap)
            buf = realloc(buf, cap *= 2);
    return google__protobuf__compiler__code_generator_request__unpack(NULL, n, buf);
}

static void add_output(Response *res, const Request *req, const File *f, const char *suffix,
                       void (*write_it)(FILE *, const Request *, const File *))
{
    OutFile *out = malloc(sizeof *out);
    google__protobuf__compiler__code_generator_response__file__init(out);
    size_t n;
    FILE *text = open_memstream(&out->content, &n);
    write_it(text, req, f);
    fclose(text);
    out->name = format("%s%s", file_stem(f->name), suffix);
    res->file[res->n_file++] = out;
}

static const File *find_file(const Request *req, const char *name)
{
    for (size_t i = 0; i < req->n_proto_file; i++)
        if (!strcmp(req->proto_file[i]->name, name))
            return req->proto_file[i];
    return NULL;
}

int main(void)
{
    Request *req = read_request();
    if (!req) {
        fprintf(stderr, "protoc-gen-rpc: cannot parse the request\n");
        return 1;
    }
    Response res = GOOGLE__PROTOBUF__COMPILER__CODE_GENERATOR_RESPONSE__INIT;
    res.has_supported_features = 1;
    res.supported_features =
        GOOGLE__PROTOBUF__COMPILER__CODE_GENERATOR_RESPONSE__FEATURE__FEATURE_PROTO3_OPTIONAL;
    res.file = calloc(req->n_file_to_generate * 2, sizeof *res.file);
    for (size_t i = 0; i < req->n_file_to_generate && !res.error; i++) {
        const File *f = find_file(req, req->file_to_generate[i]);
        res.error = f ? (char *)check(req, f) : format("no descriptor of %s", req->file_to_generate[i]);
        if (res.error)
            break;
        add_output(&res, req, f, ".rpc.h", write_header);
        add_output(&res, req, f, ".rpc.c", write_source);
    }
    size_t n = google__protobuf__compiler__code_generator_response__get_packed_size(&res);
    uint8_t *buf = malloc(n + 1);
    google__protobuf__compiler__code_generator_response__pack(&res, buf);
    return fwrite(buf, 1, n, stdout) != n || fflush(stdout) ? 1 : 0;
}
