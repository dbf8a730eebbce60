/* What terminal.c and viewer.c share: the terminal of one process, and one stream of AttachTerminal. */
#ifndef SERVICES_PROCESS_SVC_VIEWER_H_
#define SERVICES_PROCESS_SVC_VIEWER_H_

#include "sandboxagent/process/v1/terminal_service.rpc.h"
#include "services/process-svc/control.h"
#include "services/process-svc/painter.h"
#include "services/process-svc/terminal.h"

struct viewer;

struct terminal {
    struct process *process;
    struct control control;
    struct painter *painter;
    bool ready;              /* control.generation is committed */
    struct viewer *opening;  /* wait for that */
    size_t asking;           /* calls that wait for the painter or for the shim */
    size_t in_flight;        /* pieces of input that the shim has not answered */
    struct dimensions size;  /* as it was told last */
    struct dimensions asked; /* of the shim, not confirmed yet; 0, 0: none */
    bool flushing;           /* deferred: changes are about to be told */
    bool members_changed;
    struct sa_timer *members_timer; /* changes of who looks are told after a pause */
};

/* NULL: NOT_A_TERMINAL. Made at the first call. */
struct terminal *terminal_of(struct process *p, sa_error **err);
/* As it is now, or was at the end. */
struct dimensions terminal_size_now(const struct terminal *t);
/* Bits of viewer_due: DUE_CONTROL, DUE_MEMBERS. All are told soon, and the size may change. */
void terminal_changed(struct terminal *t, unsigned due);
/* Next offset of input. */
uint64_t terminal_input_next(struct terminal *t);

/* api: struct processes. */
void attach_terminal_handler(void *api, struct rpc_call *call);

/* ---- viewer.c, for terminal.c ---- */

enum viewer_due { DUE_CONTROL = 1, DUE_MEMBERS = 2, DUE_SIZE = 4, DUE_TAKEN = 8, DUE_REFUSED = 16 };

/* What is due to be told, then output, as far as there is room. */
void viewer_pump(struct viewer *v);
void viewer_due(struct viewer *v, unsigned due);
/* The terminal is ready for it. */
void viewer_begin(struct viewer *v);
void viewer_fail(struct viewer *v, sa_error *err);
struct viewer *viewer_of(struct member *m);
struct viewer *viewer_next_opening(struct viewer *v);
/* Input was sent to a shim that has gone. */
bool viewer_owes(const struct viewer *v);

#endif
