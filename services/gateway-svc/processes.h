/* What the files of /v1/processes share. */
#ifndef SERVICES_GATEWAY_SVC_PROCESSES_H_
#define SERVICES_GATEWAY_SVC_PROCESSES_H_

#include "sandboxagent/process/v1/process_service.rpc.h"
#include "sandboxagent/process/v1/terminal_service.rpc.h"
#include "services/gateway-svc/peer.h"

/* The process that the path names; lives as long as the request. */
char *process_id(const struct exchange *x);
/* Appends a process as the peer shows it. */
void process_put(struct json_writer *w, const Process *p);
/* 200 with the process. */
void process_reply(struct exchange *x, const Process *p);
/* Answers with the error of a call about the process of the path; copies it. */
void process_fail(struct exchange *x, const sa_error *err);
/* A request under way is the exchange's state: it is given up with it. */
void process_begin(struct exchange *x, struct rpc_request *rpc);

/* A size that a terminal can have, nearest to the one that was asked for. */
uint32_t process_terminal_side(uint64_t characters);

/* Reads "command", "args", "cwd", "env" into a spec, in the request's arena. Answers 400 or 422 and returns
 * false. */
bool process_read_spec(struct exchange *x, struct json body, ProcessSpec *spec);

#endif
