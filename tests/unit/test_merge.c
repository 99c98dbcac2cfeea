/* SPDX-License-Identifier: GPL-3.0-or-later
 * One event out of several branches: what is said when, and that the order in which threads deliver words
 * changes nothing where words are held. */
#include "tests/unit/merge_rig.h"

/* ---- what is said ---- */

static void one_signal_is_one_event(void **state)
{
    (void)state;
    const gw_merge_conf conf = conf_of(2);
    rig *r = rig_new(&conf);
    word(r, "search", GW_PHASE_FIRST, 100.0, 5); /* at once */
    assert_said(r, 1, GW_PHASE_FIRST, 5);
    assert_true(gw_merge_has_id("alerts", r->said[0].gps_ns, r->said[0].id));
    assert_false(gw_merge_has_id("other", r->said[0].gps_ns, r->said[0].id));
    assert_true(fabs(r->said[0].noise_rate_hz / (2 * exp(-5)) - 1) < 1e-12);
    word(r, "search_clean", GW_PHASE_FIRST, 100.02, 4.5); /* not better */
    assert_int_equal(r->n, 1);
    word(r, "search_clean", GW_PHASE_UPDATE, 100.03, 12);
    assert_said(r, 2, GW_PHASE_UPDATE, 12);
    assert_string_equal(r->said[1].stream, "search_clean");
    assert_true(r->said[1].alert);
    word(r, "search", GW_PHASE_UPDATE, 100.03, 9);
    word(r, "search", GW_PHASE_FINAL, 100.03, 9); /* the other goes on */
    assert_int_equal(r->n, 2);
    word(r, "search_clean", GW_PHASE_FINAL, 100.04, 13);
    assert_said(r, 3, GW_PHASE_FINAL, 13);
    for (int i = 1; i < 3; i++)
        assert_string_equal(r->said[i].id, r->said[0].id);

    const gw_event *e = &r->said[2];
    assert_string_equal(ask(e, NULL), "1");
    assert_string_equal(ask(e, "$.trials"), "2");
    assert_string_equal(ask(e, "$.thresholds.alert"), "10");
    assert_string_equal(ask(e, "$.branches[0].stream"), "search");
    assert_string_equal(ask(e, "$.branches[0].phase"), "final");
    assert_string_equal(ask(e, "$.branches[0].statistic"), "9");
    assert_string_equal(ask(e, "$.branches[1].statistic"), "13");
    assert_string_equal(ask(e, "$.branches[1].thresholds.candidate"), "3");
    assert_true(fabs(atof(ask(e, "$.branches[1].noise_rate_hz")) / exp(-13) - 1) < 1e-6);
    rig_free(r);
}

static void what_grows_little_waits_for_the_end(void **state)
{
    (void)state;
    const gw_merge_conf conf = conf_of(2);
    rig *r = rig_new(&conf);
    gw_event e = a_word("search", GW_PHASE_FIRST, 100, 5);
    say(r, &e);
    e.phase = GW_PHASE_UPDATE;
    e.statistic = 8; /* much, but soon */
    e.told_ns += 249999999;
    say(r, &e);
    assert_int_equal(r->n, 1);
    e.told_ns += 1;
    e.statistic = 5.9; /* late enough, but little */
    say(r, &e);
    assert_int_equal(r->n, 1);
    e.gps_ns += 10000001;
    say(r, &e);
    assert_said(r, 2, GW_PHASE_UPDATE, 5.9);
    e.phase = GW_PHASE_FINAL;
    e.statistic = 6;
    say(r, &e);
    assert_said(r, 3, GW_PHASE_FINAL, 6);
    e = a_word("search_clean", GW_PHASE_FIRST, 101, 6.009); /* rounding is no louder signal */
    e.noise_rate_hz = r->said[2].noise_rate_hz / 2;
    say(r, &e);
    assert_int_equal(r->n, 3);
    rig_free(r);
}

