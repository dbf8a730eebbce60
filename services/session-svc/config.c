#include "services/session-svc/config.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/os/fault.h"
#include "services/session-svc/acp_config.h"
#include "services/session-svc/acp_write.h"
#include "services/session-svc/api.h"
#include "services/session-svc/sessions.h"
#include "services/session-svc/talk.h"

/* A ConfigureSession that waits for the agent. */
struct config_call {
    struct rpc_call *call;
    struct sessions *all;
    struct sa_id id;
    size_t left; /* wishes that are open */
    bool kept;   /* one is for the next agent process */
    sa_error *err;
};

struct setting {
    struct setting *next;
    char *option, *value, *author;
    SettingState state;
    struct config_call *call;
};

/* ---- calls ---- */

static void reply(void *user, const sa_error *failed)
{
    struct config_call *c = user;
    ConfigureSessionResponse res = CONFIGURE_SESSION_RESPONSE__INIT;
    res.applied = !c->kept;
    if (failed)
        api_fail_copy(c->call, failed);
    else if (c->err ||
             config_describe(c->all, c->id, rpc_arena(c->call), &res.options, &res.n_options, &c->err))
        rpc_fail(c->call, steal_pointer(&c->err));
    else
        configure_session_reply(c->call, &res);
    sa_error_free(c->err);
    rpc_call_unref(c->call);
    free(c);
}

/* One wish of the call is settled. */
static void call_settled(struct session *s, struct setting *w, bool kept, sa_error *err)
{
    struct config_call *c = w->call;
    w->call = NULL;
    if (!c) {
        sa_error_free(err);
        return;
    }
    c->kept |= kept;
    if (c->err)
        sa_error_free(err);
    else
        c->err = err;
    if (--c->left == 0)
        session_after(s, reply, c);
}

/* ---- wishes ---- */

static void setting_free(struct setting *w)
{
    free(w->option);
    free(w->value);
    free(w->author);
    free(w);
}

void config_clear(struct session *s)
{
    for (struct setting *w = s->settings, *next; w; w = next) {
        next = w->next;
        struct config_call *c = w->call;
        if (c && --c->left == 0) {
            cleanup_error sa_error *err = NULL;
            sa_fail(&err, SA_UNAVAILABLE, "session %s is being loaded again", s->name);
            reply(c, err);
        }
        setting_free(w);
    }
    s->settings = NULL;
    store_message_free(s->config);
    s->config = NULL;
}

static struct setting *find_setting(const struct session *s, const char *option)
{
    struct setting *w = s->settings;
    while (w && strcmp(w->option, option))
        w = w->next;
    return w;
}

static void drop_setting(struct session *s, struct setting *w)
{
    struct setting **at = &s->settings;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    setting_free(w);
    session_changed(s);
}

static struct setting *want(struct session *s, const char *option, const char *value, const char *author)
{
    struct setting *w = find_setting(s, option), **at = &s->settings;
    if (!w) {
        while (*at)
            at = &(*at)->next;
        w = *at = sa_calloc(1, sizeof *w);
        w->option = sa_strdup(option);
    }
    session_set_text(&w->value, value);
    session_set_text(&w->author, author);
    w->state = SETTING_STATE_PENDING;
    session_changed(s);
    return w;
}

bool config_busy(const struct session *s)
{
    for (const struct setting *w = s->settings; w; w = w->next)
        if (w->state != SETTING_STATE_DONE)
            return true;
    return false;
}

int config_wishes(struct sa_arena *arena, const char *mode, const char *model, const char *thought_level,
                  const ConfigureSessionRequest__OptionsEntry *const *options, size_t n_options,
                  struct config_wish **ret, size_t *ret_n, sa_error **err)
{
    const struct config_wish named[] = {{"model", model}, {"mode", mode}, {"thought_level", thought_level}};
    if (n_options > CONFIG_SETTINGS_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "options: more than %d", CONFIG_SETTINGS_MAX);
    struct config_wish *list = sa_arena_alloc(arena, (n_options + 3) * sizeof *list);
    size_t n = 0;
    for (size_t i = 0; i < 3; i++)
        if (*named[i].value)
            list[n++] = named[i];
    for (size_t i = 0; i < n_options; i++)
        list[n++] = (struct config_wish){options[i]->key, options[i]->value};
    for (size_t i = 0; i < n; i++) {
        if (!*list[i].option || !*list[i].value || strlen(list[i].option) > CONFIG_TEXT_MAX ||
            strlen(list[i].value) > CONFIG_TEXT_MAX)
            return sa_fail(err, SA_INVALID_REQUEST, "option \"%.64s\": a name and a value have 1 to %d bytes",
                           list[i].option, CONFIG_TEXT_MAX);
        for (size_t j = 0; j < i; j++)
            if (!strcmp(list[j].option, list[i].option))
                return sa_fail(err, SA_INVALID_REQUEST, "option \"%s\" is given twice", list[i].option);
    }
    *ret = list;
    *ret_n = n;
    return 0;
}

