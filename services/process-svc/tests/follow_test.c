/* Followed output: both streams as one, in the order in which they came, from anywhere, at any speed. */
#include "services/process-svc/tests/follow.h"

#include <fcntl.h>

#include "adapters/os/clock.h"
#include "adapters/os/file.h"
#include "services/process-svc/shim/protocol.h"

/* Lines to both streams, each once the one before was seen by the service: so their order is known. */
#define STEPS                                                                                                \
    "step() { echo $1; read -r x; }; for i in 1 2 3 4 5; do step out$i; step err$i >&2; done; "              \
    "step out6; step out7; printf end"

static const char in_order[] = "out1\nerr1\nout2\nerr2\nout3\nerr3\nout4\nerr4\nout5\nerr5\nout6\nout7\nend";

static const char *run_steps(struct svc *s)
{
    const char *id = start_shell(s, STEPS);
    FollowOutputRequest req = following(id);
    struct followed f = follow(s, &req);
    struct attached input = attach(s, &(AttachOpen){PROTOBUF_C_MESSAGE_INIT(&attach_open__descriptor),
                                                    .process_id = (char *)(uintptr_t)id});
    cleanup_buf struct sa_buf text = {0};
    uint64_t at = 0;
    while (follow_next(&f) && f.message->kind_case == FOLLOW_OUTPUT_RESPONSE__KIND_OUTPUT) {
        const FollowedOutput *o = f.message->output;
        sa_buf_add(&text, o->data.data, o->data.len);
        if (o->data.len && o->data.data[o->data.len - 1] == '\n')
            put_input(&input, at++, "\n", false);
    }
    assert_int_equal(f.message->kind_case, FOLLOW_OUTPUT_RESPONSE__KIND_EXITED);
    assert_string_equal(sa_buf_string(&text), in_order);
    assert_false(follow_next(&f));
    assert_null(f.err);
    unfollow(&f);
    detach(&input);
    return id;
}

static const char *tail_of(struct svc *s, const char *id, uint32_t lines)
{
    FollowOutputRequest req = following(id);
    req.start_case = FOLLOW_OUTPUT_REQUEST__START_TAIL_LINES;
    req.tail_lines = lines;
    return followed_text(s, &req);
}

static const char *tail_bytes_of(struct svc *s, const char *id, uint64_t bytes)
{
    FollowOutputRequest req = following(id);
    req.start_case = FOLLOW_OUTPUT_REQUEST__START_TAIL_BYTES;
    req.tail_bytes = bytes;
    return followed_text(s, &req);
}

static void assert_tails(struct svc *s, const char *id)
{
    assert_string_equal(tail_of(s, id, 0), "<exited>");
    assert_string_equal(tail_of(s, id, 1), "end<exited>");
    assert_string_equal(tail_of(s, id, 2), "out7\nend<exited>");
    assert_string_equal(tail_of(s, id, 4), "err5\nout6\nout7\nend<exited>");
    assert_string_equal(tail_of(s, id, 5), "out5\nerr5\nout6\nout7\nend<exited>");
    assert_string_equal(tail_of(s, id, 13), keep_text(sa_format("%s<exited>", in_order)));
    assert_string_equal(tail_of(s, id, 100000), keep_text(sa_format("%s<exited>", in_order)));
    assert_string_equal(tail_bytes_of(s, id, 0), "<exited>");
    assert_string_equal(tail_bytes_of(s, id, 5), "7\nend<exited>");
    assert_string_equal(tail_bytes_of(s, id, 15), "5\nout6\nout7\nend<exited>");
    assert_string_equal(tail_bytes_of(s, id, UINT64_MAX), keep_text(sa_format("%s<exited>", in_order)));
}

static void both_streams_come_in_the_order_of_arrival(void **state)
{
    struct svc *s = *state;
    const char *id = run_steps(s);
    FollowOutputRequest req = following(id);
    /* live is the same as later, with tails, and after a restart of the service */
    for (int round = 0; round < 2; round++) {
        assert_string_equal(followed_text(s, &req), keep_text(sa_format("%s<exited>", in_order)));
        assert_tails(s, id);
        svc_kill(s);
        svc_again(s, NULL);
    }
}

