/* SPDX-License-Identifier: GPL-3.0-or-later
 * The source `sim` from its YAML to its samples, its flags and its truth, driven by a small stand-in for
 * the runner. SNRs are recomputed here from the emitted samples and the printed formula of the PSD. */
#include "pipeline/stage.h"
#include "sources/detector.h"

#include <complex.h>
#include <fftw3.h>
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define assert_near(a, b, within) assert_true(fabs((double)(a) - (double)(b)) <= (within))

extern const gw_kind gw_kind_sim;

/* ---- a stand-in for the runner ---- */

enum { MAX_EVENTS = 64, START = 1187008880 };

struct gw_env {
    int n_events;
    gw_event event[MAX_EVENTS];
    double pace;
    int64_t started_ns, waited_ns;
    bool stop;
};

const char *gw_env_name(const gw_env *env)
{
    (void)env;
    return "sky";
}

void gw_env_start(gw_env *env, double pace, int64_t data_ns)
{
    env->pace = pace;
    env->started_ns = data_ns;
}

gw_timebase gw_env_timebase(const gw_env *env)
{
    return (gw_timebase){env->pace, 5, env->started_ns};
}

int gw_env_wait_until(gw_env *env, int64_t data_ns)
{
    env->waited_ns = data_ns;
    return env->stop ? GW_ECANCELED : GW_OK;
}

int gw_env_emit(gw_env *env, const gw_event *e)
{
    assert_true(env->n_events < MAX_EVENTS);
    env->event[env->n_events++] = *e;
    return GW_OK;
}

typedef struct recording {
    gw_spec spec;
    int64_t first;
    size_t n;       /* samples */
    double *x[3];   /* per channel */
    uint8_t *flags; /* [n] of each sample's block */
    size_t longest; /* block */
} recording;

typedef struct run {
    gw_conf_file *file;
    void *state;
    gw_env env;
    gw_plan plan;
    recording port[4];
    uint32_t small; /* pieces of at most so many samples; 0: blocks */
} run;

static int configure(run *r, const char *yaml)
{
    *r = (run){0};
    GW_TRY(gw_conf_parse(&r->file, "test.yaml", yaml, strlen(yaml)));
    r->state = calloc(1, gw_kind_sim.state_size);
    assert_non_null(r->state);
    gw_conf *root = gw_conf_root(r->file);
    GW_TRY(gw_kind_sim.configure(r->state, root));
    GW_TRY(gw_conf_done(root, "source sky"));
    r->plan.name = "sky";
    return gw_kind_sim.plan(r->state, &r->plan);
}

static void append(recording *rec, const gw_piece *p)
{
    const size_t n = p->n_samples;
    if (!rec->n)
        rec->first = p->sample0;
    assert_true(n > 0 && n <= rec->spec.block_samples);
    assert_int_equal(p->sample0, rec->first + (int64_t)rec->n);
    assert_int_equal(p->sample0 / rec->spec.block_samples,
                     (p->sample0 + (int64_t)n - 1) / rec->spec.block_samples);
    assert_int_equal(p->dq, GW_DQ_ALL);
    for (uint32_t c = 0; c < rec->spec.n_channels && c < 3; c++) {
        rec->x[c] = realloc(rec->x[c], (rec->n + n) * sizeof(double));
        assert_non_null(rec->x[c]);
        for (size_t i = 0; i < n; i++)
            rec->x[c][rec->n + i] = rec->spec.dtype == GW_F64 ? ((double *)p->data)[c * n + i]
                                                              : (double)((float *)p->data)[c * n + i];
    }
    rec->flags = realloc(rec->flags, rec->n + n);
    assert_non_null(rec->flags);
    memset(rec->flags + rec->n, (int)p->flags, n);
    rec->n += n;
    rec->longest = n > rec->longest ? n : rec->longest;
}

