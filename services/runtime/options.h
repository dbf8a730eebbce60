/* Command-line options from tables: parsing, checking and --help come from one description. Used by the
 * services and by the sandbox-agent command. */
#ifndef SERVICES_RUNTIME_OPTIONS_H_
#define SERVICES_RUNTIME_OPTIONS_H_

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "adapters/os/error.h"

/* LIST: a text that may be given several times; its value is all of them, joined by newlines. */
enum service_option_type {
    SERVICE_OPTION_TEXT,
    SERVICE_OPTION_UINT,
    SERVICE_OPTION_FLAG,
    SERVICE_OPTION_LIST
};

struct service_option {
    const char *name; /* without the dashes; NULL ends the table */
    enum service_option_type type;
    const char *value; /* default; NULL: unset (text), 0 (uint), false (flag) */
    uint64_t min, max; /* SERVICE_OPTION_UINT, inclusive */
    const char *doc;   /* one line for --help; unit where it has one */
};

struct options;

/* Tables are kept by reference; second may be NULL. A name that is in both is a bug: aborts. */
struct options *options_new(const struct service_option *first, const struct service_option *second);
/* One more table; NULL is fine. Before options_parse. */
void options_add(struct options *o, const struct service_option *table);
void options_free(struct options *o); /* NULL is fine */
/* Lets `-p 80` stand for `--port 80`. Letters of flags may come together: `-it`. */
void options_letter(struct options *o, char letter, const char *name);
/* Takes `--name value`, `--name=value`, `--flag`, `-x value` and, anywhere between them, plain arguments;
 * after
 * `--` everything is a plain argument. With `stop_at_first` so is everything after the first plain argument.
 * A later option wins over an earlier one. argv[0] is skipped. UNKNOWN_OPTION and INVALID_CONFIG name the
 * option. Texts point into argv, which must live as long. */
int options_parse(struct options *o, int argc, char **argv, bool stop_at_first, sa_error **err);
/* "--help" was among them: whatever else is wrong does not matter then. */
bool options_help_wanted(const struct options *o);

/* Values. A name that is not in the tables is a bug: aborts. */
const char *options_text(const struct options *o, const char *name); /* also a list; NULL: unset */
uint64_t options_uint(const struct options *o, const char *name);
bool options_flag(const struct options *o, const char *name);
bool options_given(const struct options *o, const char *name); /* on the command line, not by default */

/* The plain arguments. */
int options_count(const struct options *o);
char **options_arguments(const struct options *o);

/* usage: "sandbox-agent server [options]". */
void options_print_help(const struct options *o, FILE *out, const char *usage, const char *summary);

#endif
