/* Finding files by name and content, as callers of the program fs-svc see it. */
#include "services/fs-svc/archive_fixture.h"

#include "adapters/os/clock.h"
#include "sandboxagent/fs/v1/search_service.rpc.h"

static FindFilesRequest find_request(const char *path)
{
    FindFilesRequest req = FIND_FILES_REQUEST__INIT;
    req.root = (char *)(uintptr_t) "ws";
    req.path = bytes(path);
    return req;
}

/* Paths, a line each, to be freed; and the summary. */
static const char *find(struct service_fixture *f, const FindFilesRequest *req, struct sa_buf *ret,
                        FindSummary *summary)
{
    cleanup_error sa_error *err = NULL;
    struct rpc_stream *s = find_files_begin(f->caller.channel, req, &patient);
    FindFilesResponse *res;
    bool last = false;
    while (find_files_next(s, &res, &err) == 1) {
        assert_false(last);
        assert_true(res->n_files <= 256);
        for (size_t i = 0; i < res->n_files; i++)
            sa_buf_addf(ret, "%.*s\n", (int)res->files[i]->path.len, (char *)res->files[i]->path.data);
        last = res->summary != NULL;
        if (last && summary)
            *summary = *res->summary;
        rpc_message_free(res);
    }
    rpc_stream_free(s);
    assert_true(err || last);
    return reason_of(err);
}

static void assert_finds(struct service_fixture *f, const FindFilesRequest *req, const char *expected)
{
    cleanup_buf struct sa_buf got = {0};
    assert_string_equal(find(f, req, &got, NULL), "");
    assert_string_equal(sa_buf_string(&got), expected);
}

static void files_are_found_by_what_is_asked(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    assert_shell("",
                 "cd '%s' && mkdir -p src/lib .git && touch -d 2001-01-01 src/old.c && printf 12345 > "
                 "src/lib/five.c && touch "
                 "src/lib/A.H .env .git/HEAD && ln -s old.c src/link && printf '*.H\\n' > src/.gitignore",
                 f.ws);
    FindFilesRequest req = find_request(".");
    assert_finds(&f, &req, "src\nsrc/lib\nsrc/lib/five.c\nsrc/link\nsrc/old.c\n");
    req.path = bytes("src/lib");
    assert_finds(&f, &req, "src/lib/five.c\n");

    req = find_request("src");
    FileFilter filter = FILE_FILTER__INIT;
    req.filter = &filter;
    filter.no_ignore = true;
    assert_finds(&f, &req, "src/lib\nsrc/lib/A.H\nsrc/lib/five.c\nsrc/link\nsrc/old.c\n");
    ProtobufCBinaryData globs[] = {bytes("*.{c,h}")};
    filter.n_globs = 1;
    filter.globs = globs;
    assert_finds(&f, &req, "src/lib/five.c\nsrc/old.c\n");
    filter.case_insensitive = true;
    assert_finds(&f, &req, "src/lib/A.H\nsrc/lib/five.c\nsrc/old.c\n");
    filter.max_depth = 1;
    assert_finds(&f, &req, "src/old.c\n");

    req = find_request(".");
    filter = (FileFilter)FILE_FILTER__INIT;
    req.filter = &filter;
    filter.hidden = true;
    FileKind kinds[] = {FILE_KIND_SYMLINK};
    req.n_kinds = 1;
    req.kinds = kinds;
    assert_finds(&f, &req, "src/link\n");
    kinds[0] = FILE_KIND_REGULAR;
    assert_finds(&f, &req, ".env\nsrc/.gitignore\nsrc/lib/five.c\nsrc/old.c\n");
    filter.always_ignored = true;
    assert_finds(&f, &req, ".env\n.git/HEAD\nsrc/.gitignore\nsrc/lib/five.c\nsrc/old.c\n");
    req.min_size = 5;
    assert_finds(&f, &req, "src/lib/five.c\n");
    req.max_size = 4;
    assert_finds(&f, &req, "");
    req.min_size = req.max_size = 0;
    Google__Protobuf__Timestamp t = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    t.seconds = 1000000000;
    req.modified_before = &t;
    assert_finds(&f, &req, "src/old.c\n");

    req = find_request(".");
    req.limit = 2;
    cleanup_buf struct sa_buf got = {0};
    FindSummary summary;
    assert_string_equal(find(&f, &req, &got, &summary), "");
    assert_string_equal(sa_buf_string(&got), "src\nsrc/lib\n");
    assert_true(summary.limit_reached);
    assert_int_equal(summary.files, 2);
    end(&f);
}

