/* SPDX-License-Identifier: GPL-3.0-or-later
 * The layers of kernels/conv.h that are no convolutions, in vectors of LANES floats: included by
 * conv_layers.h. */

static void act_only(gw_act act, size_t n, const float *x, float *dst)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(dst + i, activate(act, load(x + i)));
    if (i < n)
        store_some(dst + i, activate(act, load_some(x + i, n - i)), n - i);
}

static inline vec joined(gw_join kind, gw_act act, vec a, vec b)
{
    return activate(act, kind == GW_JOIN_ADD ? a + b : kind == GW_JOIN_SUB ? a - b : a * b);
}

static void join_row(gw_join kind, gw_act act, size_t n, const float *a, const float *b, float *dst)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(dst + i, joined(kind, act, load(a + i), load(b + i)));
    if (i < n)
        store_some(dst + i, joined(kind, act, load_some(a + i, n - i), load_some(b + i, n - i)), n - i);
}

static void join(gw_join kind, gw_act act, uint32_t columns, uint32_t channels, const float *a,
                 const float *b, size_t b_step, float *dst)
{
    if (b_step == channels) {
        join_row(kind, act, (size_t)columns * channels, a, b, dst);
        return;
    }
    for (size_t n = 0; n < columns; n++)
        join_row(kind, act, channels, a + n * channels, b + n * b_step, dst + n * channels);
}

static void mean(uint32_t n, uint32_t span, uint32_t channels, const float *x, float *dst)
{
    const float share = 1 / (float)span;
    for (size_t i = 0; i < n; i++) {
        for (size_t c = 0; c < channels; c += LANES) {
            const size_t lanes = channels - c < LANES ? channels - c : LANES;
            const float *from = x + i * channels + c;
            vec sum = {0};
            for (size_t k = 0; k < span; k++, from += channels)
                sum += lanes == LANES ? load(from) : load_some(from, lanes);
            sum *= share;
            if (lanes == LANES)
                store(dst + i * channels + c, sum);
            else
                store_some(dst + i * channels + c, sum, lanes);
        }
    }
}

static void pool_some(const gw_pool *p, size_t column, size_t c, size_t lanes, const float *src, float *dst)
{
    vec most = all(-INFINITY), sum = {0};
    size_t seen = 0;
    for (size_t k = 0; k < p->kernel; k++) {
        const size_t at = column * p->stride + k * p->dilation;
        if (at < p->pad_left || at - p->pad_left >= p->in_columns)
            continue;
        const float *from = src + (at - p->pad_left) * p->channels + c;
        const vec x = lanes == LANES ? load(from) : load_some(from, lanes);
        most = choose(x > most, x, most);
        sum += x;
        seen++;
    }
    const vec y = p->mean ? sum * (1 / (float)(p->count_padding ? p->kernel : seen)) : most;
    if (lanes == LANES)
        store(dst + column * p->channels + c, y);
    else
        store_some(dst + column * p->channels + c, y, lanes);
}

static void pool(const gw_pool *p, const float *src, float *dst)
{
    for (size_t n = 0; n < p->columns; n++)
        for (size_t c = 0; c < p->channels; c += LANES)
            pool_some(p, n, c, p->channels - c < LANES ? p->channels - c : LANES, src, dst);
}

/* total[c] += over all columns: x - center, squared or not. Short sums in float, the long one in double. */
static void add_up(const gw_norm *n, const float *x, const float *center, bool squared, double *total)
{
    enum { PIECE = 32 };
    const size_t channels = n->channels;
    for (size_t i0 = 0; i0 < n->columns; i0 += PIECE) {
        const size_t end = n->columns - i0 < PIECE ? n->columns : i0 + PIECE;
        for (size_t c = 0; c < channels; c += LANES) {
            const size_t lanes = channels - c < LANES ? channels - c : LANES;
            const vec middle = load_some(center + c, lanes);
            vec sum = {0};
            for (size_t i = i0; i < end; i++) {
                const float *from = x + i * channels + c;
                const vec d = (lanes == LANES ? load(from) : load_some(from, lanes)) - middle;
                sum += squared ? d * d : d;
            }
            float s[LANES];
            store(s, sum);
            for (size_t k = 0; k < lanes; k++)
                total[c + k] += (double)s[k];
        }
    }
}

/* Mean first, then the squares of what is left: a large mean costs no digits. */
static void norm(const gw_norm *n, const float *x, const float *residual, float *dst)
{
    const size_t channels = n->channels, each = channels / n->groups;
    const double count = (double)each * n->columns;
    double *total = n->scratch;
    float *center = (float *)(n->scratch + channels), *factor = center + channels;
    memcpy(center, x, channels * sizeof *center); /* near the mean already: short sums stay small */
    for (int pass = 0; pass < 2; pass++) {
        memset(total, 0, channels * sizeof *total);
        add_up(n, x, center, pass == 1, total);
        for (size_t g = 0; g < n->groups; g++) {
            double sum = 0;
            for (size_t c = g * each; c < (g + 1) * each; c++)
                sum += total[c] + (pass == 0 ? (double)center[c] * n->columns : 0);
            for (size_t c = g * each; c < (g + 1) * each; c++) {
                if (pass == 0)
                    center[c] = (float)(sum / count);
                else
                    factor[c] = (float)((double)n->scale[c] / sqrt(sum / count + (double)n->epsilon));
            }
        }
    }
    for (size_t i = 0; i < n->columns; i++) {
        for (size_t c = 0; c < channels; c += LANES) {
            const size_t at = i * channels + c, lanes = channels - c < LANES ? channels - c : LANES;
            if (lanes == LANES) {
                vec y = load(factor + c) * (load(x + at) - load(center + c)) + load(n->bias + c);
                if (residual)
                    y += load(residual + at);
                store(dst + at, activate(n->act, y));
            } else {
                vec y =
                    load_some(factor + c, lanes) * (load_some(x + at, lanes) - load_some(center + c, lanes)) +
                    load_some(n->bias + c, lanes);
                if (residual)
                    y += load_some(residual + at, lanes);
                store_some(dst + at, activate(n->act, y), lanes);
            }
        }
    }
}
