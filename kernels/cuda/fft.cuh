/* SPDX-License-Identifier: GPL-3.0-or-later
 * The Fourier transform of one block of threads in shared memory, single precision: Stockham's form in passes
 * of radix 8, 16 or 32, so that nothing is left in bit-reversed order and 16384 points take three passes. A
 * real transform of 2 m points is a complex one of m and a pass over pairs of bins (untangle, tangle). (Van
 * Loan, Computational Frameworks for the Fast Fourier Transform, 1992, chapters 1.7 and 4.3.) Only forward:
 * the inverse is the forward one with real and imaginary parts exchanged on the way in and out (gw_swap).
 * Who reads the input from device memory, or writes the output there, does the first or last pass himself:
 * with two neighbouring butterflies of radix 16 a thread has 16 bytes in one piece. */
#ifndef GW_FFT_CUH
#define GW_FFT_CUH

#include "kernels/cuda/ptx.cuh"

enum {
    GW_FFT_EACH = 32,    /* points that a thread holds: a block of t threads transforms up to 32 t */
    GW_FFT_EDGE_BITS = 4 /* of a first or last pass that somebody else does: radix 16 */
};

/* Where bin i lies: two places in 34 are left free. Shared memory serves 16 bytes a thread to eight threads
 * at a time, 8 bytes to sixteen. Neighbours go in any case; those of a first pass of radix 32, which are 32
 * bins = 68 words apart, meet the banks 4 t to 4 t + 3, each once; and pairs of bins stay 16-byte aligned. */
static __host__ __device__ __forceinline__ unsigned gw_pad(unsigned i)
{
    return i + 2 * (i >> 5);
}

/* Bins i (even) and i + 1. */
static __device__ __forceinline__ float4 *gw_pair(float2 *s, unsigned i)
{
    return reinterpret_cast<float4 *>(s + gw_pad(i));
}

static __device__ __forceinline__ float2 gw_mul(float2 a, float2 b)
{
    return make_float2(fmaf(a.x, b.x, -a.y * b.y), fmaf(a.x, b.y, a.y * b.x));
}

static __device__ __forceinline__ float2 gw_add(float2 a, float2 b)
{
    return make_float2(a.x + b.x, a.y + b.y);
}

static __device__ __forceinline__ float2 gw_sub(float2 a, float2 b)
{
    return make_float2(a.x - b.x, a.y - b.y);
}

static __device__ __forceinline__ float2 gw_conj(float2 a)
{
    return make_float2(a.x, -a.y);
}

static __device__ __forceinline__ float2 gw_swap(float2 a)
{
    return make_float2(a.y, a.x);
}

/* exp(-2 pi i * at / points) for at < points / 2; points is 2^bits. */
struct gw_roots {
    const float2 *w;
    int bits;
};

static __device__ __forceinline__ float2 gw_root(gw_roots r, unsigned at)
{
    return __ldg(r.w + at);
}

/* ---- Butterflies, in place, natural order; z[0], z[stride], ... ---- */

template <int STRIDE> static __device__ __forceinline__ void gw_dft4(float2 *z)
{
    const float2 a = gw_add(z[0], z[2 * STRIDE]), b = gw_sub(z[0], z[2 * STRIDE]);
    const float2 c = gw_add(z[STRIDE], z[3 * STRIDE]), d = gw_sub(z[STRIDE], z[3 * STRIDE]);
    z[0] = gw_add(a, c);
    z[STRIDE] = make_float2(b.x + d.y, b.y - d.x); /* b - i d */
    z[2 * STRIDE] = gw_sub(a, c);
    z[3 * STRIDE] = make_float2(b.x - d.y, b.y + d.x);
}

/* R = 4 x R / 4: transforms of columns, a turn, transforms of rows, rows and columns exchanged. */
template <int R> static __device__ __forceinline__ void gw_dft(float2 *z)
{
    constexpr int ROW = R / 4;
    const float c[25] = {/* of 2 pi i / 32 */
                         1.000000000f,
                         0.980785280f,
                         0.923879533f,
                         0.831469612f,
                         0.707106781f,
                         0.555570233f,
                         0.382683432f,
                         0.195090322f,
                         0,
                         -0.195090322f,
                         -0.382683432f,
                         -0.555570233f,
                         -0.707106781f,
                         -0.831469612f,
                         -0.923879533f,
                         -0.980785280f,
                         -1.000000000f,
                         -0.980785280f,
                         -0.923879533f,
                         -0.831469612f,
                         -0.707106781f,
                         -0.555570233f,
                         -0.382683432f,
                         -0.195090322f,
                         0};
    const float s[25] = {0,
                         0.195090322f,
                         0.382683432f,
                         0.555570233f,
                         0.707106781f,
                         0.831469612f,
                         0.923879533f,
                         0.980785280f,
                         1.000000000f,
                         0.980785280f,
                         0.923879533f,
                         0.831469612f,
                         0.707106781f,
                         0.555570233f,
                         0.382683432f,
                         0.195090322f,
                         0,
                         -0.195090322f,
                         -0.382683432f,
                         -0.555570233f,
                         -0.707106781f,
                         -0.831469612f,
                         -0.923879533f,
                         -0.980785280f,
                         -1.000000000f};
    GW_UNROLL
    for (int a = 0; a < ROW; a++)
        gw_dft4<ROW>(z + a);
    GW_UNROLL
    for (int b = 1; b < 4; b++)
        GW_UNROLL
    for (int a = 1; a < ROW; a++)
        z[ROW * b + a] = gw_mul(z[ROW * b + a], make_float2(c[32 / R * a * b], -s[32 / R * a * b]));
    GW_UNROLL
    for (int b = 0; b < 4; b++)
        gw_dft<ROW>(z + ROW * b);
    float2 y[R];
    GW_UNROLL
    for (int b = 0; b < 4; b++)
        GW_UNROLL
    for (int a = 0; a < ROW; a++)
        y[b + 4 * a] = z[ROW * b + a];
    GW_UNROLL
    for (int k = 0; k < R; k++)
        z[k] = y[k];
}

