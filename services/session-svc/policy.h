/* Which rule of a policy decides a permission request: pure functions over what is told of the tool call. */
#ifndef SERVICES_SESSION_SVC_POLICY_H_
#define SERVICES_SESSION_SVC_POLICY_H_

#include "adapters/os/error.h"
#include "adapters/os/mem.h"
#include "sandboxagent/session/v1/permission_service.rpc.h"

enum {
    POLICY_RULES_MAX = 100,
    POLICY_PATTERN_MAX = 256, /* bytes */
    POLICY_NAME_MAX = 128,
    POLICY_PATHS_MAX = 100,
    POLICY_PATH_BYTES_MAX = 64 << 10, /* of all paths together */
    POLICY_COMMAND_MAX = 64 << 10,
};

/* What is known of a tool call; NULL: not told. */
struct policy_facts {
    const char *kind, *name, *command;
    char *const *paths;
    size_t n_paths;
    bool paths_cut, command_cut; /* there is more than this, or what cannot be compared */
    const char *cwd;             /* absolute; of the session */
};

struct policy_decision {
    PolicyAction action;
    const PolicyRule *rule; /* NULL: none matched, so ASK */
    uint32_t index;
    bool of_server;
};

/* Either policy may be NULL. */
struct policy_decision policy_decide(const PermissionPolicy *of_session, const PermissionPolicy *of_server,
                                     const struct policy_facts *facts);
/* INVALID_REQUEST names the rule and the field. */
int policy_check(const PermissionPolicy *policy, sa_error **err);
int policy_check_deadline(uint64_t ms, DeadlineAction action, sa_error **err);
/* Sets the rules to those of a mode; false: it is none. */
bool policy_of_mode(PolicyMode mode, struct sa_arena *arena, PermissionPolicy *ret);

/* ---- parts, for tests ---- */

/* `*` and `?` do not stand for a character of `barrier`; with `deep`, `**` stands for any. */
bool policy_glob(const char *pattern, const char *text, const char *barrier, bool deep);
/* Absolute, without ".", ".." and double slashes; `..` above the root stays there. free() it. */
char *policy_path(const char *cwd, const char *path);

#endif
