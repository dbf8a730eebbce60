/* What a person would look for in an event, and finding it. Pure functions over bytes. */
#ifndef SERVICES_SESSION_SVC_SEARCH_TEXT_H_
#define SERVICES_SESSION_SVC_SEARCH_TEXT_H_

#include <stdbool.h>

#include "adapters/os/mem.h"
#include "sandboxagent/session/v1/event.rpc.h"

enum {
    SEARCH_TEXT_MAX = 256,    /* bytes of what is looked for */
    SEARCH_SNIPPET_MAX = 240, /* bytes around it */
};

/* Lower case in place, as many bytes as before: ASCII, Latin-1, Greek and Cyrillic letters. */
void search_fold(char *text, size_t n);

/* The text of an event, parts on lines of their own. false: it goes on where the event before ended (chunks
 * of one message). */
bool search_event_text(const Event *e, const Event__KindCase before, struct sa_buf *out);

/* Looks through events in their order. A text that begins in one chunk of a message and ends in another is
 * found in the latter. */
struct search_scan {
    char needle[SEARCH_TEXT_MAX + 1]; /* folded */
    size_t needle_len;
    struct sa_buf text, folded; /* of this event, behind the end of the message so far */
    Event__KindCase before;
};
/* text: 1 to SEARCH_TEXT_MAX bytes of UTF-8. */
void search_scan_init(struct search_scan *s, const char *text);
void search_scan_fini(struct search_scan *s);
/* Is it in this event? Then the text around it, on one line, is appended to *snippet. */
bool search_scan_event(struct search_scan *s, const Event *e, struct sa_buf *snippet);

#endif
