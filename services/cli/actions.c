#include "services/cli/actions.h"

#include <string.h>

#include "services/cli/cli.h"

static const struct action *find(const struct action_verb *v, const char *word)
{
    for (const struct action *a = v->actions; a->word; a++)
        if (!word || !strcmp(a->word, word))
            return a;
    return NULL;
}

int cli_act(const struct action_verb *v, int argc, char **argv)
{
    struct options *o = options_new(client_options, v->own);
    struct client c = {0};
    sa_error *err = NULL;
    int r = cli_parse(o, argc, argv, v->stop_at_first, v->usage, v->summary);
    if (r < 0) {
        int n = options_count(o);
        char **words = options_arguments(o);
        const struct action *a = find(v, n ? words[0] : NULL);
        int left = n ? n - 1 : 0;
        if (!a || left < a->least || (a->most >= 0 && left > a->most)) {
            fprintf(stderr, "sandbox-agent: %s takes other words; see `sandbox-agent %s --help`\n", argv[0],
                    argv[0]);
            r = 2;
        } else if (client_open(&c, o, &err) < 0 || a->act(&c, o, n ? words + 1 : words, left, &err) < 0) {
            r = cli_failed(err);
        } else {
            r = 0;
        }
    }
    client_close(&c);
    options_free(o);
    return r;
}
