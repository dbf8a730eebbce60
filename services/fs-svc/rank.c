/* Design notes
 *
 * best[i][j] is the score of the first i + 1 bytes of the query with the last of them at byte j of the path:
 * the best of the row before, either right before j (in a row) or earlier (a gap). The path of the best last
 * cell is followed back for the positions. */
#include "services/fs-svc/rank.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"

enum {
    HIT = 16,
    IN_A_ROW = 8,
    PART_START = 10, /* the first byte of a name */
    WORD_START = 7,
    LAST_PART = 4, /* the name of the file itself */
    GAP = 3,
    NONE = INT32_MIN / 2,
};

struct rank_query rank_query_of(const void *text, size_t n)
{
    struct rank_query q = {.n = n < RANK_QUERY_MAX ? n : RANK_QUERY_MAX, .ignore_case = true};
    memcpy(q.text, text, q.n);
    for (size_t i = 0; i < q.n; i++)
        q.ignore_case &= !isupper((unsigned char)q.text[i]);
    return q;
}

static bool same(const struct rank_query *q, size_t i, char c)
{
    return q->text[i] == (q->ignore_case ? (char)tolower((unsigned char)c) : c);
}

static bool contains(const struct rank_query *q, const char *path, size_t n)
{
    size_t i = 0;
    for (size_t j = 0; j < n && i < q->n; j++)
        i += same(q, i, path[j]);
    return i == q->n;
}

static int32_t worth(const char *path, size_t j, size_t last_part)
{
    int32_t score = HIT + (j >= last_part ? LAST_PART : 0);
    unsigned char c = (unsigned char)path[j], before = j ? (unsigned char)path[j - 1] : '/';
    if (before == '/')
        return score + PART_START;
    if (isalnum(c) && (!isalnum(before) || (isupper(c) && islower(before))))
        return score + WORD_START;
    return score;
}

/* Fills row i from the one before (NULL: it is the first). */
static void fill(const struct rank_query *q, size_t i, const char *path, size_t n, size_t last_part,
                 const int32_t *before, int32_t *row)
{
    int32_t gap = NONE; /* the best before j - 1 */
    for (size_t j = 0; j < n; j++) {
        row[j] = NONE;
        if (before && j >= 2 && before[j - 2] - GAP > gap)
            gap = before[j - 2] - GAP;
        if (!same(q, i, path[j]))
            continue;
        int32_t from = before ? gap : 0;
        if (before && j && before[j - 1] + IN_A_ROW > from)
            from = before[j - 1] + IN_A_ROW;
        if (from > NONE / 2)
            row[j] = from + worth(path, j, last_part);
    }
}

static size_t best_of(const int32_t *row, size_t n)
{
    size_t best = 0;
    for (size_t j = 1; j < n; j++)
        if (row[j] > row[best])
            best = j;
    return best;
}

/* The cells that led to the best one, from the end. */
static void follow_back(const struct rank_query *q, const int32_t *rows, size_t n, uint32_t *ret)
{
    size_t j = best_of(rows + (q->n - 1) * n, n);
    ret[q->n - 1] = (uint32_t)j;
    for (size_t i = q->n - 1; i-- > 0;) {
        const int32_t *row = rows + i * n;
        size_t best = best_of(row, j), gap = j >= 2 ? best_of(row, j - 1) : 0;
        bool in_a_row = j < 2 || row[j - 1] + IN_A_ROW >= row[gap] - GAP;
        j = j < 2 ? best : in_a_row ? j - 1 : gap;
        ret[i] = (uint32_t)j;
    }
}

bool rank_path(const struct rank_query *q, const char *path, size_t n, int32_t *ret_score,
               uint32_t *ret_positions)
{
    if (!contains(q, path, n))
        return false;
    if (q->n == 0) {
        *ret_score = 0;
        return true;
    }
    const char *slash = memrchr(path, '/', n);
    size_t last_part = slash ? (size_t)(slash - path) + 1 : 0;
    size_t kept = ret_positions ? q->n : 2;
    cleanup_free int32_t *rows = sa_malloc(kept * n * sizeof *rows);
    for (size_t i = 0; i < q->n; i++)
        fill(q, i, path, n, last_part, i ? rows + (i - 1) % kept * n : NULL, rows + i % kept * n);
    const int32_t *last = rows + (q->n - 1) % kept * n;
    *ret_score = last[best_of(last, n)];
    if (ret_positions)
        follow_back(q, rows, n, ret_positions);
    return true;
}
