/* SPDX-License-Identifier: GPL-3.0-or-later
 * The kernel harness, after dav1d's checkasm: for every op of the table it compares each faster
 * implementation with the reference in kernels/ref, on seeded inputs, inside guard bands, against the
 * error bound that the op's header states; with --bench it also times both.
 *
 * One program a family: check.c (main) + check_<family>.c, which defines gw_check_suite. Options:
 *   --seed N | --bench | --only TEXT (ops whose name contains it) | --require cuda
 * Exit 0 all agree, 1 a difference or a written guard band, 77 nothing was compared, 2 bad usage. With
 * --require cuda it is a failure when no CUDA op was compared. */
#ifndef GW_CHECK_H
#define GW_CHECK_H

#include "kernels/kernels.h"

#include <stdarg.h>

typedef struct gw_check gw_check;

typedef struct gw_check_family {
    const char *name; /* "conv" */
    /* Called for every level above ref that is there; cand is the table filled up to that level. */
    void (*run)(gw_check *c, const gw_kernels *ref, const gw_kernels *cand);
} gw_check_family;
extern const gw_check_family gw_check_suite;

/* Begins one op. False: skip it (the candidate is the reference, or was compared on a lower level, or
 * --only leaves it out). Cast the table's pointers to gw_check_fn. Reports the op before it. */
typedef void (*gw_check_fn)(void);
bool gw_check_begin(gw_check *c, const char *op, gw_check_fn ref, gw_check_fn cand);

/* Memory for one op between two guard bands, 64-byte aligned plus `offset` bytes (a multiple of the
 * element; 0 if in doubt), filled with a pattern that is a NaN as float and double. Freed, and its guard
 * bands looked at, when the next op begins or gw_check_release is called. Never NULL: out of memory ends
 * the program with status 1. */
void *gw_check_buffer(gw_check *c, size_t bytes, size_t offset);
void gw_check_release(gw_check *c);

/* Seeded numbers. gw_check_below: 0 .. n - 1. gw_check_normal: mean 0, variance 1. */
uint64_t gw_check_random(gw_check *c);
uint32_t gw_check_below(gw_check *c, uint32_t n);
double gw_check_normal(gw_check *c);

/* What inputs are made of. The family loops over them; NAN and INF put a few into normal noise and are
 * for contracts that say what they do. */
typedef enum gw_check_fill {
    GW_FILL_NORMAL,
    GW_FILL_ZERO,
    GW_FILL_DENORMAL, /* +-1e-40 (float), 1e-310 (double) */
    GW_FILL_TINY,     /* normal * 1e-21: strain */
    GW_FILL_HUGE,     /* normal * 1e12 */
    GW_FILL_SPIKE,    /* zero but for one sample */
    GW_FILL_FINITE_COUNT,
    GW_FILL_NAN = GW_FILL_FINITE_COUNT,
    GW_FILL_INF,
    GW_FILL_COUNT
} gw_check_fill;
const char *gw_check_fill_text(gw_check_fill f);
void gw_check_fill_f32(gw_check *c, gw_check_fill f, float *x, size_t n);
void gw_check_fill_f64(gw_check *c, gw_check_fill f, double *x, size_t n);

/* |cand - ref| <= bound[i], for each i; a NaN differs from everything but a NaN. `fmt` names the case
 * ("k 7 stride 2, denormal"). */
void gw_check_f32(gw_check *c, const float *ref, const float *cand, const float *bound, size_t n,
                  const char *fmt, ...) __attribute__((format(printf, 6, 7)));
/* |cand - ref| <= relative * rms(ref) + absolute. */
void gw_check_rms_f32(gw_check *c, const float *ref, const float *cand, size_t n, double relative,
                      double absolute, const char *fmt, ...) __attribute__((format(printf, 7, 8)));
void gw_check_rms_f64(gw_check *c, const double *ref, const double *cand, size_t n, double relative,
                      double absolute, const char *fmt, ...) __attribute__((format(printf, 7, 8)));
/* Any other condition of the contract. */
void gw_check_that(gw_check *c, bool holds, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* --bench. Times both calls (best of many) and prints GFLOP/s and GB/s, their share of this machine's
 * limit measured in the same run (one core), and the ratio to ref. Does nothing without --bench. flop and
 * bytes are per call; 0 = do not print. */
void gw_check_bench(gw_check *c, const char *what, double flop, double bytes, void (*ref)(void *),
                    void *ref_arg, void (*cand)(void *), void *cand_arg);

#endif
