/* SPDX-License-Identifier: GPL-3.0-or-later
 * The stage denoise without a runner, with a network whose answer is known: y = w0 + w1 / 2. Its filters,
 * witnesses of every type and rate, those that fail, holes, and files that do not fit. Against offline
 * arithmetic it is tests/flow/check_denoise.py that holds it. */
#include "kernels/fir.h"
#include "pipeline/stage.h"
#include "pipeline/stages/denoise_model.h"
#include "tests/unit/onnx_build.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

extern const gw_kind gw_kind_denoise;

/* -- a model ----------------------------------------------------------------------------------------- */

static char folder[] = "/tmp/gwstream-denoise-XXXXXX";

/* Metadata in order; a key with NULL is left out. */
static const char *const good_meta[][2] = {
    {"gwstream.format", "1"},        {"gwstream.kind", "denoise"},       {"gwstream.name", "sum"},
    {"gwstream.sample_rate", "256"}, {"gwstream.witnesses", "W:0,W:1"},  {"gwstream.means", "10,0"},
    {"gwstream.scales", "2,1"},      {"gwstream.output_scale", "3e-21"}, {"gwstream.bands", "10-40"},
    {"gwstream.shift_samples", "0"}, {"gwstream.strain", "H1:STRAIN"}};
enum { N_META = sizeof good_meta / sizeof *good_meta };

static void write_model(const char *name, const char *key, const char *value, int channels)
{
    build b = {0};
    float w[3 * 8] = {0}, bias = 0;
    bytes a = {0};
    char path[128];
    w[1] = 1;   /* channel 0, its middle tap */
    w[4] = 0.5; /* channel 1 */
    add_input(&b, "x", 1, channels, 64);
    add_floats(&b, "w", 3, (int64_t[]){1, channels, 3}, w);
    add_floats(&b, "b", 1, (int64_t[]){1}, &bias);
    attr_ints(&a, "pads", 2, (int64_t[]){1, 1});
    add_node(&b, "Conv", "x w b", "y", &a);
    add_output(&b, "y");
    bytes file = finish(&b, 7, 13);
    for (int i = 0; i < N_META; i++) {
        const bool other = key && !strcmp(good_meta[i][0], key);
        bytes meta = {0};
        if (other && !value)
            continue;
        put_text(&meta, 1, good_meta[i][0]);
        put_text(&meta, 2, other ? value : good_meta[i][1]);
        put_message(&file, 14, &meta);
    }
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(file.data, 1, file.n, f), file.n);
    fclose(f);
    free(file.data);
}

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    write_model("good.onnx", NULL, NULL, 2);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    static const char *const names[] = {"good.onnx", "other.onnx"};
    char path[128];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

/* -- a stage without a runner ------------------------------------------------------------------------ */

enum { RATE = 1024, HOP = 64, SECONDS = 16, N = RATE * SECONDS, HOPS = N / HOP, PORTS = 3 };

typedef struct rig {
    gw_conf_file *file;
    void *self;
    gw_spec in[PORTS];
    gw_plan plan;
    double s[N];
    void *w[PORTS]; /* [channel][samples] of the port's type; port 0 unused */
    size_t width[PORTS];
    double clean[N], noise[N]; /* NaN where nothing came */
    double numbers[5];
    gw_out out[3];
    bool missing[PORTS];
    uint8_t presence[PORTS];
} rig;

static int rig_plan(rig *r, const char *yaml, const uint32_t *rates, gw_dtype dtype)
{
    static const char *const names[] = {"H1:STRAIN", "W:0", "W:1"};
    char text[1024];
    memset(r, 0, sizeof *r);
    snprintf(text, sizeof text, yaml, folder);
    assert_int_equal(gw_conf_parse(&r->file, "test.yaml", text, strlen(text)), 0);
    r->self = calloc(1, gw_kind_denoise.state_size);
    assert_non_null(r->self);
    for (int p = 0; p < PORTS; p++) {
        r->in[p] =
            (gw_spec){.rate = {rates[p], 1}, .dtype = p ? dtype : GW_F64, .block_samples = rates[p] / 16};
        snprintf(r->in[p].detector, sizeof r->in[p].detector, "H1");
        snprintf(r->in[p].name, sizeof r->in[p].name, "in%d", p);
        assert_int_equal(gw_spec_set_channels(&r->in[p], 1, &names[p]), 0);
        r->presence[p] = 0xff;
    }
    int err = gw_kind_denoise.configure(r->self, gw_conf_root(r->file));
    if (err == GW_OK)
        err = gw_conf_done(gw_conf_root(r->file), "test");
    if (err != GW_OK)
        return err;
    r->plan = (gw_plan){.name = "clean", .n_in = PORTS, .in = r->in};
    return gw_kind_denoise.plan(r->self, &r->plan);
}

