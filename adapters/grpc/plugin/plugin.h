/* protoc-gen-rpc: for X.proto writes X.rpc.h and X.rpc.c, as adapters/grpc/rpc.h describes. The messages
 * themselves are protoc-gen-c's (X.pb-c.h). A process of milliseconds: nothing is freed. */
#ifndef ADAPTERS_GRPC_PLUGIN_PLUGIN_H_
#define ADAPTERS_GRPC_PLUGIN_PLUGIN_H_

#include <stdbool.h>
#include <stdio.h>

#include "google/protobuf/compiler/plugin.pb-c.h"

typedef Google__Protobuf__FileDescriptorProto File;
typedef Google__Protobuf__DescriptorProto Message;
typedef Google__Protobuf__EnumDescriptorProto Enum;
typedef Google__Protobuf__FieldDescriptorProto Field;
typedef Google__Protobuf__ServiceDescriptorProto Service;
typedef Google__Protobuf__MethodDescriptorProto Method;
typedef Google__Protobuf__Compiler__CodeGeneratorRequest Request;
typedef Google__Protobuf__Compiler__CodeGeneratorResponse Response;

/* ---- names.c: how protoc-gen-c spells things ---- */

char *format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* "a.b" + "C" -> "a.b.C" */
char *join(const char *scope, const char *name);
/* "sample.v1.EchoRequest" -> "sample__v1__echo_request", "SAMPLE__V1__ECHO_REQUEST",
 * "Sample__V1__EchoRequest"; a leading dot is ignored. */
char *lower_name(const char *full);
char *upper_name(const char *full);
char *type_name(const char *full);
/* The last component: "kindCase" -> "KindCase" and "KIND_CASE" (keeps a leading '_' of the latter). */
char *camel(const char *name);
char *upper(const char *name);
/* "a/b-c.proto" -> "a_b_c" */
char *file_ident(const char *file);
char *file_stem(const char *file);

/* Is this package ours, so that names are written without it? */
bool is_ours(const char *package);
/* `full` (leading dot or not) without the package when that is ours. */
const char *short_name(const Request *req, const char *full);

/* ---- check.c ---- */

/* What the runtime cannot carry: NULL, or a sentence for protoc to print. */
const char *check(const Request *req, const File *f);
/* The message of that full name (leading dot), or NULL. */
const Message *find_message(const Request *req, const char *full);

/* ---- the two files ---- */

void write_header(FILE *out, const Request *req, const File *f);
void write_source(FILE *out, const Request *req, const File *f);

/* What a method's generated functions are made of. */
struct method_names {
    const char *fn;  /* get_session */
    const char *in;  /* GetSessionRequest */
    const char *out; /* GetSessionResponse */
    bool client_stream, server_stream;
};
struct method_names method_names(const Request *req, const File *f, const Method *m);
/* session_service */
char *service_ident(const File *f, const Service *s);

#endif
