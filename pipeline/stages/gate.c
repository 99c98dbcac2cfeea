/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "pipeline/stages/gate.h"

#include <math.h>
#include <stdio.h>

enum { WELL_S = 2, FAST_PER_S = 4 }; /* well again for so long; a fast fade is 1 / FAST_PER_S s */
/* Apart, because the ratio scatters by .003 and more. */
static const double IN_OUT_OF_BAND = 1.01, HARM_OUT_OF_BAND = 1.02;
static const int64_t NEVER = INT64_MIN / 2;

/* -- keys -------------------------------------------------------------------------------------------- */

static int read_seconds(gw_conf *map, const char *key, int64_t *seconds)
{
    int64_t ns = *seconds * GW_SECOND_NS;
    GW_TRY(gw_conf_get_span_ns(map, key, &ns));
    if (ns % GW_SECOND_NS != 0 || ns > 86400 * GW_SECOND_NS)
        return gw_conf_fail(gw_conf_find(map, key), "%s: want whole seconds, at most a day", key);
    *seconds = ns / GW_SECOND_NS;
    return GW_OK;
}

int gw_gate_keys_read(gw_gate_keys *k, gw_conf *conf)
{
    static const char *const starts[] = {"out", "in", NULL};
    *k = (gw_gate_keys){.out = 1.00, .in = 0.97, .after_s = 2, .for_s = 16, .pause_s = 60};
    gw_conf *gate = gw_conf_find(conf, "gate");
    if (!gate)
        return GW_OK;
    if (gw_conf_kind(gate) == GW_CONF_SCALAR) {
        static const char *const words[] = {"always", NULL};
        int word;
        k->always = true;
        return gw_conf_get_choice(conf, "gate", words, &word);
    }
    int start = 0;
    GW_TRY(gw_conf_get_double(gate, "out", 0, 100, &k->out));
    GW_TRY(gw_conf_get_double(gate, "in", 0, 100, &k->in));
    GW_TRY(read_seconds(gate, "after", &k->after_s));
    GW_TRY(read_seconds(gate, "for", &k->for_s));
    GW_TRY(read_seconds(gate, "pause", &k->pause_s));
    GW_TRY(gw_conf_get_choice(gate, "start", starts, &start));
    k->start_in = start == 1;
    if (k->in > k->out)
        return gw_conf_fail(gate, "gate: in (%g) is above out (%g): it would open and close for ever", k->in,
                            k->out);
    if (k->after_s < 1 || k->for_s < 1)
        return gw_conf_fail(gate, "gate: after and for: want at least 1 s");
    return gw_conf_done(gate, "gate");
}

/* -- fades ------------------------------------------------------------------------------------------- */

/* From 0 to 1 over `length` samples. */
static double rise(int64_t i, int64_t length)
{
    if (i <= 0 || i >= length)
        return i > 0;
    return 0.5 - 0.5 * cos(M_PI * (double)i / (double)length);
}

void gw_fade_init(gw_fade *f, int64_t length, bool up)
{
    *f =
        (gw_fade){.up = up, .length = length, .rose = up ? NEVER + 1 : NEVER, .fell = up ? NEVER : NEVER + 1};
}

void gw_fade_turn(gw_fade *f, bool up, int64_t at)
{
    if (up == f->up)
        return;
    const int64_t last = f->up ? f->rose : f->fell; /* may not have begun yet */
    f->up = up;
    *(up ? &f->rose : &f->fell) = at > last ? at : last;
}

double gw_fade_weight(const gw_fade *f, int64_t sample)
{
    const double rest = f->up ? 1 : 0; /* of the fade before the two, which is complete */
    return rest + rise(sample - f->rose, f->length) - rise(sample - f->fell, f->length);
}

/* -- the gate ---------------------------------------------------------------------------------------- */

void gw_gate_init(gw_gate *g, const gw_gate_keys *keys, uint32_t rate_hz)
{
    *g = (gw_gate){.keys = *keys,
                   .rate = rate_hz,
                   .in = keys->always || keys->start_in,
                   .hurt = true,
                   .hurt_since = NEVER,
                   .well_since = INT64_MAX,
                   .back_at = NEVER,
                   .changed = NEVER};
    gw_fade_init(&g->slow, g->rate, false);
    gw_fade_init(&g->fast, g->rate / FAST_PER_S, false);
}

void gw_gate_hurt(gw_gate *g, int64_t from)
{
    g->well_since = INT64_MAX;
    g->good = g->bad = 0;
    if (g->hurt)
        return;
    g->hurt = true;
    g->hurt_since = from;
    gw_fade_turn(&g->fast, false, from);
    gw_fade_turn(&g->slow, false, from);
}

void gw_gate_well(gw_gate *g, int64_t from)
{
    if (g->well_since == INT64_MAX)
        g->well_since = from;
}

void gw_gate_hole(gw_gate *g, int64_t from, int64_t lost)
{
    gw_gate_hurt(g, from - lost);
    gw_fade_init(&g->fast, g->fast.length, false);
    gw_fade_init(&g->slow, g->slow.length, false);
}

/* Well for long enough: no longer hurt, and back in if it need not prove itself anew. */
static bool heal(gw_gate *g, int64_t second)
{
    if (!g->hurt || g->well_since == INT64_MAX || second - g->well_since < WELL_S * g->rate)
        return false;
    const int64_t pause = g->keys.pause_s * g->rate;
    const bool trusted = g->keys.always || g->hurt_since == NEVER ||
                         (g->well_since - g->hurt_since <= pause && g->hurt_since - g->back_at > pause);
    g->hurt = false;
    if (g->in && !trusted) {
        g->in = false;
        g->changed = second;
    }
    if (g->in) {
        gw_fade_turn(&g->fast, true, second);
        gw_fade_turn(&g->slow, true, second);
        if (g->hurt_since != NEVER)
            g->back_at = second;
    }
    return g->in;
}

static void turn(gw_gate *g, bool in, int64_t second)
{
    g->in = in;
    g->changed = second;
    g->good = g->bad = 0;
    gw_fade_turn(&g->slow, in, second);
    if (in)
        gw_fade_turn(&g->fast, true, second);
}

gw_gate_change gw_gate_second(gw_gate *g, int64_t second, const gw_asd_ratios *r)
{
    if (heal(g, second))
        return GW_GATE_BACK;
    if (g->hurt || g->keys.always)
        return GW_GATE_SAME;
    const bool harms = r->mean > g->keys.out, harms_out = r->out > HARM_OUT_OF_BAND;
    g->bad = r->measured && (harms || harms_out) ? g->bad + 1 : 0;
    g->good = r->measured && r->mean < g->keys.in ? g->good + 1 : 0;
    if (g->in && g->bad >= g->keys.after_s) {
        turn(g, false, second);
        return harms ? GW_GATE_HARMS : GW_GATE_HARMS_OUT;
    }
    if (!g->in && g->good >= g->keys.for_s && r->out <= IN_OUT_OF_BAND &&
        second - g->changed >= g->keys.pause_s * g->rate) {
        turn(g, true, second);
        return GW_GATE_IN;
    }
    return GW_GATE_SAME;
}

bool gw_gate_weigh(const gw_gate *g, int64_t from, uint32_t n, double *w)
{
    bool any = false;
    for (uint32_t i = 0; i < n; i++) {
        const int64_t at = from + i;
        w[i] = gw_fade_weight(&g->slow, at) * gw_fade_weight(&g->fast, at);
        any |= w[i] != 0;
    }
    return any;
}
