/* SPDX-License-Identifier: GPL-3.0-or-later
 * satchel.h. A list: it is short, but on the day when the disk is full. */
#include "sinks/satchel.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 4096, AT_ONCE = 32 };

typedef struct item {
    gw_outbox_row row;
    bool answered;
} item;

struct gw_satchel {
    pthread_mutex_t lock;
    item *item;
    int n, size;
};

int gw_satchel_new(gw_satchel **out)
{
    *out = calloc(1, sizeof **out);
    if (!*out)
        return gw_fail(GW_ENOMEM, "alerts: out of memory");
    pthread_mutex_init(&(*out)->lock, NULL);
    return 0;
}

void gw_satchel_destroy(gw_satchel **out)
{
    gw_satchel *s = *out;
    if (!s)
        return;
    pthread_mutex_destroy(&s->lock);
    free(s->item);
    free(s);
    *out = NULL;
}

static bool is_it(const item *i, const gw_event *e, int serial)
{
    return i->row.serial == serial && i->row.event.phase == e->phase && strcmp(i->row.event.id, e->id) == 0;
}

static item *find(gw_satchel *s, const gw_event *e, int serial)
{
    for (int i = 0; i < s->n; i++)
        if (is_it(&s->item[i], e, serial))
            return &s->item[i];
    return NULL;
}

static void take_out(gw_satchel *s, item *i)
{
    memmove(i, i + 1, (size_t)(s->item + s->n - (i + 1)) * sizeof *i);
    s->n--;
}

static item *add(gw_satchel *s, const gw_outbox_row *row)
{
    if (s->n == s->size) {
        const int size = s->size ? 2 * s->size : 16;
        item *more = size <= MOST ? realloc(s->item, (size_t)size * sizeof *more) : NULL;
        if (!more)
            return NULL;
        s->item = more;
        s->size = size;
    }
    s->item[s->n] = (item){.row = *row};
    return &s->item[s->n++];
}

int gw_satchel_post(gw_satchel *s, const gw_outbox_row *row)
{
    pthread_mutex_lock(&s->lock);
    const bool taken = find(s, &row->event, row->serial) || add(s, row);
    pthread_mutex_unlock(&s->lock);
    return taken ? 0 : gw_fail(GW_ENOMEM, "event %.23s: no memory to send it from", row->event.id);
}

static bool has_id(const gw_outbox_row *row, int n, const char *id)
{
    while (n-- > 0)
        if (strcmp(row[n].event.id, id) == 0)
            return true;
    return false;
}

void gw_satchel_take(gw_satchel *s, gw_outbox_row *row, int *n, int max)
{
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < s->n && *n < max; i++)
        if (!s->item[i].answered && !has_id(row, *n, s->item[i].row.event.id))
            row[(*n)++] = s->item[i].row;
    pthread_mutex_unlock(&s->lock);
}

void gw_satchel_leave(gw_satchel *s, const gw_outbox_row *row)
{
    pthread_mutex_lock(&s->lock);
    item *i = find(s, &row->event, row->serial);
    if (i)
        take_out(s, i);
    pthread_mutex_unlock(&s->lock);
}

/* With no memory left a row may be sent again, which its readers expect. */
void gw_satchel_answered(gw_satchel *s, const gw_outbox_row *row)
{
    pthread_mutex_lock(&s->lock);
    item *i = find(s, &row->event, row->serial);
    if (i && row->note) {
        take_out(s, i);
    } else if (!row->note && (i || (i = add(s, row)))) {
        i->row = *row;
        i->answered = true;
    }
    pthread_mutex_unlock(&s->lock);
}

bool gw_satchel_is_answered(void *satchel, const gw_event *e, int serial)
{
    gw_satchel *s = satchel;
    pthread_mutex_lock(&s->lock);
    const item *i = find(s, e, serial);
    const bool answered = i && i->answered;
    pthread_mutex_unlock(&s->lock);
    return answered;
}

/* One transaction of up to AT_ONCE: how many there were. */
static int settle_some(gw_satchel *s, gw_outbox *o)
{
    gw_outbox_row row[AT_ONCE], *rows[AT_ONCE];
    int n = 0;
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < s->n && n < AT_ONCE; i++)
        if (s->item[i].answered) {
            row[n] = s->item[i].row;
            rows[n] = &row[n];
            n++;
        }
    pthread_mutex_unlock(&s->lock);
    if (n)
        GW_TRY(gw_outbox_settle(o, rows, n));
    for (int i = 0; i < n; i++)
        gw_satchel_leave(s, &row[i]);
    return n;
}

int gw_satchel_settle(gw_satchel *s, gw_outbox *o)
{
    int n;
    while ((n = settle_some(s, o)) > 0)
        ;
    return n;
}

int gw_satchel_waiting(gw_satchel *s)
{
    int n = 0;
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < s->n; i++)
        n += !s->item[i].answered;
    pthread_mutex_unlock(&s->lock);
    return n;
}

bool gw_satchel_is_empty(gw_satchel *s)
{
    pthread_mutex_lock(&s->lock);
    const bool empty = s->n == 0;
    pthread_mutex_unlock(&s->lock);
    return empty;
}
