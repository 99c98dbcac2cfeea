/* SPDX-License-Identifier: GPL-3.0-or-later
 * Segments as they fill. A segment of all channels of a stream is one call of gw_parallel, in pieces of about
 * 2 ms; each piece writes only its own channels. */
#include "sinks/rank_spectra.h"

#include "pipeline/parallel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    PARTS = GW_RANK_SEGMENT_S * GW_RANK_SLOW_HZ, /* samples at 16 Hz in a segment */
    SIDE = PARTS / 2,                            /* bins to either side: 8 Hz */
    SLOW = GW_RANK_SLOW_S * GW_RANK_SLOW_HZ,
    FIRST_SEGMENTS = 8 /* for prominence */
};
static const int64_t most_sample = INT64_MAX / 4;
static const double least_prominence = 100, probe_low_hz = 20, probe_high_hz = 1000, like_strain = 0.5;

/* ---- Shapes ---- */

void gw_rank_spectra_layout(gw_rank_spectra *s, int64_t memory_s)
{
    s->slots = (uint32_t)memory_s + GW_RANK_SPARE_S;
    s->slow_slots = s->slots / GW_RANK_SLOW_HOP_S + 2;
    s->row_bins = 0;
    for (int i = 0; i < s->n_bands; i++) {
        gw_rank_band *b = &s->band[i];
        const uint32_t low = (uint32_t)ceil(b->low_hz * 2 - 1e-9),
                       high = (uint32_t)floor(b->high_hz * 2 + 1e-9);
        const uint32_t all = high >= low ? high - low + 1 : 0;
        b->step = (all + GW_RANK_BAND_BINS - 1) / GW_RANK_BAND_BINS;
        b->bins = b->step ? (all + b->step - 1) / b->step : 0;
        b->first = s->row_bins;
        s->row_bins += b->bins;
    }
    for (int i = 0; i < s->n_lines; i++)
        s->line[i].bin = s->row_bins++;
    s->probe = s->row_bins;
    s->row_bins += GW_RANK_PROBES;
}

static void name_bins(gw_rank_spectra *s)
{
    for (int i = 0; i < s->n_bands; i++)
        for (uint32_t k = 0; k < s->band[i].bins; k++)
            s->row_bin[s->band[i].first + k] =
                (uint32_t)ceil(s->band[i].low_hz * 2 - 1e-9) + k * s->band[i].step;
    for (int i = 0; i < s->n_lines; i++)
        s->row_bin[s->line[i].bin] = (uint32_t)lround(s->line[i].hz * 2);
    for (int k = 0; k < GW_RANK_PROBES; k++)
        s->row_bin[s->probe + (uint32_t)k] = (uint32_t)lround(
            2 * probe_low_hz * pow(probe_high_hz / probe_low_hz, (double)k / (GW_RANK_PROBES - 1)));
}

size_t gw_rank_spectra_bytes(const gw_rank_spectra *s, int threads)
{
    size_t sum = 0;
    for (int i = 0; i < s->n_streams; i++) {
        const gw_rank_stream *t = &s->stream[i];
        const size_t row = s->row_bins * sizeof(gw_bin) + 1;
        const size_t slow = GW_RANK_SLOW_BINS * sizeof(gw_bin) + 1;
        sum += t->channels * (2 * t->rate * gw_dtype_bytes(t->dtype) + s->slots * row + s->slow_slots * slow +
                              GW_RANK_SERIES * (sizeof(double) + (size_t)s->n_lines * sizeof(gw_bin)));
        sum += (size_t)threads * 4 * t->rate * sizeof(double);
    }
    return sum;
}

/* ---- Life ---- */

