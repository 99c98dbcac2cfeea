/* SPDX-License-Identifier: GPL-3.0-or-later
 * kind: picture. Keeps the last minute of the whitened strain and of the statistic that it takes, and draws
 * an event (plot.c) when its final phase has come and the streams have passed it.
 *
 *   path: event.png     a PNG; %s becomes the event's id. Without %s the file keeps the loudest event
 *   before: 1s          what is shown before the event ...
 *   after: 500ms        ... and after it
 *
 * Drawing takes about 0.3 s in this sink's own thread. It finds nothing and publishes nothing. */
#include "pipeline/log.h"
#include "pipeline/stage.h"
#include "sinks/plot.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RING_S = 64, MAX_TRUTHS = 64, MAX_PENDING = 8 };
#define MARGIN_NS INT64_C(500000000) /* beyond what is shown: under the windows of the map's lowest rows */

/* One stream's last samples. Sample n lies at x[n mod size]; those that never came are NaN. */
typedef struct ring {
    char detector[8];
    gw_rate rate;
    int64_t phase_ns;
    gw_dtype dtype;
    bool strain; /* else the statistic */
    uint32_t channel;
    size_t size;
    float *x;
    int64_t end; /* sample after the newest */
    bool started;
} ring;

/* An event from its first phase on, until it is drawn. */
typedef struct pending {
    gw_event event; /* the latest phase */
    int n_marks;
    struct gw_plot_mark mark[GW_PLOT_MARKS]; /* t_s: seconds of stream time after base_ns */
    int64_t base_ns;
    bool final;
} pending;

typedef struct picture {
    const char *name, *path;
    int64_t before_ns, after_ns;
    int n;
    ring in[GW_MAX_PORTS];
    pending wait[MAX_PENDING];
    int n_wait;
    gw_event truth[MAX_TRUTHS]; /* newest at truth[(n_truths - 1) mod MAX_TRUTHS] */
    uint64_t n_truths, drawn;
    double loudest;
} picture;

static int configure(void *self, gw_conf *conf)
{
    picture *p = self;
    p->name = "picture";
    p->before_ns = GW_SECOND_NS;
    p->after_ns = GW_SECOND_NS / 2;
    p->loudest = -INFINITY;
    gw_conf *value;
    GW_TRY(gw_conf_need(conf, "path", &value));
    GW_TRY(gw_conf_text(value, &p->path));
    GW_TRY(gw_conf_get_span_ns(conf, "before", &p->before_ns));
    GW_TRY(gw_conf_get_span_ns(conf, "after", &p->after_ns));
    if (p->before_ns + p->after_ns < GW_SECOND_NS / 10 || p->before_ns > 20 * GW_SECOND_NS ||
        p->after_ns > 20 * GW_SECOND_NS)
        return gw_conf_fail(conf, "picture: before + after must be 100ms at least, each 20s at most");
    const char *percent = strchr(p->path, '%');
    if (percent && (percent[1] != 's' || strchr(percent + 1, '%')))
        return gw_conf_fail(value, "picture: path: only one %%s is allowed; it becomes the event's id");
    if (!*p->path || strlen(p->path) > 900)
        return gw_conf_fail(value, "picture: path: wants the name of a PNG file of at most 900 bytes");
    return 0;
}

/* The statistic's stream may carry more beside it: take the channel of that name, or the last. */
static uint32_t statistic_channel(const gw_spec *s)
{
    for (uint32_t c = 0; c < s->n_channels; c++) {
        const char *name = s->channel ? strrchr(s->channel[c], ':') : NULL;
        if (name && strcmp(name, ":STATISTIC") == 0)
            return c;
    }
    return s->n_channels - 1;
}

static int plan(void *self, gw_plan *plan)
{
    picture *p = self;
    int strains = 0, statistics = 0;
    if (!plan->has_events_in)
        return gw_fail(GW_ECONFIG, "%s: nothing in its 'from' makes events; name a detect stage", plan->name);
    for (int i = 0; i < plan->n_in; i++) {
        const gw_spec *s = &plan->in[i];
        ring *r = &p->in[i];
        memcpy(r->detector, s->detector, sizeof r->detector);
        r->rate = s->rate;
        r->phase_ns = s->phase_ns;
        r->dtype = s->dtype;
        r->strain = s->whitening[0] != '\0';
        r->channel = r->strain ? 0 : statistic_channel(s);
        if (s->dtype != GW_F32 && s->dtype != GW_F64)
            return gw_fail(GW_EMISMATCH, "%s: %s is not a stream of real numbers", plan->name, s->name);
        if (!r->strain && strcmp(s->unit, "logit") != 0)
            continue; /* raw strain comes along when the simulation is named for its injections: not shown */
        strains += r->strain;
        statistics += !r->strain;
        r->size = (size_t)ceil(gw_rate_hz(s->rate) * RING_S) + 1;
        plan->memory_bytes += r->size * sizeof *r->x;
    }
    if (strains > GW_PLOT_STRAINS || statistics > 1 || strains + statistics == 0)
        return gw_fail(GW_ECONFIG, "%s: takes 1 to %d whitened streams and one statistic, got %d and %d",
                       plan->name, GW_PLOT_STRAINS, strains, statistics);
    p->n = plan->n_in;
    return 0;
}

