/* Many processes: all are there, and what they cost is bounded. Prints times; asserts none. */
#include "services/process-svc/tests/fixture.h"

#include "adapters/os/clock.h"
#include "adapters/os/file.h"

enum {
    RUNNING = 1000,
    EXITED = 10000,
    LABELLED = 10,
    IN_FLIGHT = 16,
    SERVICE_KIB_PER_RUNNING = 64,
    SHIM_KIB = 192,
    SERVICE_KIB_FOR_EXITED = 32 * 1024,
};

static const struct rpc_call_options patient = {.deadline_ms = 120000};

/* ---- times ---- */

static uint64_t began_ns;

static void begin(void)
{
    began_ns = sa_now_ns();
}

static void print_time(const char *what, size_t n)
{
    double ms = (double)(sa_now_ns() - began_ns) / 1e6;
    printf("%-52s %9.1f ms %9.3f ms each\n", what, ms, ms / (double)n);
    fflush(stdout);
}

static int compare(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Memory that is the process's own doing, KiB. */
static size_t own_kib(int pid)
{
    cleanup_free char *path = sa_format("/proc/%d/smaps_rollup", pid);
    cleanup_buf struct sa_buf text = {0};
    assert_int_equal(sa_read_file(path, 1 << 16, &text, NULL), 0);
    const char *at = strstr(sa_buf_string(&text), "Anonymous:");
    assert_non_null(at);
    return strtoul(at + strlen("Anonymous:"), NULL, 10);
}

/* ---- many calls, some in flight ---- */

struct many {
    struct svc *s;
    size_t n, next, answered, wanted;
    char (*ids)[32];
    struct spec *(*spec_of)(size_t i);
    bool failed;
};

struct one {
    struct many *many;
    size_t i;
};

static void send_next(struct many *m);

static void answer(struct one *one, bool ok, const sa_error *err)
{
    struct many *m = one->many;
    if (!ok) {
        fprintf(stderr, "call %zu: %s\n", one->i, err ? err->message : "");
        m->failed = true;
    }
    m->answered++;
    free(one);
    send_next(m);
}

static void on_started(void *user, const StartProcessResponse *res, const sa_error *err)
{
    struct one *one = user;
    if (res)
        snprintf(one->many->ids[one->i], sizeof *one->many->ids, "%s", res->process->process_id);
    answer(one, res, err);
}

static void on_deleted(void *user, const DeleteProcessResponse *res, const sa_error *err)
{
    answer(user, res, err);
}

static void send_next(struct many *m)
{
    if (m->next == m->n || m->failed)
        return;
    struct one *one = malloc(sizeof *one);
    *one = (struct one){m, m->next++};
    if (m->spec_of) {
        StartProcessRequest req = START_PROCESS_REQUEST__INIT;
        struct spec *spec = m->spec_of(one->i);
        req.spec = &spec->message;
        start_process_call(m->s->channel, &req, &patient, on_started, one);
        free(spec);
    } else {
        DeleteProcessRequest req = DELETE_PROCESS_REQUEST__INIT;
        req.process_id = m->ids[one->i];
        req.kill = true;
        delete_process_call(m->s->channel, &req, &patient, on_deleted, one);
    }
}

static bool is_answered(void *user)
{
    struct many *m = user;
    program_read(&m->s->program);
    sa_loop_lock(m->s->caller.loop);
    bool is = m->answered >= m->wanted || m->failed;
    sa_loop_unlock(m->s->caller.loop);
    return is;
}

/* Starts (spec_of) or deletes all. */
static void for_all(struct svc *s, char (*ids)[32], size_t n, struct spec *(*spec_of)(size_t i))
{
    struct many m = {.s = s, .n = n, .ids = ids, .spec_of = spec_of};
    sa_loop_lock(s->caller.loop);
    for (int i = 0; i < IN_FLIGHT; i++)
        send_next(&m);
    sa_loop_unlock(s->caller.loop);
    while (m.wanted < n && !m.failed) {
        m.wanted = m.wanted + 1000 < n ? m.wanted + 1000 : n;
        wait_until(is_answered, &m, "the next thousand is answered");
    }
    assert_false(m.failed);
}

/* ---- looking ---- */

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Lists everything with this label, in pages; each is in ids, and is listed once. Returns how many. */
static size_t list_all(struct svc *s, const char *label, int page_size, char (*ids)[32], size_t n,
                       size_t *ret_pages)
{
    cleanup_free char *token = sa_strdup(""), *last = sa_strdup("~");
    size_t listed = 0;
    *ret_pages = 0;
    do {
        sa_error *err = NULL;
        ListProcessesRequest req = LIST_PROCESSES_REQUEST__INIT;
        req.page_size = page_size;
        req.page_token = token;
        req.label_key = (char *)(uintptr_t)label;
        ListProcessesResponse *res = list_processes_wait(s->channel, &req, &patient, &err);
        assert_non_null(res);
        for (size_t i = 0; i < res->n_processes; i++) {
            assert_true(strcmp(res->processes[i]->process_id, last) < 0); /* newest first, each once */
            free(last);
            last = sa_strdup(res->processes[i]->process_id);
            assert_non_null(bsearch(last, ids, n, sizeof *ids, by_text));
            listed++;
        }
        free(token);
        token = sa_strdup(res->next_page_token);
        rpc_message_free(res);
        ++*ret_pages;
    } while (*token);
    return listed;
}

static void print_gets(struct svc *s, const char *what, char (*ids)[32], size_t n)
{
    enum { GETS = 500 };
    static uint64_t ns[GETS];
    for (size_t i = 0; i < GETS; i++) {
        sa_error *err = NULL;
        GetProcessRequest req = GET_PROCESS_REQUEST__INIT;
        req.process_id = ids[i * 7919 % n];
        uint64_t start_ns = sa_now_ns();
        GetProcessResponse *res = get_process_wait(s->channel, &req, &patient, &err);
        ns[i] = sa_now_ns() - start_ns;
        assert_non_null(res);
        rpc_message_free(res);
    }
    qsort(ns, GETS, sizeof *ns, compare);
    printf("%-52s p50 %5.0f us   p99 %5.0f us   max %5.0f us\n", what, (double)ns[GETS / 2] / 1000,
           (double)ns[GETS * 99 / 100] / 1000, (double)ns[GETS - 1] / 1000);
}

/* Lists all the time: how long does that keep others waiting? */
static int stop_listing;

static void keep_listing(struct svc *s);

static void on_list(void *user, const ListProcessesResponse *res, const sa_error *err)
{
    struct svc *s = user;
    (void)res;
    (void)err;
    if (!stop_listing)
        keep_listing(s);
    else
        stop_listing = 2;
}

static void keep_listing(struct svc *s)
{
    ListProcessesRequest req = LIST_PROCESSES_REQUEST__INIT;
    req.page_size = 1000;
    req.label_key = (char *)(uintptr_t) "nobody has it";
    list_processes_call(s->channel, &req, &patient, on_list, s);
}

static bool listing_ended(void *user)
{
    struct svc *s = user;
    sa_loop_lock(s->caller.loop);
    bool ended = stop_listing == 2;
    sa_loop_unlock(s->caller.loop);
    return ended;
}

static void print_gets_beside_lists(struct svc *s, char (*ids)[32], size_t n)
{
    sa_loop_lock(s->caller.loop);
    stop_listing = 0;
    keep_listing(s);
    sa_loop_unlock(s->caller.loop);
    print_gets(s, "GetProcess beside lists that find nothing", ids, n);
    sa_loop_lock(s->caller.loop);
    stop_listing = 1;
    sa_loop_unlock(s->caller.loop);
    wait_until(listing_ended, s, "the last list is answered");
}

/* ---- a thousand that run ---- */

static struct spec *sleeper(size_t i)
{
    struct spec *spec = spec_new();
    (void)i;
    spec_word(spec, "sleep");
    spec_word(spec, "1000");
    return spec;
}

static void a_thousand_run_at_once(void **state)
{
    struct svc *s = *state;
    static char ids[RUNNING][32];
    size_t pages, before = own_kib(s->program.pid), shims = 0, largest = 0;
    begin();
    for_all(s, ids, RUNNING, sleeper);
    print_time("start 1,000 processes", RUNNING);
    qsort(ids, RUNNING, sizeof *ids, by_text);
    size_t service = own_kib(s->program.pid) - before;

    begin();
    assert_int_equal(list_all(s, "", 100, ids, RUNNING, &pages), RUNNING);
    print_time("list 1,000 running, pages of 100", pages);
    print_gets(s, "GetProcess, 1,000 running", ids, RUNNING);
    begin();
    TakeCensusResponse *c = census(s);
    print_time("census of 1,000 trees", 1);
    assert_int_equal(c->tree_count, RUNNING);
    assert_int_equal(c->n_trees, RUNNING);
    assert_int_equal(c->usage->processes, RUNNING);
    assert_int_equal(c->stray_count, 0);
    begin();
    GetProcessTreeResponse *tree = tree_of(s, ids[0]);
    print_time("tree of one of 1,000", 1);
    assert_int_equal(tree->n_processes, 1);

    for (size_t i = 0; i < RUNNING; i += 50) {
        size_t kib = own_kib(parent_of((int)get(s, ids[i])->pid));
        shims += kib;
        largest = kib > largest ? kib : largest;
    }
    printf("%-52s %zu KiB service, %zu KiB shim (largest %zu)\n", "memory of ours per running process",
           service / RUNNING, shims / (RUNNING / 50), largest);
    assert_true(service <= (size_t)RUNNING * SERVICE_KIB_PER_RUNNING);
    assert_true(largest <= SHIM_KIB);

    svc_kill(s);
    begin();
    svc_again(s, NULL);
    print_time("start of the service, 1,000 running", 1);
    assert_int_equal(census(s)->tree_count, RUNNING);

    begin();
    for_all(s, ids, RUNNING, NULL);
    print_time("delete 1,000 that run", RUNNING);
    c = census(s);
    assert_int_equal(c->tree_count, 0);
    assert_int_equal(c->stray_count, 0);
}

/* ---- ten thousand that have ended ---- */

static struct spec *short_one(size_t i)
{
    struct spec *spec = spec_new();
    spec_word(spec, "true");
    if (i % (EXITED / LABELLED) == 0) {
        spec->label.key = (char *)(uintptr_t) "rare";
        spec->label.value = (char *)(uintptr_t) "yes";
        spec->message.n_labels = 1;
    }
    return spec;
}

static bool all_have_ended(void *user)
{
    return census(user)->tree_count == 0;
}

static void ten_thousand_have_ended(void **state)
{
    struct svc *s = *state;
    static char ids[EXITED][32];
    size_t pages, before = own_kib(s->program.pid);
    begin();
    for_all(s, ids, EXITED, short_one);
    print_time("start 10,000 that end at once", EXITED);
    qsort(ids, EXITED, sizeof *ids, by_text);
    wait_until(all_have_ended, s, "all have ended");
    size_t service = own_kib(s->program.pid) - before;
    printf("%-52s %zu KiB\n", "memory of the service for 10,000 ended", service);
    assert_true(service <= SERVICE_KIB_FOR_EXITED);

    begin();
    assert_int_equal(list_all(s, "", 1000, ids, EXITED, &pages), EXITED);
    print_time("list 10,000 ended, pages of 1,000", pages);
    begin();
    assert_int_equal(list_all(s, "rare", 1000, ids, EXITED, &pages), LABELLED);
    print_time("list the 10 of them with a label", pages);
    print_gets(s, "GetProcess, 10,000 ended", ids, EXITED);
    print_gets_beside_lists(s, ids, EXITED);
    begin();
    census(s);
    print_time("census beside 10,000 ended", 1);

    svc_kill(s);
    begin();
    svc_again(s, NULL);
    print_time("start of the service, 10,000 ended", 1);
    printf("%-52s %zu KiB\n", "memory of the service after it", own_kib(s->program.pid));
    assert_int_equal(list_all(s, "", 1000, ids, EXITED, &pages), EXITED);
    begin();
    for_all(s, ids, EXITED, NULL);
    print_time("delete 10,000 ended", EXITED);
    assert_int_equal(list_all(s, "", 1000, ids, EXITED, &pages), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, svc_setup, svc_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_thousand_run_at_once),
        TEST(ten_thousand_have_ended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
