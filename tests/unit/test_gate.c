/* SPDX-License-Identifier: GPL-3.0-or-later
 * The gate's rules, second by second; its weights, sample by sample; trials of two networks; and how a
 * prediction is prolonged. */
#include "pipeline/stages/gate.h"
#include "pipeline/stages/prolong.h"
#include "pipeline/stages/trial.h"
#include "tests/unit/stage_rig.h"

enum { FS = 1024, HOP = FS / 16 };

static const int64_t first = (int64_t)1400000000 * FS;

typedef struct bench {
    gw_gate g;
    int64_t at; /* second that ended last */
    int changes;
    gw_gate_change last;
    double w[256 * FS]; /* all weights so far */
    int n;
} bench;

static void begin(bench *b, const char *yaml)
{
    gw_conf_file *f;
    gw_gate_keys k;
    assert_int_equal(gw_conf_parse(&f, "test.yaml", yaml, strlen(yaml)), GW_OK);
    assert_int_equal(gw_gate_keys_read(&k, gw_conf_root(f)), GW_OK);
    gw_conf_free(&f);
    *b = (bench){.at = first};
    gw_gate_init(&b->g, &k, FS);
}

static gw_asd_ratios ratios_of(double mean, double out)
{
    return (gw_asd_ratios){.measured = !isnan(mean), .mean = mean, .integrated = mean, .out = out};
}

/* `seconds` with this ratio; the prediction is valid but in the hops [bad, good) of each second. Returns the
 * number of the second, from 1, in which the gate changed last; 0: it did not. */
static int go(bench *b, int seconds, double mean, double out, int bad, int good)
{
    int when = 0;
    for (int s = 1; s <= seconds; s++) {
        for (int h = 0; h < FS / HOP; h++) {
            const int64_t at = b->at + h * HOP;
            if (h >= bad && h < good)
                gw_gate_hurt(&b->g, at);
            else
                gw_gate_well(&b->g, at);
            assert_true(b->n + HOP <= 256 * FS);
            gw_gate_weigh(&b->g, at, HOP, b->w + b->n);
            b->n += HOP;
        }
        b->at += FS;
        const gw_asd_ratios r = ratios_of(mean, out);
        const gw_gate_change c = gw_gate_second(&b->g, b->at, &r);
        if (c != GW_GATE_SAME) {
            b->last = c;
            b->changes++;
            when = s;
        }
    }
    return when;
}

static double weight(const bench *b)
{
    double w;
    gw_gate_weigh(&b->g, b->at + 2 * FS, 1, &w); /* when fades are over */
    return w;
}

static void in_and_out(void **unused)
{
    (void)unused;
    bench b;
    begin(&b, "{}");
    assert_int_equal(go(&b, 10, 0.98, 1, 0, 0), 0); /* better, but not by enough */
    assert_int_equal(go(&b, 15, 0.5, 1, 0, 0), 0);
    assert_int_equal(go(&b, 1, NAN, 1, 0, 0), 0); /* not measured: proves nothing */
    assert_int_equal(go(&b, 17, 0.5, 1, 0, 0), 16);
    assert_int_equal(b.last, GW_GATE_IN);
    assert_true(weight(&b) == 1);
    assert_int_equal(go(&b, 20, 0.999, 1.02, 0, 0), 0); /* no longer much better: stays */
    assert_int_equal(go(&b, 1, 1.001, 1, 0, 0), 0);
    assert_int_equal(go(&b, 1, 0.9, 1, 0, 0), 0);
    assert_int_equal(go(&b, 2, 1.001, 1, 0, 0), 2);
    assert_int_equal(b.last, GW_GATE_HARMS);
    assert_true(weight(&b) == 0);
    assert_int_equal(go(&b, 70, 0.5, 1, 0, 0), 60); /* the pause */
    assert_int_equal(go(&b, 5, 0.5, 1.021, 0, 0), 2);
    assert_int_equal(b.last, GW_GATE_HARMS_OUT);
    assert_int_equal(go(&b, 100, 0.5, 1.011, 0, 0), 0); /* harm out of band keeps it out */
    assert_int_equal(b.changes, 4);
}

static void never_in(void **unused)
{
    (void)unused;
    bench b;
    begin(&b, "{gate: {start: in}}");
    assert_int_equal(go(&b, 5, NAN, NAN, 0, 0), 2); /* unproven, as was asked for */
    assert_int_equal(b.last, GW_GATE_BACK);
    assert_int_equal(go(&b, 5, 1.2, 1, 0, 0), 2);
    assert_int_equal(go(&b, 200, 1.2, 1, 0, 0), 0);
    begin(&b, "{}");
    assert_int_equal(go(&b, 200, 1.2, 1, 0, 0), 0);
    assert_true(weight(&b) == 0);
}

