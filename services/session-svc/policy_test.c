/* Policies against references that are simple and slow: patterns by recursion, paths by a list of parts,
 * decisions by looking at everything. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/session-svc/policy.h"

static unsigned seed = 1;

static unsigned below(unsigned n)
{
    seed = seed * 1103515245 + 12345;
    return seed / 65536 % n;
}

static char *random_text(char *out, unsigned max, const char *letters)
{
    unsigned n = below(max + 1);
    for (unsigned i = 0; i < n; i++)
        out[i] = letters[below((unsigned)strlen(letters))];
    out[n] = '\0';
    return out;
}

/* ---- references ---- */

static bool ref_glob(const char *p, const char *t, const char *barrier, bool deep)
{
    if (!*p)
        return !*t;
    if (deep && p[0] == '*' && p[1] == '*')
        return ref_glob(p + 2, t, barrier, deep) || (*t && ref_glob(p, t + 1, barrier, deep));
    if (*p == '*')
        return ref_glob(p + 1, t, barrier, deep) ||
               (*t && !strchr(barrier, *t) && ref_glob(p, t + 1, barrier, deep));
    if (!*t)
        return false;
    if (*p == '?')
        return !strchr(barrier, *t) && ref_glob(p + 1, t + 1, barrier, deep);
    if (*p == '\\' && p[1])
        p++;
    return *p == *t && ref_glob(p + 1, t + 1, barrier, deep);
}

static void ref_path(const char *cwd, const char *path, char out[256])
{
    char joined[256], *parts[64], *rest;
    int n = 0;
    snprintf(joined, sizeof joined, "%s/%s", *path == '/' ? "" : cwd, path);
    for (char *part = strtok_r(joined, "/", &rest); part; part = strtok_r(NULL, "/", &rest))
        if (!strcmp(part, ".."))
            n -= n > 0;
        else if (strcmp(part, "."))
            parts[n++] = part;
    strcpy(out, n ? "" : "/");
    for (int i = 0; i < n; i++) {
        strcat(out, "/");
        strcat(out, parts[i]);
    }
}

static bool ref_path_fits(const char *pattern, const char *path, const char *cwd)
{
    char base[256], absolute[256], whole[512];
    ref_path(cwd, path, absolute);
    ref_path("/", cwd, base); /* has no special characters here */
    snprintf(whole, sizeof whole, "%s%s%s", *pattern == '/' ? "" : base,
             *pattern == '/' || !strcmp(base, "/") ? "" : "/", pattern);
    return ref_glob(whole, absolute, "/", true);
}

static bool ref_rule(const PolicyRule *r, const struct policy_facts *f)
{
    bool allow = r->action == POLICY_ACTION_ALLOW_ONCE || r->action == POLICY_ACTION_ALLOW_ALWAYS;
    if (*r->tool_kind && (!f->kind || strcmp(f->kind, r->tool_kind)))
        return false;
    if (*r->tool_name && (!f->name || !ref_glob(r->tool_name, f->name, "", false)))
        return false;
    size_t fit = 0;
    for (size_t i = 0; i < f->n_paths; i++)
        fit += ref_path_fits(r->path, f->paths[i], f->cwd);
    if (*r->path && f->paths_cut && allow)
        return false;
    if (*r->path && !f->paths_cut && (fit == 0 || (allow && fit < f->n_paths)))
        return false;
    if (!*r->command)
        return true;
    if (f->command_cut)
        return !allow;
    return f->command &&
           ref_glob(r->command, f->command, allow && strcmp(r->command, "*") ? ";&|<>()$`\\\n\r" : "", false);
}

/* ---- tests ---- */

static void patterns_match_as_the_reference_does(void **state)
{
    (void)state;
    for (int i = 0; i < 300000; i++) {
        char pattern[16], text[16];
        random_text(pattern, 8, "ab/*?*\\");
        random_text(text, 10, "aab/*\\");
        bool deep = below(2);
        const char *barrier = below(2) ? "/" : "";
        if (policy_glob(pattern, text, barrier, deep) != ref_glob(pattern, text, barrier, deep))
            fail_msg("pattern \"%s\" text \"%s\" barrier \"%s\" deep %d", pattern, text, barrier, deep);
    }
}

static void paths_are_resolved_as_the_reference_does(void **state)
{
    (void)state;
    for (int i = 0; i < 100000; i++) {
        char path[64] = "", cwd[64] = "/", part[8], expected[256];
        for (unsigned n = below(6); n; n--)
            strcat(strcat(path, random_text(part, 2, "a..")), below(4) ? "/" : "//");
        for (unsigned n = below(3); n; n--)
            strcat(strcat(cwd, random_text(part, 2, "a.")), "/");
        ref_path(cwd, path, expected);
        cleanup_free char *got = policy_path(cwd, path);
        assert_string_equal(got, expected);
    }
}

static void random_rule(PolicyRule *r, char texts[4][16])
{
    static const char *const kinds[] = {"", "", "edit", "execute"};
    *r = (PolicyRule)POLICY_RULE__INIT;
    r->tool_kind = (char *)(uintptr_t)kinds[below(4)];
    r->tool_name = below(3) ? texts[0] : random_text(texts[0], 3, "ab*?");
    r->path = below(2) ? texts[1] : random_text(texts[1], 5, "ab/**?");
    r->command = below(3) ? texts[2] : random_text(texts[2], 4, "ab;*?");
    r->action = 1 + (int)below(4);
}