static void bad_requests_have_reasons(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    test_put(f.ws, "file", "x");
    cleanup_buf struct sa_buf got = {0};
    FindFilesRequest req = find_request("missing");
    assert_string_equal(find(&f, &req, &got, NULL), "FILE_NOT_FOUND");
    req = find_request("..");
    assert_string_equal(find(&f, &req, &got, NULL), "INVALID_PATH");
    req = find_request("file");
    assert_string_equal(find(&f, &req, &got, NULL), "NOT_A_DIRECTORY");
    req.root = (char *)(uintptr_t) "none";
    assert_string_equal(find(&f, &req, &got, NULL), "ROOT_NOT_FOUND");
    req = find_request(".");
    FileFilter filter = FILE_FILTER__INIT;
    ProtobufCBinaryData bad[] = {bytes("[a")}, *many = sa_calloc(257, sizeof *many);
    for (size_t i = 0; i < 257; i++)
        many[i] = bytes("x");
    req.filter = &filter;
    filter.n_globs = 1;
    filter.globs = bad;
    assert_string_equal(find(&f, &req, &got, NULL), "INVALID_PATTERN");
    filter.globs = many;
    filter.n_globs = 256;
    assert_string_equal(find(&f, &req, &got, NULL), "");
    filter.n_globs = 257;
    assert_string_equal(find(&f, &req, &got, NULL), "INVALID_REQUEST");
    free(many);
    end(&f);
}

/* ---- content ---- */

struct query {
    const char *path, *pattern;
    bool literal, ignore_case, word, binary;
    uint32_t before, after, max_per_file, max_matches, max_line;
};

/* Lines as ripgrep prints them: "path:number:text" and "path-number-text". */
static const char *search_lines(struct service_fixture *f, const struct query *q, struct sa_buf *ret,
                                SearchSummary *summary)
{
    SearchFilesRequest req = SEARCH_FILES_REQUEST__INIT;
    req.root = (char *)(uintptr_t) "ws";
    req.path = bytes(q->path ? q->path : ".");
    req.pattern = bytes(q->pattern);
    req.literal = q->literal;
    req.ignore_case = q->ignore_case;
    req.word = q->word;
    req.binary = q->binary;
    req.before = q->before;
    req.after = q->after;
    req.max_per_file = q->max_per_file;
    req.max_matches = q->max_matches;
    req.max_line = q->max_line;
    cleanup_error sa_error *err = NULL;
    struct rpc_stream *s = search_files_begin(f->caller.channel, &req, &patient);
    SearchFilesResponse *res;
    while (search_files_next(s, &res, &err) == 1) {
        for (size_t i = 0; i < res->n_lines; i++) {
            const SearchedLine *l = res->lines[i];
            char sign = l->n_ranges ? ':' : '-';
            sa_buf_addf(ret, "%.*s%c%u%c%.*s%s\n", (int)res->path.len, (char *)res->path.data, sign,
                        (unsigned)l->number, sign, (int)l->text.len, (char *)l->text.data, l->cut ? "~" : "");
            for (size_t k = 0; k < l->n_ranges; k++)
                assert_true(l->ranges[k]->start <= l->ranges[k]->end && l->ranges[k]->end <= l->text.len);
        }
        if (res->summary && summary)
            *summary = *res->summary;
        rpc_message_free(res);
    }
    rpc_stream_free(s);
    if (err)
        print_message("    %s\n", err->message);
    return reason_of(err);
}

