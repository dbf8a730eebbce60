#include "services/runtime/options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"

enum { OPTIONS_MAX = 64 };

struct slot {
    const struct service_option *spec;
    const char *text; /* as given, or the default */
    char *list;       /* SERVICE_OPTION_LIST: what `text` points to once one was given */
    uint64_t number;
    bool given;
    char letter;
};

struct options {
    struct slot slots[OPTIONS_MAX];
    int n_slots;
    char **arguments;
    int n_arguments;
    bool help;
};

static struct slot *find(const struct options *o, const char *name, size_t len)
{
    for (int i = 0; i < o->n_slots; i++) {
        const char *known = o->slots[i].spec->name;
        if (strlen(known) == len && !memcmp(known, name, len))
            return (struct slot *)&o->slots[i];
    }
    return NULL;
}

static struct slot *must_find(const struct options *o, const char *name)
{
    struct slot *s = find(o, name, strlen(name));
    if (!s) {
        fprintf(stderr, "bug: there is no option `%s`\n", name);
        abort();
    }
    return s;
}

static int set(struct slot *s, const char *value, sa_error **err)
{
    if (s->spec->type == SERVICE_OPTION_UINT) {
        char *end;
        errno = 0;
        uint64_t v = strtoumax(value, &end, 10);
        if (errno || *end || *value < '0' || *value > '9' || v < s->spec->min || v > s->spec->max)
            return sa_fail(err, SA_INVALID_CONFIG,
                           "option `--%s`: `%s` is not a number from %" PRIu64 " to %" PRIu64, s->spec->name,
                           value, s->spec->min, s->spec->max);
        s->number = v;
    }
    if (s->spec->type == SERVICE_OPTION_LIST && s->given) {
        char *longer = s->list ? sa_format("%s\n%s", s->list, value) : sa_strdup(value);
        free(s->list);
        s->text = s->list = longer;
        return 0;
    }
    s->text = value;
    return 0;
}

void options_add(struct options *o, const struct service_option *table)
{
    for (; table && table->name; table++) {
        if (o->n_slots == OPTIONS_MAX || find(o, table->name, strlen(table->name))) {
            fprintf(stderr, "bug: option `%s` is one too many\n", table->name);
            abort();
        }
        struct slot *s = &o->slots[o->n_slots++];
        *s = (struct slot){.spec = table};
        if (table->value && set(s, table->value, NULL) < 0)
            abort();
    }
}

struct options *options_new(const struct service_option *first, const struct service_option *second)
{
    struct options *o = sa_calloc(1, sizeof *o);
    options_add(o, first);
    options_add(o, second);
    return o;
}

void options_free(struct options *o)
{
    if (!o)
        return;
    for (int i = 0; i < o->n_slots; i++)
        free(o->slots[i].list);
    free(o->arguments);
    free(o);
}

void options_letter(struct options *o, char letter, const char *name)
{
    must_find(o, name)->letter = letter;
}

/* The slot that `arg` names, and its value where it is in the same word ("--name=value"). */
static struct slot *named(const struct options *o, const char *arg, const char **ret_value)
{
    *ret_value = NULL;
    if (arg[1] != '-') {
        for (int i = 0; i < o->n_slots; i++)
            if (o->slots[i].letter && o->slots[i].letter == arg[1] && !arg[2])
                return (struct slot *)&o->slots[i];
        return NULL;
    }
    size_t len = strcspn(arg + 2, "=");
    if (arg[2 + len])
        *ret_value = arg + 2 + len + 1;
    return find(o, arg + 2, len);
}

/* "-it": letters of flags together. false: it is something else. */
static bool set_flags(struct options *o, const char *letters)
{
    for (int round = 0; round < 2; round++) /* all are flags; then they are set */
        for (const char *c = letters; *c; c++) {
            int i = 0;
            while (i < o->n_slots && o->slots[i].letter != *c)
                i++;
            if (i == o->n_slots || o->slots[i].spec->type != SERVICE_OPTION_FLAG)
                return false;
            o->slots[i].text = round ? "true" : o->slots[i].text;
            o->slots[i].given |= round;
        }
    return true;
}

int options_parse(struct options *o, int argc, char **argv, bool stop_at_first, sa_error **err)
{
    free(o->arguments);
    o->arguments = sa_calloc((size_t)argc + 1, sizeof *o->arguments);
    o->n_arguments = 0;
    bool plain = false;
    for (int i = 1; i < argc; i++) {
        char *arg = argv[i];
        if (!plain && !strcmp(arg, "--")) {
            plain = true;
            continue;
        }
        if (plain || arg[0] != '-' || !arg[1]) {
            o->arguments[o->n_arguments++] = arg;
            plain = plain || stop_at_first;
            continue;
        }
        if (!strcmp(arg, "--help") || !strcmp(arg, "-h")) {
            o->help = true;
            return 0;
        }
        if (arg[1] != '-' && arg[2] && set_flags(o, arg + 1))
            continue;
        const char *value;
        struct slot *s = named(o, arg, &value);
        if (!s)
            return sa_fail(err, SA_UNKNOWN_OPTION, "unknown option `%s`; see --help", arg);
        s->given = true;
        if (s->spec->type == SERVICE_OPTION_FLAG) {
            if (value)
                return sa_fail(err, SA_INVALID_CONFIG, "option `--%s` takes no value", s->spec->name);
            s->text = "true";
            continue;
        }
        if (!value && i + 1 == argc)
            return sa_fail(err, SA_INVALID_CONFIG, "option `--%s` needs a value", s->spec->name);
        if (set(s, value ? value : argv[++i], err) < 0)
            return -1;
    }
    return 0;
}

bool options_help_wanted(const struct options *o)
{
    return o->help;
}

const char *options_text(const struct options *o, const char *name)
{
    return must_find(o, name)->text;
}

uint64_t options_uint(const struct options *o, const char *name)
{
    return must_find(o, name)->number;
}

bool options_flag(const struct options *o, const char *name)
{
    return must_find(o, name)->text != NULL;
}

bool options_given(const struct options *o, const char *name)
{
    return must_find(o, name)->given;
}

int options_count(const struct options *o)
{
    return o->n_arguments;
}

char **options_arguments(const struct options *o)
{
    return o->arguments;
}

void options_print_help(const struct options *o, FILE *out, const char *usage, const char *summary)
{
    static const char *const kinds[] = {[SERVICE_OPTION_TEXT] = " TEXT",
                                        [SERVICE_OPTION_UINT] = " N",
                                        [SERVICE_OPTION_FLAG] = "",
                                        [SERVICE_OPTION_LIST] = " TEXT"};
    fprintf(out, "usage: %s\n\n%s\n", usage, summary);
    if (o->n_slots)
        fprintf(out, "\nOptions:\n");
    for (int i = 0; i < o->n_slots; i++) {
        const struct slot *s = &o->slots[i];
        char name[64], letter[8] = "";
        if (s->letter)
            snprintf(letter, sizeof letter, "-%c, ", s->letter);
        snprintf(name, sizeof name, "%s--%s%s", letter, s->spec->name, kinds[s->spec->type]);
        fprintf(out, "  %-26s %s", name, s->spec->doc);
        if (s->spec->type == SERVICE_OPTION_UINT)
            fprintf(out, " (%" PRIu64 " to %" PRIu64 ")", s->spec->min, s->spec->max);
        if (s->spec->type == SERVICE_OPTION_LIST)
            fprintf(out, " (may be repeated)");
        if (s->spec->value)
            fprintf(out, " [%s]", s->spec->value);
        fputc('\n', out);
    }
}
