#include "tests/system/view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>

#include "adapters/os/clock.h"

char *new_session(struct caller *c)
{
    CreateSessionRequest req = CREATE_SESSION_REQUEST__INIT;
    struct rpc_call_options opt = {.deadline_ms = PATIENCE_MS, .wait_for_ready = true};
    cleanup_error sa_error *err = NULL;
    req.agent = (char *)(uintptr_t) "mock";
    CreateSessionResponse *res = create_session_wait(c->channel, &req, &opt, &err);
    if (!res)
        fail_msg("%s", err->message);
    char *id = sa_strdup(res->session->session_id);
    rpc_message_free(res);
    return id;
}

static void see(struct view *v, const Event *e)
{
    assert_int_equal(e->seq, v->seq + 1); /* no event lost, none doubled */
    v->seq = e->seq;
    if (e->kind_case == EVENT__KIND_AGENT_MESSAGE_CHUNK &&
        e->agent_message_chunk->content->kind_case == CONTENT_BLOCK__KIND_TEXT) {
        int n = 0;
        if (sscanf(e->agent_message_chunk->content->text, "tick %d", &n) == 1)
            assert_int_equal(n, ++v->ticks);
    }
    if (e->kind_case == EVENT__KIND_TURN_ENDED) {
        v->ended++;
        v->stop_reason = e->turn_ended->stop_reason;
    }
}

void view_until(struct view *v, int ticks)
{
    uint64_t deadline = sa_now_ms() + PATIENCE_MS;
    while (ticks ? v->ticks < ticks : !v->ended) {
        StreamEventsRequest req = STREAM_EVENTS_REQUEST__INIT;
        struct rpc_call_options opt = {.wait_for_ready = true, .deadline_ms = PATIENCE_MS};
        StreamEventsResponse *m;
        cleanup_error sa_error *err = NULL;
        req.session_id = (char *)(uintptr_t)v->session_id;
        req.after_seq = v->seq;
        struct rpc_stream *stream = stream_events_begin(v->caller->channel, &req, &opt);
        while ((ticks ? v->ticks < ticks : !v->ended) && stream_events_next(stream, &m, &err) == 1) {
            if (m->kind_case == STREAM_EVENTS_RESPONSE__KIND_BATCH)
                for (size_t i = 0; i < m->batch->n_events; i++)
                    see(v, m->batch->events[i]);
            rpc_message_free(m);
        }
        rpc_stream_free(stream);
        if (err && err->code != SA_CODE_UNAVAILABLE)
            fail_msg("the stream broke: %s: %s", err->reason, err->message);
        if (sa_now_ms() > deadline)
            fail_msg("the turn did not go on: %d ticks, seq %" PRIu64, v->ticks, v->seq);
    }
}

uint64_t send_text(struct caller *c, const char *id, const char *text, const char *request_id)
{
    ContentBlock block = CONTENT_BLOCK__INIT, *blocks[] = {&block};
    SendPromptRequest req = SEND_PROMPT_REQUEST__INIT;
    struct rpc_call_options opt = {.deadline_ms = PATIENCE_MS, .wait_for_ready = true};
    uint64_t deadline = sa_now_ms() + PATIENCE_MS;
    block.kind_case = CONTENT_BLOCK__KIND_TEXT;
    block.text = (char *)(uintptr_t)text;
    req.session_id = (char *)(uintptr_t)id;
    req.content = blocks;
    req.n_content = 1;
    req.request_id = (char *)(uintptr_t)request_id;
    for (;;) {
        cleanup_error sa_error *err = NULL;
        SendPromptResponse *res = send_prompt_wait(c->channel, &req, &opt, &err);
        if (res) {
            uint64_t turn = res->turn;
            rpc_message_free(res);
            return turn;
        }
        if (err->code != SA_CODE_UNAVAILABLE || sa_now_ms() > deadline)
            fail_msg("%s: %s", err->reason, err->message);
    }
}
