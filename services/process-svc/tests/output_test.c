/* Output: exact at any speed, across kill -9, within its bounds. */
#include "services/process-svc/tests/fixture.h"

enum { LINES = 64 * MIB / LINE };

static struct spec *counter(uint64_t lines, RetentionPolicy retention, uint64_t journal_bytes)
{
    struct spec *spec = shell(counting(lines));
    spec->message.stdout_retention = retention;
    spec->message.journal_bytes = journal_bytes;
    return spec;
}

/* Follows from *offset until `until` or the exit (true), checking each byte; acknowledges what it has read
 * when asked to. */
static bool follow(struct attached *a, uint64_t *offset, uint64_t until, bool acknowledge)
{
    uint64_t acknowledged = *offset;
    while (*offset < until && next(a)) {
        if (a->message->kind_case == ATTACH_PROCESS_RESPONSE__KIND_EXITED)
            return true;
        assert_int_equal(a->message->kind_case, ATTACH_PROCESS_RESPONSE__KIND_OUTPUT);
        const AttachOutput *out = a->message->output;
        assert_int_equal(out->offset, *offset);
        assert_counts(out->data.data, out->data.len, *offset);
        *offset += out->data.len;
        if (acknowledge && *offset - acknowledged > 256 << 10)
            put_ack(a, acknowledged = *offset);
    }
    if (*offset < until)
        fail_msg("the attachment ended at byte %llu: %s", (unsigned long long)*offset,
                 a->err ? a->err->message : "OK");
    return false;
}

static void a_follower_gets_every_byte_of_a_fast_child(void **state)
{
    struct svc *s = *state;
    const char *id = start(s, counter(LINES, RETENTION_POLICY_ACKNOWLEDGED, 1 << 20));
    struct attached a = attach_output(s, id, 0);
    uint64_t offset = 0;
    assert_true(follow(&a, &offset, UINT64_MAX, true));
    assert_int_equal(offset, 64 * MIB);
    assert_int_equal(a.message->exited->exit_code, 0);
    assert_false(next(&a));
    assert_null(a.err);
    detach(&a);
}

static void a_slow_follower_gets_every_byte_and_slows_nobody(void **state)
{
    struct svc *s = *state;
    const char *id = start(s, counter(LINES, RETENTION_POLICY_RING, 128 * MIB));
    struct attached slow = attach_output(s, id, 0), fast = attach_output(s, id, 0);
    uint64_t slow_at = 0, fast_at = 0;
    follow(&slow, &slow_at, 1000, false); /* and then it does not read for as long as the other does */
    assert_true(follow(&fast, &fast_at, UINT64_MAX, false));
    wait_for(s, id);
    assert_true(follow(&slow, &slow_at, UINT64_MAX, false));
    assert_int_equal(slow_at, 64 * MIB);
    assert_int_equal(fast_at, 64 * MIB);
    detach(&slow);
    detach(&fast);
}

/* Acknowledges first what it has: an acknowledgement before may have died with the service, and a full
 * journal would block the child for ever. */
static struct attached attach_owner(struct svc *s, const char *id, uint64_t offset)
{
    AttachOpen open = ATTACH_OPEN__INIT;
    open.process_id = (char *)(uintptr_t)id;
    open._stdout_offset_case = ATTACH_OPEN___STDOUT_OFFSET_STDOUT_OFFSET;
    open._stdout_ack_case = ATTACH_OPEN___STDOUT_ACK_STDOUT_ACK;
    open.stdout_offset = open.stdout_ack = offset;
    struct attached a = attach(s, &open);
    assert_true(next(&a)); /* opened */
    return a;
}

static void a_killed_service_costs_no_byte_and_repeats_none(void **state)
{
    struct svc *s = *state;
    const char *id = start(s, counter(LINES, RETENTION_POLICY_ACKNOWLEDGED, 1 << 20));
    uint64_t offset = 0;
    for (int round = 1; round <= 4; round++) {
        struct attached a = attach_owner(s, id, offset);
        follow(&a, &offset, (uint64_t)round * 10 * MIB + 4321, true);
        program_signal(&s->program, SIGKILL);
        detach(&a);
        svc_kill(s);
        svc_again(s, NULL);
    }
    struct attached a = attach_owner(s, id, offset);
    assert_true(follow(&a, &offset, UINT64_MAX, true));
    assert_int_equal(offset, 64 * MIB);
    detach(&a);
    assert_int_equal(wait_for(s, id)->exit_code, 0);
}

