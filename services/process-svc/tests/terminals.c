#include "services/process-svc/tests/terminals.h"

#include <vterm.h>

static const struct rpc_call_options patient = {.deadline_ms = PATIENCE_MS};

const char *start_terminal_of(struct svc *s, const char *command, const TerminalSpec *terminal)
{
    struct spec *spec = shell(command);
    spec->message.terminal = (TerminalSpec *)(uintptr_t)terminal;
    return start(s, spec);
}

const char *start_terminal(struct svc *s, const char *command)
{
    TerminalSpec terminal = TERMINAL_SPEC__INIT;
    return start_terminal_of(s, command, &terminal);
}

/* ---- an emulator ---- */

static VTerm *emulator(unsigned rows, unsigned columns)
{
    VTerm *vt = vterm_new((int)rows, (int)columns);
    vterm_set_utf8(vt, 1);
    VTermScreen *screen = vterm_obtain_screen(vt);
    vterm_screen_enable_altscreen(screen, 1);
    vterm_screen_reset(screen, 1);
    return vt;
}

const char *row_of(const struct looker *l, int row)
{
    static char text[4 * 1000 + 1];
    int rows, columns;
    vterm_get_size(l->vterm, &rows, &columns);
    const VTermRect rect = {row, row + 1, 0, columns};
    size_t n = vterm_screen_get_text(vterm_obtain_screen(l->vterm), text, sizeof text - 1, rect);
    while (n && text[n - 1] == ' ')
        n--;
    text[n] = 0;
    return text;
}

bool shows(const struct looker *l, const char *text)
{
    int rows, columns;
    if (!l->vterm)
        return false;
    vterm_get_size(l->vterm, &rows, &columns);
    for (int row = 0; row < rows; row++)
        if (strstr(row_of(l, row), text))
            return true;
    return false;
}

static void assert_same_cell(const VTermScreenCell *a, const VTermScreenCell *b, VTermPos pos)
{
    bool blank = !a->chars[0] || a->chars[0] == ' ', same = blank && (!b->chars[0] || b->chars[0] == ' ');
    for (int i = 0;
         !blank && i < VTERM_MAX_CHARS_PER_CELL && (same = a->chars[i] == b->chars[i]) && a->chars[i];)
        i++;
    same &= vterm_color_is_equal(&a->bg, &b->bg);
    if (!blank)
        same &= a->width == b->width && vterm_color_is_equal(&a->fg, &b->fg) &&
                a->attrs.bold == b->attrs.bold && a->attrs.underline == b->attrs.underline &&
                a->attrs.italic == b->attrs.italic && a->attrs.reverse == b->attrs.reverse &&
                a->attrs.blink == b->attrs.blink && a->attrs.strike == b->attrs.strike;
    if (!same)
        fail_msg("row %d, column %d: U+%04X and U+%04X differ, or how they look", pos.row, pos.col,
                 a->chars[0], b->chars[0]);
}

void vterm_assert_same(VTerm *a, VTerm *b)
{
    int rows, columns, other_rows, other_columns;
    VTermPos cursor, other_cursor, pos;
    vterm_get_size(a, &rows, &columns);
    vterm_get_size(b, &other_rows, &other_columns);
    assert_int_equal(rows, other_rows);
    assert_int_equal(columns, other_columns);
    for (pos.row = 0; pos.row < rows; pos.row++)
        for (pos.col = 0; pos.col < columns; pos.col++) {
            VTermScreenCell x = {0}, y = {0};
            vterm_screen_get_cell(vterm_obtain_screen(a), pos, &x);
            vterm_screen_get_cell(vterm_obtain_screen(b), pos, &y);
            assert_same_cell(&x, &y, pos);
        }
    vterm_state_get_cursorpos(vterm_obtain_state(a), &cursor);
    vterm_state_get_cursorpos(vterm_obtain_state(b), &other_cursor);
    assert_int_equal(cursor.row, other_cursor.row);
    assert_int_equal(cursor.col, other_cursor.col);
}

void assert_same_screen(const struct looker *a, const struct looker *b)
{
    vterm_assert_same(a->vterm, b->vterm);
}

/* ---- viewers ---- */

