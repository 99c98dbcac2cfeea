/* SPDX-License-Identifier: GPL-3.0-or-later
 * What the files of `gwstream report` share: cmd_report.c has the options and finds the strain channels that
 * were cleaned; cmd_report_read.c reads and measures one. */
#ifndef GW_CMD_REPORT_H
#define GW_CMD_REPORT_H

#include "pipeline/block.h"
#include "pipeline/stages/asd_ratio.h"
#include "sinks/report.h"
#include "sources/archive.h"

/* A channel that some file holds. */
typedef struct gw_report_entry {
    char name[GW_NAME_BYTES];
    char *path;           /* of its dataset */
    gw_archive **archive; /* [n_archives] that hold it */
    int n_archives;
    bool wide;      /* the dataset has other channels too */
    bool simulated; /* a part of a simulation: its _NOISE is not what was subtracted */
} gw_report_entry;

typedef struct gw_report_input {
    char **file;
    int n_files;
    gw_report_entry *entry; /* [n], each name and kind once */
    int n, room;
    int64_t start_ns, end_ns; /* INT64_MIN, INT64_MAX: all */
    gw_bands bands;           /* n 0: those of the couplings */
} gw_report_input;

/* The channel `strain` `suffix`; NULL: no file holds it. */
const gw_report_entry *gw_report_find(const gw_report_input *in, const char *strain, const char *suffix);

/* Measures one strain channel and adds it to the report; says in one line on stdout what came out. */
int gw_report_strain(const gw_report_input *in, const char *strain, gw_report *r);

#endif
