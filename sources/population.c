/* SPDX-License-Identifier: GPL-3.0-or-later
 * Signals waiting, signals in the stream. Waiting ones have parameters but no samples. */
#include "sources/population.h"

#include "sources/waveform.h"

#include <math.h>
#include <stdlib.h>

typedef enum snr_law { UNIFORM, POWER, LIST } snr_law;

enum { MAX_SNRS = 32, MAX_SIGNALS = 100000, FIRST_RANDOM = 1 << 20, MAX_TRIES = 1000 };

typedef struct binaries { /* the map under 'population' */
    bool on;
    int64_t spacing_ns, jitter_ns, first_ns;
    double mass_low, mass_high, max_ratio, spin, min_ratio;
    snr_law law;
    int n_snrs;
    double snr[MAX_SNRS];
} binaries;

typedef struct entry {
    gw_injection signal;
    bool rendered, told;
} entry;

struct gw_population {
    uint64_t seed;
    int64_t start_ns, end_ns;
    binaries random;
    int64_t next; /* signal of the population to be drawn */
    int n, room;
    entry *entries; /* not yet passed, in no order */
};

static int add(gw_population *p, const gw_injection *signal)
{
    if (p->n == p->room) {
        const int room = p->room ? 2 * p->room : 16;
        entry *more = realloc(p->entries, (size_t)room * sizeof *more);
        if (!more)
            return gw_fail(GW_ENOMEM, "%d simulated signals", room);
        p->entries = more;
        p->room = room;
    }
    p->entries[p->n++] = (entry){.signal = *signal};
    return GW_OK;
}

/* ---- configuration ---- */

static int check_masses(gw_conf *where, double mass1, double mass2)
{
    if (mass1 + mass2 > GW_TOTAL_MASS_MAX)
        return gw_conf_fail(where,
                            "a total mass of %g solar masses is more than %g, the most that is simulated",
                            mass1 + mass2, GW_TOTAL_MASS_MAX);
    return GW_OK;
}

static int read_signal(gw_population *p, gw_conf *c, int number)
{
    gw_injection s = {.number = (uint64_t)number};
    gw_conf *node;
    if (gw_conf_kind(c) != GW_CONF_MAP)
        return gw_conf_fail(c, "a signal is a map: {gps: ..., mass1: ..., mass2: ..., network_snr: ...}");
    GW_TRY(gw_conf_need(c, "gps", &node));
    GW_TRY(gw_conf_get_gps_ns(c, "gps", &s.gps_ns));
    if (s.gps_ns < p->start_ns || s.gps_ns >= p->end_ns)
        return gw_conf_fail(node, "gps: the signal lies outside the simulated time, %.3f to %.3f",
                            (double)p->start_ns / 1e9, (double)p->end_ns / 1e9);
    GW_TRY(gw_conf_need(c, "mass1", &node));
    GW_TRY(gw_conf_need(c, "mass2", &node));
    GW_TRY(gw_conf_get_double(c, "mass1", GW_MASS_MIN, GW_MASS_MAX, &s.mass1));
    GW_TRY(gw_conf_get_double(c, "mass2", GW_MASS_MIN, GW_MASS_MAX, &s.mass2));
    GW_TRY(check_masses(c, s.mass1, s.mass2));
    GW_TRY(gw_conf_get_double(c, "spin1z", -GW_SPIN_MAX, GW_SPIN_MAX, &s.spin1z));
    GW_TRY(gw_conf_get_double(c, "spin2z", -GW_SPIN_MAX, GW_SPIN_MAX, &s.spin2z));
    GW_TRY(gw_conf_get_double(c, "network_snr", 1e-3, 1e6, &s.network_snr));
    GW_TRY(gw_conf_get_double(c, "distance", 1e-3, 1e6, &s.distance_mpc));
    if ((s.network_snr > 0) == (s.distance_mpc > 0))
        return gw_conf_fail(c, "a signal needs either network_snr or distance (in Mpc)");
    GW_TRY(gw_conf_get_double(c, "ra", -2 * M_PI, 2 * M_PI, &s.ra));
    GW_TRY(gw_conf_get_double(c, "dec", -M_PI / 2, M_PI / 2, &s.dec));
    GW_TRY(gw_conf_get_double(c, "psi", -2 * M_PI, 2 * M_PI, &s.psi));
    GW_TRY(gw_conf_get_double(c, "iota", 0, M_PI, &s.iota));
    GW_TRY(gw_conf_get_double(c, "phase", -2 * M_PI, 2 * M_PI, &s.phase));
    GW_TRY(gw_conf_done(c, "signal"));
    return add(p, &s);
}

