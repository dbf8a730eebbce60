#include "services/session-svc/skills.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/os/sha256.h"
#include "services/session-svc/api.h"
#include "services/session-svc/config_store.h"
#include "services/session-svc/environment.h"
#include "services/session-svc/job.h"
#include "services/session-svc/mask.h"
#include "services/session-svc/sessions.h"

/* Arguments: the cache; the directories that links go to, one a line; names of links to be taken away, one a
 * line; then for each skill its name, path or URL, ref, subpath and a key for its repository.
 *
 * A repository is kept bare; a commit's files lie in a directory that is named by it, which is checked file
 * by file against the commit each time: agents run as this user. Each skill is told as `ready NAME COMMIT` or
 * `failed NAME WHY`, each link as `link NAME`. What is there and is no link of ours is never touched. */
static const char script[] =
    "umask 022\n"
    "cache=$1 dirs=$2 old=$3; shift 3\n"
    "mkdir -p \"$cache/trees\" && exec 9> \"$cache/lock\" && flock 9 || exit 1\n"
    "g() { git -c safe.directory='*' -c transfer.fsckObjects=true -c core.hooksPath=/dev/null \"$@\"; }\n"
    "same() {\n" /* does the directory hold exactly the commit? */
    "    [ -d \"$tree\" ] && export GIT_INDEX_FILE=\"$cache/index\" && rm -f \"$GIT_INDEX_FILE\" || return "
    "1\n"
    "    g --git-dir=\"$repo\" --work-tree=\"$tree\" read-tree \"$commit\" &&\n"
    "    g --git-dir=\"$repo\" --work-tree=\"$tree\" update-index --refresh > /dev/null &&\n"
    "    [ -z \"$(g --git-dir=\"$repo\" --work-tree=\"$tree\" ls-files -o)\" ]\n"
    "}\n"
    "check_out() {\n"
    "    same && return\n"
    "    rm -rf \"$tree.new\" \"$tree\" && mkdir \"$tree.new\" &&\n"
    "    export GIT_INDEX_FILE=\"$cache/index\" && rm -f \"$GIT_INDEX_FILE\" &&\n"
    "    g --git-dir=\"$repo\" read-tree \"$commit\" &&\n"
    "    g --git-dir=\"$repo\" --work-tree=\"$tree.new\" checkout-index -a -f && mv \"$tree.new\" \"$tree\" "
    "&& same\n"
    "}\n"
    "fetch() {\n"
    "    repo=$cache/$key.git\n"
    "    [ -d \"$repo\" ] || { g init -q --bare \"$repo.new\" && mv \"$repo.new\" \"$repo\"; } || return 1\n"
    "    if [ ${#ref} -eq 40 ] && g --git-dir=\"$repo\" cat-file -e \"$ref^{commit}\" 2> /dev/null; then\n"
    "        commit=$ref && return\n"
    "    fi\n"
    "    if why=$(g --git-dir=\"$repo\" fetch -q --depth 1 \"$url\" \"${ref:-HEAD}\" 2>&1); then\n"
    "        commit=$(g --git-dir=\"$repo\" rev-parse 'FETCH_HEAD^{commit}') &&\n"
    "        g --git-dir=\"$repo\" update-ref refs/fetched/last \"$commit\"\n"
    "    else\n"
    "        commit=$(g --git-dir=\"$repo\" rev-parse -q --verify refs/fetched/last)\n"
    "    fi\n"
    "}\n"
    "put() {\n" /* $1: name, $2: directory */
    "    while read -r dir; do\n"
    "        mkdir -p \"$dir\" || return 1\n"
    "        [ -L \"$dir/$1\" ] || [ ! -e \"$dir/$1\" ] || { why=\"$dir/$1 is there already\"; return 1; }\n"
    "        ln -sfn \"$2\" \"$dir/$1\" || return 1\n"
    "    done <<END\n$dirs\nEND\n"
    "    echo \"link $1\"\n"
    "}\n"
    "expose() {\n"
    "    why=\"there is no SKILL.md in $top\"\n"
    "    if [ -f \"$top/SKILL.md\" ]; then put \"$name\" \"$top\"; return; fi\n"
    "    found=1\n"
    "    for one in \"$top\"/*/; do\n"
    "        [ -f \"$one/SKILL.md\" ] || continue\n"
    "        one=${one%/}; put \"${one##*/}\" \"$one\" || return 1\n"
    "        found=0\n"
    "    done\n"
    "    return $found\n"
    "}\n"
    "while read -r name; do\n"
    "    while read -r dir; do [ -z \"$name\" ] || [ ! -L \"$dir/$name\" ] || rm -f \"$dir/$name\"; done "
    "<<END\n$dirs\nEND\n"
    "done <<END\n$old\nEND\n"
    "while [ $# -gt 0 ]; do\n"
    "    name=$1 url=$2 ref=$3 subpath=$4 key=$5 why= commit=; shift 5\n"
    "    case $url in\n"
    "    /*) top=$url ;;\n"
    "    *) fetch || { echo \"failed $name $why\" | tr '\\n' ' '; echo; continue; }\n"
    "       tree=$cache/trees/$commit top=$tree; check_out || { echo \"failed $name its files could not be "
    "checked out\"; continue; } ;;\n"
    "    esac\n"
    "    [ -z \"$subpath\" ] || top=$top/$subpath\n"
    "    if expose; then echo \"ready $name $commit\"; else echo \"failed $name $why\"; fi\n"
    "done\n";

