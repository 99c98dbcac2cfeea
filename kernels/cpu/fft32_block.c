/* SPDX-License-Identifier: GPL-3.0-or-later
 * A real transform of 2 m points is a complex one of m = rows * columns, and a step that tells the even and
 * odd samples' parts from each other. The complex one goes over memory twice (Bailey, J. Supercomputing 4,
 * 23, 1990): a transform down the columns, WIDTH columns side by side in the first-level cache; turned by
 * w^(row column) and transposed in registers on its way out; then the same again down the columns that are
 * there now, in place. In between, complex numbers lie in groups of WIDTH real, WIDTH imaginary parts: no
 * shuffles in the butterflies.
 *
 * The inverse is the same with real and imaginary parts exchanged on their way in and out. */
#include "kernels/cpu/fft32_block.h"
#include "kernels/cpu/fft32_vector.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

enum { MAX_COLUMN = GW_FFT32_BLOCK_COLUMN, LINE = 64 };

/* A transform of n points by factors of 4 and 5, the last one 4, 5 or 8. */
typedef struct column {
    uint32_t n;
    uint32_t factors;
    uint8_t factor[8];
    cfloat *root;    /* [n] exp(-2 pi i k / n) */
    uint16_t *order; /* [n] which frequency lies at a place */
    uint16_t *place; /* [n] where a frequency lies */
} column;

struct gw_fft32_block {
    uint32_t m;
    column down, again; /* n1 and n2 points: m = n1 n2 */
    cvec *turn_lane;    /* [n1] w_m^(lane k) */
    cfloat *turn_group; /* [groups of n2][n1] w_m^(first column k) */
    cvec split_lane;    /* w_2m^lane */
    cfloat *split;      /* [m / WIDTH / 2] w_2m^(first lane) */
};

/* ---- tables ---- */

static cfloat root_of(uint64_t k, uint64_t n)
{
    const double angle = -2 * M_PI * (double)(k % n) / (double)n;
    return (cfloat){(float)cos(angle), (float)sin(angle)};
}

/* Arrays one after the other in one piece of memory; at NULL they are only counted. */
static void *carve(char *memory, size_t *at, size_t bytes)
{
    char *p = memory ? memory + *at : NULL;
    *at += (bytes + LINE - 1) / LINE * LINE;
    return p;
}

static void carve_column(column *c, char *memory, size_t *at)
{
    c->root = carve(memory, at, c->n * sizeof *c->root);
    c->order = carve(memory, at, c->n * sizeof *c->order);
    c->place = carve(memory, at, c->n * sizeof *c->place);
}

static size_t arrange(gw_fft32_block *t, char *memory)
{
    size_t at = (sizeof *t + LINE - 1) / LINE * LINE;
    carve_column(&t->down, memory, &at);
    carve_column(&t->again, memory, &at);
    t->turn_lane = carve(memory, &at, t->down.n * sizeof *t->turn_lane);
    t->turn_group =
        carve(memory, &at, (size_t)t->down.n * ((t->again.n + WIDTH - 1) / WIDTH) * sizeof *t->turn_group);
    t->split = carve(memory, &at, t->m / WIDTH / 2 * sizeof *t->split);
    return at;
}

/* 4, 4, .. 5, 5, .., and of the twos 4 or 8 at the end, so that what is left is one of the three. */
static void factorise(column *c)
{
    uint32_t left = c->n, fives = 0;
    for (; left % 5 == 0; left /= 5)
        fives++;
    const uint8_t last = left == 1 ? 5 : __builtin_ctz(left) % 2 ? 8 : 4;
    if (last == 5)
        fives--;
    else
        left /= last;
    for (; left > 1; left /= 4)
        c->factor[c->factors++] = 4;
    for (; fives > 0; fives--)
        c->factor[c->factors++] = 5;
    c->factor[c->factors++] = last;
}