static void the_refractory_time_is_the_events(void **state)
{
    (void)state;
    const gw_merge_conf conf = conf_of(2);
    rig *r = rig_new(&conf);
    word(r, "search", GW_PHASE_FIRST, 100, 9);
    word(r, "search", GW_PHASE_FINAL, 100, 9);
    assert_said(r, 2, GW_PHASE_FINAL, 9);
    word(r, "search_clean", GW_PHASE_FIRST, 107.9, 8); /* not better: the same signal, not told */
    word(r, "search_clean", GW_PHASE_FINAL, 107.9, 8.5);
    assert_int_equal(r->n, 2);
    word(r, "search_clean", GW_PHASE_UPDATE, 107.95,
         10); /* better: told again, and the time counts from here */
    assert_said(r, 3, GW_PHASE_UPDATE, 10);
    word(r, "search_clean", GW_PHASE_FINAL, 107.95, 10);
    assert_said(r, 4, GW_PHASE_FINAL, 10);
    word(r, "search", GW_PHASE_FIRST, 115.9, 6);
    word(r, "search", GW_PHASE_FINAL, 115.9, 6);
    assert_int_equal(r->n, 4);
    word(r, "search", GW_PHASE_FIRST, 124, 4); /* another one */
    assert_said(r, 5, GW_PHASE_FIRST, 4);
    assert_string_equal(r->said[3].id, r->said[0].id);
    assert_string_not_equal(r->said[4].id, r->said[0].id);
    rig_free(r);
}

typedef struct journal {
    rig *r;
    bool asked;
} journal;

/* As alerts.c does it: the event of this run whose first word is nearest. */
static int known_by_now(void *user, int64_t gps_ns, int64_t refractory_ns, char id[GW_EVENT_ID_BYTES])
{
    journal *j = user;
    const gw_event *near = NULL;
    j->asked = true;
    for (int i = 0; i < j->r->n; i++) {
        const gw_event *e = &j->r->said[i];
        if (e->phase == GW_PHASE_FIRST && llabs(e->gps_ns - gps_ns) <= refractory_ns &&
            (!near || llabs(e->gps_ns - gps_ns) < llabs(near->gps_ns - gps_ns)))
            near = e;
    }
    if (near)
        memcpy(id, near->id, sizeof near->id);
    return near != NULL;
}

/* What one branch tells apart is two events: how far apart the peaks must be is its own affair. */
static void a_branch_that_tells_apart_is_believed(void **state)
{
    (void)state;
    for (int branches = 1; branches <= 2; branches++) {
        journal j = {NULL, false};
        gw_merge_conf conf = conf_of(branches);
        conf.known = known_by_now;
        conf.user = &j;
        rig *r = j.r = rig_new(&conf);
        for (int i = 0; i < 4; i++) {
            word(r, "search", GW_PHASE_FIRST, 100 + 7.9 * i, 5);
            word(r, "search", GW_PHASE_FINAL, 100 + 7.9 * i, 5);
        }
        assert_true(j.asked);
        assert_int_equal(r->n, 8);
        for (int i = 2; i < 8; i += 2)
            assert_string_not_equal(r->said[i].id, r->said[i - 2].id);
        rig_free(r);
    }
}

/* A branch's own event may outlive the merged one: what it says of a new peak belongs to the new event. */
static void the_nearest_peak_takes_a_word(void **state)
{
    (void)state;
    const gw_merge_conf conf = conf_of(2);
    rig *r = rig_new(&conf);
    word(r, "search", GW_PHASE_FIRST, 100, 9);
    word(r, "search", GW_PHASE_FINAL, 100, 9);
    word(r, "search_clean", GW_PHASE_FIRST, 107.9, 8);
    word(r, "search_clean", GW_PHASE_FINAL, 107.9, 8);
    word(r, "search", GW_PHASE_FIRST, 108.5, 7);
    assert_said(r, 3, GW_PHASE_FIRST, 7);
    gw_event e = a_word("search_clean", GW_PHASE_UPDATE, 108.6, 12);
    snprintf(e.id, sizeof e.id, "Gsearch_c107");
    say(r, &e);
    assert_said(r, 4, GW_PHASE_UPDATE, 12);
    assert_string_equal(r->said[3].id, r->said[2].id);
    rig_free(r);
}

