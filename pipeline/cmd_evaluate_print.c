/* SPDX-License-Identifier: GPL-3.0-or-later
 * An evaluation as tables on the standard output, for a person at a terminal. */
#include "pipeline/cmd_evaluate.h"

#include <math.h>

static void print_shares(const gw_eval *m, const char *name, const gw_eval_share *s)
{
    printf("  %-22s", name);
    for (int k = 0; k < m->n_snrs; k++)
        if (s[k].n)
            printf("  %5.3f +%.3f -%.3f", s[k].share, s[k].high - s[k].share, s[k].share - s[k].low);
        else
            printf("  %-19s", "-");
    printf("\n");
}

static void print_noise(const gw_eval_search *s, int searches)
{
    const gw_eval_background *b = &s->noise;
    char often[2][32] = {"once an hour", "once a day"};
    if (searches > 1) {
        snprintf(often[0], sizeof often[0], "once in %d hours", searches);
        snprintf(often[1], sizeof often[1], "once in %d days", searches);
        printf("%s: ", s->name);
    }
    printf("%s (%s): noise exceeds %.2f %s, %.2f %s (%.2f days of slides of %.2f h)\n", s->model,
           s->detectors, b->threshold[GW_PER_HOUR], often[0], b->threshold[GW_PER_DAY], often[1],
           b->slid_s / 86400, b->distinct_s / 3600);
    if (isfinite(b->rate_low_hz[GW_PER_DAY]))
        printf("(5-95 %%, by resampling stretches of noise%s: %.2f-%.2f an hour, %.2f-%.2f a day)\n",
               searches > 1 ? ", times the searches" : "", 3600 * b->rate_low_hz[GW_PER_HOUR],
               3600 * b->rate_high_hz[GW_PER_HOUR], 86400 * b->rate_low_hz[GW_PER_DAY],
               86400 * b->rate_high_hz[GW_PER_DAY]);
}

static void print_counts(const gw_eval *m, const char *what, const char *name, const uint32_t *found)
{
    char text[96];
    snprintf(text, sizeof text, "%s %s", what, name);
    printf("  %-22s", text);
    for (int k = 0; k < m->n_snrs; k++)
        printf("  %-19u", found[k]);
    printf("\n");
}

/* Of several searches, who found them. */
static void print_set(const gw_eval *m, const gw_eval_about *about, int rate)
{
    for (int i = 0; i < m->n_sets; i++)
        print_counts(m, "in", m->set[i].name, m->set[i].found[rate]);
    for (int i = 0; i < about->n_searches; i++)
        print_counts(m, "with", about->search[i].name, m->part[i][rate]);
}

void gw_evaluate_print(const gw_evaluate *e, const gw_eval *m, const gw_eval_about *about)
{
    static const char *const rate[GW_RATES] = {"one an hour", "one a day"};
    char name[48];
    for (int i = 0; i < about->n_searches; i++)
        print_noise(&about->search[i], about->n_searches);
    for (int r = GW_RATES; r-- > 0;) {
        printf("\n%-22s  ", rate[r]);
        for (int k = 0; k < m->n_snrs; k++) {
            snprintf(name, sizeof name, "SNR %g", m->snr[k]);
            printf("  %-19s", name);
        }
        printf("\n");
        print_shares(m, "all", m->found[r][GW_EVAL_BINS]);
        print_shares(m, "detector ratio > 0.3", m->even[r]);
        for (int bin = 0; bin < GW_EVAL_BINS; bin++) {
            snprintf(name, sizeof name, "chirp mass %g-%g", gw_eval_edge[bin], gw_eval_edge[bin + 1]);
            print_shares(m, name, m->found[r][bin]);
        }
        if (about->n_searches > 1)
            print_set(m, about, r);
        const gw_eval_distance *d = &m->distance[r][GW_EVAL_BINS];
        printf("  sensitive distance      %.0f +- %.0f Mpc (%.0f if all were found)\n", d->mpc, d->error_mpc,
               d->most_mpc);
    }
    printf("\narrival at the later detector\n");
    for (int k = 0; k < m->n_snrs; k++)
        printf("  SNR %-4g  median %.2f ms, 90 %% %.2f ms, bias %+.2f ms (of %u)\n", m->snr[k],
               1e3 * m->later[k].median_s, 1e3 * m->later[k].most_s, 1e3 * m->later[k].bias_s, m->later[k].n);
    const gw_eval_share *c = &m->timed[GW_EVAL_BINS].covered;
    if (c->n)
        printf("  the stated sigma covers %.1f %% at SNR %g and above (of %u)\n", 100 * c->share,
               m->timed_from, c->n);
    for (int d = 0; about->n_searches > 1 && d < m->n_detectors; d++)
        printf("  at %s    median %.2f ms, 90 %% %.2f ms, bias %+.2f ms (of %u, SNR %g and above)\n",
               m->detector[d], 1e3 * m->timed_at[d].median_s, 1e3 * m->timed_at[d].most_s,
               1e3 * m->timed_at[d].bias_s, m->timed_at[d].n, m->timed_from);
    const gw_eval_latency *l = &m->latency[GW_EVAL_SNRS];
    printf("first crossing of one an hour: median %.0f ms, 90 %% %.0f ms after the later arrival (stream "
           "time)\n",
           1e3 * l->median_s, 1e3 * l->most_s);
    printf("events without an injection: %u in %.1f h\nwritten: %s/evaluate.html\n", about->chance,
           about->searched_s / 3600, e->out);
}
