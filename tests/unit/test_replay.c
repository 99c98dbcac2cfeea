/* SPDX-License-Identifier: GPL-3.0-or-later
 * kind: replay, run alone: joining, holes, data quality, NaN, shifts, block lengths, ports that keep
 * together, and what does not fit. */
#include "hdf5_fixture.h"
#include "sources/archive.h"

extern const gw_kind gw_kind_replay;

enum { RATE = 256, SECONDS = 8, N = RATE * SECONDS };

/* "{files: [...], more}" */
static const char *yaml(const char *more, int n, const char *const *file)
{
    static char text[4096];
    size_t used = (size_t)snprintf(text, sizeof text, "{files: [");
    for (int i = 0; i < n; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s\"%s\"", i ? ", " : "", file[i]);
    snprintf(text + used, sizeof text - used, "]%s%s}", *more ? ", " : "", more);
    return text;
}

#define YAML(more, ...)                                                                                      \
    yaml(more, (int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)), (const char *[]){__VA_ARGS__})

static const char *make_detector(const char *name, const char *detector, double start_s, int seconds,
                                 const double *x)
{
    gwosc g = {start_s, RATE, seconds, x, detector, 0, NULL, NULL, NULL, NULL, 0, 0, true};
    const char *path = temporary(name);
    make_gwosc(path, &g);
    return path;
}

static void real_pair_in_all_block_lengths(void **state)
{
    (void)state;
    const char *h = real_file("strain-4k/H-H1_LOSC_4_V2-1126259446-32.hdf5");
    const char *l = real_file("strain-16k/L-L1_GWOSC_16KHZ_R1-1126259447-32.hdf5");
    NEED_REAL(h);
    NEED_REAL(l);
    static const char *const block[] = {"block: 1/64s", "block: 1/16s", "block: 1/4s", "block: 1s",
                                        "block: 4s"};
    static const int rate[] = {4096, 16384};
    double *x = malloc(32 * 16384 * sizeof *x);
    for (size_t b = 0; b < sizeof block / sizeof *block; b++) {
        alone a = {0};
        taken t[2] = {0};
        assert_works(alone_plan(&a, &gw_kind_replay, YAML(block[b], l, h)));
        assert_int_equal(a.plan.n_out, 2);
        assert_string_equal(a.plan.out[0].name, "H1");
        assert_string_equal(a.plan.out[1].detector, "L1");
        assert_string_equal(a.plan.out[1].unit, "strain");
        assert_string_equal(a.plan.out[0].channel[0], "H1:STRAIN");
        assert_works(alone_run(&a, t, NULL));
        assert_true(a.env.start_ns == INT64_C(1126259446) * GW_SECOND_NS);
        for (int i = 0; i < 2; i++) { /* [446, 479): H1 has the first 32 s, L1 the last */
            assert_int_equal(t[i].sample0, INT64_C(1126259446) * rate[i]);
            assert_int_equal(t[i].end - t[i].sample0, 33 * rate[i]);
            const int64_t first = i * rate[i];
            hid_t f = H5Fopen(i ? l : h, H5F_ACC_RDONLY, H5P_DEFAULT),
                  d = H5Dopen2(f, "strain/Strain", H5P_DEFAULT);
            assert_true(H5Dread(d, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, x) >= 0);
            H5Dclose(d);
            H5Fclose(f);
            assert_memory_equal(x, t[i].x + first, (size_t)(32 * rate[i]) * sizeof *x);
            for (int64_t k = 0; k < rate[i]; k++)
                assert_int_equal(t[i].reason[i ? k : 32 * rate[i] + k], GW_GAP_ABSENT);
            assert_int_equal(t[i].flags[first], GW_FLAG_REPLAY);
        }
        assert_int_equal(a.env.bad_inputs, 0);
        taken_free(t, 2);
        alone_close(&a);
    }
    free(x);
}

