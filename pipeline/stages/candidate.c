/* SPDX-License-Identifier: GPL-3.0-or-later
 * The clustering of detect, see candidate.h for the rules. Rings hold the last logits, marks and arrival
 * scores; the arrival time is found anew whenever a frame becomes the peak. */
#include "pipeline/stages/candidate.h"
#include "pipeline/block.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* Half a second below is longer than the dips that noise makes in a plateau (the pooled frames carry a
 * signal for about as long), and short enough for a final word within two seconds of the merger. Two
 * units of logit are a factor of seven in the odds. */
static const double settle_s = 0.5, settle_drop = 2, update_every_s = 0.25, told_growth = 1;
static const int64_t told_move_ns = 10000000;
enum { ARRIVAL_COLUMNS = 3 };

typedef enum state { QUIET, OPEN, CLOSED, WITHDRAWN } state;

typedef struct mark {
    uint64_t dq;
    bool injection, archived;
} mark;

struct gw_candidate {
    gw_candidate_conf conf;
    /* Spans in frames and columns. */
    int64_t window, second, refractory, settle, update_every;
    int64_t columns, reach, travel; /* columns: a frame; 0 without scores */
    /* Rings, by absolute frame or column number. */
    int64_t ring, score_ring;
    float *logit;
    mark *mark;
    float *score; /* [detector][score_ring] */
    bool started; /* next means something */
    bool running; /* no hole since frame stretch0 */
    int64_t next, stretch0;
    int64_t logit0; /* first frame since with a logit; INT64_MAX: none yet */
    state state;
    gw_verdict event;
    int64_t below; /* frames in a row */
    int64_t told_frame, told_gps_ns;
    double told_statistic;
    bool told_alert;
};

static size_t place(int64_t i, int64_t n)
{
    int64_t r = i % n;
    return (size_t)(r < 0 ? r + n : r);
}

/* Frames that cover `s` seconds. The tiny subtraction keeps 0.25 s at 32 Hz from becoming 9. */
static int64_t frames_of(const gw_candidate_conf *k, double s)
{
    return (int64_t)ceil(s * gw_rate_hz(k->rate) / k->hop_samples - 1e-6);
}

static int check(const gw_candidate_conf *k)
{
    const double longest_s = 86400;
    if (!k->rate.num || !k->rate.den || !k->hop_samples || !k->window_samples ||
        k->window_samples % k->hop_samples)
        return gw_fail(GW_ERANGE,
                       "the window of %" PRIu32 " samples is not a whole number of frames of %" PRIu32,
                       k->window_samples, k->hop_samples);
    if (!k->smoothing_frames || k->smoothing_frames > 65536)
        return gw_fail(GW_ERANGE, "smoothing over %" PRIu32 " frames, 1 to 65536 make sense",
                       k->smoothing_frames);
    if (k->arrival_samples && k->hop_samples % k->arrival_samples)
        return gw_fail(GW_ERANGE,
                       "a frame of %" PRIu32 " samples is not a whole number of arrival columns of %" PRIu32,
                       k->hop_samples, k->arrival_samples);
    if (!isfinite(k->candidate) || !isfinite(k->alert) || k->alert < k->candidate)
        return gw_fail(GW_ERANGE, "the alert threshold %g lies below the candidate threshold %g", k->alert,
                       k->candidate);
    if (!(k->refractory_s >= 0 && k->refractory_s <= longest_s) || !(k->reach_s > 0 && k->reach_s <= 60) ||
        !(k->travel_s >= 0 && k->travel_s <= 1) || !(fabs(k->arrival_offset_s) <= 60) ||
        !(fabs(k->peak_offset_s) <= 60))
        return gw_fail(GW_ERANGE,
                       "refractory %g s, arrival reach %g s, light travel %g s or offsets %g s and %g s "
                       "are out of range",
                       k->refractory_s, k->reach_s, k->travel_s, k->arrival_offset_s, k->peak_offset_s);
    if (!(k->arrival_skew >= 0 && k->arrival_skew <= 10) ||
        !(k->arrival_sigma_scale >= 0 && k->arrival_sigma_scale <= 100) ||
        !(k->arrival_sigma_floor_s >= 0 && k->arrival_sigma_floor_s <= 1))
        return gw_fail(GW_ERANGE, "arrival: skew %g, sigma's scale %g or its floor %g s is out of range",
                       k->arrival_skew, k->arrival_sigma_scale, k->arrival_sigma_floor_s);
    return GW_OK;
}