static int read_range(gw_conf *c, const char *key, double least, double most, double *low, double *high)
{
    gw_conf *node = gw_conf_find(c, key);
    if (!node)
        return GW_OK;
    if (gw_conf_kind(node) != GW_CONF_LIST || gw_conf_count(node) != 2)
        return gw_conf_fail(node, "%s: a list of two, lowest and highest", key);
    GW_TRY(gw_conf_double(gw_conf_item(node, 0), least, most, low));
    return gw_conf_double(gw_conf_item(node, 1), *low, most, high);
}

static int read_snrs(gw_conf *c, binaries *b)
{
    static const char *const laws[] = {"uniform", "power", "list", NULL};
    int law = UNIFORM;
    GW_TRY(gw_conf_get_choice(c, "snr_law", laws, &law));
    b->law = (snr_law)law;
    b->n_snrs = 2;
    b->snr[0] = 8;
    b->snr[1] = 20;
    gw_conf *node = gw_conf_find(c, "network_snr");
    if (b->law != LIST)
        return read_range(c, "network_snr", 1e-3, 1e6, &b->snr[0], &b->snr[1]);
    if (!node)
        return gw_conf_need(c, "network_snr", &node);
    b->n_snrs = gw_conf_kind(node) == GW_CONF_LIST ? gw_conf_count(node) : 0;
    if (b->n_snrs < 1 || b->n_snrs > MAX_SNRS)
        return gw_conf_fail(node, "network_snr: a list of 1 to %d values", MAX_SNRS);
    for (int i = 0; i < b->n_snrs; i++)
        GW_TRY(gw_conf_double(gw_conf_item(node, i), 1e-3, 1e6, &b->snr[i]));
    return GW_OK;
}

static int read_population(gw_conf *c, binaries *b)
{
    *b = (binaries){.on = true,
                    .spacing_ns = 6 * GW_SECOND_NS,
                    .jitter_ns = GW_SECOND_NS,
                    .first_ns = 10 * GW_SECOND_NS,
                    .mass_low = 5,
                    .mass_high = 80,
                    .max_ratio = 8,
                    .spin = 0.6};
    if (gw_conf_kind(c) != GW_CONF_MAP)
        return gw_conf_fail(c, "population: a map: {spacing: 6s, mass: [5, 80], ...}");
    GW_TRY(gw_conf_get_span_ns(c, "spacing", &b->spacing_ns));
    GW_TRY(gw_conf_get_span_ns(c, "jitter", &b->jitter_ns));
    GW_TRY(gw_conf_get_span_ns(c, "first", &b->first_ns));
    if (b->spacing_ns < GW_SECOND_NS / 10)
        return gw_conf_fail(c, "population: spacing must be at least 100ms");
    if (b->jitter_ns > b->spacing_ns / 2)
        return gw_conf_fail(c, "population: jitter must be at most half the spacing");
    GW_TRY(read_range(c, "mass", GW_MASS_MIN, GW_TOTAL_MASS_MAX / 2, &b->mass_low, &b->mass_high));
    GW_TRY(gw_conf_get_double(c, "max_mass_ratio", 1, 100, &b->max_ratio));
    GW_TRY(gw_conf_get_double(c, "spin", 0, GW_SPIN_MAX, &b->spin));
    GW_TRY(gw_conf_get_double(c, "min_ratio", 0, 0.95, &b->min_ratio));
    GW_TRY(read_snrs(c, b));
    return gw_conf_done(c, "population");
}

int gw_population_new(gw_population **out, gw_conf *conf, uint64_t seed, int64_t start_ns, int64_t end_ns)
{
    *out = NULL;
    gw_population *p = calloc(1, sizeof *p);
    if (!p)
        return gw_fail(GW_ENOMEM, "a population of signals");
    *p = (gw_population){.seed = seed, .start_ns = start_ns, .end_ns = end_ns};
    int err = GW_OK;
    gw_conf *signals = gw_conf_find(conf, "signals"), *population = gw_conf_find(conf, "population");
    if (signals && (gw_conf_kind(signals) != GW_CONF_LIST || gw_conf_count(signals) > MAX_SIGNALS))
        err = gw_conf_fail(signals, "signals: a list of at most %d maps", MAX_SIGNALS);
    for (int i = 0; signals && err == GW_OK && i < gw_conf_count(signals); i++)
        err = read_signal(p, gw_conf_item(signals, i), i);
    if (err == GW_OK && population)
        err = read_population(population, &p->random);
    if (err != GW_OK)
        gw_population_destroy(&p);
    *out = p;
    return err;
}

void gw_population_destroy(gw_population **p)
{
    if (!*p)
        return;
    free((*p)->entries);
    free(*p);
    *p = NULL;
}

/* ---- drawing ---- */

