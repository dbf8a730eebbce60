/* Followers under load: nothing is lost at full speed, a follower that stands costs the others nothing and
 * the service no memory, and a long search does not hold others up. */
#include "services/process-svc/tests/follow.h"

#include "adapters/os/clock.h"
#include "adapters/os/file.h"

enum { BULK = 200 * MIB };

static uint64_t read_to_end(struct followed *f)
{
    uint64_t at = 0;
    while (follow_next(f) && f->message->kind_case == FOLLOW_OUTPUT_RESPONSE__KIND_OUTPUT) {
        const FollowedOutput *o = f->message->output;
        assert_int_equal(o->offset, at);
        assert_counts(o->data.data, o->data.len, at);
        at += o->data.len;
    }
    assert_non_null(f->message);
    assert_int_equal(f->message->kind_case, FOLLOW_OUTPUT_RESPONSE__KIND_EXITED);
    return at;
}

static void all_comes_at_full_speed_while_another_stands(void **state)
{
    struct svc *s = *state;
    struct spec *spec = shell("read -r x; exec seq 100000000000000 100000013107199");
    spec->message.journal_bytes = 256 * MIB;
    const char *id = start(s, spec);
    FollowOutputRequest req = following(id);
    uint64_t before = private_kib(s->program.pid);
    struct followed fast = follow(s, &req), slow = follow(s, &req);
    struct attached input = attach(s, &(AttachOpen){PROTOBUF_C_MESSAGE_INIT(&attach_open__descriptor),
                                                    .process_id = (char *)(uintptr_t)id});
    uint64_t began = sa_now_ms();
    put_input(&input, 0, "\n", false);
    assert_int_equal(read_to_end(&fast), BULK);
    uint64_t ms = sa_now_ms() - began, after = private_kib(s->program.pid);
    print_message("200 MiB to a follower in %llu ms; the service grew from %llu to %llu KiB\n",
                  (unsigned long long)ms, (unsigned long long)before, (unsigned long long)after);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(after < before + (32 << 10));
#endif
    assert_int_equal(read_to_end(&slow), BULK);
    unfollow(&fast);
    unfollow(&slow);
    detach(&input);
}

static void ignore(void *user, const FollowOutputResponse *m)
{
    (void)user;
    (void)m;
}

static void ignore_end(void *user, const sa_error *err)
{
    (void)user;
    (void)err;
}

/* A tail that is not there is looked for in all that is kept; meanwhile others are answered. */
static void a_long_search_holds_nobody_up(void **state)
{
    static const struct follow_output_client events = {.on_message = ignore, .on_end = ignore_end};
    struct svc *s = *state;
    struct spec *spec = shell("head -c 1000000000 /dev/zero");
    spec->message.journal_bytes = 1 << 30;
    const char *id = start(s, spec);
    wait_for(s, id);
    FollowOutputRequest req = following(id);
    req.start_case = FOLLOW_OUTPUT_REQUEST__START_TAIL_LINES;
    req.tail_lines = 2;
    req.until_now = true;
    struct rpc_request *search[4];
    int n = 0;
    uint64_t worst = 0, began = sa_now_ms();
    sa_loop_lock(s->caller.loop);
    for (int i = 0; i < 4; i++)
        search[i] = follow_output_open(s->channel, &req, NULL, &events, NULL);
    sa_loop_unlock(s->caller.loop);
    for (; sa_now_ms() < began + 500; n++) {
        uint64_t from = sa_now_ns();
        ListProcessesRequest list = LIST_PROCESSES_REQUEST__INIT;
        rpc_message_free(list_processes_wait(s->channel, &list, NULL, NULL));
        uint64_t ns = sa_now_ns() - from;
        worst = ns > worst ? ns : worst;
    }
    print_message("%d calls beside four searches, the slowest took %llu us\n", n,
                  (unsigned long long)worst / 1000);
    sa_loop_lock(s->caller.loop);
    for (int i = 0; i < 4; i++)
        rpc_abandon(search[i]);
    sa_loop_unlock(s->caller.loop);
    assert_true(worst < 250 * 1000000ull);
    /* The answer is right, too. */
    req.start_case = FOLLOW_OUTPUT_REQUEST__START_TAIL_BYTES;
    req.tail_bytes = 3;
    struct followed f = follow(s, &req);
    assert_int_equal(f.message->opened->offsets->stdout_offset, 1000000000 - 3);
    unfollow(&f);
    req.start_case = FOLLOW_OUTPUT_REQUEST__START_TAIL_LINES;
    f = follow(s, &req);
    assert_int_equal(f.message->opened->offsets->stdout_offset, 0);
    unfollow(&f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, svc_setup, svc_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(all_comes_at_full_speed_while_another_stands),
        TEST(a_long_search_holds_nobody_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
