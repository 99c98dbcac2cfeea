/* SPDX-License-Identifier: GPL-3.0-or-later
 * Witnesses at work. All is made at the witnesses' rate, a little ahead of strain: the way to strain's rate
 * looks HALF samples forward. What has been made is kept in `seen` and `sum` until both strain and witnesses
 * are past it. */
#include "sources/witness.h"

#include "sources/fourier.h"
#include "sources/noise.h"
#include "sources/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { HALF = 32, TAPS = 2 * HALF, N_WANDER = 6, PIECE = 1024, SCALE_S = 64, CHANNEL_PARTS = 1024 };
static const double settle = 40; /* time constants that a resonator runs in */

typedef struct line {
    double hz, phase;                                          /* cycles, of one channel */
    double rate_hz[N_WANDER], turn[N_WANDER], swing[N_WANDER]; /* of the wander; shared by a group */
} line;

typedef struct resonator { /* b (1 - z^-2) / (1 + a1 z^-1 + a2 z^-2) */
    double b, a1, a2, x1, x2, y1, y2;
} resonator;

struct gw_witnesses {
    const gw_witness_design *d;
    double rate_hz;
    uint64_t seed;
    uint32_t part;                        /* of the random numbers */
    gw_noise **noise;                     /* [n_channels]; NULL: a line */
    line *line;                           /* [n_channels] */
    double *gain;                         /* [n_channels] */
    double *weight;                       /* [n_couplings][2][n_channels]: of and times */
    double *scale;                        /* [n_couplings] */
    resonator (*ring)[GW_MAX_RESONANCES]; /* [n_couplings] */
    double *sinc;     /* [ratio][TAPS]: from c[j - HALF + 1 ...] to the sample at j + r / ratio */
    double *low_pass; /* [TAPS * ratio + 1], or NULL without strain in the witnesses */
    double *past;     /* [TAPS * ratio + strain block] strain */
    double strain_scale;
    size_t room;           /* samples in seen and sum */
    double *seen;          /* [n_channels][room] */
    double *sum;           /* [room]: of all couplings */
    int64_t base, made;    /* number of the sample at index 0; of the next to be made */
    int64_t coupled, told; /* next strain sample of either */
};

/* ---- What the channels see ---- */

static void see_line(const line *l, double rate_hz, int64_t sample0, uint32_t n, double *s)
{
    for (uint32_t i = 0; i < n; i++) {
        const long double t = (long double)(sample0 + i) / (long double)rate_hz;
        double turns = (double)fmodl((long double)l->hz * t, 1) + l->phase;
        for (int k = 0; k < N_WANDER; k++)
            turns +=
                l->swing[k] * sin(2 * M_PI * ((double)fmodl((long double)l->rate_hz[k] * t, 1) + l->turn[k]));
        s[i] = M_SQRT2 * cos(2 * M_PI * turns);
    }
}

static void see(gw_witnesses *w, uint32_t c, int64_t sample0, uint32_t n, double *s)
{
    if (w->noise[c])
        gw_noise_fill(w->noise[c], sample0, n, s);
    else
        see_line(&w->line[c], w->rate_hz, sample0, n, s);
}

static int new_channel(gw_witnesses *w, const gw_witness_group *g, int group, uint32_t c)
{
    gw_random own = gw_random_at(w->seed, GW_FOR_WITNESS, w->part + c, -1);
    w->gain[c] = gw_random_log_range(&own, 1e-2, 1e2);
    if (g->line_hz <= 0)
        return gw_noise_new_band(&w->noise[c], g->low_hz, g->high_hz, w->d->rate, w->seed, w->part + c);
    gw_random shared = gw_random_at(w->seed, GW_FOR_WITNESS, w->part, -2 - group);
    line *l = &w->line[c];
    l->hz = g->line_hz;
    l->phase = gw_random_unit(&own);
    for (int k = 0; k < N_WANDER; k++) {
        l->rate_hz[k] = gw_random_log_range(&shared, 0.002, 0.1);
        l->turn[k] = gw_random_unit(&shared);
        l->swing[k] = g->wander_hz / (2 * M_PI * l->rate_hz[k] * sqrt(N_WANDER / 2.0));
    }
    return GW_OK;
}

