/* SPDX-License-Identifier: GPL-3.0-or-later
 * Keys and shapes of the stage whiten; see docs/graph.md for the keys. */
#include "pipeline/stages/whiten_conf.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { SMOOTH_HZ = 4 }; /* over which the PSD is smoothed; it changes little across so much, lines excepted */

int gw_whiten_conf_read(gw_whiten_conf *w, gw_conf *conf)
{
    *w = (gw_whiten_conf){.drift = 2};
    GW_TRY(gw_whiten_keys_read(&w->keys, conf));
    if (w->keys.psd)
        GW_TRY(gw_conf_done(w->keys.psd, "psd"));
    GW_TRY(gw_conf_get_bool(conf, "follow_first", &w->follow_first));
    GW_TRY(gw_conf_get_double(conf, "drift", 0, 1e6, &w->drift));
    if (w->drift != 0 && w->drift < 1.1)
        return gw_conf_fail(gw_conf_find(conf, "drift"),
                            "drift: want a ratio of at least 1.1, or 0 for no alarm");
    return gw_checkpoint_keys_read(&w->checkpoint, conf, 3600 * GW_SECOND_NS);
}

int gw_whiten_conf_fit(const gw_whiten_conf *w, const gw_spec *in, gw_strand_shape *s)
{
    const gw_whiten_keys *k = &w->keys;
    const bool linear = k->phase == GW_PHASE_LINEAR_FILTER;
    if (in->dtype != GW_F64 && in->dtype != GW_F32)
        return gw_fail(GW_EMISMATCH, "stream %s is neither float32 nor float64", in->name);
    if (in->whitening[0])
        return gw_fail(GW_EMISMATCH, "stream %s is already whitened (%s)", in->name, in->whitening);
    if (in->rate.den != 1 || in->rate.num < 64 || in->rate.num > 65536)
        return gw_fail(GW_EMISMATCH, "stream %s at %g Hz: whitening wants a whole rate of 64 to 65536 Hz",
                       in->name, gw_rate_hz(in->rate));
    const uint32_t rate = in->rate.num;
    uint32_t duration = 0, segment = 0, memory = 0, warmup = 0;
    GW_TRY(gw_whole_samples("duration", k->duration, rate, 4 * rate, &duration));
    GW_TRY(gw_whole_samples("psd segment", k->segment, rate, 8 * rate, &segment));
    GW_TRY(gw_whole_samples("psd memory", k->memory, rate, 600 * rate, &memory));
    GW_TRY(gw_whole_samples("warmup", k->warmup, rate, 3600 * rate, &warmup));
    const uint32_t tick = segment / 2;
    if (segment % 2 || segment < rate / 4 || duration % 2 || memory < segment)
        return gw_fail(GW_EMISMATCH,
                       "the psd segment must be an even number of samples, at least 1/4 s and at "
                       "most the psd memory; the duration an even number of samples");
    /* A segment takes two ticks, and the gain is measured on ticks whose filter memory is whole. */
    const uint32_t reach = (duration + tick - 1) / tick;
    if (warmup < (reach + 2) * tick)
        return gw_fail(GW_EMISMATCH,
                       "warmup: %g s is too short to learn a filter of %g s from segments of %g s: "
                       "at least %g s",
                       (double)warmup / rate, (double)duration / rate, (double)segment / rate,
                       (double)((reach + 2) * tick) / rate);
    const double nyquist = 0.5 * rate;
    if (k->highpass_hz[1] >= k->lowpass[0] * nyquist)
        return gw_fail(GW_EMISMATCH, "highpass ends at %g Hz, above the beginning of lowpass at %g Hz",
                       k->highpass_hz[1], k->lowpass[0] * nyquist);
    const uint32_t warmup_ticks = (warmup + tick - 1) / tick;
    *s = (gw_strand_shape){.whitener = {.rate_hz = rate,
                                        .n_taps = linear ? duration + 1 : duration,
                                        .linear = linear,
                                        .highpass_hz = {k->highpass_hz[0], k->highpass_hz[1]},
                                        .lowpass_hz = {k->lowpass[0] * nyquist, k->lowpass[1] * nyquist},
                                        .segment_samples = segment,
                                        .max_segments = memory / tick - 1,
                                        .mean = k->average == GW_AVERAGE_MEAN,
                                        .smooth_hz = SMOOTH_HZ,
                                        .forget_ticks = warmup_ticks},
                           .watch = {.rate_hz = rate,
                                     .tick_samples = tick,
                                     .bins = tick + 1,
                                     .low_hz = k->highpass_hz[0],
                                     .high_hz = k->lowpass[0] * nyquist,
                                     .drift = w->drift,
                                     .range = strcmp(in->unit, "strain") == 0},
                           .n_channels = w->follow_first ? in->n_channels : 1,
                           .block_samples = in->block_samples,
                           .piece = rate / 64,
                           .tick = tick,
                           .fade = tick < rate / 4 ? tick : rate / 4,
                           .taper = rate / 4,
                           .warmup_ticks = warmup_ticks,
                           .gate = k->gate};
    /* The longest piece of at most 1/64 s that divides a tick: filters change between pieces. */
    while (tick % s->piece != 0)
        s->piece--;
    return GW_OK;
}

int gw_whiten_conf_name(const gw_whiten_conf *w, const gw_spec *in, gw_spec *out)
{
    const gw_whiten_keys *k = &w->keys;
    char text[256], duration[24], segment[24], memory[24];
    snprintf(text, sizeof text,
             "v2 %s-phase %" PRIu32 "Hz %s highpass=%g-%gHz lowpass=%g-%g psd=%s,%s,%s,smooth=%dHz",
             k->phase == GW_PHASE_LINEAR_FILTER ? "linear" : "minimum", in->rate.num,
             gw_span_text(k->duration, duration, sizeof duration), k->highpass_hz[0], k->highpass_hz[1],
             k->lowpass[0], k->lowpass[1], k->average == GW_AVERAGE_MEAN ? "mean" : "median",
             gw_span_text(k->segment, segment, sizeof segment),
             gw_span_text(k->memory, memory, sizeof memory), SMOOTH_HZ);
    const size_t length = strlen(text);
    if (length >= sizeof out->whitening)
        return gw_fail(GW_ERANGE, "these numbers are too long to be written down in %zu characters: %s",
                       sizeof out->whitening - 1, text);
    memcpy(out->whitening, text, length + 1);
    return GW_OK;
}
