/* `sandbox-agent sessions export`, `import` and `verify`: logs of sessions as files. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/mem.h"
#include "adapters/transcript/transcript.h"
#include "sandboxagent/session/v1/session_service.rpc.h"
#include "services/cli/cli.h"
#include "services/cli/client.h"
#include "services/cli/sessions.h"
#include "services/cli/show.h"
#include "services/cli/write.h"

enum { PIECE = 256 << 10 };

/* "-" is standard input. */
static int open_input(const char *file, sa_error **err)
{
    int fd = strcmp(file, "-") ? open(file, O_RDONLY | O_CLOEXEC) : dup(0);
    return fd >= 0 ? fd : sa_fail_errno(err, errno, "open `%s`", file);
}

/* Bytes, 0 at the end, -1. */
static ssize_t read_piece(int fd, const char *file, uint8_t *piece, sa_error **err)
{
    for (;;) {
        ssize_t n = read(fd, piece, PIECE);
        if (n >= 0 || errno != EINTR)
            return n >= 0 ? n : sa_fail_errno(err, errno, "read `%s`", file);
    }
}

/* ---- export ---- */

static int export_to(struct client *c, const char *session, int fd, sa_error **err)
{
    cleanup_free char *id = client_session(c, session, err);
    ExportSessionRequest req = EXPORT_SESSION_REQUEST__INIT;
    ExportSessionResponse *m = NULL;
    int got;
    if (!id)
        return -1;
    req.session_id = id;
    struct rpc_stream *s = export_session_begin(c->channel, &req, NULL);
    while ((got = export_session_next(s, &m, err)) == 1) {
        write_all(fd, m->data.data, m->data.len);
        rpc_message_free(m);
    }
    rpc_stream_free(s);
    return got ? client_explain(c, err) : 0;
}

/* A file appears whole or not at all. */
static int export_file(struct client *c, const char *session, const char *file, sa_error **err)
{
    cleanup_free char *part = sa_format("%s.part", file);
    cleanup_close int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return sa_fail_errno(err, errno, "create `%s`", part);
    if (export_to(c, session, fd, err) < 0) {
        unlink(part);
        return -1;
    }
    if (fsync(fd) < 0 || rename(part, file) < 0)
        return sa_fail_errno(err, errno, "write `%s`", file);
    return 0;
}

int sessions_export(int argc, char **argv)
{
    static const struct service_option own[] = {
        {"output", SERVICE_OPTION_TEXT, NULL, 0, 0, "write into this file instead of standard output"}, {0}};
    struct options *o = options_new(own, client_options);
    struct client c = {0};
    sa_error *err = NULL;
    int r = cli_parse(o, argc, argv, false, "sessions export [options] SESSION",
                      "Writes the log of a session as a transcript. SESSION may be `last`.");
    if (r < 0 && options_count(o) != 1) {
        fprintf(stderr, "sandbox-agent: export which session? `sandbox-agent sessions` lists them\n");
        r = 2;
    } else if (r < 0) {
        const char *file = options_text(o, "output"), *session = options_arguments(o)[0];
        r = client_open(&c, o, &err);
        if (r == 0)
            r = file ? export_file(&c, session, file, &err) : export_to(&c, session, 1, &err);
        r = r < 0 ? cli_failed(err) : 0;
    }
    client_close(&c);
    options_free(o);
    return r;
}

/* ---- import ---- */

/* What went wrong with a put is told by the end of the stream. */
static int send_file(struct rpc_stream *s, int fd, const char *file, sa_error **err)
{
    ImportOpen open = IMPORT_OPEN__INIT;
    ImportSessionRequest req = IMPORT_SESSION_REQUEST__INIT;
    cleanup_free uint8_t *piece = sa_malloc(PIECE);
    ssize_t n;
    req.kind_case = IMPORT_SESSION_REQUEST__KIND_OPEN;
    req.open = &open;
    bool writing = !import_session_put(s, &req, NULL);
    req.kind_case = IMPORT_SESSION_REQUEST__KIND_DATA;
    while (writing && (n = read_piece(fd, file, piece, err)) != 0) {
        if (n < 0)
            return -1;
        req.data = (ProtobufCBinaryData){(size_t)n, piece};
        writing = !import_session_put(s, &req, NULL);
    }
    rpc_stream_close_send(s, NULL);
    return 0;
}