void config_begin(struct session *s, const struct config_wish *wishes, size_t n, const char *author)
{
    for (size_t i = 0; i < n; i++)
        want(s, wishes[i].option, wishes[i].value, author);
}

void config_copy(struct session *s, const struct session *from)
{
    for (const struct setting *w = from->settings; w; w = w->next)
        want(s, w->option, w->value, w->author);
}

/* ---- what the agent offers ---- */

static StoredOption *find_option(const struct session *s, const char *name)
{
    if (!s->config)
        return NULL;
    for (size_t i = 0; i < s->config->n_options; i++)
        if (!strcmp(s->config->options[i]->option->option_id, name))
            return s->config->options[i];
    for (size_t i = 0; i < s->config->n_options; i++)
        if (!strcmp(s->config->options[i]->option->category, name))
            return s->config->options[i];
    return NULL;
}

static int check_choice(struct session *s, const ConfigOption *o, const char *value, sa_error **err)
{
    cleanup_buf struct sa_buf list = {0};
    for (size_t i = 0; i < o->n_choices; i++) {
        if (!strcmp(o->choices[i]->value, value))
            return 0;
        if (i < 20)
            sa_buf_addf(&list, "%s%s", i ? ", " : "", o->choices[i]->value);
    }
    if (o->choices_cut)
        return 0;
    return sa_fail(err, SA_INVALID_REQUEST, "agent %s has no %s \"%s\"; it has %s%s", talk_agent(s),
                   o->option_id, value, o->n_choices ? sa_buf_string(&list) : "none",
                   o->n_choices > 20 ? ", ..." : "");
}

static int check_wish(struct session *s, const char *option, const char *value, sa_error **err)
{
    const StoredOption *o = find_option(s, option);
    if (!o)
        return sa_fail(err, SA_UNKNOWN_OPTION, "agent %s has no option \"%s\", so it cannot be \"%s\"",
                       talk_agent(s), option, value);
    return check_choice(s, o->option, value, err);
}

/* What is shown of it in the session's row. */
static void note_values(struct session *s)
{
    const StoredOption *mode = find_option(s, "mode"), *model = find_option(s, "model"),
                       *level = find_option(s, "thought_level");
    session_set_text(&s->mode_id, mode ? mode->option->value : "");
    session_set_text(&s->model, model ? model->option->value : "");
    session_set_text(&s->thought_level, level ? level->option->value : "");
    session_changed(s);
}

static void store_config(struct session *s)
{
    struct store_key key = db_key(s->id);
    store_put(session_set(s), DB_T_CONFIGS, &key, &s->config->base);
    note_values(s);
}

/* Takes what an answer or update says. An update has config options only: older modes and models stay. */
static void take(struct session *s, struct sa_arena *arena, struct json v, bool all)
{
    size_t n;
    struct acp_option *options = acp_config(arena, v, &n);
    StoredConfig config = STORED_CONFIG__INIT;
    size_t old = s->config && !all ? s->config->n_options : 0;
    config.options = sa_arena_alloc(arena, (n + old + 1) * sizeof *config.options);
    for (size_t i = 0; i < n; i++) {
        StoredOption *o = sa_arena_alloc(arena, sizeof *o);
        *o = (StoredOption)STORED_OPTION__INIT;
        o->option = options[i].option;
        o->setter = (ConfigSetter)options[i].setter;
        o->boolean = options[i].boolean;
        config.options[config.n_options++] = o;
    }
    for (size_t i = 0; i < old && config.n_options < ACP_OPTIONS_MAX; i++)
        if (s->config->options[i]->setter != CONFIG_SETTER_OPTION)
            config.options[config.n_options++] = s->config->options[i];
    cleanup_buf struct sa_buf packed = {0};
    packed.len =
        stored_config__pack(&config, sa_buf_reserve(&packed, stored_config__get_packed_size(&config) + 1));
    StoredConfig *copy = rpc_unpack(&stored_config__descriptor, packed.data, packed.len, NULL);
    store_message_free(s->config);
    s->config = copy;
    if (!copy)
        note_values(s); /* cannot be: the text was checked */
    else
        store_config(s);
}

