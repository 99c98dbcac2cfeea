/* SPDX-License-Identifier: GPL-3.0-or-later
 * Convolutions with fewer multiplications (Winograd, Arithmetic Complexity of Computations, 1980), included
 * by conv_layers.h. Columns are taken together until a layer has 2 to 4 taps and stride 1: with channels
 * last, `hop` columns of `in` channels are one column of hop * in. Four outputs of such a layer are the
 * product of two polynomials, known from its values at 5 to 7 points: as many products of matrices instead of
 * 8 to 16.
 *
 *   inputs of 4 outputs, taken at the points (B) -> one matrix product for each point -> outputs (A)
 *
 * The points are 0 and infinity and pairs +-a of short fractions, whose squares are exact; weights are taken
 * at the points in double (G). On normal numbers the error is 1.5 times (3 taps) and 2 times (4 taps) that of
 * the plain sum. A tile begins at a multiple of 4 of a window's columns: batches change nothing. */

enum { SHORT_OUT = 4, SHORT_MOST = 7, SHORT_ROWS = 48, SHORT_FLOATS = 64 << 10, SHORT_WIDEST = 1536 };

static const float point2[] = {0.5f, 1.5f}, point4[] = {0.25f, 0.75f, 1.5f};

/* Row f of G: the factor of each tap; the pairs first, then 0 where it is one, then infinity. */
static void point_factors(int taps, int f, double *factor)
{
    const int points = taps + SHORT_OUT - 2, pairs = points / 2;
    double at[SHORT_MOST] = {0}, scale = 1;
    for (int i = 0; i < 2 * pairs; i++)
        at[i] = (i % 2 ? -1 : 1) * (double)(taps == 4 ? point4 : point2)[i / 2];
    for (int i = 0; i < points && f < points; i++)
        scale *= i == f ? 1 : at[f] - at[i];
    for (int t = 0; t < taps; t++)
        factor[t] = f < points ? pow(at[f], t) / scale : t == taps - 1;
}

/* ---- Opening ---- */

/* What four columns of the shorter layer cost in vector operations, near enough. */
static double short_cost(uint32_t in, uint32_t out, uint32_t taps)
{
    const double vecs_in = (in + LANES - 1) / LANES,
                 vecs_out = out == NARROW ? 0.6 : (double)((out + LANES - 1) / LANES);
    return (taps + SHORT_OUT - 1) * (in + 8) * vecs_out + 28 * vecs_in + 32 * vecs_out;
}

static double plain_cost(const gw_conv *c)
{
    double cost = 0;
    for (size_t i = 0; i < c->n_parts; i++)
        cost += ((double)c->n_taps + 14) * c->part[i].vecs * (c->part[i].narrow ? 0.6 : 1) *
                (c->part[i].vecs == 1 && LANES > 4 ? 1.15 : 1);
    return cost;
}

static void pack_short(const gw_conv *c, shorter *s, const float *weight)
{
    const gw_conv_desc *d = &c->d;
    const int points = (int)s->taps + SHORT_OUT - 1;
    float *to = s->weight;
    for (size_t i = 0; i < s->n_parts; i++) {
        part *p = &s->part[i];
        p->weight = to;
        for (int f = 0; f < points; f++) {
            double factor[4];
            point_factors((int)s->taps, f, factor);
            for (size_t in = 0; in < s->in; in++, to += part_width(p)) {
                for (size_t o = 0; o < p->lanes; o++) {
                    const size_t out = p->out0 + o, column = in / d->in_channels;
                    const float *w =
                        weight + ((out % d->out_channels) * d->in_channels + in % d->in_channels) * d->kernel;
                    double sum = 0;
                    for (size_t t = 0; t < s->taps; t++) {
                        const size_t at = t * s->hop + column, late = out / d->out_channels * d->stride;
                        if (at >= late && at - late < d->kernel)
                            sum += factor[t] * (double)w[at - late];
                    }
                    to[o] = (float)sum;
                }
            }
        }
    }
}