/* Every state of the masks; and a stretch that is not a number in good data. */
static void data_quality_and_nan(void **state)
{
    (void)state;
    static double x[N];
    fill_noise(x, N, 1);
    /* second: 0 good, 1 NaN with DATA off, 2 CAT1 off, 3 CAT2 off, 4 CBC injection, 5 burst injection, 6 NaN,
     * 7 good */
    uint32_t dq[SECONDS] = {127, 0, 125, 123, 127, 127, 127, 127},
             inj[SECONDS] = {31, 31, 31, 31, 30, 29, 31, 23};
    for (int i = 0; i < RATE; i++)
        x[RATE + i] = NAN;
    for (int i = 5; i < 105; i++)
        x[6 * RATE + i] = i == 50 ? INFINITY : NAN;
    gwosc g = {1000, RATE, SECONDS, x, "H1", 0, dq, inj, usual_dq, usual_inj, 7, 5, true};
    make_gwosc(temporary("dq.hdf5"), &g);
    static const char *const block[] = {"block: 1/64s", "block: 1/16s", "block: 4s"};
    for (int b = 0; b < 3; b++) {
        alone a = {0};
        taken t = {0};
        assert_works(alone_plan(&a, &gw_kind_replay, YAML(block[b], temporary("dq.hdf5"))));
        assert_works(alone_run(&a, &t, NULL));
        assert_int_equal(t.end - t.sample0, N);
        for (int i = 0; i < N; i++) {
            const int s = i / RATE, at = i % RATE;
            const bool nan = s == 6 && at >= 5 && at < 105;
            const int want = s == 1 || s == 2 ? GW_GAP_QUALITY : nan ? GW_GAP_NAN : GW_GAP_NONE;
            assert_int_equal(t.reason[i], want);
            if (want == GW_GAP_NONE)
                assert_true(t.x[i] == x[i]);
            if (want == GW_GAP_NONE)
                assert_int_equal(t.flags[i], GW_FLAG_REPLAY | (s == 4 || s == 5 ? GW_FLAG_INJECTION : 0));
            const uint64_t off[SECONDS] = {0,
                                           0x7f,
                                           GW_DQ_CBC_CAT1,
                                           GW_DQ_CBC_CAT2,
                                           GW_DQ_NO_CBC_HW_INJ,
                                           GW_DQ_NO_BURST_HW_INJ,
                                           0,
                                           GW_DQ_NO_CW_HW_INJ};
            assert_true(t.dq[i] == (GW_DQ_ALL & ~off[s]));
        }
        assert_int_equal(a.env.bad_inputs, 1);
        assert_non_null(strstr(a.env.bad[0], "dq.hdf5"));
        assert_non_null(strstr(a.env.bad[0], "100 samples from GPS 1006.019531 to 1006.410156"));
        taken_free(&t, 1);
        alone_close(&a);
    }
}

/* NaN is a hole without complaint where nothing says the data is good; infinity is not; at the end of a file
 * too. */
static void nan_without_masks(void **state)
{
    (void)state;
    static double x[N];
    fill_noise(x, N, 2);
    x[10] = x[11] = NAN;
    x[N - 2] = x[N - 1] = -INFINITY;
    hid_t f = make_file(temporary("nan.hdf5"));
    put_channel(f, "H1:X", H5T_IEEE_F64LE, N, x, "x0", 1000, "dx", 1.0 / RATE);
    H5Fclose(f);
    alone a = {0};
    taken t = {0};
    assert_works(alone_plan(&a, &gw_kind_replay, YAML("", temporary("nan.hdf5"))));
    assert_works(alone_run(&a, &t, NULL));
    for (int i = 0; i < N; i++)
        assert_int_equal(t.reason[i], i == 10 || i == 11 ? GW_GAP_ABSENT
                                      : i >= N - 2       ? GW_GAP_NAN
                                                         : GW_GAP_NONE);
    assert_int_equal(a.env.bad_inputs, 1);
    assert_non_null(strstr(a.env.bad[0], "2 samples"));
    taken_free(&t, 1);
    alone_close(&a);
}

