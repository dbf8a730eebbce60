/* The mock agent: one conversation partner on standard input and output, single-threaded. While a prompt is
 * carried out, mock_wait is where messages are read. */
#ifndef ADAPTERS_AGENTS_MOCK_MOCK_H_
#define ADAPTERS_AGENTS_MOCK_MOCK_H_

#include <stdbool.h>

#include "adapters/json/json.h"
#include "adapters/os/mem.h"

struct mock {
    struct sa_buf in;
    size_t scanned;
    char *session_id;
    struct sa_buf mcp; /* mcpServers as they were given, raw */
    /* the prompt that runs */
    struct sa_buf prompt_id; /* raw; empty: none */
    struct sa_buf answer;    /* text of the chunks so far */
    bool cancelled, ignore_cancel;
    char *tokens; /* member of the answer to the prompt; NULL: none */
    char *stop_reason, *late;
    /* our request that waits */
    int64_t next_request;
    bool answered, failed;
    struct sa_buf response; /* raw result or error */
};

/* ---- main.c: messages ---- */

/* Reads and handles what comes, until *until is true, the prompt is cancelled (unless ignored), or ms are
 * over
 * (-1: never). Ends the program at the end of input. */
void mock_wait(struct mock *m, const bool *until, int ms);
/* Writes one message as a line; ends the program when nobody reads. */
void mock_send(const struct sa_buf *message);
void mock_write(const void *p, size_t n);
void mock_answer(struct json id, const char *member, const struct sa_buf *value);
void mock_error(struct json id, int code, const char *message);
/* Sends a request and waits: true with its result in m->response; false with the error, or after a cancel. */
bool mock_request(struct mock *m, const char *method, const struct sa_buf *params);
/* Sends session/update; update: the raw object. */
void mock_update(struct mock *m, const struct sa_buf *update);
void mock_chunk(struct mock *m, const char *kind, const char *text, size_t n);
/* One line into the conversation's file. */
void mock_remember(struct mock *m, const char *who, const void *text, size_t n);

/* ---- config.c ---- */

/* Members of the answer to session/new. */
void mock_put_config(struct sa_buf *out);
void mock_set_mode(struct mock *m, struct json id, struct json params);
void mock_set_model(struct mock *m, struct json id, struct json params);
void mock_set_option(struct mock *m, struct json id, struct json params);
/* By itself; tells it. */
void mock_change_model(struct mock *m, const char *value);
/* What is set, for a person. free() it. */
char *mock_config_text(void);

/* ---- script.c ---- */

void mock_run(struct mock *m, const char *prompt, size_t n);
void mock_say(struct mock *m, const char *text);

/* ---- terminal.c ---- */

void mock_terminal(struct mock *m, char *command);
void mock_terminal_kill(struct mock *m, char *command);
void mock_terminal_drop(struct mock *m, char *command);
void mock_terminal_limit(struct mock *m, char *rest);

#endif
