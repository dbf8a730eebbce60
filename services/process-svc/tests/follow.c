#include "services/process-svc/tests/follow.h"

static const struct rpc_call_options patient = {.deadline_ms = 2 * PATIENCE_MS};

FollowOutputRequest following(const char *id)
{
    FollowOutputRequest req = FOLLOW_OUTPUT_REQUEST__INIT;
    req.process_id = (char *)(uintptr_t)id;
    return req;
}

struct followed follow_begin(struct svc *s, const FollowOutputRequest *req)
{
    return (struct followed){.stream = follow_output_begin(s->channel, req, &patient)};
}

struct followed follow(struct svc *s, const FollowOutputRequest *req)
{
    struct followed f = follow_begin(s, req);
    if (!follow_next(&f))
        fail_msg("cannot follow: %s", f.err ? f.err->message : "OK");
    assert_int_equal(f.message->kind_case, FOLLOW_OUTPUT_RESPONSE__KIND_OPENED);
    assert_string_equal(f.message->opened->process->process_id, req->process_id);
    return f;
}

bool follow_next(struct followed *f)
{
    rpc_message_free(f->message);
    f->message = NULL;
    sa_error_free(f->err);
    f->err = NULL;
    return follow_output_next(f->stream, &f->message, &f->err) == 1;
}

void unfollow(struct followed *f)
{
    rpc_message_free(f->message);
    sa_error_free(f->err);
    rpc_stream_free(f->stream);
    *f = (struct followed){0};
}

const char *followed_text(struct svc *s, const FollowOutputRequest *req)
{
    struct followed f = follow_begin(s, req);
    struct sa_buf text = {0};
    while (follow_next(&f)) {
        if (f.message->kind_case == FOLLOW_OUTPUT_RESPONSE__KIND_OUTPUT)
            sa_buf_add(&text, f.message->output->data.data, f.message->output->data.len);
        else if (f.message->kind_case == FOLLOW_OUTPUT_RESPONSE__KIND_GAP)
            sa_buf_addf(&text, "<gap>");
        else if (f.message->kind_case == FOLLOW_OUTPUT_RESPONSE__KIND_EXITED)
            sa_buf_addf(&text, "<exited>");
    }
    if (f.err)
        sa_buf_addf(&text, "<%s>", f.err->reason);
    unfollow(&f);
    sa_buf_add(&text, "", 1);
    return keep_text((char *)text.data);
}
