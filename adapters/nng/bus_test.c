#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "adapters/nng/bus_fixture.h"

static void messages_arrive_in_order_without_reads(void **state)
{
    struct fixture *f = *state;
    connect_both(f);
    follow(f, 0, 0);
    follow(f, 1, 0);
    sa_loop_lock(f->loop);
    for (int k = 0; k < 1000; k++) {
        publish(f, k % 2);
        publish(f, 2); /* not followed, though its name begins like another's */
    }
    sa_loop_unlock(f->loop);
    run_until(f, caught_up);
    assert_int_equal(stats(f).reads, 0);
    assert_int_equal(stats(f).delivered, 1000);
}

static bool a_turn_later(struct fixture *f)
{
    (void)f;
    return true;
}

static void three_quarters_dropped_is_still_complete(void **state)
{
    struct fixture *f = *state;
    f->reads_later = true;
    f->read_page = 10;
    sa_loop_lock(f->loop);
    start_publisher(f, 75);
    start_subscriber(f);
    sa_loop_unlock(f->loop);
    for (int i = 0; i < STREAMS; i++)
        follow(f, i, 0);
    for (int k = 0; k < 50; k++) {
        for (int i = 0; i < STREAMS; i++)
            publish_many(f, i, 7 + k % 5);
        run_until(f, k % 25 == 24 ? caught_up : a_turn_later);
    }
    run_until(f, caught_up);
    struct bus_publisher_stats p;
    bus_publisher_stats(f->pub, &p);
    assert_true(p.dropped_on_purpose * 100 > p.published * 65);
    assert_true(stats(f).repaired > stats(f).delivered / 2);
}

static void a_burst_of_100000_is_complete(void **state)
{
    struct fixture *f = *state;
    connect_both(f);
    follow(f, 0, 0);
    publish_many(f, 0, 100000);
    run_until(f, caught_up);
    assert_int_equal(f->seen[0].position, 100000);
    assert_int_equal(stats(f).buffered_bytes, 0);
}

static void a_lost_last_message_is_noticed_by_the_beat(void **state)
{
    struct fixture *f = *state;
    sa_loop_lock(f->loop);
    start_publisher(f, 0);
    publish(f, 0); /* nobody is connected yet */
    publish(f, 0);
    start_subscriber(f);
    sa_loop_unlock(f->loop);
    follow(f, 0, 0);
    run_until(f, caught_up);
    assert_int_equal(stats(f).repaired, 2);
    assert_int_equal(f->lists, 0);
}

static void large_payloads_are_read_from_the_owner(void **state)
{
    struct fixture *f = *state;
    connect_both(f);
    follow(f, 0, 0);
    char *big = sa_calloc(1, BUS_PAYLOAD_MAX + 1);
    sa_loop_lock(f->loop);
    publish(f, 0);
    f->head[0]++;
    bus_publish(f->pub, "session/a", "session/a", 2, 1, big, BUS_PAYLOAD_MAX + 1);
    publish(f, 0);
    sa_loop_unlock(f->loop);
    free(big);
    run_until(f, caught_up);
    assert_true(stats(f).repaired >= 1);
    assert_int_equal(f->seen[0].position, 3);
}

static void everything_dropped_is_repaired_by_listing_heads(void **state)
{
    struct fixture *f = *state;
    sa_loop_lock(f->loop);
    start_publisher(f, 100);
    start_subscriber(f);
    sa_loop_unlock(f->loop);
    follow(f, 0, 0);
    publish_many(f, 0, 5);
    run_until(f, caught_up);
    assert_int_equal(stats(f).received, 0);
    assert_int_equal(f->lists, 1);
}

static bool two_lists(struct fixture *f)
{
    return f->lists >= 2;
}

static void an_owner_that_is_away_is_asked_again(void **state)
{
    struct fixture *f = *state;
    sa_loop_lock(f->loop);
    start_subscriber(f); /* nobody listens there */
    sa_loop_unlock(f->loop);
    follow(f, 0, 0);
    f->list_fails = true;
    f->head[0] = 5;
    run_until(f, two_lists);
    assert_int_equal(f->seen[0].position, 0);
    f->list_fails = false;
    f->reads_fail = 2;
    run_until(f, caught_up);
    assert_int_equal(stats(f).read_failures, 2);
    assert_int_equal(f->seen[0].position, 5);
}

static bool restarted(struct fixture *f)
{
    return caught_up(f) && stats(f).lists > 0;
}

static void a_restarted_publisher_continues_and_its_last_words_are_read(void **state)
{
    struct fixture *f = *state;
    connect_both(f);
    follow(f, 0, 0);
    publish_many(f, 0, 5);
    run_until(f, caught_up);
    sa_loop_lock(f->loop);
    bus_publisher_free(f->pub);
    f->pub = NULL;
    publish(f, 0); /* committed at the moment of its death, never sent */
    start_publisher(f, 0);
    sa_loop_unlock(f->loop);
    run_until(f, restarted);
    publish_many(f, 0, 5);
    run_until(f, caught_up);
    assert_int_equal(f->seen[0].position, 11);
    assert_int_equal(f->epochs, 0);
}