static void policies_decide_as_the_reference_does(void **state)
{
    (void)state;
    int decided = 0, by_server = 0;
    for (int i = 0; i < 100000; i++) {
        PolicyRule rules[5], *list[5];
        char texts[5][4][16] = {{{0}}}, paths[3][16], *path_list[3], command[16], name[8];
        for (int k = 0; k < 5; k++)
            random_rule(list[k] = &rules[k], texts[k]);
        PermissionPolicy own = PERMISSION_POLICY__INIT, server = PERMISSION_POLICY__INIT;
        own.rules = list;
        own.n_rules = below(4);
        server.rules = list + 3;
        server.n_rules = below(3);
        struct policy_facts f = {.cwd = below(2) ? "/a" : "/", .paths = path_list, .n_paths = below(4)};
        for (size_t k = 0; k < f.n_paths; k++)
            path_list[k] = random_text(paths[k], 6, "aab/.");
        f.kind = below(3) ? "edit" : below(2) ? "execute" : NULL;
        f.name = below(4) ? random_text(name, 3, "ab") : NULL;
        f.command = below(4) ? random_text(command, 4, "ab;") : NULL;
        f.paths_cut = !below(10);
        f.command_cut = !below(10);
        const PolicyRule *expected = NULL;
        for (size_t k = 0; !expected && k < own.n_rules; k++)
            expected = ref_rule(own.rules[k], &f) ? own.rules[k] : NULL;
        bool of_server = !expected;
        for (size_t k = 0; !expected && k < server.n_rules; k++)
            expected = ref_rule(server.rules[k], &f) ? server.rules[k] : NULL;
        struct policy_decision d = policy_decide(&own, &server, &f);
        assert_ptr_equal(d.rule, expected);
        assert_int_equal(d.action, expected ? expected->action : POLICY_ACTION_ASK);
        if (expected) {
            assert_int_equal(d.of_server, of_server);
            assert_ptr_equal((of_server ? server : own).rules[d.index], expected);
        }
        decided += expected != NULL;
        by_server += expected && of_server;
    }
    assert_true(decided > 10000 && by_server > 1000);
}

static PolicyAction decide(PolicyRule r, const char *path, const char *command)
{
    PolicyRule *list[] = {&r};
    PermissionPolicy p = PERMISSION_POLICY__INIT;
    p.rules = list;
    p.n_rules = 1;
    char *paths[] = {(char *)(uintptr_t)path};
    struct policy_facts f = {
        .kind = "edit", .cwd = "/home/me/work", .paths = paths, .n_paths = path != NULL, .command = command};
    return policy_decide(&p, NULL, &f).action;
}

static void what_must_not_slip_past(void **state)
{
    (void)state;
    PolicyRule below_cwd = POLICY_RULE__INIT, git = POLICY_RULE__INIT, secret = POLICY_RULE__INIT;
    below_cwd.path = (char[]){"**"};
    below_cwd.action = POLICY_ACTION_ALLOW_ONCE;
    assert_int_equal(decide(below_cwd, "/home/me/work/a/b", NULL), POLICY_ACTION_ALLOW_ONCE);
    assert_int_equal(decide(below_cwd, "a", NULL), POLICY_ACTION_ALLOW_ONCE);
    assert_int_equal(decide(below_cwd, "../work/a", NULL), POLICY_ACTION_ALLOW_ONCE);
    assert_int_equal(decide(below_cwd, "a/../../other", NULL), POLICY_ACTION_ASK);
    assert_int_equal(decide(below_cwd, "/home/me/work/../other", NULL), POLICY_ACTION_ASK);
    assert_int_equal(decide(below_cwd, "/home/me/workshop", NULL), POLICY_ACTION_ASK);
    assert_int_equal(decide(below_cwd, NULL, NULL), POLICY_ACTION_ASK); /* of no file nothing is known */
    git.command = (char[]){"git status*"};
    git.action = POLICY_ACTION_ALLOW_ALWAYS;
    assert_int_equal(decide(git, NULL, "git status -s"), POLICY_ACTION_ALLOW_ALWAYS);
    assert_int_equal(decide(git, NULL, "git status; rm -rf /"), POLICY_ACTION_ASK);
    assert_int_equal(decide(git, NULL, "git status $(rm -rf /)"), POLICY_ACTION_ASK);
    assert_int_equal(decide(git, NULL, "git status\nrm -rf /"), POLICY_ACTION_ASK);
    secret.path = (char[]){"/etc/**"};
    secret.action = POLICY_ACTION_DENY;
    assert_int_equal(decide(secret, "/home/../etc/./shadow", NULL), POLICY_ACTION_DENY);
    assert_int_equal(decide(secret, "../../../etc/shadow", NULL), POLICY_ACTION_DENY);
}

static void what_could_never_match_is_refused(void **state)
{
    (void)state;
    static const char *const paths[] = {"../a", "a/./b", "/..", "a//b", "a/", "."};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        PolicyRule r = POLICY_RULE__INIT, *list[] = {&r};
        PermissionPolicy p = PERMISSION_POLICY__INIT;
        p.rules = list;
        p.n_rules = 1;
        r.action = POLICY_ACTION_ASK;
        r.path = (char *)(uintptr_t)paths[i];
        cleanup_error sa_error *err = NULL;
        if (!policy_check(&p, &err))
            fail_msg("\"%s\" was let pass", paths[i]);
        assert_non_null(strstr(err->message, "rules[0].path"));
        r.path = (char[]){"/a/..b/*.c"};
        assert_int_equal(policy_check(&p, NULL), 0);
        r.action = POLICY_ACTION_UNSPECIFIED;
        assert_int_equal(policy_check(&p, NULL), -1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_match_as_the_reference_does),
        cmocka_unit_test(paths_are_resolved_as_the_reference_does),
        cmocka_unit_test(policies_decide_as_the_reference_does),
        cmocka_unit_test(what_must_not_slip_past),
        cmocka_unit_test(what_could_never_match_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