/* What the witnesses see, at time t: within what their filters pass. */
static double seen(int port, double t)
{
    return port == 1 ? 10 + 4 * sin(2 * M_PI * 20 * t) : cos(2 * M_PI * 3 * t + 1);
}

static double expected(double t) /* of the network: scaled, summed, in strain */
{
    return 3e-21 * ((seen(1, t) - 10) / 2 + seen(2, t) / 2);
}

static void fill(rig *r)
{
    static const double gain = 200; /* so that integers are fine enough */
    for (int p = 1; p < PORTS; p++) {
        const uint32_t rate = r->in[p].rate.num;
        const gw_dtype t = r->in[p].dtype;
        r->width[p] = (size_t)rate * SECONDS;
        r->w[p] = calloc(r->width[p], sizeof(double));
        assert_non_null(r->w[p]);
        for (size_t i = 0; i < r->width[p]; i++) {
            const double x = seen(p, (double)i / rate);
            if (t == GW_F64)
                ((double *)r->w[p])[i] = x;
            else if (t == GW_F32)
                ((float *)r->w[p])[i] = (float)x;
            else if (t == GW_I16)
                ((int16_t *)r->w[p])[i] = (int16_t)lrint(x * gain);
            else
                ((int32_t *)r->w[p])[i] = (int32_t)lrint(x * gain);
        }
    }
    for (int i = 0; i < N; i++) {
        r->s[i] = 1e-21 * sin(i * 0.7 + sin(i * 0.013));
        r->clean[i] = r->noise[i] = NAN;
    }
}

static void rig_open(rig *r, const char *yaml, const uint32_t *rates, gw_dtype dtype)
{
    if (rig_plan(r, yaml, rates, dtype) != GW_OK)
        fail_msg("%s", gw_err_detail());
    assert_int_equal(gw_kind_denoise.open(r->self, NULL), 0);
    fill(r);
}

static void rig_close(rig *r)
{
    gw_kind_denoise.close(r->self);
    for (int o = 0; o < r->plan.n_out; o++)
        gw_spec_free(&r->plan.out[o]);
    for (int p = 0; p < PORTS; p++) {
        gw_spec_free(&r->in[p]);
        free(r->w[p]);
    }
    gw_conf_free(&r->file);
    free(r->self);
}

/* Hops [from, to). The arrays begin at sample 0: the first hops have no history. */
static void rig_run(rig *r, int from, int to)
{
    static double slab[3][HOP];
    uint8_t bits[3];
    for (int h = from; h < to; h++) {
        gw_view v[PORTS];
        for (int p = 0; p < PORTS; p++) {
            const uint32_t hop = r->plan.hop[p];
            assert_true((uint64_t)h * hop >= r->plan.history[p]);
            v[p] = (gw_view){.data = p == 0 ? (const char *)(r->s + (size_t)h * hop)
                                            : (const char *)r->w[p] +
                                                  (size_t)h * hop * gw_dtype_bytes(r->in[p].dtype),
                             .stride = r->width[p],
                             .n_samples = hop,
                             .n_channels = 1,
                             .sample0 = (int64_t)h * hop,
                             .dq = GW_DQ_ALL,
                             .presence = &r->presence[p]};
            if (r->missing[p])
                v[p] = (gw_view){.n_channels = 1, .sample0 = (int64_t)h * hop, .dq = UINT64_MAX};
        }
        for (int o = 0; o < 3; o++) {
            bits[o] = 0xff;
            r->out[o] =
                (gw_out){.data = slab[o], .capacity_samples = HOP, .dq = GW_DQ_ALL, .presence = &bits[o]};
        }
        assert_int_equal(gw_kind_denoise.step(r->self, v, r->out), 0);
        for (uint32_t i = 0; i < r->out[0].n_samples; i++) {
            const int64_t at = r->out[0].sample0 + i;
            assert_true(at >= 0 && at < N && isnan(r->clean[at]));
            r->clean[at] = slab[0][i];
            r->noise[at] = slab[1][i];
        }
        if (r->out[2].n_samples)
            memcpy(r->numbers, slab[2], sizeof r->numbers);
    }
}