struct watched {
    struct svc *s;
    const char *id;
    uint64_t end;
};

static bool output_stands(void *user)
{
    struct watched *u = user;
    uint64_t end = get(u->s, u->id)->stdout_end;
    bool stands = end && end == u->end;
    u->end = end;
    return stands;
}

static void unacknowledged_output_blocks_the_child_and_is_not_cut(void **state)
{
    struct svc *s = *state;
    const char *id = start(s, counter(MIB / LINE, RETENTION_POLICY_ACKNOWLEDGED, 64 << 10));
    struct watched blocked = {s, id, 0};
    wait_until(output_stands, &blocked, "the output stands still");
    Process *p = get(s, id);
    assert_int_equal(p->stdout_end, 64 << 10);
    assert_int_equal(p->stdout_first, 0);
    assert_int_equal(p->state, PROCESS_STATE_RUNNING);
    /* An owner that was killed between its commit and its acknowledgement acknowledges when it attaches. */
    AttachOpen open = ATTACH_OPEN__INIT;
    open.process_id = (char *)(uintptr_t)id;
    open._stdout_offset_case = ATTACH_OPEN___STDOUT_OFFSET_STDOUT_OFFSET;
    open._stdout_ack_case = ATTACH_OPEN___STDOUT_ACK_STDOUT_ACK;
    open.stdout_offset = open.stdout_ack = 64 << 10;
    struct attached a = attach(s, &open);
    assert_true(next(&a));
    uint64_t offset = 64 << 10;
    follow(&a, &offset, 128 << 10, false);
    while (offset < MIB) { /* go on as the journal allows */
        put_ack(&a, offset);
        follow(&a, &offset, offset + 1, false);
    }
    assert_true(follow(&a, &offset, UINT64_MAX, false));
    assert_int_equal(offset, MIB);
    detach(&a);
}

static void a_ring_forgets_the_oldest_and_says_so(void **state)
{
    struct svc *s = *state;
    const char *id = start(s, counter(MIB / LINE, RETENTION_POLICY_RING, 64 << 10));
    wait_for(s, id);
    Process *p = get(s, id);
    assert_int_equal(p->stdout_end, MIB);
    assert_true(p->stdout_first > 0);
    assert_in_range(p->stdout_end - p->stdout_first, 48 << 10, 64 << 10);
    struct attached a = attach_output(s, id, 100);
    assert_true(next(&a));
    assert_int_equal(a.message->kind_case, ATTACH_PROCESS_RESPONSE__KIND_GAP);
    assert_int_equal(a.message->gap->first_offset, p->stdout_first);
    uint64_t offset = p->stdout_first;
    assert_true(follow(&a, &offset, UINT64_MAX, false));
    assert_int_equal(offset, MIB);
    detach(&a);
    /* Reading starts at what there is. */
    char *rest = output_of(s, id, OUTPUT_STREAM_STDOUT, 0);
    assert_int_equal(strlen(rest), MIB - p->stdout_first);
    assert_counts(rest, strlen(rest), p->stdout_first);
    assert_string_equal(read_error(s, id, OUTPUT_STREAM_STDOUT, MIB), "OK");
    assert_string_equal(read_error(s, id, OUTPUT_STREAM_STDOUT, MIB + 1), "OFFSET_AHEAD");
}

static void a_follower_of_a_ring_sees_gaps_but_nothing_wrong(void **state)
{
    struct svc *s = *state;
    const char *id = start(s, counter(LINES, RETENTION_POLICY_RING, 64 << 10));
    struct attached a = attach_output(s, id, 0);
    uint64_t offset = 0;
    while (next(&a) && a.message->kind_case != ATTACH_PROCESS_RESPONSE__KIND_EXITED) {
        if (a.message->kind_case == ATTACH_PROCESS_RESPONSE__KIND_GAP) {
            assert_true(a.message->gap->first_offset > offset);
            offset = a.message->gap->first_offset;
            continue;
        }
        assert_int_equal(a.message->output->offset, offset);
        assert_counts(a.message->output->data.data, a.message->output->data.len, offset);
        offset += a.message->output->data.len;
    }
    assert_non_null(a.message);
    assert_int_equal(offset, 64 * MIB);
    detach(&a);
}

