/* The methods that callers see. Handlers check what they are given, decide through the other modules, and
 * answer when the decision is committed. */
#ifndef SERVICES_SESSION_SVC_API_H_
#define SERVICES_SESSION_SVC_API_H_

#include "sandboxagent/session/v1/agent_service.rpc.h"
#include "sandboxagent/session/v1/config_service.rpc.h"
#include "sandboxagent/session/v1/credential_service.rpc.h"
#include "sandboxagent/session/v1/permission_service.rpc.h"
#include "services/session-svc/sessions.h"

/* SessionService, PermissionService, AgentService, ConfigService, CredentialService. */
void api_register(struct sessions *all);

/* api_sessions.c */
void api_create_session(void *api, struct rpc_call *call, const CreateSessionRequest *req);
void api_fork_session(void *api, struct rpc_call *call, const ForkSessionRequest *req);
void api_get_session(void *api, struct rpc_call *call, const GetSessionRequest *req);
void api_destroy_session(void *api, struct rpc_call *call, const DestroySessionRequest *req);
/* A process of the session was deleted: answers who waits for the end of all. */
void api_answer_destroyed(struct session *s);

/* api_turns.c */
void api_send_prompt(void *api, struct rpc_call *call, const SendPromptRequest *req);
void api_run_prompt(void *api, struct rpc_call *call, const RunPromptRequest *req);
void api_cancel_turn(void *api, struct rpc_call *call, const CancelTurnRequest *req);

/* api_list.c */
void api_list_sessions(void *api, struct rpc_call *call, const ListSessionsRequest *req);

/* api_queue.c */
void api_move_prompt(void *api, struct rpc_call *call, const MovePromptRequest *req);
void api_withdraw_prompt(void *api, struct rpc_call *call, const WithdrawPromptRequest *req);
void api_steer_turn(void *api, struct rpc_call *call, const SteerTurnRequest *req);
void api_get_turn(void *api, struct rpc_call *call, const GetTurnRequest *req);
void api_list_turns(void *api, struct rpc_call *call, const ListTurnsRequest *req);

/* api_manage.c */
void api_update_session(void *api, struct rpc_call *call, const UpdateSessionRequest *req);
void api_archive_session(void *api, struct rpc_call *call, const ArchiveSessionRequest *req);
void api_suspend_session(void *api, struct rpc_call *call, const SuspendSessionRequest *req);
void api_resume_session(void *api, struct rpc_call *call, const ResumeSessionRequest *req);
void api_set_budget(void *api, struct rpc_call *call, const SetBudgetRequest *req);
void api_unarchive_session(void *api, struct rpc_call *call, const UnarchiveSessionRequest *req);

/* api_config.c */
void api_configure_session(void *api, struct rpc_call *call, const ConfigureSessionRequest *req);

/* api_events.c */
void api_stream_events(void *api, struct rpc_call *call, const StreamEventsRequest *req);
void api_list_events(void *api, struct rpc_call *call, const ListEventsRequest *req);
void api_list_heads(void *api, struct rpc_call *call, const ListHeadsRequest *req);

/* api_permissions.c */
void api_list_permissions(void *api, struct rpc_call *call, const ListPermissionsRequest *req);
void api_answer_permission(void *api, struct rpc_call *call, const AnswerPermissionRequest *req);
void api_get_permission(void *api, struct rpc_call *call, const GetPermissionRequest *req);
void api_answer_elicitation(void *api, struct rpc_call *call, const AnswerElicitationRequest *req);
void api_set_deadline(void *api, struct rpc_call *call, const SetDeadlineRequest *req);

/* api_agents.c */
void api_list_agents(void *api, struct rpc_call *call, const ListAgentsRequest *req);
void api_get_agent(void *api, struct rpc_call *call, const GetAgentRequest *req);
void api_install_agent(void *api, struct rpc_call *call, const InstallAgentRequest *req);
void api_uninstall_agent(void *api, struct rpc_call *call, const UninstallAgentRequest *req);
void api_register_agent(void *api, struct rpc_call *call, const RegisterAgentRequest *req);
void api_unregister_agent(void *api, struct rpc_call *call, const UnregisterAgentRequest *req);

/* api_config.c */
void api_set_mcp_server(void *api, struct rpc_call *call, const SetMcpServerRequest *req);
void api_get_mcp_server(void *api, struct rpc_call *call, const GetMcpServerRequest *req);
void api_delete_mcp_server(void *api, struct rpc_call *call, const DeleteMcpServerRequest *req);
void api_list_mcp_servers(void *api, struct rpc_call *call, const ListMcpServersRequest *req);
void api_set_skill(void *api, struct rpc_call *call, const SetSkillRequest *req);
void api_get_skill(void *api, struct rpc_call *call, const GetSkillRequest *req);
void api_delete_skill(void *api, struct rpc_call *call, const DeleteSkillRequest *req);
void api_list_skills(void *api, struct rpc_call *call, const ListSkillsRequest *req);

/* api_credentials.c */
void api_set_credential(void *api, struct rpc_call *call, const SetCredentialRequest *req);
void api_list_credentials(void *api, struct rpc_call *call, const ListCredentialsRequest *req);
void api_delete_credential(void *api, struct rpc_call *call, const DeleteCredentialRequest *req);

/* ---- shared by handlers ---- */

/* Answers with an error that is already in hand, and is copied; or takes one. */
void api_fail_copy(struct rpc_call *call, const sa_error *err);
/* Size of a page: 0 is `otherwise`, at most 1000. INVALID_REQUEST when negative. */
int api_page_size(int32_t asked, uint32_t otherwise, uint32_t *ret, sa_error **err);
/* A deep copy of a message that holds nothing unchecked. */
void *api_copy(struct sa_arena *arena, const ProtobufCMessage *m);
Google__Protobuf__Timestamp *api_timestamp(struct sa_arena *arena, int64_t us);
/* At most 128 characters of a request_id. */
int api_check_request_id(const char *request_id, sa_error **err);

#endif
