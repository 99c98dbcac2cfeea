/* SPDX-License-Identifier: GPL-3.0-or-later
 * The stage resample, its filter, and the marks that let outputs come later than their input. */
#include "kernels/fir.h"
#include "pipeline/stages/marks.h"
#include "tests/unit/stage_rig.h"

extern const gw_kind gw_kind_resample;

static void lowpass_keeps_its_promises(void **unused)
{
    (void)unused;
    for (uint32_t factor = 2; factor <= 16; factor *= 2) {
        const uint32_t n = 2 * GW_FIR_REACH * factor + 1;
        double *h = malloc(n * sizeof *h);
        assert_non_null(h);
        gw_fir_lowpass(factor, h);
        for (uint32_t k = 0; k < n; k++)
            assert_true(h[k] == h[n - 1 - k]);
        assert_true(fabs(response(h, n, 0) - 1) < 1e-14);
        for (int i = 0; i <= 200; i++) {
            const double pass = 0.88 * i / 200, stop = 1.12 + (factor - 1.12) * i / 200;
            assert_true(fabs(20 * log10(response(h, n, 0.5 * pass / factor))) < 0.1);
            assert_true(20 * log10(response(h, n, 0.5 * stop / factor)) < -80);
        }
        free(h);
    }
}

static void marks_hold_from_sample_to_sample(void **unused)
{
    (void)unused;
    static gw_marks m;
    gw_marks_clear(&m);
    gw_marks_add(&m, 100, &(gw_view){.dq = 7, .flags = 0, .networks = 1});
    gw_marks_add(&m, 150, &(gw_view){.dq = 7, .flags = 0, .networks = 1});
    gw_marks_add(&m, 160, &(gw_view){.dq = 5, .flags = 1, .networks = 2});
    gw_marks_add(&m, 200, &(gw_view){.dq = 6, .flags = 2, .networks = 2});
    assert_int_equal(m.n, 3);
    gw_out out = {0};
    gw_marks_take(&m, 0, 150, &out);
    assert_true(out.dq == 7 && out.flags == 0);
    gw_marks_take(&m, 149, 160, &out);
    assert_true(out.dq == 5 && out.flags == 1);
    gw_marks_take(&m, 159, 161, &out);
    assert_true(out.dq == 4 && out.flags == 3 && m.n == 2 && out.networks == 2); /* the newest */
    gw_marks_take(&m, 160, 200, &out);
    assert_true(out.dq == 6 && out.flags == 2);
    gw_marks_take(&m, 200, 300, &out);
    assert_true(out.dq == UINT64_MAX && out.flags == 0 && m.n == 0);
    /* Too many: the two oldest become one, which keeps what holds for both. */
    for (int i = 0; i <= GW_MARKS_MAX; i++)
        gw_marks_add(&m, i + 1, &(gw_view){.dq = i ? 3 : 1, .flags = i % 2 ? 4 : 0});
    assert_int_equal(m.n, GW_MARKS_MAX);
    gw_marks_take(&m, 1, 2, &out);
    assert_true(out.dq == 1 && out.flags == 4);
}

static void resample_keeps_time_and_offset(void **unused)
{
    (void)unused;
    enum { N = 16384, D = 8, HIGH = 2048 };
    static rig r;
    double *x = malloc(N * sizeof *x);
    assert_non_null(x);
    const int64_t sample0 = INT64_C(1126259446) * HIGH;
    for (int i = 0; i < N; i++)
        x[i] = sin(2 * M_PI * 40.0 * i / HIGH);
    rig_open(&r, &gw_kind_resample, "{rate: 256Hz}", HIGH, 100, 1, sample0 / D);
    rig_run(&r, sample0, x, N, 0, N);
    const int reach = GW_FIR_REACH, last = (N - 1 - reach * D) / D;
    assert_int_equal(seek(r.y[0], 0, true), reach);
    assert_int_equal(seek(r.y[0], reach, false), last + 1);
    for (int n = reach; n <= last;
         n++) /* 40 Hz is flat to 1e-4, and not late by even a thousandth of a sample */
        assert_true(fabs(r.y[0][n] - sin(2 * M_PI * 40.0 * n * D / HIGH)) < 3e-4);
    assert_int_equal(r.plan.delay_ns, gw_sample_to_ns(reach * D, (gw_rate){HIGH, 1}, 0));
    assert_int_equal(r.plan.out[0].rate.num, 256);
    rig_close(&r);

    /* An offset of -1e-18 under noise of 1e-21 comes through to 1e-11 of the noise (a double of 1e-18 is
     * rounded to 1e-13 of it to begin with). */
    double *y[2];
    for (int offset = 0; offset < 2; offset++) {
        state = 7;
        for (int i = 0; i < N; i++)
            x[i] = 1e-21 * normal() - (offset ? 1e-18 : 0);
        rig_open(&r, &gw_kind_resample, "{rate: 256Hz}", HIGH, 128, 1, sample0 / D);
        rig_run(&r, sample0, x, N, 0, N);
        y[offset] = malloc(sizeof r.y[0]);
        assert_non_null(y[offset]);
        memcpy(y[offset], r.y[0], sizeof r.y[0]);
        rig_close(&r);
    }
    for (int n = reach; n <= last; n++)
        assert_true(fabs(y[1][n] + 1e-18 - y[0][n]) < 1e-11 * 1e-21);
    free(y[0]);
    free(y[1]);
    free(x);
}

