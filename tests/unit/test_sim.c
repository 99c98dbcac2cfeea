/* SPDX-License-Identifier: GPL-3.0-or-later
 * The source `sim`: what changes its samples and what does not, that parts add up, witnesses, populations, further
 * channels, small readers, a stop. */
#include "tests/unit/sim_rig.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repeatable),
        cmocka_unit_test(parts_add_up),
        cmocka_unit_test(witnesses_are_repeatable),
        cmocka_unit_test(population_follows_its_laws),
        cmocka_unit_test(auxiliary_channels),
        cmocka_unit_test(stops_when_told),
        cmocka_unit_test(small_slabs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