static void fill_column(column *c)
{
    for (uint32_t k = 0; k < c->n; k++)
        c->root[k] = root_of(k, c->n);
    for (uint32_t place = 0; place < c->n; place++) {
        uint32_t k = 0, weight = 1, left = c->n, rest = place;
        for (uint32_t i = 0; i < c->factors; i++) {
            left /= c->factor[i];
            k += rest / left * weight;
            rest %= left;
            weight *= c->factor[i];
        }
        c->order[place] = (uint16_t)k;
        c->place[k] = (uint16_t)place;
    }
}

/* Where group g of WIDTH of n columns begins: the last one may overlap with the one before. */
static inline uint32_t group_at(uint32_t g, uint32_t n)
{
    return (g + 1) * WIDTH <= n ? g * WIDTH : n - WIDTH;
}

static inline uint32_t groups_of(uint32_t n)
{
    return (n + WIDTH - 1) / WIDTH;
}

static gw_fft32_block *tables_new(uint32_t n, uint32_t rows)
{
    gw_fft32_block size = {.m = n / 2, .down = {.n = rows}, .again = {.n = n / 2 / rows}};
    factorise(&size.down);
    factorise(&size.again);
    char *memory = aligned_alloc(LINE, arrange(&size, NULL));
    if (!memory)
        return NULL;
    gw_fft32_block *t = (gw_fft32_block *)(void *)memory;
    *t = size;
    arrange(t, memory);
    fill_column(&t->down);
    fill_column(&t->again);
    for (uint32_t k = 0; k < t->down.n; k++) {
        for (int lane = 0; lane < WIDTH; lane++) {
            const cfloat w = root_of((uint64_t)lane * k, t->m);
            t->turn_lane[k].re[lane] = w.re;
            t->turn_lane[k].im[lane] = w.im;
        }
        for (uint32_t g = 0; g < groups_of(t->again.n); g++)
            t->turn_group[g * t->down.n + k] = root_of((uint64_t)group_at(g, t->again.n) * k, t->m);
    }
    for (int lane = 0; lane < WIDTH; lane++) {
        const cfloat w = root_of((uint64_t)lane, n);
        t->split_lane.re[lane] = w.re;
        t->split_lane.im[lane] = w.im;
    }
    for (uint32_t b = 0; b < t->m / WIDTH / 2; b++)
        t->split[b] = root_of((uint64_t)b * WIDTH, n);
    return t;
}

/* ---- what comes next ---- */

/* The next few lines of what is wanted soon. */
static inline void fetch(gw_fft32_ahead *a)
{
    for (uint32_t i = 0; i < a->lines; i++) {
        if (a->bytes[0] == 0) {
            for (int k = 0; k < 2; k++) {
                a->at[k] = a->at[k + 1];
                a->bytes[k] = a->bytes[k + 1];
            }
            a->bytes[2] = 0;
            if (a->bytes[0] == 0 && a->bytes[1] == 0) {
                a->lines = 0;
                return;
            }
            continue;
        }
        __builtin_prefetch(a->at[0], 0, 2);
        a->at[0] += LINE;
        a->bytes[0] -= a->bytes[0] < LINE ? a->bytes[0] : LINE;
    }
}

/* ---- a transform down WIDTH columns ---- */

static inline void butterfly(cvec *v, uint32_t factor)
{
    if (factor == 4)
        butterfly4(v);
    else if (factor == 5)
        butterfly5(v);
    else
        butterfly8(v);
}

/* The first factor, from memory into v[n]; rows are `stride` floats apart. */
static inline void first(cvec *v, const column *c, uint32_t factor, const float *x, size_t stride, form how,
                         bool exchanged, gw_fft32_ahead *ahead)
{
    const uint32_t part = c->n / factor;
    for (uint32_t j = 0; j < part; j++) {
        cvec u[8];
        fetch(ahead);
        for (uint32_t q = 0; q < factor; q++)
            u[q] = get(x + (j + q * part) * stride, how, exchanged);
        butterfly(u, factor);
        v[j] = u[0];
        for (uint32_t q = 1; q < factor; q++)
            v[j + q * part] = times_root(u[q], c->root[q * j]);
    }
}