/* ---- Couplings ---- */

static void rest(gw_witnesses *w)
{
    for (int k = 0; k < w->d->n_couplings; k++)
        for (int i = 0; i < w->d->coupling[k].n_resonances; i++) {
            resonator *r = &w->ring[k][i];
            r->x1 = r->x2 = r->y1 = r->y2 = 0;
        }
}

static double ring(resonator *r, double x)
{
    const double y = r->b * (x - r->x2) - r->a1 * r->y1 - r->a2 * r->y2;
    r->x2 = r->x1;
    r->x1 = x;
    r->y2 = r->y1;
    r->y1 = y;
    return y;
}

/* What one coupling makes of s: [n_channels][stride], n samples, unscaled. */
static void couple(gw_witnesses *w, int number, const double *s, size_t stride, uint32_t n, double *y)
{
    const gw_coupling *k = &w->d->coupling[number];
    const double *of = w->weight + (size_t)number * 2 * w->d->n_channels, *times = of + w->d->n_channels;
    for (uint32_t i = 0; i < n; i++) {
        double u = 0, v = k->times_count ? 0 : 1, x = 1;
        for (uint32_t c = k->of_first; c < k->of_first + k->of_count; c++)
            u += of[c] * s[c * stride + i];
        for (uint32_t c = k->times_first; c < k->times_first + k->times_count; c++)
            v += times[c] * s[c * stride + i];
        for (int p = 0; p < k->power; p++)
            x *= u;
        x = (x - (k->power == 2 ? 1 : k->power == 4 ? 3 : 0)) * v;
        y[i] = k->n_resonances ? 0 : x;
        for (int r = 0; r < k->n_resonances; r++)
            y[i] += ring(&w->ring[number][r], x);
    }
}

/* Weights of unit sum of squares: a sum of independent processes has unit variance. */
static void draw_weights(double *weight, uint32_t first, uint32_t count, gw_random *r)
{
    double squares = 0;
    for (uint32_t c = first; c < first + count; c++) {
        double z[2];
        gw_random_normals(r, z);
        weight[c] = count == 1 ? 1 : z[0];
        squares += weight[c] * weight[c];
    }
    for (uint32_t c = first; c < first + count; c++)
        weight[c] /= sqrt(squares);
}

static void new_coupling(gw_witnesses *w, int number)
{
    const gw_coupling *k = &w->d->coupling[number];
    gw_random r = gw_random_at(w->seed, GW_FOR_WITNESS, w->part, -2000 - number);
    double *of = w->weight + (size_t)number * 2 * w->d->n_channels;
    draw_weights(of, k->of_first, k->of_count, &r);
    draw_weights(of + w->d->n_channels, k->times_first, k->times_count, &r);
    for (int i = 0; i < k->n_resonances; i++) {
        const double turn = 2 * M_PI * k->resonance_hz[i] / w->rate_hz, alpha = tan(turn / (2 * k->q[i]));
        w->ring[number][i] = (resonator){
            .b = alpha / (1 + alpha), .a1 = -2 * cos(turn) / (1 + alpha), .a2 = (1 - alpha) / (1 + alpha)};
    }
}

/* Samples that the slowest resonator needs to forget how it began. */
static int64_t run_in(const gw_witnesses *w)
{
    double most_s = 0;
    for (int k = 0; k < w->d->n_couplings; k++)
        for (int i = 0; i < w->d->coupling[k].n_resonances; i++)
            most_s =
                fmax(most_s, settle * w->d->coupling[k].q[i] / (M_PI * w->d->coupling[k].resonance_hz[i]));
    return (int64_t)ceil(most_s * w->rate_hz);
}

