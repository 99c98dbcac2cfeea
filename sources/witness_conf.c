/* SPDX-License-Identifier: GPL-3.0-or-later
 * The witnesses of `sim` from YAML. */
#include "sources/witness.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_POWER = 4, MOST_RATIO = 256 };
static const double top = 0.4; /* of the rate: what the way to strain's rate passes */
static const double most_ring_s = 9;

static int read_pair(gw_conf *c, const char *key, double *low, double *high, bool *given)
{
    gw_conf *list = gw_conf_find(c, key);
    *given = list != NULL;
    if (!list)
        return GW_OK;
    const char *text[2];
    if (gw_conf_kind(list) != GW_CONF_LIST || gw_conf_count(list) != 2)
        return gw_conf_fail(list, "%s: a list of two frequencies: [8Hz, 35Hz]", key);
    for (int i = 0; i < 2; i++) {
        GW_TRY(gw_conf_text(gw_conf_item(list, i), &text[i]));
        if (gw_parse_frequency(text[i], i ? high : low) != GW_OK)
            return gw_conf_fail(gw_conf_item(list, i), "%s: '%.32s' is not a frequency such as 35Hz", key,
                                text[i]);
    }
    return GW_OK;
}

static int read_group(gw_witness_design *d, gw_conf *c, gw_witness_group *g)
{
    gw_conf *name;
    int64_t count = 1;
    bool band;
    g->wander_hz = 0.01;
    GW_TRY(gw_conf_need(c, "name", &name));
    GW_TRY(gw_conf_text(name, &g->name));
    GW_TRY(gw_conf_get_int(c, "count", 1, GW_MAX_WITNESSES, &count));
    GW_TRY(gw_conf_get_frequency(c, "line", &g->line_hz));
    GW_TRY(gw_conf_get_frequency(c, "wander", &g->wander_hz));
    GW_TRY(read_pair(c, "band", &g->low_hz, &g->high_hz, &band));
    const double most_hz = top * gw_rate_hz(d->rate);
    if (band == (g->line_hz > 0))
        return gw_conf_fail(
            c, "%s: what do these channels see? 'line: 60Hz' or 'band: [8Hz, 35Hz]', one of them", g->name);
    if (band && !(g->low_hz >= 0.0625 && g->high_hz > g->low_hz && g->high_hz <= most_hz))
        return gw_conf_fail(c, "%s: a band from %g to %g Hz; rising, from 1/16 Hz to %g Hz at this rate",
                            g->name, g->low_hz, g->high_hz, most_hz);
    if (!band && !(g->line_hz <= most_hz))
        return gw_conf_fail(c, "%s: a line at %g Hz; at most %g Hz at this rate", g->name, g->line_hz,
                            most_hz);
    if (strlen(g->name) > 40 || !*g->name)
        return gw_conf_fail(name, "a name has 1 to 40 letters");
    for (int i = 0; i < d->n_groups; i++)
        if (!strcmp(d->group[i].name, g->name))
            return gw_conf_fail(name, "'%s' appears twice", g->name);
    if (d->n_channels + count > GW_MAX_WITNESSES)
        return gw_conf_fail(c, "more than %d witness channels", GW_MAX_WITNESSES);
    g->first = d->n_channels;
    g->count = (uint32_t)count;
    d->n_channels += g->count;
    d->n_groups++;
    return gw_conf_done(c, "witness channels");
}

/* "PEM-MAINS": all of the group; "PEM-MAINS_1": one of it. */
static int read_channels(const gw_witness_design *d, gw_conf *value, uint32_t *first, uint32_t *count)
{
    const char *text;
    GW_TRY(gw_conf_text(value, &text));
    for (int i = 0; i < d->n_groups; i++) {
        const gw_witness_group *g = &d->group[i];
        const size_t n = strlen(g->name);
        int64_t k = -1;
        if (strncmp(text, g->name, n) != 0)
            continue;
        if (!text[n]) {
            *first = g->first;
            *count = g->count;
            return GW_OK;
        }
        if (text[n] == '_' && gw_parse_int(text + n + 1, &k) == GW_OK && k >= 0 && k < g->count) {
            *first = g->first + (uint32_t)k;
            *count = 1;
            return GW_OK;
        }
    }
    return gw_conf_fail(value,
                        "'%.48s' is neither a group of witness channels nor one of them (such as %s_0)", text,
                        d->group[0].name);
}

static int read_resonances(const gw_witness_design *d, gw_conf *c, gw_coupling *k)
{
    gw_conf *list = gw_conf_find(c, "resonances");
    if (!list)
        return GW_OK;
    const int n = gw_conf_kind(list) == GW_CONF_LIST ? gw_conf_count(list) : 0;
    if (n < 1 || n > GW_MAX_RESONANCES)
        return gw_conf_fail(list, "resonances: a list of 1 to %d: [{frequency: 14Hz, q: 10}]",
                            GW_MAX_RESONANCES);
    for (int i = 0; i < n; i++) {
        gw_conf *item = gw_conf_item(list, i), *node;
        GW_TRY(gw_conf_need(item, "frequency", &node));
        GW_TRY(gw_conf_need(item, "q", &node));
        GW_TRY(gw_conf_get_frequency(item, "frequency", &k->resonance_hz[i]));
        GW_TRY(gw_conf_get_double(item, "q", 0.5, 1000, &k->q[i]));
        if (k->resonance_hz[i] < 0.1 || k->resonance_hz[i] > top * gw_rate_hz(d->rate))
            return gw_conf_fail(item, "resonances: %g Hz is out of range (0.1 Hz to %g Hz)",
                                k->resonance_hz[i], top * gw_rate_hz(d->rate));
        if (k->q[i] / k->resonance_hz[i] > most_ring_s)
            return gw_conf_fail(item,
                                "resonances: q %g at %g Hz rings for too long; q / frequency is at most %g s",
                                k->q[i], k->resonance_hz[i], most_ring_s);
        GW_TRY(gw_conf_done(item, "resonances"));
    }
    k->n_resonances = n;
    return GW_OK;
}