static void put(struct looker *l, AttachTerminalRequest__KindCase kind, void *message)
{
    AttachTerminalRequest req = ATTACH_TERMINAL_REQUEST__INIT;
    req.kind_case = kind;
    req.open = message; /* any of the oneof */
    attach_terminal_put(l->stream, &req, NULL);
}

static bool next_message(struct looker *l)
{
    rpc_message_free(l->message);
    l->message = NULL;
    sa_error_free(l->err);
    l->err = NULL;
    return attach_terminal_next(l->stream, &l->message, &l->err) == 1;
}

static void use_control(struct looker *l, const TerminalControl *c)
{
    l->lease = c->lease;
    l->input = c->input_offset;
}

struct looker look(struct svc *s, const char *id, TerminalOpen *open)
{
    TerminalOpen init = TERMINAL_OPEN__INIT;
    const struct rpc_call_options long_patience = {.deadline_ms = 4 * PATIENCE_MS}; /* much is looked at */
    struct looker l = {.stream = attach_terminal_begin(s->channel, &long_patience)};
    open = open ? open : &init;
    open->process_id = (char *)(uintptr_t)id;
    put(&l, ATTACH_TERMINAL_REQUEST__KIND_OPEN, open);
    if (!next_message(&l))
        return l;
    assert_int_equal(l.message->kind_case, ATTACH_TERMINAL_RESPONSE__KIND_OPENED);
    l.viewer_id = l.message->opened->viewer_id;
    use_control(&l, l.message->opened->control);
    l.rows = l.message->opened->size->rows;
    l.columns = l.message->opened->size->columns;
    if (open->_after_offset_case) {
        l.offset = open->after_offset;
        l.vterm = emulator(l.message->opened->size->rows, l.message->opened->size->columns);
    }
    return l;
}

struct looker look_in_control(struct svc *s, const char *id)
{
    TerminalOpen open = TERMINAL_OPEN__INIT;
    TerminalAcquire acquire = TERMINAL_ACQUIRE__INIT;
    open.acquire = &acquire;
    struct looker l = look(s, id, &open);
    assert_non_null(l.message);
    assert_int_equal(l.message->opened->control->viewer_id, l.viewer_id);
    return l;
}

static void show_screen(struct looker *l, const TerminalScreen *screen)
{
    if (l->vterm)
        assert_int_equal(screen->skipped, screen->offset - l->offset);
    else
        assert_int_equal(screen->skipped, 0);
    if (l->vterm)
        vterm_free(l->vterm);
    l->vterm = emulator(screen->size->rows, screen->size->columns);
    vterm_input_write(l->vterm, (char *)screen->data.data, screen->data.len);
    l->offset = screen->offset;
    l->n_screens++;
}

bool look_on(struct looker *l)
{
    if (!next_message(l))
        return false;
    const AttachTerminalResponse *m = l->message;
    if (m->kind_case == ATTACH_TERMINAL_RESPONSE__KIND_SCREEN) {
        show_screen(l, m->screen);
    } else if (m->kind_case == ATTACH_TERMINAL_RESPONSE__KIND_CONTROL) {
        use_control(l, m->control);
    } else if (m->kind_case == ATTACH_TERMINAL_RESPONSE__KIND_INPUT_TAKEN) {
        l->taken = m->input_taken->next_offset;
    } else if (m->kind_case == ATTACH_TERMINAL_RESPONSE__KIND_RESIZED) {
        l->rows = m->resized->rows;
        l->columns = m->resized->columns;
        if (l->vterm)
            vterm_set_size(l->vterm, (int)l->rows, (int)l->columns);
    } else if (m->kind_case == ATTACH_TERMINAL_RESPONSE__KIND_OUTPUT) {
        assert_int_equal(m->output->offset, l->offset);
        l->offset += m->output->data.len;
        sa_buf_add(&l->seen, m->output->data.data, m->output->data.len);
        vterm_input_write(l->vterm, (char *)m->output->data.data, m->output->data.len);
    }
    return true;
}

void look_until(struct looker *l, AttachTerminalResponse__KindCase kind)
{
    while (look_on(l))
        if (l->message->kind_case == kind)
            return;
    fail_msg("the view ended: %s", l->err ? l->err->message : "OK");
}

