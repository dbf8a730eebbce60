/* Records that were cut, mixed up or made up are not believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "services/process-svc/shim/protocol.h"

/* A spec: "/", {"echo", "hello"}, {"A=b"}, one group, one cgroup with one setting, a pattern without NUL. */
static size_t make_spec(uint8_t *buf)
{
    static const char strings[] = "/\0echo\0hello\0A=b\0/g\0/g/max\0"
                                  "7\0ready";
    enum { STRINGS = sizeof strings - 1 };
    struct shim_spec s = {
        .magic = SHIM_SPEC_MAGIC, .version = SHIM_VERSION, .argc = 2, .envc = 1, .n_groups = 1};
    s.cwd_bytes = 2;
    s.argv_bytes = 11;
    s.env_bytes = 4;
    s.journal_bytes = SHIM_JOURNAL_MIN;
    strcpy(s.id, "01h00000000000000000000000");
    s.n_cgroups = s.n_settings = 1;
    s.cgroups_bytes = 3;
    s.settings_bytes = 9;
    s.pattern_bytes = 5;
    s.size = (uint32_t)(sizeof s + 4 + STRINGS);
    memcpy(buf, &s, sizeof s);
    memset(buf + sizeof s, 1, 4);
    memcpy(buf + sizeof s + 4, strings, STRINGS);
    return s.size;
}

static void a_spec_is_taken_apart(void **state)
{
    (void)state;
    _Alignas(8) uint8_t buf[512];
    struct shim_spec_parts parts;
    size_t n = make_spec(buf);
    assert_true(shim_check_spec(buf, n, &parts));
    assert_string_equal(parts.cwd, "/");
    assert_string_equal(parts.argv, "echo");
    assert_string_equal(parts.argv + 5, "hello");
    assert_string_equal(parts.env, "A=b");
    assert_int_equal(parts.groups[0], 0x01010101);
    assert_string_equal(parts.cgroups, "/g");
    assert_string_equal(parts.settings, "/g/max");
    assert_string_equal(parts.settings + 7, "7");
    assert_memory_equal(parts.pattern, "ready", 5);
}

static void a_spec_for_a_runner_has_no_id_and_fits_into_its_file(void **state)
{
    (void)state;
    _Alignas(8) uint8_t buf[512];
    struct shim_spec *s = (void *)buf;
    struct shim_spec_parts parts;
    size_t n = make_spec(buf);
    s->flags = SHIM_FLAG_RUN;
    assert_false(shim_check_spec(buf, n, &parts));
    memset(s->id, 0, sizeof s->id);
    s->journal_bytes = RUNNER_OUTPUT_MAX;
    assert_true(shim_check_spec(buf, n, &parts));
    s->journal_bytes++;
    assert_false(shim_check_spec(buf, n, &parts));
}

static void a_spec_that_does_not_hold_together_is_refused(void **state)
{
    (void)state;
    _Alignas(8) uint8_t buf[512];
    struct shim_spec_parts parts;
    size_t n = make_spec(buf);
    for (size_t cut = 0; cut < n; cut++)
        assert_false(shim_check_spec(buf, cut, &parts));
    assert_false(shim_check_spec(buf, n + 1, &parts));
    /* Any field at its extremes: never a crash, never a part that lies outside. */
    for (size_t at = 0; at < sizeof(struct shim_spec); at++)
        for (int v = 0; v < 256; v++) {
            make_spec(buf);
            buf[at] = (uint8_t)v;
            if (shim_check_spec(buf, n, &parts))
                assert_true(parts.pattern <= (char *)buf + n);
        }
    n = make_spec(buf);
    buf[n - 6] = 'x'; /* the last string has no end */
    assert_false(shim_check_spec(buf, n, &parts));
    make_spec(buf);
    strcpy(((struct shim_spec *)(void *)buf)->id, "../../../../../../../../etc");
    assert_false(shim_check_spec(buf, n, &parts));
}

