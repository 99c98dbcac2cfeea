/* SPDX-License-Identifier: GPL-3.0-or-later
 * The checkpoint of PSDs: what comes back, what is refused, and whiten's warm start from it. That it survives
 * kill -9 and that other programs read it is in tests/flow/check_checkpoint.py. */
#include "pipeline/log.h"
#include "pipeline/stages/psd_file.h"
#include "tests/unit/stage_rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

extern const gw_kind gw_kind_whiten;

static char folder[] = "/tmp/gwstream-psd-XXXXXX", path[64], file[80];
static const int64_t gps_ns = 1400000000 * GW_SECOND_NS;

static int make_folder(void **unused)
{
    (void)unused;
    if (!mkdtemp(folder))
        return 1;
    snprintf(path, sizeof path, "%s/psd.hdf5", folder);
    snprintf(file, sizeof file, "%s/psd-white.H1.hdf5", folder);
    return 0;
}

static int remove_folder(void **unused)
{
    char command[96];
    (void)unused;
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

/* -- the file ---------------------------------------------------------------------------------------- */

enum { CH = 5, ROWS = 3, BINS = 9, TAPS = 7 };

static gw_checkpoint_keys keys_of(const char *at)
{
    gw_checkpoint_keys k = {.age_ns = 3600 * GW_SECOND_NS};
    snprintf(k.path, sizeof k.path, "%s", at);
    return k;
}

static gw_psd_file *open_file(const gw_spec *in, const char *settings, uint32_t taps)
{
    const gw_checkpoint_keys k = keys_of(path);
    gw_psd_file *f;
    assert_int_equal(gw_psd_file_new(&f, &k,
                                     &(gw_psd_shape){.name = "white.H1",
                                                     .in = in,
                                                     .settings = settings,
                                                     .n_channels = CH,
                                                     .rows = ROWS,
                                                     .bins = BINS,
                                                     .taps = taps,
                                                     .bin_hz = 0.5}),
                     0);
    return f;
}

static gw_spec spec_of(uint32_t rate, uint32_t block)
{
    gw_spec s = {.name = "sky.H1", .rate = {rate, 1}, .dtype = GW_F64, .block_samples = block};
    const char *const names[CH] = {"a", "b", "c", "d", "e"};
    assert_int_equal(gw_spec_set_channels(&s, CH, names), 0);
    return s;
}

static void fill(gw_psd_file *f, int64_t at_ns)
{
    assert_true(gw_psd_file_begin(f));
    assert_false(gw_psd_file_begin(f));
    for (uint32_t c = 0; c < CH; c++) {
        gw_psd_entry *e = gw_psd_file_entry(f, c);
        e->segments = c % (ROWS + 1);
        e->scale = ldexp(1, (int)c + 70);
        for (uint32_t i = 0; i < ROWS * BINS; i++)
            e->psd[i] = (float)(c + 1) / (float)(i + 3);
        for (uint32_t t = 0; t < TAPS; t++)
            e->taps[t] = sin(c + 0.1 * t) * 1e20;
    }
    gw_psd_file_save(f, at_ns);
    gw_psd_file_wait(f);
}

static void what_was_saved_comes_back(void **unused)
{
    (void)unused;
    gw_spec in = spec_of(256, 16), other_block = spec_of(256, 64);
    gw_psd_file *f = open_file(&in, "s", TAPS);
    assert_false(gw_psd_file_warm(f, gps_ns, 0)); /* nothing there */
    fill(f, gps_ns);
    gw_psd_file_destroy(&f);
    assert_null(f);
    assert_int_equal(access(file, R_OK), 0);
    f = open_file(&other_block, "s", TAPS);
    assert_true(gw_psd_file_warm(f, gps_ns + GW_SECOND_NS, 0));
    for (uint32_t c = 0; c < CH; c++) {
        const gw_psd_entry *e = gw_psd_file_entry(f, c);
        assert_int_equal(e->segments, c % (ROWS + 1));
        assert_true(e->scale == ldexp(1, (int)c + 70) && e->psd[BINS + 2] == (float)(c + 1) / (BINS + 5));
        assert_true(e->taps[3] == sin(c + 0.1 * 3) * 1e20);
    }
    gw_psd_file_destroy(&f);
    gw_spec_free(&in);
    gw_spec_free(&other_block);
}

static void what_does_not_fit_is_left(void **unused)
{
    (void)unused;
    gw_spec in = spec_of(256, 16), other = spec_of(512, 16);
    const struct {
        const gw_spec *in;
        const char *settings;
        uint32_t taps;
        int64_t after_s;
        uint32_t flags;
        bool warm;
    } row[] = {{&in, "s", TAPS, 0, 0, true},
               {&other, "s", TAPS, 0, 0, false},
               {&in, "t", TAPS, 0, 0, false},
               {&in, "s", TAPS - 1, 0, 0, false},
               {&in, "s", TAPS, 3600, 0, true},
               {&in, "s", TAPS, 3601, 0, false},
               {&in, "s", TAPS, -1, 0, false},
               {&in, "s", TAPS, 0, GW_FLAG_REPLAY, false},
               {&in, "s", TAPS, 0, GW_FLAG_INJECTION, true}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        gw_psd_file *f = open_file(row[i].in, row[i].settings, row[i].taps);
        const bool warm = gw_psd_file_warm(f, gps_ns + row[i].after_s * GW_SECOND_NS, row[i].flags);
        if (warm != row[i].warm)
            fail_msg("case %zu: warm %d", i, warm);
        if (row[i].flags & GW_FLAG_REPLAY)
            assert_false(gw_psd_file_begin(f)); /* and writes none */
        gw_psd_file_destroy(&f);
    }
    gw_psd_file *f = NULL;
    const gw_checkpoint_keys nowhere = keys_of("/nowhere/psd.hdf5");
    const gw_psd_shape shape = {
        .name = "x", .in = &in, .settings = "s", .n_channels = CH, .rows = 1, .bins = 2};
    assert_int_equal(gw_psd_file_new(&f, &nowhere, &shape), GW_EMISSING);
    assert_null(f);
    gw_spec_free(&in);
    gw_spec_free(&other);
}

/* Cut off at any length, and with any byte changed: refused or read, never a crash, never numbers that are no
 * PSD. */
static void damage_is_no_disaster(void **unused)
{
    (void)unused;
    static char good[1 << 16], bad[1 << 16];
    gw_spec in = spec_of(256, 16);
    FILE *from = fopen(file, "rb");
    assert_non_null(from);
    const size_t n = fread(good, 1, sizeof good, from);
    fclose(from);
    assert_in_range(n, 1000, sizeof good - 1);
    int warm = 0, cold = 0;
    for (size_t i = 0; i < 240; i++) {
        memcpy(bad, good, n);
        size_t length = n;
        if (i % 4 == 0)
            length = n * i / 240;
        else
            bad[(size_t)(uniform() * (double)n)] ^= (char)(1 + (int)(uniform() * 255));
        FILE *to = fopen(file, "wb");
        assert_true(to && fwrite(bad, 1, length, to) == length && fclose(to) == 0);
        gw_psd_file *f = open_file(&in, "s", TAPS);
        const bool taken = gw_psd_file_warm(f, gps_ns, 0);
        warm += taken;
        cold += !taken;
        for (uint32_t c = 0; taken && c < CH; c++) {
            const gw_psd_entry *e = gw_psd_file_entry(f, c);
            assert_true(e->segments == c % (ROWS + 1) && e->scale == ldexp(1, (int)c + 70));
            assert_true(e->psd[BINS + 2] == (float)(c + 1) / (BINS + 5) &&
                        e->taps[3] == sin(c + 0.1 * 3) * 1e20);
        }
        gw_psd_file_destroy(&f);
    }
    assert_true(warm > 30 && cold > 60);
    gw_spec_free(&in);
}

/* -- whiten ------------------------------------------------------------------------------------------ */

enum { N = 60 * RATE, STOP = 40 * RATE + 32, AGAIN = 44 * RATE + 33 };
static const int64_t begin0 = INT64_C(1126259446) * RATE;

static void whiten_starts_warm(void **unused)
{
    (void)unused;
    static double x[N];
    static rig whole, part;
    char yaml[128];
    state = 3;
    double slow = 0;
    for (int i = 0; i < N; i++) {
        slow = 0.9 * slow + normal();
        x[i] = 1e-21 * (normal() + slow) - 1e-18;
    }
    snprintf(yaml, sizeof yaml, "{checkpoint: %s/white.h5}", folder);
    rig_open(&whole, &gw_kind_whiten, "{}", RATE, 16, 1,
             begin0); /* a hole where the other stops and starts */
    rig_run(&whole, begin0, x, N, 0, STOP);
    rig_run(&whole, begin0, x, N, AGAIN, N);
    rig_close(&whole);

    rig_open(&part, &gw_kind_whiten, yaml, RATE, 16, 1, begin0);
    rig_run(&part, begin0, x, N, 0, STOP);
    rig_close(&part);
    rig_open(&part, &gw_kind_whiten, yaml, RATE, 64, 1, begin0);
    rig_run(&part, begin0, x, N, AGAIN, N);
    rig_close(&part);
    /* The first second is of the filter that was kept, to float32; afterwards only the past on which the gain
     * is measured is shorter. */
    const int first = seek(part.y[0], 0, true);
    assert_in_range(first, AGAIN + RATE - 1, AGAIN + RATE + 8);
    assert_memory_equal(part.y[0] + first, whole.y[0] + first, RATE / 2 * sizeof(double));
    double off = 0, all = 0;
    for (int i = first; i < N - 64; i++) {
        off += (part.y[0][i] - whole.y[0][i]) * (part.y[0][i] - whole.y[0][i]);
        all += whole.y[0][i] * whole.y[0][i];
    }
    assert_true(off > 0 && sqrt(off / all) < 0.03);

    /* Cold: an hour later, and other settings. */
    rig_open(&part, &gw_kind_whiten, yaml, RATE, 16, 1, begin0 + 3700 * RATE);
    rig_run(&part, begin0 + 3700 * RATE, x, N, 0, N);
    assert_int_equal(seek(part.y[0], 0, true), 8 * RATE);
    rig_close(&part);
    snprintf(yaml, sizeof yaml, "{checkpoint: %s/white.h5, duration: 0.5s}", folder);
    rig_open(&part, &gw_kind_whiten, yaml, RATE, 16, 1, begin0 + 3760 * RATE);
    rig_run(&part, begin0 + 3760 * RATE, x, N, 0, N);
    assert_int_equal(seek(part.y[0], 0, true), 8 * RATE);
    rig_close(&part);
    assert_int_equal(rig_plan(&part, &gw_kind_whiten, "{checkpoint: a/}", RATE, 16, 1, GW_F64), GW_ECONFIG);
    rig_close(&part);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_saved_comes_back),
        cmocka_unit_test(what_does_not_fit_is_left),
        cmocka_unit_test(damage_is_no_disaster),
        cmocka_unit_test(whiten_starts_warm),
    };
    gw_log_set_level(GW_LOG_ERROR);
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