/* The highest frequency that these channels see. */
static double highest_hz(const gw_witness_design *d, uint32_t first, uint32_t count)
{
    double hz = 0;
    for (int i = 0; i < d->n_groups && count; i++)
        if (first >= d->group[i].first && first - d->group[i].first < d->group[i].count)
            hz = d->group[i].line_hz > 0 ? d->group[i].line_hz : d->group[i].high_hz;
    return hz;
}

static int read_coupling(gw_witness_design *d, gw_conf *c, gw_coupling *k)
{
    gw_conf *of, *times;
    int64_t power = 1;
    GW_TRY(gw_conf_need(c, "of", &of));
    GW_TRY(read_channels(d, of, &k->of_first, &k->of_count));
    times = gw_conf_find(c, "times");
    if (times)
        GW_TRY(read_channels(d, times, &k->times_first, &k->times_count));
    GW_TRY(gw_conf_get_int(c, "power", 1, MOST_POWER, &power));
    k->power = (int)power;
    const double hz = (double)power * highest_hz(d, k->of_first, k->of_count) +
                      highest_hz(d, k->times_first, k->times_count);
    if (hz > top * gw_rate_hz(d->rate))
        return gw_conf_fail(c, "couplings: reaches up to %g Hz; at most %g Hz at a rate of %g Hz", hz,
                            top * gw_rate_hz(d->rate), gw_rate_hz(d->rate));
    k->height = 1;
    GW_TRY(gw_conf_get_double(c, "height", 0, 1e6, &k->height));
    GW_TRY(read_resonances(d, c, k));
    d->n_couplings++;
    return gw_conf_done(c, "couplings");
}

static int read_rate(gw_witness_design *d, gw_conf *conf, gw_rate strain, gw_rate block)
{
    gw_conf *node;
    GW_TRY(gw_conf_need(conf, "rate", &node));
    GW_TRY(gw_conf_get_rate(conf, "rate", &d->rate));
    const uint64_t num = (uint64_t)strain.num * d->rate.den, den = (uint64_t)strain.den * d->rate.num;
    if (!den || num % den || num / den > MOST_RATIO)
        return gw_conf_fail(node, "rate: %g Hz; strain's %g Hz must be a multiple of it, at most %d times",
                            gw_rate_hz(d->rate), gw_rate_hz(strain), MOST_RATIO);
    d->ratio = (uint32_t)(num / den);
    const uint64_t samples = (uint64_t)block.num * d->rate.num, parts = (uint64_t)block.den * d->rate.den;
    if (samples % parts)
        return gw_conf_fail(node, "rate: a block of %g s at %g Hz is not a whole number of samples",
                            gw_rate_hz(block), gw_rate_hz(d->rate));
    d->block_samples = (uint32_t)(samples / parts);
    return GW_OK;
}

int gw_witness_configure(gw_witness_design *d, gw_conf *conf, gw_rate strain_rate, gw_rate block_s)
{
    *d = (gw_witness_design){.noise = 0.02};
    if (gw_conf_kind(conf) != GW_CONF_MAP)
        return gw_conf_fail(conf, "witnesses: a map: {rate: 512Hz, channels: [...], couplings: [...]}");
    GW_TRY(read_rate(d, conf, strain_rate, block_s));
    GW_TRY(gw_conf_get_double(conf, "noise", 0, 1e6, &d->noise));
    GW_TRY(gw_conf_get_double(conf, "strain", 0, 1e6, &d->strain));
    gw_conf *channels, *couplings = gw_conf_find(conf, "couplings");
    GW_TRY(gw_conf_need(conf, "channels", &channels));
    const int groups = gw_conf_kind(channels) == GW_CONF_LIST ? gw_conf_count(channels) : 0;
    if (groups < 1 || groups > GW_MAX_WITNESSES)
        return gw_conf_fail(channels, "channels: a list: [{name: PEM-MAINS, line: 60Hz, count: 3}]");
    const int n = couplings ? gw_conf_kind(couplings) == GW_CONF_LIST ? gw_conf_count(couplings) : -1 : 0;
    if (n < 0 || n > GW_MAX_COUPLINGS)
        return gw_conf_fail(couplings, "couplings: a list of at most %d: [{of: PEM-MAINS_0, height: 25}]",
                            GW_MAX_COUPLINGS);
    d->group = calloc((size_t)groups, sizeof *d->group);
    d->coupling = calloc((size_t)n + 1, sizeof *d->coupling);
    if (!d->group || !d->coupling)
        return gw_fail(GW_ENOMEM, "witness channels");
    for (int i = 0; i < groups; i++)
        GW_TRY(read_group(d, gw_conf_item(channels, i), &d->group[i]));
    for (int i = 0; i < n; i++)
        GW_TRY(read_coupling(d, gw_conf_item(couplings, i), &d->coupling[i]));
    return gw_conf_done(conf, "witnesses");
}

void gw_witness_release(gw_witness_design *d)
{
    free(d->group);
    free(d->coupling);
    *d = (gw_witness_design){0};
}

void gw_witness_name(const gw_witness_design *d, uint32_t channel, const char *detector, char *text, size_t n)
{
    for (int i = 0; i < d->n_groups; i++) {
        const gw_witness_group *g = &d->group[i];
        if (channel - g->first < g->count)
            snprintf(text, n, "%s:%s_%" PRIu32, detector, g->name, channel - g->first);
    }
}