/* Leaves taps 0 where the plain sum is as fast. */
static int short_open(gw_conv *c, const float *weight, const float *bias)
{
    const gw_conv_desc *d = &c->d;
    shorter s = {0};
    for (uint32_t together = 1; d->groups == 1 && d->dilation == 1 && together <= 2 && !s.taps; together++) {
        const uint32_t hop = d->stride * together,
                       taps = (d->kernel + (together - 1) * d->stride + hop - 1) / hop;
        const size_t in = (size_t)hop * d->in_channels, out = (size_t)together * d->out_channels;
        if (taps < 2 || taps > 4 || (together > 1 && d->stride > 1) || in > SHORT_WIDEST ||
            out > SHORT_WIDEST)
            continue;
        s = (shorter){
            .taps = taps, .hop = hop, .together = together, .in = (uint32_t)in, .out = (uint32_t)out};
    }
    if (!s.taps)
        return GW_OK;
    s.cost = short_cost(s.in, s.out, s.taps);
    s.plain = plain_cost(c);
    if (s.cost > (s.out == NARROW ? 0.75 : 0.85) * s.plain * SHORT_OUT * s.together)
        return GW_OK;
    const size_t vecs = (s.out + LANES - 1) / LANES, floats = vecs * LANES * s.in * (s.taps + SHORT_OUT - 1);
    s.part = calloc(vecs, sizeof *s.part);
    s.weight = aligned_alloc(64, (floats * sizeof *s.weight + 63) / 64 * 64);
    s.bias = calloc(s.out + LANES, sizeof *s.bias);
    if (!s.part || !s.weight || !s.bias) {
        s.taps = 0;
        c->shorter = s; /* closed with the layer */
        return gw_fail(GW_ENOMEM, "convolution: no memory for %zu weights", floats);
    }
    memset(s.weight, 0, floats * sizeof *s.weight);
    for (uint32_t i = 0; bias && i < s.out; i++)
        s.bias[i] = bias[i % d->out_channels];
    if (s.out == NARROW) /* see give_pairs */
        memcpy(s.bias + NARROW, s.bias, NARROW * sizeof *s.bias);
    divide(s.part, &s.n_parts, 0, 0, s.out, s.out == NARROW);
    pack_short(c, &s, weight);
    c->shorter = s;
    return GW_OK;
}

/* ---- Running ---- */

/* at +- a of (x + a) (x^4 - (b + c) x^2 + b c), b and c the squares of the other points */
static inline __attribute__((always_inline)) void pair4(float a, float b, float c, const vec *x, vec *plus,
                                                        vec *minus)
{
    const vec even = a * madd(all(b * c), x[0], madd(all(-b - c), x[2], x[4]));
    const vec odd = madd(all(b * c), x[1], madd(all(-b - c), x[3], x[5]));
    *plus = odd + even;
    *minus = odd - even;
}

static inline __attribute__((always_inline)) void at_points4(const vec *x, vec *v)
{
    const float a = point4[0], b = point4[1], c = point4[2], a2 = a * a, b2 = b * b, c2 = c * c;
    pair4(a, b2, c2, x, &v[0], &v[1]);
    pair4(b, a2, c2, x, &v[2], &v[3]);
    pair4(c, a2, b2, x, &v[4], &v[5]);
    v[6] = madd(all(-a2 * b2 * c2), x[0],
                madd(all(a2 * b2 + a2 * c2 + b2 * c2), x[2], madd(all(-a2 - b2 - c2), x[4], x[6])));
}

static inline __attribute__((always_inline)) void at_points2(const vec *x, vec *v)
{
    const float a = point2[0], b = point2[1], a2 = a * a, b2 = b * b;
    const vec odd_a = madd(all(-b2), x[1], x[3]), even_a = a * madd(all(-b2), x[0], x[2]);
    const vec odd_b = madd(all(-a2), x[1], x[3]), even_b = b * madd(all(-a2), x[0], x[2]);
    v[0] = odd_a + even_a;
    v[1] = odd_a - even_a;
    v[2] = odd_b + even_b;
    v[3] = odd_b - even_b;
    v[4] = madd(all(a2 * b2), x[0], madd(all(-a2 - b2), x[2], x[4]));
}

static inline __attribute__((always_inline)) void at_points3(const vec *x, vec *v)
{
    const float a = point2[0], b = point2[1], a2 = a * a, b2 = b * b;
    const vec even_a = madd(all(-b2), x[2], x[4]), odd_a = a * madd(all(-b2), x[1], x[3]);
    const vec even_b = madd(all(-a2), x[2], x[4]), odd_b = b * madd(all(-a2), x[1], x[3]);
    v[0] = even_a + odd_a;
    v[1] = even_a - odd_a;
    v[2] = even_b + odd_b;
    v[3] = even_b - odd_b;
    v[4] = madd(all(a2 * b2), x[0], madd(all(-a2 - b2), x[2], x[4]));
    v[5] = madd(all(a2 * b2), x[1], madd(all(-a2 - b2), x[3], x[5]));
}

