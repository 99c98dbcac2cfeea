/* SPDX-License-Identifier: GPL-3.0-or-later
 * Medians of spectra; see the header. Works on 16 bins at a time: a cache line of each spectrum. */
#include "sinks/report_median.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LINE = 16 };

static const double scale = 1e22; /* strain^2 / Hz of 1e-50 to 1e-20 and white noise of variance 1 both fit */

int gw_median_new(gw_median *m, uint32_t bins, uint32_t room)
{
    *m = (gw_median){.bins = bins, .room = room};
    m->row = malloc((size_t)bins * room * sizeof *m->row);
    return m->row ? GW_OK : gw_fail(GW_ENOMEM, "%u spectra of %u bins", room, bins);
}

void gw_median_free(gw_median *m)
{
    free(m->row);
    free(m->group);
    *m = (gw_median){0};
}

void gw_median_forget(gw_median *m)
{
    m->held = m->next = 0;
}

void gw_median_slide(gw_median *m, const double *power)
{
    float *row = m->row + (size_t)m->next * m->bins;
    for (uint32_t b = 0; b < m->bins; b++)
        row[b] = (float)(power[b] * scale);
    m->next = (m->next + 1) % m->room;
    m->held += m->held < m->room;
    m->total++;
}

/* The k-th smallest of x[n] comes to place k, none before it larger, none behind it smaller. */
static void select_kth(float *x, uint32_t n, uint32_t k)
{
    uint32_t lo = 0, hi = n - 1;
    while (lo < hi) {
        const float pivot = x[lo + (hi - lo) / 2];
        uint32_t i = lo, j = hi;
        for (;;) {
            while (x[i] < pivot)
                i++;
            while (pivot < x[j])
                j--;
            if (i >= j)
                break;
            const float t = x[i];
            x[i++] = x[j];
            x[j--] = t;
        }
        /* x[lo..j] <= pivot <= x[j+1..hi] */
        if (k <= j)
            hi = j;
        else
            lo = j + 1;
    }
}

static double median(float *x, uint32_t n)
{
    select_kth(x, n, n / 2);
    double upper = (double)x[n / 2], lower = upper;
    if (n % 2 == 0) {
        lower = (double)x[0];
        for (uint32_t i = 1; i < n / 2; i++)
            lower = fmax(lower, (double)x[i]);
    }
    return 0.5 * (lower + upper);
}

/* Allen et al., Phys. Rev. D 85, 122006, appendix B. */
static double bias_of(uint32_t n)
{
    double bias = 1;
    for (uint32_t k = 1; k <= (n - 1) / 2; k++)
        bias += 1.0 / (2 * k + 1) - 1.0 / (2 * k);
    return bias;
}

static void over_rows(const float *row, uint32_t bins, uint32_t rows, float *column, double factor,
                      double *psd)
{
    for (uint32_t b = 0; b < bins; b += LINE) {
        const uint32_t n = bins - b < LINE ? bins - b : LINE;
        for (uint32_t r = 0; r < rows; r++)
            for (uint32_t i = 0; i < n; i++)
                column[(size_t)i * rows + r] = row[(size_t)r * bins + b + i];
        for (uint32_t i = 0; i < n; i++)
            psd[b + i] = median(column + (size_t)i * rows, rows) * factor;
    }
}

int gw_median_pile(gw_median *m, const double *power)
{
    if (m->held == m->room) {
        float *more = realloc(m->group, (size_t)(m->groups + 1) * m->bins * sizeof *more);
        float *column = malloc((size_t)LINE * m->held * sizeof *column);
        double *psd = malloc(m->bins * sizeof *psd);
        m->group = more ? more : m->group;
        if (more && column && psd) {
            over_rows(m->row, m->bins, m->held, column, 1 / bias_of(m->held), psd);
            for (uint32_t b = 0; b < m->bins; b++)
                m->group[(size_t)m->groups * m->bins + b] = (float)psd[b];
            m->groups++;
            gw_median_forget(m);
        }
        const bool made = m->held == 0;
        free(column);
        free(psd);
        if (!made)
            return gw_fail(GW_ENOMEM, "medians of %u bins", m->bins);
    }
    gw_median_slide(m, power);
    return GW_OK;
}

int gw_median_estimate(const gw_median *m, double *psd)
{
    const uint32_t most = m->held > m->groups + 1 ? m->held : m->groups + 1;
    float *column = malloc((size_t)LINE * most * sizeof *column);
    if (!column)
        return gw_fail(GW_ENOMEM, "medians of %u bins", m->bins);
    over_rows(m->row, m->bins, m->held, column, 1 / bias_of(m->held) / scale, psd);
    if (m->groups) {
        for (uint32_t b = 0; b < m->bins; b++) {
            for (uint32_t g = 0; g < m->groups; g++)
                column[g] = m->group[(size_t)g * m->bins + b];
            column[m->groups] = (float)(psd[b] * scale);
            psd[b] = median(column, m->groups + 1) / scale;
        }
    }
    free(column);
    return GW_OK;
}
