/* Events for people, and anything as JSON. What agents say is printed without control characters: it cannot
 * move the cursor, change the title or type into the terminal. */
#ifndef SERVICES_CLI_SHOW_H_
#define SERVICES_CLI_SHOW_H_

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdio.h>

#include "sandboxagent/session/v1/event.rpc.h"

enum show_open { SHOW_NOTHING, SHOW_MESSAGE, SHOW_THOUGHT, SHOW_USER };

enum { SHOW_TOOLS = 16 };

/* Zero but for `out` and the wishes at the start; show_fini at the end. */
struct show {
    FILE *out;
    bool json;           /* one JSON object a line */
    bool colour;         /* escape sequences of our own */
    bool numbers;        /* seq before each event; then chunks are not joined */
    bool brief;          /* leave out what only matters when something is wrong: logs, usage, states */
    enum show_open open; /* the text that the cursor stands behind */
    bool at_start;       /* its last character was a newline */
    struct show_tool {
        char *id, *title;
    } tools[SHOW_TOOLS]; /* titles of recent tool calls: their updates often tell only the id */
    size_t n_tools;      /* so many were put into the ring */
};

void show_event(struct show *s, const Event *e);
/* Ends a line that chunks of text have left open. */
void show_break(struct show *s);
void show_fini(struct show *s);
/* One line of JSON. */
void show_json(FILE *out, const ProtobufCMessage *m);
/* Text from elsewhere: bytes that could control the terminal become '?'; newline and tab stay. */
void show_text(FILE *out, const char *text, size_t n);
/* "end_turn" for STOP_REASON_END_TURN, given the prefix "STOP_REASON_". Valid until the next call. */
const char *show_enum(const ProtobufCEnumDescriptor *d, int value, const char *prefix);

#endif