static void hurt(void **unused)
{
    (void)unused;
    bench b;
    begin(&b, "{}");
    go(&b, 30, 0.5, 1, 0, 0);
    assert_int_equal(b.changes, 1);
    b.n = 0;
    go(&b, 1, NAN, 1, 4, 8); /* a quarter of a second without a witness */
    assert_true(b.w[4 * HOP - 1] == 1 && b.w[4 * HOP + 1] < 1 && b.w[8 * HOP] == 0 && b.w[FS - 1] == 0);
    assert_int_equal(go(&b, 5, NAN, 1, 0, 0), 2); /* back without a proof, and no pause */
    assert_int_equal(b.last, GW_GATE_BACK);
    assert_true(weight(&b) == 1);
    go(&b, 20, 0.5, 1, 0, 0);
    go(&b, 1, NAN, 1, 0, 1); /* again within a minute: it must prove itself */
    assert_int_equal(go(&b, 100, 0.5, 1, 0, 0), 62);
    assert_int_equal(b.last, GW_GATE_IN);
    go(&b, 61, NAN, 1, 0, 16); /* too long */
    assert_int_equal(go(&b, 10, NAN, 1, 0, 0), 0);
    assert_true(weight(&b) == 0);
}

/* A witness that comes and goes. */
static void flapping(void **unused)
{
    (void)unused;
    bench b;
    begin(&b, "{}");
    go(&b, 30, 0.5, 1, 0, 0);
    b.changes = 0;
    for (int minute = 0; minute < 20; minute++)
        for (int k = 0; k < 12; k++) { /* every 5 s */
            b.n = 0;
            go(&b, 4, 0.5, 1, 0, 0);
            go(&b, 1, NAN, 1, 3, 5);
        }
    assert_true(b.changes <= 1);
    b.changes = 0;
    for (int minute = 0; minute < 20; minute++) {
        for (int k = 0; k < 3; k++) { /* every 20 s: enough for the proof, not for the pause */
            b.n = 0;
            go(&b, 19, 0.5, 1, 0, 0);
            go(&b, 1, NAN, 1, 3, 5);
        }
    }
    assert_true(b.changes <= 40);
}

static void strain_hole(void **unused)
{
    (void)unused;
    bench b;
    double w;
    begin(&b, "{}");
    go(&b, 30, 0.5, 1, 0, 0);
    b.at += 10 * FS;
    gw_gate_hole(&b.g, b.at, 10 * FS);
    gw_gate_weigh(&b.g, b.at, 1, &w);
    assert_true(w == 0);
    assert_int_equal(go(&b, 5, NAN, NAN, 0, 0), 2);
    b.at += 100 * FS;
    gw_gate_hole(&b.g, b.at, 100 * FS);
    assert_int_equal(go(&b, 5, NAN, NAN, 0, 0), 0); /* who knows what became of the coupling */
}

static void always(void **unused)
{
    (void)unused;
    bench b;
    begin(&b, "{gate: always}");
    assert_int_equal(go(&b, 100, 3, 3, 0, 0), 2);
    assert_true(weight(&b) == 1);
    for (int k = 0; k < 10; k++) {
        go(&b, 1, 3, 3, 0, 16);
        assert_true(weight(&b) == 0);
        assert_int_equal(go(&b, 5, 3, 3, 0, 0), 2);
    }
}

/* Weights have no step and no kink, whatever is said when; and are the same however they are asked for. */
static void smooth(void **unused)
{
    (void)unused;
    static bench b, c;
    double worst = 0, bend = 0;
    for (int trial = 0; trial < 50; trial++) {
        begin(&b, "{gate: {for: 1s, pause: 0s, after: 1s}}");
        for (int s = 0; s < 60; s++) {
            const int from = uniform() < 0.2 ? (int)(16 * uniform()) : 16;
            go(&b, 1, uniform() < 0.5 ? 0.5 : 1.5, 1, from, from + 1 + (int)(6 * uniform()));
        }
        for (int i = 2; i < b.n; i++) {
            worst = fmax(worst, fabs(b.w[i] - b.w[i - 1]));
            bend = fmax(bend, fabs(b.w[i] - 2 * b.w[i - 1] + b.w[i - 2]));
            assert_true(b.w[i] >= 0 && b.w[i] <= 1);
        }
    }
    assert_true(worst < 0.5 * M_PI * 4 / FS * 1.3);
    assert_true(bend < 0.5 * pow(M_PI * 4 / FS, 2) * 2.1);
    /* One by one, a second at once. */
    begin(&b, "{}");
    go(&b, 26, 0.5, 1, 0, 0);
    c = b;
    gw_gate_weigh(&c.g, b.at, FS, c.w);
    for (int i = 0; i < FS; i++) {
        double w;
        gw_gate_weigh(&b.g, b.at + i, 1, &w);
        assert_memory_equal(&w, &c.w[i], sizeof w);
    }
}

