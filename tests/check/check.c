/* SPDX-License-Identifier: GPL-3.0-or-later
 * The kernel harness: see check.h. Linked with one check_<family>.c to make one test program. */
#include "tests/check/check.h"
#include "kernels/limit.h"
#ifdef GW_HAVE_CUDA
#include "kernels/cuda/cuda.h"
#endif

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { GUARD_BYTES = 256, ALIGN_BYTES = 64, MAX_BUFFERS = 64, MAX_OPS = 128, MAX_SHOWN = 12 };

static const uint32_t PATTERN = 0xfffa5a5au; /* a NaN as float, and twice as double */

typedef struct buffer {
    unsigned char *base; /* guard, data, guard */
    size_t data, bytes, total;
} buffer;

typedef struct seen { /* what lower levels compared */
    const char *op;
    gw_check_fn fn;
} seen;

struct gw_check {
    uint64_t seed, random;
    bool bench, require_cuda;
    const char *only, *level, *op;
    int compared, cuda_compared, cases, failures, op_cases, op_failures;
    double op_worst; /* largest error / bound of the op */
    buffer buffers[MAX_BUFFERS];
    int n_buffers;
    seen ops[MAX_OPS];
    int n_ops;
};

static const char *const fill_text[] = {"normal", "zero", "denormal", "tiny", "huge", "spike", "nan", "inf"};

const char *gw_check_fill_text(gw_check_fill f)
{
    return fill_text[f];
}

static _Noreturn void give_up(const char *what)
{
    fprintf(stderr, "check: %s\n", what);
    exit(1);
}

/* ---- Buffers ---- */