static void one_stream_may_be_chosen(void **state)
{
    struct svc *s = *state;
    const char *id = run_steps(s);
    OutputStream stream = OUTPUT_STREAM_STDERR;
    FollowOutputRequest req = following(id);
    req.streams = &stream;
    req.n_streams = 1;
    assert_string_equal(followed_text(s, &req), "err1\nerr2\nerr3\nerr4\nerr5\n<exited>");
    req.start_case = FOLLOW_OUTPUT_REQUEST__START_TAIL_LINES;
    req.tail_lines = 2;
    assert_string_equal(followed_text(s, &req), "err4\nerr5\n<exited>");
    OutputOffsets offsets = OUTPUT_OFFSETS__INIT;
    offsets.stdout_offset = 1000000; /* of a stream that is not sent */
    offsets.stderr_offset = 15;
    req.start_case = FOLLOW_OUTPUT_REQUEST__START_OFFSETS;
    req.offsets = &offsets;
    assert_string_equal(followed_text(s, &req), "err4\nerr5\n<exited>");
}

static void offsets_go_on_where_a_reader_was(void **state)
{
    struct svc *s = *state;
    const char *id = run_steps(s);
    OutputOffsets offsets = OUTPUT_OFFSETS__INIT;
    FollowOutputRequest req = following(id);
    req.start_case = FOLLOW_OUTPUT_REQUEST__START_OFFSETS;
    req.offsets = &offsets;
    offsets.stdout_offset = 22;
    offsets.stderr_offset = 20;
    assert_string_equal(followed_text(s, &req), "t5\nerr5\nout6\nout7\nend<exited>");
    offsets.stdout_offset = 38;
    offsets.stderr_offset = 25;
    assert_string_equal(followed_text(s, &req), "<exited>");
    offsets.stdout_offset = 39;
    assert_string_equal(followed_text(s, &req), "<OFFSET_AHEAD>");
}

/* Reads until the output so far ends with `text`; the time of the last piece, microseconds. */
static int64_t read_until(struct followed *f, const char *text)
{
    cleanup_buf struct sa_buf all = {0};
    size_t n = strlen(text);
    while (all.len < n || memcmp(all.data + all.len - n, text, n) != 0) {
        if (!follow_next(f) || f->message->kind_case != FOLLOW_OUTPUT_RESPONSE__KIND_OUTPUT)
            fail_msg("`%s` did not come: %s", text, f->err ? f->err->message : "another message");
        sa_buf_add(&all, f->message->output->data.data, f->message->output->data.len);
    }
    const Google__Protobuf__Timestamp *t = f->message->output->time;
    assert_non_null(t);
    return t->seconds * 1000000 + t->nanos / 1000;
}

static void since_begins_at_a_time(void **state)
{
    struct svc *s = *state;
    const char *id = start_shell(s, "echo one; read -r x; echo two; echo three >&2; read -r x; printf four");
    struct attached input = attach(s, &(AttachOpen){PROTOBUF_C_MESSAGE_INIT(&attach_open__descriptor),
                                                    .process_id = (char *)(uintptr_t)id});
    FollowOutputRequest req = following(id);
    struct followed f = follow(s, &req);
    int64_t began = sa_wall_us();
    int64_t one = read_until(&f, "one\n");
    assert_true(one < sa_wall_us() + 5000 && one > began - 60 * 1000000);
    /* An index record covers 5 ms: let another one begin. */
    while (sa_wall_us() < one + 6000)
        usleep(1000);
    put_input(&input, 0, "\n", false);
    int64_t two = read_until(&f, "two\nthree\n");
    assert_true(two >= one);
    while (sa_wall_us() < two + 6000)
        usleep(1000);
    put_input(&input, 1, "\n", false);
    read_until(&f, "four");
    unfollow(&f);
    detach(&input);
    wait_for(s, id);

    Google__Protobuf__Timestamp since = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    req.start_case = FOLLOW_OUTPUT_REQUEST__START_SINCE;
    req.since = &since;
    assert_string_equal(followed_text(s, &req), "one\ntwo\nthree\nfour<exited>");
    since.seconds = (one + 5001) / 1000000;
    since.nanos = (int32_t)((one + 5001) % 1000000) * 1000;
    assert_string_equal(followed_text(s, &req), "two\nthree\nfour<exited>");
    since.seconds = (two + 5001) / 1000000;
    since.nanos = (int32_t)((two + 5001) % 1000000) * 1000;
    assert_string_equal(followed_text(s, &req), "four<exited>");
    since.seconds += 3600;
    assert_string_equal(followed_text(s, &req), "<exited>");
    since.nanos = 1000000000;
    assert_string_equal(followed_text(s, &req), "<INVALID_REQUEST>");
}

