/* SPDX-License-Identifier: GPL-3.0-or-later
 * The innermost loops of a convolution, included by conv_layers.h once for vectors of TILE_LANES floats and
 * once for narrow ones. In channels-last memory a 1-D convolution is a matrix product whose rows overlap:
 * output column n is the product of the weights [K][out] with the K inputs that lie `tap[k]` floats behind
 * row pointer n. A tile is a few rows by a few vectors of output channels, kept in registers; it reads each
 * weight once for all its rows. Measured 0.97-0.99 of the multiply-add peak at 16 to 512 channels.
 *
 * Every row's sum runs over k in order, whatever tile the row falls into: the result does not depend on
 * how many rows there are. */

#define TILE_JOIN_(a, b) a##b
#define TILE_JOIN(a, b)  TILE_JOIN_(a, b)
#define TILE_VEC         TILE_JOIN(tile_vec, TILE_LANES)
#define TILE_LOOSE       TILE_JOIN(tile_loose, TILE_LANES)
#define TILE             TILE_JOIN(tile, TILE_LANES)
#define TILE_RUN         TILE_JOIN(tile_run, TILE_LANES)
#define TILE_SLIDE       TILE_JOIN(tile_slide, TILE_LANES)

typedef float TILE_VEC __attribute__((vector_size(4 * TILE_LANES)));
typedef float TILE_LOOSE __attribute__((vector_size(4 * TILE_LANES), aligned(4), may_alias));

/* sum [rows][vecs * TILE_LANES] = the rows times w [K][vecs * TILE_LANES]. */
static inline __attribute__((always_inline)) void TILE(const int rows, const int vecs,
                                                       const float *const *row, const uint32_t *tap,
                                                       size_t n_taps, const float *w, float *sum)
{
    TILE_VEC acc[24], b[4];
#pragma GCC unroll 24
    for (int i = 0; i < rows * vecs; i++)
        acc[i] = (TILE_VEC){0};
#pragma GCC unroll 1
    for (size_t k = 0; k < n_taps; k++) {
#pragma GCC unroll 4
        for (int j = 0; j < vecs; j++)
            b[j] = *(const TILE_LOOSE *)(w + (k * (size_t)vecs + (size_t)j) * TILE_LANES);
        const size_t at = tap[k];
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            const TILE_VEC x = row[r][at] - (TILE_VEC){0};
#pragma GCC unroll 4
            for (int j = 0; j < vecs; j++)
                acc[r * vecs + j] = (TILE_VEC)LAYER_JOIN(MADD_, TILE_LANES)(x, b[j], acc[r * vecs + j]);
        }
    }
#pragma GCC unroll 24
    for (int i = 0; i < rows * vecs; i++)
        *(TILE_LOOSE *)(sum + i * TILE_LANES) = acc[i];
}

/* One output channel, one vector of input channels: sum[i] += w[k] times row i + k, for 8 outputs i. Each
 * row is read once for all of them. */
static inline __attribute__((always_inline)) void TILE_SLIDE(const int kernel, const float *src, size_t step,
                                                             const float *w, TILE_VEC *sum)
{
    TILE_VEC tap[8];
#pragma GCC unroll 8
    for (int k = 0; k < kernel; k++)
        tap[k] = *(const TILE_LOOSE *)(w + k * TILE_LANES);
#pragma GCC unroll 16
    for (int r = 0; r < 8 + kernel - 1; r++) {
        const TILE_VEC x = *(const TILE_LOOSE *)(src + (size_t)r * step);
#pragma GCC unroll 8
        for (int k = 0; k < kernel; k++)
            if (r - k >= 0 && r - k < 8)
                sum[r - k] = (TILE_VEC)LAYER_JOIN(MADD_, TILE_LANES)(x, tap[k], sum[r - k]);
    }
}

#define TILE_CASE(rows, vecs)                                                                                \
    case (rows)*8 + (vecs):                                                                                  \
        TILE(rows, vecs, row, tap, n_taps, w, sum);                                                          \
        break;

static __attribute__((noinline)) void TILE_RUN(int rows, int vecs, const float *const *row,
                                               const uint32_t *tap, size_t n_taps, const float *w, float *sum)
{
    switch (rows * 8 + vecs) {
        TILE_CASE(1, 1)
        TILE_CASE(2, 1)
        TILE_CASE(4, 1)
        TILE_CASE(8, 1)
        TILE_CASE(1, 2)
        TILE_CASE(2, 2)
        TILE_CASE(4, 2)
        TILE_CASE(6, 2)
#if TILE_VECS > 2
        TILE_CASE(8, 2)
        TILE_CASE(1, 3)
        TILE_CASE(2, 3)
        TILE_CASE(4, 3)
        TILE_CASE(8, 3)
        TILE_CASE(1, 4)
        TILE_CASE(2, 4)
        TILE_CASE(4, 4)
        TILE_CASE(6, 4)
#endif
    default:
        break;
    }
}

#undef TILE_CASE
#undef TILE_RUN
#undef TILE_SLIDE
#undef TILE
#undef TILE_LOOSE
#undef TILE_VEC
#undef TILE_JOIN
#undef TILE_JOIN_
#undef TILE_LANES
#undef TILE_VECS