static double draw_snr(const binaries *b, gw_random *r, int64_t k)
{
    const double u = gw_random_unit(r), low = b->snr[0], high = b->snr[1];
    switch (b->law) {
    case LIST:
        return b->snr[k % b->n_snrs];
    case POWER: /* density ~ rho^-3 between low and high */
        return 1 / sqrt(1 / (low * low) - u * (1 / (low * low) - 1 / (high * high)));
    case UNIFORM:
        break;
    }
    return low + (high - low) * u;
}

/* Signal k: its parameters but for the sky, which is drawn when the waveform is known. */
static gw_injection draw(const gw_population *p, int64_t k)
{
    const binaries *b = &p->random;
    gw_random r = gw_random_at(p->seed, GW_FOR_POPULATION, 0, k);
    gw_injection s = {.number = FIRST_RANDOM + (uint64_t)k, .any_sky = true, .min_ratio = b->min_ratio};
    const double jitter = gw_random_range(&r, -1, 1) * (double)b->jitter_ns;
    s.gps_ns = p->start_ns + b->first_ns + k * b->spacing_ns + (int64_t)jitter;
    s.network_snr = draw_snr(b, &r, k);
    s.spin1z = s.spin2z = gw_random_range(&r, -b->spin, b->spin);
    for (int tries = 0; tries < MAX_TRIES && (!tries || s.mass1 > b->max_ratio * s.mass2); tries++) {
        const double x = gw_random_log_range(&r, b->mass_low, b->mass_high);
        const double y = gw_random_log_range(&r, b->mass_low, b->mass_high);
        s.mass1 = fmax(x, y);
        s.mass2 = fmin(x, y);
    }
    s.mass2 = fmax(s.mass2, s.mass1 / b->max_ratio); /* a ratio near 1 is never drawn */
    s.random = r;
    return s;
}

/* Draws every signal of the population that may begin before until_ns. */
static int draw_until(gw_population *p, int64_t until_ns)
{
    const binaries *b = &p->random;
    const gw_injection longest = {.mass1 = b->mass_low, .mass2 = b->mass_low};
    const int64_t before_ns = b->on ? (int64_t)(gw_injection_before_s(&longest) * 1e9) : 0;
    while (b->on) {
        const int64_t about_ns = p->start_ns + b->first_ns + p->next * b->spacing_ns;
        if (about_ns - b->jitter_ns - before_ns >= until_ns || about_ns - b->jitter_ns >= p->end_ns)
            break;
        const gw_injection s = draw(p, p->next++);
        if (s.gps_ns >= p->start_ns && s.gps_ns < p->end_ns)
            GW_TRY(add(p, &s));
    }
    return GW_OK;
}

/* ---- the stream goes by ---- */

int gw_population_render(gw_population *p, int64_t until_ns, const gw_target *target, int n_targets,
                         gw_rate rate)
{
    GW_TRY(draw_until(p, until_ns));
    for (int i = 0; i < p->n; i++) {
        entry *e = &p->entries[i];
        if (e->rendered || e->signal.gps_ns - (int64_t)(gw_injection_before_s(&e->signal) * 1e9) >= until_ns)
            continue;
        GW_TRY(gw_injection_render(&e->signal, target, n_targets, rate));
        e->rendered = true;
    }
    return GW_OK;
}

bool gw_population_flags(const gw_population *p, int d, int64_t from_ns, int64_t to_ns)
{
    for (int i = 0; i < p->n; i++) {
        const entry *e = &p->entries[i];
        if (!e->rendered)
            continue;
        const int64_t arrival_ns = e->signal.at[d].arrival_ns;
        if (arrival_ns - GW_FLAG_BEFORE_NS < to_ns && arrival_ns + GW_FLAG_AFTER_NS >= from_ns)
            return true;
    }
    return false;
}

/* A signal is kept past its event until no detector's flag needs it any more. */
static void forget(gw_population *p, int64_t now_ns)
{
    for (int i = 0; i < p->n;) {
        const entry *e = &p->entries[i];
        if (e->told && e->signal.arrival_ns + 2 * GW_SECOND_NS < now_ns)
            p->entries[i] = p->entries[--p->n];
        else
            i++;
    }
}

int gw_population_passed(gw_population *p, int64_t now_ns, gw_injection *out)
{
    entry *first = NULL;
    forget(p, now_ns);
    for (int i = 0; i < p->n; i++) {
        entry *e = &p->entries[i];
        if (e->rendered && !e->told && e->signal.arrival_ns < now_ns &&
            (!first || e->signal.arrival_ns < first->signal.arrival_ns))
            first = e;
    }
    if (!first)
        return GW_EAGAIN;
    first->told = true;
    *out = first->signal;
    return GW_OK;
}