static int import_file(struct client *c, const char *file, bool json, sa_error **err)
{
    cleanup_close int fd = open_input(file, err);
    ImportSessionResponse *res = NULL;
    if (fd < 0)
        return -1;
    struct rpc_stream *s = import_session_begin(c->channel, NULL);
    int r = send_file(s, fd, file, err);
    if (r == 0)
        r = import_session_next(s, &res, err) == 1 ? 0 : client_explain(c, err);
    rpc_stream_free(s);
    if (r == 0 && json)
        show_json(stdout, &res->base);
    else if (r == 0)
        printf("%s  %" PRIu64 " events\n", res->session_id, res->events);
    rpc_message_free(res);
    return r;
}

int sessions_import(int argc, char **argv)
{
    struct options *o = options_new(client_options, NULL);
    struct client c = {0};
    sa_error *err = NULL;
    int r = cli_parse(o, argc, argv, false, "sessions import [options] FILE",
                      "Makes a session of a transcript: ended, but readable as any other. FILE may be `-`.");
    if (r < 0 && options_count(o) != 1) {
        fprintf(stderr, "sandbox-agent: import which file?\n");
        r = 2;
    } else if (r < 0) {
        bool good = client_open(&c, o, &err) == 0 &&
                    import_file(&c, options_arguments(o)[0], options_flag(o, "json"), &err) == 0;
        r = good ? 0 : cli_failed(err);
    }
    client_close(&c);
    options_free(o);
    return r;
}

/* ---- verify ---- */

static int verify_file(const char *file, sa_error **err)
{
    cleanup_close int fd = open_input(file, err);
    cleanup_free uint8_t *piece = sa_malloc(PIECE);
    struct transcript_reader r;
    struct transcript_line line;
    ssize_t n = -1;
    int got = 0;
    if (fd < 0)
        return -1;
    transcript_reader_init(&r);
    while (got >= 0 && (n = read_piece(fd, file, piece, err)) > 0) {
        transcript_feed(&r, piece, (size_t)n);
        while ((got = transcript_next(&r, &line, err)) == 1)
            ;
    }
    int result = got < 0 || n < 0 || transcript_complete(&r, err) < 0 ? sa_wrap(err, "%s", file) : 0;
    if (result == 0)
        printf("%s: %" PRIu64 " events, head %s\n", file, r.events, r.hash);
    transcript_reader_fini(&r);
    return result;
}

static int verify_stored(struct client *c, const char *session, sa_error **err)
{
    cleanup_free char *id = client_session(c, session, err);
    VerifySessionRequest req = VERIFY_SESSION_REQUEST__INIT;
    if (!id)
        return -1;
    req.session_id = id;
    VerifySessionResponse *res = verify_session_wait(c->channel, &req, NULL, err);
    if (!res)
        return client_explain(c, err);
    int r = res->broken_seq ? sa_fail(err, SA_STORE_CORRUPT, "session %s: %s", id, res->problem) : 0;
    if (r == 0)
        printf("%s: events %" PRIu64 " to %" PRIu64 ", head %s\n", id, res->first_seq, res->head_seq,
               res->hash);
    rpc_message_free(res);
    return r;
}

int sessions_verify(int argc, char **argv)
{
    static const struct service_option own[] = {
        {"stored", SERVICE_OPTION_FLAG, NULL, 0, 0, "verify the log of a session at the server, not a file"},
        {0}};
    struct options *o = options_new(own, client_options);
    struct client c = {0};
    sa_error *err = NULL;
    int r = cli_parse(o, argc, argv, false,
                      "sessions verify FILE\n       sandbox-agent sessions verify --stored [options] SESSION",
                      "Checks a transcript, without a server, or a stored log. FILE may be `-`.");
    if (r < 0 && options_count(o) != 1) {
        fprintf(stderr, "sandbox-agent: verify which file? `sandbox-agent sessions export` writes them\n");
        r = 2;
    } else if (r < 0) {
        const char *what = options_arguments(o)[0];
        if (!options_flag(o, "stored"))
            r = verify_file(what, &err);
        else if ((r = client_open(&c, o, &err)) == 0)
            r = verify_stored(&c, what, &err);
        r = r < 0 ? cli_failed(err) : 0;
    }
    client_close(&c);
    options_free(o);
    return r;
}