static void until_now_does_not_wait_for_the_end(void **state)
{
    struct svc *s = *state;
    const char *id = start_shell(s, "echo here; echo there >&2; exec sleep 1000");
    FollowOutputRequest req = following(id);
    struct followed f = follow(s, &req);
    read_until(&f, "here\nthere\n");
    unfollow(&f);
    req.until_now = true;
    assert_string_equal(followed_text(s, &req), "here\nthere\n");
    req.start_case = FOLLOW_OUTPUT_REQUEST__START_TAIL_LINES;
    req.tail_lines = 1;
    assert_string_equal(followed_text(s, &req), "there\n");
    delete_it(s, id, true);
    assert_string_equal(followed_text(s, &req), "<PROCESS_NOT_FOUND>");
}

/* What was written before the call is what "now" means, also when the service has not been told of it yet. */
static void until_now_has_all_that_was_written_before(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *file = sa_format("%s/pid", dir);
    cleanup_free char *command =
        sa_format("seq %llu %llu; echo $$ >%s; exec sleep 1000", COUNT_FROM, COUNT_FROM + 9999, file);
    const char *id = start_shell(s, command);
    pid_in_file(file);
    FollowOutputRequest req = following(id);
    req.until_now = true;
    const char *text = followed_text(s, &req);
    /* The last 64 KiB may still be in the pipe: they were written, but they have not come. */
    assert_in_range(strlen(text), 10000 * LINE - 65536, 10000 * LINE);
    assert_counts(text, strlen(text), 0);
}

static void a_mistaken_request_is_refused(void **state)
{
    struct svc *s = *state;
    const char *id = start_shell(s, "exit 0");
    OutputStream stream = (OutputStream)7;
    FollowOutputRequest req = following(id);
    req.streams = &stream;
    req.n_streams = 1;
    assert_string_equal(followed_text(s, &req), "<INVALID_REQUEST>");
    req = following(id);
    req.slow_policy = (SlowFollowerPolicy)9;
    assert_string_equal(followed_text(s, &req), "<INVALID_REQUEST>");
    assert_string_equal(tail_of(s, id, 100001), "<INVALID_REQUEST>");
    req = following("01h00000000000000000000000");
    assert_string_equal(followed_text(s, &req), "<PROCESS_NOT_FOUND>");
}

/* ---- what is no longer kept ---- */

static struct spec *ring(const char *command)
{
    struct spec *spec = shell(command);
    spec->message.journal_bytes = 64 << 10;
    return spec;
}

static void what_is_no_longer_kept_is_a_gap(void **state)
{
    struct svc *s = *state;
    const char *id = start(s, ring(counting(MIB / LINE)));
    wait_for(s, id);
    uint64_t kept = get(s, id)->stdout_first;
    OutputOffsets offsets = OUTPUT_OFFSETS__INIT;
    FollowOutputRequest req = following(id);
    req.start_case = FOLLOW_OUTPUT_REQUEST__START_OFFSETS;
    req.offsets = &offsets;
    req.slow_policy = SLOW_FOLLOWER_POLICY_DISCONNECT; /* it is not slow, it comes late */
    struct followed f = follow(s, &req);
    assert_true(follow_next(&f));
    assert_int_equal(f.message->kind_case, FOLLOW_OUTPUT_RESPONSE__KIND_GAP);
    assert_int_equal(f.message->gap->first_offset, kept);
    for (uint64_t at = kept; at < MIB;) {
        assert_true(follow_next(&f));
        assert_int_equal(f.message->output->offset, at);
        assert_counts(f.message->output->data.data, f.message->output->data.len, at);
        at += f.message->output->data.len;
    }
    assert_true(follow_next(&f));
    assert_int_equal(f.message->kind_case, FOLLOW_OUTPUT_RESPONSE__KIND_EXITED);
    unfollow(&f);
    /* Tails reach back to what is kept. */
    const char *all = tail_of(s, id, 100000), *bytes = tail_bytes_of(s, id, 10 * MIB);
    assert_int_equal(strlen(all), MIB - kept + strlen("<exited>"));
    assert_string_equal(all, bytes);
}

/* Starts a child that overruns its ring while a follower does not read. */
static struct followed overrun(struct svc *s, SlowFollowerPolicy policy)
{
    const char *id = start(s, ring("printf '%.15s\\n' 100000000000000; read -r x; "
                                   "exec seq 100000000000001 100000004194303"));
    FollowOutputRequest req = following(id);
    req.slow_policy = policy;
    struct followed f = follow(s, &req);
    assert_true(follow_next(&f)); /* it has come so far, and now it stands */
    struct attached input = attach(s, &(AttachOpen){PROTOBUF_C_MESSAGE_INIT(&attach_open__descriptor),
                                                    .process_id = (char *)(uintptr_t)id});
    put_input(&input, 0, "\n", false);
    wait_for(s, id);
    detach(&input);
    return f;
}

