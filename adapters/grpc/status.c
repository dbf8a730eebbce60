/* An error as grpc-status, grpc-message and grpc-status-details-bin: google.rpc.Status with one ErrorInfo,
 * which carries the stable reason. */
#include <string.h>

#include "adapters/grpc/internal.h"
#include "google/rpc/error_details.rpc.h"
#include "google/rpc/status.rpc.h"

/* Not const: message fields are not. */
static char domain[] = "sandboxagent.dev";
static char error_info[] = "type.googleapis.com/google.rpc.ErrorInfo";

static grpc_slice pack(const ProtobufCMessage *m)
{
    grpc_slice s = grpc_slice_malloc(protobuf_c_message_get_packed_size(m));
    protobuf_c_message_pack(m, GRPC_SLICE_START_PTR(s));
    return s;
}

grpc_slice status_details(const sa_error *e)
{
    Google__Rpc__ErrorInfo info = GOOGLE__RPC__ERROR_INFO__INIT;
    info.reason = (char *)(uintptr_t)e->reason;
    info.domain = domain;
    grpc_slice packed = pack(&info.base);

    Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT, *anys = &any;
    any.type_url = error_info;
    any.value = (ProtobufCBinaryData){GRPC_SLICE_LENGTH(packed), GRPC_SLICE_START_PTR(packed)};

    Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;
    status.code = (int32_t)e->code;
    status.message = e->message;
    status.n_details = 1;
    status.details = &anys;
    grpc_slice s = pack(&status.base);
    grpc_slice_unref(packed);
    return s;
}

static const grpc_metadata *find_details(const grpc_metadata_array *a)
{
    for (size_t i = 0; a && i < a->count; i++)
        if (!grpc_slice_str_cmp(a->metadata[i].key, STATUS_DETAILS_KEY))
            return &a->metadata[i];
    return NULL;
}

bool status_has_details(const grpc_metadata_array *trailing)
{
    return find_details(trailing);
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

static bool error_from_details(const grpc_metadata *md, grpc_status_code code, sa_error **err)
{
    Google__Rpc__Status *status =
        rpc_unpack(&google__rpc__status__descriptor, GRPC_SLICE_START_PTR(md->value),
                   GRPC_SLICE_LENGTH(md->value), NULL);
    bool found = false;
    for (size_t i = 0; status && !found && i < status->n_details; i++) {
        const Google__Protobuf__Any *any = status->details[i];
        if (!ends_with(any->type_url, strchr(error_info, '/')))
            continue;
        Google__Rpc__ErrorInfo *info =
            rpc_unpack(&google__rpc__error_info__descriptor, any->value.data, any->value.len, NULL);
        found = info && !strcmp(info->domain, domain);
        if (found)
            sa_fail_remote(err, (enum sa_code)code, info->reason, status->message);
        rpc_message_free(info);
    }
    rpc_message_free(status);
    return found;
}

void status_error(grpc_status_code code, grpc_slice message, const grpc_metadata_array *trailing,
                  const char *method, sa_error **err)
{
    const grpc_metadata *md = find_details(trailing);
    if (md && error_from_details(md, code, err))
        return;
    /* gRPC's own words, so say which call they are about. */
    struct sa_arena *arena = sa_arena_new();
    const char *text = rpc_utf8(arena, GRPC_SLICE_START_PTR(message), GRPC_SLICE_LENGTH(message));
    const char *reason = NULL;
    if (code == GRPC_STATUS_RESOURCE_EXHAUSTED && strstr(text, "message larger than max"))
        reason = sa_reason_name(SA_MESSAGE_TOO_LARGE);
    text = sa_arena_format(arena, "%s: %s", method[0] == '/' ? method + 1 : method, text);
    sa_fail_remote(err, (enum sa_code)code, reason, text);
    sa_arena_free(arena);
}
