/* `sandbox-agent skills`: instructions that agents find where they look for them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"
#include "sandboxagent/session/v1/config_service.rpc.h"
#include "services/cli/actions.h"
#include "services/cli/cli.h"
#include "services/cli/show.h"

static ProtobufCBinaryData directory(const struct options *o)
{
    const char *text = options_text(o, "directory");
    return (ProtobufCBinaryData){text ? strlen(text) : 0, (uint8_t *)(uintptr_t)text};
}

static void print_skill(const Skill *k)
{
    const char *source = k->source_case == SKILL__SOURCE_PATH     ? k->path
                         : k->source_case == SKILL__SOURCE_GIT    ? k->git->url
                         : k->source_case == SKILL__SOURCE_GITHUB ? k->github->repository
                                                                  : "-";
    printf("%-20s %s%s", k->name, k->disabled ? "disabled " : "", k->directory.len ? "" : "(all)");
    show_text(stdout, (const char *)k->directory.data, k->directory.len);
    printf("  ");
    show_text(stdout, source, strlen(source));
    printf("%s%s\n", *k->subpath ? "  " : "", k->subpath);
}

static int list(struct client *c, const struct options *o, char **words, int n, sa_error **err)
{
    (void)words;
    (void)n;
    cleanup_free char *token = sa_strdup("");
    do {
        ListSkillsRequest req = LIST_SKILLS_REQUEST__INIT;
        req.page_token = token;
        if (options_given(o, "directory")) {
            req._directory_case = LIST_SKILLS_REQUEST___DIRECTORY_DIRECTORY;
            req.directory = directory(o);
        }
        ListSkillsResponse *res = list_skills_wait(c->channel, &req, NULL, err);
        if (!res)
            return client_explain(c, err);
        for (size_t i = 0; i < res->n_skills; i++)
            if (options_flag(o, "json"))
                show_json(stdout, &res->skills[i]->base);
            else
                print_skill(res->skills[i]);
        free(token);
        token = sa_strdup(res->next_page_token);
        rpc_message_free(res);
    } while (*token);
    return 0;
}

static int set(struct client *c, const struct options *o, char **words, int n, sa_error **err)
{
    (void)n;
    char *source = words[1], *ref = (char *)(uintptr_t)options_text(o, "ref");
    Skill k = SKILL__INIT;
    GitSource git = GIT_SOURCE__INIT;
    GithubSource github = GITHUB_SOURCE__INIT;
    k.name = words[0];
    k.directory = directory(o);
    if (options_text(o, "subpath"))
        k.subpath = (char *)(uintptr_t)options_text(o, "subpath");
    if (*source == '/') {
        k.source_case = SKILL__SOURCE_PATH;
        k.path = source;
    } else if (strstr(source, "://")) {
        k.source_case = SKILL__SOURCE_GIT;
        k.git = &git;
        git.url = source;
        git.ref = ref ? ref : git.ref;
    } else {
        k.source_case = SKILL__SOURCE_GITHUB;
        k.github = &github;
        github.repository = source;
        github.ref = ref ? ref : github.ref;
    }
    SetSkillRequest req = SET_SKILL_REQUEST__INIT;
    req.skill = &k;
    SetSkillResponse *res = set_skill_wait(c->channel, &req, NULL, err);
    rpc_message_free(res);
    return res ? 0 : client_explain(c, err);
}

static int rm(struct client *c, const struct options *o, char **words, int n, sa_error **err)
{
    for (int i = 0; i < n; i++) {
        DeleteSkillRequest req = DELETE_SKILL_REQUEST__INIT;
        req.directory = directory(o);
        req.name = words[i];
        DeleteSkillResponse *res = delete_skill_wait(c->channel, &req, NULL, err);
        rpc_message_free(res);
        if (!res)
            return client_explain(c, err);
    }
    return 0;
}

int cli_skills(int argc, char **argv)
{
    static const struct service_option own[] = {
        {"directory", SERVICE_OPTION_TEXT, NULL, 0, 0, "for sessions in this working directory; else all"},
        {"ref", SERVICE_OPTION_TEXT, NULL, 0, 0, "set: branch, tag or commit; else the default branch"},
        {"subpath", SERVICE_OPTION_TEXT, NULL, 0, 0, "set: directory in the source"},
        {0},
    };
    static const struct action actions[] = {{"ls", 0, 0, list}, {"set", 2, 2, set}, {"rm", 1, -1, rm}, {0}};
    static const struct action_verb verb = {
        .own = own,
        .actions = actions,
        .usage = "skills [ls | set NAME SOURCE | rm NAME...] [options]",
        .summary = "Skills that agents find when they start. SOURCE: /a/directory, owner/repository, or a "
                   "URL of git.",
    };
    return cli_act(&verb, argc, argv);
}
