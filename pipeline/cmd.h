/* SPDX-License-Identifier: GPL-3.0-or-later
 * The program's commands. Each gets its own argc / argv (argv[0] is the command's name) and returns GW_OK
 * or an error whose detail main.c prints. Only these files and main.c may print. */
#ifndef GW_CMD_H
#define GW_CMD_H

#include "pipeline/error.h"

int gw_cmd_run(int argc, char **argv);
int gw_cmd_check(int argc, char **argv);
int gw_cmd_replay(int argc, char **argv);
int gw_cmd_simulate(int argc, char **argv);
int gw_cmd_alerts(int argc, char **argv);
int gw_cmd_background(int argc, char **argv);
int gw_cmd_keygen(int argc, char **argv);
int gw_cmd_model(int argc, char **argv);
int gw_cmd_evaluate(int argc, char **argv);
int gw_cmd_report(int argc, char **argv);
int gw_cmd_top(int argc, char **argv);
int gw_cmd_dump(int argc, char **argv);
int gw_cmd_tune(int argc, char **argv);
int gw_cmd_witness(int argc, char **argv);
int gw_cmd_version(int argc, char **argv);

/* Loads nothing, starts nothing: runs a graph to its end with progress on stderr, Ctrl-C handled, losses
 * and the summary printed. Takes the graph. */
struct gw_graph;
int gw_run_graph(struct gw_graph *g, bool quiet);

/* Reads what `gwstream tune` found on this machine, if there is any. Before transforms are planned. */
void gw_tuning_load(void);

/* The model that ships with the program: $GWSTREAM_MODEL, models/ here, beside the program, or installed. */
int gw_default_model(char *path, int n);

#endif