static void both_streams_can_be_followed_at_once(void **state)
{
    struct svc *s = *state;
    const char *id = start_shell(s, "for i in 1 2 3 4 5 6 7 8 9; do echo o$i; echo e$i >&2; done");
    wait_for(s, id);
    AttachOpen open = ATTACH_OPEN__INIT;
    open.process_id = (char *)(uintptr_t)id;
    open._stdout_offset_case = ATTACH_OPEN___STDOUT_OFFSET_STDOUT_OFFSET;
    open._stderr_offset_case = ATTACH_OPEN___STDERR_OFFSET_STDERR_OFFSET;
    open.stderr_offset = 3;
    struct attached a = attach(s, &open);
    cleanup_buf struct sa_buf out = {0}, error = {0};
    assert_true(next(&a));
    while (next(&a) && a.message->kind_case == ATTACH_PROCESS_RESPONSE__KIND_OUTPUT) {
        const AttachOutput *o = a.message->output;
        sa_buf_add(o->stream == OUTPUT_STREAM_STDOUT ? &out : &error, o->data.data, o->data.len);
    }
    assert_int_equal(a.message->kind_case, ATTACH_PROCESS_RESPONSE__KIND_EXITED);
    assert_string_equal(sa_buf_string(&out), "o1\no2\no3\no4\no5\no6\no7\no8\no9\n");
    assert_string_equal(sa_buf_string(&error), "e2\ne3\ne4\ne5\ne6\ne7\ne8\ne9\n");
    detach(&a);
}

static void an_attachment_that_asks_for_what_cannot_be_is_refused(void **state)
{
    struct svc *s = *state;
    const char *id = start_shell(s, "echo hello; exec sleep 1000");
    struct attached a = attach_output(s, id, 0);
    uint64_t seen = 0;
    while (seen < 6 && next(&a))
        seen += a.message->output->data.len;
    put_ack(&a, 7);
    assert_false(next(&a));
    assert_string_equal(a.err->reason, "OFFSET_AHEAD");
    detach(&a);

    AttachOpen open = ATTACH_OPEN__INIT;
    open.process_id = (char *)(uintptr_t)id;
    open._stdout_offset_case = ATTACH_OPEN___STDOUT_OFFSET_STDOUT_OFFSET;
    open.stdout_offset = 7;
    a = attach(s, &open);
    assert_false(next(&a));
    assert_string_equal(a.err->reason, "OFFSET_AHEAD");
    assert_non_null(strstr(a.err->message, "ends at byte 6"));
    detach(&a);

    open.process_id = (char *)(uintptr_t) "01h00000000000000000000000";
    a = attach(s, &open);
    assert_false(next(&a));
    assert_string_equal(a.err->reason, "PROCESS_NOT_FOUND");
    detach(&a);

    a = (struct attached){.stream = attach_process_begin(s->channel, NULL)};
    put_input(&a, 0, "x", false);
    assert_false(next(&a));
    assert_string_equal(a.err->reason, "INVALID_REQUEST");
    detach(&a);
}

static void output_of_what_a_process_leaves_behind_comes_after_its_end(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *go = sa_format("%s/go", dir);
    cleanup_free char *command =
        sa_format("(while ! test -e %s; do sleep 0.01; done; echo late) & echo early", go);
    const char *id = start_shell(s, command);
    struct attached a = attach_output(s, id, 0);
    assert_true(next(&a));
    assert_memory_equal(a.message->output->data.data, "early\n", 6);
    assert_true(next(&a));
    assert_int_equal(a.message->kind_case, ATTACH_PROCESS_RESPONSE__KIND_EXITED);
    detach(&a);
    fclose(fopen(go, "w"));
    char *out;
    do
        out = output_of(s, id, OUTPUT_STREAM_STDOUT, 0);
    while (strlen(out) < 11);
    assert_string_equal(out, "early\nlate\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, svc_setup, svc_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_follower_gets_every_byte_of_a_fast_child),
        TEST(a_slow_follower_gets_every_byte_and_slows_nobody),
        TEST(a_killed_service_costs_no_byte_and_repeats_none),
        TEST(unacknowledged_output_blocks_the_child_and_is_not_cut),
        TEST(a_ring_forgets_the_oldest_and_says_so),
        TEST(a_follower_of_a_ring_sees_gaps_but_nothing_wrong),
        TEST(both_streams_can_be_followed_at_once),
        TEST(an_attachment_that_asks_for_what_cannot_be_is_refused),
        TEST(output_of_what_a_process_leaves_behind_comes_after_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