void *gw_check_buffer(gw_check *c, size_t bytes, size_t offset)
{
    if (c->n_buffers == MAX_BUFFERS)
        give_up("too many buffers in one op");
    buffer *b = &c->buffers[c->n_buffers];
    b->bytes = bytes;
    b->data = GUARD_BYTES + offset;
    b->total = (b->data + bytes + GUARD_BYTES + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
    b->base = aligned_alloc(ALIGN_BYTES, b->total);
    if (!b->base)
        give_up("out of memory");
    for (size_t i = 0; i < b->total; i++)
        b->base[i] = (unsigned char)(PATTERN >> (8 * ((i - b->data) & 3)));
    c->n_buffers++;
    return b->base + b->data;
}

static void fail(gw_check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void fail(gw_check *c, const char *fmt, ...)
{
    c->failures++;
    if (c->op_failures++ >= MAX_SHOWN)
        return;
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "%s %s: ", c->level, c->op ? c->op : "?");
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
}

void gw_check_release(gw_check *c)
{
    for (int i = 0; i < c->n_buffers; i++) {
        buffer *b = &c->buffers[i];
        for (size_t k = 0; k < b->total; k++) {
            if (k == b->data)
                k += b->bytes;
            if (k < b->total && b->base[k] != (unsigned char)(PATTERN >> (8 * ((k - b->data) & 3)))) {
                fail(c, "wrote outside buffer %d of %zu bytes, at byte %td (seed %" PRIu64 ")", i, b->bytes,
                     (ptrdiff_t)k - (ptrdiff_t)b->data, c->seed);
                break;
            }
        }
        free(b->base);
    }
    c->n_buffers = 0;
}

/* ---- Numbers ---- */

uint64_t gw_check_random(gw_check *c) /* splitmix64 (Steele, Lea, Flood 2014) */
{
    uint64_t z = c->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint32_t gw_check_below(gw_check *c, uint32_t n)
{
    return (uint32_t)((gw_check_random(c) >> 32) * n >> 32);
}

double gw_check_normal(gw_check *c) /* Box and Muller; one of the pair is enough */
{
    const double u = ((double)(gw_check_random(c) >> 11) + 0.5) * 0x1p-53;
    const double v = ((double)(gw_check_random(c) >> 11) + 0.5) * 0x1p-53;
    return sqrt(-2 * log(u)) * cos(2 * 3.14159265358979323846 * v);
}

void gw_check_fill_f64(gw_check *c, gw_check_fill f, double *x, size_t n)
{
    const size_t special = n ? gw_check_below(c, n > UINT32_MAX ? UINT32_MAX : (uint32_t)n) : 0;
    for (size_t i = 0; i < n; i++) {
        const double g = gw_check_normal(c);
        switch (f) {
        case GW_FILL_ZERO:
            x[i] = 0;
            break;
        case GW_FILL_DENORMAL:
            x[i] = g < 0 ? -1e-310 : 1e-310;
            break;
        case GW_FILL_TINY:
            x[i] = g * 1e-21;
            break;
        case GW_FILL_HUGE:
            x[i] = g * 1e12;
            break;
        case GW_FILL_SPIKE:
            x[i] = i == special ? g * 1e3 : 0;
            break;
        case GW_FILL_NAN:
            x[i] = i == special ? (double)NAN : g;
            break;
        case GW_FILL_INF:
            x[i] = i == special ? (double)INFINITY : g;
            break;
        case GW_FILL_NORMAL:
        case GW_FILL_COUNT:
            x[i] = g;
            break;
        }
    }
}

void gw_check_fill_f32(gw_check *c, gw_check_fill f, float *x, size_t n)
{
    double y[64];
    if (f == GW_FILL_DENORMAL) {
        for (size_t i = 0; i < n; i++)
            x[i] = gw_check_random(c) & 1 ? -1e-40f : 1e-40f;
        return;
    }
    if (f >= GW_FILL_SPIKE) { /* one special sample in the whole array, not in each piece */
        const bool spike = f == GW_FILL_SPIKE;
        for (size_t i = 0; i < n; i++)
            x[i] = spike ? 0 : (float)gw_check_normal(c);
        if (n)
            x[gw_check_below(c, (uint32_t)n)] = spike ? 1e3f : f == GW_FILL_NAN ? NAN : INFINITY;
        return;
    }
    for (size_t i = 0; i < n; i += 64) {
        const size_t m = n - i < 64 ? n - i : 64;
        gw_check_fill_f64(c, f, y, m);
        for (size_t k = 0; k < m; k++)
            x[i + k] = (float)y[k];
    }
}

/* ---- Comparison ---- */

void gw_check_f32(gw_check *c, const float *ref, const float *cand, const float *bound, size_t n,
                  const char *fmt, ...)
{
    c->cases++;
    c->op_cases++;
    size_t wrong = 0, at = 0;
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        if ((isnan(ref[i]) && isnan(cand[i])) || ref[i] == cand[i])
            continue;
        const double error = fabs((double)cand[i] - ref[i]);
        if (!(error <= (double)bound[i])) {
            if (wrong++ == 0)
                at = i;
        } else if (bound[i] > 0 && error / (double)bound[i] > worst) {
            worst = error / (double)bound[i];
        }
    }
    if (worst > c->op_worst)
        c->op_worst = worst;
    if (wrong == 0)
        return;
    char what[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    fail(c, "%s: %zu of %zu differ, first [%zu] ref %.9g cand %.9g bound %.3g (seed %" PRIu64 ")", what,
         wrong, n, at, (double)ref[at], (double)cand[at], (double)bound[at], c->seed);
}

/* Both rms checks, over a reader of element i. */
typedef struct pair {
    double ref, cand;
} pair;

static void check_rms(gw_check *c, pair (*at)(const void *, const void *, size_t), const void *ref,
                      const void *cand, size_t n, double relative, double absolute, const char *fmt,
                      va_list args)
{
    c->cases++;
    c->op_cases++;
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const double x = at(ref, cand, i).ref;
        sum += isfinite(x) ? x * x : 0;
    }
    const double bound = relative * sqrt(sum / (double)(n ? n : 1)) + absolute;
    size_t wrong = 0, first = 0;
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        const pair p = at(ref, cand, i);
        if ((isnan(p.ref) && isnan(p.cand)) || p.ref == p.cand)
            continue;
        const double error = fabs(p.cand - p.ref);
        if (!(error <= bound)) {
            if (wrong++ == 0)
                first = i;
        } else if (bound > 0 && error / bound > worst) {
            worst = error / bound;
        }
    }
    if (worst > c->op_worst)
        c->op_worst = worst;
    if (wrong == 0)
        return;
    char what[256];
    vsnprintf(what, sizeof what, fmt, args);
    const pair p = at(ref, cand, first);
    fail(c, "%s: %zu of %zu differ, first [%zu] ref %.17g cand %.17g bound %.3g (seed %" PRIu64 ")", what,
         wrong, n, first, p.ref, p.cand, bound, c->seed);
}

static pair at_f32(const void *ref, const void *cand, size_t i)
{
    return (pair){(double)((const float *)ref)[i], (double)((const float *)cand)[i]};
}

static pair at_f64(const void *ref, const void *cand, size_t i)
{
    return (pair){((const double *)ref)[i], ((const double *)cand)[i]};
}

void gw_check_rms_f32(gw_check *c, const float *ref, const float *cand, size_t n, double relative,
                      double absolute, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    check_rms(c, at_f32, ref, cand, n, relative, absolute, fmt, args);
    va_end(args);
}

void gw_check_rms_f64(gw_check *c, const double *ref, const double *cand, size_t n, double relative,
                      double absolute, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    check_rms(c, at_f64, ref, cand, n, relative, absolute, fmt, args);
    va_end(args);
}

