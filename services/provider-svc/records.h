/* Sandboxes in LMDB. All under the service lock, but for records_free. */
#ifndef SERVICES_PROVIDER_SVC_RECORDS_H_
#define SERVICES_PROVIDER_SVC_RECORDS_H_

#include "services/provider-svc/sandboxes.h"

struct records;

struct records *records_open(struct sa_loop *loop, const char *dir, enum store_durability durability,
                             sa_error **err);
/* Called without the lock. */
void records_free(struct records *r);
uint64_t records_epoch(const struct records *r);

/* As store_commit. */
int records_put(struct records *r, const char *id, const SandboxRecord *record, store_done_fn *done,
                void *user, sa_error **err);
void records_drop(struct records *r, const char *id);
/* Gives every record to `loaded`, which owns it then. */
void records_load(struct records *r, void (*loaded)(void *user, const char *id, SandboxRecord *record),
                  void *user);

/* ---- one record, on the heap ---- */

SandboxRecord *records_new(const char *principal, const CreateSandboxRequest *req);
SandboxRecord *records_copy(const SandboxRecord *r);
void records_free_one(SandboxRecord *r); /* NULL is fine */
void records_set_message(SandboxRecord *r, const char *message);
void records_set_driver_state(SandboxRecord *r, const void *p, size_t n);
Sandbox *records_to_proto(struct sa_arena *a, const char *id, const SandboxRecord *r);

#endif