/* The root of the largest ratio of the PSD of y, in 2 s Hann segments, to the floor. */
static double loudest(const double *y, size_t n, double rate_hz, const gw_asd *asd, gw_fourier *f)
{
    double worst = 0, squares = 0;
    double *psd = calloc(f->n / 2 + 1, sizeof *psd);
    if (!psd)
        return -1;
    int segments = 0;
    for (size_t at = 0; at + f->n <= n; at += f->n / 2, segments++) {
        squares = 0;
        for (uint32_t i = 0; i < f->n; i++) {
            const double window = 0.5 - 0.5 * cos(2 * M_PI * i / f->n);
            f->time[i] = window * y[at + i];
            squares += window * window;
        }
        gw_fourier_forward(f);
        for (uint32_t k = 0; k <= f->n / 2; k++)
            psd[k] += creal(f->bins[k] * conj(f->bins[k]));
    }
    for (uint32_t k = 1; k < f->n / 2; k++) {
        const double hz = k * rate_hz / f->n;
        if (hz >= 5 && hz <= 0.45 * rate_hz)
            worst = fmax(worst, 2 * psd[k] / (segments * squares * rate_hz) / gw_asd_floor(asd, hz));
    }
    free(psd);
    return sqrt(worst);
}

/* The next n samples of all couplings, each by itself: y[n_couplings][n]. s: [n_channels][n]. */
static void run_couplings(gw_witnesses *w, int64_t at, uint32_t n, double *s, double *y)
{
    for (uint32_t c = 0; c < w->d->n_channels; c++)
        see(w, c, at, n, s + (size_t)c * n);
    for (int k = 0; k < w->d->n_couplings; k++)
        couple(w, k, s, n, n, y + (size_t)k * n);
}

static int set_scales(gw_witnesses *w, const gw_asd *asd)
{
    const size_t n_couplings = (size_t)w->d->n_couplings, total = (size_t)(SCALE_S * w->rate_hz);
    const int64_t before = run_in(w);
    gw_fourier *f = NULL;
    double *s = malloc((w->d->n_channels + n_couplings) * PIECE * sizeof *s),
           *y = s + w->d->n_channels * PIECE;
    double *all = malloc(n_couplings * total * sizeof *all);
    int err = s && all ? gw_fourier_new(&f, 2 * (uint32_t)w->rate_hz) : gw_fail(GW_ENOMEM, "couplings");
    rest(w);
    for (int64_t at = -before; err == GW_OK && at < (int64_t)total;) {
        const int64_t end = at < 0 ? 0 : (int64_t)total;
        const uint32_t n = (uint32_t)(end - at < PIECE ? end - at : PIECE);
        run_couplings(w, at, n, s, y);
        for (size_t k = 0; k < n_couplings && at >= 0; k++)
            memcpy(all + k * total + at, y + k * n, n * sizeof *y);
        at += n;
    }
    for (size_t k = 0; k < n_couplings && err == GW_OK; k++) {
        const double is = loudest(all + k * total, total, w->rate_hz, asd, f);
        w->scale[k] = is > 0 ? w->d->coupling[k].height / is : 0;
        if (is < 0)
            err = gw_fail(GW_ENOMEM, "couplings");
    }
    gw_fourier_destroy(&f);
    free(s);
    free(all);
    return err;
}

/* ---- Rates ---- */

static double bessel0(double x) /* of the first kind, modified */
{
    double sum = 1, term = 1;
    for (int k = 1; k < 60; k++)
        sum += term *= x * x / (4.0 * k * k);
    return sum;
}

/* A sinc under a Kaiser window with its ripple at 1e-6; x in samples, the window ends at +-HALF. */
static double tap(double x, double pass)
{
    const double beta = 12, at = x / HALF, turn = M_PI * pass * x;
    return fabs(at) >= 1 ? 0
                         : pass * (fabs(turn) < 1e-12 ? 1 : sin(turn) / turn) *
                               bessel0(beta * sqrt(1 - at * at)) / bessel0(beta);
}

