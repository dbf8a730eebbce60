/* A session-svc for the gateway's tests: logs in memory, told on the bus, in a shape that the test chooses.
 * One session exists from the start, `fake`, with --events events in it. What a prompt says, happens:
 *
 *     say N [SIZE]    N events, each with SIZE characters of text
 *     hide N          N events of which the bus says nothing but in its beats
 *     compact K       forgets the events before K
 *     end             the session is destroyed */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/nng/bus.h"
#include "adapters/os/mem.h"
#include "sandboxagent/session/v1/session_service.rpc.h"
#include "services/runtime/service.h"

enum { PAGE_MAX = 1000, EVENTS_MAX = 200000 };

struct fake {
    struct service *svc;
    struct bus_publisher *bus;
    uint64_t epoch;
    char epoch_text[24], id[64];
    Event **events; /* number n is events[n - 1] */
    uint64_t first, head;
    SessionState state;
};

static void *proto_new(const ProtobufCMessageDescriptor *d)
{
    void *m = sa_malloc(d->sizeof_message);
    protobuf_c_message_init(d, m);
    return m;
}

static Event *append(struct fake *f)
{
    Event *e = proto_new(&event__descriptor);
    e->seq = ++f->head;
    e->time = proto_new(&google__protobuf__timestamp__descriptor);
    e->time->seconds = 1700000000 + (int64_t)e->seq; /* the same in every run */
    f->events[e->seq - 1] = e;
    return e;
}

static void tell(struct fake *f, Event *e, bool loud)
{
    char stream[80], topic[96];
    size_t n = protobuf_c_message_get_packed_size(&e->base);
    uint8_t *bytes = sa_malloc(n + 1);
    protobuf_c_message_pack(&e->base, bytes);
    snprintf(stream, sizeof(stream), "session/%s", f->id);
    snprintf(topic, sizeof(topic), "%s/event", stream);
    if (loud)
        bus_publish(f->bus, topic, stream, e->seq, e->seq - 1, bytes, n);
    free(bytes);
}

static void say(struct fake *f, size_t size, bool loud)
{
    Event *e = append(f);
    e->kind_case = EVENT__KIND_AGENT_MESSAGE_CHUNK;
    e->agent_message_chunk = proto_new(&content_chunk__descriptor);
    ContentBlock *block = e->agent_message_chunk->content = proto_new(&content_block__descriptor);
    block->kind_case = CONTENT_BLOCK__KIND_TEXT;
    block->text = sa_format("%0*" PRIu64, (int)size, e->seq);
    tell(f, e, loud);
}

static void change_state(struct fake *f, SessionState state)
{
    Event *e = append(f);
    e->kind_case = EVENT__KIND_STATE_CHANGED;
    e->state_changed = proto_new(&session_state_changed__descriptor);
    e->state_changed->state = f->state = state;
    tell(f, e, true);
}

/* ---- the service ---- */

static bool is_known(struct fake *f, struct rpc_call *call, const char *id)
{
    sa_error *err = NULL;
    if (strcmp(id, f->id) == 0)
        return true;
    sa_fail(&err, SA_SESSION_NOT_FOUND, "session %s does not exist", id);
    rpc_fail(call, err);
    return false;
}

static Session *describe(struct fake *f, struct rpc_call *call)
{
    Session *s = sa_arena_alloc(rpc_arena(call), sizeof(*s));
    *s = (Session)SESSION__INIT;
    s->session_id = f->id;
    s->agent = (char *)(uintptr_t) "mock";
    s->state = f->state;
    s->head_seq = f->head;
    s->first_seq = f->first;
    s->epoch = f->epoch_text;
    s->cwd = (ProtobufCBinaryData){5, (uint8_t *)(uintptr_t) "/work"};
    s->creator = sa_arena_strdup(rpc_arena(call), rpc_principal(call));
    return s;
}

static void create_session(void *api, struct rpc_call *call, const CreateSessionRequest *req)
{
    CreateSessionResponse res = CREATE_SESSION_RESPONSE__INIT;
    sa_error *err = NULL;
    if (strcmp(req->agent, "mock") != 0) {
        sa_fail(&err, SA_UNKNOWN_AGENT, "agent %s is not known", req->agent);
        rpc_fail(call, err);
        return;
    }
    res.session = describe(api, call);
    create_session_reply(call, &res);
}

static void get_session(void *api, struct rpc_call *call, const GetSessionRequest *req)
{
    GetSessionResponse res = GET_SESSION_RESPONSE__INIT;
    if (!is_known(api, call, req->session_id))
        return;
    res.session = describe(api, call);
    get_session_reply(call, &res);
}

static void list_sessions(void *api, struct rpc_call *call, const ListSessionsRequest *req)
{
    ListSessionsResponse res = LIST_SESSIONS_RESPONSE__INIT;
    Session *all[] = {describe(api, call)};
    res.n_sessions = req->page_size == 1 || *req->page_token ? 0 : 1; /* also an empty page can be had */
    res.sessions = all;
    list_sessions_reply(call, &res);
}

