/* SPDX-License-Identifier: GPL-3.0-or-later
 * What every implementation of bulk.h needs in the same form: which shapes there can be, the bias of a
 * median; and for those on the processor how a hop is judged and its output gated. */
#include "kernels/bulk_shared.h"

#include <math.h>
#include <string.h>

int gw_bulk_shape_check(const gw_bulk_shape *s)
{
    enum { LONGEST = 1 << 24 };
    const uint32_t half = s->segment / 2;
    if (s->rate_hz == 0)
        return gw_fail(GW_ERANGE, "bulk whitening: a rate of 0 Hz");
    if (s->hop < 64 || s->hop % 2 || s->hop > LONGEST)
        return gw_fail(GW_ERANGE, "bulk whitening: the hop must be even, 64 to %d samples, not %u", LONGEST,
                       s->hop);
    if (s->n_taps == 0 || s->n_taps > LONGEST)
        return gw_fail(GW_ERANGE, "bulk whitening: a filter has 1 to %d taps, not %u", LONGEST, s->n_taps);
    if ((s->decimate != 1 && s->decimate != 2 && s->decimate != 4 && s->decimate != 8) ||
        s->hop % (2 * s->decimate))
        return gw_fail(GW_ERANGE,
                       "bulk whitening: decimate is 1, 2, 4 or 8 and goes into half the hop of %u, not %u",
                       s->hop, s->decimate);
    if (!(s->gate >= 0))
        return gw_fail(GW_ERANGE, "bulk whitening: the gate must be 0 (none) or positive, not %g",
                       (double)s->gate);
    if (s->dead_run != 0 && (s->dead_run < 16 || s->dead_run > s->hop))
        return gw_fail(GW_ERANGE,
                       "bulk whitening: a channel is dead after 16 samples to a hop of %u, not after %u",
                       s->hop, s->dead_run);
    if (s->taper > LONGEST)
        return gw_fail(GW_ERANGE, "bulk whitening: a taper has at most %d samples, not %u", LONGEST,
                       s->taper);
    if (s->segment == 0)
        return GW_OK;
    if (s->segment % 2 || s->segment < 4 || s->segment > LONGEST || (half % s->hop && s->hop % half))
        return gw_fail(GW_ERANGE,
                       "bulk whitening: half a PSD segment (%u samples, even) must be a multiple of the hop "
                       "of %u or divide it",
                       s->segment, s->hop);
    if (s->pool == 0 || s->pool > half)
        return gw_fail(GW_ERANGE, "bulk whitening: 1 to %u bins of the PSD are pooled, not %u", half,
                       s->pool);
    if (s->memory == 0)
        return gw_fail(GW_ERANGE, "bulk whitening: the PSD's memory must be at least 1 segment");
    if (s->median_of != 0 && (s->median_of % 2 == 0 || s->median_of > GW_BULK_MEDIAN_MAX))
        return gw_fail(GW_ERANGE,
                       "bulk whitening: the median is of an odd number of segments up to %d, not %u",
                       GW_BULK_MEDIAN_MAX, s->median_of);
    return GW_OK;
}

uint32_t gw_bulk_psd_bins(const gw_bulk_shape *s)
{
    return s->segment ? (s->segment / 2 + s->pool) / s->pool : 0;
}

double gw_bulk_median_bias(const gw_bulk_shape *s)
{
    const uint32_t n = s->median_of;
    if (n == 0)
        return 1;
    double bias = 1;
    if (s->pool == 1) {
        for (uint32_t k = 1; k <= (n - 1) / 2; k++)
            bias += 1.0 / (2 * k + 1) - 1.0 / (2 * k);
        return bias;
    }
    /* Expectation over the density of the middle one of n: proportional to (F (1 - F))^m f, where f is the
     * gamma density of mean 1 and F its integral. */
    const double p = s->pool;
    const double a = p / (1 + 2 * (4.0 / 9) * (1 - 1 / p) + 2 * (1.0 / 36) * (1 - 2 / p));
    const double middle = (n - 1) / 2, scale = a * log(a) - lgamma(a);
    const double width = 40 / sqrt(a), step = width / (1 << 16), from = fmax(0, 1 - width / 2);
    double below = 0, weight = 0, sum = 0;
    for (double x = from + step / 2; x < from + width; x += step) {
        const double f = exp(scale + (a - 1) * log(x) - a * x) * step;
        const double F = below + f / 2;
        const double w = F > 0 && F < 1 ? f * pow(4 * F * (1 - F), middle) : 0;
        weight += w;
        sum += w * x;
        below += f;
    }
    return sum / weight;
}

/* ---- a hop ---- */

static bool within(float x, float scale)
{
    return scale == 0 || fabsf(x * scale) <= GW_BULK_LIMIT;
}

void gw_bulk_examine(const gw_bulk_shape *s, gw_bulk_channel *c, const float *x, float known, float low,
                     float high, bool finite, bool suspicious)
{
    const float scale = c->scale != 0 ? c->scale : known;
    c->low = low;
    c->high = high;
    c->finite = finite && within(low, scale) && within(high, scale);
    c->health = GW_BULK_GOOD;
    if (!c->finite)
        c->health = GW_BULK_NAN;
    else if (s->dead_run && suspicious)
        c->health = (uint8_t)gw_bulk_judge(x, s->hop, s->dead_run);
    c->scale = scale == 0 && c->health == GW_BULK_GOOD ? gw_bulk_scale(low, high) : scale;
}

/* Shut from the first sample that is too loud until taper after the last, then up over as many more. */
static void gate(const gw_bulk_shape *s, gw_bulk_channel *c, int64_t first, float *y, int64_t *opens)
{
    for (uint32_t i = 0; i < s->hop / s->decimate; i++) {
        const int64_t at = first + i;
        if (!(fabsf(y[i]) <= s->gate)) {
            c->shut += *opens == INT64_MIN || at >= *opens;
            *opens = at + s->taper;
        }
        if (*opens == INT64_MIN)
            continue;
        if (at >= *opens + s->taper) {
            *opens = INT64_MIN;
            continue;
        }
        const double rise = at < *opens ? 0 : sin(M_PI / 2 * (double)(at - *opens) / s->taper);
        y[i] *= (float)(rise * rise);
        c->muted = true;
    }
}

void gw_bulk_settle(const gw_bulk_shape *s, gw_bulk_channel *c, int64_t sample0, float *y, int64_t *opens)
{
    const bool good = c->health == GW_BULK_GOOD;
    c->shut = 0;
    c->muted = false;
    if (s->taper && s->gate > 0 && good && c->response && (c->peak > s->gate || *opens != INT64_MIN))
        gate(s, c, sample0 / s->decimate, y, opens);
    if (s->taper ? !c->whole || !c->response : !good && c->response)
        memset(y, 0, s->hop / s->decimate * sizeof *y);
}

void gw_bulk_absent(const gw_bulk_shape *s, float *y)
{
    if (s->taper)
        memset(y, 0, s->hop / s->decimate * sizeof *y);
}

uint32_t gw_bulk_segments(const gw_bulk_shape *s, uint32_t averaged)
{
    const uint64_t segments = (uint64_t)averaged * (s->median_of ? s->median_of : 1);
    return segments < UINT32_MAX ? (uint32_t)segments : UINT32_MAX;
}

uint32_t gw_bulk_averages(const gw_bulk_shape *s, uint32_t segments)
{
    const uint32_t each = s->median_of ? s->median_of : 1;
    return segments < each ? segments > 0 : segments / each;
}