/* Runs to the end; port orders differ with `turn`. */
static void play_small(run *r, const char *yaml, int turn, uint32_t small)
{
    const int err = configure(r, yaml);
    r->small = small;
    if (err != GW_OK)
        fail_msg("%s", gw_err_detail());
    if (gw_kind_sim.open(r->state, &r->env) != GW_OK)
        fail_msg("%s", gw_err_detail());
    bool done[4] = {false};
    void *data[4] = {0};
    const int n_out = r->plan.n_out;
    for (int o = 0; o < n_out; o++) {
        r->port[o].spec = r->plan.out[o];
        data[o] = malloc((size_t)r->plan.out[o].block_samples * r->plan.out[o].n_channels * 8);
        assert_non_null(data[o]);
    }
    for (int left = n_out; left > 0;)
        for (int k = 0; k < n_out; k++) {
            const int o = turn ? n_out - 1 - k : k;
            if (done[o])
                continue;
            const uint32_t block = r->plan.out[o].block_samples;
            gw_piece p = {.data = data[o],
                          .capacity_samples = r->small && r->small < block ? r->small : block};
            const int e = gw_kind_sim.next(r->state, o, &p);
            if (e == GW_EEND) {
                done[o] = true;
                left--;
                continue;
            }
            if (e == GW_EAGAIN)
                continue;
            if (e != GW_OK)
                fail_msg("%s", gw_err_detail());
            /* A piece is handed out when its last sample has been taken. */
            assert_int_equal(r->env.waited_ns,
                             gw_sample_to_ns(p.sample0 + p.n_samples, r->plan.out[o].rate, 0));
            append(&r->port[o], &p);
        }
    for (int o = 0; o < n_out; o++)
        free(data[o]);
}

static void play(run *r, const char *yaml, int turn)
{
    play_small(r, yaml, turn, 0);
}

static void finish(run *r)
{
    if (r->state)
        gw_kind_sim.close(r->state);
    free(r->state);
    for (int o = 0; o < r->plan.n_out; o++)
        gw_spec_free(&r->plan.out[o]);
    for (int o = 0; o < 4; o++) {
        free(r->port[o].x[0]);
        free(r->port[o].x[1]);
        free(r->port[o].x[2]);
        free(r->port[o].flags);
    }
    gw_conf_free(&r->file);
}

/* ---- tests ---- */

static const char busy[] =
    "seed: 7\nstart: 1187008880.3\nduration: 22s\nrate: 2048Hz\n"
    "glitches: {rate: 1/2Hz, coincident: 0.3}\npopulation: {first: 4s, spacing: 7s, min_ratio: 0.2}\n"
    "signals: [{gps: 1187008895, mass1: 36, mass2: 29, network_snr: 15, ra: 1, dec: 0.5, psi: 0.3, iota: "
    "0.4}]\n";

static void same_event(const gw_event *a, const gw_event *b)
{
    gw_event x = *a, y = *b;
    x.ingest_ns = y.ingest_ns = x.decided_ns = y.decided_ns = 0;
    x.pace = y.pace = 0;
    assert_string_equal(x.id, y.id);
    assert_string_equal(x.detail, y.detail);
    assert_true(x.gps_ns == y.gps_ns && x.statistic == y.statistic);
}

/* Block length, pace and port order change nothing. */
static void repeatable(void **state)
{
    (void)state;
    static const char *const blocks[] = {"block: 1/16s\n", "block: 1/64s\npace: 4\n", "block: 1/4s\n",
                                         "block: 1s\n", "block: 37/2048s\n"};
    run first = {0};
    for (int b = 0; b < 5; b++) {
        char yaml[1024];
        run r;
        snprintf(yaml, sizeof yaml, "%s%s", busy, blocks[b]);
        play(&r, yaml, b % 2);
        assert_int_equal(r.plan.n_out, 2);
        assert_int_equal(r.env.n_events, 4);
        for (int o = 0; o < 2; o++) {
            const recording *p = &r.port[o], *q = &first.port[o];
            assert_int_equal(p->first, (int64_t)START * 2048 + 615); /* the first at or after .3 s */
            assert_int_equal(p->n, 22 * 2048);
            assert_int_equal(p->longest, r.plan.out[o].block_samples);
            if (b)
                assert_memory_equal(p->x[0], q->x[0], p->n * sizeof(double));
        }
        for (int i = 0; b && i < 4; i++)
            same_event(&r.env.event[i], &first.env.event[i]);
        if (b)
            finish(&r);
        else
            first = r;
    }
    run other;
    char yaml[1024];
    snprintf(yaml, sizeof yaml, "%s", busy);
    yaml[6] = '8';
    play(&other, yaml, 0);
    assert_memory_not_equal(other.port[0].x[0], first.port[0].x[0], 1000);
    assert_memory_not_equal(first.port[1].x[0], first.port[0].x[0], 1000);
    finish(&other);
    finish(&first);
}

