/* The sandboxes of this server: what exists is what is committed here; a provider is asked after the intent
 * is, and told about after the result is. After a crash everything that was under way is taken up again:
 * half-made sandboxes are finished, half-ended ones ended. All under the service lock. */
#ifndef SERVICES_PROVIDER_SVC_SANDBOXES_H_
#define SERVICES_PROVIDER_SVC_SANDBOXES_H_

#include "adapters/lmdb/store.h"
#include "adapters/os/clock.h"
#include "adapters/os/error.h"
#include "adapters/providers/provider.h"
#include "sandboxagent/provider/v1/sandbox_service.rpc.h"
#include "services/provider-svc/provider_store.rpc.h"

enum {
    SANDBOXES_MAX = 1000,   /* that have not ended; more: TOO_MANY */
    SANDBOX_KEEP_S = 86400, /* so long an ended one is remembered */
};

struct bus_publisher;
struct sandboxes;

struct sandbox {
    struct sandbox *next; /* by id, newest first */
    struct sandboxes *all;
    char id[SA_ID_TEXT + 1];
    struct provider *provider;
    SandboxRecord *record; /* as committed; NULL: it is not yet */
    SandboxRecord *change; /* being committed */
    bool busy;             /* its driver or the store works on it */
    bool unwanted;         /* to be destroyed */
    char *ended;           /* it ended by itself while it was busy */
    struct sa_timer *again;
    struct waiter *creators, *destroyers;
};

struct sandboxes_options {
    struct sa_loop *loop;
    const char *dir; /* of the store */
    enum store_durability durability;
    void (*degraded)(void *user, const char *message); /* the store is not well; NULL: it is */
    void *user;
};

struct sandboxes *sandboxes_open(const struct sandboxes_options *opt, sa_error **err);
uint64_t sandboxes_epoch(const struct sandboxes *all);
/* Takes the driver. Before sandboxes_recover. */
void sandboxes_add_provider(struct sandboxes *all, struct provider *p);
/* In the order they were added; NULL: no more. */
struct provider *sandboxes_provider(const struct sandboxes *all, size_t i);
/* Takes up what an earlier run has left. bus: told of every change. */
void sandboxes_recover(struct sandboxes *all, struct bus_publisher *bus);
/* Called without the lock. NULL is fine. Sandboxes live on. */
void sandboxes_free(struct sandboxes *all);

/* Of a driver: struct provider_options.ended with the struct sandboxes as user. */
void sandboxes_ended(void *all, const char *sandbox_id, const char *message);

/* err NULL: it is so. */
typedef void sandbox_done_fn(void *user, struct sandbox *s, const sa_error *err);

/* Records a sandbox and begins to make it; told when it is recorded. request_id "": none; one that was seen
 * within SANDBOX_KEEP_S gets the sandbox it made. UNKNOWN_PROVIDER, PROVIDER_ERROR (not available), TOO_MANY.
 * -1: `done` does not come. */
int sandboxes_create(struct sandboxes *all, const char *principal, const CreateSandboxRequest *req,
                     sandbox_done_fn *done, void *user, sa_error **err);
/* SANDBOX_NOT_FOUND. */
struct sandbox *sandboxes_find(struct sandboxes *all, const char *id, sa_error **err);
/* The first one older than `before` (NULL: the newest), and so on with `next`; skip those without a record.
 */
struct sandbox *sandboxes_first(struct sandboxes *all, const char *before);
/* Ends it; told when it has ended. */
void sandboxes_destroy(struct sandbox *s, sandbox_done_fn *done, void *user);

Sandbox *sandbox_to_proto(struct sa_arena *a, const struct sandbox *s);

#endif
