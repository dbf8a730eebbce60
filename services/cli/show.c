#include "services/cli/show.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/json/message.h"
#include "adapters/os/mem.h"

/* ---- building blocks ---- */

void show_text(FILE *out, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        /* U+0080 to U+009F are control characters, too: C2 80 to C2 9F. */
        bool c1 = c == 0xc2 && i + 1 < n && (unsigned char)text[i + 1] < 0xa0;
        if (c1)
            i++;
        fputc(c1 || c == 0x7f || (c < ' ' && c != '\n' && c != '\t') ? '?' : c, out);
    }
}

static void show_string(FILE *out, const char *text)
{
    show_text(out, text, strlen(text));
}

const char *show_enum(const ProtobufCEnumDescriptor *d, int value, const char *prefix)
{
    static char text[64];
    const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(d, value);
    if (!v) {
        snprintf(text, sizeof text, "%d", value);
        return text;
    }
    size_t skip = !strncmp(v->name, prefix, strlen(prefix)) ? strlen(prefix) : 0;
    snprintf(text, sizeof text, "%s", v->name + skip);
    for (char *c = text; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return text;
}

/* As everywhere; but what processes are given and print is text, too. */
static enum json_bytes bytes_form(const ProtobufCMessageDescriptor *d, const ProtobufCFieldDescriptor *f)
{
    enum json_bytes form = json_bytes_by_name(d, f);
    return form == JSON_BYTES_BASE64 && strcmp(f->name, "data") ? JSON_BYTES_TEXT : form;
}

void show_json(FILE *out, const ProtobufCMessage *m)
{
    static const struct json_mapping mapping = {.bytes = bytes_form};
    cleanup_buf struct sa_buf text = {0};
    struct json_writer w = json_writer(&text);
    json_put_message(&w, m, &mapping);
    fwrite(text.data, 1, text.len, out);
    fputc('\n', out);
    fflush(out);
}

void show_break(struct show *s)
{
    if (s->open != SHOW_NOTHING && s->colour)
        fputs("\033[0m", s->out);
    if (s->open != SHOW_NOTHING && !s->at_start)
        fputc('\n', s->out);
    s->open = SHOW_NOTHING;
}

static void show_content(struct show *s, const ContentBlock *c)
{
    if (!c)
        return;
    if (c->kind_case == CONTENT_BLOCK__KIND_TEXT)
        show_string(s->out, c->text);
    else if (c->kind_case == CONTENT_BLOCK__KIND_IMAGE || c->kind_case == CONTENT_BLOCK__KIND_AUDIO)
        fprintf(s->out, "[%s, %zu bytes]", c->kind_case == CONTENT_BLOCK__KIND_IMAGE ? "picture" : "sound",
                (c->kind_case == CONTENT_BLOCK__KIND_IMAGE ? c->image : c->audio)->data.len);
    else if (c->kind_case == CONTENT_BLOCK__KIND_RESOURCE_LINK)
        show_string(s->out, c->resource_link->uri);
    else
        fputs("[content]", s->out);
}

/* Pieces of one text follow each other without a break. */
static void show_chunk(struct show *s, enum show_open kind, const ContentChunk *chunk)
{
    static const char *const mark[] = {[SHOW_MESSAGE] = "", [SHOW_THOUGHT] = "(thinks) ", [SHOW_USER] = "> "};
    if (s->open != kind) {
        show_break(s);
        if (s->colour && kind == SHOW_THOUGHT)
            fputs("\033[2m", s->out);
        fputs(mark[kind], s->out);
    }
    show_content(s, chunk->content);
    const ContentBlock *c = chunk->content;
    size_t n = c && c->kind_case == CONTENT_BLOCK__KIND_TEXT ? strlen(c->text) : 0;
    s->at_start = n ? c->text[n - 1] == '\n' : s->at_start && s->open == kind;
    s->open = kind;
}

/* ---- one function per kind that has more than a line ---- */

/* What a tool call is called; remembers it. */
static const char *tool_title(struct show *s, const ToolCall *t)
{
    struct show_tool *known = NULL;
    for (size_t i = 0; i < SHOW_TOOLS && !known; i++)
        if (s->tools[i].id && !strcmp(s->tools[i].id, t->tool_call_id))
            known = &s->tools[i];
    if (!*t->title)
        return known ? known->title : t->tool_call_id;
    if (!known)
        known = &s->tools[s->n_tools++ % SHOW_TOOLS];
    free(known->id);
    free(known->title);
    *known = (struct show_tool){sa_strdup(t->tool_call_id), sa_strdup(t->title)};
    return known->title;
}

static void show_tool_call(struct show *s, const ToolCall *t, bool update)
{
    fprintf(s->out, "%s ", update ? " ..." : "tool");
    show_string(s->out, tool_title(s, t));
    if (t->status != TOOL_CALL_STATUS_UNSPECIFIED)
        fprintf(s->out, ": %s",
                show_enum(&tool_call_status__descriptor, (int)t->status, "TOOL_CALL_STATUS_"));
    for (size_t i = 0; i < t->n_locations; i++) {
        fputs(i ? ", " : " ", s->out);
        show_text(s->out, (const char *)t->locations[i]->path.data, t->locations[i]->path.len);
    }
}

static void show_permission(struct show *s, const PermissionRequested *p)
{
    fputs("MAY IT? ", s->out);
    show_string(s->out, p->tool_call ? p->tool_call->title : "");
    fprintf(s->out, " (permission %s)", p->permission_id);
    for (size_t i = 0; i < p->n_options; i++) {
        fprintf(s->out, "\n    %zu  ", i + 1);
        show_string(s->out, p->options[i]->name);
        fputs("  [", s->out);
        show_string(s->out, p->options[i]->option_id);
        fputc(']', s->out);
    }
}

static void show_resolved(struct show *s, const PermissionResolved *p)
{
    fprintf(s->out, "permission %s: %s ", p->permission_id,
            show_enum(&permission_outcome__descriptor, (int)p->outcome, "PERMISSION_OUTCOME_"));
    show_string(s->out, p->option_id);
    if (*p->author) {
        fputs(" by ", s->out);
        show_string(s->out, p->author);
    }
    if (p->decider == PERMISSION_DECIDER_POLICY && p->rule && p->rule->rule) {
        fputs(" by rule ", s->out);
        show_string(s->out, p->rule->rule->name);
    }
    if (p->decider == PERMISSION_DECIDER_DEADLINE)
        fputs(" as its deadline passed", s->out);
}

static void show_question(struct show *s, const ElicitationRequested *q)
{
    const Elicitation *e = q->elicitation;
    fputs("QUESTION ", s->out);
    show_string(s->out, e ? e->message : "");
    fprintf(s->out, " (permission %s)\n    ", q->permission_id);
    if (e)
        show_text(s->out, (const char *)e->schema_json.data, e->schema_json.len);
}

static void show_question_resolved(struct show *s, const ElicitationResolved *q)
{
    fprintf(s->out, "question %s: %s ", q->permission_id,
            show_enum(&elicitation_action__descriptor, (int)q->action, "ELICITATION_ACTION_"));
    show_text(s->out, (const char *)q->content_json.data, q->content_json.len);
    if (*q->author) {
        fputs(" by ", s->out);
        show_string(s->out, q->author);
    }
}

static void show_terminal_started(struct show *s, const TerminalStarted *t)
{
    fprintf(s->out, "terminal %s:", t->terminal_id);
    for (size_t i = 0; i < t->n_argv; i++) {
        fputc(' ', s->out);
        show_text(s->out, (const char *)t->argv[i].data, t->argv[i].len);
    }
    if (*t->error_reason) {
        fputs(": ", s->out);
        show_string(s->out, t->message);
    }
}

static void show_terminal_ended(struct show *s, const TerminalEnded *t)
{
    fprintf(s->out, "terminal %s ", t->terminal_id);
    if (t->kind_case == TERMINAL_ENDED__KIND_EXIT_CODE)
        fprintf(s->out, "exited with code %" PRIu32, t->exit_code);
    else if (t->kind_case == TERMINAL_ENDED__KIND_SIGNAL)
        fprintf(s->out, "was ended by signal %" PRIu32, t->signal);
    else if (t->kind_case == TERMINAL_ENDED__KIND_KILLED)
        fprintf(s->out, "was killed: %s", t->killed);
    else
        fputs("is lost", s->out);
}

static void show_plan(struct show *s, const Plan *p)
{
    fputs("plan", s->out);
    for (size_t i = 0; i < p->n_entries; i++) {
        fprintf(s->out, "\n    [%c] ",
                !strcmp(p->entries[i]->status, "completed")     ? 'x'
                : !strcmp(p->entries[i]->status, "in_progress") ? '>'
                                                                : ' ');
        show_string(s->out, p->entries[i]->content);
    }
}

static void show_turn_ended(struct show *s, const TurnEnded *t)
{
    fprintf(s->out, "turn ended: %s",
            show_enum(&stop_reason__descriptor, (int)t->stop_reason, "STOP_REASON_"));
    if (*t->message) {
        fputs(": ", s->out);
        show_string(s->out, t->message);
    }
    fprintf(s->out, " (%" PRIu64 ".%" PRIu64 " s)", t->duration_ms / 1000, t->duration_ms % 1000 / 100);
}

static void show_state(struct show *s, const SessionStateChanged *c)
{
    fprintf(s->out, "session %s", show_enum(&session_state__descriptor, (int)c->state, "SESSION_STATE_"));
    if (*c->reason) {
        fputs(": ", s->out);
        show_string(s->out, c->reason);
    }
    if (*c->message) {
        fputs(": ", s->out);
        show_string(s->out, c->message);
    }
}

static void show_prompt(struct show *s, const PromptAccepted *p)
{
    fputs("> ", s->out);
    for (size_t i = 0; i < p->n_content; i++)
        show_content(s, p->content[i]);
    if (*p->author) {
        fputs("   (", s->out);
        show_string(s->out, p->author);
        fputc(')', s->out);
    }
}

static void show_usage(struct show *s, const Usage *u)
{
    fputs("usage", s->out);
    if (u->_used_tokens_case)
        fprintf(s->out, " %" PRIu64 " tokens", u->used_tokens);
    if (u->_window_tokens_case)
        fprintf(s->out, " of %" PRIu64, u->window_tokens);
    if (u->_cost_case) {
        fprintf(s->out, ", cost %.4f ", u->cost);
        show_string(s->out, u->currency);
    }
}

static void show_config(struct show *s, const char *what, ConfigValue *const *values, size_t n,
                        const char *author)
{
    fputs(what, s->out);
    for (size_t i = 0; i < n; i++) {
        fputs(i ? ", " : " ", s->out);
        show_string(s->out, values[i]->option_id);
        fputs("=", s->out);
        show_string(s->out, values[i]->value);
    }
    if (*author) {
        fputs(" by ", s->out);
        show_string(s->out, author);
    }
}

static void show_updated(struct show *s, const SessionUpdated *u)
{
    fputs(u->archived ? "session archived" : "session updated", s->out);
    if (*u->title) {
        fputs(": ", s->out);
        show_string(s->out, u->title);
    }
    fputs(" by ", s->out);
    show_string(s->out, u->author);
}

static void show_forked(struct show *s, const SessionForked *f)
{
    fprintf(s->out, "forked from %s after event %" PRIu64 " by ", f->parent_session_id, f->parent_seq);
    show_string(s->out, f->author);
}

static void show_line(struct show *s, const Event *e)
{
    switch (e->kind_case) {
    case EVENT__KIND_STATE_CHANGED:
        show_state(s, e->state_changed);
        break;
    case EVENT__KIND_PROMPT_ACCEPTED:
        show_prompt(s, e->prompt_accepted);
        break;
    case EVENT__KIND_TURN_STARTED:
        fprintf(s->out, "turn %" PRIu64, e->turn);
        break;
    case EVENT__KIND_TURN_ENDED:
        show_turn_ended(s, e->turn_ended);
        break;
    case EVENT__KIND_TOOL_CALL:
        show_tool_call(s, e->tool_call, false);
        break;
    case EVENT__KIND_TOOL_CALL_UPDATE:
        show_tool_call(s, e->tool_call_update, true);
        break;
    case EVENT__KIND_PLAN:
        show_plan(s, e->plan);
        break;
    case EVENT__KIND_USAGE:
        show_usage(s, e->usage);
        break;
    case EVENT__KIND_MODE_CHANGED:
        fputs("mode ", s->out);
        show_string(s->out, e->mode_changed->mode_id);
        break;
    case EVENT__KIND_CONFIG_CHANGED:
        show_config(s, "configuration", e->config_changed->values, e->config_changed->n_values,
                    e->config_changed->author);
        break;
    case EVENT__KIND_CONFIG_ASKED:
        show_config(s, "configuration asked:", e->config_asked->values, e->config_asked->n_values,
                    e->config_asked->author);
        break;
    case EVENT__KIND_PROMPT_MOVED:
        fprintf(s->out, "turn %" PRIu64 " moved to position %" PRIu32 " by ", e->turn,
                e->prompt_moved->position);
        show_string(s->out, e->prompt_moved->author);
        break;
    case EVENT__KIND_TURN_STEERED:
        fprintf(s->out, "turn %" PRIu64 " is cancelled for turn %" PRIu64 " by ", e->turn,
                e->turn_steered->next_turn);
        show_string(s->out, e->turn_steered->author);
        break;
    case EVENT__KIND_SESSION_UPDATED:
        show_updated(s, e->session_updated);
        break;
    case EVENT__KIND_SESSION_FORKED:
        show_forked(s, e->session_forked);
        break;
    case EVENT__KIND_BUDGET_SET:
        fputs(e->budget_set->budget ? "budget set by " : "budget removed by ", s->out);
        show_string(s->out, e->budget_set->author);
        break;
    case EVENT__KIND_BUDGET_EXCEEDED:
        fputs("BUDGET ", s->out);
        show_string(s->out, e->budget_exceeded->message);
        break;
    case EVENT__KIND_PERMISSION_REQUESTED:
        show_permission(s, e->permission_requested);
        break;
    case EVENT__KIND_PERMISSION_RESOLVED:
        show_resolved(s, e->permission_resolved);
        break;
    case EVENT__KIND_AGENT_LOG:
        fputs("log ", s->out);
        show_string(s->out, e->agent_log->text);
        break;
    case EVENT__KIND_ERROR:
        fputs("ERROR ", s->out);
        show_string(s->out, e->error->message);
        break;
    case EVENT__KIND_QUIET:
        fprintf(s->out, "(nothing heard for %" PRIu64 " s)", e->quiet->silent_ms / 1000);
        break;
    case EVENT__KIND_RESTORED:
        fprintf(s->out, "taken up by a new agent process: %s",
                show_enum(&restore_method__descriptor, (int)e->restored->method, "RESTORE_METHOD_"));
        break;
    case EVENT__KIND_FILE_ACCESS:
        fprintf(s->out, "file %s ", e->file_access->written ? "written" : "read");
        show_text(s->out, (const char *)e->file_access->path.data, e->file_access->path.len);
        if (*e->file_access->error_reason)
            fprintf(s->out, ": %s", e->file_access->error_reason);
        break;
    case EVENT__KIND_TERMINAL_STARTED:
        show_terminal_started(s, e->terminal_started);
        break;
    case EVENT__KIND_TERMINAL_ENDED:
        show_terminal_ended(s, e->terminal_ended);
        break;
    case EVENT__KIND_ELICITATION_REQUESTED:
        show_question(s, e->elicitation_requested);
        break;
    case EVENT__KIND_ELICITATION_RESOLVED:
        show_question_resolved(s, e->elicitation_resolved);
        break;
    case EVENT__KIND_POLICY_CHANGED:
        fprintf(s->out, "policy of %zu rules, set by ",
                e->policy_changed->policy ? e->policy_changed->policy->n_rules : 0);
        show_string(s->out, e->policy_changed->policy ? e->policy_changed->policy->author : "");
        break;
    case EVENT__KIND_DEADLINE_CHANGED:
        fprintf(s->out, "permission %s has another deadline, set by ", e->deadline_changed->permission_id);
        show_string(s->out, e->deadline_changed->author);
        break;
    case EVENT__KIND_UNKNOWN:
        fputs("(", s->out);
        show_string(s->out, e->unknown->name);
        fputs(")", s->out);
        break;
    default:
        fputs("(an event of a newer kind)", s->out);
    }
}

/* Does it matter to somebody who waits for the answer? */
static bool is_detail(const Event *e)
{
    switch (e->kind_case) {
    case EVENT__KIND_AGENT_LOG:
    case EVENT__KIND_USAGE:
    case EVENT__KIND_UNKNOWN:
    case EVENT__KIND_CONFIG_CHANGED:
    case EVENT__KIND_CONFIG_ASKED:
    case EVENT__KIND_TURN_STARTED:
        return true;
    case EVENT__KIND_STATE_CHANGED:
        return !*e->state_changed->message;
    case EVENT__KIND_TOOL_CALL_UPDATE:
        return !*e->tool_call_update->title && e->tool_call_update->status == TOOL_CALL_STATUS_UNSPECIFIED;
    default:
        return false;
    }
}

void show_event(struct show *s, const Event *e)
{
    if (s->json) {
        show_json(s->out, &e->base);
        return;
    }
    if (s->brief && is_detail(e))
        return;
    if (s->numbers) {
        show_break(s);
        fprintf(s->out, "%6" PRIu64 "  ", e->seq);
    }
    if (e->kind_case == EVENT__KIND_AGENT_MESSAGE_CHUNK) {
        show_chunk(s, SHOW_MESSAGE, e->agent_message_chunk);
    } else if (e->kind_case == EVENT__KIND_AGENT_THOUGHT_CHUNK) {
        show_chunk(s, SHOW_THOUGHT, e->agent_thought_chunk);
    } else if (e->kind_case == EVENT__KIND_USER_MESSAGE_CHUNK) {
        show_chunk(s, SHOW_USER, e->user_message_chunk);
    } else {
        show_break(s);
        show_line(s, e);
        fputc('\n', s->out);
    }
    fflush(s->out);
}

void show_fini(struct show *s)
{
    show_break(s);
    for (size_t i = 0; i < SHOW_TOOLS; i++) {
        free(s->tools[i].id);
        free(s->tools[i].title);
        s->tools[i] = (struct show_tool){0};
    }
}
