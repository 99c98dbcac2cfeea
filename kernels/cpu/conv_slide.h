/* SPDX-License-Identifier: GPL-3.0-or-later
 * Convolutions of a few taps with one output channel, included by conv_layers.h: tiles would have nothing to
 * fill their vectors with. Vectors run over the input channels; a row's are read once and multiplied with all
 * taps, each product a share of another output; each output's vector is added up in the end. */

/* Outputs at once; the most taps and input channels. */
enum { SLIDE = 8, SLIDE_TAPS = LANES >= 8 ? 8 : 0, SLIDE_IN = 128 };

/* One output of a few taps: whole vectors of input channels, then the last ones, whose vector may begin
 * before the others end: there are zeros. [vector][kernel][lanes], see run_by_slide. */
static void pack_slide(gw_conv *c, const float *weight)
{
    const size_t in = c->d.in_channels, kernel = c->d.kernel;
    for (size_t i = 0, done = 0; done < in;) {
        const size_t lanes = in - done >= LANES ? LANES : NARROW, end = done + lanes < in ? done + lanes : in;
        for (size_t k = 0; k < kernel; k++, i += lanes)
            for (size_t at = done; at < end; at++)
                c->weight[i + at + lanes - end] = weight[at * kernel + k];
        done = end;
    }
}

#if LANES >= 8
typedef float vec8 __attribute__((vector_size(32)));

/* The sums of eight vectors. */
static inline __attribute__((always_inline)) vec8 add_up_8(const vec8 *v)
{
    vec8 a[4], b[2];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        a[i] = __builtin_shufflevector(v[2 * i], v[2 * i + 1], 0, 8, 2, 10, 4, 12, 6, 14) +
               __builtin_shufflevector(v[2 * i], v[2 * i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++)
        b[i] = __builtin_shufflevector(a[2 * i], a[2 * i + 1], 0, 1, 8, 9, 4, 5, 12, 13) +
               __builtin_shufflevector(a[2 * i], a[2 * i + 1], 2, 3, 10, 11, 6, 7, 14, 15);
    return __builtin_shufflevector(b[0], b[1], 0, 1, 2, 3, 8, 9, 10, 11) +
           __builtin_shufflevector(b[0], b[1], 4, 5, 6, 7, 12, 13, 14, 15);
}

/* SLIDE outputs from as many rows and kernel - 1 more. */
static inline __attribute__((always_inline)) vec8 slide(const gw_conv *c, const int kernel, const float *src)
{
    typedef float half __attribute__((vector_size(4 * NARROW)));
    const size_t in = c->d.in_channels;
    const float *w = c->weight;
    vec wide[SLIDE] = {{0}};
    half more[SLIDE] = {{0}};
    size_t done = 0;
    for (; in - done >= LANES; done += LANES, w += kernel * LANES)
        LAYER_JOIN(tile_slide, LANES)(kernel, src + done, in, w, (void *)wide);
    for (; done < in; done += NARROW, w += kernel * NARROW)
        LAYER_JOIN(tile_slide, NARROW)
    (kernel, src + (in - done < NARROW ? in - NARROW : done), in, w, (void *)more);
    vec8 v[SLIDE];
#pragma GCC unroll 8
    for (int i = 0; i < SLIDE; i++)
#if LANES == 16
        v[i] = __builtin_shufflevector(wide[i], wide[i], 0, 1, 2, 3, 4, 5, 6, 7) +
               __builtin_shufflevector(wide[i], wide[i], 8, 9, 10, 11, 12, 13, 14, 15) + more[i];
#else
        v[i] = wide[i] + __builtin_shufflevector(more[i], (half){0}, 0, 1, 2, 3, 4, 5, 6, 7);
#endif
    return add_up_8(v);
}

/* `blocks` of them one after the other. Functions of their own, for then the vectors stay in registers. */
#define SLIDE_MANY(kernel)                                                                                   \
    static __attribute__((noinline)) void slide_##kernel(const gw_conv *c, const float *src, size_t blocks,  \
                                                         float *sum)                                         \
    {                                                                                                        \
        for (; blocks > 0; blocks--, src += SLIDE * (size_t)c->d.in_channels, sum += SLIDE) {                \
            const vec8 y = slide(c, kernel, src);                                                            \
            memcpy(sum, &y, sizeof y);                                                                       \
        }                                                                                                    \
    }
SLIDE_MANY(3)
SLIDE_MANY(4)
SLIDE_MANY(5)
SLIDE_MANY(6)
SLIDE_MANY(7)
SLIDE_MANY(8)
#undef SLIDE_MANY

/* One output channel: vectors run over the input channels, and each of a row's is multiplied with all taps,
 * for SLIDE outputs. The last outputs of a window are made with zeros behind it. */
static void run_by_slide(const gw_conv *c, const gw_conv_io *io)
{
    static void (*const many[])(const gw_conv *, const float *, size_t,
                                float *) = {slide_3, slide_4, slide_5, slide_6, slide_7, slide_8};
    enum { PIECE = 16 * SLIDE };
    const size_t in = c->d.in_channels, columns = io->columns;
    float beside[(SLIDE + SLIDE_TAPS - 1) * SLIDE_IN], sum[PIECE + LANES] = {0};
    for (size_t w = 0; w < io->batch; w++) {
        for (size_t i0 = 0; i0 < columns; i0 += PIECE) {
            const size_t n = columns - i0 < PIECE ? columns - i0 : PIECE, whole = n / SLIDE, rest = n % SLIDE;
            const float *src = io->src + w * io->src_step + i0 * in,
                        *residual = io->residual ? io->residual + w * io->residual_step + i0 : NULL;
            many[c->d.kernel - 3](c, src, whole, sum);
            if (rest) {
                const size_t left = (rest + c->d.kernel - 1) * in;
                memcpy(beside, src + whole * SLIDE * in, left * sizeof *src);
                memset(beside + left, 0, (SLIDE - rest) * in * sizeof *src);
                many[c->d.kernel - 3](c, beside, 1, sum + whole * SLIDE);
            }
            for (size_t i = 0; i < n; i += LANES) {
                const size_t some = n - i < LANES ? n - i : LANES;
                vec y = load(sum + i) + c->bias[0];
                if (residual)
                    y += load_some(residual + i, some);
                store_some(io->dst + w * io->dst_step + i0 + i, activate(c->d.act, y), some);
            }
        }
    }
}
#else
static void run_by_slide(const gw_conv *c, const gw_conv_io *io)
{
    (void)c, (void)io;
}
#endif
