/* The spawn helper: this service never forks. It sends descriptors to a small single-threaded process which
 * forks shims and cleans up behind dead ones. Its end is fatal for the service: its successor starts a new
 * one, shims live on. All functions under the service lock. */
#ifndef SERVICES_PROCESS_SVC_SPAWNER_H_
#define SERVICES_PROCESS_SVC_SPAWNER_H_

#include "adapters/os/error.h"
#include "adapters/os/loop.h"
#include "services/process-svc/shim/protocol.h"

struct spawner;

/* program: path of process-shim. directory: where shims make their directories. on_gone: the helper has
 * ended. */
struct spawner *spawner_new(struct sa_loop *loop, const char *program, const char *directory,
                            void (*on_gone)(void *user), void *user, sa_error **err);
void spawner_free(struct spawner *s); /* NULL is fine; the helper ends */

/* Starts a shim for the spec (a memfd). Returns our end of the connection, on which the shim sends its
 * status: SHIM_RUNNING, SHIM_FAILED, or the connection ends. The given descriptor stays the caller's.
 * TOO_MANY when the helper is behind. */
int spawner_spawn(struct spawner *s, int spec, sa_error **err);
/* The same for a runner with this memory file (protocol.h, "runners"): requests may follow at once. */
int spawner_spawn_runner(struct spawner *s, int file, sa_error **err);
/* Pid of the helper. */
int spawner_pid(const struct spawner *s);

/* A shim is dead: ends its child and what descends from it; done(user, survivors) comes when all is gone, or
 * after three seconds. */
void spawner_sweep(struct spawner *s, const struct shim_state *state,
                   void (*done)(void *user, uint32_t survivors), void *user);

#endif