static void lines_are_found_in_all_files(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    test_mkdir(f.ws, "d");
    test_put(f.ws, "a", "one\ntwo foo\nthree\nFOO\n");
    test_put(f.ws, "d/b", "food\n");
    test_put(f.ws, "ignored", "foo\n");
    test_put(f.ws, ".gitignore", "ignored\n");
    test_link("a", f.ws, "link");
    cleanup_free char *binary = sa_format("%s/bin", f.ws);
    assert_int_equal(sa_write_file(binary, "foo\0", 4, 0644, NULL), 0);
    SearchSummary summary;
    cleanup_buf struct sa_buf plain = {0}, context = {0}, word = {0}, one = {0};
    assert_string_equal(search_lines(&f, &(struct query){.pattern = "foo"}, &plain, &summary), "");
    assert_string_equal(sa_buf_string(&plain), "a:2:two foo\nd/b:1:food\n");
    assert_int_equal(summary.files, 2);
    assert_int_equal(summary.files_with_matches, 2);
    assert_int_equal(summary.matches, 2);
    assert_int_equal(summary.binary, 1);
    assert_int_equal(summary.unreadable, 0);
    assert_false(summary.limit_reached);
    assert_string_equal(
        search_lines(&f, &(struct query){.pattern = "foo", .before = 1, .after = 1}, &context, NULL), "");
    assert_string_equal(sa_buf_string(&context), "a-1-one\na:2:two foo\na-3-three\nd/b:1:food\n");
    assert_string_equal(search_lines(&f,
                                     &(struct query){.pattern = "f(o)\\1", .word = true, .ignore_case = true},
                                     &word, NULL),
                        "");
    assert_string_equal(sa_buf_string(&word), "a:2:two foo\na:4:FOO\n");
    assert_string_equal(search_lines(&f, &(struct query){.path = "ignored", .pattern = "o", .max_matches = 1},
                                     &one, &summary),
                        "");
    assert_string_equal(sa_buf_string(&one), "ignored:1:foo\n");
    assert_true(summary.limit_reached);
    assert_string_equal(search_lines(&f, &(struct query){.pattern = "(a"}, &one, NULL), "INVALID_PATTERN");
    assert_string_equal(search_lines(&f, &(struct query){.pattern = "x", .before = 101}, &one, NULL),
                        "INVALID_REQUEST");
    test_put(f.ws, "trap", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!\n");
    assert_string_equal(search_lines(&f, &(struct query){.pattern = "^(a|aa)+$"}, &one, NULL),
                        "PATTERN_TOO_COSTLY");
    end(&f);
}

static void long_lines_are_cut_around_the_match(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    cleanup_buf struct sa_buf text = {0};
    for (int i = 0; i < 5000; i++)
        sa_buf_addf(&text, "\xc3\xa4");
    sa_buf_addf(&text, "needle");
    for (int i = 0; i < 5000; i++)
        sa_buf_addf(&text, ".");
    test_put(f.ws, "f", sa_buf_string(&text));
    SearchFilesRequest req = SEARCH_FILES_REQUEST__INIT;
    req.root = (char *)(uintptr_t) "ws";
    req.path = bytes("f");
    req.pattern = bytes("needle");
    req.max_line = 101;
    struct rpc_stream *s = search_files_begin(f.caller.channel, &req, &patient);
    SearchFilesResponse *res;
    assert_int_equal(search_files_next(s, &res, NULL), 1);
    assert_int_equal(res->n_lines, 1);
    const SearchedLine *l = res->lines[0];
    assert_true(l->cut);
    assert_true(l->text.len <= 101);
    assert_int_equal(l->text_start % 2, 0); /* a whole character */
    assert_int_equal(l->n_ranges, 1);
    assert_memory_equal(l->text.data + l->ranges[0]->start, "needle", 6);
    assert_int_equal(l->text_start + l->ranges[0]->start, 10000);
    rpc_message_free(res);
    rpc_stream_free(s);
    end(&f);
}

static void the_best_paths_come_first(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    test_mkdir(f.ws, "src/main");
    test_put(f.ws, "src/main.c", "");
    test_put(f.ws, "src/main/other.c", "");
    test_put(f.ws, "src/xmxaxixn.c", "");
    test_put(f.ws, "README", "");
    RankFilesRequest req = RANK_FILES_REQUEST__INIT;
    req.root = (char *)(uintptr_t) "ws";
    req.path = bytes("src");
    req.query = bytes("main");
    req.limit = 2;
    RankFilesResponse *res = rank_files_wait(f.caller.channel, &req, &patient, NULL);
    assert_non_null(res);
    assert_int_equal(res->n_files, 2);
    assert_memory_equal(res->files[0]->path.data, "src/main.c", 10);
    assert_int_equal(res->files[0]->n_positions, 4);
    assert_int_equal(res->files[0]->positions[0], 4);
    assert_memory_equal(res->files[1]->path.data, "src/main/other.c", 16);
    assert_int_equal(res->summary->files, 3);
    assert_true(res->summary->limit_reached);
    rpc_message_free(res);
    end(&f);
}

static bool has_no_threads(void *user)
{
    struct service_fixture *f = user;
    cleanup_free char *command = sa_format("test $(ls /proc/%d/task | wc -l) -lt 40", (int)f->program.pid);
    return system(command) == 0;
}

/* Callers that leave in the middle cost nothing for longer: their places are free again at once. */
static void a_caller_that_leaves_ends_the_search(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    assert_shell("", "cd '%s' && for i in $(seq 100); do mkdir d$i; (cd d$i && seq 200 | xargs touch); done",
                 f.ws);
    assert_shell("", "cd '%s' && yes 'a line of text' | head -c 200M > large", f.ws);
    for (int round = 0; round < 3; round++) {
        struct rpc_stream *s[32];
        for (int i = 0; i < 32; i += 2) {
            FindFilesRequest find_req = find_request(".");
            s[i] = find_files_begin(f.caller.channel, &find_req, &patient);
            SearchFilesRequest req = SEARCH_FILES_REQUEST__INIT;
            req.root = (char *)(uintptr_t) "ws";
            req.path = bytes("large");
            req.pattern = bytes("l[i]ne");
            req.max_matches = 1000000;
            s[i + 1] = search_files_begin(f.caller.channel, &req, &patient);
        }
        SearchFilesResponse *res;
        if (search_files_next(s[1], &res, NULL) == 1)
            rpc_message_free(res);
        for (int i = 0; i < 32; i++)
            rpc_stream_free(s[i]);
    }
    wait_until(has_no_threads, &f, "the threads have ended");
    FindFilesRequest req = find_request(".");
    req.limit = 1;
    assert_finds(&f, &req, "d1\n");
    end(&f);
}

static void a_large_file_is_searched_in_constant_memory(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    assert_shell("", "cd '%s' && truncate -s 400M f && printf '\\nneedle\\n' >> f", f.ws);
    cleanup_buf struct sa_buf got = {0};
    SearchSummary summary;
    uint64_t start = sa_now_ms();
    assert_string_equal(
        search_lines(&f, &(struct query){.path = "f", .pattern = "needle", .binary = true}, &got, &summary),
        "");
    print_message("400 MiB in %llu ms\n", (unsigned long long)(sa_now_ms() - start));
    assert_string_equal(sa_buf_string(&got), "f:2:needle\n");
    assert_shell("", "awk '/VmHWM/ && $2 > 400000 {print}' /proc/%d/status", (int)f.program.pid);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_found_by_what_is_asked),
        cmocka_unit_test(bad_requests_have_reasons),
        cmocka_unit_test(lines_are_found_in_all_files),
        cmocka_unit_test(long_lines_are_cut_around_the_match),
        cmocka_unit_test(the_best_paths_come_first),
        cmocka_unit_test(a_caller_that_leaves_ends_the_search),
        cmocka_unit_test(a_large_file_is_searched_in_constant_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