static void set_value(struct session *s, StoredOption *o, const char *value)
{
    free(o->option->value);
    o->option->value = sa_strdup(value);
    store_config(s);
}

/* ---- telling it ---- */

static ConfigValue *value_of(struct sa_arena *arena, const char *option, const char *category,
                             const char *value)
{
    ConfigValue *v = sa_arena_alloc(arena, sizeof *v);
    *v = (ConfigValue)CONFIG_VALUE__INIT;
    v->option_id = (char *)(uintptr_t)option;
    v->category = (char *)(uintptr_t)category;
    v->value = (char *)(uintptr_t)value;
    return v;
}

static void fill_changed(struct session *s, struct sa_arena *arena, ConfigChanged *c)
{
    size_t n = s->config ? s->config->n_options : 0;
    c->values = sa_arena_alloc(arena, (n + 1) * sizeof *c->values);
    for (c->n_values = 0; c->n_values < n; c->n_values++) {
        const ConfigOption *o = s->config->options[c->n_values]->option;
        c->values[c->n_values] = value_of(arena, o->option_id, o->category, o->value);
    }
}

static void digest_values(const struct session *s, uint8_t ret[32])
{
    struct sa_sha256 sum;
    sa_sha256_init(&sum);
    for (size_t i = 0; s->config && i < s->config->n_options; i++) {
        const ConfigOption *o = s->config->options[i]->option;
        sa_sha256_add(&sum, o->option_id, strlen(o->option_id) + 1);
        sa_sha256_add(&sum, o->value, strlen(o->value) + 1);
    }
    sa_sha256_end(&sum, ret);
}

static void tell_changed(struct session *s, struct sa_arena *arena, const char *option, const char *author,
                         const struct acp_message *m)
{
    ConfigChanged changed = CONFIG_CHANGED__INIT;
    fill_changed(s, arena, &changed);
    changed.option_id = (char *)(uintptr_t)option;
    changed.author = (char *)(uintptr_t)author;
    Event e = EVENT__INIT;
    e.kind_case = EVENT__KIND_CONFIG_CHANGED;
    e.config_changed = &changed;
    if (m)
        acp_keep_raw(arena, &e, "config", m->raw);
    session_event(s, &e);
    digest_values(s, s->config_told);
}

static void tell_refused(struct session *s, const sa_error *err)
{
    ErrorRaised raised = ERROR_RAISED__INIT;
    raised.reason = (char *)(uintptr_t)err->reason;
    raised.message = (char *)(uintptr_t)err->message;
    Event e = EVENT__INIT;
    e.kind_case = EVENT__KIND_ERROR;
    e.error = &raised;
    session_event(s, &e);
}

static void refused(struct session *s, struct setting *w, sa_error *err)
{
    tell_refused(s, err);
    call_settled(s, w, false, err);
    drop_setting(s, w);
}

void config_settled(struct session *s, struct sa_arena *arena)
{
    uint8_t now[32];
    digest_values(s, now);
    if (memcmp(now, s->config_told, sizeof now))
        tell_changed(s, arena, "", "", NULL);
}

/* ---- the agent ---- */

void config_opened(struct session *s, struct sa_arena *arena, struct json result)
{
    take(s, arena, result, true);
}

/* What the agent changed by itself is what its next process is to have. */
static void follow_agent(struct session *s)
{
    for (struct setting *w = s->settings; w; w = w->next) {
        const StoredOption *o = find_option(s, w->option);
        if (w->state == SETTING_STATE_DONE && o && strcmp(o->option->value, w->value))
            session_set_text(&w->value, o->option->value);
    }
}

bool config_reported(struct session *s, struct sa_arena *arena, const struct acp_message *m)
{
    if (m->event->kind_case == EVENT__KIND_CONFIG_CHANGED) {
        take(s, arena, json_get(m->params, "update"), false);
    } else {
        const char *value = m->event->mode_changed->mode_id;
        StoredOption *o = find_option(s, "mode");
        if (o && strlen(value) <= CONFIG_TEXT_MAX)
            set_value(s, o, value);
        else if (strlen(value) <= CONFIG_TEXT_MAX)
            session_set_text(&s->mode_id, value);
    }
    if (s->link.phase != AGENT_PHASE_READY)
        return false;
    follow_agent(s);
    if (m->event->kind_case == EVENT__KIND_CONFIG_CHANGED)
        fill_changed(s, arena, m->event->config_changed);
    digest_values(s, s->config_told);
    return true;
}