static double printed_psd(double f)
{
    const double x = f / 215;
    return 4e-49 * (pow(x, -4.14) - 5 * pow(x, -2) + 111 * (1 - x * x + pow(x, 4) / 2) / (1 + x * x / 2));
}

/* rho by the definition; and the time of the envelope's maximum, in samples. */
static double snr_of(const recording *rec, double rate_hz, double *peak)
{
    const size_t n = rec->n;
    double *x = fftw_alloc_real(n), sum = 0;
    fftw_complex *h = fftw_alloc_complex(n);
    fftw_plan forward = fftw_plan_dft_r2c_1d((int)n, x, h, FFTW_ESTIMATE);
    memcpy(x, rec->x[1], n * sizeof *x);
    fftw_execute(forward);
    const double df = rate_hz / (double)n;
    for (size_t k = 1; k < n / 2; k++)
        if ((double)k * df >= 20)
            sum += 4 * df * creal(h[k] * conj(h[k])) / (rate_hz * rate_hz) / printed_psd((double)k * df);
    for (size_t k = n / 2; k < n; k++)
        h[k] = 0; /* the analytic signal */
    fftw_plan back = fftw_plan_dft_1d((int)n, h, h, FFTW_BACKWARD, FFTW_ESTIMATE);
    fftw_execute(back);
    size_t top = 0;
    for (size_t i = 0; i < n; i++)
        if (cabs(h[i]) > cabs(h[top]))
            top = i;
    const double a = cabs(h[top - 1]), b = cabs(h[top]), c = cabs(h[top + 1]);
    *peak = (double)top + 0.5 * (a - c) / (a - 2 * b + c);
    fftw_destroy_plan(forward);
    fftw_destroy_plan(back);
    fftw_free(x);
    fftw_free(h);
    return sqrt(sum);
}

static double number_in(const char *json, const char *after, const char *key)
{
    const char *at = strstr(json, after);
    assert_non_null(at);
    at = strstr(at, key);
    assert_non_null(at);
    return strtod(at + strlen(key), NULL);
}

static void signal_snr_and_arrival(void **state)
{
    (void)state;
    static const char *const how[] = {
        "mass1: 36, mass2: 29, spin1z: 0.3, network_snr: 24, ra: 1.9, dec: -1.2, psi: 0.7, iota: 2.6",
        "mass1: 14, mass2: 8, network_snr: 12, ra: 5, dec: 0.8, psi: 1.1, iota: 0.9, phase: 0.4",
        "mass1: 90, mass2: 60, distance: 1500, ra: 3.3, dec: 0.1, psi: 2.7, iota: 0.1",
    };
    for (int i = 0; i < 3; i++) {
        char yaml[1024];
        run r;
        snprintf(yaml, sizeof yaml,
                 "start: %d\nduration: 14s\nrate: 4096Hz\nparts: true\nasd: design-plain\nlines: false\n"
                 "detectors: [L1, H1, V1]\nsignals: [{gps: %d.123456789, %s}]\n",
                 START, START + 12, how[i]);
        play(&r, yaml, 0);
        assert_int_equal(r.env.n_events, 1);
        const gw_event *e = &r.env.event[0];
        assert_int_equal(e->phase, GW_PHASE_INJECTION);
        assert_string_equal(e->detectors, "H1,L1,V1");
        assert_string_equal(e->stream, "sky");
        assert_true(e->injection && e->detail[strlen(e->detail) - 1] == '}');
        double sum = 0, latest = 0;
        static const char *const key[] = {"\"L1\":", "\"H1\":", "\"V1\":"};
        for (int d = 0; d < 3; d++) {
            double peak;
            const double snr = snr_of(&r.port[d], 4096, &peak);
            const double said = number_in(e->detail, "\"snr\":", key[d]);
            const double arrival = number_in(e->detail, "\"gps\":", key[d]) - START;
            assert_near(snr / said, 1, 0.005);
            sum += snr * snr;
            latest = fmax(latest, arrival);
            /* V1 is 23 ms from the centre of the Earth at most, and so are the others. */
            assert_near(arrival, 12.123456789, 0.0214);
            assert_near(peak / 4096, arrival, i == 2 ? 0.002 : 0.0005);
        }
        assert_near(sqrt(sum) / e->statistic, 1, 0.005);
        assert_near((double)(e->gps_ns - START * GW_SECOND_NS) / 1e9, latest, 1e-6);
        const double distance = number_in(e->detail, "{", "\"distance_mpc\":");
        assert_true(i == 2 ? distance == 1500 : distance > 10);
        if (i < 2)
            assert_near(e->statistic, i ? 12 : 24, 1e-6);
        finish(&r);
    }
}