/* Row `row` of the matrices of all points, `apart` floats from each other. */
static inline __attribute__((always_inline)) void take_points(const int taps, size_t in, const float *src,
                                                              float *to, size_t apart)
{
    const int points = taps + SHORT_OUT - 1;
    for (size_t c = 0; c < in; c += LANES) {
        vec x[SHORT_MOST], v[SHORT_MOST];
#pragma GCC unroll 7
        for (int i = 0; i < points; i++)
            x[i] = in - c >= LANES ? load(src + (size_t)i * in + c)
                                   : load_some(src + (size_t)i * in + c, in - c);
        if (taps == 2)
            at_points2(x, v);
        else if (taps == 3)
            at_points3(x, v);
        else
            at_points4(x, v);
#pragma GCC unroll 7
        for (int f = 0; f < points; f++)
            store(to + (size_t)f * apart + c, v[f]);
    }
}

/* Four outputs from the products at the points. */
static inline __attribute__((always_inline)) void from_points(const int taps, const vec *m, vec *y)
{
    const float *p = taps == 4 ? point4 : point2;
    const vec sum_a = m[0] + m[1], sum_b = m[2] + m[3], less_a = m[0] - m[1], less_b = m[2] - m[3];
    const float a = p[0], b = p[1], a2 = a * a, b2 = b * b;
    y[0] = sum_a + sum_b;
    y[1] = madd(all(a), less_a, b * less_b);
    y[2] = madd(all(a2), sum_a, b2 * sum_b);
    y[3] = madd(all(a2 * a), less_a, b2 * b * less_b);
    if (taps < 4) {
        if (taps == 3)
            y[0] += m[4];
        y[3] += m[taps + 2];
        return;
    }
    const vec sum_c = m[4] + m[5], less_c = m[4] - m[5];
    const float c = point4[2], c2 = c * c;
    y[0] += sum_c;
    y[1] = madd(all(c), less_c, y[1]);
    y[2] = madd(all(c2), sum_c, y[2]);
    y[3] = madd(all(c2 * c), less_c, y[3]) + m[6];
}

/* A tile's place: `n` floats of it lie within the window. */
typedef struct short_tile {
    float *dst;
    const float *residual;
    size_t n;
} short_tile;

/* One vector of the four outputs, `lanes` channels of them; `at`: the first one's place. */
static inline __attribute__((always_inline)) void give_whole(gw_act act, const vec *y, float *dst,
                                                             const float *residual, size_t out, size_t lanes)
{
    vec a = y[0], b = y[1], c = y[2], d = y[3];
    if (residual) {
        a += load_some(residual, lanes);
        b += load_some(residual + out, lanes);
        c += load_some(residual + 2 * out, lanes);
        d += load_some(residual + 3 * out, lanes);
    }
    a = activate(act, a);
    b = activate(act, b);
    c = activate(act, c);
    d = activate(act, d);
    if (lanes == LANES) {
        store(dst, a);
        store(dst + out, b);
        store(dst + 2 * out, c);
        store(dst + 3 * out, d);
    } else {
        store_some(dst, a, lanes);
        store_some(dst + out, b, lanes);
        store_some(dst + 2 * out, c, lanes);
        store_some(dst + 3 * out, d, lanes);
    }
}