static void a_silent_branch_is_not_waited_for(void **state)
{
    (void)state;
    const gw_merge_conf conf = conf_of(2);
    rig *r = rig_new(&conf);
    word(r, "search_clean", GW_PHASE_FIRST, 100, 7);
    word(r, "search", GW_PHASE_FIRST, 100, 6);
    word(r, "search", GW_PHASE_FINAL, 100, 6);
    reached(r, "search", 110, true);
    assert_int_equal(r->n, 1);
    reached(r, "search", 111, true);
    assert_said(r, 2, GW_PHASE_FINAL, 7);
    word(r, "search", GW_PHASE_FIRST, 130, 5); /* and at the end nobody is */
    gw_merge_end(r->m);
    collect(r);
    assert_said(r, 4, GW_PHASE_FINAL, 5);
    rig_free(r);
}

static void an_event_is_withdrawn_when_no_word_is_left(void **state)
{
    (void)state;
    const gw_merge_conf conf = conf_of(2);
    rig *r = rig_new(&conf);
    word(r, "search", GW_PHASE_FIRST, 100, 7);
    word(r, "search_clean", GW_PHASE_FIRST, 100, 6);
    word(r, "search", GW_PHASE_RETRACTED, 100, 7);
    assert_said(r, 2, GW_PHASE_UPDATE, 6);
    word(r, "search_clean", GW_PHASE_RETRACTED, 100, 6);
    assert_said(r, 3, GW_PHASE_RETRACTED, 6);
    assert_string_equal(r->said[2].id, r->said[0].id);
    word(r, "search", GW_PHASE_RETRACTED, 100, 7); /* of nothing */
    assert_int_equal(r->n, 3);
    rig_free(r);
}

static int known_before(void *user, int64_t gps_ns, int64_t refractory_ns, char id[GW_EVENT_ID_BYTES])
{
    const int64_t first_ns = *(int64_t *)user;
    if (llabs(gps_ns - first_ns) > refractory_ns)
        return 0;
    strcpy(id, "Gkept");
    return 1;
}

static void a_restart_goes_on_with_what_was_kept(void **state)
{
    (void)state;
    int64_t first_ns = gps0 + 99 * GW_SECOND_NS;
    gw_merge_conf conf = conf_of(2);
    conf.known = known_before;
    conf.user = &first_ns;
    rig *r = rig_new(&conf);
    word(r, "search", GW_PHASE_UPDATE, 100, 7); /* its FIRST went to who was here before */
    assert_said(r, 1, GW_PHASE_UPDATE, 7);
    assert_string_equal(r->said[0].id, "Gkept");
    word(r, "search", GW_PHASE_FINAL, 100, 7);
    assert_said(r, 2, GW_PHASE_FINAL, 7);
    word(r, "search", GW_PHASE_FINAL, 200, 5); /* nobody has heard of this one */
    assert_int_equal(r->n, 4);
    assert_int_equal(r->said[2].phase, GW_PHASE_FIRST);
    assert_said(r, 4, GW_PHASE_FINAL, 5);
    rig_free(r);

    r = rig_new(&conf); /* a replay says FIRST again */
    word(r, "search", GW_PHASE_FIRST, 100, 7);
    assert_said(r, 1, GW_PHASE_FIRST, 7);
    assert_string_equal(r->said[0].id, "Gkept");
    rig_free(r);
}