/* Two detectors see one wave, apart from a factor and a delay: the cross-correlation of their signal
 * parts peaks at the difference of the arrivals, to a small part of a sample. */
static void delay_is_finer_than_a_sample(void **state)
{
    (void)state;
    run r;
    play(&r,
         "start: 1187008880\nduration: 12s\nrate: 2048Hz\nparts: true\ndetectors: [H1, L1]\n"
         "signals: [{gps: 1187008888.0001, mass1: 30, mass2: 25, network_snr: 20, ra: 4, dec: 0.6, psi: "
         "0.2, iota: 0.9}]\n",
         0);
    const gw_event *e = &r.env.event[0];
    const double expected =
        (number_in(e->detail, "\"gps\":", "\"H1\":") - number_in(e->detail, "\"gps\":", "\"L1\":")) * 2048;
    const size_t n = r.port[0].n;
    fftw_complex *h[2];
    double *x = fftw_alloc_real(n);
    for (int d = 0; d < 2; d++) {
        h[d] = fftw_alloc_complex(n / 2 + 1);
        fftw_plan p = fftw_plan_dft_r2c_1d((int)n, x, h[d], FFTW_ESTIMATE);
        memcpy(x, r.port[d].x[1], n * sizeof *x);
        fftw_execute(p);
        fftw_destroy_plan(p);
    }
    double best = 0, at = 0, phase = 0;
    for (int fine = 0; fine < 2; fine++) {
        const double from = fine ? at - 1 : -25, step = fine ? 0.01 : 0.5;
        for (int i = 0; i <= (fine ? 200 : 100); i++) {
            const double lag = from + i * step;
            double complex sum = 0;
            for (size_t k = 1; k < n / 2; k++)
                sum += h[0][k] * conj(h[1][k]) * cexp(2 * M_PI * I * (double)k * lag / (double)n) * 1e42;
            if (cabs(sum) > best) {
                best = cabs(sum);
                at = lag;
                phase = carg(sum);
            }
        }
    }
    assert_true(fabs(expected) > 1);
    assert_near(at, expected, 0.02);
    /* hx lags h+ by a quarter turn, so the detectors differ in phase by that of F+ (1 + c^2) / 2 - i Fx c. */
    double complex seen[2];
    for (int d = 0; d < 2; d++) {
        double plus, cross;
        gw_detector_antenna(gw_detector_find(d ? "L1" : "H1"), 4, 0.6, 0.2,
                            gw_sidereal_rad(1187008888 * GW_SECOND_NS), &plus, &cross);
        seen[d] = plus * 0.5 * (1 + cos(0.9) * cos(0.9)) - I * cross * cos(0.9);
    }
    const double expected_phase = carg(seen[0] * conj(seen[1]));
    assert_true(fabs(sin(expected_phase)) > 0.1);
    assert_near(remainder(phase - expected_phase, 2 * M_PI), 0, 0.02);
    fftw_free(x);
    fftw_free(h[0]);
    fftw_free(h[1]);
    finish(&r);
}

