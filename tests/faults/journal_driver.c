/* SPDX-License-Identifier: GPL-3.0-or-later
 * A detector in miniature for check_journal_kill.py: sends a fixed sequence of mergers through the alerts
 * sink, from the first on at every start, as a replay does. Says "ready" on stdout once the sink is open, and its
 * gauges at the end.
 *
 *   journal_driver JOURNAL ENDPOINT LINES MERGERS PAUSE_US [MORE YAML KEYS] */
#include "pipeline/stage.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern const gw_kind gw_kind_alerts;

const char *gw_env_name(const gw_env *env)
{
    (void)env;
    return "alerts";
}

gw_timebase gw_env_timebase(const gw_env *env)
{
    (void)env;
    return (gw_timebase){0};
}

/* The last value of each, said on stdout at the end. The couriers' threads set some. */
static struct {
    pthread_mutex_t lock;
    int n;
    char name[16][48];
    double value[16];
} gauges = {.lock = PTHREAD_MUTEX_INITIALIZER};

void gw_env_gauge(gw_env *env, const char *name, double value)
{
    (void)env;
    int i = 0;
    pthread_mutex_lock(&gauges.lock);
    while (i < gauges.n && strcmp(gauges.name[i], name) != 0)
        i++;
    if (i < 16) {
        snprintf(gauges.name[i], sizeof gauges.name[i], "%s", name);
        gauges.value[i] = value;
        gauges.n += i == gauges.n;
    }
    pthread_mutex_unlock(&gauges.lock);
}

static int tell(void *self, int64_t merger, useconds_t pause_us)
{
    static const gw_phase said[] = {GW_PHASE_INJECTION, GW_PHASE_FIRST, GW_PHASE_UPDATE, GW_PHASE_UPDATE,
                                    GW_PHASE_FINAL};
    for (int i = 0; i < 5; i++) {
        gw_event e = {
            .phase = said[i],
            .gps_ns = (1400000000 + 6 * merger) * GW_SECOND_NS + i,
            .detectors = "H1,L1",
            .stream = "search",
            .statistic = 5 + i,
            .noise_rate_hz = 1e-6,
            .background_s = 1e6,
            .model = "none",
            .pace = 1,
        };
        e.anchor_data_ns = e.due_ns = e.gps_ns + 40000000;
        e.anchor_wall_ns = e.ingest_ns = e.decided_ns = gw_gps_now_ns();
        snprintf(e.id, sizeof e.id, "G%016llx", (unsigned long long)merger);
        snprintf(e.detail, sizeof e.detail, "{\"merger\":%lld,\"network_snr\":%lld}", (long long)merger,
                 (long long)(5 + merger % 20));
        GW_TRY(gw_kind_alerts.event(self, &e));
        if (pause_us)
            usleep(pause_us);
    }
    return 0;
}

static int run(void *self, char **argv)
{
    char yaml[4096];
    gw_conf_file *file = NULL;
    snprintf(yaml, sizeof yaml, "journal: %s\npublish: %s\nprint: %s\n%s\n", argv[1], argv[2], argv[3],
             argv[6] ? argv[6] : "");
    GW_TRY(gw_conf_parse(&file, "driver.yaml", yaml, strlen(yaml)));
    int err = gw_kind_alerts.configure(self, gw_conf_root(file));
    if (err == 0)
        err = gw_kind_alerts.open(self, NULL);
    if (err == 0 && write(STDOUT_FILENO, "ready\n", 6) != 6)
        err = gw_fail(GW_EIO, "stdout is closed");
    for (int64_t m = 0; err == 0 && m < atoi(argv[4]); m++)
        err = tell(self, m, (useconds_t)atoi(argv[5]));
    if (err == 0)
        err = gw_kind_alerts.drain(self, NULL);
    gw_kind_alerts.close(self);
    for (int i = 0; i < gauges.n; i++)
        printf("gauge %s %g\n", gauges.name[i], gauges.value[i]);
    gw_conf_free(&file);
    return err;
}

int main(int argc, char **argv)
{
    void *self = calloc(1, gw_kind_alerts.state_size);
    if (argc < 6 || argc > 7 || !self)
        return 2;
    int err = run(self, argv);
    if (err < 0)
        fprintf(stderr, "%s: %s\n", gw_err_name(err), gw_err_detail());
    free(self);
    return err < 0;
}