static void requests_out_of_range_are_refused(void **state)
{
    (void)state;
    struct {
        struct shim_request r;
        uint8_t data[SHIM_INPUT_CHUNK_MAX + 1];
    } m = {.r = {.magic = SHIM_REQUEST_MAGIC, .version = SHIM_VERSION, .type = SHIM_INPUT, .number = 1}};
    struct shim_request r;
    assert_true(shim_check_request(&m, sizeof m.r, &r));
    assert_true(shim_check_request(&m, sizeof m.r + SHIM_INPUT_CHUNK_MAX, &r));
    assert_false(shim_check_request(&m, sizeof m.r + SHIM_INPUT_CHUNK_MAX + 1, &r));
    assert_false(shim_check_request(&m, sizeof m.r - 1, &r));
    assert_false(shim_check_request(&m, 0, &r));
    m.r.type = SHIM_ACK;
    assert_true(shim_check_request(&m, sizeof m.r, &r));
    assert_false(shim_check_request(&m, sizeof m.r + 1, &r));
    m.r.stream = SHIM_STREAMS;
    assert_false(shim_check_request(&m, sizeof m.r, &r));
    m.r = (struct shim_request){SHIM_REQUEST_MAGIC, SHIM_VERSION, SHIM_SIGNAL, 0, 64, SHIM_SCOPE_TREE, 1, 0};
    assert_true(shim_check_request(&m, sizeof m.r, &r));
    m.r.value = 65;
    assert_false(shim_check_request(&m, sizeof m.r, &r));
    m.r.value = 9;
    m.r.scope = 4;
    assert_false(shim_check_request(&m, sizeof m.r, &r));
    m.r.scope = SHIM_SCOPE_TREE;
    m.r.version++;
    assert_false(shim_check_request(&m, sizeof m.r, &r));
    m.r.version--;
    m.r.type = SHIM_RESIZE + 1;
    assert_false(shim_check_request(&m, sizeof m.r, &r));
    m.r.type = SHIM_RESIZE;
    m.r.value = 1;
    m.r.scope = SHIM_SIDE_MAX;
    assert_true(shim_check_request(&m, sizeof m.r, &r));
    m.r.scope++;
    assert_false(shim_check_request(&m, sizeof m.r, &r));
    m.r.scope = 1;
    m.r.value = 0;
    assert_false(shim_check_request(&m, sizeof m.r, &r));
}

static void an_exit_record_with_one_wrong_bit_is_no_exit_record(void **state)
{
    (void)state;
    struct shim_exit e = {.kind = SHIM_EXIT_CODE, .value = 3, .time_us = 12345, .end = {1, 2}}, r;
    shim_seal_exit(&e);
    assert_true(shim_check_exit(&e, sizeof e, &r));
    assert_int_equal(r.value, 3);
    for (size_t bit = 0; bit < sizeof e * 8; bit++) {
        struct shim_exit wrong = e;
        ((uint8_t *)&wrong)[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(shim_check_exit(&wrong, sizeof wrong, &r));
    }
    for (size_t n = 0; n < sizeof e; n++)
        assert_false(shim_check_exit(&e, n, &r));
    e.value = 256;
    shim_seal_exit(&e);
    assert_false(shim_check_exit(&e, sizeof e, &r));
}

static void a_status_must_make_sense(void **state)
{
    (void)state;
    struct shim_status s = {.magic = SHIM_STATUS_MAGIC, .version = SHIM_VERSION, .phase = SHIM_RUNNING}, r;
    s.end[0] = 5;
    s.first[0] = 5;
    assert_true(shim_check_status(&s, sizeof s, &r));
    assert_false(shim_check_status(&s, sizeof s - 1, &r));
    assert_false(shim_check_status(&s, sizeof s + 1, &r));
    s.first[0] = 6;
    assert_false(shim_check_status(&s, sizeof s, &r));
    s.first[0] = 0;
    s.phase = SHIM_EXITED; /* without an exit record */
    assert_false(shim_check_status(&s, sizeof s, &r));
    s.phase = SHIM_BACKING_OFF;
    assert_false(shim_check_status(&s, sizeof s, &r));
    s.exit.kind = SHIM_EXIT_CODE;
    shim_seal_exit(&s.exit);
    assert_true(shim_check_status(&s, sizeof s, &r));
    s.restarts = 1; /* without the end that it followed */
    assert_false(shim_check_status(&s, sizeof s, &r));
    s.last_exit = s.exit;
    assert_true(shim_check_status(&s, sizeof s, &r));
    s.phase = 0;
    assert_false(shim_check_status(&s, sizeof s, &r));
}

static void we_know_our_own_start(void **state)
{
    (void)state;
    int parent, session;
    bool zombie;
    assert_true(shim_process_start(getpid(), &parent, &session, &zombie) > 0);
    assert_int_equal(parent, getppid());
    assert_int_equal(session, getsid(0));
    assert_false(zombie);
    assert_int_equal(shim_process_start(0x3fffffff, NULL, NULL, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_spec_is_taken_apart),
        cmocka_unit_test(a_spec_for_a_runner_has_no_id_and_fits_into_its_file),
        cmocka_unit_test(a_spec_that_does_not_hold_together_is_refused),
        cmocka_unit_test(requests_out_of_range_are_refused),
        cmocka_unit_test(an_exit_record_with_one_wrong_bit_is_no_exit_record),
        cmocka_unit_test(a_status_must_make_sense),
        cmocka_unit_test(we_know_our_own_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
