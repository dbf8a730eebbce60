/* What an agent lets its client configure, in one form: config options, and the older modes and models where
 * there is no config option for the same. Pure functions over bytes, fuzzed. */
#ifndef SERVICES_SESSION_SVC_ACP_CONFIG_H_
#define SERVICES_SESSION_SVC_ACP_CONFIG_H_

#include "adapters/json/json.h"
#include "sandboxagent/session/v1/session_service.rpc.h"

enum {
    ACP_OPTIONS_MAX = 64,
    ACP_CHOICES_MAX = 1000,   /* of all options together; an option that has more says so */
    ACP_CONFIG_TEXT_MAX = 256 /* bytes: what has longer ids or values is left out, other texts are cut */
};

enum acp_setter {
    ACP_SET_OPTION, /* session/set_config_option */
    ACP_SET_MODE,   /* session/set_mode */
    ACP_SET_MODEL,  /* session/set_model */
};

struct acp_option {
    ConfigOption *option;
    enum acp_setter setter;
    bool boolean; /* its value is true or false, not a string */
};

/* From the members configOptions, modes and models of an answer or update. Everything in the arena. */
struct acp_option *acp_config(struct sa_arena *arena, struct json v, size_t *ret_n);

#endif
