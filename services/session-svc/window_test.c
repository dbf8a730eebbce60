#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "adapters/os/mem.h"
#include "sandboxagent/session/v1/session_service.rpc.h"
#include "services/session-svc/window.h"

static struct packed_event *event_of(uint64_t seq, size_t text)
{
    Event e = EVENT__INIT;
    Unknown unknown = UNKNOWN__INIT;
    cleanup_free char *name = sa_calloc(1, text + 1);
    for (size_t i = 0; i < text; i++)
        name[i] = 'x';
    unknown.name = name;
    e.seq = seq;
    e.kind_case = EVENT__KIND_UNKNOWN;
    e.unknown = &unknown;
    return packed_event_new(&e);
}

static void a_reader_gets_what_follows_its_cursor(void **state)
{
    (void)state;
    struct window w = {0};
    struct packed_event *got[WINDOW_EVENTS];
    for (uint64_t seq = 10; seq < 10 + 3 * WINDOW_EVENTS; seq++)
        window_push(&w, event_of(seq, 10));
    uint64_t head = 9 + 3 * WINDOW_EVENTS, first = head - WINDOW_EVENTS + 1;
    assert_int_equal(window_read(&w, head, got, WINDOW_EVENTS, SIZE_MAX), 0);
    assert_int_equal(window_read(&w, first - 2, got, WINDOW_EVENTS, SIZE_MAX),
                     0); /* it is older: from the store */
    assert_int_equal(window_read(&w, first - 1, got, WINDOW_EVENTS, SIZE_MAX), WINDOW_EVENTS);
    assert_int_equal(got[0]->seq, first);
    assert_int_equal(window_read(&w, head - 5, got, 3, SIZE_MAX), 3);
    assert_int_equal(got[2]->seq, head - 2);
    assert_int_equal(window_read(&w, head - 5, got, WINDOW_EVENTS, 1), 1);
    window_clear(&w);
}

static void it_is_bounded_in_bytes(void **state)
{
    (void)state;
    struct window w = {0};
    struct packed_event *got[WINDOW_EVENTS];
    for (uint64_t seq = 1; seq <= 100; seq++) {
        window_push(&w, event_of(seq, 100000));
        assert_true(w.bytes <= WINDOW_BYTES);
    }
    window_push(&w, event_of(101, 2 * WINDOW_BYTES)); /* larger than all: alone */
    assert_int_equal(window_read(&w, 100, got, WINDOW_EVENTS, SIZE_MAX), 1);
    window_clear(&w);
}

static void packed_events_arrive_as_events(void **state)
{
    (void)state;
    struct packed_event *events[300];
    ProtobufCMessageUnknownField fields[300];
    for (uint64_t i = 0; i < 300; i++)
        events[i] = event_of(i + 1, i);
    EventBatch batch = EVENT_BATCH__INIT;
    packed_events_attach(&batch.base, 2, events, 300, fields);
    size_t n = event_batch__get_packed_size(&batch);
    uint8_t *packed = test_malloc(n);
    assert_int_equal(event_batch__pack(&batch, packed), n);
    EventBatch *again = rpc_unpack(&event_batch__descriptor, packed, n, NULL);
    assert_non_null(again);
    assert_int_equal(again->n_events, 300);
    for (size_t i = 0; i < 300; i++) {
        assert_int_equal(again->events[i]->seq, i + 1);
        packed_event_unref(events[i]);
    }
    event_batch__free_unpacked(again, NULL);
    test_free(packed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reader_gets_what_follows_its_cursor),
        cmocka_unit_test(it_is_bounded_in_bytes),
        cmocka_unit_test(packed_events_arrive_as_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