static int open_stream(gw_rank_spectra *s, gw_rank_stream *t)
{
    const size_t n = t->channels, lines = (size_t)s->n_lines;
    t->at = t->valid = t->segment = t->flagged = INT64_MIN;
    t->raw = calloc(n * 2 * t->rate, gw_dtype_bytes(t->dtype));
    t->absent = calloc(n, sizeof *t->absent);
    t->row = calloc(n * s->slots * s->row_bins, sizeof *t->row);
    t->good = calloc(n * s->slots, 1);
    t->slot = calloc(s->slots, sizeof *t->slot);
    t->injected = calloc(s->slots, 1);
    t->slow = calloc(n * GW_RANK_SERIES, sizeof *t->slow);
    t->slow_valid = calloc(n, sizeof *t->slow_valid);
    t->slow_row = calloc(n * s->slow_slots * GW_RANK_SLOW_BINS, sizeof *t->slow_row);
    t->slow_good = calloc(n * s->slow_slots, 1);
    t->slow_slot = calloc(s->slow_slots, sizeof *t->slow_slot);
    t->line = calloc(n * lines * GW_RANK_SERIES + 1, sizeof *t->line);
    t->prominence = calloc(n * lines * 2 + 1, sizeof *t->prominence);
    t->seen = calloc(n, 1);
    t->refused = calloc(n, 1);
    t->fft = calloc((size_t)s->threads, sizeof *t->fft);
    t->window = calloc(2 * t->rate, sizeof *t->window);
    if (!t->raw || !t->absent || !t->row || !t->good || !t->slot || !t->injected || !t->slow ||
        !t->slow_valid || !t->slow_row || !t->slow_good || !t->slow_slot || !t->line || !t->prominence ||
        !t->seen || !t->refused || !t->fft || !t->window)
        return gw_fail(GW_ENOMEM, "the spectra of %zu channels", n);
    for (size_t c = 0; c < n; c++)
        t->absent[c] = t->slow_valid[c] = INT64_MIN;
    for (uint32_t i = 0; i < s->slots; i++)
        t->slot[i] = INT64_MIN;
    for (uint32_t i = 0; i < s->slow_slots; i++)
        t->slow_slot[i] = INT64_MIN;
    for (uint32_t i = 0; i < 2 * t->rate; i++)
        t->window[i] = 0.5 - 0.5 * cos(M_PI * i / t->rate);
    for (int i = 0; i < s->threads; i++)
        GW_TRY(s->kernels.spectrum.fft_new(&t->fft[i], 2 * t->rate));
    return GW_OK;
}

int gw_rank_spectra_open(gw_rank_spectra *s)
{
    GW_TRY(gw_kernels_init(&s->kernels, GW_KERNELS_CPU));
    s->threads = gw_parallel_threads();
    s->slow_done = INT64_MIN;
    s->row_bin = calloc(s->row_bins, sizeof *s->row_bin);
    s->slow_fft = calloc((size_t)s->threads + 2, sizeof *s->slow_fft);
    s->slow_window = calloc(SLOW, sizeof *s->slow_window);
    if (!s->row_bin || !s->slow_fft || !s->slow_window)
        return gw_fail(GW_ENOMEM, "spectra");
    name_bins(s);
    for (int i = 0; i < SLOW; i++)
        s->slow_window[i] = 0.5 - 0.5 * cos(2 * M_PI * i / SLOW);
    for (int i = 0; i < s->threads + 2; i++)
        GW_TRY(s->kernels.spectrum.fft_new(&s->slow_fft[i], SLOW));
    for (int i = 0; i < s->n_lines; i++) {
        gw_rank_line *l = &s->line[i];
        l->carrier_stream = -2;
        l->sideband = calloc((size_t)s->slow_slots * 2 * GW_RANK_SLOW_BINS, sizeof *l->sideband);
        l->good = calloc(s->slow_slots, 1);
        if (!l->sideband || !l->good)
            return gw_fail(GW_ENOMEM, "spectra");
    }
    for (int i = 0; i < s->n_streams; i++)
        GW_TRY(open_stream(s, &s->stream[i]));
    return GW_OK;
}