static const uint32_t usual[PORTS] = {RATE, RATE, 64};
static const char plain[] = "{gate: always, couplings: [{name: sum, model: %s/good.onnx}]}";
enum { FIRST = 8 }; /* hop with which the tests begin */

/* Largest difference from what should be subtracted, in units of its size. */
static double error_of(const rig *r, int from, int to, double gain)
{
    double worst = 0;
    for (int i = from; i < to; i++)
        worst = fmax(worst, fabs(r->noise[i] - gain * expected((double)i / RATE)));
    return worst / (3e-21 * gain);
}

/* -- tests ------------------------------------------------------------------------------------------- */

static double response(const double *h, int n, double f)
{
    double re = 0, im = 0;
    for (int k = 0; k < n; k++) {
        re += h[k] * cos(2 * M_PI * f * k);
        im -= h[k] * sin(2 * M_PI * f * k);
    }
    return hypot(re, im);
}

static void the_short_filter_keeps_its_promises(void **state)
{
    (void)state;
    for (uint32_t factor = 2; factor <= 64; factor *= 2) {
        const int n = 2 * GW_FIR_SHORT * (int)factor + 1;
        double *h = calloc((size_t)n, sizeof *h), *phases = calloc((size_t)n, sizeof *phases);
        assert_true(h && phases);
        gw_fir_short(factor, h);
        double sum = 0;
        for (int k = 0; k < n; k++) {
            assert_true(h[k] == h[n - 1 - k]);
            sum += h[k];
        }
        assert_true(fabs(sum - 1) < 1e-14);
        for (int i = 0; i <= 100; i++) {
            const double pass = 0.25 * i / 100 / factor,
                         stop = (0.75 + (factor * 0.5 - 0.75) * i / 100) / factor;
            assert_true(fabs(20 * log10(response(h, n, pass))) < 0.003);
            assert_true(20 * log10(response(h, n, stop)) < -76);
        }
        /* phases: the same sums as over an input with zeros in between */
        gw_fir_phases(h, GW_FIR_SHORT, factor, phases);
        const double x[] = {3, -1, 4, 1, -5, 9, 2, -6, 5, 3};
        for (uint32_t j = 0; j < factor; j++) {
            double y = 0, want = 0;
            for (int k = 0; k < 2 * GW_FIR_SHORT; k++)
                y += phases[j * 2 * GW_FIR_SHORT + (uint32_t)k] * x[k];
            for (int k = 0; k < 2 * GW_FIR_SHORT;
                 k++) /* x[k] lies k - 4 samples after the one before the output */
                want += factor * h[(n - 1) / 2 + (int)j - (k - GW_FIR_SHORT + 1) * (int)factor] * x[k];
            assert_true(fabs(y - want) < 1e-12);
        }
        gw_fir_triangle(factor, h);
        gw_fir_phases(h, 1, factor, phases);
        for (uint32_t j = 0; j < factor; j++)
            assert_true(fabs(phases[2 * j] - (1 - (double)j / factor)) < 1e-14 &&
                        fabs(phases[2 * j + 1] - (double)j / factor) < 1e-14);
        free(h);
        free(phases);
    }
}

