/* Server reflection, v1 and v1alpha. The two protocols are the same but for the package name, so that the v1
 * messages serve both: a message is packed and read by its own descriptor. */
#include <string.h>

#include "adapters/grpc/internal.h"
#include "grpc/reflection/v1/reflection.rpc.h"
#include "grpc/reflection/v1alpha/reflection.rpc.h"

typedef Grpc__Reflection__V1__ServerReflectionRequest Request;
typedef Grpc__Reflection__V1__ServerReflectionResponse Response;
#define ASKS(what) GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_##what
#define TELLS(what) GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_##what

enum { FILES_MAX = 256, NAME_SHOWN = 200 };

struct files {
    const struct rpc_file *file[FILES_MAX];
    size_t n;
};

static void add_file(struct files *files, const struct rpc_file *f)
{
    for (size_t i = 0; i < files->n; i++)
        if (files->file[i] == f)
            return;
    if (files->n == FILES_MAX)
        return;
    files->file[files->n++] = f;
    for (size_t i = 0; f->dependencies[i]; i++)
        add_file(files, f->dependencies[i]);
}

static struct files all_files(const struct rpc_server *s)
{
    struct files files = {.n = 0};
    for (const struct service_entry *e = s->services; e; e = e->next)
        add_file(&files, e->service->file);
    return files;
}

static const struct rpc_file *find_file(const struct files *files, const char *name)
{
    for (size_t i = 0; i < files->n; i++)
        if (!strcmp(files->file[i]->name, name))
            return files->file[i];
    return NULL;
}

static const struct rpc_file *find_symbol(const struct files *files, const char *name)
{
    for (size_t i = 0; i < files->n; i++)
        for (size_t k = 0; files->file[i]->symbols[k]; k++)
            if (!strcmp(files->file[i]->symbols[k], name))
                return files->file[i];
    return NULL;
}

static void answer_error(struct rpc_call *call, Response *res, enum sa_code code, const char *text)
{
    Grpc__Reflection__V1__ErrorResponse *e = sa_arena_alloc(rpc_send_arena(call), sizeof *e);
    grpc__reflection__v1__error_response__init(e);
    e->error_code = (int32_t)code;
    e->error_message = sa_arena_strdup(rpc_send_arena(call), text);
    res->message_response_case = TELLS(ERROR_RESPONSE);
    res->error_response = e;
}

/* The file and all it imports, so that the client need not ask again. */
static void answer_file(struct rpc_call *call, Response *res, const struct rpc_file *f, const char *name)
{
    struct sa_arena *a = rpc_send_arena(call);
    if (!f) {
        answer_error(call, res, SA_CODE_NOT_FOUND, sa_arena_format(a, "not found: %.*s", NAME_SHOWN, name));
        return;
    }
    struct files files = {.n = 0};
    add_file(&files, f);
    Grpc__Reflection__V1__FileDescriptorResponse *d = sa_arena_alloc(a, sizeof *d);
    grpc__reflection__v1__file_descriptor_response__init(d);
    d->n_file_descriptor_proto = files.n;
    d->file_descriptor_proto = sa_arena_alloc(a, files.n * sizeof *d->file_descriptor_proto);
    for (size_t i = 0; i < files.n; i++)
        d->file_descriptor_proto[i] = (ProtobufCBinaryData){files.file[i]->descriptor_len,
                                                            (uint8_t *)(uintptr_t)files.file[i]->descriptor};
    res->message_response_case = TELLS(FILE_DESCRIPTOR_RESPONSE);
    res->file_descriptor_response = d;
}

static void answer_services(const struct rpc_server *s, struct rpc_call *call, Response *res)
{
    struct sa_arena *a = rpc_send_arena(call);
    size_t n = 0;
    for (const struct service_entry *e = s->services; e; e = e->next)
        n++;
    Grpc__Reflection__V1__ListServiceResponse *list = sa_arena_alloc(a, sizeof *list);
    grpc__reflection__v1__list_service_response__init(list);
    list->service = sa_arena_alloc(a, n * sizeof *list->service);
    for (const struct service_entry *e = s->services; e; e = e->next) {
        Grpc__Reflection__V1__ServiceResponse *one = sa_arena_alloc(a, sizeof *one);
        grpc__reflection__v1__service_response__init(one);
        one->name = (char *)(uintptr_t)e->service->name;
        list->service[list->n_service++] = one;
    }
    res->message_response_case = TELLS(LIST_SERVICES_RESPONSE);
    res->list_services_response = list;
}

static void on_message(void *user, struct rpc_call *call, const void *msg)
{
    const struct rpc_server *s = user;
    const Request *req = msg; /* v1alpha's has the same layout */
    struct files files = all_files(s);
    Response res = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
    res.valid_host = req->host;
    res.original_request = (Request *)(uintptr_t)req;
    switch (req->message_request_case) {
    case ASKS(FILE_BY_FILENAME):
        answer_file(call, &res, find_file(&files, req->file_by_filename), req->file_by_filename);
        break;
    case ASKS(FILE_CONTAINING_SYMBOL):
        answer_file(call, &res, find_symbol(&files, req->file_containing_symbol),
                    req->file_containing_symbol);
        break;
    case ASKS(LIST_SERVICES):
        answer_services(s, call, &res);
        break;
    case ASKS(FILE_CONTAINING_EXTENSION):
    case ASKS(ALL_EXTENSION_NUMBERS_OF_TYPE):
        answer_error(call, &res, SA_CODE_NOT_FOUND, "there are no extensions");
        break;
    default:
        answer_error(call, &res, SA_CODE_INVALID_ARGUMENT, "nothing was asked");
    }
    if (!rpc_gen_send(call, &res.base))
        rpc_pause_request(call, true); /* until it reads */
}

static void on_writable(void *user, struct rpc_call *call)
{
    (void)user;
    rpc_pause_request(call, false);
}

static void on_end(void *user, struct rpc_call *call)
{
    (void)user;
    rpc_end(call);
}

static void on_info(void *api, struct rpc_call *call)
{
    static const struct rpc_gen_events events = {
        .on_message = on_message, .on_writable = on_writable, .on_end = on_end};
    rpc_gen_accept(call, &events, api);
}

static const struct grpc__reflection__v1__server_reflection_handlers v1 = {on_info};
static const struct grpc__reflection__v1alpha__server_reflection_handlers v1alpha = {on_info};

void reflection_add(struct rpc_server *s)
{
    rpc_server_add(s, &grpc__reflection__v1__server_reflection, &v1, s);
    rpc_server_add(s, &grpc__reflection__v1alpha__server_reflection, &v1alpha, s);
}