void gw_rank_spectra_close(gw_rank_spectra *s)
{
    for (int i = 0; i < s->n_streams; i++) {
        gw_rank_stream *t = &s->stream[i];
        for (int k = 0; t->fft && k < s->threads; k++)
            s->kernels.spectrum.fft_destroy(&t->fft[k]);
        void *const all[] = {t->raw,         t->absent, t->row,        t->good,     t->slot,
                             t->injected,    t->slow,   t->slow_valid, t->slow_row, t->slow_good,
                             t->slow_slot,   t->line,   t->prominence, t->seen,     t->refused,
                             (void *)t->fft, t->window};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++)
            free(all[k]);
    }
    for (int i = 0; s->slow_fft && i < s->threads + 2; i++)
        s->kernels.spectrum.fft_destroy(&s->slow_fft[i]);
    for (int i = 0; i < s->n_lines; i++) {
        free(s->line[i].sideband);
        free(s->line[i].good);
    }
    free((void *)s->slow_fft);
    free(s->slow_window);
    free(s->row_bin);
}

/* ---- A segment of one channel ---- */

/* The segment from second j on, windowed; false if it is no number somewhere or nothing at all. */
static bool read_segment(const gw_rank_stream *t, uint32_t c, int64_t j, double *x)
{
    const size_t n = 2 * (size_t)t->rate, bytes = gw_dtype_bytes(t->dtype);
    const char *raw = t->raw + c * n * bytes;
    size_t from = (size_t)(j * (int64_t)t->rate % (int64_t)n);
    double energy = 0;
    for (size_t i = 0; i < n; i++, from = from + 1 == n ? 0 : from + 1) {
        switch (t->dtype) {
        case GW_F32:
            x[i] = (double)((const float *)raw)[from];
            break;
        case GW_F64:
            x[i] = ((const double *)raw)[from];
            break;
        case GW_I16:
            x[i] = ((const int16_t *)raw)[from];
            break;
        default:
            x[i] = ((const int32_t *)raw)[from];
        }
        x[i] *= t->window[i];
        energy += fabs(x[i]);
    }
    return isfinite(energy) && energy > 0;
}

/* Smooth edges from 4 to 8 Hz: the filter is short against the window. */
static double taper(int m)
{
    const double hz = fabs((double)m) / GW_RANK_SEGMENT_S, at = (hz - 4) / 4;
    return at <= 0 ? 1 : at >= 1 ? 0 : 0.5 + 0.5 * cos(M_PI * at);
}

/* exp(2 pi i k / PARTS) */
static gw_complex turn(int k)
{
    const double angle = 2 * M_PI * (k % PARTS) / PARTS;
    return (gw_complex){cos(angle), sin(angle)};
}

typedef struct tables {
    double taper[SIDE + 1];
    gw_complex turn[PARTS];
} tables;

static void fill_tables(tables *w)
{
    for (int m = 0; m <= SIDE; m++)
        w->taper[m] = taper(m);
    for (int k = 0; k < PARTS; k++)
        w->turn[k] = turn(k);
}

/* Adds the segment's part to the series that begins anew with its second half. */
static void add_slow(gw_rank_stream *t, uint32_t c, int64_t j, const gw_fft *f, const tables *w)
{
    double *series = t->slow + (size_t)c * GW_RANK_SERIES;
    const uint32_t top = f->n / 2 < SIDE ? f->n / 2 : SIDE;
    for (int i = 0; i < PARTS; i++) {
        double y = f->freq[0].re;
        for (uint32_t k = 1; k < top; k++) {
            const gw_complex z = w->turn[k * (uint32_t)i % PARTS];
            y += 2 * w->taper[k] * (f->freq[k].re * z.re - f->freq[k].im * z.im);
        }
        double *to = &series[(size_t)(j * GW_RANK_SLOW_HZ + i) % GW_RANK_SERIES];
        *to = (i < PARTS / 2 ? *to : 0) + y / f->n;
    }
}

