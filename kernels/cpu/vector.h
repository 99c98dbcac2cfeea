/* SPDX-License-Identifier: GPL-3.0-or-later
 * Vectors of as many floats as the processor has side by side, for the files in here that are built once for
 * each kind of processor (bulk_loops.c, fft32_block.c). The compiler's own vectors, and patterns for its
 * shuffles. */
#ifndef GW_VECTOR_H
#define GW_VECTOR_H

#include <stdint.h>
#ifdef __SSE2__
#include <immintrin.h>
#endif

#if defined __AVX512F__
enum { WIDTH = 16 };
#define EVEN 0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 12, 12, 14, 14
#define ODD  1, 1, 3, 3, 5, 5, 7, 7, 9, 9, 11, 11, 13, 13, 15, 15
#define SWAP 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14
#define SIGN -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1
/* In fours, the one two places on. */
#define ACROSS 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13
/* Pairs backwards. */
#define BACK 14, 15, 12, 13, 10, 11, 8, 9, 6, 7, 4, 5, 2, 3, 0, 1
/* Of two: every second value; both in turns; the first one's first and the rest of the other backwards. */
#define EVENS    0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODDS     1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define ZIP_LOW  0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define ZIP_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define MIRROR   0, 31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17
/* Steps of a transposition: rows 1, 2, 4, 8 apart change lanes with each other. */
#define CROSS1  0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30
#define CROSS1_ 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31
#define CROSS2  0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define CROSS2_ 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#define CROSS4  0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27
#define CROSS4_ 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31
#define CROSS8  0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23
#define CROSS8_ 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31
#elif defined __AVX2__
enum { WIDTH = 8 };
#define EVEN     0, 0, 2, 2, 4, 4, 6, 6
#define ODD      1, 1, 3, 3, 5, 5, 7, 7
#define SWAP     1, 0, 3, 2, 5, 4, 7, 6
#define SIGN     -1, 1, -1, 1, -1, 1, -1, 1
#define ACROSS   2, 3, 0, 1, 6, 7, 4, 5
#define EVENS    0, 2, 4, 6, 8, 10, 12, 14
#define ODDS     1, 3, 5, 7, 9, 11, 13, 15
#define ZIP_LOW  0, 8, 1, 9, 2, 10, 3, 11
#define ZIP_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#define MIRROR   0, 15, 14, 13, 12, 11, 10, 9
#define BACK     6, 7, 4, 5, 2, 3, 0, 1
#define CROSS1   0, 8, 2, 10, 4, 12, 6, 14
#define CROSS1_  1, 9, 3, 11, 5, 13, 7, 15
#define CROSS2   0, 1, 8, 9, 4, 5, 12, 13
#define CROSS2_  2, 3, 10, 11, 6, 7, 14, 15
#define CROSS4   0, 1, 2, 3, 8, 9, 10, 11
#define CROSS4_  4, 5, 6, 7, 12, 13, 14, 15
#else
enum { WIDTH = 4 };
#define EVEN     0, 0, 2, 2
#define ODD      1, 1, 3, 3
#define SWAP     1, 0, 3, 2
#define SIGN     -1, 1, -1, 1
#define ACROSS   2, 3, 0, 1
#define EVENS    0, 2, 4, 6
#define ODDS     1, 3, 5, 7
#define ZIP_LOW  0, 4, 1, 5
#define ZIP_HIGH 2, 6, 3, 7
#define MIRROR   0, 7, 6, 5
#define BACK     2, 3, 0, 1
#define CROSS1   0, 4, 2, 6
#define CROSS1_  1, 5, 3, 7
#define CROSS2   0, 1, 4, 5
#define CROSS2_  2, 3, 6, 7
#endif
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)

typedef float vec __attribute__((vector_size(4 * WIDTH)));
typedef float anywhere __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef int32_t bits __attribute__((vector_size(4 * WIDTH)));
typedef uint32_t ubits __attribute__((vector_size(4 * WIDTH)));

static inline vec load(const float *x)
{
    return *(const anywhere *)x;
}

static inline void store(float *x, vec v)
{
    *(anywhere *)x = v;
}

static inline vec all(float x)
{
    return x - (vec){0};
}

static inline vec either(bits mask, vec yes, vec no)
{
    return (vec)((mask & (bits)yes) | (~mask & (bits)no));
}

/* Halves have five bits of exponent, ten of fraction. */
#ifdef __F16C__
static inline vec load_half(const uint16_t *h)
{
#if defined __AVX512F__
    return (vec)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)h));
#else
    return (vec)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)h));
#endif
}
#else
/* The exponent is moved by a multiplication, which minds denormals too; they are normal in float. */
static inline vec load_half(const uint16_t *h)
{
    bits b;
    for (int i = 0; i < WIDTH; i++)
        b[i] = h[i];
    const bits sign = (b & 0x8000) << 16;
    /* 2^-14 .. becomes 2^-14 .. without touching a float's denormals: as a fraction of 2^-14, less that. */
    const bits small = ((b & 0x7fff) << 13) + (113 << 23);
    const vec normal = (vec)(((b & 0x7fff) << 13) + (112 << 23)), denormal = (vec)small - 0x1p-14f;
    return (vec)((bits)either((b & 0x7c00) == 0, denormal, normal) | sign);
}
#endif

#endif
