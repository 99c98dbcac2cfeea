/* SPDX-License-Identifier: GPL-3.0-or-later
 * Two seconds of strain and of each prediction are held; when a second of the grid is complete they are
 * transformed, and the powers of the bins in use go into rings of 7. */
#include "pipeline/stages/asd_ratio.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEGMENT_S = 2, BINS_A_HZ = SEGMENT_S, MIN_BINS = 32, GUARD_HZ = 2, LOWEST_HZ = 8, HIGHEST_HZ = 1024 };
enum { PIECES = 8, NO_PIECE = UINT8_MAX, MEMORY_S = 16 };

typedef struct prediction {
    double *p;      /* [2 rate] */
    double *power;  /* [7][bins] of s - p */
    uint8_t *piece; /* [bins] which piece out of band, or NO_PIECE */
    bool *in;       /* [bins] in band */
    int64_t valid;  /* samples without a hole, up to now */
    int64_t valid_segments;
    double past[MEMORY_S][PIECES]; /* means of pieces, in a ring; 0: a piece without bins */
    int64_t n_past;                /* seconds measured in a row */
} prediction;

struct gw_asd_ratio {
    const gw_spectrum_ops *ops;
    gw_fft *fft;
    uint32_t rate, n, bins;
    uint32_t top;    /* no bin from here on is used */
    int64_t next;    /* sample that comes next */
    double *window;  /* [2 rate] */
    double *s;       /* [2 rate] */
    gw_complex *raw; /* [bins] transform of s */
    double *power;   /* [7][bins] of s */
    double *median;  /* [bins] of s */
    prediction *of;  /* [n] */
};

/* -- bands ------------------------------------------------------------------------------------------- */

int gw_bands_parse(gw_bands *b, const char *what, const char *text)
{
    *b = (gw_bands){0};
    for (const char *at = text;; at++) {
        char *end;
        const double lo = strtod(at, &end);
        const bool first = end != at && *end == '-';
        const char *second = first ? end + 1 : at;
        const double hi = first ? strtod(second, &end) : 0;
        if (!first || end == second || (*end != ',' && *end != 0) || !(lo >= 0 && lo < hi && hi < 1e9))
            return gw_fail(GW_EFORMAT,
                           "%s: \"%.80s\": want bands in Hz, each from low to high, as \"57-63,118-122\"",
                           what, text);
        if (b->n == GW_ASD_MAX_BANDS)
            return gw_fail(GW_EFORMAT, "%s: \"%.80s\": more than %d bands", what, text, GW_ASD_MAX_BANDS);
        b->lo[b->n] = lo;
        b->hi[b->n++] = hi;
        at = end;
        if (*at == 0)
            return GW_OK;
    }
}

static bool within(const gw_bands *b, double f, double guard)
{
    for (int i = 0; i < b->n; i++)
        if (f >= b->lo[i] - guard && f < b->hi[i] + guard)
            return true;
    return false;
}

/* Octaves out of band, as the header says. */
static void set_pieces(const gw_asd_ratio *a, prediction *q, const gw_bands *bands)
{
    const double top = fmin(HIGHEST_HZ, 0.45 * a->rate);
    uint32_t piece = 0, held = 0, octave = 2 * LOWEST_HZ;
    memset(q->piece, NO_PIECE, a->bins);
    for (uint32_t b = LOWEST_HZ * BINS_A_HZ; b < a->bins && (double)b / BINS_A_HZ < top; b++) {
        if (b == octave * BINS_A_HZ) {
            octave *= 2;
            piece += held >= MIN_BINS;
            held = held >= MIN_BINS ? 0 : held;
        }
        if (within(bands, (double)b / BINS_A_HZ, GUARD_HZ))
            continue;
        q->piece[b] = (uint8_t)piece;
        held++;
    }
    for (uint32_t b = 0; piece > 0 && held < MIN_BINS && b < a->bins; b++)
        if (q->piece[b] == piece)
            q->piece[b]--;
}

int gw_asd_ratio_anew(gw_asd_ratio *a, uint32_t k, const gw_bands *bands)
{
    prediction *q = &a->of[k];
    uint32_t n = 0;
    for (uint32_t b = 0; b < a->bins; b++)
        n += q->in[b] = within(bands, (double)b / BINS_A_HZ, 0);
    q->valid = q->valid_segments = q->n_past = 0;
    set_pieces(a, q, bands);
    for (uint32_t b = a->top; b < a->bins; b++)
        if (q->in[b] || q->piece[b] != NO_PIECE)
            a->top = b + 1;
    if (n == 0)
        return gw_fail(GW_ERANGE, "the bands hold no bin of %g Hz up to %g Hz", 1.0 / BINS_A_HZ,
                       0.5 * a->rate);
    return GW_OK;
}

