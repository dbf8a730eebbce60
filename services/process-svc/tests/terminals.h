/* Terminals for tests: processes on one, viewers, and an emulator to see what a viewer sees. */
#ifndef SERVICES_PROCESS_SVC_TESTS_TERMINALS_H_
#define SERVICES_PROCESS_SVC_TESTS_TERMINALS_H_

#include "sandboxagent/process/v1/terminal_service.rpc.h"
#include "services/process-svc/tests/fixture.h"

const char *start_terminal(struct svc *s, const char *command); /* 24 x 80 */
const char *start_terminal_of(struct svc *s, const char *command, const TerminalSpec *terminal);

struct VTerm;
struct looker {
    struct rpc_stream *stream;
    AttachTerminalResponse *message; /* the last one */
    sa_error *err;
    uint64_t viewer_id, lease, input; /* input: offset of what is typed next */
    uint64_t offset;                  /* of the next byte of output */
    uint64_t taken;                   /* input that was */
    unsigned rows, columns;
    size_t n_screens;
    struct VTerm *vterm; /* NULL until the first screen */
    struct sa_buf seen;  /* output, without screens */
};

/* open NULL: just the process. The first message must be `opened`. */
struct looker look(struct svc *s, const char *id, TerminalOpen *open);
struct looker look_in_control(struct svc *s, const char *id);
/* The next message, shown to the emulator; false at the end (err: when it was not OK). Fails the test at a
 * hole or a repetition of output. */
bool look_on(struct looker *l);
/* Until a message of this kind has come. */
void look_until(struct looker *l, AttachTerminalResponse__KindCase kind);
/* Until the emulator's screen has this text. */
void look_for(struct looker *l, const char *text);
/* Until a row is this text, without trailing blanks. */
void look_for_row(struct looker *l, const char *text);
bool shows(const struct looker *l, const char *text);
/* The row's text, without trailing blanks. */
const char *row_of(const struct looker *l, int row);
void type(struct looker *l, const char *text); /* at l->input */
void type_at(struct looker *l, uint64_t lease, uint64_t offset, const char *text, size_t n);
void ask_control(struct looker *l, bool take_over);
void give_control(struct looker *l, uint64_t lease);
void change_size(struct looker *l, unsigned rows, unsigned columns);
/* Ends the stream, keeps what was seen. Before the service is killed. */
void hang_up(struct looker *l);
void stop_looking(struct looker *l);
/* Fails the test unless both emulators show the same: characters, colours, attributes, cursor. */
void assert_same_screen(const struct looker *a, const struct looker *b);
void vterm_assert_same(struct VTerm *a, struct VTerm *b);

GetScreenResponse *screen_of(struct svc *s, const char *id, bool scrollback);
const char *resize_error(struct svc *s, const char *id, unsigned rows, unsigned columns);
const char *screen_error(struct svc *s, const char *id);

#endif