/* Whatever rates and types: the right amount at the right time. */
static void what_the_network_says_is_subtracted(void **state)
{
    (void)state;
    static rig r;
    static const struct {
        uint32_t rates[PORTS];
        gw_dtype dtype;
        double bound;
    } row[] = {{{RATE, RATE, 256}, GW_F64, 1e-3},
               {{RATE, 256, RATE}, GW_F32, 1e-3},
               {{RATE, 512, 2048}, GW_F64, 1e-3},
               {{RATE, 256, 64}, GW_F64, 8e-3}}; /* straight lines */
    for (size_t k = 0; k < sizeof row / sizeof *row; k++) {
        rig_open(&r, plain, row[k].rates, row[k].dtype);
        assert_int_equal(r.plan.n_out, 3);
        assert_string_equal(r.plan.out[0].channel[0], "H1:STRAIN_CLEANED");
        assert_string_equal(r.plan.out[1].channel[0], "H1:STRAIN_NOISE");
        assert_string_equal(r.plan.out[2].channel[3], "H1:STRAIN_GATE-sum");
        assert_int_equal(strncmp(r.plan.out[2].cleaning, "sum:sum:", 8), 0);
        assert_string_equal(r.plan.out[0].cleaning + 24, ":10-40");
        rig_run(&r, FIRST, HOPS);
        const int begin = FIRST * HOP - (int)r.plan.history[0], end = N - (int)r.plan.history[0];
        for (int i = 0; i < N; i++) {
            assert_true(isnan(r.clean[i]) == (i < begin || i >= end));
            if (!isnan(r.clean[i]))
                assert_true(r.clean[i] == r.s[i] - r.noise[i]);
        }
        for (int i = begin; i < begin + 2 * RATE; i++)
            assert_true(r.noise[i] == 0);
        const double e = error_of(&r, 6 * RATE, end, 1);
        if (!(e < row[k].bound))
            fail_msg("row %zu: %g of what there is", k, e);
        assert_true(r.numbers[3] == 1);
        rig_close(&r);
    }
}

static void integers_are_witnesses_too(void **state)
{
    (void)state;
    static rig r;
    for (int k = 0; k < 2; k++) {
        write_model("other.onnx", "gwstream.means", "2000,0", 2); /* and scales too small by 200 */
        rig_open(&r, "{gate: always, couplings: [{name: sum, model: %s/other.onnx}]}", usual,
                 k ? GW_I16 : GW_I32);
        rig_run(&r, FIRST, HOPS);
        assert_true(error_of(&r, 6 * RATE, N - (int)r.plan.history[0], 200) < 1e-2);
        rig_close(&r);
    }
}

/* The delay: 5 samples of the network's rate to come down from 1024 Hz or 4 to come up from 64 Hz, 1 for the
 * network, 5 to come up. */
static void the_delay_is_as_declared(void **state)
{
    (void)state;
    static rig r;
    rig_open(&r, plain, usual, GW_F64);
    assert_int_equal(r.plan.history[0], 4 * (5 + 1 + 5));
    assert_int_equal(r.plan.delay_ns, gw_sample_to_ns(44, (gw_rate){RATE, 1}, 0));
    rig_close(&r);
    write_model("other.onnx", "gwstream.shift_samples", "1", 2);
    rig_open(&r, "{gate: always, couplings: [{name: sum, model: %s/other.onnx}]}", usual, GW_F64);
    assert_int_equal(r.plan.history[0], 4 * (5 + 5));
    rig_close(&r);
}

static void add_value_at(rig *r, int port, double t, double x)
{
    ((double *)r->w[port])[(size_t)(t * r->in[port].rate.num)] = x;
}

/* Each way in which a witness fails: no sample of strain is lost, nothing jumps, cleaned becomes raw, and
 * comes back. */
static void witnesses_fail(void **state)
{
    (void)state;
    static rig r;
    enum { GONE, NO_CHANNEL, NOT_A_NUMBER, INFINITE, IMPOSSIBLE, DEAD, CLIPPED, WAYS };
    for (int way = 0; way < WAYS; way++) {
        rig_open(&r, plain, usual, GW_F64);
        double *w = r.w[1];
        const int fails = 7 * RATE, back = 9 * RATE;
        if (way == NOT_A_NUMBER)
            add_value_at(&r, 2, 7.5, NAN);
        if (way == INFINITE)
            add_value_at(&r, 1, 7.5, INFINITY);
        if (way == IMPOSSIBLE)
            add_value_at(&r, 1, 7.5, 1e9);
        for (int i = fails; i < back && way >= DEAD; i++)
            w[i] = way == DEAD ? 11.5 : fmin(fmax(w[i], 8.5), 11.5);
        for (int h = FIRST; h < HOPS; h++) {
            const bool now = h * HOP >= fails && h * HOP < back;
            r.missing[2] = way == GONE && now;
            r.presence[1] = way == NO_CHANNEL && now ? 0xfe : 0xff;
            rig_run(&r, h, h + 1);
        }
        const int delay = (int)r.plan.history[0], end = N - delay;
        double step = 0;
        for (int i = FIRST * HOP - delay + 1; i < end; i++) {
            assert_true(isfinite(r.clean[i]) && isfinite(r.noise[i]) && r.clean[i] == r.s[i] - r.noise[i]);
            const double bend = i < FIRST * HOP ? 0 : r.noise[i] - 2 * r.noise[i - 1] + r.noise[i - 2];
            step = fmax(step, fabs(bend));
        }
        assert_true(error_of(&r, 6 * RATE, fails - delay, 1) < 8e-3);
        const double own = 3e-21 * 2 * pow(2 * M_PI * 20 / RATE, 2); /* of the line at 20 Hz itself */
        if (way < DEAD && !(step < 1.5 * own)) /* the last two are steps of the witness itself */
            fail_msg("way %d: it bends %g times as much as it should", way, step / own);
        bool raw = false;
        for (int i = fails; i + HOP < end; i += HOP) {
            bool zero = true;
            for (int k = 0; k < HOP; k++)
                zero = zero && r.noise[i + k] == 0;
            raw = raw || zero;
        }
        if (!raw)
            fail_msg("way %d: it is never raw", way);
        assert_true(error_of(&r, 14 * RATE, end, 1) < 8e-3);
        rig_close(&r);
    }
}