static void add_line(const gw_rank_spectra *s, gw_rank_stream *t, uint32_t c, int number, int64_t j,
                     const gw_fft *f, const tables *w)
{
    const int64_t bin = s->row_bin[s->line[number].bin];
    gw_bin *series = t->line + ((size_t)c * (size_t)s->n_lines + (size_t)number) * GW_RANK_SERIES;
    if (bin < SIDE || bin + SIDE >= (int64_t)f->n / 2)
        return;
    const double sign = bin * j % 2 ? -1 : 1; /* exp(-2 pi i f0 j), f0 = bin / 2 */
    for (int i = 0; i < PARTS; i++) {
        double re = 0, im = 0;
        for (int m = 1 - SIDE; m < SIDE; m++) {
            const gw_complex z = w->turn[(unsigned)(m * i) % PARTS], x = f->freq[bin + m];
            const double g = w->taper[m < 0 ? -m : m];
            re += g * (x.re * z.re - x.im * z.im);
            im += g * (x.re * z.im + x.im * z.re);
        }
        gw_bin *to = &series[(size_t)(j * GW_RANK_SLOW_HZ + i) % GW_RANK_SERIES];
        if (i >= PARTS / 2)
            *to = (gw_bin){0, 0};
        to->re += (float)(2 * sign * re / f->n);
        to->im += (float)(2 * sign * im / f->n);
    }
}

/* How much more power there is at the line than 3 to 8 Hz beside it. */
static void add_prominence(const gw_rank_spectra *s, gw_rank_stream *t, uint32_t c, const gw_fft *f)
{
    if (t->seen[c] >= FIRST_SEGMENTS)
        return;
    t->seen[c]++;
    for (int l = 0; l < s->n_lines; l++) {
        const int64_t bin = s->row_bin[s->line[l].bin];
        double at = 0, beside = 0;
        if (bin < SIDE || bin + SIDE >= (int64_t)f->n / 2)
            continue;
        for (int64_t m = -SIDE; m <= SIDE; m++) {
            const gw_complex z = f->freq[bin + m];
            const double p = z.re * z.re + z.im * z.im;
            if (m >= -1 && m <= 1)
                at += p / 3;
            else if (m <= -6 || m >= 6)
                beside += p / (2 * (SIDE - 5));
        }
        float *sum = t->prominence + ((size_t)c * (size_t)s->n_lines + (size_t)l) * 2;
        if (beside > 0) { /* relative to strain's or the channel's own units: a ratio, averaged */
            sum[0] += (float)(at / (at + beside));
            sum[1] += (float)(beside / (at + beside));
        }
    }
}

static void slow_segment(gw_rank_spectra *s, gw_rank_stream *t, uint32_t c, int64_t q)
{
    const size_t slot = (size_t)q % s->slow_slots;
    gw_fft *f = s->slow_fft[gw_parallel_worker()];
    const double *series = t->slow + (size_t)c * GW_RANK_SERIES;
    t->slow_good[slot * t->channels + c] = false;
    if (t->slow_valid[c] > q * GW_RANK_SLOW_HOP_S)
        return;
    for (int i = 0; i < SLOW; i++)
        f->time[i] = s->slow_window[i] *
                     series[(size_t)(q * GW_RANK_SLOW_HOP_S * GW_RANK_SLOW_HZ + i) % GW_RANK_SERIES];
    s->kernels.spectrum.fft_forward(f);
    gw_bin *row = t->slow_row + ((size_t)c * s->slow_slots + slot) * GW_RANK_SLOW_BINS;
    for (int k = 0; k < GW_RANK_SLOW_BINS; k++) {
        const gw_complex z = f->freq[k + GW_RANK_SLOW_FIRST];
        row[k] = (gw_bin){(float)z.re, (float)z.im};
    }
    t->slow_good[slot * t->channels + c] = true;
}

typedef struct job {
    gw_rank_spectra *s;
    gw_rank_stream *t;
    int64_t j;
    uint32_t piece; /* channels */
    tables tables;
} job;

/* Slow segments that are whole once the second that segment j begins is. */
static bool slow_ends(int64_t j, int64_t *q)
{
    *q = (j + 1 - GW_RANK_SLOW_S) / GW_RANK_SLOW_HOP_S;
    return (j + 1) % GW_RANK_SLOW_HOP_S == 0 && j + 1 >= GW_RANK_SLOW_S;
}