static bool epoch_seen(struct fixture *f)
{
    return f->epochs == 1;
}

static void a_new_epoch_makes_positions_void(void **state)
{
    struct fixture *f = *state;
    connect_both(f);
    follow(f, 0, 0);
    follow(f, 1, 0);
    publish_many(f, 0, 9);
    run_until(f, caught_up);
    f->follow_in_epoch = true;
    sa_loop_lock(f->loop);
    bus_publisher_free(f->pub);
    f->epoch = 8;
    f->head[0] = f->head[1] = 0;
    start_publisher(f, 0);
    sa_loop_unlock(f->loop);
    run_until(f, epoch_seen);
    uint64_t at;
    assert_true(bus_position(f->sub, stream_name(0), &at));
    assert_false(bus_position(f->sub, stream_name(1), &at));
    publish_many(f, 0, 4);
    run_until(f, caught_up);
    assert_int_equal(f->seen[0].position, 4);
}

static void following_from_a_number_reads_what_is_missing(void **state)
{
    struct fixture *f = *state;
    connect_both(f);
    f->head[0] = 100; /* told long ago: in no beat */
    sa_loop_lock(f->loop);
    f->seen[0].position = 40;
    assert_int_equal(bus_follow(f->sub, stream_name(0), 40, 100, NULL), 0);
    sa_loop_unlock(f->loop);
    run_until(f, caught_up);
    assert_int_equal(stats(f).repaired, 60);
    follow(f, 0, 10); /* back to an earlier number: nothing is known to be missing until the next message */
    publish_many(f, 0, 1);
    run_until(f, caught_up);
    assert_int_equal(f->seen[0].position, 101);
    sa_loop_lock(f->loop);
    bus_unfollow(f->sub, stream_name(0));
    publish(f, 0);
    f->seen[1].position = 0;
    assert_int_equal(bus_follow(f->sub, stream_name(1), 0, 0, NULL), 0);
    publish(f, 1);
    sa_loop_unlock(f->loop);
    run_until(f, caught_up);
    assert_int_equal(f->seen[0].position, 101);
}

static void compaction_is_told_as_a_gap(void **state)
{
    struct fixture *f = *state;
    connect_both(f);
    f->head[0] = 50;
    f->first[0] = 31;
    sa_loop_lock(f->loop);
    assert_int_equal(bus_follow(f->sub, stream_name(0), 0, 50, NULL), 0);
    sa_loop_unlock(f->loop);
    run_until(f, caught_up);
    assert_int_equal(f->seen[0].gaps, 1);
    assert_int_equal(f->seen[0].first_after_gap, 31);
    assert_int_equal(f->seen[0].position, 50);
}

static bool prefix_ready(struct fixture *f)
{
    return f->lists > 0;
}

static void a_prefix_follows_what_exists_from_now_on_and_what_comes_from_its_beginning(void **state)
{
    struct fixture *f = *state;
    connect_both(f);
    publish_many(f, 0, 20);
    f->seen[0].position = 20;
    sa_loop_lock(f->loop);
    assert_int_equal(bus_follow_prefix(f->sub, "session/", NULL), 0);
    sa_loop_unlock(f->loop);
    run_until(f, prefix_ready);
    publish_many(f, 0, 2);
    publish_many(f, 2, 3);
    publish_many(f, 3, 3);
    run_until(f, caught_up);
    assert_int_equal(f->seen[0].position, 22);
    assert_int_equal(stats(f).delivered, 5);
    uint64_t at;
    assert_true(bus_position(f->sub, stream_name(2), &at) && at == 3);
    assert_false(bus_position(f->sub, stream_name(3), &at));
    assert_int_equal(stats(f).streams, 2);
}

static bool read_held(struct fixture *f)
{
    return f->held != NULL;
}

static bool overflowed(struct fixture *f)
{
    return stats(f).overflowed > 0;
}

static void buffers_are_bounded_while_a_read_is_slow(void **state)
{
    struct fixture *f = *state;
    connect_both(f);
    f->hold_reads = true;
    f->head[0] = 1; /* lost */
    follow(f, 0, 0);
    publish_many(f, 0, 1);
    run_until(f, read_held);
    assert_int_equal(f->held_until, 1);
    char big[BUS_PAYLOAD_MAX] = "";
    for (int round = 0; round < 10 && !overflowed(f); round++) {
        sa_loop_lock(f->loop);
        for (int k = 0; k < 300; k++) {
            uint64_t seq = ++f->head[0];
            snprintf(big, sizeof big, "%s#%llu", stream_name(0), (unsigned long long)seq);
            bus_publish(f->pub, stream_name(0), stream_name(0), seq, seq - 1, big, sizeof big);
        }
        sa_loop_unlock(f->loop);
        uint64_t want = stats(f).received + 300;
        while (stats(f).received < want && !overflowed(f))
            run_until(f, heard_a_beat);
    }
    run_until(f, overflowed);
    assert_true(stats(f).buffered_bytes <= BUS_BUFFER_MAX);
    sa_loop_lock(f->loop);
    f->hold_reads = false;
    answer(f, f->held, f->held_stream, f->held_after);
    sa_loop_unlock(f->loop);
    run_until(f, caught_up);
    assert_int_equal(stats(f).buffered_bytes, 0);
}

