/* What commands of RunProcess have left running with keep_descendants: each below a runner of its own, which
 * ends with the last of it. They outlive this service, whose next start finds them again. All functions under
 * the service lock. */
#ifndef SERVICES_PROCESS_SVC_KEPT_H_
#define SERVICES_PROCESS_SVC_KEPT_H_

#include <stddef.h>
#include <stdint.h>

struct processes;

/* A runner (pid and start time, as in shim_status) that keeps something from now on. */
void kept_add(struct processes *all, uint32_t pid, uint64_t start);
/* Finds those of earlier starts. */
void kept_recover(struct processes *all);
/* For a census: calls fn for each; what descends from one of them are strays. */
void kept_each(const struct processes *all, void (*fn)(void *user, uint32_t pid, uint64_t start), void *user);
/* At the end of the service, without the lock: they end what they keep (TERM, KILL after two seconds). */
void kept_terminate(struct processes *all);
/* The same: waits until all have ended, at most so long. How many have not? */
size_t kept_wait(struct processes *all, uint64_t ms);
/* Forgets what is in memory. */
void kept_fini(struct processes *all);

#endif