static void keys(void **unused)
{
    (void)unused;
    static const char *const bad[] = {"{gate: {in: 1.1}}", "{gate: {for: 1.5s}}",    "{gate: {after: 0s}}",
                                      "{gate: often}",     "{gate: {start: maybe}}", "{gate: {fro: 3s}}",
                                      "{gate: {out: -1}}", "{gate: {pause: 2d}}",    "{gate: [1, 2]}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        gw_conf_file *f;
        gw_gate_keys k;
        assert_int_equal(gw_conf_parse(&f, "test.yaml", bad[i], strlen(bad[i])), GW_OK);
        assert_int_equal(gw_gate_keys_read(&k, gw_conf_root(f)), GW_ECONFIG);
        assert_non_null(strstr(gw_err_detail(), "test.yaml:1:"));
        gw_conf_free(&f);
    }
}

/* -- trials ------------------------------------------------------------------------------------------ */

typedef struct play {
    gw_trial t;
    int64_t at;
    gw_trial_result r;
} play;

static gw_trial_event run(play *p, int seconds, gw_asd_ratios used, gw_asd_ratios other)
{
    gw_trial_event e = GW_TRIAL_NONE;
    for (int s = 0; s < seconds && e == GW_TRIAL_NONE; s++) {
        p->at += FS;
        e = gw_trial_second(&p->t, p->at, &used, &other, &p->r);
    }
    return e;
}

static void start_trial(play *p)
{
    *p = (play){.at = first};
    gw_trial_init(&p->t, 60, 120, 0.98, FS);
    assert_int_equal(run(p, 10, ratios_of(0.5, 1), ratios_of(NAN, NAN)), GW_TRIAL_NONE);
    gw_trial_begin(&p->t);
}

static void trial_rejects(void **unused)
{
    (void)unused;
    const gw_asd_ratios used = ratios_of(0.5, 1);
    const struct {
        double mean, out;
    } bad[] = {{0.495, 1}, {0.7, 1}, {3, 1}, {0.3, 1.05}, {INFINITY, 1}};
    play p;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        start_trial(&p);
        assert_int_equal(run(&p, 59, used, ratios_of(bad[i].mean, bad[i].out)), GW_TRIAL_NONE);
        assert_int_equal(run(&p, 1, used, ratios_of(bad[i].mean, bad[i].out)), GW_TRIAL_REJECTED);
        assert_int_equal(p.t.used, 0);
        assert_int_equal(p.r.seconds, 60);
        double share[HOP];
        assert_false(gw_trial_share(&p.t, p.at, HOP, share));
    }
    /* Better than what harms, but harmful too. */
    start_trial(&p);
    assert_int_equal(run(&p, 99, ratios_of(1.5, 1), ratios_of(1.1, 1)), GW_TRIAL_REJECTED);
    /* Seconds without a measure of both do not count. */
    start_trial(&p);
    assert_int_equal(run(&p, 500, used, ratios_of(NAN, NAN)), GW_TRIAL_NONE);
    assert_int_equal(run(&p, 500, ratios_of(NAN, NAN), used), GW_TRIAL_NONE);
    assert_int_equal(run(&p, 59, used, ratios_of(0.4, 1)), GW_TRIAL_NONE);
}

