/* SPDX-License-Identifier: GPL-3.0-or-later
 * The sink `null`: reads what comes and keeps nothing, for measuring and testing what lies before it. At the
 * end it logs one line: blocks, samples, gaps, a checksum of the samples read and, in a paced run, the ages
 * of the blocks when they had been worked off. Run by the graph through gw_kind_null.
 *
 *   kind: null     read: all | none     delay: 0s (slept after each block)     settle: 0s (of stream time,
 * whose blocks are worked off like all others but whose ages are not counted)
 *
 * The checksum is the sum, modulo 2^32, of the payload's 32-bit words. It depends neither on the order nor on
 * the lengths of the blocks nor on how channels are split over streams (16-bit samples: only while blocks are
 * alike). */
#include "pipeline/counters.h"
#include "pipeline/log.h"
#include "pipeline/parallel.h"
#include "pipeline/stage.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { MAX_DELAY_S = 60, PIECE_BYTES = 4 << 20 };

typedef struct null {
    gw_env *env;
    int read_none; /* index into `words` */
    int64_t delay_ns, settle_ns;
    bool started;
    int64_t first_due_ns;
    gw_dtype dtype[GW_MAX_PORTS];
    uint64_t blocks, samples, bytes, absent; /* absent: channel blocks that were not present */
    uint64_t gaps, gap_samples;
    uint32_t sum;
    gw_ages age;
} null;

static int null_configure(void *self, gw_conf *conf)
{
    null *s = self;
    static const char *const words[] = {"all", "none", NULL};
    GW_TRY(gw_conf_get_choice(conf, "read", words, &s->read_none));
    GW_TRY(gw_conf_get_span_ns(conf, "settle", &s->settle_ns));
    GW_TRY(gw_conf_get_span_ns(conf, "delay", &s->delay_ns));
    if (s->delay_ns > MAX_DELAY_S * GW_SECOND_NS)
        return gw_conf_fail(gw_conf_find(conf, "delay"), "delay: %.1f s a block is too long; at most %d s",
                            (double)s->delay_ns / 1e9, MAX_DELAY_S);
    return GW_OK;
}

static int null_plan(void *self, gw_plan *plan)
{
    null *s = self;
    if (!plan->n_in)
        return gw_fail(GW_ECONFIG, "there is nothing to read: `from` names no stream");
    for (int i = 0; i < plan->n_in; i++)
        s->dtype[i] = plan->in[i].dtype;
    return GW_OK;
}

static int null_open(void *self, gw_env *env)
{
    null *s = self;
    s->env = env;
    return GW_OK;
}

/* As fast as memory gives it: a plain loop already does (one addition for 16 bytes). */
static uint32_t sum_words(const void *data, size_t bytes)
{
    const unsigned char *p = data;
    uint32_t sum = 0, word = 0;
    for (size_t i = 0; i < bytes / 4; i++) {
        memcpy(&word, p + 4 * i, 4); /* a message from a socket need not be aligned */
        sum += word;
    }
    word = 0;
    memcpy(&word, p + bytes / 4 * 4, bytes % 4);
    return sum + word;
}

/* One block, in pieces of some channels each: wide streams are read by all the threads that gw_parallel has.
 */
typedef struct reading {
    const gw_view *in;
    size_t row_bytes, stride_bytes;
    size_t channels; /* a piece */
    atomic_uint_fast32_t sum;
} reading;

static int read_piece(void *arg, size_t i)
{
    reading *r = arg;
    const gw_view *in = r->in;
    const size_t from = i * r->channels, rest = in->n_channels - from;
    const size_t n = rest < r->channels ? rest : r->channels;
    const char *data = (const char *)in->data + from * r->stride_bytes;
    uint32_t sum = 0;
    if (!in->presence && r->stride_bytes == r->row_bytes)
        sum = sum_words(data, n * r->row_bytes);
    else
        for (size_t c = 0; c < n; c++)
            if (gw_present(in->presence, (uint32_t)(from + c)))
                sum += sum_words(data + c * r->stride_bytes, r->row_bytes);
    atomic_fetch_add_explicit(&r->sum, sum, memory_order_relaxed);
    return GW_OK;
}

