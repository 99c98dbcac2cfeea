/* SPDX-License-Identifier: GPL-3.0-or-later
 * Bulk whitening's layout on the GPU (bulk_plan.cuh): arithmetic on the host, no kernels. */
#include "kernels/cuda/bulk_plan.cuh"

#include "kernels/cuda/bulk_fft.cuh"

#include <cmath>
#include <cstdio>

enum { LEAST = 128, LARGEST = 16384 }; /* complex points in shared memory */

static unsigned power_of_two(uint64_t at_least)
{
    unsigned n = 64;
    while (n < at_least && n < 1u << 30)
        n *= 2;
    return n;
}

static bool is_power_of_two(unsigned n)
{
    return (n & (n - 1)) == 0;
}

/* Where everything lies, by the levels chosen. */
static void place(gw_bulk *b, bool one)
{
    const gw_bulk_shape *s = &b->shape;
    gw_gpu_shape *p = &b->p;
    const uint32_t half = s->segment / 2;
    uint32_t past = one ? s->n_taps - 1 : s->hop;
    if (p->n_levels > 1)
        past = p->level[1].n;
    b->rides = -1;
    for (unsigned i = 0; i < p->n_levels && b->fused; i++)
        if (b->rides < 0 && s->segment == p->level[i].n && half % s->hop == 0 &&
            (i == 0 || half == p->level[1].block))
            b->rides = int(i);
    const uint32_t reach = b->rides == 0     ? s->segment - s->hop
                           : s->segment == 0 ? 0
                           : s->hop > half   ? s->hop + half
                                             : s->segment;
    past = past > reach ? past : reach;
    p->n_past = past < 4 ? 4 : (past + 3) / 4 * 4;
    size_t at = p->n_past, slots = 0;
    for (unsigned i = 0; i < p->n_levels; i++) {
        gw_gpu_level *l = &p->level[i];
        l->kept = i ? l->parts : l->parts - 1;
        l->spectra_at = unsigned(at);
        at += size_t(l->kept) * l->n;
        l->slots_at = unsigned(slots);
        slots += size_t(l->parts) * (i ? l->n / 2 : p->m_out) / 2;
    }
    p->tail_at = unsigned(at);
    at += p->n_levels > 1 ? 2 * p->level[1].block / s->decimate : 0;
    p->psd_at = unsigned(at);
    at += size_t(1 + s->median_of) * p->n_bins;
    b->info.state_bytes = (sizeof(gw_gpu_state) + at * sizeof(float) + 63) / 64 * 64;
    const size_t bytes = b->fused ? slots * (s->half ? sizeof(uint2) : sizeof(float4))
                                  : p->n_freq * (s->half ? sizeof(__half2) : sizeof(float2));
    b->info.response_bytes = (sizeof(gw_gpu_response) + bytes + 63) / 64 * 64;
}

/* What a channel's hop costs on average with these levels, but for its PSD. */
struct cost {
    double bytes, flop; /* of device memory; of arithmetic */
};

static cost cost_of(const gw_bulk_shape *s, const gw_gpu_shape *p, bool one)
{
    const double slot = s->half ? 8 : 16;
    cost c = {4.0 * s->hop * (1 + 1.0 / s->decimate), 0};
    for (unsigned i = 0; i < p->n_levels; i++) {
        const gw_gpu_level *l = &p->level[i];
        const double share = i ? double(s->hop) / l->block : 1, m = l->n / 2, out = one ? p->m_out : m;
        const double kept = i ? l->parts + 1 : l->parts > 1 ? l->parts : 0; /* read; the newest written */
        const double past = i     ? l->n
                            : one ? fmax(s->n_taps - 1, p->n_past)
                                  : s->hop; /* read; the hop written */
        c.bytes += share * (l->parts * out / 2 * slot + kept * 8 * m + 4 * past +
                            (i ? 8.0 * l->block / s->decimate : 4.0 * fmin(s->hop, past)));
        c.flop += share * (5 * m * log2(m) + 5 * out * log2(out) + 40 * m + 8 * l->parts * out);
    }
    return c;
}

/* In nanoseconds. Only ratios count; the rates are what an H200 is expected to do. */
static double price(const gw_bulk_shape *s, const gw_gpu_shape *p, bool one)
{
    const double BYTES_PER_NS = 4300, FLOP_PER_NS = 15000;
    const cost c = cost_of(s, p, one);
    return c.bytes / BYTES_PER_NS + c.flop / FLOP_PER_NS;
}

/* Level 0 with partitions of the hop up to tap `second`, where level 1 begins with as long ones; 0: there is
 * none. False: that cannot be. */
static bool partition(gw_gpu_shape *p, const gw_bulk_shape *s, uint64_t second)
{
    const uint64_t hops = power_of_two(2 * uint64_t(s->hop)), n = hops < 2 * LEAST ? 2 * LEAST : hops;
    const uint64_t n1 = power_of_two(2 * second);
    const uint32_t end = second ? uint32_t(second) : s->n_taps;
    *p = {};
    p->n_levels = second ? 2 : 1;
    p->level[0] = {s->hop, unsigned(n), (end + s->hop - 1) / s->hop, 0, 0, 0, 0};
    if (second)
        p->level[1] = {end, unsigned(n1), (s->n_taps - 1) / end, end, 0, 0, 0};
    p->m_out = unsigned(n / 2);
    p->skip = s->decimate;
    return n <= 2 * LARGEST && n1 <= 2 * LARGEST;
}