/* Exactly the blocks that hold a part of [arrival - 1 s, arrival + 0.3 s] are flagged. */
static void flags(void **state)
{
    (void)state;
    run r;
    play(&r,
         "start: 1187008880\nduration: 16s\nrate: 1024Hz\nblock: 1/16s\n"
         "signals: [{gps: 1187008885.03, mass1: 30, mass2: 25, network_snr: 20, ra: 4, dec: 0.6},"
         " {gps: 1187008880.2, mass1: 30, mass2: 25, network_snr: 20},"
         " {gps: 1187008895.9, mass1: 30, mass2: 25, network_snr: 20}]\n",
         0);
    assert_int_equal(r.env.n_events, 3);
    for (int d = 0; d < 2; d++)
        for (size_t i = 0; i < r.port[d].n; i += 64) {
            bool expected = false;
            for (int k = 0; k < 3; k++) {
                const double tc =
                    number_in(r.env.event[k].detail, "\"gps\":", d ? "\"L1\":" : "\"H1\":") - START;
                const double from = (double)i / 1024, to = (double)(i + 64) / 1024;
                expected |= tc - 1 < to && tc + 0.3 >= from;
            }
            assert_int_equal(r.port[d].flags[i], expected ? GW_FLAG_INJECTION : 0);
        }
    finish(&r);
}

static void parts_add_up(void **state)
{
    (void)state;
    run whole, parts;
    char yaml[1024];
    play(&whole, busy, 0);
    snprintf(yaml, sizeof yaml, "%sparts: true\n", busy);
    play(&parts, yaml, 0);
    assert_string_equal(whole.plan.out[0].channel[0], "H1:STRAIN");
    assert_string_equal(parts.plan.out[1].channel[0], "L1:STRAIN_NOISE");
    assert_string_equal(parts.plan.out[1].channel[1], "L1:STRAIN_SIGNAL");
    double strongest = 0;
    for (size_t i = 0; i < whole.port[0].n; i++) {
        const double *x = &parts.port[0].x[0][i], *y = &parts.port[0].x[1][i];
        assert_near(whole.port[0].x[0][i], *x + *y, 1e-32);
        strongest = fmax(strongest, fabs(*y));
    }
    assert_true(strongest > 1e-23);
    finish(&whole);
    finish(&parts);
}

static const char witnesses[] =
    "witnesses:\n  rate: 512Hz\n  strain: 0.01\n  channels:\n"
    "    - {name: MAINS, line: 60Hz, count: 2}\n    - {name: SLOW, band: [0.1Hz, 1.5Hz]}\n"
    "    - {name: JITTER, band: [8Hz, 35Hz], count: 3}\n  couplings:\n    - {of: MAINS_0, height: 25}\n"
    "    - {of: MAINS_1, times: SLOW, height: 6}\n    - {of: MAINS_0, power: 2, height: 4}\n"
    "    - {of: JITTER, resonances: [{frequency: 14Hz, q: 9}, {frequency: 23Hz, q: 14}], height: 5}\n";

/* Block length, pace, port order and small pieces change nothing, and strain is what it is without them plus
 * what they say that they added. */
static void witnesses_are_repeatable(void **state)
{
    (void)state;
    static const char *const blocks[] = {"block: 1/16s\n", "block: 1/64s\npace: 4\n", "block: 1s\n"};
    char yaml[2048];
    run plain, first = {0};
    snprintf(yaml, sizeof yaml, "%sparts: true\n", busy);
    play(&plain, yaml, 0);
    for (int b = 0; b < 3; b++) {
        run r;
        snprintf(yaml, sizeof yaml, "%s%s%sparts: true\n", busy, blocks[b], witnesses);
        play_small(&r, yaml, b % 2, b == 2 ? 100 : 0);
        assert_int_equal(r.plan.n_out, 4);
        for (int o = 0; b && o < 4; o++) {
            assert_int_equal(r.port[o].n, first.port[o].n);
            assert_int_equal(r.port[o].first, first.port[o].first);
            for (int c = 0; c < 3; c++)
                assert_memory_equal(r.port[o].x[c], first.port[o].x[c], r.port[o].n * sizeof(double));
        }
        if (b)
            finish(&r);
        else
            first = r;
    }
    assert_string_equal(first.plan.out[0].channel[2], "H1:STRAIN_COUPLED");
    assert_string_equal(first.plan.out[3].channel[4], "L1:JITTER_1");
    assert_string_equal(first.plan.out[3].name, "L1_witness");
    assert_string_equal(first.plan.out[3].detector, "L1");
    assert_int_equal(first.port[2].first, (int64_t)START * 512 + 154); /* the first at or after .3 s */
    assert_int_equal(first.port[2].n, 22 * 512);
    double most = 0;
    for (int d = 0; d < 2; d++)
        for (size_t i = 0; i < plain.port[d].n; i++) {
            const double coupled = first.port[d].x[2][i];
            assert_true(first.port[d].x[0][i] == plain.port[d].x[0][i] + coupled);
            assert_true(first.port[d].x[1][i] == plain.port[d].x[1][i]);
            most = fmax(most, fabs(coupled));
        }
    assert_true(most > 1e-22 && most < 1e-18);
    assert_memory_not_equal(first.port[2].x[0], first.port[3].x[0], 1000);
    finish(&plain);
    finish(&first);
}