/* One between the first and the last, of transforms of `size` points. */
static inline void middle(cvec *v, const column *c, uint32_t factor, uint32_t size)
{
    const uint32_t part = size / factor, step = c->n / size;
    for (uint32_t j = 0; j < part; j++) {
        cfloat w[5];
        for (uint32_t q = 1; q < factor; q++)
            w[q] = c->root[q * j * step];
        for (cvec *p = v + j; p < v + c->n; p += size) {
            cvec u[8];
            for (uint32_t q = 0; q < factor; q++)
                u[q] = p[q * part];
            butterfly(u, factor);
            p[0] = u[0];
            for (uint32_t q = 1; q < factor; q++)
                p[q * part] = times_root(u[q], w[q]);
        }
    }
}

/* All but the last factor. */
static inline void begin_columns(cvec *v, const column *c, const float *x, size_t stride, form how,
                                 bool exchanged, gw_fft32_ahead *ahead)
{
    if (c->factor[0] == 4)
        first(v, c, 4, x, stride, how, exchanged, ahead);
    else
        first(v, c, 5, x, stride, how, exchanged, ahead);
    uint32_t size = c->n / c->factor[0];
    for (uint32_t i = 1; i + 1 < c->factors; i++) {
        if (c->factor[i] == 4)
            middle(v, c, 4, size);
        else
            middle(v, c, 5, size);
        size /= c->factor[i];
    }
}

/* Columns from x in the form `how`, n1 rows of n2; turned and transposed to y, n2 rows of n1, in groups. */
static inline void pass_down(const gw_fft32_block *t, const float *x, float *y, form how, bool exchanged,
                             gw_fft32_ahead *ahead)
{
    const uint32_t n1 = t->down.n, n2 = t->again.n;
    cvec v[MAX_COLUMN];
    const uint32_t last = t->down.factor[t->down.factors - 1];
    for (uint32_t g = 0; g < groups_of(n2); g++) {
        const uint32_t at = group_at(g, n2);
        begin_columns(v, &t->down, x + 2 * (size_t)at, 2 * (size_t)n2, how, exchanged, ahead);
        for (uint32_t p = 0; p < n1; p += last)
            butterfly(v + p, last);
        const cfloat *turn = t->turn_group + (size_t)g * n1;
        for (uint32_t k = 0; k < n1; k += WIDTH) {
            vec re[WIDTH], im[WIDTH];
            for (uint32_t i = 0; i < WIDTH; i++) {
                const cvec w = times_root(t->turn_lane[k + i], turn[k + i]);
                const cvec u = times(v[t->down.place[k + i]], w);
                re[i] = u.re;
                im[i] = u.im;
            }
            cross(re);
            cross(im);
            for (uint32_t i = 0; i < WIDTH; i++)
                put(y + 2 * ((size_t)(at + i) * n1 + k), (cvec){re[i], im[i]}, GROUPS, false);
        }
    }
}

/* Which rows of the second pass are wanted: all; the first and last one of so many parts; the second half. */
typedef enum wanted { ALL = 1, ENDS_OF_4 = 4, ENDS_OF_8 = 8, SECOND_HALF = 2 } wanted;

/* Row `i` of `last` equal parts, constants. */
static inline bool is_wanted(wanted rows, uint32_t i, uint32_t last)
{
    const uint32_t part = (last + (uint32_t)rows - 1) / (uint32_t)rows;
    return rows == ALL || (rows == SECOND_HALF ? i >= last / 2 : i < part || i >= last - part);
}

/* The last factor, and out: the butterfly at a place makes one row of each part, and what nobody wants of it
 * is not made. */
static inline void last(const cvec *v, const column *c, uint32_t factor, float *at, size_t stride, form how,
                        bool exchanged, wanted rows)
{
    for (uint32_t p = 0; p < c->n; p += factor) {
        cvec u[8];
        for (uint32_t i = 0; i < factor; i++)
            u[i] = v[p + i];
        butterfly(u, factor);
        for (uint32_t i = 0; i < factor; i++)
            if (is_wanted(rows, i, factor))
                put(at + c->order[p + i] * stride, u[i], how, exchanged);
    }
}