static void files_are_joined(void **state)
{
    (void)state;
    static double x[N];
    fill_noise(x, N, 3);
    const char *late =
        make_detector("c.hdf5", "H1", 1006, 2, x + 6 * RATE); /* given first; 1004-1006 is a hole */
    static const uint32_t dq[] = {127, 123, 127};
    gwosc g = {1000, RATE, 3, x, "H1", 0, dq, NULL, usual_dq, NULL, 7, 0, true};
    const char *first = temporary("a.hdf5");
    make_gwosc(first, &g);
    const char *second = make_detector("b.hdf5", "H1", 1003, 1, x + 3 * RATE);
    alone a = {0};
    taken t = {0};
    assert_works(alone_plan(&a, &gw_kind_replay, YAML("start: 1000.5, end: 1007.25", late, first, second)));
    assert_works(alone_run(&a, &t, NULL));
    assert_int_equal(t.sample0, 1000 * RATE + RATE / 2);
    assert_int_equal(t.end, 1007 * RATE + RATE / 4);
    for (int64_t i = 0; i < t.end - t.sample0; i++) {
        const int64_t k = i + RATE / 2;
        const bool hole = k >= 4 * RATE && k < 6 * RATE;
        assert_int_equal(t.reason[i], hole ? GW_GAP_ABSENT : GW_GAP_NONE);
        assert_true(hole || t.x[i] == x[k]);
        assert_true(t.dq[i] == (k / RATE == 1 ? GW_DQ_ALL & ~(uint64_t)GW_DQ_CBC_CAT2 : GW_DQ_ALL));
    }
    taken_free(&t, 1);
    alone_close(&a);
}

static void what_does_not_fit(void **state)
{
    (void)state;
    static double x[N];
    const char *h = make_detector("h.hdf5", "H1", 1000, 4, x), *o = make_detector("o.hdf5", "H1", 1003, 2, x);
    gwosc g = {2000, RATE / 2, 4, x, "H1", 0, NULL, NULL, NULL, NULL, 0, 0, true};
    const char *slow = temporary("slow.hdf5");
    make_gwosc(slow, &g);
    alone a = {0};
    assert_fails(alone_plan(&a, &gw_kind_replay, YAML("", h, o)), GW_ECONFIG, "h.hdf5", "o.hdf5", "overlap",
                 "GPS 1003.000000 to 1004.000000");
    alone_close(&a);
    assert_fails(alone_plan(&a, &gw_kind_replay, YAML("", h, h)), GW_ECONFIG, "overlap");
    alone_close(&a);
    assert_fails(alone_plan(&a, &gw_kind_replay, YAML("", h, slow)), GW_EMISMATCH, "h.hdf5", "slow.hdf5",
                 "256", "128");
    alone_close(&a);
    assert_fails(alone_plan(&a, &gw_kind_replay, YAML("detectors: [H1, V1]", h)), GW_EMISSING, "detector V1",
                 "H1");
    alone_close(&a);
    assert_fails(alone_plan(&a, &gw_kind_replay, YAML("channels: [L1:X]", h)), GW_EMISSING, "channel L1:X",
                 "strain/Strain");
    alone_close(&a);
    assert_fails(alone_plan(&a, &gw_kind_replay, YAML("start: 5000", h)), GW_ECONFIG, "1000.000 to 1004.000");
    alone_close(&a);
    assert_fails(alone_plan(&a, &gw_kind_replay, YAML("start: 5000, end: 4000", h)), GW_ECONFIG, "end");
    alone_close(&a);
    assert_fails(alone_plan(&a, &gw_kind_replay, YAML("offset: {V1: 3ms}", h)), GW_ECONFIG, "V1");
    alone_close(&a);
    assert_fails(alone_plan(&a, &gw_kind_replay, YAML("block: 8s", h)), GW_ECONFIG, "1/64s to 4s");
    alone_close(&a);
    assert_fails(alone_plan(&a, &gw_kind_replay, YAML("block: 1/7s", h)), GW_ECONFIG, "whole number");
    alone_close(&a);
    assert_fails(alone_plan(&a, &gw_kind_replay, "{files: []}"), GW_ECONFIG, "files");
    alone_close(&a);
    assert_fails(alone_plan(&a, &gw_kind_replay, "{pace: 1}"), GW_ECONFIG, "files");
    alone_close(&a);
    assert_fails(alone_plan(&a, &gw_kind_replay, YAML("reverse: true", h)), GW_ECONFIG, "reverse");
    alone_close(&a);

    const char *two = temporary("two.hdf5");
    hid_t f = make_file(two);
    put_channel(f, "H1:A", H5T_IEEE_F64LE, 256, x, "t0", 1000, "sample_rate", 64);
    put_channel(f, "H1:B", H5T_IEEE_F64LE, 256, x, "t0", 1000, "sample_rate", 16);
    put_channel(f, "L1:A", H5T_IEEE_F64LE, 256, x, "t0", 1000, "sample_rate", 64);
    put_channel(f, "L1:B", H5T_IEEE_F64LE, 128, x, "t0", 1000, "sample_rate", 64);
    H5Fclose(f);
    assert_fails(alone_plan(&a, &gw_kind_replay, YAML("", two)), GW_EMISMATCH, "L1:A (64 Hz, 256",
                 "L1:B (64 Hz, 128", "channels");
    alone_close(&a);
    /* several rates of one detector: a stream each */
    assert_works(alone_plan(&a, &gw_kind_replay, YAML("detectors: [H1]", two)));
    assert_int_equal(a.plan.n_out, 2);
    assert_string_equal(a.plan.out[0].name, "H1");
    assert_int_equal(a.plan.out[0].rate.num, 64);
    assert_string_equal(a.plan.out[1].name, "H1_16Hz");
    assert_string_equal(a.plan.out[1].channel[0], "H1:B");
    alone_close(&a);
    assert_works(alone_plan(&a, &gw_kind_replay, YAML("channels: [H1:B]", two)));
    assert_int_equal(a.plan.out[0].block_samples, 1);
    alone_close(&a);
}