struct skill_work {
    struct session *session;
    struct job *job;
    char run[SA_ID_TEXT + 1];
    void (*done)(struct session *s);
    struct sa_arena *arena;
    Skill **skills;
    size_t n_skills;
    PreparedSkill **results;
    size_t n_results;
    StoredLinks links;  /* made by this run */
    struct sa_buf last; /* line of standard error */
    ProtobufCBinaryData cwd;
};

/* ---- links: which there are in a directory ---- */

static struct store_key links_key(ProtobufCBinaryData cwd)
{
    return config_key(cwd, "");
}

struct others {
    const struct session *self;
    ProtobufCBinaryData cwd;
    bool found;
};

static bool is_in_same(void *user, struct session *s)
{
    struct others *o = user;
    struct store_key key = db_key(s->id);
    cleanup_message StoredSpec *spec = NULL;
    if (s != o->self && s->link.phase != AGENT_PHASE_NONE &&
        store_get(s->all->store, DB_SPECS, &key, &spec, NULL) > 0)
        o->found = spec->cwd.len == o->cwd.len && !memcmp(spec->cwd.data, o->cwd.data, o->cwd.len);
    return !o->found;
}

/* Links that no session needs: those that an earlier start has made here, while nobody else runs here. */
static char *old_links(struct session *s, const StoredSpec *spec, const StoredLinks *links,
                       struct sa_arena *arena)
{
    struct others o = {s, spec->cwd, false};
    sessions_each(s->all, is_in_same, &o);
    char *text = sa_arena_strdup(arena, "");
    for (size_t i = 0; links && !o.found && i < links->n_names; i++)
        text = sa_arena_format(arena, "%s%s\n", text, links->names[i]);
    return text;
}

/* ---- its output ---- */

static PreparedSkill *result(struct skill_work *w, const char *name)
{
    PreparedSkill *p = sa_arena_alloc(w->arena, sizeof *p);
    *p = (PreparedSkill)PREPARED_SKILL__INIT;
    p->name = sa_arena_strdup(w->arena, name);
    return w->results[w->n_results++] = p;
}

static void add_link(struct skill_work *w, const char *name)
{
    if (w->links.n_names % 64 == 0) {
        char **more = sa_arena_alloc(w->arena, (w->links.n_names + 64) * sizeof *more);
        if (w->links.n_names)
            memcpy(more, w->links.names, w->links.n_names * sizeof *more);
        w->links.names = more;
    }
    w->links.names[w->links.n_names++] = sa_arena_strdup(w->arena, name);
}