static inline __attribute__((always_inline)) void give_points(const int taps, gw_act act, const shorter *s,
                                                              const part *p, const float *sum, size_t apart,
                                                              const short_tile *t)
{
    const size_t out = s->out, vecs = (size_t)p->vecs;
    for (size_t v = 0, o = p->out0; v < vecs; v++, o += LANES, sum += LANES) {
        const size_t lanes = out - o < LANES ? out - o : LANES;
        const vec bias = load(s->bias + o);
        vec m[SHORT_MOST], y[SHORT_OUT];
#pragma GCC unroll 7
        for (int f = 0; f < taps + SHORT_OUT - 1; f++)
            m[f] = load(sum + (size_t)f * apart);
        from_points(taps, m, y);
#pragma GCC unroll 4
        for (int i = 0; i < SHORT_OUT; i++)
            y[i] += bias;
        if (t->n >= SHORT_OUT * out) {
            give_whole(act, y, t->dst + o, t->residual ? t->residual + o : NULL, out, lanes);
            continue;
        }
        float beside[SHORT_OUT * LANES]; /* the window ends within the tile */
#pragma GCC unroll 4
        for (int i = 0; i < SHORT_OUT; i++)
            store(beside + i * LANES, y[i]);
        for (size_t i = 0, at = o; i < SHORT_OUT && at < t->n; i++, at += out) {
            const size_t some = t->n - at < lanes ? t->n - at : lanes;
            vec x = load(beside + i * LANES);
            if (t->residual)
                x += load_some(t->residual + at, some);
            store_some(t->dst + at, activate(act, x), some);
        }
    }
}

/* The same where NARROW outputs are half a vector: two tiles side by side make whole ones. */
static inline __attribute__((always_inline)) void
give_pairs(const int taps, gw_act act, const shorter *s, const float *sum, size_t rows, const short_tile *t)
{
    const size_t apart = rows * NARROW;
    const vec bias = load(s->bias);
    for (size_t r = 0; r < rows; r += 2, t += 2, sum += 2 * NARROW) {
        const size_t tiles = rows - r < 2 ? 1 : 2;
        float beside[SHORT_OUT * LANES] = {0};
        for (size_t k = 0; k < tiles; k++)
            for (size_t at = 0; t[k].residual && at < SHORT_OUT * NARROW && at < t[k].n; at++)
                beside[at / NARROW * LANES + k * NARROW + at % NARROW] = t[k].residual[at];
        vec m[SHORT_MOST], y[SHORT_OUT];
#pragma GCC unroll 7
        for (int f = 0; f < taps + SHORT_OUT - 1; f++)
            m[f] = load(sum + (size_t)f * apart);
        from_points(taps, m, y);
#pragma GCC unroll 4
        for (int i = 0; i < SHORT_OUT; i++)
            store(beside + i * LANES, activate(act, y[i] + bias + load(beside + i * LANES)));
        for (size_t k = 0; k < tiles; k++)
            for (size_t i = 0; i < SHORT_OUT && i * NARROW < t[k].n; i++)
                memcpy(t[k].dst + i * NARROW, beside + i * LANES + k * NARROW, NARROW * sizeof *beside);
    }
}

/* Functions of their own, for then the vectors stay in registers. */
#define GIVE_TILES(name, taps, act)                                                                          \
    static __attribute__((noinline)) void name(const gw_conv *c, const part *p, const float *sum,            \
                                               size_t rows, const short_tile *t)                             \
    {                                                                                                        \
        const size_t width = part_width(p);                                                                  \
        if (p->narrow) {                                                                                     \
            give_pairs(taps, act, &c->shorter, sum, rows, t);                                                \
            return;                                                                                          \
        }                                                                                                    \
        for (size_t r = 0; r < rows; r++)                                                                    \
            give_points(taps, act, &c->shorter, p, sum + r * width, rows * width, &t[r]);                    \
    }
GIVE_TILES(give_2, 2, c->d.act)
GIVE_TILES(give_2_relu, 2, (gw_act){.kind = GW_ACT_RELU})
GIVE_TILES(give_3, 3, c->d.act)
GIVE_TILES(give_3_relu, 3, (gw_act){.kind = GW_ACT_RELU})
GIVE_TILES(give_4, 4, c->d.act)
GIVE_TILES(give_4_relu, 4, (gw_act){.kind = GW_ACT_RELU})
GIVE_TILES(give_4_tanh, 4, (gw_act){.kind = GW_ACT_TANH})
#undef GIVE_TILES

static void give_tiles(const gw_conv *c, const part *p, const float *sum, size_t rows, const short_tile *t)
{
    const uint32_t taps = c->shorter.taps;
    const bool relu = c->d.act.kind == GW_ACT_RELU;
    if (taps == 2)
        (relu ? give_2_relu : give_2)(c, p, sum, rows, t);
    else if (taps == 3)
        (relu ? give_3_relu : give_3)(c, p, sum, rows, t);
    else
        (relu ? give_4_relu : c->d.act.kind == GW_ACT_TANH ? give_4_tanh : give_4)(c, p, sum, rows, t);
}