static void one_channel(const job *w, uint32_t c)
{
    gw_rank_spectra *s = w->s;
    gw_rank_stream *t = w->t;
    const int64_t j = w->j;
    const size_t slot = (size_t)j % s->slots;
    gw_fft *f = t->fft[gw_parallel_worker()];
    const bool good = t->absent[c] <= j * (int64_t)t->rate && read_segment(t, c, j, f->time);
    t->good[slot * t->channels + c] = good;
    if (!good)
        memset(f->time, 0, f->n * sizeof *f->time);
    if (!good || t->slow_valid[c] == INT64_MIN)
        t->slow_valid[c] = good ? j + 1 : j + GW_RANK_SEGMENT_S;
    s->kernels.spectrum.fft_forward(f);
    gw_bin *row = t->row + ((size_t)c * s->slots + slot) * s->row_bins;
    for (uint32_t k = 0; k < s->row_bins; k++) {
        const uint32_t bin = s->row_bin[k];
        row[k] = bin < f->n / 2 ? (gw_bin){(float)f->freq[bin].re, (float)f->freq[bin].im} : (gw_bin){0, 0};
    }
    add_slow(t, c, j, f, &w->tables);
    for (int l = 0; l < s->n_lines; l++)
        add_line(s, t, c, l, j, f, &w->tables);
    if (good)
        add_prominence(s, t, c, f);
    int64_t q;
    if (slow_ends(j, &q))
        slow_segment(s, t, c, q);
}

static int some_channels(void *arg, size_t i)
{
    const job *w = arg;
    const uint32_t from = (uint32_t)i * w->piece, rest = w->t->channels - from;
    for (uint32_t c = from; c < from + (rest < w->piece ? rest : w->piece); c++)
        one_channel(w, c);
    return GW_OK;
}

/* ---- A stream ---- */

/* Everything before sample `at` is not there. */
static void begin_at(gw_rank_stream *t, int64_t at)
{
    t->at = t->valid = at;
    const int64_t first = at / t->rate + (at % t->rate > 0);
    if (t->segment < first) {
        t->segment = first;
        for (uint32_t c = 0; c < t->channels; c++)
            t->slow_valid[c] = first + 1;
    }
}

static int finish_segment(gw_rank_spectra *s, gw_rank_stream *t)
{
    const int64_t j = t->segment++;
    const size_t slot = (size_t)j % s->slots;
    t->slot[slot] = j;
    t->injected[slot] = t->flagged > j;
    int64_t q;
    if (slow_ends(j, &q))
        t->slow_slot[(size_t)q % s->slow_slots] = q;
    job w = {.s = s, .t = t, .j = j};
    w.piece = 20000 / t->rate + 1;
    fill_tables(&w.tables);
    return gw_parallel(GW_BULK, (t->channels + w.piece - 1) / w.piece, some_channels, &w);
}

static void copy_in(gw_rank_stream *t, const gw_view *v, uint32_t from, uint32_t n)
{
    const size_t bytes = gw_dtype_bytes(t->dtype), ring = 2 * (size_t)t->rate;
    const size_t to = (size_t)(t->at % (int64_t)ring), first = n < ring - to ? n : ring - to;
    for (uint32_t c = 0; c < t->channels; c++) {
        const char *x = (const char *)v->data + (c * v->stride + from) * bytes;
        char *raw = t->raw + c * ring * bytes;
        memcpy(raw + to * bytes, x, first * bytes);
        memcpy(raw, x + first * bytes, (n - first) * bytes);
        if (!gw_present(v->presence, c))
            t->absent[c] = t->at + n;
    }
    t->at += n;
}

int gw_rank_spectra_block(gw_rank_spectra *s, int stream, const gw_view *v)
{
    gw_rank_stream *t = &s->stream[stream];
    if (v->sample0 < 0 || v->sample0 > most_sample) /* no time of ours */
        return GW_OK;
    if (t->at != v->sample0)
        begin_at(t, v->sample0);
    if (v->flags & GW_FLAG_INJECTION) {
        const int64_t end = (v->sample0 + v->n_samples - 1) / t->rate + 1;
        t->flagged = end > t->flagged ? end : t->flagged;
    }
    for (uint32_t from = 0; from < v->n_samples;) {
        const int64_t end = (t->segment + GW_RANK_SEGMENT_S) * t->rate, room = end - t->at;
        const uint32_t rest = v->n_samples - from, n = room < rest ? (uint32_t)room : rest;
        copy_in(t, v, from, n);
        from += n;
        if (t->at == end)
            GW_TRY(finish_segment(s, t));
    }
    return GW_OK;
}