static void send(struct session *s, const StoredOption *o, const char *value)
{
    static const struct {
        const char *method, *key;
    } by[] = {[CONFIG_SETTER_OPTION] = {"session/set_config_option", "value"},
              [CONFIG_SETTER_MODE] = {"session/set_mode", "modeId"},
              [CONFIG_SETTER_MODEL] = {"session/set_model", "modelId"}};
    cleanup_buf struct sa_buf out = {0};
    unsigned how = (unsigned)o->setter < sizeof by / sizeof *by ? (unsigned)o->setter : 0;
    acp_set(&out, talk_request_id(s, by[how].method), by[how].method, s->agent_session_id,
            how ? NULL : o->option->option_id, by[how].key, value, o->boolean);
    link_send(s, &out);
}

bool config_next(struct session *s)
{
    for (struct setting *w = s->settings, *next; w; w = next) {
        next = w->next;
        if (w->state == SETTING_STATE_ASKED)
            return true;
        if (w->state == SETTING_STATE_DONE)
            continue;
        sa_error *err = NULL;
        const StoredOption *o = find_option(s, w->option);
        session_changed(s);
        if (check_wish(s, w->option, w->value, &err)) {
            refused(s, w, err);
        } else if (!strcmp(o->option->value, w->value)) {
            w->state = SETTING_STATE_DONE;
            call_settled(s, w, false, NULL);
        } else {
            w->state = SETTING_STATE_ASKED;
            send(s, o, w->value);
            SA_FAULT("config.ask");
            return true;
        }
    }
    return false;
}

static struct setting *find_asked(const struct session *s)
{
    struct setting *w = s->settings;
    while (w && w->state != SETTING_STATE_ASKED)
        w = w->next;
    return w;
}

void config_answered(struct session *s, struct sa_arena *arena, const struct acp_message *m)
{
    struct setting *w = find_asked(s);
    if (!w)
        return;
    StoredOption *o = find_option(s, w->option);
    SA_FAULT("config.answered");
    session_changed(s);
    if (m->error.n) {
        sa_error *err = NULL;
        sa_fail(&err, SA_AGENT_ERROR, "agent %s refused %s \"%s\": %s", talk_agent(s), w->option, w->value,
                acp_error_text(arena, m->error));
        refused(s, w, err);
        return;
    }
    if (json_type(json_get(m->result, "configOptions")) == JSON_ARRAY)
        take(s, arena, m->result, false);
    else if (o)
        set_value(s, o, w->value);
    w->state = SETTING_STATE_DONE;
    if (s->link.phase == AGENT_PHASE_READY) {
        tell_changed(s, arena, w->option, w->author, m);
        follow_agent(s);
    }
    call_settled(s, w, false, NULL);
}

void config_timed_out(struct session *s)
{
    struct setting *w = find_asked(s);
    sa_error *err = NULL;
    if (!w)
        return;
    sa_fail(&err, SA_AGENT_TIMEOUT, "agent %s did not answer when %s was to be \"%s\"", talk_agent(s),
            w->option, w->value);
    refused(s, w, err);
}

void config_agent_gone(struct session *s)
{
    for (struct setting *w = s->settings; w; w = w->next) {
        w->state = SETTING_STATE_PENDING;
        call_settled(s, w, true, NULL);
    }
}

/* ---- a caller ---- */

static int check_all(struct session *s, const struct config_wish *wishes, size_t n, sa_error **err)
{
    size_t total = 0;
    bool offered = s->config && s->config->n_options, by_model = false;
    for (struct setting *w = s->settings; w; w = w->next)
        total++;
    for (size_t i = 0; i < n; i++) {
        const struct setting *w = find_setting(s, wishes[i].option);
        if (w && (w->call || w->state == SETTING_STATE_ASKED))
            return sa_fail(err, SA_TOO_MANY, "session %s: the agent has not answered the last change of %s",
                           s->name, w->option);
        total += !w;
        /* Another model may bring other choices: those are checked when it is set. */
        const StoredOption *o = find_option(s, wishes[i].option);
        if (offered && !by_model && check_wish(s, wishes[i].option, wishes[i].value, err))
            return -1;
        by_model |= o && !strcmp(o->option->category, "model");
    }
    if (total > CONFIG_SETTINGS_MAX)
        return sa_fail(err, SA_TOO_MANY, "session %s: over %d options", s->name, CONFIG_SETTINGS_MAX);
    return 0;
}

