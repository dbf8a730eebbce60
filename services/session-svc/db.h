/* The tables of session-svc and their keys. Ids are 16 bytes, numbers 8 bytes big-endian. */
#ifndef SERVICES_SESSION_SVC_DB_H_
#define SERVICES_SESSION_SVC_DB_H_

#include "adapters/lmdb/store.h"
#include "adapters/os/clock.h"
#include "services/session-svc/session_store.rpc.h"

enum db_table {
    DB_SPECS,           /* session: StoredSpec */
    DB_SESSIONS,        /* session: StoredSession */
    DB_EVENTS,          /* session, seq: a packed Event */
    DB_TURNS,           /* session, turn: StoredTurn */
    DB_LAUNCHES,        /* session: StoredLaunch, while a process is being started */
    DB_OUTBOX,          /* session, offset in the agent's standard input: the bytes of one message */
    DB_PENDING,         /* session, offset in the agent's standard output: StoredPending */
    DB_PERMISSIONS,     /* permission: StoredPermission, while it waits */
    DB_RESOLUTIONS,     /* permission: StoredResolution */
    DB_PRESENCE,        /* presence_api.h */
    DB_KEYS,            /* see db_create_key, db_prompt_key: StoredKey */
    DB_T_CONFIGS,       /* session: StoredConfig */
    DB_T_PROFILES,      /* session: StoredProfile */
    DB_LOG_IMPORTS,     /* session: StoredImport, while its events are no session yet */
    DB_LOG_BLOBS,       /* digest: StoredBlob */
    DB_LOG_BLOB_USES,   /* digest, session, seq: StoredBlobUse */
    DB_LOG_BLOB_EVENTS, /* session, seq, digest: nothing; the same the other way round */
    DB_P_TERMINALS,     /* session, incarnation, offset of terminal/create: StoredTerminal */
    DB_P_RESOLVED,      /* session, permission: nothing; an index of DB_RESOLUTIONS */
    DB_P_POLICIES,      /* session, or the empty id for the server: StoredPolicy */
    DB_A_CUSTOM,        /* agent: CustomAgent, as it was registered */
    DB_A_REPORTS,       /* agent: AgentCapabilities, as it told them */
    DB_A_INSTALLS,      /* agent: StoredInstall */
    DB_A_MCP,           /* directory, name: McpServer */
    DB_A_SKILLS,        /* directory, name: Skill */
    DB_A_FETCHED,       /* as DB_A_SKILLS: Skill, with what was fetched of it and nothing else */
    DB_A_LINKS,         /* directory: StoredLinks */
    DB_A_HIDDEN, /* session, offset in the agent's standard input: StoredHidden of the row in DB_OUTBOX */
    DB_TABLES_
};
extern const struct store_table db_tables[DB_TABLES_];

struct store_key db_key(struct sa_id id);
struct store_key db_numbered_key(struct sa_id id, uint64_t number);
/* Of a request_id for CreateSession of this caller, and for a prompt in this session. */
struct store_key db_create_key(const char *principal, const char *request_id);
struct store_key db_prompt_key(struct sa_id session, const char *request_id);
/* The number at the end of a numbered key. */
uint64_t db_key_number(const struct store_row *row);
struct sa_id db_key_id(const struct store_row *row);

#endif