static void population_follows_its_laws(void **state)
{
    (void)state;
    run r;
    play(&r,
         "start: 1187008880\nduration: 100s\nrate: 512Hz\nseed: 3\n"
         "population: {first: 5s, spacing: 4s, jitter: 500ms, mass: [10, 60], max_mass_ratio: 3, spin: 0.5,"
         " network_snr: [8, 11, 30], snr_law: list, min_ratio: 0.6}\n",
         0);
    assert_int_equal(r.env.n_events, 24);
    for (int i = 0; i < r.env.n_events; i++) {
        static const double snr[] = {8, 11, 30};
        const char *json = r.env.event[i].detail;
        const double m1 = number_in(json, "{", "\"mass1\":"), m2 = number_in(json, "{", "\"mass2\":");
        const double h = number_in(json, "\"snr\":", "\"H1\":"), l = number_in(json, "\"snr\":", "\"L1\":");
        assert_true(m2 >= 10 && m1 <= 60 && m1 >= m2 && m1 <= 3 * m2);
        assert_true(fabs(number_in(json, "{", "\"chi\":")) <= 0.5);
        assert_near(r.env.event[i].statistic, snr[i % 3], 1e-4);
        assert_true(fmin(h, l) >= 0.6 * fmax(h, l));
        assert_near(number_in(json, "{", "\"geocentre_gps\":"), START + 5 + 4 * i, 0.5);
        if (i)
            assert_true(r.env.event[i].gps_ns > r.env.event[i - 1].gps_ns);
    }
    finish(&r);
}

static void auxiliary_channels(void **state)
{
    (void)state;
    run r, q;
    play(&r, "duration: 4s\nrate: 1024Hz\ndetectors: [V1]\nauxiliary: {channels: 5, rate: 2048Hz}\n", 0);
    play(&q,
         "duration: 4s\nrate: 1024Hz\nblock: 1/4s\ndetectors: []\nauxiliary: {channels: 3, rate: 2048Hz}\n",
         0);
    assert_int_equal(r.plan.n_out, 2);
    assert_int_equal(q.plan.n_out, 1);
    const recording *a = &r.port[1], *b = &q.port[0];
    assert_int_equal(r.plan.out[1].dtype, GW_F32);
    assert_int_equal(r.plan.out[1].n_channels, 5);
    assert_string_equal(r.plan.out[1].name, "aux");
    assert_string_equal(r.plan.out[1].channel[4], "AUX:WHITE_000004");
    assert_int_equal(a->n, 4 * 2048);
    assert_memory_equal(a->x[1], b->x[1], a->n * sizeof(double));
    double power = 0, both = 0;
    for (size_t i = 0; i < a->n; i++) {
        power += a->x[0][i] * a->x[0][i];
        both += a->x[0][i] * a->x[1][i];
    }
    assert_near(power / (double)a->n, 1, 0.06);
    assert_near(both / (double)a->n, 0, 0.05);
    finish(&r);
    finish(&q);
}

static void stops_when_told(void **state)
{
    (void)state;
    run r;
    double data[1024];
    gw_piece p = {.data = data, .capacity_samples = 1024};
    assert_int_equal(configure(&r, "rate: 16384Hz\npace: 1\nstart: 1187008880\n"), GW_OK); /* endless */
    assert_int_equal(gw_kind_sim.open(r.state, &r.env), GW_OK);
    assert_int_equal(gw_kind_sim.next(r.state, 0, &p), GW_OK);
    assert_true(r.env.pace == 1 && r.env.started_ns == START * GW_SECOND_NS);
    r.env.stop = true;
    assert_int_equal(gw_kind_sim.next(r.state, 1, &p), GW_ECANCELED);
    finish(&r);
}