static int read_all(null *s, int port, const gw_view *in)
{
    const size_t size = gw_dtype_bytes(s->dtype[port]);
    reading r = {.in = in, .row_bytes = in->n_samples * size, .stride_bytes = in->stride * size};
    r.channels = PIECE_BYTES / r.row_bytes + 1;
    GW_TRY(gw_parallel(GW_BULK, (in->n_channels + r.channels - 1) / r.channels, read_piece, &r));
    s->sum += (uint32_t)r.sum;
    return GW_OK;
}

static void nap(int64_t ns)
{
    struct timespec left = {.tv_sec = (time_t)(ns / GW_SECOND_NS), .tv_nsec = (long)(ns % GW_SECOND_NS)};
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR)
        ;
}

/* How late the block's last sample is, now that all of it has been worked off. */
static void count_age(null *s, int64_t due_ns)
{
    const gw_timebase t = gw_env_timebase(s->env);
    if (!s->started)
        s->first_due_ns = due_ns;
    s->started = true;
    if (t.pace <= 0 || due_ns - s->first_due_ns < s->settle_ns)
        return;
    const int64_t due_wall_ns = t.anchor_wall_ns + (int64_t)((double)(due_ns - t.anchor_data_ns) / t.pace);
    gw_ages_add(&s->age, gw_gps_now_ns() - due_wall_ns);
}

static int null_take(void *self, int port, const gw_view *in)
{
    null *s = self;
    if (!s->read_none)
        GW_TRY(read_all(s, port, in));
    if (s->delay_ns)
        nap(s->delay_ns);
    s->blocks++;
    s->samples += in->n_samples;
    s->bytes += (uint64_t)in->n_samples * in->n_channels * gw_dtype_bytes(s->dtype[port]);
    for (uint32_t c = 0; in->presence && c < in->n_channels; c++)
        s->absent += !gw_present(in->presence, c);
    count_age(s, in->due_ns);
    return GW_OK;
}

static int null_gap(void *self, int port, const gw_hole *hole)
{
    null *s = self;
    (void)port;
    s->gaps++;
    s->gap_samples += hole->samples;
    return GW_OK;
}

static int null_drain(void *self, gw_out *out)
{
    null *s = self;
    (void)out;
    gw_ages_seen age;
    gw_ages_read(&s->age, &age);
    char ages[128] = "";
    if (age.n)
        snprintf(ages, sizeof ages, ", age in ms: p50 %.2f p99 %.2f p99.9 %.2f max %.2f",
                 (double)gw_ages_quantile_ns(&age, 0.5) / 1e6, (double)gw_ages_quantile_ns(&age, 0.99) / 1e6,
                 (double)gw_ages_quantile_ns(&age, 0.999) / 1e6, (double)age.max_ns / 1e6);
    gw_log(GW_LOG_INFO, gw_env_name(s->env),
           "%" PRIu64 " blocks, %" PRIu64 " samples, %" PRIu64 " bytes, %" PRIu64 " gaps of %" PRIu64
           " samples, %" PRIu64 " absent, checksum %08" PRIx32 "%s",
           s->blocks, s->samples, s->bytes, s->gaps, s->gap_samples, s->absent, s->sum, ages);
    return GW_OK;
}

const gw_kind gw_kind_null = {
    .kind = "null",
    .help = "reads every sample and keeps none; says at the end what came and how late",
    .role = GW_SINK,
    .takes_presence = true,
    .state_size = sizeof(null),
    .configure = null_configure,
    .plan = null_plan,
    .open = null_open,
    .take = null_take,
    .gap = null_gap,
    .drain = null_drain,
};