/* A hole in strain: everything begins anew, and nothing of before is used. */
static void strain_has_a_hole(void **state)
{
    (void)state;
    static rig r;
    rig_open(&r, plain, usual, GW_F64);
    rig_run(&r, FIRST, 5 * 16);
    assert_int_equal(gw_kind_denoise.gap(r.self, -1, &(gw_hole){.sample0 = 5 * RATE, .samples = 100}), 0);
    rig_run(&r, 6 * 16, HOPS);
    const int delay = (int)r.plan.history[0], begin = 6 * RATE - delay;
    assert_true(isnan(r.clean[begin - 1]) && !isnan(r.clean[begin]));
    for (int i = begin; i < begin + RATE; i++)
        assert_true(r.noise[i] == 0);
    assert_true(error_of(&r, 11 * RATE, N - delay, 1) < 8e-3);
    rig_close(&r);
    /* a block whose one channel is absent is a hole too */
    rig_open(&r, plain, usual, GW_F64);
    rig_run(&r, FIRST, 20);
    r.presence[0] = 0xfe;
    rig_run(&r, 20, 21);
    assert_true(r.out[0].lost && r.out[1].lost && r.out[2].lost && r.out[0].lost_until == 21 * HOP - delay);
    r.presence[0] = 0xff;
    rig_run(&r, 21, 40);
    assert_true(isnan(r.clean[21 * HOP - delay - 1]) && !isnan(r.clean[21 * HOP - delay]));
    rig_close(&r);
    /* numbers that are none go through, and spoil nothing */
    rig_open(&r, plain, usual, GW_F64);
    r.s[7 * RATE] = NAN;
    rig_run(&r, FIRST, HOPS);
    assert_true(isnan(r.clean[7 * RATE]) && isfinite(r.clean[7 * RATE + 1]) && isfinite(r.noise[7 * RATE]));
    rig_close(&r);
}

/* Two hops that are the same input give the same bits: nothing depends on what came before the network's
 * memory. */
static void a_restart_agrees(void **state)
{
    (void)state;
    static rig a, b;
    rig_open(&a, plain, usual, GW_F64);
    rig_open(&b, plain, usual, GW_F64);
    rig_run(&a, FIRST, HOPS);
    rig_run(&b, 5 * 16 + 3, HOPS);
    for (int i = 10 * RATE; i < N - (int)a.plan.history[0]; i++)
        assert_true(a.clean[i] == b.clean[i]);
    rig_close(&a);
    rig_close(&b);
}

/* A coupling that does not fit is off, says why, and strain goes through. */
static void off(const char *key, const char *value, int channels, const char *word)
{
    static rig r;
    write_model("other.onnx", key, value, channels);
    rig_open(&r, "{gate: always, couplings: [{name: sum, model: %s/other.onnx}]}", usual, GW_F64);
    if (!strstr(r.plan.unfit, word))
        fail_msg("%s = %s: '%s' says nothing of '%s'", key ? key : "", value ? value : "(none)", r.plan.unfit,
                 word);
    assert_int_equal(r.plan.n_out, 2);
    assert_int_equal(r.plan.delay_ns, 0);
    rig_run(&r, FIRST, FIRST + 8);
    for (int i = FIRST * HOP; i < (FIRST + 8) * HOP; i++)
        assert_true(r.clean[i] == r.s[i] && r.noise[i] == 0);
    rig_close(&r);
}

