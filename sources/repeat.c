/* SPDX-License-Identifier: GPL-3.0-or-later
 * The source `repeat`: as many channels as you like at next to no cost, for measuring what comes behind it.
 * One block of seeded white noise is written into each slab when that slab is first seen, and sent again and
 * again: after that only headers change. So sample n of a stream is a function of (seed, stream, channel,
 * n modulo the block) alone, however many slabs there are. Run by the graph through gw_kind_repeat.
 *
 *   kind: repeat     channels: N (of all streams together)    streams: 1       rate: 16384Hz
 *   block: 1/16s     pace: 0      start: 1400000000      duration: (endless)   seed: 0 */
#include "pipeline/stage.h"
#include "sources/auxiliary.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_CHANNELS = 1 << 20, MAX_BLOCK = 1 << 26, MAX_SLABS = 4096 };

typedef struct repeat {
    gw_env *env;
    uint64_t seed;
    gw_rate rate;
    double pace;
    int64_t first, end; /* samples */
    uint32_t n_channels, block_samples;
    int n_streams;
    bool started;
    gw_auxiliary *noise;
    struct {
        uint32_t n_channels;
        int64_t at;  /* next sample */
        void **seen; /* [n_seen] slabs that hold the block */
        int n_seen;
    } stream[GW_MAX_PORTS];
} repeat;

/* ---- configuration and shapes ---- */

/* A whole number of samples, of which the block is one; and whole blocks, or it would not be a repetition. */
static int read_times(repeat *r, gw_conf *conf)
{
    gw_rate block = {1, 16}, duration = {0, 1};
    int64_t start_ns = 1400000000 * GW_SECOND_NS;
    r->rate = (gw_rate){16384, 1};
    GW_TRY(gw_conf_get_rate(conf, "rate", &r->rate));
    GW_TRY(gw_conf_get_span(conf, "block", &block));
    GW_TRY(gw_conf_get_gps_ns(conf, "start", &start_ns));
    GW_TRY(gw_conf_get_span(conf, "duration", &duration));
    GW_TRY(gw_conf_get_double(conf, "pace", 0, 1e6, &r->pace));
    const gw_conf *where = gw_conf_find(conf, "block");
    where = where ? where : conf;
    const double samples = gw_rate_hz(block) * gw_rate_hz(r->rate);
    const uint64_t num = (uint64_t)block.num * r->rate.num, den = (uint64_t)block.den * r->rate.den;
    if (samples > MAX_BLOCK || num == 0 || num % den)
        return gw_conf_fail(where,
                            "block: %g s at %g Hz are %g samples; it must be a whole number from 1 to %d",
                            gw_rate_hz(block), gw_rate_hz(r->rate), samples, MAX_BLOCK);
    r->block_samples = (uint32_t)(num / den);
    r->first = gw_sample_at_or_after(start_ns, r->rate, 0);
    if (r->first % r->block_samples)
        return gw_conf_fail(where, "start: GPS %.9f is not a multiple of the block (%g s)",
                            (double)start_ns / 1e9, gw_rate_hz(block));
    const double blocks = gw_rate_hz(duration) / gw_rate_hz(block);
    r->end = INT64_MAX;
    if (blocks < (double)(INT64_MAX / MAX_BLOCK / 2) && duration.num)
        r->end = r->first + llround(blocks) * r->block_samples;
    if (duration.num && (blocks < 1 || fabs(blocks - rint(blocks)) > 1e-9 * blocks))
        return gw_conf_fail(where, "duration: %g s are %g blocks of %g s; it must be a whole number",
                            gw_rate_hz(duration), blocks, gw_rate_hz(block));
    return GW_OK;
}

static int repeat_configure(void *self, gw_conf *conf)
{
    repeat *r = self;
    int64_t seed = 0, channels = 0, streams = 1;
    gw_conf *where;
    GW_TRY(read_times(r, conf));
    GW_TRY(gw_conf_need(conf, "channels", &where));
    GW_TRY(gw_conf_get_int(conf, "channels", 1, MAX_CHANNELS, &channels));
    GW_TRY(gw_conf_get_int(conf, "streams", 1, GW_MAX_PORTS, &streams));
    GW_TRY(gw_conf_get_int(conf, "seed", 0, INT64_MAX, &seed));
    if (streams > channels)
        return gw_conf_fail(where, "channels: %" PRId64 " cannot be split into %" PRId64 " streams", channels,
                            streams);
    r->seed = (uint64_t)seed;
    r->n_channels = (uint32_t)channels;
    r->n_streams = (int)streams;
    return GW_OK;
}