/* The cheapest levels. False: none fits into shared memory. */
static bool choose(gw_gpu_shape *best, const gw_bulk_shape *s, bool *one)
{
    double least = INFINITY;
    gw_gpu_shape p = {};
    unsigned n = power_of_two(uint64_t(s->hop) + s->n_taps - 1);
    n = n < 2 * LEAST * s->decimate ? 2 * LEAST * s->decimate : n;
    if (s->segment == 2 * s->hop && is_power_of_two(s->segment) && s->segment > n)
        n = s->segment;
    if (s->hop % (4 * s->decimate))
        return false;
    if (n <= 2 * LARGEST) {
        p.n_levels = 1;
        p.level[0] = {s->n_taps, n, 1, 0, 0, 0, 0};
        p.m_out = n / 2 / s->decimate;
        p.skip = 1;
        *best = p;
        *one = true;
        least = price(s, &p, true);
    }
    for (uint64_t second = 0; second < s->n_taps; second = second ? 2 * second : 2 * uint64_t(s->hop)) {
        if (s->hop < s->n_taps && partition(&p, s, second) && price(s, &p, false) < least) {
            *best = p;
            *one = false;
            least = price(s, &p, false);
        }
    }
    return least < INFINITY;
}

static void describe(gw_bulk *b, bool one)
{
    const gw_gpu_shape *p = &b->p;
    const gw_gpu_level *l = p->level;
    b->info.n_partitions = l[0].parts + l[1].parts;
    if (p->n_levels > 1)
        snprintf(b->info.layout, sizeof b->info.layout,
                 "%u x %u + %u x %u taps, transforms of %u, %u, fused on the GPU", l[0].parts, l[0].block,
                 l[1].parts, l[1].block, l[0].n, l[1].n);
    else
        snprintf(b->info.layout, sizeof b->info.layout, "%u x %u taps, transforms of %u, %s on the GPU",
                 l[0].parts, one ? p->n_taps : l[0].block, l[0].n, b->fused ? "fused" : "cuFFT");
}

int gw_bulk_plan(gw_bulk *b, const gw_bulk_shape *s, bool fused)
{
    const uint32_t half = s->segment / 2;
    gw_gpu_shape *p = &b->p;
    bool one = true;
    b->shape = *s;
    b->fused = fused && choose(p, s, &one);
    b->segmented = fused && (s->segment == 0 ||
                             (is_power_of_two(s->segment) && s->segment >= 64 && s->segment <= 2 * LARGEST));
    p->hop = s->hop;
    p->decimate = s->decimate;
    p->n_out = s->hop / s->decimate;
    p->n_taps = s->n_taps;
    p->segment = s->segment;
    p->pool = s->pool;
    p->median_of = s->median_of;
    p->memory = s->memory;
    p->psd_bins = gw_bulk_psd_bins(s);
    p->n_bins = (p->psd_bins + 3) / 4 * 4;
    p->gate = s->gate;
    p->density = s->segment ? float(2 / (0.375 * s->segment * s->rate_hz)) : 0;
    p->bias = float(gw_bulk_median_bias(s));
    p->half = s->half;
    p->dead_run = s->dead_run;
    p->taper = s->taper;
    if (!b->fused) {
        p->n_levels = 1;
        p->level[0] = {s->n_taps, gw_fft_even_size(s->hop + s->n_taps - 1, s->decimate), 1, 0, 0, 0, 0};
        p->m_out = p->level[0].n / 2 / s->decimate;
        p->skip = 1;
    }
    p->n_freq = p->level[0].n / 2 / s->decimate + 1;
    place(b, one);
    if ((!b->fused || (!b->segmented && b->rides < 0)) && !gw_cufft())
        return gw_fail(GW_ENOTSUP,
                       "bulk whitening on the GPU: hops of %u samples with %u taps and segments of %u need "
                       "cuFFT, and libcufft is not there",
                       s->hop, s->n_taps, s->segment);

    b->most = 32;
    for (unsigned i = 0; i < p->n_levels && b->fused; i++)
        b->most = p->level[i].n / 2 > b->most ? p->level[i].n / 2 : b->most;
    if (b->segmented && b->rides < 0 && half > b->most)
        b->most = half;
    b->info.psd_bins = p->psd_bins;
    if (b->fused) { /* a segment's powers go into the PSD, by way of their median's rows */
        const double each = s->segment ? 2.0 * s->hop / s->segment : 0, rows = s->median_of ? 8 : 0;
        const double apart = b->rides < 0 ? 4.0 * s->segment : 0;
        const double enters = s->median_of ? 8.0 / s->median_of : 8;
        b->info.hop_bytes = cost_of(s, p, one).bytes + each * (apart + (rows + enters) * p->psd_bins);
    }
    describe(b, one);
    return GW_OK;
}