void gw_rank_spectra_hole(gw_rank_spectra *s, int stream, int64_t until)
{
    if (until > s->stream[stream].at && until >= 0 && until <= most_sample)
        begin_at(&s->stream[stream], until);
}

int64_t gw_rank_spectra_done(const gw_rank_spectra *s)
{
    int64_t done = INT64_MAX;
    for (int i = 0; i < s->n_streams; i++)
        done = s->stream[i].segment < done ? s->stream[i].segment : done;
    return done;
}

/* ---- Reading ---- */

const gw_bin *gw_rank_row(const gw_rank_spectra *s, int stream, uint32_t channel, int64_t j, bool *injected)
{
    const gw_rank_stream *t = &s->stream[stream];
    const size_t slot = (size_t)j % s->slots;
    if (j < 0 || t->slot[slot] != j || !t->good[slot * t->channels + channel])
        return NULL;
    if (injected)
        *injected = *injected || t->injected[slot];
    return t->row + (channel * (size_t)s->slots + slot) * s->row_bins;
}

const gw_bin *gw_rank_slow_row(const gw_rank_spectra *s, int stream, uint32_t channel, int64_t q)
{
    const gw_rank_stream *t = &s->stream[stream];
    const size_t slot = (size_t)q % s->slow_slots;
    if (q < 0 || t->slow_slot[slot] != q || !t->slow_good[slot * t->channels + channel])
        return NULL;
    return t->slow_row + (channel * (size_t)s->slow_slots + slot) * GW_RANK_SLOW_BINS;
}

const gw_bin *gw_rank_sideband(const gw_rank_spectra *s, int line, int64_t q)
{
    const size_t slot = (size_t)q % s->slow_slots;
    const gw_rank_line *l = &s->line[line];
    /* strain's slow row is whole where its line is */
    return l->good[slot] && gw_rank_slow_row(s, s->strain_stream, s->strain, q)
               ? l->sideband + slot * 2 * GW_RANK_SLOW_BINS
               : NULL;
}

/* ---- Sidebands ---- */

/* Mean coherence of a channel with strain in `bins` bins of a row, over the segments just before `done`. */
static double near_coherence(const gw_rank_spectra *s, uint32_t first, uint32_t bins, int stream, uint32_t c,
                             int64_t done)
{
    double sum = 0;
    for (uint32_t k = first; k < first + bins; k++) {
        double xx = 0, yy = 0, re = 0, im = 0;
        for (int64_t j = done - GW_RANK_SLOW_S; j < done; j++) {
            const gw_bin *x = gw_rank_row(s, stream, c, j, NULL);
            const gw_bin *y = gw_rank_row(s, s->strain_stream, s->strain, j, NULL);
            if (!x || !y)
                continue;
            const double a = (double)x[k].re, b = (double)x[k].im, u = (double)y[k].re, v = (double)y[k].im;
            xx += a * a + b * b;
            yy += u * u + v * v;
            re += a * u + b * v;
            im += b * u - a * v;
        }
        sum += xx > 0 && yy > 0 ? (re * re + im * im) / xx / yy : 0;
    }
    return sum / bins;
}

/* Of the channels that are mostly this line, the one most coherent with strain's, to a tenth; of these the
 * purest. */