static int repeat_plan(void *self, gw_plan *plan)
{
    repeat *r = self;
    const uint32_t streams = (uint32_t)r->n_streams;
    uint32_t channel = 0;
    plan->n_out = r->n_streams;
    plan->memory_bytes = (size_t)4 << 20;
    for (uint32_t p = 0; p < streams; p++) {
        gw_spec *o = &plan->out[p];
        const uint32_t n = r->n_channels / streams + (p < r->n_channels % streams);
        if (streams > 1)
            snprintf(o->name, sizeof o->name, "part%" PRIu32, p);
        o->rate = r->rate;
        o->dtype = GW_F32;
        o->block_samples = r->block_samples;
        GW_TRY(gw_spec_set_channels(o, n, NULL));
        for (uint32_t c = 0; c < n; c++)
            snprintf(o->channel[c], GW_NAME_BYTES, "REPEAT:WHITE_%06" PRIu32, channel++);
        r->stream[p].n_channels = n;
        r->stream[p].at = r->first;
    }
    return GW_OK;
}

/* ---- running ---- */

static int repeat_open(void *self, gw_env *env)
{
    repeat *r = self;
    r->env = env;
    for (int p = 0; p < r->n_streams; p++) {
        r->stream[p].seen = calloc(MAX_SLABS, sizeof *r->stream[p].seen);
        if (!r->stream[p].seen)
            return gw_fail(GW_ENOMEM, "a list of %d slabs", MAX_SLABS);
    }
    return gw_auxiliary_new(&r->noise, r->seed);
}

/* Writes the block unless this slab has it. Stream p repeats block number p of the auxiliary noise. */
static void fill(repeat *r, int p, void *slab)
{
    for (int i = 0; i < r->stream[p].n_seen; i++)
        if (r->stream[p].seen[i] == slab)
            return;
    gw_auxiliary_fill(r->noise, r->stream[p].n_channels, (int64_t)p * r->block_samples, r->block_samples,
                      slab);
    if (r->stream[p].n_seen < MAX_SLABS)
        r->stream[p].seen[r->stream[p].n_seen++] = slab;
}

static int repeat_next(void *self, int port, gw_piece *piece)
{
    repeat *r = self;
    int64_t *at = &r->stream[port].at;
    if (!r->started)
        gw_env_start(r->env, r->pace, gw_sample_to_ns(r->first, r->rate, 0));
    r->started = true;
    if (*at >= r->end)
        return GW_EEND;
    if (piece->capacity_samples < r->block_samples)
        return gw_fail(GW_EBUG, "repeat: asked to fill %" PRIu32 " samples, a block has %" PRIu32,
                       piece->capacity_samples, r->block_samples);
    fill(r, port, piece->data);
    GW_TRY(gw_env_wait_until(r->env, gw_sample_to_ns(*at + r->block_samples, r->rate, 0)));
    piece->sample0 = *at;
    piece->n_samples = r->block_samples;
    *at += r->block_samples;
    return GW_OK;
}

static void repeat_close(void *self)
{
    repeat *r = self;
    for (int p = 0; p < GW_MAX_PORTS; p++) {
        free(r->stream[p].seen);
        r->stream[p].seen = NULL;
    }
    gw_auxiliary_destroy(&r->noise);
}

const gw_kind gw_kind_repeat = {
    .kind = "repeat",
    .help = "one prepared block of noise, over and over: many channels at next to no cost",
    .role = GW_SOURCE,
    .origin = GW_SIMULATED,
    .state_size = sizeof(repeat),
    .configure = repeat_configure,
    .plan = repeat_plan,
    .open = repeat_open,
    .next = repeat_next,
    .close = repeat_close,
};
