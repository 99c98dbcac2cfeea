/* SPDX-License-Identifier: GPL-3.0-or-later
 * A command on its way from the monitor to a sink, and the answer on its way back, without a lock: the
 * monitor's thread posts and collects, the node's thread (runner.c) serves between two blocks and closes the
 * box at its end. */
#ifndef GW_MAILBOX_H
#define GW_MAILBOX_H

#include "pipeline/error.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

enum { GW_COMMAND_BYTES = 4096 + 256, GW_ANSWER_BYTES = 1024 };

typedef struct gw_mailbox {
    atomic_int state; /* free, posted, answered: whose turn it is */
    atomic_bool closed;
    int err;
    char words[GW_COMMAND_BYTES], answer[GW_ANSWER_BYTES];
} gw_mailbox;

/* Monitor: GW_EBUSY when another command is under way, GW_EPEER when the node has ended. */
int gw_mailbox_post(gw_mailbox *m, const char *words);
/* GW_EAGAIN: not yet. GW_EPEER: the node ended before. Else GW_OK with the sink's own result in *result. */
int gw_mailbox_collect(gw_mailbox *m, int *result, char *answer, size_t n);
/* The node: works off what is there (one load when nothing is), and at its end closes the box. */
void gw_mailbox_serve(gw_mailbox *m, int (*command)(void *self, const char *words, char *answer, size_t n),
                      void *self);
void gw_mailbox_close(gw_mailbox *m);

#endif