static void resample_holes_marks_and_refusals(void **unused)
{
    (void)unused;
    enum { N = 4096 };
    static rig r;
    static double x[2 * N];
    for (int i = 0; i < 2 * N; i++)
        x[i] = normal();
    rig_open(&r, &gw_kind_resample, "{rate: 1024Hz}", 2048, 64, 2, 0);
    assert_int_equal(r.plan.out[0].dtype, GW_F64);
    rig_run(&r, 0, x, N, 0, 1001);
    const gw_hole hole = {.sample0 = 1001, .samples = 100};
    assert_int_equal(r.kind->gap(r.self, 0, &hole), 0);
    rig_run(&r, 0, x, N, 1101, N);
    const int reach = GW_FIR_REACH, stop = seek(r.y[1], reach, false), again = seek(r.y[1], stop, true);
    assert_int_equal(stop, (1000 - 2 * reach) / 2 + 1);
    assert_int_equal(again, 551 + reach);

    /* What a block says holds for the outputs at its samples' times, also those that come with the next
     * block. */
    r.out0 = 0;
    rig_block(&r, 2 * N, x, N, 64, GW_DQ_ALL, 0); /* not where the last ended: begins anew */
    assert_int_equal(r.last.n_samples, 0);
    rig_block(&r, 2 * N + 64, x, N, 64, GW_DQ_DATA, GW_FLAG_INJECTION);
    assert_int_equal(r.last.sample0, N + reach);
    assert_true(r.last.dq == GW_DQ_DATA && r.last.flags == GW_FLAG_INJECTION);
    rig_block(&r, 2 * N + 128, x, N, 64, GW_DQ_ALL, 0);
    assert_true(r.last.dq == GW_DQ_DATA && r.last.flags == GW_FLAG_INJECTION);
    rig_block(&r, 2 * N + 192, x, N, 64, GW_DQ_ALL, 0);
    assert_true(r.last.dq == GW_DQ_ALL && r.last.flags == 0);
    rig_close(&r);

    rig_open(&r, &gw_kind_resample, "{rate: 2048Hz}", 2048, 64, 1, 0); /* equal rates: nothing changes */
    rig_run(&r, 0, x, N, 0, N);
    for (int i = 0; i < N; i++)
        assert_true(r.y[0][i] == x[i]);
    assert_int_equal(r.plan.delay_ns, 0);
    rig_close(&r);

    assert_int_equal(rig_plan(&r, &gw_kind_resample, "{rate: 2048Hz}", 5000, 64, 1, GW_F64), GW_EMISMATCH);
    rig_close(&r);
    assert_int_equal(rig_plan(&r, &gw_kind_resample, "{rate: 2048Hz}", 1024, 64, 1, GW_F64), GW_EMISMATCH);
    rig_close(&r);
    assert_int_equal(rig_plan(&r, &gw_kind_resample, "{rate: 2048Hz}", 4096, 64, 1, GW_I16), GW_EMISMATCH);
    rig_close(&r);
    assert_int_equal(rig_plan(&r, &gw_kind_resample, "{rate: 2048}", 4096, 64, 1, GW_F64), GW_ECONFIG);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lowpass_keeps_its_promises),
        cmocka_unit_test(marks_hold_from_sample_to_sample),
        cmocka_unit_test(resample_keeps_time_and_offset),
        cmocka_unit_test(resample_holes_marks_and_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