static void trial_promotes(void **unused)
{
    (void)unused;
    const gw_asd_ratios old = ratios_of(0.5, 1), new = ratios_of(0.4, 1);
    double share[2 * FS];
    play p;
    start_trial(&p);
    assert_int_equal(run(&p, 60, old, new), GW_TRIAL_PROMOTED);
    assert_int_equal(p.t.used, 1);
    assert_true(fabs(p.r.canary - 0.4) < 1e-12 && fabs(p.r.production - 0.5) < 1e-12);
    /* The cross-fade: from now on, one second long. */
    assert_true(gw_trial_share(&p.t, p.at, 2 * FS, share));
    for (int i = 0; i < 2 * FS; i++) {
        const double u = fmin(i / (double)FS, 1);
        assert_true(fabs(share[i] - (0.5 - 0.5 * cos(M_PI * u))) < 1e-12);
    }
    assert_true(share[0] == 0 && share[FS] == 1);
    /* What is put out with the second that decided is still all of the old one. */
    assert_true(gw_trial_share(&p.t, p.at - HOP / 2, HOP, share));
    assert_true(share[0] == 0 && share[HOP / 2] == 0 && share[HOP - 1] > 0);
    assert_false(gw_trial_share(&p.t, p.at + FS, HOP, share));
    assert_int_equal(run(&p, 119, new, old), GW_TRIAL_NONE);
    assert_int_equal(run(&p, 1, new, old), GW_TRIAL_KEPT);
    assert_true(fabs(p.r.canary - 0.4) < 1e-12);
    /* The next one goes to slot 0. */
    gw_trial_begin(&p.t);
    assert_int_equal(run(&p, 60, new, ratios_of(0.3, 1)), GW_TRIAL_PROMOTED);
    assert_int_equal(p.t.used, 0);
    assert_true(gw_trial_share(&p.t, p.at, FS, share));
    assert_true(share[0] == 1 && share[FS - 1] < 1e-5);
}

static void trial_rolls_back(void **unused)
{
    (void)unused;
    const gw_asd_ratios old = ratios_of(0.5, 1), new = ratios_of(0.4, 1), worse = ratios_of(0.6, 1);
    double share[FS];
    for (int harm = 0; harm < 2; harm++) {
        const gw_asd_ratios bad = harm ? ratios_of(0.4, 1.2) : worse;
        play p;
        start_trial(&p);
        assert_int_equal(run(&p, 60, old, new), GW_TRIAL_PROMOTED);
        assert_int_equal(run(&p, 15, bad, old), GW_TRIAL_NONE);
        assert_int_equal(run(&p, 1, new, old), GW_TRIAL_NONE);
        assert_int_equal(run(&p, 16, bad, old), GW_TRIAL_ROLLED_BACK);
        assert_int_equal(p.t.used, 0);
        assert_true(gw_trial_share(&p.t, p.at, FS, share));
        assert_true(share[0] == 1 && share[FS - 1] < 1e-5);
        assert_int_equal(run(&p, 1, old, bad), GW_TRIAL_FREE); /* the fade is over */
        assert_int_equal(p.t.phase, GW_TRIAL_IDLE);
    }
}

/* -- prolonging -------------------------------------------------------------------------------------- */

/* A mains line and noise under it, at a network's rate: it goes on as a line; no step and no kink. */
static void prolongs(void **unused)
{
    (void)unused;
    enum { LINE_FS = 512, PAST = LINE_FS, NEXT = LINE_FS / 4 };
    static double x[PAST + NEXT], y[NEXT], scratch[2 * PAST];
    for (int seed = 0; seed < 20; seed++) {
        double worst = 0;
        const double phase = 6.28 * uniform();
        for (int i = 0; i < PAST + NEXT; i++)
            x[i] = sin(2 * M_PI * 60.02 / LINE_FS * i + phase) *
                       (1 + 0.3 * sin(2 * M_PI * 0.3 / LINE_FS * i + seed)) +
                   0.003 * normal();
        assert_true(gw_prolong_scratch(PAST) == sizeof scratch / sizeof *scratch);
        gw_prolong(x, PAST, y, NEXT, scratch);
        for (int i = 0; i < NEXT; i++)
            worst = fmax(worst, fabs(y[i] - x[PAST + i]));
        assert_true(fabs(y[0] - x[PAST]) < 0.03);
        assert_true(worst < 0.35);
    }
    memset(x, 0, sizeof x);
    gw_prolong(x, PAST, y, NEXT, scratch);
    assert_true(y[0] == 0 && y[NEXT - 1] == 0);
    x[5] = NAN;
    gw_prolong(x, PAST, y, NEXT, scratch);
    assert_true(y[0] == 0);
    for (int i = 0; i < PAST; i++)
        x[i] = 1e-21 * (i < PAST / 2); /* stops: stable, and no denormal trouble */
    gw_prolong(x, PAST, y, NEXT, scratch);
    for (int i = 0; i < NEXT; i++)
        assert_true(fabs(y[i]) < 1e-21);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_and_out),
        cmocka_unit_test(never_in),
        cmocka_unit_test(hurt),
        cmocka_unit_test(flapping),
        cmocka_unit_test(strain_hole),
        cmocka_unit_test(always),
        cmocka_unit_test(smooth),
        cmocka_unit_test(keys),
        cmocka_unit_test(trial_rejects),
        cmocka_unit_test(trial_promotes),
        cmocka_unit_test(trial_rolls_back),
        cmocka_unit_test(prolongs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