template <> __device__ __forceinline__ void gw_dft<2>(float2 *z)
{
    const float2 a = z[0];
    z[0] = gw_add(a, z[1]);
    z[1] = gw_sub(a, z[1]);
}

template <> __device__ __forceinline__ void gw_dft<4>(float2 *z)
{
    gw_dft4<1>(z);
}

/* z[j] *= w^j, where w = root at `at`. In two steps, j % 8 and j / 8, which needs few roots at a time: read
 * are w^1, 2, 4, 8, 16, the others are their products. */
template <int R> static __device__ __forceinline__ void gw_turn(float2 *z, gw_roots r, unsigned at)
{
    float2 w[8];
    GW_UNROLL
    for (int j = 1; j < 8; j++) {
        const int high = j & 4 ? 4 : j & 2 ? 2 : 1;
        w[j] = j == high ? gw_root(r, at * unsigned(high)) : gw_mul(w[high], w[j - high]);
        GW_UNROLL
        for (int i = j; i < R; i += 8)
            z[i] = gw_mul(z[i], w[j]);
    }
    GW_UNROLL
    for (int j = 1; j < R / 8; j++) {
        w[j] = j < 3 ? gw_root(r, at * unsigned(8 * j)) : gw_mul(w[1], w[2]);
        GW_UNROLL
        for (int i = 8 * j; i < 8 * j + 8; i++)
            z[i] = gw_mul(z[i], w[j]);
    }
}

/* ---- Passes ---- */

template <int R> static __host__ __device__ constexpr int log2_of()
{
    return R == 8 ? 3 : R == 16 ? 4 : 5;
}

/* The results of butterfly q of a first pass, bins q * R and on. */
template <int R>
static __device__ __forceinline__ void gw_fft_put_first(float2 *s, unsigned q, const float2 *z)
{
    GW_UNROLL
    for (int j = 0; j < R; j += 2)
        *gw_pair(s, q * R + unsigned(j)) = {z[j].x, z[j].y, z[j + 1].x, z[j + 1].y};
}

/* One pass of radix R over m points in s, between barriers. */
template <int R>
static __device__ __forceinline__ void gw_fft_pass(unsigned m, int ns_bits, gw_roots r, float2 *s)
{
    constexpr int N = GW_FFT_EACH / R; /* butterflies of a thread */
    const unsigned thread = gw_ptx_opaque(threadIdx.x), n = gw_ptx_opaque(m / R), ns = 1u << ns_bits;
    float2 z[N][R] = {}; /* else what was in it lives on round the loop, in registers that are wanted */
    GW_UNROLL
    for (int i = 0; i < N; i++) {
        const unsigned q = thread + unsigned(i) * blockDim.x;
        if (q < n) {
            GW_UNROLL
            for (int j = 0; j < R; j++)
                z[i][j] = s[gw_pad(q + unsigned(j) * n)];
        }
    }
    __syncthreads();
    GW_UNROLL
    for (int i = 0; i < N; i++) {
        const unsigned q = thread + unsigned(i) * blockDim.x;
        if (q >= n)
            continue;
        if (ns == 1) {
            gw_dft<R>(z[i]);
            gw_fft_put_first<R>(s, q, z[i]);
            continue;
        }
        const unsigned k = q & (ns - 1), base = (q - k) * R + k;
        gw_turn<R>(z[i], r, k << (r.bits - ns_bits - log2_of<R>()));
        gw_dft<R>(z[i]);
        GW_UNROLL
        for (int j = 0; j < R; j++)
            s[gw_pad(base + unsigned(j) * ns)] = z[i][j];
    }
    __syncthreads();
}

static __device__ __forceinline__ int gw_fft_bits(unsigned m)
{
    return 31 - __clz(int(m));
}