static void shifted_detector(void **state)
{
    (void)state;
    static double x[N];
    fill_noise(x, N, 4);
    const char *h = make_detector("h.hdf5", "H1", 1000, SECONDS, x),
               *l = make_detector("l.hdf5", "L1", 1000, SECONDS, x);
    alone a = {0};
    taken t[2] = {0};
    assert_works(alone_plan(&a, &gw_kind_replay, YAML("offset: {L1: 30ms}", h, l)));
    assert_works(alone_run(&a, t, NULL));
    const int64_t shift = 8; /* 7.68 samples */
    for (int i = 0; i < 2; i++) {
        assert_int_equal(t[i].sample0, 1000 * RATE + shift);
        assert_int_equal(t[i].end, (1000 + SECONDS) * RATE);
        for (int64_t k = 0; k < N - shift; k++)
            assert_true(t[i].x[k] == x[i ? k : k + shift]);
    }
    taken_free(t, 2);
    alone_close(&a);
}

/* One port in tiny pieces must not let the other run ahead; and waiting never goes back in time. */
static void ports_keep_together(void **state)
{
    (void)state;
    static double x[N], y[N];
    fill_noise(x, N, 5);
    memcpy(y, x, sizeof y);
    for (int i = 0; i < N; i += 2)
        y[i] = NAN;
    const char *path = temporary("torn.hdf5");
    hid_t f = make_file(path);
    put_channel(f, "H1:X", H5T_IEEE_F64LE, N, y, "x0", 1000, "dx", 1.0 / RATE);
    put_channel(f, "L1:X", H5T_IEEE_F64LE, N, x, "x0", 1000, "dx", 1.0 / RATE);
    put_channel(f, "SLOW:Y", H5T_IEEE_F64LE, SECONDS, x, "x0", 1000, "dx", 1);
    H5Fclose(f);
    alone a = {0};
    taken t[3] = {0};
    int64_t skew_ns = 0;
    assert_works(alone_plan(&a, &gw_kind_replay, YAML("block: 1/4s, pace: 1", path)));
    assert_int_equal(a.plan.out[2].block_samples, 1);
    assert_string_equal(a.plan.out[2].name, "SLOW");
    assert_string_equal(a.plan.out[2].detector, "");
    assert_works(alone_run(&a, t, &skew_ns));
    assert_true(skew_ns <= GW_SECOND_NS); /* the slow port's block */
    assert_false(a.env.waited_backwards);
    assert_int_equal(t[0].pieces, N);
    assert_int_equal(t[1].pieces, 4 * SECONDS);
    assert_int_equal(t[2].pieces, SECONDS);
    taken_free(t, 3);
    alone_close(&a);
}