static bool take_line(void *user, unsigned stream, const char *p, size_t n)
{
    struct skill_work *w = user;
    char *line = sa_arena_format(w->arena, "%.*s", (int)(n < 2048 ? n : 2048), p);
    mask_text(w->session, line);
    line = rpc_utf8(w->arena, line, strlen(line));
    char *name = strchr(line, ' '), *rest;
    if (stream == 2 || !name) {
        w->last.len = 0;
        sa_buf_addf(&w->last, "%s", line);
        return false;
    }
    *name++ = '\0';
    if (!strcmp(line, "link")) {
        add_link(w, name);
        return false;
    }
    if (w->n_results == w->n_skills)
        return false;
    if ((rest = strchr(name, ' ')))
        *rest++ = '\0';
    PreparedSkill *r = result(w, name);
    if (!strcmp(line, "ready"))
        r->commit = sa_arena_strdup(w->arena, rest);
    else
        r->error = sa_arena_strdup(w->arena, rest && *rest ? rest : "it could not be fetched");
    return false;
}

/* ---- done ---- */

static const Skill *find(const struct skill_work *w, const char *name)
{
    for (size_t i = 0; i < w->n_skills; i++)
        if (!strcmp(w->skills[i]->name, name))
            return w->skills[i];
    return NULL;
}

/* What was fetched is kept beside what was configured. */
static void keep_commit(struct skill_work *w, const PreparedSkill *r)
{
    const Skill *k = find(w, r->name);
    struct store_key key = k ? config_key(k->directory, k->name) : (struct store_key){0};
    cleanup_message Skill *configured = NULL;
    if (!k || !*r->commit || store_get(w->session->all->store, DB_A_SKILLS, &key, &configured, NULL) <= 0)
        return;
    Skill fetched = SKILL__INIT;
    fetched.commit = r->commit;
    fetched.fetch_time = api_timestamp(w->arena, sa_wall_us());
    store_put(session_set(w->session), DB_A_FETCHED, &key, &fetched.base);
}

static void tell(struct skill_work *w)
{
    Prepared prepared = PREPARED__INIT;
    prepared.skills = w->results;
    prepared.n_skills = w->n_results;
    Event e = EVENT__INIT;
    e.kind_case = EVENT__KIND_PREPARED;
    e.prepared = &prepared;
    session_event(w->session, &e);
}

static void work_free(struct skill_work *w)
{
    sa_buf_fini(&w->last);
    sa_arena_free(w->arena);
    free(w);
}

static void fetched(void *user, const ExitRecord *exit, const sa_error *err)
{
    struct skill_work *w = user;
    struct session *s = w->session;
    for (size_t i = 0; i < w->n_skills; i++) { /* those that nothing was said of */
        size_t r = 0;
        while (r < w->n_results && strcmp(w->results[r]->name, w->skills[i]->name) != 0)
            r++;
        if (r == w->n_results && w->n_results < w->n_skills)
            result(w, w->skills[i]->name)->error =
                sa_arena_format(w->arena, "%s%s%s",
                                err    ? err->message
                                : exit ? job_exit_text(exit, w->arena)
                                       : "stopped",
                                w->last.len ? "; it said: " : "", w->last.len ? sa_buf_string(&w->last) : "");
    }
    for (size_t i = 0; i < w->n_results; i++)
        keep_commit(w, w->results[i]);
    struct store_key key = links_key(w->cwd);
    store_put(session_set(s), DB_A_LINKS, &key, &w->links.base);
    if (w->n_skills)
        tell(w);
    s->skill_work = NULL;
    job_end(w->job);
    void (*done)(struct session *) = w->done;
    work_free(w);
    done(s);
}

void skills_abandon(struct session *s)
{
    struct skill_work *w = s->skill_work;
    if (!w)
        return;
    s->skill_work = NULL;
    job_end(w->job);
    work_free(w);
}

struct search {
    const char *label;
    bool found;
};

static bool is_its_label(void *user, struct session *s)
{
    struct search *search = user;
    search->found = s->skill_work && !strcmp(s->skill_work->run, search->label);
    return !search->found;
}

bool skills_are_fetched_by(struct sessions *all, const char *label)
{
    struct search search = {label, false};
    sessions_each(all, is_its_label, &search);
    return search.found;
}

/* ---- begin ---- */

static char *text_of(struct sa_arena *arena, ProtobufCBinaryData b)
{
    return sa_arena_format(arena, "%.*s", (int)b.len, (const char *)b.data);
}

