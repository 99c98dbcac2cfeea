/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "pipeline/stages/prolong.h"

#include <math.h>
#include <string.h>

enum { ORDER = GW_PROLONG_ORDER };

size_t gw_prolong_scratch(uint32_t n_past)
{
    return 2 * (size_t)n_past;
}

/* a[1 .. ORDER]: x[i] is about -sum of a[k] x[i - k]. f and b: forward and backward errors. */
static void burg(const double *x, uint32_t n, double *f, double *b, double a[ORDER + 1])
{
    memcpy(f, x, n * sizeof *f);
    memcpy(b, x, n * sizeof *b);
    a[0] = 1;
    for (uint32_t m = 1; m <= ORDER; m++) {
        double cross = 0, power = 0;
        for (uint32_t i = m; i < n; i++) {
            cross += f[i] * b[i - 1];
            power += f[i] * f[i] + b[i - 1] * b[i - 1];
        }
        const double k = power > 0 ? -2 * cross / power : 0;
        a[m] = 0;
        for (uint32_t i = 0, j = m; i <= j; i++, j--) {
            const double lo = a[i] + k * a[j], hi = a[j] + k * a[i];
            a[i] = lo;
            a[j] = hi;
        }
        for (uint32_t i = n - 1; i >= m; i--) {
            const double forward = f[i] + k * b[i - 1];
            b[i] = b[i - 1] + k * f[i];
            f[i] = forward;
        }
    }
}

void gw_prolong(const double *past, uint32_t n_past, double *future, uint32_t n_future, double *scratch)
{
    double a[ORDER + 1], power = 0;
    for (uint32_t i = 0; i < n_past; i++)
        power += past[i] * past[i];
    memset(future, 0, n_future * sizeof *future);
    if (!isfinite(power) || power < 1e-300 || n_past < 2 * ORDER)
        return;
    burg(past, n_past, scratch, scratch + n_past, a);
    for (uint32_t i = 0; i < n_future; i++) {
        double sum = 0;
        for (uint32_t k = 1; k <= ORDER; k++)
            sum -= a[k] * (k <= i ? future[i - k] : past[n_past + i - k]);
        future[i] = sum;
    }
}