static void what_does_not_fit_is_off(void **state)
{
    (void)state;
    off("gwstream.format", "2", 2, "format 1");
    off("gwstream.kind", NULL, 2, "gwstream.kind");
    off("gwstream.kind", "detect", 2, "denoise");
    off("gwstream.name", "a;b", 2, "a;b");
    off("gwstream.sample_rate", "300", 2, "300 Hz");
    off("gwstream.sample_rate", "0", 2, "gwstream.sample_rate");
    off("gwstream.witnesses", "W:0,W:O", 2, "W:1");
    off("gwstream.witnesses", "W:0,W:0", 2, "twice");
    off("gwstream.witnesses", "W:0,", 2, "gwstream.witnesses");
    off("gwstream.means", "1", 2, "1 entries for 2");
    off("gwstream.means", "1,2,3", 2, "3 entries for 2");
    off("gwstream.means", "1,nan", 2, "entry 2");
    off("gwstream.scales", "1,0", 2, "entry 2");
    off("gwstream.output_scale", "", 2, "gwstream.output_scale");
    off("gwstream.bands", "40-10", 2, "40-10");
    off("gwstream.bands", "600-700", 2, "600-700");
    off("gwstream.shift_samples", "2", 2, "looks only 1");
    off("gwstream.shift_samples", "-1", 2, "gwstream.shift_samples");
    off("gwstream.strain", "L1:STRAIN", 2, "L1:STRAIN");
    off(NULL, NULL, 3, "3 channels");
}

static void refused(const char *yaml, const uint32_t *rates, int err, const char *word)
{
    static rig r;
    const int got = rig_plan(&r, yaml, rates, GW_F64);
    if (got != err || !strstr(gw_err_detail(), word))
        fail_msg("%s: %d, '%s'", yaml, got, gw_err_detail());
    rig_close(&r);
}

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    static const uint32_t odd[PORTS] = {1025, RATE, 64}, thousand[PORTS] = {RATE, 1000, 64};
    refused("{gate: always}", usual, GW_ECONFIG, "couplings");
    refused("{couplings: []}", usual, GW_ECONFIG, "couplings");
    refused("{couplings: [x]}", usual, GW_ECONFIG, "couplings");
    refused("{couplings: [{name: a b, model: x}]}", usual, GW_ECONFIG, "a b");
    refused("{couplings: [{name: a, model: x, witnesses: []}]}", usual, GW_ECONFIG, "witnesses");
    refused("{couplings: [{name: a, model: x, witnesses: /no/such/list}]}", usual, GW_ECONFIG,
            "/no/such/list");
    refused("{couplings: [{name: a, model: x, bands: fast}]}", usual, GW_ECONFIG, "bands");
    refused("{couplings: [{name: a, model: x, mode: y}]}", usual, GW_ECONFIG, "mode");
    refused("{hop: 2s, couplings: [{name: a, model: x}]}", usual, GW_ECONFIG, "hop");
    refused("{hop: 1/3s, couplings: [{name: a, model: %s/good.onnx}]}", usual, GW_EMISMATCH, "1/3 s");
    refused(plain, odd, GW_EMISMATCH, "even whole rate");
    /* a witness at an impossible rate: who needs it is off, and it is not waited for */
    static rig r;
    assert_int_equal(rig_plan(&r, plain, thousand, GW_F64), GW_OK);
    assert_non_null(strstr(r.plan.unfit, "1000 Hz"));
    assert_true(r.plan.hop[1] == 0 && r.plan.may_lack[1] && r.plan.hop[2] == 4);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_short_filter_keeps_its_promises),
        cmocka_unit_test(what_the_network_says_is_subtracted),
        cmocka_unit_test(integers_are_witnesses_too),
        cmocka_unit_test(the_delay_is_as_declared),
        cmocka_unit_test(witnesses_fail),
        cmocka_unit_test(strain_has_a_hole),
        cmocka_unit_test(a_restart_agrees),
        cmocka_unit_test(what_does_not_fit_is_off),
        cmocka_unit_test(what_makes_no_sense_is_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
