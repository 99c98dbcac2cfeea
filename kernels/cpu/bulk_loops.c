/* SPDX-License-Identifier: GPL-3.0-or-later
 * See bulk_loops.h. Built with GW_LOOPS = any, avx2 or avx512 and the compiler's options for that. Vectors
 * are the compiler's own, of as many floats as the processor has side by side; the sums of a bin are in one
 * order everywhere, so only fused multiply-adds tell the builds apart. */
#include "kernels/cpu/bulk_loops.h"
#include "kernels/cpu/vector.h"

#include <math.h>
#include <string.h>
#ifdef __SSE2__
#include <immintrin.h>
#endif

/* Past the cache, to 4 * WIDTH-byte boundaries: the next to read it does so after much else. */
static inline void stream(float *x, vec v)
{
#if defined __AVX512F__
    _mm512_stream_ps(x, (__m512)v);
#elif defined __AVX2__
    _mm256_stream_ps(x, (__m256)v);
#elif defined __SSE2__
    _mm_stream_ps(x, (__m128)v);
#else
    store(x, v);
#endif
}

static inline vec least(vec a, vec b)
{
    return either(a < b, a, b);
}

static inline vec greatest(vec a, vec b)
{
    return either(a > b, a, b);
}

static inline vec absolute(vec a)
{
    return (vec)((bits)a & INT32_MAX);
}

/* What is seen of samples on their way in, lane by lane: extremes, whether all were numbers, how often a
 * lane's extreme came again (to the one before it as well: too often rather than too seldom), and in the sign
 * bit whether three of four neighbours were the same. Of the odd end, lane 0. */
typedef struct extent {
    vec low, high, nothing; /* nothing: 0 as long as all were finite */
    bits low_again, high_again;
    ubits alike;
} extent;

static inline void see(extent *e, vec v)
{
    const ubits at = (ubits)(v + 0.0f); /* -0 is 0 */
    const ubits t = (at ^ SHUFFLE(at, at, SWAP)) | (at ^ SHUFFLE(at, at, ACROSS));
    e->low_again -= v == e->low;
    e->high_again -= v == e->high;
    e->low = least(v, e->low);
    e->high = greatest(v, e->high);
    e->nothing += v * 0;
    e->alike |= (t - 1) & ~t; /* has the sign bit if t is 0 */
}

static void see_end(extent *e, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        e->low_again[0] += x[i] == e->low[0];
        e->high_again[0] += x[i] == e->high[0];
        e->low[0] = x[i] < e->low[0] ? x[i] : e->low[0];
        e->high[0] = x[i] > e->high[0] ? x[i] : e->high[0];
        e->nothing[0] += x[i] * 0;
        if (i % 4 == 3 && x[i] == x[i - 1] && x[i] == x[i - 2])
            e->alike[0] = UINT32_MAX;
    }
}

static gw_bulk_range range_of(const extent *e, float scale)
{
    enum { SUSPICIOUS = 5 };
    float low = e->low[0], high = e->high[0], nothing = 0;
    int32_t at_low = 0, at_high = 0;
    uint32_t alike = 0;
    for (int i = 0; i < WIDTH; i++) {
        low = e->low[i] < low ? e->low[i] : low;
        high = e->high[i] > high ? e->high[i] : high;
        nothing += e->nothing[i];
        alike |= e->alike[i];
    }
    for (int i = 0; i < WIDTH; i++) {
        at_low += e->low[i] == low ? 1 + e->low_again[i] : 0;
        at_high += e->high[i] == high ? 1 + e->high_again[i] : 0;
    }
    const bool finite = nothing == 0 && isfinite(low * scale) && isfinite(high * scale);
    return (gw_bulk_range){low, high, finite,
                           alike > INT32_MAX || at_low >= SUSPICIOUS || at_high >= SUSPICIOUS};
}

static gw_bulk_range take(float *to, const float *x, float scale, size_t n, const float *old, float *keep)
{
    extent e = {.low = all(INFINITY), .high = all(-INFINITY)};
    const vec by = all(scale);
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        const vec v = load(x + i), scaled = v * by;
        see(&e, v);
        if (old) {
            store(to + i - n, load(old + i));
            store(keep + i, scaled);
        }
        store(to + i, scaled);
    }
    see_end(&e, x + i, n - i);
    for (; i < n; i++) {
        const float scaled = x[i] * scale;
        if (old) {
            *(to + i - n) = old[i];
            keep[i] = scaled;
        }
        to[i] = scaled;
    }
    return range_of(&e, scale);
}

