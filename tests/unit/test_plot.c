/* SPDX-License-Identifier: GPL-3.0-or-later
 * The picture: the time-frequency map against closed formulas; the PNG of a chirp in white noise, read back
 * by cairo: its size, and that the map is brightest where the signal is; and the picture sink, driven by
 * hand: when it draws, and what. With GW_TEST_PICTURE=FILE the PNG is kept for a person to look at. */
#include "pipeline/stage.h"
#include "sinks/plot.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cairo.h>
#include <cmocka.h>

/* fontconfig keeps what it has read of its configuration until the process ends. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libfontconfig\n";
}

enum { RATE = 2048, N = 4 * RATE };
#define PI 3.14159265358979323846

static uint64_t state64;

static double uniform(void) /* splitmix64 */
{
    uint64_t z = (state64 += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return ((double)((z ^ (z >> 31)) >> 11) + 0.5) / 9007199254740992.0;
}

static double normal(void)
{
    return sqrt(-2 * log(uniform())) * cos(2 * PI * uniform());
}

/* Newtonian chirp of 28 solar masses of chirp mass, coalescing at t = 0, of the given SNR in white noise. */
static void add_chirp(float *x, double t0, double snr, double delay)
{
    static double h[N];
    const double mass_s = 28 * 4.925491025543576e-6;
    double sum = 0, phase = 0;
    for (int n = 0; n < N; n++) {
        double tau = delay - (t0 + (double)n / RATE);
        double f = tau > 0 ? pow(5 / (256 * tau), 0.375) * pow(mass_s, -0.625) / PI : 1e9;
        h[n] = f > 25 && f < 300 ? pow(f, 2.0 / 3) * sin(phase) : 0;
        phase += f < 1000 ? 2 * PI * f / RATE : 0;
        sum += h[n] * h[n];
    }
    for (int n = 0; n < N; n++)
        x[n] += (float)(h[n] * snr / sqrt(sum));
}

static void the_energy_of_a_sinusoid(void **state)
{
    (void)state;
    static float x[N];
    const double f[] = {30, 100, 101, 140, 400}, t[] = {-0.3, 0, 0.3}, q = 8, amplitude = 3;
    float e[5][3];
    for (int n = 0; n < N; n++)
        x[n] = (float)(amplitude * sin(2 * PI * 100 * n / RATE + 0.4));
    const gw_series s = {x, N, RATE, -2};
    assert_int_equal(gw_timefreq(&s, q, f, 5, t, 3, &e[0][0]), 0);
    /* (a/2)^2 (sum w)^2 / sum w^2 of a Gaussian, at its frequency; off it exp(-(2 pi df s)^2) of that */
    for (int r = 0; r < 5; r++) {
        double sigma = q / (2 * PI * f[r]), off = 2 * PI * (f[r] - 100) * sigma;
        double want = amplitude * amplitude / 4 * 2 * sqrt(PI) * sigma * RATE * exp(-off * off);
        for (int k = 0; k < 3; k++)
            if (fabs((double)e[r][k] - want) > 0.02 * want + 0.02)
                fail_msg("%g Hz at %g s: %g, want %g", f[r], t[k], (double)e[r][k], want);
    }
}

static void noise_has_energy_one_and_holes_have_none(void **state)
{
    (void)state;
    static float x[N], e[40][400];
    double f[40], t[400], sum = 0;
    state64 = 1;
    for (int n = 0; n < N; n++)
        x[n] = (float)normal();
    for (int r = 0; r < 40; r++)
        f[r] = 60 * pow(12, r / 39.0);
    for (int k = 0; k < 400; k++)
        t[k] = -1.9 + 3.8 * k / 399;
    const gw_series s = {x, N, RATE, -2};
    assert_int_equal(gw_timefreq(&s, 8, f, 40, t, 400, &e[0][0]), 0);
    for (int i = 0; i < 16000; i++)
        sum += (double)e[i / 400][i % 400];
    if (fabs(sum / 16000 - 1) > 0.05)
        fail_msg("mean energy of white noise is %g", sum / 16000);

    for (int n = 3 * RATE; n < 3 * RATE + 200; n++)
        x[n] = NAN;
    assert_int_equal(gw_timefreq(&s, 8, f, 40, (const double[]){-3, 0, 1.05, 1.2}, 4, &e[0][0]), 0);
    const float *row = &e[0][0];
    assert_true(isnan(row[0]) && !isnan(row[1]) && isnan(row[2]) && isfinite(row[3]));
}

static void one_band_passes(void **state)
{
    (void)state;
    static float x[N], y[N];
    static const struct {
        double f, lo, hi;
    } want[] = {{10, -0.02, 0.02}, {60, 0.98, 1.02},   {100, 0.98, 1.02},
                {300, 0.98, 1.02}, {460, -0.02, 0.02}, {900, -0.01, 0.01}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        for (int n = 0; n < N; n++)
            x[n] = (float)sin(2 * PI * want[i].f * n / RATE);
        const gw_series s = {x, N, RATE, 0};
        assert_int_equal(gw_band_pass(&s, 30, 400, y), 0);
        double in_phase = 0;
        for (int n = RATE; n < 3 * RATE; n++) /* a delay would show as well */
            in_phase += (double)y[n] * (double)x[n] / RATE;
        if (in_phase > want[i].hi || in_phase < want[i].lo)
            fail_msg("gain at %g Hz is %g", want[i].f, in_phase);
    }
}

static void a_picture_of_a_chirp(void **state)
{
    (void)state;
    static float h[N], l[N], stat[3 * 32];
    char kept[] = "/tmp/gw-plot-XXXXXX";
    const char *path = getenv("GW_TEST_PICTURE");
    int fd = path ? -1 : mkstemp(kept);
    path = path ? path : kept;
    state64 = 20150914;
    for (int n = 0; n < N; n++) {
        h[n] = (float)normal();
        l[n] = (float)normal();
    }
    add_chirp(h, -2, 18, 0);
    add_chirp(l, -2, 13, -0.007);
    for (int k = 0; k < 96; k++) {
        double t = (k + 1) / 32.0 - 2;
        stat[k] = (float)(-5 + 0.8 * sin(9 * t) + 13.5 * exp(-pow((t - 0.12) / (t < 0.12 ? 0.07 : 0.3), 2)));
    }
    gw_event e = {.id = "G3f0c9a1b7d24e586",
                  .phase = GW_PHASE_FINAL,
                  .gps_ns = INT64_C(1126259462412300000),
                  .detectors = "H1,L1",
                  .statistic = 8.42,
                  .noise_rate_hz = 1 / (4.3 * 86400),
                  .alert = true,
                  .injection = true,
                  .model = "bbh-small"};
    gw_event truth = {.phase = GW_PHASE_INJECTION,
                      .gps_ns = e.gps_ns + 3100000,
                      .detail = "{\"network_snr\":22.2,\"mass1\":36.2,\"mass2\":29.1}"};
    gw_plot p = {.event = &e,
                 .truth = &truth,
                 .before_s = 1,
                 .after_s = 0.5,
                 .n_strains = 2,
                 .strain = {{"H1", {h, N, RATE, -2}}, {"L1", {l, N, RATE, -2}}},
                 .statistic = {stat, 96, 32, -2 + 1 / 32.0},
                 .n_marks = 3,
                 .mark = {{GW_PHASE_FIRST, 0.03125, 4.1},
                          {GW_PHASE_UPDATE, 0.0625, 6.2},
                          {GW_PHASE_FINAL, 0.25, 8.42}},
                 .candidate = 2.85,
                 .alert = 4.6};
    assert_int_equal(gw_plot_png(&p, path), 0);

    cairo_surface_t *s = cairo_image_surface_create_from_png(path);
    assert_int_equal(cairo_surface_status(s), CAIRO_STATUS_SUCCESS);
    assert_int_equal(cairo_image_surface_get_width(s), GW_PLOT_WIDTH);
    assert_int_equal(cairo_image_surface_get_height(s), GW_PLOT_HEIGHT);
    /* H1's map: pale yellow only near the coalescence, deep blue elsewhere */
    const unsigned char *data = cairo_image_surface_get_data(s);
    int stride = cairo_image_surface_get_stride(s), near = 0, far = 0;
    for (int y = 190; y < 300; y++)
        for (int x = 200; x < 1470; x++) {
            uint32_t v;
            memcpy(&v, data + y * stride + 4 * x, 4);
            double t = (x - gw_plot_x(&p, 0)) / (gw_plot_x(&p, 1) - gw_plot_x(&p, 0));
            bool bright = (v >> 16 & 255) > 200 && (v >> 8 & 255) > 200 && (v & 255) < 220;
            near += bright && fabs(t + 0.03) < 0.09;
            far += bright && fabs(t + 0.03) >= 0.09;
        }
    cairo_surface_destroy(s);
    if (near < 200 || far > near / 10)
        fail_msg("%d bright pixels near the coalescence, %d elsewhere", near, far);

    assert_int_equal(gw_plot_png(&p, "/none/there.png"), GW_EIO);
    assert_non_null(strstr(gw_err_detail(), "/none/there.png"));
    char taken[] = "/tmp/gw-plot-XXXXXX", part[64]; /* a folder has the name: nothing half done stays */
    assert_non_null(mkdtemp(taken));
    assert_int_equal(gw_plot_png(&p, taken), GW_EIO);
    snprintf(part, sizeof part, "%s.part", taken);
    assert_int_not_equal(access(part, F_OK), 0);
    assert_int_equal(rmdir(taken), 0);

    /* nothing but the event: no strain, no statistic, no truth */
    gw_plot bare = {.event = &e, .before_s = 1, .after_s = 0.5, .candidate = NAN, .alert = NAN};
    if (fd >= 0) {
        assert_int_equal(gw_plot_png(&bare, path), 0);
        close(fd);
        unlink(path);
    }
}

/* ---- the sink ---- */

extern const gw_kind gw_kind_picture;
static const gw_kind *const kind = &gw_kind_picture;

const char *gw_env_name(const gw_env *env)
{
    (void)env;
    return "picture";
}

static const int64_t second0 = 1400000000;

/* Seconds [from, to) of stream time in blocks of 1/16 s: strain on port 0, with a chirp that ends 10 s after
 * second0, and the statistic, in channel 1 of port 1. */
static void stream(void *self, const float *strain, int from, int to)
{
    for (int b = from * 16; b < to * 16; b++) {
        float stat[4] = {99, 99, (float)b, (float)b};
        gw_view v = {.data = strain + (b % 64) * 128,
                     .stride = 128,
                     .n_samples = 128,
                     .n_channels = 1,
                     .sample0 = (second0 * 16 + b) * 128};
        assert_int_equal(kind->take(self, 0, &v), 0);
        v = (gw_view){
            .data = stat, .stride = 2, .n_samples = 2, .n_channels = 2, .sample0 = (second0 * 16 + b) * 2};
        assert_int_equal(kind->take(self, 1, &v), 0);
    }
}

static void say(void *self, const char *id, gw_phase phase, double t, double statistic)
{
    gw_event e = {.phase = phase,
                  .detectors = "H1",
                  .statistic = statistic,
                  .model = "m",
                  .gps_ns = second0 * GW_SECOND_NS + (int64_t)(t * 1e9),
                  .detail = "{\"thresholds\":{\"candidate\":1,\"alert\":2}}"};
    e.due_ns = e.gps_ns + 50000000;
    snprintf(e.id, sizeof e.id, "%s", id);
    assert_int_equal(kind->event(self, &e), 0);
}

static bool there(const char *dir, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return access(path, F_OK) == 0;
}

static void the_sink_draws_when_the_streams_have_passed(void **state)
{
    (void)state;
    static float x[N];
    state64 = 7;
    for (int n = 0; n < N; n++)
        x[n] = (float)normal();
    add_chirp(x, -2, 20, 0); /* at sample 4096 of 8192, repeated every 4 s: ... 6, 10, 14 s */
    char dir[] = "/tmp/gw-picture-XXXXXX", yaml[128], command[64];
    assert_non_null(mkdtemp(dir));
    for (int each = 0; each < 2; each++) {
        gw_conf_file *file = NULL;
        void *self = calloc(1, kind->state_size);
        snprintf(yaml, sizeof yaml, "{path: \"%s/%s.png\", after: 250ms}", dir, each ? "of-%s" : "loudest");
        assert_int_equal(gw_conf_parse(&file, "t.yaml", yaml, strlen(yaml)), 0);
        assert_int_equal(kind->configure(self, gw_conf_root(file)), 0);
        gw_spec in[2] = {
            {.name = "white.H1",
             .rate = {RATE, 1},
             .dtype = GW_F32,
             .n_channels = 1,
             .detector = "H1",
             .unit = "whitened",
             .whitening = "w"},
            {.name = "search", .rate = {32, 1}, .dtype = GW_F32, .n_channels = 2, .unit = "logit"}};
        gw_plan p = {.name = "picture", .n_in = 2, .in = in, .has_events_in = true};
        assert_int_equal(kind->plan(self, &p), 0);
        memset(in, 0xff, sizeof in); /* the plan's are not ours to keep */
        assert_int_equal(kind->open(self, NULL), 0);

        stream(self, x, 0, 10);
        say(self, "", GW_PHASE_INJECTION, 10.01, 0);
        say(self, "Gaa", GW_PHASE_FIRST, 10, 4);
        say(self, "Gaa", GW_PHASE_FINAL, 10.005, 8);
        assert_false(
            there(dir, each ? "of-Gaa.png" : "loudest.png")); /* not yet: what is after it is to come */
        stream(self, x, 10, 11);
        assert_true(there(dir, each ? "of-Gaa.png" : "loudest.png"));
        snprintf(command, sizeof command, "%s/loudest.png", dir);
        if (!each)
            assert_int_equal(unlink(command), 0);
        say(self, "Gbb", GW_PHASE_FINAL, 6, 5); /* less loud, and already passed */
        assert_true(each ? there(dir, "of-Gbb.png") : !there(dir, "loudest.png"));
        say(self, "Gcc", GW_PHASE_FINAL, 11, 9); /* the stream ends too early */
        say(self, "Gdd", GW_PHASE_FINAL, 11.5, 9.5);
        say(self, "Gdd", GW_PHASE_RETRACTED, 11.5, 9.5);
        assert_int_equal(kind->drain(self, NULL), 0);
        assert_true(there(dir, each ? "of-Gcc.png" : "loudest.png"));
        assert_false(there(dir, "of-Gdd.png"));
        kind->close(self);
        free(self);
        gw_conf_free(&file);
    }
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
}

static void the_sink_refuses(void **state)
{
    (void)state;
    static const char *const bad[] = {"{path: a%d.png}",
                                      "{path: a%s%s.png}",
                                      "{before: 1s}",
                                      "{path: \"\"}",
                                      "{path: a.png, before: 1ms, after: 1ms}",
                                      "{path: a.png, before: 1min}",
                                      "{path: /none/there.png}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        gw_conf_file *file = NULL;
        void *self = calloc(1, kind->state_size);
        assert_int_equal(gw_conf_parse(&file, "t.yaml", bad[i], strlen(bad[i])), 0);
        int err = kind->configure(self, gw_conf_root(file)), want = GW_ECONFIG;
        if (i == sizeof bad / sizeof *bad - 1) {
            assert_int_equal(err, 0);
            err = kind->open(self, NULL);
            want = GW_EACCESS;
        }
        if (err != want)
            fail_msg("%s: got %s '%s'", bad[i], gw_err_name(err), gw_err_detail());
        kind->close(self);
        free(self);
        gw_conf_free(&file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_energy_of_a_sinusoid),
        cmocka_unit_test(noise_has_energy_one_and_holes_have_none),
        cmocka_unit_test(one_band_passes),
        cmocka_unit_test(a_picture_of_a_chirp),
        cmocka_unit_test(the_sink_draws_when_the_streams_have_passed),
        cmocka_unit_test(the_sink_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
