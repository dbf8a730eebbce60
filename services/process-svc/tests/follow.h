/* FollowOutput for tests: beside fixture.h, of which it is a part. */
#ifndef SERVICES_PROCESS_SVC_TESTS_FOLLOW_H_
#define SERVICES_PROCESS_SVC_TESTS_FOLLOW_H_

#include "services/process-svc/tests/fixture.h"

struct followed {
    struct rpc_stream *stream;
    FollowOutputResponse *message; /* the last one */
    sa_error *err;
};

/* A request to follow from the first kept byte. */
FollowOutputRequest following(const char *id);
/* Begins, without reading anything. */
struct followed follow_begin(struct svc *s, const FollowOutputRequest *req);
/* Begins and reads `opened`. */
struct followed follow(struct svc *s, const FollowOutputRequest *req);
/* The next message; false at the end (err: when it was not OK). */
bool follow_next(struct followed *f);
void unfollow(struct followed *f);
/* All output to the end of the call, in the order in which it comes; a gap is "<gap>", the end of the process
 * "<exited>", an error "<REASON>". Freed by the fixture. */
const char *followed_text(struct svc *s, const FollowOutputRequest *req);

#endif