static void a_read_may_be_answered_after_its_stream_or_subscriber_is_gone(void **state)
{
    struct fixture *f = *state;
    connect_both(f);
    f->hold_reads = true;
    f->head[0] = 9;
    for (int how = 0; how < 3; how++) {
        f->seen[0].position = 0;
        f->held = NULL;
        sa_loop_lock(f->loop);
        assert_int_equal(bus_follow(f->sub, stream_name(0), 0, 9, NULL), 0);
        assert_non_null(f->held);
        struct bus_read *old = f->held;
        f->held = NULL;
        if (how == 0) {
            bus_unfollow(f->sub, stream_name(0));
        } else if (how == 1) {
            assert_int_equal(bus_follow(f->sub, stream_name(0), 9, 0, NULL), 0);
        } else {
            bus_subscriber_free(f->sub);
            f->sub = NULL;
        }
        f->held = old;
        answer(f, f->held, 0, 0);
        assert_int_equal(f->seen[0].position, 0);
        sa_loop_unlock(f->loop);
    }
}

static bool sub_gone(struct fixture *f)
{
    return f->sub == NULL;
}

static void a_callback_may_free_the_subscriber(void **state)
{
    struct fixture *f = *state;
    for (int through_read = 0; through_read < 2; through_read++) {
        connect_both(f);
        f->free_in_message = true;
        uint64_t known = f->head[0];
        follow(f, 0, known);
        if (through_read)
            f->head[0] += 3;
        publish_many(f, 0, 3);
        run_until(f, sub_gone);
        assert_int_equal(f->seen[0].position, known + 1);
        f->free_in_message = false;
        sa_loop_lock(f->loop);
        bus_publisher_free(f->pub);
        f->pub = NULL;
        sa_loop_unlock(f->loop);
    }
}

static void bad_addresses_are_errors(void **state)
{
    struct fixture *f = *state;
    sa_error *err = NULL;
    sa_loop_lock(f->loop);
    start_publisher(f, 0);
    struct bus_publisher_options opt = {.url = f->url, .epoch = 1};
    assert_null(bus_publisher_new(f->loop, &opt, &err));
    assert_true(sa_error_is(err, SA_ADDRESS_IN_USE));
    assert_non_null(strstr(err->message, f->url));
    opt.url = "nonsense";
    assert_null(bus_publisher_new(f->loop, &opt, &err));
    struct bus_subscriber_options sub = {.url = "nonsense", .events = &events, .user = f};
    assert_null(bus_subscriber_new(f->loop, &sub, &err));
    assert_true(sa_error_is(err, SA_INVALID_CONFIG));
    start_subscriber(f);
    assert_int_equal(bus_follow(f->sub, "", 0, 0, &err), -1);
    assert_int_equal(bus_follow(f->sub, "*", 0, 0, &err), -1);
    bus_publish(f->pub, "session/b", "session/a", 1, 0, "", 0);
    bus_publish(f->pub, "session/aa", "session/a", 1, 0, "", 0);
    bus_publish(f->pub, "session/a", "session/a", 1, 1, "", 0);
    struct bus_publisher_stats p;
    bus_publisher_stats(f->pub, &p);
    assert_int_equal(p.refused, 3);
    sa_error_free(err);
    sa_loop_unlock(f->loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(messages_arrive_in_order_without_reads),
        T(three_quarters_dropped_is_still_complete),
        T(a_burst_of_100000_is_complete),
        T(a_lost_last_message_is_noticed_by_the_beat),
        T(large_payloads_are_read_from_the_owner),
        T(everything_dropped_is_repaired_by_listing_heads),
        T(an_owner_that_is_away_is_asked_again),
        T(a_restarted_publisher_continues_and_its_last_words_are_read),
        T(a_new_epoch_makes_positions_void),
        T(following_from_a_number_reads_what_is_missing),
        T(compaction_is_told_as_a_gap),
        T(a_prefix_follows_what_exists_from_now_on_and_what_comes_from_its_beginning),
        T(buffers_are_bounded_while_a_read_is_slow),
        T(a_read_may_be_answered_after_its_stream_or_subscriber_is_gone),
        T(a_callback_may_free_the_subscriber),
        T(bad_addresses_are_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