/* A reader with little room gets the same samples in smaller pieces. */
static void small_slabs(void **state)
{
    (void)state;
    run r;
    double data[2 * 1024], again[2 * 1024];
    gw_piece p = {.data = data, .capacity_samples = 1024};
    assert_int_equal(configure(&r, "parts: true\ndetectors: [L1]\n"), GW_OK);
    assert_int_equal(gw_kind_sim.open(r.state, &r.env), GW_OK);
    assert_int_equal(gw_kind_sim.next(r.state, 0, &p), GW_OK);
    assert_int_equal(p.n_samples, 1024);
    finish(&r);
    assert_int_equal(configure(&r, "parts: true\ndetectors: [L1]\n"), GW_OK);
    assert_int_equal(gw_kind_sim.open(r.state, &r.env), GW_OK);
    for (uint32_t n = 0; n < 1024; n += p.n_samples) {
        p = (gw_piece){.data = again, .capacity_samples = 300};
        assert_int_equal(gw_kind_sim.next(r.state, 0, &p), GW_OK);
        assert_memory_equal(again, data + n, p.n_samples * sizeof *data);
        assert_memory_equal(again + p.n_samples, data + 1024 + n, p.n_samples * sizeof *data);
    }
    finish(&r);
}

static void bad_configurations(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *says;
    } bad[] = {
        {"seed: -1", "seed: -1 is out of range"},
        {"rate: 16384", "needs a unit"},
        {"rate: 2MHz", "is not a unit"},
        {"rate: 1001kHz", "out of range"},
        {"block: 1/3s", "whole number"},
        {"block: 100000s", "too many"},
        {"duration: 10", "needs a unit"},
        {"pace: -1", "out of range"},
        {"detectors: H1", "a list"},
        {"detectors: [H1, X1]", "'X1' is not one of"},
        {"detectors: [H1, H1]", "twice"},
        {"detectors: [H1, L1, V1, H1]", "at most 3"},
        {"detectors: []", "nothing to simulate"},
        {"detectors: []\nauxiliary: {channels: 1, rate: 16Hz}\npopulation: {}", "need detectors"},
        {"asd: /no/such/file", "/no/such/file"},
        {"asd: design-plain\nexcess: true", "excess"},
        {"lines: yes", "lines"},
        {"sensitivity: [1]", "one relative ASD"},
        {"sensitivity: [1, 0]", "out of range"},
        {"glitches: {rate: 1kHz}", "at most 10Hz"},
        {"glitches: {snr: [4]}", "a list of two"},
        {"glitches: {snr: [40, 4]}", "out of range"},
        {"glitches: {rat: 1Hz}", "rat"},
        {"glitches: 3", "glitches"},
        {"signals: {}", "a list"},
        {"signals: [3]", "a map"},
        {"signals: [{mass1: 30, mass2: 30, network_snr: 10}]", "gps"},
        {"signals: [{gps: 1400000001, mass1: 30, network_snr: 10}]", "mass2"},
        {"signals: [{gps: 1400000001, mass1: 30, mass2: 30}]", "either network_snr or distance"},
        {"signals: [{gps: 1400000001, mass1: 30, mass2: 30, network_snr: 9, distance: 9}]", "either"},
        {"signals: [{gps: 1400000001, mass1: 300, mass2: 200, network_snr: 9}]", "total mass"},
        {"signals: [{gps: 1300000001, mass1: 30, mass2: 20, network_snr: 9}]", "outside"},
        {"signals: [{gps: 1400000001, mass1: 30, mass2: 20, network_snr: 9, iota: 4}]", "iota"},
        {"signals: [{gps: 1400000001, mass1: 30, mass2: 20, network_snr: 9, mass3: 4}]", "mass3"},
        {"population: []", "a map"},
        {"population: {spacing: 1s, jitter: 1s}", "half the spacing"},
        {"population: {mass: [0.5, 3]}", "out of range"},
        {"population: {snr_law: list}", "network_snr"},
        {"population: {snr_law: cubic}", "cubic"},
        {"population: {min_ratio: 2}", "out of range"},
        {"auxiliary: {channels: 3}", "rate"},
        {"auxiliary: {channels: 3, rate: 100Hz}", "whole number"},
        {"witnesses: []", "a map"},
        {"witnesses: {channels: [{name: A, line: 60Hz}]}", "rate"},
        {"witnesses: {rate: 500Hz, channels: [{name: A, line: 60Hz}]}", "must be a multiple"},
        {"rate: 2048Hz\nblock: 1/64s\nwitnesses: {rate: 32Hz, channels: [{name: A, line: 3Hz}]}",
         "whole number"},
        {"witnesses: {rate: 512Hz, channels: []}", "a list"},
        {"witnesses: {rate: 512Hz, channels: [{line: 60Hz}]}", "name"},
        {"witnesses: {rate: 512Hz, channels: [{name: A}]}", "what do these channels see"},
        {"witnesses: {rate: 512Hz, channels: [{name: A, line: 60Hz, band: [1Hz, 2Hz]}]}", "one of them"},
        {"witnesses: {rate: 512Hz, channels: [{name: A, line: 250Hz}]}", "at most 204.8 Hz"},
        {"witnesses: {rate: 512Hz, channels: [{name: A, band: [9Hz, 3Hz]}]}", "rising"},
        {"witnesses: {rate: 512Hz, channels: [{name: A, band: [9Hz, Hz]}]}", "not a frequency"},
        {"witnesses: {rate: 512Hz, channels: [{name: A, line: 6Hz}, {name: A, line: 5Hz}]}", "twice"},
        {"witnesses: {rate: 512Hz, channels: [{name: A, line: 6Hz, count: 512}, {name: B, line: 5Hz}]}",
         "more than 512"},
        {"witnesses: {rate: 512Hz, channels: [{name: A, line: 6Hz}], couplings: [{of: B}]}",
         "'B' is neither"},
        {"witnesses: {rate: 512Hz, channels: [{name: A, line: 6Hz}], couplings: [{of: A_1}]}", "A_0"},
        {"witnesses: {rate: 512Hz, channels: [{name: A, line: 60Hz}], couplings: [{of: A, power: 4}]}",
         "reaches up to 240 Hz"},
        {"witnesses: {rate: 512Hz, channels: [{name: A, line: 6Hz}], couplings: [{of: A, resonances: 3}]}",
         "a list of 1"},
        {"witnesses: {rate: 512Hz, channels: [{name: A, line: 6Hz}], couplings: [{of: A, resonances: "
         "[{frequency: 1Hz, q: 20}]}]}",
         "rings for too long"},
        {"detectors: []\nauxiliary: {channels: 1, rate: 16Hz}\n"
         "witnesses: {rate: 512Hz, channels: [{name: A, line: 6Hz}]}",
         "need detectors"},
        {"nonsense: 1", "nonsense"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        run r;
        gw_err_clear();
        const int err = configure(&r, bad[i].yaml);
        if (!gw_err_is_input(err))
            fail_msg("%s: accepted (%d)", bad[i].yaml, err);
        if (!strstr(gw_err_detail(), bad[i].says) || !strstr(gw_err_detail(), "test.yaml:"))
            fail_msg("%s: '%s' does not say '%s'", bad[i].yaml, gw_err_detail(), bad[i].says);
        finish(&r);
    }
}