/* The largest of lanes and odd end; NaN if `nothing` is not 0. */
static float peak_of(vec peak, vec nothing)
{
    float p = 0, nan = 0;
    for (int i = 0; i < WIDTH; i++) {
        p = peak[i] > p ? peak[i] : p;
        nan += nothing[i];
    }
    return nan == 0 ? p : NAN;
}

static float give(float *y, const float *a, const float *b, size_t n, bool away)
{
    vec peak = all(0), nothing = all(0);
    const bool past_cache = away && (uintptr_t)y % sizeof(vec) == 0;
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        const vec v = b ? load(a + i) + load(b + i) : load(a + i);
        peak = greatest(absolute(v), peak);
        nothing += v * 0;
        if (past_cache)
            stream(y + i, v);
        else
            store(y + i, v);
    }
    for (; i < n; i++) {
        y[i] = b ? a[i] + b[i] : a[i];
        peak[0] = fabsf(y[i]) > peak[0] ? fabsf(y[i]) : peak[0];
        nothing[0] += y[i] * 0;
    }
    return peak_of(peak, nothing);
}

static float fade(float *y, const float *old, const float *rise, size_t n)
{
    vec peak = all(0), nothing = all(0);
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        const vec o = load(old + i), v = o + load(rise + i) * (load(y + i) - o);
        peak = greatest(absolute(v), peak);
        nothing += v * 0;
        store(y + i, v);
    }
    for (; i < n; i++) {
        y[i] = old[i] + rise[i] * (y[i] - old[i]);
        peak[0] = fabsf(y[i]) > peak[0] ? fabsf(y[i]) : peak[0];
        nothing[0] += y[i] * 0;
    }
    return peak_of(peak, nothing);
}

/* ---- half precision ---- */

/* To the nearest; beyond the largest half to that. */
static void to_half(uint16_t *to, const float *from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const float a = fminf(fabsf(from[i]), 65504);
        uint32_t b;
        if (a < 0x1p-14f) { /* a multiple of 2^-24 */
            b = (uint32_t)lrintf(a * 0x1p24f);
        } else {
            memcpy(&b, &a, sizeof b);
            b = (b - (112u << 23) + 0xfff + ((b >> 13) & 1)) >> 13;
        }
        to[i] = (uint16_t)(b | (signbit(from[i]) ? 0x8000u : 0));
    }
}

/* ---- spectra ---- */

/* re and im of a product lie in different lanes: with e = (re, re), o = (im, im) of x and s = (im, re) of w,
 * the sum of w e and the sum of s o are kept apart, and (-, +) joins them at the end. */
static inline void multiply_by(float *sum, const float *const *x, const void *const *w, uint32_t parts,
                               bool half, float factor, size_t floats)
{
    const vec sign = {SIGN};
    for (size_t i = 0; i < floats; i += WIDTH) {
        vec straight = all(0), across = all(0);
        for (uint32_t p = 0; p < parts; p++) {
            const vec a = load(x[p] + i);
            const vec b = half ? load_half((const uint16_t *)w[p] + i) : load((const float *)w[p] + i);
            straight += b * SHUFFLE(a, a, EVEN);
            across += SHUFFLE(b, b, SWAP) * SHUFFLE(a, a, ODD);
        }
        const vec v = straight + sign * across;
        store(sum + i, half ? v * factor : v);
    }
}

static void multiply(float *sum, const float *const *x, const void *const *w, uint32_t parts, bool half,
                     float factor, size_t floats)
{
    if (half)
        multiply_by(sum, x, w, parts, true, factor, floats);
    else if (parts == 1)
        multiply_by(sum, x, w, 1, false, 1, floats);
    else
        multiply_by(sum, x, w, parts, false, 1, floats);
}

/* Bin k becomes the sum of bins k + m n / d; one above n / 2 is the conjugate of its mirror image. Bins up to
 * n / (2 d) are read for themselves only. */
