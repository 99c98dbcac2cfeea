/* SPDX-License-Identifier: GPL-3.0-or-later
 * noise_rate.h. The text is JSON for people; it is read back as exactly what is written here. */
#include "pipeline/noise_rate.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define HEAD                                                                                                 \
    "{\"of\":\"%47[^\"]\",\"from_ns\":%" SCNd64 ",\"until_ns\":%" SCNd64                                     \
    ",\"slid_s\":[%lf,%lf],\"distinct_s\":%lf,\"archived_s\":%lf,\"slides_run\":%" SCNu32                    \
    ",\"hops\":\"%" SCNx64 "\",\"above\":[%n"
#define STEP "[%lf,%" SCNu32 ",%" SCNu32 ",%" SCNu32 ",%" SCNu32 "]%n"

int gw_noise_rate_write(const gw_noise_rate *r, char *text, size_t n)
{
    int used =
        snprintf(text, n,
                 "{\"of\":\"%s\",\"from_ns\":%" PRId64 ",\"until_ns\":%" PRId64
                 ",\"slid_s\":[%.1f,%.1f],\"distinct_s\":%.1f,\"archived_s\":%.1f,\"slides_run\":%" PRIu32
                 ",\"hops\":\"%" PRIx64 "\",\"above\":[",
                 r->of, r->from_ns, r->until_ns, r->slid_s[0], r->slid_s[1], r->distinct_s, r->archived_s,
                 r->slides, r->hops);
    for (int i = 0; i < r->n && used >= 0 && (size_t)used < n; i++)
        used += snprintf(text + used, n - (size_t)used,
                         "%s[%.4f,%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%" PRIu32 "]", i ? "," : "",
                         r->statistic[i], r->above[0][i], r->above[1][i], r->low[i], r->high[i]);
    if (used >= 0 && (size_t)used < n)
        used += snprintf(text + used, n - (size_t)used, "]}");
    if (used < 0 || (size_t)used >= n)
        return gw_fail(GW_ERANGE, "%s: %d steps of a background in %zu bytes", r->of, r->n, n);
    return GW_OK;
}

int gw_noise_rate_read(gw_noise_rate *r, const char *text)
{
    int at = 0;
    *r = (gw_noise_rate){0};
    const int found = sscanf(text, HEAD, r->of, &r->from_ns, &r->until_ns, &r->slid_s[0], &r->slid_s[1],
                             &r->distinct_s, &r->archived_s, &r->slides, &r->hops, &at);
    if (found != 9 || !at)
        return gw_fail(GW_EFORMAT, "no background: '%.60s'", text);
    while (r->n < GW_NOISE_STEPS) {
        int more = 0;
        const int i = r->n;
        if (sscanf(text + at, i ? "," STEP : STEP, &r->statistic[i], &r->above[0][i], &r->above[1][i],
                   &r->low[i], &r->high[i], &more) != 5 ||
            !more)
            break;
        if (i && !(r->statistic[i] > r->statistic[i - 1]))
            return gw_fail(GW_EFORMAT, "%s: the steps of its background do not rise", r->of);
        at += more;
        r->n++;
    }
    if (strcmp(text + at, "]}") != 0)
        return gw_fail(GW_EFORMAT, "%s: no background: '%.60s'", r->of, text + at);
    return GW_OK;
}

/* The highest step that is not above the statistic; -1: none. */
static int find_step(const gw_noise_rate *r, double statistic)
{
    int i = r->n - 1;
    while (i >= 0 && !(statistic >= r->statistic[i]))
        i--;
    return i;
}

/* Whether there is more between a step and the next one than one noise trigger, which is at the next one. */
static bool is_coarse(const gw_noise_rate *r, int i, bool exclusive)
{
    return i + 1 < r->n && r->above[exclusive][i] > r->above[exclusive][i + 1] + 1;
}

/* There the logarithm is linear: of a, at the step below, and b, at the next one. */
static double between(const gw_noise_rate *r, int i, double statistic, double a, double b)
{
    const double part = (statistic - r->statistic[i]) / (r->statistic[i + 1] - r->statistic[i]);
    return a * pow(b / a, part);
}

double gw_noise_rate_hz(const gw_noise_rate *r, double statistic, bool exclusive, bool *bound)
{
    const int i = find_step(r, statistic);
    if (i < 0 || !(r->slid_s[exclusive] > 0))
        return NAN;
    const uint32_t *above = r->above[exclusive];
    double n_and_one = above[i] + 1.0;
    if (bound)
        *bound = above[i] == 0;
    if (is_coarse(r, i, exclusive))
        n_and_one = between(r, i, statistic, n_and_one, above[i + 1] + 1.0);
    return n_and_one / r->slid_s[exclusive];
}

bool gw_noise_rate_interval(const gw_noise_rate *r, double statistic, double *low_hz, double *high_hz)
{
    const int i = find_step(r, statistic);
    if (i < 0 || !(r->slid_s[0] > 0) || !r->high[i] || !r->low[i])
        return false;
    const double rate = (r->above[0][i] + 1) / r->slid_s[0] / 100;
    *low_hz = rate * r->low[i];
    *high_hz = rate * r->high[i];
    if (!is_coarse(r, i, false))
        return true;
    const double next = (r->above[0][i + 1] + 1) / r->slid_s[0] / 100;
    if (!r->high[i + 1] || !r->low[i + 1])
        return false;
    *low_hz = between(r, i, statistic, *low_hz, next * r->low[i + 1]);
    *high_hz = between(r, i, statistic, *high_hz, next * r->high[i + 1]);
    return true;
}