static void rates_compare_models_and_statistics_one(void **state)
{
    (void)state;
    const gw_merge_conf conf = conf_of(2);
    rig *r = rig_new(&conf);
    gw_event a = a_word("search", GW_PHASE_FIRST, 100, 7),
             b = a_word("search_clean", GW_PHASE_FIRST, 100, 50);
    memcpy(b.model_hash, "fedc", 4);
    b.alert = false;
    b.noise_rate_hz =
        a.noise_rate_hz; /* beyond both backgrounds: a statistic of another model says nothing */
    say(r, &a);
    say(r, &b);
    assert_int_equal(r->n, 1);
    b.phase = GW_PHASE_UPDATE;
    b.statistic = 1;
    b.noise_rate_hz = 0.4 * a.noise_rate_hz;
    b.told_ns += GW_SECOND_NS / 4;
    say(r, &b);
    assert_said(r, 2, GW_PHASE_UPDATE, 1);
    a.phase = GW_PHASE_UPDATE;
    a.noise_rate_hz = NAN; /* not a rate: never better */
    say(r, &a);
    assert_int_equal(r->n, 2);
    rig_free(r);
}

/* ---- order ---- */

static uint64_t seed = 1;

static double uniform(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return ((double)(seed >> 11) + 0.5) * 0x1p-53;
}

/* What three branches say of some signals, each in its own order: FIRST, UPDATEs, FINAL, and ticks (statistic
 * NAN) between. Times are multiples of 1/32 s, so that branches often speak at one instant. */
static int make_words(const char *branch, gw_event *w)
{
    int n = 0;
    double reached_s = 90;
    for (int signal = 0; signal < 12; signal++) {
        const double at_s = 100 + 6 * signal + floor(32 * uniform()) / 32;
        double statistic = 3 + 6 * uniform();
        const int updates = (int)(3 * uniform());
        if (uniform() < 0.3)
            continue;
        for (; reached_s < at_s; reached_s += 1 + uniform()) {
            w[n] = a_word(branch, GW_PHASE_REACHED, reached_s, 0);
            w[n].pace = 0;
            w[n].searched = uniform() < 0.7;
            n++;
        }
        for (int k = 0; k <= updates + 1; k++, n++) {
            const gw_phase phase = k == 0 ? GW_PHASE_FIRST : k <= updates ? GW_PHASE_UPDATE : GW_PHASE_FINAL;
            w[n] = a_word(branch, phase, at_s, statistic);
            w[n].pace = 0;
            w[n].told_ns = gps0 + (int64_t)((at_s + 0.0625 + k * 0.25) * 1e9);
            statistic += uniform();
        }
        reached_s = at_s + 1 + updates * 0.25;
    }
    return n;
}

static void the_order_of_arrival_changes_nothing(void **state)
{
    (void)state;
    enum { BRANCHES = 3, WORDS = 256 };
    static gw_event words[BRANCHES][WORDS];
    int n[BRANCHES], events = 0;
    const gw_merge_conf conf = conf_of(BRANCHES);
    for (int b = 0; b < BRANCHES; b++)
        n[b] = make_words(conf.branch[b], words[b]);
    rig *want = NULL;
    for (int round = 0; round < 200; round++) {
        rig *r = rig_new(&conf);
        int at[BRANCHES] = {0};
        /* round 0: one branch after the other; else any interleaving, some of them lopsided */
        const double bias = uniform();
        for (int left = n[0] + n[1] + n[2]; left > 0; left--) {
            int b = round == 0 ? 0 : uniform() < bias ? round % BRANCHES : (int)(BRANCHES * uniform());
            while (at[b] == n[b])
                b = (b + 1) % BRANCHES;
            const gw_event *e = &words[b][at[b]++];
            if (e->phase == GW_PHASE_REACHED)
                assert_int_equal(gw_merge_reached(r->m, e->stream, e->told_ns, e->searched), 0);
            else
                assert_int_equal(gw_merge_take(r->m, e), 0);
            if (uniform() < 0.7)
                collect(r);
        }
        gw_merge_end(r->m);
        collect(r);
        if (!want) {
            want = r;
            continue;
        }
        assert_int_equal(r->n, want->n);
        assert_memory_equal(r->said, want->said, (size_t)r->n * sizeof r->said[0]);
        rig_free(r);
    }
    for (int i = 0; i < want->n; i++)
        events += want->said[i].phase == GW_PHASE_FIRST;
    assert_true(events >= 4);
    assert_true(want->n > 2 * events);
    rig_free(want);
}