static void make_filters(gw_witnesses *w)
{
    const uint32_t ratio = w->d->ratio;
    for (uint32_t r = 0; r < ratio; r++)
        for (int k = 0; k < TAPS; k++)
            w->sinc[r * TAPS + (uint32_t)k] = tap((double)r / ratio - (k - HALF + 1), 1);
    for (uint32_t i = 0; w->low_pass && i <= TAPS * ratio; i++)
        w->low_pass[i] = tap((double)i / ratio - HALF, 0.8) / ratio;
}

/* ---- Life ---- */

size_t gw_witness_bytes(const gw_witness_design *d)
{
    return d->n_channels * (gw_noise_bytes(d->rate) + (2 * d->block_samples + 4 * TAPS) * sizeof(double));
}

static int allocate(gw_witnesses *w)
{
    const gw_witness_design *d = w->d;
    const size_t n = d->n_channels, k = (size_t)d->n_couplings;
    w->room = 2 * d->block_samples + 4 * TAPS + PIECE;
    w->noise = calloc(n, sizeof *w->noise);
    w->line = calloc(n, sizeof *w->line);
    w->gain = calloc(n, sizeof *w->gain);
    w->weight = calloc(2 * n * k + 1, sizeof *w->weight);
    w->scale = calloc(k + 1, sizeof *w->scale);
    w->ring = calloc(k + 1, sizeof *w->ring);
    w->sinc = calloc((size_t)d->ratio * TAPS, sizeof *w->sinc);
    w->seen = calloc(n * w->room, sizeof *w->seen);
    w->sum = calloc(w->room, sizeof *w->sum);
    if (d->strain > 0) {
        w->low_pass = calloc(TAPS * d->ratio + 1, sizeof *w->low_pass);
        w->past = calloc(TAPS * d->ratio + (size_t)(d->block_samples + 1) * d->ratio, sizeof *w->past);
    }
    return w->noise && w->line && w->gain && w->weight && w->scale && w->ring && w->sinc && w->seen &&
                   w->sum && (d->strain <= 0 || (w->low_pass && w->past))
               ? GW_OK
               : gw_fail(GW_ENOMEM, "%u witness channels", d->n_channels);
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

int gw_witnesses_new(gw_witnesses **out, const gw_witness_design *d, const gw_asd *asd, uint64_t seed,
                     uint32_t detector, int64_t first)
{
    *out = NULL;
    gw_witnesses *w = calloc(1, sizeof *w);
    if (!w)
        return gw_fail(GW_ENOMEM, "witness channels");
    *w =
        (gw_witnesses){.d = d, .rate_hz = gw_rate_hz(d->rate), .seed = seed, .coupled = first, .told = first};
    w->part = CHANNEL_PARTS * (1 + detector); /* the detectors' own noise has parts below */
    int err = allocate(w);
    for (int g = 0; g < d->n_groups && err == GW_OK; g++)
        for (uint32_t c = 0; c < d->group[g].count && err == GW_OK; c++)
            err = new_channel(w, &d->group[g], g, d->group[g].first + c);
    if (err == GW_OK) {
        for (int k = 0; k < d->n_couplings; k++)
            new_coupling(w, k);
        make_filters(w);
        w->strain_scale = d->strain / sqrt(gw_asd_floor(asd, 100) * 0.5 * w->rate_hz);
        err = set_scales(w, asd);
    }
    if (err != GW_OK) {
        gw_witnesses_destroy(&w);
        return err;
    }
    rest(w);
    w->made = w->base = floor_div(first, d->ratio) - HALF - run_in(w);
    *out = w;
    return GW_OK;
}

void gw_witnesses_destroy(gw_witnesses **ww)
{
    gw_witnesses *w = *ww;
    if (!w)
        return;
    for (uint32_t c = 0; w->noise && c < w->d->n_channels; c++)
        gw_noise_destroy(&w->noise[c]);
    free(w->noise);
    free(w->line);
    free(w->gain);
    free(w->weight);
    free(w->scale);
    free(w->ring);
    free(w->sinc);
    free(w->low_pass);
    free(w->past);
    free(w->seen);
    free(w->sum);
    free(w);
    *ww = NULL;
}

/* ---- Running ---- */

/* Nobody needs a sample before `from` any more. */
static void drop(gw_witnesses *w, int64_t from)
{
    if (from <= w->base)
        return;
    const size_t gone = (size_t)((from < w->made ? from : w->made) - w->base),
                 left = (size_t)(w->made - w->base) - gone;
    for (uint32_t c = 0; c < w->d->n_channels; c++)
        memmove(w->seen + c * w->room, w->seen + c * w->room + gone, left * sizeof *w->seen);
    memmove(w->sum, w->sum + gone, left * sizeof *w->sum);
    w->base += (int64_t)gone;
}

/* Everything up to `end` is made; what lies before `keep` may be dropped for it. */
static void make(gw_witnesses *w, int64_t end, int64_t keep)
{
    double y[PIECE];
    while (w->made < end) {
        drop(w, keep);
        const size_t at = (size_t)(w->made - w->base), free_room = w->room - at;
        const int64_t left = end - w->made;
        uint32_t n = left < PIECE ? (uint32_t)left : PIECE;
        n = n < free_room ? n : (uint32_t)free_room;
        for (uint32_t c = 0; c < w->d->n_channels; c++)
            see(w, c, w->made, n, w->seen + c * w->room + at);
        memset(w->sum + at, 0, n * sizeof *w->sum);
        for (int k = 0; k < w->d->n_couplings; k++) {
            couple(w, k, w->seen + at, w->room, n, y);
            for (uint32_t i = 0; i < n; i++)
                w->sum[at + i] += w->scale[k] * y[i];
        }
        w->made += n;
    }
}

void gw_witnesses_couple(gw_witnesses *w, uint32_t n, double *exact)
{
    const int64_t ratio = w->d->ratio, first = floor_div(w->coupled, ratio);
    make(w, floor_div(w->coupled + n - 1, ratio) + HALF + 1, first - HALF + 1);
    for (uint32_t i = 0; i < n; i++) {
        const int64_t at = w->coupled + i, j = floor_div(at, ratio);
        const double *c = w->sum + (j - HALF + 1 - w->base), *tap_of = w->sinc + (at - j * ratio) * TAPS;
        double y = 0;
        for (int k = 0; k < TAPS; k++)
            y += tap_of[k] * c[k];
        exact[i] = y;
    }
    w->coupled += n;
}

static double white(const gw_witnesses *w, uint32_t c, int64_t sample)
{
    gw_random r = gw_random_at(w->seed, GW_FOR_WITNESS, w->part + c, floor_div(sample, 2));
    double z[2];
    gw_random_normals(&r, z);
    return z[sample & 1];
}

uint32_t gw_witnesses_see(gw_witnesses *w, uint32_t n, const double *h, float *x)
{
    const int64_t ratio = w->d->ratio, first = floor_div(w->told + ratio - 1, ratio);
    const size_t length = TAPS * (size_t)ratio;
    const uint32_t count = (uint32_t)(floor_div(w->told + n + ratio - 1, ratio) - first);
    double *low = w->past ? w->past + length : NULL; /* strain sample `told` and on */
    if (low)
        memcpy(low, h, n * sizeof *h);
    for (uint32_t i = 0; i < count; i++) {
        const int64_t j = first + i;
        double seen = 0;
        if (low) {
            const double *newest = low + (j * ratio - w->told);
            for (size_t k = 0; k <= length; k++)
                seen += w->low_pass[k] * newest[-(ptrdiff_t)k];
            seen *= w->strain_scale;
        }
        for (uint32_t c = 0; c < w->d->n_channels; c++)
            x[(size_t)c * count + i] =
                (float)(w->gain[c] * (w->seen[c * w->room + (size_t)(j - w->base)] + seen +
                                      (w->d->noise > 0 ? w->d->noise * white(w, c, j) : 0)));
    }
    if (low)
        memmove(w->past, w->past + n, length * sizeof *low);
    w->told += n;
    return count;
}