static void a_follower_that_stands_gets_a_gap(void **state)
{
    struct svc *s = *state;
    struct followed f = overrun(s, SLOW_FOLLOWER_POLICY_GAP);
    uint64_t at = LINE, gaps = 0;
    while (follow_next(&f) && f.message->kind_case != FOLLOW_OUTPUT_RESPONSE__KIND_EXITED) {
        if (f.message->kind_case == FOLLOW_OUTPUT_RESPONSE__KIND_GAP) {
            assert_true(f.message->gap->first_offset > at);
            at = f.message->gap->first_offset;
            gaps++;
            continue;
        }
        assert_int_equal(f.message->output->offset, at);
        assert_counts(f.message->output->data.data, f.message->output->data.len, at);
        at += f.message->output->data.len;
    }
    assert_non_null(f.message);
    assert_true(gaps > 0);
    assert_int_equal(at, 64 * MIB);
    unfollow(&f);
}

static void or_is_disconnected_if_it_prefers_that(void **state)
{
    struct svc *s = *state;
    struct followed f = overrun(s, SLOW_FOLLOWER_POLICY_DISCONNECT);
    uint64_t at = LINE;
    while (follow_next(&f)) {
        assert_int_equal(f.message->kind_case, FOLLOW_OUTPUT_RESPONSE__KIND_OUTPUT);
        assert_counts(f.message->output->data.data, f.message->output->data.len, at);
        at += f.message->output->data.len;
    }
    assert_string_equal(f.err->reason, "SLOW_READER");
    assert_true(at < 64 * MIB);
    unfollow(&f);
}

/* ---- damage ---- */

static char *journal_of(struct svc *s, const char *id, const char *name)
{
    return keep_text(sa_format("%s/process/processes/%s/%s", s->dir, id, name));
}

static void a_damaged_index_costs_the_order_only(void **state)
{
    struct svc *s = *state;
    const char *id = run_steps(s);
    FollowOutputRequest req = following(id);
    /* Too short: what it does not reach comes at the end, each stream in its own order. */
    assert_int_equal(truncate(journal_of(s, id, "out.index"), 40), 0);
    assert_string_equal(followed_text(s, &req), "out1\nerr1\nerr2\nerr3\nerr4\nerr5\n"
                                                "out2\nout3\nout4\nout5\nout6\nout7\nend<exited>");
    assert_string_equal(tail_of(s, id, 1), "end<exited>");
    /* Freed in front. */
    uint8_t zeros[64] = {0};
    int fd = open(journal_of(s, id, "err.index"), O_WRONLY);
    assert_int_equal(pwrite(fd, zeros, sizeof zeros, 0), sizeof zeros);
    close(fd);
    assert_string_equal(followed_text(s, &req), "out1\nerr1\nerr2\nerr3\nerr4\nerr5\n"
                                                "out2\nout3\nout4\nout5\nout6\nout7\nend<exited>");
    /* Nonsense, and none at all. */
    char noise[1000];
    memset(noise, 0x5a, sizeof noise);
    fd = open(journal_of(s, id, "out.index"), O_WRONLY | O_TRUNC); /* the file that a reader may have open */
    assert_int_equal(write(fd, noise, sizeof noise), sizeof noise);
    close(fd);
    assert_int_equal(unlink(journal_of(s, id, "err.index")), 0);
    const char *text = followed_text(s, &req);
    assert_int_equal(strlen(text), sizeof in_order - 1 + strlen("<exited>"));
    assert_non_null(strstr(text, "out1\nout2\nout3\nout4\nout5\nout6\nout7\nend"));
    assert_non_null(strstr(text, "err1\nerr2\nerr3\nerr4\nerr5\n"));
    text = tail_of(s, id, 3);
    assert_non_null(strstr(text, "<exited>"));
}

/* Replaces the index of a stream of `lines` lines of two bytes: every millisecond one, in turns with the
 * other stream; the first `lost` records are no more. `last`: length of one more line, 0: none. */
