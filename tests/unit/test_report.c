/* SPDX-License-Identifier: GPL-3.0-or-later
 * Under the report on cleaning: medians of spectra against sorting, over a ring and in groups; and charts of
 * what there may be to draw, in both formats, down to nothing at all. The report itself is judged from
 * outside (tests/flow/check_report.py). */
#include "sinks/chart.h"
#include "sinks/report_median.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* fontconfig keeps what it has read of its configuration until the process ends. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libfontconfig\n";
}

enum { BINS = 37, MOST = 64 };

static uint64_t state64 = 1;

static double power(void) /* exponentially distributed, as low as strain's */
{
    uint64_t z = (state64 += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return -log(((double)((z ^ (z >> 31)) >> 11) + 0.5) / 9007199254740992.0) * 1e-47;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double sorted_median(const double *x, size_t n)
{
    double y[MOST];
    memcpy(y, x, n * sizeof *y);
    qsort(y, n, sizeof *y, ascending);
    return 0.5 * (y[(n - 1) / 2] + y[n / 2]);
}

static double bias(size_t n)
{
    double b = 1;
    for (size_t k = 1; k <= (n - 1) / 2; k++)
        b += 1.0 / (2.0 * (double)k + 1) - 1.0 / (2.0 * (double)k);
    return b;
}

static double made[MOST][BINS];

static void make(void)
{
    for (int s = 0; s < MOST; s++)
        for (int b = 0; b < BINS; b++)
            made[s][b] = b == 5 ? 1e-47 : power(); /* one bin in which all are the same */
}

/* The median of spectra [first, first + n) in a bin, without bias. */
static double wanted(int first, int n, int b)
{
    double x[MOST];
    for (int s = 0; s < n; s++)
        x[s] = made[first + s][b];
    return sorted_median(x, (size_t)n) / bias((size_t)n);
}

static void near(double got, double want)
{
    if (!(fabs(got / want - 1) < 1e-6))
        fail_msg("%g, want %g", got, want);
}

static void medians_of_the_last(void **state)
{
    (void)state;
    make();
    for (uint32_t room = 1; room <= 9; room++) {
        gw_median m;
        double psd[BINS];
        assert_int_equal(gw_median_new(&m, BINS, room), 0);
        for (int s = 0; s < 20; s++) {
            gw_median_slide(&m, made[s]);
            const int n = s + 1 < (int)room ? s + 1 : (int)room;
            assert_int_equal(gw_median_estimate(&m, psd), 0);
            for (int b = 0; b < BINS; b++)
                near(psd[b], wanted(s + 1 - n, n, b));
        }
        gw_median_free(&m);
    }
}

static void medians_of_all(void **state)
{
    (void)state;
    enum { ROOM = 20 };
    gw_median m;
    double psd[BINS];
    make();
    assert_int_equal(gw_median_new(&m, BINS, ROOM), 0);
    for (int s = 0; s < MOST; s++)
        assert_int_equal(gw_median_pile(&m, made[s]), 0);
    assert_int_equal(m.total, MOST);
    assert_int_equal(gw_median_estimate(&m, psd), 0);
    for (int b = 0; b < BINS; b++) { /* three groups of 20 and what is left, 4 */
        double x[4];
        for (int g = 0; g < 4; g++)
            x[g] = wanted(g * ROOM, g < 3 ? ROOM : MOST - 3 * ROOM, b);
        near(psd[b], sorted_median(x, 4));
    }
    gw_median_free(&m);
}

static void drawn(const gw_chart *c)
{
    char *data;
    size_t n;
    assert_int_equal(gw_chart_png(c, &data, &n), 0);
    assert_true(n > 500 && memcmp(data, "\x89PNG", 4) == 0);
    free(data);
    assert_int_equal(gw_chart_svg(c, &data, &n), 0);
    assert_true(n > 500 && strstr(data, "<svg") && strstr(data, "</svg>"));
    free(data);
}

static void charts(void **state)
{
    (void)state;
    enum { N = 5000 };
    static double x[N], y[N];
    static float map[6 * 8];
    for (int i = 0; i < N; i++) {
        x[i] = i * 0.5;
        y[i] = i % 97 == 0 ? NAN : i % 89 == 0 ? INFINITY : i % 83 == 0 ? -1 : i % 79 == 0 ? 0 : power();
    }
    for (int i = 0; i < 48; i++)
        map[i] = i % 7 ? (float)i : NAN;
    gw_chart c = {
        .title = "title",
        .width = 400,
        .height = 200,
        .level = NAN,
        .x = {"x", 8, 2500, .log = true},
        .y = {"y", 1e-49, 1e-46, .log = true},
        .line = {{.name = "a", .x = x, .y = y, .n = N, .width = 1}, {.x = x, .y = y, .n = 0, .width = 1}},
        .n_lines = 2,
        .span = {{57, 63, gw_chart_amber, 0.2, "60 Hz"}, {3000, 4000, gw_chart_amber, 0.2, "beyond"}},
        .n_spans = 2};
    drawn(&c);
    c.x = (gw_chart_axis){.label = "t", .from = 0, .to = 7200, .gps = true, .gps_s = 1400000000};
    c.y = (gw_chart_axis){.label = "y", .from = -1, .to = 1};
    c.line[0].steps = true;
    c.line[0].dashed = true;
    c.level = 0;
    drawn(&c);
    c.image = map;
    c.rows = 6;
    c.cols = 8;
    c.low = 1;
    c.high = 48;
    drawn(&c);
    c.log_colours = true;
    drawn(&c);
    c.diverging = true;
    drawn(&c);
    c.image = NULL;
    c.n_lines = c.n_spans = 0;
    c.title = NULL;
    drawn(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(medians_of_the_last),
        cmocka_unit_test(medians_of_all),
        cmocka_unit_test(charts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
