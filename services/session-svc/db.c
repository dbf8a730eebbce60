#include "services/session-svc/db.h"

#include <string.h>

#include "services/session-svc/presence_api.h"

const struct store_table db_tables[DB_TABLES_] = {
    [DB_SPECS] = {"specs", 1, &stored_spec__descriptor},
    [DB_SESSIONS] = {"sessions", 1, &stored_session__descriptor},
    [DB_EVENTS] = {"events", 1, NULL},
    [DB_TURNS] = {"turns", 1, &stored_turn__descriptor},
    [DB_LAUNCHES] = {"launches", 1, &stored_launch__descriptor},
    [DB_OUTBOX] = {"outbox", 1, NULL},
    [DB_PENDING] = {"pending", 1, &stored_pending__descriptor},
    [DB_PERMISSIONS] = {"permissions", 1, &stored_permission__descriptor},
    [DB_RESOLUTIONS] = {"resolutions", 1, &stored_resolution__descriptor},
    [DB_PRESENCE] = {PRESENCE_FLOOR_TABLE, 1, NULL},
    [DB_KEYS] = {"keys", 1, &stored_key__descriptor},
    [DB_T_PROFILES] = {"t_profiles", 1, &stored_profile__descriptor},
    [DB_T_CONFIGS] = {"t_configs", 1, &stored_config__descriptor},
    [DB_LOG_IMPORTS] = {"log_imports", 1, &stored_import__descriptor},
    [DB_LOG_BLOBS] = {"log_blobs", 1, &stored_blob__descriptor},
    [DB_LOG_BLOB_USES] = {"log_blob_uses", 1, &stored_blob_use__descriptor},
    [DB_LOG_BLOB_EVENTS] = {"log_blob_events", 1, NULL},
    [DB_P_TERMINALS] = {"p_terminals", 1, &stored_terminal__descriptor},
    [DB_P_RESOLVED] = {"p_resolved", 1, NULL},
    [DB_P_POLICIES] = {"p_policies", 1, &stored_policy__descriptor},
    [DB_A_CUSTOM] = {"a_custom", 1, &custom_agent__descriptor},
    [DB_A_REPORTS] = {"a_reports", 1, &agent_capabilities__descriptor},
    [DB_A_INSTALLS] = {"a_installs", 1, &stored_install__descriptor},
    [DB_A_MCP] = {"a_mcp", 1, &mcp_server__descriptor},
    [DB_A_SKILLS] = {"a_skills", 1, &skill__descriptor},
    [DB_A_FETCHED] = {"a_fetched", 1, &skill__descriptor},
    [DB_A_LINKS] = {"a_links", 1, &stored_links__descriptor},
    [DB_A_HIDDEN] = {"a_hidden", 1, &stored_hidden__descriptor},
};

struct store_key db_key(struct sa_id id)
{
    return store_key_of(id.bytes, sizeof id.bytes);
}

struct store_key db_numbered_key(struct sa_id id, uint64_t number)
{
    struct store_key k = db_key(id);
    store_key_add_u64(&k, number);
    return k;
}

struct store_key db_create_key(const char *principal, const char *request_id)
{
    struct store_key k = store_key_of("c", 1);
    store_key_add_string(&k, principal);
    store_key_add_string(&k, request_id);
    return k;
}

struct store_key db_prompt_key(struct sa_id session, const char *request_id)
{
    struct store_key k = store_key_of("p", 1);
    store_key_add(&k, session.bytes, sizeof session.bytes);
    store_key_add_string(&k, request_id);
    return k;
}

uint64_t db_key_number(const struct store_row *row)
{
    return row->key_len >= 8 ? store_u64(row->key + row->key_len - 8) : 0;
}

struct sa_id db_key_id(const struct store_row *row)
{
    struct sa_id id = {0};
    if (row->key_len >= sizeof id.bytes)
        memcpy(id.bytes, row->key, sizeof id.bytes);
    return id;
}
