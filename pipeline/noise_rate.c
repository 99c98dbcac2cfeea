/* SPDX-License-Identifier: GPL-3.0-or-later
 * noise_rate.h. The text is JSON for people; it is read back as exactly what is written here. */
#include "pipeline/noise_rate.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define HEAD                                                                                                 \
    "{\"of\":\"%47[^\"]\",\"from_ns\":%" SCNd64 ",\"until_ns\":%" SCNd64                                     \
    ",\"slid_s\":[%lf,%lf],\"distinct_s\":%lf,\"above\":[%n"

int gw_noise_rate_write(const gw_noise_rate *r, char *text, size_t n)
{
    int used = snprintf(text, n,
                        "{\"of\":\"%s\",\"from_ns\":%" PRId64 ",\"until_ns\":%" PRId64
                        ",\"slid_s\":[%.1f,%.1f],\"distinct_s\":%.1f,\"above\":[",
                        r->of, r->from_ns, r->until_ns, r->slid_s[0], r->slid_s[1], r->distinct_s);
    for (int i = 0; i < r->n && used >= 0 && (size_t)used < n; i++)
        used += snprintf(text + used, n - (size_t)used, "%s[%.4f,%" PRIu32 ",%" PRIu32 "]", i ? "," : "",
                         r->statistic[i], r->above[0][i], r->above[1][i]);
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
                             &r->distinct_s, &at);
    if (found != 6 || !at)
        return gw_fail(GW_EFORMAT, "no background: '%.60s'", text);
    while (r->n < GW_NOISE_STEPS) {
        int more = 0;
        const int i = r->n;
        if (sscanf(text + at, i ? ",[%lf,%" SCNu32 ",%" SCNu32 "]%n" : "[%lf,%" SCNu32 ",%" SCNu32 "]%n",
                   &r->statistic[i], &r->above[0][i], &r->above[1][i], &more) != 3 ||
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

double gw_noise_rate_hz(const gw_noise_rate *r, double statistic, bool exclusive, bool *bound)
{
    int i = r->n;
    while (i > 0 && !(statistic >= r->statistic[i - 1]))
        i--;
    if (i == 0 || !(r->slid_s[exclusive] > 0))
        return NAN;
    const uint32_t n = r->above[exclusive][i - 1];
    if (bound)
        *bound = n == 0;
    return (n + 1.0) / r->slid_s[exclusive];
}
