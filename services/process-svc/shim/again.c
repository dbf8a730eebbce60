/* Design notes
 *
 * The first pause is backoff_ms; it doubles with each restart up to backoff_max_ms. A run that lasted longer
 * than that sets the count back, and the pause with it; after max_restarts without such a run the end is
 * final. A restart whose exec fails is a run that ended at once, with 127.
 *
 * Between two runs nothing of the first lives: what it left behind is killed, what they left in the pipes is
 * taken, beyond the bound if need be. But while a journal that must lose nothing has no room, no run begins:
 * else each would add a little. */
#include "services/process-svc/shim/again.h"

#include <errno.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "services/process-svc/shim/pty.h"

enum { EXEC_FAILED_CODE = 127, NS_PER_MS = 1000000 };

static bool is_wanted(const struct shim *s)
{
    const struct shim_exit *e = &s->status.exit;
    bool failed = e->kind != SHIM_EXIT_CODE || e->value != 0;
    if (!s->spec || s->last)
        return false;
    return s->spec->restart == SHIM_RESTART_ALWAYS || (s->spec->restart == SHIM_RESTART_ON_FAILURE && failed);
}

/* true: it is started again after a pause, which begins now. */
static bool back_off(struct shim *s)
{
    if (!is_wanted(s))
        return false;
    uint64_t now = shim_now_ns(), longest = (uint64_t)s->spec->backoff_max_ms * NS_PER_MS;
    if (now - s->run_ns > longest)
        s->in_a_row = 0;
    if (s->in_a_row >= s->spec->max_restarts)
        return false;
    uint64_t pause = (uint64_t)s->spec->backoff_ms * NS_PER_MS;
    for (uint32_t i = 0; i < s->in_a_row && pause < longest; i++)
        pause *= 2;
    s->in_a_row++;
    s->again_ns = now + (pause < longest ? pause : longest);
    s->status.phase = SHIM_BACKING_OFF;
    s->changed = true;
    shim_close_input(s);
    if (!s->finished)
        shim_kill_tree(s);
    return true;
}

static void seal_exit(struct shim *s)
{
    struct shim_exit *e = &s->status.exit;
    for (int i = 0; i < SHIM_STREAMS; i++) {
        journal_flush_index(&s->stream[i].journal);
        e->end[i] = s->stream[i].journal.end;
    }
    e->stdin_next = s->input.next;
    shim_seal_exit(e);
}

static void write_exit(struct shim *s)
{
    const struct shim_exit *e = &s->status.exit;
    s->input.hold = 0;
    if (s->input.pipe < 0)
        input_close(&s->input); /* nobody will read what waits */
    if (pwrite(s->exit_fd, e, sizeof *e, 0) != (ssize_t)sizeof *e || rename("exit.new", "exit") < 0)
        s->status.journal_errno = (uint32_t)errno; /* it is told all the same, and kept while we live */
    s->status.phase = SHIM_EXITED;
    s->changed = true;
    s->deleted_ns = shim_now_ns();
}

void again_run_ended(struct shim *s)
{
    seal_exit(s);
    if (!back_off(s))
        write_exit(s);
}

uint64_t shim_waiting(const struct shim *s, const struct stream *st)
{
    int waiting = 0;
    if (st->pipe >= 0 && s->slave >= 0)
        return PTY_BUFFERED_MAX; /* it cannot be asked: until there is no more, at most this */
    return st->pipe >= 0 && ioctl(st->pipe, FIONREAD, &waiting) == 0 ? (uint64_t)waiting : 0;
}

/* Takes what is left in the pipes and closes them; false: the disk is full, later. */
static bool empty_pipes(struct shim *s)
{
    for (int i = 0; i < SHIM_STREAMS; i++) {
        struct stream *st = &s->stream[i];
        if (!st->drain)
            st->drain = shim_waiting(s, st);
        while (st->drain && !s->held_by)
            shim_read_stream(s, st);
        if (st->drain || s->held_by)
            return false;
        shim_drop(s, &st->pipe, st->polled);
        st->polled = 0;
    }
    return true;
}

static bool has_room(const struct shim *s)
{
    for (int i = 0; i < SHIM_STREAMS; i++)
        if (!journal_room(&s->stream[i].journal, 1))
            return false;
    return true;
}

bool again_is_deleted(void)
{
    struct stat st;
    return stat(".", &st) == 0 && st.st_nlink == 0;
}

static void start(struct shim *s)
{
    s->status.last_exit = s->status.exit;
    s->status.restarts++;
    s->status.matched = 0;
    match_reset(&s->match);
    s->reaped = s->killing = s->finished = false;
    if (shim_start_child(s, s->spec, &s->parts) == 0) {
        shim_child_runs(s);
        return;
    }
    s->reaped = s->finished = true;
    s->run_ns = shim_now_ns();
    s->status.exit.kind = SHIM_EXIT_CODE;
    s->status.exit.value = EXEC_FAILED_CODE;
    s->status.exit.time_us = shim_wall_us();
    again_run_ended(s);
}

void again_start(struct shim *s)
{
    if (s->status.phase != SHIM_BACKING_OFF || !s->finished)
        return;
    if (s->again_ns && shim_now_ns() < s->again_ns)
        return;
    s->again_ns = 0; /* due from now on: another event will bring what is still missing */
    if (again_is_deleted()) {
        s->last = s->released = true;
        again_run_ended(s);
    } else if (empty_pipes(s) && has_room(s)) {
        start(s);
    }
}
