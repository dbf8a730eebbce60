/* Credentials that sessions refer to by name, and the filter that keeps secret values out of what is told.
 *
 * Values lie in one file of their own, <data-dir>/credentials, mode 0600, never in the store: its rows refer
 * to them by name and version. Each name keeps its value and the one before, so that a start that is repeated
 * after a crash is the same.
 *
 * Under the service lock, but for secrets_mask: any thread. */
#ifndef SERVICES_SESSION_SVC_SECRETS_H_
#define SERVICES_SESSION_SVC_SECRETS_H_

#include "adapters/os/loop.h"
#include "adapters/os/mem.h"
#include "services/session-svc/session_store.rpc.h"

enum {
    SECRETS_MAX = 1000,
    SECRET_NAME_MAX = 128,
    SECRET_VALUE_MAX = 32 << 10,
    SECRET_MASKED_MIN = 6, /* bytes: what is shorter is not masked, it would be found everywhere */
};

struct secrets;
/* Without a file: only knows and masks. */
struct secrets *secrets_new(void);
/* Reads the file; a missing one is fine. Without the lock or with it; blocks. */
struct secrets *secrets_open(struct sa_loop *loop, const char *dir, sa_error **err);
void secrets_free(struct secrets *s); /* NULL is fine */

typedef void secrets_done_fn(void *user, const sa_error *err);
/* Sets (value NULL: deletes) a credential; done runs once the file is written, or not. TOO_MANY. */
void secrets_change(struct secrets *s, const char *name, const char *value, secrets_done_fn *done,
                    void *user);
/* The value, and its version; version 0: the present one. NULL: NOT_FOUND. Borrowed until the next callback.
 */
const char *secrets_value(const struct secrets *s, const char *name, uint64_t version, uint64_t *ret_version,
                          sa_error **err);
/* The i-th by name; NULL: there are no more. */
const StoredCredential *secrets_at(const struct secrets *s, size_t i);

/* ---- the filter ---- */

/* A value that is masked, too, but has no name here: of our own environment. */
void secrets_know(struct secrets *s, const char *value);
/* Replaces known values by as many '*' as they have bytes, also as they look in JSON. False: there was none.
 */
bool secrets_mask(struct secrets *s, void *p, size_t n);
/* The same, and tells what was where: *ret (in the arena) brings it back with secrets_reveal. */
bool secrets_hide(struct secrets *s, void *p, size_t n, struct sa_arena *arena, StoredHidden *ret);
/* NOT_FOUND: a credential was changed or deleted since; the rest is brought back. */
int secrets_reveal(struct secrets *s, void *p, size_t n, const StoredHidden *hidden, sa_error **err);
/* The value as it is written inside of a JSON string. free() it. */
char *secrets_escape(const char *value);

#endif