/* What cannot be seen from the YAML alone is an error in words too. */
static void impossible_signal(void **state)
{
    (void)state;
    run r;
    double data[4096];
    gw_piece p = {.data = data, .capacity_samples = 4096};
    assert_int_equal(configure(&r, "rate: 16Hz\nblock: 1s\n"
                                   "signals: [{gps: 1400000001, mass1: 30, mass2: 30, network_snr: 9}]"),
                     GW_OK);
    assert_int_equal(gw_kind_sim.open(r.state, &r.env), GW_OK);
    assert_int_equal(gw_kind_sim.next(r.state, 0, &p), GW_ERANGE);
    assert_non_null(strstr(gw_err_detail(), "no signal"));
    finish(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repeatable),
        cmocka_unit_test(signal_snr_and_arrival),
        cmocka_unit_test(delay_is_finer_than_a_sample),
        cmocka_unit_test(flags),
        cmocka_unit_test(parts_add_up),
        cmocka_unit_test(witnesses_are_repeatable),
        cmocka_unit_test(population_follows_its_laws),
        cmocka_unit_test(auxiliary_channels),
        cmocka_unit_test(stops_when_told),
        cmocka_unit_test(small_slabs),
        cmocka_unit_test(bad_configurations),
        cmocka_unit_test(impossible_signal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
