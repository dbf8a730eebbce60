#include "services/session-svc/api.h"

#include <string.h>

#include "services/session-svc/blob_api.h"
#include "services/session-svc/export.h"
#include "services/session-svc/import.h"
#include "services/session-svc/permission_watch.h"
#include "services/session-svc/policies.h"
#include "services/session-svc/search.h"

static const struct session_service_handlers session_handlers = {
    .create_session = api_create_session,
    .get_session = api_get_session,
    .list_sessions = api_list_sessions,
    .destroy_session = api_destroy_session,
    .send_prompt = api_send_prompt,
    .run_prompt = api_run_prompt,
    .cancel_turn = api_cancel_turn,
    .update_session = api_update_session,
    .archive_session = api_archive_session,
    .suspend_session = api_suspend_session,
    .resume_session = api_resume_session,
    .fork_session = api_fork_session,
    .set_budget = api_set_budget,
    .unarchive_session = api_unarchive_session,
    .configure_session = api_configure_session,
    .move_prompt = api_move_prompt,
    .withdraw_prompt = api_withdraw_prompt,
    .steer_turn = api_steer_turn,
    .get_turn = api_get_turn,
    .list_turns = api_list_turns,
    .stream_events = api_stream_events,
    .list_events = api_list_events,
    .list_heads = api_list_heads,
    .export_session = api_export_session,
    .import_session = api_import_session,
    .verify_session = api_verify_session,
    .set_retention = api_set_retention,
    .search_events = api_search_events,
    .write_blob = api_write_blob,
    .read_blob = api_read_blob,
};

static const struct permission_service_handlers permission_handlers = {
    .list_permissions = api_list_permissions,
    .answer_permission = api_answer_permission,
    .get_permission = api_get_permission,
    .watch_permissions = api_watch_permissions,
    .answer_elicitation = api_answer_elicitation,
    .set_deadline = api_set_deadline,
    .get_policy = api_get_policy,
    .set_policy = api_set_policy,
};

static const struct agent_service_handlers agent_handlers = {
    .list_agents = api_list_agents,
    .get_agent = api_get_agent,
    .install_agent = api_install_agent,
    .uninstall_agent = api_uninstall_agent,
    .register_agent = api_register_agent,
    .unregister_agent = api_unregister_agent,
};

static const struct config_service_handlers config_handlers = {
    .set_mcp_server = api_set_mcp_server,
    .get_mcp_server = api_get_mcp_server,
    .delete_mcp_server = api_delete_mcp_server,
    .list_mcp_servers = api_list_mcp_servers,
    .set_skill = api_set_skill,
    .get_skill = api_get_skill,
    .delete_skill = api_delete_skill,
    .list_skills = api_list_skills,
};

static const struct credential_service_handlers credential_handlers = {
    .set_credential = api_set_credential,
    .list_credentials = api_list_credentials,
    .delete_credential = api_delete_credential,
};

void api_register(struct sessions *all)
{
    session_service_register(service_rpc(all->svc), &session_handlers, all);
    permission_service_register(service_rpc(all->svc), &permission_handlers, all);
    agent_service_register(service_rpc(all->svc), &agent_handlers, all);
    config_service_register(service_rpc(all->svc), &config_handlers, all);
    credential_service_register(service_rpc(all->svc), &credential_handlers, all);
}

void api_fail_copy(struct rpc_call *call, const sa_error *err)
{
    rpc_fail(call, sa_error_copy(err));
}

int api_page_size(int32_t asked, uint32_t otherwise, uint32_t *ret, sa_error **err)
{
    if (asked < 0)
        return sa_fail(err, SA_INVALID_REQUEST, "page_size: %d is negative", asked);
    *ret = !asked ? otherwise : asked > 1000 ? 1000 : (uint32_t)asked;
    return 0;
}

Google__Protobuf__Timestamp *api_timestamp(struct sa_arena *arena, int64_t us)
{
    Google__Protobuf__Timestamp *t = sa_arena_alloc(arena, sizeof *t);
    *t = (Google__Protobuf__Timestamp)GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    t->seconds = us / 1000000;
    t->nanos = (int32_t)(us % 1000000) * 1000;
    return t;
}

static void *arena_alloc(void *arena, size_t n)
{
    return sa_arena_alloc(arena, n);
}

static void arena_free(void *arena, void *p)
{
    (void)arena;
    (void)p;
}

void *api_copy(struct sa_arena *arena, const ProtobufCMessage *m)
{
    ProtobufCAllocator in_arena = {arena_alloc, arena_free, arena};
    size_t n = protobuf_c_message_get_packed_size(m);
    cleanup_free uint8_t *packed = sa_malloc(n + 1);
    protobuf_c_message_pack(m, packed);
    return protobuf_c_message_unpack(m->descriptor, &in_arena, n, packed);
}

int api_check_request_id(const char *request_id, sa_error **err)
{
    if (strlen(request_id) <= 128)
        return 0;
    return sa_fail(err, SA_INVALID_REQUEST, "request_id: longer than 128 bytes");
}