/* Columns of y, n2 rows of n1 in groups, in place; into the form `how`. */
static inline void pass_again(const gw_fft32_block *t, float *y, form how, bool exchanged, wanted rows,
                              gw_fft32_ahead *ahead)
{
    const uint32_t n1 = t->down.n, factor = t->again.factor[t->again.factors - 1];
    const size_t stride = 2 * (size_t)n1;
    cvec v[MAX_COLUMN];
    for (uint32_t g = 0; g < n1 / WIDTH; g++) {
        float *at = y + (size_t)2 * WIDTH * g;
        begin_columns(v, &t->again, at, stride, GROUPS, false, ahead);
        if (factor == 8)
            last(v, &t->again, 8, at, stride, how, exchanged, rows);
        else if (factor == 4)
            last(v, &t->again, 4, at, stride, how, exchanged, rows);
        else
            last(v, &t->again, 5, at, stride, how, exchanged, rows);
    }
}

/* ---- even and odd samples ---- */

/* In place, over all k with their mirror images m - k: with S = a[k] + conj(a[m - k]) and D = their
 * difference, a[k] = half S + D c w^k, a[m - k] = conj(half S - D c w^k), c = -i / 2 forward, and i with
 * conj(w) back. Forward a[m] is a[0], and in the end stands behind the others; back it stands there from the
 * first. */
static inline void split(const gw_fft32_block *t, float *x, bool inverse, form in, form out)
{
    const uint32_t groups = t->m / WIDTH;
    const float half = inverse ? 1 : 0.5f;
    float *const end = x + 2 * (size_t)t->m;
    cvec above, made = {all(0), all(0)}; /* the group above the mirror image, and what becomes of it */
    above.re = all(inverse ? end[0] : x[0]);
    above.im = all(inverse ? 0 : x[WIDTH]);
    if (inverse)
        x[1] = 0;
    for (uint32_t b = 0; b < groups / 2; b++) {
        float *low = x + 2 * (size_t)WIDTH * b, *high = x + 2 * (size_t)WIDTH * (groups - 1 - b);
        const cvec a = get(low, in, false), h = get(high, in, false);
        const cvec mirror = {SHUFFLE(above.re, h.re, MIRROR), -SHUFFLE(above.im, h.im, MIRROR)};
        const cvec s = add(a, mirror), d = sub(a, mirror);
        const cvec w = times_root(t->split_lane, t->split[b]);
        const cvec turned = inverse ? times(d, (cvec){w.re, -w.im}) : times(d, w);
        cvec one, other;
        const cvec hs = {half * s.re, half * s.im};
        if (inverse) {
            one = add_i(hs, turned);
            other = sub_i(hs, turned);
        } else {
            const cvec ht = {half * turned.re, half * turned.im};
            one = sub_i(hs, ht);
            other = add_i(hs, ht);
        }
        other.im = -other.im;
        put(low, one, out, false);
        if (b > 0)
            put(high + 2 * WIDTH,
                (cvec){SHUFFLE(other.re, made.re, MIRROR), SHUFFLE(other.im, made.im, MIRROR)}, out, false);
        else if (!inverse) {
            end[0] = other.re[0];
            end[1] = 0;
        }
        above = h;
        made = other;
    }
    /* The middle is its own image. */
    const float twice = inverse ? 2 : 1;
    const cvec middle = {all(twice * above.re[0]), all(-twice * above.im[0])};
    put(x + 2 * (size_t)WIDTH * (groups / 2),
        (cvec){SHUFFLE(middle.re, made.re, MIRROR), SHUFFLE(middle.im, made.im, MIRROR)}, out, false);
}

/* Rows of the columns' first pass begin with a group. */
static bool in_groups(const gw_fft32_block *t)
{
    return t->again.n % WIDTH == 0;
}