int gw_candidate_new(gw_candidate **out, const gw_candidate_conf *conf)
{
    *out = NULL;
    GW_TRY(check(conf));
    gw_candidate *c = calloc(1, sizeof *c);
    if (!c)
        return gw_fail(GW_ENOMEM, "candidate state");
    c->conf = *conf;
    c->window = conf->window_samples / conf->hop_samples;
    c->second = frames_of(conf, 1);
    c->refractory = frames_of(conf, conf->refractory_s);
    c->settle = frames_of(conf, settle_s);
    c->update_every = frames_of(conf, update_every_s);
    c->ring = c->window > c->second ? c->window : c->second;
    if (c->ring < conf->smoothing_frames)
        c->ring = conf->smoothing_frames;
    c->logit = calloc((size_t)c->ring, sizeof *c->logit);
    c->mark = calloc((size_t)c->ring, sizeof *c->mark);
    bool well = c->logit && c->mark;
    if (conf->arrival_samples) {
        const double columns_hz = gw_rate_hz(conf->rate) / conf->arrival_samples;
        c->columns = conf->hop_samples / conf->arrival_samples;
        c->reach = (int64_t)ceil(conf->reach_s * columns_hz - 1e-6);
        /* Each of the two columns is right to half its length: one column of tolerance. */
        c->travel = (int64_t)floor(conf->travel_s * columns_hz + 1);
        const int64_t window = c->window * c->columns;
        c->score_ring = (c->reach > window ? c->reach : window) + c->columns;
        c->score = calloc((size_t)c->score_ring * GW_CANDIDATE_DETECTORS, sizeof *c->score);
        well = well && c->score;
    }
    if (!well) {
        gw_candidate_destroy(&c);
        return gw_fail(GW_ENOMEM, "candidate state");
    }
    *out = c;
    return GW_OK;
}

void gw_candidate_destroy(gw_candidate **c)
{
    if (!*c)
        return;
    free((*c)->logit);
    free((*c)->mark);
    free((*c)->score);
    free(*c);
    *c = NULL;
}

/* ---- what is known at a frame that becomes the peak ---- */

static float score_at(const gw_candidate *c, int detector, int64_t column)
{
    return c->score[(size_t)(detector * c->score_ring) + place(column, c->score_ring)];
}

/* Sums over pairs of columns, with weights: of 1, of each column's number, and of its square. */
typedef struct sums {
    double w, x[GW_CANDIDATE_DETECTORS], xx[GW_CANDIDATE_DETECTORS];
} sums;

static void add(sums *s, double w, int64_t a, int64_t b)
{
    const double x[GW_CANDIDATE_DETECTORS] = {(double)a, (double)b};
    s->w += w;
    for (int d = 0; d < GW_CANDIDATE_DETECTORS; d++) {
        s->x[d] += w * x[d];
        s->xx[d] += w * x[d] * x[d];
    }
}

/* Variance of detector d's columns round `mean`. */
static double variance(const sums *s, int d, double mean)
{
    return fmax(s->xx[d] / s->w - 2 * mean * s->x[d] / s->w + mean * mean, 0);
}

/* The time at each detector, from the pairs of [first, last]. A column that has no partner counts for nothing,
 * however loud. Columns are counted from the best ones: sums of squares of large numbers lose digits. */
static void mean_arrivals(const gw_candidate *c, const int64_t best[GW_CANDIDATE_DETECTORS], double top,
                          int64_t first, int64_t last, gw_verdict *v)
{
    const gw_candidate_conf *k = &c->conf;
    sums near = {0}, all = {0};
    for (int64_t a = first; a <= last; a++)
        for (int64_t b = a - c->travel < first ? first : a - c->travel; b <= a + c->travel && b <= last;
             b++) {
            const double w = exp((double)score_at(c, 0, a) + (double)score_at(c, 1, b) - top);
            if (!isfinite(w))
                continue;
            add(&all, w, a - best[0], b - best[1]);
            if (llabs(a - best[0]) <= ARRIVAL_COLUMNS && llabs(b - best[1]) <= ARRIVAL_COLUMNS)
                add(&near, w, a - best[0], b - best[1]);
        }
    const double column_s = k->arrival_samples / gw_rate_hz(k->rate);
    const sums *of = near.w < 0.5 * all.w ? &all : &near; /* all: it may be anywhere, or still to come */
    for (int d = 0; d < GW_CANDIDATE_DETECTORS; d++) {
        const double mean = near.x[d] / near.w;
        const double late = k->arrival_skew * sqrt(variance(&near, d, mean));
        const int64_t after = last - best[d], missing = after < ARRIVAL_COLUMNS ? ARRIVAL_COLUMNS - after : 0;
        v->arrival_ns[d] = gw_sample_to_ns(best[d] * k->arrival_samples, k->rate, k->phase_ns) +
                           llround(((mean + 0.5 - late) * column_s + k->arrival_offset_s) * 1e9);
        v->arrival_error_s[d] = hypot(
            hypot(k->arrival_sigma_scale * column_s * sqrt(variance(of, d, mean)), k->arrival_sigma_floor_s),
            column_s * (double)missing);
    }
    const int later = v->arrival_ns[1] > v->arrival_ns[0];
    v->gps_ns = v->arrival_ns[later];
    v->gps_error_s = v->arrival_error_s[later];
}