/* The passes that take s from where transforms of 2^done points are done to where those of 2^until are, by
 * all threads of the block; until - done is 0 or 3 and more. m as below; all of s must be there (a barrier
 * before); behind it there is a barrier. */
static __device__ __forceinline__ void gw_fft_passes(unsigned m, int done, int until, gw_roots r, float2 *s)
{
    GW_UNROLL_BY(1)
    for (int passes = (until - done + 4) / 5; passes > 0; passes--) {
        const int radix = (until - done + passes - 1) / passes;
        if (radix == 3)
            gw_fft_pass<8>(m, done, r, s);
        else if (radix == 4)
            gw_fft_pass<16>(m, done, r, s);
        else
            gw_fft_pass<32>(m, done, r, s);
        done += radix;
    }
}

/* s := its transform: m a power of two, 32 to 16384, at most GW_FFT_EACH times the threads, and half of the
 * roots' points or less; bin i at s[gw_pad(i)]. */
static __device__ __forceinline__ void gw_block_fft(unsigned m, gw_roots r, float2 *s)
{
    gw_fft_passes(m, 0, gw_fft_bits(m), r, s);
}

/* The first pass by who reads the input; m is at least 128: in(i) is bins i (even) and i + 1. Then
 * `between(visit)` may look at all of them and change them: visit(f) calls f(bins, i) for each pair that this
 * thread has. It holds a barrier, if s was in use; with false, from all threads alike, it ends here. */
template <class In, class Between>
static __device__ __forceinline__ bool gw_fft_first(unsigned m, float2 *s, In in, Between between)
{
    constexpr int R = 1 << GW_FFT_EDGE_BITS;
    static_assert(GW_FFT_EACH == 2 * R, "a thread has two butterflies, neighbours");
    const unsigned n = m / R, q = 2 * threadIdx.x;
    const bool mine = q < n;
    float4 z[R];
    GW_UNROLL
    for (int j = 0; j < R; j++)
        z[j] = mine ? in(q + unsigned(j) * n) : float4{0, 0, 0, 0};
    const auto visit = [&](auto f) {
        GW_UNROLL
        for (int j = 0; j < R; j++)
            if (mine)
                f(z[j], q + unsigned(j) * n);
    };
    if (!between(visit))
        return false;
    if (mine) {
        float2 a[R], b[R];
        GW_UNROLL
        for (int j = 0; j < R; j++) {
            a[j] = make_float2(z[j].x, z[j].y);
            b[j] = make_float2(z[j].z, z[j].w);
        }
        gw_dft<R>(a);
        gw_fft_put_first<R>(s, q, a);
        gw_dft<R>(b);
        gw_fft_put_first<R>(s, q + 1, b);
    }
    __syncthreads();
    return true;
}

/* The last pass by who takes the output: out(i, bins i and i + 1). No barrier behind it. */
template <class Out>
static __device__ __forceinline__ void gw_fft_last(unsigned m, gw_roots r, float2 *s, Out out)
{
    constexpr int R = 1 << GW_FFT_EDGE_BITS;
    const unsigned n = m / R, q = 2 * threadIdx.x;
    const int shift = r.bits - gw_fft_bits(m);
    if (q >= n)
        return;
    float2 a[R], b[R];
    GW_UNROLL
    for (int j = 0; j < R; j++) {
        const float4 v = *gw_pair(s, q + unsigned(j) * n);
        a[j] = make_float2(v.x, v.y);
        b[j] = make_float2(v.z, v.w);
    }
    gw_turn<R>(a, r, q << shift);
    gw_dft<R>(a);
    gw_turn<R>(b, r, (q + 1) << shift);
    gw_dft<R>(b);
    GW_UNROLL
    for (int j = 0; j < R; j++)
        out(q + unsigned(j) * n, float4{a[j].x, a[j].y, b[j].x, b[j].y});
}

/* ---- Real signals ---- */

/* Bins k and m - k of the complex transform of m pairs -> the same two of the real one of 2 m points;
 * w = exp(-2 pi i k / 2 m), 0 < k <= m / 2. */
static __device__ __forceinline__ void gw_untangle(float2 &a, float2 &b, float2 w)
{
    const float2 even = make_float2(0.5f * (a.x + b.x), 0.5f * (a.y - b.y));
    const float2 odd = gw_mul(w, make_float2(0.5f * (a.y + b.y), 0.5f * (b.x - a.x)));
    a = gw_add(even, odd);
    b = gw_conj(gw_sub(even, odd));
}

/* Its inverse. */
static __device__ __forceinline__ void gw_tangle(float2 &a, float2 &b, float2 w)
{
    const float2 even = make_float2(0.5f * (a.x + b.x), 0.5f * (a.y - b.y));
    const float2 odd = gw_mul(gw_conj(w), make_float2(0.5f * (a.x - b.x), 0.5f * (a.y + b.y)));
    a = make_float2(even.x - odd.y, even.y + odd.x);
    b = make_float2(even.x + odd.y, odd.x - even.y);
}

#endif
