/* session-svc with what it needs: process-svc and fs-svc, over unix sockets, each a program that can be
 * killed and started again. What goes wrong fails the cmocka test. */
#ifndef TESTS_SESSION_STACK_H_
#define TESTS_SESSION_STACK_H_

#include <signal.h>

#include "sandboxagent/session/v1/agent_service.rpc.h"
#include "sandboxagent/session/v1/permission_service.rpc.h"
#include "sandboxagent/session/v1/session_service.rpc.h"
#include "tests/harness/harness.h"

struct stack {
    const char *dir; /* data, run, and home of the agents */
    char *home, *secret;
    struct program session, process, files;
    const char *const *extra; /* more words for session-svc; NULL-terminated; may be NULL */
    struct caller caller;     /* of session-svc, as owner "tester" */
    const char *const *env;   /* more variables of session-svc, NAME=value; NULL-terminated; may be NULL */
    const char *fault;        /* "point:hit" where session-svc is to die, once; NULL: nowhere */
    int deaths;               /* it did */
};

struct stack *stack_start(const char *const *extra);
struct stack *stack_start_env(const char *const *extra, const char *const *env);
/* With a session-svc that dies at a fault point; its next run does not. */
struct stack *stack_start_faulty(const char *const *extra, const char *fault);
/* A call or a stream broke: session-svc has died or is about to; up again. */
void stack_revive(struct stack *t);
/* Destroys every session, stops everything: no process of an agent may be left. */
void stack_free(struct stack *t);
/* kill -9, and up again. */
void stack_crash_session(struct stack *t);
void stack_crash_process(struct stack *t);

/* ---- calls that must work ---- */

/* env: NAME=value, NULL-terminated; may be NULL. Returns the id: free() it. */
char *create_session(struct stack *t, const char *agent, const char *const *env);
/* Its turn. */
uint64_t send_prompt(struct stack *t, const char *session, const char *text);
/* Free with rpc_message_free. */
GetSessionResponse *get_session(struct stack *t, const char *session);
uint64_t cancel_turn(struct stack *t, const char *session, uint64_t turn);
void destroy_session(struct stack *t, const char *session);

/* ---- calls that may fail: the reason, or "" ---- */

struct reason {
    char text[64];
    char message[512];
};
struct reason try_create(struct stack *t, const CreateSessionRequest *req, char **ret_id);
struct reason try_prompt(struct stack *t, const char *session, const char *text, const char *request_id,
                         uint64_t *ret_turn);
struct reason try_answer(struct stack *t, const char *session, const char *permission, const char *option);
struct reason try_cancel(struct stack *t, const char *session, uint64_t turn);

struct reason try_move(struct stack *t, const char *session, uint64_t turn, uint32_t position,
                       uint32_t *ret_position);
struct reason try_withdraw(struct stack *t, const char *session, uint64_t turn);
struct reason try_steer(struct stack *t, const char *session, uint64_t turn, const char *text,
                        const char *request_id, SteerFallback fallback, uint64_t *ret_turn);

struct reason try_suspend(struct stack *t, const char *session);
struct reason try_resume(struct stack *t, const char *session);
/* ---- blobs ---- */

/* cut: bytes of one message. The reason, or "". */
struct reason write_blob(struct stack *t, const char *session, const uint8_t *p, size_t n, size_t cut);

/* ---- retention ---- */

/* own NULL: the server's limits. The reason, or "". */
struct reason try_retention(struct stack *t, const char *session, const Retention *own, uint64_t *ret_seq);

/* ---- transcripts ---- */

/* The log of a session as a file. */
struct sa_buf export_session(struct stack *t, const char *session);
struct imported {
    char session[64], hash[128];
    char reason[64], message[512]; /* "": it is there */
    uint64_t events, head;
};
/* cut: bytes of one message. */
struct imported import_session(struct stack *t, const struct sa_buf *transcript, size_t cut,
                               const char *request_id);

/* ---- a viewer: reads a session's log, and comes back after every break where it was ---- */

struct viewer {
    struct stack *stack;
    char *session;
    Event **events; /* seq 1, 2, 3, ... without a hole: checked as they come */
    size_t n, cap;
    struct rpc_stream *stream;
    void **owners; /* the messages that the events live in */
    size_t n_owners, owners_cap;
};

struct viewer *viewer_open(struct stack *t, const char *session);
void viewer_close(struct viewer *v);
/* The next event. */
const Event *viewer_next(struct viewer *v);
/* Reads on until there is an event of that kind (from `from` on, an index into events), of that turn (0:
 * any). */
const Event *viewer_until(struct viewer *v, size_t from, Event__KindCase kind, uint64_t turn);
const Event *viewer_turn_end(struct viewer *v, uint64_t turn);
const Event *viewer_state(struct viewer *v, size_t from, SessionState state);
/* Text of the agent's message chunks of a turn, joined. Free with free(). */
char *viewer_text(struct viewer *v, uint64_t turn);
size_t viewer_count(const struct viewer *v, Event__KindCase kind);
/* All events so far, packed one after the other: for comparing what two viewers saw. */
struct sa_buf viewer_bytes(const struct viewer *v);

/* What the mock agent itself wrote down of its conversations: how often this line is in it. */
int agent_remembers(const struct stack *t, const char *session_of_agent, const char *line);

#endif
