/* SPDX-License-Identifier: GPL-3.0-or-later
 * `gwstream run`, `check` and `version`, and what every command that runs a graph shares: signals,
 * progress, the report at the end. */
#ifdef GW_HAVE_CUDA
#include "kernels/cuda/cuda.h"
#endif
#ifdef GW_HAVE_CUDNN
#include "kernels/cuda/cudnn.h"
#endif
#include "kernels/kernels.h"
#include "pipeline/cmd.h"
#include "pipeline/graph.h"
#include "pipeline/log.h"
#include "pipeline/monitor.h"

#include <fftw3.h>
#include <getopt.h>
#include <hdf5.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

/* -- progress ---------------------------------------------------------------------------------------- */

static struct progress {
    bool terminal;
    int64_t started_ns, last_line_ns;
    pthread_mutex_t lock; /* of the line: the log's hook runs in any thread */
    char line[200];
} bar = {.lock = PTHREAD_MUTEX_INITIALIZER}; /* one graph runs at a time; the hook has no argument */

static void around_log(bool before)
{
    pthread_mutex_lock(&bar.lock);
    fputs(before ? "\r\033[K" : bar.line, stderr);
    pthread_mutex_unlock(&bar.lock);
}

static void describe(const gw_graph_status *s, char *text, size_t n)
{
    if (s->data_ns == GW_NOT_KNOWN_NS) {
        snprintf(text, n, "starting");
        return;
    }
    const double wall_s = (double)(gw_monotonic_ns() - bar.started_ns) / 1e9;
    const double data_s = (double)(s->data_ns - s->first_ns) / 1e9;
    char utc[40];
    gw_gps_utc(s->data_ns, utc, sizeof utc);
    snprintf(text, n, "GPS %.1f  %s  %.1f s of data, %.1fx real time, %" PRIu64 " event message%s",
             (double)s->data_ns / 1e9, utc, data_s, wall_s > 0 ? data_s / wall_s : 0.0, s->events,
             s->events == 1 ? "" : "s");
}

static void show_progress(gw_graph *g, bool quiet)
{
    const int64_t now = gw_monotonic_ns();
    if (quiet || (!bar.terminal && now - bar.last_line_ns < 10 * GW_SECOND_NS))
        return;
    gw_graph_status s;
    gw_graph_get_status(g, &s);
    bar.last_line_ns = now;
    pthread_mutex_lock(&bar.lock);
    describe(&s, bar.line, sizeof bar.line);
    fprintf(stderr, bar.terminal ? "\r\033[K%s" : "%s\n", bar.line);
    fflush(stderr);
    pthread_mutex_unlock(&bar.lock);
}

/* -- running ----------------------------------------------------------------------------------------- */

int gw_run_graph(gw_graph *g, bool quiet)
{
    sigset_t signals, before;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, &before);
    signal(SIGPIPE, SIG_IGN);
    bar.terminal = !quiet && isatty(STDERR_FILENO);
    bar.started_ns = bar.last_line_ns = gw_monotonic_ns();
    bar.line[0] = '\0';
    if (quiet)
        gw_log_set_level(GW_LOG_WARN);
    if (bar.terminal)
        gw_log_set_hook(around_log);
    if (gw_graph_keeps_time(g) && !gw_clock_synchronised())
        gw_log(GW_LOG_WARN, NULL,
               "this host's clock is not synchronised: latencies against true time are off");
    gw_tuning_load();
    int err = gw_graph_start(g);
    gw_monitor *monitor = NULL;
    if (err == GW_OK && gw_monitor_start(&monitor, g) != GW_OK)
        gw_log(GW_LOG_WARN, NULL, "%s; goes on without", gw_err_detail());
    bool stopping = false;
    while (!gw_graph_wait(g, 0)) {
        const struct timespec tick = {.tv_nsec = 50 * 1000 * 1000};
        if (sigtimedwait(&signals, NULL, &tick) > 0) {
            if (stopping)
                _exit(130); /* asked twice: at once */
            stopping = true;
            gw_log(GW_LOG_INFO, NULL,
                   "stopping: sources end here, everything behind them is flushed "
                   "(once more to leave at once)");
            gw_graph_stop(g);
        }
        show_progress(g, quiet);
    }
    gw_log_set_hook(NULL);
    if (bar.terminal)
        fputs("\r\033[K", stderr);
    if (stopping && !quiet)
        fputs("stopped before the sources had ended\n", stderr);
    uint64_t bad_inputs = 0;
    if (err == GW_OK)
        err = gw_graph_result(g, &bad_inputs);
    if (!quiet) {
        gw_graph_status s;
        gw_graph_get_status(g, &s);
        describe(&s, bar.line, sizeof bar.line);
        fprintf(stderr, "%s\n", bar.line);
        gw_monitor_print_gauges(g, stderr);
        gw_graph_print_losses(g, stderr);
    }
    if (err == GW_OK && bad_inputs)
        err = gw_fail(GW_EFORMAT,
                      "bad input in %" PRIu64 " place%s (see above); everything else was worked off",
                      bad_inputs, bad_inputs == 1 ? "" : "s");
    char detail[1024];
    snprintf(detail, sizeof detail, "%s", gw_err_detail());
    gw_monitor_stop(&monitor);
    gw_graph_free(&g);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return err == GW_OK ? GW_OK : gw_fail(err, "%s", detail);
}

