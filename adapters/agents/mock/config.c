/* What the mock lets its client configure: a mode, and with MOCK_CONFIG a model and an effort as config
 * options, with MOCK_MODELS a model in the older form. A new process begins with the defaults. */
#include <stdlib.h>
#include <string.h>

#include "adapters/agents/mock/mock.h"

static bool is_set(const char *name)
{
    const char *v = getenv(name);
    return v && *v && strcmp(v, "0");
}

static char mode[16] = "ask", model[16] = "small", effort[16] = "low";

static const struct {
    const char *id, *category;
    char *value;
    const char *choices[5];
} options[] = {
    {"mode", "mode", mode, {"ask", "auto"}},
    {"model", "model", model, {"small", "large", "broken", "silent"}},
    {"effort", "thought_level", effort, {"low", "high"}},
};

enum { OPTIONS = sizeof options / sizeof *options };

/* The small model has one effort. */
static bool offered(size_t option, size_t choice)
{
    return options[option].choices[choice] &&
           !(options[option].value == effort && choice == 1 && strcmp(model, "large") != 0);
}

static void put_options(struct sa_buf *out)
{
    sa_buf_addf(out, "\"configOptions\":[");
    for (size_t i = 0; i < OPTIONS; i++) {
        sa_buf_addf(out,
                    "%s{\"id\":\"%s\",\"name\":\"%s\",\"category\":\"%s\",\"type\":\"select\","
                    "\"currentValue\":\"%s\",\"options\":[",
                    i ? "," : "", options[i].id, options[i].id, options[i].category, options[i].value);
        for (size_t c = 0; c < 4; c++)
            if (offered(i, c))
                sa_buf_addf(out, "%s{\"value\":\"%s\",\"name\":\"%s\"}", c ? "," : "", options[i].choices[c],
                            options[i].choices[c]);
        sa_buf_addf(out, "]}");
    }
    sa_buf_addf(out, "]");
}

void mock_put_config(struct sa_buf *out)
{
    sa_buf_addf(out,
                "\"modes\":{\"currentModeId\":\"%s\",\"availableModes\":["
                "{\"id\":\"ask\",\"name\":\"Ask\"},{\"id\":\"auto\",\"name\":\"Auto\"}]}",
                mode);
    if (is_set("MOCK_MODELS"))
        sa_buf_addf(out,
                    ",\"models\":{\"currentModelId\":\"%s\",\"availableModels\":["
                    "{\"modelId\":\"small\",\"name\":\"S\"},{\"modelId\":\"large\",\"name\":\"L\"}]}",
                    model);
    if (is_set("MOCK_CONFIG")) {
        sa_buf_addf(out, ",");
        put_options(out);
    }
}

static bool choose(size_t option, struct json value)
{
    for (size_t c = 0; c < 4; c++)
        if (offered(option, c) && json_is(value, options[option].choices[c])) {
            strcpy(options[option].value, options[option].choices[c]);
            if (strcmp(model, "large") != 0)
                strcpy(effort, "low");
            return true;
        }
    return false;
}

static void tell_mode(struct mock *m)
{
    cleanup_buf struct sa_buf update = {0};
    sa_buf_addf(&update, "{\"sessionUpdate\":\"current_mode_update\",\"currentModeId\":\"%s\"}", mode);
    mock_update(m, &update);
}

void mock_set_mode(struct mock *m, struct json id, struct json params)
{
    cleanup_buf struct sa_buf out = {0};
    if (!choose(0, json_get(params, "modeId"))) {
        mock_error(id, -32602, "There is no such mode");
        return;
    }
    tell_mode(m);
    sa_buf_addf(&out, "{}");
    mock_answer(id, "result", &out);
}

void mock_set_model(struct mock *m, struct json id, struct json params)
{
    (void)m;
    cleanup_buf struct sa_buf out = {0};
    if (!is_set("MOCK_MODELS") || !choose(1, json_get(params, "modelId"))) {
        mock_error(id, -32602, "There is no such model");
        return;
    }
    sa_buf_addf(&out, "{}");
    mock_answer(id, "result", &out);
}

void mock_set_option(struct mock *m, struct json id, struct json params)
{
    (void)m;
    cleanup_buf struct sa_buf out = {0};
    for (size_t i = 0; i < OPTIONS && is_set("MOCK_CONFIG"); i++)
        if (json_is(json_get(params, "configId"), options[i].id)) {
            struct json value = json_get(params, "value");
            if (json_is(value, "silent"))
                return;
            if (json_is(value, "broken") || !choose(i, value))
                break;
            sa_buf_addf(&out, "{");
            put_options(&out);
            sa_buf_addf(&out, "}");
            mock_answer(id, "result", &out);
            return;
        }
    mock_error(id, -32602, "There is no such value");
}

void mock_change_model(struct mock *m, const char *value)
{
    cleanup_buf struct sa_buf update = {0};
    strncpy(model, value, sizeof model - 1);
    sa_buf_addf(&update, "{\"sessionUpdate\":\"config_option_update\",");
    put_options(&update);
    sa_buf_addf(&update, "}");
    mock_update(m, &update);
}

char *mock_config_text(void)
{
    return sa_format("mode %s, model %s, effort %s\n", mode, model, effort);
}