/* WIDTH values of a response, from bin k on. */
static inline cvec response_at(const void *h, size_t k, bool half, float factor)
{
    if (!half)
        return get((const float *)h + 2 * k, PAIRS, false);
    const vec a = load_half((const uint16_t *)h + 2 * k), b = load_half((const uint16_t *)h + 2 * k + WIDTH);
    return (cvec){factor * SHUFFLE(a, b, EVENS), factor * SHUFFLE(a, b, ODDS)};
}

static inline float response_real(const void *h, size_t at, bool half, float factor)
{
    if (!half)
        return ((const float *)h)[at];
    uint16_t here[WIDTH] = {((const uint16_t *)h)[at]};
    return factor * load_half(here)[0];
}

/* Both splits, and the product between them, in one go over x: what `split` would make of it forward is
 * multiplied by h, and prepared for the way back. keep: NULL, or where the spectrum is wanted too. */
static inline void multiply_split(const gw_fft32_block *t, float *x, const void *h, bool half, float factor,
                                  float *keep)
{
    const uint32_t groups = t->m / WIDTH;
    cvec above = {all(x[0]), all(x[WIDTH])},
         above_h = {all(response_real(h, 2 * t->m, half, factor)), all(0)};
    cvec made = {all(0), all(0)}, seen = made;
    for (uint32_t b = 0; b < groups / 2; b++) {
        const size_t at = (size_t)WIDTH * b, opposite = (size_t)WIDTH * (groups - 1 - b);
        float *low = x + 2 * at, *high = x + 2 * opposite;
        const cvec a = get(low, GROUPS, false), z = get(high, GROUPS, false);
        const cvec mirror = {SHUFFLE(above.re, z.re, MIRROR), -SHUFFLE(above.im, z.im, MIRROR)};
        const cvec w = times_root(t->split_lane, t->split[b]);
        const cvec s = add(a, mirror), turned = times(sub(a, mirror), w);
        const cvec hs = {0.5f * s.re, 0.5f * s.im}, ht = {0.5f * turned.re, 0.5f * turned.im};
        const cvec one = sub_i(hs, ht), image = add_i(hs, ht), other = {image.re, -image.im};

        const cvec high_h = response_at(h, opposite, half, factor);
        const cvec mirror_h = {SHUFFLE(above_h.re, high_h.re, MIRROR),
                               SHUFFLE(above_h.im, high_h.im, MIRROR)};
        const cvec p = times(one, response_at(h, at, half, factor)), q = times(other, mirror_h);
        const cvec image_q = {q.re, -q.im};
        const cvec back = add(p, image_q), turned_back = times(sub(p, image_q), (cvec){w.re, -w.im});
        const cvec far = sub_i(back, turned_back), opposite_made = {far.re, -far.im};

        put(low, add_i(back, turned_back), GROUPS, false);
        if (b > 0)
            put(high + 2 * WIDTH,
                (cvec){SHUFFLE(opposite_made.re, made.re, MIRROR),
                       SHUFFLE(opposite_made.im, made.im, MIRROR)},
                GROUPS, false);
        if (keep) {
            put(keep + 2 * at, one, PAIRS, false);
            if (b > 0)
                put(keep + 2 * (opposite + WIDTH),
                    (cvec){SHUFFLE(other.re, seen.re, MIRROR), SHUFFLE(other.im, seen.im, MIRROR)}, PAIRS,
                    false);
            else {
                keep[2 * t->m] = other.re[0];
                keep[2 * t->m + 1] = 0;
            }
        }
        above = z;
        above_h = high_h;
        made = opposite_made;
        seen = other;
    }
    /* The middle is its own image. */
    const size_t half_way = t->m / 2;
    const cvec middle = {all(above.re[0]), all(-above.im[0])};
    const cvec p = times(middle, (cvec){all(above_h.re[0]), all(above_h.im[0])});
    put(x + 2 * half_way, (cvec){SHUFFLE(2 * p.re, made.re, MIRROR), SHUFFLE(-2 * p.im, made.im, MIRROR)},
        GROUPS, false);
    if (keep)
        put(keep + 2 * half_way,
            (cvec){SHUFFLE(middle.re, seen.re, MIRROR), SHUFFLE(middle.im, seen.im, MIRROR)}, PAIRS, false);
}