static void forget(ring *r, size_t from, size_t n)
{
    for (size_t i = from; i < from + n; i++)
        r->x[i] = NAN;
}

static int open_all(void *self, gw_env *env)
{
    picture *p = self;
    p->name = gw_env_name(env);
    for (int i = 0; i < p->n; i++) {
        if (!p->in[i].size)
            continue;
        p->in[i].x = malloc(p->in[i].size * sizeof *p->in[i].x);
        if (!p->in[i].x)
            return gw_fail(GW_ENOMEM, "%s: out of memory", p->name);
        forget(&p->in[i], 0, p->in[i].size);
    }
    /* Better said now than when the event has come. */
    char probe[1000];
    snprintf(probe, sizeof probe, "%s.part", p->path);
    FILE *f = fopen(probe, "wb");
    if (!f)
        return gw_fail(GW_EACCESS, "%s: %s: cannot be written; name a file in a folder that is there",
                       p->name, p->path);
    fclose(f);
    remove(probe);
    return 0;
}

static int64_t end_ns(const ring *r)
{
    return r->started ? gw_sample_to_ns(r->end, r->rate, r->phase_ns) : INT64_MIN;
}

/* Everything before sample `to` that has not come never will. */
static void advance(ring *r, int64_t to)
{
    if (!r->started || to - r->end >= (int64_t)r->size)
        forget(r, 0, r->size);
    else
        for (int64_t n = r->end; n < to; n++)
            r->x[(size_t)n % r->size] = NAN;
    if (!r->started || to > r->end)
        r->end = to;
    r->started = true;
}

/* ---- drawing ---- */

/* The ring's samples over [from_ns, to_ns] in one piece. s->x is the caller's to free. */
static int cut(const ring *r, int64_t zero_ns, int64_t from_ns, int64_t to_ns, gw_series *s)
{
    int64_t a = gw_sample_at_or_before(from_ns, r->rate, r->phase_ns),
            b = gw_sample_at_or_after(to_ns, r->rate, r->phase_ns) + 1;
    float *x = malloc((size_t)(b - a) * sizeof *x);
    if (!x)
        return gw_fail(GW_ENOMEM, "picture: out of memory");
    for (int64_t n = a; n < b; n++)
        x[n - a] = r->started && n >= 0 && n < r->end && r->end - n <= (int64_t)r->size
                       ? r->x[(size_t)n % r->size]
                       : NAN;
    double hz = gw_rate_hz(r->rate);
    /* a statistic is that of the window that ends with its sample */
    *s = (gw_series){x, (size_t)(b - a), hz,
                     (double)(gw_sample_to_ns(a, r->rate, r->phase_ns) - zero_ns) / 1e9 +
                         (r->strain ? 0 : 1 / hz)};
    return 0;
}

static const gw_event *nearest_truth(const picture *p, int64_t gps_ns)
{
    const gw_event *best = NULL;
    uint64_t n = p->n_truths < MAX_TRUTHS ? p->n_truths : MAX_TRUTHS;
    for (uint64_t i = 0; i < n; i++) {
        int64_t off = llabs(p->truth[i].gps_ns - gps_ns);
        if (off < GW_SECOND_NS / 2 && (!best || off < llabs(best->gps_ns - gps_ns)))
            best = &p->truth[i];
    }
    return best;
}

/* "thresholds":{"candidate":2.85,"alert":4.6} in the event's detail, if whoever found it says so. */
static double threshold(const gw_event *e, const char *name)
{
    double v;
    char key[32];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *at = strstr(e->detail, "\"thresholds\":");
    at = at ? strstr(at, key) : NULL;
    return at && sscanf(at + strlen(key), "%lf", &v) == 1 ? v : NAN;
}

static void path_for(const picture *p, const gw_event *e, char *path, size_t n)
{
    const char *percent = strchr(p->path, '%');
    if (percent)
        snprintf(path, n, "%.*s%s%s", (int)(percent - p->path), p->path, e->id, percent + 2);
    else
        snprintf(path, n, "%s", p->path);
}