/* Held until every branch is past it, and no longer. */
static void a_word_is_held_for_the_others_alone(void **state)
{
    (void)state;
    const gw_merge_conf conf = conf_of(2);
    rig *r = rig_new(&conf);
    gw_event e = a_word("search", GW_PHASE_FIRST, 100, 7);
    e.pace = 0;
    say(r, &e);
    assert_int_equal(r->n, 0);
    assert_int_equal(gw_merge_reached(r->m, "search_clean", e.told_ns - 1, true), 0);
    collect(r);
    assert_int_equal(r->n, 0);
    assert_int_equal(gw_merge_reached(r->m, "search_clean", e.told_ns, true), 0);
    collect(r);
    assert_int_equal(r->n, 0); /* its own branch may yet say something of the same instant */
    assert_int_equal(gw_merge_reached(r->m, "search", e.told_ns, true), 0);
    collect(r);
    assert_said(r, 1, GW_PHASE_FIRST, 7);
    rig_free(r);
}

/* ---- tables ---- */

static double rate_now_hz;

static int a_table(void *user, const gw_event *e)
{
    (void)user;
    rate_now_hz = e->noise_rate_hz;
    return 0;
}

static bool its_rate(void *user, gw_event *w)
{
    (void)user;
    w->noise_rate_hz = rate_now_hz;
    return true;
}

static void tell_table(rig *r, double from_s, double rate_hz)
{
    gw_event t = a_word("noise", GW_PHASE_BACKGROUND, from_s - 0.06, 0);
    t.noise_rate_hz = rate_hz;
    say(r, &t);
}

/* It comes a minute before it is to be used, at any pace. */
static void a_table_counts_from_its_time_on(void **state)
{
    (void)state;
    gw_merge_conf conf = conf_of(1);
    conf.n_tables = 1;
    conf.table_of[0] = "noise";
    conf.table = a_table;
    conf.rate = its_rate;
    rig *r = rig_new(&conf);
    rate_now_hz = 1;
    tell_table(r, 100, 2);
    tell_table(r, 160, 3);
    word(r, "search", GW_PHASE_FIRST, 99, 12);
    assert_true(r->n == 1 && r->said[0].noise_rate_hz == 1);
    word(r, "search", GW_PHASE_FINAL, 99.5, 13);
    word(r, "search", GW_PHASE_FIRST, 140, 12);
    assert_true(r->n == 3 && r->said[2].noise_rate_hz == 2);
    word(r, "search", GW_PHASE_FINAL, 140.5, 13);
    for (int k = 0; k < 40; k++) /* quiet hours: they do not heap up */
        tell_table(r, 220 + 60 * k, 4 + k);
    assert_true(rate_now_hz > 20 && rate_now_hz < 43);
    word(r, "search", GW_PHASE_FIRST, 4000, 12);
    assert_true(r->said[r->n - 1].noise_rate_hz == 43);
    tell_table(r, 5000, 50);
    gw_merge_end(r->m); /* what waits keeps no event open */
    collect(r);
    assert_said(r, 6, GW_PHASE_FINAL, 12);
    rig_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_signal_is_one_event),
        cmocka_unit_test(what_grows_little_waits_for_the_end),
        cmocka_unit_test(the_refractory_time_is_the_events),
        cmocka_unit_test(a_branch_that_tells_apart_is_believed),
        cmocka_unit_test(the_nearest_peak_takes_a_word),
        cmocka_unit_test(a_silent_branch_is_not_waited_for),
        cmocka_unit_test(an_event_is_withdrawn_when_no_word_is_left),
        cmocka_unit_test(a_restart_goes_on_with_what_was_kept),
        cmocka_unit_test(rates_compare_models_and_statistics_one),
        cmocka_unit_test(the_order_of_arrival_changes_nothing),
        cmocka_unit_test(a_word_is_held_for_the_others_alone),
        cmocka_unit_test(a_table_counts_from_its_time_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