/* -- life -------------------------------------------------------------------------------------------- */

void gw_asd_ratio_destroy(gw_asd_ratio **aa)
{
    gw_asd_ratio *a = *aa;
    if (!a)
        return;
    *aa = NULL;
    a->ops->fft_destroy(&a->fft);
    for (uint32_t k = 0; a->of && k < a->n; k++) {
        free(a->of[k].p);
        free(a->of[k].power);
        free(a->of[k].piece);
        free(a->of[k].in);
    }
    free(a->of);
    free(a->window);
    free(a->s);
    free(a->raw);
    free(a->power);
    free(a->median);
    free(a);
}

size_t gw_asd_ratio_bytes(uint32_t rate_hz, uint32_t n)
{
    const size_t samples = (size_t)SEGMENT_S * rate_hz, bins = (size_t)rate_hz + 1;
    return (samples * (4 + n) + bins * (GW_ASD_SEGMENTS * (n + 1) + 3)) * sizeof(double);
}

static int allocate(gw_asd_ratio *a, const gw_bands *bands)
{
    const size_t samples = (size_t)SEGMENT_S * a->rate, bins = a->bins;
    GW_TRY(a->ops->fft_new(&a->fft, (uint32_t)samples));
    a->window = calloc(samples, sizeof *a->window);
    a->s = calloc(samples, sizeof *a->s);
    a->raw = calloc(bins, sizeof *a->raw);
    a->power = calloc(bins * GW_ASD_SEGMENTS, sizeof *a->power);
    a->median = calloc(bins, sizeof *a->median);
    a->of = calloc(a->n + 1, sizeof *a->of);
    bool all = a->window && a->s && a->raw && a->power && a->median && a->of;
    for (uint32_t k = 0; all && k < a->n; k++) {
        prediction *q = &a->of[k];
        q->p = calloc(samples, sizeof *q->p);
        q->power = calloc(bins * GW_ASD_SEGMENTS, sizeof *q->power);
        q->piece = calloc(bins, sizeof *q->piece);
        q->in = calloc(bins, sizeof *q->in);
        all = q->p && q->power && q->piece && q->in;
    }
    if (!all)
        return gw_fail(GW_ENOMEM, "spectra of %" PRIu32 " predictions at %" PRIu32 " Hz", a->n, a->rate);
    for (size_t j = 0; j < samples; j++)
        a->window[j] = 0.5 - 0.5 * cos(2 * M_PI * (double)j / (double)samples);
    for (uint32_t k = 0; k < a->n; k++)
        GW_TRY(gw_asd_ratio_anew(a, k, &bands[k]));
    return GW_OK;
}

int gw_asd_ratio_new(gw_asd_ratio **out, const gw_spectrum_ops *ops, uint32_t rate_hz, uint32_t n,
                     const gw_bands *bands)
{
    *out = NULL;
    gw_asd_ratio *a = calloc(1, sizeof *a);
    if (!a)
        return gw_fail(GW_ENOMEM, "spectra of strain");
    *a = (gw_asd_ratio){.ops = ops, .rate = rate_hz, .n = n, .bins = rate_hz + 1, .next = INT64_MIN};
    const int err = allocate(a, bands);
    if (err != GW_OK) {
        gw_asd_ratio_destroy(&a);
        return err;
    }
    *out = a;
    return GW_OK;
}

/* -- work -------------------------------------------------------------------------------------------- */

static void transform(gw_asd_ratio *a, const double *x)
{
    const uint32_t n = a->fft->n;
    double mean = 0;
    for (uint32_t j = 0; j < n; j++)
        mean += x[j];
    mean /= n;
    for (uint32_t j = 0; j < n; j++)
        a->fft->time[j] = (x[j] - mean) * a->window[j];
    a->ops->fft_forward(a->fft);
}

static double median_of(const double *power, size_t bins, size_t b)
{
    double row[GW_ASD_SEGMENTS];
    for (int i = 0; i < GW_ASD_SEGMENTS; i++) {
        const double v = power[(size_t)i * bins + b];
        int at = i;
        for (; at > 0 && row[at - 1] > v; at--)
            row[at] = row[at - 1];
        row[at] = v;
    }
    return row[GW_ASD_SEGMENTS / 2];
}

static double ratio(double clean, double raw)
{
    if (raw > 0)
        return sqrt(clean / raw);
    return clean > 0 ? INFINITY : 1;
}

/* This second's means of the pieces join the past; the largest of the means over it. */
static double out_of_band(prediction *q, const double *sum, const uint32_t *n)
{
    double largest = 0;
    double *now = q->past[q->n_past++ % MEMORY_S];
    const int64_t seconds = q->n_past < MEMORY_S ? q->n_past : MEMORY_S;
    for (int i = 0; i < PIECES; i++) {
        double mean = 0;
        now[i] = n[i] ? sum[i] / n[i] : 0;
        for (int64_t t = 0; t < seconds; t++)
            mean += q->past[t][i] / (double)seconds;
        largest = fmax(largest, mean);
    }
    return n[0] ? largest : 1;
}