static void write_index(const char *path, uint64_t arrival, size_t lines, size_t lost, uint64_t last)
{
    cleanup_free struct shim_index_record *r = sa_calloc(lines + 1, sizeof *r);
    for (size_t i = lost; i < lines; i++)
        r[i] = (struct shim_index_record){2 * i, 1700000000000000 + (int64_t)i * 1000, 2 * i + arrival, 2};
    r[lines] = (struct shim_index_record){2 * lines, 1800000000000000, 2 * lines + arrival, last};
    assert_int_equal(sa_write_file(path, r, (lines + (last > 0)) * sizeof *r, 0600, NULL), 0);
}

/* Two streams in turns may fill the index faster than the journal: its front is freed, and bytes are kept
 * that no record tells of. (How a busy machine mixes two pipes cannot be foretold: the index is the test's.)
 */
static void output_that_is_older_than_its_index_still_comes(void **state)
{
    enum { TURNS = 3000 };
    struct svc *s = *state;
    cleanup_free char *command =
        sa_format("i=0; while [ $i -lt %d ]; do echo o; echo e >&2; i=$((i+1)); done; echo end", TURNS);
    const char *id = start_shell(s, command);
    wait_for(s, id);
    write_index(journal_of(s, id, "out.index"), 1, TURNS, TURNS / 2, 4);
    write_index(journal_of(s, id, "err.index"), 2, TURNS, 0, 0);
    FollowOutputRequest req = following(id);
    struct followed f = follow(s, &req);
    size_t n[2] = {0}, timeless = 0;
    while (follow_next(&f) && f.message->kind_case == FOLLOW_OUTPUT_RESPONSE__KIND_OUTPUT) {
        const FollowedOutput *o = f.message->output;
        n[o->stream == OUTPUT_STREAM_STDERR] += o->data.len;
        timeless += !o->time;
    }
    assert_int_equal(f.message->kind_case, FOLLOW_OUTPUT_RESPONSE__KIND_EXITED);
    unfollow(&f);
    assert_int_equal(n[0], 2 * TURNS + 4);
    assert_int_equal(n[1], 2 * TURNS);
    assert_int_equal(timeless, 1);
    const char *tail = tail_of(s, id, 2001);
    assert_int_equal(strlen(tail), 2 * 2000 + strlen("end\n<exited>"));
    assert_memory_equal(tail, "o\ne\no\n", 6);
}

static void a_damaged_journal_is_told(void **state)
{
    struct svc *s = *state;
    const char *id = run_steps(s);
    FollowOutputRequest req = following(id);
    assert_int_equal(truncate(journal_of(s, id, "out"), 12), 0);
    assert_string_equal(followed_text(s, &req), "out1\nerr1\nout2\nerr2\nou<JOURNAL_TRUNCATED>");
    assert_string_equal(tail_of(s, id, 100), "<JOURNAL_TRUNCATED>");
    assert_int_equal(truncate(journal_of(s, id, "state"), 3), 0);
    assert_string_equal(followed_text(s, &req), "<JOURNAL_TRUNCATED>");
    id = run_steps(s);
    req = following(id);
    assert_int_equal(unlink(journal_of(s, id, "err")), 0);
    svc_kill(s); /* what is open stays readable */
    svc_again(s, NULL);
    assert_string_equal(followed_text(s, &req), "<FILE_NOT_FOUND>");
}

/* ---- many, and a restart ---- */

/* Checks a piece of counted lines, moves the offset of its stream behind it. */
static void take_output(const struct followed *f, OutputOffsets *at)
{
    assert_int_equal(f->message->kind_case, FOLLOW_OUTPUT_RESPONSE__KIND_OUTPUT);
    const FollowedOutput *o = f->message->output;
    uint64_t *offset = o->stream == OUTPUT_STREAM_STDOUT ? &at->stdout_offset : &at->stderr_offset;
    assert_int_equal(o->offset, *offset);
    assert_counts(o->data.data, o->data.len, o->offset);
    *offset += o->data.len;
}

static void many_followers_come_and_go(void **state)
{
    enum { MANY = 40, BYTES = 4 * MIB };
    struct svc *s = *state;
    struct spec *spec = shell(counting(BYTES / LINE));
    const char *id = start(s, spec);
    FollowOutputRequest req = following(id);
    struct followed all[MANY];
    for (int i = 0; i < MANY; i++)
        all[i] = follow(s, &req);
    for (int i = 0; i < MANY; i += 2)
        unfollow(&all[i]); /* in the middle of it */
    for (int i = 1; i < MANY; i += 2) {
        OutputOffsets at = OUTPUT_OFFSETS__INIT;
        while (follow_next(&all[i]) && all[i].message->kind_case == FOLLOW_OUTPUT_RESPONSE__KIND_OUTPUT)
            take_output(&all[i], &at);
        assert_int_equal(at.stdout_offset, BYTES);
        assert_int_equal(all[i].message->kind_case, FOLLOW_OUTPUT_RESPONSE__KIND_EXITED);
        unfollow(&all[i]);
    }
}

