/* SPDX-License-Identifier: GPL-3.0-or-later
 * Mailboxes (mailbox.h). The state is written with release and read with acquire, so whoever's turn it is
 * sees what the other has written; nobody ever waits. */
#include "pipeline/mailbox.h"

#include <stdio.h>

enum { FREE, POSTED, ANSWERED };

int gw_mailbox_post(gw_mailbox *m, const char *words)
{
    if (atomic_load_explicit(&m->closed, memory_order_acquire))
        return gw_fail(GW_EPEER, "it has ended");
    if (atomic_load_explicit(&m->state, memory_order_acquire) != FREE)
        return gw_fail(GW_EBUSY, "it is still busy with another command");
    snprintf(m->words, sizeof m->words, "%s", words);
    atomic_store_explicit(&m->state, POSTED, memory_order_release);
    return GW_OK;
}

int gw_mailbox_collect(gw_mailbox *m, int *result, char *answer, size_t n)
{
    const bool closed = atomic_load_explicit(&m->closed, memory_order_acquire); /* before the state */
    if (atomic_load_explicit(&m->state, memory_order_acquire) != ANSWERED) {
        if (!closed)
            return GW_EAGAIN;
        atomic_store_explicit(&m->state, FREE, memory_order_relaxed);
        return gw_fail(GW_EPEER, "it ended before it took the command");
    }
    *result = m->err;
    snprintf(answer, n, "%s", m->answer);
    atomic_store_explicit(&m->state, FREE, memory_order_relaxed);
    return GW_OK;
}

void gw_mailbox_serve(gw_mailbox *m, int (*command)(void *self, const char *words, char *answer, size_t n),
                      void *self)
{
    if (atomic_load_explicit(&m->state, memory_order_acquire) != POSTED)
        return;
    m->answer[0] = '\0';
    gw_err_clear();
    m->err = command ? command(self, m->words, m->answer, sizeof m->answer) : GW_ENOTSUP;
    if (m->err < 0 && !m->answer[0])
        snprintf(m->answer, sizeof m->answer, "%s",
                 gw_err_detail()[0] ? gw_err_detail() : gw_err_text(m->err));
    atomic_store_explicit(&m->state, ANSWERED, memory_order_release);
}

void gw_mailbox_close(gw_mailbox *m)
{
    atomic_store_explicit(&m->closed, true, memory_order_release);
}
