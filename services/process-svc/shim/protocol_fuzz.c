/* Whatever comes on a socket or lies in a file: it is refused, or all of its parts lie inside of it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "services/process-svc/shim/protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_strings(const char *p, const char *end, uint32_t count)
{
    for (; count; count--) {
        size_t n = strnlen(p, (size_t)(end - p));
        if (p + n >= end)
            abort();
        p += n + 1;
    }
}

static void check_spec(const uint8_t *data, size_t size)
{
    struct shim_spec_parts parts;
    uint8_t *copy = malloc(size + 1); /* exactly as large, so that a sanitizer sees a step outside */
    memcpy(copy, data, size);
    if (shim_check_spec(copy, size, &parts)) {
        const struct shim_spec *s = (const void *)copy;
        const char *end = (const char *)copy + size;
        if ((s->flags & SHIM_FLAG_RUN) && (s->journal_bytes > RUNNER_OUTPUT_MAX || s->id[0]))
            abort();
        check_strings(parts.cwd, end, 1);
        check_strings(parts.argv, end, s->argc);
        check_strings(parts.env, end, s->envc);
        check_strings(parts.cgroups, end, s->n_cgroups);
        check_strings(parts.settings, end, 2 * s->n_settings);
        if (parts.pattern + s->pattern_bytes != end)
            abort();
        if ((const char *)(parts.groups + s->n_groups) != parts.cwd)
            abort();
    }
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct shim_spawn spawn;
    struct shim_request request;
    struct shim_status status;
    struct shim_exit e;
    struct shim_state st;
    check_spec(data, size);
    if (shim_check_spawn(data, size, &spawn) && size != sizeof spawn)
        abort();
    if (shim_check_request(data, size, &request) && size - sizeof request > SHIM_INPUT_CHUNK_MAX)
        abort();
    if (shim_check_request(data, size, &request) && request.type == SHIM_RUN &&
        (request.offset > RUNNER_PART || request.value < sizeof(struct shim_spec)))
        abort();
    if (shim_check_status(data, size, &status) && status.first[0] > status.end[0])
        abort();
    if (shim_check_exit(data, size, &e) && e.kind != SHIM_EXIT_CODE && e.kind != SHIM_EXIT_SIGNAL)
        abort();
    if (shim_check_state(data, size, &st) && strnlen(st.boot_id, sizeof st.boot_id) == sizeof st.boot_id)
        abort();
    return 0;
}