static void add_skill(struct sa_arena *arena, const Skill *k, char **argv, size_t *n)
{
    const char *url = k->source_case == SKILL__SOURCE_PATH ? k->path
                      : k->source_case == SKILL__SOURCE_GIT
                          ? k->git->url
                          : sa_arena_format(arena, "https://github.com/%s.git", k->github->repository);
    const char *ref = k->source_case == SKILL__SOURCE_GIT      ? k->git->ref
                      : k->source_case == SKILL__SOURCE_GITHUB ? k->github->ref
                                                               : "";
    char key[SA_SHA256_TEXT + 1];
    struct sa_sha256 sum;
    sa_sha256_init(&sum);
    sa_sha256_add(&sum, url, strlen(url) + 1);
    sa_sha256_add(&sum, ref, strlen(ref)); /* each has its last commit */
    sa_sha256_end_text(&sum, key);
    const char *words[] = {k->name, url, ref, k->subpath, key};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        argv[(*n)++] = sa_arena_strdup(arena, words[i]);
}

static char *directories(struct session *s, const char *cwd, struct sa_arena *arena)
{
    static const char *const otherwise[] = {".agents/skills", NULL};
    const char *const *dirs = s->agent && s->agent->skill_dirs ? s->agent->skill_dirs : otherwise;
    char *text = sa_arena_format(arena, "%s/%s", cwd, dirs[0]);
    for (size_t i = 1; dirs[i]; i++)
        text = sa_arena_format(arena, "%s\n%s/%s", text, cwd, dirs[i]);
    return text;
}

static void begin(struct skill_work *w, const char *cwd, char *old)
{
    enum { FIXED = 7, EACH = 5 };
    struct session *s = w->session;
    char **argv = sa_arena_alloc(w->arena, (FIXED + EACH * w->n_skills + 1) * sizeof *argv);
    size_t n = 0;
    argv[n++] = (char[]){"/bin/sh"};
    argv[n++] = (char[]){"-c"};
    argv[n++] = (char *)(uintptr_t)script;
    argv[n++] = (char[]){"skills"};
    argv[n++] = sa_arena_format(w->arena, "%s/.cache/sandbox-agent/skills", s->all->config.home);
    argv[n++] = directories(s, cwd, w->arena);
    argv[n++] = old;
    for (size_t i = 0; i < w->n_skills; i++)
        add_skill(w->arena, w->skills[i], argv, &n);
    sa_id_format(sa_id_new(), w->run); /* done anew after a crash: nothing is lost by doing it twice */
    struct job_options opt = {
        .request_id = w->run,
        .label = w->run,
        .argv = argv,
        .env = environment_tools(s->all, s->all->config.home, w->arena),
        .cwd = "/",
        .timeout_ms = SKILLS_MS,
        .line = take_line,
        .done = fetched,
        .user = w,
    };
    w->job = job_start(s->all, &opt);
}

bool skills_begin(struct session *s, const StoredSpec *spec, void (*done)(struct session *s))
{
    struct skill_work *w = sa_calloc(1, sizeof *w);
    w->session = s;
    w->done = done;
    w->arena = sa_arena_new();
    stored_links__init(&w->links);
    struct store_key key = links_key(spec->cwd);
    cleanup_message StoredLinks *links = NULL;
    if (config_skills(s, spec, w->arena, &w->skills, &w->n_skills, NULL) ||
        store_get(s->all->store, DB_A_LINKS, &key, &links, NULL) < 0 ||
        (!w->n_skills && !(links && links->n_names))) {
        work_free(w);
        return false;
    }
    w->results = sa_arena_alloc(w->arena, (w->n_skills + 1) * sizeof *w->results);
    w->cwd = (ProtobufCBinaryData){spec->cwd.len, sa_arena_memdup(w->arena, spec->cwd.data, spec->cwd.len)};
    Preparing preparing = PREPARING__INIT;
    preparing.skills = sa_arena_alloc(w->arena, (w->n_skills + 1) * sizeof *preparing.skills);
    for (size_t i = 0; i < w->n_skills; i++)
        preparing.skills[preparing.n_skills++] = w->skills[i]->name;
    Event e = EVENT__INIT;
    e.kind_case = EVENT__KIND_PREPARING;
    e.preparing = &preparing;
    if (w->n_skills)
        session_event(s, &e);
    s->skill_work = w;
    begin(w, text_of(w->arena, w->cwd), old_links(s, spec, links, w->arena));
    return true;
}