/* -- the model that ships with the program ----------------------------------------------------------- */

int gw_default_model(char *path, int n)
{
    const char *given = getenv("GWSTREAM_MODEL");
    if (given) {
        snprintf(path, (size_t)n, "%s", given);
        return GW_OK;
    }
    char exe[512] = "";
    ssize_t len = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[len > 0 ? len : 0] = '\0';
    char *slash = strrchr(exe, '/');
    if (slash)
        *slash = '\0';
    const char *const place[][2] = {{".", "models"}, {exe, "../models"}, {exe, "../share/gwstream/models"}};
    for (size_t i = 0; i < sizeof place / sizeof place[0]; i++) {
        snprintf(path, (size_t)n, "%s/%s/bbh-small.onnx", place[i][0], place[i][1]);
        if (access(path, R_OK) == 0)
            return GW_OK;
    }
    return gw_fail(GW_EMISSING, "the model models/bbh-small.onnx is neither here nor beside the program; "
                                "name one with --model or GWSTREAM_MODEL");
}

/* -- commands ---------------------------------------------------------------------------------------- */

/* node, publish: NULL where the command takes none. */
static int one_file(int argc, char **argv, const char *help, bool *quiet, const char **node, bool *publish,
                    const char **file)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'},
                                            {"quiet", no_argument, NULL, 'q'},
                                            {"node", required_argument, NULL, 'n'},
                                            {"publish", no_argument, NULL, 'p'},
                                            {NULL, 0, NULL, 0}};
    *file = NULL;
    opterr = 0;
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, ":hq", options, NULL)) != -1;) {
        if (c == 'h') {
            fputs(help, stdout);
            return GW_OK;
        }
        if (c == 'n' && node) {
            *node = optarg;
            continue;
        }
        if (c == 'p' && publish) {
            *publish = true;
            continue;
        }
        if (c == ':')
            return gw_fail(GW_EUSAGE, "'%s' wants a value (gwstream %s --help)", argv[optind - 1], argv[0]);
        if (c != 'q')
            return gw_fail(GW_EUSAGE, "no option '%s' (gwstream %s --help)", argv[optind - 1], argv[0]);
        *quiet = true;
    }
    if (argc - optind != 1)
        return gw_fail(GW_EUSAGE, "wants one YAML file (gwstream %s --help)", argv[0]);
    *file = argv[optind];
    return GW_OK;
}

int gw_cmd_run(int argc, char **argv)
{
    bool quiet = false, publish = false;
    const char *file, *node = NULL;
    GW_TRY(one_file(
        argc, argv,
        "usage: gwstream run [--quiet] [--node NAME] [--publish] FILE.yaml\n\n"
        "Runs the graph until its sources end or Ctrl-C. Progress and losses go to stderr,\n"
        "events where the file's sinks send them. See configs/ for graphs.\n\n"
        "--node NAME   run only the parts of this node, where the file has `nodes:`; the others are\n"
        "              run the same way, here or on other hosts, started in any order\n"
        "--publish     replayed and simulated events too may go to brokers beyond this host, marked as\n"
        "              archival or test\n",
        &quiet, &node, &publish, &file));
    if (!file)
        return GW_OK;
    gw_graph *g;
    gw_device_set(gw_kernels_device());
    gw_graph_set_publish(publish);
    GW_TRY(gw_graph_load(&g, file));
    int err = node ? gw_graph_choose(g, node) : GW_OK;
    if (err != GW_OK) {
        gw_graph_free(&g);
        return err;
    }
    return gw_run_graph(g, quiet);
}

int gw_cmd_check(int argc, char **argv)
{
    bool quiet = false;
    const char *file;
    GW_TRY(one_file(argc, argv,
                    "usage: gwstream check [--quiet] FILE.yaml\n\n"
                    "Reads and plans the graph without starting it, and prints its stages, streams, memory,\n"
                    "threads and look-ahead. Exit status 2 and one line when something is wrong.\n",
                    &quiet, NULL, NULL, &file));
    if (!file)
        return GW_OK;
    gw_graph *g;
    gw_device_set(gw_kernels_device());
    GW_TRY(gw_graph_load(&g, file));
    if (!quiet)
        gw_graph_print(g, stdout);
    gw_graph_fit_machine(g);
    const int err = gw_graph_fits(g);
    gw_graph_free(&g);
    return err;
}

int gw_cmd_version(int argc, char **argv)
{
    (void)argv;
    if (argc > 1)
        return gw_fail(GW_EUSAGE, "version takes no arguments");
    int zmq[3];
    unsigned hdf[3];
    zmq_version(&zmq[0], &zmq[1], &zmq[2]);
    H5get_libversion(&hdf[0], &hdf[1], &hdf[2]);
    printf("gwstream %s\n%s\nZeroMQ %d.%d.%d\nHDF5 %u.%u.%u\nSQLite %s\nCUDA %s\ncuDNN %s\n", GW_VERSION,
           fftw_version, zmq[0], zmq[1], zmq[2], hdf[0], hdf[1], hdf[2], sqlite3_libversion(),
#ifdef GW_HAVE_CUDA
           gw_cuda_status(),
#else
           "not compiled in",
#endif
#ifdef GW_HAVE_CUDNN
           gw_cudnn_status()
#else
           "not compiled in"
#endif
    );
    return GW_OK;
}