static void destroy_session(void *api, struct rpc_call *call, const DestroySessionRequest *req)
{
    DestroySessionResponse res = DESTROY_SESSION_RESPONSE__INIT;
    if (!is_known(api, call, req->session_id))
        return;
    change_state(api, SESSION_STATE_DESTROYED);
    destroy_session_reply(call, &res);
}

static void obey(struct fake *f, const char *text)
{
    uint64_t n = 0, size = 0;
    if (sscanf(text, "say %" SCNu64 " %" SCNu64, &n, &size) > 0)
        for (uint64_t i = 0; i < n && f->head < EVENTS_MAX; i++)
            say(f, size, true);
    else if (sscanf(text, "hide %" SCNu64, &n) == 1)
        for (uint64_t i = 0; i < n; i++)
            say(f, size, i + 1 == n); /* the bus learns the head, and that it missed something */
    else if (sscanf(text, "compact %" SCNu64, &n) == 1)
        f->first = n;
    else if (strcmp(text, "end") == 0)
        change_state(f, SESSION_STATE_DESTROYED);
}

static void send_prompt(void *api, struct rpc_call *call, const SendPromptRequest *req)
{
    struct fake *f = api;
    SendPromptResponse res = SEND_PROMPT_RESPONSE__INIT;
    if (!is_known(f, call, req->session_id))
        return;
    if (req->n_content && req->content[0]->kind_case == CONTENT_BLOCK__KIND_TEXT)
        obey(f, req->content[0]->text);
    res.turn = 1;
    res.seq = f->head;
    send_prompt_reply(call, &res);
}

static void list_events(void *api, struct rpc_call *call, const ListEventsRequest *req)
{
    struct fake *f = api;
    ListEventsResponse res = LIST_EVENTS_RESPONSE__INIT;
    sa_error *err = NULL;
    if (!is_known(f, call, req->session_id))
        return;
    if (req->after_seq > f->head) {
        sa_fail(&err, SA_SEQ_AHEAD, "the last event is %" PRIu64, f->head);
        rpc_fail(call, err);
        return;
    }
    uint64_t from = req->after_seq + 1 < f->first ? f->first : req->after_seq + 1;
    uint64_t size = req->page_size ? (uint64_t)req->page_size : 100, n = f->head + 1 - from;
    if (size > PAGE_MAX)
        size = PAGE_MAX;
    if (n > size)
        n = size;
    for (size_t bytes = 0; res.n_events < n && (!req->page_bytes || bytes < req->page_bytes); res.n_events++)
        bytes += protobuf_c_message_get_packed_size(&f->events[from - 1 + res.n_events]->base);
    res.events = f->events + from - 1;
    res.first_seq = f->first;
    res.head_seq = f->head;
    res.epoch = f->epoch_text;
    list_events_reply(call, &res);
}

static void list_heads(void *api, struct rpc_call *call, const ListHeadsRequest *req)
{
    struct fake *f = api;
    ListHeadsResponse res = LIST_HEADS_RESPONSE__INIT;
    SessionHead head = SESSION_HEAD__INIT, *heads[] = {&head};
    (void)req;
    head.session_id = f->id;
    head.head_seq = f->head;
    head.epoch = f->epoch_text;
    res.n_heads = 1;
    res.heads = heads;
    res.epoch = f->epoch_text;
    list_heads_reply(call, &res);
}

static int start(struct service *svc, void **ret_state, sa_error **err)
{
    static const struct session_service_handlers handlers = {
        .create_session = create_session,
        .get_session = get_session,
        .list_sessions = list_sessions,
        .destroy_session = destroy_session,
        .send_prompt = send_prompt,
        .list_events = list_events,
        .list_heads = list_heads,
    };
    struct fake *f = sa_calloc(1, sizeof(*f));
    f->svc = svc;
    f->epoch = service_uint(svc, "epoch");
    snprintf(f->epoch_text, sizeof(f->epoch_text), "%016" PRIx64, f->epoch);
    snprintf(f->id, sizeof(f->id), "fake");
    f->events = sa_calloc(EVENTS_MAX + 1, sizeof(*f->events));
    f->first = 1;
    f->bus = service_bus(svc, f->epoch, err);
    if (!f->bus)
        return -1;
    change_state(f, SESSION_STATE_IDLE);
    while (f->head < service_uint(svc, "events"))
        say(f, 0, true);
    session_service_register(service_rpc(svc), &handlers, f);
    *ret_state = f;
    service_ready(svc);
    return 0;
}

static void stop(void *state)
{
    struct fake *f = state;
    for (uint64_t i = 0; i < f->head; i++)
        protobuf_c_message_free_unpacked(&f->events[i]->base, NULL);
    free(f->events);
    free(f);
}

int main(int argc, char **argv)
{
    static const struct service_option options[] = {
        {"epoch", SERVICE_OPTION_UINT, "7", 1, UINT64_MAX, "of the log"},
        {"events", SERVICE_OPTION_UINT, "1", 1, EVENTS_MAX / 2, "in the log at the start"},
        {0},
    };
    static const struct service_spec spec = {
        .name = "session-svc",
        .summary = "a session service for tests",
        .options = options,
        .start = start,
        .stop = stop,
    };
    return service_main(&spec, argc, argv);
}