/* As split forward, of the first `bins` alone, times h; into pairs. */
static inline void multiply_low(const gw_fft32_block *t, const float *x, const void *h, bool half,
                                float factor, uint32_t bins, float *to)
{
    const uint32_t groups = t->m / WIDTH;
    cvec above = {all(x[0]), all(x[WIDTH])};
    for (uint32_t b = 0; b < bins / WIDTH; b++) {
        const size_t at = (size_t)WIDTH * b;
        const cvec a = get(x + 2 * at, GROUPS, false);
        const cvec z = get(x + 2 * (size_t)WIDTH * (groups - 1 - b), GROUPS, false);
        const cvec mirror = {SHUFFLE(above.re, z.re, MIRROR), -SHUFFLE(above.im, z.im, MIRROR)};
        const cvec s = add(a, mirror);
        const cvec turned = times(sub(a, mirror), times_root(t->split_lane, t->split[b]));
        const cvec twice = sub_i(s, turned), one = {0.5f * twice.re, 0.5f * twice.im};
        put(to + 2 * at, times(one, response_at(h, at, half, factor)), PAIRS, false);
        above = z;
    }
    to[2 * bins] = to[2 * bins + 1] = 0;
}

static void filter(const gw_fft32_block *t, const gw_fft32_product *f, const float *time, float *work,
                   float *out, gw_fft32_ahead *ahead)
{
    pass_down(t, time, work, PAIRS, false, ahead);
    pass_again(t, work, GROUPS, false, ALL, ahead);
    if (f->half)
        multiply_split(t, work, f->response, true, f->factor, f->keep);
    else
        multiply_split(t, work, f->response, false, 1, f->keep);
    pass_down(t, work, out, GROUPS, true, ahead);
    if (f->from >= t->m)
        pass_again(t, out, PAIRS, true, SECOND_HALF, ahead);
    else
        pass_again(t, out, PAIRS, true, ALL, ahead);
}

static void low_product(const gw_fft32_block *t, const gw_fft32_product *f, uint32_t bins, const float *time,
                        float *work, float *freq, gw_fft32_ahead *ahead)
{
    pass_down(t, time, work, PAIRS, false, ahead);
    if (bins <= t->m / 8)
        pass_again(t, work, GROUPS, false, ENDS_OF_8, ahead);
    else if (bins <= t->m / 4)
        pass_again(t, work, GROUPS, false, ENDS_OF_4, ahead);
    else
        pass_again(t, work, GROUPS, false, ALL, ahead);
    if (f->half)
        multiply_low(t, work, f->response, true, f->factor, bins, freq);
    else
        multiply_low(t, work, f->response, false, 1, bins, freq);
}

static void forward(const gw_fft32_block *t, const float *time, float *freq, gw_fft32_ahead *ahead)
{
    pass_down(t, time, freq, PAIRS, false, ahead);
    pass_again(t, freq, GROUPS, false, ALL, ahead);
    split(t, freq, false, GROUPS, PAIRS);
}

static void inverse(const gw_fft32_block *t, float *freq, float *time, gw_fft32_ahead *ahead)
{
    if (in_groups(t)) {
        split(t, freq, true, PAIRS, GROUPS);
        pass_down(t, freq, time, GROUPS, true, ahead);
    } else {
        split(t, freq, true, PAIRS, PAIRS);
        pass_down(t, freq, time, PAIRS, true, ahead);
    }
    pass_again(t, time, PAIRS, true, ALL, ahead);
}

#define NAME(build)  NAME_(build)
#define NAME_(build) gw_fft32_block_##build
const gw_fft32_block_ops NAME(GW_LOOPS) = {tables_new, forward,     inverse, in_groups,
                                           filter,     low_product, WIDTH};
