/* SPDX-License-Identifier: GPL-3.0-or-later
 * A short list in time order; equal neighbours are one entry, so it is nearly always very short. */
#include "pipeline/stages/marks.h"

#include <string.h>

void gw_marks_clear(gw_marks *m)
{
    m->n = 0;
}

static void drop_first(gw_marks *m, int count)
{
    m->n -= count;
    memmove(m->mark, m->mark + count, (size_t)m->n * sizeof m->mark[0]);
}

void gw_marks_add(gw_marks *m, int64_t end, uint64_t dq, uint32_t flags)
{
    if (m->n && m->mark[m->n - 1].dq == dq && m->mark[m->n - 1].flags == flags) {
        m->mark[m->n - 1].end = end;
        return;
    }
    if (m->n == GW_MARKS_MAX) { /* what holds for both */
        m->mark[1].dq &= m->mark[0].dq;
        m->mark[1].flags |= m->mark[0].flags;
        drop_first(m, 1);
    }
    m->mark[m->n].end = end;
    m->mark[m->n].dq = dq;
    m->mark[m->n].flags = flags;
    m->n++;
}

void gw_marks_take(gw_marks *m, int64_t from, int64_t to, uint64_t *dq, uint32_t *flags)
{
    int gone = 0;
    while (gone < m->n && m->mark[gone].end <= from)
        gone++;
    drop_first(m, gone);
    *dq = UINT64_MAX;
    *flags = 0;
    int64_t begin = from;
    for (int i = 0; i < m->n && begin < to; i++) {
        *dq &= m->mark[i].dq;
        *flags |= m->mark[i].flags;
        begin = m->mark[i].end;
    }
}
