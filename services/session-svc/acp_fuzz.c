/* Any bytes as the output of an agent, in any cuts: every line gives an event that is within its limit and
 * that readers can read, and no byte is lost or handed out twice. */
#include <stdlib.h>
#include <string.h>

#include "services/session-svc/acp_config.h"
#include "services/session-svc/acp_read.h"
#include "services/session-svc/acp_report.h"
#include "services/session-svc/lines.h"

#define MUST(x)                                                                                              \
    do {                                                                                                     \
        if (!(x))                                                                                            \
            abort();                                                                                         \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_config(struct sa_arena *arena, struct json v)
{
    size_t n, choices = 0;
    struct acp_option *options = acp_config(arena, v, &n);
    MUST(n <= ACP_OPTIONS_MAX);
    for (size_t i = 0; i < n; i++) {
        MUST(*options[i].option->option_id && *options[i].option->value);
        choices += options[i].option->n_choices;
    }
    MUST(choices <= ACP_CHOICES_MAX);
}

/* What an agent tells of itself is within its limits, and can be read. */
static void check_report(struct sa_arena *arena, struct json result)
{
    AgentCapabilities report = AGENT_CAPABILITIES__INIT;
    acp_report_initialize(arena, result, &report);
    acp_report_session(arena, result, &report);
    MUST(report.n_modes <= ACP_REPORT_LIST_MAX && report.n_models <= ACP_REPORT_LIST_MAX);
    size_t size = agent_capabilities__get_packed_size(&report);
    uint8_t *packed = sa_malloc(size + 1);
    agent_capabilities__pack(&report, packed);
    MUST(!rpc_validate(&agent_capabilities__descriptor, packed, size, NULL));
    free(packed);
}

static void check_line(const void *p, size_t n)
{
    struct sa_arena *arena = sa_arena_new();
    struct acp_message m;
    acp_read(arena, p, n, &m);
    MUST((m.kind == ACP_RESPONSE) == !m.event);
    if (m.event) {
        size_t packed_size = event__get_packed_size(m.event);
        MUST(packed_size <= ACP_EVENT_MAX + 4096);
        uint8_t *packed = sa_malloc(packed_size + 1);
        event__pack(m.event, packed);
        MUST(!rpc_validate(&event__descriptor, packed, packed_size, NULL));
        free(packed);
    } else {
        acp_error_text(arena, m.error);
        acp_stop_reason(json_get(m.result, "stopReason"));
        check_config(arena, m.result);
        check_report(arena, m.result);
    }
    if (m.params.n) {
        size_t options;
        check_config(arena, json_get(m.params, "update"));
        acp_tool_call(arena, json_get(m.params, "toolCall"));
        acp_permission_options(arena, json_get(m.params, "options"), &options);
    }
    sa_arena_free(arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t cut = size ? data[0] % 97 + 1 : 1, seen = 0;
    struct lines l;
    struct line line;
    lines_init(&l, 16384, 0);
    for (size_t at = 0; at < size; at += cut) {
        lines_feed(&l, data + at, size - at < cut ? size - at : cut);
        for (enum lines_what w; (w = lines_next(&l, &line)) != LINES_NONE;) {
            if (w != LINES_SKIPPED)
                seen += line.size + 1;
            if (w == LINES_LINE)
                check_line(line.p, line.n);
        }
    }
    MUST(lines_end(&l) == size);
    if (lines_last(&l, &line) != LINES_NONE)
        seen += line.size;
    MUST(seen == size);
    lines_fini(&l);
    return 0;
}