/* A hole of 300 years that all share is no work; a hole of one is cut into blocks. */
static void long_holes(void **state)
{
    (void)state;
    static double x[N];
    const char *a0 = make_detector("a0.hdf5", "H1", 1000, 2, x),
               *a1 = make_detector("a1.hdf5", "H1", 9e9 - 10, 1, x);
    const char *b0 = make_detector("b0.hdf5", "L1", 1001, 2, x),
               *b1 = make_detector("b1.hdf5", "L1", 9e9 - 10, 2, x);
    alone a = {0};
    taken t[2] = {0};
    assert_works(alone_plan(&a, &gw_kind_replay, YAML("block: 1s", a0, b0, b1, a1)));
    assert_works(alone_run(&a, t, NULL));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(t[i].sample0, 1000 * RATE);
        assert_int_equal(t[i].end, (INT64_C(9000000000) - 8) * RATE);
        assert_int_equal(t[i].pieces, 6);
    }
    taken_free(t, 2);
    alone_close(&a);
}

static void channels_of_one_stream(void **state)
{
    (void)state;
    static double x[3][N];
    const char *path = temporary("many.hdf5");
    hid_t f = make_file(path);
    static const char *const name[] = {"H1:GDS-CALIB_STRAIN", "H1:PEM-A", "H1:PEM-B"};
    for (int c = 0; c < 3; c++) {
        fill_noise(x[c], N, (uint64_t)c + 10);
        put_channel(f, name[c], H5T_IEEE_F32LE, N, x[c], "t0", 1000, "sample_rate", RATE);
    }
    H5Fclose(f);
    alone a = {0};
    assert_works(alone_plan(&a, &gw_kind_replay, YAML("block: 1/2s", path)));
    assert_int_equal(a.plan.n_out, 1);
    const gw_spec *s = &a.plan.out[0];
    assert_int_equal(s->n_channels, 3);
    assert_string_equal(s->channel[2], "H1:PEM-B");
    assert_int_equal(s->dtype, GW_F64);
    assert_works(a.kind->open(a.self, &a.env));
    static double data[3 * RATE / 2];
    gw_piece p = {.data = data, .capacity_samples = RATE / 2};
    assert_works(a.kind->next(a.self, 0, &p));
    assert_int_equal(p.n_samples, RATE / 2);
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < RATE / 2; i++)
            assert_true(data[c * RATE / 2 + i] == (double)(float)x[c][i]);
    alone_close(&a);
    assert_works(alone_plan(&a, &gw_kind_replay, YAML("channels: [H1:PEM-A]", path)));
    assert_int_equal(a.plan.out[0].n_channels, 1);
    alone_close(&a);
}

/* Damage that only shows while reading ends the stream with an error. */
static void damaged_while_reading(void **state)
{
    (void)state;
    static double x[N];
    const char *h = make_detector("h.hdf5", "H1", 1000, SECONDS, x);
    alone a = {0};
    taken t = {0};
    assert_works(alone_plan(&a, &gw_kind_replay, YAML("", h)));
    truncate(h, 4000);
    assert_fails(alone_run(&a, &t, NULL), GW_EFORMAT, "h.hdf5", "cut short");
    taken_free(&t, 1);
    alone_close(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_pair_in_all_block_lengths),
        cmocka_unit_test(data_quality_and_nan),
        cmocka_unit_test(nan_without_masks),
        cmocka_unit_test(files_are_joined),
        cmocka_unit_test(what_does_not_fit),
        cmocka_unit_test(shifted_detector),
        cmocka_unit_test(ports_keep_together),
        cmocka_unit_test(long_holes),
        cmocka_unit_test(channels_of_one_stream),
        cmocka_unit_test(damaged_while_reading),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
