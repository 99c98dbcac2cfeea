/* SPDX-License-Identifier: GPL-3.0-or-later
 * See bulk_layout.h. The price of a layout is arithmetic at the rate of our transforms and FFTW's on one
 * core, and bytes that do not stay in the cache between two hops. */
#include "kernels/cpu/bulk_layout.h"
#include "kernels/cpu/fft32.h"

#include <math.h>
#include <string.h>

/* Measured on an EPYC with AVX-512; only their ratios matter. FFTW is Debian's, by rule. */
static const double OUR_GFLOP_PER_S = 48, FFTW_GFLOP_PER_S = 20, MULTIPLY_NS_PER_BIN = 0.2,
                    MEMORY_GB_PER_S = 24;

static uint32_t round_up(uint32_t n, uint32_t to)
{
    return (n + to - 1) / to * to;
}

static double fft_us(uint32_t n)
{
    return 2.5 * n * log2(n) / (gw_fft32_ours(n) ? OUR_GFLOP_PER_S : FFTW_GFLOP_PER_S) * 1e-3;
}

/* The cheapest transform of at least n points, a multiple of `of`: a longer one of ours often is. */
static uint32_t cheapest(uint32_t n, uint32_t of)
{
    const uint32_t good = gw_fft32_good_length(n, of), ours = gw_fft32_our_length(n, of);
    return ours && fft_us(ours) < fft_us(good) ? ours : good;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* Places everything; levels have block, parts, first and n. */
static void finish(gw_bulk_layout *l, const gw_bulk_shape *s)
{
    const uint32_t half = s->segment / 2, d = s->decimate;
    size_t at = 0, response = 0;
    uint32_t past = l->level[0].n - s->hop;
    l->psd_level = -1;
    for (uint32_t i = 0; i < l->n_levels; i++) {
        gw_bulk_level *v = &l->level[i];
        v->bins = d == 1 || l->n_levels > 1 || v->parts > 1 ? v->n / 2 + 1 : v->n / (2 * d);
        v->row = round_up(2 * (v->bins + 1), 16);
        v->kept = i > 0 ? v->parts : v->parts - 1;
        v->spectra_at = at;
        at += (size_t)v->kept * v->row;
        v->tail_at = at;
        at += i > 0 ? round_up(v->block / d, 16) : 0;
        v->response_at = response;
        response += (size_t)v->parts * v->row;
        if (i > 0)
            past = larger(past, v->n);
        if (s->segment && v->n == s->segment && v->block == half && l->psd_level < 0)
            l->psd_level = (int)i;
    }
    if (s->segment && l->psd_level < 0) {
        const uint32_t reach = s->hop > half ? s->hop + half : s->segment; /* back from the end of the hop */
        l->psd_in_block = reach <= l->level[0].n;
        if (!l->psd_in_block)
            past = larger(past, reach);
    }
    l->past = past <= s->hop ? round_up(past, 16) : round_up(past, s->hop);
    if (l->past > s->hop)
        l->past = round_up(l->past, s->hop);
    l->past_at = at;
    at += round_up(l->past, 16);
    l->psd_at = at;
    const uint32_t bins = round_up(gw_bulk_psd_bins(s), 16);
    at += bins;
    l->rows_at = at;
    at += s->median_of ? (size_t)(s->median_of - 1) * bins : 0;
    l->state_floats = at;
    l->response_values = response;
}

static double price(const gw_bulk_layout *l, const gw_bulk_shape *s)
{
    const double response_bytes = s->half ? 2 : 4;
    double us = 0;
    for (uint32_t i = 0; i < l->n_levels; i++) {
        const gw_bulk_level *v = &l->level[i];
        const double values = (double)v->parts * v->row;
        const double bytes = values * response_bytes + 4.0 * v->kept * v->row + (i ? 8.0 * v->n : 0);
        us += (fft_us(v->n) + fft_us(v->n / s->decimate) + values / 2 * MULTIPLY_NS_PER_BIN * 1e-3 +
               bytes / MEMORY_GB_PER_S * 1e-3) *
              s->hop / v->block;
    }
    const double moved = 4.0 * (l->past <= s->hop ? 2 * l->past : s->hop + l->level[0].n);
    us += moved / MEMORY_GB_PER_S * 1e-3;
    if (s->segment && l->psd_level < 0)
        us += (fft_us(s->segment) + 4.0 * s->segment / MEMORY_GB_PER_S * 1e-3) * s->hop / (s->segment / 2);
    return us;
}

bool gw_bulk_layout_make(gw_bulk_layout *l, const gw_bulk_shape *s, const uint32_t *blocks, int n)
{
    *l = (gw_bulk_layout){.n_levels = 1};
    gw_bulk_level *v = l->level;
    if (n < 0) {
        *v = (gw_bulk_level){.block = s->hop, .parts = 1, .n = blocks[0]};
    } else {
        if (n >= GW_BULK_LEVELS)
            return false;
        l->n_levels = 1 + (uint32_t)n;
        uint32_t block = s->hop;
        for (int i = 0; i <= n; i++) {
            const uint32_t first = i ? block : 0, end = i < n ? blocks[i] : s->n_taps;
            if (end <= first || (i < n && (blocks[i] % block || blocks[i] >= s->n_taps)))
                return false;
            v[i] = (gw_bulk_level){.block = block,
                                   .parts = (end - first + block - 1) / block,
                                   .first = first,
                                   .n = s->segment == 2 * block ? s->segment
                                                                : cheapest(2 * block, 2 * s->decimate)};
            if (v[i].parts > GW_BULK_PARTS)
                return false;
            block = end;
        }
    }
    finish(l, s);
    l->cost_us = price(l, s);
    return true;
}

static void better(gw_bulk_layout *best, const gw_bulk_shape *s, const uint32_t *blocks, int n)
{
    gw_bulk_layout l;
    if (gw_bulk_layout_make(&l, s, blocks, n) && !(l.cost_us >= best->cost_us))
        *best = l;
}

void gw_bulk_layout_choose(gw_bulk_layout *best, const gw_bulk_shape *s)
{
    const uint32_t least = s->hop + s->n_taps - 1, n = cheapest(least, 2 * s->decimate);
    gw_bulk_layout_make(best, s, &n, -1);
    if (s->segment == 2 * s->hop && s->segment >= least)
        better(best, s, &s->segment, -1);
    better(best, s, NULL, 0);
    for (uint64_t b = 2 * (uint64_t)s->hop; b < s->n_taps; b *= 2) {
        const uint32_t block = (uint32_t)b;
        better(best, s, &block, 1);
    }
}
