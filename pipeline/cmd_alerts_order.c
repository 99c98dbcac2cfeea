/* SPDX-License-Identifier: GPL-3.0-or-later
 * `gwstream alerts retract` and `resend`: orders to whoever holds the journal (sinks/orders.h). On a terminal they
 * ask first. */
#include "pipeline/cmd_alerts.h"
#include "sinks/orders.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { WAIT_MS = 10000 };

/* On a terminal the question, which `y` answers; elsewhere, and with --yes, who calls has decided. */
static int confirm(const gw_alerts_options *o, const char *question)
{
    char line[16] = "";
    if (o->yes || !isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
        return 0;
    fprintf(stderr, "%s [y/N] ", question);
    if (fgets(line, sizeof line, stdin) && (line[0] == 'y' || line[0] == 'Y'))
        return 0;
    return gw_fail(GW_ECANCELED, "%s: nothing was ordered", o->verb);
}

static int give(const gw_alerts_options *o, const gw_order *order, gw_orders_told *t)
{
    GW_TRY(gw_orders_give(o->journal, order, WAIT_MS, t));
    if (t->refused)
        return gw_fail(GW_EMISMATCH, "%s", t->answer);
    if (t->done < t->given)
        return gw_fail(GW_EAGAIN,
                       "%s: the run that holds %s has carried out %" PRId64 " of %" PRId64
                       " within %d s; the rest stays ordered, and is done when it comes to it",
                       o->verb, o->journal, t->done, t->given, WAIT_MS / 1000);
    return 0;
}

int gw_alerts_retract(gw_journal *j, const gw_alerts_options *o, FILE *to)
{
    char id[GW_EVENT_ID_BYTES], question[128];
    gw_orders_told t;
    int64_t messages = 0;
    GW_TRY(gw_alerts_find(j, o, id));
    const gw_order order = {.retract = true, .id = id, .reason = o->reason};
    GW_TRY(gw_orders_look(j, &order, &messages));
    snprintf(question, sizeof question, "Retract %s? Everybody who was told of it is told.", id);
    GW_TRY(confirm(o, question));
    GW_TRY(give(o, &order, &t));
    fprintf(to,
            t.by_run ? "%s: retracted; the run that holds the journal tells it\n"
                     : "%s: retracted in the journal; the next run tells it\n",
            id);
    return 0;
}

int gw_alerts_resend(gw_journal *j, const gw_alerts_options *o, FILE *to)
{
    char id[GW_EVENT_ID_BYTES], question[128];
    gw_orders_told t;
    int64_t messages = 0;
    if (o->id)
        GW_TRY(gw_alerts_find(j, o, id));
    const gw_order order = {
        .id = o->id ? id : NULL, .broker = o->broker, .since_ns = o->since_ns, .refused = o->refused};
    GW_TRY(gw_orders_look(j, &order, &messages));
    snprintf(question, sizeof question, "Send %" PRId64 " message%s again?", messages,
             messages == 1 ? "" : "s");
    GW_TRY(confirm(o, question));
    GW_TRY(give(o, &order, &t));
    fprintf(to, "%" PRId64 " message%s again, each under its old _id; %s\n", t.given,
            t.given == 1 ? " goes" : "s go",
            t.by_run ? "'gwstream alerts stats' counts what waits" : "at the next run");
    return 0;
}
