/* WriteUpload: a stream of data for an upload. It only hands on what is new; the upload writes it
 * (uploads.c). */
#include <stdlib.h>
#include <string.h>

#include "services/fs-svc/upload_state.h"
#include "services/fs-svc/uploads.h"

static void feed_free(struct fs_feed *feed)
{
    if (feed->upload)
        feed->upload->feed = NULL;
    feed->fs->n_calls--;
    rpc_call_unref(feed->call);
    free(feed);
}

void fs_feed_acknowledge(struct fs_feed *feed, uint64_t committed)
{
    WriteUploadResponse res = WRITE_UPLOAD_RESPONSE__INIT;
    res.committed_offset = committed;
    write_upload_send(feed->call, &res); /* one for 32 MiB: a reader cannot fall far behind */
}

void fs_feed_end(struct fs_feed *feed, sa_error *err)
{
    if (err) {
        rpc_fail(feed->call, err);
    } else {
        fs_feed_acknowledge(feed, feed->upload->committed);
        rpc_end(feed->call);
    }
    feed_free(feed);
}

void fs_feed_pause(struct fs_feed *feed, bool paused)
{
    if (feed->paused != paused)
        rpc_pause_request(feed->call, paused);
    feed->paused = paused;
}

/* A second stream means that the first one is broken, even if that was not noticed here yet. */
static void take_over(struct fs_feed *feed, struct fs_upload *u)
{
    if (u->feed) {
        sa_error *err = NULL;
        sa_fail(&err, SA_LEASE_LOST, "another stream goes on with the upload");
        fs_feed_end(u->feed, err);
    }
    u->feed = feed;
    feed->upload = u;
}

/* UPLOAD_COMMITTED rather than UPLOAD_NOT_FOUND where it is so. */
static int find(struct fs_feed *feed, const char *id, sa_error **err)
{
    struct sa_id want;
    cleanup_message UploadRecord *known = NULL;
    struct fs_upload *u = fs_upload_find(feed->fs, id, err);
    if (u && !u->committing && !u->placed) {
        take_over(feed, u);
        return 0;
    }
    if (u || (sa_id_parse(id, &want) && fs_upload_find_done(feed->fs, want, &known, NULL) == 1))
        return sa_fail(err, SA_UPLOAD_COMMITTED, "the upload is committed");
    return -1;
}

static int take(struct fs_feed *feed, const WriteUploadRequest *msg, sa_error **err)
{
    size_t skip = 0;
    if (!feed->upload && find(feed, msg->upload_id, err) < 0)
        return -1;
    struct fs_upload *u = feed->upload;
    if (msg->data.len > FS_MESSAGE_MAX)
        return sa_fail(err, SA_MESSAGE_TOO_LARGE, "a message has %zu bytes of data, the limit is %d",
                       msg->data.len, FS_MESSAGE_MAX);
    /* What a worker is writing counts as there: if that fails, this stream ends with it. */
    uint64_t at = u->at + (u->busy && u->step == UPLOAD_WRITE ? u->chunk.len : 0) + u->pending.len;
    if (fs_upload_accept(at, fs_upload_size(u->record), msg->offset, msg->data.len, &skip, err) < 0)
        return -1;
    if (msg->data.len > skip)
        sa_buf_add(&u->pending, msg->data.data + skip, msg->data.len - skip);
    if (u->pending.len >= FS_PENDING_MAX)
        fs_feed_pause(feed, true);
    return 0;
}

static void on_message(void *user, struct rpc_call *call, const WriteUploadRequest *msg)
{
    (void)call;
    struct fs_feed *feed = user;
    sa_error *err = NULL;
    int taken = take(feed, msg, &err);
    struct fs_upload *u = feed->upload;
    if (taken < 0)
        fs_feed_end(feed, err);
    if (u)
        fs_upload_advance(u);
}

static void on_end(void *user, struct rpc_call *call)
{
    (void)call;
    struct fs_feed *feed = user;
    sa_error *err = NULL;
    feed->ended = true;
    if (feed->upload) {
        fs_upload_advance(feed->upload);
        return;
    }
    sa_fail(&err, SA_INVALID_REQUEST, "the stream ended before its first message");
    fs_feed_end(feed, err);
}

static void on_cancel(void *user, struct rpc_call *call)
{
    (void)call;
    struct fs_feed *feed = user;
    struct fs_upload *u = feed->upload;
    feed_free(feed);
    if (u)
        fs_upload_advance(u);
}

void fs_write_upload(void *api, struct rpc_call *call)
{
    static const struct write_upload_events events = {
        .on_message = on_message, .on_end = on_end, .on_cancel = on_cancel};
    struct fs_service *fs = api;
    if (fs->n_calls >= FS_CALLS_MAX) {
        sa_error *err = NULL;
        sa_fail(&err, SA_TOO_MANY, "%d file calls are under way, that is the limit", FS_CALLS_MAX);
        rpc_fail(call, err);
        return;
    }
    struct fs_feed *feed = sa_calloc(1, sizeof *feed);
    feed->fs = fs;
    feed->call = rpc_call_ref(call);
    fs->n_calls++;
    write_upload_accept(call, &events, feed);
}