void gw_check_that(gw_check *c, bool holds, const char *fmt, ...)
{
    c->cases++;
    c->op_cases++;
    if (holds)
        return;
    char what[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    fail(c, "%s does not hold (seed %" PRIu64 ")", what, c->seed);
}

/* ---- The walk ---- */

static void end_op(gw_check *c)
{
    gw_check_release(c);
    if (!c->op)
        return;
    if (c->op_cases == 0)
        fail(c, "no case was compared");
    printf("%s %-28s %s  %d cases, worst error %.2f of its bound\n", c->level, c->op,
           c->op_failures ? "FAIL" : "ok", c->op_cases, c->op_worst);
    c->compared++;
    c->cuda_compared += strcmp(c->level, "cuda") == 0;
    c->op = NULL;
}

bool gw_check_begin(gw_check *c, const char *op, gw_check_fn ref, gw_check_fn cand)
{
    end_op(c);
    if (cand == ref || (c->only && !strstr(op, c->only)))
        return false;
    for (int i = 0; i < c->n_ops; i++)
        if (strcmp(c->ops[i].op, op) == 0 && c->ops[i].fn == cand)
            return false;
    if (c->n_ops == MAX_OPS)
        give_up("too many ops in one family");
    c->ops[c->n_ops++] = (seen){op, cand};
    c->op = op;
    c->op_cases = c->op_failures = 0;
    c->op_worst = 0;
    c->random = c->seed;
    for (const char *p = op; *p; p++) /* an op's inputs do not depend on which ops ran before it */
        c->random = c->random * 31 + (unsigned char)*p;
    return true;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds of one call: the best of 15 runs of at least a millisecond each. CPU time of the thread, so that
 * a busy machine does not count. */
static double time_call(void (*call)(void *), void *arg)
{
    int calls = 1;
    double best = INFINITY;
    for (int run = 0; run < 15; run++) {
        const double start = seconds();
        for (int i = 0; i < calls; i++)
            call(arg);
        const double took = seconds() - start;
        if (took < 1e-3 && calls < 1 << 20) {
            calls *= 4;
            run = -1;
            best = INFINITY;
            continue;
        }
        if (took / calls < best)
            best = took / calls;
    }
    return best;
}

void gw_check_bench(gw_check *c, const char *what, double flop, double bytes, void (*ref)(void *),
                    void *ref_arg, void (*cand)(void *), void *cand_arg)
{
    if (!c->bench)
        return;
    const double ref_s = time_call(ref, ref_arg), cand_s = time_call(cand, cand_arg);
    printf("%s %-28s %-36s %9.2f us", c->level, c->op, what, cand_s * 1e6);
    const bool gpu = strcmp(c->level, "cuda") == 0; /* the limits below are this processor's */
    if (flop > 0) {
        printf(" %8.2f GFLOP/s", flop / cand_s * 1e-9);
        if (!gpu)
            printf(" (%2.0f%% of %.0f)", 100 * flop / cand_s / gw_limit_flop(), gw_limit_flop() * 1e-9);
    }
    if (bytes > 0) {
        printf(" %8.2f GB/s", bytes / cand_s * 1e-9);
        if (!gpu)
            printf(" (%2.0f%% of %.1f)", 100 * bytes / cand_s / gw_limit_copy(), gw_limit_copy() * 1e-9);
    }
    printf("  %.1f x ref\n", ref_s / cand_s);
}

static int usage(void)
{
    fprintf(stderr, "usage: check_%s [--seed N] [--bench] [--only TEXT] [--require cuda]\n",
            gw_check_suite.name);
    return 2;
}

int main(int argc, char **argv)
{
    static gw_check check;
    gw_check *c = &check;
    c->seed = 20150914;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--bench") == 0) {
            c->bench = true;
        } else if (strcmp(argv[i], "--seed") == 0 && value) {
            char *end;
            c->seed = strtoull(value, &end, 10);
            if (end == value || *end)
                return usage();
            i++;
        } else if (strcmp(argv[i], "--only") == 0 && value) {
            c->only = value;
            i++;
        } else if (strcmp(argv[i], "--require") == 0 && value && strcmp(value, "cuda") == 0) {
            c->require_cuda = true;
            i++;
        } else {
            return usage();
        }
    }

    static const struct {
        const char *name;
        gw_kernels_level level;
    } levels[] = {{"cpu", GW_KERNELS_CPU}, {"cuda", GW_KERNELS_CUDA}};
    gw_kernels ref, cand;
    if (gw_kernels_init(&ref, GW_KERNELS_REF) < 0)
        give_up(gw_err_detail());
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        if (gw_kernels_init(&cand, levels[i].level) < 0)
            give_up(gw_err_detail());
#ifdef GW_HAVE_CUDA
        if (levels[i].level == GW_KERNELS_CUDA)
            gw_kernels_cuda_all(&cand);
#endif
        c->level = levels[i].name;
        gw_check_suite.run(c, &ref, &cand);
        end_op(c);
    }
    if (c->require_cuda && c->cuda_compared == 0) {
        fprintf(stderr, "check_%s: no CUDA op was compared\n", gw_check_suite.name);
        return 1;
    }
    if (c->compared == 0) {
        printf("check_%s: skipped, nothing to compare on this machine\n", gw_check_suite.name);
        return 77;
    }
    printf("check_%s: %d ops, %d cases, %d failures (seed %" PRIu64 ")\n", gw_check_suite.name, c->compared,
           c->cases, c->failures, c->seed);
    return c->failures ? 1 : 0;
}
