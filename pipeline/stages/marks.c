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

void gw_marks_add(gw_marks *m, int64_t end, const gw_view *said)
{
    const gw_mark now = {end, said->dq, said->flags, said->networks};
    gw_mark *last = m->n ? &m->mark[m->n - 1] : NULL;
    if (last && last->dq == now.dq && last->flags == now.flags && last->networks == now.networks) {
        last->end = end;
        return;
    }
    if (m->n == GW_MARKS_MAX) { /* what holds for both */
        m->mark[1].dq &= m->mark[0].dq;
        m->mark[1].flags |= m->mark[0].flags;
        drop_first(m, 1);
    }
    m->mark[m->n++] = now;
}

void gw_marks_take(gw_marks *m, int64_t from, int64_t to, gw_out *out)
{
    int gone = 0;
    while (gone < m->n && m->mark[gone].end <= from)
        gone++;
    drop_first(m, gone);
    out->dq = UINT64_MAX;
    out->flags = 0;
    int64_t begin = from;
    for (int i = 0; i < m->n && begin < to; i++) {
        out->dq &= m->mark[i].dq;
        out->flags |= m->mark[i].flags;
        out->networks = m->mark[i].networks;
        begin = m->mark[i].end;
    }
}