static void forget_arrivals(gw_verdict *v)
{
    v->gps_error_s = NAN;
    for (int d = 0; d < GW_CANDIDATE_DETECTORS; d++) {
        v->arrival_ns[d] = GW_NOT_KNOWN_NS;
        v->arrival_error_s[d] = NAN;
    }
}

/* The first column in which an arrival may lie, and the first in which it is believed. What came too early to
 * be in reach of the first statistic may be what this frame's window still sees. */
static int64_t first_column(const gw_candidate *c, int64_t frame, int64_t *believed)
{
    const int64_t reach = (frame + 1) * c->columns - c->reach, window = (frame + 1 - c->window) * c->columns,
                  searched = (c->logit0 + c->conf.smoothing_frames) * c->columns - c->reach,
                  known = c->stretch0 * c->columns, warm = known + c->conf.arrival_warmup;
    int64_t first = window < searched && window < reach ? window : reach;
    first = first > known ? first : known;
    *believed = first != reach ? first + ARRIVAL_COLUMNS : first;
    *believed = *believed > warm ? *believed : warm;
    return first;
}

/* Without finite scores: from the end of the peak's frame. */
static void find_arrivals(const gw_candidate *c, int64_t frame, gw_verdict *v)
{
    const gw_candidate_conf *k = &c->conf;
    v->gps_ns =
        gw_sample_to_ns((frame + 1) * k->hop_samples, k->rate, k->phase_ns) + llround(k->peak_offset_s * 1e9);
    forget_arrivals(v);
    if (!c->columns)
        return;
    const int64_t last = (frame + 1) * c->columns - 1;
    int64_t believed, first = first_column(c, frame, &believed), best[GW_CANDIDATE_DETECTORS] = {0};
    double top = -INFINITY;
    for (int64_t a = first; a <= last; a++)
        for (int64_t b = a - c->travel < first ? first : a - c->travel; b <= a + c->travel && b <= last;
             b++) {
            double sum = (double)score_at(c, 0, a) + (double)score_at(c, 1, b);
            if (isfinite(sum) && sum > top) {
                top = sum;
                best[0] = a;
                best[1] = b;
            }
        }
    if (!isfinite(top))
        return;
    mean_arrivals(c, best, top, first, last, v);
    if (best[0] < believed || best[1] < believed)
        forget_arrivals(v);
}

static void set_peak(gw_candidate *c, int64_t frame, double statistic)
{
    gw_verdict *e = &c->event;
    e->peak_frame = frame;
    e->statistic = statistic;
    e->alert = statistic >= c->conf.alert;
    find_arrivals(c, frame, e);
    e->dq = UINT64_MAX;
    e->injection = e->archived = false;
    for (int64_t i = frame; i >= c->stretch0 && i > frame - c->second; i--)
        e->dq &= c->mark[place(i, c->ring)].dq;
    for (int64_t i = frame; i >= c->stretch0 && i > frame - c->window; i--) {
        const mark *m = &c->mark[place(i, c->ring)];
        e->injection |= m->injection;
        e->archived |= m->archived;
    }
}

/* ---- when to say what ---- */

static int tell(gw_candidate *c, gw_phase phase, int64_t frame, gw_verdict *v)
{
    c->event.phase = phase;
    c->told_frame = frame;
    c->told_gps_ns = c->event.gps_ns;
    c->told_statistic = c->event.statistic;
    c->told_alert = c->event.alert;
    *v = c->event;
    return 1;
}

