/* SPDX-License-Identifier: GPL-3.0-or-later
 * The keys that both whitening stages read. */
#include "pipeline/stages/whiten_keys.h"

#include <inttypes.h>
#include <stdio.h>

static int read_pair(gw_conf *conf, const char *key, bool frequency, double pair[2])
{
    gw_conf *list = gw_conf_find(conf, key);
    if (!list)
        return GW_OK;
    if (gw_conf_kind(list) != GW_CONF_LIST || gw_conf_count(list) != 2)
        return gw_conf_fail(list, "%s wants two values: where the ramp begins and where it ends", key);
    for (int i = 0; i < 2; i++) {
        gw_conf *item = gw_conf_item(list, i);
        if (!frequency) {
            GW_TRY(gw_conf_double(item, 0, 1, &pair[i]));
            continue;
        }
        const char *text;
        GW_TRY(gw_conf_text(item, &text));
        if (gw_parse_frequency(text, &pair[i]) != GW_OK)
            return gw_conf_fail(item, "%s: '%s' is not a frequency such as 20Hz", key, text);
    }
    if (!(pair[0] >= 0 && pair[0] < pair[1]))
        return gw_conf_fail(list, "%s: the ramp must rise: [lower, higher]", key);
    return GW_OK;
}

int gw_whiten_keys_read(gw_whiten_keys *k, gw_conf *conf)
{
    static const char *const phases[] = {"minimum", "linear", NULL}, *const averages[] = {"median", "mean",
                                                                                          NULL};
    *k = (gw_whiten_keys){.duration = {1, 1},
                          .segment = {2, 1},
                          .memory = {64, 1},
                          .warmup = {8, 1},
                          .highpass_hz = {20, 30},
                          .lowpass = {0.88, 0.95},
                          .gate = 100};
    GW_TRY(gw_conf_get_choice(conf, "phase", phases, &k->phase));
    GW_TRY(gw_conf_get_span(conf, "duration", &k->duration));
    GW_TRY(read_pair(conf, "highpass", true, k->highpass_hz));
    GW_TRY(read_pair(conf, "lowpass", false, k->lowpass));
    GW_TRY(gw_conf_get_span(conf, "warmup", &k->warmup));
    GW_TRY(gw_conf_get_double(conf, "gate", 5, 1e6, &k->gate));
    k->psd = gw_conf_find(conf, "psd");
    if (!k->psd)
        return GW_OK;
    if (gw_conf_kind(k->psd) != GW_CONF_MAP)
        return gw_conf_fail(k->psd, "psd wants a map: {segment: 2s, average: median, memory: 64s}");
    GW_TRY(gw_conf_get_span(k->psd, "segment", &k->segment));
    GW_TRY(gw_conf_get_choice(k->psd, "average", averages, &k->average));
    return gw_conf_get_span(k->psd, "memory", &k->memory);
}

int gw_whole_samples(const char *key, gw_rate span, uint32_t rate_hz, uint32_t max, uint32_t *samples)
{
    const uint64_t n = (uint64_t)span.num * rate_hz;
    if (span.den == 0 || n % span.den != 0 || n / span.den < 2 || n / span.den > max)
        return gw_fail(GW_EMISMATCH,
                       "%s: %" PRIu32 "/%" PRIu32 " s at %" PRIu32 " Hz is not 2 to %" PRIu32
                       " whole samples",
                       key, span.num, span.den, rate_hz, max);
    *samples = (uint32_t)(n / span.den);
    return GW_OK;
}

const char *gw_span_text(gw_rate span, char *text, size_t n)
{
    snprintf(text, n, "%.9gs", gw_rate_hz(span));
    return text;
}
