/* SPDX-License-Identifier: GPL-3.0-or-later
 * The arithmetic of counting (counters.h). Called by the runner for every block, so nothing here locks,
 * allocates or asks the system for more than the time. */
#include "pipeline/counters.h"

#include <string.h>

enum { RENEW_NS = 100 * 1000 * 1000 };

const char *gw_cause_text(gw_cause c)
{
    static const char *const text[] = {
#define X(name, text) [GW_FOR_##name] = (text),
        GW_CAUSES(X)
#undef X
    };
    return c >= 0 && c < GW_CAUSE_COUNT ? text[c] : "?";
}

/* -- ages -------------------------------------------------------------------------------------------- */

/* The octave is the number's length in bits, the bucket in it the three bits after the first. */
int gw_ages_bucket(int64_t age_ns)
{
    if (age_ns < INT64_C(1) << GW_AGE_LOW_BITS)
        return 0;
    const int bits = 63 - __builtin_clzll((unsigned long long)age_ns);
    if (bits >= GW_AGE_LOW_BITS + GW_AGE_OCTAVES)
        return GW_AGE_BUCKETS - 1;
    return 1 + 8 * (bits - GW_AGE_LOW_BITS) + (int)(age_ns >> (bits - 3) & 7);
}

int64_t gw_ages_lower_ns(int bucket)
{
    if (bucket <= 0)
        return 0;
    const int octave = (bucket - 1) / 8, part = (bucket - 1) % 8;
    return (int64_t)(8 + part) << (GW_AGE_LOW_BITS + octave - 3);
}

void gw_ages_add(gw_ages *a, int64_t age_ns)
{
    gw_count_add(&a->count[gw_ages_bucket(age_ns)], 1);
    if (age_ns > atomic_load_explicit(&a->max_ns, memory_order_relaxed))
        atomic_store_explicit(&a->max_ns, age_ns, memory_order_relaxed);
}

void gw_ages_read(const gw_ages *a, gw_ages_seen *seen)
{
    seen->n = 0;
    for (int i = 0; i < GW_AGE_BUCKETS; i++)
        seen->n += seen->count[i] = gw_count_read(&a->count[i]);
    seen->max_ns = atomic_load_explicit(&a->max_ns, memory_order_relaxed);
}

int64_t gw_ages_quantile_ns(const gw_ages_seen *seen, double q)
{
    if (!seen->n)
        return 0;
    const double wanted = q * (double)seen->n;
    uint64_t below = 0;
    for (int i = 0; i < GW_AGE_BUCKETS - 1; i++) {
        below += seen->count[i];
        if (below && (double)below >= wanted) {
            const int64_t upper = gw_ages_lower_ns(i + 1);
            return upper < seen->max_ns ? upper : seen->max_ns;
        }
    }
    return seen->max_ns;
}

/* -- a node ------------------------------------------------------------------------------------------ */

void gw_count_step(gw_counters *c, int64_t took_ns)
{
    const uint64_t took = took_ns > 0 ? (uint64_t)took_ns : 0;
    gw_count_add(&c->steps, 1);
    gw_count_add(&c->step_ns, took);
    if (took > gw_count_read(&c->step_max_ns))
        atomic_store_explicit(&c->step_max_ns, took, memory_order_relaxed);
}

void gw_count_gauge(gw_counters *c, const char *name, double value)
{
    for (int k = 0; k < GW_MAX_GAUGES; k++) {
        gw_gauge *g = &c->gauge[k];
        const char *is = atomic_load_explicit(&g->name, memory_order_relaxed);
        if (is && strncmp(is, name, sizeof g->text - 1) != 0)
            continue;
        atomic_store_explicit(&g->value, value, memory_order_relaxed);
        if (!is) {
            strncat(g->text, name, sizeof g->text - 1);
            atomic_store_explicit(&g->name, g->text, memory_order_release);
        }
        return;
    }
}

/* -- the clock --------------------------------------------------------------------------------------- */

bool gw_meter_tick(gw_meter *m)
{
    m->now_ns = gw_monotonic_ns();
    return !m->renewed_ns || m->now_ns - m->renewed_ns >= RENEW_NS;
}

void gw_meter_renew(gw_meter *m, gw_timebase timebase)
{
    m->timebase = timebase;
    m->now_ns = gw_monotonic_ns();
    m->wall_ns = gw_gps_now_ns() - m->now_ns;
    m->renewed_ns = m->now_ns;
}

void gw_count_taken(gw_input_counters *c, const gw_meter *m, const gw_header *h)
{
    if (h->flags & GW_FLAG_GAP) {
        if (h->gap_reason < GW_GAP_REASON_COUNT)
            gw_count_add(&c->gap_samples[h->gap_reason], h->gap_samples);
        return;
    }
    if (!m || m->timebase.pace <= 0)
        return;
    const gw_timebase *t = &m->timebase;
    const double ahead_ns = (double)(h->due_ns - t->anchor_data_ns) / t->pace;
    gw_ages_add(&c->age, m->now_ns + m->wall_ns - t->anchor_wall_ns - (int64_t)ahead_ns);
}