static int open_event(gw_candidate *c, gw_phase phase, int64_t frame, double statistic, gw_verdict *v)
{
    set_peak(c, frame, statistic);
    if (phase == GW_PHASE_FIRST)
        c->event.first_gps_ns = c->event.gps_ns;
    c->state = OPEN;
    c->below = 0;
    return tell(c, phase, frame, v);
}

static int go_on(gw_candidate *c, int64_t frame, double statistic, gw_verdict *v)
{
    const gw_verdict *e = &c->event;
    if (statistic > e->statistic)
        set_peak(c, frame, statistic);
    const bool stays = statistic >= c->conf.candidate && statistic >= e->statistic - settle_drop;
    c->below = stays ? 0 : c->below + 1;
    if (c->below >= c->settle || frame - e->peak_frame >= c->window) {
        c->state = CLOSED;
        return tell(c, GW_PHASE_FINAL, frame, v);
    }
    if (e->alert && !c->told_alert)
        return tell(c, GW_PHASE_UPDATE, frame, v);
    if (frame - c->told_frame >= c->update_every &&
        (e->statistic > c->told_statistic + told_growth || llabs(e->gps_ns - c->told_gps_ns) > told_move_ns))
        return tell(c, GW_PHASE_UPDATE, frame, v);
    return 0;
}

static int decide(gw_candidate *c, int64_t frame, double statistic, gw_verdict *v)
{
    if (c->state == OPEN)
        return go_on(c, frame, statistic, v);
    if (c->state != QUIET && frame - c->event.peak_frame > c->refractory)
        c->state = QUIET;
    if (c->state == WITHDRAWN)
        return 0;
    if (c->state == CLOSED)
        return statistic > c->event.statistic ? open_event(c, GW_PHASE_UPDATE, frame, statistic, v) : 0;
    return statistic >= c->conf.candidate ? open_event(c, GW_PHASE_FIRST, frame, statistic, v) : 0;
}

/* The mean, summed anew in the order of time: no rounding is carried along and no NaN stays. */
static double smoothed(const gw_candidate *c, int64_t frame)
{
    const int64_t n = c->conf.smoothing_frames;
    double sum = 0;
    for (int64_t i = frame - n + 1; i <= frame; i++)
        sum += (double)c->logit[place(i, c->ring)];
    return sum / (double)n;
}

int gw_candidate_frame(gw_candidate *c, const gw_frame *f, double *statistic, gw_verdict *v)
{
    if (c->running ? f->index != c->next : c->started && f->index < c->next)
        return gw_fail(GW_EBUG, "frame %" PRId64 " where %" PRId64 " was due", f->index, c->next);
    if (!c->running) {
        c->stretch0 = f->index;
        c->logit0 = INT64_MAX;
    }
    if (c->logit0 == INT64_MAX && !isnan(f->logit))
        c->logit0 = f->index;
    c->started = c->running = true;
    c->next = f->index + 1;
    const size_t at = place(f->index, c->ring);
    c->logit[at] = f->logit;
    c->mark[at] = (mark){f->dq, f->injection, f->archived};
    for (int d = 0; c->columns && d < GW_CANDIDATE_DETECTORS; d++)
        for (int64_t j = 0; j < c->columns; j++)
            c->score[(size_t)(d * c->score_ring) + place(f->index * c->columns + j, c->score_ring)] =
                f->arrival[(size_t)d * f->arrival_stride + (size_t)j];
    if (c->next - c->stretch0 < c->conf.smoothing_frames) {
        *statistic = NAN;
        return 0;
    }
    *statistic = smoothed(c, f->index);
    return decide(c, f->index, *statistic, v);
}

int gw_candidate_gap(gw_candidate *c, gw_verdict *v)
{
    c->running = false;
    if (c->state != OPEN)
        return 0;
    c->state = CLOSED;
    return tell(c, GW_PHASE_FINAL, c->next - 1, v);
}

int gw_candidate_withdraw(gw_candidate *c, int64_t bad_ns, int64_t within_ns, gw_verdict *v)
{
    if (c->state != CLOSED)
        return 0;
    const int64_t after_ns = bad_ns - c->event.gps_ns;
    const double window_s = c->conf.window_samples / gw_rate_hz(c->conf.rate);
    if (after_ns > within_ns || (double)after_ns < -1e9 * window_s)
        return 0;
    c->state = WITHDRAWN;
    return tell(c, GW_PHASE_RETRACTED, c->told_frame, v);
}
