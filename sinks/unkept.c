/* SPDX-License-Identifier: GPL-3.0-or-later
 * unkept.h. */
#include "sinks/unkept.h"

#include "pipeline/log.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BROKERS = 32 };

struct gw_unkept {
    int n, first;
    gw_unkept_item *item; /* [GW_UNKEPT_MOST], a ring; memory is taken as it is written to */
};

int gw_unkept_new(gw_unkept **out)
{
    *out = NULL;
    gw_unkept *u = calloc(1, sizeof *u);
    gw_unkept_item *item = calloc(GW_UNKEPT_MOST, sizeof *item);
    if (!u || !item) {
        free(u);
        free(item);
        return gw_fail(GW_ENOMEM, "alerts: out of memory");
    }
    u->item = item;
    *out = u;
    return 0;
}

void gw_unkept_destroy(gw_unkept **out)
{
    if (*out) {
        free((*out)->item);
        free(*out);
    }
    *out = NULL;
}

int gw_unkept_count(const gw_unkept *u)
{
    return u ? u->n : 0;
}

static gw_unkept_item *at(const gw_unkept *u, int i)
{
    return &u->item[(u->first + i) % GW_UNKEPT_MOST];
}

static void forget_first(gw_unkept *u)
{
    u->first = (u->first + 1) % GW_UNKEPT_MOST;
    u->n--;
}

static void say(const gw_unkept_item *i, const char *why)
{
    char json[GW_JOURNAL_JSON_BYTES];
    if (gw_journal_json(&i->event, i->serial, i->published_ns, false, json, sizeof json) > 0)
        gw_log(GW_LOG_ERROR, NULL, "not in the journal%s: %s", why, json);
}

void gw_unkept_add(gw_unkept *u, const gw_unkept_item *item)
{
    if (u->n == GW_UNKEPT_MOST) {
        say(at(u, 0), ", and too many have come after it");
        forget_first(u);
    }
    *at(u, u->n) = *item;
    u->n++;
}

int gw_unkept_words(const gw_unkept *u, const gw_event *e)
{
    int n = 0;
    for (int i = 0; i < u->n; i++) {
        const gw_unkept_item *k = at(u, i);
        n += !k->committed && k->event.phase == e->phase && strcmp(k->event.id, e->id) == 0;
    }
    return n;
}

static int write_one(gw_unkept_item *i, gw_journal *j, const char *const *brokers, int n_brokers,
                     const char *refused)
{
    if (i->event.phase == GW_PHASE_INJECTION)
        return gw_journal_put_injection(j, &i->event);
    gw_journal_ack ack[MAX_BROKERS];
    int n = 0;
    bool published = false;
    for (int b = 0; b < n_brokers && b < MAX_BROKERS; b++)
        if (i->held >> b & 1)
            ack[n++] = (gw_journal_ack){.broker = brokers[b], .refused = refused, .latency_s = NAN};
    if (!i->committed)
        GW_TRY(gw_journal_put_settled(j, &i->event, ack, n, &i->serial, &published));
    i->committed = true;
    if (published)
        return 0;
    char json[GW_JOURNAL_JSON_BYTES];
    GW_TRY(gw_journal_json(&i->event, i->serial, i->published_ns, false, json, sizeof json));
    return gw_journal_mark(j, &i->event, i->serial, i->published_ns, false, json);
}

int gw_unkept_write(gw_unkept *u, gw_journal *j, const char *const *brokers, int n_brokers,
                    const char *refused)
{
    while (u->n) {
        GW_TRY(write_one(at(u, 0), j, brokers, n_brokers, refused));
        forget_first(u);
    }
    return 0;
}

void gw_unkept_say(gw_unkept *u)
{
    while (u->n) {
        say(at(u, 0), "");
        forget_first(u);
    }
}