static void a_restart_leaves_neither_hole_nor_repetition(void **state)
{
    enum { BYTES = 32 * MIB };
    struct svc *s = *state;
    cleanup_free char *command =
        sa_format("seq %llu %llu >&2 & exec %s", COUNT_FROM, COUNT_FROM + BYTES / LINE - 1,
                  counting(BYTES / LINE) + strlen("exec "));
    struct spec *spec = shell(command);
    spec->message.journal_bytes = 64 * MIB;
    const char *id = start(s, spec);
    OutputOffsets at = OUTPUT_OFFSETS__INIT;
    FollowOutputRequest req = following(id);
    req.start_case = FOLLOW_OUTPUT_REQUEST__START_OFFSETS;
    req.offsets = &at;
    for (int round = 1; round <= 4; round++) {
        struct followed f = follow(s, &req);
        while (at.stdout_offset + at.stderr_offset < (uint64_t)round * 8 * MIB && follow_next(&f))
            take_output(&f, &at);
        program_signal(&s->program, SIGKILL);
        unfollow(&f);
        svc_kill(s);
        svc_again(s, NULL);
    }
    struct followed f = follow(s, &req);
    while (follow_next(&f) && f.message->kind_case == FOLLOW_OUTPUT_RESPONSE__KIND_OUTPUT)
        take_output(&f, &at);
    assert_non_null(f.message);
    assert_int_equal(at.stdout_offset, BYTES);
    unfollow(&f);
}

static void a_follower_reads_on_through_restarts_of_the_process(void **state)
{
    struct svc *s = *state;
    struct spec *spec = shell("echo out; echo err >&2; exit 3");
    spec_restart(spec, RESTART_MODE_ALWAYS, 1, 10000, 3);
    const char *id = start(s, spec);
    FollowOutputRequest req = following(id);
    const char *live = followed_text(s, &req), *later = followed_text(s, &req);
    assert_int_equal(strlen(live), 4 * strlen("out\nerr\n") + strlen("<exited>"));
    assert_string_equal(live, later);
    /* Runs come one after the other, whatever the order within one. */
    for (int i = 0; i < 4; i++)
        assert_true(!strncmp(live + 8 * i, "out\nerr\n", 8) || !strncmp(live + 8 * i, "err\nout\n", 8));
    OutputStream stream = OUTPUT_STREAM_STDOUT;
    req.streams = &stream;
    req.n_streams = 1;
    assert_string_equal(followed_text(s, &req), "out\nout\nout\nout\n<exited>");
}

static void a_deletion_ends_followers(void **state)
{
    struct svc *s = *state;
    const char *id = start_shell(s, "echo here; exec sleep 1000");
    FollowOutputRequest req = following(id);
    struct followed f = follow(s, &req);
    read_until(&f, "here\n");
    delete_it(s, id, true);
    assert_true(follow_next(&f));
    assert_int_equal(f.message->kind_case, FOLLOW_OUTPUT_RESPONSE__KIND_EXITED);
    assert_int_equal(f.message->exited->signal, SIGKILL);
    unfollow(&f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, svc_setup, svc_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(both_streams_come_in_the_order_of_arrival),
        TEST(one_stream_may_be_chosen),
        TEST(offsets_go_on_where_a_reader_was),
        TEST(since_begins_at_a_time),
        TEST(until_now_does_not_wait_for_the_end),
        TEST(until_now_has_all_that_was_written_before),
        TEST(a_mistaken_request_is_refused),
        TEST(what_is_no_longer_kept_is_a_gap),
        TEST(a_follower_that_stands_gets_a_gap),
        TEST(or_is_disconnected_if_it_prefers_that),
        TEST(a_damaged_index_costs_the_order_only),
        TEST(output_that_is_older_than_its_index_still_comes),
        TEST(a_damaged_journal_is_told),
        TEST(many_followers_come_and_go),
        TEST(a_restart_leaves_neither_hole_nor_repetition),
        TEST(a_follower_reads_on_through_restarts_of_the_process),
        TEST(a_deletion_ends_followers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