static gw_asd_ratios measure(const gw_asd_ratio *a, prediction *q)
{
    double sum = 0, clean = 0, raw = 0, worst = 0, piece[PIECES] = {0};
    uint32_t n = 0, n_piece[PIECES] = {0};
    for (uint32_t b = 0; b < a->top; b++) {
        const uint32_t p = q->piece[b];
        if (!q->in[b] && p == NO_PIECE)
            continue;
        const double c = median_of(q->power, a->bins, b), r = ratio(c, a->median[b]);
        if (q->in[b]) {
            sum += r;
            clean += c;
            raw += a->median[b];
            n++;
        } else {
            piece[p] += r;
            n_piece[p]++;
            worst = r > worst ? r : worst;
        }
    }
    const double out = out_of_band(q, piece, n_piece);
    return (gw_asd_ratios){.measured = !isnan(sum) && !isnan(out),
                           .mean = sum / n,
                           .integrated = ratio(clean, raw),
                           .out = out,
                           .out_worst = n_piece[0] ? worst : 1};
}

/* Of the segment that ends at `second`. */
static void add_segment(gw_asd_ratio *a, int64_t second, gw_asd_ratios *ratios)
{
    const size_t slot = (size_t)(((second / a->rate) % GW_ASD_SEGMENTS + GW_ASD_SEGMENTS) % GW_ASD_SEGMENTS);
    bool raw_done = false, median_done = false;
    for (uint32_t k = 0; k < a->n; k++) {
        prediction *q = &a->of[k];
        ratios[k] = (gw_asd_ratios){.mean = NAN, .integrated = NAN, .out = NAN, .out_worst = NAN};
        if (q->valid < (int64_t)SEGMENT_S * a->rate) {
            q->valid_segments = 0;
            continue;
        }
        if (!raw_done) {
            transform(a, a->s);
            memcpy(a->raw, a->fft->freq, a->bins * sizeof *a->raw);
            for (uint32_t b = 0; b < a->top; b++)
                a->power[slot * a->bins + b] = a->raw[b].re * a->raw[b].re + a->raw[b].im * a->raw[b].im;
            raw_done = true;
        }
        transform(a, q->p);
        for (uint32_t b = 0; b < a->top; b++) {
            const double re = a->raw[b].re - a->fft->freq[b].re, im = a->raw[b].im - a->fft->freq[b].im;
            q->power[slot * a->bins + b] = re * re + im * im;
        }
        if (++q->valid_segments < GW_ASD_SEGMENTS) {
            q->n_past = 0;
            continue;
        }
        for (uint32_t b = 0; !median_done && b < a->top; b++)
            a->median[b] = median_of(a->power, a->bins, b);
        median_done = true;
        ratios[k] = measure(a, q);
    }
}

static void put(gw_asd_ratio *a, uint32_t n, const double *s, const double *const *p, uint32_t skip)
{
    const size_t at = (size_t)a->rate + (size_t)(((a->next % a->rate) + a->rate) % a->rate);
    bool any = false;
    for (uint32_t k = 0; k < a->n; k++) {
        prediction *q = &a->of[k];
        q->valid = p[k] ? q->valid + n : 0;
        if (p[k])
            memcpy(q->p + at, p[k] + skip, n * sizeof *q->p);
        any |= p[k] != NULL;
    }
    if (any)
        memcpy(a->s + at, s + skip, n * sizeof *a->s);
    a->next += n;
}

int64_t gw_asd_ratio_add(gw_asd_ratio *a, int64_t sample0, uint32_t n_samples, const double *s,
                         const double *const *p, gw_asd_ratios *ratios)
{
    if (sample0 != a->next)
        for (uint32_t k = 0; k < a->n; k++)
            a->of[k].valid = a->of[k].valid_segments = 0;
    a->next = sample0;
    const int64_t rate = a->rate, past = ((sample0 % rate) + rate) % rate, to_second = rate - past;
    if (n_samples < to_second) {
        put(a, n_samples, s, p, 0);
        return 0;
    }
    put(a, (uint32_t)to_second, s, p, 0);
    const int64_t second = a->next;
    add_segment(a, second, ratios);
    memcpy(a->s, a->s + rate, a->rate * sizeof *a->s);
    for (uint32_t k = 0; k < a->n; k++)
        memcpy(a->of[k].p, a->of[k].p + rate, a->rate * sizeof *a->of[k].p);
    put(a, n_samples - (uint32_t)to_second, s, p, (uint32_t)to_second);
    return second;
}
