/* SPDX-License-Identifier: GPL-3.0-or-later
 * The program: one command, its error as one line on stderr, and the exit status: 0 done, 1 failed,
 * 2 bad usage or bad input. */
#ifdef GW_HAVE_CUDNN
#include "kernels/cuda/cudnn.h"
#endif
#include "pipeline/cmd.h"
#include "pipeline/log.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} command[] = {
    {"run", gw_cmd_run, "run a graph from a YAML file"},
    {"check", gw_cmd_check, "read and plan a graph without starting it: memory, threads, look-ahead"},
    {"replay", gw_cmd_replay, "search archived HDF5 recordings, no YAML needed"},
    {"simulate", gw_cmd_simulate, "write simulated strain to HDF5"},
    {"alerts", gw_cmd_alerts, "list, show and export the events of a journal"},
    {"background", gw_cmd_background, "look at what a background has counted, and merge archives"},
    {"keygen", gw_cmd_keygen, "make a pair of keys for encrypted links"},
    {"model", gw_cmd_model, "look at a network, run it on a file, time it"},
    {"evaluate", gw_cmd_evaluate,
     "how good a search is: injections through the whole chain, at fixed false-alarm rates"},
    {"report", gw_cmd_report, "what cleaning did: an HTML report from recordings of before and after"},
    {"top", gw_cmd_top, "watch a running graph: stages, links, ages, losses"},
    {"dump", gw_cmd_dump, "ask a running graph's ring to write its last seconds to a file"},
    {"tune", gw_cmd_tune, "find the fastest transforms for this machine, once"},
    {"witness", gw_cmd_witness, "rank channels as witnesses of strain's noise"},
    {"version", gw_cmd_version, "versions of the program and of what it stands on"},
};

enum { COMMANDS = sizeof command / sizeof command[0] };

static void usage(FILE *to)
{
    fputs("gwstream: a real-time stream processor for gravitational-wave detectors\n\n"
          "usage: gwstream COMMAND [options]     (gwstream COMMAND --help tells more)\n\n",
          to);
    for (int i = 0; i < COMMANDS; i++)
        fprintf(to, "  %-10s %s\n", command[i].name, command[i].help);
}

#ifdef GW_HAVE_CUDNN
static void log_remark(const char *line)
{
    gw_log(GW_LOG_WARN, "cuDNN", "%s", line);
}
#endif

int main(int argc, char **argv)
{
    signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is then an error like a full disk */
#ifdef GW_HAVE_CUDNN
    gw_cudnn_remarks(log_remark);
#endif
    if (argc < 2) {
        usage(stderr);
        return 2;
    }
    const char *word = argv[1];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        usage(stdout);
        return 0;
    }
    if (strcmp(word, "--version") == 0)
        word = "version";
    for (int i = 0; i < COMMANDS; i++) {
        if (strcmp(word, command[i].name) != 0)
            continue;
        int err = command[i].run(argc - 1, argv + 1);
        if (err == GW_OK && (fflush(stdout) != 0 || ferror(stdout)))
            err = gw_fail(GW_EIO, "cannot write to the standard output");
        if (err == GW_OK)
            return 0;
        fprintf(stderr, "gwstream %s: %s\n", command[i].name,
                gw_err_detail()[0] ? gw_err_detail() : gw_err_text(err));
        return gw_err_is_input(err) ? 2 : 1;
    }
    fprintf(stderr, "gwstream: no command '%s' (gwstream --help)\n", word);
    return 2;
}