static void fold(float *x, size_t n, uint32_t d)
{
    const size_t part = n / d;
    const vec conjugate = {SIGN};
    size_t k = 0;
    for (; k + WIDTH / 2 <= part / 2; k += WIDTH / 2) {
        vec v = load(x + 2 * k);
        for (uint32_t m = 1; m < d / 2; m++)
            v += load(x + 2 * (k + m * part));
        for (uint32_t m = 1; m <= d / 2; m++) {
            const vec u = load(x + 2 * (m * part - k) - (WIDTH - 2));
            v -= conjugate * SHUFFLE(u, u, BACK); /* SIGN is (-, +) */
        }
        store(x + 2 * k, v);
    }
    for (; k <= part / 2; k++) {
        float re = x[2 * k], im = x[2 * k + 1];
        for (uint32_t m = 1; m < d / 2; m++) {
            re += x[2 * (k + m * part)];
            im += x[2 * (k + m * part) + 1];
        }
        for (uint32_t m = 1; m <= d / 2; m++) {
            re += x[2 * (m * part - k)];
            im -= x[2 * (m * part - k) + 1];
        }
        x[2 * k] = re;
        x[2 * k + 1] = im;
    }
}

/* |x[k] / 2 - (x[k - 1] + x[k + 1]) / 4|^2 of WIDTH bins and of one. */
static inline vec hann_power(const float *x)
{
    vec square[2];
    for (int h = 0; h < 2; h++) {
        const float *at = x + h * WIDTH;
        const vec v = 0.5f * load(at) - 0.25f * (load(at - 2) + load(at + 2));
        square[h] = v * v;
    }
    return SHUFFLE(square[0], square[1], EVENS) + SHUFFLE(square[0], square[1], ODDS);
}

static inline float hann_power_of_one(const float *x)
{
    const float re = 0.5f * x[0] - 0.25f * (x[-2] + x[2]), im = 0.5f * x[1] - 0.25f * (x[-1] + x[3]);
    return re * re + im * im;
}

static void power(float *to, const float *x, float factor, size_t n)
{
    size_t k = 0;
    for (; k + WIDTH <= n; k += WIDTH)
        store(to + k, factor * hann_power(x + 2 * k));
    for (; k < n; k++)
        to[k] = factor * hann_power_of_one(x + 2 * k);
}

static void power_average(float *to, const float *x, float factor, float weight, size_t n)
{
    size_t k = 0;
    for (; k + WIDTH <= n; k += WIDTH) {
        const vec v = load(to + k);
        store(to + k, v + weight * (factor * hann_power(x + 2 * k) - v));
    }
    for (; k < n; k++)
        to[k] += weight * (factor * hann_power_of_one(x + 2 * k) - to[k]);
}

static void average(float *to, const float *x, float weight, size_t n)
{
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        const vec v = load(to + i);
        store(to + i, v + weight * (load(x + i) - v));
    }
    for (; i < n; i++)
        to[i] += weight * (x[i] - to[i]);
}

/* Rows bubble up until the middle one is in place, a vector of bins at a time. */
static void median(float *to, const float *const *row, uint32_t rows, float factor, size_t n)
{
    enum { ROWS = 64 };
    for (size_t k = 0; k < n; k += WIDTH) {
        const size_t m = n - k < WIDTH ? n - k : WIDTH;
        vec v[ROWS] = {{0}};
        for (uint32_t r = 0; r < rows; r++)
            memcpy(&v[r], row[r] + k, m * sizeof **row);
        for (uint32_t end = rows - 1; end >= rows / 2 && end > 0; end--)
            for (uint32_t r = 0; r < end; r++) {
                const vec low = least(v[r], v[r + 1]);
                v[r + 1] = greatest(v[r], v[r + 1]);
                v[r] = low;
            }
        v[rows / 2] *= factor;
        memcpy(to + k, &v[rows / 2], m * sizeof *to);
    }
}

#define NAME(build)  NAME_(build)
#define NAME_(build) gw_bulk_loops_##build
#define TEXT(build)  TEXT_(build)
#define TEXT_(build) #build
const gw_bulk_loops NAME(GW_LOOPS) = {TEXT(GW_LOOPS), take,  give,          fade,    multiply, fold,
                                      to_half,        power, power_average, average, median};