static void choose_carrier(gw_rank_spectra *s, int l, int64_t done)
{
    gw_rank_line *line = &s->line[l];
    double best = 0;
    line->carrier_stream = -1;
    for (int i = 0; i < s->n_streams; i++)
        for (uint32_t c = 0; c < s->stream[i].channels; c++) {
            const float *p = s->stream[i].prominence + ((size_t)c * (size_t)s->n_lines + (size_t)l) * 2;
            const double pure = p[1] > 0 ? (double)p[0] / (double)p[1] : 0;
            if (pure < least_prominence || s->stream[i].refused[c] ||
                s->stream[i].slow_valid[c] > done - GW_RANK_SLOW_S ||
                (i == s->strain_stream && c == s->strain) ||
                near_coherence(s, s->probe, GW_RANK_PROBES, i, c, done) > like_strain)
                continue;
            const double score = round(10 * near_coherence(s, line->bin, 1, i, c, done)) + pure / (1 + pure);
            if (score > best) {
                best = score;
                line->carrier_stream = i;
                line->carrier = (int)c;
            }
        }
}

static const gw_bin *line_series(const gw_rank_spectra *s, int stream, uint32_t c, int l)
{
    return s->stream[stream].line + ((size_t)c * (size_t)s->n_lines + (size_t)l) * GW_RANK_SERIES;
}

static void make_sidebands(gw_rank_spectra *s, int l, int64_t q)
{
    gw_rank_line *line = &s->line[l];
    const size_t slot = (size_t)q % s->slow_slots;
    gw_fft *re = s->slow_fft[s->threads], *im = s->slow_fft[s->threads + 1];
    const bool own = line->carrier_stream < 0;
    const int at = own ? s->strain_stream : line->carrier_stream;
    const uint32_t channel = own ? s->strain : (uint32_t)line->carrier;
    const gw_bin *d = line_series(s, s->strain_stream, s->strain, l), *c = line_series(s, at, channel, l);
    line->good[slot] =
        s->stream[at].slow_valid[channel] <= q * GW_RANK_SLOW_HOP_S || gw_rank_slow_row(s, at, channel, q);
    for (int i = 0; i < SLOW; i++) {
        const size_t k = (size_t)(q * GW_RANK_SLOW_HOP_S * GW_RANK_SLOW_HZ + i) % GW_RANK_SERIES;
        const double a = (double)d[k].re, b = (double)d[k].im, x = (double)c[k].re, y = (double)c[k].im;
        const double r = hypot(x, y), w = r > 0 ? s->slow_window[i] / r : 0;
        re->time[i] = w * (a * x + b * y);
        im->time[i] = w * (b * x - a * y);
    }
    s->kernels.spectrum.fft_forward(re);
    s->kernels.spectrum.fft_forward(im);
    gw_bin *up = line->sideband + slot * 2 * GW_RANK_SLOW_BINS, *down = up + GW_RANK_SLOW_BINS;
    for (int k = 0; k < GW_RANK_SLOW_BINS; k++) {
        const gw_complex a = re->freq[k + GW_RANK_SLOW_FIRST], b = im->freq[k + GW_RANK_SLOW_FIRST];
        up[k] = (gw_bin){(float)(a.re - b.im), (float)(a.im + b.re)};
        down[k] = (gw_bin){(float)(a.re + b.im), (float)(a.im - b.re)};
    }
}

void gw_rank_spectra_sidebands(gw_rank_spectra *s, int64_t done)
{
    if (done < GW_RANK_SLOW_S)
        return;
    const int64_t last = (done - GW_RANK_SLOW_S) / GW_RANK_SLOW_HOP_S; /* whole */
    if (s->slow_done == INT64_MIN || last - s->slow_done >= GW_RANK_SPARE_S / GW_RANK_SLOW_HOP_S)
        s->slow_done = last;
    for (; s->slow_done <= last; s->slow_done++) {
        const int64_t q = s->slow_done;
        for (int l = 0; l < s->n_lines; l++) {
            s->line[l].good[(size_t)q % s->slow_slots] = false;
            if (!gw_rank_slow_row(s, s->strain_stream, s->strain, q))
                continue;
            if (s->line[l].carrier_stream == -2)
                choose_carrier(s, l, q * GW_RANK_SLOW_HOP_S + GW_RANK_SLOW_S);
            make_sidebands(s, l, q);
        }
    }
}
