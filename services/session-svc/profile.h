/* What people change of a session after its creation: title, labels, archived or not. Each change is an
 * event. */
#ifndef SERVICES_SESSION_SVC_PROFILE_H_
#define SERVICES_SESSION_SVC_PROFILE_H_

#include "services/session-svc/session.h"

enum {
    PROFILE_LABELS_MAX = 64,
    PROFILE_TEXT_MAX = 256,
    PROFILE_IDLE_MAX = 7 * 24 * 3600 * 1000, /* ms */
};

/* INVALID_REQUEST. */
int profile_check_title(const char *title, sa_error **err);
int profile_check_labels(size_t n, sa_error **err);
int profile_check_label(const char *key, const char *value, sa_error **err);
/* Replaces it without an event: at the creation, and for what else is kept with it. Copied. */
void profile_replace(struct session *s, const StoredProfile *now);
/* ETAG_MISMATCH, INVALID_REQUEST. */
int profile_update(struct session *s, const UpdateSessionRequest *req, const char *author, sa_error **err);
/* ETAG_MISMATCH, TURN_RUNNING. */
int profile_archive(struct session *s, bool archived, const char *etag, const char *author, sa_error **err);
int profile_check_idle(uint64_t ms, sa_error **err);
/* 0: never. */
uint64_t profile_idle_ms(const struct sessions *all, const StoredProfile *p);
bool profile_is_archived(const struct session *s);

/* As committed; of an old session, from its spec. NULL: error. Free it with store_message_free. */
StoredProfile *profile_read(struct sessions *all, struct sa_id id, const StoredSpec *spec, sa_error **err);

/* For session.c. */
int profile_load(struct session *s, const StoredSpec *spec, sa_error **err);
void profile_clear(struct session *s);

#endif