static void tell_asked(struct session *s, const struct config_wish *wishes, size_t n, const char *author)
{
    struct sa_arena *arena = sa_arena_new();
    ConfigAsked asked = CONFIG_ASKED__INIT;
    asked.author = (char *)(uintptr_t)author;
    asked.values = sa_arena_alloc(arena, n * sizeof *asked.values);
    for (; asked.n_values < n; asked.n_values++) {
        const StoredOption *o = find_option(s, wishes[asked.n_values].option);
        asked.values[asked.n_values] = value_of(arena, wishes[asked.n_values].option,
                                                o ? o->option->category : "", wishes[asked.n_values].value);
    }
    Event e = EVENT__INIT;
    e.kind_case = EVENT__KIND_CONFIG_ASKED;
    e.config_asked = &asked;
    session_event(s, &e);
    sa_arena_free(arena);
}

/* Is it so already, or about to be? */
static bool is_so(const struct session *s, const struct config_wish *wish)
{
    const struct setting *w = find_setting(s, wish->option);
    const StoredOption *o = find_option(s, wish->option);
    return w && !strcmp(w->value, wish->value) && w->state == SETTING_STATE_DONE && o &&
           !strcmp(o->option->value, wish->value);
}

int config_ask(struct session *s, const struct config_wish *wishes, size_t n, struct rpc_call *call,
               sa_error **err)
{
    if (s->state == SESSION_STATE_DESTROYED)
        return sa_fail(err, SA_SESSION_DESTROYED, "session %s was destroyed", s->name);
    if (!n)
        return sa_fail(err, SA_INVALID_REQUEST, "nothing is asked for");
    if (check_all(s, wishes, n, err))
        return -1;
    size_t open = 0;
    for (size_t i = 0; i < n; i++)
        open += !is_so(s, &wishes[i]);
    struct config_call *c = sa_calloc(1, sizeof *c);
    *c = (struct config_call){.call = rpc_call_ref(call), .all = s->all, .id = s->id, .left = open + 1};
    if (open)
        tell_asked(s, wishes, n, rpc_principal(call));
    bool runs = s->link.phase != AGENT_PHASE_NONE && !s->link.doomed;
    struct setting mine = {.call = c}; /* so that the call ends once, whatever the agent does at once */
    for (size_t i = 0; i < n; i++)
        if (!is_so(s, &wishes[i])) {
            struct setting *w = want(s, wishes[i].option, wishes[i].value, rpc_principal(call));
            w->call = c;
            if (!runs)
                call_settled(s, w, true, NULL);
        }
    if (s->link.phase == AGENT_PHASE_READY)
        talk_configure(s);
    call_settled(s, &mine, false, NULL);
    return 0;
}

/* ---- stored ---- */

int config_load(struct session *s, const StoredSession *row, sa_error **err)
{
    struct store_key key = db_key(s->id);
    if (store_get(s->all->store, DB_T_CONFIGS, &key, &s->config, err) < 0)
        return -1;
    for (size_t i = 0; i < row->n_settings; i++) {
        const StoredSetting *r = row->settings[i];
        want(s, r->option_id, r->value, r->author)->state = r->state;
    }
    memset(s->config_told, 0, sizeof s->config_told);
    if (row->config_told.len == sizeof s->config_told)
        memcpy(s->config_told, row->config_told.data, sizeof s->config_told);
    session_set_text(&s->model, row->model);
    session_set_text(&s->thought_level, row->thought_level);
    return 0;
}

void config_fill_row(const struct session *s, StoredSession *row, struct sa_arena *arena)
{
    row->model = s->model;
    row->thought_level = s->thought_level;
    row->config_told = (ProtobufCBinaryData){sizeof s->config_told, (uint8_t *)(uintptr_t)s->config_told};
    size_t n = 0;
    for (const struct setting *w = s->settings; w; w = w->next)
        n++;
    row->settings = sa_arena_alloc(arena, (n + 1) * sizeof *row->settings);
    for (const struct setting *w = s->settings; w; w = w->next) {
        StoredSetting *r = sa_arena_alloc(arena, sizeof *r);
        *r = (StoredSetting)STORED_SETTING__INIT;
        r->option_id = w->option;
        r->value = w->value;
        r->author = w->author;
        r->state = w->state;
        row->settings[row->n_settings++] = r;
    }
}