static int draw(picture *p, pending *w)
{
    const gw_event *e = &w->event;
    if (!strchr(p->path, '%') && e->statistic <= p->loudest)
        return 0;
    gw_plot plot = {.event = e,
                    .truth = nearest_truth(p, e->gps_ns),
                    .before_s = (double)p->before_ns / 1e9,
                    .after_s = (double)p->after_ns / 1e9,
                    .n_marks = w->n_marks,
                    .candidate = threshold(e, "candidate"),
                    .alert = threshold(e, "alert")};
    for (int i = 0; i < w->n_marks; i++) {
        plot.mark[i] = w->mark[i];
        plot.mark[i].t_s += (double)(w->base_ns - e->gps_ns) / 1e9;
    }
    int err = 0;
    for (int i = 0; i < p->n && err == 0; i++) {
        const ring *r = &p->in[i];
        gw_series s;
        if (!r->size)
            continue;
        err =
            cut(r, e->gps_ns, e->gps_ns - p->before_ns - MARGIN_NS, e->gps_ns + p->after_ns + MARGIN_NS, &s);
        if (err < 0)
            break;
        if (r->strain) {
            struct gw_plot_strain *d = &plot.strain[plot.n_strains++];
            memcpy(d->detector, r->detector, sizeof d->detector);
            d->series = s;
        } else {
            plot.statistic = s;
        }
    }
    char path[1000];
    path_for(p, e, path, sizeof path);
    if (err == 0)
        err = gw_plot_png(&plot, path);
    for (int i = 0; i < plot.n_strains; i++)
        free((void *)(uintptr_t)plot.strain[i].series.x);
    free((void *)(uintptr_t)plot.statistic.x);
    GW_TRY(err);
    p->loudest = e->statistic;
    p->drawn++;
    gw_log(GW_LOG_INFO, p->name, "%s: event %s", path, e->id);
    return 0;
}

/* Draws what is final and has been passed by every stream; all that is final when nothing more will come. */
static int draw_ready(picture *p, bool all)
{
    for (int i = 0; i < p->n_wait;) {
        pending *w = &p->wait[i];
        bool ready = w->final;
        for (int k = 0; k < p->n && !all; k++)
            ready =
                ready && (!p->in[k].size || end_ns(&p->in[k]) > w->event.gps_ns + p->after_ns + MARGIN_NS);
        if (!ready) {
            i++;
            continue;
        }
        GW_TRY(draw(p, w));
        memmove(w, w + 1, (size_t)(p->n_wait - i - 1) * sizeof *w);
        p->n_wait--;
    }
    return 0;
}

/* ---- what comes in ---- */

static int take(void *self, int port, const gw_view *v)
{
    picture *p = self;
    ring *r = &p->in[port];
    if (!r->size || r->channel >= v->n_channels)
        return 0;
    advance(r, v->sample0);
    for (uint32_t i = 0; i < v->n_samples; i++) {
        size_t from = r->channel * v->stride + i;
        float x =
            r->dtype == GW_F32 ? ((const float *)v->data)[from] : (float)((const double *)v->data)[from];
        r->x[(size_t)(v->sample0 + i) % r->size] = x;
    }
    r->end = v->sample0 + v->n_samples;
    return p->n_wait ? draw_ready(p, false) : 0;
}

static int gap(void *self, int port, const gw_hole *hole)
{
    picture *p = self;
    ring *r = &p->in[port];
    if (!r->size)
        return 0;
    if (hole->samples > r->size / 2) /* now, or never */
        GW_TRY(draw_ready(p, true));
    advance(r, hole->sample0 + (int64_t)hole->samples);
    return p->n_wait ? draw_ready(p, false) : 0;
}

static int event(void *self, const gw_event *e)
{
    picture *p = self;
    if (e->phase == GW_PHASE_INJECTION) {
        p->truth[p->n_truths++ % MAX_TRUTHS] = *e;
        return 0;
    }
    int i = 0;
    while (i < p->n_wait && strcmp(p->wait[i].event.id, e->id) != 0)
        i++;
    if (e->phase == GW_PHASE_RETRACTED) {
        if (i < p->n_wait)
            memmove(p->wait + i, p->wait + i + 1, (size_t)(--p->n_wait - i) * sizeof *p->wait);
        return 0;
    }
    if (i == MAX_PENDING) { /* the oldest never became final in all this time */
        memmove(p->wait, p->wait + 1, (MAX_PENDING - 1) * sizeof *p->wait);
        i = --p->n_wait;
    }
    pending *w = &p->wait[i];
    if (i == p->n_wait) {
        memset(w, 0, sizeof *w);
        w->base_ns = e->gps_ns;
        p->n_wait++;
    }
    w->event = *e;
    w->final = e->phase == GW_PHASE_FINAL;
    if (w->n_marks < GW_PLOT_MARKS && e->due_ns != GW_NOT_KNOWN_NS)
        w->mark[w->n_marks++] =
            (struct gw_plot_mark){e->phase, (double)(e->due_ns - w->base_ns) / 1e9, e->statistic};
    return draw_ready(p, false);
}

static int drain(void *self, gw_out *out)
{
    (void)out;
    return draw_ready(self, true);
}

static void close_all(void *self)
{
    picture *p = self;
    for (int i = 0; i < GW_MAX_PORTS; i++)
        free(p->in[i].x);
}

const gw_kind gw_kind_picture = {
    .kind = "picture",
    .help = "draws an event as a PNG: time-frequency maps, whitened strain, ranking statistic",
    .role = GW_SINK,
    .takes_events = true,
    .state_size = sizeof(picture),
    .configure = configure,
    .plan = plan,
    .open = open_all,
    .take = take,
    .event = event,
    .gap = gap,
    .drain = drain,
    .close = close_all,
};