static inline uint32_t short_tiles(const shorter *s, uint32_t columns)
{
    return (columns + SHORT_OUT * s->together - 1) / (SHORT_OUT * s->together);
}

/* The same answer whatever the batch. */
static bool short_pays(const gw_conv *c, uint32_t columns)
{
    const shorter *s = &c->shorter;
    return s->taps && s->cost * short_tiles(s, columns) < 0.9 * s->plain * columns;
}

/* Input of a tile at the points; beyond the window's last column are zeros, which no output that counts sees.
 */
static void take_tile(const gw_conv *c, const gw_conv_io *io, uint32_t window, uint32_t tile, float *beside,
                      float *to, size_t apart)
{
    const shorter *s = &c->shorter;
    const size_t points = s->taps + SHORT_OUT - 1, all_of_it = points * s->in;
    const size_t first = (size_t)tile * SHORT_OUT * s->in,
                 left = (size_t)gw_conv_in_columns(&c->d, io->columns) * c->d.in_channels - first;
    const float *src = io->src + window * io->src_step + first;
    if (left < all_of_it) {
        memcpy(beside, src, left * sizeof *src);
        memset(beside + left, 0, (all_of_it - left) * sizeof *src);
        src = beside;
    }
    if (s->taps == 2)
        take_points(2, s->in, src, to, apart);
    else if (s->taps == 3)
        take_points(3, s->in, src, to, apart);
    else
        take_points(4, s->in, src, to, apart);
}

/* Some tiles at a time, so that their inputs at the points stay in a level-2 cache, on the stack: a layer is
 * only read. A row of them is dense: c->tap begins with 0, 1, 2 and so on. */
static void run_short(const gw_conv *c, const gw_conv_io *io)
{
    const shorter *s = &c->shorter;
    const size_t points = s->taps + SHORT_OUT - 1, pitch = (s->in + LANES - 1) / LANES * LANES + 16;
    const uint32_t tiles = short_tiles(s, io->columns);
    float v[SHORT_FLOATS] __attribute__((aligned(64))), *beside = v + SHORT_FLOATS - points * s->in;
    const size_t fit = (SHORT_FLOATS - points * s->in) / (points * pitch),
                 most = fit >= SHORT_ROWS ? SHORT_ROWS
                        : fit > 6         ? fit - fit % 6
                                          : fit; /* whole tiles of rows */
    float sum[SHORT_MOST * SHORT_ROWS * VECS * LANES + LANES] __attribute__((aligned(64)));
    short_tile place[SHORT_ROWS];
    uint32_t window = 0, tile = 0;
    for (size_t left = (size_t)io->batch * tiles; left > 0;) {
        const size_t rows = left < most ? left : most;
        for (size_t r = 0; r < rows; r++) {
            const size_t first = (size_t)tile * SHORT_OUT * s->out;
            take_tile(c, io, window, tile, beside, v + r * pitch, rows * pitch);
            place[r] = (short_tile){io->dst + window * io->dst_step + first,
                                    io->residual ? io->residual + window * io->residual_step + first : NULL,
                                    (size_t)io->columns * c->d.out_channels - first};
            if (++tile == tiles) {
                tile = 0;
                window++;
            }
        }
        for (size_t i = 0; i < s->n_parts; i++) {
            const part *p = &s->part[i];
            const size_t width = part_width(p), high = p->vecs == VECS ? 6 : MOST_ROWS;
            for (size_t f = 0; f < points; f++) {
                for (size_t r = 0; r < rows;) {
                    const size_t n = rows - r >= high ? high : rows - r >= 4 ? 4 : rows - r >= 2 ? 2 : 1;
                    const float *row[MOST_ROWS];
                    for (size_t k = 0; k < n; k++)
                        row[k] = v + (f * rows + r + k) * pitch;
                    (p->narrow ? LAYER_JOIN(tile_run, NARROW) : LAYER_JOIN(tile_run, LANES))(
                        (int)n, p->vecs, row, c->tap, s->in, p->weight + f * s->in * width,
                        sum + (f * rows + r) * width);
                    r += n;
                }
            }
            give_tiles(c, p, sum, rows, place);
        }
        left -= rows;
    }
}
