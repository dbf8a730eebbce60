/* `sandbox-agent fs cat PATH...`: content to standard output. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/mem.h"
#include "services/cli/transfer.h"
#include "services/cli/write.h"

static const struct service_option own[] = {
    {"offset", SERVICE_OPTION_UINT, NULL, 0, INT64_MAX, "bytes: from there on"},
    {"length", SERVICE_OPTION_UINT, NULL, 0, INT64_MAX, "bytes: at most so many"},
    {"lines", SERVICE_OPTION_TEXT, NULL, 0, 0, "A:B: from line A to line B; A: and :B are fine, too"},
    {0},
};

static int print_content(struct client *c, const struct options *o, const char *path, sa_error **err)
{
    ReadFileRequest req = READ_FILE_REQUEST__INIT;
    req.root = fs_root(o);
    req.path = fs_path(path);
    req.offset = options_uint(o, "offset");
    req.length = options_uint(o, "length");
    req.chunk_bytes = TRANSFER_CHUNK;
    bool changed = false;
    struct rpc_stream *s = read_file_begin(c->channel, &req, NULL);
    ReadFileResponse *res;
    int r;
    while ((r = read_file_next(s, &res, err)) == 1) {
        write_all(STDOUT_FILENO, res->data.data, res->data.len);
        changed = changed || res->changed;
        rpc_message_free(res);
    }
    rpc_stream_free(s);
    if (changed)
        fprintf(stderr, "sandbox-agent: %s was changed while it was read\n", path);
    return r;
}

/* ---- lines ---- */

static int parse_lines(const char *text, uint64_t *ret_first, uint64_t *ret_last, sa_error **err)
{
    char *end;
    uint64_t first = *text == ':' ? 1 : strtoull(text, &end, 10), last = UINT64_MAX;
    if (*text == ':')
        end = (char *)(uintptr_t)text;
    if (*end == ':' && end[1])
        last = strtoull(end + 1, &end, 10);
    else if (*end == ':')
        end++;
    else
        last = first;
    if (*end || !first || last < first || *text == '-')
        return sa_fail(err, SA_INVALID_CONFIG, "--lines is A:B, from line A (1 is the first) to line B");
    *ret_first = first;
    *ret_last = last;
    return 0;
}

static void print_line(const char *path, uint64_t number, const TextLine *line)
{
    bool text = line->kind_case == TEXT_LINE__KIND_TEXT;
    if (text)
        write_all(STDOUT_FILENO, line->text, strlen(line->text));
    else
        write_all(STDOUT_FILENO, line->raw.data, line->raw.len);
    write_all(STDOUT_FILENO, "\n", 1);
    if (line->full_bytes)
        fprintf(stderr, "sandbox-agent: line %" PRIu64 " of %s has %" PRIu64 " bytes; it is cut\n", number,
                path, line->full_bytes);
}

/* Slice by slice; each goes on where the one before has ended. */
static int print_lines(struct client *c, const struct options *o, const char *path, uint64_t first,
                       uint64_t last, sa_error **err)
{
    enum { MOST = 10000 };
    cleanup_free char *etag = sa_strdup("");
    for (uint64_t offset = 0; first && first <= last;) {
        ReadTextRequest req = READ_TEXT_REQUEST__INIT;
        req.root = fs_root(o);
        req.path = fs_path(path);
        req.first_line = first;
        req.offset = offset;
        req.if_match = etag;
        req.max_lines = last - first < MOST ? (uint32_t)(last - first + 1) : MOST;
        req.max_bytes = req.max_line_bytes = TRANSFER_CHUNK;
        ReadTextResponse *res = read_text_wait(c->channel, &req, NULL, err);
        if (!res)
            return -1;
        for (size_t i = 0; i < res->n_lines; i++)
            print_line(path, first + i, res->lines[i]);
        first = res->next_line;
        offset = res->next_offset;
        free(etag);
        etag = sa_strdup(res->file->etag);
        rpc_message_free(res);
    }
    return 0;
}

static int act(struct client *c, const struct options *o, sa_error **err)
{
    int r = 0;
    uint64_t first = 0, last = 0;
    const char *lines = options_text(o, "lines");
    if (lines && parse_lines(lines, &first, &last, err) < 0)
        return -1;
    for (int i = 0; i < options_count(o); i++) {
        const char *path = options_arguments(o)[i];
        sa_error *failed = NULL;
        if ((lines ? print_lines(c, o, path, first, last, &failed) : print_content(c, o, path, &failed)) < 0)
            r = fs_failed(c, failed);
    }
    return r;
}

int fs_cat(int argc, char **argv)
{
    static const struct fs_verb verb = {
        .own = own,
        .usage = "cat [options] PATH...",
        .summary = "Prints files, or a part of them, as they are.",
        .least = 1,
        .most = -1,
        .act = act,
    };
    return fs_verb(&verb, argc, argv);
}