void look_for(struct looker *l, const char *text)
{
    while (!shows(l, text))
        if (!look_on(l))
            fail_msg("`%s` was not shown: %s", text, l->err ? l->err->message : "OK");
}

static bool has_row(const struct looker *l, const char *text)
{
    int rows = 0, columns;
    if (l->vterm)
        vterm_get_size(l->vterm, &rows, &columns);
    for (int row = 0; row < rows; row++)
        if (!strcmp(row_of(l, row), text))
            return true;
    return false;
}

void look_for_row(struct looker *l, const char *text)
{
    while (!has_row(l, text))
        if (!look_on(l))
            fail_msg("no row became `%s`: %s", text, l->err ? l->err->message : "OK");
}

void type_at(struct looker *l, uint64_t lease, uint64_t offset, const char *text, size_t n)
{
    TerminalInput input = TERMINAL_INPUT__INIT;
    input.lease = lease;
    input.offset = offset;
    input.data = (ProtobufCBinaryData){n, (uint8_t *)(uintptr_t)text};
    put(l, ATTACH_TERMINAL_REQUEST__KIND_INPUT, &input);
}

void type(struct looker *l, const char *text)
{
    type_at(l, l->lease, l->input, text, strlen(text));
    l->input += strlen(text);
}

void ask_control(struct looker *l, bool take_over)
{
    TerminalAcquire acquire = TERMINAL_ACQUIRE__INIT;
    acquire.take_over = take_over;
    put(l, ATTACH_TERMINAL_REQUEST__KIND_ACQUIRE, &acquire);
}

void give_control(struct looker *l, uint64_t lease)
{
    TerminalRelease release = TERMINAL_RELEASE__INIT;
    release.lease = lease;
    put(l, ATTACH_TERMINAL_REQUEST__KIND_RELEASE, &release);
}

void change_size(struct looker *l, unsigned rows, unsigned columns)
{
    TerminalSize size = TERMINAL_SIZE__INIT;
    size.rows = rows;
    size.columns = columns;
    put(l, ATTACH_TERMINAL_REQUEST__KIND_RESIZE, &size);
}

void hang_up(struct looker *l)
{
    rpc_stream_free(steal_pointer(&l->stream));
}

void stop_looking(struct looker *l)
{
    hang_up(l);
    rpc_message_free(l->message);
    sa_error_free(l->err);
    if (l->vterm)
        vterm_free(l->vterm);
    sa_buf_fini(&l->seen);
    *l = (struct looker){0};
}

/* ---- calls ---- */

GetScreenResponse *screen_of(struct svc *s, const char *id, bool scrollback)
{
    sa_error *err = NULL;
    GetScreenRequest req = GET_SCREEN_REQUEST__INIT;
    req.process_id = (char *)(uintptr_t)id;
    req.scrollback = scrollback;
    GetScreenResponse *res = get_screen_wait(s->channel, &req, &patient, &err);
    if (!res)
        fail_msg("%s: %s", err->reason, err->message);
    return res;
}

static const char *told(sa_error *err)
{
    static char reason[48];
    snprintf(reason, sizeof reason, "%s", err ? err->reason : "OK");
    sa_error_free(err);
    return reason;
}

const char *resize_error(struct svc *s, const char *id, unsigned rows, unsigned columns)
{
    sa_error *err = NULL;
    ResizeTerminalRequest req = RESIZE_TERMINAL_REQUEST__INIT;
    TerminalSize size = TERMINAL_SIZE__INIT;
    size.rows = rows;
    size.columns = columns;
    req.process_id = (char *)(uintptr_t)id;
    req.size = &size;
    rpc_message_free(resize_terminal_wait(s->channel, &req, &patient, &err));
    return told(err);
}

const char *screen_error(struct svc *s, const char *id)
{
    sa_error *err = NULL;
    GetScreenRequest req = GET_SCREEN_REQUEST__INIT;
    req.process_id = (char *)(uintptr_t)id;
    rpc_message_free(get_screen_wait(s->channel, &req, &patient, &err));
    return told(err);
}
